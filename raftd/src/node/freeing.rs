//! Views that are over: their keys are freed between other work.

use std::time::Duration;

use raft::Instant;

use crate::store::Remains;
use crate::store::map::Map;

/// Between two pieces. So a loop spends a fiftieth of its time on them, and 10^6 small records that have
/// all changed are free in some ten seconds.
const PAUSE: Duration = Duration::from_millis(1);

/// What is to be freed, and when.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    remains: Remains,
    /// When the next piece is due.
    due_at: Instant,
}

impl Freeing {
    /// Nobody needs these keys any more.
    pub(super) fn add(&mut self, map: Map) {
        map.discard(&mut self.remains);
    }

    /// Frees a piece, if one is due.
    pub(super) fn tend(&mut self, now: Instant) {
        if self.deadline().is_some_and(|due_at| due_at <= now) {
            self.remains.free_piece();
            self.due_at = now + PAUSE;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.remains.is_empty()).then_some(self.due_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample;

    #[test]
    fn a_piece_is_freed_at_a_time_and_the_rest_later() {
        let mut freeing = Freeing::default();
        let mut now = Instant::default() + Duration::from_secs(9);
        freeing.tend(now);
        assert_eq!(freeing.deadline(), None);
        freeing.add(sample(3_200).view().into_map());
        let mut pieces = 0;
        while let Some(due_at) = freeing.deadline() {
            now = now.max(due_at);
            freeing.tend(now);
            pieces += 1;
            let next = freeing.deadline();
            freeing.tend(now + PAUSE / 2);
            assert_eq!(freeing.deadline(), next, "too early");
            assert!(next.is_none_or(|next| next == now + PAUSE));
        }
        assert!((30..=45).contains(&pieces), "{pieces}");
    }
}
