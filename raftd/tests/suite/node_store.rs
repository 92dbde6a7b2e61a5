//! The ordered map against a dumb twin, and its pages against their bounds.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raftd::store::map::{Map, PageQuery};
use wire::client::{Items, KeyRange, ScanMode, prefix_end};
use wire::command::{
    Batch, Command, Compare, Compares, Condition, Expect, Operation, OperationResult, Operations,
    Outcome, Relation, Results, Txn, Undone,
};
use wire::limits::{ENTRY_KEYS_MAX, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, VALUE_BYTES_MAX};
use wire::types::Index;

/// A command that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    SwapAbsent(Vec<u8>, Vec<u8>),
    SwapRevision(Vec<u8>, u64, Vec<u8>),
    SwapValue(Vec<u8>, Vec<u8>, Vec<u8>),
    Increment(Vec<u8>, i64),
    Append(Vec<u8>, Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>, Option<u64>),
    /// Three encoded lists.
    Txn(Vec<u8>, Vec<u8>, Vec<u8>),
}

impl Op {
    pub(super) fn command(&self) -> Command<'_> {
        match self {
            Self::Put(key, value) => Command::Put { key, value },
            Self::Delete(key) => Command::Delete { key },
            Self::SwapAbsent(key, value) => Command::CompareAndSwap {
                key,
                expect: Expect::Absent,
                value,
            },
            Self::SwapRevision(key, revision, value) => Command::CompareAndSwap {
                key,
                expect: Expect::Revision(Index(*revision)),
                value,
            },
            Self::SwapValue(key, expected, value) => Command::CompareAndSwap {
                key,
                expect: Expect::Value(expected),
                value,
            },
            Self::Increment(key, delta) => Command::Increment { key, delta: *delta },
            Self::Append(key, value) => Command::Append { key, value },
            Self::DeleteRange(from, to, expect) => Command::DeleteRange {
                from,
                to: to.as_deref(),
                expect: *expect,
            },
            Self::Txn(compares, then, or_else) => Command::Txn(Txn {
                compares: Compares { bytes: compares },
                then: Operations { bytes: then },
                or_else: Operations { bytes: or_else },
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    revision: u64,
    created: u64,
    version: u64,
}

impl Row {
    fn item(&self) -> wire::client::Item<'_> {
        wire::client::Item {
            key: &self.key,
            value: &self.value,
            revision: Index(self.revision),
            create_revision: Index(self.created),
            version: self.version,
        }
    }
}

/// The dumb twin: a list that is searched from the front.
#[derive(Default)]
struct Twin {
    rows: Vec<Row>,
}

impl Twin {
    fn apply(&mut self, index: u64, command: Command<'_>) -> Outcome {
        match command {
            Command::Put { key, value } => {
                self.set(index, key, value);
                Outcome::Put
            }
            Command::Delete { key } => Outcome::Deleted(self.remove(|row| row.key == key)),
            Command::CompareAndSwap { key, expect, value } => {
                self.swap(index, key, value, |row| match expect {
                    Expect::Absent => row.is_none(),
                    Expect::Revision(at) => row.is_some_and(|row| row.revision == at.0),
                    Expect::Value(is) => row.is_some_and(|row| row.value == is),
                })
            }
            Command::Increment { key, delta } => self.increment(index, key, delta),
            Command::Append { key, value } => {
                let mut whole = self.find(key).map_or(Vec::new(), |row| row.value.clone());
                whole.extend_from_slice(value);
                if whole.len() > VALUE_BYTES_MAX {
                    return Outcome::TooLong;
                }
                self.set(index, key, &whole);
                Outcome::Appended(whole.len() as u64)
            }
            Command::DeleteRange { from, to, expect } => {
                let inside = |row: &Row| *row.key >= *from && to.is_none_or(|to| *row.key < *to);
                let found = self.rows.iter().filter(|row| inside(row)).count() as u64;
                match expect {
                    Some(expect) if expect != found => Outcome::NotDeleted(found),
                    _ => Outcome::Deleted(self.remove(inside)),
                }
            }
            Command::Txn(txn) => self.txn(index, txn),
        }
    }

    fn increment(&mut self, index: u64, key: &[u8], delta: i64) -> Outcome {
        let text = self
            .find(key)
            .map_or(b"0".to_vec(), |row| row.value.clone());
        let digits = text.strip_prefix(b"-").unwrap_or(&text);
        let number = String::from_utf8(text.clone())
            .ok()
            .and_then(|t| t.parse::<i64>().ok());
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let (Some(number), true) = (number, plain) else {
            return Outcome::NotANumber;
        };
        let sum = i128::from(number) + i128::from(delta);
        match i64::try_from(sum) {
            Err(_) => Outcome::Overflow,
            Ok(sum) => {
                self.set(index, key, sum.to_string().as_bytes());
                Outcome::Incremented(sum)
            }
        }
    }

    fn txn(&mut self, index: u64, txn: Txn<'_>) -> Outcome {
        let held = txn.compares.iter().all(|compare| self.holds(compare));
        let before = self.rows.clone();
        let mut told = BytesMut::new();
        let operations = if held { txn.then } else { txn.or_else };
        for (place, operation) in (0..).zip(operations.iter()) {
            let outcome = match operation {
                Operation::Get { key } => {
                    match self.find(key) {
                        Some(row) => OperationResult::Found(row.item()).encode(&mut told),
                        None => OperationResult::Missing.encode(&mut told),
                    }
                    continue;
                }
                Operation::Change(command) => self.apply(index, command),
            };
            let why = match outcome {
                Outcome::NotANumber => Undone::NotANumber,
                Outcome::Overflow => Undone::Overflow,
                Outcome::TooLong => Undone::TooLong,
                outcome => {
                    OperationResult::Did(outcome).encode(&mut told);
                    continue;
                }
            };
            self.rows = before;
            return Outcome::Undone {
                held,
                operation: place,
                why,
            };
        }
        let results = Some(Results::new(&told));
        Outcome::Txn { held, results }
    }

    fn holds(&self, compare: Compare<'_>) -> bool {
        let row = self.find(compare.key);
        let compared = |relation, there: u64, given: u64| match relation {
            Relation::Equal => there == given,
            Relation::NotEqual => there != given,
            Relation::Less => there < given,
            Relation::Greater => there > given,
        };
        match compare.condition {
            Condition::Exists => row.is_some(),
            Condition::Absent => row.is_none(),
            Condition::Value(relation, given) => row.is_some_and(|row| match relation {
                Relation::Equal => row.value == given,
                Relation::NotEqual => row.value != given,
                Relation::Less => *row.value < *given,
                Relation::Greater => *row.value > *given,
            }),
            Condition::Revision(relation, given) => {
                compared(relation, row.map_or(0, |row| row.revision), given)
            }
            Condition::CreateRevision(relation, given) => {
                compared(relation, row.map_or(0, |row| row.created), given)
            }
            Condition::Version(relation, given) => {
                compared(relation, row.map_or(0, |row| row.version), given)
            }
        }
    }

    fn remove(&mut self, doomed: impl Fn(&Row) -> bool) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|row| !doomed(row));
        (before - self.rows.len()) as u64
    }

    fn find(&self, key: &[u8]) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    fn swap(
        &mut self,
        index: u64,
        key: &[u8],
        value: &[u8],
        holds: impl Fn(Option<&Row>) -> bool,
    ) -> Outcome {
        let row = self.find(key);
        if !holds(row) {
            return Outcome::NotSwapped(row.map(|row| Index(row.revision)));
        }
        self.set(index, key, value);
        Outcome::Swapped
    }

    fn set(&mut self, index: u64, key: &[u8], value: &[u8]) {
        let old = self.find(key).cloned();
        self.rows.retain(|row| row.key != key);
        self.rows.push(Row {
            key: key.to_vec(),
            value: value.to_vec(),
            revision: index,
            created: old.as_ref().map_or(index, |row| row.created),
            version: old.map_or(1, |row| row.version + 1),
        });
        self.rows.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn rows(items: Items<'_>) -> Vec<Row> {
    let row = |item: wire::client::Item<'_>| Row {
        key: item.key.to_vec(),
        value: item.value.to_vec(),
        revision: item.revision.0,
        created: item.create_revision.0,
        version: item.version,
    };
    items.iter().map(row).collect()
}

/// Reads a whole prefix page by page.
fn scan(map: &Map, mode: ScanMode, prefix: &[u8], limit: u32) -> (Vec<Row>, u64) {
    let to = prefix_end(prefix);
    let range = KeyRange {
        from: prefix,
        to: to.as_deref(),
    };
    scan_range(map, mode, range, false, limit)
}

fn scan_range(
    map: &Map,
    mode: ScanMode,
    range: KeyRange<'_>,
    reverse: bool,
    limit: u32,
) -> (Vec<Row>, u64) {
    let (mut all, mut count) = (Vec::new(), 0);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut bytes = BytesMut::new();
        let query = PageQuery {
            mode,
            range,
            reverse,
            after: after.as_deref(),
            limit,
        };
        let page = map.page(query, &mut bytes);
        assert!(page.count <= u64::from(limit.min(PAGE_ITEMS_MAX)));
        assert!(
            page.count > 0 || page.more_after.is_none(),
            "a page gets on"
        );
        count += page.count;
        all.extend(rows(Items { bytes: &bytes }));
        match page.more_after {
            None => return (all, count),
            Some(last) => after = Some(last.to_vec()),
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xff_u8)], 1..4)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..5),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-3_i64..3).prop_map(|number| number.to_string().into_bytes()),
        Just(b"+1".to_vec()),
        Just(b"9223372036854775807".to_vec()),
        Just(b"9223372036854775808".to_vec()),
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), value()).prop_map(|(k, v)| Op::Put(k, v)),
        2 => key().prop_map(Op::Delete),
        1 => (key(), value()).prop_map(|(k, v)| Op::SwapAbsent(k, v)),
        2 => (key(), 0_u64..60, value()).prop_map(|(k, r, v)| Op::SwapRevision(k, r, v)),
        2 => (key(), value(), value()).prop_map(|(k, e, v)| Op::SwapValue(k, e, v)),
        3 => (key(), prop_oneof![-2_i64..3, any::<i64>()]).prop_map(|(k, d)| Op::Increment(k, d)),
        2 => (key(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        1 => (key(), option::of(key()), option::of(0_u64..4))
            .prop_map(|(from, to, expect)| Op::DeleteRange(from, to, expect)),
    ]
}

pub(super) fn txn() -> impl Strategy<Value = Op> {
    (
        vec(compare(), 0..3),
        vec(operation(), 0..5),
        vec(operation(), 0..5),
    )
        .prop_map(|(compares, then, or_else)| {
            let batch = |operations: Vec<Option<Op>>| {
                let mut batch = Batch::default();
                for operation in &operations {
                    let operation = match operation {
                        Some(op) => Operation::Change(op.command()),
                        None => Operation::Get { key: b"a" },
                    };
                    batch.push(operation).expect("they fit");
                }
                batch.operations().bytes.to_vec()
            };
            Op::Txn(compares.concat(), batch(then), batch(or_else))
        })
}

fn operation() -> impl Strategy<Value = Option<Op>> {
    prop_oneof![4 => op().prop_map(Some), 1 => Just(None)]
}

/// One, encoded.
fn compare() -> impl Strategy<Value = Vec<u8>> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::NotEqual),
        Just(Relation::Less),
        Just(Relation::Greater),
    ];
    (key(), 0..6, relation, value(), 0_u64..60).prop_map(|(key, kind, relation, value, number)| {
        let condition = match kind {
            0 => Condition::Exists,
            1 => Condition::Absent,
            2 => Condition::Value(relation, &value),
            3 => Condition::Revision(relation, number),
            4 => Condition::CreateRevision(relation, number),
            _ => Condition::Version(relation, number % 4),
        };
        let mut out = BytesMut::new();
        let compare = Compare {
            key: &key,
            condition,
        };
        compare.encode(&mut out);
        out.to_vec()
    })
}

proptest! {
    #[test]
    fn map_does_what_the_twin_does(
        ops in vec(prop_oneof![4 => op(), 1 => txn()], 0..60),
        prefix in vec(Just(b'a'), 0..2),
        to in option::of(key()),
        limit in 1_u32..5,
    ) {
        let (mut map, mut twin) = (Map::default(), Twin::default());
        for (index, op) in (1..).zip(&ops) {
            let outcome = map.apply(Index(index), &op.command());
            prop_assert_eq!(outcome, twin.apply(index, op.command()), "{:?} at {}", op, index);
        }
        prop_assert_eq!(map.len(), twin.rows.len());
        let data_bytes = twin.rows.iter().map(|row| row.key.len() + row.value.len());
        prop_assert_eq!(map.data_bytes(), data_bytes.sum::<usize>() as u64);
        let (all, _) = scan(&map, ScanMode::Items, b"", PAGE_ITEMS_MAX);
        prop_assert_eq!(&all, &twin.rows);
        for row in &twin.rows {
            prop_assert_eq!(map.get(&row.key).map(|item| item.value), Some(&row.value[..]));
        }
        let mut matching: Vec<Row> =
            twin.rows.iter().filter(|row| row.key.starts_with(&prefix)).cloned().collect();
        let (paged, count) = scan(&map, ScanMode::Items, &prefix, limit);
        prop_assert_eq!(&paged, &matching);
        prop_assert_eq!(count as usize, matching.len());
        prop_assert_eq!(scan(&map, ScanMode::Count, &prefix, limit), (Vec::new(), count));
        let range = KeyRange { from: &prefix, to: to.as_deref() };
        let mut between: Vec<Row> =
            twin.rows.iter().filter(|row| range.contains(&row.key)).cloned().collect();
        prop_assert_eq!(&scan_range(&map, ScanMode::Items, range, false, limit).0, &between);
        between.reverse();
        prop_assert_eq!(&scan_range(&map, ScanMode::Items, range, true, limit).0, &between);
        for row in &mut matching {
            row.value.clear();
        }
        prop_assert_eq!(scan(&map, ScanMode::Keys, &prefix, limit).0, matching);
    }
}

/// So many keys `k00000`, ..., each by an entry of its own.
fn filled(keys: usize) -> Map {
    let mut map = Map::default();
    for (index, key) in (1..).zip(0..keys) {
        let key = format!("k{key:05}");
        let put = Command::Put {
            key: key.as_bytes(),
            value: b"v",
        };
        map.apply(Index(index), &put);
    }
    map
}

fn delete(expect: Option<u64>) -> Command<'static> {
    Command::DeleteRange {
        from: b"",
        to: None,
        expect,
    }
}

#[test]
fn a_range_loses_no_more_keys_at_once_than_an_entry_may_touch() {
    let mut map = filled(ENTRY_KEYS_MAX + 2);
    let at = Index(100_000);
    let over = ENTRY_KEYS_MAX as u64 + 1;
    // Nobody counts further than that, and there is no way to expect more than go at once.
    for expect in [0, over - 1, over, over + 1] {
        let outcome = map.apply(at, &delete(Some(expect)));
        assert_eq!(outcome, Outcome::NotDeleted(over));
    }
    assert_eq!(map.len(), ENTRY_KEYS_MAX + 2);
    assert_eq!(map.apply(at, &delete(None)), Outcome::Deleted(over - 1));
    assert_eq!(map.iter().next().expect("two are left").key, b"k10000");
    assert_eq!(map.apply(at, &delete(Some(1))), Outcome::NotDeleted(2));
    assert_eq!(map.apply(at, &delete(Some(2))), Outcome::Deleted(2));
}

#[test]
fn a_txn_that_would_touch_too_many_keys_is_undone() {
    let touched = |map: &mut Map, puts: usize, range: Command<'_>| {
        let mut batch = Batch::default();
        let put = Command::Put {
            key: b"a",
            value: b"",
        };
        for _ in 0..puts {
            batch.push(Operation::Change(put)).expect("they fit");
        }
        batch.push(Operation::Change(range)).expect("it fits");
        let txn = Command::Txn(Txn::batch(batch.operations()));
        map.apply(Index(100_000), &txn)
    };
    let mut map = filled(ENTRY_KEYS_MAX - 3);
    let before: Vec<u8> = map.iter().flat_map(|item| item.key.to_vec()).collect();
    let range = Command::DeleteRange {
        from: b"k",
        to: None,
        expect: None,
    };
    let undone = Outcome::Undone {
        held: true,
        operation: 4,
        why: Undone::TooManyKeys,
    };
    assert_eq!(touched(&mut map, 4, range), undone);
    let after: Vec<u8> = map.iter().flat_map(|item| item.key.to_vec()).collect();
    assert_eq!(before, after);
    let outcome = touched(&mut map, 3, range);
    assert!(
        matches!(outcome, Outcome::Txn { held: true, .. }),
        "{outcome:?}"
    );
    assert_eq!(map.len(), 1);
}

#[test]
fn a_txn_whose_results_are_too_long_is_undone() {
    let value = vec![7; VALUE_BYTES_MAX];
    let mut map = Map::default();
    let put = Command::Put {
        key: b"k",
        value: &value,
    };
    map.apply(Index(1), &put);
    let mut batch = Batch::default();
    let delete = Command::Delete { key: b"k" };
    batch.push(Operation::Get { key: b"k" }).expect("it fits");
    let one = batch.clone();
    batch.push(Operation::Get { key: b"k" }).expect("it fits");
    batch.push(Operation::Change(delete)).expect("it fits");
    let txn = Command::Txn(Txn::batch(batch.operations()));
    let undone = Outcome::Undone {
        held: true,
        operation: 1,
        why: Undone::TooMuchToTell,
    };
    assert_eq!(map.apply(Index(2), &txn), undone);
    let txn = Command::Txn(Txn::batch(one.operations()));
    let Outcome::Txn {
        results: Some(results),
        ..
    } = map.apply(Index(3), &txn)
    else {
        panic!("one value can be told");
    };
    let found = map.get(b"k").expect("it was not removed");
    assert_eq!(
        results.iter().collect::<Vec<_>>(),
        [OperationResult::Found(found)]
    );
}

#[test]
fn pages_are_bounded_in_items_and_bytes_whatever_is_asked() {
    let mut map = Map::default();
    let items = u64::from(PAGE_ITEMS_MAX) + 1;
    for index in 1..=items {
        let key = format!("small/{index:06}");
        map.apply(
            Index(index),
            &Command::Put {
                key: key.as_bytes(),
                value: b"",
            },
        );
    }
    let large = vec![7_u8; PAGE_BYTES_MAX as usize];
    for (index, key) in (items + 1..).zip(["large/1", "large/2"]) {
        map.apply(
            Index(index),
            &Command::Put {
                key: key.as_bytes(),
                value: &large,
            },
        );
    }
    let mut out = BytesMut::new();
    let mut page = |mode, prefix: &[u8]| {
        out.clear();
        let to = prefix_end(prefix);
        let query = PageQuery {
            mode,
            range: KeyRange {
                from: prefix,
                to: to.as_deref(),
            },
            reverse: false,
            after: None,
            limit: u32::MAX,
        };
        let page = map.page(query, &mut out);
        (page.count, page.more_after.map(<[u8]>::to_vec))
    };
    let last = Some(b"small/010000".to_vec());
    assert_eq!(page(ScanMode::Items, b"small/"), (10_000, last.clone()));
    assert_eq!(page(ScanMode::Keys, b"small/"), (10_000, last.clone()));
    // A count walks over no more keys in one turn than a scan does.
    assert_eq!(page(ScanMode::Count, b"small/"), (10_000, last));
    // One item always fits, however large.
    assert_eq!(
        page(ScanMode::Items, b"large/"),
        (1, Some(b"large/1".to_vec()))
    );
    assert_eq!(page(ScanMode::Keys, b"large/"), (2, None));
}

#[test]
fn a_page_after_a_key_outside_of_the_range_begins_with_the_range() {
    let mut map = Map::default();
    for (index, key) in (1..).zip(["a", "b", "c"]) {
        map.apply(
            Index(index),
            &Command::Put {
                key: key.as_bytes(),
                value: b"",
            },
        );
    }
    for (reverse, after) in [(false, b"a"), (true, b"c")] {
        let mut out = BytesMut::new();
        let query = PageQuery {
            mode: ScanMode::Keys,
            range: KeyRange {
                from: b"b",
                to: Some(b"c"),
            },
            reverse,
            after: Some(after),
            limit: 10,
        };
        assert_eq!(map.page(query, &mut out).count, 1);
        assert_eq!(rows(Items { bytes: &out })[0].key, b"b");
    }
}
