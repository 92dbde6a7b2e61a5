//! What tests have a cluster do, beyond its single events: wishes, and time that passes.

use std::fmt::Write as _;
use std::time::Duration;

use raft::{CannotChange, Input, ReadTicket, RoleName};
use wire::membership::{Membership, Suffrage};
use wire::types::{EntryId, NodeId};

use crate::cluster::Cluster;
use crate::text;

impl Cluster {
    /// Jumps to a node's deadline, unless that has passed, and tells it.
    pub(crate) fn timeout(&mut self, id: NodeId) {
        if let Some(deadline) = self.raft(id).deadline() {
            self.now = self.now.max(deadline);
            self.turn(id, vec![Input::Tick]);
        }
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Proposes all bodies in one turn; returns where they went.
    pub(crate) fn propose(&mut self, id: NodeId, bodies: &[&[u8]]) -> Option<Vec<EntryId>> {
        let wall_ms = self.wall_ms;
        let raft = self.node(id).raft.as_mut().expect("the node is up");
        let ids: Result<Vec<EntryId>, _> = bodies
            .iter()
            .map(|body| raft.propose(wall_ms, body))
            .collect();
        self.turn(id, Vec::new());
        ids.ok()
    }

    /// Asks a node to make voters of these and learners of those, a bit for each node from 1 on; who
    /// is both is a voter.
    pub(crate) fn change(
        &mut self,
        id: NodeId,
        voters: u64,
        learners: u64,
    ) -> Option<Result<EntryId, CannotChange>> {
        let has = |bits: u64, id: NodeId| bits >> (id.0 - 1) & 1 == 1;
        let ids: Vec<NodeId> = self.ids();
        let chosen = ids.iter().filter(|id| has(voters | learners, **id));
        let chosen: Vec<_> = chosen.map(|id| (*id, format!("a{id}"))).collect();
        let mut target = Membership::initial(&chosen, &[]);
        for member in &mut target.members {
            if !has(voters, member.id) {
                member.suffrage = Suffrage::Learner;
            }
        }
        target.newest = NodeId(self.options.nodes);
        if !target.members.iter().any(|member| member.suffrage.votes()) {
            return None;
        }
        let (now, wall_ms) = (self.now, self.wall_ms);
        let raft = self.node(id).raft.as_mut().expect("the node is up");
        let changed = raft.change_membership(now, wall_ms, &target);
        self.oracle.marks.changes += u64::from(changed.is_ok());
        self.turn(id, Vec::new());
        Some(changed)
    }

    /// Registers a read that must not miss anything that any node has told to be committed.
    pub(crate) fn read(&mut self, id: NodeId) -> Option<ReadTicket> {
        let floor = self.oracle.committed();
        let node = self.node(id);
        let ticket = node.raft.as_mut().expect("the node is up").read()?;
        node.reads.push((ticket, floor));
        self.turn(id, Vec::new());
        Some(ticket)
    }

    /// Cuts all links of a node.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    /// Delivers and syncs until nothing is left to do, without letting time pass.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.work() {
                return;
            }
        }
        panic!("the cluster does not come to rest:\n{}", self.trace);
    }

    /// Delivers the oldest packet or, where none is on its way, has a disk do something; whether there
    /// was something to do.
    pub(crate) fn work(&mut self) -> bool {
        if !self.packets.is_empty() {
            self.deliver(0, false);
            return true;
        }
        let ids = self.ids();
        let up = ids.iter().copied().filter(|id| self.is_up(*id));
        let busy = up
            .into_iter()
            .find(|id| !self.nodes[id].writes.is_empty() || !self.nodes[id].loads.is_empty());
        match busy {
            Some(id) if !self.nodes[&id].writes.is_empty() => self.sync(id, usize::MAX),
            Some(id) => self.load(id, false),
            None => return self.leader().is_some_and(|leader| self.transfer(leader)),
        }
        true
    }

    /// Lets time pass as it does: each node is told at its deadline, everything arrives at once.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            self.settle();
            turns += 1;
            assert!(turns < 100_000, "time stands still:\n{}", self.status());
            let next = self
                .ids()
                .into_iter()
                .filter(|id| self.is_up(*id))
                .filter_map(|id| self.raft(id).deadline().map(|at| (at, id)))
                .min();
            match next {
                Some((at, id)) if at <= end => {
                    self.now = self.now.max(at);
                    self.turn(id, vec![Input::Tick]);
                    self.give_up_waiting(id);
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// The leader of the latest term among the nodes that are up.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.nodes
            .values()
            .filter_map(|node| Some((node.raft.as_ref()?, node.id)))
            .filter(|(raft, _)| raft.role() == RoleName::Leader)
            .max_by_key(|(raft, _)| raft.term())
            .map(|(_, id)| id)
    }

    /// Elects this node, everybody willing: nobody was heard for a second.
    pub(crate) fn elect(&mut self, id: NodeId) {
        self.advance(Duration::from_secs(1));
        if let Some(leader) = self.leader() {
            self.turn(leader, vec![Input::Tick]);
            self.packets.clear();
        }
        self.turn(id, vec![Input::Tick]);
        self.settle();
        assert_eq!(self.leader(), Some(id), "{}", self.trace);
    }

    /// One line per node.
    pub(crate) fn status(&self) -> String {
        let mut out = String::new();
        for node in self.nodes.values() {
            match &node.raft {
                None => writeln!(out, "n{} is down", node.id),
                Some(raft) => writeln!(
                    out,
                    "n{} {}{} last={} durable={} commit={}{}{}",
                    node.id,
                    text::role(raft.role(), raft.term(), raft.leader()),
                    match raft.base() {
                        whole if whole == EntryId::default() => String::new(),
                        base => format!(" base={base}"),
                    },
                    raft.last(),
                    raft.durable(),
                    raft.commit(),
                    if raft.hard_state().lost { " lost" } else { "" },
                    if raft.is_rebuilding() {
                        " rebuilding"
                    } else {
                        ""
                    }
                ),
            }
            .expect("writing to a string");
        }
        out
    }
}
