//! When a node that hears no leader acts.

use core::time::Duration;

use wire::types::NodeId;

use crate::jitter::Jitter;
use crate::time::Instant;

/// Haste leads to the first PreVote within this time (rules B3).
const HASTE_START_MAX: Duration = Duration::from_millis(10);
/// PreVotes are repeated in haste after at least this time.
const HASTE_REPEAT_MIN: Duration = Duration::from_millis(10);
/// PreVotes are repeated in haste after at most this time.
const HASTE_REPEAT_MAX: Duration = Duration::from_millis(20);
/// Granting a PreVote keeps one's own back for this time: the other came first.
const GRANT_DELAY: Duration = Duration::from_millis(10);
/// An election lost in haste is tried again after at least this time; doubles.
const RETRY_MIN: Duration = Duration::from_millis(5);
/// An election lost in haste is tried again after at most this time; doubles.
const RETRY_MAX: Duration = Duration::from_millis(30);
/// Doublings at most: by then a retry waits longer than any election timeout of sense.
const DOUBLINGS_MAX: u32 = 6;

/// Nobody leads, probably, and an election should not wait for the election timeout: the leader's
/// end of the connection was closed (rules B3), or the cluster was formed just now.
#[derive(Clone, Copy, Debug)]
struct Haste {
    suspect: Option<NodeId>,
    until: Instant,
    elections_lost: u32,
}

/// The randomized election timer (thesis 3.4). A leader does not look at it.
#[derive(Clone, Debug)]
pub(crate) struct ElectionTimer {
    timeout_min: Duration,
    timeout_max: Duration,
    jitter: Jitter,
    at: Instant,
    haste: Option<Haste>,
}

impl ElectionTimer {
    /// A timer that is already due; `rest` gives it the first timeout.
    pub(crate) fn new(timeout_min: Duration, timeout_max: Duration, jitter: Jitter) -> Self {
        assert!(
            timeout_min > Duration::ZERO,
            "an election timeout of nothing"
        );
        Self {
            timeout_min,
            timeout_max,
            jitter,
            at: Instant::default(),
            haste: None,
        }
    }

    /// When it is due.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// The leader that is thought dead.
    pub(crate) fn suspect(&self) -> Option<NodeId> {
        self.haste?.suspect
    }

    /// Starts a whole new timeout.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.at = now + self.jitter.between(self.timeout_min, self.timeout_max);
    }

    /// A leader is heard, or a candidate has this node's vote: nothing to do for a while.
    pub(crate) fn calm(&mut self, now: Instant) {
        self.haste = None;
        self.rest(now);
    }

    /// Nobody leads: the leader's connection was closed by its end, or there was never a leader.
    pub(crate) fn hasten(&mut self, now: Instant, suspect: Option<NodeId>) {
        self.haste = Some(Haste {
            suspect,
            until: now + self.timeout_max,
            elections_lost: 0,
        });
        self.at = now + self.jitter.between(Duration::ZERO, HASTE_START_MAX);
    }

    /// PreVotes were sent, or would have been: when to do it again.
    pub(crate) fn repeat(&mut self, now: Instant) {
        self.end_haste(now);
        if self.haste.is_some() {
            let pause = self.jitter.between(HASTE_REPEAT_MIN, HASTE_REPEAT_MAX);
            self.at = now + pause;
        } else {
            self.rest(now);
        }
    }

    /// Another node's PreVote was granted.
    pub(crate) fn yield_to_other(&mut self, now: Instant) {
        self.at = self.at.max(now + GRANT_DELAY);
    }

    /// The election cannot be won any more. Without haste the timeout runs on.
    pub(crate) fn election_lost(&mut self, now: Instant) {
        self.end_haste(now);
        if let Some(haste) = &mut self.haste {
            let factor = 1 << haste.elections_lost.min(DOUBLINGS_MAX);
            haste.elections_lost += 1;
            self.at = now + self.jitter.between(RETRY_MIN * factor, RETRY_MAX * factor);
        }
    }

    /// Haste lasts one election timeout at most.
    fn end_haste(&mut self, now: Instant) {
        if self.haste.is_some_and(|haste| now >= haste.until) {
            self.haste = None;
        }
    }
}
