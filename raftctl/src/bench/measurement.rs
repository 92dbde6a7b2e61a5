//! What a run measures, and who is told how far it is.

use std::time::Duration;

use hdrhistogram::Histogram;

const NANOS_MAX: u64 = u64::MAX / 4;

/// Looks on. Every call has a default that does nothing.
pub trait Observer {
    /// The warm-up is over.
    fn window_opened(&mut self) {}
    /// The measurement is over.
    fn window_closed(&mut self) {}
    /// A few times per second: what is going on, and how far it is (0 to 1).
    fn progress(&mut self, _doing: &str, _part: f64) {}
}

impl Observer for () {}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Operations done within the window.
    pub ops: u64,
    /// Answers within the window that were refusals, and operations lost with their connection.
    pub errors: u64,
    /// The window's length.
    pub elapsed: Duration,
    /// Microseconds from the intended time of sending to the answer.
    pub latency_us: Histogram<u64>,
    /// The lowest revision told by a counted answer; 0 if none was.
    pub first_revision: u64,
    /// The highest.
    pub last_revision: u64,
    /// Times that a new leader was heard of within the window.
    pub leader_changes: u64,
}

/// A length of time; an absurd one so that a few can still be added.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(NANOS_MAX, |nanos| nanos.min(NANOS_MAX))
}
