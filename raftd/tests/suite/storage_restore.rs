//! A new cluster from a backup takes an empty directory, and nobody else's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use fs2::FileExt;
use raftd::disk::Meter;
use raftd::disk::os::OsDisk;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::snapshot::snapshot_name;
use raftd::storage::{Options, RESTORE_PASSES, Restored, open, restore};

use crate::snap_support::{publish, store};
use crate::wal_story::{SEGMENT_BYTES, options};
use crate::wal_support::membership_entry;

/// A snapshot, as a backup has it.
fn backup(dir: &Path) -> PathBuf {
    let disk = OsDisk::new(dir.to_path_buf()).unwrap();
    let store = store(20, 10);
    publish(&disk, store.view()).unwrap();
    dir.join(snapshot_name(store.applied()))
}

fn restored(file: &Path, data: &Path) -> Result<Restored, Fatal> {
    restore(file, data, None, SEGMENT_BYTES, &Meter::default())
}

/// Whoever waits sees how far it is.
#[test]
fn a_restore_moves_as_many_bytes_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_path_buf()).unwrap();
    let store = store(100, 100_000);
    publish(&disk, store.view()).unwrap();
    let file = dir.path().join(snapshot_name(store.applied()));
    let file_bytes = fs::metadata(&file).unwrap().len();
    let meter = Meter::default();
    restore(&file, &dir.path().join("data"), None, SEGMENT_BYTES, &meter).unwrap();
    let off = meter.bytes().abs_diff(RESTORE_PASSES * file_bytes);
    assert!(off < file_bytes / 2, "{meter:?} of files of {file_bytes}");
}

/// Its state goes on in a history of its own, in which the old members have no part but for their ids.
#[test]
fn each_restore_is_another_cluster_and_another_life() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(20, 10);
    let index = store.applied().index.next().0;
    store.apply(&membership_entry(index, 7));
    publish(
        &OsDisk::new(dir.path().to_path_buf()).unwrap(),
        store.view(),
    )
    .unwrap();
    let file = dir.path().join(snapshot_name(store.applied()));
    let before = store.membership().unwrap().newest;
    let made = ["one", "other"].map(|name| {
        let data_dir = dir.path().join(name);
        let made = restored(&file, &data_dir).unwrap();
        let create = None;
        let opened = open(&Options {
            data_dir,
            create,
            ..options(1)
        });
        let held = opened.unwrap().restored;
        assert_eq!(held.raft.base, made.snapshot);
        assert_eq!(made.snapshot.index, store.applied().index.next());
        assert_eq!(made.snapshot.term, store.applied().term.next());
        let members = held.store.membership().unwrap();
        assert_eq!(members.newest, before, "ids are used once");
        assert!(members.is_alone(made.identity.node));
        assert_eq!(members.members[0].name, "", "it was another node's");
        made.identity
    });
    let [one, other] = &made;
    assert_ne!(one.cluster, other.cluster);
    assert_ne!(one.epoch, other.epoch);
    assert_ne!(one.incarnation, other.incarnation);
}

/// Who comes second leaves alone what the first one made, at whatever moment it finds out.
#[test]
fn of_two_at_once_one_wins_and_keeps_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    for round in 0..8 {
        let data = dir.path().join(format!("data{round}"));
        let start = Barrier::new(2);
        let both = thread::scope(|scope| {
            let one = || {
                start.wait();
                restored(&file, &data)
            };
            let threads = [scope.spawn(one), scope.spawn(one)];
            threads.map(|thread| thread.join().unwrap())
        });
        let won = both.iter().flatten().collect::<Vec<_>>();
        let lost = both.iter().filter_map(|one| one.as_ref().err());
        let lost = lost.collect::<Vec<_>>();
        assert_eq!((won.len(), lost.len()), (1, 1), "{lost:?}");
        let told = [ExitStatus::Usage, ExitStatus::Unavailable].contains(&lost[0].status);
        assert!(told, "{}", lost[0]);
        let opened = open(&Options {
            data_dir: data,
            create: None,
            ..options(round)
        });
        assert_eq!(opened.unwrap().identity, won[0].identity);
    }
}

/// What a refused start leaves behind is nobody's data, as long as nobody holds it.
#[test]
fn a_lock_alone_is_as_good_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let lock = File::create(data.join("LOCK")).unwrap();
    FileExt::lock_exclusive(&lock).unwrap();
    let fatal = restored(&file, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Unavailable, "{fatal}");
    assert!(data.join("LOCK").exists(), "it is somebody's");
    drop(lock);

    let nowhere = dir.path().join("nowhere");
    let fatal = restored(&nowhere, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Io, "{fatal}");
    let left = fs::read_dir(&data).unwrap().map(|name| name.unwrap());
    let left = left.map(|name| name.file_name()).collect::<Vec<_>>();
    assert_eq!(left, ["LOCK"], "nothing else is left of it");
    restored(&file, &data).unwrap();
    let fatal = restored(&file, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Usage, "{fatal}");
}

/// Its own file system, mounted where the service manager wants the data.
#[test]
fn the_root_of_a_file_system_is_as_good_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    restored(&file, &data).unwrap();
    assert!(data.join("lost+found").exists(), "it is somebody's");
    let fatal = restored(&file, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Usage, "{fatal}");
}

/// What was made so far is in a directory of its own, which nobody else makes. It is no reason to take
/// anything else that is there.
#[test]
fn one_that_was_killed_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    let data = dir.path().join("data");
    let unfinished = data.join("restore.tmp");
    let was_killed = || {
        fs::create_dir_all(unfinished.join("wal")).unwrap();
        fs::create_dir_all(unfinished.join("snap")).unwrap();
        fs::write(unfinished.join("wal/0000000000000001.wal"), b"a half").unwrap();
        fs::write(unfinished.join("snap/of-another"), b"all of it").unwrap();
        fs::write(unfinished.join("IDENTITY"), b"another half").unwrap();
    };
    was_killed();
    let refuses_beside = |name| {
        let whose = data.join(name);
        fs::create_dir(&whose).unwrap();
        let fatal = restored(&file, &data).unwrap_err();
        assert_eq!(fatal.status, ExitStatus::Usage, "{name}: {fatal}");
        fs::remove_dir(&whose).unwrap();
    };
    refuses_beside("wal");
    refuses_beside("notes");
    assert!(unfinished.join("IDENTITY").exists(), "nothing was touched");
    fs::rename(unfinished.join("IDENTITY"), dir.path().join("aside")).unwrap();
    fs::rename(unfinished.join("wal"), dir.path().join("wal")).unwrap();
    refuses_beside("wal");

    let made = restored(&file, &data).unwrap();
    assert!(!unfinished.exists());
    assert!(!data.join("snap/of-another").exists());
    let opened = open(&Options {
        data_dir: data.clone(),
        create: None,
        ..options(1)
    });
    assert_eq!(opened.unwrap().identity, made.identity);
    was_killed();
    let fatal = restored(&file, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Usage, "a node's data: {fatal}");
}

/// IDENTITY comes last: until then all is the unfinished restore's, wherever it was when that was killed.
#[test]
fn one_that_was_killed_while_it_moved_what_it_had_made_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    for moved in 0..=2 {
        let data = dir.path().join(format!("data-{moved}"));
        restored(&file, &data).unwrap();
        let unfinished = data.join("restore.tmp");
        fs::create_dir(&unfinished).unwrap();
        for name in ["IDENTITY", "wal", "snap"].into_iter().take(3 - moved) {
            fs::rename(data.join(name), unfinished.join(name)).unwrap();
        }
        let started = || {
            let first = Options {
                data_dir: data.clone(),
                ..options(1)
            };
            open(&first).map(|opened| opened.identity)
        };
        let fatal = started().unwrap_err();
        assert_eq!(fatal.status, ExitStatus::Config, "no empty node: {fatal}");
        assert!(fatal.remedy.contains("snapshot restore"), "{fatal}");

        let fatal = restored(&dir.path().join("nowhere"), &data).unwrap_err();
        assert_eq!(fatal.status, ExitStatus::Io, "{fatal}");
        let left = fs::read_dir(&data).unwrap().map(|name| name.unwrap());
        let left = left.map(|name| name.file_name()).collect::<Vec<_>>();
        assert_eq!(left, ["LOCK"], "{moved}: nothing else is left of it");
        let made = restored(&file, &data).unwrap();
        assert_eq!(started().unwrap(), made.identity);
    }
}

#[test]
fn a_directory_that_it_made_goes_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let fatal = restored(&dir.path().join("nowhere"), &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Io, "{fatal}");
    assert!(!data.exists());
}

/// What is in it would be overwritten, and then removed.
#[test]
fn a_directory_that_cannot_be_looked_into_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = backup(dir.path());
    let data = dir.path().join("data");
    fs::write(&data, b"no directory").unwrap();
    let fatal = restored(&file, &data).unwrap_err();
    assert_eq!(fatal.status, ExitStatus::Io, "{fatal}");
    assert!(fatal.what.contains("cannot be read"), "{fatal}");
    assert_eq!(fs::read(&data).unwrap(), b"no directory");
}
