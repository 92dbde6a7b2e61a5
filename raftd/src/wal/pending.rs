//! Writes that wait, and the batch that the next sync will cover.

use std::collections::VecDeque;

use raft::{HardState, Ticket, Write};
use wire::entry::Entry;
use wire::types::{EntryId, Index};

use super::format::batch_bytes;

/// What the segment still takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of a batch with entries.
    pub(super) ordinary_bytes: u64,
    /// Bytes of a batch without entries.
    pub(super) hard_state_bytes: u64,
}

/// Writes in the order of their tickets.
///
/// Invariants:
/// - an entry is in exactly one of: a waiting write, the draft, the log;
/// - a write that resets the log is the first that waits: what it overtook is void;
/// - along the writes terms never fall, and within a term a vote that is given stays.
#[derive(Debug, Default)]
pub struct Pending {
    writes: VecDeque<Write>,
}

/// The content of one batch. Its buffer is reused from batch to batch.
///
/// Invariants: `entries` are contiguous from `first_index` on; a cut of the log, if there is one,
/// comes before all of them; a draft that resets the log has none.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) first_index: Index,
    pub(super) entries: Vec<Entry>,
    pub(super) payload_bytes: usize,
    pub(super) hard_state: HardState,
    pub(super) commit: Index,
    pub(super) snapshot: EntryId,
    /// The log is replaced by `snapshot`.
    pub(super) resets: bool,
    /// The newest write that is whole in this batch or before it.
    pub(super) ticket: Option<Ticket>,
}

impl Draft {
    /// An empty batch at the end of the log.
    pub(super) fn clear(
        &mut self,
        next: Index,
        hard_state: HardState,
        commit: Index,
        snapshot: EntryId,
    ) {
        self.first_index = next;
        self.entries.clear();
        self.payload_bytes = 0;
        self.hard_state = hard_state;
        self.commit = commit;
        self.snapshot = snapshot;
        self.resets = false;
        self.ticket = None;
    }

    /// The batch replaces the log by this snapshot.
    fn reset(&mut self, snapshot: EntryId) {
        let newer = snapshot.index > self.snapshot.index || snapshot == self.snapshot;
        assert!(
            newer && snapshot.index >= self.commit,
            "what is committed is never reset: {snapshot} replaces {}",
            self.commit
        );
        self.first_index = snapshot.index.next();
        self.commit = snapshot.index;
        self.snapshot = snapshot;
        self.resets = true;
    }

    fn next(&self) -> Index {
        Index(self.first_index.0 + self.entries.len() as u64)
    }

    /// How many of these entries fit as well.
    fn fitting(&self, entries: &[Entry], room_bytes: u64) -> usize {
        let mut payload_bytes = self.payload_bytes;
        let fits = |(n, entry): &(usize, &Entry)| {
            payload_bytes += entry.bytes().len();
            batch_bytes(self.entries.len() + n + 1, payload_bytes) <= room_bytes
        };
        entries.iter().enumerate().take_while(fits).count()
    }
}

impl Pending {
    /// Adds a write. One that resets the log makes void what waits before it: it is dropped, and
    /// its tickets complete with this one's. So a full disk, which has no room for those entries,
    /// still takes the snapshot that stands for them.
    ///
    /// # Panics
    /// If its ticket is not above the last waiting one: a bug of the caller.
    pub fn push(&mut self, write: Write) {
        let newest = self.writes.back().map(|write| write.ticket);
        assert!(newest < Some(write.ticket), "tickets ascend");
        if write.reset.is_some() {
            self.writes.clear();
        }
        self.writes.push_back(write);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of the entry that is next to be written, if the next write has one.
    pub(super) fn next_entry_bytes(&self) -> Option<usize> {
        let entry = self.writes.front()?.entries.first()?;
        Some(entry.bytes().len())
    }

    /// Whether the next write replaces the log.
    pub(super) fn resets(&self) -> bool {
        let next = self.writes.front();
        next.is_some_and(|write| write.reset.is_some())
    }

    /// Moves as much as one batch takes into the draft, which is clear. False: nothing fits.
    ///
    /// A batch ends before a write that cuts into what the draft already holds: a cut is always
    /// the first thing of its batch. A write larger than a batch is split; its ticket counts with
    /// the last part. A cut and the first entries that replace what it removed share a batch, so
    /// no crash can leave the one without the other (rules A6). A reset is a batch by itself: its
    /// entries follow in the next one.
    pub(super) fn fill(&mut self, draft: &mut Draft, room: Room) -> bool {
        if batch_bytes(0, 0) > room.hard_state_bytes {
            return false;
        }
        if self.resets() {
            self.fill_reset(draft);
            return true;
        }
        let mut filled = false;
        while let Some(write) = self.writes.front_mut() {
            let cut = write.truncate_from.unwrap_or(draft.next());
            if cut < draft.next() && !draft.entries.is_empty() {
                break;
            }
            let count = draft.fitting(&write.entries, room.ordinary_bytes);
            if count == 0 && !write.entries.is_empty() {
                break;
            }
            assert!(cut <= draft.next(), "a write leaves no gap in the log");
            if cut < draft.next() {
                assert!(count > 0, "a cut brings its replacement");
                let kept = draft.commit.max(draft.snapshot.index);
                assert!(cut > kept, "what is committed is never cut");
                draft.first_index = cut;
            }
            write.truncate_from = None;
            for entry in write.entries.drain(..count) {
                assert_eq!(entry.index(), draft.next(), "entries have no gap");
                draft.payload_bytes += entry.bytes().len();
                draft.entries.push(entry);
            }
            draft.hard_state = write.hard_state;
            draft.commit = draft.commit.max(write.commit.min(draft.next().prev()));
            filled = true;
            if !write.entries.is_empty() {
                break;
            }
            draft.ticket = Some(write.ticket);
            self.writes.pop_front();
        }
        filled
    }

    /// Gives the draft, which is clear, the newest term and vote that wait, and no entries. False:
    /// they are durable.
    ///
    /// That they overtake entries which have no room is sound:
    /// - such a batch says nothing of those entries; they follow it, in their order, with a term
    ///   and vote that are as new, so that neither ever falls on disk;
    /// - no ticket completes by it: what counts entries as durable (rules A1, A3, A4) learns
    ///   nothing, and only what waits for term and vote (rules A2) goes on;
    /// - a crash leaves a later term with a shorter log, as one before the entries were written
    ///   would: nothing that is not durable was ever acknowledged. What this node campaigned and
    ///   voted with was its log in memory, which is that of its life (rules A3).
    pub(super) fn overtake(&mut self, draft: &mut Draft) -> bool {
        let Some(newest) = self.writes.back().map(|write| write.hard_state) else {
            return false;
        };
        if newest == draft.hard_state {
            return false;
        }
        draft.hard_state = newest;
        for write in &mut self.writes {
            write.hard_state = newest;
        }
        true
    }

    /// The newest waiting write with this hard state, which is durable. No write before it has a
    /// newer one.
    #[must_use]
    pub fn newest_of(&self, hard_state: HardState) -> Option<Ticket> {
        let mut writes = self.writes.iter().rev();
        let newest = writes.find(|write| write.hard_state == hard_state)?;
        Some(newest.ticket)
    }

    /// Moves the reset that comes next into the draft, and no entries.
    fn fill_reset(&mut self, draft: &mut Draft) {
        let write = self.writes.front_mut().expect("the caller saw a write");
        let snapshot = write.reset.take().expect("the caller saw a reset");
        let nothing_cut = write.truncate_from.is_none();
        assert!(nothing_cut, "a reset leaves nothing to cut");
        draft.reset(snapshot);
        draft.hard_state = write.hard_state;
        if write.entries.is_empty() {
            draft.ticket = Some(write.ticket);
            self.writes.pop_front();
        }
    }
}
