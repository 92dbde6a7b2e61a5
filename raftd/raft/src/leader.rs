//! The leader: appends, replicates, commits, and confirms that it still leads (thesis 3.5, 6.4).

use alloc::vec::Vec;

use bytes::BytesMut;
use wire::entry::{ENTRY_HEADER_BYTES, Entry, EntryKind};
use wire::error::Error;
use wire::leadership::HandOver;
use wire::membership::{Membership, Suffrage};
use wire::peer::{
    AppendConflict, AppendOk, Message, ReadIndex, ReadIndexAnswer, SnapshotOk, TimeoutNow,
};
use wire::types::{EntryId, Index, NodeId};

use crate::event::{CannotChange, CannotTransfer, Effect, FollowerView, ReadTicket};
use crate::gate::malformed;
use crate::membership::body_of;
use crate::progress::Progress;
use crate::question::Asked;
use crate::quorum;
use crate::round::Rounds;
use crate::state::State;
use crate::time::Instant;
use crate::transfer::Transfer;

/// New entries are cut from buffers of this size, so that a small entry costs no allocation.
const POOL_BYTES: usize = 64 * 1024;

/// The role's data.
///
/// Invariants: the log only grows while a node leads (Leader Append-Only, thesis 3.5); `noop` is
/// the first entry of the term; `peers` are all other members, in order, and have the suffrage that
/// the membership in force gives them, as this node has `suffrage`.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    noop: Index,
    peers: Vec<Progress>,
    suffrage: Suffrage,
    is_joint: bool,
    rounds: Rounds,
    heartbeat_at: Instant,
    /// When to look again whether a quorum is heard.
    check_quorum_at: Instant,
    transfer: Option<Transfer>,
    pool: BytesMut,
}

impl Leader {
    /// Takes office: the term is opened by a no-op, without which nothing of earlier terms could
    /// be committed (thesis 3.6.2) nor anything be read (6.4).
    pub(crate) fn new(state: &mut State, now: Instant) -> Self {
        assert!(
            state.log.journal().hard_state_wait().is_none(),
            "a leader before its vote was durable"
        );
        let last = state.log.last();
        assert!(last.term < state.term(), "{last} is of a term just begun");
        let own = state.config.id;
        assert!(
            state.note_leader(own) == own,
            "another node leads this term"
        );
        let mut leader = Self {
            noop: last.index.next(),
            peers: Vec::new(),
            suffrage: Suffrage::Learner,
            is_joint: false,
            rounds: Rounds::default(),
            heartbeat_at: now,
            check_quorum_at: now + state.config.election_timeout_max,
            transfer: None,
            pool: BytesMut::new(),
        };
        leader.note_membership(state, now);
        let wall_ms = state.log.wall_ms();
        leader.append(state, wall_ms, EntryKind::Noop, &[]);
        leader
    }

    /// Adds an entry to the log in memory. Wall clocks never fall along the log.
    pub(crate) fn append(
        &mut self,
        state: &mut State,
        wall_ms: u64,
        kind: EntryKind,
        body: &[u8],
    ) -> EntryId {
        let id = EntryId {
            term: state.term(),
            index: state.log.last().index.next(),
        };
        let bytes = ENTRY_HEADER_BYTES + body.len();
        if self.pool.capacity() < bytes {
            self.pool = BytesMut::with_capacity(bytes.max(POOL_BYTES));
        }
        let wall_ms = wall_ms.max(state.log.wall_ms());
        state.push(Entry::build(&mut self.pool, id, wall_ms, kind, body));
        id
    }

    /// Another membership is in force: whoever stays keeps what is known of it.
    fn note_membership(&mut self, state: &State, now: Instant) {
        let membership = state.memberships.in_force();
        let own = state.config.id;
        self.suffrage = membership.suffrage(own).unwrap_or(Suffrage::Learner);
        self.is_joint = membership.is_joint();
        let mut known = core::mem::take(&mut self.peers).into_iter().peekable();
        for member in membership.members.iter().filter(|member| member.id != own) {
            while known.next_if(|peer| peer.id < member.id).is_some() {}
            let peer = known.next_if(|peer| peer.id == member.id);
            let last = state.log.last().index;
            let mut peer = peer.unwrap_or_else(|| Progress::new(member.id, last, now));
            peer.suffrage = member.suffrage;
            self.peers.push(peer);
        }
    }

    /// See [`crate::Raft::change_membership`].
    pub(crate) fn begin_change(
        &mut self,
        state: &mut State,
        now: Instant,
        wall_ms: u64,
        target: &Membership,
    ) -> Result<EntryId, CannotChange> {
        if self.is_transferring() {
            return Err(CannotChange::Transferring);
        }
        if state.commit() < self.noop {
            return Err(CannotChange::Unproven);
        }
        if state.is_changing() {
            return Err(CannotChange::Changing);
        }
        let step = state.memberships.in_force().toward(target);
        Ok(self.change(state, now, wall_ms, &step))
    }

    /// Appends a membership, which is in force at once.
    fn change(
        &mut self,
        state: &mut State,
        now: Instant,
        wall_ms: u64,
        step: &Membership,
    ) -> EntryId {
        let id = self.append(state, wall_ms, EntryKind::Membership, &body_of(step));
        self.note_membership(state, now);
        id
    }

    /// Ends the set of voters of before once both sets have committed that they stand side by side
    /// (thesis 4.3), whoever began that.
    fn settle(&mut self, state: &mut State, now: Instant) {
        let (since, commit) = (state.memberships.since().index, state.commit());
        if self.is_joint && since.max(self.noop) <= commit && !self.is_transferring() {
            let step = state.memberships.in_force().settled();
            let wall_ms = state.log.wall_ms();
            self.change(state, now, wall_ms, &step);
        }
    }

    /// Whether it is committed that this node does not vote any more: somebody else is to lead
    /// (thesis 4.2.2).
    pub(crate) fn is_voted_out(&self, state: &State) -> bool {
        !self.suffrage.votes() && !state.is_changing()
    }

    /// Has the follower that knows most campaign at once, for this leader goes.
    pub(crate) fn call_successor(&self, state: &State, effects: &mut Vec<Effect>) {
        let voters = self
            .peers
            .iter()
            .filter(|peer| peer.suffrage.votes() && !peer.is_lost());
        if let Some(peer) = voters.max_by_key(|peer| peer.match_index) {
            let (term, why) = (state.term(), HandOver::Leaving);
            let message = Message::TimeoutNow(TimeoutNow { term, why });
            state.send(peer.id, message, effects);
        }
    }

    /// A linearizable read arrived (thesis 6.4; rules C1).
    pub(crate) fn read(&mut self, state: &State) -> ReadTicket {
        ReadTicket {
            round: self.rounds.want(),
            index: self.read_index(state),
        }
    }

    fn read_index(&self, state: &State) -> Index {
        state.commit().max(self.noop)
    }

    /// A follower asks for a read index (thesis 6.4). It was in this term after its reads arrived, and
    /// this node is in it now: if they are a quorum, nobody led a later term when the reads arrived.
    /// Else a round asks the others, once for all copies of the question.
    pub(crate) fn on_read_index(
        &mut self,
        state: &State,
        from: NodeId,
        m: ReadIndex,
        effects: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.iter().find(|peer| peer.id == from) else {
            return;
        };
        let is_waiting = peer.asked.is_some_and(|asked| asked.question == m.question);
        let asked = if self.quorum(|peer| peer.id == from, true) {
            answer_read_index(state, from, m.question, self.read_index(state), effects);
            None
        } else if is_waiting {
            return;
        } else {
            let (question, ticket) = (m.question, self.read(state));
            Some(Asked { question, ticket })
        };
        if let Some((peer, _)) = self.peer_mut(from) {
            peer.asked = asked;
        }
    }

    /// A follower, and the rounds that tell its answers' order; `None` if it is no member any more.
    fn peer_mut(&mut self, id: NodeId) -> Option<(&mut Progress, &mut Rounds)> {
        let peer = self.peers.iter_mut().find(|peer| peer.id == id)?;
        Some((peer, &mut self.rounds))
    }

    /// What a quorum has reached, given what each follower has, and this node; who is lost has
    /// nothing. In joint consensus that is a quorum of either set of voters.
    fn quorum<T: Copy + Ord + Default>(&self, of: impl Fn(&Progress) -> T, own: T) -> T {
        let counted = |peer: &Progress| {
            if peer.is_lost() {
                T::default()
            } else {
                of(peer)
            }
        };
        let set = |votes: fn(Suffrage) -> bool| {
            let peers = self.peers.iter().filter(|peer| votes(peer.suffrage));
            let own = votes(self.suffrage).then_some(own);
            quorum::reached(peers.map(counted).chain(own))
        };
        let after = set(Suffrage::votes_after);
        if self.is_joint {
            after.min(set(Suffrage::votes_before))
        } else {
            after
        }
    }

    /// What is known of the followers.
    pub(crate) fn followers(&self) -> impl Iterator<Item = FollowerView> {
        self.peers.iter().map(Progress::view)
    }

    /// Begins to hand this office over (thesis 3.10).
    pub(crate) fn transfer(
        &mut self,
        state: &State,
        now: Instant,
        to: NodeId,
        why: HandOver,
    ) -> Result<(), CannotTransfer> {
        if self.is_transferring() {
            return Err(CannotTransfer::Transferring);
        }
        let target = self.followers().find(|follower| follower.id == to);
        let target = target.ok_or(CannotTransfer::Unfit)?;
        if target.health.lost || target.health.rebuilding || !target.suffrage.votes_after() {
            return Err(CannotTransfer::Unfit);
        }
        let until = now + state.config.election_timeout_max;
        self.transfer = Some(Transfer::new(to, why, until));
        Ok(())
    }

    /// Whether this office is being handed over.
    pub(crate) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Where a follower's log is known to agree.
    pub(crate) fn match_index(&self, id: NodeId) -> Option<Index> {
        let peer = self.peers.iter().find(|peer| peer.id == id)?;
        Some(peer.match_index)
    }

    /// A follower holds everything up to an index, durably (thesis 3.5).
    pub(crate) fn on_append_ok(
        &mut self,
        state: &State,
        now: Instant,
        from: NodeId,
        m: &AppendOk,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        if m.received > state.log.last().index || m.round > self.rounds.started() {
            return Err(malformed("the answer is to something never sent"));
        }
        if let Some((peer, rounds)) = self.peer_mut(from) {
            peer.on_append_ok(state, now, m, rounds, effects);
        }
        Ok(())
    }

    /// A follower's log differs (thesis 3.5).
    pub(crate) fn on_append_conflict(
        &mut self,
        state: &State,
        now: Instant,
        from: NodeId,
        m: &AppendConflict,
    ) -> Result<(), Error> {
        let was_sent = !state.log.contradicts(m.prev);
        if !was_sent || m.round > self.rounds.started() {
            return Err(malformed("the answer is to something never sent"));
        }
        if let Some((peer, rounds)) = self.peer_mut(from) {
            peer.on_append_conflict(state, now, m, rounds);
        }
        Ok(())
    }

    /// A follower holds so much of a snapshot (thesis 5.3).
    pub(crate) fn on_snapshot_ok(
        &mut self,
        state: &State,
        now: Instant,
        from: NodeId,
        answer: SnapshotOk,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        if answer.round > self.rounds.started() {
            return Err(malformed("the answer is to something never sent"));
        }
        if let Some((peer, rounds)) = self.peer_mut(from)
            && peer.on_snapshot_ok(state, now, &answer, rounds)
        {
            effects.push(Effect::SnapshotAnswer { from, answer });
        }
        Ok(())
    }

    /// The log was compacted.
    pub(crate) fn on_compacted(&mut self, state: &State) {
        for peer in &mut self.peers {
            peer.on_compacted(state);
        }
    }

    /// The followers that lack what is no longer in the log.
    pub(crate) fn needs_snapshot(&self) -> impl Iterator<Item = NodeId> {
        let peers = self.peers.iter().filter(|peer| peer.needs_snapshot());
        peers.map(|peer| peer.id)
    }

    /// The newest read round.
    pub(crate) fn round(&self) -> u64 {
        self.rounds.started()
    }

    /// Entries for a follower came from the disk.
    pub(crate) fn on_loaded(&mut self, state: &State, to: NodeId, entries: Vec<Entry>) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == to) {
            peer.on_loaded(state, entries);
        }
    }

    /// CheckQuorum (thesis 6.2): whether a quorum answered within the election timeout. A leader
    /// that is cut off must make way, also for its clients.
    pub(crate) fn hears_quorum(&self, state: &State, now: Instant) -> bool {
        now.since(self.quorum_heard(now)) < state.config.election_timeout_max
    }

    fn quorum_heard(&self, now: Instant) -> Instant {
        self.quorum(|peer| peer.heard, now)
    }

    /// Time passed; false if the leader must step down.
    pub(crate) fn on_tick(&mut self, state: &State, now: Instant) -> bool {
        self.transfer.take_if(|transfer| now >= transfer.until());
        if now < self.check_quorum_at {
            return true;
        }
        self.check_quorum_at = self.quorum_heard(now) + state.config.election_timeout_max;
        self.hears_quorum(state, now)
    }

    /// When time matters next: never, if there is nobody to talk to.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.heartbeat_at.min(self.check_quorum_at);
        let due = self
            .transfer
            .map_or(due, |transfer| due.min(transfer.until()));
        (!self.peers.is_empty()).then_some(due)
    }

    /// Draws conclusions from the turn's answers and completions: what is committed (thesis
    /// 3.5, 3.6.2), whether a change of members goes on, and which round is confirmed.
    pub(crate) fn conclude(&mut self, state: &mut State, now: Instant, effects: &mut Vec<Effect>) {
        let held = self.quorum(|peer| peer.match_index, state.intact());
        // Counting replicas commits only what this leader made; what is before it follows. An
        // older entry may be held by a quorum and still be overwritten (figure 3.7).
        if held > state.commit() && held >= self.noop {
            state.advance_commit(held);
        }
        for peer in &mut self.peers {
            peer.mend(held);
        }
        self.settle(state, now);
        self.confirm_round(state, effects);
        if self.rounds.start() {
            // A heartbeat is due at once, to carry the round.
            self.heartbeat_at = Instant::default();
            // Alone, a voter is its own quorum.
            self.confirm_round(state, effects);
        }
    }

    /// Whether something could be committed by this node's disk alone: the others of a quorum have
    /// it already.
    pub(crate) fn awaits_own_disk(&self, state: &State) -> bool {
        let last = state.log.last().index;
        self.quorum(|peer| peer.match_index, last) > state.commit()
    }

    fn confirm_round(&mut self, state: &State, effects: &mut Vec<Effect>) {
        let answered = self.quorum(|peer| peer.round, self.rounds.started());
        let Some(round) = self.rounds.confirm(answered) else {
            return;
        };
        let index = Index(0);
        effects.push(Effect::RoundConfirmed { round, index });
        for peer in &mut self.peers {
            if let Some(asked) = peer.asked.take_if(|asked| asked.ticket.round <= round) {
                let Asked { question, ticket } = asked;
                answer_read_index(state, peer.id, question, ticket.index, effects);
            }
        }
    }

    /// Says to every follower what there is to say: new entries; else, when a round began or
    /// the heartbeat is due, that this leader lives. One `Append` each at most.
    pub(crate) fn flush(&mut self, state: &State, now: Instant, effects: &mut Vec<Effect>) {
        let must_say = now >= self.heartbeat_at;
        let round = self.rounds.started();
        let mut said_to_all = true;
        for peer in &mut self.peers {
            said_to_all &= peer.flush(state, round, must_say, effects);
        }
        if said_to_all {
            self.heartbeat_at = now + state.config.heartbeat;
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.flush(state, &self.peers, effects);
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, state: &State) {
        let first = state.log.run_at(self.noop).map(|run| run.index);
        assert!(
            first == Some(self.noop) || self.noop <= state.log.base().index,
            "the term does not begin at {}",
            self.noop
        );
        assert!(
            state.log.last().term == state.term(),
            "a leader of another term"
        );
        let own = state.config.id;
        let members = state.memberships.in_force().members.iter();
        let others = members.filter(|member| member.id != own);
        assert!(
            self.peers
                .iter()
                .map(|peer| (peer.id, peer.suffrage))
                .eq(others.map(|member| (member.id, member.suffrage))),
            "a member is missing, or has another suffrage"
        );
        for peer in &self.peers {
            peer.check(state, self.rounds.started());
        }
    }
}

fn answer_read_index(
    state: &State,
    to: NodeId,
    question: u64,
    index: Index,
    effects: &mut Vec<Effect>,
) {
    let answer = ReadIndexAnswer {
        term: state.term(),
        question,
        index,
    };
    state.send(to, Message::ReadIndexAnswer(answer), effects);
}
