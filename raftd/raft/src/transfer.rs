//! Leadership transfer (thesis 3.10).

use alloc::vec::Vec;

use wire::leadership::HandOver;
use wire::peer::{DiskState, Message, TimeoutNow};
use wire::types::NodeId;

use crate::event::{CannotTransfer, Effect};
use crate::progress::Progress;
use crate::raft::{Raft, Role};
use crate::state::State;
use crate::time::Instant;

/// A leader's attempt to hand its office to a follower: nothing is appended until the follower has
/// the whole log and is told to campaign, and then until it is elected or the time is up. If the
/// follower fails, this node leads on, for it never left its office.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    to: NodeId,
    why: HandOver,
    until: Instant,
    /// The follower was told.
    is_told: bool,
}

impl Transfer {
    pub(crate) fn new(to: NodeId, why: HandOver, until: Instant) -> Self {
        Self {
            to,
            why,
            until,
            is_told: false,
        }
    }

    /// When it is given up.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Ends a turn: tells the follower to campaign, once, when its log is as long as the leader's
    /// and all of it is committed. Without the latter nobody could be told what became of the newest
    /// proposals; a disk that may never finish is not waited for.
    pub(crate) fn flush(&mut self, state: &State, peers: &[Progress], effects: &mut Vec<Effect>) {
        let last = state.log.last().index;
        let is_hopeless = state.stalled || state.disk.state == DiskState::Hard;
        let is_settled = state.commit() == last || is_hopeless;
        let mut target = peers.iter().filter(|peer| peer.id == self.to);
        if !self.is_told && is_settled && target.any(|peer| peer.match_index == last) {
            self.is_told = true;
            let (term, why) = (state.term(), self.why);
            let message = Message::TimeoutNow(TimeoutNow { term, why });
            state.send(self.to, message, effects);
        }
    }
}

impl Raft {
    /// Hands leadership over to a voter, which is brought up to date first. Meanwhile nothing is
    /// proposed; reads go on. It ends with a later term, or after an election timeout with this node
    /// leading on. Whom to choose, and why, is the node's to decide: see [`Raft::followers`].
    ///
    /// # Errors
    /// [`CannotTransfer`]; nothing changed.
    pub fn transfer(
        &mut self,
        now: Instant,
        to: NodeId,
        why: HandOver,
    ) -> Result<(), CannotTransfer> {
        let not_leader = self.not_leader();
        match &mut self.role {
            Role::Leader(leader) => leader.transfer(&self.state, now, to, why),
            _ => Err(CannotTransfer::NotLeader(not_leader)),
        }
    }

    /// Whether this node leads and is handing its office over.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.is_transferring())
    }

    /// On a leader: bytes of the entries that a follower is not known to hold; `None` if some of them
    /// have left memory, or there is no such follower. It takes about as long to bring it up to date.
    #[must_use]
    pub fn lag_bytes(&self, peer: NodeId) -> Option<usize> {
        let log = &self.state.log;
        let held = self.match_index(peer)?;
        (held.next() >= log.first_cached()).then(|| log.bytes_after(held))
    }
}
