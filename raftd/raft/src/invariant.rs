//! What must hold after every step: of a state by itself, and of a state after the one before it
//! (reliability invariants). Checked in debug builds and tests.

use wire::types::{EntryId, NodeId, Term};

use crate::event::HardState;
use crate::raft::Role;
use crate::state::State;

/// What the last check saw.
///
/// Invariants of a state: whoever campaigns would lead, and who leads is not lost and has a state
/// (rules D4, D5).
///
/// Invariants between two checks:
/// - term, base and commit index never fall;
/// - within a term the vote, once given, stays (thesis 3.4);
/// - whoever is lost gives none (rules D4);
/// - within a term the leader, once seen, stays the leader (Election Safety, 3.4);
/// - within a term a leader's log only grows (Leader Append-Only, 3.5);
/// - what is committed keeps its term (State Machine Safety, 3.6.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    hard_state: HardState,
    term_leader: Option<NodeId>,
    was_leading: bool,
    base: EntryId,
    last: EntryId,
    commit: EntryId,
}

impl Seen {
    pub(crate) fn new(state: &State, role: &Role) -> Self {
        Self {
            hard_state: state.hard_state(),
            term_leader: state.term_leader(),
            was_leading: matches!(role, Role::Leader(_)),
            base: state.log.base(),
            last: state.log.last(),
            commit: state.log.id_at(state.commit()),
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&mut self, state: &State, role: &Role) {
        check_state(state, role);
        let now = Self::new(state, role);
        self.check_delta(&now, state);
        *self = now;
    }

    fn check_delta(&self, now: &Self, state: &State) {
        let (before, after) = (self.hard_state, now.hard_state);
        assert!(
            after.term >= before.term,
            "the term fell from {}",
            before.term
        );
        assert!(
            now.base.index >= self.base.index,
            "the base fell from {}",
            self.base
        );
        assert!(
            now.commit.index >= self.commit.index,
            "commit fell from {}",
            self.commit
        );
        assert!(
            !state.log.contradicts(self.commit),
            "committed {} was replaced",
            self.commit
        );
        assert!(
            !(before.lost && after.lost) || [before.vote, None].contains(&after.vote),
            "a lost node votes in term {}",
            after.term
        );
        if after.term > before.term {
            return;
        }
        assert!(
            before.vote.is_none() || after.vote == before.vote,
            "the vote of term {} changed",
            after.term
        );
        assert!(
            self.term_leader.is_none() || self.term_leader == now.term_leader,
            "two leaders in term {}",
            after.term
        );
        if self.was_leading && now.was_leading {
            assert!(
                !state.log.contradicts(self.last),
                "the leader lost its own {}",
                self.last
            );
        }
    }
}

fn check_state(state: &State, role: &Role) {
    state.check();
    match role {
        Role::Leader(leader) => {
            leader.check(state);
            assert!(
                !state.is_lost() && !state.is_rebuilding(),
                "a leader that is not whole"
            );
        }
        Role::Follower(follower) => {
            if let Some(following) = &follower.following {
                assert!(
                    state.term_leader() == Some(following.leader),
                    "a follower of node {}, which does not lead the term",
                    following.leader
                );
                following.check(state);
            }
        }
        Role::PreCandidate(_) => {
            assert!(state.formed, "a campaign before the cluster was formed");
        }
        Role::Candidate(_) => {
            assert!(
                state.hard_state().vote == Some(state.config.id),
                "a candidate that did not vote for itself"
            );
            assert!(state.term() > Term(0), "a candidate of term 0");
        }
    }
    if matches!(role, Role::PreCandidate(_) | Role::Candidate(_)) {
        let health = state.health();
        assert!(
            !health.lost && !health.rebuilding && state.faulty.is_none(),
            "a campaign of a node that is not whole"
        );
    }
}
