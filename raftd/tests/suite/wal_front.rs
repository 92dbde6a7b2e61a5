//! The front of a log goes: whole segments, once a durable marker covers them.

use crate::wal_life::{
    DISK_BYTES, crash_everywhere, found, id, long_log, new_log, put, put_marker, segments, worker,
};
use crate::wal_story::{SimWal, make_spare, open};
use crate::wal_support::{entries, write};
use raft::Write;
use raftd::disk::sim::SimDisk;
use raftd::node::io::{StorageEvent, StorageRequest};
use raftd::wal::Pending;
use raftd::wal::segment::{self, segment_name};
use std::collections::VecDeque;
use std::ops::Range;
use wire::types::{Index, Term};

#[test]
#[should_panic(expected = "what no snapshot covers stays")]
fn what_no_durable_marker_covers_stays() {
    let mut wal = long_log(&SimDisk::new(1, DISK_BYTES));
    wal.mark(id(1, 20));
    wal.compact(Index(20), 0);
}

#[test]
fn whole_segments_go_and_never_the_active_one() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = long_log(&disk);
    let whole = found(&disk);
    let (bytes, next) = (wal.bytes(), wal.next_segment());
    put_marker(&mut wal, id(1, 20));
    assert!(
        wal.compact(Index(1), 0).is_empty(),
        "2 is in segment 1, too"
    );
    let mut files = wal.compact(Index(7), 0);
    assert_eq!((files.clone(), wal.base()), (1..4, id(1, 6)));
    assert_eq!(wal.first_segment(), 4);
    assert_eq!(wal.bytes(), bytes - 3 * 256 * 1024);
    for left in (0..3).rev() {
        segment::remove(wal.disk(), &mut files).expect("no fault is planned");
        assert_eq!(files.clone().count(), left);
        assert_eq!(segments(&disk)[0], name(4 - left as u64));
    }
    assert_eq!(wal.load(Index(6), Index(9), 1 << 20).expect("it reads"), []);
    let some = wal.load(Index(7), Index(9), 1 << 20).expect("it reads");
    assert_eq!(some, whole.entries[6..9]);
    assert!(wal.compact(Index(7), 0).is_empty(), "once is enough");

    let again = found(&disk);
    assert_eq!((again.base, again.snapshot), (id(1, 6), id(1, 20)));
    assert_eq!(again.entries, whole.entries[6..]);
    let mut wal = new_log(&disk.fork(1));
    assert_eq!((wal.first_segment(), wal.base()), (4, id(1, 6)));
    let most = wal.compact(Index(20), 0);
    assert_eq!(most, 4..next - 1, "the active segment stays");
    assert_eq!(wal.bytes(), 256 * 1024);
    put(&mut wal, write(1, 1, entries(21, 2, 1, 10)));
    assert_eq!(wal.last(), id(1, 22));
}

fn name(id: u64) -> String {
    format!("{id:016x}.wal")
}

/// Segments may hold votes only: the log begins behind the same entry in each of them.
#[test]
fn segments_without_entries_go_too() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 1, 1, 10)));
    make_spare(&mut wal).expect("there is room");
    for term in 2..1000 {
        put(&mut wal, write(1, term, Vec::new()));
    }
    assert_eq!(wal.next_segment(), 4, "three segments");
    put_marker(&mut wal, id(1, 1));
    let mut files = wal.compact(Index(1), 0);
    assert_eq!((files.clone(), wal.base()), (1..3, id(1, 1)));
    segment::remove(wal.disk(), &mut files).expect("no fault is planned");
    let again = found(&disk);
    assert_eq!((again.base, again.hard_state.term), (id(1, 1), Term(999)));
    assert_eq!(again.entries, []);
}

#[test]
fn what_a_snapshot_replaced_goes_with_its_segments() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = long_log(&disk);
    let reset = Write {
        reset: Some(id(2, 15)),
        ..write(1, 2, entries(16, 2, 2, 10))
    };
    put(&mut wal, reset);
    let active = wal.next_segment() - 1;
    let mut files = wal.compact(Index(15), 0);
    assert_eq!(files, 1..active);
    while !files.is_empty() {
        let content = found(&disk);
        assert_eq!((content.base, content.snapshot), (id(2, 15), id(2, 15)));
        assert_eq!(content.entries, entries(16, 2, 2, 10));
        segment::remove(wal.disk(), &mut files).expect("no fault is planned");
    }
    assert_eq!(found(&disk).entries, entries(16, 2, 2, 10));
}

/// Row 56: whatever is left of the files, the log has all that is behind the marker.
#[test]
fn removing_segments_leaves_no_gap_at_any_crash() {
    let prepare = |disk: &SimDisk| {
        let mut wal = long_log(disk);
        put_marker(&mut wal, id(1, 17));
        wal
    };
    let compact = |wal: &mut SimWal| {
        let mut files: Range<u64> = wal.compact(Index(17), 0);
        while !files.is_empty() {
            segment::remove(wal.disk(), &mut files)?;
        }
        Ok(())
    };
    let mut firsts = Vec::new();
    crash_everywhere(prepare, compact, |context, disk| {
        let content = found(disk);
        assert_eq!(content.snapshot, id(1, 17), "{context}");
        assert!(content.base.index.0 <= 16, "{context}: {}", content.base);
        let last = content.entries.last().expect("they are behind the marker");
        assert_eq!(last.index(), Index(20), "{context}");
        // Another life removes the rest.
        let disk = disk.fork(1);
        let mut wal = new_log(&disk);
        firsts.push(wal.first_segment());
        compact(&mut wal).expect("no fault is planned");
        assert_eq!(wal.base(), id(1, 16), "{context}");
        assert_eq!(found(&disk).base, id(1, 16), "{context}");
    });
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, (1..=9).collect::<Vec<_>>(), "every step was seen");
}

/// The entry behind which a segment begins may be replaced later. Such a segment is no place for
/// the log to begin, but while files go it is the first for a moment.
#[test]
fn a_segment_whose_beginning_was_replaced_is_passed_over() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 5, 1, 30_000)));
    put(&mut wal, write(1, 1, entries(6, 1, 1, 60_000)));
    assert_eq!(wal.next_segment(), 3, "6 opens segment 2");
    let cut = Write {
        truncate_from: Some(Index(4)),
        ..write(1, 2, entries(4, 1, 2, 10))
    };
    put(&mut wal, cut);
    put(&mut wal, write(1, 2, entries(5, 3, 2, 60_000)));
    assert_eq!(wal.next_segment(), 4, "7 opens segment 3");
    let whole = found(&disk);
    put_marker(&mut wal, id(2, 5));
    assert!(
        wal.compact(Index(5), 0).is_empty(),
        "5 was cut behind segment 2"
    );
    put_marker(&mut wal, id(2, 7));
    let mut files = wal.compact(Index(7), 0);
    assert_eq!(files, 1..3);
    segment::remove(wal.disk(), &mut files).expect("no fault is planned");
    let again = found(&disk);
    assert_eq!(again.base, id(2, 4), "the first that is there");
    assert_eq!(again.entries, whole.entries[4..]);
    segment::remove(wal.disk(), &mut files).expect("no fault is planned");
    assert_eq!(found(&disk).base, wal.base());
}

/// A leader of a later term may replace what a segment begins behind by an entry of an earlier one.
#[test]
fn a_segment_may_begin_behind_a_later_term_than_what_replaced_it() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 4, 1, 30_000)));
    put(&mut wal, write(2, 3, entries(5, 1, 3, 10)));
    put(&mut wal, write(3, 3, entries(6, 1, 3, 90_000)));
    assert_eq!(wal.next_segment(), 3, "6 opens segment 2");
    let cut = Write {
        truncate_from: Some(Index(5)),
        ..write(4, 4, entries(5, 1, 2, 10))
    };
    put(&mut wal, cut);
    put(&mut wal, write(5, 4, entries(6, 2, 4, 90_000)));
    assert_eq!(wal.next_segment(), 4, "7 opens segment 3");
    put_marker(&mut wal, id(2, 5));
    assert!(wal.compact(Index(5), 0).is_empty(), "it was another 5");
    put_marker(&mut wal, id(4, 7));
    drop(wal);
    segment::remove(&disk, &mut (1..2)).expect("no fault is planned");
    let again = found(&disk);
    assert_eq!(again.base, id(2, 5), "the first that is there");
    assert_eq!(again.entries, entries(6, 2, 4, 90_000));
}

/// Only where a segment begins behind what was replaced the log cannot begin.
#[test]
fn segments_before_a_cut_go_as_before() {
    let mut wal = long_log(&SimDisk::new(1, 2 * DISK_BYTES));
    let cut = Write {
        truncate_from: Some(Index(15)),
        ..write(1, 2, entries(15, 1, 2, 10))
    };
    put(&mut wal, cut);
    put_marker(&mut wal, id(1, 7));
    assert_eq!((wal.compact(Index(7), 0), wal.base()), (1..4, id(1, 6)));
}

#[test]
fn a_front_that_no_marker_covers_is_missing() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = long_log(&disk);
    put_marker(&mut wal, id(1, 6));
    drop(wal);
    let mut files = 1..20;
    for _ in 0..3 {
        segment::remove(&disk, &mut files).expect("it goes");
        assert!(found(&disk).base.index.0 <= 6, "covered");
    }
    segment::remove(&disk, &mut files).expect("it goes");
    let recovered = open(&disk.fork(1)).expect("7 is lost").recovered;
    let damage = recovered.damage.expect("it is told");
    assert_eq!(damage.file, segment_name(4));
    assert!(damage.what.contains("missing"), "{damage}");
    let wal = recovered.wal;
    assert!(wal.hard_state().lost);
    assert_eq!((wal.base(), wal.last()), (id(1, 6), id(1, 6)));
    assert_eq!(wal.snapshot(), id(1, 6));
}

#[test]
fn what_the_log_forgot_is_handed_out_once_a_marker_covers_it() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let active = {
        let wal = long_log(&disk);
        wal.next_segment() - 1
    };
    let mut worker = worker(&disk);
    let mut events = VecDeque::new();
    // Asked for before the marker that covers it is durable.
    worker.push(StorageRequest::Compact {
        upto: Index(18),
        keep_bytes: 0,
    });
    worker.round(&mut events).expect("no fault is planned");
    assert_eq!(worker.wal().first_segment(), 1);
    assert!(worker.take_garbage().is_empty());
    worker.push(StorageRequest::Mark(id(1, 18)));
    assert!(worker.round(&mut events).expect("no fault").wrote);
    assert_eq!(worker.wal().first_segment(), active);
    match events.pop_back() {
        Some(StorageEvent::Compacted { base, wal_bytes }) => {
            let wal = worker.wal();
            assert_eq!((base, wal_bytes), (wal.base(), wal.bytes()));
        }
        other => panic!("nobody was told: {other:?}"),
    }
    let mut garbage = worker.take_garbage();
    assert_eq!(garbage, 1..active);
    assert!(worker.take_garbage().is_empty());
    let count = segments(&disk).len();
    for gone in 1..active {
        segment::remove(worker.wal().disk(), &mut garbage).expect("no fault is planned");
        assert_eq!(segments(&disk).len(), count - gone as usize);
    }
    let left = entries(19, 2, 1, 90_000);
    assert_eq!(found(&disk).entries, left);
}

/// Some stay for followers that lag a little.
#[test]
fn what_is_to_be_kept_before_a_snapshot_stays() {
    let disk = SimDisk::new(1, 2 * DISK_BYTES);
    let mut wal = long_log(&disk);
    let active = wal.next_segment() - 1;
    wal.mark(id(1, 18));
    wal.write(&mut Pending::default())
        .expect("no fault is planned");
    let segment_bytes = wal.bytes() / active;
    assert_eq!(wal.compact(Index(18), 2 * segment_bytes), 1..active - 2);
    assert!(wal.compact(Index(18), u64::MAX).is_empty());
    assert_eq!(wal.compact(Index(18), 1), active - 2..active - 1);
}
