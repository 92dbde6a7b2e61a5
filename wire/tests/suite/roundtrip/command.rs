//! Commands, and what they did.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::client::Item;
use wire::command::{
    Command, Compare, Condition, Expect, Operation, OperationResult, Outcome, Relation, SessionId,
    Txn, Undone, Write,
};
use wire::limits::COUNTER_MAX;
use wire::types::{Epoch, Index};

use super::number::{counter, index, key, value};
use crate::make::{compares, operations, results};

fn expect() -> impl Strategy<Value = Expect<'static>> {
    prop_oneof![
        Just(Expect::Absent),
        any::<u64>().prop_map(|revision| Expect::Revision(Index(revision))),
        value().prop_map(Expect::Value),
    ]
}

fn command() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![4 => single(), 1 => txn().prop_map(Command::Txn)]
}

prop_compose! {
    fn txn()(
        list in vec(compare(), 0..10), then in vec(operation(), 0..10),
        or_else in vec(operation(), 0..10),
    ) -> Txn<'static> {
        Txn {
            compares: compares(&list),
            then: operations(&then),
            or_else: operations(&or_else),
        }
    }
}

prop_compose! {
    fn compare()(key in key(), condition in condition()) -> Compare<'static> {
        Compare { key, condition }
    }
}

fn condition() -> impl Strategy<Value = Condition<'static>> {
    let relation = || {
        prop_oneof![
            Just(Relation::Equal),
            Just(Relation::NotEqual),
            Just(Relation::Less),
            Just(Relation::Greater),
        ]
    };
    let number = || (relation(), any::<u64>());
    prop_oneof![
        Just(Condition::Exists),
        Just(Condition::Absent),
        (relation(), value()).prop_map(|(relation, value)| Condition::Value(relation, value)),
        number().prop_map(|(relation, number)| Condition::Revision(relation, number)),
        number().prop_map(|(relation, number)| Condition::CreateRevision(relation, number)),
        number().prop_map(|(relation, number)| Condition::Version(relation, number)),
    ]
}

fn operation() -> impl Strategy<Value = Operation<'static>> {
    prop_oneof![
        4 => single().prop_map(Operation::Change),
        1 => key().prop_map(|key| Operation::Get { key }),
    ]
}

/// Anything but a txn.
fn single() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![
        (key(), value()).prop_map(|(key, value)| Command::Put { key, value }),
        key().prop_map(|key| Command::Delete { key }),
        (key(), expect(), value()).prop_map(|(key, expect, value)| Command::CompareAndSwap {
            key,
            expect,
            value
        }),
        (key(), any::<i64>()).prop_map(|(key, delta)| Command::Increment { key, delta }),
        (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
        (value(), option::of(key()), option::of(any::<u64>()))
            .prop_map(|(from, to, expect)| Command::DeleteRange { from, to, expect }),
    ]
}

prop_compose! {
    pub(super) fn write()(
        epoch in any::<u64>(), born in any::<u64>(), nonce in any::<u64>(),
        seq in 1..=COUNTER_MAX, below in counter(), command in command(),
    ) -> Write<'static> {
        let session = SessionId { epoch: Epoch(epoch), born: Index(born), nonce };
        Write { session, seq, floor: seq.saturating_sub(below).max(1), command }
    }
}

prop_compose! {
    pub(super) fn item()(
        key in key(), value in value(), revision in index(), create_revision in index(),
        version in any::<u64>(),
    ) -> Item<'static> {
        Item { key, value, revision, create_revision, version }
    }
}

pub(super) fn outcome() -> impl Strategy<Value = Outcome> {
    let why = prop_oneof![
        Just(Undone::NotANumber),
        Just(Undone::Overflow),
        Just(Undone::TooLong),
        Just(Undone::TooManyKeys),
        Just(Undone::TooMuchToTell),
    ];
    prop_oneof![
        8 => outcome_of_one(),
        1 => Just(Outcome::Applied),
        1 => (any::<bool>(), option::of(vec(result(), 0..10))).prop_map(|(held, list)| {
            let results = list.map(|list| results(&list));
            Outcome::Txn { held, results }
        }),
        1 => (any::<bool>(), any::<u32>(), why)
            .prop_map(|(held, operation, why)| Outcome::Undone { held, operation, why }),
    ]
}

fn result() -> impl Strategy<Value = OperationResult<'static>> {
    prop_oneof![
        outcome_of_one().prop_map(OperationResult::Did),
        item().prop_map(OperationResult::Found),
        Just(OperationResult::Missing),
    ]
}

/// That of a command which may be part of a txn.
fn outcome_of_one() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Put),
        any::<u64>().prop_map(Outcome::Deleted),
        Just(Outcome::Swapped),
        option::of(index()).prop_map(Outcome::NotSwapped),
        any::<i64>().prop_map(Outcome::Incremented),
        Just(Outcome::NotANumber),
        Just(Outcome::Overflow),
        any::<u64>().prop_map(Outcome::Appended),
        Just(Outcome::TooLong),
        any::<u64>().prop_map(Outcome::NotDeleted),
    ]
}
