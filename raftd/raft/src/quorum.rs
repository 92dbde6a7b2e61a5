//! Majorities: values in, values out.

use wire::limits::MEMBERS_MAX;

const _: () = assert!(
    MEMBERS_MAX <= u16::BITS as usize,
    "a tally is a bit per voter"
);

/// How many of `voters` make a quorum: any two quorums share a voter (thesis 3.4).
pub(crate) fn size(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a quorum has reached, given each voter's.
///
/// With match indexes it is what may be committed, with rounds what is confirmed, with times of
/// the last answer the moment since when a quorum is silent.
pub(crate) fn reached<T: Copy + Ord + Default>(values: impl Iterator<Item = T>) -> T {
    let mut sorted = [T::default(); MEMBERS_MAX];
    let mut count = 0;
    for value in values {
        // Insertion, greatest first: at most 16 values, no allocation.
        let mut at = count;
        while at > 0 && sorted[at - 1] < value {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = value;
        count += 1;
    }
    assert!(count > 0, "a quorum of nobody");
    sorted[size(count) - 1]
}

/// Who said yes and who said no, one bit per place in the sorted list of voters.
///
/// Invariants: a voter is counted once, whatever it repeats; its first word counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    granted: u16,
    refused: u16,
}

impl Tally {
    /// Counts the answer of the voter at this place.
    pub(crate) fn count(&mut self, place: usize, granted: bool) {
        let bit = 1 << place;
        if (self.granted | self.refused) & bit != 0 {
            return;
        }
        if granted {
            self.granted |= bit;
        } else {
            self.refused |= bit;
        }
        assert!(self.granted & self.refused == 0, "a voter said yes and no");
    }

    /// Whether the voter at this place said yes.
    pub(crate) fn has(self, place: usize) -> bool {
        self.granted & (1 << place) != 0
    }

    /// Whether a quorum said yes.
    pub(crate) fn won(self, voters: usize) -> bool {
        self.granted.count_ones() as usize >= size(voters)
    }

    /// Whether no quorum can be reached any more.
    pub(crate) fn lost(self, voters: usize) -> bool {
        voters - (self.refused.count_ones() as usize) < size(voters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        /// Brute force: the greatest value that more than half of the voters have reached.
        #[test]
        fn reached_is_what_more_than_half_have(values in prop::collection::vec(0_u64..10, 1..=7)) {
            let most = values
                .iter()
                .copied()
                .filter(|&v| values.iter().filter(|&&w| w >= v).count() * 2 > values.len())
                .max()
                .unwrap_or(0);
            prop_assert_eq!(reached(values.iter().copied()), most);
        }

        /// Two disjoint sets of voters never both win, and a lost vote can never be won.
        #[test]
        fn tally_agrees_with_counting(answers in prop::collection::vec(any::<Option<bool>>(), 1..=7)) {
            let voters = answers.len();
            let mut tally = Tally::default();
            for (place, answer) in answers.iter().enumerate() {
                if let Some(granted) = answer {
                    tally.count(place, *granted);
                    tally.count(place, !*granted);
                }
            }
            let yes = answers.iter().filter(|a| **a == Some(true)).count();
            let no = answers.iter().filter(|a| **a == Some(false)).count();
            prop_assert_eq!(tally.won(voters), yes * 2 > voters);
            prop_assert_eq!(tally.lost(voters), (voters - no) * 2 <= voters);
            prop_assert!(!(tally.won(voters) && tally.lost(voters)));
        }
    }

    #[test]
    fn any_two_quorums_share_a_voter() {
        for voters in 1..=7_usize {
            let quorums: Vec<u32> = (0..1_u32 << voters)
                .filter(|set| set.count_ones() as usize >= size(voters))
                .collect();
            assert!(quorums.iter().all(|a| quorums.iter().all(|b| a & b != 0)));
            // Not one voter more than needed: a minority may fail.
            assert!(voters - size(voters) >= (voters - 1) / 2);
        }
    }
}
