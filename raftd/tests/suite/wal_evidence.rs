//! What is evidence that a batch was durable: its mark, or the header of a later one. Rot under it is
//! told, and no tear.

use raftd::disk::sim::SimDisk;
use raftd::fatal::ExitStatus;
use raftd::wal::Pending;
use raftd::wal::segment::segment_name;
use wire::types::EntryId;

use crate::wal_damage::{SECTOR, id, interesting_sectors, put, sound};
use crate::wal_story::{content, open};
use crate::wal_support::{entries, rot_text, write};

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
    let outcome = sound.judge("rot under the mark", rot);
    assert!(outcome.is_told(), "{outcome:?}");
}

/// It is there when a batch is told durable, and not only once recovery has put it there.
#[test]
fn the_mark_of_a_batch_is_there_in_the_life_that_wrote_it() {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    pending.push(write(1, 1, entries(1, 2, 1, 10)));
    put(&mut wal, &mut pending);
    rot_text(&disk, &segment_name(1), b"1.2.");
    let recovered = open(&disk.restart()).expect("it opens").recovered;
    let faulty: Vec<EntryId> = recovered.faulty.iter().map(|faulty| faulty.id).collect();
    assert_eq!(faulty, [id(1, 2)], "rot, and no tear");
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
        let outcome = sound.judge("rot under a later header", |disk| {
            disk.tamper(&name, damage);
        });
        assert!(outcome.is_told(), "{outcome:?}");
    }
}

/// IDENTITY is made after the first batch is durable, so a log without one was damaged.
#[test]
fn a_damaged_first_batch_of_a_young_log_is_told_with_its_place() {
    let disk = SimDisk::new(1, 8 << 20);
    open(&disk).expect("it opens");
    for at in [20, 1000] {
        let disk = disk.fork(1);
        disk.tamper(&segment_name(1), |bytes| bytes[at] ^= 1);
        let sound = disk.fork(2).content(&segment_name(1));
        let recovered = open(&disk)
            .expect("the first batch tells the page")
            .recovered;
        assert!(!recovered.wal.hard_state().lost);
        assert_eq!(recovered.damage.expect("it is told").file, segment_name(1));
        assert_ne!(disk.content(&segment_name(1)), sound, "it is written anew");
        // Without that, the only segment is not known to be one.
        disk.tamper(&segment_name(1), |bytes| {
            bytes[at] ^= 1;
            bytes[4096 + 20] ^= 1;
        });
        let fatal = open(&disk.restart()).err();
        let fatal = fatal.expect("term and vote are in doubt");
        assert_eq!(fatal.status, ExitStatus::Damaged);
        assert!(fatal.place.starts_with(&segment_name(1)), "{fatal}");
    }
    // Of the first batch the mark tells term and vote.
    let rotten = disk.fork(1);
    rotten.tamper(&segment_name(1), |bytes| bytes[4096 + 20] ^= 1);
    let recovered = open(&rotten).expect("it begins anew").recovered;
    assert!(recovered.wal.hard_state().lost);
    let place = recovered.damage.expect("it is told").file;
    assert_eq!(place, segment_name(1));
    let disk = disk.fork(1);
    raftd::disk::Disk::remove(&disk, &segment_name(1)).expect("it goes");
    let fatal = open(&disk).err().expect("votes and entries are lost");
    assert_eq!(fatal.status, ExitStatus::Damaged);
}
