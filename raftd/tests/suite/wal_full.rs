//! A log on a full disk: entries wait, terms and votes do not (rules E5).

use std::collections::VecDeque;

use raft::{HardState, Ticket, Write};
use raftd::disk::Latched;
use raftd::disk::sim::{Fault, SimDisk};
use raftd::node::io::{StorageEvent, StorageRequest};
use raftd::storage::Worker;
use raftd::wal::segment::segment_name;
use raftd::wal::{Pending, Progress, examine};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::wal_life::found;
use crate::wal_story::{SimWal, content, make_spare, open};
use crate::wal_support::{entries, rest, write};

const DISK_BYTES: u64 = 8 << 20;

/// The vote for node 2 in a term, beside entries.
fn vote(ticket: u64, term: u64, mut write: Write) -> Write {
    write.ticket = Ticket(ticket);
    write.hard_state = voted(term);
    write
}

fn voted(term: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: Some(NodeId(2)),
        lost: false,
    }
}

/// Two entries of term 1 that leave no room for a third one in the only segment.
fn full_log(disk: &SimDisk) -> SimWal {
    let mut wal = open(disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    pending.push(write(1, 1, entries(1, 2, 1, 80_000)));
    assert_eq!(
        wal.write(&mut pending).expect("there is room"),
        Progress::Durable(Some(Ticket(1)))
    );
    wal
}

/// An entry of term 1, a vote of term 2, then an entry and a vote of term 3.
fn three_writes() -> [Write; 3] {
    [
        write(2, 1, entries(3, 1, 1, 80_000)),
        vote(3, 2, Write::default()),
        vote(4, 3, write(4, 3, entries(4, 1, 2, 10))),
    ]
}

#[test]
fn a_vote_overtakes_entries_that_have_no_room() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = full_log(&disk);
    let mut pending = Pending::default();
    three_writes()
        .into_iter()
        .for_each(|write| pending.push(write));
    let syncs = disk.syncs();
    let mut next = |wal: &mut SimWal| wal.write(&mut pending).expect("a full disk is no failure");
    assert_eq!(next(&mut wal), Progress::Durable(None), "no ticket is done");
    assert_eq!(wal.hard_state(), voted(3));
    assert_eq!(
        (next(&mut wal), disk.syncs() - syncs),
        (Progress::NoRoom, 1)
    );
    let again = found(&disk);
    assert_eq!(again.hard_state, voted(3));
    assert_eq!(again.entries.len(), 2, "the entries still wait");

    make_spare(&mut wal).expect("there is room");
    assert_eq!(next(&mut wal), Progress::Durable(Some(Ticket(4))));
    let again = found(&disk);
    assert_eq!(again.hard_state, voted(3), "no term falls");
    let terms: Vec<_> = again.entries.iter().map(|entry| entry.term().0).collect();
    assert_eq!(terms, [1, 1, 1, 2]);
}

/// While segments can be had, nothing overtakes: the log is as it always was.
#[test]
fn nothing_overtakes_where_there_is_room() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = full_log(&disk);
    make_spare(&mut wal).expect("there is room");
    let mut pending = Pending::default();
    three_writes()
        .into_iter()
        .for_each(|write| pending.push(write));
    let progress = wal.write(&mut pending).expect("there is room");
    assert_eq!(progress, Progress::Durable(Some(Ticket(4))));
}

/// A crash at any operation leaves the old term with the old log, or the new one with it.
#[test]
fn a_vote_that_overtakes_is_there_or_not_after_a_crash_at_any_operation() {
    let sound = SimDisk::new(1, DISK_BYTES);
    drop(full_log(&sound));
    for fault in [Fault::PowerLoss, Fault::Kill] {
        for at in 1..=4 {
            let disk = sound.fork(at);
            let mut wal = open(&disk).expect("it opens").recovered.wal;
            let mut pending = Pending::default();
            three_writes()
                .into_iter()
                .for_each(|write| pending.push(write));
            disk.fail_at(disk.operations() + at, fault);
            let reported = wal.write(&mut pending).is_ok();
            disk.power_loss();
            let again = found(&disk.restart());
            assert_eq!(again.entries.len(), 2, "{fault:?} at {at}");
            let new = again.hard_state == voted(3);
            assert!(new || !reported, "{fault:?} at {at}: a vote is forgotten");
            assert!(new || again.hard_state.term == Term(1), "{fault:?} at {at}");
        }
    }
}

/// Not even for the newest vote is there room: only those that are on the disk are told.
#[test]
fn a_vote_without_room_is_not_told() {
    let disk = SimDisk::new(1, DISK_BYTES);
    drop(full_log(&disk));
    let opened = open(&disk).expect("it opens");
    let mut worker: Worker<Latched<SimDisk>> = Worker::new(opened.recovered.wal, opened.identity);
    worker.push(StorageRequest::Write(write(1, 1, entries(3, 1, 1, 80_000))));
    let mut told = Ticket(0);
    for term in 2..200 {
        worker.push(StorageRequest::Write(vote(term, term, Write::default())));
        for event in rest(&mut worker) {
            match event {
                StorageEvent::HardStateDurable(ticket) => told = ticket,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(told > Ticket(100) && told < Ticket(199), "{told:?}");
    assert_eq!(found(&disk).hard_state, voted(told.0));
}

/// Behind it nothing has room, whatever it seems to say of a table.
#[test]
fn a_seal_in_the_last_sector_may_rot() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = full_log(&disk);
    let mut pending = Pending::default();
    for term in 2..200 {
        pending.push(vote(term, term, Write::default()));
        if wal.write(&mut pending).expect("a full disk is no failure") == Progress::NoRoom {
            break;
        }
    }
    make_spare(&mut wal).expect("there is room");
    while wal.write(&mut pending).expect("there is room") != Progress::Idle {}
    let whole = found(&disk);
    disk.tamper(&segment_name(1), |bytes| {
        let seal = bytes.len() - 512;
        assert!(bytes[seal..].starts_with(b"RBAT"));
        bytes[seal + 62] ^= 1;
    });
    let examined = examine(&disk, None, |_| {}).expect("it is read");
    assert_eq!(examined.segments[0].case, Some('I'));
    let recovered = open(&disk.restart()).expect("nothing is lost").recovered;
    assert!(recovered.damage.is_some());
    assert_eq!(examined.damage, recovered.damage);
    assert_eq!(content(&recovered), whole);
}

/// The snapshot that stands for entries without room takes their place.
#[test]
fn a_reset_voids_what_waits_before_it() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = full_log(&disk);
    let snapshot = EntryId {
        term: Term(2),
        index: Index(9),
    };
    let mut pending = Pending::default();
    pending.push(write(2, 1, entries(3, 1, 1, 80_000)));
    pending.push(Write {
        reset: Some(snapshot),
        ..vote(3, 2, Write::default())
    });
    let progress = wal.write(&mut pending).expect("a full disk is no failure");
    assert_eq!(progress, Progress::Durable(Some(Ticket(3))));
    let again = found(&disk);
    assert_eq!((again.base, again.hard_state), (snapshot, voted(2)));
    assert_eq!(again.entries, []);
    let progress = wal.write(&mut pending).expect("a full disk is no failure");
    assert_eq!(progress, Progress::Idle);
}

#[test]
fn a_worker_says_once_which_hard_states_are_durable() {
    let disk = SimDisk::new(1, DISK_BYTES);
    drop(full_log(&disk));
    let opened = open(&disk).expect("it opens");
    let mut worker: Worker<Latched<SimDisk>> = Worker::new(opened.recovered.wal, opened.identity);
    let mut rest = |requests: &mut dyn Iterator<Item = Write>| {
        requests.for_each(|write| worker.push(StorageRequest::Write(write)));
        let mut events = VecDeque::new();
        while worker.round(&mut events).expect("no fault").worked {}
        worker.round(&mut events).expect("no fault");
        events
    };
    let [first, second, third] = three_writes();
    // The first one's term was durable before: its entry alone waits.
    let mut told = Vec::new();
    for write in [first, second, third] {
        for event in rest(&mut [write].into_iter()) {
            match event {
                StorageEvent::HardStateDurable(ticket) => told.push(ticket),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, [Ticket(2), Ticket(3), Ticket(4)]);
}
