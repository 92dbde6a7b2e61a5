//! A snapshot that arrives in pieces, late, twice, or not to its end.

use raftd::disk::Disk;
use raftd::disk::os::OsDisk;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::snapshot::format::{HEADER_BYTES, SNAPSHOT_BYTES_MIN};
use raftd::snapshot::{Error, Expected, Loaded, Receiver, read_at, snapshot_name};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use wire::types::{ClusterId, EntryId, Epoch};

use super::snap_support::{assert_same, expected, id, load_it, publish, store};

/// A leader with a snapshot.
struct Source {
    disk: SimDisk,
    store: Store,
    id: EntryId,
    bytes: u64,
}

fn source(keys: u64) -> Source {
    let disk = SimDisk::new(1, 64 << 20);
    let store = store(keys, 100);
    let info = publish(&disk, store.view()).unwrap();
    Source {
        disk,
        store,
        id: info.id,
        bytes: info.bytes,
    }
}

impl Source {
    fn content(&self) -> Vec<u8> {
        self.disk.content(&snapshot_name(self.id)).unwrap()
    }

    fn open<D: Disk>(&self, disk: &D) -> Receiver<D::File> {
        Receiver::open(disk, self.id, self.bytes).unwrap()
    }

    /// Sends up to `pieces` of that size.
    fn send<D: Disk>(
        &self,
        disk: &D,
        to: &mut Receiver<D::File>,
        piece_bytes: usize,
        pieces: usize,
    ) -> Result<(), Error> {
        for _ in 0..pieces {
            let offset = to.received_bytes();
            let piece = read_at(&self.disk, self.id, offset, piece_bytes).unwrap();
            let received = to.write(disk, offset, &piece.bytes)?;
            assert_eq!(received, offset + piece.bytes.len() as u64);
        }
        Ok(())
    }

    fn finish<D: Disk>(&self, disk: &D, receiver: Receiver<D::File>) -> Result<Loaded, Error> {
        receiver.finish(disk, &expected(self.id), SESSIONS_MAX)
    }

    /// Receives all of it, and checks that it is what was sent.
    fn receive<D: Disk>(&self, disk: &D) {
        let mut receiver = self.open(disk);
        self.send(disk, &mut receiver, 64 << 20, 1).unwrap();
        let loaded = self.finish(disk, receiver).unwrap();
        assert_same(&self.store, &loaded.store);
        assert_same(&self.store, &load_it(disk, self.id).unwrap().store);
    }
}

#[test]
fn pieces_of_any_size_make_the_snapshot() {
    let source = source(3000);
    for piece_bytes in [1000, 8192, 99_999, 1 << 20] {
        let disk = SimDisk::new(1, 64 << 20);
        let mut receiver = source.open(&disk);
        while !receiver.is_complete() {
            source.send(&disk, &mut receiver, piece_bytes, 1).unwrap();
        }
        assert!(load_it(&disk, source.id).is_err(), "it has no name yet");
        let loaded = source.finish(&disk, receiver).unwrap();
        assert_same(&source.store, &loaded.store);
        assert_eq!(loaded.info.bytes, source.bytes);
        let content = disk.content(&snapshot_name(source.id));
        assert!(content == Some(source.content()));
        assert_eq!(disk.list("snap").unwrap().len(), 1);
    }
}

#[test]
fn the_first_snapshot_of_a_file_system_is_received() {
    let dir = tempfile::tempdir().unwrap();
    source(300).receive(&OsDisk::new(dir.path().to_owned()).unwrap());
}

#[test]
fn only_the_next_bytes_are_taken() {
    let source = source(100);
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = source.open(&disk);
    assert_eq!(
        (receiver.id(), receiver.total_bytes()),
        (source.id, source.bytes)
    );
    let content = source.content();
    assert_eq!(receiver.write(&disk, 0, &content[..5000]).unwrap(), 5000);
    for (what, offset, bytes) in [
        ("again", 0, &content[..5000]),
        ("ahead", 6000, &content[6000..7000]),
        ("behind the end", source.bytes, &content[..1]),
        ("too many", 5000, &[&content[5000..], &[0]].concat()[..]),
        ("none", 5000, &[]),
    ] {
        let received = receiver.write(&disk, offset, bytes).unwrap();
        assert_eq!(received, 5000, "{what}");
    }
    receiver.write(&disk, 5000, &content[5000..]).unwrap();
    source.finish(&disk, receiver).unwrap();
}

#[test]
fn a_transfer_goes_on_after_a_restart_with_what_is_sound() {
    let source = source(20_000);
    let mut kept = 0;
    for seed in 0..12 {
        let disk = SimDisk::new(seed, 64 << 20);
        let mut receiver = source.open(&disk);
        disk.sync_dir("snap").unwrap();
        source.send(&disk, &mut receiver, 100_000, 9).unwrap();
        let sent = receiver.received_bytes();
        drop(receiver);
        let disk = if seed % 2 == 0 {
            disk.power_loss();
            disk.restart()
        } else {
            disk.restart()
        };
        let receiver = source.open(&disk);
        let received = receiver.received_bytes();
        assert!(received <= sent);
        if seed % 2 == 1 {
            assert!(received + 256 * 1024 > sent, "whole chunks stay");
        }
        kept += received;
        let part = "snap/0000000000004e23-3.part.tmp";
        let held = disk.content(part).unwrap();
        assert!(held[..received as usize] == source.content()[..received as usize]);
        source.receive(&disk);
    }
    assert!(kept > 0);
}

#[test]
fn what_was_received_whole_is_not_sent_again() {
    let source = source(2000);
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = source.open(&disk);
    source.send(&disk, &mut receiver, 64 << 20, 1).unwrap();
    drop(receiver);
    let disk = disk.restart();
    let receiver = source.open(&disk);
    assert!(receiver.is_complete());
    let loaded = source.finish(&disk, receiver).unwrap();
    assert_same(&source.store, &loaded.store);
}

#[test]
fn damage_in_a_part_costs_what_is_behind_it() {
    let source = source(20_000);
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = source.open(&disk);
    source.send(&disk, &mut receiver, 900_000, 1).unwrap();
    disk.sync_dir("snap").unwrap();
    drop(receiver);
    let part = "snap/0000000000004e23-3.part.tmp";
    for (at, expect) in [
        (100, 0..=0),
        (
            HEADER_BYTES as u64 + 10,
            HEADER_BYTES as u64..=HEADER_BYTES as u64,
        ),
        (600_000, 300_000..=600_000),
    ] {
        let disk = disk.fork(1);
        let file = disk.open(part).unwrap();
        disk.sync(&file).unwrap();
        disk.rot(part, at, 1);
        let receiver = source.open(&disk);
        assert!(expect.contains(&receiver.received_bytes()), "rot at {at}");
        source.receive(&disk);
    }
    // A part of another size, as another version may have made.
    for bytes in [0, 10, 9000, 5_000_000] {
        let disk = disk.fork(1);
        disk.tamper(part, |content| content.resize(bytes, 7));
        source.receive(&disk);
    }
}

/// After a failed sync the cache shows what the device does not have.
#[test]
fn only_what_the_device_has_is_gone_on_with() {
    let source = source(20_000);
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = source.open(&disk);
    source.send(&disk, &mut receiver, 500_000, 1).unwrap();
    let file = disk.open("snap/0000000000004e23-3.part.tmp").unwrap();
    disk.sync(&file).unwrap();
    source.send(&disk, &mut receiver, 500_000, 1).unwrap();
    disk.fail_next(Operation::Sync, Fault::Io);
    disk.sync(&file).unwrap_err();
    drop(receiver);
    let receiver = source.open(&disk);
    assert!(receiver.received_bytes() <= 500_000);
    source.receive(&disk);
}

#[test]
fn another_snapshot_takes_the_place_of_a_part() {
    let (old, new) = (source(50), source(60));
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = old.open(&disk);
    old.send(&disk, &mut receiver, 9000, 1).unwrap();
    drop(receiver);
    let receiver = new.open(&disk);
    assert_eq!(receiver.received_bytes(), 0);
    assert_eq!(disk.list("snap").unwrap(), ["000000000000003f-3.part.tmp"]);
    receiver.discard(&disk);
    assert!(disk.list("snap").unwrap().is_empty());
}

#[test]
fn what_is_not_as_sent_is_refused_and_begun_anew() {
    let source = source(500);
    let content = source.content();
    let zeroed = |at: usize| {
        let mut content = content.clone();
        content[at..at + 512].fill(0);
        content
    };
    for (what, bytes) in [
        ("a hole in the header", zeroed(0)),
        ("a hole in a chunk", zeroed(20_000)),
        ("a hole at the end", zeroed(content.len() - 512)),
        ("cut short", content[..content.len() - 1].to_vec()),
        ("too long", [&content[..], &[0]].concat()),
    ] {
        let disk = SimDisk::new(1, 64 << 20);
        let mut receiver = Receiver::open(&disk, source.id, bytes.len() as u64).unwrap();
        receiver.write(&disk, 0, &bytes).unwrap();
        let error = source.finish(&disk, receiver).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{what}: {error}");
        assert!(disk.list("snap").unwrap().is_empty(), "{what}");
        source.receive(&disk);
    }
}

#[test]
fn the_snapshot_of_another_cluster_epoch_or_entry_is_refused() {
    let source = source(50);
    let right = expected(source.id);
    for (what, expected) in [
        (
            "cluster",
            Expected {
                cluster: ClusterId(1),
                ..right
            },
        ),
        (
            "epoch",
            Expected {
                epoch: Epoch(1),
                ..right
            },
        ),
        (
            "as of",
            Expected {
                id: id(source.id.index.0, 4),
                ..right
            },
        ),
        (
            "as of",
            Expected {
                id: id(1, 3),
                ..right
            },
        ),
    ] {
        let disk = SimDisk::new(1, 64 << 20);
        let bytes = source.content();
        let mut receiver = Receiver::open(&disk, expected.id, source.bytes).unwrap();
        receiver.write(&disk, 0, &bytes).unwrap();
        let error = receiver.finish(&disk, &expected, SESSIONS_MAX).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(disk.list("snap").unwrap().is_empty());
        // Nor is it loaded under that name.
        let name = snapshot_name(expected.id);
        disk.create(&name, 0).unwrap();
        disk.tamper(&name, |content| *content = bytes);
        let error = raftd::snapshot::load(&disk, &expected, SESSIONS_MAX).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }
}

#[test]
fn room_for_all_of_it_is_reserved_before_anything_is_sent() {
    let source = source(2000);
    let disk = SimDisk::new(1, source.bytes - 1);
    let error = Receiver::open(&disk, source.id, source.bytes).unwrap_err();
    assert!(error.is_no_space());
    assert!(disk.list("snap").unwrap().is_empty());
    for absurd in [u64::MAX, 1 << 62] {
        let error = Receiver::open(&disk, source.id, absurd).unwrap_err();
        assert!(error.is_no_space());
    }
    let error = Receiver::open(&disk, source.id, SNAPSHOT_BYTES_MIN - 1).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }));
    disk.set_capacity(source.bytes);
    source.receive(&disk);
}

/// Else the last sync takes as long as all that was received.
#[test]
fn what_arrives_is_synced_on_the_way() {
    const PART_BYTES: u64 = 8 << 20;
    let disk = SimDisk::new(1, 64 << 20);
    let total_bytes = 3 * PART_BYTES;
    let mut receiver = Receiver::open(&disk, id(1, 1), total_bytes).unwrap();
    let (before, piece) = (disk.syncs(), vec![0; 1 << 20]);
    while !receiver.is_complete() {
        let received = receiver.write(&disk, receiver.received_bytes(), &piece);
        assert_eq!(disk.syncs() - before, received.unwrap() / PART_BYTES);
    }
}

#[test]
fn a_failed_sync_costs_what_was_received() {
    let source = source(2000);
    let disk = SimDisk::new(1, 64 << 20);
    let mut receiver = source.open(&disk);
    source.send(&disk, &mut receiver, 64 << 20, 1).unwrap();
    disk.fail_next(Operation::Sync, Fault::Io);
    source.finish(&disk, receiver).unwrap_err();
    assert!(disk.list("snap").unwrap().is_empty());
    source.receive(&disk);
}
