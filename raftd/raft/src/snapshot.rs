//! Snapshots and compaction (thesis 5): what the node tells of them, and what it asks.

use alloc::vec::Vec;

use bytes::Bytes;
use wire::entry::EntryKind;
use wire::membership::Membership;
use wire::peer::{InstallSnapshot, Message};
use wire::types::{EntryId, Index, NodeId};

use crate::event::{CannotPropose, Effect, Installed};
use crate::follower::Follower;
use crate::leader::Leader;
use crate::raft::{Raft, Role};

impl Raft {
    /// The entry that the log begins behind; 0@0 if it is whole.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.state.log.base()
    }

    /// Appends the entry as of which every node takes a snapshot; `flush` sends and writes it.
    /// # Errors
    /// See [`CannotPropose`].
    pub fn propose_snapshot(&mut self, wall_ms: u64) -> Result<EntryId, CannotPropose> {
        self.append(wall_ms, EntryKind::SnapshotAt, &[])
    }

    /// Lets the log begin behind `upto`: a published snapshot covers what is before (thesis 5.1).
    /// Nothing happens if it begins there or later already. Followers that lack what is forgotten
    /// will need a snapshot.
    ///
    /// # Panics
    /// If `upto` was never reported as applied, to this state or the one before it, or is not
    /// durable.
    pub fn compact(&mut self, upto: Index) {
        self.state.compact(upto);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_compacted(&self.state);
        }
        self.check();
    }

    /// A snapshot from the leader is verified and published; the node replaces its state by it
    /// unless the answer is [`Installed::Stale`] (thesis 5.3). `wall_ms` is the wall clock that the
    /// snapshot ends with, `membership` who is a member as of it.
    pub fn install(
        &mut self,
        snapshot: EntryId,
        wall_ms: u64,
        membership: &Membership,
    ) -> Installed {
        // A leader's log holds all that is committed.
        let following = match &mut self.role {
            Role::Leader(_) => return Installed::Stale,
            Role::Follower(Follower { following }) => following.as_mut(),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        if snapshot.index <= self.state.commit() && !self.state.wants(snapshot) {
            return Installed::Stale;
        }
        let installed = if !self.state.log.contradicts(snapshot) {
            self.state.log.note_wall_ms(wall_ms);
            Installed::Kept
        } else {
            // Up to here the log agrees with the leader's, and so with the snapshot.
            let verified = following.as_ref().map_or(Index(0), |f| f.verified());
            let agreed = verified.max(self.state.commit());
            let agreed = self.state.log.id_at(agreed);
            if agreed.index >= snapshot.index || agreed.term > snapshot.term {
                // It is not of this leader's log, which it cannot be.
                return Installed::Stale;
            }
            self.state.memberships.truncate(agreed.index.next());
            self.state.log.reset(snapshot, wall_ms, agreed.index);
            Installed::Reset
        };
        self.state.memberships.install(snapshot, membership.clone());
        self.state.pass(snapshot);
        if let Some(following) = following {
            following.verify(snapshot.index);
        }
        self.end_campaign();
        self.check();
        installed
    }

    /// How much this node holds of a snapshot's file, from its start, after [`Effect::Chunk`]. The
    /// term's leader is told, if one is followed.
    pub fn answer_chunk(&self, snapshot: EntryId, received_bytes: u64, effects: &mut Vec<Effect>) {
        if let Role::Follower(Follower {
            following: Some(following),
        }) = &self.role
        {
            following.answer_chunk(&self.state, snapshot, received_bytes, effects);
        }
    }

    /// On a leader: the followers that lack entries which the log no longer holds, and those that
    /// rebuild their state, to which entries flow meanwhile. The node sends each a snapshot of the
    /// base or a later entry, by [`Raft::chunk`], and compacts no further than that meanwhile.
    pub fn needs_snapshot(&self) -> impl Iterator<Item = NodeId> {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        leader.into_iter().flat_map(Leader::needs_snapshot)
    }

    /// Sends a piece of a snapshot's file to a follower that needs one; nothing if it does not, or
    /// this node does not lead.
    pub fn chunk(
        &self,
        to: NodeId,
        snapshot: EntryId,
        total_bytes: u64,
        offset: u64,
        bytes: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        if let Role::Leader(leader) = &self.role
            && leader.needs_snapshot().any(|id| id == to)
        {
            let chunk = InstallSnapshot {
                term: self.state.term(),
                round: leader.round(),
                snapshot,
                total_bytes,
                offset,
                bytes,
            };
            let message = Message::InstallSnapshot(chunk);
            self.state.send(to, message, effects);
        }
    }
}
