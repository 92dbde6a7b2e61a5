//! Blocks of keys with values, as `dump` writes and `load` reads them.

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::block::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, Block, begin, finish, parse, put_end, put_record, wanted,
};
use wire::error::Error;
use wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

fn records(list: &[(&[u8], &[u8])]) -> BytesMut {
    let mut out = BytesMut::new();
    let start = begin(&mut out);
    for (key, value) in list {
        put_record(&mut out, key, value);
    }
    finish(&mut out, start);
    out
}

/// Writes the length and the checksum anew, as somebody else might.
fn sealed(mut bytes: BytesMut) -> BytesMut {
    let length = u32::try_from(bytes.len() - 4).expect("a block is small");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut covered = bytes[..4].to_vec();
    covered.extend_from_slice(&bytes[8..]);
    let crc = crc32fast::hash(&covered);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn reason(bytes: &[u8]) -> String {
    match parse(bytes) {
        Err(Error::Malformed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_bytes_are_frozen() {
    let mut out = records(&[(b"k", b"\0\xff"), (b"l", b"")]);
    put_end(&mut out, 2);
    let frozen = "0000001ab59d22f40101000000016b0000000200ff000000016c00000000\
                  0000000eacf7705501020000000000000002";
    assert_eq!(HEXLOWER.encode(&out), frozen);
}

#[test]
fn what_goes_in_comes_out_and_every_cut_is_seen() {
    let all: Vec<u8> = (0..=255).collect();
    let list: [(&[u8], &[u8]); 3] = [(&all, &all), (b"k", b""), (b"\0", b"\n")];
    let mut bytes = records(&list);
    let first = bytes.len();
    put_end(&mut bytes, 3);
    let (block, len) = parse(&bytes).unwrap().expect("it is whole");
    assert_eq!(len, first);
    let Block::Records(records) = block else {
        panic!("{block:?}")
    };
    assert_eq!(records.collect::<Vec<_>>(), list);
    let end = parse(&bytes[first..]).unwrap();
    assert_eq!(end, Some((Block::End { records: 3 }, bytes.len() - first)));
    for cut in 0..first {
        assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        let expected = if cut < 4 { BLOCK_HEADER_BYTES } else { first };
        assert_eq!(wanted(&bytes[..cut]), expected);
    }
}

#[test]
fn every_changed_byte_is_found() {
    let good = records(&[(b"key", b"value")]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // A length that grew asks for more bytes than there are.
        assert!(!matches!(parse(&bad), Ok(Some(_))), "byte {at}");
    }
}

#[test]
fn what_a_block_cannot_be_is_refused() {
    let good = records(&[(b"key", b"value")]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        reason(&sealed(bytes))
    };
    assert_eq!(changed(8, 2), "the version of a block is not known");
    assert_eq!(changed(9, 3), "the kind of a block is not known");
    assert_eq!(changed(13, 0), "a key is empty");
    assert_eq!(changed(13, 9), "the message is cut short");
    let nothing = BytesMut::from(&good[..BLOCK_HEADER_BYTES]);
    assert_eq!(reason(&sealed(nothing)), "a block of no records");
    assert_eq!(reason(&[0, 0, 0, 5]), "a block is shorter than its header");
    let mut end = BytesMut::new();
    put_end(&mut end, 1);
    end.extend_from_slice(b"x");
    assert_eq!(reason(&sealed(end)), "bytes after the end of the message");
    let claim = u32::try_from(BLOCK_BYTES_MAX).unwrap().to_be_bytes();
    assert!(matches!(parse(&claim), Err(Error::TooLarge { what, .. }) if what == "block"));
}

#[test]
fn one_record_always_fits_and_no_larger_one() {
    let (key, value) = (vec![1; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
    let largest = records(&[(&key, &value)]);
    assert!(matches!(parse(&largest), Ok(Some((Block::Records(_), _)))));
    let long = records(&[(&[&key[..], b"k"].concat(), b"")]);
    assert!(matches!(parse(&long), Err(Error::TooLarge { what, .. }) if what == "key"));
    let long = records(&[(b"k", &[&value[..], b"v"].concat())]);
    assert!(matches!(parse(&long), Err(Error::TooLarge { what, .. }) if what == "value"));
}

proptest! {
    /// Whatever decodes encodes to the same bytes; nothing panics, and nothing is read behind the
    /// end of the block.
    #[test]
    fn any_bytes_are_a_block_or_are_refused(
        list in vec((vec(any::<u8>(), 0..4), vec(any::<u8>(), 0..4)), 1..4),
        changes in vec((any::<usize>(), any::<u8>()), 0..3),
        seal in any::<bool>(),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let list: Vec<_> = list.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let mut bytes = records(&list);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if seal {
            bytes = sealed(bytes);
        }
        bytes.extend_from_slice(&behind);
        if let Ok(Some((block, len))) = parse(&bytes) {
            let mut again = BytesMut::new();
            match block {
                Block::Records(found) => {
                    let found: Vec<_> = found.collect();
                    again = records(&found);
                }
                Block::End { records } => put_end(&mut again, records),
            }
            prop_assert_eq!(&again[..], &bytes[..len]);
        }
    }
}
