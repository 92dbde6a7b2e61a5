//! The bytes of version 1, frozen: what is in `golden/` is what every version 1 sends and takes.
//!
//! A new sample gets its file by `WIRE_GOLDEN=new cargo test -p wire`. An existing file is never
//! written: a change of its bytes is a change of the protocol.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use wire::client::Reply;
use wire::error::Error;
use wire::frame::{HEADER_BYTES, Kind};

use crate::any::{Any, parse};
use crate::samples;

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/golden"))
}

/// A comment, the header, then the payload.
fn to_hex(any: &Any<'_>, bytes: &[u8]) -> String {
    let (header, payload) = bytes.split_at(HEADER_BYTES);
    let mut text = format!("# {any:?}\n{}\n", HEXLOWER.encode(header));
    for line in payload.chunks(32) {
        writeln!(text, "{}", HEXLOWER.encode(line)).expect("strings take all");
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    HEXLOWER.decode(digits.as_bytes()).expect("hex digits")
}

#[test]
fn bytes_are_frozen() {
    let write_new = std::env::var("WIRE_GOLDEN").is_ok_and(|value| value == "new");
    let mut expected = BTreeSet::new();
    for (name, any) in samples::all() {
        let file = format!("{name}.hex");
        let path = directory().join(&file);
        if write_new && !path.exists() {
            fs::write(&path, to_hex(&any, &any.encode())).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; see the top of golden.rs", path.display())
        });
        let golden = from_hex(&text);
        assert_eq!(
            HEXLOWER.encode(&any.encode()),
            HEXLOWER.encode(&golden),
            "{name} is encoded to other bytes"
        );
        assert_eq!(
            Any::decode(&parse(&golden)),
            Ok(any),
            "{name} is decoded to something else"
        );
        assert!(expected.insert(file), "two samples are called {name}");
    }
    let found: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "files without a sample");
}

#[test]
fn every_kind_has_a_sample() {
    let sampled: BTreeSet<u8> = samples::all()
        .iter()
        .map(|(_, any)| parse(&any.encode()).kind.code())
        .collect();
    let all: BTreeSet<u8> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    assert_eq!(sampled, all);
}

/// The codes have no gap, and no code outside of them reads as one of them.
#[test]
fn every_error_has_a_sample() {
    let mut codes: Vec<u16> = samples::errors().iter().map(Error::code).collect();
    assert_eq!(codes.pop(), Some(999));
    assert_eq!(codes, (1..=28).collect::<Vec<_>>());
    for code in 0..=u16::MAX {
        let payload = [&code.to_be_bytes()[..], &[1, 0, 0]].concat();
        let bytes = crate::any::sealed(Kind::Error, 0, &payload);
        let decoded = Any::decode(&parse(&bytes));
        let unknown = matches!(&decoded, Ok(any) if any.is_abridged());
        assert_eq!(unknown, !(1..=28).contains(&code), "code {code}");
    }
}

#[test]
fn an_error_of_a_later_version_keeps_its_class_and_text() {
    let payload = [&[0x12, 0x34, 2, 0, 2][..], b"hi", b"details of later"].concat();
    let bytes = crate::any::sealed(Kind::Error, 5, &payload);
    let Ok(Any::Reply(5, Reply::Error(error))) = Any::decode(&parse(&bytes)) else {
        panic!("not an error");
    };
    assert_eq!(error.code(), 0x1234);
    assert_eq!(error.class().name(), "unknown");
    assert_eq!(error.to_string(), "error 4660: hi");
}
