//! The pace of what this node's disk fails to do, again and again.

use std::time::Duration;

use raft::Instant;

/// From a failure to the next attempt..
const REST: Duration = Duration::from_secs(1);
/// ..and twice as long after each further one in a row, up to so many times.
const DOUBLINGS_MAX: u32 = 6;

/// When it may be tried again: at once, or after a rest that grows with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    rests_until: Instant,
}

impl Retry {
    /// From when on it may be tried.
    pub(super) fn at(&self) -> Instant {
        self.rests_until
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.rests_until = now + REST * (1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
    }

    /// The next failure is the first one again.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}
