//! What a test does to the disk of a node, and sees of it.

use raftd::disk::Disk as _;
use raftd::disk::sim::{Fault, Operation};
use raftd::node::io::{Input, SnapshotRequest, StorageEvent, StorageRequest};
use raftd::snapshot;
use wire::peer::DiskState;
use wire::types::{EntryId, Index, NodeId};

use super::Cluster;
use super::disk::Disk;

impl Cluster {
    fn disk_of(&mut self, id: NodeId) -> &mut Disk {
        &mut self.members.get_mut(&id).expect("a member").disk
    }

    /// The disk takes requests and finishes none, until told otherwise.
    pub(crate) fn hang_disk(&mut self, id: NodeId, hangs: bool) {
        let (now, delay) = (self.now, self.options.disk_delay);
        let disk = self.disk_of(id);
        disk.hangs = hangs;
        disk.busy_until = (!hangs && !disk.pending.is_empty()).then(|| now + delay);
    }

    /// The snapshots that it was sent pieces of, piece by piece.
    pub(crate) fn pieces(&self, id: NodeId) -> &[EntryId] {
        &self.members[&id].disk.pieces
    }

    /// Whether the disk was handed the last piece of a snapshot and has not stored it.
    pub(crate) fn holds_last_piece(&self, id: NodeId) -> bool {
        let mut pending = self.members[&id].disk.pending.iter();
        pending.any(|request| match request {
            StorageRequest::Snapshot(SnapshotRequest::Receive {
                total_bytes,
                offset,
                bytes,
                ..
            }) => !bytes.is_empty() && offset + bytes.len() as u64 == *total_bytes,
            _ => false,
        })
    }

    /// Whether the snapshot that a node's log goes on from is on its disk.
    pub(crate) fn has_marked_snapshot(&self, id: NodeId) -> bool {
        let disk = &self.members[&id].disk;
        let name = snapshot::snapshot_name(disk.snapshot);
        disk.files.open(&name).is_ok()
    }

    /// The disk reads nothing, until told otherwise.
    pub(crate) fn fail_loads(&mut self, id: NodeId, fail: bool) {
        self.disk_of(id).fails_loads = fail;
    }

    /// The next file that is made on it finds the disk full.
    pub(crate) fn fill_snapshot_disk(&mut self, id: NodeId) {
        let files = &self.members[&id].disk.files;
        files.fail_next(Operation::Create, Fault::NoSpace);
    }

    /// The disk takes nothing more of a snapshot, or does again.
    pub(crate) fn break_snapshot_disk(&mut self, id: NodeId, broken: bool) {
        let files = &self.members[&id].disk.files;
        files.forget_faults();
        if broken {
            (0..10_000).for_each(|_| files.fail_next(Operation::Write, Fault::Io));
        }
    }

    /// How many snapshots are on its disk.
    pub(crate) fn snapshot_files(&self, id: NodeId) -> usize {
        let files = &self.members[&id].disk.files;
        files
            .list(snapshot::SNAPSHOT_DIR)
            .expect("the folder")
            .len()
    }

    /// The bytes of the node's newest snapshot.
    pub(crate) fn snapshot_bytes(&self, id: NodeId) -> Vec<u8> {
        let disk = &self.members[&id].disk;
        let file = disk
            .files
            .open(&snapshot::snapshot_name(disk.snapshot))
            .expect("it has a snapshot");
        let mut bytes = vec![0; disk.files.bytes(&file).expect("its size") as usize];
        let read = disk.files.read_at(&file, 0, &mut bytes);
        read.expect("all of it");
        bytes
    }

    /// The file of a node's newest snapshot is damaged, which is found out when it is read.
    pub(crate) fn damage_snapshot(&mut self, id: NodeId) {
        let disk = &self.members[&id].disk;
        let name = snapshot::snapshot_name(disk.snapshot);
        disk.files.rot(&name, 5_000, 1);
    }

    /// The file of a node's newest snapshot is gone.
    pub(crate) fn lose_snapshot(&mut self, id: NodeId) {
        let disk = &self.members[&id].disk;
        let name = snapshot::snapshot_name(disk.snapshot);
        disk.files.remove(&name).expect("it has a snapshot");
    }

    /// The payloads of these entries are damaged on the disk of a node that is down.
    pub(crate) fn damage_entries(&mut self, id: NodeId, indexes: impl IntoIterator<Item = Index>) {
        assert!(!self.is_up(id), "the node is down");
        let disk = self.disk_of(id);
        disk.faulty.extend(indexes);
    }

    /// The payload of an entry is damaged on the disk of a node that runs, and found.
    pub(crate) fn rot(&mut self, id: NodeId, index: Index) {
        let disk = self.disk_of(id);
        disk.faulty.insert(index);
        let event = disk.faulty_event();
        self.report(id, event);
    }

    /// The entries that are damaged on the disk.
    pub(crate) fn damaged(&self, id: NodeId) -> usize {
        self.members[&id].disk.faulty.len()
    }

    /// A node that is down comes back with a state that is not what its snapshot says.
    pub(crate) fn spoil_state(&mut self, id: NodeId) {
        assert!(!self.is_up(id), "the node is down");
        self.disk_of(id).spoils = true;
    }

    /// The disk reports something.
    pub(crate) fn report(&mut self, id: NodeId, event: StorageEvent) {
        self.turn(id, vec![Input::Storage(event)]);
    }

    /// What the disk reports from its next write on.
    pub(crate) fn set_room(&mut self, id: NodeId, state: DiskState) {
        self.disk_of(id).state = state;
    }

    /// The disk reports its room though nothing was written.
    pub(crate) fn report_room(&mut self, id: NodeId) {
        let disk = &self.members[&id].disk;
        let event = disk.durable_event();
        self.report(id, event);
    }

    /// IDENTITY of a node that is down loses its formed record, and nothing else.
    pub(crate) fn forget_formation(&mut self, id: NodeId) {
        assert!(!self.is_up(id), "the node is down");
        self.disk_of(id).formed.clear();
    }
}
