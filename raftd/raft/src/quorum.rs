//! Majorities: values in, values out.

use wire::limits::MEMBERS_MAX;

use crate::membership::Voters;
use crate::state::State;

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

/// Who said yes and who said no, one bit per place among the [`Voters`].
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

    /// Counts the vote of this node for itself, if it has one.
    pub(crate) fn count_own(&mut self, state: &State) {
        if let Some(place) = state.own_place() {
            self.count(place, true);
        }
    }

    /// Whether a quorum said yes.
    pub(crate) fn won(self, voters: &Voters) -> bool {
        voters.has_quorum(self.granted)
    }

    /// Whether no quorum can be reached any more.
    pub(crate) fn lost(self, voters: &Voters) -> bool {
        !voters.has_quorum(!self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use wire::membership::{Membership, Suffrage};
    use wire::types::NodeId;

    /// Members 1, 2, .. of these suffrages.
    fn voters(suffrages: &[Suffrage]) -> Voters {
        let ids = (1..=suffrages.len() as u64).map(|id| (NodeId(id), String::new()));
        let mut membership = Membership::initial(&ids.collect::<Vec<_>>(), &[]);
        for (member, suffrage) in membership.members.iter_mut().zip(suffrages) {
            member.suffrage = *suffrage;
        }
        Voters::new(&membership)
    }

    fn suffrage() -> impl Strategy<Value = Suffrage> {
        prop_oneof![
            Just(Suffrage::Learner),
            Just(Suffrage::Voter),
            Just(Suffrage::Incoming),
            Just(Suffrage::Demoted),
            Just(Suffrage::Leaving),
        ]
    }

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
            let voters = voters(&vec![Suffrage::Voter; answers.len()]);
            let mut tally = Tally::default();
            for (place, answer) in answers.iter().enumerate() {
                if let Some(granted) = answer {
                    tally.count(place, *granted);
                    tally.count(place, !*granted);
                }
            }
            let yes = answers.iter().filter(|a| **a == Some(true)).count();
            let no = answers.iter().filter(|a| **a == Some(false)).count();
            prop_assert_eq!(tally.won(&voters), yes * 2 > answers.len());
            prop_assert_eq!(tally.lost(&voters), (answers.len() - no) * 2 <= answers.len());
            prop_assert!(!(tally.won(&voters) && tally.lost(&voters)));
        }

        /// In joint consensus a quorum is one of either set, and two such sets of voters share a
        /// voter in each (thesis 4.3).
        #[test]
        fn a_joint_quorum_is_one_of_both_sets(
            suffrages in prop::collection::vec(suffrage(), 1..=9), yes in any::<u16>(),
        ) {
            let mut suffrages = suffrages;
            suffrages.push(Suffrage::Voter);
            let voters = voters(&suffrages);
            let votes: Vec<_> = suffrages.iter().filter(|s| s.votes()).collect();
            let majority = |of: fn(Suffrage) -> bool| {
                let set: Vec<usize> = (0..votes.len()).filter(|&i| of(*votes[i])).collect();
                set.iter().filter(|&&i| yes & 1 << i != 0).count() * 2 > set.len()
            };
            prop_assert_eq!(
                voters.has_quorum(yes),
                majority(Suffrage::votes_before) && majority(Suffrage::votes_after)
            );
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
