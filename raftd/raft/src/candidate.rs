//! The two steps of an election: asking whether one would win (thesis 9.6), then for votes (3.4).

use alloc::vec::Vec;

use wire::leadership::HandOver;
use wire::peer::{Message, PreVote, RequestVote};
use wire::types::NodeId;

use crate::event::{Effect, Ticket};
use crate::quorum::Tally;
use crate::state::State;
use crate::time::Instant;

/// Asks in its current term about the next one; nothing changes by asking.
#[derive(Clone, Debug)]
pub(crate) struct PreCandidate {
    tally: Tally,
}

impl PreCandidate {
    /// Asks every peer (thesis 9.6).
    pub(crate) fn ask(state: &State, effects: &mut Vec<Effect>) -> Self {
        let request = PreVote {
            term: state.term().next(),
            last: state.log.last(),
        };
        for peer in state.other_voters() {
            state.send(peer, Message::PreVote(request), effects);
        }
        let mut tally = Tally::default();
        tally.count_own(state);
        Self { tally }
    }

    /// Counts an answer; true if a quorum would vote for this node.
    pub(crate) fn count(&mut self, state: &State, from: NodeId, granted: bool) -> bool {
        if let Some(place) = state.place(from) {
            self.tally.count(place, granted);
        }
        self.has_won(state)
    }

    /// Whether a quorum would vote for this node.
    pub(crate) fn has_won(&self, state: &State) -> bool {
        self.tally.won(state.voters())
    }
}

/// Asks for votes in a term of its own.
///
/// Invariants: its own vote counts once it is durable, and no quorum elects it before that, not
/// even one of the others (rules A2).
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    tally: Tally,
    /// The write of (term, own vote), until it is durable.
    own_vote: Option<Ticket>,
    /// The election is known to be lost.
    lost: bool,
}

impl Candidate {
    /// Asks every peer, once (term, own vote) is durable (thesis 3.4; rules A2); in a transfer of
    /// leadership, also those that hear the leader (3.10).
    pub(crate) fn ask(
        state: &State,
        transfer: Option<HandOver>,
        effects: &mut Vec<Effect>,
    ) -> Self {
        assert!(
            state.hard_state().vote == Some(state.config.id),
            "a candidate votes for itself"
        );
        let request = RequestVote {
            term: state.term(),
            last: state.log.last(),
            transfer,
        };
        for peer in state.other_voters() {
            state.send(peer, Message::RequestVote(request), effects);
        }
        Self {
            tally: Tally::default(),
            own_vote: Some(state.log.journal().hard_state_ticket()),
            lost: false,
        }
    }

    /// Hard states up to `ticket` are durable; true if that makes this node the leader.
    pub(crate) fn on_hard_state_durable(&mut self, state: &State, ticket: Ticket) -> bool {
        if self.own_vote.take_if(|own| ticket >= *own).is_some() {
            self.tally.count_own(state);
        }
        self.has_won(state)
    }

    /// Counts a vote; true if that makes this node the leader. An election that is known to be lost
    /// is tried again early in haste (rules B3): the suspect's answer will not come.
    pub(crate) fn count(
        &mut self,
        state: &mut State,
        now: Instant,
        from: NodeId,
        granted: bool,
    ) -> bool {
        if let Some(place) = state.place(from) {
            self.tally.count(place, granted);
        }
        let mut expected = self.tally;
        if let Some(suspect) = state.timer.suspect().and_then(|id| state.place(id)) {
            expected.count(suspect, false);
        }
        if !self.lost && expected.lost(state.voters()) {
            self.lost = true;
            state.timer.election_lost(now);
        }
        self.has_won(state)
    }

    fn has_won(&self, state: &State) -> bool {
        self.own_vote.is_none() && self.tally.won(state.voters())
    }
}
