//! Every place of a small log, and of IDENTITY, damaged in every way: nothing is ever lost silently.

use raftd::disk::sim::SimDisk;
use raftd::wal::identity::{IDENTITY_NAME, Identity, SLOT_BYTES};
use raftd::wal::segment::segment_name;
use raftd::wal::{Pending, Settings, recover};
use wire::types::Index;

use crate::wal_damage::{Outcome, SECTOR, Sound, id, put};
use crate::wal_story::{make_spare, open};
use crate::wal_support::{entries, identity, write};

/// Two segments with batches of all kinds in few sectors, but for one large entry: votes, entries, a
/// cut, a marker, a Seal, an Open with entries.
fn small() -> Sound {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    pending.push(write(1, 1, Vec::new()));
    put(&mut wal, &mut pending);
    pending.push(write(2, 1, entries(1, 3, 1, 30)));
    put(&mut wal, &mut pending);
    pending.push(write(3, 1, entries(4, 1, 1, 700)));
    put(&mut wal, &mut pending);
    wal.mark(id(1, 2));
    put(&mut wal, &mut pending);
    let mut cut = write(4, 2, entries(4, 2, 2, 10));
    cut.truncate_from = Some(Index(4));
    pending.push(cut);
    put(&mut wal, &mut pending);
    // The rest of the first segment is too small for this one.
    pending.push(write(5, 2, entries(6, 1, 2, 190_000)));
    put(&mut wal, &mut pending);
    pending.push(write(6, 3, entries(7, 2, 3, 200)));
    put(&mut wal, &mut pending);
    pending.push(write(7, 4, Vec::new()));
    put(&mut wal, &mut pending);
    pending.push(write(8, 4, entries(9, 1, 4, 5)));
    put(&mut wal, &mut pending);
    make_spare(&mut wal).expect("there is room");
    Sound::of(disk, 2)
}

/// What became of the damaged logs.
#[derive(Debug, Default)]
struct Tally {
    same: u32,
    faulty: u32,
    lost: u32,
    refused: u32,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Same => &mut self.same,
            Outcome::Faulty => &mut self.faulty,
            Outcome::Lost => &mut self.lost,
            Outcome::Refused(_) => &mut self.refused,
        } += 1;
    }
}

/// Flips each `step`-th byte of what is used, zeroes its word, cuts the file there. Sectors that hold
/// the middle of an entry are all alike: of those every `step`-th byte of a few is damaged.
fn sweep(step: usize) -> Tally {
    let sound = small();
    let mut tally = Tally::default();
    for name in &sound.segments {
        let bytes = sound.disk.content(name).expect("the file exists");
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .expect("it is used");
        let is_filler = |at: usize| bytes[at..at + SECTOR].iter().all(|byte| *byte == b'x');
        let places = (0..(used + 1).next_multiple_of(SECTOR)).step_by(step);
        let places = places.filter(|at| {
            let sector = at / SECTOR * SECTOR;
            !is_filler(sector) || (sector / SECTOR).is_multiple_of(64)
        });
        // And zeros: right behind the end, in the middle, in the reserve, at the end of the file.
        let zeros = [used + SECTOR, 100_000, 250_000, 262_143];
        for at in places.chain(zeros) {
            let word = at / 8 * 8;
            let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 0x10;
            let zero = |bytes: &mut Vec<u8>| bytes[word..word + 8].fill(0);
            let cut = |bytes: &mut Vec<u8>| bytes.truncate(at);
            let mut judge = |what: &str, damage: &dyn Fn(&mut Vec<u8>)| {
                let context = format!("{name}: {what} at {at}");
                let outcome = sound.judge(&context, |disk| disk.tamper(name, |file| damage(file)));
                tally.add(&outcome);
            };
            judge("flipped", &flip);
            judge("zeroed", &zero);
            judge("cut", &cut);
        }
    }
    tally
}

/// A sample; `WAL_SWEEP=1` damages each byte, which takes minutes.
#[test]
fn no_place_of_a_log_can_be_damaged_silently() {
    let step = std::env::var("WAL_SWEEP").map_or(61, |step| step.parse().expect("a number"));
    let tally = sweep(step);
    println!("{tally:?}");
    let each = [tally.same, tally.faulty, tally.lost, tally.refused];
    assert!(each.into_iter().all(|n| n > 0), "{tally:?}");
}

/// The same where nobody else could heal it: as it was, or refused.
#[test]
fn alone_what_cannot_be_had_again_is_refused() {
    let sound = small();
    let settings = Settings {
        owner: identity().owner(),
        segment_bytes: 256 * 1024,
        tail_bytes: 0,
        alone: true,
        seed: 1,
    };
    let (mut same, mut refused) = (0, 0);
    for name in &sound.segments {
        for at in (0..20_000).step_by(97) {
            let disk = sound.disk.fork(1);
            disk.tamper(name, |bytes| bytes[at] ^= 1);
            let before = disk.content(name);
            match recover(disk.restart(), &settings) {
                Ok(recovered) => {
                    let recovered = recovered.expect("there are segments");
                    assert_eq!(recovered.faulty, []);
                    assert!(!recovered.wal.hard_state().lost, "{name}: {at}");
                    assert_eq!(recovered.wal.last(), id(4, 9), "{name}: {at}");
                    same += 1;
                }
                Err(error) => {
                    assert!(matches!(error, raftd::wal::Error::Damaged(_)), "{error}");
                    assert_eq!(disk.content(name), before, "it is left as it is");
                    refused += 1;
                }
            }
        }
    }
    assert!(same > 10 && refused > 10, "{same} same, {refused} refused");
}

/// One copy is enough, whatever is in the other; it is made whole again.
#[test]
fn any_byte_of_a_copy_of_identity_may_be_damaged() {
    let disk = SimDisk::new(1, 8 << 20);
    drop(open(&disk).expect("it opens"));
    let whole = disk.content(IDENTITY_NAME).expect("it was made");
    for slot in [0, SLOT_BYTES] {
        for at in (slot..slot + 200).step_by(3).chain([slot + SLOT_BYTES - 1]) {
            for unreadable in [false, true] {
                let disk = disk.fork(1);
                match unreadable {
                    true => disk.make_unreadable(IDENTITY_NAME, at as u64..at as u64 + 1),
                    false => disk.tamper(IDENTITY_NAME, |bytes| bytes[at] ^= 1),
                }
                let found = Identity::read(&disk.restart()).expect("one copy is whole");
                assert_eq!(found, Some(identity()), "{at}");
                disk.power_loss();
                assert_eq!(disk.content(IDENTITY_NAME).as_ref(), Some(&whole), "{at}");
                let found = Identity::look(&disk.restart()).expect("both are");
                assert_eq!(found, Some(identity()), "{at}");
            }
        }
    }
}

/// The segment that is written to, word by word: a length that reads 0 is never the end of the log.
#[test]
fn zeroing_one_length_word_in_the_newest_segment_forgets_nothing() {
    let sound = small();
    let name = segment_name(2);
    let bytes = sound.disk.content(&name).expect("it exists");
    let heads = (0..bytes.len()).step_by(SECTOR);
    let heads = heads.filter(|at| bytes[*at..].starts_with(b"RBAT"));
    let mut told = 0;
    for head in heads {
        let entries = u32::from_be_bytes(bytes[head + 60..][..4].try_into().expect("4 bytes"));
        let rows = (0..entries as usize).map(|row| head + 128 + row * 16 + 8);
        let payload = head + 128 + entries as usize * 16;
        for at in [head + 60, head + 92, payload].into_iter().chain(rows) {
            if bytes[at..at + 4] != [0; 4] {
                let context = format!("the length at {at} is zero");
                let zero = |bytes: &mut Vec<u8>| bytes[at..at + 4].fill(0);
                let outcome = sound.judge(&context, |disk| disk.tamper(&name, zero));
                assert!(outcome.is_told(), "{context}");
                told += 1;
            }
        }
    }
    assert!(told > 10, "{told}");
}
