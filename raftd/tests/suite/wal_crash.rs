//! The log on the simulated disk, which loses power at every operation there is.
//!
//! The property: after any crash the log is the result of a prefix of the writes that were handed
//! over, and that prefix holds at least everything that was reported durable. The last write of
//! the prefix may be there in part if it was larger than a batch. Of the markers that were asked
//! for, one is there that is not older than the durable one; and what is gone from the front is
//! covered by it.

use raft::{HardState, Ticket, Write};
use raftd::disk::sim::{Fault, SimDisk};
use raftd::fatal::ExitStatus;
use raftd::wal::identity::{IDENTITY_NAME, Identity};
use raftd::wal::{Error, Pending, Progress};
use wire::limits::{ADDR_BYTES_MAX, MEMBERS_MAX};
use wire::types::{Epoch, Incarnation, Index, NodeId, Term};

use crate::wal_story::{Random, SEGMENT_BYTES, SimWal, Story, content, make_spare, open};
use crate::wal_support::{entries, identity};

const DISK_BYTES: u64 = 8 * 1024 * 1024;

/// Writes until everything is durable or the machine is down.
fn work(wal: &mut SimWal, story: &mut Story, turns: u64) -> Result<(), Error> {
    let mut pending = Pending::default();
    for _ in 0..turns {
        for _ in 0..=story.random.below(3) {
            pending.push(story.next_write());
        }
        loop {
            match wal.write(&mut pending)? {
                Progress::Idle => break,
                Progress::Durable(ticket) => ticket.into_iter().for_each(|t| story.reported(t)),
                Progress::NoRoom => make_spare(wal)?,
            }
        }
        if story.random.below(8) == 0 {
            make_spare(wal)?;
        }
        story.keep_house(wal)?;
    }
    Ok(())
}

/// A life: opens, checks what is there against the story, works. False: the machine went down.
fn live(disk: &SimDisk, story: &mut Story, turns: u64, context: &str) -> bool {
    let mut opened = match open(disk) {
        Ok(opened) => opened,
        Err(fatal) => {
            assert!(disk.is_down(), "{context}: refused: {fatal}");
            return false;
        }
    };
    let found = content(&opened.recovered);
    story.check(&found, context);
    assert_eq!(
        opened.recovered.damage, None,
        "{context}: what a crash leaves"
    );
    assert!(
        opened.recovered.wal.commit().0 <= story.commit,
        "{context}: commit hint"
    );
    story.resume(found);
    match work(&mut opened.recovered.wal, story, turns) {
        Ok(()) => true,
        Err(error) => {
            assert!(disk.is_down(), "{context}: {error}");
            false
        }
    }
}

/// Two lives without a fault; returns how many operations they took.
fn operations_of(seed: u64, turns: u64) -> u64 {
    let disk = SimDisk::new(seed, DISK_BYTES);
    let mut story = Story::new(seed);
    assert!(live(&disk, &mut story, turns, "no fault"));
    disk.operations()
}

#[test]
fn nothing_durable_is_lost_by_a_power_cut_at_any_operation() {
    for seed in 0..4 {
        let turns = 12;
        for at in 1..=operations_of(seed, turns) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::PowerLoss);
            let context = format!("seed {seed}, power loss at {at}");
            assert!(
                !live(&disk, &mut story, turns, &context),
                "{context} happens"
            );
            assert!(live(&disk.restart(), &mut story, 2, &context));
            disk.power_loss();
            assert!(live(&disk.restart(), &mut story, 0, &context));
        }
    }
}

/// Whatever of it is left: a directory may be gone whose files are not, and the other way round.
#[test]
fn a_first_start_that_loses_power_is_begun_anew() {
    for seed in 0..32 {
        for at in 1..=operations_of(seed, 0) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::PowerLoss);
            let context = format!("seed {seed}, power loss at {at}");
            assert!(!live(&disk, &mut story, 0, &context));
            assert!(live(&disk.restart(), &mut story, 2, &context));
        }
    }
}

#[test]
fn nothing_durable_is_lost_by_a_kill_at_any_operation() {
    let (seed, turns) = (7, 12);
    for at in 1..=operations_of(seed, turns) {
        let disk = SimDisk::new(seed, DISK_BYTES);
        let mut story = Story::new(seed);
        disk.fail_at(at, Fault::Kill);
        let context = format!("kill at {at}");
        assert!(!live(&disk, &mut story, turns, &context));
        assert!(live(&disk.restart(), &mut story, 2, &context));
        // What a kill left in the cache only must not have been taken for durable.
        disk.power_loss();
        assert!(live(&disk.restart(), &mut story, 2, &context));
    }
}

/// A name that only the cache has must not be relied upon: neither a spare's that the log goes on
/// in, nor IDENTITY's.
#[test]
fn names_that_a_kill_left_in_the_cache_are_made_durable() {
    let open_and_make_spare = |disk: &SimDisk| {
        let mut opened = open(disk).ok()?;
        make_spare(&mut opened.recovered.wal).ok()
    };
    let untouched = SimDisk::new(1, DISK_BYTES);
    open_and_make_spare(&untouched).expect("no fault is planned");
    for at in 1..=untouched.operations() {
        let disk = SimDisk::new(1, DISK_BYTES);
        disk.fail_at(at, Fault::Kill);
        assert!(open_and_make_spare(&disk).is_none());
        let disk = disk.restart();
        let mut story = Story::new(1);
        assert!(live(&disk, &mut story, 10, &format!("kill at {at}")));
        for cut in 0..4 {
            let disk = disk.fork(cut);
            disk.power_loss();
            let context = format!("kill at {at}, power loss {cut}");
            assert!(live(&disk.restart(), &mut story.clone(), 0, &context));
        }
    }
}

/// Recovery itself is interrupted, at each of its operations, again and again.
#[test]
fn recovery_is_idempotent_and_survives_power_cuts_of_its_own() {
    let mut interrupted = 0;
    for seed in 10..14 {
        let turns = 12;
        let operations = operations_of(seed, turns);
        for at in (1..=operations).rev().step_by(11) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::PowerLoss);
            live(&disk, &mut story, turns, "the first life");
            for cut in 1.. {
                let again = disk.fork(seed * 1_000_003 + cut);
                again.fail_at(cut, Fault::PowerLoss);
                let context = format!("seed {seed}, power loss at {at}, then at {cut} of recovery");
                if open(&again).is_ok() && !again.is_down() {
                    break;
                }
                interrupted += 1;
                assert!(again.is_down(), "{context}");
                let found = content(&open(&again.restart()).expect("it recovers").recovered);
                story.check(&found, &context);
                // And once more: the same.
                let twice = content(&open(&again.restart()).expect("it recovers").recovered);
                assert_eq!(found, twice, "{context}");
            }
        }
    }
    assert!(
        interrupted > 100,
        "{interrupted} recoveries were interrupted"
    );
}

#[test]
fn many_lives_in_a_row_keep_the_story() {
    for seed in 100..130 {
        let mut disk = SimDisk::new(seed, 4 * DISK_BYTES);
        let mut story = Story::new(seed);
        let mut random = Random(seed);
        for life in 0..12 {
            let fault = if random.below(2) == 0 {
                Fault::PowerLoss
            } else {
                Fault::Kill
            };
            disk.fail_at(disk.operations() + 1 + random.below(200), fault);
            live(&disk, &mut story, 20, &format!("seed {seed}, life {life}"));
            disk = disk.restart();
        }
    }
}

/// A sync that failed leaves the cache newer than the disk: the next life must see the disk.
#[test]
fn a_failed_sync_ends_the_log_and_its_bytes_are_not_believed_later() {
    let mut failures = 0;
    for seed in 0..3 {
        for at in 1..=operations_of(seed, 8) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::Io);
            let Ok(mut opened) = open(&disk) else {
                continue;
            };
            let error = work(&mut opened.recovered.wal, &mut story, 8);
            assert!(error.is_err(), "the failure is told");
            failures += 1;
            let mut pending = Pending::default();
            pending.push(Write {
                ticket: Ticket(u64::MAX),
                hard_state: opened.recovered.wal.hard_state(),
                ..Write::default()
            });
            let latched = opened.recovered.wal.disk().has_failed();
            let refused = opened.recovered.wal.write(&mut pending).is_err();
            // Only that a new file could not be made leaves the disk in order.
            assert!(refused || !latched, "the latch holds");
            // The process ends, the cache stays as it is; what the next life acknowledges must
            // survive a power cut.
            let context = format!("seed {seed}, EIO at {at}");
            let disk = disk.restart();
            assert!(live(&disk, &mut story, 1, &context));
            disk.power_loss();
            assert!(live(&disk.restart(), &mut story, 1, &context));
        }
    }
    assert!(failures > 100, "{failures} operations failed");
}

#[test]
fn no_space_is_never_damage_and_never_fatal() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut story = Story::new(1);
    let mut opened = open(&disk).expect("there is room for one segment");
    let used = SEGMENT_BYTES + 16 * 1024;
    disk.set_capacity(used);
    let wal = &mut opened.recovered.wal;
    let mut pending = Pending::default();
    // Until the segment is full.
    loop {
        if pending.is_empty() {
            pending.push(story.next_write());
        }
        match wal.write(&mut pending).expect("a full disk is no failure") {
            Progress::NoRoom => break,
            Progress::Durable(ticket) => ticket.into_iter().for_each(|t| story.reported(t)),
            Progress::Idle => {}
        }
    }
    let error = make_spare(wal).expect_err("there is no room");
    assert!(matches!(error, Error::Disk(error) if error.is_no_space()));
    assert_eq!(
        wal.write(&mut pending).expect("still none"),
        Progress::NoRoom
    );
    // Another life on the full disk: recovery needs no room, votes still fit.
    let disk = disk.restart();
    let opened = open(&disk).expect("recovery needs no room");
    let found = content(&opened.recovered);
    story.check(&found, "full disk");
    let mut wal = opened.recovered.wal;
    let mut pending = Pending::default();
    for n in 0..100 {
        let term = Term(found.hard_state.term.0 + 1 + n);
        pending.push(Write {
            ticket: Ticket(n + 1),
            hard_state: HardState {
                term,
                vote: Some(NodeId(2)),
                lost: false,
            },
            ..Write::default()
        });
        let progress = wal.write(&mut pending).expect("a vote fits");
        assert_eq!(progress, Progress::Durable(Some(Ticket(n + 1))));
    }
    // Space comes back: it goes on.
    disk.set_capacity(DISK_BYTES);
    make_spare(&mut wal).expect("there is room again");
    let next = wal.last().index.0 + 1;
    let hard_state = wal.hard_state();
    pending.push(Write {
        ticket: Ticket(200),
        hard_state,
        entries: entries(next, 5, hard_state.term.0, 40_000),
        ..Write::default()
    });
    let mut reported = None;
    loop {
        match wal.write(&mut pending).expect("there is room") {
            Progress::Durable(ticket) => reported = ticket,
            Progress::NoRoom => make_spare(&mut wal).expect("there is room"),
            Progress::Idle => break,
        }
    }
    assert_eq!(reported, Some(Ticket(200)));
    let recovered = open(&disk.restart()).expect("it recovers").recovered;
    assert_eq!(recovered.wal.last().index, Index(next + 4));
    assert_eq!(recovered.wal.hard_state(), hard_state);
}

#[test]
fn enospc_at_any_operation_is_told_and_loses_nothing() {
    for at in 1..=operations_of(3, 10) {
        let disk = SimDisk::new(3, DISK_BYTES);
        let mut story = Story::new(3);
        disk.fail_at(at, Fault::NoSpace);
        if let Ok(mut opened) = open(&disk) {
            let _ = work(&mut opened.recovered.wal, &mut story, 10);
        }
        disk.power_loss();
        assert!(live(
            &disk.restart(),
            &mut story,
            2,
            &format!("ENOSPC at {at}")
        ));
    }
}

/// Rules E1: whatever waits when a sync returns shares the next one; nothing syncs twice.
#[test]
fn a_batch_is_exactly_one_sync() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let hard_state = HardState {
        term: Term(1),
        vote: Some(NodeId(1)),
        lost: false,
    };
    let mut next = 1;
    for waiting in [1, 1, 10, 100] {
        for _ in 0..waiting {
            pending.push(Write {
                ticket: Ticket(next),
                hard_state,
                entries: entries(next, 1, 1, 20),
                ..Write::default()
            });
            next += 1;
        }
        let before = disk.syncs();
        let progress = wal.write(&mut pending).expect("no fault is planned");
        assert_eq!(progress, Progress::Durable(Some(Ticket(next - 1))));
        assert_eq!(disk.syncs() - before, 1);
        let idle = wal.write(&mut pending).expect("no fault is planned");
        assert_eq!(idle, Progress::Idle);
        assert_eq!(disk.syncs() - before, 1);
    }
}

#[test]
fn an_entry_that_no_segment_can_hold_is_refused_by_name() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let bytes_max = raftd::wal::entry_bytes_max(SEGMENT_BYTES);
    let body_bytes = bytes_max - wire::entry::ENTRY_HEADER_BYTES;
    let mut pending = Pending::default();
    let hard_state = HardState {
        term: Term(1),
        vote: None,
        lost: false,
    };
    let write = |ticket, entries| Write {
        ticket: Ticket(ticket),
        hard_state,
        entries,
        ..Write::default()
    };
    pending.push(write(1, entries(1, 2, 1, body_bytes)));
    make_spare(&mut wal).expect("there is room");
    make_spare(&mut wal).expect("there is room");
    make_spare(&mut wal).expect("there is room");
    while wal.write(&mut pending).expect("the largest entry fits") != Progress::Idle {}
    assert_eq!(wal.last().index, Index(2));
    pending.push(write(2, entries(3, 1, 1, body_bytes + 1)));
    let error = wal.write(&mut pending).expect_err("one byte more does not");
    assert!(matches!(error, Error::EntryTooLarge { .. }));
}

#[test]
fn an_identity_without_a_whole_copy_is_damage_and_one_copy_is_enough() {
    let disk = SimDisk::new(1, DISK_BYTES);
    open(&disk).expect("it opens");
    disk.tamper("IDENTITY", |bytes| bytes[100] ^= 1);
    let disk = disk.restart();
    open(&disk).expect("the second copy is whole");
    disk.tamper("IDENTITY", |bytes| bytes[8192 + 100] ^= 1);
    let disk = disk.restart();
    open(&disk).expect("the first copy was healed");
    disk.tamper("IDENTITY", |bytes| {
        bytes[100] ^= 1;
        bytes[8192 + 100] ^= 1;
    });
    let fatal = open(&disk.restart()).err().expect("both are damaged");
    assert_eq!(fatal.status, ExitStatus::Damaged);
}

#[test]
fn an_identity_is_what_was_written_however_large() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let nodes = || (1..=MEMBERS_MAX as u64).map(NodeId);
    let largest = Identity {
        formed: nodes().map(|node| (node, Incarnation(node.0))).collect(),
        members: nodes()
            .map(|node| (node, "a".repeat(ADDR_BYTES_MAX)))
            .collect(),
        next_epoch: Some(Epoch(9)),
        ..identity()
    };
    largest.create(&disk).expect("no fault is planned");
    let look = |disk| Identity::look(disk).expect("it is whole");
    assert_eq!(look(&disk), Some(largest));
    // The first copy is enough, and is put into a file of the right size.
    let whole = disk.content(IDENTITY_NAME).expect("it exists");
    disk.tamper(IDENTITY_NAME, |bytes| bytes.truncate(10_000));
    Identity::read(&disk).expect("one copy is whole");
    assert_eq!(disk.content(IDENTITY_NAME), Some(whole));
    // That it cannot be opened does not mean that it is not there.
    disk.set_out_of_files(true);
    assert!(Identity::look(&disk).is_err() && Identity::read(&disk).is_err());
}

#[test]
fn an_identity_update_is_old_or_new_after_a_crash_at_any_operation() {
    let fresh = SimDisk::new(1, DISK_BYTES);
    open(&fresh).expect("it opens");
    let mut updated = identity();
    updated.formed = vec![(NodeId(1), Incarnation(77))];
    for (at, fault) in (1..=4).flat_map(|at| [(at, Fault::PowerLoss), (at, Fault::Kill)]) {
        let disk = fresh.fork(at);
        disk.fail_at(at, fault);
        assert!(updated.update(&disk).is_err());
        let found = open(&disk.restart()).expect("it opens").identity;
        assert!(found == identity() || found == updated, "{found:?}");
        let again = open(&disk.restart()).expect("it opens").identity;
        assert_eq!(found, again);
    }
}
