//! Elections: who asks, who answers, who wins (thesis 3.4, 3.6.1, 4.2.3, 9.6).

use alloc::vec::Vec;

use wire::leadership::HandOver;
use wire::peer::{Message, PreVote, PreVoteAnswer, RequestVote, VoteAnswer};
use wire::types::{NodeId, Term};

use crate::candidate::{Candidate, PreCandidate};
use crate::event::Effect;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::raft::{Raft, Role};
use crate::time::Instant;

impl Raft {
    /// Whether this node hears a leader, or is one: then elections would only disturb it
    /// (thesis 4.2.3), and their term is not taken over (rules B2).
    fn withholds(&self, now: Instant) -> bool {
        let patience = self.state.config.election_timeout_min;
        match &self.role {
            Role::Follower(Follower {
                following: Some(following),
            }) => now.since(following.heard) < patience,
            Role::Leader(_) => true,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    pub(crate) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        m: PreVote,
        effects: &mut Vec<Effect>,
    ) {
        let granted = !self.withholds(now)
            && !self.state.stalled
            && !self.state.is_lost()
            && m.term > self.state.term()
            && self.state.is_up_to_date(m.last);
        let term = if granted { m.term } else { self.state.term() };
        if granted {
            self.state.timer.yield_to_other(now);
        }
        let answer = Message::PreVoteAnswer(PreVoteAnswer { term, granted });
        self.state.send(from, answer, effects);
    }

    pub(crate) fn on_request_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        m: RequestVote,
        effects: &mut Vec<Effect>,
    ) {
        let withheld = self.withholds(now) && m.transfer.is_none();
        if !withheld && m.term > self.state.term() {
            self.adopt(now, m.term);
        }
        let granted = !withheld
            && !self.state.is_lost()
            && m.term == self.state.term()
            && self.state.is_up_to_date(m.last)
            && self.state.vote_for(from);
        if granted {
            self.state.timer.calm(now);
        }
        let answer = VoteAnswer {
            term: self.state.term(),
            granted,
        };
        self.state.send(from, Message::VoteAnswer(answer), effects);
    }

    pub(crate) fn on_pre_vote_answer(
        &mut self,
        now: Instant,
        from: NodeId,
        m: PreVoteAnswer,
        effects: &mut Vec<Effect>,
    ) {
        let term = self.state.term();
        if let Role::PreCandidate(candidate) = &mut self.role {
            if !m.granted && m.term > term {
                self.adopt(now, m.term);
                return;
            }
            // A yes names the term that was asked for; one to an older question does not count.
            let is_stale = m.granted && m.term != term.next();
            if !is_stale && candidate.count(&self.state, from, m.granted) {
                self.campaign(now, None, effects);
            }
        }
    }

    pub(crate) fn on_vote_answer(&mut self, now: Instant, from: NodeId, m: VoteAnswer) {
        let term = self.state.term();
        if let Role::Candidate(candidate) = &mut self.role {
            if m.term > term {
                self.adopt(now, m.term);
            } else if m.term == term && candidate.count(&mut self.state, now, from, m.granted) {
                self.become_leader(now);
            }
        }
    }

    /// Takes over a later term, as a follower of nobody (thesis 3.3).
    pub(crate) fn adopt(&mut self, now: Instant, term: Term) {
        self.state.enter_term(term, None);
        self.become_follower(now, Follower::default());
    }

    pub(crate) fn become_follower(&mut self, now: Instant, follower: Follower) {
        if matches!(self.role, Role::Leader(_)) {
            self.state.timer.calm(now);
        }
        self.role = Role::Follower(follower);
    }

    /// Asks whether an election would be won (thesis 9.6), unless this node would not lead.
    pub(crate) fn pre_campaign(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.state.timer.repeat(now);
        if !self.state.may_campaign() {
            self.become_follower(now, Follower::default());
            return;
        }
        let candidate = PreCandidate::ask(&self.state, effects);
        let has_won = candidate.has_won(&self.state);
        self.role = Role::PreCandidate(candidate);
        if has_won {
            self.campaign(now, None, effects);
        }
    }

    /// The leader asks this node to take its office over (thesis 3.10): the others need not be asked
    /// whether they would miss it, unless this node would not lead.
    pub(crate) fn campaign_now(&mut self, now: Instant, why: HandOver, effects: &mut Vec<Effect>) {
        if self.state.may_campaign() {
            self.campaign(now, Some(why), effects);
        }
    }

    /// Campaigns in the next term (thesis 3.4), after a PreVote or by the leader's wish.
    fn campaign(&mut self, now: Instant, transfer: Option<HandOver>, effects: &mut Vec<Effect>) {
        let is_asked_for = match &self.role {
            Role::PreCandidate(_) => transfer.is_none(),
            Role::Follower(follower) => transfer.is_some() && follower.following.is_some(),
            Role::Candidate(_) | Role::Leader(_) => false,
        };
        assert!(is_asked_for, "an election that nobody wants");
        let (term, own) = (self.state.term().next(), self.state.config.id);
        self.state.enter_term(term, Some(own));
        self.state.timer.rest(now);
        self.role = Role::Candidate(Candidate::ask(&self.state, transfer, effects));
    }

    /// A quorum voted for this node (thesis 3.4).
    pub(crate) fn become_leader(&mut self, now: Instant) {
        assert!(
            matches!(self.role, Role::Candidate(_)),
            "a leader that was no candidate"
        );
        self.role = Role::Leader(Leader::new(&mut self.state, now));
    }
}
