//! Changes of members in a run: the operator's hand, and what a healed cluster owes then.

use raft::RoleName;
use raftd::node::Node;
use wire::membership::Membership;
use wire::types::NodeId;

use super::Run;
use crate::sim::member::peer_addr;
use crate::sim::net::Host;
use crate::sim::operator::{Action, View, hosts_of};
use crate::sim::world::Did;

/// Connections of these names and above are the operator's.
pub(super) const OPERATOR: u64 = 1 << 59;

impl Run {
    /// Who is a member, as far as it is committed.
    pub(super) fn membership(&self) -> Membership {
        self.invariants.membership().cloned().unwrap_or_else(|| {
            let hosts = 0..self.plan.members;
            let ids = hosts.map(|host| (NodeId(host as u64 + 1), peer_addr(host, 0).to_string()));
            Membership::initial(&ids.collect::<Vec<_>>(), &[])
        })
    }

    /// The machines of all members that have ever started.
    pub(super) fn members_now(&self) -> Vec<Host> {
        let membership = self.membership();
        let members = self.world.members().iter().enumerate();
        let members =
            members.filter(|(_, member)| member.lives() > 0 && membership.get(member.id).is_some());
        members.map(|(host, _)| host).collect()
    }

    /// The machines of all that ever were members.
    pub(super) fn members_ever(&self) -> Vec<Host> {
        let members = self.world.members().iter().enumerate();
        let members = members.filter(|(_, member)| member.lives() > 0);
        members.map(|(host, _)| host).collect()
    }

    /// Lets the operator do what is due.
    pub(super) fn operate(&mut self) -> Result<(), String> {
        let now = self.world.now();
        let Some(operator) = &mut self.operator else {
            return Ok(());
        };
        if operator.next_at().is_none_or(|at| at > now) {
            return Ok(());
        }
        let leader = self.leader();
        let node = leader.and_then(|leader| self.world.members()[leader].node());
        let membership = match node {
            Some(node) => node.raft().membership().clone(),
            None => self.membership(),
        };
        self.clients.know(hosts_of(&membership));
        let view = View { leader, membership };
        let mut actions = Vec::new();
        if let Some(operator) = &mut self.operator {
            operator.act(now, &view, &mut actions);
        }
        self.carry_operator(actions)
    }

    /// Something came on a connection of the operator's.
    pub(super) fn tell_operator(&mut self, name: u64, did: Did) -> Result<(), String> {
        let now = self.world.now();
        let Some(operator) = &mut self.operator else {
            return Ok(());
        };
        let mut actions = Vec::new();
        let number = name - OPERATOR;
        match did {
            Did::Received(_, bytes) => operator.hears(number, &bytes, now, &mut actions),
            Did::Disconnected(_) => operator.closed(number, now),
            _ => {}
        }
        if let Some(breach) = operator.breach() {
            return Err(breach.to_owned());
        }
        self.carry_operator(actions)
    }

    /// Nothing is wished any more.
    pub(super) fn retire_operator(&mut self) -> Result<(), String> {
        let mut actions = Vec::new();
        if let Some(operator) = &mut self.operator {
            operator.retire(&mut actions);
        }
        self.carry_operator(actions)
    }

    fn carry_operator(&mut self, actions: Vec<Action>) -> Result<(), String> {
        for action in actions {
            match action {
                Action::Call(number, host, says) => {
                    self.world
                        .note(|| format!("the operator asks {}: {says:?}", host + 1));
                    self.world.connect(OPERATOR + number, host);
                    self.world.send(OPERATOR + number, says);
                }
                Action::HangUp(number) => self.world.disconnect(OPERATOR + number),
                Action::Admit(host, admitted, incarnation) => {
                    let id = admitted.node;
                    self.world
                        .note(|| format!("{} becomes member {id}", host + 1));
                    self.invariants.admitted(host, id)?;
                    self.conduct.admitted(id);
                    self.world.admit(host, admitted, incarnation);
                }
            }
        }
        Ok(())
    }

    /// A process says that its member was removed.
    pub(super) fn was_removed(&mut self, host: Host) -> Result<(), String> {
        let id = self.world.members()[host].id;
        if self.membership().get(id).is_some() {
            return Err(format!("{id} ends as if it were removed, and is a member"));
        }
        self.watch.left();
        self.show(|nemesis, view| nemesis.removed(host, view));
        Ok(())
    }

    /// Whether all members agree who they are, no change is under way, whoever is ready has its vote,
    /// and nobody runs who is none.
    pub(super) fn has_settled(&self, living: &[Host]) -> bool {
        let membership = self.membership();
        let in_force = |host: &Host| {
            let node = self.world.members()[*host].node();
            node.is_some_and(|node| {
                let raft = node.raft();
                let applied = node.store().membership();
                let same = applied.is_none_or(|applied| *applied == membership);
                let leads = raft.role() == RoleName::Leader;
                same && !(leads && raft.is_changing())
            })
        };
        let waits = |host: &Host| {
            let member = membership.get(self.world.members()[*host].id);
            member.is_some_and(|member| member.wish.is_some())
        };
        // Nobody tells who knows none of those that are left.
        let is_member = |id: &NodeId| membership.get(*id).is_some();
        let intruder = |(host, node): &(Host, &Node)| {
            let mut known = node.peers().into_iter().map(|(id, _)| id);
            !living.contains(host) && known.any(|id| is_member(&id))
        };
        if self.operator.is_none() {
            return true;
        }
        !membership.is_joint()
            && living.iter().all(in_force)
            && !living.iter().any(waits)
            && !self.world.nodes().any(|node| intruder(&node))
    }
}
