//! Commands that own their bytes, and any of them.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::command::{
    Batch, Command, Compare, Compares, Condition, Expect, Operation, Operations, Relation, Txn,
};
use wire::types::Index;

/// A command that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) enum Op {
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
    pub(crate) fn command(&self) -> Command<'_> {
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

pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xff_u8)], 1..4)
}

pub(crate) fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..5),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-3_i64..3).prop_map(|number| number.to_string().into_bytes()),
        Just(b"+1".to_vec()),
        Just(b"9223372036854775807".to_vec()),
        Just(b"9223372036854775808".to_vec()),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
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

pub(crate) fn txn() -> impl Strategy<Value = Op> {
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

pub(crate) fn operation() -> impl Strategy<Value = Option<Op>> {
    prop_oneof![4 => op().prop_map(Some), 1 => Just(None)]
}

/// One, encoded.
pub(crate) fn compare() -> impl Strategy<Value = Vec<u8>> {
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
