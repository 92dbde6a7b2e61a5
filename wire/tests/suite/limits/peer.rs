//! Hellos, and what nodes say to each other.

use wire::entry::EntryKind;
use wire::error::Error;
use wire::frame::Kind;
use wire::limits::*;
use wire::membership::Membership;

use super::{Payload, malformed, too_large};
use crate::any::{Any, decode_payload, parse};
use crate::make::{entry, id, zeros};
use crate::samples;

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
    malformed(peer_hello(0, 0, 16, &[1, 2]), "the message is cut short");
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
    malformed(append((0, 0), 3, &two), "the message is cut short");
    malformed(append((0, 0), 16_384, &two), "the message is cut short");
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
    malformed(of(2, &records(&[(1, 1)])), "the message is cut short");
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
fn memberships_that_cannot_be_are_refused() {
    const LEARNER: u8 = 1;
    const VOTER: u8 = 2;
    const INCOMING: u8 = 3;
    // Each member by its id, its name and its suffrage; the newest id is 9.
    let body = |members: &[(u64, &str, u8)]| {
        let count = u16::try_from(members.len()).expect("few");
        let mut body = Payload::default().u64(9).u16(count);
        for (id, name, suffrage) in members {
            let name_bytes = u16::try_from(name.len()).expect("short");
            body = body.u64(*id).u16(name_bytes).raw(name.as_bytes());
            body = body.text(3).u8(0).u8(*suffrage).u8(0);
        }
        body
    };
    let of = |members: &[(u64, &str, u8)]| Membership::decode(&body(members).0);
    let good = [(1, "a", VOTER), (2, "", LEARNER), (3, "", LEARNER)];
    assert_eq!(of(&good).expect("it can be").members.len(), 3);
    let order = "members are not in ascending order";
    malformed(of(&[(2, "", VOTER), (1, "", VOTER)]), order);
    malformed(of(&[(2, "", VOTER), (2, "", VOTER)]), order);
    let newer = "a member is newer than the newest";
    malformed(of(&[(10, "", VOTER)]), newer);
    let twice = [(1, "a", VOTER), (2, "b", VOTER), (3, "a", VOTER)];
    malformed(of(&twice), "two members of one name");
    for nobody in [&[][..], &[(1, "", LEARNER)], &[(1, "", INCOMING)]] {
        malformed(of(nobody), "nobody votes");
    }
    let longer = body(&good).u8(0);
    assert!(Membership::decode(&longer.0).is_err());
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
