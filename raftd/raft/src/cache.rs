//! The newest entries, in memory.

use alloc::collections::VecDeque;

use wire::entry::Entry;
use wire::types::Index;

/// An entry and where it ends in the stream of all entries that this cache ever held.
#[derive(Clone, Debug)]
struct Slot {
    entry: Entry,
    end: u64,
}

/// A tail of the log. Bytes between any two entries are told in O(1) from running sums.
///
/// Invariants:
/// - slots are without gap, the first at `first`; `first` is the next index if there are none;
/// - `end` ascends; `start` is where the first slot begins.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    slots: VecDeque<Slot>,
    first: Index,
    start: u64,
}

impl Cache {
    /// An empty cache that waits for the entry at `first`.
    pub(crate) fn new(first: Index) -> Self {
        Self {
            slots: VecDeque::new(),
            first,
            start: 0,
        }
    }

    /// The first index in memory, or the next one if there is none.
    pub(crate) fn first(&self) -> Index {
        self.first
    }

    fn place(&self, index: Index) -> Option<usize> {
        let place = usize::try_from(index.0.checked_sub(self.first.0)?).ok()?;
        (place < self.slots.len()).then_some(place)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        self.place(index).map(|place| &self.slots[place].entry)
    }

    pub(crate) fn newest(&self) -> Option<&Entry> {
        self.slots.back().map(|slot| &slot.entry)
    }

    /// The entries from `index` on; none if it is not in memory.
    pub(crate) fn from(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let place = self.place(index).unwrap_or(self.slots.len());
        self.slots.range(place..).map(|slot| &slot.entry)
    }

    /// Bytes of the entries in memory after `index`, which is not past the newest.
    pub(crate) fn bytes_after(&self, index: Index) -> usize {
        let total = self.slots.back().map_or(self.start, |slot| slot.end);
        let until = self
            .place(index)
            .map_or(self.start, |place| self.slots[place].end);
        usize::try_from(total - until).unwrap_or(usize::MAX)
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let next = Index(self.first.0 + self.slots.len() as u64);
        assert!(entry.index() == next, "{} at {next}", entry.id());
        let begin = self.slots.back().map_or(self.start, |slot| slot.end);
        let end = begin + entry.bytes().len() as u64;
        self.slots.push_back(Slot { entry, end });
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        if from < self.first {
            self.slots.clear();
            self.first = from;
            return;
        }
        let keep = usize::try_from(from.0 - self.first.0).unwrap_or(usize::MAX);
        self.slots.truncate(keep);
    }

    /// Forgets the entries up to `upto`.
    pub(crate) fn compact(&mut self, upto: Index) {
        while self.first <= upto && self.pop_oldest() {}
        self.first = self.first.max(upto.next());
    }

    /// Forgets the oldest entries until at most `bytes_max` are held, but none after `limit`,
    /// nor the newest: its wall clock is needed for the next.
    pub(crate) fn evict(&mut self, bytes_max: usize, limit: Index) {
        while self.slots.len() > 1 && self.first <= limit && self.bytes_after(Index(0)) > bytes_max
        {
            self.pop_oldest();
        }
    }

    /// Whether there was one.
    fn pop_oldest(&mut self) -> bool {
        let oldest = self.slots.pop_front();
        if let Some(slot) = &oldest {
            self.start = slot.end;
            self.first = self.first.next();
        }
        oldest.is_some()
    }
}
