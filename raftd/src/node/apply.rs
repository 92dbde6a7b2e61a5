//! From the commit index to the store, and from there to who is waiting.

use std::collections::VecDeque;
use std::time::Duration;

use log::Level;
use raft::Instant;
use wire::client::Reply;
use wire::command::Outcome;
use wire::entry::{Entry, EntryKind};
use wire::error::Error;
use wire::limits::ENTRY_KEYS_MAX;
use wire::types::Index;

use super::Node;
use super::admission::TURN_REPLY_BYTES_MAX;
use super::client::Caller;
use super::io::{Effects, LoadPurpose, StorageRequest};
use crate::store::Answer;

/// Bytes of entries applied in one turn, at most; one entry always fits.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Keys that the entries of one turn may touch, at most; one entry always fits (rules A7).
const TURN_KEYS_MAX: usize = ENTRY_KEYS_MAX;

/// Bytes of one read of the log.
const LOAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// After a read of the log that failed, the next try.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// Writes of this leader's clients that are not applied yet, by index.
///
/// Invariants: indexes ascend; each belongs to an entry that this node appended in the term that
/// it leads, or that was committed when it stopped leading.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    queue: VecDeque<(Index, Caller)>,
}

impl Proposals {
    /// A client's write was appended at `index`.
    pub(super) fn push(&mut self, index: Index, caller: Caller) {
        if let Some((last, _)) = self.queue.back() {
            assert!(*last < index, "proposals ascend");
        }
        self.queue.push_back((index, caller));
    }

    /// Whose write the entry at `index` is. Entries are asked for in order.
    fn take(&mut self, index: Index) -> Option<Caller> {
        let (first, caller) = *self.queue.front()?;
        assert!(first >= index, "a proposal was passed over");
        if first != index {
            return None;
        }
        self.queue.pop_front();
        Some(caller)
    }

    /// Takes out the oldest proposal if it is not after `index`.
    pub(super) fn take_upto(&mut self, index: Index) -> Option<Caller> {
        let (first, caller) = *self.queue.front()?;
        if first > index {
            return None;
        }
        self.queue.pop_front();
        Some(caller)
    }

    /// Takes out the newest proposal if it is after `committed`: its outcome is not known.
    pub(super) fn take_uncommitted(&mut self, committed: Index) -> Option<Caller> {
        let (index, caller) = *self.queue.back()?;
        if index <= committed {
            return None;
        }
        self.queue.pop_back();
        Some(caller)
    }
}

/// Committed entries that had left memory (after a restart), read back from the log.
///
/// Invariants: `loaded` is without gap and ends before what is asked for; at most one read is
/// under way, and one more only while less than one read's bytes wait.
#[derive(Debug, Default)]
pub(super) struct Loader {
    loaded: VecDeque<Entry>,
    bytes: usize,
    under_way: bool,
    pub(super) retry_at: Option<Instant>,
}

impl Loader {
    /// Bytes of what waits to be applied.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was loaded is not what comes next any more. A read that is under way is still answered.
    pub(super) fn forget(&mut self) {
        *self = Self {
            under_way: self.under_way,
            ..Self::default()
        };
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let first = self.loaded.front()?.index();
        let at = index.0.checked_sub(first.0)?;
        self.loaded.get(usize::try_from(at).ok()?)
    }

    /// Everything up to `index` is applied: it need not be held any more.
    pub(super) fn applied(&mut self, index: Index) {
        while self
            .loaded
            .front()
            .is_some_and(|entry| entry.index() <= index)
        {
            if let Some(entry) = self.loaded.pop_front() {
                self.bytes -= entry.bytes().len();
            }
        }
        if self.loaded.is_empty() {
            self.loaded = VecDeque::new();
        }
    }
}

impl Node {
    /// Applies what is committed, as much as a turn allows, and answers whose writes it was.
    /// Says whether more could be applied at once.
    pub(super) fn apply_committed(&mut self, effects: &mut Effects) -> bool {
        if self.raft.is_rebuilding() {
            return false;
        }
        let entries_max = self.config.limits.turn_entries_max;
        let (mut entries, mut bytes, mut keys) = (0, 0, 0);
        // However much the turn has answered before: the next may bring as much.
        let replies_end = effects.reply_bytes.len() + TURN_REPLY_BYTES_MAX;
        let mut is_over = false;
        while !self.store.has_applied(self.committed) {
            is_over = entries >= entries_max
                || bytes >= TURN_BYTES_MAX
                || keys >= TURN_KEYS_MAX
                || effects.reply_bytes.len() >= replies_end;
            if is_over {
                break;
            }
            let next = self.store.applied().index.next();
            let Some(entry) = self.raft.entry(next).or_else(|| self.loader.entry(next)) else {
                break;
            };
            entries += 1;
            bytes += entry.bytes().len();
            self.snapshots.applied(entry.bytes().len());
            let (id, kind) = (entry.id(), entry.kind());
            let applied = self.store.apply(entry);
            keys += applied.keys;
            let answer = applied.answer;
            if self.digests.is_due(next) {
                self.compare_state(next);
            }
            match kind {
                EntryKind::SnapshotAt => self.freeze(),
                EntryKind::Membership => self.members_applied(next, effects),
                EntryKind::Noop | EntryKind::Command => {}
            }
            if let Some(caller) = self.proposals.take(next) {
                let reply = match answer {
                    // Nobody is told what a wrong state made of it.
                    _ if self.condemned => Reply::Error(Error::OutcomeUnknown),
                    Answer::Written { id, outcome } => Reply::Written {
                        term: id.term,
                        index: id.index,
                        // Results that nobody reads would pile up without bound.
                        outcome: match self.clients.is_clogged(caller.connection) {
                            true => outcome.to_keep(),
                            false => outcome,
                        },
                    },
                    Answer::Refused(error) => Reply::Error(error),
                    Answer::Nothing => Reply::Written {
                        term: id.term,
                        index: id.index,
                        outcome: Outcome::Applied,
                    },
                };
                self.clients.answer(caller, &reply, effects);
            }
        }
        if entries > 0 {
            let applied = self.store.applied().index;
            self.raft.applied(applied);
            self.loader.applied(applied);
            self.reads.applied(applied);
        }
        self.load_ahead(effects);
        is_over
    }

    /// Asks the log for the next entries that are neither in memory nor on their way.
    fn load_ahead(&mut self, effects: &mut Effects) {
        let loader = &mut self.loader;
        if loader.under_way || loader.bytes >= LOAD_BYTES_MAX {
            return;
        }
        let last = match loader.loaded.back() {
            Some(entry) => entry.index(),
            None => self.store.applied().index,
        };
        let from = last.next();
        if from > self.committed || self.raft.entry(from).is_some() {
            loader.retry_at = None;
            return;
        }
        if loader.retry_at.is_some_and(|at| at > self.now.monotonic) {
            return;
        }
        loader.under_way = true;
        loader.retry_at = None;
        effects.storage.push(StorageRequest::Load {
            purpose: LoadPurpose::Apply,
            from,
            to: self.committed,
            max_bytes: LOAD_BYTES_MAX,
        });
    }

    /// The log was read for the store.
    pub(super) fn loaded(&mut self, from: Index, entries: Vec<Entry>) {
        let loader = &mut self.loader;
        loader.under_way = false;
        let last = match loader.loaded.back() {
            Some(entry) => entry.index(),
            None => self.store.applied().index,
        };
        if self.raft.is_rebuilding() || from != last.next() {
            // A snapshot has overtaken it, or the state is another one now.
            return;
        }
        if entries.is_empty() {
            loader.retry_at = Some(self.now.monotonic + LOAD_RETRY);
            if self.fetching.first() != Some(from) {
                let text = format!("log unreadable, entries cannot be applied index={from}");
                self.journal.line(Level::Error, text);
            }
            return;
        }
        for entry in entries {
            loader.bytes += entry.bytes().len();
            loader.loaded.push_back(entry);
        }
    }

    /// The state was replaced by that of a snapshot: what became of the writes up to there is not
    /// known here (rules C4).
    pub(super) fn abandon_proposals_upto(&mut self, index: Index, effects: &mut Effects) {
        while let Some(caller) = self.proposals.take_upto(index) {
            let reply = Reply::Error(Error::OutcomeUnknown);
            self.clients.answer(caller, &reply, effects);
        }
    }

    /// Leadership is lost: a write that is not known to be committed may or may not take effect
    /// (rules C4). What is committed is still answered when it is applied.
    pub(super) fn abandon_proposals(&mut self, effects: &mut Effects) {
        while let Some(caller) = self.proposals.take_uncommitted(self.committed) {
            let reply = Reply::Error(Error::OutcomeUnknown);
            self.clients.answer(caller, &reply, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::ConnectionId;
    use super::*;

    #[test]
    fn what_is_committed_is_not_abandoned() {
        let mut proposals = Proposals::default();
        let caller = |request_id| Caller {
            connection: ConnectionId(1),
            request_id,
        };
        for index in 4..=6 {
            proposals.push(Index(index), caller(index));
        }
        assert_eq!(proposals.take_uncommitted(Index(5)), Some(caller(6)));
        assert_eq!(proposals.take_uncommitted(Index(5)), None);
        assert_eq!(proposals.take(Index(3)), None);
        assert_eq!(proposals.take(Index(4)), Some(caller(4)));
        assert_eq!(proposals.take(Index(5)), Some(caller(5)));
        assert!(proposals.queue.is_empty());
    }
}
