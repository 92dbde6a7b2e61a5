//! The ordered map against a dumb twin, and its pages against their bounds.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use raftd::store::map::{Map, PageQuery};
use wire::client::{Items, ScanMode};
use wire::command::{Command, Expect, Outcome};
use wire::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
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

/// The dumb twin: a list that is searched from the front.
#[derive(Default)]
struct Twin {
    rows: Vec<Row>,
}

impl Twin {
    fn apply(&mut self, index: u64, op: &Op) -> Outcome {
        match op {
            Op::Put(key, value) => {
                self.set(index, key, value);
                Outcome::Put
            }
            Op::Delete(key) => {
                let before = self.rows.len();
                self.rows.retain(|row| row.key != *key);
                Outcome::Deleted((before - self.rows.len()) as u64)
            }
            Op::SwapAbsent(key, value) => self.swap(index, key, value, |row| row.is_none()),
            Op::SwapRevision(key, revision, value) => self.swap(index, key, value, |row| {
                row.is_some_and(|row| row.revision == *revision)
            }),
            Op::SwapValue(key, expected, value) => self.swap(index, key, value, |row| {
                row.is_some_and(|row| row.value == *expected)
            }),
            Op::Increment(key, delta) => {
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
                let sum = i128::from(number) + i128::from(*delta);
                match i64::try_from(sum) {
                    Err(_) => Outcome::Overflow,
                    Ok(sum) => {
                        self.set(index, key, sum.to_string().as_bytes());
                        Outcome::Incremented(sum)
                    }
                }
            }
        }
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
    let (mut all, mut count) = (Vec::new(), 0);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut bytes = BytesMut::new();
        let query = PageQuery {
            mode,
            prefix,
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
    ]
}

proptest! {
    #[test]
    fn map_does_what_the_twin_does(ops in vec(op(), 0..60), prefix in vec(Just(b'a'), 0..2), limit in 1_u32..5) {
        let (mut map, mut twin) = (Map::default(), Twin::default());
        for (index, op) in (1..).zip(&ops) {
            let outcome = map.apply(Index(index), &op.command());
            prop_assert_eq!(outcome, twin.apply(index, op), "{:?} at {}", op, index);
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
        for row in &mut matching {
            row.value.clear();
        }
        prop_assert_eq!(scan(&map, ScanMode::Keys, &prefix, limit).0, matching);
    }
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
        let query = PageQuery {
            mode,
            prefix,
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
fn a_page_after_a_key_below_the_prefix_begins_at_the_prefix() {
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
    let mut out = BytesMut::new();
    let query = PageQuery {
        mode: ScanMode::Keys,
        prefix: b"b",
        after: Some(b"a"),
        limit: 10,
    };
    assert_eq!(map.page(query, &mut out).count, 1);
    assert_eq!(rows(Items { bytes: &out })[0].key, b"b");
}
