//! After the first failure of a disk what is on it is unknown, until the next start (rules D3).

use raftd::disk::sim::{Fault, Operation, SimDisk, SimFile};
use raftd::disk::{Disk, Error, Latched};

/// A disk with two files, the second of which is mapped.
fn disk() -> (SimDisk, Latched<SimDisk>, SimFile, SimFile) {
    let disk = SimDisk::new(1, 1 << 20);
    let plain = disk.create("plain", 512).unwrap();
    let mut mapped = disk.create("mapped", 512).unwrap();
    disk.map(&mut mapped).unwrap();
    (disk.clone(), Latched::new(disk), plain, mapped)
}

/// All that can be asked of a disk, in turn: what became of it.
fn ask(disk: &Latched<SimDisk>, plain: &SimFile, mapped: &mut SimFile) -> Vec<Result<(), Error>> {
    vec![
        disk.create_dir("dir"),
        disk.list("").map(drop),
        disk.create("new", 512).map(drop),
        disk.resize(plain, 512),
        disk.open("plain").map(drop),
        disk.bytes(plain).map(drop),
        disk.read_at(plain, 0, &mut [0]),
        disk.write_at(plain, 0, &[1]),
        disk.map(mapped),
        disk.store(mapped, 0, &[1]),
        disk.sync(plain),
        disk.rename("plain", "plain"),
        disk.remove("new"),
        disk.sync_dir(""),
    ]
}

#[test]
fn nothing_is_done_on_a_disk_that_has_failed() {
    for operation in [
        Operation::Write,
        Operation::Store,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDir,
    ] {
        let (sim, disk, plain, mut mapped) = disk();
        let done = ask(&disk, &plain, &mut mapped);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        sim.fail_next(operation, Fault::Io);
        ask(&disk, &plain, &mut mapped);
        assert!(disk.has_failed(), "{operation:?}");
        let before = sim.operations();
        let done = ask(&disk, &plain, &mut mapped);
        assert!(done.iter().all(Result::is_err), "{operation:?}: {done:?}");
        assert_eq!(sim.operations(), before, "{operation:?}");
    }
}

/// Nothing was promised of it yet. What cannot be read is damage in one place.
#[test]
fn a_disk_without_room_or_with_damage_has_not_failed() {
    let (sim, disk, plain, mut mapped) = disk();
    sim.set_capacity(1024);
    disk.create("new", 512).unwrap_err();
    disk.resize(&plain, 1024).unwrap_err();
    disk.read_at(&plain, 512, &mut [0]).unwrap_err();
    disk.open("nothing").unwrap_err();
    sim.set_capacity(1 << 20);
    let done = ask(&disk, &plain, &mut mapped);
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}
