//! What the real disk does beyond what every disk does.

use std::fs;

use raftd::disk::Disk;
use raftd::disk::os::OsDisk;

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
