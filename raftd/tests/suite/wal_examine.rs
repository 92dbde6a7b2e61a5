//! Looking at a log says what a start would say, and changes nothing.

use std::os::unix::fs::PermissionsExt;

use raftd::disk::os::OsDisk;
use raftd::disk::sim::{Fault, SimDisk};
use raftd::disk::{Disk, Latched, ReadOnly};
use raftd::storage::open_log;
use raftd::wal::identity::{IDENTITY_NAME, Identity};
use raftd::wal::segment::segment_name;
use raftd::wal::{Error, Examination, Pending, Settings, examine, recover};
use wire::entry::Entry;
use wire::types::{EntryId, Incarnation, Index, Term};

use crate::wal_damage::{interesting_sectors, sound, sound_behind_snapshot};
use crate::wal_story::{make_spare, open, options};
use crate::wal_support::{entries, identity, write};

fn look<D: Disk>(disk: &D) -> Examination {
    examine(disk, None, |_| {}).expect("the machine is up")
}

/// Every file of a disk.
fn files(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list("wal").expect("the machine is up");
    let names = names.iter().map(|name| format!("wal/{name}"));
    names
        .map(|name| (name.clone(), disk.content(&name)))
        .collect()
}

fn settings() -> Settings {
    Settings {
        owner: identity().owner(),
        segment_bytes: 256 * 1024,
        tail_bytes: 0,
        alone: false,
        seed: 1,
    }
}

/// What a start says of a copy of this disk.
fn start(disk: &SimDisk) -> Result<String, String> {
    match recover(disk.fork(1), &settings()) {
        Ok(recovered) => Ok(recovered.expect("there are segments").report.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// What looking at it says.
fn verdict(disk: &SimDisk) -> Result<String, String> {
    let before = files(disk);
    let examination = look(disk);
    assert_eq!(before, files(disk), "something was changed");
    let removed = examination.repairs.iter();
    let removed = removed.filter(|repair| repair.to_string().ends_with("removed"));
    let removed = removed.count() as u64;
    match examination.verdict {
        Ok(mut report) => {
            report.discarded += removed;
            Ok(report.to_string())
        }
        Err(Error::Damaged(damage)) => Err(damage.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_sound_log_is_told_segment_by_segment() {
    let sound = sound_behind_snapshot(true);
    let disk = sound.disk.fork(1);
    let mut seen: Vec<Entry> = Vec::new();
    let mut headers = Vec::new();
    let owner = Some(identity().owner());
    let examination = examine(&disk, owner, |batch| {
        let found: Vec<_> = batch.entries().collect();
        assert_eq!(found.len(), batch.header.entries as usize);
        headers.push((batch.segment, batch.header.number));
        seen.extend(found);
    });
    let examination = examination.expect("the machine is up");
    let report = examination.verdict.expect("it is sound");
    assert_eq!((examination.spares, examination.repairs.len()), (1, 0));
    assert!(seen.ends_with(&sound.content.entries));
    assert_eq!(headers.len() as u64, report.batches);
    assert!(headers.is_sorted(), "{headers:?}");
    let id = |term, index| EntryId {
        term: Term(term),
        index: Index(index),
    };
    assert_eq!((report.base, report.snapshot), (id(2, 11), id(2, 11)));
    let [first, second] = &examination.segments[..] else {
        panic!("two segments: {:?}", examination.segments);
    };
    assert_eq!((first.header.id, second.header.id), (2, 3));
    assert_eq!((first.entries, second.entries), (2, 4));
    assert_eq!(first.indexes, Some((Index(3), Index(4))));
    assert_eq!(second.indexes, Some((Index(5), Index(14))));
    assert_eq!((first.terms, second.terms.1), ((Term(1), Term(1)), Term(2)));
    assert_eq!((first.snapshot, second.snapshot), (id(0, 0), id(2, 11)));
    assert_eq!((first.resets, second.resets), (0, 1));
    assert_eq!((first.cuts, second.cuts), (0, 0));
    assert_eq!((first.case, second.case), (Some('M'), Some('J')));
    assert_eq!(first.batches + second.batches, report.batches);
    assert_eq!(verdict(&disk), start(&disk));
}

#[test]
fn a_cut_is_counted() {
    let disk = SimDisk::new(1, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    pending.push(write(1, 1, entries(1, 5, 1, 10)));
    wal.write(&mut pending).expect("no fault is planned");
    let mut cut = write(2, 2, entries(3, 1, 2, 10));
    cut.truncate_from = Some(Index(3));
    pending.push(cut);
    wal.write(&mut pending).expect("no fault is planned");
    let segments = look(&disk).segments;
    assert_eq!((segments[0].cuts, segments[0].entries), (1, 6));
    assert_eq!(segments[0].indexes, Some((Index(1), Index(5))));
    // Also of the last entry alone; a vote has no entries, and a reset is no cut.
    let mut last = write(3, 3, entries(3, 1, 3, 10));
    last.truncate_from = Some(Index(3));
    let mut reset = write(5, 4, Vec::new());
    reset.reset = Some(EntryId {
        term: Term(4),
        index: Index(2),
    });
    for write in [last, write(4, 4, Vec::new()), reset] {
        pending.push(write);
        wal.write(&mut pending).expect("no fault is planned");
    }
    let now = look(&disk).segments[0];
    assert_eq!((now.cuts, now.resets, now.entries), (2, 1, 7));
    assert_eq!(now.indexes, Some((Index(1), Index(5))));
}

#[test]
fn a_segment_with_votes_alone_has_no_indexes() {
    let disk = SimDisk::new(1, 8 << 20);
    drop(open(&disk).expect("it opens"));
    assert_eq!(look(&disk).segments[0].indexes, None);
}

/// Whatever is wrong: the same words, or the same report.
#[test]
fn the_verdict_is_that_of_a_start() {
    let sounds = [sound(), sound_behind_snapshot(false)];
    let (mut sane, mut healing, mut lost, mut damaged) = (0, 0, 0, 0);
    for sound in sounds {
        let mut judge = |damage: &dyn Fn(&SimDisk)| {
            let disk = sound.disk.fork(1);
            damage(&disk);
            let (verdict, start) = (verdict(&disk), start(&disk));
            let is_lost = |said: &str| said.contains("lost=true");
            match &verdict {
                // The start says what is left when the log has begun anew.
                Ok(said) if is_lost(said) => {
                    assert!(start.is_ok_and(|said| is_lost(&said)));
                    lost += 1;
                }
                _ => assert_eq!(verdict, start),
            }
            match verdict {
                Ok(said) if said.contains("faulty=0 lost=false") => sane += 1,
                Ok(_) => healing += 1,
                Err(_) => damaged += 1,
            }
        };
        for name in &sound.segments {
            for at in interesting_sectors(&sound.disk, name) {
                for byte in [at, at + 40, at + 115, at + 400] {
                    judge(&|disk| disk.tamper(name, |bytes| bytes[byte] ^= 1));
                }
            }
            judge(&|disk| disk.remove(name).expect("it goes"));
            judge(&|disk| disk.tamper(name, |bytes| bytes.truncate(100_000)));
            judge(&|disk| disk.make_unreadable(name, 8192..8193));
        }
        judge(&|disk| {
            let spare = disk.list("wal").expect("the machine is up").pop();
            let spare = format!("wal/{}", spare.expect("there is a spare"));
            disk.tamper(&spare, |bytes| bytes[20] ^= 1);
        });
        judge(&|disk| {
            disk.create("wal/0000000000000009.wal.tmp", 10)
                .expect("there is room");
        });
    }
    assert!(
        sane > 10 && healing > lost && lost > 10 && damaged > 1,
        "{sane} sane, {healing} to be healed, {lost} of them lost, {damaged} damaged"
    );
}

/// A torn batch: what the start will zero is told, and still there.
#[test]
fn what_a_start_would_repair_is_told() {
    let mut repairs = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed, 8 << 20);
        let mut wal = open(&disk).expect("it opens").recovered.wal;
        make_spare(&mut wal).expect("there is room");
        let mut pending = Pending::default();
        pending.push(write(1, 1, entries(1, 5, 1, 700)));
        wal.write(&mut pending).expect("no fault is planned");
        disk.fail_at(disk.operations() + 2, Fault::PowerLoss);
        pending.push(write(2, 1, entries(6, 5, 1, 700)));
        assert!(wal.write(&mut pending).is_err());
        let disk = disk.restart();
        repairs += look(&disk).repairs.len();
        assert_eq!(verdict(&disk), start(&disk));
        drop(open(&disk).expect("it recovers"));
        assert_eq!(look(&disk).repairs, [], "once is enough");
    }
    assert!(repairs > 20, "{repairs} repairs");
}

#[test]
fn another_owner_or_no_log_at_all_is_told() {
    let sound = sound();
    let mut other = identity().owner();
    other.incarnation = Incarnation(78);
    let examination = examine(&sound.disk.fork(1), Some(other), |_| panic!("not ours"));
    let verdict = examination.expect("the machine is up").verdict;
    let error = verdict.expect_err("it is another's").to_string();
    let owner = identity().owner();
    let whose = format!("of node {} of cluster {}", owner.node, owner.cluster);
    assert!(error.contains(&whose), "{error}");
    let empty = SimDisk::new(1, 1 << 20);
    let error = look(&empty).verdict.expect_err("there is nothing");
    assert!(error.to_string().contains("no segment"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_written_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let os = OsDisk::new(dir.path().to_path_buf()).unwrap();
    let opened = open_log(Latched::new(os), &options(1)).unwrap();
    let mut wal = opened.recovered.wal;
    let mut pending = Pending::default();
    let written = entries(1, 5, 1, 700);
    pending.push(write(1, 1, written.clone()));
    wal.write(&mut pending).unwrap();
    drop(wal);
    let file = dir.path().join(segment_name(1));
    let before = std::fs::read(&file).unwrap();
    for path in [&file, &dir.path().join(IDENTITY_NAME)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o400)).unwrap();
    }

    let disk = ReadOnly::new(dir.path().to_path_buf());
    let found = Identity::look(&disk).unwrap().unwrap();
    assert_eq!(found, identity());
    let mut seen = Vec::new();
    let examination = examine(&disk, Some(found.owner()), |batch| {
        seen.extend(batch.entries());
    });
    assert_eq!(seen, written);
    let report = examination.unwrap().verdict.unwrap();
    assert_eq!(report.last, written[4].id());
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_disk_that_is_only_looked_at_refuses_every_change() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), b"bytes").unwrap();
    let disk = ReadOnly::new(dir.path().to_path_buf());
    let mut file = disk.open("a").unwrap();
    let mut buffer = [0; 5];
    disk.read_at(&file, 0, &mut buffer).unwrap();
    assert_eq!((&buffer, disk.bytes(&file).unwrap()), (b"bytes", 5));
    assert_eq!(disk.list("").unwrap(), ["a"]);
    assert!(disk.list("nothing").unwrap().is_empty());
    assert!(disk.open("b").unwrap_err().is_not_found());
    let refused = [
        disk.create_dir("d"),
        disk.create("b", 1).map(|_| ()),
        disk.resize(&file, 1),
        disk.write_at(&file, 0, b"x"),
        disk.map(&mut file),
        disk.store(&file, 0, b"x"),
        disk.sync(&file),
        disk.rename("a", "b"),
        disk.remove("a"),
        disk.sync_dir(""),
        disk.available_bytes().map(|_| ()),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!(error.cause.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    disk.drop_cache(&file);
    disk.fetch(&file, 0, 5);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"bytes");
    assert_eq!(disk.list("").unwrap(), ["a"]);
}

#[test]
fn a_device_that_goes_away_between_two_reads_is_damage() {
    for sound in [sound(), sound_behind_snapshot(false)] {
        let mut told = 0;
        for count in 0.. {
            let disk = || {
                let disk = sound.disk.fork(1);
                disk.end_reads_after(count);
                disk
            };
            let is_whole = look(&disk())
                .verdict
                .is_ok_and(|report| report.faulty == 0 && !report.lost);
            let starts = recover(disk(), &settings()).is_ok();
            if is_whole && starts {
                break;
            }
            told += 1;
        }
        assert!(told > 5, "{told} reads");
    }
}
