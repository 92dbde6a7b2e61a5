//! What disks lose, and how nodes get it back (rules D4, D5).

use raft::Input;
use wire::entry::Entry;
use wire::leadership::HandOver;
use wire::peer::Digest;
use wire::types::{EntryId, Index, NodeId};

use crate::cluster::Cluster;
use crate::disk::Log;

impl Cluster {
    /// Whether this disk may be damaged now: those of a quorum stay whole.
    pub(crate) fn may_be_damaged(&self, id: NodeId) -> bool {
        let nodes = self.nodes.values();
        let damaged = nodes.filter(|node| node.id == id || node.disk.is_damaged());
        damaged.count() <= (self.nodes.len() - 1) / 2
    }

    /// A process dies, and its disk has lost which entries it held: the log begins anew behind the
    /// snapshot.
    pub(crate) fn lose(&mut self, id: NodeId) {
        self.crash(id, 0);
        // Messages to a former life do not reach a later one.
        self.packets.retain(|packet| packet.to != id);
        self.oracle.on_damage(&self.nodes[&id]);
        let disk = &mut self.node(id).disk;
        disk.log = Log::behind(disk.snapshot);
        disk.commit = disk.snapshot.index;
        disk.faulty.clear();
        disk.hard_state.lost = true;
        self.say(&format!("n{id} loses its log"));
    }

    /// A process dies, and its disk has forgotten what is after an index, but for the snapshot:
    /// nothing shows it.
    pub(crate) fn roll_back(&mut self, id: NodeId, upto: Index) {
        self.crash(id, 0);
        self.packets.retain(|packet| packet.to != id);
        self.oracle.on_damage(&self.nodes[&id]);
        let disk = &mut self.node(id).disk;
        let upto = upto.max(disk.snapshot.index);
        disk.log.cut_after(upto);
        disk.faulty.retain(|index| *index <= upto);
        disk.commit = disk.commit.min(upto);
        self.say(&format!("n{id} forgets what is after {upto}"));
    }

    /// Delivers what is under way between two nodes, and syncs them, until nothing is left.
    pub(crate) fn settle_between(&mut self, one: NodeId, other: NodeId) {
        loop {
            let mut links = self.packets.iter().map(|packet| (packet.from, packet.to));
            let place = links.position(|link| link == (one, other) || link == (other, one));
            if let Some(place) = place {
                self.deliver(place, false);
                continue;
            }
            let mut both = [one, other].into_iter();
            let Some(busy) = both.find(|id| !self.nodes[id].writes.is_empty()) else {
                return;
            };
            self.sync(busy, usize::MAX);
        }
    }

    /// A disk loses the payload of entries behind its log's base; a process that runs is told.
    pub(crate) fn rot(&mut self, id: NodeId, indexes: &[Index]) {
        self.oracle.on_damage(&self.nodes[&id]);
        let disk = &mut self.node(id).disk;
        let base = disk.log.base().index;
        let held = |index: &Index| *index > base && disk.log.id_at(*index).is_some();
        disk.faulty.extend(indexes.iter().copied().filter(held));
        self.tell_faulty(id);
        self.end_turn(id);
    }

    /// Fetches faulty entries of a node from the disks of others.
    pub(crate) fn mend(&mut self, id: NodeId) {
        let disk = &self.nodes[&id].disk;
        let wanted = disk
            .faulty
            .iter()
            .filter_map(|index| disk.log.id_at(*index));
        let fetched: Vec<Entry> = wanted.filter_map(|wanted| self.whole(wanted)).collect();
        self.oracle.marks.mended += fetched.len() as u64;
        let node = self.node(id);
        for entry in &fetched {
            node.disk.faulty.remove(&entry.index());
            if let Some(raft) = &mut node.raft {
                raft.mended(entry);
            }
        }
        self.tell_faulty(id);
        self.replace_faulty(id);
        self.end_turn(id);
    }

    /// Does for all what heals them in time.
    pub(crate) fn make_whole(&mut self) {
        for id in self.ids() {
            self.mend(id);
        }
        if let Some(leader) = self.leader() {
            // For those that rebuild: of an entry that their logs go on behind, or a later one.
            self.publish(leader);
        }
    }

    /// Faulty entries that the leader's log no longer holds are given up for a snapshot.
    fn replace_faulty(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let (Some(first), Some(raft)) = (node.disk.first_faulty(), &node.raft) else {
            return;
        };
        let covered = node.disk.snapshot.index;
        let leader = self.leader().map(|leader| self.raft(leader));
        if first <= covered && !raft.is_rebuilding() {
            self.compact(id, covered, true);
        } else if leader.is_some_and(|leader| leader.base().index >= first) {
            self.rebuild(id);
        }
    }

    /// An entry from a disk that has it.
    fn whole(&self, wanted: EntryId) -> Option<Entry> {
        let mut disks = self.nodes.values().map(|node| &node.disk);
        disks.find_map(|disk| {
            let is_whole = !disk.faulty.contains(&wanted.index);
            let mut entries = disk.log.from(wanted.index);
            entries
                .next()
                .filter(|entry| is_whole && entry.id() == wanted)
                .cloned()
        })
    }

    /// Tells a process the first faulty entry of its disk.
    pub(crate) fn tell_faulty(&mut self, id: NodeId) {
        let node = self.node(id);
        let first = node.disk.first_faulty();
        if let Some(raft) = &mut node.raft {
            raft.set_faulty(first);
            node.apply();
        }
    }

    /// A node's state is not what it should be.
    pub(crate) fn rebuild(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        node.disk.rebuilding = true;
        if let Some(raft) = &mut node.raft {
            raft.rebuild(now);
        }
        self.end_turn(id);
    }

    /// A node tells another digest from now on.
    pub(crate) fn set_digest(&mut self, id: NodeId, digest: Digest) {
        self.oracle.digests.insert((id, digest.sum));
        if let Some(raft) = &mut self.node(id).raft {
            raft.set_digest(Some(digest));
        }
    }

    /// Leadership is handed over, if it can be.
    pub(crate) fn hand_over(&mut self, id: NodeId, to: NodeId) -> Result<(), raft::CannotTransfer> {
        let now = self.now;
        let raft = self.node(id).raft.as_mut().expect("the node is up");
        let result = raft.transfer(now, to, HandOver::Asked);
        self.turn(id, Vec::new());
        result
    }

    fn end_turn(&mut self, id: NodeId) {
        if self.is_up(id) {
            self.turn(id, Vec::<Input>::new());
        }
    }
}
