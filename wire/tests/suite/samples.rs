//! One value of every kind and variant, named: the golden files hold their bytes.

use bytes::BytesMut;
use wire::client::{
    Admitted, Consistency, Freshness, Install, Item, KeyRange, LeaderChange, Member, MemberChange,
    MembersChanged, NodeRole, Reply, Request, ScanMode, Status, ViewChoice,
};
use wire::command::{
    Command, Compare, Condition, Expect, Operation, OperationResult, Operations, Outcome, Relation,
    Txn, Undone,
};
use wire::entry::{Entry, EntryKind};
use wire::error::{Class, Error, Lag};
use wire::hello::{Hello, LeaderHint, PeerIdentity, Role, Welcome};
use wire::leadership::{Cause, HandOver};
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, DiskState, Fetch, Fetched, Health,
    InstallSnapshot, Message, PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote,
    SnapshotOk, StaleTerm, Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

use crate::any::Any;
use crate::make::{body, compares, entry, id, items, operations, results, write, write_request};

fn identity(formed: bool) -> PeerIdentity {
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

/// One member of every suffrage.
pub(crate) fn membership() -> Membership {
    let suffrages = [
        Suffrage::Voter,
        Suffrage::Learner,
        Suffrage::Incoming,
        Suffrage::Demoted,
        Suffrage::Leaving,
    ];
    let member = |(n, suffrage)| MemberRecord {
        id: NodeId(n),
        name: format!("n{n}"),
        peer_addr: format!("10.0.0.{n}:7401"),
        incarnation: (n != 2).then(|| Incarnation(0x1111 * n)),
        suffrage,
        wish: (n == 2).then_some(Wish {
            until_wall_ms: 1_700_000_000_000,
            replaces: Some(NodeId(4)),
        }),
    };
    Membership {
        newest: NodeId(7),
        members: (1..).zip(suffrages).map(member).collect(),
    }
}

fn encoded(membership: &Membership) -> BytesMut {
    let mut body = BytesMut::new();
    membership.encode(&mut body);
    body
}

fn hint() -> LeaderHint {
    LeaderHint {
        node: NodeId(1),
        client_addr: "10.0.0.1:7400".into(),
    }
}

fn hellos() -> Vec<(&'static str, Any<'static>)> {
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

fn peers() -> Vec<(&'static str, Any<'static>)> {
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

fn requests() -> Vec<(&'static str, Any<'static>)> {
    let cas = |expect| Command::CompareAndSwap {
        key: b"key",
        expect,
        value: b"new",
    };
    let scan = Request::Scan {
        deadline_ms: 5000,
        freshness: Consistency::Linearizable.into(),
        mode: ScanMode::Items,
        range: KeyRange {
            from: b"pre/",
            to: Some(b"pre0"),
        },
        reverse: true,
        after: Some(b"pre/7"),
        limit: 1000,
        view: ViewChoice::Of(3),
    };
    let scan_mode = |mode, view| Request::Scan {
        deadline_ms: 0,
        freshness: Consistency::Stale.into(),
        mode,
        range: KeyRange::default(),
        reverse: false,
        after: None,
        limit: 1,
        view,
    };
    let get = |freshness| Request::Get {
        deadline_ms: 5000,
        freshness,
        key: b"key",
    };
    let writes = [
        (
            "write-put",
            Command::Put {
                key: b"key",
                value: b"\0value\xff",
            },
        ),
        (
            "write-put-empty",
            Command::Put {
                key: b"k",
                value: b"",
            },
        ),
        ("write-delete", Command::Delete { key: b"key" }),
        ("write-cas-absent", cas(Expect::Absent)),
        ("write-cas-revision", cas(Expect::Revision(Index(42)))),
        ("write-cas-value", cas(Expect::Value(b"old"))),
        (
            "write-increment",
            Command::Increment {
                key: b"key",
                delta: -2,
            },
        ),
        (
            "write-append",
            Command::Append {
                key: b"key",
                value: b"more",
            },
        ),
        (
            "write-delete-range",
            Command::DeleteRange {
                from: b"a",
                to: Some(b"b"),
                expect: Some(3),
            },
        ),
        (
            "write-delete-all",
            Command::DeleteRange {
                from: b"",
                to: None,
                expect: None,
            },
        ),
        ("write-txn", Command::Txn(txn())),
        ("write-txn-empty", Command::Txn(Txn::default())),
        (
            "write-batch",
            Command::Txn(Txn::batch(operations(&[Operation::Change(Command::Put {
                key: b"key",
                value: b"value",
            })]))),
        ),
    ]
    .map(|(name, command)| (name, write_request(5000, write(command))));
    let reads = [
        (
            "get-linearizable",
            Request::Get {
                deadline_ms: 5000,
                freshness: Consistency::Linearizable.into(),
                key: b"key",
            },
        ),
        (
            "get-stale",
            Request::Get {
                deadline_ms: 0,
                freshness: Consistency::Stale.into(),
                key: b"\0",
            },
        ),
        (
            "get-anywhere",
            get(Consistency::LinearizableAnywhere.into()),
        ),
        (
            "get-bounded",
            get(Consistency::Bounded { max_lag_ms: 500 }.into()),
        ),
        (
            "get-after",
            get(Freshness {
                consistency: Consistency::Stale,
                after: Index(41),
            }),
        ),
        ("scan-items", scan),
        ("scan-keys", scan_mode(ScanMode::Keys, ViewChoice::Keep)),
        ("scan-count", scan_mode(ScanMode::Count, ViewChoice::Now)),
        ("status", Request::Status),
        ("snapshot", Request::Snapshot),
        (
            "read-snapshot",
            Request::ReadSnapshot {
                snapshot: EntryId {
                    term: Term(4),
                    index: Index(10),
                },
                offset: 0x10_0000,
            },
        ),
        (
            "transfer-leader",
            Request::TransferLeader {
                deadline_ms: 5000,
                to: None,
            },
        ),
        ("leaders", Request::Leaders),
        ("watch-leader", Request::WatchLeader),
        (
            "transfer-leader-to",
            Request::TransferLeader {
                deadline_ms: 0,
                to: Some(NodeId(3)),
            },
        ),
    ];
    writes
        .into_iter()
        .chain(reads)
        .chain(changes())
        .map(|(name, request)| (name, Any::Request(0x0102_0304_0506_0708, request)))
        .collect()
}

fn changes() -> Vec<(&'static str, Request<'static>)> {
    let mut changes: Vec<_> = [
        (
            "change-add",
            MemberChange::Add {
                name: "n4",
                peer_addr: "10.0.0.4:7401",
                promote_within_ms: Some(600_000),
                replaces: Some(NodeId(3)),
            },
        ),
        ("change-remove", MemberChange::Remove(NodeId(3))),
        ("change-promote", MemberChange::Promote(NodeId(4))),
        ("change-demote", MemberChange::Demote(NodeId(2))),
        (
            "change-update",
            MemberChange::Update {
                id: NodeId(2),
                name: None,
                peer_addr: Some("10.0.0.9:7401"),
            },
        ),
    ]
    .map(|(name, change)| {
        let request = Request::ChangeMembers {
            dry_run: name == "change-remove",
            change,
        };
        (name, request)
    })
    .into();
    let join = Request::Join {
        name: "n4",
        peer_addr: "10.0.0.4:7401",
        incarnation: Incarnation(0x4444),
    };
    changes.push(("join", join));
    changes
}

/// A txn with every kind of compare and of operation.
fn txn() -> Txn<'static> {
    let conditions = [
        Condition::Exists,
        Condition::Absent,
        Condition::Value(Relation::Equal, b"value"),
        Condition::Revision(Relation::NotEqual, 41),
        Condition::CreateRevision(Relation::Less, 42),
        Condition::Version(Relation::Greater, 43),
    ];
    Txn {
        compares: compares(&conditions.map(|condition| Compare {
            key: b"key",
            condition,
        })),
        then: every_change(),
        or_else: operations(&[Operation::Get { key: b"key" }]),
    }
}

fn every_change() -> Operations<'static> {
    let changes = [
        Command::Put {
            key: b"a",
            value: b"1",
        },
        Command::Delete { key: b"b" },
        Command::CompareAndSwap {
            key: b"c",
            expect: Expect::Absent,
            value: b"3",
        },
        Command::Increment {
            key: b"d",
            delta: 4,
        },
        Command::Append {
            key: b"e",
            value: b"5",
        },
        Command::DeleteRange {
            from: b"f",
            to: None,
            expect: None,
        },
    ];
    operations(&changes.map(Operation::Change))
}

/// What a txn may say.
fn ends() -> Vec<(&'static str, Outcome)> {
    let item = Item {
        key: b"key",
        value: b"value",
        revision: Index(42),
        create_revision: Index(41),
        version: 2,
    };
    let told = results(&[
        OperationResult::Did(Outcome::Put),
        OperationResult::Did(Outcome::NotSwapped(None)),
        OperationResult::Did(Outcome::NotDeleted(7)),
        OperationResult::Found(item),
        OperationResult::Missing,
    ]);
    let undone = |why| Outcome::Undone {
        held: true,
        operation: 1,
        why,
    };
    let done = |held, results| Outcome::Txn { held, results };
    vec![
        ("written-txn", done(true, Some(told))),
        ("written-txn-else", done(false, Some(results(&[])))),
        ("written-txn-kept", done(true, None)),
        ("undone-not-a-number", undone(Undone::NotANumber)),
        ("undone-overflow", undone(Undone::Overflow)),
        ("undone-too-long", undone(Undone::TooLong)),
        ("undone-too-many-keys", undone(Undone::TooManyKeys)),
        ("undone-too-much-to-tell", undone(Undone::TooMuchToTell)),
    ]
}

fn written() -> Vec<(&'static str, Reply<'static>)> {
    [
        ("written-put", Outcome::Put),
        ("written-deleted", Outcome::Deleted(1)),
        ("written-swapped", Outcome::Swapped),
        ("written-not-swapped-absent", Outcome::NotSwapped(None)),
        (
            "written-not-swapped-revision",
            Outcome::NotSwapped(Some(Index(41))),
        ),
        ("written-incremented", Outcome::Incremented(-5)),
        ("written-not-a-number", Outcome::NotANumber),
        ("written-overflow", Outcome::Overflow),
        ("written-applied", Outcome::Applied),
        ("written-appended", Outcome::Appended(9)),
        ("written-too-long", Outcome::TooLong),
        ("written-not-deleted", Outcome::NotDeleted(10_001)),
    ]
    .into_iter()
    .chain(ends())
    .map(|(name, outcome)| {
        let reply = Reply::Written {
            term: Term(5),
            index: Index(43),
            outcome,
        };
        (name, reply)
    })
    .collect()
}

fn status() -> Status {
    let member = |node: u64, connected, match_index| Member {
        node: NodeId(node),
        name: format!("n{node}"),
        peer_addr: format!("10.0.0.{node}:7401"),
        client_addr: format!("10.0.0.{node}:7400"),
        suffrage: Suffrage::Voter,
        connected,
        match_index,
        install: None,
    };
    Status {
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        epoch: Epoch(0xe0e1_e2e3_e4e5_e6e7),
        node: NodeId(1),
        role: NodeRole::Leader,
        term: Term(5),
        leader: Some(NodeId(1)),
        quorum_ok: true,
        last: Index(44),
        durable: Index(43),
        commit: Index(42),
        applied: Index(41),
        snapshot: EntryId {
            term: Term(4),
            index: Index(10),
        },
        snapshot_bytes: 4321,
        snapshot_written_bytes: Some(1000),
        digest: 0xd0d1_d2d3_d4d5_d6d7_d8d9_dadb_dcdd_dedf,
        wal_bytes: 64 << 20,
        keys: 3,
        uptime_ms: 12_345,
        disk: DiskState::Ok,
        version: "0.1.0".into(),
        state: "serving".into(),
        error: String::new(),
        members: vec![
            member(1, true, Some(Index(44))),
            member(2, true, Some(Index(43))),
            Member {
                name: String::new(),
                client_addr: String::new(),
                install: Some(Install {
                    received_bytes: 1024,
                    total_bytes: 4321,
                    left_ms: Some(70),
                }),
                ..member(3, false, None)
            },
        ],
    }
}

fn replies() -> Vec<(&'static str, Any<'static>)> {
    let item = Item {
        key: b"pre/8",
        value: b"value",
        revision: Index(42),
        create_revision: Index(12),
        version: 3,
    };
    let bare = Item {
        key: b"pre/9",
        value: b"",
        ..item
    };
    let page = |count, more_after, items| Reply::Page {
        index: Index(44),
        count,
        more_after,
        view: more_after.map(|_| 3),
        items,
    };
    let follower = Status {
        role: NodeRole::Follower,
        leader: None,
        quorum_ok: false,
        disk: DiskState::Hard,
        state: "forming".into(),
        error: "member 3 was never heard".into(),
        ..status()
    };
    let candidate = Status {
        role: NodeRole::Candidate,
        members: Vec::new(),
        ..status()
    };
    let mut replies = written();
    replies.extend([
        (
            "value",
            Reply::Value {
                index: Index(44),
                item,
            },
        ),
        ("missing", Reply::Missing { index: Index(44) }),
        (
            "page-items",
            page(2, Some(b"pre/9".as_slice()), items(&[item, bare])),
        ),
        ("page-empty", page(0, None, items(&[]))),
        ("page-count", page(12_000, None, items(&[]))),
        (
            "snapshot-piece",
            Reply::SnapshotPiece {
                total_bytes: 4321,
                bytes: b"a piece",
            },
        ),
        (
            "members-changed",
            Reply::MembersChanged(MembersChanged {
                index: Index(46),
                id: NodeId(2),
                before: membership(),
                after: membership().settled(),
            }),
        ),
        (
            "admitted",
            Reply::Admitted(Admitted {
                cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
                epoch: Epoch(0xe0e1_e2e3_e4e5_e6e7),
                node: NodeId(4),
                members: vec![
                    (NodeId(1), "10.0.0.1:7401".into()),
                    (NodeId(2), "10.0.0.2:7401".into()),
                ],
                formed: identity(true).formed,
            }),
        ),
        (
            "leader-transferred",
            Reply::LeaderTransferred {
                done: true,
                term: Term(6),
                leader: NodeId(3),
            },
        ),
        ("leader-changes", Reply::LeaderChanges(leader_changes())),
        (
            "moved",
            Reply::Moved {
                term: Term(6),
                leader: Some(hint()),
            },
        ),
        (
            "moved-nowhere",
            Reply::Moved {
                term: Term(6),
                leader: None,
            },
        ),
        ("status-leader", Reply::Status(status())),
        ("status-follower", Reply::Status(follower)),
        ("status-candidate", Reply::Status(candidate)),
    ]);
    replies
        .into_iter()
        .map(|(name, reply)| (name, Any::Reply(0x0102_0304_0506_0708, reply)))
        .collect()
}

/// One of each cause.
fn leader_changes() -> Vec<LeaderChange> {
    let causes = [
        Cause::Start,
        Cause::LinkClosed,
        Cause::Silence,
        Cause::NoQuorum,
        Cause::Elected,
        Cause::HandedOver(HandOver::Asked),
        Cause::HandedOver(HandOver::Stopping),
        Cause::HandedOver(HandOver::DiskStalled),
        Cause::HandedOver(HandOver::DiskFull),
        Cause::HandedOver(HandOver::StateDiffers),
        Cause::HandedOver(HandOver::Leaving),
    ];
    let changes = (5..).zip(causes);
    let changes = changes.map(|(term, cause)| LeaderChange {
        term: Term(term),
        leader: NodeId(term % 3 + 1),
        wall_ms: 1_700_000_000_000 + term,
        without_ms: 12,
        cause,
    });
    changes.collect()
}

/// Every error of this version, and one of a later one.
pub(crate) fn errors() -> Vec<Error> {
    vec![
        Error::NotLeader { leader: hint() },
        Error::NoLeader,
        Error::DeadlineExpired,
        Error::Overloaded { retry_after_ms: 20 },
        Error::TooManyConnections { limit: 4096 },
        Error::ShuttingDown,
        Error::DiskFull { hard: true },
        Error::SessionExpired,
        Error::OutOfOrder { expected: 8 },
        Error::OutcomeUnknown,
        Error::Stale,
        Error::IdReused,
        Error::BornInFuture,
        Error::TooLarge {
            what: "value".into(),
            limit: 1 << 20,
            actual: (1 << 20) + 1,
        },
        Error::Malformed {
            reason: "a key is empty".into(),
        },
        Error::UnknownKind { kind: 0xff },
        Error::UnknownFlags { flags: 0x8000 },
        Error::UnsupportedVersion { min: 1, max: 1 },
        Error::WrongCluster {
            cluster: "00112233445566778899aabbccddeeff".into(),
        },
        Error::WrongEpoch,
        Error::WrongNode {
            reason: "node 4 is no member".into(),
        },
        Error::WrongIncarnation {
            reason: "node 2 was another one: replace-peer".into(),
        },
        Error::Divergence {
            reason: "entry 40 is committed".into(),
        },
        Error::StateInDoubt,
        Error::Refused {
            reason: "node 3 is down: of 3 voters 1 would be left".into(),
            advice: "bring it back first".into(),
        },
        Error::Removed,
        Error::Lagging(Box::new(Lag {
            reason: "no leader is known".into(),
            entries: 120,
            behind_ms: Some(3200),
            better: Some(hint()),
        })),
        Error::ViewGone,
        Error::Unknown {
            code: 999,
            class: Class::NotApplied,
            text: "come back on Monday".into(),
        },
    ]
}

/// Every sample under its name.
pub(crate) fn all() -> Vec<(String, Any<'static>)> {
    let named = [hellos(), peers(), requests(), replies()].into_iter();
    let errors = errors().into_iter().map(|error| {
        let request_id = if error.name().starts_with("wrong") {
            0
        } else {
            12
        };
        let name = format!("error-{}", error.name());
        (name, Any::Reply(request_id, Reply::Error(error)))
    });
    named
        .flatten()
        .map(|(name, any)| (name.to_owned(), any))
        .chain(errors)
        .collect()
}
