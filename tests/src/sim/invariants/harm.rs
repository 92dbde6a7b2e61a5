//! Who was damaged, whom that excuses from what, and when it is whole again.

use raftd::node::Node;
use raftd::node::io::Effects;
use wire::peer::Message;
use wire::types::{Index, Term};

use super::Invariants;
use super::member::Condition;
use crate::sim::audit::Held;
use crate::sim::net::Host;

impl Invariants {
    /// A member has another disk, empty.
    pub fn new_disk(&mut self, host: Host) {
        let member = &mut self.members[host];
        self.elections.new_disk(member.id);
        member.new_disk();
    }

    /// A member whose disk is another than it was never takes part again (rules D1).
    ///
    /// # Errors
    /// It does.
    pub fn keeps_out(&self, host: Host, node: &Node) -> Result<(), String> {
        let member = &self.members[host];
        match member.has_another_disk() && node.raft().term() > Term(0) {
            true => Err(format!("{} takes part with another disk", member.id)),
            false => Ok(()),
        }
    }

    /// Something on a member's disk was damaged: what it holds now is not what it once held.
    pub fn damaged(&mut self, host: Host) {
        self.members[host].harm();
    }

    /// A member begins its next life with another state than it should, and cannot know.
    pub fn spoiled(&mut self, host: Host) {
        let member = &mut self.members[host];
        member.harm();
        if !member.spoiled {
            member.right_upto = Index(0);
        }
        member.spoiled = true;
    }

    /// Whether a member sends a part of a snapshot on that it made of a wrong state.
    #[must_use]
    pub fn spreads(&self, host: Host, effects: &Effects) -> bool {
        let member = &self.members[host];
        let wrong = |message: &Message| match message {
            Message::InstallSnapshot(piece) => {
                !piece.bytes.is_empty() && piece.snapshot.index > member.right_upto
            }
            _ => false,
        };
        member.spoiled && effects.peers.iter().any(|(_, message)| wrong(message))
    }

    /// Whether a member's state is not what it should be, and nobody has found out.
    #[must_use]
    pub fn is_spoiled(&self, host: Host) -> bool {
        self.members[host].spoiled
    }

    /// As of the last turn: a member's first faulty entry.
    #[must_use]
    pub fn faulty(&self, host: Host) -> Option<Index> {
        self.members[host].condition().faulty
    }

    /// Whether what a member's log gives back at `index`, if anything, is what its disk once held.
    ///
    /// # Errors
    /// It is something else.
    pub fn is_mended(&self, host: Host, index: Index, found: Option<Held>) -> Result<(), String> {
        let member = &self.members[host];
        let held = member.on_disk(index);
        if found.is_some() && found != held {
            let id = member.id;
            return Err(format!(
                "{index} of {id} is mended by {found:?}, not {held:?}"
            ));
        }
        Ok(())
    }

    /// Whether a node of a member that was damaged is whole, and names its snapshot.
    #[must_use]
    pub fn is_whole(&self, host: Host, node: &Node) -> bool {
        let (member, raft) = (&self.members[host], node.raft());
        let sound = Condition::of(raft) == Condition::default();
        let seen = raft.durable() <= member.audit.last().index && !member.blind;
        let marked = || node.status().snapshot == member.audit.snapshot();
        sound && seen && !member.spoiled && marked()
    }

    /// What was damaged of a member is whole again.
    pub fn healed(&mut self, host: Host) {
        self.members[host].heal();
    }
}
