//! The log as memory knows it: all terms, the newest entries, and how far the disk has come.

use alloc::vec::Vec;

use wire::entry::Entry;
use wire::limits::APPEND_ENTRIES_MAX;
use wire::types::{EntryId, Index, Term};

use crate::cache::Cache;
use crate::event::{HardState, Restored, Ticket, Write};
use crate::journal::Journal;
use crate::terms::Terms;

/// Invariants, beside those of its parts:
/// - `cache` ends where `terms` ends, and agrees with it on every term;
/// - what is not durable is in `cache`;
/// - up to the base everything is committed and applied, and in a snapshot on disk; only between
///   a reset and its write's completion, `durable` is below it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    terms: Terms,
    cache: Cache,
    journal: Journal,
    /// No later entry's wall clock may undercut it: for a log whose newest entry is not in memory,
    /// because there is none behind the base, or because it is faulty.
    wall_ms_min: u64,
}

impl Log {
    /// The log found on disk.
    pub(crate) fn new(restored: Restored) -> Self {
        let last = restored.last;
        let terms = Terms::new(restored.base, restored.terms, last.index);
        assert!(
            terms.last() == last,
            "the log ends at {}, not {last}",
            terms.last()
        );
        let first = restored.tail.first();
        let mut cache = Cache::new(first.map_or(last.index.next(), Entry::index));
        for entry in restored.tail {
            assert!(
                terms.term_at(entry.index()) == Some(entry.term()),
                "the tail has {}, the log another term",
                entry.id()
            );
            cache.push(entry);
        }
        if let Some(newest) = cache.newest() {
            assert!(
                newest.id() == last,
                "the tail ends at {}, not {last}",
                newest.id()
            );
        }
        Self {
            terms,
            cache,
            journal: Journal::new(last.index),
            wall_ms_min: restored.wall_ms,
        }
    }

    /// The entry that the log begins behind; 0@0 if it is whole.
    pub(crate) fn base(&self) -> EntryId {
        self.terms.base()
    }

    pub(crate) fn last(&self) -> EntryId {
        self.terms.last()
    }

    pub(crate) fn durable(&self) -> Index {
        self.journal.durable()
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.term_at(index)
    }

    /// Whether the log has another entry in the place of this one, or ends before it. Below the
    /// base it is only known that terms never fall; what is there is committed, so that no leader's
    /// log has anything else.
    pub(crate) fn contradicts(&self, id: EntryId) -> bool {
        let base = self.base();
        if id.index < base.index {
            return id.term > base.term;
        }
        self.term_at(id.index) != Some(id.term)
    }

    /// Where the term at `index` begins behind the base; `None` outside the log.
    pub(crate) fn run_at(&self, index: Index) -> Option<EntryId> {
        self.terms.run_at(index)
    }

    /// The last index at or before `limit` whose term is at most `term`; of an answer below the
    /// base only that is known.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Index {
        self.terms.last_at_most(limit, term)
    }

    /// The identity of the entry at `index`, which is in the log or its base.
    pub(crate) fn id_at(&self, index: Index) -> EntryId {
        EntryId {
            term: self.term_at(index).expect("the index is in the log"),
            index,
        }
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.cache.get(index)
    }

    /// The first index that is in memory, or the next one.
    pub(crate) fn first_cached(&self) -> Index {
        self.cache.first()
    }

    /// The newest entry's wall clock, which no later entry may undercut.
    pub(crate) fn wall_ms(&self) -> u64 {
        let newest = self.cache.newest();
        newest.map_or(self.wall_ms_min, Entry::wall_ms)
    }

    /// An entry of this log, or the snapshot that it goes on behind, has this wall clock.
    pub(crate) fn note_wall_ms(&mut self, wall_ms: u64) {
        self.wall_ms_min = self.wall_ms_min.max(wall_ms);
    }

    /// Bytes of the entries in memory after `index`.
    pub(crate) fn bytes_after(&self, index: Index) -> usize {
        self.cache.bytes_after(index)
    }

    /// Entries from `from` on that fit into an `Append`, as clones that share their bytes; the
    /// first is taken even if it alone is over `bytes_max`. Empty if `from` is not in memory.
    pub(crate) fn batch(&self, from: Index, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let count = self
            .cache
            .from(from)
            .take(APPEND_ENTRIES_MAX)
            .enumerate()
            .take_while(|(place, entry)| {
                let sum = bytes + entry.bytes().len();
                let fits = *place == 0 || sum <= bytes_max;
                if fits {
                    bytes = sum;
                }
                fits
            })
            .count();
        let mut entries = Vec::with_capacity(count);
        entries.extend(self.cache.from(from).take(count).cloned());
        entries
    }

    /// Adds an entry at the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.terms.push(entry.id());
        self.cache.push(entry);
    }

    /// Removes the entries from `from` on, in memory; the next write removes them on disk and
    /// brings what replaces them (rules A6), which the caller pushes at once.
    pub(crate) fn truncate(&mut self, from: Index) {
        self.terms.truncate(from);
        self.cache.truncate(from);
        self.journal.truncate(from);
    }

    /// Forgets the entries up to `upto`, which are applied and durable. They may have left memory,
    /// but never all entries have while there are some: so the newest wall clock is known, unless
    /// that entry is faulty.
    pub(crate) fn compact(&mut self, upto: Index) {
        assert!(
            upto <= self.durable(),
            "{upto} is compacted, durable is {}",
            self.durable()
        );
        self.wall_ms_min = self.wall_ms();
        self.terms.compact(upto);
        self.cache.compact(upto);
    }

    /// Discards the log for a snapshot, which the next write makes its base. Up to `agreed` the
    /// old log is known to be a part of the snapshot.
    pub(crate) fn reset(&mut self, snapshot: EntryId, wall_ms: u64, agreed: Index) {
        self.terms = Terms::new(snapshot, Vec::new(), snapshot.index);
        self.cache = Cache::new(snapshot.index.next());
        self.journal.reset(snapshot, agreed);
        self.wall_ms_min = wall_ms;
    }

    /// Everything not yet submitted, as one write.
    pub(crate) fn take_write(&mut self, hard_state: HardState, commit: Index) -> Option<Write> {
        let last = self.last().index;
        let submission = self.journal.submit(last)?;
        let count = usize::try_from(last.0 + 1 - submission.first.0).unwrap_or(usize::MAX);
        let mut entries = Vec::with_capacity(count);
        entries.extend(self.cache.from(submission.first).cloned());
        assert!(
            entries.len() == count,
            "an entry left memory before it was written"
        );
        Some(Write {
            ticket: submission.ticket,
            hard_state,
            reset: submission.reset,
            truncate_from: submission.truncate_from,
            entries,
            // Whatever brings the base to disk came before this write, or is this write.
            commit: commit.min(self.durable().max(self.base().index)),
        })
    }

    /// Every write up to `ticket` is on disk.
    pub(crate) fn complete(&mut self, ticket: Ticket) {
        self.journal.complete(ticket);
    }

    /// Lets entries leave memory that are durable and applied.
    pub(crate) fn evict(&mut self, cache_bytes: usize, applied: Index) {
        self.cache.evict(cache_bytes, applied.min(self.durable()));
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self) {
        self.terms.check();
        self.journal.check();
        if let Some(newest) = self.cache.newest() {
            assert!(newest.id() == self.last(), "memory ends at {}", newest.id());
        }
        assert!(
            self.first_cached() <= self.durable().max(self.base().index).next(),
            "an entry left memory before it was durable"
        );
        assert!(
            self.first_cached() > self.base().index,
            "memory holds what the log does not"
        );
    }
}
