//! Majorities, as the judges count them: with no line of the core's code.

use wire::membership::{Membership, Suffrage};
use wire::types::NodeId;

/// Whether those that `has` names are a majority of either set of voters (thesis 4.3).
#[must_use]
pub fn is_quorum(membership: &Membership, has: impl Fn(NodeId) -> bool) -> bool {
    let sets: [fn(Suffrage) -> bool; 2] = [Suffrage::votes_before, Suffrage::votes_after];
    sets.iter().all(|votes| {
        let members = membership.members.iter();
        let voters = members.filter(|member| votes(member.suffrage));
        let (all, having) = voters.fold((0, 0), |(all, having), member| {
            (all + 1, having + usize::from(has(member.id)))
        });
        2 * having > all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_either_set_it_is() {
        let ids: Vec<_> = (1..=5).map(|id| (NodeId(id), String::new())).collect();
        let mut membership = Membership::initial(&ids, &[]);
        let quorum =
            |membership: &Membership, ids: &[u64]| is_quorum(membership, |id| ids.contains(&id.0));
        assert!(quorum(&membership, &[1, 4, 5]));
        assert!(!quorum(&membership, &[1, 5, 6, 7]));
        // From 1, 2, 3 to 1, 4, 5.
        for (place, suffrage) in [
            (1, Suffrage::Leaving),
            (2, Suffrage::Demoted),
            (3, Suffrage::Incoming),
            (4, Suffrage::Incoming),
        ] {
            membership.members[place].suffrage = suffrage;
        }
        assert!(quorum(&membership, &[1, 2, 4]));
        assert!(quorum(&membership, &[2, 3, 4, 5]));
        assert!(!quorum(&membership, &[1, 2, 3]));
        assert!(!quorum(&membership, &[1, 4, 5]));
    }
}
