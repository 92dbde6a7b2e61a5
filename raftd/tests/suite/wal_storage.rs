//! The storage threads on a real directory.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use raft::Ticket;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::node::io::{LoadPurpose, SnapshotEvent, SnapshotRequest, StorageEvent, StorageRequest};
use raftd::storage::{Opened, Options, Storage, open};
use wire::entry::Entry;
use wire::types::{Incarnation, Index, NodeId};

use super::{snap_support, wal_story};
use crate::wal_support::{entries, write};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_path_buf(),
        ..wal_story::options(42)
    }
}

pub(super) fn start(opened: Opened) -> (Storage, Receiver<()>) {
    let (sender, receiver) = channel();
    // The test may be over when the last event comes.
    let (_, storage) = opened.start(Box::new(move || {
        let _ = sender.send(());
    }));
    (storage, receiver)
}

pub(super) fn await_event<T>(
    storage: &mut Storage,
    woken: &Receiver<()>,
    mut wanted: impl FnMut(StorageEvent) -> Option<T>,
) -> T {
    loop {
        while let Some(event) = storage.next_event() {
            if let Some(found) = wanted(event) {
                return found;
            }
        }
        woken
            .recv_timeout(PATIENCE)
            .expect("the storage thread reports");
    }
}

pub(super) fn await_durable(storage: &mut Storage, woken: &Receiver<()>, wanted: u64) {
    await_event(storage, woken, |event| match event {
        StorageEvent::Durable { ticket, .. } if ticket >= Ticket(wanted) => Some(()),
        _ => None,
    });
}

fn submit(storage: &mut Storage, request: SnapshotRequest) {
    storage.submit(StorageRequest::Snapshot(request));
    storage.begin();
}

/// Entries `from..=to`, read by read.
fn load(storage: &mut Storage, woken: &Receiver<()>, from: u64, to: u64) -> Vec<Entry> {
    let mut all = Vec::new();
    while from + all.len() as u64 <= to {
        storage.submit(StorageRequest::Load {
            purpose: LoadPurpose::Replicate(NodeId(2)),
            from: Index(from + all.len() as u64),
            to: Index(to),
            max_bytes: 1 << 20,
        });
        storage.begin();
        let entries = await_event(storage, woken, |event| match event {
            StorageEvent::Loaded { entries, .. } => Some(entries),
            _ => None,
        });
        assert!(!entries.is_empty(), "the log has them");
        all.extend(entries);
    }
    all
}

fn refused(options: &Options) -> Fatal {
    open(options).err().expect("it is refused")
}

#[test]
fn what_was_reported_durable_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let written = entries(1, 400, 3, 2000);
    let opened = open(&options(dir.path())).unwrap();
    assert!(opened.created);
    let (mut storage, woken) = start(opened);
    for (n, chunk) in written.chunks(7).enumerate() {
        storage.submit(StorageRequest::Write(write(
            n as u64 + 1,
            3,
            chunk.to_vec(),
        )));
    }
    storage.begin();
    await_durable(&mut storage, &woken, written.len().div_ceil(7) as u64);
    assert_eq!(load(&mut storage, &woken, 100, 120), written[99..120]);
    assert!(storage.finish(|| false));

    let opened = open(&options(dir.path())).unwrap();
    assert!(!opened.created);
    assert_eq!(opened.restored.raft.last.index, Index(400));
    assert_eq!(opened.restored.raft.tail, written);
    assert_eq!(opened.restored.raft.terms, [written[0].id()]);
    assert_eq!(opened.restored.raft.hard_state.vote, Some(NodeId(1)));
    let (mut storage, woken) = start(opened);
    assert_eq!(load(&mut storage, &woken, 1, 400), written);
    assert!(storage.finish(|| false));
}

#[test]
fn a_report_that_nobody_waits_for_wakes_nobody_and_is_found_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    let since = Instant::now();
    let patience = || assert!(since.elapsed() < PATIENCE, "the write is not reported");
    storage.want_all(false);
    storage.submit(StorageRequest::Write(write(1, 1, entries(1, 3, 1, 10))));
    storage.begin();
    while storage.next_event().is_none() {
        patience();
    }
    assert!(woken.try_recv().is_err(), "it was not asked for");
    // Who asks from now on finds it, or is woken: never neither.
    storage.submit(StorageRequest::Write(write(2, 1, entries(4, 3, 1, 10))));
    storage.begin();
    while !storage.want_all(true) && woken.try_recv().is_err() {
        storage.want_all(false);
        patience();
    }
    assert!(storage.next_event().is_some());
    assert!(storage.finish(|| false));
}

/// Whoever asked for the end may leave, and nobody else gets the directory before it is left.
#[test]
fn a_disk_that_is_never_done_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (go_on, hangs) = channel::<()>();
    let hangs = Mutex::new(hangs);
    let notify = Box::new(move || {
        let _ = hangs.lock().unwrap().recv();
    });
    let (_, storage) = open(&options(dir.path())).unwrap().start(notify);
    storage.submit(StorageRequest::Write(write(1, 1, entries(1, 3, 1, 10))));
    let mut looks = 0;
    let finished = storage.finish(|| {
        looks += 1;
        looks == 2
    });
    assert!(!finished);
    assert_eq!(
        refused(&options(dir.path())).status,
        ExitStatus::Unavailable
    );
    drop(go_on);
    let began = Instant::now();
    while open(&options(dir.path())).is_err() {
        assert!(began.elapsed() < PATIENCE, "it is locked still");
        thread::yield_now();
    }
}

#[test]
fn the_formed_record_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&options(dir.path())).unwrap();
    assert!(!opened.restored.raft.formed);
    let (mut storage, woken) = start(opened);
    let formed = vec![(NodeId(1), Incarnation(77)), (NodeId(2), Incarnation(9))];
    storage.submit(StorageRequest::Form(formed.clone()));
    await_event(&mut storage, &woken, |event| {
        matches!(event, StorageEvent::Formed).then_some(())
    });
    assert!(storage.finish(|| false));
    let opened = open(&options(dir.path())).unwrap();
    assert_eq!(opened.identity.formed, formed);
    assert!(opened.restored.raft.formed);
}

#[test]
fn a_snapshot_keeps_its_pace_whatever_wakes_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&Options {
        snapshot_rate_bytes: 1 << 20,
        ..options(dir.path())
    });
    let (mut storage, woken) = start(opened.unwrap());
    let view = snap_support::store(8_000, 200).view();
    let began = Instant::now();
    submit(&mut storage, SnapshotRequest::Take(Box::new(view)));
    let bytes = loop {
        // It is no work, but wakes the thread.
        submit(&mut storage, SnapshotRequest::Expect(0));
        let _ = woken.recv_timeout(Duration::from_millis(1));
        let taken = std::iter::from_fn(|| storage.next_event()).find_map(|event| match event {
            StorageEvent::Snapshot(SnapshotEvent::Taken(file)) => Some(file.bytes),
            _ => None,
        });
        if let Some(bytes) = taken {
            break bytes;
        }
        assert!(began.elapsed() < PATIENCE, "it is taken");
    };
    assert!(storage.finish(|| false));
    // It is written, and read again. What is in hand at the begin and at the end of both is not
    // waited for.
    let paced_bytes = 2 * bytes - 512 * 1024;
    assert!(bytes > 500_000, "{bytes}");
    assert!(
        began.elapsed() > Duration::from_micros(paced_bytes * 1_000_000 / (1 << 20)),
        "{bytes} bytes in {:?}",
        began.elapsed()
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&options(dir.path())).unwrap();
    assert_eq!(
        refused(&options(dir.path())).status,
        ExitStatus::Unavailable
    );
    drop(opened);
    assert!(open(&options(dir.path())).is_ok());
}

#[test]
fn identity_without_log_is_damage_and_so_is_the_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, woken) = start(open(&options(dir.path())).unwrap());
    storage.submit(StorageRequest::Write(write(1, 1, entries(1, 3, 1, 10))));
    await_durable(&mut storage, &woken, 1);
    assert!(storage.finish(|| false));

    let identity = dir.path().join("IDENTITY");
    let aside = dir.path().join("aside");
    std::fs::rename(&identity, &aside).unwrap();
    let fatal = refused(&options(dir.path()));
    assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
    std::fs::rename(&aside, &identity).unwrap();
    assert!(open(&options(dir.path())).is_ok());

    std::fs::rename(dir.path().join("wal"), &aside).unwrap();
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    let fatal = refused(&options(dir.path()));
    assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
}

#[test]
fn an_empty_directory_needs_to_be_told_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let nameless = Options {
        create: None,
        ..options(dir.path())
    };
    assert_eq!(refused(&nameless).status, ExitStatus::Config);
}

#[test]
fn segment_sizes_out_of_bounds_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for segment_bytes in [0, 4096, 128 * 1024, 256 * 1024 + 1, 2 << 30] {
        let odd = Options {
            segment_bytes,
            ..options(dir.path())
        };
        assert_eq!(refused(&odd).status, ExitStatus::Config);
    }
}

/// Old segments keep their size; the log goes on in new ones of the new size.
#[test]
fn the_segment_size_may_change_from_life_to_life() {
    let dir = tempfile::tempdir().unwrap();
    let written = entries(1, 60, 1, 20_000);
    let sizes = [256, 1024, 256, 512, 320, 256].map(|kib| kib * 1024);
    for (life, (segment_bytes, chunk)) in sizes.into_iter().zip(written.chunks(10)).enumerate() {
        let options = Options {
            segment_bytes,
            ..options(dir.path())
        };
        let opened = open(&options).unwrap();
        assert_eq!(opened.restored.raft.last.index, Index(10 * life as u64));
        let (mut storage, woken) = start(opened);
        storage.submit(StorageRequest::Write(write(1, 1, chunk.to_vec())));
        storage.begin();
        await_durable(&mut storage, &woken, 1);
        assert!(storage.finish(|| false));
    }
    let opened = open(&options(dir.path())).unwrap();
    assert_eq!(opened.restored.raft.tail, written);
    let segments = std::fs::read_dir(dir.path().join("wal")).unwrap();
    let bytes = segments.map(|segment| segment.unwrap().metadata().unwrap().len());
    assert_eq!(opened.wal_bytes(), bytes.sum::<u64>());
}
