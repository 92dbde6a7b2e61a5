//! The gate: what a peer says is checked here before any rule looks at it. A wrong peer costs
//! itself the link; beyond the gate the code asserts.

use wire::error::Error;
use wire::limits::COUNTER_MAX;
use wire::peer::{Append, AppendConflict, AppendOk, InstallSnapshot, Message};
use wire::types::{EntryId, Index, Term};

/// Above this no term is believed: a node that adopted the last one could never campaign again.
pub(crate) const TERM_MAX: Term = Term(COUNTER_MAX);
/// Above this no index is believed, so that sums of indexes and lengths never overflow.
pub(crate) const INDEX_MAX: Index = Index(COUNTER_MAX);

type Check = Result<(), &'static str>;

/// What the link is closed with if a message fails a check.
pub(crate) fn malformed(reason: &'static str) -> Error {
    Error::Malformed {
        reason: reason.into(),
    }
}

/// Whether the message makes sense, whatever this node's state.
pub(crate) fn check(message: &Message) -> Check {
    check_that(message.term() <= Some(TERM_MAX), "the term is absurd")?;
    match message {
        Message::Append(m) => check_append(m),
        Message::AppendOk(m) => check_append_ok(m),
        Message::AppendConflict(m) => check_append_conflict(m),
        Message::PreVote(m) => check_ballot(m.term, m.last),
        Message::RequestVote(m) => check_ballot(m.term, m.last),
        Message::InstallSnapshot(m) => check_chunk(m),
        Message::SnapshotOk(m) => check_snapshot(m.term, m.snapshot),
        Message::TimeoutNow(m) => check_that(m.term > Term(0), "a leader of term 0"),
        Message::ReadIndex(m) => check_that(m.term > Term(0), "a leader of term 0"),
        Message::ReadIndexAnswer(m) => check_that(m.index <= INDEX_MAX, "an index is absurd"),
        Message::StaleTerm(_)
        | Message::PreVoteAnswer(_)
        | Message::VoteAnswer(_)
        | Message::Fetch(_)
        | Message::Fetched(_) => Ok(()),
    }
}

fn check_that(fact: bool, reason: &'static str) -> Check {
    if fact { Ok(()) } else { Err(reason) }
}

/// An entry's identity: 0@0, or neither is 0.
fn check_id(id: EntryId) -> Check {
    check_that(id.index <= INDEX_MAX, "an index is absurd")?;
    check_that(
        (id.index == Index(0)) == (id.term == Term(0)),
        "an entry has an index but no term, or a term but no index",
    )
}

fn check_ballot(term: Term, last: EntryId) -> Check {
    check_id(last)?;
    check_that(term > Term(0), "an election in term 0")?;
    check_that(last.term < term, "a candidate's log is of its own term")
}

/// Entries follow `prev` without gap, their terms never fall, none is of a later term.
fn check_append(m: &Append) -> Check {
    check_that(m.term > Term(0), "a leader of term 0")?;
    check_id(m.prev)?;
    check_that(m.commit <= INDEX_MAX, "the commit index is absurd")?;
    let mut before = m.prev;
    for entry in &m.entries {
        let id = entry.id();
        check_that(id.index == before.index.next(), "the entries have a gap")?;
        check_that(id.term >= before.term, "the terms of the entries fall")?;
        check_that(id.term > Term(0), "an entry of term 0")?;
        check_that(entry.membership().is_ok(), "a membership that cannot be")?;
        before = id;
    }
    check_that(before.index <= INDEX_MAX, "an index is absurd")?;
    check_that(before.term <= m.term, "an entry is newer than its leader")
}

fn check_append_ok(m: &AppendOk) -> Check {
    check_that(
        m.match_index <= m.received,
        "more is durable than was received",
    )
}

fn check_snapshot(term: Term, snapshot: EntryId) -> Check {
    check_id(snapshot)?;
    check_that(snapshot.index > Index(0), "a snapshot of nothing")?;
    check_that(snapshot.term <= term, "a snapshot is newer than its sender")
}

fn check_chunk(m: &InstallSnapshot) -> Check {
    check_that(m.term > Term(0), "a leader of term 0")?;
    check_snapshot(m.term, m.snapshot)?;
    let end = m.offset.checked_add(m.bytes.len() as u64);
    check_that(
        m.total_bytes > 0 && end.is_some_and(|end| end <= m.total_bytes),
        "a piece is outside of its snapshot",
    )
}

fn check_append_conflict(m: &AppendConflict) -> Check {
    check_id(m.prev)?;
    check_id(m.last)?;
    check_that(m.prev.index > Index(0), "a conflict before the log")?;
    match m.conflict {
        // The follower's log ends before `prev`.
        None => check_that(m.last.index < m.prev.index, "a conflict without reason"),
        Some(conflict) => {
            check_id(conflict)?;
            check_that(conflict.index > Index(0), "a conflict before the log")?;
            check_that(
                conflict.index <= m.prev.index,
                "a conflict begins after prev",
            )?;
            check_that(conflict.term != m.prev.term, "a conflict of equal terms")?;
            check_that(m.last.index >= m.prev.index, "a conflict past the end")
        }
    }
}
