//! `man/raftd-wire.7` is true: its forms are read from the page and every sample is taken apart by
//! them, down to the last byte; its tables are compared with the constants of the code.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use wire::client::{Reply, Request};
use wire::command::{Command, Outcome, Write};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::error::Class;
use wire::frame::{HEADER_BYTES, Kind};
use wire::limits;
use wire::types::{Index, Term};

use crate::any::{Any, parse};
use crate::samples;

const PAGE: &str = include_str!("../../../man/raftd-wire.7");

/// The literal lines under each heading, split into words.
fn blocks() -> BTreeMap<String, Vec<Vec<&'static str>>> {
    let mut blocks: BTreeMap<String, Vec<Vec<&str>>> = BTreeMap::new();
    let (mut heading, mut literal) = (String::new(), false);
    for line in PAGE.lines() {
        if let Some(title) = line
            .strip_prefix(".SS ")
            .or_else(|| line.strip_prefix(".SH "))
        {
            heading = title.to_owned();
            blocks.entry(heading.clone()).or_default();
        } else if line == ".nf" {
            literal = true;
        } else if line == ".fi" {
            literal = false;
        } else if literal {
            let words = line.split_whitespace().collect();
            blocks.entry(heading.clone()).or_default().push(words);
        }
    }
    blocks
}

/// Takes payloads apart as the page says.
struct Manual {
    blocks: BTreeMap<String, Vec<Vec<&'static str>>>,
    /// Numbered lines that a sample came by.
    seen: RefCell<BTreeSet<(String, u64)>>,
}

impl Manual {
    fn new() -> Self {
        Self {
            blocks: blocks(),
            seen: RefCell::default(),
        }
    }

    fn form(&self, name: &str) -> &[Vec<&'static str>] {
        self.blocks
            .get(name)
            .unwrap_or_else(|| panic!("the page has no form {name}"))
    }

    /// Walks over one value of a type; `bytes` is left after it.
    fn walk(&self, kind: &str, bytes: &mut &[u8]) {
        if let Some(item) = kind.strip_suffix("...") {
            while !bytes.is_empty() {
                self.walk(item, bytes);
            }
        } else if let Some(item) = kind.strip_suffix("[]") {
            for _ in 0..number(bytes, 2) {
                self.walk(item, bytes);
            }
        } else if let Some(item) = held_in(kind) {
            let length = number(bytes, 4);
            let (mut held, rest) = bytes.split_at(length);
            while !held.is_empty() {
                self.walk(item, &mut held);
            }
            *bytes = rest;
        } else if let Some(value) = kind.strip_suffix('?') {
            match number(bytes, 1) {
                0 => {}
                1 => self.walk(value, bytes),
                other => panic!("a flag of {other}"),
            }
        } else {
            match kind {
                "u8" | "flag" => skip(bytes, 1),
                "u16" => skip(bytes, 2),
                "u32" => skip(bytes, 4),
                "u64" | "i64" => skip(bytes, 8),
                "u128" => skip(bytes, 16),
                "bytes" => {
                    let length = number(bytes, 4);
                    skip(bytes, length);
                }
                "text" => {
                    let length = number(bytes, 2);
                    skip(bytes, length);
                }
                // Its length counts itself.
                "entry" => {
                    let length = number(bytes, 4);
                    skip(bytes, length - 4);
                }
                form => self.walk_form(form, bytes),
            }
        }
    }

    fn walk_form(&self, name: &str, bytes: &mut &[u8]) {
        let lines = self.form(name);
        let numbered = lines
            .first()
            .is_some_and(|line| line[0].parse::<u64>().is_ok());
        if !numbered {
            for line in lines {
                self.walk(line[0], bytes);
            }
            return;
        }
        let code = number(bytes, 1);
        let line = lines
            .iter()
            .find(|line| line[0].parse() == Ok(code))
            .unwrap_or_else(|| panic!("{name} has no line {code}"));
        self.seen
            .borrow_mut()
            .insert((name.to_owned(), code as u64));
        self.walk_fields(&line[2..], bytes);
    }

    /// `TYPE NAME, TYPE NAME`; what is not a type is a remark.
    fn walk_fields(&self, words: &[&str], bytes: &mut &[u8]) {
        for field in words.chunks(2) {
            if let [kind, _] = field
                && self.is_type(kind)
            {
                self.walk(kind, bytes);
            }
        }
    }

    fn is_type(&self, word: &str) -> bool {
        let word = word.trim_end_matches('?');
        ["u8", "u16", "u32", "u64", "i64", "flag", "bytes", "text"].contains(&word)
            || self.blocks.contains_key(word)
            || held_in(word).is_some()
    }

    fn walk_error(&self, bytes: &mut &[u8]) {
        let code = number(bytes, 2);
        let class = number(bytes, 1);
        let lines = self.form("0x03 Error");
        // The classes come first in the block; their names are the third words of the codes.
        let (classes, codes) = lines.split_at(3);
        match codes.iter().find(|line| line[0].parse() == Ok(code)) {
            Some(line) => {
                assert_eq!(classes[class - 1][1], line[2], "class of {}", line[1]);
                self.walk_fields(&line[3..], bytes);
            }
            None => self.walk("text", bytes),
        }
    }
}

/// Of `bytes(TYPE)`.
fn held_in(kind: &str) -> Option<&str> {
    kind.strip_prefix("bytes(")?.strip_suffix(')')
}

fn skip(bytes: &mut &[u8], count: usize) {
    *bytes = bytes.get(count..).expect("the payload is longer");
}

fn number(bytes: &mut &[u8], width: usize) -> usize {
    let digits = bytes[..width].iter();
    let number = digits.fold(0, |number, byte| number << 8 | usize::from(*byte));
    skip(bytes, width);
    number
}

#[test]
fn every_sample_is_laid_out_as_the_page_says() {
    let manual = Manual::new();
    for (name, any) in samples::all() {
        let bytes = any.encode();
        let frame = parse(&bytes);
        let mut payload = frame.payload;
        match frame.kind {
            Kind::Error => manual.walk_error(&mut payload),
            kind => {
                let form = format!("0x{:02x} {kind:?}", kind.code());
                manual.walk_form(&form, &mut payload);
            }
        }
        assert!(payload.is_empty(), "{name}: {} bytes left", payload.len());
    }
    let mut body = BytesMut::new();
    samples::membership().encode(&mut body);
    let mut rest = body.as_ref();
    manual.walk_form("membership", &mut rest);
    assert!(rest.is_empty(), "membership: {} bytes left", rest.len());
    // Every numbered line was needed: the page has no code that the protocol does not have.
    for form in [
        "role",
        "room",
        "standing",
        "change",
        "suffrage",
        "command",
        "expect",
        "consistency",
        "mode",
        "view_choice",
        "condition",
        "relation",
        "operation",
        "outcome",
        "result",
        "why",
        "node_role",
    ] {
        for line in manual.form(form) {
            let code: u64 = line[0].parse().expect("a numbered form");
            let seen = manual.seen.borrow().contains(&(form.to_owned(), code));
            assert!(seen, "no sample has {form} {code}");
        }
    }
}

#[test]
fn the_table_of_kinds_is_complete() {
    let blocks = blocks();
    let listed: Vec<String> = blocks["Kinds"]
        .iter()
        .map(|line| format!("{} {}", line[0], line[1]))
        .collect();
    let known: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("0x{:02x} {kind:?}", kind.code()))
        .collect();
    assert_eq!(listed, known);
    let headings: BTreeSet<&String> = blocks.keys().filter(|key| key.starts_with("0x")).collect();
    assert_eq!(headings, known.iter().collect());
}

#[test]
fn the_table_of_errors_is_complete() {
    let lines = &blocks()["0x03 Error"];
    for (line, class) in lines
        .iter()
        .zip([Class::NotApplied, Class::Unknown, Class::Final])
    {
        assert_eq!(line[..2], [class.code().to_string().as_str(), class.name()]);
    }
    let listed: Vec<Vec<String>> = lines[3..]
        .iter()
        .map(|line| line[..3].iter().map(|&word| word.to_owned()).collect())
        .collect();
    let known: Vec<Vec<String>> = samples::errors()
        .iter()
        .filter(|error| error.name() != "unknown")
        .map(|error| {
            let (code, name, class) = (error.code(), error.name(), error.class());
            vec![code.to_string(), name.to_owned(), class.name().to_owned()]
        })
        .collect();
    assert_eq!(listed, known);
}

/// `OFFSET TYPE NAME`: each begins where the one before ends, and the last one where the header
/// does.
#[test]
fn headers_have_no_gap() {
    for (section, header_bytes) in [
        ("FRAMES", HEADER_BYTES),
        ("LOG ENTRIES", ENTRY_HEADER_BYTES),
    ] {
        let lines = &blocks()[section];
        let mut offset = 0;
        for line in lines {
            assert_eq!(line[0].parse(), Ok(offset), "{section}: {line:?}");
            offset += match line[1] {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" => 8,
                _ => 0,
            };
        }
        assert_eq!(offset, header_bytes, "{section}");
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let known = [
        ("HELLO_FRAME_BYTES_MAX", limits::HELLO_FRAME_BYTES_MAX),
        ("CLIENT_FRAME_BYTES_MAX", limits::CLIENT_FRAME_BYTES_MAX),
        ("PEER_FRAME_BYTES_MAX", limits::PEER_FRAME_BYTES_MAX),
        ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX),
        ("VALUE_BYTES_MAX", limits::VALUE_BYTES_MAX),
        ("ENTRY_BYTES_MAX", limits::ENTRY_BYTES_MAX),
        ("ENTRY_KEYS_MAX", limits::ENTRY_KEYS_MAX),
        ("TXN_APPENDS_MAX", limits::TXN_APPENDS_MAX),
        ("RESULTS_BYTES_MAX", limits::RESULTS_BYTES_MAX),
        ("APPEND_BYTES_MAX", limits::APPEND_BYTES_MAX),
        ("APPEND_ENTRIES_MAX", limits::APPEND_ENTRIES_MAX),
        ("FETCH_ENTRIES_MAX", limits::FETCH_ENTRIES_MAX),
        ("SNAPSHOT_CHUNK_BYTES_MAX", limits::SNAPSHOT_CHUNK_BYTES_MAX),
        ("PAGE_ITEMS_MAX", limits::PAGE_ITEMS_MAX as usize),
        ("PAGE_BYTES_MAX", limits::PAGE_BYTES_MAX as usize),
        ("LEADER_CHANGES_MAX", limits::LEADER_CHANGES_MAX),
        ("MEMBERS_MAX", limits::MEMBERS_MAX),
        ("MEMBERSHIP_BYTES_MAX", limits::MEMBERSHIP_BYTES_MAX),
        ("NAME_BYTES_MAX", limits::NAME_BYTES_MAX),
        ("ADDR_BYTES_MAX", limits::ADDR_BYTES_MAX),
        ("TEXT_BYTES_MAX", limits::TEXT_BYTES_MAX),
    ]
    .map(|(name, limit)| format!("{name} {limit}"));
    let listed: Vec<String> = blocks()["LIMITS"]
        .iter()
        .map(|line| format!("{} {}", line[0], line[1]))
        .collect();
    assert_eq!(listed, known);
    // What is a limit of the page is one of the code, and the other way round.
    let source = include_str!("../../src/limits.rs");
    let internal = [
        "COUNTER_MAX",
        "KEPT_REPLY_BYTES_MAX",
        "WRITE_OVERHEAD_BYTES_MAX",
    ];
    for line in source.lines() {
        if let Some((name, _)) = line
            .strip_prefix("pub const ")
            .and_then(|rest| rest.split_once(':'))
        {
            let told = internal.contains(&name)
                || listed
                    .iter()
                    .any(|limit| limit.starts_with(&format!("{name} ")));
            assert!(told, "the page does not tell {name}");
        }
    }
    assert_eq!(limits::COUNTER_MAX, (1 << 63) - 1);
    assert!(PAGE.contains("at most 2^63-1"));
}

/// The leading words of two hex digits each.
fn example_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in &blocks()["EXAMPLES"] {
        for word in line.iter().take_while(|word| word.len() == 2).take(16) {
            bytes.extend(HEXLOWER.decode(word.as_bytes()).expect("hex digits"));
        }
    }
    bytes
}

#[test]
fn the_examples_are_frames() {
    let write = Write {
        seq: 1,
        floor: 1,
        ..crate::make::write(Command::Put {
            key: b"key",
            value: b"value",
        })
    };
    let request = Request::Write {
        deadline_ms: 5000,
        write,
        body: b"",
    };
    let reply = Reply::Written {
        term: Term(5),
        index: Index(43),
        outcome: Outcome::Put,
    };
    let mut frames = BytesMut::new();
    frames.extend_from_slice(&Any::Request(1, request).encode());
    frames.extend_from_slice(&Any::Reply(1, reply).encode());
    assert_eq!(HEXLOWER.encode(&example_bytes()), HEXLOWER.encode(&frames));
}
