//! Who is a member, and who votes (thesis 4): by the entries that were ever handed to a disk.

use std::collections::{BTreeMap, BTreeSet};

use raft::{Raft, RoleName, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::{Membership, Suffrage};
use wire::types::{EntryId, Index, NodeId};

use super::logs::Committed;
use super::member::Watched;

/// All memberships that were ever in a log.
///
/// Invariants looked after:
/// - the one in force is that of the newest entry in the node's log, or of the snapshot before it
///   (4.1), also after a restart between the two steps of a change;
/// - a change of voters takes two steps: whoever voted after the one before votes before the next
///   (4.3); a leader begins one when the last one is committed, and an entry of its term (4.1);
/// - whoever knows that it has no vote does not campaign and does not lead (4.2.2);
/// - who is told to be no member any more is none, and an id is given once.
#[derive(Debug)]
pub(super) struct Members {
    initial: Vec<(NodeId, Suffrage)>,
    told: BTreeMap<EntryId, Membership>,
    ids: BTreeSet<NodeId>,
}

impl Members {
    /// A cluster that begins with so many voters.
    pub(super) fn new(members: usize) -> Self {
        let ids = (1..=members as u64).map(NodeId);
        Self {
            initial: ids.clone().map(|id| (id, Suffrage::Voter)).collect(),
            told: BTreeMap::new(),
            ids: ids.collect(),
        }
    }

    /// An entry is handed to a disk.
    pub(super) fn hands_over(&mut self, entry: &Entry) -> Result<(), String> {
        let membership = entry.membership().map_err(|error| error.to_string())?;
        self.told.extend(membership.map(|told| (entry.id(), told)));
        Ok(())
    }

    /// Those in a node's log, the newest first.
    fn of<'a>(&'a self, member: &'a Watched) -> impl Iterator<Item = (EntryId, &'a Membership)> {
        let told = self.told.iter().rev();
        told.filter_map(|(id, membership)| {
            let held = member.in_memory(id.index)?;
            (held.term == id.term).then_some((*id, membership))
        })
    }

    /// Looks at the memberships in what a node hands to its disk.
    pub(super) fn changes(
        &self,
        member: &Watched,
        write: &Write,
        raft: &Raft,
    ) -> Result<(), String> {
        let id = member.id;
        let is_change = |entry: &&Entry| entry.kind() == EntryKind::Membership;
        for entry in write.entries.iter().filter(is_change) {
            let mut known = self
                .of(member)
                .skip_while(|(at, _)| at.index > entry.index());
            let next = known.next().map(|(_, next)| next);
            let before = known.next();
            let voted = match before {
                Some((_, before)) => voters(before, Suffrage::votes_after),
                None => self.initial.iter().map(|(id, _)| *id).collect(),
            };
            let votes = next.map(|next| voters(next, Suffrage::votes_before));
            // What a snapshot says of the one before is not looked for.
            if votes.is_some_and(|votes| votes != voted) {
                return Err(format!("{id} changes {before:?} in one step into {next:?}"));
            }
            let leads = raft.role() == RoleName::Leader && entry.term() == raft.term();
            let proven = member.in_memory(raft.commit()).map(|held| held.term);
            let open = before.is_some_and(|(at, _)| at.index > raft.commit());
            if leads && (open || proven != Some(raft.term())) {
                let (at, commit) = (entry.id(), raft.commit());
                return Err(format!(
                    "{id} changes members by {at}, and has committed {commit}"
                ));
            }
        }
        Ok(())
    }

    /// The newest committed one; `None` if that is what the cluster began with.
    pub(super) fn committed(&self, committed: &Committed) -> Option<&Membership> {
        let mut told = self.told.iter().rev();
        let known = |id: &EntryId| committed.held(id.index).map(|held| held.term) == Some(id.term);
        let (_, membership) = told.find(|(id, _)| known(id))?;
        Some(membership)
    }

    /// Looks at a node whose log is as it was handed to its disk.
    pub(super) fn check(&self, member: &Watched, raft: &Raft) -> Result<(), String> {
        let id = member.id;
        let newest = self.of(member).next();
        let in_force = raft.membership();
        let fits = match newest {
            Some((_, told)) => told == in_force,
            None => self.initial == suffrages(in_force),
        };
        if !fits {
            return Err(format!(
                "{id} has {in_force:?} in force, and its log says {newest:?}"
            ));
        }
        let campaigns = raft.role() != RoleName::Follower;
        if campaigns && !self.may_be_voter(member, raft.commit()) {
            let role = raft.role();
            return Err(format!("{id} is a {role:?}, and knows that it has no vote"));
        }
        Ok(())
    }

    /// Whether it votes in the newest membership that it knows to be committed, or a later one.
    fn may_be_voter(&self, member: &Watched, commit: Index) -> bool {
        for (id, membership) in self.of(member) {
            if membership.suffrage(member.id).is_some_and(Suffrage::votes) {
                return true;
            }
            if id.index <= commit {
                return false;
            }
        }
        self.initial.iter().any(|(id, _)| *id == member.id)
    }

    /// A machine becomes this member.
    pub(super) fn admitted(&mut self, id: NodeId) -> Result<(), String> {
        match self.ids.insert(id) {
            true => Ok(()),
            false => Err(format!("the id {id} is given to another machine")),
        }
    }
}

fn voters(membership: &Membership, votes: fn(Suffrage) -> bool) -> BTreeSet<NodeId> {
    let members = membership.members.iter();
    let voters = members.filter(|member| votes(member.suffrage));
    voters.map(|member| member.id).collect()
}

fn suffrages(membership: &Membership) -> Vec<(NodeId, Suffrage)> {
    let members = membership.members.iter();
    members.map(|member| (member.id, member.suffrage)).collect()
}
