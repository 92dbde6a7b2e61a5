//! The log as memory knows it: all terms, the newest entries, and how far the disk has come.

use alloc::vec::Vec;

use wire::entry::Entry;
use wire::limits::APPEND_ENTRIES_MAX;
use wire::types::{EntryId, Index, Term};

use crate::cache::Cache;
use crate::event::{HardState, Ticket, Write};
use crate::journal::Journal;
use crate::terms::Terms;

/// Invariants, beside those of its parts:
/// - `cache` ends where `terms` ends, and agrees with it on every term;
/// - what is not durable is in `cache`.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    terms: Terms,
    cache: Cache,
    journal: Journal,
}

impl Log {
    /// The log found on disk: `tail` holds its newest entries.
    pub(crate) fn new(runs: Vec<EntryId>, last: EntryId, tail: Vec<Entry>) -> Self {
        let terms = Terms::new(runs, last.index);
        assert!(
            terms.last() == last,
            "the log ends at {}, not {last}",
            terms.last()
        );
        let first = tail.first().map_or(last.index.next(), Entry::index);
        let mut cache = Cache::new(first);
        for entry in tail {
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
        }
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

    /// Where the term at `index` begins; `None` outside the log.
    pub(crate) fn run_at(&self, index: Index) -> Option<EntryId> {
        self.terms.run_at(index)
    }

    /// The last index at or before `limit` whose term is at most `term`.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Index {
        self.terms.last_at_most(limit, term)
    }

    /// The identity of the entry at `index`, which is in the log or 0.
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
        self.cache.newest().map_or(0, Entry::wall_ms)
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
            reset: None,
            truncate_from: submission.truncate_from,
            entries,
            commit: commit.min(self.durable()),
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
            self.first_cached() <= self.durable().next(),
            "an entry left memory before it was durable"
        );
    }
}
