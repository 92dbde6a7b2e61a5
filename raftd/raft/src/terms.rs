//! The term of every entry of the log, in memory for the whole log.

use alloc::vec::Vec;

use wire::types::{EntryId, Index, Term};

/// Where each term begins in the log. An election is rare, an entry is not: a few runs tell the
/// term of any number of entries, so that a conflict or a `prev` never needs the disk.
///
/// Invariants:
/// - runs ascend strictly both by index and by term; the first begins at index 1;
/// - the last run begins at or before `last`; without runs, `last` is 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    runs: Vec<EntryId>,
    last: Index,
}

impl Terms {
    pub(crate) fn new(runs: Vec<EntryId>, last: Index) -> Self {
        let terms = Self { runs, last };
        terms.check();
        terms
    }

    /// The last entry, or 0@0.
    pub(crate) fn last(&self) -> EntryId {
        EntryId {
            term: self.runs.last().map_or(Term(0), |run| run.term),
            index: self.last,
        }
    }

    /// The run that holds `index`; `None` outside the log.
    pub(crate) fn run_at(&self, index: Index) -> Option<EntryId> {
        if index == Index(0) || index > self.last {
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

    /// The term at `index`; 0 at index 0, where every log agrees; `None` past the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == Index(0) {
            return Some(Term(0));
        }
        self.run_at(index).map(|run| run.term)
    }

    /// The last index at or before `limit` whose term is at most `term`; 0 if there is none.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Index {
        let limit = limit.min(self.last);
        match self.runs.iter().find(|run| run.term > term) {
            Some(newer) => limit.min(newer.index.prev()),
            None => limit,
        }
    }

    /// One more entry.
    pub(crate) fn push(&mut self, id: EntryId) {
        let last = self.last();
        assert!(id.index == last.index.next(), "entry {id} after {last}");
        assert!(id.term >= last.term, "the term falls from {last} to {id}");
        if id.term > last.term {
            self.runs.push(id);
        }
        self.last = id.index;
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > Index(0), "index 0 is no entry");
        while self.runs.last().is_some_and(|run| run.index >= from) {
            self.runs.pop();
        }
        self.last = self.last.min(from.prev());
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
                assert!(first.index == Index(1), "the log begins at {first}");
                assert!(first.term > Term(0), "an entry of term 0");
                assert!(last.index <= self.last, "{last} is past the end");
            }
            _ => assert!(self.last == Index(0), "entries without a term"),
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
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u64..3).prop_map(|term_up| Step::Push { term_up: term_up.saturating_sub(1) }),
            1 => (0_usize..20).prop_map(|keep| Step::Truncate { keep }),
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
            for step in steps {
                match step {
                    Step::Push { term_up } => {
                        newest += term_up;
                        twin.push(Term(newest));
                        terms.push(EntryId { term: Term(newest), index: Index(twin.len() as u64) });
                    }
                    Step::Truncate { keep } => {
                        twin.truncate(keep);
                        terms.truncate(Index(keep as u64 + 1));
                    }
                }
                terms.check();
                prop_assert_eq!(terms.term_at(Index(0)), Some(Term(0)));
                for index in 1..=twin.len() + 2 {
                    let term = twin.get(index - 1).copied();
                    prop_assert_eq!(terms.term_at(Index(index as u64)), term);
                    let start = term.map(|t| EntryId {
                        term: t,
                        index: Index(twin.iter().position(|u| *u == t).expect("it is there") as u64 + 1),
                    });
                    prop_assert_eq!(terms.run_at(Index(index as u64)), start);
                    for term in 0..newest + 2 {
                        let most = (1..=index.min(twin.len()))
                            .rev()
                            .find(|i| twin[i - 1] <= Term(term))
                            .unwrap_or(0);
                        let found = terms.last_at_most(Index(index as u64), Term(term));
                        prop_assert_eq!(found, Index(most as u64));
                    }
                }
            }
        }
    }
}
