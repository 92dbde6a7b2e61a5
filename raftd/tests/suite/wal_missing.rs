//! A segment that is missing or bad among those that a marker covers: it costs nothing, and what is
//! around it goes when its time comes, like any other.

use raftd::disk::Disk;
use raftd::disk::sim::SimDisk;
use raftd::wal::Pending;
use raftd::wal::segment::{self, segment_id, segment_name};
use wire::types::Index;

use crate::wal_damage::put;
use crate::wal_story::{SimWal, open};
use crate::wal_support::{entries, write};

/// The last entry; a marker covers it.
const LAST: u64 = 9;

/// Segments 1 to 5 and a marker over all that is in them; in the second there are no entries.
fn covered() -> SimDisk {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut ticket = 0;
    let mut push = |wal: &mut SimWal, term, entries| {
        ticket += 1;
        pending.push(write(ticket, term, entries));
        put(wal, &mut pending);
    };
    push(&mut wal, 1, entries(1, 1, 1, 90_000));
    let mut term = 1;
    while wal.sealed_segments().end < 3 {
        term += 1;
        push(&mut wal, term, Vec::new());
    }
    for index in 2..=LAST {
        push(&mut wal, term, entries(index, 1, term, 80_000));
    }
    assert_eq!(wal.sealed_segments(), 1..6, "the active one is the sixth");
    wal.mark(wal.last());
    put(&mut wal, &mut pending);
    disk
}

/// Overwrites header page and first batch: nothing tells any more whose file it is.
fn spoil(disk: &SimDisk, id: u64) {
    disk.tamper(&segment_name(id), |bytes| bytes[..8192].fill(0xee));
}

fn files(disk: &SimDisk) -> Vec<u64> {
    let names = disk.list("wal").expect("it is listed");
    names.iter().filter_map(|name| segment_id(name)).collect()
}

/// Two lives compact the damaged log; the marker covers what is gone.
fn compacts(context: &str, damage: impl FnOnce(&SimDisk)) {
    let mut disk = covered();
    damage(&disk);
    for upto in [0, 4, LAST] {
        disk = disk.restart();
        let recovered = open(&disk).expect("it is covered").recovered;
        let mut wal = recovered.wal;
        assert!(!wal.hard_state().lost, "{context}: nothing is lost");
        assert_eq!(wal.last().index, Index(LAST), "{context}");
        let before = files(&disk);
        let mut gone = wal.compact(Index(upto), 0);
        assert!(gone.start <= before[0], "{context}: no file stays behind");
        // As the keeper does: not through the latch.
        while !gone.is_empty() {
            let removed = segment::remove(&disk, &mut gone);
            removed.unwrap_or_else(|error| panic!("{context}: upto {upto}: {error}"));
        }
        let mut left = before;
        left.retain(|id| *id >= wal.first_segment());
        assert_eq!(files(&disk), left, "{context}: upto {upto}");
    }
    assert!(
        !files(&disk).contains(&5),
        "{context}: all that is covered is gone"
    );
}

#[test]
fn a_missing_segment_is_in_nobodys_way() {
    for id in 1..=5 {
        compacts(&format!("{id} is missing"), |disk| {
            disk.lose_name(&segment_name(id));
        });
    }
}

#[test]
fn a_bad_segment_goes_with_those_around_it() {
    for id in 1..=5 {
        compacts(&format!("{id} is bad"), |disk| spoil(disk, id));
    }
    compacts("the first two are bad", |disk| {
        spoil(disk, 1);
        spoil(disk, 2);
    });
}
