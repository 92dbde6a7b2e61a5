//! What the two threads of the storage hand each other, on a real directory.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use raftd::node::io::{LoadPurpose, SnapshotRequest, StorageEvent, StorageRequest};
use raftd::storage::{Options, Scrubbing, Storage, open};
use raftd::wal::segment::segment_name;
use raftd_tests::wait::until_true;
use wire::entry::{Entry, Identity};
use wire::peer::DiskState;
use wire::types::{Incarnation, Index, NodeId};

use super::snap_support;
use super::wal_storage::{PATIENCE, await_durable, await_event, options, start};
use crate::wal_support::{entries, write};

/// A segment holds one of these, and no second one beside its reserve.
const LARGE_BYTES: usize = 100_000;

/// Writes entries, each in a segment of its own, one after the other.
fn fill(storage: &mut Storage, woken: &Receiver<()>, entries: &[Entry]) {
    for entry in entries {
        let ticket = entry.index().0;
        let write = write(ticket, 1, vec![entry.clone()]);
        storage.submit(StorageRequest::Write(write));
        storage.begin();
        await_durable(storage, woken, ticket);
    }
}

fn segment(dir: &Path, id: u64) -> PathBuf {
    dir.join(segment_name(id))
}

/// From now on the bytes of this entry, in the first segment, are others.
fn spoil(dir: &Path, entry: &Entry) {
    let path = segment(dir, 1);
    let held = fs::read(&path).unwrap();
    let mut places = held.windows(entry.bytes().len());
    let at = places.position(|bytes| bytes == entry.bytes());
    let last = at.expect("it is there") + entry.bytes().len() - 1;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[!held[last]], last as u64).unwrap();
}

fn await_faulty(storage: &mut Storage, woken: &Receiver<()>) -> Vec<Identity> {
    await_event(storage, woken, |event| match event {
        StorageEvent::Faulty(faulty) => Some(faulty),
        _ => None,
    })
}

/// More than are kept ready: those that the log has taken are replaced.
#[test]
fn the_log_gets_spares_as_long_as_it_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    fill(&mut storage, &woken, &entries(1, 40, 1, LARGE_BYTES));
    assert!(storage.finish(|| false));
}

/// Nothing else is to be done for it: not even a write.
#[test]
fn the_room_on_the_disk_is_told_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&Options {
        soft_free_bytes: u64::MAX,
        ..options(dir.path())
    });
    let (mut storage, woken) = start(opened.unwrap());
    let room = await_event(&mut storage, &woken, |event| match event {
        StorageEvent::Durable { disk, .. } => Some(disk),
        _ => None,
    });
    assert_eq!(room, DiskState::Soft);
    assert!(storage.finish(|| false));
}

#[test]
fn what_the_log_has_forgotten_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    let written = entries(1, 8, 1, LARGE_BYTES);
    fill(&mut storage, &woken, &written);
    for covered in [3, 6] {
        let covered = written[covered].id();
        storage.submit(StorageRequest::Mark(covered));
        storage.submit(StorageRequest::Compact {
            upto: covered.index,
            keep_bytes: 0,
        });
        storage.begin();
        let base = await_event(&mut storage, &woken, |event| match event {
            StorageEvent::Compacted { base, .. } => Some(base),
            _ => None,
        });
        assert_eq!(base, covered);
        // Each entry is in the segment of its number, and the oldest go first.
        until_true("its segments are removed", PATIENCE, || {
            !segment(dir.path(), base.index.0).exists()
        });
    }
    assert!(storage.finish(|| false));
}

/// Who reads hears nothing, and the node hears what is damaged: others are asked for it.
#[test]
fn damage_that_a_read_finds_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    let written = entries(1, 4, 1, LARGE_BYTES);
    fill(&mut storage, &woken, &written);
    spoil(dir.path(), &written[0]);
    storage.submit(StorageRequest::Load {
        purpose: LoadPurpose::Replicate(NodeId(2)),
        from: Index(1),
        to: Index(4),
        max_bytes: 1 << 20,
    });
    storage.begin();
    let read = await_event(&mut storage, &woken, |event| match event {
        StorageEvent::Loaded { entries, .. } => Some(entries),
        _ => None,
    });
    assert_eq!(read, []);
    assert_eq!(await_faulty(&mut storage, &woken), [written[0].identity()]);
    assert!(storage.finish(|| false));
}

#[test]
fn damage_that_a_scrub_finds_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&Options {
        scrubbing: Scrubbing {
            rate_bytes: 1 << 30,
            interval: Duration::from_millis(1),
        },
        ..options(dir.path())
    });
    let (mut storage, woken) = start(opened.unwrap());
    let written = entries(1, 4, 1, LARGE_BYTES);
    fill(&mut storage, &woken, &written);
    spoil(dir.path(), &written[0]);
    assert_eq!(await_faulty(&mut storage, &woken), [written[0].identity()]);
    assert!(storage.finish(|| false));
}

/// The last of it needs a second round.
#[test]
fn the_end_waits_for_what_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _woken) = start(open(&options(dir.path())).unwrap());
    let written = entries(1, 3, 1, 1_000);
    let formed = vec![(NodeId(1), Incarnation(77))];
    storage.submit(StorageRequest::Form(formed.clone()));
    storage.submit(StorageRequest::Write(write(1, 1, written.clone())));
    assert!(storage.finish(|| false));
    let opened = open(&options(dir.path())).unwrap();
    assert_eq!(opened.restored.raft.tail, written);
    assert_eq!(opened.identity.formed, formed);
}

/// As long as a process has it open, its room is not free when it is removed.
#[test]
fn a_segment_that_is_full_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    fill(&mut storage, &woken, &entries(1, 4, 1, LARGE_BYTES));
    let full = segment(dir.path(), 1);
    until_true("the first segment is closed", PATIENCE, || {
        let mut open = fs::read_dir("/proc/self/fd").unwrap();
        let leads_to = |fd: PathBuf| fs::read_link(fd).is_ok_and(|path| path == full);
        !open.any(|fd| leads_to(fd.unwrap().path()))
    });
    assert!(storage.finish(|| false));
}

#[test]
fn the_end_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&Options {
        segment_bytes: 16 << 20,
        snapshot_rate_bytes: 1,
        ..options(dir.path())
    });
    let (storage, _woken) = start(opened.unwrap());
    // From then on a snapshot takes its time.
    until_true("there is a spare", PATIENCE, || {
        segment(dir.path(), 2).exists()
    });
    let view = Box::new(snap_support::store(8_000, 200).view());
    storage.submit(StorageRequest::Snapshot(SnapshotRequest::Take(view)));
    let half_made = |name| {
        let listed = fs::read_dir(dir.path().join(name)).into_iter().flatten();
        let mut names = listed.map(|file| file.unwrap().file_name());
        names.any(|name| name.to_str().unwrap().ends_with(".tmp"))
    };
    until_true("it is begun", PATIENCE, || half_made("snap"));
    assert!(storage.finish(|| false));
    assert!(!half_made("wal") && !half_made("snap"));
}
