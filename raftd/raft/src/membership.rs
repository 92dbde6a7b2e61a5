//! Who votes (thesis 4): the memberships that the log tells of, and what a leader does to change
//! them.
//!
//! A membership is in force from the moment its entry is in the log, committed or not, and no more
//! when the entry is truncated (4.1). A change of voters is a joint one first, behind which every
//! majority is one of both sets of voters; when that is committed, the leader appends the one that
//! ends the set of before (4.3). So there is no moment at which two disjoint majorities could decide.

use alloc::vec::Vec;

use bytes::BytesMut;
use wire::entry::Entry;
use wire::limits::MEMBERS_MAX;
use wire::membership::{Membership, Suffrage};
use wire::types::{EntryId, Index, NodeId};

use crate::event::CannotChange;
use crate::quorum;
use crate::raft::{Raft, Role};
use crate::time::Instant;

const _: () = assert!(
    MEMBERS_MAX <= u16::BITS as usize,
    "a set of voters is a bit per place"
);

/// The voters of a membership.
///
/// Invariants: `ids` ascend; `before` and `after` have a bit per place in `ids`, at least one each,
/// and together all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voters {
    ids: Vec<NodeId>,
    before: u16,
    after: u16,
}

impl Voters {
    pub(crate) fn new(membership: &Membership) -> Self {
        let voters = membership.members.iter();
        let voters = voters.filter(|member| member.suffrage.votes());
        let (mut before, mut after) = (0, 0);
        for (place, member) in voters.clone().enumerate() {
            before |= u16::from(member.suffrage.votes_before()) << place;
            after |= u16::from(member.suffrage.votes_after()) << place;
        }
        assert!(before != 0 && after != 0, "nobody votes");
        Self {
            ids: voters.map(|member| member.id).collect(),
            before,
            after,
        }
    }

    /// All of them, in order.
    pub(crate) fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// The place of a voter among them; `None` if it is none.
    pub(crate) fn place(&self, id: NodeId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// Whether the voters at these places, a bit each, are a majority of either set.
    pub(crate) fn has_quorum(&self, places: u16) -> bool {
        let of = |set: u16| {
            (places & set).count_ones() as usize >= quorum::size(set.count_ones() as usize)
        };
        of(self.before) && of(self.after)
    }
}

/// The memberships that may still be in force some day.
///
/// Invariants:
/// - `committed` is as of its id, which is known to be committed; those in `later` are behind it,
///   by ascending index, each at the id of its own entry, and none but the last may turn out to be
///   all there is: whatever is truncated, one remains;
/// - `voters` are those of the newest, which is in force.
#[derive(Clone, Debug)]
pub(crate) struct Memberships {
    committed: (EntryId, Membership),
    later: Vec<(EntryId, Membership)>,
    voters: Voters,
}

impl Memberships {
    pub(crate) fn new(id: EntryId, membership: Membership) -> Self {
        Self {
            voters: Voters::new(&membership),
            committed: (id, membership),
            later: Vec::new(),
        }
    }

    /// The one in force, with the entry since which it is, or one behind that, as of which it was
    /// known.
    pub(crate) fn newest(&self) -> &(EntryId, Membership) {
        self.later.last().unwrap_or(&self.committed)
    }

    /// The one in force.
    pub(crate) fn in_force(&self) -> &Membership {
        &self.newest().1
    }

    /// See [`Memberships::newest`].
    pub(crate) fn since(&self) -> EntryId {
        self.newest().0
    }

    pub(crate) fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Whether this node votes in a membership that may be the newest committed one. Until it is
    /// committed that a node does not vote any more, the others may need it as a leader: its log may
    /// have more than theirs (thesis 4.2.2).
    pub(crate) fn may_be_voter(&self, id: NodeId) -> bool {
        let open = [&self.committed].into_iter().chain(&self.later);
        let mut suffrages = open.filter_map(|(_, membership)| membership.suffrage(id));
        suffrages.any(Suffrage::votes)
    }

    /// An entry of the log. Entries come in order, but for those that were faulty.
    pub(crate) fn note(&mut self, id: EntryId, membership: Membership) {
        if id.index <= self.committed.0.index {
            return;
        }
        let place = self
            .later
            .partition_point(|(noted, _)| noted.index < id.index);
        let is_known = self.later.get(place).is_some_and(|(noted, _)| *noted == id);
        if !is_known {
            self.later.insert(place, (id, membership));
            self.voters = Voters::new(self.in_force());
        }
    }

    /// The entries from `from` on are gone from the log.
    pub(crate) fn truncate(&mut self, from: Index) {
        let kept = self.later.partition_point(|(id, _)| id.index < from);
        if kept < self.later.len() {
            self.later.truncate(kept);
            self.voters = Voters::new(self.in_force());
        }
    }

    /// What is up to `upto` is committed: none before the newest of it will be in force again.
    pub(crate) fn commit(&mut self, upto: Index) {
        let passed = self.later.partition_point(|(id, _)| id.index <= upto);
        if let Some(newest) = self.later.drain(..passed).next_back() {
            self.committed = newest;
        }
    }

    /// The state as of `id`, which is committed, says so. It also tells what was not known of `id`
    /// itself: a node that rebuilds begins at its log's base without a state, with the first members.
    pub(crate) fn install(&mut self, id: EntryId, membership: Membership) {
        if id.index >= self.committed.0.index {
            self.later.retain(|(noted, _)| noted.index > id.index);
            self.committed = (id, membership);
            self.voters = Voters::new(self.in_force());
        }
    }
}

/// What an entry says of the members; `None` if that is not what it is for.
///
/// # Panics
/// If it is for that and says nothing: the gate, or this node's disk, was to check it.
pub(crate) fn membership_of(entry: &Entry) -> Option<Membership> {
    entry.membership().expect("the body was checked")
}

impl Raft {
    /// Who is a member, as of the newest entry of the log that says so, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.state.memberships.in_force()
    }

    /// Whether the membership in force is the one before it on its way to the next, or may yet be
    /// undone: then it cannot be changed again.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.state.is_changing()
    }

    /// Begins to change the membership into `target`; `flush` sends and writes the first step. If
    /// voters change, that is a joint one, and this node or a later leader takes the second step by
    /// itself. A leader that does not vote any more leads until that is committed.
    /// # Errors
    /// [`CannotChange`]; nothing changed.
    ///
    /// # Panics
    /// If `target` is joint, or cannot be.
    pub fn change_membership(
        &mut self,
        now: Instant,
        wall_ms: u64,
        target: &Membership,
    ) -> Result<EntryId, CannotChange> {
        let not_leader = self.not_leader();
        match &mut self.role {
            Role::Leader(leader) => leader.begin_change(&mut self.state, now, wall_ms, target),
            _ => Err(CannotChange::NotLeader(not_leader)),
        }
    }
}

/// The body of an entry.
pub(crate) fn body_of(membership: &Membership) -> BytesMut {
    let mut body = BytesMut::new();
    membership.encode(&mut body);
    body
}
