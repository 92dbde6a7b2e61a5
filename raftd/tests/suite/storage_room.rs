//! The room on a disk: what the makers of segments and of snapshots make of it (rules E5).

use std::collections::VecDeque;
use std::path::PathBuf;

use raftd::disk::Meter;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::node::io::{SnapshotEvent, SnapshotRequest, StorageEvent};
use raftd::storage::{Keeper, Kept, Options, Scrubbing, SpareMaker, Step};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::segment::segment_name;
use wire::peer::DiskState;

use super::snap_support::store;
use super::wal_support::identity;

const SEGMENT_BYTES: u64 = 256 * 1024;

fn maker(disk: &SimDisk, soft_free_bytes: u64) -> SpareMaker<SimDisk> {
    maker_of(disk, SEGMENT_BYTES, soft_free_bytes)
}

fn maker_of(disk: &SimDisk, segment_bytes: u64, soft_free_bytes: u64) -> SpareMaker<SimDisk> {
    let options = Options {
        segment_bytes,
        soft_free_bytes,
        ..options(1)
    };
    SpareMaker::new(disk.clone(), identity().owner(), 1, &options)
}

fn options(seed: u64) -> Options {
    Options {
        data_dir: PathBuf::new(),
        segment_bytes: SEGMENT_BYTES,
        soft_free_bytes: 0,
        tail_bytes: 1 << 20,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        create: Some(identity()),
        seed,
    }
}

/// The state when it rests, with no spare beside `left`.
fn room(maker: &mut SpareMaker<SimDisk>, left: usize, snapshot_bytes: u64) -> DiskState {
    loop {
        if let Step::Rest(room) = maker.step(left, snapshot_bytes, false) {
            return room;
        }
    }
}

#[test]
fn the_soft_mark_leaves_room_for_the_next_snapshot_and_two_segments() {
    let disk = SimDisk::new(1, 0);
    for (soft_free_bytes, snapshot_bytes, mark) in [
        (0, 0, 2 * SEGMENT_BYTES),
        (1_000_000, 0, 1_000_000),
        (1_000_000, 800_000, 1_000_000 + 2 * SEGMENT_BYTES),
    ] {
        let mut maker = maker(&disk, soft_free_bytes);
        for (bytes, state) in [(mark, DiskState::Ok), (mark - 1, DiskState::Soft)] {
            disk.set_capacity(bytes);
            assert_eq!(room(&mut maker, 1, snapshot_bytes), state, "{bytes} bytes");
        }
    }
}

#[test]
fn spares_are_as_many_as_half_a_gib_holds_and_the_disk_has_air_for() {
    const MIB: u64 = 1024 * 1024;
    for (segment_bytes, disk_bytes, spares) in [
        (MIB, 1 << 30, 8),
        (64 * MIB, 1 << 36, 8),
        (100 * MIB, 1 << 36, 5),
        (1 << 30, 1 << 40, 3),
        // Two segments for the soft mark, and each spare leaves as much again.
        (MIB, 2 * MIB + 12 * MIB, 6),
        (MIB, 2 * MIB, 1),
    ] {
        let disk = SimDisk::new(1, disk_bytes);
        let rests = |left, busy| {
            let mut maker = maker_of(&disk, segment_bytes, 0);
            let step = maker.step(left, 0, busy);
            maker.finish();
            matches!(step, Step::Rest(_))
        };
        for (busy, spares) in [(false, spares), (true, spares.min(3))] {
            let what = format!("{spares} of {segment_bytes} bytes, busy: {busy}");
            assert!(!rests(spares - 1, busy), "{what}");
            assert!(rests(spares, busy), "{what}");
        }
    }
}

#[test]
fn at_the_hard_mark_no_segment_can_be_made() {
    let disk = SimDisk::new(1, SEGMENT_BYTES - 1);
    let mut maker = maker(&disk, 0);
    assert_eq!(room(&mut maker, 0, 0), DiskState::Hard);
    assert_eq!(room(&mut maker, 1, 0), DiskState::Soft, "a spare is left");
    assert_eq!(disk.used_bytes(), 0, "what is half-made is given back");
    disk.set_capacity(2 * SEGMENT_BYTES);
    let made = (0..1_000).any(|_| matches!(maker.step(0, 0, false), Step::Made(_)));
    assert!(made, "by itself, once there is room");
}

#[test]
fn a_spare_that_is_not_finished_leaves_nothing() {
    let disk = SimDisk::new(1, 1 << 30);
    let half_made = || {
        let mut maker = maker_of(&disk, 16 << 20, 0);
        assert!(matches!(maker.step(0, 0, false), Step::Making));
        assert!(disk.used_bytes() > 0);
        maker
    };
    half_made().finish();
    assert_eq!(disk.used_bytes(), 0);
    let mut maker = half_made();
    disk.fail_next(Operation::Write, Fault::Io);
    assert!(matches!(
        maker.step(0, 0, false),
        Step::Failed(DiskState::Hard)
    ));
    assert_eq!(disk.used_bytes(), 0);
}

/// Else what an earlier life wrote there could be taken for what this one wrote (rules E2).
#[test]
fn each_life_makes_a_segment_anew() {
    let disk = SimDisk::new(1, 1 << 30);
    let [one, other] = [1, 2].map(|seed| {
        let mut maker = SpareMaker::new(disk.clone(), identity().owner(), 1, &options(seed));
        while !matches!(maker.step(0, 0, false), Step::Made(_)) {}
        disk.content(&segment_name(1)).expect("it is made")
    });
    assert!(one != other, "the salt is another");
}

/// Has a snapshot of this state written, and says what became of it.
fn take(keeper: &mut Keeper<SimDisk>, store: &Store) -> Result<u64, String> {
    keeper.push(SnapshotRequest::Take(Box::new(store.view())));
    let mut events = VecDeque::new();
    while keeper.step(&mut events).expect("the disk is sound") != Kept::Idle {}
    match events.pop_back() {
        Some(StorageEvent::Snapshot(SnapshotEvent::Taken(file))) => Ok(file.bytes),
        Some(StorageEvent::Snapshot(SnapshotEvent::NotTaken { reason, .. })) => Err(reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_that_cannot_have_room_is_not_begun() {
    let disk = SimDisk::new(1, 1 << 20);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let bytes = take(&mut keeper, &store(2_000, 100)).expect("there is room");
    assert_eq!(keeper.next_bytes(), bytes);
    // Of twice the state it takes about twice as much.
    let used = disk.used_bytes();
    disk.set_capacity(used + bytes * 3 / 2);
    let operations = disk.operations();
    let reason = take(&mut keeper, &store(4_000, 100)).expect_err("there is no room");
    assert!(reason.starts_with("the disk is full: about "), "{reason}");
    assert_eq!(disk.operations(), operations, "nothing was written");
    disk.set_capacity(used + bytes * 4);
    let twice = take(&mut keeper, &store(4_000, 100)).expect("there is room");
    assert_eq!(keeper.next_bytes(), twice);
}

/// A file of one key is nearly all header: a larger state must not be expected to take as much per key,
/// or every disk would be full (simulator, seed 120002558).
#[test]
fn a_tiny_snapshot_does_not_make_a_disk_full() {
    let disk = SimDisk::new(1, 2 << 20);
    let mut keeper = Keeper::new(disk, &identity(), SESSIONS_MAX);
    take(&mut keeper, &store(1, 1)).expect("there is room");
    let large = store(2_000, 100);
    keeper.push(SnapshotRequest::Expect(large.data_bytes()));
    let bytes = take(&mut keeper, &large).expect("there is room");
    assert!(bytes < 1 << 20);
}

#[test]
fn a_snapshot_that_meets_a_full_disk_gives_back_what_it_took() {
    let disk = SimDisk::new(1, 64 * 1024);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let reason = take(&mut keeper, &store(2_000, 100)).expect_err("there is no room");
    assert!(!reason.is_empty());
    assert_eq!((disk.used_bytes(), keeper.next_bytes()), (0, 0));
    disk.set_capacity(1 << 20);
    take(&mut keeper, &store(2_000, 100)).expect("there is room");
}

/// A state that grows needs more room than the newest snapshot had; before the first one, as much as
/// it has itself.
#[test]
fn room_is_kept_for_the_snapshot_that_is_to_come() {
    let disk = SimDisk::new(1, 8 << 20);
    let mut keeper = Keeper::new(disk, &identity(), SESSIONS_MAX);
    let expect = |keeper: &mut Keeper<SimDisk>, data_bytes| {
        keeper.push(SnapshotRequest::Expect(data_bytes));
        let _ = keeper
            .step(&mut VecDeque::new())
            .expect("the disk is sound");
        keeper.next_bytes()
    };
    assert_eq!(expect(&mut keeper, 700_000), 700_000);
    let store = store(2_000, 100);
    let bytes = take(&mut keeper, &store).expect("there is room");
    assert_eq!(expect(&mut keeper, 3 * store.data_bytes()), 3 * bytes);
    assert_eq!(
        expect(&mut keeper, 0),
        bytes,
        "never less than rules E5 say"
    );
}
