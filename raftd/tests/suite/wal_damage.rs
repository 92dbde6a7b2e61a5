//! Damage of what was durable: told with its place, or harmless; never taken for the log's end.

use raft::{HardState, Ticket, Write};
use raftd::disk::sim::SimDisk;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::wal::format::BATCH_HEADER_BYTES;
use raftd::wal::segment::segment_name;
use raftd::wal::{Pending, Progress};
use wire::types::{Index, NodeId, Term};

use crate::wal_crash::{Content, Random, content, make_spare, open};
use crate::wal_support::entries;

const SECTOR: usize = 512;

/// A log over two segments and a spare, everything in it durable and marked.
struct Sound {
    disk: SimDisk,
    content: Content,
}

fn sound() -> Sound {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut ticket = 0;
    let mut next = 1;
    let sizes = [1, 2, 60_000, 60_000, 3, 60_000, 10, 300, 1, 2000, 5];
    for (n, bytes) in sizes.into_iter().enumerate() {
        let term = Term(1 + n as u64 / 3);
        ticket += 1;
        pending.push(Write {
            ticket: Ticket(ticket),
            hard_state: HardState {
                term,
                vote: Some(NodeId(1)),
            },
            reset: None,
            truncate_from: None,
            entries: entries(next, 1 + n as u64 % 3, term.0, bytes / 2),
            commit: Index(next - 1),
        });
        next += 1 + n as u64 % 3;
        loop {
            match wal.write(&mut pending).expect("no fault is planned") {
                Progress::Idle => break,
                Progress::Durable(_) => {}
                Progress::NoRoom => make_spare(&mut wal).expect("there is room"),
            }
        }
    }
    make_spare(&mut wal).expect("there is room");
    // The write-back of the mark.
    disk.tamper(&segment_name(2), |_| {});
    let recovered = open(&disk.restart()).expect("it is sound").recovered;
    assert_eq!(recovered.report.segments, 2);
    assert_eq!(recovered.report.torn_bytes, 0, "the mark is in its place");
    // Batches, the end of the log, the end behind a seal; one spare.
    assert_eq!(recovered.report.cases.to_string(), "AJMg");
    let content = content(&recovered);
    Sound { disk, content }
}

/// Sectors of a file that hold something.
fn used_sectors(disk: &SimDisk, name: &str) -> Vec<usize> {
    let bytes = disk.content(name).expect("the file exists");
    let sectors = bytes.chunks(SECTOR).enumerate();
    let used = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
    used.map(|(n, _)| n * SECTOR).collect()
}

/// Sectors that are not just the middle of an entry: headers, tables, marks, ends of payloads.
fn interesting_sectors(disk: &SimDisk, name: &str) -> Vec<usize> {
    let used = used_sectors(disk, name);
    let bytes = disk.content(name).expect("the file exists");
    let filler = |at: usize| bytes[at..at + SECTOR].iter().all(|byte| *byte == b'x');
    used.into_iter().filter(|at| !filler(*at)).collect()
}

impl Sound {
    /// Opens a damaged copy: refused with 65 and a place, or as good as the original.
    fn judge(&self, context: &str, damage: impl FnOnce(&SimDisk)) -> Result<(), Fatal> {
        let disk = self.disk.fork(1);
        damage(&disk);
        match open(&disk) {
            Err(fatal) => {
                assert_eq!(fatal.status, ExitStatus::Damaged, "{context}: {fatal}");
                assert!(!fatal.place.is_empty(), "{context}: {fatal}");
                assert!(!fatal.remedy.is_empty(), "{context}: {fatal}");
                Err(fatal)
            }
            Ok(opened) => {
                let found = content(&opened.recovered);
                assert!(
                    found == self.content,
                    "{context}: something was dropped silently"
                );
                Ok(())
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_told_or_harmless() {
    let sound = sound();
    let (mut told, mut harmless) = (0, 0);
    for name in [segment_name(1), segment_name(2)] {
        let sectors = interesting_sectors(&sound.disk, &name);
        for at in sectors.iter().flat_map(|at| *at..at + SECTOR).step_by(3) {
            let context = format!("{name}: byte {at} flipped");
            match sound.judge(&context, |disk| {
                disk.tamper(&name, |bytes| bytes[at] ^= 0x41);
            }) {
                Ok(()) => harmless += 1,
                Err(_) => told += 1,
            }
        }
    }
    // Harmless are the mark of the last batch and the zeros behind batches.
    assert!(
        told > 10 * harmless / 10,
        "{told} told, {harmless} harmless"
    );
}

#[test]
fn every_zeroed_word_and_sector_is_told_or_harmless() {
    let sound = sound();
    for name in [segment_name(1), segment_name(2)] {
        for at in interesting_sectors(&sound.disk, &name) {
            for word in (at..at + SECTOR).step_by(8) {
                let bytes = sound.disk.content(&name).expect("the file exists");
                if bytes[word..word + 8] == [0; 8] {
                    continue;
                }
                let context = format!("{name}: word {word} zeroed");
                let zero = |bytes: &mut Vec<u8>| bytes[word..word + 8].fill(0);
                let _ = sound.judge(&context, |disk| disk.tamper(&name, zero));
            }
        }
        for at in used_sectors(&sound.disk, &name).into_iter().step_by(2) {
            let context = format!("{name}: sector {at} zeroed");
            let zero = |bytes: &mut Vec<u8>| bytes[at..at + SECTOR].fill(0);
            let _ = sound.judge(&context, |disk| disk.tamper(&name, zero));
        }
    }
}

/// The length word in question is the one that a reader would follow to the next record.
#[test]
fn a_zeroed_length_is_never_the_end_of_the_log() {
    let sound = sound();
    let name = segment_name(2);
    let batch = interesting_sectors(&sound.disk, &name)[8..].to_vec();
    let mut told = 0;
    for at in batch {
        for field in [60, 92, BATCH_HEADER_BYTES + 8] {
            let context = format!("length at {at}+{field} zeroed");
            let zero = |bytes: &mut Vec<u8>| bytes[at + field..at + field + 4].fill(0);
            told += u32::from(
                sound
                    .judge(&context, |disk| disk.tamper(&name, zero))
                    .is_err(),
            );
        }
    }
    assert!(told > 0);
}

#[test]
fn an_unreadable_sector_is_damage_at_its_place() {
    let sound = sound();
    for name in [segment_name(1), segment_name(2)] {
        for at in used_sectors(&sound.disk, &name).into_iter().step_by(16) {
            let context = format!("{name}: {at} unreadable");
            let fatal = sound
                .judge(&context, |disk| {
                    disk.make_unreadable(&name, at as u64..at as u64 + 512);
                })
                .expect_err("what cannot be read is not there");
            assert!(fatal.place.starts_with(&name), "{context}: {fatal}");
        }
    }
}

#[test]
fn missing_short_swapped_and_foreign_segments_are_damage() {
    let sound = sound();
    let remove = |name: String| {
        move |disk: &SimDisk| raftd::disk::Disk::remove(disk, &name).expect("it goes")
    };
    sound
        .judge("first removed", remove(segment_name(1)))
        .expect_err("told");
    // The newest in use is gone; its predecessor is sealed.
    sound
        .judge("newest removed", remove(segment_name(2)))
        .expect_err("told");
    sound
        .judge("spare removed", remove(segment_name(3)))
        .expect("harmless");
    for id in [1, 2] {
        let name = segment_name(id);
        let short = |disk: &SimDisk| disk.tamper(&name, |bytes| bytes.truncate(200_000));
        sound.judge("short file", short).expect_err("told");
        let empty = |disk: &SimDisk| disk.tamper(&name, Vec::clear);
        sound.judge("empty file", empty).expect_err("told");
    }
    let first = sound.disk.content(&segment_name(1)).expect("it exists");
    let copy = |disk: &SimDisk| disk.tamper(&segment_name(2), |bytes| *bytes = first.clone());
    sound
        .judge("the first over the second", copy)
        .expect_err("told");
    let other = {
        let disk = SimDisk::new(9, 8 << 20);
        open(&disk).expect("it opens");
        disk.content(&segment_name(1)).expect("it exists")
    };
    // Same node, another salt: as if an old file had been put back.
    let foreign = |disk: &SimDisk| disk.tamper(&segment_name(1), |bytes| *bytes = other.clone());
    sound
        .judge("a foreign first segment", foreign)
        .expect_err("told");
}

#[test]
fn swapped_and_repeated_sectors_are_told_or_harmless() {
    let sound = sound();
    let name = segment_name(2);
    let sectors = interesting_sectors(&sound.disk, &name);
    for from in &sectors {
        for to in &sectors {
            let context = format!("sector {from} written at {to}");
            let misdirect = |bytes: &mut Vec<u8>| bytes.copy_within(*from..from + SECTOR, *to);
            let _ = sound.judge(&context, |disk| disk.tamper(&name, misdirect));
        }
    }
}

/// However many bytes are wrong, nothing panics and no entry appears that was never written.
#[test]
fn arbitrary_damage_never_invents_entries() {
    let sound = sound();
    let mut random = Random(11);
    for round in 0..300 {
        let disk = sound.disk.fork(round);
        for _ in 0..1 + random.below(6) {
            let name = segment_name(1 + random.below(3));
            let from = random.below(256 * 1024 - 2048) as usize;
            let length = 1 + random.below(2048) as usize;
            let fill = random.below(3);
            disk.tamper(&name, |bytes| {
                for byte in &mut bytes[from..from + length] {
                    *byte = match fill {
                        0 => 0,
                        1 => random.below(256) as u8,
                        _ => *byte ^ (1 << random.below(8)),
                    };
                }
            });
        }
        if let Ok(opened) = open(&disk) {
            let found = content(&opened.recovered);
            assert!(
                sound.content.entries.starts_with(&found.entries),
                "round {round}"
            );
        }
    }
}

/// The one stated exception (rules E3): rot in the last batch while its mark is not on the disk.
#[test]
fn the_last_batch_without_its_mark_is_the_stated_ambiguity() {
    let sound = sound();
    let name = segment_name(2);
    let sectors = interesting_sectors(&sound.disk, &name);
    let (mark, last) = (sectors[sectors.len() - 1], sectors[sectors.len() - 2]);
    let disk = sound.disk.fork(1);
    disk.tamper(&name, |bytes| {
        bytes[mark..mark + SECTOR].fill(0);
        bytes[last + SECTOR / 4] ^= 1;
    });
    let found = content(&open(&disk).expect("taken for torn").recovered);
    assert!(sound.content.entries.starts_with(&found.entries));
    assert!(found.entries.len() < sound.content.entries.len());
    // With either of the two in place it is told.
    let rot = |disk: &SimDisk| disk.tamper(&name, |bytes| bytes[last + SECTOR / 4] ^= 1);
    sound.judge("rot under the mark", rot).expect_err("told");
}

/// The header of the last batch proves that the one before it was durable, mark or no mark.
#[test]
fn a_later_header_is_evidence_without_any_mark() {
    let sound = sound();
    let name = segment_name(2);
    let sectors = interesting_sectors(&sound.disk, &name);
    let bytes = sound.disk.content(&name).expect("it exists");
    let heads: Vec<usize> = sectors
        .iter()
        .copied()
        .filter(|at| bytes[*at..].starts_with(b"RBAT"))
        .collect();
    let before_last = heads[heads.len() - 2];
    let mark = sectors[sectors.len() - 1];
    for rot in [before_last + 20, before_last + 200] {
        let damage = |bytes: &mut Vec<u8>| {
            bytes[mark..mark + SECTOR].fill(0);
            bytes[rot] ^= 1;
        };
        sound
            .judge("rot under a later header", |disk| {
                disk.tamper(&name, damage);
            })
            .expect_err("told");
    }
}

/// IDENTITY is made after the first batch is durable, so a log without one was damaged.
#[test]
fn a_damaged_first_batch_of_a_young_log_is_told_with_its_place() {
    let disk = SimDisk::new(1, 8 << 20);
    open(&disk).expect("it opens");
    for at in [20, 1000, 4096 + 20] {
        let disk = disk.fork(1);
        disk.tamper(&segment_name(1), |bytes| bytes[at] ^= 1);
        let fatal = open(&disk).err();
        let fatal = fatal.expect("every byte of both counts");
        assert_eq!(fatal.status, ExitStatus::Damaged);
        assert!(fatal.place.starts_with(&segment_name(1)), "{fatal}");
    }
    let disk = disk.fork(1);
    raftd::disk::Disk::remove(&disk, &segment_name(1)).expect("it goes");
    let fatal = open(&disk).err().expect("votes and entries are lost");
    assert_eq!(fatal.status, ExitStatus::Damaged);
}
