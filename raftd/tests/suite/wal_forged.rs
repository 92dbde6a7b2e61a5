//! What no daemon writes is damage, whatever the checksums say: a log with that in it would break what
//! the node relies on.

use bytes::BytesMut;
use raft::Write;
use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::wal::format::{BatchHeader, BatchKind, Chain, SegmentHeader};
use raftd::wal::segment::segment_name;
use raftd::wal::{Recovered, examine};
use wire::entry::{Entry, EntryKind};
use wire::limits::COUNTER_MAX;
use wire::types::{Index, NodeId, Term};

use crate::wal_life::{DISK_BYTES, id, new_log, put, put_marker};
use crate::wal_story::{SEGMENT_BYTES, open};
use crate::wal_support::{entries, write};

/// A log with the entries 6 to 9 of term 2 behind a snapshot of 5 in term 1; 7 is committed, and the
/// newest snapshot is of 6.
fn sound() -> SimDisk {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    let reset = Write {
        reset: Some(id(1, 5)),
        commit: Index(7),
        ..write(1, 2, entries(6, 4, 2, 10))
    };
    put(&mut wal, reset);
    put_marker(&mut wal, id(2, 6));
    assert_eq!((wal.base(), wal.commit()), (id(1, 5), Index(7)));
    disk
}

/// A batch with entry 10 that follows all others, as it was changed.
fn start_with(
    change: impl FnOnce(&mut BatchHeader, &mut Vec<Entry>),
) -> (Result<Recovered<Latched<SimDisk>>, Fatal>, u64) {
    let disk = sound();
    let mut last = None;
    let found = examine(&disk, None, |batch| {
        last = Some((batch.header, batch.header_crc));
    });
    let segment: SegmentHeader = found.expect("it is read").segments[0].header;
    let (before, header_crc) = last.expect("it has batches");
    let mut added = entries(10, 1, 2, 10);
    let mut forged = BatchHeader {
        kind: BatchKind::Append,
        offset: before.end(),
        number: before.number + 1,
        previous: Chain {
            number: before.number,
            header_crc,
            last: id(2, 9),
        },
        first_index: Index(10),
        ..before
    };
    change(&mut forged, &mut added);
    let payload: Vec<u8> = added
        .iter()
        .flat_map(|entry| entry.bytes().to_vec())
        .collect();
    (forged.entries, forged.payload_bytes) = (added.len() as u32, payload.len() as u32);
    let mut bytes = Vec::new();
    forged.encode(&segment, &added, &mut bytes);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    disk.tamper(&segment_name(1), |file| {
        file[forged.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    });
    (open(&disk).map(|opened| opened.recovered), forged.offset)
}

/// Nothing could follow it, not even the mark that says that it was durable.
#[test]
fn only_a_seal_stands_at_the_end_of_a_segment() {
    let up_to = |end: u64| {
        start_with(|batch, added| {
            // All but the headers, which are in the first sector.
            let body = (end - batch.offset) as usize - 512;
            *added = entries(10, 1, 2, body);
        })
    };
    let refused = up_to(SEGMENT_BYTES).0.err().expect("no daemon writes it");
    assert_eq!(refused.status, ExitStatus::Damaged, "{refused}");
    let recovered = up_to(SEGMENT_BYTES - 512).0.expect("it may stand there");
    assert_eq!(recovered.wal.last(), id(2, 10));
}

#[test]
fn what_a_daemon_may_write_is_believed() {
    let last = |change: fn(&mut BatchHeader, &mut Vec<Entry>)| {
        let recovered = start_with(change).0.expect("nothing is wrong");
        assert_eq!((recovered.damage, recovered.faulty), (None, vec![]));
        recovered.wal.last()
    };
    assert_eq!(last(|_, _| {}), id(2, 10));
    assert_eq!(last(|batch, _| batch.commit = Index(10)), id(2, 10));
    assert_eq!(last(|batch, _| batch.snapshot = id(2, 9)), id(2, 10));
    let cut = last(|batch, added| {
        batch.first_index = Index(8);
        batch.hard_state.term = Term(3);
        *added = entries(8, 1, 3, 10);
    });
    assert_eq!(cut, id(3, 8));
    let reset = last(|batch, added| {
        batch.kind = BatchKind::Reset;
        (batch.first_index, batch.commit) = (Index(9), Index(8));
        batch.snapshot = id(1, 8);
        added.clear();
    });
    assert_eq!(reset, id(1, 8));
}

#[test]
fn what_no_daemon_writes_is_refused_with_its_place() {
    type Change = fn(&mut BatchHeader, &mut Vec<Entry>);
    const TERM: &str = "a term that falls, or is out of range";
    const VOTE: &str = "takes a vote back";
    const COMMITTED: &str = "replaces committed entries";
    const SNAPSHOT: &str = "snapshot falls, or is of another entry";
    const COMMIT: &str = "commit index falls, or is past its end";
    const ENTRY: &str = "entry whose term falls, or is later";
    let cases: &[(&str, Change)] = &[
        (TERM, |batch, _| batch.hard_state.term = Term(1)),
        (TERM, |batch, _| {
            batch.hard_state.term = Term(COUNTER_MAX + 1);
        }),
        // Also where batches before it are missing.
        ("a genuine batch does not follow", |batch, _| {
            batch.number += 1;
            batch.previous.number += 1;
            batch.hard_state.term = Term(1);
        }),
        (VOTE, |batch, _| batch.hard_state.vote = None),
        (VOTE, |batch, _| batch.hard_state.vote = Some(NodeId(2))),
        (COMMITTED, |batch, added| {
            batch.first_index = Index(7);
            *added = entries(7, 1, 2, 10);
        }),
        (SNAPSHOT, |batch, _| batch.snapshot = id(1, 5)),
        (SNAPSHOT, |batch, _| batch.snapshot = id(1, 6)),
        (SNAPSHOT, |batch, _| batch.snapshot = id(1, 8)),
        (SNAPSHOT, |batch, added| {
            batch.kind = BatchKind::Reset;
            (batch.first_index, batch.commit) = (Index(9), Index(7));
            batch.snapshot = id(2, 8);
            added.clear();
        }),
        (SNAPSHOT, |batch, added| {
            batch.kind = BatchKind::Reset;
            (batch.first_index, batch.commit) = (Index(9), Index(8));
            batch.snapshot = id(3, 8);
            added.clear();
        }),
        ("behind an entry that cannot be", |batch, added| {
            batch.kind = BatchKind::Reset;
            batch.snapshot = id(2, COUNTER_MAX + 1);
            batch.commit = batch.snapshot.index;
            batch.first_index = batch.snapshot.index.next();
            added.clear();
        }),
        (COMMIT, |batch, _| batch.commit = Index(6)),
        (COMMIT, |batch, _| batch.commit = Index(11)),
        (ENTRY, |_, added| *added = entries(10, 1, 1, 10)),
        (ENTRY, |_, added| *added = entries(10, 1, 3, 10)),
        (ENTRY, |batch, added| {
            batch.hard_state.term = Term(3);
            *added = entries(10, 1, 3, 10);
            added.extend(entries(11, 1, 2, 10));
        }),
    ];
    for (n, (what, change)) in cases.iter().enumerate() {
        let (started, offset) = start_with(change);
        let fatal = started.err().unwrap_or_else(|| panic!("{n}: {what}"));
        assert_eq!(fatal.status, ExitStatus::Damaged, "{n}: {fatal}");
        assert!(fatal.what.contains(what), "{n}: {fatal}");
        let place = format!("{} offset {offset}", segment_name(1));
        assert!(fatal.to_string().contains(&place), "{n}: {fatal}");
    }
}

/// The core believes what it is told.
#[test]
fn a_membership_that_cannot_be_is_refused_with_its_place() {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let body = b"nobody votes";
    let entry = Entry::build(
        &mut BytesMut::new(),
        id(1, 1),
        1,
        EntryKind::Membership,
        body,
    );
    put(&mut wal, write(1, 1, vec![entry]));
    let fatal = open(&disk.restart()).err().expect("it is no membership");
    assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
    assert!(fatal.what.contains("membership"), "{fatal}");
    assert!(fatal.place.contains(&segment_name(1)), "{fatal}");
}
