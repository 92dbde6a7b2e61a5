//! What a node does about snapshots: it publishes them, lets its log begin behind them, sends them
//! piece by piece to who needs one, and installs what it has received.

use bytes::Bytes;
use raft::{Effect, Installed};
use wire::peer::{InstallSnapshot, SnapshotOk};
use wire::types::{EntryId, Index, NodeId};

use crate::cluster::Cluster;

/// Bytes of every snapshot's file.
pub(crate) const FILE_BYTES: u64 = 5;
/// Bytes of a piece.
const PIECE_BYTES: u64 = 2;

/// A file on its way to a follower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    snapshot: EntryId,
    /// What the follower holds, once it has told.
    received: Option<u64>,
    /// A piece or a question is under way.
    waits: bool,
}

impl Cluster {
    /// Publishes a snapshot of what a node has applied, as far as its own disk has it (rules E6).
    pub(crate) fn publish(&mut self, id: NodeId) -> EntryId {
        let raft = self.raft(id);
        let index = raft.commit().min(raft.durable());
        if raft.is_rebuilding() {
            return EntryId::default();
        }
        let node = self.node(id);
        let whole = node.disk.first_faulty().map_or(index, Index::prev);
        let index = index.min(whole);
        if index > node.snapshot.index {
            node.snapshot = node.log.id_at(index).expect("it is in the log");
            node.mark();
        }
        node.snapshot
    }

    /// Lets a node's log begin behind `upto`, which a marked snapshot covers; that of its disk
    /// too, or not yet.
    pub(crate) fn compact(&mut self, id: NodeId, upto: Index, on_disk: bool) {
        let node = self.node(id);
        assert!(
            upto <= node.disk.snapshot.index,
            "no snapshot covers {upto}"
        );
        let raft = node.raft.as_mut().expect("the node is up");
        let before = raft.base();
        raft.compact(upto);
        let base = raft.base();
        assert_eq!(base.index, upto.max(before.index));
        if base != before {
            node.log.compact(upto);
            self.oracle.marks.compactions += 1;
        }
        let node = self.node(id);
        if on_disk {
            node.disk.compact(upto);
            self.tell_faulty(id);
        }
        self.oracle.check_node(&self.nodes[&id]);
    }

    /// Sends the next piece to every follower that needs a snapshot and has answered; whether
    /// there was one.
    pub(crate) fn transfer(&mut self, id: NodeId) -> bool {
        let raft = self.raft(id);
        let base = raft.base();
        let mut needy: Vec<NodeId> = raft.needs_snapshot().collect();
        let node = self.node(id);
        node.transfers.retain(|to, _| needy.contains(to));
        let newest = node.snapshot;
        assert!(
            needy.is_empty() || newest.index >= base.index,
            "a base without snapshot"
        );
        if newest == EntryId::default() {
            // Who rebuilds waits until there is one.
            needy.clear();
        }
        let mut effects = Vec::new();
        for to in needy {
            let fresh = Transfer {
                snapshot: newest,
                received: None,
                waits: false,
            };
            let transfer = node.transfers.entry(to).or_insert(fresh);
            // One that begins before the follower's log is never answered.
            let is_ignored = transfer.received.is_none() && transfer.snapshot != newest;
            if transfer.snapshot.index < base.index || is_ignored {
                *transfer = fresh;
            }
            if transfer.waits {
                continue;
            }
            transfer.waits = true;
            let offset = transfer.received.unwrap_or(0);
            let rest = match transfer.received {
                // A question first: the follower may hold a part of it.
                None => 0,
                Some(received) => (FILE_BYTES - received).min(PIECE_BYTES),
            };
            let bytes = Bytes::from(vec![7; usize::try_from(rest).expect("small")]);
            let snapshot = transfer.snapshot;
            let raft = node.raft.as_ref().expect("the node is up");
            raft.chunk(to, snapshot, FILE_BYTES, offset, bytes, &mut effects);
        }
        let sent = !effects.is_empty();
        self.carry_out(id, effects);
        sent
    }

    /// Unanswered pieces count as lost.
    pub(crate) fn give_up_waiting(&mut self, id: NodeId) {
        for transfer in self.node(id).transfers.values_mut() {
            transfer.waits = false;
        }
    }

    pub(crate) fn on_snapshot_answer(&mut self, id: NodeId, from: NodeId, answer: SnapshotOk) {
        if let Some(transfer) = self.node(id).transfers.get_mut(&from)
            && transfer.snapshot == answer.snapshot
        {
            transfer.received = Some(answer.received_bytes.min(FILE_BYTES));
            // With all of it there, the next word is an `AppendOk`.
            transfer.waits = answer.received_bytes >= FILE_BYTES;
        }
    }

    /// A piece is stored if it continues what is there, and answered.
    pub(crate) fn on_chunk(&mut self, id: NodeId, chunk: &InstallSnapshot) {
        let received = &mut self.node(id).disk.received;
        let mut bytes = match *received {
            Some((snapshot, bytes)) if snapshot == chunk.snapshot => bytes,
            _ => 0,
        };
        if chunk.offset == bytes {
            bytes += chunk.bytes.len() as u64;
        }
        *received = Some((chunk.snapshot, bytes));
        if bytes == chunk.total_bytes {
            *received = None;
            self.install(id, chunk.snapshot);
        }
        let mut effects = Vec::new();
        self.raft(id)
            .answer_chunk(chunk.snapshot, bytes, &mut effects);
        self.carry_out(id, effects);
    }

    /// Installs a whole, verified snapshot.
    pub(crate) fn install(&mut self, id: NodeId, snapshot: EntryId) -> Installed {
        let wall_ms = self.oracle.wall_ms(snapshot);
        let membership = self.membership_as_of(snapshot.index);
        let node = self.node(id);
        let raft = node.raft.as_mut().expect("the node is up");
        let (commit, last) = (raft.commit(), raft.last());
        let was_rebuilding = raft.is_rebuilding();
        let conflicts = last.index >= snapshot.index;
        let installed = raft.install(snapshot, wall_ms, &membership);
        if installed == Installed::Stale {
            assert_eq!((raft.commit(), raft.last()), (commit, last));
        } else {
            assert!(
                was_rebuilding || snapshot.index > commit,
                "an older snapshot was installed"
            );
            assert_eq!(raft.commit(), snapshot.index.max(commit));
            assert!(was_rebuilding || snapshot.index > node.snapshot.index);
            node.snapshot = snapshot;
            node.apply();
            node.wants_turn = true;
        }
        self.say(&format!("n{id} installs {snapshot}: {installed:?}"));
        self.oracle.on_install(id, snapshot, installed);
        self.oracle.marks.rebuilt += u64::from(was_rebuilding && installed != Installed::Stale);
        self.oracle.marks.conflicting_resets +=
            u64::from(conflicts && installed == Installed::Reset);
        installed
    }

    fn carry_out(&mut self, id: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            self.effect(id, effect);
        }
    }
}
