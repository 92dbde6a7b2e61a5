//! The life of a log: a snapshot is published and marked, what it covers goes, or it replaces all.

use std::collections::VecDeque;

use raft::{Ticket, Write};
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::disk::{Disk, Latched};
use raftd::fatal::ExitStatus;
use raftd::node::io::{StorageEvent, StorageRequest};
use raftd::storage::{Options, Worker, open_log};
use raftd::wal::format::RESERVE_BYTES;
use raftd::wal::segment::{self, SegmentMaker, segment_name};
use raftd::wal::{Error, Pending, Progress, examine};
use wire::entry::Entry;
use wire::types::{EntryId, Index, Term};

use crate::wal_story::{Content, SEGMENT_BYTES, SimWal, content, make_spare, open, options};
use crate::wal_support::{entries, rest, write};

pub(crate) const DISK_BYTES: u64 = 8 << 20;

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

/// Makes it durable, whatever that takes.
fn try_put(wal: &mut SimWal, write: Write) -> Result<(), Error> {
    let mut pending = Pending::default();
    pending.push(write);
    loop {
        match wal.write(&mut pending)? {
            Progress::Idle => return Ok(()),
            Progress::Durable(_) => {}
            Progress::NoRoom => make_spare(wal)?,
        }
    }
}

pub(crate) fn put(wal: &mut SimWal, write: Write) {
    try_put(wal, write).expect("no fault is planned");
}

pub(crate) fn put_marker(wal: &mut SimWal, snapshot: EntryId) {
    wal.mark(snapshot);
    put(wal, write(1, wal.hard_state().term.0, Vec::new()));
}

pub(crate) fn new_log(disk: &SimDisk) -> SimWal {
    open(disk).expect("it opens").recovered.wal
}

/// A log of term 1 with 20 entries over many segments.
pub(crate) fn long_log(disk: &SimDisk) -> SimWal {
    let mut wal = new_log(disk);
    for index in 1..=20 {
        put(&mut wal, write(1, 1, entries(index, 1, 1, 90_000)));
    }
    assert_eq!(wal.first_segment(), 1);
    assert!(wal.next_segment() > 9, "two entries fill a segment");
    wal
}

/// What another life would find on the disk as it is: nothing that it takes for damage.
pub(crate) fn found(disk: &SimDisk) -> Content {
    let recovered = open(&disk.fork(1)).expect("it recovers").recovered;
    assert_eq!(recovered.damage, None);
    content(&recovered)
}

pub(crate) fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list("wal").expect("the machine is up")
}

/// However long the log is.
#[test]
fn a_start_holds_no_more_of_the_log_than_it_may() {
    let disk = SimDisk::new(1, DISK_BYTES);
    drop(long_log(&disk));
    for (tail_bytes, kept) in [(300_000, 3), (0, 1)] {
        let few = Options {
            tail_bytes,
            ..options(1)
        };
        let opened = open_log(Latched::new(disk.fork(1)), &few).expect("it opens");
        let tail: Vec<_> = opened.recovered.tail.iter().map(Entry::index).collect();
        let newest = (1..=20).map(Index).skip(20 - kept);
        assert!(tail.into_iter().eq(newest), "{kept} of {tail_bytes} bytes");
    }
}

/// It was made under another name.
#[test]
fn a_failed_sync_names_the_segment_as_it_is_called_by_then() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = long_log(&disk);
    disk.fail_next(Operation::Sync, Fault::Io);
    let failed = try_put(&mut wal, write(1, 1, entries(21, 1, 1, 10))).unwrap_err();
    let name = segment_name(wal.sealed_segments().end);
    assert!(
        failed.to_string().contains(&format!("{name}: ")),
        "{failed}"
    );
}

/// What is on the disk is unknown then (rules D3).
#[test]
fn a_write_that_fails_ends_the_storage() {
    for operation in [Operation::Store, Operation::Sync] {
        let disk = SimDisk::new(1, DISK_BYTES);
        let mut worker = worker(&disk);
        disk.fail_next(operation, Fault::Io);
        worker.push(StorageRequest::Write(write(1, 1, entries(1, 1, 1, 10))));
        let mut events = VecDeque::new();
        let fatal = worker.round(&mut events).unwrap_err();
        assert_eq!(fatal.status, ExitStatus::Io, "{operation:?}: {fatal}");
        assert!(events.is_empty(), "{operation:?}: {events:?}");
    }
}

/// The segment that a start finds and its spares as well: who comes back has most to catch up on.
#[test]
fn large_batches_go_past_the_cache_in_every_life() {
    let disk = SimDisk::new(1, DISK_BYTES);
    for life in 0..2 {
        let mut wal = new_log(&disk);
        assert_eq!(wal.spares() as u64, life, "what the life before left");
        // Two fill a segment.
        for index in 1..=3 {
            let before = disk.direct_bytes();
            let entry = entries(3 * life + index, 1, 1, 90_000);
            put(&mut wal, write(1, 1, entry));
            let past = disk.direct_bytes() - before;
            assert!(
                past > 80_000,
                "{past} bytes of entry {index} in life {life}"
            );
        }
        make_spare(&mut wal).expect("no fault is planned");
    }
}

/// Its buffer held the batch before, which was larger.
#[test]
fn a_batch_ends_with_zeros_also_past_the_cache() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 1, 1, 90_000)));
    put(&mut wal, write(2, 1, entries(2, 1, 1, 70_000)));
    let bytes = disk.content(&segment_name(1)).expect("it exists");
    let entry = bytes.iter().rposition(|byte| *byte == b'x');
    let behind = entry.expect("it is there") + 1;
    let rest = &bytes[behind..behind.next_multiple_of(512)];
    assert!(rest.len() > 100 && rest.iter().all(|byte| *byte == 0));
}

/// What is torn is never larger than a batch may be: of more than that recovery would believe nothing.
#[test]
fn a_batch_is_bounded_in_a_segment_of_any_size() {
    let disk = SimDisk::new(1, 4 * DISK_BYTES);
    let large = Options {
        segment_bytes: DISK_BYTES,
        ..options(1)
    };
    let mut wal = open_log(Latched::new(disk.clone()), &large)
        .expect("it opens")
        .recovered
        .wal;
    let mut pending = Pending::default();
    let written = entries(1, 5, 1, 700_000);
    pending.push(write(1, 1, written.clone()));
    for ticket in [None, None, Some(Ticket(1))] {
        let progress = wal.write(&mut pending).expect("no fault is planned");
        assert_eq!(progress, Progress::Durable(ticket), "two to a batch");
    }
    assert_eq!(found(&disk).entries, written);
}

/// Its end is for votes (rules E5), however many entries share a batch and whatever their size.
#[test]
fn entries_stay_out_of_the_reserve_of_a_segment() {
    for body_bytes in 8..24 {
        let disk = SimDisk::new(1, DISK_BYTES);
        let mut wal = new_log(&disk);
        put(&mut wal, write(1, 1, entries(1, 4_000, 1, body_bytes)));
        let mut batches = 0;
        let examined = examine(&disk, None, |batch| {
            let header = batch.header;
            batches += u64::from(header.entries > 0);
            assert!(header.entries == 0 || header.end() <= SEGMENT_BYTES - RESERVE_BYTES);
        });
        assert!(examined.is_ok() && batches > 1, "{batches}");
    }
}

/// It was made in a life with smaller segments. Nothing can be sealed that was not opened.
#[test]
fn a_segment_too_small_for_its_first_entry_is_opened_all_the_same() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 3, 1, 90_000)));
    drop(wal);
    // A crash left the first one sealed and the second one not opened.
    let sealed = disk.restart();
    sealed.tamper(&segment_name(2), |bytes| bytes[4096..].fill(0));
    let larger = Options {
        segment_bytes: 1 << 20,
        ..options(2)
    };
    let opened = open_log(Latched::new(sealed.clone()), &larger).expect("it opens");
    let mut wal = opened.recovered.wal;
    assert_eq!((wal.last(), wal.next_segment()), (id(1, 2), 3));
    let mut pending = Pending::default();
    pending.push(write(2, 1, entries(3, 1, 1, 400_000)));
    let progress = wal.write(&mut pending).expect("there is none");
    assert_eq!(progress, Progress::NoRoom);
    let (owner, bytes) = (opened.identity.owner(), larger.segment_bytes);
    let maker = SegmentMaker::begin(wal.disk(), owner, 3, bytes, 2).expect("there is room");
    wal.add_spare(maker.finish(wal.disk()).expect("no fault is planned"));
    let progress = wal.write(&mut pending).expect("there is room");
    assert_eq!(progress, Progress::Durable(Some(Ticket(2))));
    let again = open(&sealed.restart()).expect("it opens").recovered;
    assert_eq!((again.wal.last(), again.damage), (id(1, 3), None));
}

#[test]
fn a_marker_alone_is_one_batch_and_waits_for_nothing() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 3, 1, 10)));
    let mut pending = Pending::default();
    wal.mark(id(1, 2));
    assert_eq!((wal.snapshot(), wal.is_marked()), (id(0, 0), false));
    let syncs = disk.syncs();
    let progress = wal.write(&mut pending).expect("no fault is planned");
    assert_eq!(progress, Progress::Durable(None));
    assert_eq!((wal.snapshot(), disk.syncs() - syncs), (id(1, 2), 1));
    // An older one, or the same: nothing.
    wal.mark(id(1, 1));
    wal.mark(id(1, 2));
    let progress = wal.write(&mut pending).expect("no fault is planned");
    assert_eq!((progress, disk.syncs() - syncs), (Progress::Idle, 1));
    let again = found(&disk);
    assert_eq!((again.snapshot, again.base), (id(1, 2), id(0, 0)));
}

#[test]
fn a_marker_goes_with_the_writes_that_wait() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 3, 1, 10)));
    let mut pending = Pending::default();
    pending.push(write(7, 1, entries(4, 1, 1, 10)));
    wal.mark(id(1, 3));
    let syncs = disk.syncs();
    let progress = wal.write(&mut pending).expect("no fault is planned");
    assert_eq!(progress, Progress::Durable(Some(Ticket(7))));
    assert_eq!((wal.snapshot(), disk.syncs() - syncs), (id(1, 3), 1));
}

#[test]
#[should_panic(expected = "3@1 is marked before it is durable")]
fn what_is_not_durable_is_not_marked() {
    let mut wal = new_log(&SimDisk::new(1, DISK_BYTES));
    put(&mut wal, write(1, 1, entries(1, 2, 1, 10)));
    wal.mark(id(1, 3));
}

#[test]
#[should_panic(expected = "the log has another")]
fn what_is_not_the_logs_is_not_marked() {
    let mut wal = new_log(&SimDisk::new(1, DISK_BYTES));
    put(&mut wal, write(1, 2, entries(1, 2, 2, 10)));
    wal.mark(id(1, 2));
}

/// Rules E5: entries wait on a full disk; a marker, and a snapshot in place of the log, do not.
#[test]
fn markers_and_resets_fit_on_a_full_disk() {
    for resets in [false, true] {
        let disk = SimDisk::new(1, DISK_BYTES);
        let mut wal = new_log(&disk);
        put(&mut wal, write(1, 1, entries(1, 2, 1, 80_000)));
        let mut pending = Pending::default();
        pending.push(write(1, 1, entries(3, 1, 1, 80_000)));
        let progress = wal.write(&mut pending).expect("a full disk is no failure");
        assert_eq!(progress, Progress::NoRoom);
        if resets {
            let reset = Some(id(2, 9));
            pending = Pending::default();
            pending.push(Write {
                reset,
                ..write(2, 2, entries(10, 1, 2, 80_000))
            });
        } else {
            wal.mark(id(1, 2));
        }
        let syncs = disk.syncs();
        let progress = wal.write(&mut pending).expect("a full disk is no failure");
        assert_eq!(progress, Progress::Durable(None), "entries still wait");
        let progress = wal.write(&mut pending).expect("a full disk is no failure");
        assert_eq!((progress, disk.syncs() - syncs), (Progress::NoRoom, 1));
        let again = found(&disk);
        if resets {
            assert_eq!((again.snapshot, again.base), (id(2, 9), id(2, 9)));
            assert_eq!(again.entries, []);
        } else {
            assert_eq!((again.snapshot, again.base), (id(1, 2), id(0, 0)));
            assert_eq!(again.entries.len(), 2);
        }
    }
}

/// The content after a crash at each operation of `act`, on a log as `prepare` makes it.
pub(crate) fn crash_everywhere(
    prepare: impl Fn(&SimDisk) -> SimWal,
    act: impl Fn(&mut SimWal) -> Result<(), Error>,
    mut judge: impl FnMut(&str, &SimDisk),
) {
    let sound = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = prepare(&sound);
    let before = sound.operations();
    act(&mut wal).expect("no fault is planned");
    let operations = sound.operations() - before;
    assert!(operations > 2);
    let faults = [
        (Fault::Kill, 1),
        (Fault::PowerLoss, 1),
        (Fault::PowerLoss, 2),
        (Fault::PowerLoss, 3),
    ];
    for (fault, seed) in faults {
        for at in 1..=operations {
            let disk = SimDisk::new(seed, 2 * DISK_BYTES);
            let mut wal = prepare(&disk);
            disk.fail_at(disk.operations() + at, fault);
            assert!(act(&mut wal).is_err());
            judge(&format!("{fault:?} at {at}, seed {seed}"), &disk.restart());
        }
    }
}

#[test]
fn a_snapshot_replaces_the_log_at_once_or_not_at_all() {
    let whole = {
        let disk = SimDisk::new(1, 2 * DISK_BYTES);
        drop(long_log(&disk));
        found(&disk)
    };
    // Below the end of the log, whose entries conflict; and past it.
    for snapshot in [id(2, 15), id(2, 40)] {
        let (mut old, mut new) = (0, 0);
        let reset = |wal: &mut SimWal| {
            let reset = Write {
                reset: Some(snapshot),
                ..write(1, 2, entries(snapshot.index.0 + 1, 1, 2, 10))
            };
            try_put(wal, reset)
        };
        crash_everywhere(long_log, reset, |context, disk| {
            let content = found(disk);
            assert!(content.entries.len() <= 1 || content == whole, "{context}");
            if content == whole {
                old += 1;
                return;
            }
            new += 1;
            assert_eq!(content.snapshot, snapshot, "{context}");
            assert_eq!(content.base, snapshot, "{context}");
            assert_eq!(content.hard_state.term, Term(2), "{context}");
            let wal = new_log(&disk.fork(1));
            assert!(wal.commit() >= snapshot.index, "{context}: commit hint");
        });
        assert!(old > 0 && new > 0, "{old} old, {new} new");
    }
}

/// Whoever adopts a term may vote in it later.
#[test]
fn a_vote_may_come_after_its_term() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    let voted = write(2, 3, Vec::new());
    let mut adopted = write(1, 3, Vec::new());
    adopted.hard_state.vote = None;
    put(&mut wal, adopted);
    put(&mut wal, voted.clone());
    assert_eq!(found(&disk).hard_state, voted.hard_state);
}

/// The second one is of no use, and then the third one is not either (cases f, g and k).
#[test]
fn spares_are_kept_as_far_as_they_follow_each_other() {
    let sound = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&sound);
    for _ in 0..3 {
        make_spare(&mut wal).expect("there is room");
    }
    let bytes = wal.bytes();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(Damage, &str, u64); 3] = [
        (|_| {}, "AJg", 3),
        (|bytes| bytes[20] ^= 1, "AJfg", 1),
        (|bytes| bytes[4096 + 20] ^= 1, "AJgk", 1),
    ];
    for (damage, cases, spares) in damages {
        let disk = sound.fork(1);
        disk.tamper(&segment_name(3), damage);
        disk.create("wal/0000000000000005.wal.tmp", 1)
            .expect("there is room");
        let recovered = open(&disk).expect("nothing is lost").recovered;
        let (wal, report) = (recovered.wal, recovered.report);
        assert_eq!(report.cases.to_string(), cases);
        let discarded = 3 - spares;
        assert_eq!(
            (wal.spares() as u64, report.discarded),
            (spares, discarded + 1)
        );
        assert_eq!(wal.bytes(), bytes - discarded * SEGMENT_BYTES);
        assert_eq!(segments(&disk).len() as u64, 1 + spares);
    }
    let larger = Options {
        segment_bytes: 2 * SEGMENT_BYTES,
        ..options(1)
    };
    let opened = open_log(Latched::new(sound), &larger).expect("nothing is lost");
    assert_eq!(opened.recovered.wal.spares(), 0, "of another size");
}

/// A power cut leaves the first batch of a segment torn, but no sector that cannot be read (cases i
/// and h).
#[test]
fn a_first_batch_goes_if_it_is_torn() {
    let sound = SimDisk::new(1, DISK_BYTES);
    let active = segment_name(long_log(&sound).sealed_segments().end);
    sound.tamper(&active, |bytes| {
        bytes[4096..].fill(0);
        bytes[8000] = 1;
    });
    let disk = sound.fork(1);
    let recovered = open(&disk).expect("it was never durable").recovered;
    assert!(recovered.report.cases.to_string().contains('i'));
    assert_eq!(recovered.report.torn_bytes, 4096);
    let last = recovered.wal.last().index.0;
    let mut wal = recovered.wal;
    assert_eq!(wal.first_segment(), 1);
    put(&mut wal, write(1, 1, entries(last + 1, 1, 1, 10)));
    assert_eq!(found(&disk).last(), last + 1);
    assert!(disk.content(&active).expect("it exists")[8000] == 0);
    sound.make_unreadable(&active, 8000..8001);
    let fatal = open(&sound).err().expect("it may have been durable");
    assert!(fatal.what.contains("(case h)"), "{fatal}");
}

/// Its state was lost, not its entry.
#[test]
fn the_marked_snapshot_may_replace_the_log_again() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 3, 1, 10)));
    put_marker(&mut wal, id(1, 2));
    let reset = Write {
        reset: Some(id(1, 2)),
        ..write(2, 2, entries(3, 1, 2, 10))
    };
    put(&mut wal, reset);
    let again = found(&disk);
    assert_eq!((again.base, again.snapshot), (id(1, 2), id(1, 2)));
    assert_eq!(again.entries, entries(3, 1, 2, 10));
}

/// A segment begins with the log as it was: the reset is never its first batch.
#[test]
fn a_reset_right_behind_a_seal_opens_the_segment_first() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 1, 1, 190_000)));
    make_spare(&mut wal).expect("there is room");
    let mut term = 1;
    while wal.spares() == 1 {
        term += 1;
        put(&mut wal, write(1, term, Vec::new()));
    }
    // The vote that did not fit opened the next segment; a crash left it sealed and not opened.
    drop(wal);
    let sealed = disk.restart();
    let blank = |bytes: &mut Vec<u8>| bytes[4096..].fill(0);
    sealed.tamper(&segment_name(2), blank);
    let mut wal = new_log(&sealed);
    let old = wal.last();
    let reset = Write {
        reset: Some(id(term, 50)),
        ..write(1, term, Vec::new())
    };
    put(&mut wal, reset);
    assert_eq!((old, wal.last()), (id(1, 1), id(term, 50)));
    let again = found(&sealed);
    assert_eq!((again.base, again.entries.len()), (id(term, 50), 0));
    // All of the old log is in front of it, and goes.
    let mut wal = new_log(&sealed.fork(1));
    assert_eq!(wal.compact(Index(50), 0), 1..2);
    let mut files = 1..2;
    segment::remove(wal.disk(), &mut files).expect("no fault is planned");
    assert_eq!(found(&sealed).base, id(term, 50));
}

pub(crate) fn worker(disk: &SimDisk) -> Worker<Latched<SimDisk>> {
    let opened = open(disk).expect("it opens");
    Worker::new(opened.recovered.wal, opened.identity)
}

#[test]
fn every_mark_is_answered_once_it_is_durable() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut worker = worker(&disk);
    let first = write(1, 1, entries(1, 4, 1, 10));
    worker.push(StorageRequest::Write(first));
    assert!(matches!(
        rest(&mut worker)[..],
        [StorageEvent::Durable { .. }]
    ));
    worker.push(StorageRequest::Mark(id(1, 2)));
    assert!(worker.has_work());
    let marked = |events: &[StorageEvent], at| match events {
        [StorageEvent::Marked(snapshot)] => assert_eq!(*snapshot, at),
        other => panic!("{other:?}"),
    };
    marked(&rest(&mut worker), id(1, 2));
    assert_eq!(worker.wal().snapshot(), id(1, 2));
    // An older one is answered by the one that stands.
    worker.push(StorageRequest::Mark(id(1, 1)));
    marked(&rest(&mut worker), id(1, 2));
    // What replaces the log is said as well, after the write.
    let reset = Write {
        reset: Some(id(2, 30)),
        ..write(2, 2, Vec::new())
    };
    worker.push(StorageRequest::Write(reset));
    match &rest(&mut worker)[..] {
        [
            StorageEvent::Durable { ticket, .. },
            StorageEvent::Marked(snapshot),
        ] => {
            assert_eq!((*ticket, *snapshot), (Ticket(2), id(2, 30)));
        }
        other => panic!("{other:?}"),
    }
    assert!(rest(&mut worker).is_empty());
}
