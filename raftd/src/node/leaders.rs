//! Who has led, and why somebody else came after: for those who look after the cluster.

use std::collections::VecDeque;

use raft::{Instant, RoleChange, RoleName};
use wire::client::{LeaderChange, Reply};
use wire::leadership::{Cause, HandOver};
use wire::limits::LEADER_CHANGES_MAX;
use wire::membership::Suffrage;
use wire::peer::Message;

use super::Node;
use super::client::Caller;
use super::io::Effects;

/// The leaders that this node has known in this life.
///
/// Invariants: at most [`LEADER_CHANGES_MAX`], the newest; their terms ascend.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    changes: VecDeque<LeaderChange>,
    /// Why the last reign ended, as long as nobody is known to lead since.
    ended: Option<(Cause, Instant)>,
    /// What this very step means for the reign, if it ends it.
    sign: Option<Cause>,
    /// On a leader: why it is handing over, as long as it is.
    pub(super) handing_over: Option<HandOver>,
}

impl Leaders {
    /// Takes a sign that explains the end of the reign, if this step brings it.
    pub(super) fn expect(&mut self, sign: Option<Cause>) {
        self.sign = sign;
    }

    /// Remembers it, unless the leader is the same as before: it was only not heard for a while.
    fn push(&mut self, change: LeaderChange) {
        if let Some(last) = self.changes.back() {
            assert!(last.term <= change.term, "a reign of the past begins");
            if last.term == change.term {
                return;
            }
        }
        if self.changes.len() == LEADER_CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// All that is remembered, oldest first.
    pub(super) fn all(&self) -> Vec<LeaderChange> {
        self.changes.iter().copied().collect()
    }

    /// Why the reign ends that this change of role ends; whether this node still votes.
    fn cause(&self, before: RoleChange, change: RoleChange, votes: bool) -> Cause {
        let led = before.role == RoleName::Leader;
        let same_term = before.term == change.term;
        match (self.handing_over, self.sign) {
            (Some(why), _) if led && !same_term => Cause::HandedOver(why),
            (_, Some(sign)) => sign,
            (_, None) if led && same_term && !votes => Cause::HandedOver(HandOver::Leaving),
            (_, None) if led && same_term => Cause::NoQuorum,
            (_, None) if change.role == RoleName::PreCandidate => Cause::Silence,
            (_, None) => Cause::Elected,
        }
    }
}

/// What a message says of the leader that its receiver knows, should that one lead no more after it.
pub(super) fn sign_of(message: &Message) -> Option<Cause> {
    match message {
        Message::TimeoutNow(m) => Some(Cause::HandedOver(m.why)),
        Message::RequestVote(m) => m.transfer.map(Cause::HandedOver),
        _ => None,
    }
}

impl Node {
    /// A client wants to know who leads, and when that changes (rules B5).
    pub(super) fn admit_watch(&mut self, caller: Caller, effects: &mut Effects) {
        self.clients.watch(caller.connection);
        let news = self.news();
        self.clients.answer(caller, &news, effects);
    }

    /// Tells those who watch that there is a leader.
    pub(super) fn tell_news(&self, effects: &mut Effects) {
        self.clients.tell(&self.news(), effects);
    }

    fn news(&self) -> Reply<'static> {
        let leader = self.raft.leader().map(|leader| self.hint(leader));
        let term = self.raft.term();
        Reply::Moved { term, leader }
    }

    /// Remembers a change of leaders. Says why the last reign ended, if one did.
    pub(super) fn note_leader(&mut self, before: RoleChange, change: RoleChange) -> Option<Cause> {
        let now = self.now;
        let suffrage = self.raft.membership().suffrage(self.config.id);
        let votes = suffrage.is_some_and(Suffrage::votes);
        let leaders = &mut self.leaders;
        let ended = before.leader.is_some()
            && (change.leader != before.leader || change.term != before.term);
        if ended {
            let cause = leaders.cause(before, change, votes);
            leaders.ended = Some((cause, now.monotonic));
            leaders.handing_over = None;
        }
        let told = leaders.ended.map(|(cause, _)| cause);
        if let Some(leader) = change.leader
            && (ended || before.leader.is_none())
        {
            let start = (Cause::Start, self.started);
            let (cause, since) = leaders.ended.take().unwrap_or(start);
            let without_ms = now.monotonic.since(since).as_millis();
            leaders.push(LeaderChange {
                term: change.term,
                leader,
                wall_ms: now.wall_ms,
                without_ms: u64::try_from(without_ms).unwrap_or(u64::MAX),
                cause,
            });
        }
        told.filter(|_| ended)
    }
}
