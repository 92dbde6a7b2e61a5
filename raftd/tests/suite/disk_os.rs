//! What the real disk does beyond what every disk does.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raftd::disk::os::OsDisk;
use raftd::disk::{Disk, Error, ReadOnly};

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
