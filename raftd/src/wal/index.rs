//! Where entries are: sparse, so that memory stays small, and exact about cut suffixes.

use wire::types::{EntryId, Index, Term};

use super::format::{BatchHeader, BatchKind};

/// Bytes of a segment between two remembered positions, at least: 32 bytes of memory each.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

/// A batch and the first index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) first: Index,
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Between the position before and this one the log was cut, or a batch is damaged.
    pub(super) after_break: bool,
}

/// A place where the log may begin when what is before it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Border {
    /// All segments before this one may go.
    segment: u64,
    /// The log then begins behind this entry.
    base: EntryId,
}

/// The shape of the log on disk.
///
/// Invariants:
/// - The log holds the entries behind `base`, up to `last`; `base.index <= last.index`.
/// - `positions` ascends strictly, by index and by place; the first is at the log's first entry, or
///   before it.
/// - Between a position and the next one that is `after_break` batches follow each other and none
///   cuts the log: walking
///   forward from the one, each entry before the other is the one that is met first.
/// - `terms` holds the first entry of each term behind `base`, ascending by term and index; the
///   first of them is the log's first entry.
/// - `last` is the last entry; its term is that of the last of `terms`, or of `base`.
/// - `borders` ascends by segment, strictly, and by index. Each is the last entry before its
///   segment, which is still in the log, or not behind `base`: no later batch cuts at or below it.
///   So who begins to read with that segment finds this log from there on.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    base: EntryId,
    positions: Vec<Position>,
    terms: Vec<EntryId>,
    last: EntryId,
    broken_since_position: bool,
    borders: Vec<Border>,
}

impl LogIndex {
    /// A log without entries that begins behind `base`.
    pub(super) fn new(base: EntryId) -> Self {
        Self {
            base,
            last: base,
            ..Self::default()
        }
    }

    /// The log begins behind this entry.
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry of the log; `base` if it has none.
    pub(super) fn last(&self) -> EntryId {
        self.last
    }

    /// The first entry of each term.
    pub(super) fn terms(&self) -> &[EntryId] {
        &self.terms
    }

    /// The term of the last entry before `index`; 0 if that is before `base`.
    pub(super) fn term_before(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|id| id.index < index);
        match after.checked_sub(1) {
            Some(place) => self.terms[place].term,
            None if index > self.base.index => self.base.term,
            None => Term(0),
        }
    }

    /// Whether `id` is not other than what the log holds at its index, or held there once.
    pub(super) fn agrees_with(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_before(id.index.next()) == id.term
    }

    /// The log now holds what this batch says.
    ///
    /// Who reads a log whose front is half removed may find that the first batches replace entries
    /// before `base`. The log then begins behind the first of these that is there: what is before
    /// it has no name any more, and a snapshot covers more than both.
    pub(super) fn accept(
        &mut self,
        segment: u64,
        header: &BatchHeader,
        mut terms: impl Iterator<Item = Term>,
    ) {
        assert_eq!(header.previous.last, self.last, "a batch follows the log");
        match header.kind {
            BatchKind::Open => self.borders.push(Border {
                segment,
                base: self.last,
            }),
            BatchKind::Anew => {
                self.borders.push(Border {
                    segment,
                    base: header.snapshot,
                });
                return self.reset(segment, header.snapshot);
            }
            BatchKind::Reset => return self.reset(segment, header.snapshot),
            BatchKind::Append | BatchKind::Seal => {}
        }
        let first = header.first_index;
        let replaces_base = first <= self.base.index;
        if first <= self.last.index {
            self.cut(first);
        }
        if header.entries == 0 {
            assert!(!replaces_base, "a cut brings its replacement");
            return;
        }
        self.remember(Position {
            first,
            segment,
            offset: header.offset,
            after_break: self.broken_since_position,
        });
        if replaces_base && let Some(term) = terms.next() {
            self.base = EntryId { term, index: first };
            self.last = self.base;
        }
        for term in terms {
            let index = self.last.index.next();
            if self.terms.last().is_none_or(|id| id.term != term) {
                self.terms.push(EntryId { term, index });
            }
            self.last = EntryId { term, index };
        }
    }

    fn cut(&mut self, from: Index) {
        while self.positions.pop_if(|p| p.first >= from).is_some() {}
        while self.terms.pop_if(|id| id.index >= from).is_some() {}
        while self.borders.pop_if(|b| b.base.index >= from).is_some() {}
        self.broken_since_position = true;
        self.last = EntryId {
            term: self.terms.last().unwrap_or(&self.base).term,
            index: from.prev(),
        };
    }

    /// Batches that held no entries cannot be read: no walk goes past them.
    pub(super) fn skip(&mut self) {
        self.broken_since_position = true;
    }

    /// Everything is gone; the log goes on behind `base`, in `segment`.
    fn reset(&mut self, segment: u64, base: EntryId) {
        // A reader who begins with this very segment finds its batches before the reset, which
        // are a log as long as none of them cuts below the segment's beginning.
        self.borders.retain(|border| border.segment == segment);
        for border in &mut self.borders {
            border.base = base;
        }
        self.positions.clear();
        self.terms.clear();
        self.broken_since_position = false;
        self.base = base;
        self.last = base;
    }

    /// The first segment that is needed when no entry up to `upto` is, but for those in the last
    /// `kept` segments before; drops what is before it. `None`: nothing can go.
    pub(super) fn compact(&mut self, upto: Index, kept: usize) -> Option<u64> {
        let after = self.borders.partition_point(|b| b.base.index <= upto);
        let first = after.checked_sub(1)?.saturating_sub(kept);
        let border = self.borders[first];
        self.borders.drain(..first);
        // Asked after every batch: it must cost nothing while nothing goes.
        let gone = self
            .positions
            .partition_point(|p| p.segment < border.segment);
        self.positions.drain(..gone);
        if border.base.index > self.base.index {
            self.begin_behind(border.base);
        }
        Some(border.segment)
    }

    /// Forgets the entries up to `upto`, which the log holds: they cannot be read, and nobody needs
    /// them. Their segments stay as long as others need them.
    pub(super) fn forget(&mut self, upto: Index) {
        assert!(
            (self.base.index..=self.last.index).contains(&upto),
            "only what is in the log is forgotten"
        );
        let first = self.positions.partition_point(|p| p.first <= upto.next());
        self.positions.drain(..first.saturating_sub(1));
        self.begin_behind(EntryId {
            term: self.term_before(upto.next()),
            index: upto,
        });
    }

    fn begin_behind(&mut self, base: EntryId) {
        let run = self
            .terms
            .partition_point(|id| id.index <= base.index.next());
        if let Some(place) = run.checked_sub(1) {
            self.terms.drain(..place);
            let first = &mut self.terms[0];
            first.index = first.index.max(base.index.next());
        }
        if base.index == self.last.index {
            self.terms.clear();
        }
        self.base = base;
    }

    /// The last index before the next one behind `index` whose place is remembered; `end` if none is.
    pub(super) fn next_known(&self, index: Index, end: Index) -> Index {
        let after = self.positions.partition_point(|p| p.first <= index);
        self.positions.get(after).map_or(end, |p| p.first.prev())
    }

    /// The last index before the segments behind that of `position`.
    pub(super) fn last_before(&self, position: Position) -> Index {
        let behind = self.positions.iter().rev();
        let behind = behind.take_while(|p| p.segment > position.segment).last();
        behind.map_or(self.last.index, |p| p.first.prev())
    }

    fn remember(&mut self, position: Position) {
        let near = self.positions.last().is_some_and(|last| {
            last.segment == position.segment && position.offset - last.offset < STEP_BYTES
        });
        if !near || self.broken_since_position {
            self.positions.push(position);
            self.broken_since_position = false;
        }
    }

    /// Where to start walking for `index`, and the last index that this walk may give: it stays in
    /// its segment and stops before a cut.
    pub(super) fn find(&self, index: Index) -> Option<(Position, Index)> {
        if index <= self.base.index || index > self.last.index {
            return None;
        }
        let after = self.positions.partition_point(|p| p.first <= index);
        let (known, behind) = self.positions.split_at(after);
        let start = *known.last()?;
        let stop = behind
            .iter()
            .find(|p| p.after_break || p.segment != start.segment);
        let end = stop.map_or(self.last.index, |p| p.first.prev());
        Some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use raft::HardState;

    use super::*;
    use crate::wal::format::{ALIGN_BYTES, Chain};

    /// A log of term 1 with batches of one entry, so many in each segment.
    fn of_batches(segments: u64, batches: u64) -> LogIndex {
        let mut index = LogIndex::default();
        let mut number = 0;
        for segment in 1..=segments {
            for place in 1..=batches {
                number += 1;
                let previous = Chain {
                    number: number - 1,
                    header_crc: 0,
                    last: index.last(),
                };
                let header = BatchHeader {
                    kind: match place {
                        1 => BatchKind::Open,
                        _ => BatchKind::Append,
                    },
                    offset: place * ALIGN_BYTES,
                    number,
                    previous,
                    hard_state: HardState::default(),
                    first_index: Index(number),
                    entries: 1,
                    payload_bytes: 0,
                    commit: Index(0),
                    snapshot: EntryId::default(),
                };
                index.accept(segment, &header, iter::once(Term(1)));
            }
        }
        index
    }

    #[test]
    fn of_many_small_batches_few_are_remembered() {
        const BATCHES: u64 = 1_000;
        let index = of_batches(1, BATCHES);
        let steps = BATCHES * ALIGN_BYTES / STEP_BYTES;
        assert_eq!(index.positions.len() as u64, steps + 1);
    }

    #[test]
    fn of_segments_that_are_gone_nothing_is_remembered() {
        let mut index = of_batches(100, 3);
        assert_eq!(index.compact(Index(290), 0), Some(97));
        let first = index.positions.first().expect("the log has entries");
        assert_eq!((first.segment, index.positions.len()), (97, 4));
        assert_eq!(index.borders.len(), 4);
    }
}
