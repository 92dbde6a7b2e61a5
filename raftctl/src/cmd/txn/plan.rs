//! A txn that owns its bytes.

use bytes::BytesMut;
use raftctl::client::{Batch, BatchFull, Command, Compare, Condition, Expect, Operation, Relation};
use wire::types::Index;

/// What is to be done, as the words or JSON told it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) compares: Vec<Test>,
    pub(super) then: Vec<Step>,
    pub(super) or_else: Vec<Step>,
}

/// A compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) key: Vec<u8>,
    pub(super) target: Target,
}

/// How the key of a compare must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Exists,
    Absent,
    Value(Relation, Vec<u8>),
    Revision(Relation, u64),
    CreateRevision(Relation, u64),
    Version(Relation, u64),
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Put(Vec<u8>, Vec<u8>),
    Get(Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange {
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        expect: Option<u64>,
    },
    Swap(Vec<u8>, Expected, Vec<u8>),
    Increment(Vec<u8>, i64),
    Append(Vec<u8>, Vec<u8>),
}

/// The condition of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Absent,
    Revision(u64),
    Value(Vec<u8>),
}

impl Plan {
    /// How many compares and operations it has: those of both branches, whichever is done.
    pub(super) fn len(&self) -> usize {
        self.compares.len() + self.then.len() + self.or_else.len()
    }

    /// How many of them are appends.
    pub(super) fn appends(&self) -> usize {
        let steps = self.then.iter().chain(&self.or_else);
        steps
            .filter(|step| matches!(step, Step::Append(..)))
            .count()
    }

    /// The compares as they are sent.
    pub(super) fn encode_compares(&self) -> BytesMut {
        let compares: Vec<_> = self.compares.iter().map(Test::to_wire).collect();
        Compare::encode_all(&compares)
    }

    /// The steps of a branch as they are sent.
    pub(super) fn encode(steps: &[Step]) -> Result<Batch, BatchFull> {
        let mut batch = Batch::default();
        for step in steps {
            batch.push(step.to_wire())?;
        }
        Ok(batch)
    }
}

impl Test {
    fn to_wire(&self) -> Compare<'_> {
        Compare {
            key: &self.key,
            condition: match &self.target {
                Target::Exists => Condition::Exists,
                Target::Absent => Condition::Absent,
                Target::Value(relation, value) => Condition::Value(*relation, value),
                Target::Revision(relation, number) => Condition::Revision(*relation, *number),
                Target::CreateRevision(relation, number) => {
                    Condition::CreateRevision(*relation, *number)
                }
                Target::Version(relation, number) => Condition::Version(*relation, *number),
            },
        }
    }
}

impl Step {
    fn to_wire(&self) -> Operation<'_> {
        Operation::Change(match self {
            Self::Get(key) => return Operation::Get { key },
            Self::Put(key, value) => Command::Put { key, value },
            Self::Delete(key) => Command::Delete { key },
            Self::DeleteRange { from, to, expect } => Command::DeleteRange {
                from,
                to: to.as_deref(),
                expect: *expect,
            },
            Self::Swap(key, expected, value) => Command::CompareAndSwap {
                key,
                expect: match expected {
                    Expected::Absent => Expect::Absent,
                    Expected::Revision(revision) => Expect::Revision(Index(*revision)),
                    Expected::Value(value) => Expect::Value(value),
                },
                value,
            },
            Self::Increment(key, delta) => Command::Increment { key, delta: *delta },
            Self::Append(key, value) => Command::Append { key, value },
        })
    }

    /// As it is said on the command line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Put(..) => "put",
            Self::Get(_) => "get",
            Self::Delete(_) | Self::DeleteRange { .. } => "del",
            Self::Swap(..) => "cas",
            Self::Increment(..) => "incr",
            Self::Append(..) => "append",
        }
    }

    /// The key, or the first of the range.
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::DeleteRange { from: key, .. }
            | Self::Put(key, _)
            | Self::Get(key)
            | Self::Delete(key)
            | Self::Swap(key, ..)
            | Self::Increment(key, _)
            | Self::Append(key, _) => key,
        }
    }
}
