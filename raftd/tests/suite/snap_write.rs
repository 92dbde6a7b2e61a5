//! A snapshot is the state, whatever the state, and the same bytes everywhere.

use std::{fs, iter};

use raftd::disk::os::OsDisk;
use raftd::disk::sim::{Fault, SimDisk};
use raftd::disk::{Disk, SECTOR_BYTES};
use raftd::snapshot::format::{CHUNK_BYTES, ChunkKind};
use raftd::snapshot::{Error, Found, Step, Verifier, Writer, read_at, snapshot_name, verify};
use raftd::storage::load_snapshot;
use raftd::store::Store;
use raftd::store::session::{KEPT_PER_SESSION_MAX, SESSIONS_MAX};
use wire::entry::EntryKind;
use wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::snap_support::{
    CLUSTER, EPOCH, Maker, assert_same, begin, expected, id, load_it, members, publish, store,
};
use super::wal_support::membership_entry;

/// States at the edges of the format.
fn states() -> Vec<(&'static str, Store)> {
    let mut one_entry = Maker::new(1);
    one_entry.put(b"k", b"");
    let mut large = Maker::new(2);
    for n in 0..4_u8 {
        large.put(&[n; KEY_BYTES_MAX], &vec![n; VALUE_BYTES_MAX]);
        large.put(&[n; KEY_BYTES_MAX - 1], b"small");
    }
    let mut moved = Maker::new(2);
    moved.put(b"k", b"v");
    moved.append(EntryKind::Membership, membership_entry(3, 1).body());
    let mut crowd = Maker::new(3000);
    for n in 0..70_000_u32 {
        crowd.put(&(n % 500).to_be_bytes(), &n.to_be_bytes());
    }
    let mut busy = Maker::new(1);
    busy.kept = u64::MAX;
    for n in 0..=KEPT_PER_SESSION_MAX {
        busy.put(b"k", &n.to_be_bytes());
    }
    vec![
        ("one entry", one_entry.store),
        ("a session that keeps all it may", busy.store),
        ("the largest items", large.store),
        ("within a change of voters", moved.store),
        ("many sessions", crowd.store),
        ("few keys", store(10, 100)),
        ("many keys", store(20_000, 100)),
    ]
}

/// Bytes that do not compress.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let states = iter::successors(Some(seed), |state| {
        let next = state.wrapping_mul(6_364_136_223_846_793_005);
        Some(next.wrapping_add(1))
    });
    let bytes = states.skip(10).map(|state| (state >> 56) as u8);
    bytes.take(length).collect()
}

#[test]
fn what_is_loaded_is_what_was_written() {
    for (what, store) in states() {
        let disk = SimDisk::new(1, 64 << 20);
        let info = publish(&disk, store.view()).expect(what);
        let loaded = load_it(&disk, info.id).expect(what);
        assert_same(&store, &loaded.store);
        assert_eq!(loaded.info, info);
        assert_eq!(info.digest, store.digest());
        match store.membership() {
            Some(_) => assert_eq!(loaded.header.members, []),
            None => assert_eq!(loaded.header.members, members()),
        }
        assert_eq!(loaded.store.membership(), store.membership());
        let content = disk.content(&snapshot_name(info.id)).expect(what);
        assert_eq!(content.len() as u64, info.bytes);
        // And it goes on like the one that was written.
        let again = SimDisk::new(1, 64 << 20);
        publish(&again, loaded.store.view()).expect(what);
        assert!(
            again.content(&snapshot_name(info.id)) == Some(content),
            "{what}"
        );
    }
}

#[test]
fn threads_load_what_one_loads_and_refuse_what_one_refuses() {
    let store = store(60_000, 150);
    let disk = SimDisk::new(1, 64 << 20);
    let info = publish(&disk, store.view()).unwrap();
    assert!(info.bytes > 5 << 20, "worth threads");
    let expected = expected(info.id);
    let load = |disk: &SimDisk| load_snapshot(disk, &expected, SESSIONS_MAX);
    let loaded = load(&disk).unwrap();
    assert_same(&store, &loaded.store);
    assert_eq!(loaded.info, info);
    let name = snapshot_name(info.id);
    for at in [100, 9000, info.bytes / 2, info.bytes - 70, info.bytes - 10] {
        let disk = disk.fork(at);
        disk.tamper(&name, |content| content[at as usize] ^= 1);
        let error = load(&disk).unwrap_err();
        let alone = load_it(&disk, info.id).unwrap_err();
        assert_eq!(error.to_string(), alone.to_string(), "byte {at}");
    }
    disk.remove(&name).unwrap();
    assert!(matches!(load(&disk).unwrap_err(), Error::Disk(_)));
}

#[test]
fn a_store_before_its_first_entry_is_no_snapshot() {
    let empty = Store::new(EPOCH, SESSIONS_MAX);
    let disk = SimDisk::new(1, 1 << 20);
    let error = publish(&disk, empty.view()).unwrap_err();
    assert!(error.to_string().contains("header page"), "{error}");
    assert!(disk.list("snap").unwrap().is_empty());
}

#[test]
fn a_file_system_and_the_model_have_the_same_bytes() {
    let store = store(30_000, 120);
    let dir = tempfile::tempdir().unwrap();
    let os = OsDisk::new(dir.path().to_path_buf()).unwrap();
    let sim = SimDisk::new(1, 64 << 20);
    let info = publish(&os, store.view()).unwrap();
    assert_eq!(publish(&sim, store.view()).unwrap(), info);
    let name = snapshot_name(info.id);
    let real = fs::read(dir.path().join(&name)).unwrap();
    assert!(Some(real) == sim.content(&name));
    assert_eq!(os.list("snap").unwrap(), sim.list("snap").unwrap());
    assert_same(&store, &load_it(&os, info.id).unwrap().store);
    // Growth and cut of a real file are those of the model, too.
    for disk in [&os as &dyn Resized, &sim] {
        assert_eq!(disk.resized(3000, 700, 9000), (700, 9000));
    }
}

trait Resized {
    fn resized(&self, first: u64, second: u64, third: u64) -> (u64, u64);
}

impl<D: Disk> Resized for D {
    fn resized(&self, first: u64, second: u64, third: u64) -> (u64, u64) {
        let file = self.create("resized", first).unwrap();
        self.write_at(&file, 0, &vec![1; first as usize]).unwrap();
        self.resize(&file, second).unwrap();
        let cut = self.bytes(&file).unwrap();
        self.resize(&file, third).unwrap();
        let mut content = vec![9; third as usize];
        self.read_at(&file, 0, &mut content).unwrap();
        assert!(content[..second as usize].iter().all(|byte| *byte == 1));
        assert!(content[second as usize..].iter().all(|byte| *byte == 0));
        (cut, self.bytes(&file).unwrap())
    }
}

#[test]
fn steps_are_short_and_tell_how_far_they_are() {
    let store = store(40_000, 200);
    let disk = SimDisk::new(1, 64 << 20);
    let mut writer = begin(&disk, store.view()).unwrap();
    let (mut written, mut writing, mut verifying) = (0, 0, 0);
    let info = loop {
        match writer.step(&disk).unwrap() {
            Step::Writing {
                done_keys,
                total_keys,
            } => {
                assert_eq!(verifying, 0);
                assert_eq!(total_keys, store.map().len() as u64);
                assert!((written + 1..=total_keys).contains(&done_keys));
                (written, writing) = (done_keys, writing + 1);
            }
            Step::Verifying {
                done_bytes,
                total_bytes,
            } => {
                assert!(done_bytes <= total_bytes);
                verifying += 1;
            }
            Step::Published(info) => break info,
        }
    };
    assert_eq!(written, store.map().len() as u64);
    let content = 40_000 * (200 + 12 + 32);
    let steps = content / CHUNK_BYTES;
    assert!(
        (steps..steps + 4).contains(&writing),
        "{writing} of {steps}"
    );
    // A chunk at a time.
    assert!((steps..steps + 8).contains(&verifying), "{verifying}");
    assert_eq!(info.id, store.applied());
}

/// A chunk of them at a time, like keys.
#[test]
fn many_sessions_take_many_steps() {
    let mut maker = Maker::new(5_000);
    (0..5_000).for_each(|_| maker.put(b"key", b"value"));
    let disk = SimDisk::new(1, 64 << 20);
    let mut writer = begin(&disk, maker.store.view()).unwrap();
    let steps = iter::from_fn(|| match writer.step(&disk).unwrap() {
        Step::Writing { done_keys: 1, .. } => Some(()),
        _ => None,
    });
    assert!(steps.count() > 5_000 * 50 / CHUNK_BYTES);
}

#[test]
fn a_view_is_written_as_it_was_whatever_happens_meanwhile() {
    let mut maker = Maker::new(3);
    for n in 0..30_000_u32 {
        maker.put(&n.to_be_bytes(), &[1; 64]);
    }
    let disk = SimDisk::new(1, 64 << 20);
    publish(&disk, maker.store.view()).unwrap();
    let frozen = maker.store.applied();
    let name = snapshot_name(frozen);
    let calm = disk.content(&name);
    let mut writer = begin(&disk, maker.store.view()).unwrap();
    let mut n = 0_u32;
    while !matches!(writer.step(&disk).unwrap(), Step::Published(_)) {
        for _ in 0..500 {
            maker.put(&(n * 7 % 40_000).to_be_bytes(), &[2; 70]);
            n += 1;
        }
    }
    assert!(
        disk.content(&name) == calm,
        "written over by the same bytes"
    );
    assert_ne!(maker.store.applied(), frozen);
}

/// As a disk that lost what was written shows what an earlier life wrote there.
#[test]
fn what_is_read_again_is_what_was_written() {
    let [wrong, right] = [1, 2].map(|seed| {
        let mut maker = Maker::new(1);
        // More than is read ahead.
        maker.put(b"a", &random(1, 600_000));
        maker.put(b"b", &random(seed, 100));
        maker.store
    });
    let disk = SimDisk::new(1, 8 << 20);
    let info = publish(&disk, wrong.view()).unwrap();
    let whole = disk.content(&snapshot_name(info.id)).unwrap();
    let mut writer = begin(&disk, right.view()).unwrap();
    while !matches!(writer.step(&disk).unwrap(), Step::Verifying { .. }) {}
    disk.tamper("snap/0000000000000002-3.snap.tmp", |bytes| *bytes = whole);
    let error = loop {
        match writer.step(&disk) {
            Ok(step) => assert!(matches!(step, Step::Verifying { .. }), "{step:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert_eq!(disk.list("snap").unwrap().len(), 1, "the earlier one stays");
}

#[test]
fn chunks_are_filled_as_far_as_they_may_be() {
    let store = store(20_000, 100);
    let disk = SimDisk::new(1, 64 << 20);
    let info = publish(&disk, store.view()).unwrap();
    let content = disk.content(&snapshot_name(info.id)).unwrap();
    let mut source = &content[..];
    let mut verifier = Verifier::open(&mut source, "it").unwrap();
    let mut chunks = Vec::new();
    let verified = loop {
        match verifier.step(&mut source).unwrap() {
            Found::Chunk(chunk) => chunks.push(chunk),
            Found::End(verified) => break verified,
        }
    };
    assert_eq!(verified.info(), info);
    let (last, full) = chunks.split_last().unwrap();
    assert_eq!(last.kind, ChunkKind::Sessions);
    let (_, full) = full.split_last().unwrap();
    for chunk in full {
        assert!(chunk.content_bytes as usize <= CHUNK_BYTES);
        assert!(chunk.content_bytes as usize > CHUNK_BYTES - 200);
        assert!(chunk.is_compressed(), "half of the values are one letter");
    }
    assert!(full.len() > 5);
}

/// As large as it was, compressed or not, it would look as if it were not.
#[test]
fn what_compression_makes_no_smaller_is_stored_as_it_is() {
    let mut ways = [0, 0];
    for length in (0..10_000).step_by(200) {
        let mut maker = Maker::new(1);
        maker.put(b"k", &random(1, length));
        let disk = SimDisk::new(1, 1 << 20);
        let info = publish(&disk, maker.store.view()).unwrap();
        assert_same(&maker.store, &load_it(&disk, info.id).unwrap().store);
        let content = disk.content(&snapshot_name(info.id)).unwrap();
        let mut source = &content[..];
        let mut verifier = Verifier::open(&mut source, "it").unwrap();
        let Found::Chunk(chunk) = verifier.step(&mut source).unwrap() else {
            panic!("there is a key");
        };
        ways[usize::from(chunk.is_compressed())] += 1;
    }
    assert!(!ways.contains(&0), "{ways:?}");
}

/// On a disk that is nearly full the room that is reserved ahead was not there, and what it needed was:
/// only a snapshot would have made room.
#[test]
fn a_snapshot_that_just_fits_is_taken() {
    let store = store(20_000, 100);
    let whole = publish(&SimDisk::new(1, 64 << 20), store.view())
        .unwrap()
        .bytes;
    for room in [whole.next_multiple_of(SECTOR_BYTES), whole * 5 / 4] {
        publish(&SimDisk::new(1, room), store.view()).expect("there is room");
    }
}

#[test]
fn a_full_disk_fails_the_snapshot_and_nothing_else() {
    let store = store(20_000, 100);
    let whole = {
        let disk = SimDisk::new(1, 64 << 20);
        publish(&disk, store.view()).unwrap().bytes
    };
    for capacity in [0, SECTOR_BYTES, 8192, 100_000, whole - 1] {
        let disk = SimDisk::new(1, capacity);
        let error = publish(&disk, store.view()).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert!(disk.list("snap").unwrap().is_empty(), "nothing is left");
        disk.set_capacity(64 << 20);
        publish(&disk, store.view()).expect("there is room again");
    }
}

#[test]
fn a_part_is_read_as_it_stands() {
    let store = store(100, 100);
    let disk = SimDisk::new(1, 64 << 20);
    let info = publish(&disk, store.view()).unwrap();
    let content = disk.content(&snapshot_name(info.id)).unwrap();
    let mut read = Vec::new();
    loop {
        let piece = read_at(&disk, info.id, read.len() as u64, 3000).unwrap();
        assert_eq!(piece.total_bytes, info.bytes);
        if piece.bytes.is_empty() {
            break;
        }
        read.extend_from_slice(&piece.bytes);
    }
    assert!(read == content);
    assert!(
        read_at(&disk, info.id, u64::MAX, 10)
            .unwrap()
            .bytes
            .is_empty()
    );
    assert!(read_at(&disk, id(1, 1), 0, 10).is_err());
}

#[test]
fn the_cluster_and_its_members_are_told() {
    let store = store(3, 3);
    let disk = SimDisk::new(1, 1 << 20);
    let info = publish(&disk, store.view()).unwrap();
    let content = disk.content(&snapshot_name(info.id)).unwrap();
    let verified = verify(&mut &content[..], "it").unwrap();
    assert_eq!(verified.header.cluster, CLUSTER);
    assert_eq!(&verified.header.head, store.view().head());
    assert_eq!(verified.header.members, members());
    assert_eq!(verified.bytes, info.bytes);
    // All nodes write the same, however each was told of the others.
    let other = SimDisk::new(1, 1 << 20);
    let members: Vec<_> = members().into_iter().rev().collect();
    let mut writer = Writer::begin(&other, store.view(), CLUSTER, &members).unwrap();
    while !matches!(writer.step(&other).unwrap(), Step::Published(_)) {}
    assert!(other.content(&snapshot_name(info.id)) == Some(content));
}

/// It may be new itself, and all that is in it goes with it.
#[test]
fn the_directory_of_snapshots_is_durable_before_one_is_published() {
    let store = store(3, 3);
    let sound = SimDisk::new(1, 1 << 20);
    publish(&sound, store.view()).unwrap();
    let disk = SimDisk::new(1, 1 << 20);
    disk.fail_at(sound.operations(), Fault::Io);
    let error = publish(&disk, store.view()).unwrap_err().to_string();
    let root = "cannot sync directory the data directory: ";
    assert!(error.starts_with(root), "{error}");
}
