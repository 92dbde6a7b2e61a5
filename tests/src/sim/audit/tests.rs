//! The reader against disks that the shipped code writes.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::BytesMut;
use raft::{Ticket, Write};
use raftd::disk::sim::Fault;
use raftd::disk::{Disk, Latched, Meter};
use raftd::node::io::StorageRequest;
use raftd::storage::{Options, Scrubbing, SpareMaker, Step, Worker, open_disk};
use raftd::wal::identity::{IDENTITY_NAME, Identity};
use raftd::wal::segment::{self, Spare};
use wire::entry::{Entry, EntryKind};
use wire::types::Incarnation;

use super::*;
use crate::sim::member::{CLUSTER, EPOCH};

type Log = Worker<Latched<SimDisk>>;

fn options() -> Options {
    Options {
        data_dir: PathBuf::new(),
        segment_bytes: 256 << 10,
        soft_free_bytes: 0,
        tail_bytes: 1 << 20,
        sessions_max: 8,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        create: Some(Identity {
            cluster: CLUSTER,
            node: NodeId(1),
            incarnation: Incarnation(7),
            epoch: EPOCH,
            formed: Vec::new(),
            // Who is alone has nobody to heal from.
            members: vec![
                (NodeId(1), "10.0.0.1:7".to_owned()),
                (NodeId(2), "10.0.0.2:7".to_owned()),
            ],
            next_epoch: None,
        }),
        seed: 3,
    }
}

fn open(disk: &SimDisk) -> Log {
    let opened = open_disk(Latched::new(disk.clone()), &options());
    opened.expect("an honest disk opens").start().1
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let body = vec![7; bytes];
    let mut pool = BytesMut::new();
    Entry::build(&mut pool, id, 0, EntryKind::Command, &body)
}

/// Hands over entries of a term, from `first` on.
fn push(log: &mut Log, ticket: u64, term: u64, first: u64, count: u64, cut: bool) {
    log.push(StorageRequest::Write(Write {
        ticket: Ticket(ticket),
        hard_state: HardState {
            term: Term(term),
            vote: Some(NodeId(1)),
            lost: false,
        },
        reset: None,
        truncate_from: cut.then_some(Index(first)),
        entries: (first..first + count)
            .map(|n| entry(term, n, 300))
            .collect(),
        commit: Index(0),
    }));
}

fn spare_maker(disk: &SimDisk, log: &Log) -> SpareMaker<SimDisk> {
    let owner = options().create.expect("it is set above").owner();
    let next = log.wal().next_segment();
    SpareMaker::new(disk.clone(), owner, next, &options())
}

fn spare(maker: &mut SpareMaker<SimDisk>) -> Spare<<SimDisk as Disk>::File> {
    let made = (0..1_000).find_map(|_| match maker.step(0, 0, false) {
        Step::Made(spare) => Some(spare),
        _ => None,
    });
    made.expect("a thousand pieces make a segment")
}

fn round(log: &mut Log) -> bool {
    log.round(&mut VecDeque::new()).is_ok()
}

fn catch_up(audit: &mut Audit, disk: &SimDisk) -> usize {
    let mut batches = 0;
    while audit.step(disk, &mut |_| ()) {
        batches += 1;
    }
    batches
}

fn last(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

#[test]
fn what_is_synced_is_seen_once_and_nothing_earlier() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    let mut audit = Audit::default();
    catch_up(&mut audit, &disk);
    push(&mut log, 1, 1, 1, 3, false);
    assert_eq!(catch_up(&mut audit, &disk), 0);
    assert!(round(&mut log));
    assert_eq!(catch_up(&mut audit, &disk), 1);
    assert_eq!(catch_up(&mut audit, &disk), 0);
    assert_eq!(audit.last(), last(1, 3));
    assert_eq!(audit.hard_state().vote, Some(NodeId(1)));
    let second = entry(1, 2, 300);
    let held = Held {
        term: Term(1),
        crc: second.crc(),
    };
    assert_eq!(audit.at(Index(2)), Some(held));
    assert_eq!((audit.at(Index(0)), audit.at(Index(4))), (None, None));
}

#[test]
fn a_cut_shows_what_is_gone() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    push(&mut log, 1, 1, 1, 5, false);
    assert!(round(&mut log));
    let mut audit = Audit::afresh(&disk);
    push(&mut log, 2, 2, 3, 1, true);
    assert!(round(&mut log));
    let mut cut = Vec::new();
    while audit.step(&disk, &mut |batch| cut.extend_from_slice(batch.cut)) {}
    let gone: Vec<_> = (3..=5).map(|n| entry(1, n, 300).crc()).collect();
    assert_eq!(cut.iter().map(|held| held.crc).collect::<Vec<_>>(), gone);
    assert_eq!(audit.last(), last(2, 3));
}

#[test]
fn it_follows_from_segment_to_segment() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    let mut maker = spare_maker(&disk, &log);
    log.add_spare(spare(&mut maker));
    let mut audit = Audit::default();
    let (mut index, mut ticket) = (1, 0);
    while audit.segment < 2 {
        ticket += 1;
        push(&mut log, ticket, 1, index, 100, false);
        index += 100;
        // Once more for the half that did not fit behind the other.
        assert!(round(&mut log) && round(&mut log));
        catch_up(&mut audit, &disk);
        assert_eq!(audit.last(), last(1, index - 1));
    }
    push(&mut log, ticket + 1, 1, index, 1, false);
    assert!(round(&mut log));
    catch_up(&mut audit, &disk);
    assert_eq!(audit.last(), last(1, index));
    assert_eq!(audit.log(), Audit::afresh(&disk).log());
}

/// Rounds until nothing is left to do.
fn rest(log: &mut Log) {
    while log.round(&mut VecDeque::new()).expect("no fault").worked {}
    let mut garbage = log.take_garbage();
    while !garbage.is_empty() {
        segment::remove(log.wal().disk(), &mut garbage).expect("no fault");
    }
}

#[test]
fn what_a_snapshot_covers_goes_and_the_audit_remembers_it() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    let mut audit = Audit::default();
    let mut maker = spare_maker(&disk, &log);
    let mut ticket = 0;
    while audit.segment < 4 {
        if log.wal().spares() == 0 {
            log.add_spare(spare(&mut maker));
        }
        ticket += 1;
        push(&mut log, ticket, 1, 1 + 100 * (ticket - 1), 100, false);
        rest(&mut log);
        catch_up(&mut audit, &disk);
    }
    let middle = Index(audit.last().index.0 / 2);
    let snapshot = EntryId {
        term: Term(1),
        index: middle,
    };
    log.push(StorageRequest::Mark(snapshot));
    log.push(StorageRequest::Compact {
        upto: middle,
        keep_bytes: 0,
    });
    rest(&mut log);
    catch_up(&mut audit, &disk);
    assert_eq!((audit.snapshot(), audit.base()), (snapshot, last(0, 0)));
    let again = Audit::afresh(&disk);
    assert!(again.base().index.0 > 0 && again.base().index <= middle);
    assert_eq!(again.base(), log.wal().base());
    assert!(again.continues(&audit));
    assert_eq!(again.at(again.base().index), None);
    assert_eq!(again.at(middle), audit.at(middle));
}

#[test]
fn a_snapshot_in_place_of_the_log_leaves_nothing_before_it() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    push(&mut log, 1, 1, 1, 5, false);
    assert!(round(&mut log));
    let mut audit = Audit::afresh(&disk);
    log.push(StorageRequest::Write(Write {
        ticket: Ticket(2),
        hard_state: audit.hard_state(),
        reset: Some(last(1, 3)),
        entries: vec![entry(1, 4, 30)],
        ..Write::default()
    }));
    rest(&mut log);
    let mut seen = Vec::new();
    let mut show = |batch: &Batch<'_>| seen.push((batch.resets, batch.cut.len(), batch.before));
    while audit.step(&disk, &mut show) {}
    assert_eq!(seen, [(true, 5, last(1, 3)), (false, 0, last(1, 3))]);
    assert_eq!((audit.base(), audit.last()), (last(1, 3), last(1, 4)));
    assert_eq!(audit.at(Index(3)), None);
    assert!(Audit::afresh(&disk).continues(&audit));
}

#[test]
fn a_log_that_begins_anew_is_followed_into_its_new_segment() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    for ticket in 1..=3 {
        push(&mut log, ticket, 1, ticket, 1, false);
        assert!(round(&mut log));
    }
    let mut audit = Audit::afresh(&disk);
    // The header of the second batch; the third proves that there was one.
    let second = FIRST_BATCH + 512 + 1024;
    disk.rot("wal/0000000000000001.wal", second + 30, 1);
    let disk = disk.restart();
    let log = open(&disk);
    assert!(log.wal().hard_state().lost);
    let mut seen = Vec::new();
    let mut show = |batch: &Batch<'_>| seen.push((batch.anew, batch.resets, batch.cut.len()));
    while audit.step(&disk, &mut show) {}
    assert_eq!(seen, [(true, true, 3)]);
    assert_eq!(audit.hard_state(), log.wal().hard_state());
    assert_eq!((audit.base(), audit.last()), (last(0, 0), last(0, 0)));
    assert!(Audit::afresh(&disk).continues(&audit));
}

#[test]
fn a_batch_that_power_tore_is_none_and_what_was_there_stays() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, 1 << 30);
        let mut log = open(&disk);
        push(&mut log, 1, 1, 1, 3, false);
        assert!(round(&mut log));
        let mut audit = Audit::afresh(&disk);
        push(&mut log, 2, 1, 4, 3, false);
        disk.fail_at(disk.operations() + 2, Fault::PowerLoss);
        assert!(!round(&mut log));
        catch_up(&mut audit, &disk);
        let now = audit.last();
        assert!(now == last(1, 3) || now == last(1, 6), "{now}");
        assert_eq!(Audit::afresh(&disk).last(), now);
        let disk = disk.restart();
        drop(open(&disk));
        catch_up(&mut audit, &disk);
        assert_eq!(audit.last(), now);
        assert_eq!(Audit::afresh(&disk).log(), audit.log());
    }
}

#[test]
fn damage_is_seen_by_whoever_reads_again() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = open(&disk);
    for ticket in 1..=3 {
        push(&mut log, ticket, 1, ticket, 1, false);
        assert!(round(&mut log));
    }
    let mut audit = Audit::afresh(&disk);
    disk.rot("wal/0000000000000001.wal", FIRST_BATCH + 512 + 200, 1);
    catch_up(&mut audit, &disk);
    assert_eq!(audit.last(), last(1, 3));
    assert!(Audit::afresh(&disk).last() < last(1, 3));
}

/// The disk was full when IDENTITY was to be written, say.
#[test]
fn a_log_that_is_made_again_is_read_from_its_beginning() {
    let disk = SimDisk::new(1, 1 << 30);
    drop(open(&disk));
    let mut audit = Audit::default();
    assert_eq!(catch_up(&mut audit, &disk), 1);
    disk.remove(IDENTITY_NAME).unwrap();
    disk.sync_dir("").unwrap();
    let again = Options {
        seed: 4,
        ..options()
    };
    let opened = open_disk(Latched::new(disk.clone()), &again);
    let mut log = opened.expect("what was half-made is made anew").start().1;
    push(&mut log, 1, 1, 1, 3, false);
    assert!(round(&mut log));
    catch_up(&mut audit, &disk);
    assert_eq!(audit.last(), last(1, 3));
}
