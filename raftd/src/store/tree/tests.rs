use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::types::Index;

use super::node::{Heads, head};
use super::*;
use crate::store::record::Revisions;

/// What the tree has to do, done by a map that everybody trusts.
type Twin = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, Vec<u8>),
    Set(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    /// Removes so many keys from this one on: nodes shrink until they join.
    RemoveRange(Vec<u8>, usize),
    /// Inserts so many keys in order, behind this one.
    InsertRange(Vec<u8>, usize),
    Scan(Vec<u8>, bool),
    View,
}

/// Keys that share first bytes, end early, and differ in zeros only: what [`head`] has to order.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b""[..]),
        Just(&b"\0"[..]),
        Just(&b"a"[..]),
        Just(&b"/registry/pods/"[..]),
        Just(&b"\xff\xff"[..]),
    ];
    let tail = prop_oneof![
        vec(any::<u8>(), 0..3),
        vec(Just(0), 0..10),
        vec(0..3_u8, 9..12)
    ];
    (vec(part, 0..3), tail).prop_map(|(parts, tail)| [parts.concat(), tail].concat())
}

fn step() -> impl Strategy<Value = Step> {
    let value = || vec(any::<u8>(), 0..4);
    prop_oneof![
        8 => (key(), value()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Step::Set(key, value)),
        3 => key().prop_map(Step::Remove),
        1 => (key(), 0..400_usize).prop_map(|(key, count)| Step::RemoveRange(key, count)),
        1 => (key(), 0..400_usize).prop_map(|(key, count)| Step::InsertRange(key, count)),
        2 => (key(), any::<bool>()).prop_map(|(key, itself)| Step::Scan(key, itself)),
        1 => Just(Step::View),
    ]
}

const REVISIONS: Revisions = Revisions {
    created: Index(1),
    modified: Index(1),
    version: 1,
};

fn insert(tree: &mut Tree, twin: &mut Twin, key: &[u8], value: &[u8]) {
    let known = twin.insert(key.into(), value.into());
    tree.put(key, |present| {
        let before = present.as_deref().map(Record::value);
        assert_eq!(before, known.as_deref());
        let Some(record) = present else {
            return Some(Record::new(key, value, REVISIONS));
        };
        record.set(value, REVISIONS);
        None
    });
}

/// Sets the value of a key, but only if it is there.
fn set(tree: &mut Tree, twin: &mut Twin, key: &[u8], value: &[u8]) {
    let known = twin.get_mut(key);
    tree.put(key, |present| {
        assert_eq!(present.is_some(), known.is_some());
        if let (Some(record), Some(known)) = (present, known) {
            record.set(value, REVISIONS);
            *known = value.into();
        }
        None
    });
}

fn remove(tree: &mut Tree, twin: &mut Twin, key: &[u8]) {
    let removed = tree.remove(key);
    let removed = removed.as_ref().map(Record::value);
    assert_eq!(removed, twin.remove(key).as_deref());
}

fn take(step: Step, tree: &mut Tree, twin: &mut Twin) {
    match step {
        Step::Insert(key, value) => insert(tree, twin, &key, &value),
        Step::Set(key, value) => set(tree, twin, &key, &value),
        Step::Remove(key) => remove(tree, twin, &key),
        Step::RemoveRange(key, count) => {
            let doomed: Vec<_> = twin
                .range(key..)
                .take(count)
                .map(|(key, _)| key.clone())
                .collect();
            for key in doomed {
                remove(tree, twin, &key);
            }
        }
        Step::InsertRange(key, count) => {
            for number in 0..count as u64 {
                let key = [&key[..], &number.to_be_bytes()].concat();
                insert(tree, twin, &key, b"in order");
            }
        }
        Step::Scan(key, itself) => {
            let from = |key| {
                if itself {
                    Bound::Included(key)
                } else {
                    Bound::Excluded(key)
                }
            };
            let theirs = twin.range::<[u8], _>((from(&key[..]), Bound::Unbounded));
            let ours = tree.range(from(&key));
            assert!(ours.map(Record::key).eq(theirs.map(|(key, _)| &key[..])));
            let theirs = twin.range::<[u8], _>((Bound::Unbounded, from(&key[..])));
            let ours = tree.range_back(from(&key));
            assert!(
                ours.map(Record::key)
                    .eq(theirs.rev().map(|(key, _)| &key[..]))
            );
        }
        Step::View => {}
    }
}

fn assert_same(tree: &Tree, twin: &Twin) {
    assert_eq!(tree.len(), twin.len());
    let ours = tree.iter().map(|record| (record.key(), record.value()));
    assert!(ours.eq(twin.iter().map(|(key, value)| (&key[..], &value[..]))));
    let back = tree.range_back(Bound::Unbounded).map(Record::key);
    assert!(back.eq(twin.keys().rev().map(|key| &key[..])));
    for (key, value) in twin {
        assert_eq!(tree.get(key).map(Record::value), Some(&value[..]));
    }
}

/// Panics if an invariant is broken; returns the height and the number of records.
fn check(node: &Node, fences: Fences<'_>) -> (usize, usize) {
    let inside = |key: &[u8]| {
        fences.low.is_none_or(|low| low <= key) && fences.high.is_none_or(|high| key < high)
    };
    let check_heads = |heads: &Heads, keys: &[&[u8]]| {
        assert_eq!(heads.skip, fences.common_bytes());
        assert!(
            heads
                .heads
                .iter()
                .copied()
                .eq(keys.iter().map(|key| head(key, heads.skip)))
        );
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert!(keys.iter().all(|key| inside(key)), "{keys:?} in {fences:?}");
    };
    match node {
        Node::Leaf(leaf) => {
            let keys: Vec<_> = leaf.records.iter().map(Record::key).collect();
            check_heads(&leaf.heads, &keys);
            (0, keys.len())
        }
        Node::Branch(branch) => {
            let keys: Vec<_> = branch.keys.iter().map(|key| &**key).collect();
            check_heads(&branch.heads, &keys);
            assert_eq!(branch.children.len(), keys.len() + 1);
            assert!(branch.children.len() >= 2);
            let mut height = None;
            let mut count = 0;
            for (at, child) in branch.children.iter().enumerate() {
                let inner = Branch::inner_fences(&branch.keys, at, fences);
                let (below, more) = check(child, inner);
                assert!(more > 0, "an empty leaf");
                assert_eq!(*height.get_or_insert(below), below);
                count += more;
            }
            (height.unwrap_or(0) + 1, count)
        }
    }
}

/// The same records in a tree that was filled.
fn filled<'a>(records: impl Iterator<Item = &'a Record>) -> Tree {
    let mut filler = Filler::default();
    for record in records {
        filler.push(record.clone());
        assert_eq!(filler.last_key(), Some(record.key()));
    }
    filler.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn it_does_what_an_ordered_map_does_and_views_stay(steps in vec(step(), 1..200)) {
        let (mut tree, mut twin) = (Tree::default(), Twin::new());
        let mut views = Vec::new();
        for step in steps {
            if matches!(step, Step::View) {
                views.push((tree.clone(), twin.clone()));
            }
            take(step, &mut tree, &mut twin);
            let (_, count) = check(&tree.root, Fences::NONE);
            prop_assert_eq!(count, tree.len());
        }
        views.push((filled(tree.iter()), twin.clone()));
        views.push((tree, twin));
        for (view, twin) in &views {
            check(&view.root, Fences::NONE);
            assert_same(view, twin);
        }
    }
}

#[test]
fn keys_in_order_fill_their_leaves_and_all_can_go_again() {
    for descending in [false, true] {
        let (mut tree, mut twin) = (Tree::default(), Twin::new());
        for number in 0..20_000_u32 {
            insert(&mut tree, &mut twin, &number.to_be_bytes(), b"");
        }
        let (height, count) = check(&tree.root, Fences::NONE);
        assert_eq!(
            (height, count),
            (2, 20_000),
            "full leaves need two levels of branches"
        );
        for number in 0..20_000_u32 {
            let number = if descending { 19_999 - number } else { number };
            remove(&mut tree, &mut twin, &number.to_be_bytes());
        }
        assert_eq!(check(&tree.root, Fences::NONE), (0, 0));
        assert!(tree.remove(b"").is_none());
    }
}

#[test]
fn a_view_shares_what_does_not_change() {
    let (mut tree, mut twin) = (Tree::default(), Twin::new());
    for number in 0..100_000_u32 {
        insert(&mut tree, &mut twin, &number.to_be_bytes(), b"value");
    }
    let view = tree.clone();
    set(&mut tree, &mut twin, &7_u32.to_be_bytes(), b"other");
    let shared = tree.iter().zip(view.iter());
    let copied = shared.filter(|(a, b)| a.key().as_ptr() != b.key().as_ptr());
    assert_eq!(copied.count(), 1);
    assert!(tree.remove(b"no such key").is_none());
    assert_eq!(
        view.get(&7_u32.to_be_bytes()).map(Record::value),
        Some(&b"value"[..])
    );
}

/// Frees all of these; says in how many pieces.
fn free(trees: impl IntoIterator<Item = Tree>) -> usize {
    let mut remains = Remains::default();
    trees.into_iter().for_each(|tree| remains.add(tree));
    let mut pieces = 0;
    while !remains.is_empty() {
        remains.free_piece();
        pieces += 1;
    }
    pieces
}

/// Of records of one size.
fn tree_of(records: u32, value_bytes: usize) -> Tree {
    let mut filler = Filler::default();
    for number in 0..records {
        let value = vec![0; value_bytes];
        filler.push(Record::new(&number.to_be_bytes(), &value, REVISIONS));
    }
    filler.finish()
}

#[test]
fn large_records_are_freed_in_smaller_pieces_and_many_trees_in_larger_ones() {
    assert_eq!(free([]), 0);
    let [small, large] = [100, 100_000].map(|bytes| free([tree_of(640, bytes)]));
    assert!((6..=10).contains(&small) && large == 20, "{small} {large}");
    let many = free((0..10).map(|_| tree_of(640, 100)));
    assert!(many < 5 * small, "{many} for ten trees, {small} for one");
}

#[test]
fn what_is_given_up_is_freed_piece_by_piece_but_for_what_is_shared() {
    let (mut tree, mut twin) = (Tree::default(), Twin::new());
    for number in 0..10_000_u32 {
        insert(&mut tree, &mut twin, &number.to_be_bytes(), &[1; 100]);
    }
    let view = tree.clone();
    let mut shown: Vec<Record> = view.iter().cloned().collect();
    for number in 0..5_000_u32 {
        set(&mut tree, &mut twin, &number.to_be_bytes(), &[2; 100]);
    }
    let pieces = free([view]);
    assert!((50..=70).contains(&pieces), "{pieces} of 5,000 records");
    assert_same(&tree, &twin);
    // What only one has left is changed in place.
    let freed = shown.iter_mut().filter_map(|record| {
        let place = record.key().as_ptr();
        record.set(&[3; 100], REVISIONS);
        (place == record.key().as_ptr()).then(|| record.key().to_vec())
    });
    assert!(freed.eq((0..5_000_u32).map(|number| number.to_be_bytes().to_vec())));
}

#[test]
fn a_filled_tree_is_a_tree_whatever_the_number_of_records() {
    // Around every number at which a leaf, a branch or a branch of branches is full.
    let leaves = [0, 1, 31, 32, 33].map(|leaves| leaves * 32);
    let branches = [31, 32, 33].map(|branches| branches * 31 * 32);
    let around = |full: u32| [0, 1, 31, 32, 33, 64].map(|more| full + more);
    for count in leaves.into_iter().chain(branches).flat_map(around) {
        let mut filler = Filler::default();
        for number in 0..count {
            filler.push(Record::new(&number.to_be_bytes(), b"", REVISIONS));
        }
        let mut tree = filler.finish();
        let (_, found) = check(&tree.root, Fences::NONE);
        assert_eq!((found, tree.len()), (count as usize, count as usize));
        // And it can be changed like any other.
        let pairs = (0..count).map(|number| (number.to_be_bytes().into(), Vec::new()));
        let mut twin: Twin = pairs.collect();
        for number in [0, count / 2, count] {
            insert(
                &mut tree,
                &mut twin,
                &[&number.to_be_bytes()[..], b"+"].concat(),
                b"new",
            );
            remove(&mut tree, &mut twin, &number.to_be_bytes());
        }
        check(&tree.root, Fences::NONE);
        assert_eq!(tree.len(), twin.len());
    }
}

#[test]
#[should_panic(expected = "keys ascend")]
fn a_filler_takes_no_key_out_of_order() {
    let mut filler = Filler::default();
    filler.push(Record::new(b"b", b"", REVISIONS));
    filler.push(Record::new(b"b", b"", REVISIONS));
}
