//! The disk of one simulated node.

use std::collections::VecDeque;

use raft::{HardState, Instant, Restored, Ticket};
use raftd::node::io::{StorageEvent, StorageRequest};
use wire::entry::Entry;
use wire::peer::{DiskState, Message};
use wire::types::{EntryId, Incarnation, Index, NodeId};

/// What survives a crash, and what does not.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) incarnation: Incarnation,
    pub(super) formed: Vec<(NodeId, Incarnation)>,
    pub(super) hard_state: HardState,
    pub(super) log: Vec<Entry>,
    pub(super) commit: Index,
    pub(super) state: DiskState,
    /// The newest finished write of this life.
    pub(super) durable: Ticket,
    pub(super) pending: VecDeque<StorageRequest>,
    /// When all that is pending is done; `None` if nothing is, or while the disk hangs.
    pub(super) busy_until: Option<Instant>,
    pub(super) hangs: bool,
    pub(super) fails_loads: bool,
}

impl Disk {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            formed: Vec::new(),
            hard_state: HardState::default(),
            log: Vec::new(),
            commit: Index(0),
            state: DiskState::Ok,
            durable: Ticket::default(),
            pending: VecDeque::new(),
            busy_until: None,
            hangs: false,
            fails_loads: false,
        }
    }

    /// Does what was asked and says what is reported of it.
    pub(super) fn finish(&mut self, request: StorageRequest) -> StorageEvent {
        match request {
            StorageRequest::Write(write) => {
                self.durable = write.ticket;
                self.write(write);
                self.durable_event()
            }
            StorageRequest::Load {
                purpose,
                from,
                to,
                max_bytes,
            } => StorageEvent::Loaded {
                purpose,
                from,
                entries: match self.fails_loads {
                    true => Vec::new(),
                    false => self.load(from, to, max_bytes),
                },
            },
            StorageRequest::Form(record) => {
                self.formed = record;
                StorageEvent::Formed
            }
            StorageRequest::Mark(snapshot) => StorageEvent::Marked(snapshot),
            StorageRequest::Compact(_) => unreachable!("nothing is compacted here"),
        }
    }

    pub(super) fn durable_event(&self) -> StorageEvent {
        StorageEvent::Durable {
            ticket: self.durable,
            wal_bytes: self
                .log
                .iter()
                .map(|entry| entry.bytes().len() as u64)
                .sum(),
            disk: self.state,
        }
    }

    /// Whether this very entry is on the disk.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let at = usize::try_from(entry.index().0 - 1).unwrap();
        self.log.get(at) == Some(entry)
    }

    /// What a message reveals must be on the disk before it leaves (rules A2, A3).
    pub(super) fn check_revealed(&self, to: NodeId, message: &Message) {
        let reveals = match message {
            Message::PreVote(_) => false,
            Message::PreVoteAnswer(answer) => !answer.granted,
            _ => true,
        };
        let durable = self.hard_state;
        assert!(
            !reveals || message.term() <= durable.term,
            "{message:?} before {durable:?}"
        );
        match message {
            Message::AppendOk(answer) => {
                assert!(
                    answer.match_index.0 <= self.log.len() as u64,
                    "{answer:?} too early"
                );
            }
            Message::VoteAnswer(answer) if answer.granted && answer.term == durable.term => {
                assert_eq!(durable.vote, Some(to), "a vote before its record");
            }
            Message::RequestVote(request) if request.term == durable.term => {
                assert!(durable.vote.is_some(), "a campaign before its vote");
            }
            _ => {}
        }
    }

    fn write(&mut self, write: raft::Write) {
        assert!(
            write.hard_state.term >= self.hard_state.term,
            "terms on disk never fall"
        );
        if write.hard_state.term == self.hard_state.term && self.hard_state.vote.is_some() {
            assert_eq!(
                write.hard_state.vote, self.hard_state.vote,
                "one vote per term"
            );
        }
        self.hard_state = write.hard_state;
        if let Some(from) = write.truncate_from {
            assert!(from > self.commit, "nothing committed is cut off");
            self.log.truncate(usize::try_from(from.0 - 1).unwrap());
        }
        for entry in write.entries {
            assert_eq!(entry.index().0, self.log.len() as u64 + 1, "no gap on disk");
            self.log.push(entry);
        }
        self.commit = self
            .commit
            .max(write.commit.min(Index(self.log.len() as u64)));
    }

    fn load(&self, from: Index, to: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let entries = self
            .log
            .iter()
            .filter(|entry| (from..=to).contains(&entry.index()));
        entries
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes().len();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    pub(super) fn restore(&self, tail_entries: usize) -> Restored {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.log {
            if terms.last().is_none_or(|last| last.term < entry.term()) {
                terms.push(entry.id());
            }
        }
        Restored {
            hard_state: self.hard_state,
            commit: self.commit,
            terms,
            last: self.log.last().map(Entry::id).unwrap_or_default(),
            tail: self.log[self.log.len().saturating_sub(tail_entries.max(1))..].to_vec(),
            formed: !self.formed.is_empty(),
            ..Restored::default()
        }
    }
}
