//! The longest message of each kind fits the cap of the phase that it belongs to.

use wire::client::{Install, Item, Member, Reply, Status};
use wire::command::{Command, Expect};
use wire::entry::{ENTRY_HEADER_BYTES, EntryKind};
use wire::error::Error;
use wire::hello::{Hello, LeaderHint, PeerIdentity, Role, Welcome};
use wire::limits::*;
use wire::membership::Suffrage;
use wire::peer::{Append, InstallSnapshot, Message, Standing};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

use crate::any::{Any, parse};
use crate::make::{entry, id, items, write, write_request, zeros};
use crate::samples;

fn longest_identity() -> PeerIdentity {
    PeerIdentity {
        node: NodeId(u64::MAX),
        incarnation: Incarnation(1),
        life: 1,
        name: "n".repeat(NAME_BYTES_MAX),
        client_addr: "a".repeat(ADDR_BYTES_MAX),
        virgin: false,
        formed: (1..=MEMBERS_MAX as u64)
            .map(|node| (NodeId(node), Incarnation(node)))
            .collect(),
    }
}

#[test]
fn before_the_hello_is_accepted() {
    let hello = Any::Hello(Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        cluster: Some(ClusterId(1)),
        epoch: Some(Epoch(1)),
        group: 0,
        role: Role::Peer {
            identity: longest_identity(),
            to: NodeId(1),
        },
    });
    let hint = LeaderHint {
        node: NodeId(1),
        client_addr: "a".repeat(ADDR_BYTES_MAX),
    };
    let welcome = Any::Welcome(Welcome {
        version: 1,
        features: 0,
        cluster: ClusterId(1),
        epoch: Epoch(1),
        identity: longest_identity(),
        term: Term(1),
        applied: Index(1),
        leader: Some(hint),
    });
    let refusal = Any::Reply(
        0,
        Reply::Error(Error::TooLarge {
            what: "w".repeat(2 * TEXT_BYTES_MAX),
            limit: 1,
            actual: 2,
        }),
    );
    for any in [hello, welcome, refusal] {
        fits(&any, HELLO_FRAME_BYTES_MAX);
    }
}

#[test]
fn between_peers() {
    let body = zeros(ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES);
    let filler = zeros(APPEND_BYTES_MAX - ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES);
    let append = Any::Peer(Message::Append(Append {
        term: Term(1),
        prev: id(0, 0),
        commit: Index(0),
        round: 0,
        standing: Standing::Whole(Index(1)),
        digest: None,
        entries: vec![
            entry(id(1, 1), EntryKind::Command, body),
            entry(id(1, 2), EntryKind::Command, filler),
        ],
    }));
    fits(&append, PEER_FRAME_BYTES_MAX);
    let piece = Any::Peer(Message::InstallSnapshot(InstallSnapshot {
        term: Term(1),
        round: 0,
        snapshot: id(1, 1),
        total_bytes: SNAPSHOT_CHUNK_BYTES_MAX as u64,
        offset: 0,
        bytes: zeros(SNAPSHOT_CHUNK_BYTES_MAX).into(),
    }));
    fits(&piece, PEER_FRAME_BYTES_MAX);
}

#[test]
fn between_clients_and_servers() {
    let key = zeros(KEY_BYTES_MAX);
    let cas = write(Command::CompareAndSwap {
        key,
        expect: Expect::Value(zeros(VALUE_BYTES_MAX)),
        value: zeros(ENTRY_BYTES_MAX - VALUE_BYTES_MAX - KEY_BYTES_MAX - 200),
    });
    fits(
        &Any::Request(1, write_request(1, cas)),
        CLIENT_FRAME_BYTES_MAX,
    );
    let item = Item {
        key,
        value: zeros(VALUE_BYTES_MAX),
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let page = Reply::Page {
        index: Index(1),
        count: 1,
        more_after: Some(key),
        view: Some(u64::MAX),
        items: items(&[item]),
    };
    fits(&Any::Reply(1, page), CLIENT_FRAME_BYTES_MAX);
    let tiny = Item {
        key: b"keys-of-25-bytes-and-that",
        value: b"",
        ..item
    };
    let page = Reply::Page {
        index: Index(1),
        count: u64::from(PAGE_ITEMS_MAX),
        more_after: Some(key),
        view: Some(u64::MAX),
        items: items(&vec![tiny; PAGE_ITEMS_MAX as usize]),
    };
    fits(&Any::Reply(1, page), CLIENT_FRAME_BYTES_MAX);
    fits(
        &Any::Reply(1, Reply::Status(longest_status())),
        CLIENT_FRAME_BYTES_MAX,
    );
}

fn longest_status() -> Status {
    let sampled = samples::all().into_iter().find_map(|(_, any)| match any {
        Any::Reply(_, Reply::Status(status)) => Some(status),
        _ => None,
    });
    let member = |node| Member {
        node: NodeId(node),
        name: "n".repeat(NAME_BYTES_MAX),
        peer_addr: "p".repeat(ADDR_BYTES_MAX),
        client_addr: "c".repeat(ADDR_BYTES_MAX),
        suffrage: Suffrage::Voter,
        connected: true,
        match_index: Some(Index(1)),
        install: Some(Install {
            received_bytes: 1,
            total_bytes: 2,
            left_ms: Some(3),
        }),
    };
    Status {
        version: "v".repeat(TEXT_BYTES_MAX),
        state: "s".repeat(TEXT_BYTES_MAX),
        error: "e".repeat(TEXT_BYTES_MAX),
        members: (1..=MEMBERS_MAX as u64).map(member).collect(),
        ..sampled.expect("a sample of a status")
    }
}

#[track_caller]
fn fits(any: &Any<'_>, cap: usize) {
    let bytes = any.encode();
    assert!(bytes.len() <= cap, "{} bytes over {cap}", bytes.len());
    assert!(Any::decode(&parse(&bytes)).is_ok(), "within the limits");
}
