//! Reads of the log by somebody else than who writes it, who may come later.

use std::collections::VecDeque;

use raft::Write;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::disk::{Disk, Latched};
use raftd::fatal::ExitStatus;
use raftd::node::io::{LoadPurpose, StorageEvent, StorageRequest};
use raftd::storage::{LogReader, ReadStep, Worker};
use raftd::wal::{Error, Inspected, Reader, segment};
use wire::entry::Entry;
use wire::peer::DiskState;
use wire::types::{Index, NodeId};

use crate::wal_life::{DISK_BYTES, id, long_log, new_log, put, worker};
use crate::wal_story::SimWal;
use crate::wal_support::{entries, rest, rot_text, write};

fn load(purpose: LoadPurpose, from: u64) -> StorageRequest {
    StorageRequest::Load {
        purpose,
        from: Index(from),
        to: Index(from.max(4)),
        max_bytes: 1 << 20,
    }
}

/// The only thing that was said is what was loaded.
fn only_loaded(events: &[StorageEvent]) -> (LoadPurpose, &[Entry]) {
    match events {
        [
            StorageEvent::Loaded {
                purpose, entries, ..
            },
        ] => (*purpose, entries),
        other => panic!("{other:?}"),
    }
}

fn with_entries(disk: &SimDisk) -> (Worker<Latched<SimDisk>>, Vec<Entry>) {
    let mut worker = worker(disk);
    let written = entries(1, 4, 1, 10);
    worker.push(StorageRequest::Write(write(1, 1, written.clone())));
    rest(&mut worker);
    (worker, written)
}

/// It says nothing of the disk: with the files of others the process may go on.
#[test]
fn a_read_for_which_no_file_can_be_opened_waits() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let (mut worker, written) = with_entries(&disk);
    let lagging = LoadPurpose::Replicate(NodeId(2));
    worker.push(load(lagging, 1));
    let mut events = VecDeque::new();
    worker.round(&mut events).expect("no fault");
    let mut reader = LogReader::new(disk.clone());
    let mut reads = worker.take_reads().into_iter();
    reads.by_ref().for_each(|read| reader.push(read));
    disk.set_out_of_files(true);
    for _ in 0..2 {
        let step = reader.step(false, &mut events).expect("the disk is sound");
        assert!(matches!(step, ReadStep::OutOfFiles), "{step:?}");
    }
    disk.set_out_of_files(false);
    let _ = reader.step(false, &mut events).expect("no fault");
    assert_eq!(
        only_loaded(events.make_contiguous()),
        (lagging, &written[..])
    );
    // Whatever else fails does say something of it.
    let mut reader = told_read(&mut worker, &disk, 1);
    disk.fail_next(Operation::Create, Fault::Kill);
    assert!(disk.create("any", 1).is_err());
    assert!(reader.step(false, &mut events).is_err());
}

#[test]
fn reads_for_those_who_lag_are_held_and_no_others() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let (mut worker, written) = with_entries(&disk);
    let lagging = LoadPurpose::Replicate(NodeId(2));
    worker.push(load(lagging, 1));
    worker.push(load(LoadPurpose::Apply, 1));
    let mut events = VecDeque::new();
    worker.round(&mut events).expect("no fault");
    assert!(events.is_empty() && !worker.has_work(), "others read");
    let mut reader = LogReader::new(disk);
    worker
        .take_reads()
        .into_iter()
        .for_each(|read| reader.push(read));
    let mut step = |held| {
        let mut events = VecDeque::new();
        let step = reader.step(held, &mut events).expect("no fault");
        (step, Vec::from(events))
    };
    let (read, events) = step(true);
    assert_eq!(only_loaded(&events), (LoadPurpose::Apply, &written[..]));
    assert!(matches!(read, ReadStep::Read { lagging_bytes: 0 }));
    assert!(matches!(step(true), (ReadStep::Idle, _)));
    let (read, events) = step(false);
    assert_eq!(only_loaded(&events), (lagging, &written[..]));
    let bytes: usize = written.iter().map(|entry| entry.bytes().len()).sum();
    assert!(matches!(read, ReadStep::Read { lagging_bytes } if lagging_bytes == bytes));
    assert!(!reader.has_work());
}

/// What is read for a follower must fit into a message.
#[test]
fn no_more_is_read_than_was_asked_for() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let (mut worker, written) = with_entries(&disk);
    let two = written[..2].iter().map(|entry| entry.bytes().len()).sum();
    for (max_bytes, expected) in [(two, &written[..2]), (two - 1, &written[..1])] {
        worker.push(StorageRequest::Load {
            purpose: LoadPurpose::Apply,
            from: Index(1),
            to: Index(4),
            max_bytes,
        });
        let events = rest(&mut worker);
        assert_eq!(only_loaded(&events).1, expected);
    }
}

/// A read of a log from this index on, which somebody else is to do.
fn told_read(
    worker: &mut Worker<Latched<SimDisk>>,
    disk: &SimDisk,
    from: u64,
) -> LogReader<SimDisk> {
    let mut reader = LogReader::new(disk.clone());
    worker.push(load(LoadPurpose::Apply, from));
    worker.round(&mut VecDeque::new()).expect("no fault");
    let read = worker.take_reads().pop().expect("the log has it");
    reader.push(read);
    reader
}

#[test]
fn a_read_finds_what_it_was_told_of_also_when_the_log_was_cut_meanwhile() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut worker = worker(&disk);
    let (before, after) = (entries(1, 4, 1, 10), entries(2, 2, 9, 20));
    worker.push(StorageRequest::Write(write(1, 1, before.clone())));
    rest(&mut worker);
    let mut reader = told_read(&mut worker, &disk, 1);
    let cut = Write {
        truncate_from: Some(Index(2)),
        ..write(2, 9, after.clone())
    };
    worker.push(StorageRequest::Write(cut));
    rest(&mut worker);
    let mut events = VecDeque::new();
    reader.step(false, &mut events).expect("no fault");
    assert_eq!(only_loaded(events.make_contiguous()).1, before);
    // A read stops before a cut.
    for (from, now) in [(1, &before[..1]), (2, &after[..])] {
        worker.push(load(LoadPurpose::Apply, from));
        assert_eq!(only_loaded(&rest(&mut worker)).1, now);
    }
}

/// From the first entry to the last one that is forgotten. For who is alone damage would be the end.
#[test]
fn a_read_of_what_the_log_forgot_meanwhile_is_no_damage() {
    let mut from = 1;
    for _ in 0..2 {
        let disk = SimDisk::new(1, 2 * DISK_BYTES);
        drop(long_log(&disk));
        let mut worker = worker(&disk);
        worker.push(StorageRequest::Alone(true));
        let mut reader = told_read(&mut worker, &disk, from);
        worker.push(StorageRequest::Mark(id(1, 18)));
        worker.push(StorageRequest::Compact {
            upto: Index(18),
            keep_bytes: 0,
        });
        rest(&mut worker);
        from = worker.wal().base().index.0;
        let mut garbage = worker.take_garbage();
        while !garbage.is_empty() {
            segment::remove(&disk, &mut garbage).expect("no fault is planned");
        }
        let mut events = VecDeque::new();
        let Ok(ReadStep::Unreadable(unreadable)) = reader.step(false, &mut events) else {
            panic!("the file is gone");
        };
        assert!(events.is_empty());
        worker.unreadable(unreadable);
        let answer = rest(&mut worker);
        assert_eq!(only_loaded(&answer), (LoadPurpose::Apply, &[][..]));
    }
    assert!(from > 1, "the second read was another one");
}

/// Of one batch or of several; an entry that is larger than that comes alone.
#[test]
fn a_read_gives_as_many_entries_as_fit_and_at_least_one() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    let written = entries(1, 6, 1, 100);
    for batch in written.chunks(2) {
        put(&mut wal, write(1, 1, batch.to_vec()));
    }
    let one = written[0].bytes().len();
    for (max_bytes, count) in [
        (0, 1),
        (2 * one - 1, 1),
        (2 * one, 2),
        (3 * one, 3),
        (4 * one - 1, 3),
        (usize::MAX, 4),
    ] {
        for from in [1, 2] {
            let read = wal.load(Index(from), Index(from + 3), max_bytes);
            let wanted = &written[from as usize - 1..][..count];
            assert_eq!(read.expect("no fault"), wanted, "{max_bytes} bytes");
        }
    }
}

/// Not of the active segment, which goes on, and not of one in which something was mended.
#[test]
fn a_reader_goes_on_with_nothing_that_has_changed() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = long_log(&disk);
    let mut reader = Reader::default();
    let mut read = |wal: &SimWal, index| {
        let passage = wal.passage(Index(index), Index(index));
        let read = reader.read(&disk, &passage.expect("it is sound"), usize::MAX);
        read.expect("it is there")
    };
    for index in 21..23 {
        let written = entries(index, 1, 1, 10);
        put(&mut wal, write(1, 1, written.clone()));
        assert_eq!(read(&wal, index), written);
    }
    let sound = entries(1, 2, 1, 90_000);
    rot_text(&disk, &segment::segment_name(1), b"1.2.");
    assert_eq!(wal.inspect(Index(2)).expect("no fault"), Inspected::Faulty);
    assert_eq!(read(&wal, 1), sound[..1]);
    wal.mend(&sound).expect("no fault is planned");
    assert_eq!(read(&wal, 2), sound[1..]);
}

/// Whatever is sound in itself: an entry is read only where the log has it.
#[test]
fn what_another_log_has_in_its_place_is_damage() {
    let disks = [1, 2].map(|term| {
        let disk = SimDisk::new(1, DISK_BYTES);
        let mut wal = new_log(&disk);
        let mut both = entries(1, 1, 1, 10);
        both.extend(entries(2, 1, term, 10));
        put(&mut wal, write(1, 2, both));
        (disk, wal)
    });
    let [(disk, wal), (other, _)] = disks;
    let name = segment::segment_name(1);
    let others = other.content(&name).expect("it exists");
    disk.tamper(&name, |bytes| *bytes = others);
    let both = wal.load(Index(1), Index(2), usize::MAX);
    assert_eq!(both.expect("the first is the same"), entries(1, 1, 1, 10));
    let second = wal.load(Index(2), Index(2), usize::MAX);
    assert!(matches!(second, Err(Error::Damaged(_))), "{second:?}");
}

/// Others have what cannot be read here; who is alone cannot go on without what it is to apply, and
/// makes up for the rest by a snapshot of its state.
#[test]
fn a_read_that_finds_damage_is_answered_and_the_damage_told() {
    let lagging = LoadPurpose::Replicate(NodeId(2));
    for (alone, purpose) in [
        (false, LoadPurpose::Apply),
        (false, lagging),
        (true, LoadPurpose::Apply),
        (true, lagging),
    ] {
        let disk = SimDisk::new(1, DISK_BYTES);
        let (mut worker, _) = with_entries(&disk);
        worker.push(StorageRequest::Alone(alone));
        rot_text(&disk, &segment::segment_name(1), b"1.2.");
        worker.push(load(purpose, 2));
        if alone && purpose == LoadPurpose::Apply {
            let mut events = VecDeque::new();
            worker.round(&mut events).expect("no fault");
            let mut reader = LogReader::new(disk);
            reader.push(worker.take_reads().pop().expect("the log has it"));
            let Ok(ReadStep::Unreadable(unreadable)) = reader.step(false, &mut events) else {
                panic!("it is damaged");
            };
            worker.unreadable(unreadable);
            let fatal = worker.round(&mut events).expect_err("nobody can help");
            assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
            continue;
        }
        let told = rest(&mut worker);
        let [found, StorageEvent::Loaded { entries, .. }] = (match &told[..] {
            [first @ StorageEvent::Loaded { .. }, second] => [second, first],
            [first, second] => [first, second],
            other => panic!("{other:?}"),
        }) else {
            panic!("{told:?}");
        };
        assert!(entries.is_empty());
        match found {
            StorageEvent::Faulty(faulty) if !alone => assert_eq!(faulty[0].id, id(1, 2)),
            StorageEvent::Rot { upto: Index(2) } if alone => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Whoever waits for room hears of it, also while nothing is written.
#[test]
fn the_room_on_the_disk_is_told_when_it_changes() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut worker = worker(&disk);
    for (room, told) in [
        (DiskState::Ok, false),
        (DiskState::Soft, true),
        (DiskState::Soft, false),
        (DiskState::Ok, true),
    ] {
        worker.set_room(room);
        let mut events = VecDeque::new();
        worker.round(&mut events).expect("no fault");
        let says = |event| matches!(event, StorageEvent::Durable { disk, .. } if disk == room);
        assert_eq!(events.into_iter().any(says), told, "{room:?}");
    }
}

/// Whoever rests until there is something to do must not rest before all of it is done.
#[test]
fn whatever_a_round_does_may_bring_more() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let (mut worker, written) = with_entries(&disk);
    let worked = |worker: &mut Worker<Latched<SimDisk>>| {
        let round = worker.round(&mut VecDeque::new());
        round.expect("no fault").worked
    };
    assert!(!worked(&mut worker));
    for request in [
        load(LoadPurpose::Apply, 1),
        StorageRequest::Mend(Vec::new()),
        StorageRequest::Form(Vec::new()),
        StorageRequest::Write(write(2, 1, entries(5, 1, 1, 10))),
    ] {
        let what = format!("{request:?}");
        worker.push(request);
        assert!(worked(&mut worker), "{what}");
        assert!(!worked(&mut worker), "{what}");
    }
    worker.suspect(written[0].index());
    assert!(worked(&mut worker), "what a scrub found");
    assert!(!worked(&mut worker));
}
