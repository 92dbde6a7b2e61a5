//! The clocks of one machine. The monotonic one may run fast or slow, stand still for a while, or
//! jump ahead as after a machine's sleep; it never goes back. The wall clock may be anything.

use std::time::Duration;

use raft::Instant;
use raftd::node::io::Now;

/// What the world's wall clock shows when a run begins.
const WALL_MS: u64 = 1_700_000_000_000;
/// The rate of a clock that is right: local nanoseconds per million true ones.
pub const TRUE_RATE: u32 = 1_000_000;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalClock {
    /// True time at which the local clock was last set or changed.
    anchor: Instant,
    /// What it showed then.
    shown: Instant,
    rate: u32,
    wall_ahead_ms: i64,
}

impl LocalClock {
    /// A clock of this rate that shows 0 now: a process's own time begins with it.
    #[must_use]
    pub fn new(now: Instant, rate: u32) -> Self {
        Self {
            anchor: now,
            shown: Instant::default(),
            rate,
            wall_ahead_ms: 0,
        }
    }

    /// Begins to count anew.
    pub fn start_over(&mut self, now: Instant) {
        (self.anchor, self.shown) = (now, Instant::default());
    }

    /// What the clocks show at a true time.
    #[must_use]
    pub fn show(&self, now: Instant) -> Now {
        let passed = now.since(self.anchor).as_nanos() as u64;
        // A run is short of five true hours, so the product fits.
        let passed = passed * u64::from(self.rate) / u64::from(TRUE_RATE);
        Now {
            monotonic: self.shown + Duration::from_nanos(passed),
            wall_ms: (WALL_MS + now.0 / 1_000_000).saturating_add_signed(self.wall_ahead_ms),
        }
    }

    /// The true time at which the monotonic clock will show `local`; `None` if it stands still.
    #[must_use]
    pub fn when(&self, local: Instant) -> Option<Instant> {
        if local <= self.shown {
            return Some(self.anchor);
        }
        let ahead = u128::from(local.0 - self.shown.0) * u128::from(TRUE_RATE);
        let passed = ahead.div_ceil(u128::from(self.rate).max(1));
        let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX));
        (self.rate > 0).then(|| self.anchor + passed)
    }

    /// Runs at another rate from now on; 0 is standing still.
    pub fn set_rate(&mut self, now: Instant, rate: u32) {
        self.shown = self.show(now).monotonic;
        (self.anchor, self.rate) = (now, rate);
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Jumps ahead.
    pub fn jump(&mut self, now: Instant, by: Duration) {
        self.shown = self.show(now).monotonic + by;
        self.anchor = now;
    }

    /// Sets the wall clock so far ahead, or behind.
    pub fn set_wall(&mut self, ahead_ms: i64) {
        self.wall_ahead_ms = ahead_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_seen_when_it_is_due() {
        let start = Instant(5_000);
        for rate in [1, 500_000, 999_999, TRUE_RATE, 1_300_007] {
            let mut clock = LocalClock::new(start, rate);
            clock.jump(Instant(9_000), Duration::from_secs(3600));
            for ahead in [0, 1, 7, 1_000_000_007] {
                let local = clock.show(Instant(9_000)).monotonic + Duration::from_nanos(ahead);
                let at = clock.when(local).unwrap();
                assert!(clock.show(at).monotonic >= local, "rate {rate}, {ahead}");
            }
        }
    }

    #[test]
    fn a_frozen_clock_goes_on_where_it_stood() {
        let mut clock = LocalClock::new(Instant(0), TRUE_RATE);
        clock.set_rate(Instant(100), 0);
        assert_eq!(clock.show(Instant(900)).monotonic, Instant(100));
        assert_eq!(clock.when(Instant(101)), None);
        clock.set_rate(Instant(900), TRUE_RATE);
        assert_eq!(clock.show(Instant(950)).monotonic, Instant(150));
    }
}
