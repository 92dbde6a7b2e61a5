//! The logs: what was ever written, and what of it is committed (thesis 3.5, 3.6).

use std::collections::BTreeMap;

use wire::entry::Entry;
use wire::types::{EntryId, Index, Term};

use crate::sim::audit::Held;

/// Every entry that was ever handed to a disk, by what names it for ever.
///
/// Invariants looked after, which together are Log Matching (thesis 3.5):
/// - one (term, index) is one entry, byte for byte;
/// - it follows the same entry everywhere;
/// - its term is not below that of the one before it.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Of each term, the index of its first entry seen, and the entries from there on.
    terms: BTreeMap<Term, (Index, Vec<Option<Known>>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    crc: u32,
    before: Term,
}

impl Written {
    /// A member hands this entry to its disk, behind one of the term `before`. Says whether it is
    /// the first to do so.
    ///
    /// # Errors
    /// It is not what others have under its name.
    pub(super) fn written(
        &mut self,
        before: Term,
        index: Index,
        held: Held,
    ) -> Result<bool, String> {
        let new = Known {
            crc: held.crc,
            before,
        };
        let id = EntryId {
            term: held.term,
            index,
        };
        if before > held.term {
            return Err(format!("{id} follows an entry of term {before}"));
        }
        let (first, entries) = self
            .terms
            .entry(held.term)
            .or_insert_with(|| (index, Vec::new()));
        if index < *first {
            let more = (first.0 - index.0) as usize;
            entries.splice(..0, std::iter::repeat_n(None, more));
            *first = index;
        }
        let place = (index.0 - first.0) as usize;
        if entries.len() <= place {
            entries.resize(place + 1, None);
        }
        match entries[place].replace(new) {
            None => Ok(true),
            Some(known) if known == new => Ok(false),
            Some(known) => Err(format!("there are two entries {id}: {known:?} and {new:?}")),
        }
    }

    /// Whether somebody handed this entry to a disk.
    #[must_use]
    pub(super) fn knows(&self, before: Term, index: Index, held: Held) -> bool {
        let known = self.terms.get(&held.term).and_then(|(first, entries)| {
            let place = index.0.checked_sub(first.0)?;
            *entries.get(usize::try_from(place).ok()?)?
        });
        known
            == Some(Known {
                crc: held.crc,
                before,
            })
    }
}

/// The committed log, as all members together know it.
///
/// Invariant looked after: what is committed never changes (State Machine Safety, thesis 3.6.3).
#[derive(Debug, Default)]
pub(super) struct Committed {
    entries: Vec<Entry>,
    /// The terms that committed them, as it was first seen; they never fall.
    by: Vec<Term>,
}

impl Committed {
    /// The entries, from index 1 on.
    #[must_use]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last index.
    #[must_use]
    pub(super) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The entry at `index`.
    #[must_use]
    pub(super) fn at(&self, index: Index) -> Option<&Entry> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.entries.get(place)
    }

    /// What tells the entry at `index` from others.
    #[must_use]
    pub(super) fn held(&self, index: Index) -> Option<Held> {
        self.at(index).map(held)
    }

    /// What tells apart the entries up to this one; none if it is none.
    ///
    /// # Errors
    /// It was not committed.
    pub(super) fn upto(&self, id: EntryId) -> Result<Vec<Held>, String> {
        let at = self.held(id.index).map(|held| held.term);
        if id != EntryId::default() && at != Some(id.term) {
            return Err(format!(
                "there is a snapshot of {id}, where {at:?} is committed"
            ));
        }
        Ok(self.entries[..id.index.0 as usize]
            .iter()
            .map(held)
            .collect())
    }

    /// The last index that a term before this one has committed.
    #[must_use]
    pub(super) fn last_before(&self, term: Term) -> Index {
        Index(self.by.partition_point(|by| *by < term) as u64)
    }

    /// The next entry is known to be committed, first of all by a member in the term `by`.
    ///
    /// # Errors
    /// It does not follow the last.
    pub(super) fn push(&mut self, entry: Entry, by: Term) -> Result<(), String> {
        let (id, last) = (entry.id(), self.entries.last());
        let follows = id.index == self.last().next()
            && last.is_none_or(|last| {
                last.term() <= entry.term() && last.wall_ms() <= entry.wall_ms()
            });
        if !follows {
            return Err(format!(
                "{id} at {} ms is committed behind {last:?} at {:?} ms",
                entry.wall_ms(),
                last.map(Entry::wall_ms)
            ));
        }
        let latest = self.by.last().copied().unwrap_or_default();
        self.by.push(by.max(latest));
        self.entries.push(entry);
        Ok(())
    }

    /// Somebody else holds this at `index` and believes it committed.
    ///
    /// # Errors
    /// It is another entry.
    pub(super) fn check(&self, index: Index, other: Held) -> Result<(), String> {
        match self.held(index) {
            Some(known) if known != other => Err(format!(
                "two entries are committed at {index}: {known:?} and {other:?}"
            )),
            _ => Ok(()),
        }
    }
}

/// What tells an entry from others.
#[must_use]
pub(super) fn held(entry: &Entry) -> Held {
    Held {
        term: entry.term(),
        crc: entry.crc(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use wire::entry::EntryKind;

    use super::*;

    fn of(term: u64, crc: u32) -> Held {
        Held {
            term: Term(term),
            crc,
        }
    }

    fn noop(term: u64, index: u64, wall_ms: u64) -> Entry {
        let id = EntryId {
            term: Term(term),
            index: Index(index),
        };
        Entry::build(&mut BytesMut::new(), id, wall_ms, EntryKind::Noop, &[])
    }

    #[test]
    fn a_name_is_one_entry_in_one_place() {
        let mut written = Written::default();
        for (before, index, entry) in [
            (2, 7, of(2, 70)),
            (1, 6, of(2, 60)),
            (2, 9, of(2, 90)),
            (2, 7, of(2, 70)),
        ] {
            written.written(Term(before), Index(index), entry).unwrap();
        }
        assert!(written.knows(Term(1), Index(6), of(2, 60)));
        assert!(!written.knows(Term(2), Index(8), of(2, 80)));
        assert!(!written.knows(Term(1), Index(5), of(1, 50)));
        assert!(!written.knows(Term(2), Index(7), of(2, 71)));
        for (before, index, entry) in [
            // Other bytes; another predecessor; a term that falls.
            (2, 7, of(2, 71)),
            (1, 7, of(2, 70)),
            (3, 10, of(2, 100)),
        ] {
            let wrong = written.written(Term(before), Index(index), entry);
            assert!(wrong.is_err(), "{before} {index}");
        }
    }

    #[test]
    fn what_is_committed_does_not_change() {
        let mut committed = Committed::default();
        committed.push(noop(1, 1, 5), Term(1)).unwrap();
        committed.push(noop(2, 2, 5), Term(3)).unwrap();
        let before = |term| committed.last_before(Term(term)).0;
        assert_eq!([1, 2, 3, 4].map(before), [0, 1, 1, 2]);
        let second = committed.held(Index(2)).unwrap();
        committed.check(Index(2), second).unwrap();
        committed.check(Index(3), of(9, 9)).unwrap();
        assert!(committed.check(Index(1), second).is_err());
        for wrong in [noop(2, 2, 5), noop(2, 4, 5), noop(1, 3, 5), noop(2, 3, 4)] {
            assert!(committed.push(wrong, Term(9)).is_err());
        }
    }
}
