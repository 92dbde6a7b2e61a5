//! What the keeper of snapshots is asked for, and answers.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use raftd::disk::Disk;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::node::io::{ConnectionId, Reader, SnapshotEvent, SnapshotRequest, StorageEvent};
use raftd::snapshot::format::CHUNK_BYTES;
use raftd::snapshot::{snapshot_id, snapshot_name};
use raftd::storage::{Keeper, Kept, Scrubber};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::segment::{WAL_DIR, segment_name};
use wire::types::{EntryId, Index};

use super::snap_support::{id, publish, store};
use super::storage_recover::put_entry;
use super::wal_support::identity;

/// A replay tells it again and again, while the disk is busy with something else.
#[test]
fn what_is_to_come_does_not_pile_up() {
    let disk = SimDisk::new(1, 64 << 20);
    let mut keeper = Keeper::new(disk, &identity(), SESSIONS_MAX);
    keeper.push(SnapshotRequest::Distrust { after: Index(0) });
    for data_bytes in 1..=1_000 {
        keeper.push(SnapshotRequest::Expect(data_bytes));
    }
    assert_eq!((keeper.waiting(), keeper.next_bytes()), (1, 1_000));
}

/// What came out does not depend on who did it.
#[test]
fn two_threads_write_what_one_writes() {
    let store = store(20_000, 100);
    let name = snapshot_name(store.applied());
    let [alone, together] = [false, true].map(|hurries| {
        let disk = SimDisk::new(1, 64 << 20);
        let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
        if hurries {
            keeper.hurry();
        }
        keeper.push(SnapshotRequest::Take(Box::new(store.view())));
        let mut step = || keeper.step(&mut VecDeque::new()).expect("it is sound");
        let early = (0..20).map(|_| match step() {
            Kept::Wrote(bytes) => bytes,
            _ => 0,
        });
        assert!(
            early.sum::<u64>() > 128 * 1024,
            "it is not held for the end"
        );
        while step() != Kept::Idle {}
        disk.content(&name).expect("it was written")
    });
    assert!(alone.len() > 4 * CHUNK_BYTES, "several chunks");
    assert!(alone == together);
}

/// Whoever writes to what it shares is to free it, on the same thread.
#[test]
fn a_view_comes_back_when_nothing_more_of_it_is_written() {
    let disk = SimDisk::new(1, 64 << 20);
    for full in [false, true] {
        let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
        let view = store(20_000, 100).view();
        let (id, mut events) = (view.applied(), VecDeque::new());
        keeper.push(SnapshotRequest::Take(Box::new(view)));
        if full {
            let _ = keeper.step(&mut events).expect("the disk is sound");
            let _ = keeper.step(&mut events).expect("the disk is sound");
            disk.fail_next(Operation::Write, Fault::NoSpace);
        }
        while keeper.step(&mut events).expect("it is sound") != Kept::Idle {}
        let mut told = events.into_iter().filter_map(|event| match event {
            StorageEvent::Snapshot(SnapshotEvent::Progress(_)) => None,
            StorageEvent::Snapshot(event) => Some(event),
            _ => None,
        });
        let released = told.next();
        assert!(
            matches!(&released, Some(SnapshotEvent::Released(view)) if view.applied() == id),
            "{released:?}"
        );
        match told.next() {
            Some(SnapshotEvent::NotTaken { .. }) if full => {}
            Some(SnapshotEvent::Taken(_)) if !full => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A disk with a snapshot of several chunks, and the name of its file.
fn with_a_snapshot() -> (SimDisk, String) {
    let disk = SimDisk::new(1, 64 << 20);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let view = store(20_000, 100).view();
    let name = snapshot_name(view.applied());
    keeper.push(SnapshotRequest::Take(Box::new(view)));
    while keeper.step(&mut VecDeque::new()).expect("it is sound") != Kept::Idle {}
    (disk, name)
}

/// A client that waits for it is told, and the leader's loop is not woken for each piece.
#[test]
fn each_mib_of_a_snapshot_is_told_once() {
    const MIB: u64 = 1024 * 1024;
    let disk = SimDisk::new(1, 64 << 20);
    let mut keeper = Keeper::new(disk, &identity(), SESSIONS_MAX);
    let view = store(20_000, 200).view();
    keeper.push(SnapshotRequest::Take(Box::new(view)));
    let mut events = VecDeque::new();
    while keeper.step(&mut events).expect("it is sound") != Kept::Idle {}
    let Some(StorageEvent::Snapshot(SnapshotEvent::Taken(file))) = events.pop_back() else {
        panic!("{events:?}");
    };
    let told = events.iter().filter_map(|event| match event {
        StorageEvent::Snapshot(SnapshotEvent::Progress(bytes)) => Some(bytes / MIB),
        _ => None,
    });
    // Written, and read again; but for what the last step did.
    let last = (2 * file.bytes - CHUNK_BYTES as u64) / MIB;
    assert!(last > 2);
    assert!(told.eq(1..=last));
}

/// An end of the process leaves nothing half-written behind.
#[test]
fn what_is_half_written_goes_with_the_keeper() {
    let disk = SimDisk::new(1, 64 << 20);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let view = store(20_000, 100).view();
    keeper.push(SnapshotRequest::Take(Box::new(view)));
    let _ = keeper.step(&mut VecDeque::new()).expect("it is sound");
    assert_eq!(disk.list("snap").unwrap().len(), 1);
    keeper.finish();
    assert!(disk.list("snap").unwrap().is_empty());
}

/// The log's front goes segment by segment, also while more of it is forgotten.
#[test]
fn segments_that_the_log_forgot_are_removed() {
    let disk = SimDisk::new(1, 1 << 20);
    disk.create_dir(WAL_DIR).unwrap();
    for id in 1..=5 {
        disk.create(&segment_name(id), 1).unwrap();
    }
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    keeper.remove_segments(1..1);
    assert!(!keeper.has_work());
    keeper.remove_segments(1..3);
    assert!(keeper.is_awaited());
    let mut step = || keeper.step(&mut VecDeque::new());
    assert_eq!(step().expect("it goes"), Kept::Served);
    keeper.remove_segments(3..5);
    keeper.remove_segments(5..5);
    let mut step = || keeper.step(&mut VecDeque::new());
    while step().expect("it goes") != Kept::Idle {}
    disk.power_loss();
    let disk = disk.restart();
    assert_eq!(disk.list(WAL_DIR).unwrap(), ["0000000000000005.wal"]);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    keeper.remove_segments(5..6);
    disk.fail_next(Operation::Remove, Fault::Io);
    assert!(keeper.step(&mut VecDeque::new()).is_err());
}

/// It is cut then, and looks damaged.
#[test]
fn a_snapshot_that_is_removed_while_it_is_scrubbed_is_not_damaged() {
    let (disk, name) = with_a_snapshot();
    let mut scrubber = Scrubber::new(disk.clone());
    scrubber.begin(0..0);
    let mut events = VecDeque::new();
    assert!(scrubber.step(&mut events).bytes > 0);
    disk.remove(&name).expect("it goes");
    while scrubber.has_work() {
        scrubber.step(&mut events);
    }
    let [StorageEvent::Scrubbed { findings: 0, .. }] = *events.make_contiguous() else {
        panic!("{events:?}");
    };
}

/// Whether its file is gone cannot be told then.
#[test]
fn a_snapshot_that_is_damaged_is_told_though_it_cannot_be_opened_again() {
    let (disk, name) = with_a_snapshot();
    // Behind the first chunk, and read together with it.
    disk.rot(&name, CHUNK_BYTES as u64 * 5 / 4, 1);
    let mut scrubber = Scrubber::new(disk.clone());
    scrubber.begin(0..0);
    let mut events = VecDeque::new();
    assert!(scrubber.step(&mut events).bytes > 0);
    assert!(events.is_empty(), "{events:?}");
    disk.fail_next(Operation::Create, Fault::Kill);
    assert!(disk.create("any", 1).is_err());
    while events.is_empty() {
        scrubber.step(&mut events);
    }
    let [StorageEvent::Snapshot(SnapshotEvent::Rotten(_))] = *events.make_contiguous() else {
        panic!("{events:?}");
    };
    while scrubber.has_work() {
        scrubber.step(&mut events);
    }
    let Some(StorageEvent::Scrubbed { bytes, findings: 1 }) = events.pop_back() else {
        panic!("{events:?}");
    };
    // The first chunk is sound.
    assert!((CHUNK_BYTES as u64 / 4..CHUNK_BYTES as u64 * 5 / 4).contains(&bytes));
}

/// Who asked for it waits for an answer, and asks for no other one before.
#[test]
fn a_snapshot_that_is_given_up_is_told() {
    let (disk, _) = with_a_snapshot();
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let view = store(20_000, 100).view();
    let (id, mut events) = (view.applied(), VecDeque::new());
    keeper.push(SnapshotRequest::Take(Box::new(view)));
    let _ = keeper.step(&mut events).expect("the disk is sound");
    // The state was right up to there, and so are snapshots.
    keeper.push(SnapshotRequest::Distrust { after: id.index });
    let _ = keeper.step(&mut events).expect("the disk is sound");
    let [StorageEvent::Snapshot(SnapshotEvent::Distrusted)] = events.make_contiguous() else {
        panic!("{events:?}");
    };
    assert_eq!(disk.list("snap").unwrap().len(), 2);
    events.clear();
    let after = Index(id.index.0 - 1);
    keeper.push(SnapshotRequest::Distrust { after });
    while keeper.step(&mut events).expect("the disk is sound") != Kept::Idle {}
    assert!(disk.list("snap").unwrap().is_empty());
    let [
        StorageEvent::Snapshot(SnapshotEvent::Released(view)),
        StorageEvent::Snapshot(SnapshotEvent::NotTaken { snapshot, .. }),
        StorageEvent::Snapshot(SnapshotEvent::Distrusted),
    ] = events.make_contiguous()
    else {
        panic!("{events:?}");
    };
    assert_eq!((view.applied(), *snapshot), (id, id));
}

/// With all that is not to be believed, or is older than what the log goes on from.
#[test]
fn a_transfer_begins_anew_when_what_came_of_it_is_removed() {
    let mut source = Store::new(identity().epoch, SESSIONS_MAX);
    source.apply(&put_entry(1, b"key"));
    let disk = SimDisk::new(1, 64 << 20);
    publish(&disk, source.view()).expect("it is written");
    let bytes = disk.content(&snapshot_name(id(1, 3))).expect("it is there");
    let bytes = Bytes::from(bytes);

    let disk = SimDisk::new(2, 64 << 20);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let mut events = VecDeque::new();
    let piece = |at: Range<usize>| SnapshotRequest::Receive {
        snapshot: id(1, 3),
        total_bytes: bytes.len() as u64,
        offset: at.start as u64,
        bytes: bytes.slice(at),
    };
    let keep = SnapshotRequest::Keep {
        marked: id(1, 3),
        also: Vec::new(),
    };
    for (request, received) in [
        (piece(0..100), Some(100)),
        (SnapshotRequest::Distrust { after: Index(0) }, None),
        (piece(100..200), Some(0)),
        (piece(0..100), Some(100)),
        (keep, None),
        (piece(100..200), Some(0)),
        (piece(0..bytes.len()), Some(bytes.len() as u64)),
    ] {
        keeper.push(request);
        let _ = keeper.step(&mut events).expect("the disk is sound");
        match (events.pop_front(), received) {
            (None | Some(StorageEvent::Snapshot(SnapshotEvent::Distrusted)), None) => {}
            (
                Some(StorageEvent::Snapshot(SnapshotEvent::Received { received_bytes, .. })),
                Some(expected),
            ) => assert_eq!(received_bytes, expected),
            other => panic!("{other:?}"),
        }
    }
    let [StorageEvent::Snapshot(SnapshotEvent::Whole(..))] = events.make_contiguous() else {
        panic!("{events:?}");
    };
    let (total_bytes, data_bytes) = (bytes.len() as u64, source.data_bytes());
    assert_eq!(keeper.next_bytes(), total_bytes);
    keeper.push(SnapshotRequest::Expect(2 * data_bytes));
    assert_eq!(keeper.next_bytes(), total_bytes + 2 * data_bytes);
}

/// What a client asks for of this snapshot.
fn read(snapshot: EntryId, offset: u64, max_bytes: usize) -> SnapshotRequest {
    SnapshotRequest::Read {
        reader: Reader::Client(ConnectionId(1), 1),
        snapshot,
        offset,
        max_bytes,
    }
}

#[test]
fn pieces_are_read_in_the_order_and_no_larger_than_asked_for() {
    let (disk, name) = with_a_snapshot();
    let snapshot = snapshot_id(name.rsplit('/').next().unwrap()).unwrap();
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    keeper.push(read(snapshot, 4096, 500));
    keeper.push(read(snapshot, 0, 1000));
    assert!(keeper.has_work() && keeper.is_awaited());
    let mut events = VecDeque::new();
    while keeper.has_work() {
        let _ = keeper.step(&mut events).expect("the disk is sound");
    }
    let content = disk.content(&name).unwrap();
    for at in [4096..4596, 0..1000] {
        match events.pop_front() {
            Some(StorageEvent::Snapshot(SnapshotEvent::Read { bytes, .. })) => {
                assert!(bytes == content[at]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Else it stays what the next client is sent, too. One that cannot be opened for now may be sound.
#[test]
fn a_snapshot_that_a_client_cannot_be_sent_is_told_as_damaged() {
    let (disk, name) = with_a_snapshot();
    let snapshot = snapshot_id(name.rsplit('/').next().unwrap()).unwrap();
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    let mut events = VecDeque::new();
    disk.set_out_of_files(true);
    keeper.push(read(snapshot, 0, 1024));
    let _ = keeper.step(&mut events).expect("the log's disk is sound");
    let [StorageEvent::Snapshot(SnapshotEvent::Read { total_bytes: 0, .. })] =
        events.make_contiguous()
    else {
        panic!("{events:?}");
    };
    disk.set_out_of_files(false);
    events.clear();
    disk.make_unreadable(&name, 0..512);
    keeper.push(read(snapshot, 0, 1024));
    let _ = keeper.step(&mut events).expect("the log's disk is sound");
    let [
        StorageEvent::Snapshot(SnapshotEvent::Rotten(rotten)),
        StorageEvent::Snapshot(SnapshotEvent::Read { total_bytes: 0, .. }),
    ] = events.make_contiguous()
    else {
        panic!("{events:?}");
    };
    assert_eq!(*rotten, snapshot);
}

/// How much of a snapshot is there, when these bytes came.
fn received(
    keeper: &mut Keeper<SimDisk>,
    snapshot: EntryId,
    total_bytes: u64,
    bytes: &'static [u8],
) -> u64 {
    keeper.push(SnapshotRequest::Receive {
        snapshot,
        total_bytes,
        offset: 0,
        bytes: Bytes::from_static(bytes),
    });
    let mut events = VecDeque::new();
    let _ = keeper.step(&mut events).expect("the log's disk is sound");
    match events.make_contiguous() {
        [
            StorageEvent::Snapshot(SnapshotEvent::Received {
                snapshot: told,
                total_bytes: of,
                received_bytes,
            }),
        ] if (*told, *of) == (snapshot, total_bytes) => *received_bytes,
        other => panic!("{other:?}"),
    }
}

/// The leader may have taken another one meanwhile, which is as large by chance, or be another leader,
/// whose file of the same state has another size.
#[test]
fn what_came_of_one_snapshot_is_no_part_of_another() {
    let disk = SimDisk::new(1, 64 << 20);
    let mut keeper = Keeper::new(disk, &identity(), SESSIONS_MAX);
    for (index, total_bytes) in [(1, 20_000), (2, 20_000), (2, 30_000)] {
        let mut take = |bytes| received(&mut keeper, id(index, 3), total_bytes, bytes);
        assert_eq!(take(&[]), 0);
        assert_eq!(take(&[7; 100]), 100);
        assert_eq!(take(&[]), 100, "it goes on");
    }
}

/// Else the leader waits for an answer. What a failed write left is in doubt.
#[test]
fn who_can_take_no_piece_of_a_snapshot_says_that_nothing_is_there() {
    const PIECE: &[u8] = &[7; 200_000];
    let disk = SimDisk::new(1, 1 << 20);
    let mut keeper = Keeper::new(disk.clone(), &identity(), SESSIONS_MAX);
    assert_eq!(received(&mut keeper, id(1, 3), 2 << 20, PIECE), 0);
    for bytes in [PIECE, &[]] {
        disk.fail_next(Operation::Write, Fault::Io);
        assert_eq!(received(&mut keeper, id(1, 3), 500_000, bytes), 0);
    }
}

/// It is needed no sooner than a transfer or a start, and nobody may have another one then.
#[test]
fn a_scrub_tells_a_snapshot_whose_header_page_is_damaged() {
    let (disk, name) = with_a_snapshot();
    disk.rot(&name, 100, 1);
    let mut scrubber = Scrubber::new(disk);
    scrubber.begin(0..0);
    let mut events = VecDeque::new();
    while scrubber.has_work() {
        scrubber.step(&mut events);
    }
    let [
        StorageEvent::Snapshot(SnapshotEvent::Rotten(_)),
        StorageEvent::Scrubbed { findings: 1, .. },
    ] = *events.make_contiguous()
    else {
        panic!("{events:?}");
    };
}
