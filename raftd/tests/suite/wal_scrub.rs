//! What is written no more is read again, and what rots in it is told.

use std::collections::VecDeque;

use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, Latched};
use raftd::node::io::{StorageEvent, StorageRequest};
use raftd::storage::{Scrubber, Worker, open_disk};
use raftd::wal::segment::segment_name;
use wire::types::Index;

use crate::wal_damage::sound;
use crate::wal_heal::{entry_of, faulty, heads, rot_entries};
use crate::wal_life::{DISK_BYTES, long_log, put, worker};
use crate::wal_story::{open, options};
use crate::wal_support::{alone_entry, rest, rot_text, write};

/// Reads everything there is, as the driver of a scrubber and a worker does.
fn scrub(disk: &SimDisk, worker: &mut Worker<Latched<SimDisk>>) -> Vec<StorageEvent> {
    round(&mut Scrubber::new(disk.clone()), worker)
}

fn round(
    scrubber: &mut Scrubber<SimDisk>,
    worker: &mut Worker<Latched<SimDisk>>,
) -> Vec<StorageEvent> {
    let mut events = VecDeque::new();
    scrubber.begin(worker.wal().sealed_segments());
    while scrubber.has_work() {
        let scrubbed = scrubber.step(&mut events);
        scrubbed
            .suspect
            .into_iter()
            .for_each(|index| worker.suspect(index));
        events.extend(rest(worker));
    }
    events.into()
}

#[test]
fn a_scrub_finds_what_rots_in_sealed_segments() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let mut worker = worker(&disk);
    let events = scrub(&disk, &mut worker);
    let [StorageEvent::Scrubbed { bytes, findings: 0 }] = events[..] else {
        panic!("{events:?}");
    };
    assert!(bytes > 100_000, "{bytes}");
    let before = disk.content(&sound.segments[0]);
    let count = rot_entries(&disk, &sound.segments[..1]);
    let events = scrub(&disk, &mut worker);
    let told = faulty(&events).expect("it is told");
    assert_eq!(told.len(), count);
    let findings = events.iter().find_map(|event| match event {
        StorageEvent::Scrubbed { findings, .. } => Some(*findings),
        _ => None,
    });
    assert_eq!(findings, Some(count as u64));
    let wanted = told
        .iter()
        .map(|faulty| entry_of(&sound, *faulty))
        .collect();
    worker.push(StorageRequest::Mend(wanted));
    rest(&mut worker);
    assert_eq!(disk.content(&sound.segments[0]), before, "the same bytes");
    assert!(faulty(&scrub(&disk, &mut worker)).is_none());
}

/// A node that has no descriptor left for a moment goes on: what is damaged is found, and mended, later.
#[test]
fn a_look_at_what_is_damaged_waits_for_a_descriptor() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let mut worker = worker(&disk);
    let before = disk.content(&sound.segments[0]);
    rot_entries(&disk, &sound.segments[..1]);
    let index = worker.wal().base().index.next();
    disk.set_out_of_files(true);
    worker.suspect(index);
    assert!(faulty(&rest(&mut worker)).is_none(), "not yet");
    disk.set_out_of_files(false);
    let told = faulty(&scrub(&disk, &mut worker)).expect("now it is");
    let wanted = || told.iter().map(|faulty| entry_of(&sound, *faulty));
    disk.set_out_of_files(true);
    worker.push(StorageRequest::Mend(wanted().collect()));
    assert!(faulty(&rest(&mut worker)).is_none(), "it is known already");
    assert_eq!(worker.wal().faulty().count(), told.len());
    disk.set_out_of_files(false);
    worker.push(StorageRequest::Mend(wanted().collect()));
    rest(&mut worker);
    assert_eq!(disk.content(&sound.segments[0]), before, "the same bytes");
}

/// What is cut after it was removed looks damaged, and nobody needs it any more.
#[test]
fn a_scrub_does_not_suspect_what_was_removed_meanwhile() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let worker = worker(&disk);
    rot_entries(&disk, &sound.segments[..1]);
    let mut scrubber = Scrubber::new(disk.clone());
    scrubber.begin(worker.wal().sealed_segments());
    let mut events = VecDeque::new();
    let first = scrubber.step(&mut events);
    assert!(first.suspect.is_some(), "it stops where it finds something");
    for name in &sound.segments {
        disk.remove(name).expect("it goes");
    }
    while scrubber.has_work() {
        assert_eq!(scrubber.step(&mut events).suspect, None);
    }
    let [StorageEvent::Scrubbed { findings: 1, .. }] = *events.make_contiguous() else {
        panic!("{events:?}");
    };
}

/// Whatever is wrong with a header or the whole file: all of it, up to the next segment, is in doubt.
#[test]
fn a_scrub_finds_headers_pages_and_files_that_are_gone() {
    let sound = sound();
    let name = sound.segments[0].clone();
    let head = heads(&sound.disk, &name)[1];
    let upto = |damage: &dyn Fn(&SimDisk)| {
        let disk = sound.disk.fork(1);
        let mut worker = worker(&disk);
        damage(&disk);
        let events = scrub(&disk, &mut worker);
        let rot = events.iter().filter_map(|event| match event {
            StorageEvent::Rot { upto } => Some(*upto),
            _ => None,
        });
        rot.max()
    };
    let header = upto(&|disk| disk.tamper(&name, |bytes| bytes[head + 9] ^= 1));
    let page = upto(&|disk| disk.tamper(&name, |bytes| bytes[60] ^= 1));
    let short = upto(&|disk| disk.tamper(&name, |bytes| bytes.truncate(100_000)));
    let unreadable = upto(&|disk| disk.make_unreadable(&name, 0..8192));
    assert!(header.is_some() && header <= page, "{header:?}, {page:?}");
    assert_eq!((short, unreadable), (page, page));
    let second = open(&sound.disk.fork(2)).expect("it opens").recovered.wal;
    assert!(
        page < Some(second.last().index),
        "{page:?}: the next segment is sound"
    );
    assert_eq!(
        upto(&|disk| disk.remove(&segment_name(1)).expect("it goes")),
        None
    );
}

/// One place, which takes entries up to this one with it.
fn finds_rot(events: &[StorageEvent], last: Index) {
    let [
        StorageEvent::Rot { upto },
        StorageEvent::Scrubbed { findings: 1, .. },
    ] = events
    else {
        panic!("{events:?}");
    };
    assert_eq!(*upto, last);
}

/// A segment that does not say itself what was in it is between two that do.
#[test]
fn a_scrub_tells_which_entries_a_lost_page_takes_with_it() {
    let disk = SimDisk::new(1, DISK_BYTES);
    drop(long_log(&disk));
    let mut worker = worker(&disk);
    disk.tamper(&segment_name(3), |bytes| bytes[60] ^= 1);
    finds_rot(&scrub(&disk, &mut worker), Index(6));
}

/// Nothing of the round before is left, not even how far it came.
#[test]
fn a_later_round_of_a_scrub_finds_what_a_first_one_finds() {
    let disk = SimDisk::new(1, DISK_BYTES);
    drop(long_log(&disk));
    let mut worker = worker(&disk);
    let mut scrubber = Scrubber::new(disk.clone());
    let sound = round(&mut scrubber, &mut worker);
    let [StorageEvent::Scrubbed { findings: 0, .. }] = sound[..] else {
        panic!("{sound:?}");
    };
    disk.tamper(&segment_name(1), |bytes| bytes[60] ^= 1);
    finds_rot(&round(&mut scrubber, &mut worker), Index(2));
}

/// Whom the log says to be the only member now has nobody to ask: its own state makes up for an entry.
#[test]
fn what_rots_where_nobody_else_has_it_is_made_up_for_by_a_snapshot() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = long_log(&disk);
    put(&mut wal, write(1, 1, vec![alone_entry(21, 1)]));
    drop(wal);
    let opened = open_disk(Latched::new(disk.clone()), &options(2));
    let (_, mut worker) = opened.expect("it opens").start();
    rest(&mut worker);
    rot_text(&disk, &segment_name(1), b"1.2.");
    finds_rot(&scrub(&disk, &mut worker), Index(2));
}
