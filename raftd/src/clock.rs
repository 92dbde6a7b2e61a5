//! The only place that reads time. Everything else is told what time it is.

use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use raft::Instant;

use crate::node::io::Now;

/// The two clocks of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: SystemInstant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: SystemInstant::now(),
        }
    }

    /// Both clocks, for one turn of the loop.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            monotonic: self.monotonic(),
            wall_ms: wall_ms(),
        }
    }

    /// Nanoseconds since [`Clock::start`].
    #[must_use]
    pub fn monotonic(&self) -> Instant {
        // 584 years fit.
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since 1970; 0 if the machine's clock stands before that.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The machine's wall clock, for the time stamps of the log.
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
