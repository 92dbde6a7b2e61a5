//! A gap in the log: what is around it tells what was there, and it is written anew, or nobody knows.

use raftd::disk::sim::{Fault, SimDisk};
use raftd::wal::segment::segment_name;
use raftd::wal::{Contents, Pending, examine};
use wire::types::Term;

use crate::wal_damage::{SECTOR, Sound, id, put, sound, sound_behind_snapshot};
use crate::wal_story::{make_spare, open};
use crate::wal_support::{entries, write};

/// Two segments; before the second, only the seal of the first tells of a snapshot: there was no room for
/// another batch.
fn sealed_with_marker() -> Sound {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    make_spare(&mut wal).expect("there is room");
    let mut pending = Pending::default();
    pending.push(write(1, 1, entries(1, 2, 1, 60_000)));
    put(&mut wal, &mut pending);
    let contents = first_segment(&disk.fork(1));
    let votes = (contents.header.ordinary_end() - contents.end) / SECTOR as u64;
    for term in 2..2 + votes {
        pending.push(write(term, term, Vec::new()));
        put(&mut wal, &mut pending);
    }
    assert_eq!(wal.sealed_segments(), 1..1, "it is full, and in use");
    wal.mark(id(1, 1));
    pending.push(write(2 + votes, 1 + votes, entries(3, 1, 1 + votes, 700)));
    put(&mut wal, &mut pending);
    make_spare(&mut wal).expect("there is room");
    let sound = Sound::of(disk, 2);
    let full = first_segment(&sound.disk);
    assert_eq!(full.snapshot, id(1, 1), "the seal says so");
    assert_eq!(full.end, full.header.ordinary_end() + SECTOR as u64);
    sound
}

fn first_segment(disk: &SimDisk) -> Contents {
    let examined = examine(&disk.restart(), None, |_| {}).expect("it is read");
    examined.segments[0]
}

/// Where the seal of the first of two segments stands.
fn seal_offset(sound: &Sound) -> usize {
    first_segment(&sound.disk).end as usize - SECTOR
}

/// The damaged log is opened, and once more.
fn is_rebuilt(sound: &Sound, context: &str, damage: impl FnOnce(&SimDisk)) {
    let name = &sound.segments[0];
    let whole = sound.disk.content(name);
    let disk = sound.disk.fork(1);
    damage(&disk);
    let found = open(&disk).expect("no entry is hurt").recovered;
    assert!(found.damage.is_some(), "{context}: it is told");
    assert!(
        found.report.cases.iter().any(|case| case == 'I'),
        "{context}"
    );
    sound.check_same(&found, context);
    disk.power_loss();
    assert!(disk.content(name) == whole, "{context}: it is as it was");
    let again = open(&disk.restart()).expect("it is sound").recovered;
    assert_eq!(again.damage, None, "{context}");
    assert_eq!(again.report.cases.to_string(), "AJMg", "{context}");
    sound.check_same(&again, context);
}

#[test]
fn a_seal_is_written_anew_as_it_was() {
    let logs = [
        ("a log", sound()),
        ("behind a snapshot", sound_behind_snapshot(false)),
        ("reset", sound_behind_snapshot(true)),
        ("a seal with a marker", sealed_with_marker()),
    ];
    for (context, sound) in &logs {
        let (name, at) = (&sound.segments[0], seal_offset(sound));
        for byte in [0, 4, 47, 100, 127] {
            is_rebuilt(sound, &format!("{context}: byte {byte}"), |disk| {
                disk.tamper(name, |bytes| bytes[at + byte] ^= 1);
            });
        }
        is_rebuilt(sound, &format!("{context}: zeroed"), |disk| {
            disk.tamper(name, |bytes| bytes[at..at + SECTOR].fill(0));
        });
        is_rebuilt(sound, &format!("{context}: unreadable"), |disk| {
            disk.make_unreadable(name, at as u64..(at + SECTOR) as u64);
        });
    }
}

/// As a page that is written anew: whoever is interrupted begins again.
#[test]
fn what_writes_a_seal_may_be_interrupted() {
    let sound = sealed_with_marker();
    let (name, at) = (&sound.segments[0], seal_offset(&sound));
    let mut operation = 1;
    loop {
        let disk = sound.disk.fork(operation);
        disk.tamper(name, |bytes| bytes[at..at + SECTOR].fill(0xee));
        disk.fail_at(disk.operations() + operation, Fault::PowerLoss);
        if open(&disk).is_ok() {
            break;
        }
        let disk = disk.restart();
        let found = open(&disk).expect("no entry is hurt").recovered;
        sound.check_same(&found, "interrupted");
        assert!(disk.content(name) == sound.disk.content(name));
        operation += 1;
    }
    assert!(operation > 3, "it ended before operation {operation}");
}

/// With the batch before it, what the seal said is gone, too.
#[test]
fn a_seal_that_nobody_knows_stays_away() {
    let sound = sound_behind_snapshot(false);
    let (name, at) = (&sound.segments[0], seal_offset(&sound));
    let disk = sound.disk.fork(1);
    // A marker covers what was in it.
    disk.tamper(name, |bytes| bytes[at - SECTOR..at + SECTOR].fill(0xee));
    let spoilt = disk.content(name);
    let found = open(&disk).expect("no entry is hurt").recovered;
    sound.check_same(&found, "two batches");
    assert!(disk.content(name) == spoilt, "nothing is made up");
}

/// The batch behind the gap told of the term in it, and is torn itself: it is cut off, and with it what it
/// told. No later start knows more than this one.
#[test]
fn a_gap_that_only_a_torn_batch_tells_of_is_a_lost_log() {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut ends = Vec::new();
    for (ticket, term, entries) in [
        (1, 1, entries(1, 2, 1, 10)),
        (2, 2, Vec::new()),
        (3, 2, entries(3, 1, 2, 1000)),
    ] {
        pending.push(write(ticket, term, entries));
        put(&mut wal, &mut pending);
        ends.push(first_segment(&disk.fork(1)).end as usize);
    }
    disk.tamper(&segment_name(1), |bytes| {
        bytes[ends[0]] ^= 1;
        bytes[ends[2] - SECTOR] ^= 1;
        bytes[ends[2]..ends[2] + SECTOR].fill(0);
    });
    let mut disk = disk.restart();
    for _ in 0..2 {
        let found = open(&disk).expect("others have it").recovered;
        assert_eq!(found.wal.hard_state().term, Term(2));
        assert!(found.wal.hard_state().lost);
        disk.power_loss();
        disk = disk.restart();
    }
}
