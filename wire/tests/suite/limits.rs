//! Every limit from both sides: what is exactly at it passes, what is one over is refused, by
//! name, before anything is made for it.

use std::fmt::Debug;

use wire::client::{Item, KeyRange, Reply, prefix_end};
use wire::command::{
    Batch, Command, Compare, Condition, Expect, Operation, Operations, Outcome, Txn, Write,
};
use wire::entry::{ENTRY_HEADER_BYTES, EntryKind};
use wire::error::Error;
use wire::frame::Kind;
use wire::limits::*;
use wire::types::Index;

use crate::any::{Any, decode_payload, parse};
use crate::make::{body, compares, entry, forever, id, items, operations, write, zeros};
use crate::samples;

/// A payload written by hand, field by field, free of what encoders insist on.
#[derive(Clone, Default)]
struct Payload(Vec<u8>);

impl Payload {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, number: u8) -> Self {
        self.raw(&[number])
    }

    fn u16(self, number: u16) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.u32(u32::try_from(bytes.len()).expect("short"))
            .raw(bytes)
    }

    fn text(self, length: usize) -> Self {
        self.u16(u16::try_from(length).expect("short"))
            .raw(&vec![b'a'; length])
    }

    fn decode(&self, kind: Kind) -> Result<(), Error> {
        decode_payload(kind, &self.0)
    }
}

#[track_caller]
fn too_large<T: Debug>(result: Result<T, Error>, what: &str, limit: usize, actual: usize) {
    let expected = Error::TooLarge {
        what: what.into(),
        limit: limit as u64,
        actual: actual as u64,
    };
    assert_eq!(result.expect_err("refused"), expected);
}

#[track_caller]
fn malformed<T: Debug>(result: Result<T, Error>, reason: &str) {
    let expected = Error::Malformed {
        reason: reason.into(),
    };
    assert_eq!(result.expect_err("refused"), expected);
}

fn reencoded(write: Write<'static>) -> Result<(), Error> {
    Write::decode_body(&body(&write)).map(|_| ())
}

#[test]
fn keys_and_values() {
    let put = |key, value| {
        reencoded(write(Command::Put {
            key: zeros(key),
            value: zeros(value),
        }))
    };
    assert_eq!(put(1, 0), Ok(()));
    assert_eq!(put(KEY_BYTES_MAX, VALUE_BYTES_MAX), Ok(()));
    malformed(put(0, 1), "a key is empty");
    too_large(
        put(KEY_BYTES_MAX + 1, 0),
        "key",
        KEY_BYTES_MAX,
        KEY_BYTES_MAX + 1,
    );
    too_large(
        put(1, VALUE_BYTES_MAX + 1),
        "value",
        VALUE_BYTES_MAX,
        VALUE_BYTES_MAX + 1,
    );
    for command in [
        Command::Delete { key: b"" },
        Command::Append {
            key: b"",
            value: b"",
        },
        Command::DeleteRange {
            from: b"",
            to: Some(b""),
            expect: None,
        },
        Command::Increment { key: b"", delta: 1 },
        Command::CompareAndSwap {
            key: b"",
            expect: Expect::Absent,
            value: b"",
        },
    ] {
        malformed(reencoded(write(command)), "a key is empty");
    }
}

#[test]
fn two_values_of_a_compare_and_swap_must_fit_one_entry() {
    let cas = |key, expect, value| {
        let write = write(Command::CompareAndSwap {
            key: zeros(key),
            expect: Expect::Value(zeros(expect)),
            value: zeros(value),
        });
        (body(&write).len(), reencoded(write))
    };
    let (empty, _) = cas(1, 0, 0);
    let room = ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES - empty;
    assert_eq!(cas(1, VALUE_BYTES_MAX, room - VALUE_BYTES_MAX).1, Ok(()));
    let (length, refused) = cas(1, VALUE_BYTES_MAX, room - VALUE_BYTES_MAX + 1);
    assert_eq!(ENTRY_HEADER_BYTES + length, ENTRY_BYTES_MAX + 1);
    too_large(refused, "entry", ENTRY_BYTES_MAX, ENTRY_BYTES_MAX + 1);
    too_large(
        cas(1, VALUE_BYTES_MAX + 1, 0).1,
        "value",
        VALUE_BYTES_MAX,
        VALUE_BYTES_MAX + 1,
    );
}

#[test]
fn a_txn_holds_only_so_many_compares_and_operations() {
    let compare = Compare {
        key: b"k",
        condition: Condition::Exists,
    };
    let get = Operation::Get { key: b"k" };
    let txn = |compared: usize, then: usize, or_else: usize| {
        reencoded(write(Command::Txn(Txn {
            compares: compares(&vec![compare; compared]),
            then: operations(&vec![get; then]),
            or_else: operations(&vec![get; or_else]),
        })))
    };
    let most = ENTRY_KEYS_MAX;
    for (compared, then, or_else) in [(most, 0, 0), (0, most, 0), (0, 0, most), (1, 1, most - 2)] {
        assert_eq!(txn(compared, then, or_else), Ok(()));
    }
    for (compared, then, or_else) in [(most, 1, 0), (0, most, 1), (1, 0, most), (1, 1, most - 1)] {
        let refused = txn(compared, then, or_else);
        too_large(refused, "txn, in operations", most, most + 1);
    }
}

#[test]
fn a_batch_is_full_where_a_txn_or_an_entry_is() {
    let put = |value| {
        Operation::Change(Command::Put {
            key: b"key",
            value: zeros(value),
        })
    };
    let mut batch = Batch::default();
    while batch.push(put(0)) == Ok(()) {}
    assert_eq!(batch.len(), ENTRY_KEYS_MAX);
    batch.clear();
    assert!(batch.is_empty() && batch.bytes() == 0);
    while batch.push(put(1000)) == Ok(()) {}
    let bytes = batch.bytes();
    let batch = Operations {
        bytes: forever(batch.operations().bytes),
    };
    assert!(ENTRY_BYTES_MAX - bytes < 2000);
    let command = Command::Txn(Txn::batch(batch));
    assert_eq!(reencoded(write(command)), Ok(()));

    let mut longest = Batch::default();
    let put = Command::Put {
        key: zeros(KEY_BYTES_MAX),
        value: zeros(VALUE_BYTES_MAX),
    };
    assert_eq!(longest.push(Operation::Change(put)), Ok(()));
}

/// Or some bytes would have a decoder call itself until the stack ends.
#[test]
fn neither_txns_nor_their_results_nest() {
    // A change by command 7, and an outcome 12, where 1 to 6 and a plain one may stand.
    let inner = [1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let txn = Txn::batch(Operations {
        bytes: forever(inner),
    });
    let nested = reencoded(write(Command::Txn(txn)));
    malformed(nested, "the command is not known");
    let mut bytes = &[12, 1, 1, 0, 0, 0, 4, 1, 12, 1, 0][..];
    let nested = Outcome::split_from(&mut bytes);
    malformed(nested.map(|_| ()), "the outcome is not known");
}

#[test]
fn what_surrounds_key_and_value_is_within_its_allowance() {
    let longest = Command::CompareAndSwap {
        key: b"",
        expect: Expect::Revision(Index(1)),
        value: b"",
    };
    assert!(body(&write(longest)).len() <= WRITE_OVERHEAD_BYTES_MAX);
}

#[test]
fn seq_and_floor() {
    let numbered = |seq, floor| {
        reencoded(Write {
            seq,
            floor,
            ..write(Command::Delete { key: b"k" })
        })
    };
    assert_eq!(numbered(1, 1), Ok(()));
    assert_eq!(numbered(COUNTER_MAX, COUNTER_MAX), Ok(()));
    assert_eq!(numbered(COUNTER_MAX, 1), Ok(()));
    let floor = "the floor is not between 1 and the seq";
    malformed(numbered(0, 0), floor);
    malformed(numbered(1, 0), floor);
    malformed(numbered(1, 2), floor);
    let range = "a term, index or other counter is out of range";
    malformed(numbered(COUNTER_MAX + 1, 1), range);
    malformed(numbered(u64::MAX, u64::MAX), range);
}

#[test]
fn lengths_are_judged_before_the_bytes_are_there() {
    let get = |length: u32| {
        Payload::default()
            .u32(0)
            .u8(1)
            .u32(length)
            .decode(Kind::Get)
    };
    too_large(get(u32::MAX), "key", KEY_BYTES_MAX, u32::MAX as usize);
    too_large(get(4097), "key", KEY_BYTES_MAX, 4097);
    malformed(get(4096), "the message is cut short");

    let session = || Payload::default().u32(0).raw(&[0; 24]).u64(1).u64(1);
    let put = |length: u32| session().u8(1).bytes(b"k").u32(length).decode(Kind::Write);
    too_large(put(u32::MAX), "value", VALUE_BYTES_MAX, u32::MAX as usize);
    malformed(put(1), "the message is cut short");

    let reason = |length: u16| {
        Payload::default()
            .u16(15)
            .u8(3)
            .u16(length)
            .decode(Kind::Error)
    };
    too_large(reason(1025), "text", TEXT_BYTES_MAX, 1025);
    malformed(reason(1024), "the message is cut short");
}

#[test]
fn ranges_and_scan_positions() {
    let option = |payload: Payload, length: Option<usize>| match length {
        Some(length) => payload.u8(1).bytes(zeros(length)),
        None => payload.u8(0),
    };
    let scan = |from: usize, to: Option<usize>, after: Option<usize>| {
        let payload = Payload::default().u32(0).raw(&[1, 1]).bytes(zeros(from));
        let payload = option(payload, to).u8(0);
        option(payload, after).u32(1).u8(1).decode(Kind::Scan)
    };
    assert_eq!(scan(0, None, None), Ok(()));
    assert_eq!(scan(0, Some(0), None), Ok(()));
    let most = KEY_BYTES_MAX;
    assert_eq!(scan(most, Some(most), Some(most)), Ok(()));
    let over = KEY_BYTES_MAX + 1;
    too_large(scan(over, None, None), "key", KEY_BYTES_MAX, over);
    too_large(scan(0, Some(over), None), "key", KEY_BYTES_MAX, over);
    too_large(scan(0, None, Some(over)), "key", KEY_BYTES_MAX, over);
    malformed(scan(0, None, Some(0)), "a key is empty");
}

#[test]
fn a_prefix_is_a_range() {
    for (prefix, end) in [
        (&b""[..], None),
        (b"a", Some(&b"b"[..])),
        (b"a\xff", Some(b"b")),
        (b"a\x00", Some(b"a\x01")),
        (b"\xff\xff", None),
    ] {
        let to = prefix_end(prefix);
        assert_eq!(to.as_deref(), end);
        let range = KeyRange {
            from: prefix,
            to: to.as_deref(),
        };
        for key in [
            &b"\0"[..],
            b"a",
            b"a\0",
            b"a\x01",
            b"a\xff\xff",
            b"b",
            b"\xff\xff\xff",
        ] {
            assert_eq!(
                range.contains(key),
                key.starts_with(prefix),
                "{key:?} {range:?}"
            );
        }
    }
}

/// A hello of a peer with these lengths and this list.
fn peer_hello(name: usize, addr: usize, count: u16, members: &[u64]) -> Result<(), Error> {
    let mut payload = Payload::default()
        .raw(b"raftd\r\n\0")
        .raw(&[1, 1])
        .u64(0)
        .raw(&[0, 0])
        .u32(0)
        .u8(2)
        .u64(2)
        .u64(3)
        .u64(4)
        .text(name)
        .text(addr)
        .u8(1)
        .u16(count);
    for member in members {
        payload = payload.u64(*member).u64(9);
    }
    payload.u64(1).decode(Kind::Hello)
}

#[test]
fn names_addresses_and_members() {
    let many: Vec<u64> = (1..=17).collect();
    assert_eq!(peer_hello(0, 0, 0, &[]), Ok(()));
    assert_eq!(
        peer_hello(NAME_BYTES_MAX, ADDR_BYTES_MAX, 16, &many[..16]),
        Ok(())
    );
    too_large(peer_hello(65, 0, 0, &[]), "name", NAME_BYTES_MAX, 65);
    too_large(peer_hello(0, 263, 0, &[]), "address", ADDR_BYTES_MAX, 263);
    malformed(peer_hello(0, 0, 17, &many), "a list is longer than allowed");
    malformed(
        peer_hello(0, 0, u16::MAX, &[]),
        "a list is longer than allowed",
    );
    malformed(peer_hello(0, 0, 16, &[1, 2]), "a list is cut short");
    let order = "members are not in ascending order";
    malformed(peer_hello(0, 0, 2, &[2, 1]), order);
    malformed(peer_hello(0, 0, 2, &[2, 2]), order);
    malformed(peer_hello(0, 0, 1, &[0]), "node id 0 is never a member");
}

#[test]
fn a_hello_must_make_sense() {
    let hello = |magic: &[u8], versions: &[u8], group, role| {
        Payload::default()
            .raw(magic)
            .raw(versions)
            .u64(0)
            .raw(&[0, 0])
            .u32(group)
            .u8(role)
            .decode(Kind::Hello)
    };
    let magic = b"raftd\r\n\0";
    assert_eq!(hello(magic, &[1, 1], 0, 1), Ok(()));
    assert_eq!(
        hello(magic, &[7, 200], 0, 1),
        Ok(()),
        "versions are for negotiate"
    );
    malformed(
        hello(b"raftd\n\n\0", &[1, 1], 0, 1),
        "the hello is not one of raftd",
    );
    let versions = "the range of versions is empty or begins at 0";
    malformed(hello(magic, &[0, 1], 0, 1), versions);
    malformed(hello(magic, &[2, 1], 0, 1), versions);
    malformed(hello(magic, &[1, 1], 1, 1), "there is no group but 0");
    malformed(
        hello(magic, &[1, 1], 0, 0),
        "the role is neither client nor peer",
    );
    malformed(
        hello(magic, &[1, 1], 0, 3),
        "the role is neither client nor peer",
    );
}

fn append(prev: (u64, u64), count: u16, records: &[u8]) -> Result<(), Error> {
    Payload::default()
        .u64(9)
        .u64(prev.0)
        .u64(prev.1)
        .u64(0)
        .u64(0)
        .u8(1)
        .u8(0)
        .u16(count)
        .raw(records)
        .decode(Kind::Append)
}

fn records(ids: &[(u64, u64)]) -> Vec<u8> {
    ids.iter()
        .flat_map(|(term, index)| {
            entry(id(*term, *index), EntryKind::Noop, b"")
                .bytes()
                .to_vec()
        })
        .collect()
}

#[test]
fn entries_must_follow_each_other() {
    let of =
        |prev, ids: &[(u64, u64)]| append(prev, u16::try_from(ids.len()).unwrap(), &records(ids));
    assert_eq!(of((0, 0), &[]), Ok(()));
    assert_eq!(of((0, 0), &[(1, 1), (1, 2), (9, 3)]), Ok(()));
    let follow = "entries do not follow each other";
    malformed(of((0, 0), &[(1, 2)]), follow);
    malformed(of((1, 1), &[(1, 1)]), follow);
    malformed(of((1, 1), &[(1, 2), (1, 4)]), follow);
    malformed(of((2, 1), &[(1, 2)]), follow);
    malformed(of((1, 1), &[(3, 2), (2, 3)]), follow);
    let later = "an entry is of a later term than its leader";
    malformed(of((1, 1), &[(10, 2)]), later);
    malformed(of((10, 1), &[]), later);
    malformed(of((0, 1), &[]), "an entry id is half zero");
    malformed(of((1, 0), &[]), "an entry id is half zero");
    malformed(
        of((1, COUNTER_MAX), &[(1, COUNTER_MAX + 1)]),
        "the entry's term or index is out of range",
    );
}

#[test]
fn counts_of_entries() {
    let two = records(&[(1, 1), (1, 2)]);
    assert_eq!(append((0, 0), 2, &two), Ok(()));
    malformed(
        append((0, 0), 1, &two),
        "bytes after the end of the message",
    );
    malformed(append((0, 0), 3, &two), "a list is cut short");
    malformed(append((0, 0), 16_384, &two), "a list is cut short");
    malformed(
        append((0, 0), 16_385, &two),
        "a list is longer than allowed",
    );

    let most: Vec<(u64, u64)> = (1..=APPEND_ENTRIES_MAX as u64).map(|n| (1, n)).collect();
    assert_eq!(append((0, 0), 16_384, &records(&most)), Ok(()));
}

#[test]
fn bytes_of_entries() {
    let of = |total: usize| {
        let first = entry(id(1, 1), EntryKind::Command, zeros(ENTRY_BYTES_MAX - 48));
        let rest = total - first.bytes().len() - 48;
        let second = entry(id(1, 2), EntryKind::Command, zeros(rest));
        append((0, 0), 2, &[&first.bytes()[..], second.bytes()].concat())
    };
    assert_eq!(of(APPEND_BYTES_MAX), Ok(()));
    let over = APPEND_BYTES_MAX + 1;
    too_large(of(over), "append", APPEND_BYTES_MAX, over);
}

#[test]
fn fetched_entries() {
    let ids = |count: usize| {
        let ids =
            (0..count).flat_map(|_| [&[0, 0, 0, 0, 0, 0, 0, 1].repeat(2)[..], &[7; 4]].concat());
        Payload::default()
            .u16(u16::try_from(count).unwrap())
            .raw(&ids.collect::<Vec<_>>())
            .decode(Kind::Fetch)
    };
    assert_eq!(ids(0), Ok(()));
    assert_eq!(ids(FETCH_ENTRIES_MAX), Ok(()));
    malformed(ids(FETCH_ENTRIES_MAX + 1), "a list is longer than allowed");
    malformed(
        Payload::default().u16(1).raw(&[0; 20]).decode(Kind::Fetch),
        "the entry before the log is asked for",
    );
    let of = |count: usize, records: &[u8]| {
        Payload::default()
            .u16(u16::try_from(count).unwrap())
            .raw(records)
            .decode(Kind::Fetched)
    };
    // They come as they were asked for, which need not be the order of the log.
    assert_eq!(of(3, &records(&[(3, 9), (1, 1), (3, 9)])), Ok(()));
    let most = vec![(1, 1); FETCH_ENTRIES_MAX + 1];
    malformed(
        of(most.len(), &records(&most)),
        "a list is longer than allowed",
    );
    malformed(of(2, &records(&[(1, 1)])), "a list is cut short");
    let mut flipped = records(&[(1, 1)]);
    flipped[40] ^= 1;
    malformed(of(1, &flipped), "the entry's checksum is wrong");
    let large = entry(
        id(1, 1),
        EntryKind::Command,
        zeros(APPEND_BYTES_MAX / 2 - 47),
    );
    let over = large.bytes().repeat(2);
    too_large(of(2, &over), "fetched", APPEND_BYTES_MAX, over.len());
}

#[test]
fn pieces_of_snapshots() {
    let of = |snapshot: (u64, u64), total: u64, offset: u64, bytes: usize| {
        Payload::default()
            .u64(9)
            .u64(0)
            .u64(snapshot.0)
            .u64(snapshot.1)
            .u64(total)
            .u64(offset)
            .bytes(zeros(bytes))
            .decode(Kind::InstallSnapshot)
    };
    let most = SNAPSHOT_CHUNK_BYTES_MAX;
    assert_eq!(of((9, 1), 1, 0, 1), Ok(()));
    assert_eq!(of((9, 1), 1, 0, 0), Ok(()), "a question");
    assert_eq!(of((9, 1), 1, 1, 0), Ok(()), "a question at the end");
    assert_eq!(of((9, 1), COUNTER_MAX, COUNTER_MAX - 1, 1), Ok(()));
    assert_eq!(of((9, 1), most as u64, 0, most), Ok(()));
    too_large(
        of((9, 1), most as u64 + 1, 0, most + 1),
        "piece of a snapshot",
        most,
        most + 1,
    );
    let outside = "a piece is outside of its snapshot";
    malformed(of((9, 1), 0, 0, 0), outside);
    malformed(of((9, 1), 1, 0, 2), outside);
    malformed(of((9, 1), 1, 1, 1), outside);
    malformed(of((9, 1), 1, 2, 0), outside);
    malformed(of((0, 0), 1, 0, 1), "a snapshot of nothing");
    malformed(of((9, 0), 1, 0, 1), "an entry id is half zero");
    let later = "a snapshot is of a later term than its leader";
    malformed(of((10, 1), 1, 0, 1), later);
    let counter = "a term, index or other counter is out of range";
    malformed(of((9, 1), COUNTER_MAX + 1, 0, 1), counter);
    malformed(of((9, 1), 1, COUNTER_MAX + 1, 1), counter);
    let answer = Payload::default().u64(9).u64(0).u64(0).u64(0).u64(0);
    malformed(answer.decode(Kind::SnapshotOk), "a snapshot of nothing");
}

#[test]
fn requests_of_peers_have_a_term_and_counters_end() {
    for kind in [
        Kind::PreVote,
        Kind::RequestVote,
        Kind::Append,
        Kind::InstallSnapshot,
        Kind::TimeoutNow,
    ] {
        malformed(
            Payload::default().u64(0).raw(&[0; 100]).decode(kind),
            "a request of term 0",
        );
    }
    for (name, any) in samples::all() {
        let good = any.encode();
        let frame = parse(&good);
        if matches!(&any, Any::Peer(message) if message.term().is_some()) {
            let mut payload = frame.payload.to_vec();
            payload[..8].copy_from_slice(&(COUNTER_MAX + 1).to_be_bytes());
            let refusal = decode_payload(frame.kind, &payload).expect_err(&name);
            assert!(
                refusal.to_string().ends_with("out of range"),
                "{name}: {refusal}"
            );
        }
    }
}

fn page_of(list: &[Item<'_>], count: u64) -> Result<(), Error> {
    let page = Reply::Page {
        index: Index(1),
        count,
        more_after: None,
        view: None,
        items: items(list),
    };
    Any::decode(&parse(&Any::Reply(1, page).encode())).map(|_| ())
}

#[test]
fn pages() {
    let item = |value: usize| Item {
        key: b"k",
        value: zeros(value),
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let most = PAGE_ITEMS_MAX as usize;
    assert_eq!(page_of(&vec![item(0); most], most as u64), Ok(()));
    malformed(
        page_of(&vec![item(0); most + 1], most as u64 + 1),
        "a page has more items than allowed",
    );
    let count = "the count of a page is not that of its items";
    malformed(page_of(&[item(0); 2], 1), count);
    malformed(page_of(&[item(0); 2], 3), count);

    let bytes = PAGE_BYTES_MAX as usize;
    assert_eq!(
        page_of(&[item(VALUE_BYTES_MAX)], 1),
        Ok(()),
        "one item always fits"
    );
    assert_eq!(page_of(&[item(bytes - 2), item(0)], 2), Ok(()));
    too_large(
        page_of(&[item(bytes - 2), item(1)], 2),
        "page",
        bytes,
        bytes + 1,
    );
}

#[test]
fn texts_for_people_are_cut_between_characters() {
    let text = "é".repeat(TEXT_BYTES_MAX);
    for (shift, kept) in [("", TEXT_BYTES_MAX), ("a", TEXT_BYTES_MAX - 1)] {
        let error = Error::Malformed {
            reason: format!("{shift}{text}"),
        };
        let bytes = Any::Reply(1, Reply::Error(error)).encode();
        let Ok(Any::Reply(1, Reply::Error(Error::Malformed { reason }))) =
            Any::decode(&parse(&bytes))
        else {
            panic!("not the error");
        };
        assert_eq!(reason, format!("{shift}{text}")[..kept]);
    }
    let invalid = Payload::default().u16(15).u8(3).u16(1).u8(0xff);
    malformed(invalid.decode(Kind::Error), "a text is not UTF-8");
}

#[test]
fn errors_keep_their_class() {
    for error in samples::errors() {
        let good = Any::Reply(1, Reply::Error(error.clone())).encode();
        let mut payload = parse(&good).payload.to_vec();
        for class in [0, 1, 2, 3, 4, 0xff] {
            payload[2] = class;
            let decoded = decode_payload(Kind::Error, &payload);
            let expected = class == error.class().code()
                || error.name() == "unknown" && (1..=3).contains(&class);
            assert_eq!(decoded.is_ok(), expected, "{error:?} with class {class}");
        }
    }
}
