//! A node that is less than whole (rules D4, D5): what the driver tells of it, and asks.

use wire::entry::Entry;
use wire::peer::Digest;
use wire::types::Index;

use crate::event::FollowerView;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::raft::{Raft, Role};
use crate::time::Instant;

impl Raft {
    /// The first entry that is *faulty*: its disk has lost the payload, but knows which it was.
    /// `None` if there is none. From that entry on nothing is acknowledged, nor does this node count
    /// for it as a leader; it votes with it, and does not campaign.
    pub fn set_faulty(&mut self, first: Option<Index>) {
        self.state.faulty = first;
        self.end_campaign();
        if let Role::Follower(Follower {
            following: Some(following),
        }) = &mut self.role
        {
            following.on_durable(&self.state);
        }
        self.state.evict();
        self.check();
    }

    /// A faulty entry was fetched from a peer, and will be whole on the disk before
    /// [`Raft::set_faulty`] says so: if this node ever leads, its clock does not fall behind. If the
    /// log has lost its place to another meanwhile, which the disk may not have reported, it says
    /// nothing.
    pub fn mended(&mut self, entry: &Entry) {
        if self.state.log.term_at(entry.index()) != Some(entry.term()) {
            return;
        }
        self.state.log.note_wall_ms(entry.wall_ms());
        self.state.note_membership(entry);
        self.end_campaign();
    }

    /// The first entry that is faulty, see [`Raft::set_faulty`].
    #[must_use]
    pub fn faulty(&self) -> Option<Index> {
        self.state.faulty
    }

    /// The state is missing, or is not what a quorum has: a snapshot must replace it, which
    /// [`Raft::install`] then takes though the log is past it. Until that, nothing behind the base
    /// counts as applied, and this node votes and acknowledges but does not lead.
    pub fn rebuild(&mut self, now: Instant) {
        self.state.rebuild();
        self.end_campaign();
        if matches!(self.role, Role::Leader(_)) {
            self.become_follower(now, Follower::default());
        }
        self.state.evict();
        self.check();
    }

    /// Whether a snapshot is waited for that replaces the state.
    #[must_use]
    pub fn is_rebuilding(&self) -> bool {
        self.state.is_rebuilding()
    }

    /// Gives up asking for votes if this node would not lead any more.
    pub(crate) fn end_campaign(&mut self) {
        let asks = matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_));
        if asks && !self.state.may_campaign() {
            self.role = Role::Follower(Follower::default());
        }
    }

    /// What messages tell of states from now on (rules D5): as a leader the digest that a quorum
    /// has, as a follower this node's own.
    pub fn set_digest(&mut self, digest: Option<Digest>) {
        self.state.digest = digest;
    }

    /// On a leader: what it knows of each other member, in the order of their ids.
    pub fn followers(&self) -> impl Iterator<Item = FollowerView> {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        leader.into_iter().flat_map(Leader::followers)
    }
}
