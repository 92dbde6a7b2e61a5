//! Each kind of damage brings recovery to the case that it was made for.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::BytesMut;
use raft::{HardState, Ticket, Write};
use raftd::disk::{Latched, Meter};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::node::io::{SnapshotRequest, StorageRequest};
use raftd::snapshot::snapshot_name;
use raftd::storage::{Keeper, Kept, Options, Scrubbing, SpareMaker, Step, Worker, open_disk};
use raftd::wal::Recovered;
use raftd::wal::identity::Identity;
use raftd::wal::segment::segment_name;
use wire::entry::{Entry, EntryKind};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

use super::*;

fn options(segment_bytes: u64) -> Options {
    Options {
        data_dir: PathBuf::new(),
        segment_bytes,
        soft_free_bytes: 0,
        tail_bytes: 0,
        sessions_max: 8,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        create: Some(Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            ..Identity::default()
        }),
        seed: 7,
    }
}

fn open(disk: &SimDisk, segment_bytes: u64) -> Result<Recovered<Latched<SimDisk>>, Fatal> {
    let disk = disk.restart();
    open_disk(Latched::new(disk), &options(segment_bytes)).map(|opened| opened.log.recovered)
}

/// A log with a few segments in use and spares, everything durable.
fn sound(segment_bytes: u64, entries: u64) -> SimDisk {
    let disk = SimDisk::new(1, 1 << 30);
    let opened = open_disk(Latched::new(disk.clone()), &options(segment_bytes)).expect("it opens");
    let owner = opened.log.identity.owner();
    let (_, mut worker) = opened.start();
    let next = worker.wal().next_segment();
    let mut maker = SpareMaker::new(disk.clone(), owner, next, &options(segment_bytes));
    let mut events = VecDeque::new();
    for n in 1..=entries {
        worker.push(StorageRequest::Write(write(n)));
        while worker.has_work() {
            make_spares(&mut maker, &mut worker);
            worker.round(&mut events).expect("no fault is planned");
        }
    }
    make_spares(&mut maker, &mut worker);
    // The mark is written back.
    let wal = worker.wal();
    let active = wal.next_segment() - 1 - wal.spares() as u64;
    disk.tamper(&segment_name(active), |_| {});
    disk
}

fn write(n: u64) -> Write {
    let id = EntryId {
        term: Term(1),
        index: Index(n),
    };
    let body = vec![n as u8; 20_000];
    let entry = Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Command, &body);
    Write {
        ticket: Ticket(n),
        hard_state: HardState {
            term: Term(1),
            vote: Some(NodeId(1)),
            lost: false,
        },
        reset: None,
        truncate_from: None,
        entries: vec![entry],
        commit: Index(n - 1),
    }
}

fn make_spares(maker: &mut SpareMaker<SimDisk>, worker: &mut Worker<Latched<SimDisk>>) {
    loop {
        match maker.step(worker.wal().spares(), 0, false) {
            Step::Made(spare) => worker.add_spare(spare),
            Step::Making => {}
            Step::Rest(_) | Step::Failed(_) => return,
        }
    }
}

/// What recovery says of a damaged copy: its refusal, or the cases that applied and the damage that
/// the log survived.
fn judge(disk: &SimDisk, segment_bytes: u64, damage: Damage, seed: u64) -> Result<String, Fatal> {
    let disk = disk.fork(seed);
    let done = damage.inflict(&disk, &mut Random::new(seed));
    let done = done.unwrap_or_else(|| panic!("{damage:?} finds its place"));
    let last = open(&disk, segment_bytes).map(|recovered| {
        let (last, lost) = (recovered.wal.last().index, recovered.wal.hard_state().lost);
        assert!(
            lost || last == Index(30),
            "{done}: nothing is lost silently"
        );
        let damage = recovered.damage.map(|damage| damage.to_string());
        format!("{} {}", recovered.report.cases, damage.unwrap_or_default())
    });
    if let Err(fatal) = &last {
        assert_eq!(fatal.status, ExitStatus::Damaged, "{done}: {fatal}");
    }
    last
}

#[test]
fn each_case_of_damage_is_reached() {
    let small = (256 << 10, sound(256 << 10, 30));
    let large = (4 << 20, sound(4 << 20, 30));
    for (damage, case) in [
        (Damage::Record, 'D'),
        (Damage::Header, 'H'),
        (Damage::Blank, 'H'),
        (Damage::Chain, 'B'),
        (Damage::RecordAndSeal, 'E'),
        (Damage::Seal, 'I'),
        (Damage::BehindSeal, 'N'),
        (Damage::BatchBehindSeal, 'C'),
        (Damage::FarByte, 'Q'),
        (Damage::MarkAndFarByte, 'L'),
        (Damage::RecordAndFarByte, 'F'),
        (Damage::BehindUnreadable, 'R'),
        (Damage::FirstBatch, 'H'),
        (Damage::NewestPage, 'd'),
        (Damage::NewestName, 'a'),
        (Damage::NextSpare, 'j'),
        (Damage::NextFile, 'l'),
    ] {
        let far = matches!(
            damage,
            Damage::FarByte | Damage::MarkAndFarByte | Damage::RecordAndFarByte
        );
        let (segment_bytes, disk) = if far { &large } else { &small };
        let told = (0..20).filter(|seed| {
            let said = judge(disk, *segment_bytes, damage, *seed);
            let said = said.unwrap_or_else(|fatal| fatal.to_string());
            said.contains(&format!("(case {case})"))
        });
        // The header of a segment's first batch is another case, for one.
        assert!(told.count() >= 10, "{damage:?} is mostly case {case}");
    }
}

/// The first is survived, and stays; nothing but the segment itself says then that the log goes on.
#[test]
fn a_segment_in_use_is_no_spare_when_its_page_rots_after_the_seal_before_it() {
    let sound = sound(256 << 10, 15);
    for seed in 0..20 {
        let (disk, mut random) = (sound.fork(seed), Random::new(seed));
        Damage::Seal
            .inflict(&disk, &mut random)
            .expect("one is sealed");
        let survived = open(&disk, 256 << 10).expect("no entry is hurt");
        assert_eq!(survived.wal.last().index, Index(15));
        let disk = disk.restart();
        let done = Damage::NewestPage.inflict(&disk, &mut random);
        let refused = open(&disk, 256 << 10).map(|recovered| recovered.report.to_string());
        let fatal = refused.expect_err(&done.expect("one is in use"));
        assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
    }
}

/// What the first of two losses leaves is survived, and the second is not taken for the log's end.
#[test]
fn a_seal_that_rots_is_there_again_when_the_name_of_the_next_segment_is_lost() {
    let sound = sound(256 << 10, 15);
    for seed in 0..20 {
        let (disk, mut random) = (sound.fork(seed), Random::new(seed));
        let done = Damage::Seal.inflict(&disk, &mut random);
        done.expect("one is sealed");
        open(&disk, 256 << 10).expect("no entry is hurt");
        let again = open(&disk, 256 << 10).expect("no entry is hurt");
        assert_eq!(again.wal.last().index, Index(15));
        assert_eq!(again.damage, None, "the seal is there again");
        let disk = disk.restart();
        let done = Damage::NewestName.inflict(&disk, &mut random);
        let refused = open(&disk, 256 << 10).map(|recovered| recovered.report.to_string());
        let fatal = refused.expect_err(&done.expect("one is in use"));
        assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
    }
}

/// What recovery says of the last batch where a sector of it cannot be read.
fn unreadable_end(disk: &SimDisk) -> String {
    let said = (0..60).map(|seed| {
        let said = judge(disk, 256 << 10, Damage::LastUnreadable, seed);
        said.unwrap_or_else(|fatal| fatal.to_string())
    });
    said.collect()
}

#[test]
fn the_last_batch_is_known_by_what_can_be_read_of_it() {
    let said = unreadable_end(&sound(256 << 10, 30));
    for case in ['D', 'H', 'O', 'P'] {
        assert!(said.contains(&format!("(case {case})")), "{case}: {said}");
    }
    let begun = (1..30).map(|entries| sound(256 << 10, entries));
    let begun = begun.filter(|disk| {
        let log = log::Log::read(disk);
        log.used.len() > 1 && log.used.last().is_some_and(|last| last.batches.len() == 1)
    });
    let said: String = begun.map(|disk| unreadable_end(&disk)).collect();
    assert!(said.contains("(case h)"), "{said}");
}

#[test]
fn what_is_not_needed_is_repaired_or_removed() {
    let disk = sound(256 << 10, 30);
    for (damage, cases) in [
        (Damage::NextPage, "e"),
        (Damage::LaterPage, "f"),
        (Damage::LaterName, "g"),
        (Damage::LaterSpare, "k"),
        (Damage::IdentityCopy, "J"),
    ] {
        let mut seen = String::new();
        for seed in 0..20 {
            seen += &judge(&disk, 256 << 10, damage, seed).expect("it is harmless");
        }
        assert!(
            cases.chars().all(|case| seen.contains(case)),
            "{damage:?}: {seen}"
        );
    }
}

#[test]
fn other_damage_is_told_without_a_case() {
    let disk = sound(256 << 10, 30);
    for damage in [
        Damage::Unreadable,
        Damage::OlderName,
        Damage::OlderPage,
        Damage::Identity,
        Damage::IdentityName,
    ] {
        for seed in 0..20 {
            let said = judge(&disk, 256 << 10, damage, seed);
            let told = said.is_err() || said.is_ok_and(|said| said.contains("at offset"));
            assert!(told, "{damage:?}");
        }
    }
}

/// A disk whose log counts on a snapshot, and that is receiving the next one.
fn with_snapshot() -> SimDisk {
    let disk = sound(256 << 10, 30);
    let opened = open_disk(Latched::new(disk.restart()), &options(256 << 10)).expect("it opens");
    let identity = opened.log.identity.clone();
    let disk = opened.log.recovered.wal.disk().inner().clone();
    let mut keeper = Keeper::new(disk.clone(), &identity, 8);
    let (restored, mut worker) = opened.start();
    let mut store = restored.store;
    for n in 1..=30 {
        let id = EntryId {
            term: Term(1),
            index: Index(n),
        };
        let noop = Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Noop, &[]);
        store.apply(&noop);
    }
    let id = store.applied();
    let mut events = VecDeque::new();
    keeper.push(SnapshotRequest::Take(Box::new(store.view())));
    while keeper.step(&mut events).expect("no fault is planned") != Kept::Idle {}
    let content = disk.content(&snapshot_name(id)).expect("it is taken");
    worker.push(StorageRequest::Mark(id));
    worker.round(&mut events).expect("no fault is planned");
    keeper.push(SnapshotRequest::Receive {
        snapshot: EntryId {
            index: Index(40),
            ..id
        },
        total_bytes: 2 * content.len() as u64,
        offset: 0,
        bytes: content.into(),
    });
    while keeper.step(&mut events).expect("no fault is planned") != Kept::Idle {}
    disk.power_loss();
    disk
}

/// The log that goes back to the beginning makes up for it.
#[test]
fn a_damaged_snapshot_is_not_missed_while_the_log_is_whole() {
    let disk = with_snapshot();
    let damages = [
        Damage::Snapshot,
        Damage::SnapshotContent,
        Damage::SnapshotName,
    ];
    for damage in damages {
        for seed in 0..50 {
            judge(&disk, 256 << 10, damage, seed).expect("nothing is missing");
        }
    }
}

#[test]
fn rot_anywhere_else_loses_nothing_silently() {
    let disk = sound(256 << 10, 30);
    let told = (0..300).filter(|seed| {
        let said = judge(&disk, 256 << 10, Damage::Anywhere, *seed);
        said.is_err() || said.is_ok_and(|said| said.contains("at offset"))
    });
    assert!(told.count() > 100);
}

/// The stated ambiguity: what makes these leave the model.
#[test]
fn the_last_batch_is_vouched_for_by_its_mark_alone() {
    let disk = sound(256 << 10, 30);
    let forgotten = |damage: Damage| {
        let lost = (0..20).filter(|seed| {
            let disk = disk.fork(*seed);
            damage
                .inflict(&disk, &mut Random::new(*seed))
                .expect("there is a last batch");
            let recovered = open(&disk, 256 << 10);
            recovered.is_ok_and(|recovered| {
                let wal = recovered.wal;
                wal.last().index < Index(30) && !wal.hard_state().lost
            })
        });
        lost.count()
    };
    assert_eq!(forgotten(Damage::LastBatch), 0);
    assert!(forgotten(Damage::LastMark) > 10);
}
