//! Chance from a seed, in whole numbers only: the same on every machine.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One part in a million: the unit of every rate in the simulator.
pub const MILLION: u32 = 1_000_000;

/// A generator (splitmix64). Whoever needs chance of its own forks one, so that a draw more or
/// less in one place does not change what happens everywhere else.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that `seed` decides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another generator, for a part of its own.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply and shift: the bias is below 2^-32 for every bound that is used here.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        assert!(low <= high, "a range from {low} to {high}");
        low + self.below(high - low + 1)
    }

    /// True in so many of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(u64::from(MILLION)) < u64::from(per_million)
    }

    /// One of the choices, all alike.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// The place of one of these weights, which are not all 0.
    pub fn weigh(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        assert!(total > 0, "nothing to draw from");
        let mut drawn = self.below(total);
        let mut place = 0;
        while drawn >= u64::from(weights[place]) {
            drawn -= u64::from(weights[place]);
            place += 1;
        }
        place
    }

    /// A time of the range, all alike.
    pub fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = range.into_inner();
        Duration::from_nanos(self.within(nanos(low)..=nanos(high)))
    }

    /// A time around `usual` with a heavy tail: between a half and all of it in half of the cases,
    /// twice as long in half of the rest, and so on, but never over `most`.
    pub fn heavy(&mut self, usual: Duration, most: Duration) -> Duration {
        let doublings = self.bits().trailing_zeros().min(24);
        let scale = (nanos(usual) / 2).max(1) << doublings;
        let drawn = scale + self.below(scale);
        Duration::from_nanos(drawn.min(nanos(most)))
    }
}

/// A time as a number: 584 years fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_forks_go_their_own_way() {
        let draws = |mut random: Random| [random.bits(), random.bits(), random.below(100)];
        assert_eq!(draws(Random::new(7)), draws(Random::new(7)));
        assert_ne!(draws(Random::new(7)), draws(Random::new(8)));
        let mut parent = Random::new(7);
        assert_ne!(draws(parent.fork()), draws(parent));
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.within(3..=6)).collect();
        assert!((3..=6).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| (3..=6).contains(number)));
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0) && random.chance(MILLION));
        let tenths = (0..10_000).filter(|_| random.chance(MILLION / 10)).count();
        assert!((800..1200).contains(&tenths), "{tenths}");
        let weighed: Vec<usize> = (0..1000).map(|_| random.weigh(&[0, 1, 0, 9])).collect();
        assert!(weighed.iter().all(|place| [1, 3].contains(place)));
        let light = weighed.iter().filter(|place| **place == 1).count();
        assert!((50..200).contains(&light), "{light}");
    }

    #[test]
    fn the_tail_is_heavy_and_ends() {
        let mut random = Random::new(2);
        let (usual, most) = (Duration::from_millis(1), Duration::from_millis(50));
        let times: Vec<_> = (0..10_000).map(|_| random.heavy(usual, most)).collect();
        assert!(times.iter().all(|time| *time >= usual / 2 && *time <= most));
        let late = times.iter().filter(|time| **time > usual * 4).count();
        assert!((800..2000).contains(&late), "{late}");
        assert!(times.contains(&most));
    }
}
