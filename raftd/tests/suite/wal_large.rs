//! Segments that are larger than what is read of them at once, and than a batch may be.

use std::collections::VecDeque;

use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::fatal::Fatal;
use raftd::storage::{OpenedLog, Options, Scrubber, open_log};
use raftd::wal::examine;
use raftd::wal::format::{BATCH_BYTES_MAX, SEGMENT_HEADER_BYTES};
use raftd::wal::segment::segment_name;
use wire::entry::Entry;

use crate::wal_life::put;
use crate::wal_story::{SimWal, content, options};
use crate::wal_support::{entries, write};

const SEGMENT_BYTES: u64 = 8 << 20;

fn open(disk: &SimDisk) -> Result<OpenedLog<Latched<SimDisk>>, Fatal> {
    let large = Options {
        segment_bytes: SEGMENT_BYTES,
        ..options(disk.operations())
    };
    open_log(Latched::new(disk.clone()), &large)
}

/// Most of a segment: batches of all sizes, some of which no block begins.
fn long_log(disk: &SimDisk) -> (SimWal, Vec<Entry>) {
    let mut wal = open(disk).expect("it opens").recovered.wal;
    let mut written = Vec::new();
    let sizes = [700_000, 10, 300_000, 2_000, 90_000, 60_000];
    for (index, bytes) in (1..=36).zip(sizes.into_iter().cycle()) {
        let batch = entries(index, 1, 1, bytes);
        put(&mut wal, write(1, 1, batch.clone()));
        written.extend(batch);
    }
    assert_eq!(wal.next_segment(), 2);
    (wal, written)
}

#[test]
fn what_was_written_is_found_and_read_back() {
    let disk = SimDisk::new(1, 32 << 20);
    let (_, written) = long_log(&disk);
    let recovered = open(&disk.restart()).expect("it opens").recovered;
    assert_eq!(
        (content(&recovered).entries, &recovered.damage),
        (written, &None)
    );
}

/// Where the log of this disk ends, and its last batch begins.
fn end(disk: &SimDisk) -> (usize, usize) {
    let mut last = None;
    examine(disk, None, |batch| last = Some(batch.header)).expect("it is read");
    let last = last.expect("it has batches");
    (last.end() as usize, last.offset as usize)
}

/// Cases G, K and Q, F and L of `raftd-wal(5)`: what one batch holds is a tear, more is none.
#[test]
fn what_stands_far_behind_the_end_is_no_tear() {
    const FAR: usize = BATCH_BYTES_MAX as usize;
    let sound = SimDisk::new(1, 32 << 20);
    let mut wal = open(&sound).expect("it opens").recovered.wal;
    for index in 1..=2 {
        put(&mut wal, write(1, 1, entries(index, 1, 1, 100)));
    }
    let (end, last) = end(&sound);
    // The mark is there or not, the last entry is damaged or not, and the last bytes end there.
    for (marked, damaged, behind, case) in [
        (false, false, 512, Ok("K")),
        (true, false, 100_352, Ok("K")),
        (true, false, FAR, Ok("K")),
        (true, false, FAR + 512, Ok("Q")),
        (false, false, FAR, Ok("K")),
        (false, false, FAR + 512, Err("L")),
        (false, true, FAR - (end - last), Ok("G")),
        (false, true, FAR - (end - last) + 512, Err("F")),
    ] {
        let context = format!("mark {marked}, damaged {damaged}, {behind} bytes");
        let disk = sound.fork(1);
        disk.tamper(&segment_name(1), |bytes| {
            if !marked {
                bytes[end..end + 512].fill(0);
            }
            bytes[last + 200] ^= u8::from(damaged);
            bytes[end + behind - 256] = 1;
        });
        let opened = open(&disk).map(|opened| opened.recovered);
        match (opened, case) {
            (Ok(recovered), Ok(case)) => {
                let cases = recovered.report.cases.to_string();
                assert!(cases.contains(case), "{context}: {cases}");
                assert_eq!(recovered.damage.is_some(), case == "Q", "{context}");
                let torn = end + behind - if damaged { last } else { end };
                assert_eq!(recovered.report.torn_bytes, torn as u64, "{context}");
                let left = disk.content(&segment_name(1)).expect("it exists");
                assert_eq!(left[end + behind - 256], 0, "{context}: it is zeroed");
            }
            (Err(fatal), Err(case)) => {
                let told = format!("(case {case})");
                assert!(fatal.what.contains(&told), "{context}: {fatal}");
            }
            (opened, _) => panic!("{context}: {:?}", opened.map(|it| it.report)),
        }
    }
    // A mark that did not reach the disk leaves nothing that is torn.
    sound.tamper(&segment_name(1), |bytes| bytes[end..end + 512].fill(0));
    let report = open(&sound).expect("it is sound").recovered.report;
    assert_eq!(
        (report.torn_bytes, &report.cases.to_string()[..]),
        (0, "AJb")
    );
}

/// Cases O, P and R: a power cut leaves no sector that cannot be read.
#[test]
fn what_cannot_be_read_is_no_tear() {
    // The last batch has one sector, or more.
    for bytes in [10, 1000] {
        let sound = SimDisk::new(1, 32 << 20);
        let mut wal = open(&sound).expect("it opens").recovered.wal;
        for index in 1..=2 {
            put(&mut wal, write(1, 1, entries(index, 1, 1, bytes)));
        }
        let (end, last) = end(&sound);
        let start_without = |from: usize, marked: bool| {
            let disk = sound.fork(1);
            if !marked {
                disk.tamper(&segment_name(1), |bytes| bytes[end..end + 512].fill(0));
            }
            disk.make_unreadable(&segment_name(1), from as u64..from as u64 + 1);
            open(&disk).map(|opened| opened.recovered)
        };
        let header = start_without(last, false).err().expect("nobody knows");
        assert!(header.what.contains("(case P)"), "{header}");
        if end > last + 512 {
            let entry = start_without(last + 512, false).expect("it is known which");
            assert!(entry.report.cases.to_string().contains('O'));
            assert_eq!(entry.faulty.len(), 1);
        }
        let behind = start_without(end + 1024, true).expect("it was never there");
        assert!(behind.report.cases.to_string().contains('R'));
        assert!(behind.damage.is_some());
    }
}

/// And counts what it has read.
#[test]
fn a_scrub_takes_a_segment_in_pieces() {
    let disk = SimDisk::new(1, 32 << 20);
    let (mut wal, _) = long_log(&disk);
    for index in 37..47 {
        put(&mut wal, write(1, 1, entries(index, 1, 1, 150_000)));
    }
    assert_eq!(wal.sealed_segments().start, 1);
    let segments = examine(&disk, None, |_| {}).expect("it is read").segments;
    let mut scrubber = Scrubber::new(disk.clone());
    scrubber.begin(1..2);
    let mut pieces = Vec::new();
    while scrubber.has_work() {
        let piece = scrubber.step(&mut VecDeque::new());
        assert_eq!(piece.suspect, None);
        pieces.push(piece.bytes);
    }
    let largest = pieces.iter().max().expect("there are some");
    assert!(*largest < 1 << 20, "{pieces:?}");
    let sum: u64 = pieces.iter().sum();
    assert_eq!(sum, segments[0].end - SEGMENT_HEADER_BYTES);
}
