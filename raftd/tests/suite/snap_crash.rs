//! The process dies, the power fails or the disk refuses, at every operation.

use raftd::disk::Disk;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::snapshot::{Receiver, SnapshotInfo, read_at, remove_others, snapshot_name};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;

use super::snap_support::{Maker, assert_same, expected, load_it, publish};

const FAULTS: [Fault; 4] = [Fault::PowerLoss, Fault::Kill, Fault::Io, Fault::NoSpace];

/// Only a loss of power leaves anything open.
fn seeds(fault: Fault) -> u64 {
    if fault == Fault::PowerLoss { 5 } else { 1 }
}

/// A disk with a snapshot of an earlier state, and the later state.
struct Past {
    disk: SimDisk,
    old: SnapshotInfo,
    old_store: Store,
    store: Store,
}

fn past() -> Past {
    let mut random = 7_u64;
    let mut maker = |puts: u32| {
        let mut maker = Maker::new(4);
        let mut value = [0; 15_000];
        for n in 0..puts {
            for byte in &mut value {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (random >> 56) as u8;
            }
            maker.put(&(n % 150).to_be_bytes(), &value);
        }
        maker.store
    };
    let (old_store, store) = (maker(10), maker(160));
    let disk = SimDisk::new(1, 64 << 20);
    let old = publish(&disk, old_store.view()).unwrap();
    Past {
        disk,
        old,
        old_store,
        store,
    }
}

impl Past {
    /// What must hold once nothing is under way: the old snapshot is whole, and what has the name
    /// of the new one is, too. Says whether there is one.
    fn check<D: Disk>(&self, disk: &D, context: &str) -> bool {
        let old = load_it(disk, self.old.id).expect(context);
        assert_same(&self.old_store, &old.store);
        match load_it(disk, self.store.applied()) {
            Ok(new) => {
                assert_same(&self.store, &new.store);
                true
            }
            Err(error) => {
                let absent = matches!(&error, raftd::snapshot::Error::Disk(e) if e.is_not_found());
                assert!(absent, "{context}: {error}");
                false
            }
        }
    }

    /// After a start that took the old one, the new one can be made.
    fn recover<D: Disk>(&self, disk: &D, context: &str) {
        remove_others(disk, self.old.id).expect(context);
        assert!(!self.check(disk, context));
        publish(disk, self.store.view()).expect(context);
        assert!(self.check(disk, context));
        remove_others(disk, self.store.applied()).expect(context);
        assert_eq!(disk.list("snap").expect(context).len(), 1);
    }
}

#[test]
fn a_snapshot_is_published_whole_or_not_at_all() {
    let past = past();
    let operations = {
        let disk = past.disk.fork(0);
        publish(&disk, past.store.view()).unwrap();
        disk.operations()
    };
    assert!(operations > 12, "steps, growth, syncs and the end");
    let (mut published, mut lost, mut survived) = (0, 0, 0);
    for operation in 1..=operations {
        for fault in FAULTS {
            for seed in 0..seeds(fault) {
                let context = format!("{fault:?} at {operation}, seed {seed}");
                let disk = past.disk.fork(seed);
                disk.fail_at(operation, fault);
                let ended = publish(&disk, past.store.view());
                // Room that is not there ahead may be there when it is needed.
                let is_survived = matches!(fault, Fault::NoSpace) && ended.is_ok();
                assert!(ended.is_err() || is_survived, "{context}");
                let disk = if disk.is_down() {
                    disk.restart()
                } else {
                    let left = disk.list("snap").unwrap();
                    let unfinished = left.iter().any(|name| name.ends_with(".tmp"));
                    assert!(!unfinished, "{context}: {left:?}");
                    disk
                };
                match past.check(&disk, &context) {
                    true => published += 1,
                    false => lost += 1,
                }
                survived += i32::from(is_survived);
                past.recover(&disk, &context);
            }
        }
    }
    assert!(survived > 0, "the file grows ahead");
    assert!(published > survived && lost > 0, "{published} {lost}");
}

#[test]
fn what_is_said_to_be_published_survives_the_power() {
    let past = past();
    for seed in 0..16 {
        let disk = past.disk.fork(seed);
        let new = publish(&disk, past.store.view()).unwrap();
        disk.power_loss();
        assert!(past.check(&disk.restart(), &format!("written, seed {seed}")));
        let follower = past.disk.fork(seed);
        receive(&follower, &disk.restart(), new).unwrap();
        follower.power_loss();
        assert!(past.check(&follower.restart(), &format!("received, seed {seed}")));
    }
}

/// A process that took a damaged snapshot anew was killed before the directory was synced: the damaged
/// one must not come back under whoever started from the other.
#[test]
fn what_a_start_takes_survives_the_power() {
    let past = past();
    for seed in 0..16 {
        let disk = past.disk.fork(seed);
        disk.rot(&snapshot_name(past.old.id), 5_000, 1);
        disk.fail_next(Operation::Rename, Fault::Kill);
        publish(&disk, past.old_store.view()).unwrap_err();
        let disk = disk.restart();
        remove_others(&disk, past.old.id).unwrap();
        load_it(&disk, past.old.id).unwrap();
        disk.power_loss();
        let taken = load_it(&disk.restart(), past.old.id);
        assert!(taken.is_ok(), "seed {seed}: {:?}", taken.err());
    }
}

#[test]
fn removal_is_taken_up_wherever_it_stopped() {
    let past = past();
    publish(&past.disk, past.store.view()).unwrap();
    let disk = past.disk.fork(0);
    remove_others(&disk, past.store.applied()).unwrap();
    for operation in 1..=disk.operations() {
        for fault in FAULTS {
            let disk = past.disk.fork(operation);
            disk.fail_at(operation, fault);
            remove_others(&disk, past.store.applied()).unwrap_err();
            let disk = if disk.is_down() { disk.restart() } else { disk };
            remove_others(&disk, past.store.applied()).unwrap();
            assert_eq!(disk.list("snap").unwrap().len(), 1);
            load_it(&disk, past.store.applied()).unwrap();
        }
    }
}

/// Receives on, from whatever is there, in pieces of 300,000 bytes.
fn receive<D: Disk>(
    disk: &D,
    from: &SimDisk,
    info: SnapshotInfo,
) -> Result<(), raftd::snapshot::Error> {
    let mut receiver = Receiver::open(disk, info.id, info.bytes)?;
    while !receiver.is_complete() {
        let offset = receiver.received_bytes();
        let piece = read_at(from, info.id, offset, 300_000).unwrap();
        receiver.write(disk, offset, &piece.bytes)?;
    }
    receiver.finish(disk, &expected(info.id), SESSIONS_MAX)?;
    Ok(())
}

#[test]
fn a_transfer_survives_everything_and_delivers_what_was_sent() {
    let past = past();
    let leader = past.disk.fork(0);
    let info = publish(&leader, past.store.view()).unwrap();
    let operations = {
        let disk = past.disk.fork(0);
        receive(&disk, &leader, info).unwrap();
        disk.operations()
    };
    for operation in 1..=operations {
        for fault in FAULTS {
            for seed in 0..seeds(fault) {
                let context = format!("{fault:?} at {operation}, seed {seed}");
                let disk = past.disk.fork(seed);
                disk.fail_at(operation, fault);
                receive(&disk, &leader, info).expect_err(&context);
                let disk = if disk.is_down() { disk.restart() } else { disk };
                past.check(&disk, &context);
                // The next start may come before the leader sends on.
                if operation % 2 == 0 {
                    remove_others(&disk, past.old.id).expect(&context);
                }
                receive(&disk, &leader, info).expect(&context);
                assert!(past.check(&disk, &context));
            }
        }
    }
}
