//! The one honest thing in a hostile world: a disk that does what it was given, in order, when the
//! script says so, and forgets the rest when the node crashes.

use std::collections::VecDeque;

use bytes::BytesMut;
use raft::{HardState, Restored, Ticket, Write};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Index, NodeId, Term};

use super::script::Script;

/// Entries that a node has when it starts, at most.
const START_ENTRIES_MAX: usize = 12;

/// What is on it, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) log: Vec<Entry>,
    commit: Index,
    pending: VecDeque<Write>,
    issued: Ticket,
    durable: Ticket,
}

impl Disk {
    /// A log with a past: a few terms, a vote, a commit hint.
    pub(super) fn draw(script: &mut Script<'_>) -> Self {
        let mut term = script.below(4) as u64;
        let mut disk = Self::default();
        if term > 0 {
            for index in 1..=script.below(START_ENTRIES_MAX + 1) as u64 {
                let choice = script.byte();
                term += u64::from(choice % 4 == 3);
                disk.log.push(entry(term, index, usize::from(choice) * 2));
            }
        }
        disk.hard_state = HardState {
            term: Term(term + script.below(3) as u64),
            vote: None,
        };
        if disk.hard_state.term > Term(0) {
            disk.hard_state.vote = script.pick(&[None, Some(1), Some(2), Some(9)]).map(NodeId);
        }
        disk.commit = Index(script.below(disk.log.len() + 1) as u64);
        disk
    }

    /// What a node is told at its start: some of the newest entries are in memory.
    pub(super) fn restored(&self, tail: usize, formed: bool) -> Restored {
        let mut terms: Vec<EntryId> = self.log.iter().map(Entry::id).collect();
        terms.dedup_by_key(|id| id.term);
        let tail = tail.clamp(1, self.log.len().max(1));
        Restored {
            hard_state: self.hard_state,
            commit: self.commit,
            terms,
            last: self.log.last().map_or_else(EntryId::default, Entry::id),
            tail: self.log[self.log.len().saturating_sub(tail)..].to_vec(),
            formed,
            ..Restored::default()
        }
    }

    /// Takes a write, which must follow what was taken before.
    pub(super) fn submit(&mut self, write: Write) {
        assert_eq!(write.ticket.0, self.issued.0 + 1, "tickets are dense");
        assert!(
            write.truncate_from.is_none() || !write.entries.is_empty(),
            "a cut without replacement"
        );
        self.issued = write.ticket;
        self.pending.push_back(write);
    }

    pub(super) fn issued(&self) -> Ticket {
        self.issued
    }

    /// Does up to `count` writes and says what is durable then.
    pub(super) fn sync(&mut self, count: usize) -> Ticket {
        for _ in 0..count {
            let Some(write) = self.pending.pop_front() else {
                break;
            };
            self.durable = write.ticket;
            self.store(write);
        }
        self.durable
    }

    fn store(&mut self, write: Write) {
        let old = self.hard_state;
        let new = write.hard_state;
        assert!(
            new.term > old.term
                || (new.term == old.term && (old.vote.is_none() || new.vote == old.vote)),
            "hard state fell from {old:?} to {new:?}"
        );
        self.hard_state = new;
        if let Some(from) = write.truncate_from {
            assert!(from > self.commit, "{from} is cut and was committed");
            self.log
                .truncate(usize::try_from(from.0 - 1).expect("logs are short"));
        }
        for entry in write.entries {
            assert_eq!(entry.index().0, self.log.len() as u64 + 1, "a gap on disk");
            self.log.push(entry);
        }
        assert!(
            write.commit.0 <= self.log.len() as u64,
            "the hint is past the log"
        );
        assert!(write.commit >= self.commit, "the hint fell");
        self.commit = write.commit;
    }

    /// The process dies: of what was not done, some is done all the same.
    pub(super) fn crash(&mut self, done: usize) {
        self.sync(done);
        self.pending.clear();
        (self.issued, self.durable) = (Ticket(0), Ticket(0));
    }

    /// Entries from an index on, as a load would bring them.
    pub(super) fn load(&self, from: Index, count: usize) -> Vec<Entry> {
        let from = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let entries = self.log.iter().skip(from);
        entries.take(count).cloned().collect()
    }
}

/// An entry; without a body it is a no-op.
pub(super) fn entry(term: u64, index: u64, body_bytes: usize) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = match body_bytes {
        0 => EntryKind::Noop,
        _ => EntryKind::Command,
    };
    Entry::build(&mut BytesMut::new(), id, index, kind, &vec![7; body_bytes])
}
