//! The term of every entry behind the base, in memory for the whole log.

use alloc::vec::Vec;

use wire::types::{EntryId, Index, Term};

/// Where each term begins in the log. An election is rare, an entry is not: a few runs tell the
/// term of any number of entries, so that a conflict or a `prev` never needs the disk.
///
/// Invariants:
/// - runs ascend strictly both by index and by term; the first begins right behind `base`, in its
///   term or a later one;
/// - the last run begins at or before `last`; without runs, `last` is that of `base`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    base: EntryId,
    runs: Vec<EntryId>,
    last: Index,
}

impl Terms {
    pub(crate) fn new(base: EntryId, runs: Vec<EntryId>, last: Index) -> Self {
        let terms = Self { base, runs, last };
        terms.check();
        terms
    }

    /// The entry that the log begins behind.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> EntryId {
        EntryId {
            term: self.runs.last().map_or(self.base.term, |run| run.term),
            index: self.last,
        }
    }

    /// The run that holds `index`, as far as it is behind the base; `None` outside the log.
    pub(crate) fn run_at(&self, index: Index) -> Option<EntryId> {
        if index <= self.base.index || index > self.last {
            return None;
        }
        // Nearly every question is about the newest term.
        let newest = self.runs.last().copied()?;
        if index >= newest.index {
            return Some(newest);
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[after - 1])
    }

    /// The term at `index`, which may be the base's; `None` below it and past the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.run_at(index).map(|run| run.term)
    }

    /// The last index at or before `limit` whose term is at most `term`. An answer below the base,
    /// where terms are forgotten, says only that it is no higher.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Index {
        let limit = limit.min(self.last);
        let newer = [self.base].into_iter().chain(self.runs.iter().copied());
        match newer.into_iter().find(|run| run.term > term) {
            Some(newer) => limit.min(newer.index.prev()),
            None => limit,
        }
    }

    /// One more entry.
    pub(crate) fn push(&mut self, id: EntryId) {
        let last = self.last();
        assert!(id.index == last.index.next(), "entry {id} after {last}");
        assert!(id.term >= last.term, "the term falls from {last} to {id}");
        if self.runs.last().is_none_or(|run| run.term < id.term) {
            self.runs.push(id);
        }
        self.last = id.index;
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.base.index, "{from} is not behind {}", self.base);
        while self.runs.last().is_some_and(|run| run.index >= from) {
            self.runs.pop();
        }
        self.last = self.last.min(from.prev());
    }

    /// Forgets the entries up to `upto`, which is in the log.
    pub(crate) fn compact(&mut self, upto: Index) {
        let term = self.term_at(upto).expect("the index is in the log");
        self.base = EntryId { term, index: upto };
        let begun = self.runs.partition_point(|run| run.index <= upto);
        self.runs.drain(..begun);
        // The newest run that had begun may go on behind the new base.
        let first = upto.next();
        if first <= self.last && self.runs.first().is_none_or(|run| run.index > first) {
            self.runs.insert(0, EntryId { term, index: first });
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self) {
        assert!(
            self.runs
                .windows(2)
                .all(|pair| pair[0].index < pair[1].index && pair[0].term < pair[1].term),
            "runs do not ascend: {:?}",
            self.runs
        );
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => {
                let base = self.base;
                assert!(
                    first.index == base.index.next(),
                    "the log begins at {first}, not behind {base}"
                );
                assert!(first.term >= base.term, "the term falls behind {base}");
                assert!(first.term > Term(0), "an entry of term 0");
                assert!(last.index <= self.last, "{last} is past the end");
            }
            _ => assert!(self.last == self.base.index, "entries without a term"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push { term_up: u64 },
        Truncate { keep: usize },
        Compact { upto: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u64..3).prop_map(|term_up| Step::Push { term_up: term_up.saturating_sub(1) }),
            1 => (0_usize..20).prop_map(|keep| Step::Truncate { keep }),
            1 => (0_usize..20).prop_map(|upto| Step::Compact { upto }),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// The dumb twin is a plain list with one term per entry.
        #[test]
        fn runs_agree_with_a_plain_list(steps in steps()) {
            let mut twin: Vec<Term> = Vec::new();
            let mut terms = Terms::default();
            let mut newest = 1;
            let mut base = 0;
            for step in steps {
                match step {
                    Step::Push { term_up } => {
                        newest += term_up;
                        twin.push(Term(newest));
                        terms.push(EntryId { term: Term(newest), index: Index(twin.len() as u64) });
                    }
                    Step::Compact { upto } => {
                        base = upto.min(twin.len()).max(base);
                        terms.compact(Index(base as u64));
                    }
                    Step::Truncate { keep } => {
                        let keep = keep.max(base);
                        twin.truncate(keep);
                        terms.truncate(Index(keep as u64 + 1));
                    }
                }
                terms.check();
                let base_term = base.checked_sub(1).map_or(Term(0), |place| twin[place]);
                let base_id = EntryId { term: base_term, index: Index(base as u64) };
                prop_assert_eq!(terms.base(), base_id);
                let last_term = twin.last().copied().unwrap_or(Term(0));
                let last = EntryId { term: last_term, index: Index(twin.len() as u64) };
                prop_assert_eq!(terms.last(), last);
                for index in 0..=twin.len() + 2 {
                    let known = index.checked_sub(1).map_or(Some(Term(0)), |i| twin.get(i).copied());
                    let term = known.filter(|_| index >= base);
                    prop_assert_eq!(terms.term_at(Index(index as u64)), term);
                    let start = term.filter(|_| index > base).map(|t| {
                        let begun = twin.iter().position(|u| *u == t).expect("it is there");
                        EntryId { term: t, index: Index(begun.max(base) as u64 + 1) }
                    });
                    prop_assert_eq!(terms.run_at(Index(index as u64)), start);
                    for term in 0..newest + 2 {
                        let most = (1..=index.min(twin.len()))
                            .rev()
                            .find(|i| twin[i - 1] <= Term(term))
                            .unwrap_or(0);
                        let found = terms.last_at_most(Index(index as u64), Term(term));
                        if most >= base {
                            prop_assert_eq!(found, Index(most as u64));
                        } else {
                            let bound = Index(most as u64)..Index(base as u64);
                            prop_assert!(bound.contains(&found));
                        }
                    }
                }
            }
        }
    }
}
