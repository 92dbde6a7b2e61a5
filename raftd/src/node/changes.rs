//! Changes of the members (thesis 4): what clients ask for, and what a leader does by itself for
//! learners that were admitted with a wish.
//!
//! A change is planned here, against what this node knows of the others, and refused if it would
//! cost the cluster its quorum. What makes it safe is the core's: it takes the two steps of joint
//! consensus, one change at a time.

use log::Level;
use raft::{CannotChange, RoleName};
use wire::client::{Admitted, MemberChange, MembersChanged, Reply};
use wire::error::Error;
use wire::membership::{Membership, Suffrage};
use wire::types::{Incarnation, Index, NodeId};

use super::Node;
use super::admission::overloaded;
use super::client::Caller;
use super::forming::wrong_incarnation;
use super::io::Effects;
use super::plan::{Plan, refused};

/// Who waits for a change that this leader began.
#[derive(Debug)]
struct Waiting {
    caller: Caller,
    /// The first entry of the change.
    since: Index,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Changed { id: NodeId, before: Membership },
    Admitted(NodeId),
}

/// Changes under way.
///
/// Invariants: one at most is waited for, as the core makes one at a time; none on others than
/// leaders.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Option<Waiting>,
}

impl Changes {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }
}

impl Node {
    /// Takes a client's wish to change who is a member.
    pub(super) fn admit_change(
        &mut self,
        caller: Caller,
        dry_run: bool,
        change: MemberChange<'_>,
        effects: &mut Effects,
    ) {
        if !self.may_change(caller, effects) {
            return;
        }
        let before = self.with_names(self.raft.membership());
        let planned = self.plan(&before, change);
        let (id, target) = match planned {
            Err(error) => return self.refuse(caller, error, effects),
            Ok(Plan::Done(id)) => (id, before.clone()),
            Ok(Plan::Change(id, target)) => (id, target),
        };
        if dry_run || target == before {
            let (index, after) = (Index(0), target);
            let changed = MembersChanged {
                index,
                id,
                before,
                after,
            };
            let reply = Reply::MembersChanged(changed);
            return self.clients.answer(caller, &reply, effects);
        }
        self.begin_change(caller, &target, Answer::Changed { id, before }, effects);
    }

    /// Takes a new node's question who it is (rules D1): the id is bound to its incarnation by an
    /// entry of the log.
    pub(super) fn admit_join(
        &mut self,
        caller: Caller,
        (name, peer_addr, incarnation): (&str, &str, Incarnation),
        effects: &mut Effects,
    ) {
        if !self.may_change(caller, effects) {
            return;
        }
        let before = self.with_names(self.raft.membership());
        match bound(&before, name, peer_addr, incarnation) {
            Err(error) => self.refuse(caller, error, effects),
            Ok((id, target)) if target == before => {
                let reply = Reply::Admitted(self.admitted(id));
                self.clients.answer(caller, &reply, effects);
            }
            Ok((id, target)) => {
                self.begin_change(caller, &target, Answer::Admitted(id), effects);
            }
        }
    }

    /// Whether this node leads, and the last change is over: what is in force is committed.
    fn may_change(&mut self, caller: Caller, effects: &mut Effects) -> bool {
        if self.raft.role() != RoleName::Leader {
            self.refuse_elsewhere(caller, effects);
            return false;
        }
        let is_free = !self.raft.is_changing() && self.changes.is_empty();
        if !is_free {
            self.refuse(caller, overloaded(), effects);
        }
        is_free
    }

    fn admitted(&self, node: NodeId) -> Admitted {
        Admitted {
            cluster: self.config.cluster,
            epoch: self.config.epoch,
            node,
            members: self.config.members.clone(),
            formed: self.forming.record().to_vec(),
        }
    }

    /// Whether somebody else is to make this change, because this leader will not vote any more. The
    /// only voter makes it itself, and leads until it is committed (thesis 4.2.2).
    fn is_to_make_way(&self, target: &Membership) -> bool {
        let own = self.config.id;
        target.suffrage(own) != Some(Suffrage::Voter) && self.voters().any(|id| id != own)
    }

    /// Appends the first step of a change, or says when to try again.
    fn begin_change(
        &mut self,
        caller: Caller,
        target: &Membership,
        answer: Answer,
        effects: &mut Effects,
    ) {
        if self.is_to_make_way(target) {
            // Whoever leads then is asked again.
            let error = match self.make_way(target) {
                true => overloaded(),
                false => refused(
                    "this leader would have to go, and nobody is fit to lead".to_owned(),
                    "see raftctl status for what the others lack".to_owned(),
                ),
            };
            return self.refuse(caller, error, effects);
        }
        let now = self.now;
        match self
            .raft
            .change_membership(now.monotonic, now.wall_ms, target)
        {
            Ok(id) => {
                let waiting = Waiting {
                    caller,
                    since: id.index,
                    answer,
                };
                let before = self.changes.waiting.replace(waiting);
                assert!(before.is_none(), "one change at a time");
            }
            Err(CannotChange::NotLeader(_)) => self.refuse_elsewhere(caller, effects),
            Err(CannotChange::Transferring | CannotChange::Changing | CannotChange::Unproven) => {
                self.refuse(caller, overloaded(), effects);
            }
        }
    }

    /// The membership of a cluster that never changed has no names: the first change tells those
    /// that the members told.
    pub(super) fn with_names(&self, target: &Membership) -> Membership {
        let mut named = target.clone();
        for place in 0..named.members.len() {
            let member = &named.members[place];
            let name = self.name_of(member);
            let incarnation = member.incarnation.or_else(|| self.forming.known(member.id));
            // Two that tell the same name are told apart by their ids.
            let is_free = named.members.iter().all(|other| other.name != name);
            let member = &mut named.members[place];
            member.incarnation = incarnation;
            if is_free {
                member.name = name;
            }
        }
        named
    }

    /// The state was told who is a member: whoever waited for that is answered.
    pub(super) fn members_applied(&mut self, index: Index, effects: &mut Effects) {
        let Some(applied) = self.store.membership() else {
            return;
        };
        let is_done = |waiting: &mut Waiting| waiting.since <= index && !applied.is_joint();
        if let Some(waiting) = self.changes.waiting.take_if(is_done) {
            let reply = match waiting.answer {
                Answer::Admitted(id) => Reply::Admitted(self.admitted(id)),
                Answer::Changed { id, before } => Reply::MembersChanged(MembersChanged {
                    index,
                    id,
                    before,
                    after: applied.clone(),
                }),
            };
            self.clients.answer(waiting.caller, &reply, effects);
        }
        self.close_links_of_removed(effects);
        self.end_if_removed(effects);
    }

    /// Leadership is lost: the change may go on under another leader, or be undone.
    pub(super) fn abandon_change(&mut self, effects: &mut Effects) {
        if let Some(waiting) = self.changes.waiting.take() {
            self.refuse(waiting.caller, Error::OutcomeUnknown, effects);
        }
    }

    /// Does for learners what they were admitted for: those that are ready become voters, those that
    /// are not in time are removed again. A leader of others wakes up for each heartbeat, and looks.
    pub(super) fn tend_members(&mut self) {
        let leads = self.raft.role() == RoleName::Leader && !self.condemned;
        if !leads || self.raft.is_changing() || self.raft.is_transferring() {
            return;
        }
        let members = self.raft.membership();
        let Some((id, target)) = self.wish_come_due(members) else {
            return;
        };
        let is_in = target.suffrage(id).is_some();
        let target = self.with_names(&target);
        if self.is_to_make_way(&target) {
            return self.make_way_if_due(&target);
        }
        let now = self.now;
        let begun = self
            .raft
            .change_membership(now.monotonic, now.wall_ms, &target);
        if begun.is_ok() {
            let text = format!(
                "learner {} id={id}",
                if is_in { "promoted" } else { "given up" }
            );
            self.journal.line(Level::Info, text);
        }
    }

    /// The members after the next wish that is fulfilled, or given up.
    fn wish_come_due(&self, members: &Membership) -> Option<(NodeId, Membership)> {
        let wishes = members.members.iter().filter_map(|m| Some((m, m.wish?)));
        for (member, wish) in wishes {
            if self.check_ready(member.id).is_ok() {
                let promoted = members.promoted(member.id);
                if self.check_quorum(members, &promoted).is_ok() {
                    return Some((member.id, promoted));
                }
            }
            if self.now.wall_ms >= wish.until_wall_ms {
                let mut without = members.clone();
                without.members.retain(|other| other.id != member.id);
                return Some((member.id, without));
            }
        }
        None
    }
}

/// The members after the one of this name got this incarnation, and which one that is; the same as
/// before if it has it already.
fn bound(
    members: &Membership,
    name: &str,
    peer_addr: &str,
    incarnation: Incarnation,
) -> Result<(NodeId, Membership), Error> {
    let mut target = members.clone();
    let Some(member) = target.members.iter_mut().find(|m| m.name == name) else {
        return Err(refused(
            format!("no member is called {name}"),
            format!("add it first: raftctl add-peer {name} {peer_addr}"),
        ));
    };
    if member.incarnation.is_some_and(|known| known != incarnation) {
        return Err(wrong_incarnation(member.id));
    }
    if member.peer_addr != peer_addr {
        let listed = &member.peer_addr;
        return Err(refused(
            format!("{name} was added with the address {listed}"),
            format!(
                "start it with --peer-advertise {listed}, or: raftctl update-peer {name} --peer-addr {peer_addr}"
            ),
        ));
    }
    member.incarnation = Some(incarnation);
    Ok((member.id, target))
}
