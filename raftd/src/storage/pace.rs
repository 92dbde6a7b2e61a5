//! When the chores of the background thread are done, and how long they rest.

use std::time::Duration;

use raft::Instant;

use super::spares::SPARES_MIN;

/// Between two pieces of a spare, so that the log's own syncs keep the disk, and the loop the
/// processor: about 1 MiB in 5 ms.
pub(super) const PACE: Duration = Duration::from_micros(600);
/// While the log takes one spare after the other within this time, and some are left, none is made:
/// zeros would cost a follower that catches up, or a load, as much of the disk as what they write.
const BURST: Duration = Duration::from_secs(1);
/// A read for a follower that lags, and that comes less late than this, delays no later one.
const LATE: Duration = Duration::from_millis(20);

/// How long to rest after so many bytes; not at all if there is no rate.
pub(super) fn pace(bytes: u64, rate_bytes: u64) -> Duration {
    let micros = (bytes * 1_000_000).checked_div(rate_bytes);
    Duration::from_micros(micros.unwrap_or(0))
}

/// The rest of a chore between two steps, whatever wakes the thread meanwhile.
#[derive(Debug, Default)]
pub(super) struct Rest {
    ends_at: Instant,
}

impl Rest {
    /// How much of it is left; `None` if it is over.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        (now < self.ends_at).then(|| self.ends_at.since(now))
    }

    /// Begins another one, and says how long it is.
    pub(super) fn begin(&mut self, now: Instant, rest: Duration) -> Duration {
        self.ends_at = now + rest;
        rest
    }
}

/// When pieces of spares are made, whatever else the thread does meanwhile (rules E7).
#[derive(Debug, Default)]
pub(super) struct SparePace {
    /// Spares that were left when it was last asked.
    left: usize,
    /// When there last were fewer than before.
    taken_at: Instant,
    /// When the last piece was made.
    pub(super) made_at: Instant,
}

impl SparePace {
    /// How long the next piece waits, when so many are left.
    pub(super) fn rest(&mut self, left: usize, now: Instant) -> Duration {
        if left < self.left {
            self.taken_at = now;
        }
        self.left = left;
        let paced = self.made_at + PACE;
        let due = match left {
            0 => now,
            few if few < SPARES_MIN => paced,
            _ => paced.max(self.taken_at + BURST),
        };
        due.since(now)
    }
}

/// From when the pace counts on, for what was due and began later: what was only a little late is
/// made up for, and who rested longer than [`LATE`] has nothing in hand.
pub(super) fn next_due(due: Instant, began: Instant) -> Instant {
    if began.since(due) < LATE { due } else { began }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_spares_keep_their_pace_unless_none_is_left() {
        let now = Instant::default() + Duration::from_secs(9);
        let mut pace = SparePace {
            made_at: now,
            ..SparePace::default()
        };
        assert_eq!(pace.rest(SPARES_MIN, now), PACE);
        assert_eq!(pace.rest(SPARES_MIN, now + PACE / 2), PACE / 2);
        assert_eq!(pace.rest(SPARES_MIN, now + PACE), Duration::ZERO);
        assert_eq!(pace.rest(1, now), PACE);
        assert_eq!(pace.rest(0, now), Duration::ZERO, "the log waits");
    }

    #[test]
    fn no_spare_is_made_while_the_log_takes_many_and_some_are_left() {
        let taken = Instant::default() + Duration::from_secs(9);
        let mut pace = SparePace::default();
        assert_eq!(pace.rest(SPARES_MIN + 2, taken), Duration::ZERO);
        assert_eq!(pace.rest(SPARES_MIN + 1, taken), BURST);
        let later = taken + BURST / 2;
        assert_eq!(pace.rest(SPARES_MIN + 1, later), BURST / 2);
        assert_eq!(pace.rest(SPARES_MIN, later), BURST, "it goes on");
        assert_eq!(pace.rest(SPARES_MIN, later + BURST), Duration::ZERO, "over");
        assert_eq!(
            pace.rest(SPARES_MIN - 1, later),
            Duration::ZERO,
            "few are left"
        );
    }

    #[test]
    fn a_little_lateness_is_made_up_for_and_no_more() {
        let due = Instant::default() + Duration::from_secs(1);
        let late = |late: Duration| next_due(due, due + late);
        assert_eq!(late(Duration::ZERO), due);
        assert_eq!(late(LATE / 2), due);
        assert_eq!(late(LATE), due + LATE, "a rest is no credit");
        assert_eq!(late(LATE * 9), due + LATE * 9);
    }
}
