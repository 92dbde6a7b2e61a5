//! The ordered map against a dumb twin, and its pages against their bounds.

pub(crate) mod op;
mod twin;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raftd::store::map::{Map, PageQuery};
use wire::client::{Items, KeyRange, ScanMode, prefix_end};
use wire::command::{Batch, Command, Operation, OperationResult, Outcome, Txn, Undone};
use wire::limits::{ENTRY_KEYS_MAX, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, VALUE_BYTES_MAX};
use wire::types::Index;

use self::op::{key, op, txn};
use self::twin::{Row, Twin};

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
fn keys_of_a_range_are_among_those_that_a_txn_touches() {
    let mut map = filled(ENTRY_KEYS_MAX);
    let mut batch = Batch::default();
    let put = Command::Put {
        key: b"a",
        value: b"",
    };
    for command in [delete(None), put] {
        batch.push(Operation::Change(command)).expect("they fit");
    }
    let txn = Command::Txn(Txn::batch(batch.operations()));
    let undone = Outcome::Undone {
        held: true,
        operation: 1,
        why: Undone::TooManyKeys,
    };
    assert_eq!(map.apply(Index(100_000), &txn), undone);
    assert_eq!(map.len(), ENTRY_KEYS_MAX);
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
    let third = &large[..large.len() / 3];
    for (index, key) in (items + 3..).zip(["third/1", "third/2", "third/3"]) {
        map.apply(
            Index(index),
            &Command::Put {
                key: key.as_bytes(),
                value: third,
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
    // Three values would fit, but not with their keys.
    assert_eq!(
        page(ScanMode::Items, b"third/"),
        (2, Some(b"third/2".to_vec()))
    );
}

#[test]
fn a_page_after_a_key_outside_of_the_range_begins_with_the_range() {
    let mut map = Map::default();
    for (index, key) in (1..).zip(["a", "aa", "b", "c"]) {
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
