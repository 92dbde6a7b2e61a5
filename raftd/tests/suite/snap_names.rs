//! Which files are snapshots, and which of them stay.

use std::fs;

use raftd::disk::Disk;
use raftd::disk::os::OsDisk;
use raftd::disk::sim::SimDisk;
use raftd::snapshot::{
    newest_header, remove_newer, remove_older, remove_others, snapshot_id, snapshot_name,
};
use wire::types::Index;

use super::snap_support::{Maker, id, publish, store};

#[test]
fn only_what_is_of_use_stays() {
    for seed in 0..8 {
        only_what_is_of_use_stays_on(&SimDisk::new(seed, 64 << 20));
    }
}

fn only_what_is_of_use_stays_on(disk: &SimDisk) {
    let mut maker = Maker::new(1);
    let mut infos = Vec::new();
    for n in 0..3 {
        maker.put(b"key", &[n]);
        infos.push(publish(disk, maker.store.view()).unwrap());
    }
    for (name, bytes) in [
        ("snap/0000000000000009-3.snap.tmp", 1),
        ("snap/0000000000000001-3.part.tmp", 1),
        ("snap/0000000000000008-3.part.tmp", 1),
        ("snap/0000000000000009-3.part.tmp", 1),
    ] {
        disk.create(name, bytes).unwrap();
    }
    let removed = remove_others(disk, infos[1].id).unwrap();
    assert_eq!(
        disk.list("snap").unwrap(),
        ["0000000000000002-3.snap", "0000000000000009-3.part.tmp"]
    );
    assert_eq!(removed.len(), 5);
    disk.power_loss();
    let disk = disk.restart();
    assert!(remove_others(&disk, infos[1].id).unwrap().is_empty());
    remove_others(&disk, id(0, 0)).unwrap();
    assert_eq!(disk.list("snap").unwrap(), ["0000000000000009-3.part.tmp"]);
    // Of the one that is kept no more is to come.
    remove_others(&disk, id(9, 3)).unwrap();
    assert!(disk.list("snap").unwrap().is_empty());
}

/// Its last life may have ended between giving the name and syncing it.
#[test]
fn what_stays_has_its_name_for_good() {
    for seed in 0..8 {
        let disk = SimDisk::new(seed, 64 << 20);
        disk.create("snap/0000000000000001-1.snap", 1).unwrap();
        assert!(remove_others(&disk, id(1, 1)).unwrap().is_empty());
        disk.power_loss();
        assert_eq!(disk.restart().list("snap").unwrap().len(), 1);
    }
}

/// A file system's `lost+found`, an operator's copies: a start neither takes nor trips over them.
#[test]
fn what_others_put_beside_snapshots_stays() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    let kept = publish(&disk, store(3, 3).view()).unwrap();
    let snap = dir.path().join("snap");
    fs::create_dir(snap.join("lost+found")).unwrap();
    for name in ["notes.tmp", "1-1.snap", "old-0000000000000001-1.snap"] {
        fs::write(snap.join(name), "mine").unwrap();
    }
    let before = disk.list("snap").unwrap();
    assert_eq!(before.len(), 5);
    assert!(remove_others(&disk, kept.id).unwrap().is_empty());
    assert_eq!(disk.list("snap").unwrap(), before);
}

/// A start learns from it who else is a member, while the log is not read yet.
#[test]
fn the_newest_header_is_that_of_the_newest_snapshot_that_has_a_sound_one() {
    let disk = SimDisk::new(1, 64 << 20);
    assert_eq!(newest_header(&disk).unwrap(), None);
    let mut maker = Maker::new(1);
    let [_, before, newest] = [1, 2, 3].map(|n| {
        maker.put(b"key", &[n]);
        publish(&disk, maker.store.view()).unwrap().id
    });
    let applied = || newest_header(&disk).unwrap().unwrap().head.applied;
    assert_eq!(applied(), newest);
    disk.rot(&snapshot_name(newest), 100, 1);
    assert_eq!(applied(), before);
}

#[test]
fn before_the_first_snapshot_there_is_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path().to_owned()).unwrap();
    assert!(remove_others(&disk, id(0, 0)).unwrap().is_empty());
    assert!(!dir.path().join("snap").exists());
}

#[test]
fn what_the_log_does_not_know_of_yet_stays() {
    let disk = SimDisk::new(1, 64 << 20);
    for name in [
        "0000000000000001-1.snap",
        "0000000000000002-1.part.tmp",
        "0000000000000003-1.snap",
        "0000000000000004-1.part.tmp",
        "0000000000000004-1.snap",
        "0000000000000005-1.part.tmp",
        "0000000000000005-1.snap.tmp",
        "0000000000000006-1.snap",
    ] {
        disk.create(&format!("snap/{name}"), 1).unwrap();
    }
    remove_older(&disk, id(0, 0), &[]).unwrap();
    assert_eq!(disk.list("snap").unwrap().len(), 8);
    // Whoever asks to have one kept that is not there widens nothing.
    remove_older(&disk, id(4, 1), &[id(1, 1), id(1 << 61, 1 << 40)]).unwrap();
    assert_eq!(
        disk.list("snap").unwrap(),
        [
            "0000000000000001-1.snap",
            "0000000000000004-1.snap",
            "0000000000000005-1.part.tmp",
            "0000000000000005-1.snap.tmp",
            "0000000000000006-1.snap",
        ]
    );
}

/// A state that was not right since some entry leaves nothing behind that a loss of power brings back.
#[test]
fn what_holds_a_wrong_state_goes_for_good() {
    for seed in 0..8 {
        let disk = SimDisk::new(seed, 64 << 20);
        for name in [
            "0000000000000004-1.part.tmp",
            "0000000000000004-1.snap",
            "0000000000000005-1.part.tmp",
            "0000000000000005-1.snap",
            "0000000000000006-1.snap",
        ] {
            disk.create(&format!("snap/{name}"), 1).unwrap();
        }
        disk.sync_dir("snap").unwrap();
        remove_newer(&disk, Index(4)).unwrap();
        disk.power_loss();
        assert_eq!(
            disk.restart().list("snap").unwrap(),
            ["0000000000000004-1.part.tmp", "0000000000000004-1.snap"]
        );
    }
}

#[test]
fn snapshot_names_have_one_spelling() {
    let name = snapshot_name(id(0x2a, 0x1f));
    assert_eq!(name, "snap/000000000000002a-1f.snap");
    assert_eq!(
        snapshot_id("000000000000002a-1f.snap"),
        Some(id(0x2a, 0x1f))
    );
    for odd in [
        "2a-1f.snap",
        "000000000000002A-1f.snap",
        "000000000000002a-01f.snap",
        "000000000000002a-+1.snap",
        "000000000000002a.snap",
        "000000000000002a-1f.snap.tmp",
    ] {
        assert_eq!(snapshot_id(odd), None, "{odd}");
    }
}
