//! Terms, votes and leaders, over all lives of all members (thesis 3.4; rules A2).

use std::collections::BTreeMap;

use raft::HardState;
use wire::types::{NodeId, Term};

/// Who led, and who voted for whom.
///
/// Invariants looked after:
/// - at most one leader per term (Election Safety), with durable votes of a quorum;
/// - a member gives at most one vote per term, over all its lives and disks;
/// - its durable term never falls, and within a term its vote stays.
#[derive(Debug, Default)]
pub(super) struct Elections {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    durable: BTreeMap<NodeId, HardState>,
}

impl Elections {
    /// `node` leads, or speaks as the leader of, this term.
    ///
    /// # Errors
    /// Another node does.
    pub(super) fn leads(&mut self, term: Term, node: NodeId) -> Result<(), String> {
        let known = *self.leaders.entry(term).or_insert(node);
        if known != node {
            return Err(format!("{known} and {node} both lead term {term}"));
        }
        Ok(())
    }

    /// Who leads a term, if it was seen.
    #[must_use]
    pub(super) fn leader(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// `node` gives its vote, to a candidate or to itself.
    ///
    /// # Errors
    /// It gave it to another before.
    pub(super) fn votes(&mut self, node: NodeId, term: Term, vote: NodeId) -> Result<(), String> {
        let known = *self.votes.entry((node, term)).or_insert(vote);
        if known != vote {
            return Err(format!(
                "{node} votes in term {term} for {known} and for {vote}"
            ));
        }
        Ok(())
    }

    /// Whom `node` gave its vote in a term, if anybody.
    #[must_use]
    pub(super) fn vote(&self, node: NodeId, term: Term) -> Option<NodeId> {
        self.votes.get(&(node, term)).copied()
    }

    /// This became durable on `node`'s disk.
    ///
    /// # Errors
    /// It contradicts what was durable before.
    pub(super) fn durable(&mut self, node: NodeId, new: HardState) -> Result<(), String> {
        let old = self.durable.entry(node).or_default();
        let falls = new.term < old.term;
        let changes = new.term == old.term && old.vote.is_some() && new.vote != old.vote;
        if falls || changes {
            return Err(format!(
                "the hard state of {node} goes from {old:?} to {new:?}"
            ));
        }
        *old = new;
        match new.vote {
            Some(vote) => self.votes(node, new.term, vote),
            None => Ok(()),
        }
    }

    /// `node` got another disk, empty: it is as new, but the votes that it gave stay given.
    pub(super) fn new_disk(&mut self, node: NodeId) {
        self.durable.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard_state(term: u64, vote: Option<u64>) -> HardState {
        HardState {
            term: Term(term),
            vote: vote.map(NodeId),
            lost: false,
        }
    }

    #[test]
    fn a_term_has_one_leader() {
        let mut elections = Elections::default();
        elections.leads(Term(3), NodeId(1)).unwrap();
        elections.leads(Term(3), NodeId(1)).unwrap();
        elections.leads(Term(4), NodeId(2)).unwrap();
        assert!(elections.leads(Term(3), NodeId(2)).is_err());
        assert_eq!(elections.leader(Term(4)), Some(NodeId(2)));
    }

    #[test]
    fn a_vote_is_given_once_also_with_another_disk() {
        let mut elections = Elections::default();
        elections
            .durable(NodeId(1), hard_state(3, Some(2)))
            .unwrap();
        assert!(elections.votes(NodeId(1), Term(3), NodeId(3)).is_err());
        elections.new_disk(NodeId(1));
        elections.durable(NodeId(1), hard_state(1, None)).unwrap();
        let other = elections.durable(NodeId(1), hard_state(3, Some(3)));
        assert!(other.is_err());
    }

    #[test]
    fn what_is_durable_does_not_change() {
        for (old, new) in [
            (hard_state(3, None), hard_state(2, None)),
            (hard_state(3, Some(1)), hard_state(3, Some(2))),
            (hard_state(3, Some(1)), hard_state(3, None)),
        ] {
            let mut elections = Elections::default();
            elections.durable(NodeId(1), old).unwrap();
            assert!(
                elections.durable(NodeId(1), new).is_err(),
                "{old:?} {new:?}"
            );
        }
        let mut elections = Elections::default();
        for (term, vote) in [(1, None), (1, Some(2)), (2, None), (4, Some(1))] {
            elections
                .durable(NodeId(1), hard_state(term, vote))
                .unwrap();
        }
    }
}
