//! A leader that had better not lead hands over (thesis 3.10, rules B4, D5, E5).

use std::time::Duration;

use log::Level;
use raft::{FollowerView, Instant, RoleName};
use wire::membership::{Membership, Suffrage};
use wire::peer::DiskState;
use wire::types::NodeId;

use super::Node;
use super::disk::STALL;

/// Between two hand-overs, at least (rules B4).
const PAUSE: Duration = Duration::from_secs(10);

/// Why a leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its disk has not finished a write since then.
    Stalled(Instant),
    /// Its disk has no room for entries.
    DiskFull,
    /// Its state is not what a quorum holds.
    Minority,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Stalled(_) => "disk-stalled",
            Self::DiskFull => "disk-full",
            Self::Minority => "state-differs",
        }
    }
}

impl Node {
    /// Begins a hand-over if there is a reason and somebody fit. Nobody fit: it stays.
    pub(super) fn hand_over_if_due(&mut self) {
        let now = self.now.monotonic;
        if self.raft.role() != RoleName::Leader || self.raft.is_transferring() {
            return;
        }
        let Some(reason) = self.reason_to_hand_over() else {
            return;
        };
        if self.handed_over_at.is_some_and(|at| now.since(at) < PAUSE) {
            return;
        }
        let fit = self.raft.followers().filter(|f| self.is_fit(reason, f));
        let Some(to) = fit.max_by_key(|f| f.match_index).map(|f| f.id) else {
            return;
        };
        if self.raft.transfer(now, to).is_ok() {
            self.handed_over_at = Some(now);
            let text = format!("handing over to={to} reason={}", reason.name());
            self.journal.line(Level::Warn, text);
        }
    }

    fn reason_to_hand_over(&self) -> Option<Reason> {
        if self.condemned {
            return Some(Reason::Minority);
        }
        if let Some(since) = self.disks.stalled_since(self.now.monotonic) {
            return Some(Reason::Stalled(since));
        }
        (self.disks.state() >= DiskState::Hard).then_some(Reason::DiskFull)
    }

    fn is_fit(&self, reason: Reason, follower: &FollowerView) -> bool {
        self.would_lead(follower) && self.answers(reason, follower.id, follower.match_rose_at)
    }

    /// Whether this follower would make a good leader now.
    fn would_lead(&self, follower: &FollowerView) -> bool {
        let FollowerView {
            disk,
            health,
            suffrage,
            ..
        } = follower;
        let heard = self.now.monotonic.since(follower.heard_at) < self.config.election_timeout_min;
        let works = disk.state < DiskState::Hard
            && Duration::from_millis(u64::from(disk.oldest_write_ms)) <= STALL;
        let whole = !health.lost && !health.rebuilding;
        suffrage.votes_after() && heard && works && whole
    }

    /// Hands over to somebody who votes among these members, as this node will not. Says whether
    /// somebody could be found.
    pub(super) fn make_way(&mut self, members: &Membership) -> bool {
        let stays = |id| members.suffrage(id) == Some(Suffrage::Voter);
        let fit = self.raft.followers();
        let fit = fit.filter(|follower| stays(follower.id) && self.would_lead(follower));
        let Some(to) = fit.max_by_key(|f| f.match_index).map(|f| f.id) else {
            return self.raft.is_transferring();
        };
        if self.raft.transfer(self.now.monotonic, to).is_ok() {
            let text = format!("handing over to={to} reason=leaving");
            self.journal.line(Level::Info, text);
        }
        true
    }

    /// Whether this follower is free of what is wrong with the leader.
    fn answers(&self, reason: Reason, id: NodeId, acked_at: Instant) -> bool {
        match reason {
            Reason::Stalled(since) => acked_at >= since,
            Reason::DiskFull => true,
            Reason::Minority => {
                let right = self.digests.newest_right();
                right.is_some_and(|right| self.digests.holds_right(id, right.index))
            }
        }
    }
}
