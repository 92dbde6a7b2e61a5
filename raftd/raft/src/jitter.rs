//! The one source of randomness: seeded by the caller, so that a run can be repeated.

use core::time::Duration;

/// A splitmix64 generator. Not for secrets: it spreads timeouts (thesis 3.4).
#[derive(Clone, Debug)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    /// Nodes that share a seed must still differ, so the node's id is mixed in by the caller.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `min..=max`, to the nanosecond.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        assert!(min <= max, "an empty range has nothing to draw from");
        let span = (max - min).as_nanos();
        // The product fits: a span below 2^64 ns is 584 years.
        let drawn = (u128::from(self.next()) * (span + 1)) >> 64;
        min + Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_range_and_reaches_all_of_it() {
        let mut jitter = Jitter::new(7);
        let (min, max) = (Duration::from_millis(150), Duration::from_millis(300));
        let mut buckets = [0_u32; 10];
        for _ in 0..10_000 {
            let drawn = jitter.between(min, max);
            assert!((min..=max).contains(&drawn));
            let bucket = (drawn - min).as_nanos() * 10 / ((max - min).as_nanos() + 1);
            buckets[usize::try_from(bucket).expect("a bucket is below 10")] += 1;
        }
        assert!(
            buckets.iter().all(|&n| (850..1150).contains(&n)),
            "{buckets:?}"
        );
        assert_eq!(jitter.between(min, min), min);
    }

    /// Nodes that start together must not time out together.
    #[test]
    fn nodes_of_one_seed_do_not_correlate() {
        let (mut a, mut b) = (Jitter::new(1 ^ 42), Jitter::new(2 ^ 42));
        let (min, max) = (Duration::ZERO, Duration::from_millis(100));
        let close = (0..1000)
            .filter(|_| {
                let (x, y) = (a.between(min, max), b.between(min, max));
                x.abs_diff(y) < Duration::from_millis(1)
            })
            .count();
        assert!(close < 50, "{close} of 1000 draws within 1 %, 20 expected");
    }
}
