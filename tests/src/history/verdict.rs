//! What the checkers say.

use std::fmt;

use super::History;

/// What is wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// It is not a history: a mistake of the recorder, not of the service.
    Malformed,
    /// The committed log is not one: indexes with gaps, or terms that fall.
    BrokenLog,
    /// An answer names an index after the last committed entry.
    BeyondLog,
    /// The entry that an acknowledgement names is not this write's.
    OtherEntry,
    /// The write did something else than its acknowledgement says.
    OtherOutcome,
    /// A write that was told `NotApplied` took effect.
    AppliedAfterAll,
    /// A write took effect twice.
    AppliedTwice,
    /// A write took effect that no client sent, or with another command than was sent.
    NobodyAsked,
    /// A read saw something else than the state at its index.
    OtherState,
    /// An operation comes, by its index, before one that had ended when it was invoked.
    RealTime,
    /// A read did not see the entry that it comes after.
    TooEarly,
    /// On one connection, a read saw an older state than an earlier answer told of.
    WentBack,
    /// A read did not see a write that was sent before it on its connection.
    OwnWriteUnseen,
    /// No order of the operations on a key explains all answers.
    NotLinearizable,
}

/// A breach, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub breach: Breach,
    /// The places of the records that show it, in the history.
    pub records: Vec<usize>,
    /// What was expected, and the records.
    pub text: String,
}

impl Violation {
    /// A breach shown by `records` of `history`; `why` says what does not fit.
    pub(super) fn new(breach: Breach, history: &History, records: &[usize], why: &str) -> Self {
        let mut text = why.to_owned();
        for place in records {
            text.push_str(&format!("\n  {place}: {}", history.records[*place]));
        }
        Self {
            breach,
            records: records.to_vec(),
            text,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.breach, self.text)
    }
}

impl std::error::Error for Violation {}

/// What a checker looked at: a history without content passes every check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes that were acknowledged.
    pub written: u64,
    /// Writes that were told `NotApplied`.
    pub not_applied: u64,
    /// Writes of unknown outcome that took effect.
    pub unknown_applied: u64,
    /// Writes of unknown outcome that did not, or are not known to have.
    pub unknown_lost: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Stale reads that were answered.
    pub stale_reads: u64,
}
