//! What the real disk does beyond what every disk does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raftd::disk::os::OsDisk;
use raftd::disk::{Disk, Error, ReadOnly};
use rustix::io::Errno;

/// A large file that goes at once keeps every sync waiting meanwhile.
#[test]
fn what_is_removed_is_cut_before_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    disk.create_dir("wal").unwrap();
    for (bytes, most_left) in [(4096, 4096), (8 << 20, 1 << 20)] {
        let file = disk.create("wal/a", bytes).unwrap();
        disk.remove("wal/a").unwrap();
        assert!(disk.open("wal/a").unwrap_err().is_not_found());
        let left = disk.bytes(&file).unwrap();
        assert!(left <= most_left, "{left} of {bytes}");
    }
    assert!(disk.remove("wal/a").unwrap_err().is_not_found());
}

/// Keys and values are in it, and the directory may be in one that others enter.
#[test]
fn nobody_else_may_look_into_what_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    disk.create_dir("wal").unwrap();
    disk.create("wal/a", 1).unwrap();
    for name in ["wal", "wal/a"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

#[test]
fn a_file_that_is_made_anew_has_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    fs::write(dir.path().join("a"), [7; 9000]).unwrap();
    drop(disk.create("a", 5000).unwrap());
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), [0; 5000]);
    // Nor is there one without room.
    disk.create("b", 1 << 62).unwrap_err();
    assert_eq!(disk.list("").unwrap(), ["a"]);
}

/// Else a store into its map could find the disk full, which ends the process.
#[test]
fn a_file_has_its_room_from_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    let room = || fs::metadata(dir.path().join("a")).unwrap().blocks() * 512;
    let file = disk.create("a", 1 << 20).unwrap();
    assert!(room() >= 1 << 20, "{}", room());
    disk.resize(&file, 3 << 20).unwrap();
    assert!(room() >= 3 << 20, "{}", room());
}

/// Whoever set it aside by a second name has it whole.
#[test]
fn what_has_another_name_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    drop(disk.create("a", 8 << 20).unwrap());
    fs::hard_link(dir.path().join("a"), dir.path().join("backup")).unwrap();
    disk.remove("a").unwrap();
    assert_eq!(
        fs::metadata(dir.path().join("backup")).unwrap().len(),
        8 << 20
    );
}

/// A sync that fails for want of a descriptor would be taken for one that lost something.
#[test]
fn a_directory_is_synced_without_opening_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let disk = OsDisk::new(root.clone()).unwrap();
    disk.create_dir("wal").unwrap();
    fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    for name in ["wal", ""] {
        disk.clone().sync_dir(name).unwrap();
    }
}

/// A file system that cannot sync says so: it was asked.
#[test]
fn syncs_reach_the_system() {
    let disk = OsDisk::new("/proc/self".into()).unwrap();
    let file = disk.open("comm").unwrap();
    for asked in [disk.sync(&file), disk.sync_dir("")] {
        let told = asked.unwrap_err().to_string();
        assert!(told.contains("Invalid argument"), "{told}");
    }
}

#[test]
#[should_panic(expected = "leaves the map")]
fn a_store_that_leaves_the_map_is_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    let mut file = disk.create("a", 4096).unwrap();
    disk.map(&mut file).unwrap();
    let _ = disk.store(&file, 4000, &[1; 97]);
}

#[test]
fn an_error_of_the_root_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = OsDisk::new(dir.path().join("nowhere")).unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("cannot open the data directory: "),
        "{told}"
    );
}

/// One that cannot be listed may hold all that was acknowledged.
#[test]
fn a_directory_is_listed_in_order_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    let names: Vec<_> = (10..40).map(|n| n.to_string()).collect();
    for name in names.iter().rev() {
        disk.create(name, 1).unwrap();
    }
    assert_eq!(disk.list("").unwrap(), names);
    assert_eq!(disk.list("nowhere").unwrap(), [""; 0]);
    assert!(!disk.list("10").unwrap_err().is_not_found());
}

/// Whether a process goes on, waits or ends, and with which status, depends on it.
#[test]
fn what_the_system_answers_is_told_apart() {
    type Is = fn(&Error) -> bool;
    let kinds: [(Is, &[Errno]); 6] = [
        (Error::is_no_space, &[Errno::NOSPC, Errno::DQUOT]),
        (Error::is_out_of_files, &[Errno::MFILE, Errno::NFILE]),
        (Error::is_out_of_memory, &[Errno::NOMEM]),
        (Error::is_permission, &[Errno::ACCESS, Errno::PERM]),
        (Error::is_not_found, &[Errno::NOENT]),
        (|_| false, &[Errno::IO, Errno::ROFS]),
    ];
    for (at, (_, numbers)) in kinds.iter().enumerate() {
        for number in *numbers {
            let error = Error::new("open", "a", (*number).into());
            for (other, (is, _)) in kinds[..5].iter().enumerate() {
                assert_eq!(is(&error), other == at, "{error}");
            }
        }
    }
}

/// What `done` says of a directory with a FIFO, `pipe`, that nobody else opens: at once.
fn beside_a_fifo(done: fn(PathBuf) -> Result<(), Error>) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let root = dir.path().to_owned();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(done(root)));
    let outcome = told.recv_timeout(Duration::from_secs(10));
    outcome.expect("nobody waits for the other end of a FIFO")
}

/// `raftctl wal verify` hung on one that was named like a segment. And it took a directory for a
/// segment that is not used yet, of which a start says that it cannot open it.
#[test]
fn who_looks_at_what_is_no_file_is_told_so_at_once() {
    let look: fn(PathBuf) -> _ = |root| ReadOnly::new(root).open("pipe").map(drop);
    let start: fn(PathBuf) -> _ = |root| OsDisk::new(root)?.open("pipe").map(drop);
    for open in [look, start] {
        let told = beside_a_fifo(open).unwrap_err().to_string();
        assert_eq!(told, "cannot open pipe: it is no regular file");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let folder = ReadOnly::new(dir.path().to_owned()).open("folder");
    let told = folder.unwrap_err().to_string();
    assert_eq!(told, "cannot open folder: it is no regular file");
}

/// A start hung on one that was named like an unfinished segment.
#[test]
fn who_removes_a_fifo_does_not_wait_for_its_other_end() {
    beside_a_fifo(|root| OsDisk::new(root)?.remove("pipe")).unwrap();
}
