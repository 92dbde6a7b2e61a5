//! What clients are answered.

use wire::client::{
    Admitted, Install, Item, LeaderChange, Member, MembersChanged, NodeRole, Reply, Status,
};
use wire::command::{OperationResult, Outcome, Undone};
use wire::leadership::{Cause, HandOver};
use wire::membership::Suffrage;
use wire::peer::DiskState;
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};

use super::membership;
use super::peer::{hint, identity};
use crate::any::Any;
use crate::make::{items, results};

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

pub(super) fn status() -> Status {
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

pub(super) fn replies() -> Vec<(&'static str, Any<'static>)> {
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
