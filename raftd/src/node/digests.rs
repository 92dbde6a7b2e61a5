//! Whether the members agree about the state (rules D5): each tells the digest of its own at
//! certain indexes, and what a quorum holds is right.

use std::collections::{BTreeMap, VecDeque};

use wire::membership::Membership;
use wire::peer::Digest;
use wire::types::{Index, NodeId};

/// Digests of one origin that are remembered.
const KEPT_MAX: usize = 64;

/// Digests by ascending index: the newest [`KEPT_MAX`].
#[derive(Debug, Default)]
struct Ring(VecDeque<Digest>);

impl Ring {
    /// What is not newer than the newest is passed over.
    fn push(&mut self, digest: Digest) {
        if self.0.back().is_some_and(|last| last.index >= digest.index) {
            return;
        }
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(digest);
    }

    fn at(&self, index: Index) -> Option<u128> {
        let place = self.0.binary_search_by_key(&index, |d| d.index).ok()?;
        Some(self.0[place].sum)
    }

    fn newest(&self) -> Option<Digest> {
        self.0.back().copied()
    }
}

/// What the members' digests at an index come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Too few have told to say.
    Open,
    /// A quorum holds this sum.
    Agreed(u128),
    /// Enough have told for a quorum, and none of their sums is held by one.
    Split,
}

/// What this node knows of the states of all.
///
/// Invariants:
/// - all indexes are multiples of `step`;
/// - `agreed_upto` is an index at which this node's digest was the quorum's, and never falls
///   unless the state is thrown away;
/// - `told` is what this term's followers told, and empty on others than leaders.
#[derive(Debug)]
pub(super) struct Digests {
    step: u64,
    own: Ring,
    /// The quorum's: found by a leader, told by it to the others.
    right: Ring,
    told: BTreeMap<NodeId, Ring>,
    agreed_upto: Index,
    /// The newest index without a quorum, unless a later one has one.
    split: Option<Index>,
}

impl Digests {
    /// Digests are taken at the multiples of `step`.
    pub(super) fn new(step: u64) -> Self {
        Self {
            step,
            own: Ring::default(),
            right: Ring::default(),
            told: BTreeMap::new(),
            agreed_upto: Index::default(),
            split: None,
        }
    }

    /// Whether the digest at this index is to be taken.
    pub(super) fn is_due(&self, index: Index) -> bool {
        index.0.is_multiple_of(self.step)
    }

    /// This node applied everything up to `digest.index`. Says whether it is not what a quorum
    /// holds.
    #[must_use]
    pub(super) fn take(&mut self, digest: Digest) -> bool {
        self.own.push(digest);
        self.differs(digest.index)
    }

    /// The newest of this node.
    pub(super) fn newest_own(&self) -> Option<Digest> {
        self.own.newest()
    }

    /// The newest that a quorum holds.
    pub(super) fn newest_right(&self) -> Option<Digest> {
        self.right.newest()
    }

    /// Up to here this node's state is known to be right.
    pub(super) fn agreed_upto(&self) -> Index {
        self.agreed_upto
    }

    /// The members cannot say what is right since this index.
    pub(super) fn split(&self) -> Option<Index> {
        self.split
    }

    /// The leader told what a quorum holds. Says whether this node holds something else.
    #[must_use]
    pub(super) fn learn(&mut self, right: Digest) -> bool {
        self.right.push(right);
        self.differs(right.index)
    }

    /// A follower told its own.
    pub(super) fn told(&mut self, from: NodeId, digest: Digest) {
        self.told.entry(from).or_default().push(digest);
    }

    /// On a leader, which is `own`: what the digests of the voters at this index come to. Says whether
    /// this node's own is not what a quorum of them holds.
    #[must_use]
    pub(super) fn judge(&mut self, index: Index, own: NodeId, members: &Membership) -> bool {
        match self.find(index, own, members) {
            Finding::Open => false,
            Finding::Agreed(sum) => {
                self.split.take_if(|split| *split <= index);
                self.learn(Digest { index, sum })
            }
            Finding::Split => {
                if self.right.newest().is_none_or(|right| right.index < index) {
                    self.split = self.split.max(Some(index));
                }
                false
            }
        }
    }

    /// Who told the sum that is right at this index.
    pub(super) fn holds_right(&self, follower: NodeId, index: Index) -> bool {
        let told = self.told.get(&follower).and_then(|ring| ring.at(index));
        told.is_some() && told == self.right.at(index)
    }

    /// The state is thrown away, and what was known of it.
    pub(super) fn forget_own(&mut self) {
        self.own = Ring::default();
        self.agreed_upto = Index::default();
    }

    /// A reign ends or begins: what followers told belongs to it.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
        self.split = None;
    }

    fn find(&self, index: Index, own: NodeId, members: &Membership) -> Finding {
        let sum_of = |id: NodeId| match self.told.get(&id) {
            _ if id == own => self.own.at(index),
            told => told?.at(index),
        };
        if !members.has_quorum(|id| sum_of(id).is_some()) {
            return Finding::Open;
        }
        let is_held = |sum: &u128| members.has_quorum(|id| sum_of(id) == Some(*sum));
        let mut sums = members
            .members
            .iter()
            .filter_map(|member| sum_of(member.id));
        sums.find(is_held).map_or(Finding::Split, Finding::Agreed)
    }

    fn differs(&mut self, index: Index) -> bool {
        let (Some(own), Some(right)) = (self.own.at(index), self.right.at(index)) else {
            return false;
        };
        if own == right {
            self.agreed_upto = self.agreed_upto.max(index);
        }
        own != right
    }
}

#[cfg(test)]
mod tests {
    use wire::membership::Suffrage;

    use super::*;

    const OWN: NodeId = NodeId(1);
    const STEP: u64 = 1_024;
    const I: Index = Index(STEP);

    fn digest(sum: u128) -> Digest {
        Digest { index: I, sum }
    }

    fn voters(ids: [u64; 3]) -> Membership {
        Membership::initial(&ids.map(|id| (NodeId(id), String::new())), &[])
    }

    fn three() -> Membership {
        voters([1, 2, 3])
    }

    /// A leader of three that holds `own`, and what the two others told.
    fn leader(own: u128, others: &[u128]) -> Digests {
        let mut digests = Digests::new(STEP);
        assert!(!digests.take(digest(own)));
        for (node, sum) in others.iter().enumerate() {
            digests.told(NodeId(node as u64 + 2), digest(*sum));
        }
        digests
    }

    #[test]
    fn what_a_quorum_holds_is_right() {
        let mut digests = leader(7, &[7]);
        assert!(!digests.judge(I, OWN, &three()));
        assert_eq!(digests.newest_right(), Some(digest(7)));
        assert_eq!(digests.agreed_upto(), I);
        assert!(digests.holds_right(NodeId(2), I));
    }

    #[test]
    fn what_was_told_in_one_reign_says_nothing_in_the_next() {
        let mut digests = leader(7, &[8]);
        assert!(!digests.judge(I, OWN, &three()));
        assert_eq!(digests.split(), Some(I));
        digests.forget_told();
        assert_eq!(digests.split(), None);
        assert!(!digests.judge(I, OWN, &three()));
        assert_eq!(digests.split(), None, "nobody told anything yet");
    }

    #[test]
    fn a_leader_alone_is_in_the_minority() {
        let mut digests = leader(7, &[8, 8]);
        assert!(digests.judge(I, OWN, &three()));
        assert_eq!(digests.newest_right(), Some(digest(8)));
        assert_eq!(digests.agreed_upto(), Index(0));
        assert!(digests.holds_right(NodeId(3), I));
    }

    #[test]
    fn one_voice_proves_nothing() {
        let mut digests = leader(7, &[]);
        assert!(!digests.judge(I, OWN, &three()));
        assert_eq!(digests.newest_right(), None);
        assert_eq!(digests.split(), None);
    }

    #[test]
    fn without_a_quorum_nobody_is_right_until_a_later_index_has_one() {
        let mut digests = leader(7, &[8]);
        assert!(!digests.judge(I, OWN, &three()));
        assert_eq!(digests.split(), Some(I));
        digests.told(NodeId(3), digest(8));
        assert!(digests.judge(I, OWN, &three()), "the third voice decides");
        assert_eq!(digests.split(), None);
    }

    /// From 1, 2, 3 to 1, 4, 5.
    #[test]
    fn in_joint_consensus_a_quorum_of_either_set_holds_what_is_right() {
        let members = three().toward(&voters([1, 4, 5]));
        let mut digests = leader(7, &[7, 7]);
        assert!(!digests.judge(I, OWN, &members));
        assert_eq!(
            digests.newest_right(),
            None,
            "the set of after has not told"
        );
        digests.told(NodeId(4), digest(8));
        digests.told(NodeId(5), digest(8));
        assert!(!digests.judge(I, OWN, &members), "the two sets differ");
        assert_eq!(digests.split(), Some(I));

        let mut digests = leader(7, &[8, 7, 7, 8]);
        assert!(!digests.judge(I, OWN, &members));
        assert_eq!(digests.newest_right(), Some(digest(7)));
    }

    /// A leader on its way out has no voice.
    #[test]
    fn who_does_not_vote_is_not_counted() {
        let mut members = three();
        members.members[0].suffrage = Suffrage::Learner;
        let mut digests = leader(7, &[7]);
        assert!(!digests.judge(I, OWN, &members));
        assert_eq!(digests.newest_right(), None);
        digests.told(NodeId(3), digest(7));
        assert!(!digests.judge(I, OWN, &members));
        assert_eq!(digests.newest_right(), Some(digest(7)));
    }

    #[test]
    fn a_follower_compares_in_either_order() {
        let mut digests = Digests::new(STEP);
        assert!(!digests.learn(digest(7)), "it has not come so far");
        assert!(digests.take(digest(8)));
        let mut digests = Digests::new(STEP);
        assert!(!digests.take(digest(8)));
        assert!(digests.learn(digest(7)));
        digests.forget_own();
        assert!(!digests.take(digest(7)), "the state that was rebuilt");
    }

    #[test]
    fn a_state_that_is_thrown_away_takes_along_what_was_known_of_it() {
        let mut digests = leader(7, &[7]);
        assert!(!digests.judge(I, OWN, &three()));
        digests.forget_own();
        let left = (digests.newest_own(), digests.agreed_upto());
        assert_eq!(left, (None, Index(0)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut digests = Digests::new(STEP);
        for step in 1..=KEPT_MAX as u64 + 1 {
            let index = Index(step * STEP);
            assert!(digests.is_due(index));
            assert!(!digests.take(Digest { index, sum: 1 }));
        }
        assert!(!digests.learn(digest(2)), "nobody remembers");
        assert!(digests.learn(Digest {
            index: Index(2 * STEP),
            sum: 2
        }));
    }
}
