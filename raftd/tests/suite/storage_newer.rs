//! The marked snapshot is damaged, nobody else has it, and the process died before it could mark the
//! newer one that it made in its place.

use std::collections::VecDeque;

use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, Latched};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::snapshot::{self, Step, Writer, snapshot_name};
use raftd::storage::{OpenedDisk, Options, Recovery, State, open_disk};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::segment::{self, segment_name};
use raftd::wal::{Pending, identity::Identity};
use wire::types::{ClusterId, EntryId, Index};

use crate::wal_damage::{id, put};
use crate::wal_story::options;
use crate::wal_support::{entries, identity, write};

const MARKED: u64 = 4;
const NEWER: u64 = 6;
const LAST: u64 = 8;

fn alone() -> Identity {
    Identity {
        members: identity().members[..1].to_vec(),
        formed: vec![(identity().node, identity().incarnation)],
        ..identity()
    }
}

fn open(disk: &SimDisk) -> Result<OpenedDisk<Latched<SimDisk>>, Fatal> {
    open_of(alone(), disk)
}

/// Made as a directory of this node, if there is none.
fn open_of(node: Identity, disk: &SimDisk) -> Result<OpenedDisk<Latched<SimDisk>>, Fatal> {
    let options = Options {
        create: Some(node),
        ..options(disk.operations())
    };
    open_disk(Latched::new(disk.clone()), &options)
}

/// Publishes the state after entries up to this index, the last of which is of `term`.
fn publish(disk: &SimDisk, index: u64, term: u64) -> EntryId {
    let mut store = Store::new(alone().epoch, SESSIONS_MAX);
    let last = entries(index, 1, term, 90_000);
    let before = entries(1, index - 1, 1, 90_000);
    before
        .iter()
        .chain(&last)
        .for_each(|entry| drop(store.apply(entry)));
    let (cluster, members) = (alone().cluster, alone().members);
    let mut writer = Writer::begin(disk, store.view(), cluster, &members).unwrap();
    while !matches!(writer.step(disk).unwrap(), Step::Published(_)) {}
    store.applied()
}

/// A log that begins behind its first segment, and the snapshot that it needs for that, damaged.
fn damaged() -> SimDisk {
    damaged_of(alone())
}

fn damaged_of(node: Identity) -> SimDisk {
    let disk = SimDisk::new(9, 32 << 20);
    let mut wal = open_of(node, &disk).expect("it is made").log.recovered.wal;
    let mut pending = Pending::default();
    for entry in entries(1, LAST, 1, 90_000) {
        pending.push(write(entry.index().0, 1, vec![entry]));
        put(&mut wal, &mut pending);
    }
    let marked = publish(&disk, MARKED, 1);
    wal.mark(marked);
    put(&mut wal, &mut pending);
    let mut gone = wal.compact(marked.index, 0);
    segment::remove(&disk, &mut gone).expect("it goes");
    assert!(disk.content(&segment_name(1)).is_none());
    disk.rot(&snapshot_name(marked), 8_200, 1);
    disk.restart()
}

#[test]
fn a_newer_snapshot_takes_the_place_of_the_marked_one() {
    for index in [NEWER, LAST] {
        let disk = damaged();
        let older = publish(&disk, index - 1, 1);
        let newer = publish(&disk, index, 1);
        // Also an operator may have a look.
        let seen = Recovery::look(Latched::new(disk.fork(1)), 1).expect("it is whole");
        assert_eq!(seen.holds().last, id(1, LAST));
        assert_eq!(seen.holds().committed, Index(index));
        let spoilt = disk.fork(2);
        spoilt.rot(&snapshot_name(newer), 8_200, 1);
        let opened = open(&spoilt).expect("it goes on from the one before");
        assert_eq!(opened.state.snapshot.id, older);
        let opened = open(&disk).expect("it goes on from there");
        assert_eq!(opened.state.store.applied(), newer);
        assert_eq!(opened.state.snapshot.id, newer);
        let (restored, mut worker) = opened.start();
        assert_eq!(restored.raft.applied, Index(index));
        assert_eq!(restored.raft.wall_ms, restored.store.wall_ms());
        assert!(restored.raft.wall_ms > 0);
        assert!(restored.raft.commit >= Index(index));
        let mut events = VecDeque::new();
        while worker.has_work() && worker.round(&mut events).unwrap().worked {}
        assert_eq!(worker.wal().snapshot(), newer, "it is the marked one now");
        drop(worker);
        disk.power_loss();
        let disk = disk.restart();
        let opened = open(&disk).expect("it opens");
        assert_eq!(opened.log.recovered.report.snapshot, newer);
        assert_eq!(opened.state.store.applied(), newer);
        assert_eq!(disk.list("snap").unwrap().len(), 1);
    }
}

/// Neither one that is damaged, too, nor one of another entry than the log's; and none of them goes.
#[test]
fn what_does_not_fit_the_log_is_refused_and_stays() {
    type Spoil = fn(&SimDisk) -> EntryId;
    let cases: [Spoil; 3] = [
        |disk| {
            let newer = publish(disk, NEWER, 1);
            disk.rot(&snapshot_name(newer), 8_200, 1);
            newer
        },
        |disk| publish(disk, NEWER, 2),
        |disk| publish(disk, LAST + 1, 1),
    ];
    for newer in cases {
        let disk = damaged();
        let newer = newer(&disk);
        let fatal = open(&disk).err().expect("nothing is there to go on from");
        assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
        assert!(
            fatal.what.contains(&snapshot_name(id(1, MARKED))),
            "{fatal}"
        );
        for kept in [newer, id(1, MARKED)] {
            assert!(disk.content(&snapshot_name(kept)).is_some(), "{kept} stays");
        }
    }
}

/// Others may have what is damaged here, but whose directory this is they do not know; nor is what cannot
/// be opened for now gone.
#[test]
fn only_a_snapshot_that_is_damaged_or_gone_is_had_from_others() {
    let disk = SimDisk::new(9, 32 << 20);
    let marked = publish(&disk, MARKED, 1);
    let load_from = |cluster, base| {
        let identity = Identity { cluster, ..alone() };
        State::load(&disk, &identity, marked, base, false, SESSIONS_MAX)
    };
    let load = |cluster| load_from(cluster, marked);
    assert!(!load(alone().cluster).expect("it is whole").rebuilding);
    let error = load(ClusterId(1)).expect_err("it is another cluster's");
    assert!(matches!(error, snapshot::Error::Foreign { .. }), "{error}");
    disk.set_out_of_files(true);
    let error = load(alone().cluster).expect_err("it cannot be opened for now");
    assert!(matches!(error, snapshot::Error::Disk(_)), "{error}");
    disk.set_out_of_files(false);
    disk.rot(&snapshot_name(marked), 8_200, 1);
    assert!(load(alone().cluster).expect("others have it").rebuilding);
    disk.lose_name(&snapshot_name(marked));
    assert!(load(alone().cluster).expect("others have it").rebuilding);
    let whole_log = load_from(alone().cluster, EntryId::default());
    assert!(!whole_log.expect("the log has it all").rebuilding);
}

/// The log and the vote are good. What is there of the snapshot stays until the leader's takes its place.
#[test]
fn a_start_without_a_state_says_that_it_needs_one() {
    let disk = damaged_of(identity());
    let base = open(&disk)
        .expect("others have it")
        .log
        .recovered
        .wal
        .base();
    assert!(Index(0) < base.index && base.index < Index(MARKED));
    let (restored, _) = open(&disk).expect("others have it").start();
    let raft = restored.raft;
    assert!(raft.rebuilding);
    assert_eq!((raft.applied, raft.last.index), (base.index, Index(LAST)));
    assert_eq!(raft.commit, Index(MARKED), "a snapshot had it");
    assert_eq!(restored.store.applied(), EntryId::default());
    assert_eq!(disk.list("snap").unwrap().len(), 1, "it stays");
}

/// What was being written or received, and the snapshots before: with the log's own one, or without any.
#[test]
fn a_start_removes_what_is_of_no_use() {
    for snapshot in [false, true] {
        let disk = SimDisk::new(9, 32 << 20);
        let mut wal = open(&disk).expect("it is made").log.recovered.wal;
        let mut pending = Pending::default();
        pending.push(write(1, 1, entries(1, MARKED, 1, 90_000)));
        put(&mut wal, &mut pending);
        let mut kept = Vec::new();
        if snapshot {
            publish(&disk, MARKED - 1, 1);
            let marked = publish(&disk, MARKED, 1);
            wal.mark(marked);
            put(&mut wal, &mut pending);
            kept.push(snapshot_name(marked).replace("snap/", ""));
        }
        disk.create("snap/0000000000000002-1.part.tmp", 1).unwrap();
        disk.create("snap/0000000000000009-1.snap.tmp", 1).unwrap();
        drop(wal);
        let disk = disk.restart();
        drop(open(&disk).expect("it opens"));
        let part = (!snapshot).then(|| "0000000000000002-1.part.tmp".to_owned());
        kept.extend(part);
        assert_eq!(disk.list("snap").unwrap(), kept);
    }
}
