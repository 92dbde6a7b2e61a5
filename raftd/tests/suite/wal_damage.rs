//! Damage of what was durable: told with its place, or harmless; never taken for the log's end.

use raft::{HardState, Write};
use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::wal::format::BATCH_HEADER_BYTES;
use raftd::wal::segment::{self, segment_name};
use raftd::wal::{Pending, Progress, Recovered};
use wire::entry::Entry;
use wire::types::{EntryId, Index, Term};

use crate::wal_story::{Content, Random, SimWal, content, make_spare, open};
use crate::wal_support::{entries, membership_entry, memberships_in, write};

pub(crate) const SECTOR: usize = 512;

/// A log over two segments and a spare, everything in it durable and marked.
pub(crate) struct Sound {
    pub(crate) disk: SimDisk,
    pub(crate) segments: [String; 2],
    pub(crate) content: Content,
}

impl Sound {
    /// The log as it is on this disk; its second segment is `newest`.
    pub(crate) fn of(disk: SimDisk, newest: u64) -> Self {
        // The write-back of the mark.
        disk.tamper(&segment_name(newest), |_| {});
        let recovered = open(&disk.restart()).expect("it is sound").recovered;
        assert_eq!(recovered.report.segments, 2);
        assert_eq!(recovered.report.torn_bytes, 0, "the mark is in its place");
        // Batches, the end of the log, the end behind a seal; one spare.
        assert_eq!(recovered.report.cases.to_string(), "AJMg");
        let content = content(&recovered);
        let segments = [newest - 1, newest].map(segment_name);
        Self {
            disk,
            segments,
            content,
        }
    }
}

/// Writes until everything is durable.
pub(crate) fn put(wal: &mut SimWal, pending: &mut Pending) {
    loop {
        match wal.write(pending).expect("no fault is planned") {
            Progress::Idle => return,
            Progress::Durable(_) => {}
            Progress::NoRoom => make_spare(wal).expect("there is room"),
        }
    }
}

pub(crate) fn sound() -> Sound {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut next = 1;
    let sizes = [1, 2, 60_000, 60_000, 3, 60_000, 10, 300, 1, 2000, 5];
    for (n, bytes) in sizes.into_iter().enumerate() {
        let term = 1 + n as u64 / 3;
        let count = 1 + n as u64 % 3;
        let mut entries = entries(next, count, term, bytes / 2);
        if let Some(last) = entries.last_mut().filter(|_| n % 4 == 0) {
            *last = membership_entry(last.index().0, term);
        }
        pending.push(Write {
            commit: Index(next - 1),
            ..write(n as u64 + 1, term, entries)
        });
        next += count;
        put(&mut wal, &mut pending);
    }
    make_spare(&mut wal).expect("there is room");
    Sound::of(disk, 2)
}

/// The same, but the log begins at the second segment that it ever had, and a later batch marks a
/// snapshot; or a snapshot replaced what was before its last entries.
pub(crate) fn sound_behind_snapshot(resets: bool) -> Sound {
    let disk = SimDisk::new(5, 8 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    for (index, bytes) in (1..).zip([90_000, 90_000, 90_000, 300, 120_000]) {
        let one = match index {
            4 => vec![membership_entry(index, 1)],
            _ => entries(index, 1, 1, bytes),
        };
        pending.push(write(index, 1, one));
        put(&mut wal, &mut pending);
    }
    assert_eq!(wal.next_segment(), 4, "3 opens segment 2, and 5 segment 3");
    wal.mark(id(1, 4));
    put(&mut wal, &mut pending);
    let mut files = wal.compact(Index(3), 0);
    assert_eq!(files, 1..2);
    segment::remove(wal.disk(), &mut files).expect("it goes");
    let (mut next, mut reset) = (6, None);
    if resets {
        next = 12;
        reset = Some(id(2, 11));
    }
    let mut entries = entries(next, 3, 2, 700);
    entries[1] = membership_entry(next + 1, 2);
    pending.push(Write {
        reset,
        ..write(6, 2, entries)
    });
    put(&mut wal, &mut pending);
    make_spare(&mut wal).expect("there is room");
    Sound::of(disk, 3)
}

/// Sectors of a file that hold something.
fn used_sectors(disk: &SimDisk, name: &str) -> Vec<usize> {
    let bytes = disk.content(name).expect("the file exists");
    let sectors = bytes.chunks(SECTOR).enumerate();
    let used = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
    used.map(|(n, _)| n * SECTOR).collect()
}

/// Sectors that are not just the middle of an entry: headers, tables, marks, ends of payloads.
pub(crate) fn interesting_sectors(disk: &SimDisk, name: &str) -> Vec<usize> {
    let used = used_sectors(disk, name);
    let bytes = disk.content(name).expect("the file exists");
    let filler = |at: usize| bytes[at..at + SECTOR].iter().all(|byte| *byte == b'x');
    used.into_iter().filter(|at| !filler(*at)).collect()
}

/// What became of a damaged log. Nothing else may: never a shorter or another one.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// As it was, but maybe for entries that a snapshot covers.
    Same,
    /// As it was, but for entries that are named; with them, it is as it was.
    Faulty,
    /// It began anew, and says so: term and vote are as they were.
    Lost,
    /// Refused with 65 and a place.
    Refused(Fatal),
}

impl Outcome {
    pub(crate) fn is_told(&self) -> bool {
        !matches!(self, Self::Same)
    }
}

impl Sound {
    /// Opens a damaged copy.
    pub(crate) fn judge(&self, context: &str, damage: impl FnOnce(&SimDisk)) -> Outcome {
        let disk = self.disk.fork(1);
        damage(&disk);
        let opened = match open(&disk) {
            Err(fatal) => {
                assert_eq!(fatal.status, ExitStatus::Damaged, "{context}: {fatal}");
                assert!(!fatal.place.is_empty(), "{context}: {fatal}");
                assert!(!fatal.remedy.is_empty(), "{context}: {fatal}");
                return Outcome::Refused(fatal);
            }
            Ok(opened) => opened,
        };
        let told = opened.recovered.damage.is_some();
        if opened.recovered.wal.hard_state().lost {
            assert!(told, "{context}: lost");
            drop(opened);
            disk.power_loss();
            let again = open(&disk.restart()).expect("it has begun anew");
            self.check_lost(&again.recovered, context);
            return Outcome::Lost;
        }
        if opened.recovered.faulty.is_empty() {
            self.check_same(&opened.recovered, context);
            return Outcome::Same;
        }
        assert!(told, "{context}: faulty");
        self.mend(opened.recovered, context);
        let again = open(&disk.restart()).expect("it is mended").recovered;
        assert_eq!(again.faulty, [], "{context}: mended for good");
        self.check_same(&again, context);
        Outcome::Faulty
    }

    pub(crate) fn check_same(&self, recovered: &Recovered<Latched<SimDisk>>, context: &str) {
        let found = content(recovered);
        let sound = &self.content;
        assert_eq!(found.hard_state, sound.hard_state, "{context}");
        assert_eq!(found.snapshot, sound.snapshot, "{context}");
        let covered = found.base.index <= sound.snapshot.index && recovered.damage.is_some();
        assert!(
            found.base == sound.base || covered,
            "{context}: {}",
            found.base
        );
        assert!(
            sound.entries.ends_with(&found.entries),
            "{context}: something else is there"
        );
        let held = sound.entries.last().map_or(found.base, Entry::id);
        assert_eq!(
            recovered.wal.last(),
            held,
            "{context}: something was dropped silently"
        );
    }

    pub(crate) fn check_lost(&self, recovered: &Recovered<Latched<SimDisk>>, context: &str) {
        let hard_state = HardState {
            lost: true,
            ..self.content.hard_state
        };
        let found = content(recovered);
        assert_eq!(found.hard_state, hard_state, "{context}");
        assert_eq!(found.entries, [], "{context}");
        assert_eq!(found.base, found.snapshot, "{context}");
        let marker = found.snapshot;
        assert!(
            marker == self.content.snapshot || marker == EntryId::default(),
            "{context}"
        );
    }

    /// Puts back what is faulty, which must be what was there.
    fn mend(&self, recovered: Recovered<Latched<SimDisk>>, context: &str) {
        let mut wal = recovered.wal;
        let entry = |index: Index| {
            let place = index.0 - self.content.base.index.0 - 1;
            self.content.entries[place as usize].clone()
        };
        let first = recovered.faulty[0].id.index;
        let before = wal.load(wal.base().index.next(), wal.last().index, usize::MAX);
        let before = before.expect("it can be read");
        assert_eq!(
            before.len() as u64,
            first.0 - 1 - wal.base().index.0,
            "{context}"
        );
        let from_first = wal.load(first, wal.last().index, usize::MAX);
        assert_eq!(
            from_first.expect("it is known to be faulty"),
            [],
            "{context}"
        );
        let is_faulty = |id: EntryId| recovered.faulty.iter().any(|faulty| faulty.id == id);
        let mut told = memberships_in(&self.content.entries);
        told.retain(|(id, _)| id.index > wal.base().index && !is_faulty(*id));
        assert_eq!(recovered.memberships, told, "{context}: who is a member");
        let wanted: Vec<Entry> = recovered
            .faulty
            .iter()
            .map(|faulty| {
                let entry = entry(faulty.id.index);
                assert_eq!(entry.identity(), *faulty, "{context}");
                entry
            })
            .collect();
        wal.mend(&wanted).expect("no fault is planned");
        assert_eq!(wal.faulty().next(), None, "{context}: mended");
        let all = wal.load(first, wal.last().index, usize::MAX);
        assert!(
            all.expect("it can be read").starts_with(&wanted[..1]),
            "{context}"
        );
    }
}

#[test]
fn every_flipped_byte_is_told_or_harmless() {
    let (told, harmless) = flip_bytes(&sound(), 13);
    // Harmless are the mark of the last batch and the zeros behind batches.
    assert!(told > harmless, "{told} told, {harmless} harmless");
}

fn flip_bytes(sound: &Sound, step: usize) -> (u32, u32) {
    let (mut told, mut harmless) = (0, 0);
    for name in &sound.segments {
        let sectors = interesting_sectors(&sound.disk, name);
        let bytes = sectors.iter().flat_map(|at| *at..at + SECTOR);
        for at in bytes.step_by(step) {
            let context = format!("{name}: byte {at} flipped");
            let outcome = sound.judge(&context, |disk| {
                disk.tamper(name, |bytes| bytes[at] ^= 0x41);
            });
            match outcome.is_told() {
                false => harmless += 1,
                true => told += 1,
            }
        }
    }
    (told, harmless)
}

#[test]
fn every_zeroed_word_and_sector_is_told_or_harmless() {
    let sound = sound();
    zero_words(&sound, 1);
    zero_sectors(&sound, 2);
}

fn zero_words(sound: &Sound, step: usize) {
    for name in &sound.segments {
        for at in interesting_sectors(&sound.disk, name) {
            for word in (at..at + SECTOR).step_by(8 * step) {
                let bytes = sound.disk.content(name).expect("the file exists");
                if bytes[word..word + 8] == [0; 8] {
                    continue;
                }
                let context = format!("{name}: word {word} zeroed");
                let zero = |bytes: &mut Vec<u8>| bytes[word..word + 8].fill(0);
                let _ = sound.judge(&context, |disk| disk.tamper(name, zero));
            }
        }
    }
}

fn zero_sectors(sound: &Sound, step: usize) {
    for name in &sound.segments {
        for at in used_sectors(&sound.disk, name).into_iter().step_by(step) {
            let context = format!("{name}: sector {at} zeroed");
            let zero = |bytes: &mut Vec<u8>| bytes[at..at + SECTOR].fill(0);
            let _ = sound.judge(&context, |disk| disk.tamper(name, zero));
        }
    }
}

/// Also what a snapshot covers, as long as it is there: the log begins with it.
#[test]
fn damage_of_a_log_behind_a_snapshot_is_told_or_harmless() {
    for resets in [false, true] {
        let sound = sound_behind_snapshot(resets);
        let base = if resets { id(2, 11) } else { id(1, 2) };
        assert_eq!(sound.content.base, base);
        flip_bytes(&sound, 31);
        zero_words(&sound, 3);
        zero_sectors(&sound, 17);
        // A marker covers what is in the first segment: that it is gone costs nothing.
        let disk = sound.disk.fork(1);
        raftd::disk::Disk::remove(&disk, &sound.segments[0]).expect("it goes");
        let found = content(&open(&disk).expect("it is covered").recovered);
        assert_eq!(found.base, if resets { base } else { id(1, 4) });
        assert!(sound.content.entries.ends_with(&found.entries));
    }
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
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
            let outcome = sound.judge(&context, |disk| disk.tamper(&name, zero));
            told += u32::from(outcome.is_told());
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
            let outcome = sound.judge(&context, |disk| {
                disk.make_unreadable(&name, at as u64..at as u64 + 512);
            });
            // The header page is written anew.
            let told = outcome.is_told() || at == 0;
            assert!(told, "{context}: what cannot be read is not there");
            if let Outcome::Refused(fatal) = outcome {
                assert!(fatal.place.starts_with(&name), "{context}: {fatal}");
            }
        }
    }
}

#[test]
fn missing_short_swapped_and_foreign_segments_are_damage() {
    let sound = sound();
    let remove = |name: String| {
        move |disk: &SimDisk| raftd::disk::Disk::remove(disk, &name).expect("it goes")
    };
    let outcome = sound.judge("first removed", remove(segment_name(1)));
    assert!(outcome.is_told(), "{outcome:?}");
    // The newest in use is gone; its predecessor is sealed.
    let outcome = sound.judge("newest removed", remove(segment_name(2)));
    assert!(outcome.is_told(), "{outcome:?}");
    let outcome = sound.judge("spare removed", remove(segment_name(3)));
    assert!(!outcome.is_told(), "{outcome:?}");
    for id in [1, 2] {
        let name = segment_name(id);
        let short = |disk: &SimDisk| disk.tamper(&name, |bytes| bytes.truncate(200_000));
        let outcome = sound.judge("short file", short);
        assert!(outcome.is_told(), "{outcome:?}");
        let empty = |disk: &SimDisk| disk.tamper(&name, Vec::clear);
        let outcome = sound.judge("empty file", empty);
        assert!(outcome.is_told(), "{outcome:?}");
    }
    let first = sound.disk.content(&segment_name(1)).expect("it exists");
    let copy = |disk: &SimDisk| disk.tamper(&segment_name(2), |bytes| *bytes = first.clone());
    let outcome = sound.judge("the first over the second", copy);
    assert!(outcome.is_told(), "{outcome:?}");
    let other = {
        let disk = SimDisk::new(9, 8 << 20);
        open(&disk).expect("it opens");
        disk.content(&segment_name(1)).expect("it exists")
    };
    // Same node, another salt: as if an old file had been put back.
    let foreign = |disk: &SimDisk| disk.tamper(&segment_name(1), |bytes| *bytes = other.clone());
    let outcome = sound.judge("a foreign first segment", foreign);
    assert!(outcome.is_told(), "{outcome:?}");
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
        let Ok(opened) = open(&disk) else {
            continue;
        };
        let recovered = opened.recovered;
        let written = &sound.content.entries;
        let mut faulty = recovered.faulty.iter();
        assert!(
            faulty.all(|id| written.iter().any(|entry| entry.identity() == *id)),
            "round {round}"
        );
        if recovered.faulty.is_empty() {
            let found = content(&recovered).entries;
            assert!(written.starts_with(&found), "round {round}");
        }
    }
}
