//! A leader hands over (thesis 3.10): because it had better not lead (rules B4, D5, E5), or
//! because somebody wants it (`resign.rs`). Whom it may hand over to is decided here.

use std::fmt;
use std::time::Duration;

use log::Level;
use raft::{FollowerView, Instant, RoleName};
use wire::leadership::HandOver;
use wire::membership::{Membership, Suffrage};
use wire::peer::DiskState;
use wire::types::NodeId;

use super::Node;
use super::disk::STALL;

/// Between two hand-overs that nobody asked for, at least (rules B4).
const PAUSE: Duration = Duration::from_secs(10);
/// What a target may lack, in bytes: it goes over within the shortest election timeout, while writes
/// wait, at the 100 MB/s of a follower that catches up.
const LAG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its disk has not finished a write since then.
    Stalled(Instant),
    /// Its disk has no room for entries.
    DiskFull,
    /// Its state is not what a quorum holds.
    Minority,
    /// An operator wishes it.
    Asked,
    /// It was told to stop.
    Stopping,
    /// It will not vote any more.
    Leaving,
}

impl Reason {
    /// What others are told of it.
    fn told(self) -> HandOver {
        match self {
            Self::Stalled(_) => HandOver::DiskStalled,
            Self::DiskFull => HandOver::DiskFull,
            Self::Minority => HandOver::StateDiffers,
            Self::Asked => HandOver::Asked,
            Self::Stopping => HandOver::Stopping,
            Self::Leaving => HandOver::Leaving,
        }
    }
}

/// Why a follower would not take over, or not soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    NoVoter,
    Silent { for_ms: u128 },
    Lost,
    Rebuilding,
    DiskFull,
    DiskStalled,
    Behind { entries: u64 },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoter => f.write_str("does not vote, and only voters lead"),
            Self::Silent { for_ms } => write!(f, "has not answered for {for_ms} ms"),
            Self::Lost => f.write_str("lost entries that it had acknowledged, and is being healed"),
            Self::Rebuilding => f.write_str("waits for a snapshot to rebuild its state"),
            Self::DiskFull => f.write_str("has a full disk"),
            Self::DiskStalled => f.write_str("has a disk that is stalled"),
            Self::Behind { entries } => write!(f, "is {entries} entries behind"),
        }
    }
}

impl Unfit {
    /// What would help.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::NoVoter => "`raftctl promote-peer` makes a voter of a learner",
            Self::Silent { .. } => "is it running, and reachable for the leader? `raftctl status`",
            Self::Lost | Self::Rebuilding => "`raftctl status` tells when it serves again",
            Self::DiskFull | Self::DiskStalled => "look after its disk, or name another member",
            Self::Behind { .. } => "try again when `raftctl wait-ready --caught-up` says so of it",
        }
    }
}

impl Node {
    /// Begins a hand-over if there is a reason and somebody fit. Nobody fit: it stays.
    pub(super) fn hand_over_if_due(&mut self) {
        if self.raft.role() != RoleName::Leader || self.raft.is_transferring() {
            return;
        }
        // If it had begun one, that has failed.
        self.leaders.handing_over = None;
        let Some(reason) = self.reason_to_hand_over() else {
            return;
        };
        if self.has_handed_over_lately() {
            return;
        }
        let fit = self
            .raft
            .followers()
            .filter(|follower| self.unfit(follower).is_none() && self.answers(reason, follower));
        let Some(to) = best(fit) else {
            return;
        };
        if self.hand_over(reason, to) {
            self.handed_over_at = Some(self.now.monotonic);
        }
    }

    /// Whether one that nobody asked for must wait: writes wait for each, also if it fails.
    fn has_handed_over_lately(&self) -> bool {
        let since = |at| self.now.monotonic.since(at);
        self.handed_over_at.is_some_and(|at| since(at) < PAUSE)
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

    /// Has a follower take over, if none is being asked to yet.
    pub(super) fn hand_over(&mut self, reason: Reason, to: NodeId) -> bool {
        let why = reason.told();
        let begun = self.raft.transfer(self.now.monotonic, to, why).is_ok();
        if begun {
            self.leaders.handing_over = Some(why);
            let level = match reason {
                Reason::Asked | Reason::Stopping | Reason::Leaving => Level::Info,
                Reason::Stalled(_) | Reason::DiskFull | Reason::Minority => Level::Warn,
            };
            let text = format!("handing over to={to} reason={}", why.name());
            self.journal.line(level, text);
        }
        begun
    }

    /// Hands over to somebody who votes among these members, as this node will not. Says whether
    /// somebody could be found.
    pub(super) fn make_way(&mut self, members: &Membership) -> bool {
        if self.raft.is_transferring() {
            return true;
        }
        let stays = |id| members.suffrage(id) == Some(Suffrage::Voter);
        let fit = self.raft.followers();
        let fit = fit.filter(|follower| stays(follower.id) && self.unfit(follower).is_none());
        best(fit).is_some_and(|to| self.hand_over(Reason::Leaving, to))
    }

    /// The same for a change that nobody waits for.
    pub(super) fn make_way_if_due(&mut self, members: &Membership) {
        if !self.has_handed_over_lately() && self.make_way(members) {
            self.handed_over_at = Some(self.now.monotonic);
        }
    }

    /// Why a follower would not take over; `None`: it would.
    fn unfit(&self, follower: &FollowerView) -> Option<Unfit> {
        let FollowerView {
            disk,
            health,
            heard_at,
            suffrage,
            ..
        } = *follower;
        if !suffrage.votes_after() {
            return Some(Unfit::NoVoter);
        }
        let silence = self.now.monotonic.since(heard_at);
        if silence >= self.config.election_timeout_min {
            let for_ms = silence.as_millis();
            return Some(Unfit::Silent { for_ms });
        }
        if health.lost {
            Some(Unfit::Lost)
        } else if health.rebuilding {
            Some(Unfit::Rebuilding)
        } else if disk.state >= DiskState::Hard {
            Some(Unfit::DiskFull)
        } else if Duration::from_millis(u64::from(disk.oldest_write_ms)) > STALL {
            Some(Unfit::DiskStalled)
        } else {
            None
        }
    }

    /// Whether this follower is free of what is wrong with the leader.
    fn answers(&self, reason: Reason, follower: &FollowerView) -> bool {
        match reason {
            Reason::Stalled(since) => follower.match_rose_at >= since,
            Reason::DiskFull | Reason::Asked | Reason::Stopping | Reason::Leaving => true,
            Reason::Minority => {
                let right = self.digests.newest_right();
                right.is_some_and(|right| self.digests.holds_right(follower.id, right.index))
            }
        }
    }

    /// As [`Node::unfit`], for a hand-over that can as well be left: then writes shall not wait long
    /// for it.
    pub(super) fn unfit_now(&self, follower: &FollowerView) -> Option<Unfit> {
        let FollowerView {
            id, match_index, ..
        } = *follower;
        let lag = self.raft.lag_bytes(id);
        let entries = self.raft.last().index.0 - match_index.0;
        let behind = lag.is_none_or(|bytes| bytes > LAG_BYTES_MAX);
        self.unfit(follower)
            .or(behind.then_some(Unfit::Behind { entries }))
    }

    /// The follower that can take over soonest.
    pub(super) fn heir(&self) -> Option<NodeId> {
        let followers = self.raft.followers();
        best(followers.filter(|follower| self.unfit_now(follower).is_none()))
    }
}

/// Who has most of the log.
fn best(followers: impl Iterator<Item = FollowerView>) -> Option<NodeId> {
    let best = followers.max_by_key(|follower| follower.match_index);
    best.map(|follower| follower.id)
}
