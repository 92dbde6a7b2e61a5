//! Where entries are: sparse, so that memory stays small, and exact about cut suffixes.

use wire::types::{EntryId, Index, Term};

use super::format::BatchHeader;

/// Bytes of a segment between two remembered positions, at least: 32 bytes of memory each.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

/// A batch and the first index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) first: Index,
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// The log was cut between the position before and this one.
    pub(super) after_cut: bool,
}

/// The shape of the log on disk.
///
/// Invariants:
/// - `positions` ascends strictly, by index and by place; the first is at the log's first entry.
/// - Between a position and the next one that is `after_cut` no batch cuts the log: walking
///   forward from the one, each entry before the other is the one that is met first.
/// - `terms` holds the first entry of each term, ascending by term and index.
/// - `last` is the last entry; its term is that of the last of `terms`.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    positions: Vec<Position>,
    terms: Vec<EntryId>,
    last: EntryId,
    cut_since_position: bool,
}

impl LogIndex {
    /// The last entry of the log.
    pub(super) fn last(&self) -> EntryId {
        self.last
    }

    /// The first entry of each term.
    pub(super) fn terms(&self) -> &[EntryId] {
        &self.terms
    }

    /// The term of the last entry before `index`; 0 if there is none.
    pub(super) fn term_before(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|id| id.index < index);
        let before = after.checked_sub(1).map(|place| self.terms[place].term);
        before.unwrap_or_default()
    }

    /// The log now holds what this batch says.
    pub(super) fn accept(
        &mut self,
        segment: u64,
        header: &BatchHeader,
        terms: impl Iterator<Item = Term>,
    ) {
        assert_eq!(header.previous.last, self.last, "a batch follows the log");
        if header.first_index <= self.last.index {
            self.cut(header.first_index);
        }
        if header.entries == 0 {
            return;
        }
        self.remember(Position {
            first: header.first_index,
            segment,
            offset: header.offset,
            after_cut: self.cut_since_position,
        });
        for term in terms {
            let index = self.last.index.next();
            if term != self.last.term {
                self.terms.push(EntryId { term, index });
            }
            self.last = EntryId { term, index };
        }
    }

    fn cut(&mut self, from: Index) {
        while self.positions.pop_if(|p| p.first >= from).is_some() {}
        while self.terms.pop_if(|id| id.index >= from).is_some() {}
        self.cut_since_position = true;
        self.last = EntryId {
            term: self.terms.last().map_or(Term(0), |id| id.term),
            index: from.prev(),
        };
    }

    fn remember(&mut self, position: Position) {
        let near = self.positions.last().is_some_and(|last| {
            last.segment == position.segment && position.offset - last.offset < STEP_BYTES
        });
        if !near || self.cut_since_position {
            self.positions.push(position);
            self.cut_since_position = false;
        }
    }

    /// Where to start walking for `index`, and the last index that this walk may give: it stays in
    /// its segment and stops before a cut.
    pub(super) fn find(&self, index: Index) -> Option<(Position, Index)> {
        if index > self.last.index {
            return None;
        }
        let after = self.positions.partition_point(|p| p.first <= index);
        let (known, behind) = self.positions.split_at(after);
        let start = *known.last()?;
        let stop = behind
            .iter()
            .find(|p| p.after_cut || p.segment != start.segment);
        let end = stop.map_or(self.last.index, |p| p.first.prev());
        Some((start, end))
    }
}
