//! What the members of a cluster say to each other.
//!
//! Requests travel on the link that the sender dialled, answers come back on it (rules B1).

use alloc::vec::Vec;

use crate::entry::Entry;
use crate::types::{EntryId, Index, Term};

/// A message between peers. See [`Message::is_answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The leader replicates, or just shows that it lives.
    Append(Append),
    /// The follower's log holds `prev`.
    AppendOk(AppendOk),
    /// The follower's log does not hold `prev`.
    AppendConflict(AppendConflict),
    /// The receiver of an `Append` of an older term tells its own.
    StaleTerm(StaleTerm),
    /// "Would you vote for me in this term?" Changes nothing (thesis 9.6).
    PreVote(PreVote),
    /// The answer to [`PreVote`].
    PreVoteAnswer(PreVoteAnswer),
    /// Asks for a vote (thesis 3.4).
    RequestVote(RequestVote),
    /// The answer to [`RequestVote`].
    VoteAnswer(VoteAnswer),
}

impl Message {
    /// Whether it goes back on the link that the request came on.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Append(_) | Self::PreVote(_) | Self::RequestVote(_) => false,
            Self::AppendOk(_)
            | Self::AppendConflict(_)
            | Self::StaleTerm(_)
            | Self::PreVoteAnswer(_)
            | Self::VoteAnswer(_) => true,
        }
    }

    /// The term that the message carries.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::Append(m) => m.term,
            Self::AppendOk(m) => m.term,
            Self::AppendConflict(m) => m.term,
            Self::StaleTerm(m) => m.term,
            Self::PreVote(m) => m.term,
            Self::PreVoteAnswer(m) => m.term,
            Self::RequestVote(m) => m.term,
            Self::VoteAnswer(m) => m.term,
        }
    }
}

/// `AppendEntries` (thesis 3.5). Entries follow `prev` without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The entry before the first of `entries`.
    pub prev: EntryId,
    /// The leader's commit index.
    pub commit: Index,
    /// The leader's newest read round (rules C1); never falls within a term.
    pub round: u64,
    /// State digest that the leader holds at an index, for comparison; `None` in this version.
    pub digest: Option<Digest>,
    /// May be empty.
    pub entries: Vec<Entry>,
}

/// A state digest at an index (rules D5). Reserved: version 1 of the daemon sends none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The applied index that it belongs to.
    pub index: Index,
    /// The digest.
    pub sum: u128,
}

/// How much room a node's disk has (rules E5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// Enough.
    #[default]
    Ok,
    /// Below the soft mark: client writes should stop.
    Soft,
    /// No new segment is possible.
    Hard,
}

/// The state of the answering node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Room.
    pub state: DiskState,
    /// Age of the oldest unfinished write, in milliseconds; 0 if none.
    pub oldest_write_ms: u32,
}

/// The follower holds everything up to `match_index` durably, and it agrees with this leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOk {
    /// The follower's term.
    pub term: Term,
    /// The highest round among this term's `Append`s that were received.
    pub round: u64,
    /// min(durable, last verified against this leader) (rules A3).
    pub match_index: Index,
    /// The last verified index, durable or not.
    pub received: Index,
    /// The follower's disk.
    pub disk: DiskReport,
    /// The follower's state digest, for comparison; `None` in this version.
    pub digest: Option<Digest>,
}

/// The follower lacks `prev`, or holds another entry there (thesis 3.5, conflict by term).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendConflict {
    /// The follower's term.
    pub term: Term,
    /// The highest round among this term's `Append`s that were received.
    pub round: u64,
    /// The `prev` that was refused: tells an old answer from a new one.
    pub prev: EntryId,
    /// What the follower has at `prev.index`: the term, and where that term begins in its log.
    /// `None` if its log ends before `prev`.
    pub conflict: Option<EntryId>,
    /// The follower's last entry.
    pub last: EntryId,
    /// The follower's disk.
    pub disk: DiskReport,
}

/// See [`Message::StaleTerm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleTerm {
    /// The answering node's term, above that of the `Append`.
    pub term: Term,
}

/// See [`Message::PreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreVote {
    /// The term that the sender would campaign in: its own plus one.
    pub term: Term,
    /// The sender's last entry.
    pub last: EntryId,
}

/// See [`Message::PreVoteAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreVoteAnswer {
    /// If granted, the term that was asked for; else the answering node's own term.
    pub term: Term,
    /// Yes or no.
    pub granted: bool,
}

/// See [`Message::RequestVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVote {
    /// The candidate's term.
    pub term: Term,
    /// The candidate's last entry.
    pub last: EntryId,
    /// Set when a leader asked for this election (thesis 3.10): votes are not withheld. Always
    /// false in this version.
    pub transfer: bool,
}

/// See [`Message::VoteAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteAnswer {
    /// The answering node's term.
    pub term: Term,
    /// Yes or no.
    pub granted: bool,
}
