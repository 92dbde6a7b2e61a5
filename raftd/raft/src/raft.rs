//! The state machine: inputs are checked, terms compared, and the rest is the role's.

use alloc::format;
use alloc::vec::Vec;

use wire::entry::{Entry, EntryKind};
use wire::error::Error;
use wire::membership::Membership;
use wire::peer::{DiskReport, Message, ReadIndexAnswer, StaleTerm};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::candidate::{Candidate, PreCandidate};
use crate::event::{
    CannotPropose, Config, Effect, HardState, Input, NotLeader, ReadTicket, Restored, RoleChange,
    RoleName, Ticket,
};
use crate::follower::{Follower, Following};
use crate::gate;
use crate::invariant::Seen;
use crate::leader::Leader;
use crate::state::State;
use crate::time::Instant;

/// What a node is at the moment. A role's data is nowhere else.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// One node's part in the algorithm.
///
/// Invariants: those of `State`, of the role, and those of `invariant.rs` that bind a state to
/// the one before it.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(crate) state: State,
    pub(crate) role: Role,
    told_role: RoleChange,
    told_commit: Index,
    /// The membership that was told last, and since which entry it is in force.
    told_membership: (EntryId, Membership),
    seen: Seen,
}

impl Raft {
    /// A node as it was when its log was last durable. Everything in the log counts as durable.
    ///
    /// # Panics
    /// If `config` or `restored` contradicts itself: both come from this node's own code.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Instant) -> Self {
        let state = State::new(config, restored, now);
        let role = Role::Follower(Follower::default());
        let told_role = RoleChange {
            role: RoleName::Follower,
            term: state.term(),
            leader: None,
        };
        let seen = Seen::new(&state, &role);
        Self {
            told_membership: state.memberships.newest().clone(),
            state,
            role,
            told_role,
            told_commit: Index(0),
            seen,
        }
    }

    /// Takes one input. Effects are appended.
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.on_tick(now, effects),
            Input::Receive { from, message } => self.on_receive(now, from, message, effects),
            Input::Durable(ticket) => self.on_durable(now, ticket),
            Input::HardStateDurable(ticket) => self.on_hard_state_durable(now, ticket),
            Input::Loaded { to, entries } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_loaded(&self.state, to, entries);
                }
            }
            Input::LeaderLinkClosed => self.on_leader_link_closed(now),
            Input::Formed => self.on_formed(now),
        }
        self.end(effects);
    }

    /// Ends a turn: at most one `Write`, and one `Append` per follower and window, for all that
    /// the turn's steps, proposals and reads brought. The first one also tells the restored
    /// commit index.
    pub fn flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.conclude(&mut self.state, now, effects);
        }
        if let Some(write) = self.state.take_write() {
            effects.push(Effect::Write(write));
        }
        if self.state.commit() > self.told_commit {
            self.told_commit = self.state.commit();
            effects.push(Effect::Commit(self.told_commit));
        }
        match &mut self.role {
            // Entries leave before the leader's own sync (thesis 10.2.1).
            Role::Leader(leader) => {
                leader.flush(&self.state, now, effects);
                if leader.is_voted_out(&self.state) {
                    leader.call_successor(&self.state, effects);
                    self.become_follower(now, Follower::default());
                }
            }
            Role::Follower(Follower {
                following: Some(following),
            }) => {
                following.flush(&self.state, effects);
                self.state.ask(now, following.leader, effects);
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
        self.end(effects);
    }

    /// Tells a change of role, or of the members.
    fn end(&mut self, effects: &mut Vec<Effect>) {
        let role = RoleChange {
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
        };
        if role != self.told_role {
            self.told_role = role;
            effects.push(Effect::RoleChanged(role));
        }
        let (since, membership) = self.state.memberships.newest();
        if *since != self.told_membership.0 {
            let told = core::mem::replace(&mut self.told_membership, (*since, membership.clone()));
            if told.1 != *membership {
                effects.push(Effect::MembershipChanged(membership.clone()));
            }
        }
        self.check();
    }

    /// Checks every invariant in debug builds.
    pub(crate) fn check(&mut self) {
        if cfg!(debug_assertions) {
            self.seen.check(&self.state, &self.role);
        }
    }

    /// Time passed.
    fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if !self.state.formed {
            return;
        }
        match &mut self.role {
            // CheckQuorum (thesis 6.2): a leader that hears no quorum steps down in its term.
            Role::Leader(leader) => {
                if !leader.on_tick(&self.state, now) {
                    self.become_follower(now, Follower::default());
                }
            }
            // The election timeout passed (thesis 3.4): a PreVote first, always (9.6).
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                if now >= self.state.timer.at() {
                    self.pre_campaign(now, effects);
                }
            }
        }
    }

    /// Writes completed.
    fn on_durable(&mut self, now: Instant, ticket: Ticket) {
        self.state.complete(ticket);
        // The acknowledgement was waiting for this (rules A3). A leader's share of the commit quorum
        // is counted in `flush` (rules A4).
        if let Role::Follower(Follower {
            following: Some(following),
        }) = &mut self.role
        {
            following.on_durable(&self.state);
        }
        self.on_hard_state_durable(now, ticket);
    }

    /// Term and vote are durable: a candidate's own vote counts from now on (rules A2).
    fn on_hard_state_durable(&mut self, now: Instant, ticket: Ticket) {
        self.state.log.journal_mut().complete_hard_state(ticket);
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.on_hard_state_durable(&self.state, ticket)
        {
            self.become_leader(now);
        }
    }

    /// The leader's process probably died: its end closed the connection (rules B3). Withholding
    /// ends on this node, and an election need not wait for the election timeout.
    fn on_leader_link_closed(&mut self, now: Instant) {
        if let Role::Follower(Follower { following }) = &mut self.role
            && let Some(lost) = following.take()
        {
            self.state.timer.hasten(now, Some(lost.leader));
        }
    }

    /// The cluster is formed: this node takes part from now on (rules D1). The others learn it about
    /// now, and no leader is there to be heard, so the first election need not wait for a timeout.
    fn on_formed(&mut self, now: Instant) {
        if !self.state.formed {
            self.state.formed = true;
            if !self.state.is_alone() {
                self.state.timer.hasten(now, None);
            }
        }
    }

    /// A message passes the gate, or costs its sender the link.
    fn on_receive(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        // Whoever asks is heard, member or not: the membership in force here may be an old one
        // (thesis 4.1). Whom this node asked it knows.
        let is_member = self.membership().get(from).is_some();
        let is_heard = is_member || !message.is_answer();
        if !self.state.formed || from == self.state.config.id || !is_heard {
            return;
        }
        let taken = match gate::check(&message) {
            Ok(()) => self.take(now, from, message, effects),
            Err(reason) => Err(gate::malformed(reason)),
        };
        if let Err(error) = taken {
            effects.push(Effect::Refuse { peer: from, error });
        }
    }

    /// One message that makes sense by itself.
    fn take(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let term = self.state.term();
        match message {
            // A leader replicates (thesis 3.5).
            Message::Append(m) => {
                if let Some((following, state)) = self.hear(now, from, m.term, effects)? {
                    following.on_append(state, now, &m, effects);
                }
            }
            // A leader sends what its log no longer holds (thesis 5.3).
            Message::InstallSnapshot(m) => {
                if let Some((following, state)) = self.hear(now, from, m.term, effects)? {
                    following.on_chunk(state, now, m, effects);
                }
            }
            // Another node asks whether it would win (thesis 9.6).
            Message::PreVote(m) => self.on_pre_vote(now, from, m, effects),
            // A candidate asks for a vote (thesis 3.4).
            Message::RequestVote(m) => self.on_request_vote(now, from, m, effects),
            // A follower agrees, or does not (thesis 3.5). Answers to an earlier reign of this
            // node say nothing of this one.
            Message::AppendOk(m) => {
                if let Some((leader, state)) = self.leading(m.term) {
                    return leader.on_append_ok(state, now, from, &m, effects);
                }
            }
            Message::AppendConflict(m) => {
                if let Some((leader, state)) = self.leading(m.term) {
                    return leader.on_append_conflict(state, now, from, &m);
                }
            }
            // A follower tells how much of a snapshot it holds (thesis 5.3).
            Message::SnapshotOk(m) => {
                if let Some((leader, state)) = self.leading(m.term) {
                    return leader.on_snapshot_ok(state, now, from, m, effects);
                }
            }
            // A follower has moved on: so must its leader (thesis 3.3).
            Message::StaleTerm(StaleTerm { term: theirs }) => {
                if theirs > term && matches!(self.role, Role::Leader(_)) {
                    self.adopt(now, theirs);
                }
            }
            // The leader hands its office over (thesis 3.10).
            Message::TimeoutNow(m) => {
                if self.hear(now, from, m.term, effects)?.is_some() {
                    self.campaign_now(now, m.why, effects);
                }
            }
            // A follower serves reads (thesis 6.4).
            Message::ReadIndex(m) => {
                if let Some((leader, state)) = self.leading(m.term) {
                    leader.on_read_index(state, from, m, effects);
                }
            }
            Message::ReadIndexAnswer(m) => self.on_read_index_answer(from, m, effects),
            // They are between the nodes: an entry is the same whatever the term.
            Message::Fetch(_) | Message::Fetched(_) => {}
            // The answers that an election waits for; to anybody else they come too late. A
            // refusal may show a later term: without taking it over, two groups that each refuse
            // the other could never elect anybody (thesis 3.3).
            Message::PreVoteAnswer(m) => self.on_pre_vote_answer(now, from, m, effects),
            Message::VoteAnswer(m) => self.on_vote_answer(now, from, m),
        }
        Ok(())
    }

    /// The leader tells what a question's reads must see. Of another reign it tells nothing of this
    /// one.
    fn on_read_index_answer(
        &mut self,
        from: NodeId,
        m: ReadIndexAnswer,
        effects: &mut Vec<Effect>,
    ) {
        let follows = self.leader() == Some(from) && m.term == self.state.term();
        if follows && let Some(round) = self.state.questions.answered(m.question) {
            let index = m.index;
            effects.push(Effect::RoundConfirmed { round, index });
        }
    }

    fn leading(&mut self, term: Term) -> Option<(&mut Leader, &State)> {
        match &mut self.role {
            Role::Leader(leader) if term == self.state.term() => Some((leader, &self.state)),
            _ => None,
        }
    }

    /// A leader speaks: of an earlier term it is told so, of a later one it is followed. `None` if
    /// it is not listened to.
    fn hear(
        &mut self,
        now: Instant,
        from: NodeId,
        theirs: Term,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<(&mut Following, &mut State)>, Error> {
        let term = self.state.term();
        if theirs < term {
            // Without the answer a leader that all withhold their votes from, because they hear
            // it, would never learn that one node left its term (rules B2).
            let answer = Message::StaleTerm(StaleTerm { term });
            self.state.send(from, answer, effects);
            return Ok(None);
        }
        if theirs > term {
            self.adopt(now, theirs);
        }
        let leader = self.state.note_leader(from);
        if leader != from {
            // Election Safety (thesis 3.4) says that this cannot be.
            let reason = format!("node {from} and node {leader} both lead term {theirs}");
            return Err(Error::Divergence { reason });
        }
        if self.leader().is_none() {
            // Whoever was waiting or campaigning in this term has lost to it (thesis 3.4).
            self.state.questions.forget();
            self.become_follower(now, Follower::of(from, now));
        }
        match &mut self.role {
            Role::Follower(Follower {
                following: Some(following),
            }) => Ok(Some((following, &mut self.state))),
            _ => Ok(None),
        }
    }

    /// When `step` wants the next [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.role {
            _ if !self.state.formed => None,
            Role::Leader(leader) => leader.deadline(),
            Role::Follower(Follower { following: Some(_) }) => {
                let repeats_at = self.state.question_repeats_at();
                [Some(self.state.timer.at()), repeats_at]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Some(self.state.timer.at())
            }
        }
    }

    /// Appends a command to the leader's log, in memory; `flush` sends and writes it.
    /// # Errors
    /// See [`CannotPropose`].
    ///
    /// # Panics
    /// If the body is over the limit of an entry: requests are checked at admission.
    pub fn propose(&mut self, wall_ms: u64, body: &[u8]) -> Result<EntryId, CannotPropose> {
        self.append(wall_ms, EntryKind::Command, body)
    }

    pub(crate) fn append(
        &mut self,
        wall_ms: u64,
        kind: EntryKind,
        body: &[u8],
    ) -> Result<EntryId, CannotPropose> {
        match &mut self.role {
            Role::Leader(leader) if leader.is_transferring() => Err(CannotPropose::Transferring),
            Role::Leader(leader) => Ok(leader.append(&mut self.state, wall_ms, kind, body)),
            _ => Err(CannotPropose::NotLeader(self.not_leader())),
        }
    }

    /// Registers a linearizable read, on a leader or on who follows one; `None` if this node knows no
    /// leader.
    pub fn read(&mut self) -> Option<ReadTicket> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader.read(&self.state)),
            Role::Follower(Follower { following: Some(_) }) => Some(self.state.questions.want()),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    pub(crate) fn not_leader(&self) -> NotLeader {
        NotLeader {
            leader: self.leader(),
        }
    }

    /// The entry at `index`, if it is still in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.state.log.entry(index)
    }

    /// The store has applied everything up to here: older entries may leave memory.
    ///
    /// # Panics
    /// If that was never committed.
    pub fn applied(&mut self, index: Index) {
        self.state.set_applied(index);
    }

    /// What the next answers say of the disk. A stalled node (rules B4) refuses PreVotes and
    /// does not campaign.
    pub fn set_disk(&mut self, report: DiskReport, stalled: bool) {
        self.state.disk = report;
        self.state.stalled = stalled;
    }

    /// Whether anyone is helped when this node's disk finishes a write. If not, the report may wait
    /// for the next event: a leader's own disk counts only once followers have acknowledged, and
    /// they wake it up anyway.
    #[must_use]
    pub fn awaits_own_disk(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.awaits_own_disk(&self.state),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => true,
        }
    }

    /// Bytes of entries that are not committed yet, or not yet on this node's own disk, and so have
    /// to stay in memory. (After a restart the log may hold more that is not known to be committed.)
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        let log = &self.state.log;
        log.bytes_after(self.state.commit().min(log.durable()))
    }

    /// Bytes of entries that are in memory though they are applied and durable.
    #[must_use]
    pub fn settled_bytes(&self) -> usize {
        let log = &self.state.log;
        let settled = self.state.applied().min(log.durable());
        log.bytes_after(Index(0)) - log.bytes_after(settled)
    }

    /// For status.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// Term and vote, possibly not durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.state.hard_state()
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.state.term()
    }

    /// The known leader.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.state.config.id),
            Role::Follower(follower) => follower.following.as_ref().map(|f| f.leader),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// On a leader: whether a quorum was heard within the election timeout. Else: whether a
    /// leader was.
    #[must_use]
    pub fn quorum_ok(&self, now: Instant) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.hears_quorum(&self.state, now),
            Role::Follower(Follower {
                following: Some(following),
            }) => now.since(following.heard) < self.state.config.election_timeout_max,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Last entry in memory.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.state.log.last()
    }

    /// Last durable index.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.state.log.durable()
    }

    /// Commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.state.commit()
    }

    /// On a leader: where this follower's log is known to agree.
    #[must_use]
    pub fn match_index(&self, peer: NodeId) -> Option<Index> {
        match &self.role {
            Role::Leader(leader) => leader.match_index(peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }
}
