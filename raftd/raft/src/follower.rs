//! The follower: takes entries from the term's leader, or waits to hear one (thesis 3.3, 3.5).

use alloc::format;
use alloc::vec::Vec;

use wire::error::Error;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, InstallSnapshot, Message, SnapshotOk, Standing,
};
use wire::types::{EntryId, Index, NodeId};

use crate::event::Effect;
use crate::state::State;
use crate::time::Instant;

/// Received bytes that wait for the disk, in windows of the leader: two leaders in a row may each
/// fill one, and one entry may be over. More comes only from a peer that ignores its window.
const BACKLOG_WINDOWS_MAX: usize = 4;

/// The role's data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// The term's leader, once it is heard.
    pub(crate) following: Option<Following>,
}

/// What a follower knows of the leader that it hears.
///
/// Invariants:
/// - `verified` never falls; up to it the log agrees with this leader's, so nothing at or below
///   it is ever truncated for this leader;
/// - `acked <= min(durable, verified)`, and was below the first faulty entry.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    pub(crate) leader: NodeId,
    /// When its last message came.
    pub(crate) heard: Instant,
    /// The last index known to agree with this leader (rules A3).
    verified: Index,
    /// The highest read round among its messages.
    round: u64,
    /// The match index of the last `AppendOk`.
    acked: Index,
    /// An `AppendOk` is due at the end of the turn.
    owes_answer: bool,
    /// The quorum's digest, as it told last (rules D5).
    digest: Option<Digest>,
}

impl Follower {
    /// A follower of `leader`, of which nothing is verified yet.
    pub(crate) fn of(leader: NodeId, now: Instant) -> Self {
        Self {
            following: Some(Following {
                leader,
                heard: now,
                verified: Index(0),
                round: 0,
                acked: Index(0),
                owes_answer: false,
                digest: None,
            }),
        }
    }
}

impl Following {
    /// The leader speaks, in this term; whether a round began.
    fn hear(&mut self, state: &mut State, now: Instant, round: u64) -> bool {
        self.heard = now;
        state.timer.calm(now);
        let round_is_new = round > self.round;
        self.round = self.round.max(round);
        round_is_new
    }

    /// The leader's `Append` in this term (thesis 3.5). What it says of entries below the base is
    /// passed over: they are committed, so both have them (5.1; Leader Completeness, 3.6.3).
    pub(crate) fn on_append(
        &mut self,
        state: &mut State,
        now: Instant,
        m: &Append,
        effects: &mut Vec<Effect>,
    ) {
        let is_late = m.round < self.round;
        let round_is_new = self.hear(state, now, m.round);
        if !is_late && m.standing == Standing::Lost {
            state.set_lost(true);
        }
        self.note_digest(m.digest, effects);
        if state.log.contradicts(m.prev) {
            if m.prev.index <= state.commit() {
                self.refuse(state, m.prev, effects);
            } else {
                self.answer_conflict(state, m.prev, effects);
            }
            return;
        }
        let backlog = state.log.bytes_after(state.log.durable());
        let backlog_max = state
            .config
            .window_bytes
            .saturating_mul(BACKLOG_WINDOWS_MAX);
        if !m.entries.is_empty() && backlog > backlog_max {
            // Not taken: the leader finds out by the next conflict.
            self.owes_answer |= round_is_new;
            return;
        }
        let fresh = m
            .entries
            .iter()
            .position(|entry| state.log.contradicts(entry.id()));
        if let Some(place) = fresh {
            let first = m.entries[place].index();
            if first <= state.log.last().index {
                // An entry of ours differs. What is committed, or agreed with this very leader,
                // can differ from no leader of this term (Leader Completeness, thesis 3.6.3).
                if first <= state.commit().max(self.verified) {
                    self.refuse(state, m.entries[place].id(), effects);
                    return;
                }
                state.truncate(first);
            }
            for entry in &m.entries[place..] {
                state.push(entry.clone());
            }
        }
        let agreed = Index(m.prev.index.0 + m.entries.len() as u64);
        self.verify(agreed.max(state.log.base().index));
        // Only what is verified may be believed committed: past it, an old suffix may differ.
        state.advance_commit(m.commit.min(self.verified));
        // New entries are acknowledged when they are durable, all of a sync at once.
        self.owes_answer |= round_is_new || fresh.is_none();
        if let Standing::Whole(upto) = m.standing
            && !is_late
            && self.match_index(state) >= upto
        {
            state.set_lost(false);
        }
    }

    fn note_digest(&mut self, digest: Option<Digest>, effects: &mut Vec<Effect>) {
        if let Some(digest) = digest
            && self.digest.replace(digest) != Some(digest)
        {
            let from = self.leader;
            effects.push(Effect::Digest { from, digest });
        }
    }

    /// The leader's piece of a snapshot in this term (thesis 5.3). A follower that has what the
    /// snapshot covers says so, which ends the transfer.
    pub(crate) fn on_chunk(
        &mut self,
        state: &mut State,
        now: Instant,
        m: InstallSnapshot,
        effects: &mut Vec<Effect>,
    ) {
        self.hear(state, now, m.round);
        let agreed = state.log.id_at(state.commit().max(self.verified));
        let is_news = m.snapshot.index > agreed.index;
        let differs = if is_news {
            m.snapshot.term < agreed.term
        } else {
            state.log.contradicts(m.snapshot)
        };
        if differs {
            self.refuse(state, m.snapshot, effects);
        } else if is_news || state.wants(m.snapshot) {
            effects.push(Effect::Chunk(m));
        } else {
            self.verify(m.snapshot.index);
            self.owes_answer = true;
        }
    }

    /// The node has stored a piece of a snapshot, or not.
    pub(crate) fn answer_chunk(
        &self,
        state: &State,
        snapshot: EntryId,
        received_bytes: u64,
        effects: &mut Vec<Effect>,
    ) {
        let answer = SnapshotOk {
            term: state.term(),
            round: self.round,
            snapshot,
            received_bytes,
            disk: state.disk,
            health: state.health(),
        };
        state.send(self.leader, Message::SnapshotOk(answer), effects);
    }

    /// The last index known to agree with this leader.
    pub(crate) fn verified(&self) -> Index {
        self.verified
    }

    /// The log agrees with this leader's up to `index`: the leader showed it, or it is committed.
    pub(crate) fn verify(&mut self, index: Index) {
        self.verified = self.verified.max(index);
    }

    /// Writes completed: acknowledge if that is news to the leader (rules A3).
    pub(crate) fn on_durable(&mut self, state: &State) {
        self.owes_answer |= self.match_index(state) > self.acked;
    }

    /// Sends the acknowledgement that the turn made due.
    pub(crate) fn flush(&mut self, state: &State, effects: &mut Vec<Effect>) {
        if !core::mem::take(&mut self.owes_answer) {
            return;
        }
        self.acked = self.match_index(state);
        let answer = AppendOk {
            term: state.term(),
            round: self.round,
            match_index: self.acked,
            received: self.verified,
            disk: state.disk,
            health: state.health(),
            digest: state.digest,
        };
        state.send(self.leader, Message::AppendOk(answer), effects);
    }

    /// What may be acknowledged: never a durable suffix that this leader did not confirm, nor what
    /// the disk has lost since.
    fn match_index(&self, state: &State) -> Index {
        self.verified.min(state.intact())
    }

    fn answer_conflict(&self, state: &State, prev: EntryId, effects: &mut Vec<Effect>) {
        let answer = AppendConflict {
            term: state.term(),
            round: self.round,
            prev,
            conflict: state.log.run_at(prev.index),
            last: state.log.last(),
            disk: state.disk,
            health: state.health(),
        };
        state.send(self.leader, Message::AppendConflict(answer), effects);
    }

    /// The leader contradicts what cannot be undone (rules A6).
    fn refuse(&self, state: &State, theirs: EntryId, effects: &mut Vec<Effect>) {
        let (base, last) = (state.log.base().index, state.log.last().index);
        let ours = state.log.id_at(theirs.index.clamp(base, last));
        let reason = format!(
            "node {} as leader of term {} has entry {theirs}, this node has {ours} and committed up to {}",
            self.leader,
            state.term(),
            state.commit()
        );
        effects.push(Effect::Refuse {
            peer: self.leader,
            error: Error::Divergence { reason },
        });
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, state: &State) {
        assert!(
            self.verified <= state.log.last().index,
            "verified {} is gone",
            self.verified
        );
        assert!(
            self.acked <= self.verified.min(state.log.durable()),
            "acknowledged too much"
        );
    }
}
