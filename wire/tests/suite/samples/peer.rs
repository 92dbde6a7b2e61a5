//! What nodes say to each other, and how both sides of a link begin.

use bytes::BytesMut;
use wire::command::Command;
use wire::entry::{Entry, EntryKind};
use wire::hello::{Hello, LeaderHint, PeerIdentity, Role, Welcome};
use wire::leadership::HandOver;
use wire::membership::Membership;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, DiskState, Fetch, Fetched, Health,
    InstallSnapshot, Message, PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote,
    SnapshotOk, StaleTerm, Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

use super::membership;
use crate::any::Any;
use crate::make::{body, entry, id, write};

pub(super) fn identity(formed: bool) -> PeerIdentity {
    PeerIdentity {
        node: NodeId(2),
        incarnation: Incarnation(0x2222),
        life: 0x3333,
        name: "n2".into(),
        client_addr: "10.0.0.2:7400".into(),
        virgin: !formed,
        formed: if formed {
            (1..=3)
                .map(|n| (NodeId(n), Incarnation(0x1111 * n)))
                .collect()
        } else {
            Vec::new()
        },
    }
}

fn encoded(membership: &Membership) -> BytesMut {
    let mut body = BytesMut::new();
    membership.encode(&mut body);
    body
}

pub(super) fn hint() -> LeaderHint {
    LeaderHint {
        node: NodeId(1),
        client_addr: "10.0.0.1:7400".into(),
    }
}

pub(super) fn hellos() -> Vec<(&'static str, Any<'static>)> {
    let client = Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        cluster: None,
        epoch: None,
        group: 0,
        role: Role::Client,
    };
    let peer = |formed| Hello {
        features: 0x8000_0000_0000_0001,
        cluster: Some(ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        epoch: Some(Epoch(0xe0e1_e2e3_e4e5_e6e7)),
        role: Role::Peer {
            identity: identity(formed),
            to: NodeId(1),
        },
        version_max: 3,
        ..client.clone()
    };
    let welcome = |leader| Welcome {
        version: 1,
        features: 0,
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        epoch: Epoch(0xe0e1_e2e3_e4e5_e6e7),
        identity: identity(true),
        term: Term(5),
        applied: Index(41),
        leader,
    };
    vec![
        ("hello-client", Any::Hello(client.clone())),
        ("hello-peer-virgin", Any::Hello(peer(false))),
        ("hello-peer-formed", Any::Hello(peer(true))),
        ("welcome", Any::Welcome(welcome(None))),
        ("welcome-leader", Any::Welcome(welcome(Some(hint())))),
    ]
}

pub(super) fn peers() -> Vec<(&'static str, Any<'static>)> {
    let digest = Some(Digest {
        index: Index(1024),
        sum: 0xd0d1_d2d3_d4d5_d6d7_d8d9_dadb_dcdd_dedf,
    });
    let disk = |state| DiskReport {
        state,
        oldest_write_ms: 501,
    };
    let append = Append {
        term: Term(5),
        prev: id(0, 0),
        commit: Index(0),
        round: 77,
        standing: Standing::Unsaid,
        digest: None,
        entries: Vec::new(),
    };
    let command = body(&write(Command::Put {
        key: b"key",
        value: b"value",
    }));
    let full = Append {
        prev: id(4, 41),
        commit: Index(40),
        digest,
        entries: vec![
            entry(id(5, 42), EntryKind::Noop, b""),
            entry(id(5, 43), EntryKind::Command, &command),
            entry(id(5, 44), EntryKind::SnapshotAt, b""),
            entry(id(5, 45), EntryKind::Membership, &encoded(&membership())),
        ],
        ..append.clone()
    };
    let judged = |standing| {
        Message::Append(Append {
            standing,
            ..append.clone()
        })
    };
    let (lost, whole) = (judged(Standing::Lost), judged(Standing::Whole(Index(42))));
    let health = |lost, rebuilding| Health { lost, rebuilding };
    let ok = AppendOk {
        term: Term(5),
        round: 77,
        match_index: Index(42),
        received: Index(43),
        disk: disk(DiskState::Ok),
        health: health(false, false),
        digest: None,
    };
    let conflict = AppendConflict {
        term: Term(5),
        round: 77,
        prev: id(4, 41),
        conflict: None,
        last: id(2, 12),
        disk: disk(DiskState::Hard),
        health: health(true, true),
    };
    let vote = RequestVote {
        term: Term(6),
        last: id(5, 43),
        transfer: None,
    };
    let piece = InstallSnapshot {
        term: Term(5),
        round: 77,
        snapshot: id(4, 41),
        total_bytes: 0x0001_0203,
        offset: 0x0001_0200,
        bytes: b"end"[..].into(),
    };
    [
        ("append-empty", Message::Append(append)),
        ("append-entries", Message::Append(full.clone())),
        ("append-lost", lost),
        ("append-whole", whole),
        ("append-ok", Message::AppendOk(ok)),
        (
            "append-ok-digest",
            Message::AppendOk(AppendOk {
                digest,
                disk: disk(DiskState::Soft),
                health: health(true, false),
                ..ok
            }),
        ),
        ("append-conflict-short", Message::AppendConflict(conflict)),
        (
            "append-conflict-term",
            Message::AppendConflict(AppendConflict {
                conflict: Some(id(3, 30)),
                ..conflict
            }),
        ),
        (
            "stale-term",
            Message::StaleTerm(StaleTerm { term: Term(9) }),
        ),
        (
            "pre-vote",
            Message::PreVote(PreVote {
                term: Term(6),
                last: id(5, 43),
            }),
        ),
        (
            "pre-vote-answer",
            Message::PreVoteAnswer(PreVoteAnswer {
                term: Term(6),
                granted: true,
            }),
        ),
        ("request-vote", Message::RequestVote(vote)),
        (
            "request-vote-transfer",
            Message::RequestVote(RequestVote {
                transfer: Some(HandOver::DiskFull),
                ..vote
            }),
        ),
        (
            "vote-answer",
            Message::VoteAnswer(VoteAnswer {
                term: Term(6),
                granted: false,
            }),
        ),
        (
            "install-snapshot-question",
            Message::InstallSnapshot(InstallSnapshot {
                offset: 0,
                bytes: b""[..].into(),
                ..piece.clone()
            }),
        ),
        ("install-snapshot", Message::InstallSnapshot(piece)),
        (
            "snapshot-ok",
            Message::SnapshotOk(SnapshotOk {
                term: Term(5),
                round: 77,
                snapshot: id(4, 41),
                received_bytes: 0x0001_0203,
                disk: disk(DiskState::Ok),
                health: health(false, true),
            }),
        ),
        (
            "timeout-now",
            Message::TimeoutNow(TimeoutNow {
                term: Term(5),
                why: HandOver::Stopping,
            }),
        ),
        (
            "fetch",
            Message::Fetch(Fetch {
                entries: full.entries.iter().map(Entry::identity).collect(),
            }),
        ),
        (
            "fetched",
            Message::Fetched(Fetched {
                entries: full.entries,
            }),
        ),
        (
            "read-index",
            Message::ReadIndex(ReadIndex {
                term: Term(5),
                question: 0x0a0b_0c0d,
            }),
        ),
        (
            "read-index-answer",
            Message::ReadIndexAnswer(ReadIndexAnswer {
                term: Term(5),
                question: 0x0a0b_0c0d,
                index: Index(42),
            }),
        ),
    ]
    .map(|(name, message)| (name, Any::Peer(message)))
    .into()
}
