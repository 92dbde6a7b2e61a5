//! What clients ask for.

use wire::client::{Consistency, Freshness, KeyRange, MemberChange, Request, ScanMode, ViewChoice};
use wire::command::{Command, Compare, Condition, Expect, Operation, Operations, Relation, Txn};
use wire::types::{EntryId, Incarnation, Index, NodeId, Term};

use crate::any::Any;
use crate::make::{compares, operations, write, write_request};

pub(super) fn requests() -> Vec<(&'static str, Any<'static>)> {
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

pub(super) fn changes() -> Vec<(&'static str, Request<'static>)> {
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
pub(super) fn txn() -> Txn<'static> {
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
