//! What every role has (thesis figure 3.1: "state on all servers").

use alloc::vec::Vec;

use wire::entry::Entry;
use wire::peer::{Digest, DiskReport, Health, Message, ReadIndex};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::event::{Config, Effect, HardState, Restored, Ticket, Write};
use crate::gate;
use crate::jitter::Jitter;
use crate::log::Log;
use crate::membership::{Memberships, Voters, membership_of};
use crate::question::Questions;
use crate::time::Instant;
use crate::timer::ElectionTimer;

/// Invariants:
/// - term and commit index never fall; within a term the vote is given once;
/// - `base <= applied <= commit <= last`; while rebuilding, nothing behind the base is applied;
/// - an unformed node has no timer and takes no message (rules D1).
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) memberships: Memberships,
    pub(crate) timer: ElectionTimer,
    /// What answers tell of this node's disk.
    pub(crate) disk: DiskReport,
    /// The disk is too slow to lead (rules B4).
    pub(crate) stalled: bool,
    pub(crate) formed: bool,
    /// What messages tell of states (rules D5).
    pub(crate) digest: Option<Digest>,
    /// The first entry whose payload the disk has lost (rules D4).
    pub(crate) faulty: Option<Index>,
    /// What this node asks its leaders.
    pub(crate) questions: Questions,
    rebuilding: bool,
    hard_state: HardState,
    /// Who leads the term, as far as it was seen in this life; not forgotten with the contact.
    term_leader: Option<NodeId>,
    commit: Index,
    applied: Index,
}

impl State {
    pub(crate) fn new(config: Config, mut restored: Restored, now: Instant) -> Self {
        let jitter = Jitter::new(config.seed ^ config.id.0.rotate_left(32));
        let questions = Questions::new(config.life);
        let timer = ElectionTimer::new(
            config.election_timeout_min,
            config.election_timeout_max,
            jitter,
        );
        let (hard_state, formed) = (restored.hard_state, restored.formed);
        let (faulty, rebuilding) = (restored.faulty, restored.rebuilding);
        let applied = restored.applied;
        // The hint may be older than the snapshot.
        let commit = restored.commit.max(applied);
        let membership = restored.membership.clone();
        let later = core::mem::take(&mut restored.memberships);
        let log = Log::new(restored);
        let mut memberships = Memberships::new(log.id_at(applied), membership);
        for (id, membership) in later {
            memberships.note(id, membership);
        }
        memberships.commit(commit);
        assert!(
            hard_state.term >= log.last().term,
            "term {} is durable, but the log has {}",
            hard_state.term,
            log.last()
        );
        assert!(
            commit <= log.last().index,
            "{commit} is committed, but the log ends at {}",
            log.last()
        );
        assert!(
            log.base().index <= applied,
            "the log begins behind {}, the snapshot ends at {applied}",
            log.base()
        );
        assert!(
            !rebuilding || applied == log.base().index,
            "{applied} is applied by a node that has no state"
        );
        let mut state = Self {
            config,
            log,
            memberships,
            timer,
            disk: DiskReport::default(),
            stalled: false,
            formed,
            digest: None,
            faulty,
            questions,
            rebuilding,
            hard_state,
            term_leader: None,
            commit,
            applied,
        };
        if !state.is_alone() {
            state.timer.rest(now);
        }
        // What the snapshot covers need not be held.
        state.evict();
        state
    }

    /// Whether this node is the whole cluster: it has nobody to wait for before it campaigns.
    pub(crate) fn is_alone(&self) -> bool {
        self.voters().ids() == [self.config.id]
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Whether entries that this node acknowledged are gone, and which they were is not known
    /// (rules D4).
    pub(crate) fn is_lost(&self) -> bool {
        self.hard_state.lost
    }

    /// The leader says that this log is lost, or is no more.
    pub(crate) fn set_lost(&mut self, lost: bool) {
        if lost != self.is_lost() {
            self.hard_state.lost = lost;
            self.log.journal_mut().hard_state_changed();
        }
    }

    /// Whether the log is good and the state is not.
    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuilding
    }

    /// The state is good for nothing: a snapshot will replace it.
    pub(crate) fn rebuild(&mut self) {
        self.rebuilding = true;
        self.applied = self.log.base().index;
    }

    /// Whether this snapshot, which the log holds, is what a node that rebuilds waits for. One
    /// below the base leaves a gap before the log.
    pub(crate) fn wants(&self, snapshot: EntryId) -> bool {
        self.rebuilding && snapshot.index >= self.log.base().index
    }

    /// In what this node is less than whole, as its answers tell.
    pub(crate) fn health(&self) -> Health {
        Health {
            lost: self.is_lost(),
            rebuilding: self.rebuilding,
        }
    }

    /// The last index that this node's disk counts for: it holds everything up to there. Faulty
    /// entries are durable, and gone (rules D4).
    pub(crate) fn intact(&self) -> Index {
        let durable = self.log.durable();
        self.faulty
            .map_or(durable, |first| durable.min(first.prev()))
    }

    /// Whether this node would lead: as a voter, with a disk that is fast enough (rules B4), a log
    /// that has everything in it, and a state to serve (rules D4, D5), and a term to lead in.
    pub(crate) fn may_campaign(&self) -> bool {
        let votes = self.memberships.may_be_voter(self.config.id);
        let is_whole = !self.is_lost() && self.faulty.is_none() && !self.rebuilding;
        votes && is_whole && !self.stalled && self.term() < gate::TERM_MAX
    }

    /// The voters of the membership in force.
    pub(crate) fn voters(&self) -> &Voters {
        self.memberships.voters()
    }

    /// The place of a voter among all; `None` if it is none.
    pub(crate) fn place(&self, id: NodeId) -> Option<usize> {
        self.voters().place(id)
    }

    /// The place of this node among the voters, if it is one.
    pub(crate) fn own_place(&self) -> Option<usize> {
        self.place(self.config.id)
    }

    /// All voters but this one, in order.
    pub(crate) fn other_voters(&self) -> impl Iterator<Item = NodeId> {
        let own = self.config.id;
        let voters = self.voters().ids().iter().copied();
        voters.filter(move |id| *id != own)
    }

    /// See [`crate::Raft::is_changing`].
    pub(crate) fn is_changing(&self) -> bool {
        self.memberships.in_force().is_joint() || self.memberships.since().index > self.commit
    }

    /// Adds an entry at the end of the log. What it says of the members is in force at once (thesis
    /// 4.1).
    pub(crate) fn push(&mut self, entry: Entry) {
        self.note_membership(&entry);
        self.log.push(entry);
    }

    /// An entry of the log may tell who is a member.
    pub(crate) fn note_membership(&mut self, entry: &Entry) {
        if let Some(membership) = membership_of(entry) {
            self.memberships.note(entry.id(), membership);
        }
    }

    /// Removes the entries from `from` on; see [`Log::truncate`].
    pub(crate) fn truncate(&mut self, from: Index) {
        self.memberships.truncate(from);
        self.log.truncate(from);
    }

    /// Enters a later term, with or without this node's vote for itself (thesis 3.3, 3.4).
    pub(crate) fn enter_term(&mut self, term: Term, vote: Option<NodeId>) {
        assert!(term > self.term(), "term {term} after {}", self.term());
        self.hard_state.term = term;
        self.hard_state.vote = vote;
        self.term_leader = None;
        self.log.journal_mut().hard_state_changed();
    }

    /// Gives this term's vote, if it is still free (thesis 3.4).
    pub(crate) fn vote_for(&mut self, candidate: NodeId) -> bool {
        match self.hard_state.vote {
            Some(given) => given == candidate,
            None => {
                self.hard_state.vote = Some(candidate);
                self.log.journal_mut().hard_state_changed();
                true
            }
        }
    }

    /// The term's leader, which is `claimant` unless another one was seen before.
    pub(crate) fn note_leader(&mut self, claimant: NodeId) -> NodeId {
        *self.term_leader.get_or_insert(claimant)
    }

    pub(crate) fn term_leader(&self) -> Option<NodeId> {
        self.term_leader
    }

    /// Whether a log that ends at `last` holds all that this one may have helped to commit
    /// (thesis 3.6.1). Compared in memory (rules A3): term first, then index, as one value.
    pub(crate) fn is_up_to_date(&self, last: EntryId) -> bool {
        last >= self.log.last()
    }

    /// Learns that entries up to `index` are committed.
    pub(crate) fn advance_commit(&mut self, index: Index) {
        assert!(
            index <= self.log.last().index,
            "commit {index} past {}",
            self.log.last()
        );
        self.commit = self.commit.max(index);
        self.memberships.commit(self.commit);
    }

    /// The store has applied up to `index`.
    pub(crate) fn set_applied(&mut self, index: Index) {
        assert!(
            index <= self.commit,
            "applied {index}, committed {}",
            self.commit
        );
        assert!(!self.rebuilding, "{index} is applied to no state");
        self.applied = self.applied.max(index);
        self.evict();
    }

    /// The log forgets what is at or below `upto`. While rebuilding, that was asked for before the
    /// state was thrown away: its snapshot will be a later one.
    pub(crate) fn compact(&mut self, upto: Index) {
        let covered = if self.rebuilding {
            self.commit
        } else {
            self.applied
        };
        assert!(upto <= covered, "{upto} is compacted, applied is {covered}");
        if upto > self.log.base().index {
            self.log.compact(upto);
        }
        if self.rebuilding {
            self.applied = self.log.base().index;
        }
    }

    /// The store holds this snapshot's state now.
    pub(crate) fn pass(&mut self, snapshot: EntryId) {
        self.rebuilding = false;
        self.advance_commit(snapshot.index);
        self.set_applied(snapshot.index);
    }

    /// What is not applied stays in memory, unless it waits for peers to heal this node: then it
    /// may be any number of entries.
    pub(crate) fn evict(&mut self) {
        let waits = self.rebuilding || self.faulty.is_some();
        let upto = if waits { self.commit } else { self.applied };
        self.log.evict(self.config.cache_bytes, upto);
    }

    /// Every write up to `ticket` is on disk.
    pub(crate) fn complete(&mut self, ticket: Ticket) {
        self.log.complete(ticket);
        self.evict();
    }

    /// Everything that is not yet submitted.
    pub(crate) fn take_write(&mut self) -> Option<Write> {
        self.log.take_write(self.hard_state, self.commit)
    }

    /// Sends once the current term and vote are durable: every message reveals the term
    /// (rules A2). No message waits for an entry.
    pub(crate) fn send(&self, to: NodeId, message: Message, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send {
            to,
            after: self.log.journal().hard_state_wait(),
            message,
        });
    }

    /// Ends a follower's turn: asks the leader on behalf of the reads that wait (thesis 6.4). A
    /// question or an answer that got lost is repeated as a heartbeat is.
    pub(crate) fn ask(&mut self, now: Instant, leader: NodeId, effects: &mut Vec<Effect>) {
        if let Some(question) = self.questions.due(now, self.config.heartbeat) {
            let term = self.term();
            self.send(
                leader,
                Message::ReadIndex(ReadIndex { term, question }),
                effects,
            );
        }
    }

    /// When a follower asks again.
    pub(crate) fn question_repeats_at(&self) -> Option<Instant> {
        self.questions.repeats_at(self.config.heartbeat)
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self) {
        self.log.check();
        let last = self.log.last();
        assert!(
            self.commit <= last.index,
            "commit {} past {last}",
            self.commit
        );
        assert!(self.applied <= self.commit, "applied before committed");
        assert!(
            self.log.base().index <= self.applied,
            "the base is not applied"
        );
        assert!(last.term <= self.term(), "the log is ahead of the term");
        assert!(
            !self.rebuilding || self.applied == self.log.base().index,
            "a node that rebuilds has applied {}",
            self.applied
        );
    }
}
