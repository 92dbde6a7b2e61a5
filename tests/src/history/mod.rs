//! Histories: what clients asked, when, and what they were told; and the judges of them.
//!
//! A [`Record`] is one operation of one client from its first attempt to the answer that the
//! client settled for: retries under the same session and seq are part of it. Simulator and
//! torture write the same records and ask the same checkers:
//! - [`witness`] is near-linear: every answer names an index of the log, so there is one order to
//!   try, and it is tried against an own model of store and sessions;
//! - [`acks`] is the same as far as it goes when the committed log is not known;
//! - [`search`] believes no index: it looks for any order of the operations on a key that explains
//!   every answer (linearizability after Herlihy and Wing), and gives up rather than run for ever.
//!
//! # What a recorder must do
//! - Read the clock *before* the first byte of the first attempt is sent (`invoked_ns`) and *after*
//!   the answer was read (`ended_ns`). One clock for all clients. Two operations are in order only
//!   if one's end is less than the other's begin: equal times are concurrent.
//! - Record every operation that was sent at all. One left open at the end is [`Answer::Unknown`].
//! - Say [`Answer::NotApplied`] only if every attempt was refused with class `not-applied`, or never
//!   left the client; say [`Answer::Unknown`] if an attempt was not answered, or answered by
//!   anything else that is no result. Both are safe for reads.
//! - Never use a (session, seq) for two operations.

pub mod acks;
pub mod compound;
mod encoding;
mod model;
mod pages;
pub mod search;
pub mod text;
mod touched;
mod verdict;
pub mod witness;

use serde::{Deserialize, Serialize};
use wire::client::{Consistency, Freshness, KeyRange, Request, ScanMode, ViewChoice, prefix_end};
use wire::command::{Outcome, SessionId, Write};
use wire::types::{EntryId, Index};

pub use pages::ViewPage;
pub use verdict::{Breach, Summary, Violation};

/// Everything that the clients of a run saw. The order of the records means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations.
    pub records: Vec<Record>,
}

/// One operation of one client.
///
/// Invariants, which the checkers demand:
/// - `ended_ns` is at or after `invoked_ns`; it is `None` only with [`Answer::Unknown`];
/// - a write is answered by a result of writes, a read by one of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Who asked; for people.
    pub client: u64,
    /// When its first attempt was about to be sent, in nanoseconds of the run's one clock.
    pub invoked_ns: u64,
    /// When its answer was read, or when the client gave it up. `None` if it was still waiting when
    /// the history ended. Says nothing of a write whose answer is `Unknown`: that may take effect
    /// at any time later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
    /// The connection by which the answer came, if the recorder tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage: Option<Passage>,
    /// What was asked.
    pub operation: Operation,
    /// What the client was told.
    pub answer: Answer,
}

/// Where the answered attempt of an operation was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passage {
    /// The connection; no two of a run share a number, whichever node they lead to.
    pub connection: u64,
    /// The place among the requests sent on it: ascending, in the order of their bytes.
    pub place: u64,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// A change of one key.
    Write {
        /// The session under which it was sent.
        #[serde(with = "encoding::SessionText")]
        session: SessionId,
        /// Its number in the session.
        seq: u64,
        /// What to do.
        command: Command,
    },
    /// A look at keys.
    Read {
        /// How fresh.
        #[serde(with = "encoding::ConsistencyText")]
        consistency: Consistency,
        /// The entry that it must see at least.
        #[serde(default, with = "encoding::index", skip_serializing_if = "is_zero")]
        after: Index,
        /// Which.
        query: Query,
    },
}

impl Operation {
    /// As a request. A write tells that its session waits for nothing below `floor`; the range of a
    /// read may be one of a view.
    #[must_use]
    pub fn to_wire(&self, deadline_ms: u32, floor: u64, view: ViewChoice) -> Request<'_> {
        match self {
            Self::Write {
                session,
                seq,
                command,
            } => Request::Write {
                deadline_ms,
                write: Write {
                    session: *session,
                    seq: *seq,
                    floor,
                    command: command.to_wire(),
                },
                body: &[],
            },
            Self::Read {
                consistency,
                after,
                query,
            } => {
                let freshness = Freshness {
                    consistency: *consistency,
                    after: *after,
                };
                query.to_wire(deadline_ms, freshness, view)
            }
        }
    }
}

/// [`wire::command::Command`] with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Sets a key.
    Put {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
        /// Its new value.
        #[serde(with = "encoding::bytes")]
        value: Vec<u8>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
    },
    /// Sets a key if it is as expected.
    CompareAndSwap {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
        /// How it must be.
        expect: Expect,
        /// Its new value.
        #[serde(with = "encoding::bytes")]
        value: Vec<u8>,
    },
    /// Adds to a decimal number; an absent key counts as 0.
    Increment {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
        /// What to add.
        delta: i64,
    },
    /// Adds to a value; an absent key counts as an empty one.
    Append {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
        /// What to add.
        #[serde(with = "encoding::bytes")]
        value: Vec<u8>,
    },
    /// Removes the keys of a range.
    DeleteRange {
        /// The first key.
        #[serde(with = "encoding::bytes")]
        from: Vec<u8>,
        /// The first key behind it.
        #[serde(default, with = "encoding::bytes_or_null")]
        to: Option<Vec<u8>>,
        /// So many there must be.
        #[serde(default)]
        expect: Option<u64>,
    },
    /// Several operations as one; the lists as the protocol encodes them.
    Txn {
        /// What must be.
        #[serde(with = "encoding::bytes")]
        compares: Vec<u8>,
        /// What to do then.
        #[serde(with = "encoding::bytes")]
        then: Vec<u8>,
        /// What to do otherwise.
        #[serde(with = "encoding::bytes")]
        or_else: Vec<u8>,
    },
}

/// [`wire::command::Expect`] with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expect {
    /// The key is not there.
    Absent,
    /// The key was last written at this index.
    Revision(#[serde(with = "encoding::index")] Index),
    /// The key holds these bytes.
    Value(#[serde(with = "encoding::bytes")] Vec<u8>),
}

/// What a read asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// One key.
    Get {
        /// The key.
        #[serde(with = "encoding::bytes")]
        key: Vec<u8>,
    },
    /// One page of a scan.
    Scan(Scan),
}

/// A page that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// What to return of each key.
    #[serde(with = "encoding::ScanModeText")]
    pub mode: ScanMode,
    /// The first key that counts.
    #[serde(with = "encoding::bytes")]
    pub from: Vec<u8>,
    /// The first key that does not count any more.
    #[serde(default, with = "encoding::bytes_or_null")]
    pub to: Option<Vec<u8>>,
    /// The highest key comes first.
    #[serde(default)]
    pub reverse: bool,
    /// Keys must come behind it, in the order asked for.
    #[serde(default, with = "encoding::bytes_or_null")]
    pub after: Option<Vec<u8>>,
    /// Items at most.
    pub limit: u32,
}

impl Scan {
    /// A page, in order, of the keys that begin with `prefix`.
    #[must_use]
    pub fn of_prefix(mode: ScanMode, prefix: &[u8], after: Option<Vec<u8>>, limit: u32) -> Self {
        Self {
            mode,
            from: prefix.to_vec(),
            to: prefix_end(prefix),
            reverse: false,
            after,
            limit,
        }
    }

    /// The keys that it is about.
    #[must_use]
    pub fn range(&self) -> KeyRange<'_> {
        KeyRange {
            from: &self.from,
            to: self.to.as_deref(),
        }
    }
}

impl Query {
    /// As a request.
    #[must_use]
    pub fn to_wire(&self, deadline_ms: u32, freshness: Freshness, view: ViewChoice) -> Request<'_> {
        match self {
            Self::Get { key } => Request::Get {
                deadline_ms,
                freshness,
                key,
            },
            Self::Scan(scan) => Request::Scan {
                deadline_ms,
                freshness,
                mode: scan.mode,
                range: scan.range(),
                reverse: scan.reverse,
                after: scan.after.as_deref(),
                limit: scan.limit,
                view,
            },
        }
    }
}

/// What the client was told in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The write took effect.
    Written {
        /// By this entry.
        #[serde(with = "encoding::EntryIdText")]
        id: EntryId,
        /// And did this.
        #[serde(with = "encoding::OutcomeText")]
        outcome: Outcome,
    },
    /// The answer to [`Query::Get`].
    Got {
        /// Applied index of the node when it read.
        #[serde(with = "encoding::index")]
        index: Index,
        /// The item, or `None` if the key is absent.
        #[serde(default)]
        item: Option<Item>,
    },
    /// The answer to [`Query::Scan`].
    Scanned {
        /// Applied index of the node when it read.
        #[serde(with = "encoding::index")]
        index: Index,
        /// The page.
        page: Page,
    },
    /// It was certainly not done, and will not be.
    NotApplied,
    /// Nobody knows: a write takes effect once, at any time after its invocation, or never.
    Unknown,
}

/// [`wire::client::Item`] with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The key.
    #[serde(with = "encoding::bytes")]
    pub key: Vec<u8>,
    /// Its value.
    #[serde(with = "encoding::bytes")]
    pub value: Vec<u8>,
    /// Index of the entry that last wrote it.
    #[serde(with = "encoding::index")]
    pub revision: Index,
    /// Index of the entry that made it.
    #[serde(with = "encoding::index")]
    pub create_revision: Index,
    /// Writes since it was made; 1 for a new key.
    pub version: u64,
}

/// The page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Keys of this page.
    pub count: u64,
    /// The last key of this page if there are more.
    #[serde(default, with = "encoding::bytes_or_null")]
    pub more_after: Option<Vec<u8>>,
    /// The items; none if only the count was asked for, without values if only keys were.
    #[serde(default)]
    pub items: Vec<Item>,
}

impl Record {
    /// The index that the answer names: where a write took effect, what a read saw.
    #[must_use]
    pub fn index(&self) -> Option<Index> {
        match &self.answer {
            Answer::Written { id, .. } => Some(id.index),
            Answer::Got { index, .. } | Answer::Scanned { index, .. } => Some(*index),
            Answer::NotApplied | Answer::Unknown => None,
        }
    }

    /// Whether it is a read that may see an old state.
    #[must_use]
    pub fn is_stale_read(&self) -> bool {
        let Operation::Read { consistency, .. } = self.operation else {
            return false;
        };
        match consistency {
            Consistency::Linearizable | Consistency::LinearizableAnywhere => false,
            Consistency::Stale | Consistency::Bounded { .. } => true,
        }
    }

    /// The time of which it sees all that had ended before; `None`: of no time.
    fn sees_all_before_ns(&self) -> Option<u64> {
        let Operation::Read { consistency, .. } = self.operation else {
            return Some(self.invoked_ns);
        };
        match consistency {
            Consistency::Linearizable | Consistency::LinearizableAnywhere => Some(self.invoked_ns),
            Consistency::Stale => None,
            // The clock of the node that answered may have been slow.
            Consistency::Bounded { max_lag_ms } => {
                let lag_ns = u64::from(max_lag_ms) * 1_000_000 * CLOCK_ERROR_MAX;
                Some(self.invoked_ns.saturating_sub(lag_ns))
            }
        }
    }
}

/// A node's clock measures a time as this much shorter than it is, at most.
const CLOCK_ERROR_MAX: u64 = 2;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(index: &Index) -> bool {
    *index == Index(0)
}

impl Command {
    /// As the protocol sends it.
    #[must_use]
    pub fn to_wire(&self) -> wire::command::Command<'_> {
        use wire::command;
        match self {
            Self::Put { key, value } => command::Command::Put { key, value },
            Self::Delete { key } => command::Command::Delete { key },
            Self::CompareAndSwap { key, expect, value } => command::Command::CompareAndSwap {
                key,
                expect: match expect {
                    Expect::Absent => command::Expect::Absent,
                    Expect::Revision(revision) => command::Expect::Revision(*revision),
                    Expect::Value(value) => command::Expect::Value(value),
                },
                value,
            },
            Self::Increment { key, delta } => command::Command::Increment { key, delta: *delta },
            Self::Append { key, value } => command::Command::Append { key, value },
            Self::DeleteRange { from, to, expect } => command::Command::DeleteRange {
                from,
                to: to.as_deref(),
                expect: *expect,
            },
            Self::Txn {
                compares,
                then,
                or_else,
            } => command::Command::Txn(command::Txn {
                compares: command::Compares { bytes: compares },
                then: command::Operations { bytes: then },
                or_else: command::Operations { bytes: or_else },
            }),
        }
    }
}

impl From<wire::command::Command<'_>> for Command {
    fn from(command: wire::command::Command<'_>) -> Self {
        use wire::command;
        match command {
            command::Command::Put { key, value } => Self::Put {
                key: key.to_vec(),
                value: value.to_vec(),
            },
            command::Command::Delete { key } => Self::Delete { key: key.to_vec() },
            command::Command::CompareAndSwap { key, expect, value } => Self::CompareAndSwap {
                key: key.to_vec(),
                expect: match expect {
                    command::Expect::Absent => Expect::Absent,
                    command::Expect::Revision(revision) => Expect::Revision(revision),
                    command::Expect::Value(value) => Expect::Value(value.to_vec()),
                },
                value: value.to_vec(),
            },
            command::Command::Increment { key, delta } => Self::Increment {
                key: key.to_vec(),
                delta,
            },
            command::Command::Append { key, value } => Self::Append {
                key: key.to_vec(),
                value: value.to_vec(),
            },
            command::Command::DeleteRange { from, to, expect } => Self::DeleteRange {
                from: from.to_vec(),
                to: to.map(<[u8]>::to_vec),
                expect,
            },
            command::Command::Txn(txn) => Self::Txn {
                compares: txn.compares.bytes.to_vec(),
                then: txn.then.bytes.to_vec(),
                or_else: txn.or_else.bytes.to_vec(),
            },
        }
    }
}

impl From<wire::client::Item<'_>> for Item {
    fn from(item: wire::client::Item<'_>) -> Self {
        Self {
            key: item.key.to_vec(),
            value: item.value.to_vec(),
            revision: item.revision,
            create_revision: item.create_revision,
            version: item.version,
        }
    }
}

impl Answer {
    /// What `reply` answers. `None` for an error and a status: what those mean for the operation
    /// depends on its other attempts.
    #[must_use]
    pub fn from_reply(reply: &wire::client::Reply<'_>) -> Option<Self> {
        use wire::client::Reply;
        match reply {
            Reply::Written {
                term,
                index,
                outcome,
            } => Some(Self::Written {
                id: EntryId {
                    term: *term,
                    index: *index,
                },
                outcome: outcome.clone(),
            }),
            Reply::Value { index, item } => Some(Self::Got {
                index: *index,
                item: Some((*item).into()),
            }),
            Reply::Missing { index } => Some(Self::Got {
                index: *index,
                item: None,
            }),
            Reply::Page {
                index,
                count,
                more_after,
                items,
                ..
            } => Some(Self::Scanned {
                index: *index,
                page: Page {
                    count: *count,
                    more_after: more_after.map(<[u8]>::to_vec),
                    items: items.iter().map(Item::from).collect(),
                },
            }),
            Reply::Status(_)
            | Reply::SnapshotPiece { .. }
            | Reply::MembersChanged(_)
            | Reply::Admitted(_)
            | Reply::LeaderTransferred { .. }
            | Reply::LeaderChanges(_)
            | Reply::Moved { .. }
            | Reply::Error(_) => None,
        }
    }
}
