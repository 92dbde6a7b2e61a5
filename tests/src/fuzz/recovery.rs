//! A data directory that holds anything: the log, and the file that says whose it is.

mod image;

use std::path::PathBuf;
use std::time::Duration;

use raft::{HardState, Instant, Raft, Restored, Ticket, Write};
use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, Latched, Meter};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::storage::{OpenedLog, Options, Scrubbing, open_log};
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::identity::{IDENTITY_NAME, Identity, IdentityError, SLOT_BYTES};
use raftd::wal::segment::{SegmentMaker, WAL_DIR};
use raftd::wal::{Error, Pending, Progress, Recovered, Wal, examine};
use wire::entry::Entry;
use wire::limits::COUNTER_MAX;
use wire::membership::Membership;
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId};

use super::disk::{entry, memberships_in};
use super::script::Script;

const SEGMENT_BYTES: u64 = 256 * 1024;
const DISK_BYTES: u64 = 32 * 1024 * 1024;

/// Loads of one life of [`rot`], at most.
const LOADS_MAX: usize = 32;

/// A log as a node wrote it, then anything done to its files, with and without the right
/// checksums: recovery says what is damaged, and says it again when asked again, or brings a log
/// that
/// - holds together: every entry can be read that is not named as faulty, and the Raft core takes it;
/// - is found again as it is, also after a loss of power;
/// - can be written on, and is found again with what was written.
///
/// Who only looks at it is told the same, and leaves it as it is.
pub fn recovery(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (disk, forged) = image::draw(&mut script);
    let before = files(&disk);
    let looked = examine(&disk, Some(own_identity().owner()), |_| {});
    assert_eq!(before, files(&disk), "looking changes nothing");
    let looked = looked.map(|examination| examination.verdict);
    match open(&disk) {
        Err(fatal) => {
            check_refusal(&fatal);
            assert_eq!(
                before,
                files(&disk),
                "a log that is refused is left as it is"
            );
            let again = open(&disk.restart()).err();
            assert_eq!(
                again,
                Some(fatal),
                "refused for another reason when asked again"
            );
        }
        Ok(opened) => {
            let found = content(&opened.recovered);
            match looked {
                Ok(Ok(report)) if report.lost => {
                    let anew = opened.recovered.wal.hard_state().lost;
                    assert!(anew || opened.created, "{report}, but it opens");
                }
                Ok(Ok(report)) => assert_eq!(report.last, opened.recovered.report.last),
                _ => assert!(opened.created, "{looked:?}, but it opens"),
            }
            let disk = disk.restart();
            let again = open(&disk).expect("what was opened opens again");
            assert_eq!(
                content(&again.recovered),
                found,
                "another log when asked again"
            );
            // Batches with the numbers of others may end the log twice; no more than that.
            let torn_again = again.recovered.report.torn_bytes > 0;
            assert!(forged || !torn_again, "torn again");
            disk.power_loss();
            let disk = disk.restart();
            let mut opened = open(&disk).expect("what was opened survives a loss of power");
            assert_eq!(
                content(&opened.recovered),
                found,
                "another log without power"
            );
            if !found.faulty.is_empty() {
                return;
            }
            let written = write_on(&mut opened.recovered.wal, found);
            disk.power_loss();
            let opened = open(&disk.restart()).expect("what was written on opens again");
            assert_eq!(
                content(&opened.recovered),
                written,
                "what was written is not there"
            );
        }
    }
}

/// A sound log that is damaged while it is open: whatever is asked of it comes as it was written,
/// or not at all.
pub fn rot(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let disk = image::draw_sound(&mut script);
    let Ok(opened) = open(&disk) else {
        panic!("a log that nobody touched is refused");
    };
    let found = content(&opened.recovered);
    let wal = opened.recovered.wal;
    let mut forged = false;
    for _ in 0..LOADS_MAX {
        if script.is_over() {
            break;
        }
        forged |= image::damage(&disk, &mut script);
        let from = script.index(Index(1));
        let to = script.index(wal.last().index);
        let bytes = script.pick(&[0, 1_000, 100_000, usize::MAX]);
        match wal.load(from, to, bytes) {
            Ok(entries) => {
                let skipped = from.0.saturating_sub(found.base.index.0 + 1);
                let skipped = usize::try_from(skipped).expect("64 bits");
                let written = found.entries.iter().skip(skipped);
                assert!(written.len() >= entries.len(), "entries that never were");
                // With the right checksum anything may stand in an entry but its identity.
                assert!(
                    written
                        .zip(&entries)
                        .all(|(was, is)| was.id() == is.id() && (forged || was == is)),
                    "other entries than were written"
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// IDENTITY with anything in it: damaged, or an identity, the same each time, that can be updated.
pub fn identity(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let disk = image::draw_identity(&mut script);
    match Identity::read(&disk) {
        Err(IdentityError::Damaged) => {
            let again = Identity::read(&disk.restart());
            assert!(matches!(again, Err(IdentityError::Damaged)), "{again:?}");
        }
        Err(IdentityError::Disk(error)) => {
            let bytes = disk.content(IDENTITY_NAME).map(|bytes| bytes.len());
            assert_ne!(bytes, Some(2 * SLOT_BYTES), "{error}");
        }
        Ok(None) => assert!(disk.content(IDENTITY_NAME).is_none()),
        Ok(Some(found)) => {
            let again = || Identity::read(&disk.restart()).expect("it was read before");
            assert_eq!(
                again().as_ref(),
                Some(&found),
                "another one when asked again"
            );
            disk.power_loss();
            assert_eq!(again().as_ref(), Some(&found), "another one without power");
            let updated = Identity {
                formed: vec![(NodeId(1), Incarnation(7))],
                ..found
            };
            updated.update(&disk.restart()).expect("it can be updated");
            assert_eq!(again(), Some(updated));
        }
    }
}

fn own_identity() -> Identity {
    Identity {
        cluster: ClusterId(0xc1),
        node: NodeId(1),
        incarnation: Incarnation(77),
        epoch: Epoch(5),
        formed: Vec::new(),
        // Others have what is damaged here.
        members: (1..=3)
            .map(|n| (NodeId(n), format!("127.0.0.1:740{n}")))
            .collect(),
        next_epoch: None,
    }
}

fn open(disk: &SimDisk) -> Result<OpenedLog<Latched<SimDisk>>, Fatal> {
    let options = Options {
        data_dir: PathBuf::new(),
        segment_bytes: SEGMENT_BYTES,
        soft_free_bytes: 0,
        tail_bytes: 100_000,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        create: Some(own_identity()),
        seed: disk.operations(),
    };
    open_log(Latched::new(disk.clone()), &options)
}

fn make_spare(wal: &mut Wal<Latched<SimDisk>>) -> Result<(), Error> {
    let (owner, id) = (own_identity().owner(), wal.next_segment());
    let seed = wal.disk().inner().operations();
    let maker = SegmentMaker::begin(wal.disk(), owner, id, SEGMENT_BYTES, seed)?;
    wal.add_spare(maker.finish(wal.disk())?);
    Ok(())
}

/// Makes everything that waits durable.
fn write(wal: &mut Wal<Latched<SimDisk>>, pending: &mut Pending) -> Result<(), Error> {
    loop {
        match wal.write(pending)? {
            Progress::Idle => return Ok(()),
            Progress::Durable(_) => {}
            Progress::NoRoom => make_spare(wal)?,
        }
    }
}

fn check_refusal(fatal: &Fatal) {
    let known = [ExitStatus::Damaged, ExitStatus::Io, ExitStatus::Config];
    assert!(known.contains(&fatal.status), "{fatal}");
    assert!(
        !fatal.what.is_empty() && !fatal.remedy.is_empty(),
        "{fatal}"
    );
    assert!(
        fatal.status != ExitStatus::Damaged || !fatal.place.is_empty(),
        "{fatal}"
    );
}

/// Every file of the log with what it holds.
fn files(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list(WAL_DIR).expect("the machine is up").into_iter();
    let files = names.map(|name| {
        let content = disk.content(&format!("{WAL_DIR}/{name}"));
        (name, content)
    });
    files.collect()
}

/// What a log says.
#[derive(Debug, PartialEq)]
struct Content {
    hard_state: HardState,
    commit: Index,
    snapshot: EntryId,
    base: EntryId,
    /// All of them, or those before the first faulty one.
    entries: Vec<Entry>,
    faulty: Vec<wire::entry::Identity>,
}

/// Reads everything back, compares it with what recovery said, and has the Raft core take it.
fn content<D: Disk>(recovered: &Recovered<D>) -> Content {
    let wal = &recovered.wal;
    let (base, last) = (wal.base(), wal.last());
    let faulty = recovered.faulty.clone();
    let first_faulty = faulty.first().map(|faulty| faulty.id.index);
    let end = first_faulty.map_or(last.index, Index::prev);
    assert!(base.index <= wal.snapshot().index, "the front is missing");
    let mut entries: Vec<Entry> = Vec::new();
    while base.index.0 + (entries.len() as u64) < end.0 {
        let next = Index(base.index.0 + entries.len() as u64 + 1);
        let more = wal.load(next, last.index, 100_000);
        let more = more.expect("what was recovered can be read");
        assert!(!more.is_empty(), "a load of entry {next} gives nothing");
        entries.extend(more);
    }
    for (place, entry) in entries.iter().enumerate() {
        assert_eq!(entry.index().0, base.index.0 + place as u64 + 1, "a gap");
    }
    let mut terms: Vec<_> = entries.iter().map(Entry::id).collect();
    terms.dedup_by_key(|id| id.term);
    assert!(
        recovered.terms.starts_with(&terms),
        "the first entry of each term"
    );
    let mut tail = recovered.tail.iter();
    let behind = tail.all(|entry| Some(entry.index()) > first_faulty);
    assert!(
        behind && faulty.len() as u64 <= last.index.0 - end.0,
        "what is faulty is not read"
    );
    if faulty.is_empty() {
        assert_eq!(recovered.terms, terms, "the first entry of each term");
        assert!(entries.ends_with(&recovered.tail), "the tail is the end");
    }
    let told = recovered.memberships.iter();
    let before_faulty = told.take_while(|(id, _)| id.index <= end).cloned();
    assert_eq!(
        before_faulty.collect::<Vec<_>>(),
        memberships_in(entries.iter()),
        "who is a member"
    );
    let is_faulty = |id: EntryId| faulty.iter().any(|faulty| faulty.id == id);
    let told = &recovered.memberships;
    assert!(
        told.is_sorted_by(|a, b| a.0.index < b.0.index)
            && told
                .iter()
                .all(|(id, _)| !is_faulty(*id) && id.index <= last.index),
        "members by what is not in the log"
    );
    let applied = wal.snapshot().index;
    let restored = Restored {
        hard_state: wal.hard_state(),
        commit: wal.commit(),
        base: wal.base(),
        applied,
        memberships: told
            .iter()
            .filter(|(id, _)| id.index > applied)
            .cloned()
            .collect(),
        terms: recovered.terms.clone(),
        last,
        tail: recovered.tail.clone(),
        formed: true,
        faulty: first_faulty,
        ..Restored::empty(Membership::initial(&[(NodeId(1), "a".to_owned())], &[]))
    };
    let config = raft::Config {
        id: NodeId(1),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        heartbeat: Duration::from_millis(40),
        window_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        life: 0,
        seed: 1,
    };
    let _ = Raft::new(config, restored, Instant::default());
    Content {
        hard_state: wal.hard_state(),
        commit: wal.commit(),
        snapshot: wal.snapshot(),
        base,
        entries,
        faulty,
    }
}

/// A term later, if there is one: a vote, entries that replace what is not committed, and a whole segment more.
fn write_on(wal: &mut Wal<Latched<SimDisk>>, found: Content) -> Content {
    let (snapshot, base) = (found.snapshot, found.base);
    let kept = found.commit.max(snapshot.index);
    if found.hard_state.term.0 == COUNTER_MAX || kept.0 > COUNTER_MAX - 4 {
        return found;
    }
    let term = found.hard_state.term.next();
    let (commit, mut entries) = (found.commit, found.entries);
    let hard_state = HardState {
        term,
        vote: Some(NodeId(1)),
        lost: false,
    };
    let mut pending = Pending::default();
    pending.push(Write {
        ticket: Ticket(1),
        hard_state,
        reset: None,
        truncate_from: None,
        entries: Vec::new(),
        commit,
    });
    let first = kept.next();
    let cuts = base.index.0 + (entries.len() as u64) > kept.0;
    entries.truncate(usize::try_from(kept.0 - base.index.0).expect("logs are short"));
    for (ticket, body_bytes) in (2_u64..).zip([1, 100_000, 100_000, 10]) {
        let entry = entry(term.0, base.index.0 + entries.len() as u64 + 1, body_bytes);
        pending.push(Write {
            ticket: Ticket(ticket),
            hard_state,
            reset: None,
            truncate_from: (cuts && entry.index() == first).then_some(first),
            entries: vec![entry.clone()],
            commit,
        });
        entries.push(entry);
        write(wal, &mut pending).expect("no fault is planned");
    }
    Content {
        hard_state,
        commit,
        snapshot,
        base,
        entries,
        faulty: Vec::new(),
    }
}
