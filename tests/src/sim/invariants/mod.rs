//! What must be so after every turn of every member, whatever happens (`reliability.md` 4.1, rules
//! A1 to A6, C4), judged by what the disks really hold.
//!
//! | file | what it looks after |
//! |---|---|
//! | `members.rs` | who is a member, and who votes |
//! | `elections.rs` | one leader per term, one vote per member and term, over all lives |
//! | `logs.rs` | Log Matching; what is committed never changes |
//! | `states.rs` | equal indexes, equal states |
//! | `disks.rs` | what stands on the disks was handed to them, and nothing committed goes |
//! | `snapshots.rs` | snapshots are whole where they are relied upon, and the same everywhere |
//! | `member.rs` | one member: nothing told before it is durable, no number that falls, bounds |
//! | `harm.rs` | who was damaged, and is excused until it is whole again |
//!
//! [`Conduct`](super::conduct::Conduct) looks after what a leader does to its followers, the
//! history's checkers after what clients see.

mod disks;
mod elections;
mod harm;
mod logs;
mod member;
mod members;
mod snapshots;
mod states;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use raft::RoleName;
use raftd::disk::sim::SimDisk;
use raftd::node::io::{Effects, LinkId, SnapshotRequest, StorageRequest};
use raftd::node::{Limits, Node};
use wire::command::{SessionId, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::Membership;
use wire::types::{EntryId, Epoch, Index, NodeId, Term};

use self::disks::check_cut;
use self::elections::Elections;
use self::logs::{Committed, Written, held};
use self::member::{Condition, Watched};
use self::members::Members;
use self::snapshots::Snapshots;
use self::states::States;
use super::audit::Audit;
use super::net::Host;
use super::quorum::is_quorum;

/// A write's name.
pub type Name = (SessionId, u64);

/// A member after a turn, before its effects leave.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Its node.
    pub node: &'a Node,
    /// What the turn brought.
    pub effects: &'a Effects,
    /// Its disk.
    pub disk: &'a SimDisk,
    /// Who is at the other end of its links.
    pub peer_of: &'a dyn Fn(LinkId) -> Option<NodeId>,
}

/// What was seen of all members, over all their lives.
///
/// Invariants looked after here, besides those of the parts:
/// - a committed entry is durable on a quorum of disks, in joint consensus one of either set of
///   voters, when anybody first knows it to be committed (rules A4, thesis 4.3), neither faulty nor
///   lost there (rules D4), and is cut from no log, unless that is lost;
/// - what a lost log had acknowledged, and was committed when it was lost, is in it again when that
///   ends (rules D4);
/// - a leader's own vote is durable before it leads (rules A2);
/// - a new leader holds everything that is committed (Leader Completeness, thesis 3.6.3);
/// - nothing is on a disk that its member did not hand to it, and after a crash nothing is missing
///   that was durable; nothing stands behind the log when a life begins (rules E);
/// - an acknowledged write is committed and applied where it is acknowledged (rules A4).
#[derive(Debug)]
pub struct Invariants {
    members: Vec<Watched>,
    roll: Members,
    limits: Limits,
    elections: Elections,
    written: Written,
    /// The entries that are not yet known to be committed, by their names.
    pending: BTreeMap<EntryId, Entry>,
    committed: Committed,
    states: States,
    snapshots: Snapshots,
}

impl Invariants {
    /// A cluster that begins with so many members, which have seen nothing, and so many machines
    /// for others.
    #[must_use]
    pub fn new(members: usize, spares: usize, epoch: Epoch, limits: Limits) -> Self {
        let ids = (1..=members as u64).map(NodeId);
        let ids = ids.chain(iter::repeat_n(NodeId(0), spares));
        Self {
            members: ids.map(Watched::new).collect(),
            roll: Members::new(members),
            limits,
            elections: Elections::default(),
            written: Written::default(),
            pending: BTreeMap::new(),
            committed: Committed::default(),
            states: States::new(epoch, limits.sessions_max),
            snapshots: Snapshots::default(),
        }
    }

    /// The committed log, as all members together know it.
    #[must_use]
    pub fn committed(&self) -> &[Entry] {
        self.committed.entries()
    }

    /// Who is a member, as far as it is committed; `None` if that is as the cluster began.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.roll.committed(&self.committed)
    }

    /// A machine becomes this member.
    ///
    /// # Errors
    /// The id was given before.
    pub fn admitted(&mut self, host: Host, id: NodeId) -> Result<(), String> {
        self.members[host].id = id;
        self.roll.admitted(id)
    }

    /// A member has begun a life with what its disk holds.
    ///
    /// # Errors
    /// It is not what was durable there.
    pub fn started(&mut self, host: Host, node: &Node, disk: &SimDisk) -> Result<(), String> {
        self.look(host, disk, true)?;
        let member = &mut self.members[host];
        let spoiled_now = member.spoiled && member.right_upto == Index(0);
        member.spoiled &= self.states.check_shape(member.id, node.store()).is_err();
        if spoiled_now || !member.spoiled {
            member.right_upto = node.store().applied().index;
        }
        member.start(node)?;
        if !member.harmed {
            self.roll.check(member, node.raft())?;
        }
        member.membership = Some(node.raft().membership().clone());
        if !member.damaged && !member.audit.ends_clean(disk) {
            let id = member.id;
            return Err(format!("{id} starts with bytes behind the end of its log"));
        }
        let commit = node.raft().commit();
        if commit > self.committed.last() {
            let (id, last) = (member.id, self.committed.last());
            return Err(format!(
                "the disk of {id} says that {commit} is committed, but {last} is the last"
            ));
        }
        Ok(())
    }

    /// A member has taken a turn; `disks` are those of all members.
    ///
    /// # Errors
    /// What is wrong.
    pub fn after_turn(
        &mut self,
        host: Host,
        turn: Turn<'_>,
        disks: &[&SimDisk],
    ) -> Result<(), String> {
        for request in &turn.effects.storage {
            if let StorageRequest::Write(write) = request {
                self.hands_over(host, write)?;
                self.roll
                    .changes(&self.members[host], write, turn.node.raft())?;
            }
        }
        self.look(host, turn.disk, false)?;
        let condition = Condition::of(turn.node.raft());
        self.members[host].ease(condition);
        self.members[host].progress(turn.node, &self.limits)?;
        if !self.members[host].harmed {
            self.roll.check(&self.members[host], turn.node.raft())?;
        }
        self.leads(host, turn.node, disks)?;
        if turn.node.raft().commit() > self.members[host].commit {
            self.commits(host, turn.node, disks)?;
        }
        self.applies(host, turn)?;
        for (link, message) in &turn.effects.peers {
            let member = &self.members[host];
            member.tells(message, (turn.peer_of)(*link), condition)?;
            self.agrees_with_its_leader(host, message)?;
            self.members[host].told(message);
        }
        self.members[host].remember(condition);
        self.members[host].note_membership(turn.node.raft().membership());
        self.acknowledges(host, turn)
    }

    /// The state is the one that belongs to its index, unless it was spoiled: until that was found
    /// out, and another has taken its place.
    fn applies(&mut self, host: Host, turn: Turn<'_>) -> Result<(), String> {
        let (node, store) = (turn.node, turn.node.store());
        let applied = store.applied().index;
        let member = &mut self.members[host];
        if member.spoiled {
            let wrong = self.states.check_shape(member.id, store).is_err();
            member.spoiled = wrong || node.raft().is_rebuilding();
            member.applied = applied;
            return Ok(());
        }
        if applied > member.applied {
            let whole = turn.effects.storage.iter().any(replaces_state);
            self.states.check(member.id, member.applied, store, whole)?;
            member.applied = applied;
        }
        Ok(())
    }

    /// A member has done disk work.
    ///
    /// # Errors
    /// What is wrong.
    pub fn after_work(&mut self, host: Host, disk: &SimDisk) -> Result<(), String> {
        self.look(host, disk, false)
    }

    /// A member hands entries and hard state to its disk.
    fn hands_over(&mut self, host: Host, write: &raft::Write) -> Result<(), String> {
        let member = &mut self.members[host];
        if let Some(snapshot) = write.reset {
            let below = self.committed.upto(snapshot)?;
            let cut = member.reset(snapshot, below)?;
            let term = member.term_handed_over();
            let from = snapshot.index.next();
            check_cut(&self.committed, member.id, term, from, &cut)?;
        }
        if let Some(from) = write.truncate_from {
            let cut = member.cut(from)?;
            let term = member.term_handed_over();
            check_cut(&self.committed, member.id, term, from, &cut)?;
        }
        member.hands_over(write.hard_state);
        for entry in &write.entries {
            let before = member.memory.last().map_or(Term(0), |held| held.term);
            let (index, entry_held) = (entry.index(), held(entry));
            self.roll.hands_over(entry)?;
            if index.0 != member.memory.len() as u64 + 1 {
                let id = member.id;
                return Err(format!("{id} leaves a gap in its log before {index}"));
            }
            let new = self.written.written(before, index, entry_held)?;
            if new && index > self.committed.last() {
                self.pending.insert(entry.id(), entry.clone());
            }
            member.memory.push(entry_held);
        }
        Ok(())
    }

    /// Election Safety and Leader Completeness, at the beginning of a reign.
    fn leads(&mut self, host: Host, node: &Node, disks: &[&SimDisk]) -> Result<(), String> {
        let member = &mut self.members[host];
        let term = node.raft().term();
        let leads = (node.raft().role() == RoleName::Leader).then_some(term);
        if std::mem::replace(&mut member.leads, leads) == leads {
            return Ok(());
        }
        let Some(term) = leads else {
            member.matches.clear();
            return Ok(());
        };
        member.matches.clear();
        member.may_lead(Condition::of(node.raft()))?;
        self.elections.leads(term, member.id)?;
        let durable = member.audit.hard_state();
        if (durable.term, durable.vote) != (term, Some(member.id)) && !member.is_unseen(term) {
            let id = member.id;
            return Err(format!(
                "{id} leads term {term}, but {durable:?} is durable"
            ));
        }
        let id = member.id;
        for (host, disk) in disks.iter().enumerate() {
            self.look(host, disk, false)?;
        }
        let mut unseen = self.members.iter().filter(|member| member.is_unseen(term));
        let unseen: BTreeSet<NodeId> = unseen.by_ref().map(|member| member.id).collect();
        let voted = |voter| self.elections.vote(voter, term) == Some(id) || unseen.contains(&voter);
        let membership = node.raft().membership();
        if !is_quorum(membership, voted) {
            let members = membership.members.iter();
            let votes = members.filter(|member| voted(member.id)).count();
            let of = membership.members.len();
            return Err(format!(
                "{id} leads term {term} by {votes} durable votes of {of}"
            ));
        }
        let member = &self.members[host];
        // What a later term has committed, one that is elected late may lack.
        let last = self.committed.last_before(term);
        if last.0 > 0 && member.in_memory(last) != self.committed.held(last) {
            let own = member.in_memory(last);
            return Err(format!(
                "{id} leads term {term} without the committed {last}: it has {own:?} there, not {:?}",
                self.committed.held(last)
            ));
        }
        Ok(())
    }

    /// A member has learnt that more is committed.
    fn commits(&mut self, host: Host, node: &Node, disks: &[&SimDisk]) -> Result<(), String> {
        let (from, upto) = (self.members[host].commit, node.raft().commit());
        let news = upto > self.committed.last();
        for index in from.0 + 1..=upto.0 {
            let index = Index(index);
            let member = &self.members[host];
            let Some(own) = member.in_memory(index) else {
                let id = member.id;
                return Err(format!("{id} commits {index}, which it does not hold"));
            };
            if index > self.committed.last() {
                let id = EntryId {
                    term: own.term,
                    index,
                };
                let entry = self.pending.get(&id).expect("its bytes were handed over");
                self.states.push(entry);
                self.committed.push(entry.clone(), node.raft().term())?;
            } else {
                self.committed.check(index, own)?;
            }
        }
        self.members[host].commit = upto;
        if news {
            let membership = self.members[host].deciding(node.raft()).clone();
            self.is_on_a_quorum(upto, node.raft().term(), &membership, disks)?;
            self.forget_pending(upto);
        }
        Ok(())
    }

    /// By Log Matching, whoever holds the last has those before it. What is faulty or lost is on no
    /// disk (rules D4), whatever was held there; but if it was acknowledged in this term and damaged
    /// since then, its leader could not know.
    fn is_on_a_quorum(
        &mut self,
        index: Index,
        term: Term,
        membership: &Membership,
        disks: &[&SimDisk],
    ) -> Result<(), String> {
        for (host, disk) in disks.iter().enumerate() {
            self.look(host, disk, false)?;
        }
        let entry = self.committed.held(index);
        let counts = |member: &&Watched| member.counts_for(term, index, entry);
        let holders = self.members.iter().filter(counts);
        let holders: BTreeSet<NodeId> = holders.map(|member| member.id).collect();
        if !is_quorum(membership, |id| holders.contains(&id)) {
            let (copies, of) = (holders.len(), membership.members.len());
            return Err(format!(
                "{index} is committed, but on {copies} of {of} disks"
            ));
        }
        Ok(())
    }

    /// Entries of other names at a committed index will never be committed.
    fn forget_pending(&mut self, upto: Index) {
        if self.pending.len() > 1_024 {
            self.pending.retain(|id, _| id.index > upto);
        }
    }

    /// Rules A3, from both ends: what a follower acknowledges is the leader's entry, and what a
    /// leader believes a follower to hold is there.
    fn agrees_with_its_leader(
        &self,
        host: Host,
        message: &wire::peer::Message,
    ) -> Result<(), String> {
        let wire::peer::Message::AppendOk(answer) = message else {
            return Ok(());
        };
        let member = &self.members[host];
        let leader = self.elections.leader(answer.term);
        let leader = leader.and_then(|id| self.members.iter().find(|member| member.id == id));
        let Some(leader) = leader.filter(|leader| leader.leads == Some(answer.term)) else {
            return Ok(());
        };
        let index = answer.match_index;
        let (theirs, own) = (leader.in_memory(index), member.on_disk(index));
        if index.0 > 0 && theirs != own && !member.blind {
            let (id, other) = (member.id, leader.id);
            return Err(format!(
                "{id} acknowledges {index} to {other}, which has {theirs:?} there: \
                 its disk has {own:?}"
            ));
        }
        Ok(())
    }

    /// What a leader counts for a follower is on the follower's disk.
    ///
    /// # Errors
    /// It is not.
    pub fn matches(&mut self, host: Host, node: &Node) -> Result<(), String> {
        if self.members[host].leads.is_none() {
            return Ok(());
        }
        for other in 0..self.members.len() {
            let peer = self.members[other].id;
            let Some(index) = node.raft().match_index(peer).filter(|index| index.0 > 0) else {
                continue;
            };
            let member = &mut self.members[host];
            if member.matches.insert(peer, index) == Some(index) {
                continue;
            }
            let own = member.in_memory(index);
            if !self.members[other].held_ever(index, own) {
                let theirs = self.members[other].on_disk(index);
                let id = self.members[host].id;
                return Err(format!(
                    "{id} counts {peer} for {index}, where it has {own:?}: \
                     the disk of {peer} has {theirs:?}"
                ));
            }
        }
        Ok(())
    }

    /// Every `Written` that leaves is committed and applied.
    fn acknowledges(&self, host: Host, turn: Turn<'_>) -> Result<(), String> {
        let member = &self.members[host];
        for id in member::written_replies(turn.effects) {
            let committed = self.committed.held(id.index);
            let is_so = committed.is_some_and(|held| held.term == id.term);
            if !is_so || id.index > member.applied {
                let (who, applied) = (member.id, member.applied);
                return Err(format!(
                    "{who} acknowledges {id}: {committed:?} is committed, {applied} applied"
                ));
            }
        }
        Ok(())
    }

    /// The end of the run: the disks of the members that live hold what they held; and no write is
    /// in the log more often than it can have been appended, which `possible` tells (rules C4).
    ///
    /// # Errors
    /// What is wrong.
    pub fn finish(
        &mut self,
        disks: &[&SimDisk],
        possible: &BTreeMap<Name, u32>,
    ) -> Result<(), String> {
        for (host, disk) in disks.iter().enumerate() {
            self.look(host, disk, true)?;
            let member = &self.members[host];
            if member.damaged {
                continue;
            }
            let again = Audit::afresh(disk);
            if !again.continues(&member.audit) {
                let (id, last, now) = (member.id, member.audit.last(), again.last());
                return Err(format!("the disk of {id} held {last} and holds {now}"));
            }
        }
        check_appended(self.committed.entries(), possible)
    }
}

/// A snapshot took the place of the state.
fn replaces_state(request: &StorageRequest) -> bool {
    matches!(request, StorageRequest::Snapshot(SnapshotRequest::Free(_)))
}

/// No write is in the log more often than attempts that may have been appended.
fn check_appended(committed: &[Entry], possible: &BTreeMap<Name, u32>) -> Result<(), String> {
    let mut left = possible.clone();
    for entry in committed.iter().filter(|e| e.kind() == EntryKind::Command) {
        let Ok(write) = Write::decode_body(entry.body()) else {
            continue;
        };
        let name = (write.session, write.seq);
        match left.get_mut(&name) {
            Some(left) if *left > 0 => *left -= 1,
            _ => {
                return Err(format!(
                    "{} is an attempt of {name:?} that was refused as not applied",
                    entry.id()
                ));
            }
        }
    }
    Ok(())
}
