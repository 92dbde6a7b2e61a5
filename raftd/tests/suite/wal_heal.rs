//! What is damaged is mended in place, or the log begins anew: at every operation the machine may go
//! down. And what is found while the log is open.

use bytes::BytesMut;
use raft::Write;
use raftd::disk::Disk;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::fatal::ExitStatus;
use raftd::node::io::{LoadPurpose, StorageEvent, StorageRequest};
use raftd::storage::Worker;
use raftd::wal::Inspected;
use raftd::wal::identity::Identity;
use raftd::wal::segment::segment_name;
use wire::entry::{Entry, Identity as EntryIdentity};
use wire::types::{EntryId, Index, NodeId};

use crate::wal_damage::{SECTOR, Sound, id, interesting_sectors, sound, sound_behind_snapshot};
use crate::wal_life::{DISK_BYTES, long_log, new_log, put, worker};
use crate::wal_story::{SimWal, open};
use crate::wal_support::{entries, membership_entry, rest, rot_text, write};

const FAULTS: [Fault; 2] = [Fault::PowerLoss, Fault::Kill];

/// Where the headers of batches with entries stand in a segment.
pub(crate) fn heads(disk: &SimDisk, name: &str) -> Vec<usize> {
    let bytes = disk.content(name).expect("it exists");
    let mut sectors = interesting_sectors(disk, name);
    sectors.retain(|at| bytes[*at..].starts_with(b"RBAT") && bytes[*at + 60..][..4] != [0; 4]);
    sectors
}

/// A batch header in the middle of a segment rots, so that its entries are unknown.
fn rot_header(sound: &Sound, segment: usize) -> SimDisk {
    let disk = sound.disk.fork(1);
    let name = &sound.segments[segment];
    let head = heads(&disk, name)[1 - segment];
    disk.tamper(name, |bytes| bytes[head + 40] ^= 1);
    disk
}

/// In every batch with entries one of them rots. Returns how many there are.
pub(crate) fn rot_entries(disk: &SimDisk, names: &[String]) -> usize {
    let mut count = 0;
    for name in names {
        for head in heads(disk, name) {
            disk.tamper(name, |bytes| {
                let entries = u32::from_be_bytes(bytes[head + 60..][..4].try_into().unwrap());
                bytes[head + 128 + entries as usize * 16 + 33] ^= 1;
            });
            count += 1;
        }
    }
    count
}

#[test]
fn beginning_anew_survives_the_machine_going_down_at_any_operation() {
    for sound in [sound(), sound_behind_snapshot(false)] {
        let rotten = rot_header(&sound, 1);
        let disk = rotten.fork(2);
        let before = disk.operations();
        drop(open(&disk).expect("it begins anew"));
        let operations = disk.operations() - before;
        assert!(operations > 5, "{operations}");
        for fault in FAULTS {
            for at in 1..=operations {
                let context = format!("{fault:?} at {at}");
                let disk = rotten.fork(at);
                disk.fail_at(at, fault);
                assert!(open(&disk).is_err() || disk.is_down(), "{context}");
                let opened = open(&disk.restart()).unwrap_or_else(|e| panic!("{context}: {e}"));
                sound.check_lost(&opened.recovered, &context);
                disk.power_loss();
                let opened = open(&disk.restart()).expect("it has begun anew");
                sound.check_lost(&opened.recovered, &context);
            }
        }
    }
}

/// Behind a seal there is a segment at any moment, also while the log begins anew.
#[test]
fn a_sealed_log_that_is_lost_keeps_the_segment_behind_it() {
    let rotten = SimDisk::new(1, DISK_BYTES);
    let active = long_log(&rotten).sealed_segments().end;
    rotten.tamper(&segment_name(active), |bytes| bytes[4096..].fill(0));
    let name = segment_name(active / 2);
    let head = heads(&rotten, &name)[1];
    rotten.tamper(&name, |bytes| bytes[head + 40] ^= 1);
    let disk = rotten.fork(1);
    let before = disk.operations();
    drop(open(&disk).expect("it begins anew"));
    for at in 1..=disk.operations() - before {
        for fault in FAULTS {
            let disk = rotten.fork(at);
            disk.fail_at(at, fault);
            assert!(open(&disk).is_err() || disk.is_down(), "{fault:?} at {at}");
            let opened = open(&disk.restart());
            let opened = opened.unwrap_or_else(|fatal| panic!("{fault:?} at {at}: {fatal}"));
            assert!(opened.recovered.wal.hard_state().lost, "{fault:?} at {at}");
        }
    }
}

/// It takes the room of the spares. Without any the start waits for an operator, and nothing is lost.
#[test]
fn a_full_disk_does_not_keep_a_log_from_beginning_anew() {
    let sound = sound();
    let rotten = rot_header(&sound, 0);
    rotten.fail_next(Operation::Create, Fault::NoSpace);
    let fatal = open(&rotten).err().expect("there is no room");
    assert_eq!(fatal.status, ExitStatus::Io);
    let disk = rotten.restart();
    let opened = open(&disk).expect("now there is");
    sound.check_lost(&opened.recovered, "later");
    let names = disk.list("wal").expect("the machine is up");
    assert_eq!(names.len(), 1, "{names:?}");
}

/// A lost log is written on like any other; that it is whole again is a write, too.
#[test]
fn a_lost_log_is_written_on_until_it_is_whole() {
    let sound = sound();
    let disk = rot_header(&sound, 0);
    let mut worker = worker(&disk);
    let lost = worker.wal().hard_state();
    assert!(lost.lost);
    let term = lost.term.0;
    worker.push(StorageRequest::Write(Write {
        hard_state: lost,
        ..write(1, term, entries(1, 5, term, 100))
    }));
    rest(&mut worker);
    let again = open(&disk.restart()).expect("it opens").recovered;
    assert_eq!(
        (again.wal.hard_state(), again.wal.last().index),
        (lost, Index(5))
    );
    assert_eq!(again.damage, None, "of that nothing is left");
    let mut worker = Worker::new(again.wal, Identity::default());
    worker.push(StorageRequest::Write(Write {
        hard_state: raft::HardState {
            lost: false,
            ..lost
        },
        ..write(2, term, Vec::new())
    }));
    rest(&mut worker);
    disk.power_loss();
    let again = open(&disk.restart()).expect("it opens").recovered;
    assert!(!again.wal.hard_state().lost);
    assert_eq!(again.wal.last(), id(term, 5));
}

pub(crate) fn entry_of(sound: &Sound, identity: EntryIdentity) -> Entry {
    let place = identity.id.index.0 - sound.content.base.index.0 - 1;
    let entry = sound.content.entries[place as usize].clone();
    assert_eq!(entry.identity(), identity);
    entry
}

/// All entries that are faulty, as a peer has them.
fn wanted(sound: &Sound, wal: &SimWal) -> Vec<Entry> {
    wal.faulty().map(|faulty| entry_of(sound, faulty)).collect()
}

#[test]
fn mending_survives_the_machine_going_down_at_any_operation() {
    let sound = sound();
    let rotten = sound.disk.fork(1);
    let count = rot_entries(&rotten, &sound.segments);
    let disk = rotten.fork(2);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let all = wanted(&sound, &wal);
    assert_eq!(all.len(), count);
    let before = disk.operations();
    wal.mend(&all).expect("no fault is planned");
    let last = disk.operations();
    for fault in FAULTS {
        for at in before + 1..=last {
            let context = format!("{fault:?} at {at}");
            let disk = rotten.fork(at);
            let mut wal = open(&disk).expect("it opens").recovered.wal;
            disk.fail_at(at, fault);
            let mended = wal.mend(&all);
            assert!(mended.is_err() || disk.is_down(), "{context}");
            let recovered = open(&disk.restart()).expect("it opens").recovered;
            if fault == Fault::PowerLoss && recovered.wal.hard_state().lost {
                // This disk may leave garbage in a sector that holds the header, too: outside of what
                // is assumed of real ones (rules D2).
                sound.check_lost(&recovered, &context);
                continue;
            }
            // The same damage as before, but for what was mended.
            let mut wal = recovered.wal;
            let rest = wanted(&sound, &wal);
            assert!(rest.iter().all(|entry| all.contains(entry)), "{context}");
            wal.mend(&rest).expect("no fault is planned");
            disk.power_loss();
            let again = open(&disk.restart()).expect("it opens").recovered;
            assert_eq!(again.faulty, [], "{context}");
            sound.check_same(&again, &context);
        }
    }
}

/// With other bytes than those that were there nothing is mended, whatever index and term say.
#[test]
fn only_the_same_entry_mends() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    rot_entries(&disk, &sound.segments[..1]);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let faulty: Vec<EntryIdentity> = wal.faulty().collect();
    let first = faulty[0].id;
    let bytes = disk.content(&sound.segments[0]);
    let elsewhere = entries(first.index.0 + 1000, 1, first.term.0, 77);
    let others = wanted(&sound, &wal).into_iter().map(|entry| {
        let pool = &mut BytesMut::new();
        let later = entry.wall_ms() + 1;
        Entry::build(pool, entry.id(), later, entry.kind(), entry.body())
    });
    wal.mend(&others.chain(elsewhere).collect::<Vec<_>>())
        .expect("no fault is planned");
    assert_eq!(wal.faulty().collect::<Vec<_>>(), faulty);
    assert_eq!(disk.content(&sound.segments[0]), bytes);
}

/// Its bytes are in the cache, and nobody knows whether the device has them.
#[test]
fn a_sync_that_fails_mends_nothing() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let count = rot_entries(&disk, &sound.segments[..1]);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let wanted = wanted(&sound, &wal);
    disk.fail_next(Operation::Sync, Fault::Io);
    wal.mend(&wanted[..1]).expect_err("it failed");
    let again = open(&disk.restart()).expect("it opens").recovered;
    assert_eq!(again.faulty.len(), count);
}

/// Sectors that cannot be read can be again once they are written.
#[test]
fn what_cannot_be_read_is_mended() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let name = &sound.segments[0];
    let payload = heads(&disk, name)[2] + SECTOR;
    disk.make_unreadable(name, payload as u64..payload as u64 + 3000);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let wanted = wanted(&sound, &wal);
    assert!(!wanted.is_empty());
    wal.mend(&wanted).expect("no fault is planned");
    assert_eq!(wal.faulty().next(), None);
    let again = open(&disk.restart()).expect("it opens").recovered;
    sound.check_same(&again, "mended");
}

/// The block cannot be read because of what is not of its batch, and is left as it is.
#[test]
fn what_cannot_be_put_back_stays_faulty() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let name = &sound.segments[0];
    rot_entries(&disk, &sound.segments[..1]);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut wanted = heads(&disk, name).into_iter().zip(wanted(&sound, &wal));
    let (head, entry) = wanted
        .find(|(head, _)| head % 4096 != 0)
        .expect("a batch begins within a block");
    disk.make_unreadable(name, (head - SECTOR) as u64..head as u64);
    let faulty: Vec<EntryIdentity> = wal.faulty().collect();
    wal.mend(&[entry]).expect("no fault is planned");
    assert_eq!(wal.faulty().collect::<Vec<_>>(), faulty);
}

/// Whatever covers faulty entries makes them needless: a cut, a marker, a log that is replaced.
#[test]
fn what_is_cut_or_covered_is_faulty_no_more() {
    let sound = sound();
    let rotten = sound.disk.fork(1);
    let count = rot_entries(&rotten, &sound.segments);
    let start = |seed| {
        let mut worker = worker(&rotten.fork(seed));
        let told = rest(&mut worker);
        let told = faulty(&told).expect("said at start");
        assert_eq!(told.len(), count);
        (worker, told)
    };
    let last = sound.content.entries.last().expect("there are some").id();
    // The last but one is cut off.
    let (mut worker, told) = start(2);
    let from = told[count - 1].id.index;
    let term = last.term.0 + 1;
    worker.push(StorageRequest::Write(Write {
        truncate_from: Some(from),
        ..write(1, term, entries(from.0, 1, term, 10))
    }));
    let left = faulty(&rest(&mut worker)).expect("it is another set");
    assert_eq!(left, told[..count - 1]);
    // A snapshot covers some: the log begins behind them.
    let covered = told[1].id;
    worker.push(StorageRequest::Mark(covered));
    let events = rest(&mut worker);
    assert_eq!(faulty(&events), Some(told[2..count - 1].to_vec()));
    let is_base = |event: &StorageEvent| matches!(event, StorageEvent::Compacted { base, .. } if *base == covered);
    assert!(events.iter().any(is_base), "{events:?}");
    // Another replaces the log.
    worker.push(StorageRequest::Write(Write {
        reset: Some(id(term, 500)),
        ..write(2, term, Vec::new())
    }));
    assert_eq!(faulty(&rest(&mut worker)), Some(Vec::new()));
}

/// Also what was behind the snapshot.
#[test]
fn what_a_snapshot_replaces_is_faulty_no_more() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    rot_entries(&disk, &sound.segments);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let last = wal.faulty().last().expect("one in each batch").id;
    let snapshot = id(last.term.0 + 1, wal.commit().0);
    assert!(snapshot.index < last.index);
    let reset = Write {
        reset: Some(snapshot),
        ..write(1, snapshot.term.0, Vec::new())
    };
    put(&mut wal, reset);
    assert_eq!((wal.last(), wal.faulty().next()), (snapshot, None));
}

/// The only one of its term, and the log's last.
#[test]
fn what_is_forgotten_leaves_its_name_to_the_log() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    let mut first = entries(1, 1, 1, 10);
    first.push(membership_entry(2, 1));
    put(&mut wal, write(1, 1, first));
    put(&mut wal, write(2, 2, entries(3, 1, 2, 10)));
    wal.mark(id(2, 3));
    put(&mut wal, write(3, 2, Vec::new()));
    rot_entries(&disk, &[segment_name(1)]);
    let recovered = open(&disk.restart()).expect("it opens").recovered;
    let wal = recovered.wal;
    assert_eq!((wal.base(), wal.last()), (id(2, 3), id(2, 3)));
    assert_eq!((recovered.terms, recovered.faulty), (vec![], vec![]));
    assert_eq!(recovered.memberships, []);
}

/// Without a gap.
#[test]
fn the_newest_entries_begin_behind_what_is_faulty() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 4, 1, 10)));
    put(&mut wal, write(2, 1, entries(5, 1, 1, 10)));
    for (body, newest) in [(b"1.2.", &[3, 4, 5][..]), (b"1.5.", &[])] {
        rot_text(&disk, &segment_name(1), body);
        let tail = open(&disk.fork(1)).expect("it opens").recovered.tail;
        let tail: Vec<u64> = tail.iter().map(|entry| entry.index().0).collect();
        assert_eq!(tail, newest);
    }
}

/// Nobody needs it, also where it shares a batch with what is needed.
#[test]
fn what_is_covered_before_it_rots_is_never_faulty() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&disk);
    put(&mut wal, write(1, 1, entries(1, 2, 1, 70_000)));
    put(&mut wal, write(2, 1, entries(3, 3, 1, 10)));
    wal.mark(id(1, 3));
    put(&mut wal, write(3, 1, Vec::new()));
    let name = segment_name(1);
    let heads = heads(&disk, &name);
    disk.tamper(&name, |bytes| bytes[heads[0] + 40] ^= 1);
    let found = wal.inspect(Index(1)).expect("no fault is planned");
    assert_eq!((found, wal.base()), (Inspected::Rotten(Index(2)), id(1, 2)));
    for body in [b"1.3.", b"1.4."] {
        rot_text(&disk, &name, body);
    }
    for index in [3, 5] {
        let found = wal.inspect(Index(index)).expect("no fault is planned");
        assert_eq!((found, wal.base()), (Inspected::Faulty, id(1, 3)));
        let faulty: Vec<EntryId> = wal.faulty().map(|faulty| faulty.id).collect();
        assert_eq!(faulty, [id(1, 4)]);
    }
}

/// The newest set of faulty entries that was told.
pub(crate) fn faulty(events: &[StorageEvent]) -> Option<Vec<EntryIdentity>> {
    let mut told = events.iter().rev();
    told.find_map(|event| match event {
        StorageEvent::Faulty(faulty) => Some(faulty.clone()),
        _ => None,
    })
}

fn load(from: u64) -> StorageRequest {
    StorageRequest::Load {
        purpose: LoadPurpose::Replicate(NodeId(2)),
        from: Index(from),
        to: Index(u64::MAX),
        max_bytes: 1 << 20,
    }
}

fn loaded(events: &[StorageEvent]) -> &[Entry] {
    let mut loads = events.iter().filter_map(|event| match event {
        StorageEvent::Loaded { entries, .. } => Some(&entries[..]),
        _ => None,
    });
    loads.next().expect("a load is answered")
}

#[test]
fn an_entry_that_rots_while_the_log_is_open_is_told_and_mended() {
    let sound = sound();
    let disk = sound.disk.fork(1);
    let mut worker = worker(&disk);
    assert!(rest(&mut worker).is_empty());
    rot_entries(&disk, &sound.segments[..1]);
    worker.push(load(1));
    let events = rest(&mut worker);
    assert_eq!(loaded(&events), []);
    let told = faulty(&events).expect("it is told");
    assert_eq!(told[0].id.index, Index(1));
    let wanted: Vec<Entry> = told
        .iter()
        .map(|faulty| entry_of(&sound, *faulty))
        .collect();
    worker.push(StorageRequest::Mend(wanted));
    assert_eq!(faulty(&rest(&mut worker)), Some(Vec::new()));
    worker.push(load(1));
    let events = rest(&mut worker);
    assert_eq!(
        loaded(&events),
        &sound.content.entries[..1],
        "up to the next one that rots"
    );
    // Nothing to mend is answered as well.
    let (mut calm, none) = (self::worker(&sound.disk.fork(2)), Vec::new());
    calm.push(StorageRequest::Mend(none));
    assert_eq!(faulty(&rest(&mut calm)), Some(Vec::new()));
}

#[test]
fn a_header_that_rots_while_the_log_is_open_asks_for_a_snapshot() {
    let sound = sound();
    let disk = rot_header(&sound, 0);
    let healthy = sound.disk.fork(1);
    let mut worker = worker(&healthy);
    let name = &sound.segments[0];
    let rotten = disk.content(name).expect("it exists");
    healthy.tamper(name, |bytes| *bytes = rotten);
    worker.push(load(2));
    let events = rest(&mut worker);
    assert_eq!(loaded(&events), []);
    let upto = events.iter().find_map(|event| match event {
        StorageEvent::Rot { upto } => Some(*upto),
        _ => None,
    });
    let upto = upto.expect("nobody knows what was there");
    assert!(
        upto >= Index(2) && upto < worker.wal().last().index,
        "{upto}"
    );
    worker.push(load(2));
    let events = rest(&mut worker);
    assert!(
        matches!(events[..], [StorageEvent::Loaded { .. }]),
        "said once: {events:?}"
    );
    // A marker that covers it makes up for it, also for the next start.
    let place = upto.0 - sound.content.base.index.0 - 1;
    let marker = sound.content.entries[place as usize].id();
    worker.push(StorageRequest::Mark(marker));
    rest(&mut worker);
    assert_eq!(worker.wal().base(), marker);
    drop(worker);
    let again = open(&healthy.restart()).expect("it opens").recovered;
    assert!(!again.wal.hard_state().lost);
    assert_eq!(
        again.wal.last(),
        sound.content.entries.last().expect("some").id()
    );
    assert!(again.wal.base().index <= marker.index);
}

/// As far as the next place that is known.
#[test]
fn a_header_that_rots_takes_the_entries_of_its_own_batch_with_it() {
    let sound = SimDisk::new(1, DISK_BYTES);
    let mut wal = new_log(&sound);
    for first in [1, 3] {
        put(&mut wal, write(1, 1, entries(first, 2, 1, 40_000)));
    }
    put(&mut wal, write(1, 1, entries(5, 2, 1, 40_000)));
    let name = segment_name(1);
    for (head, upto) in heads(&sound, &name).into_iter().zip([2, 4]) {
        let disk = sound.fork(1);
        let mut worker = worker(&disk);
        disk.tamper(&name, |bytes| bytes[head + 40] ^= 1);
        worker.push(load(upto - 1));
        let events = rest(&mut worker);
        let rot = |event: &StorageEvent| matches!(event, StorageEvent::Rot { upto: found } if found.0 == upto);
        assert!(events.iter().any(rot), "{events:?}");
    }
}
