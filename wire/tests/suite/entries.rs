//! The record of a log entry: its exact bytes, and what is not taken for one.

use bytes::{Bytes, BytesMut};
use wire::entry::{BODY_FORMAT, ENTRY_HEADER_BYTES, Entry, EntryError, EntryKind};
use wire::limits::{COUNTER_MAX, ENTRY_BYTES_MAX};

use crate::make::{entry, id};

/// The record with these bytes changed and its checksum put right again.
fn resealed(good: &Entry, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = good.bytes().to_vec();
    record[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_be_bytes());
    record
}

fn good() -> Entry {
    entry(id(5, 43), EntryKind::Command, b"body")
}

#[test]
fn a_record_is_what_the_byte_map_says() {
    let entry = good();
    let bytes = entry.bytes();
    assert_eq!(bytes.len(), ENTRY_HEADER_BYTES + 4);
    assert_eq!(bytes[..4], 52_u32.to_be_bytes());
    assert_eq!(bytes[4..8], crc32fast::hash(&bytes[8..]).to_be_bytes());
    assert_eq!(bytes[8..16], 5_u64.to_be_bytes());
    assert_eq!(bytes[16..24], 43_u64.to_be_bytes());
    assert_eq!(bytes[24..32], 1_700_000_000_123_u64.to_be_bytes());
    assert_eq!(bytes[32..34], [2, BODY_FORMAT]);
    assert_eq!(bytes[34..48], [0; 14]);
    assert_eq!(&bytes[48..], b"body");

    assert_eq!((entry.id(), entry.kind()), (id(5, 43), EntryKind::Command));
    assert_eq!(entry.wall_ms(), 1_700_000_000_123);
    assert_eq!(entry.crc(), crc32fast::hash(&bytes[8..]));
    assert_eq!(entry.body(), b"body");
    assert_eq!(format!("{entry:?}"), "43@5 Command 4 bytes");
}

#[test]
fn records_come_off_the_front_of_shared_bytes() {
    let first = entry(id(5, 43), EntryKind::Noop, b"");
    let second = good();
    let mut source = Bytes::from([&first.bytes()[..], second.bytes(), b"rest"].concat());
    let start = source.as_ptr();
    let taken = Entry::split_from(&mut source).unwrap();
    assert_eq!(taken, first);
    assert_eq!(taken.bytes().as_ptr(), start, "shared, not copied");
    assert_eq!(Entry::split_from(&mut source), Ok(second));
    assert_eq!(Entry::split_from(&mut source), Err(EntryError::Short));
    assert_eq!(source, b"rest"[..], "unchanged by the failure");
}

#[test]
fn one_pool_serves_many_entries() {
    let mut pool = BytesMut::with_capacity(4096);
    let start = pool.as_ptr();
    let made: Vec<Entry> = (1..=20)
        .map(|n| Entry::build(&mut pool, id(1, n), n, EntryKind::Command, &[7; 10]))
        .collect();
    assert_eq!(made[0].bytes().as_ptr(), start);
    for (n, entry) in (1..).zip(&made) {
        assert_eq!((entry.id(), entry.body()), (id(1, n), &[7; 10][..]));
        assert_eq!(Entry::check(entry.bytes()), Ok(58));
    }
}

#[test]
fn every_cut_is_short_and_every_flipped_bit_is_noticed() {
    let good = good();
    for cut in 0..good.bytes().len() {
        assert_eq!(Entry::check(&good.bytes()[..cut]), Err(EntryError::Short));
    }
    for bit in 0..good.bytes().len() * 8 {
        let mut record = good.bytes().to_vec();
        record[bit / 8] ^= 1 << (bit % 8);
        assert!(Entry::check(&record).is_err(), "bit {bit}");
    }
}

#[test]
fn lengths() {
    let claim = |length: u32| Entry::check(&resealed(&good(), 0, &length.to_be_bytes()));
    for length in [0, 1, 47, ENTRY_BYTES_MAX as u32 + 1, u32::MAX] {
        assert_eq!(claim(length), Err(EntryError::Length(length)));
    }
    assert_eq!(claim(53), Err(EntryError::Short));
    assert_eq!(claim(51), Err(EntryError::Checksum));
    assert_eq!(claim(52), Ok(52));
    assert_eq!(Entry::check(&[0; 100]), Err(EntryError::Length(0)));
    let noop = resealed(&good(), 32, &[1]);
    assert_eq!(
        Entry::check(&noop),
        Err(EntryError::Length(52)),
        "a no-op has no body"
    );
    let longest = entry(id(1, 1), EntryKind::Command, &vec![0; ENTRY_BYTES_MAX - 48]);
    assert_eq!(Entry::check(longest.bytes()), Ok(ENTRY_BYTES_MAX));
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    for kind in (0..=u8::MAX).filter(|kind| ![1, 2, 3, 4].contains(kind)) {
        let record = resealed(&good(), 32, &[kind]);
        assert_eq!(
            Entry::check(&record),
            Err(EntryError::Unknown),
            "kind {kind}"
        );
    }
    for format in (0..=u8::MAX).filter(|format| *format != BODY_FORMAT) {
        let record = resealed(&good(), 33, &[format]);
        assert_eq!(
            Entry::check(&record),
            Err(EntryError::Unknown),
            "format {format}"
        );
    }
    for at in 34..48 {
        let record = resealed(&good(), at, &[1]);
        assert_eq!(Entry::check(&record), Err(EntryError::Unknown), "byte {at}");
    }
}

#[test]
fn terms_and_indexes_are_counters_from_one() {
    for at in [8, 16] {
        for (number, expected) in [
            (0, Err(EntryError::Id)),
            (1, Ok(52)),
            (COUNTER_MAX, Ok(52)),
            (COUNTER_MAX + 1, Err(EntryError::Id)),
            (u64::MAX, Err(EntryError::Id)),
        ] {
            let record = resealed(&good(), at, &number.to_be_bytes());
            assert_eq!(Entry::check(&record), expected, "{number} at {at}");
        }
    }
}

#[test]
fn a_reason_is_a_sentence() {
    for (error, text) in [
        (EntryError::Short, "the entry is cut short"),
        (EntryError::Length(3), "the entry claims 3 bytes"),
        (EntryError::Checksum, "the entry's checksum is wrong"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
