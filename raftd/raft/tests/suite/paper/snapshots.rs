//! Log compaction: snapshots, what the log forgets, and who is sent what.

use std::time::Duration;

use raft::{Effect, Installed, RoleName};
use wire::entry::EntryKind;
use wire::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use wire::peer::{InstallSnapshot, Message};
use wire::types::{EntryId, Index, NodeId, Term};

use super::{
    ONE, ROLES, THREE, TWO, append, id, in_role, request_vote, say, sent, terms, three, with_logs,
};
use crate::cluster::Cluster;

/// Node 1 leads term 1 with six entries committed everywhere, and its log begins behind 4@1.
fn compacted() -> Cluster {
    let mut cluster = in_role(RoleName::Leader);
    cluster.propose(ONE, &[b"a", b"b", b"c", b"d", b"e"]);
    cluster.run(Duration::from_millis(100));
    cluster.publish(ONE);
    cluster.compact(ONE, Index(4), true);
    cluster
}

/// The same, but node 3 was down and has just told that it lacks 4@1.
fn behind() -> Cluster {
    let mut cluster = in_role(RoleName::Leader);
    cluster.crash(THREE, 0);
    cluster.propose(ONE, &[b"a", b"b", b"c", b"d", b"e"]);
    cluster.run(Duration::from_millis(100));
    cluster.publish(ONE);
    cluster.compact(ONE, Index(4), true);
    cluster.start(THREE);
    cluster.timeout(ONE);
    while cluster.raft(ONE).needs_snapshot().next().is_none() {
        cluster.deliver(0, false);
    }
    cluster.packets.clear();
    cluster
}

fn chunk(term: u64, snapshot: EntryId) -> Message {
    Message::InstallSnapshot(InstallSnapshot {
        term: Term(term),
        round: 0,
        snapshot,
        total_bytes: 9,
        offset: 0,
        bytes: vec![7; 3].into(),
    })
}

/// Thesis figure 5.1: what is before the snapshot goes, its last index and term stay.
#[test]
fn s5_1_the_log_begins_behind_what_the_snapshot_covers() {
    let mut cluster = compacted();
    let raft = cluster.raft(ONE);
    assert_eq!((raft.base(), raft.last()), (id(4, 1), id(6, 1)));
    assert!(raft.entry(Index(4)).is_none() && raft.entry(Index(5)).is_some());
    // Less than that is compacted already.
    cluster.compact(ONE, Index(3), true);
    assert_eq!(cluster.raft(ONE).base(), id(4, 1));
    // The consistency check of the next entry needs the base (thesis 5.1).
    cluster.compact(ONE, Index(6), true);
    assert_eq!(cluster.raft(ONE).last(), id(6, 1));
    cluster.propose(ONE, &[b"f"]);
    let Some(Message::Append(next)) = sent(&cluster, ONE, TWO).pop() else {
        panic!("no append");
    };
    assert_eq!((next.prev, next.entries[0].id()), (id(6, 1), id(7, 1)));
    cluster.settle();
    assert_eq!(terms(&cluster, TWO), [1; 7]);
}

#[test]
#[should_panic(expected = "is compacted, applied is 1")]
fn s5_1_what_is_not_applied_is_not_compacted() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.propose(ONE, &[b"a"]);
    cluster.sync(ONE, usize::MAX);
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    raft.compact(Index(2));
}

/// Thesis 5.1: what the base says counts in elections as the entry itself.
#[test]
fn s5_1_an_empty_log_compares_as_its_base() {
    for (last, newer) in [
        (id(5, 1), false),
        (id(6, 1), true),
        (id(9, 1), true),
        (id(1, 2), true),
    ] {
        let mut cluster = compacted();
        cluster.compact(ONE, Index(6), true);
        cluster.crash(ONE, 0);
        cluster.start(ONE);
        say(&mut cluster, THREE, ONE, request_vote(3, last));
        cluster.sync(ONE, usize::MAX);
        let Some(Message::VoteAnswer(answer)) = sent(&cluster, ONE, THREE).pop() else {
            panic!("no answer");
        };
        assert_eq!(answer.granted, newer, "{last}");
    }
}

/// The leader alone decides when, so that all have the same bytes; every node may (5.1: servers
/// snapshot independently).
#[test]
fn s5_1_the_entry_to_take_a_snapshot_at_is_the_leaders() {
    for role in ROLES {
        let mut cluster = in_role(role);
        let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
        let proposed = raft.propose_snapshot(2000);
        assert_eq!(proposed.is_ok(), role == RoleName::Leader);
        if let Ok(id) = proposed {
            let entry = raft.entry(id.index).expect("in memory");
            assert_eq!(
                (entry.kind(), entry.wall_ms()),
                (EntryKind::SnapshotAt, 2000)
            );
            assert_eq!(entry.body(), b"");
        }
    }
}

/// Rules F2, for a log of which nothing is left: a no-op does not go back in time.
#[test]
fn s5_1_the_wall_clock_survives_compaction_restart_and_install() {
    let stamp = |cluster: &Cluster, node: NodeId| {
        let raft = cluster.raft(node);
        raft.entry(raft.last().index).expect("in memory").wall_ms()
    };
    let mut cluster = in_role(RoleName::Leader);
    cluster.crash(THREE, 0);
    cluster.wall_ms = 5000;
    cluster.propose(ONE, &[b"a"]);
    cluster.run(Duration::from_millis(100));
    cluster.publish(ONE);
    cluster.compact(ONE, Index(2), true);
    cluster.wall_ms = 10;
    cluster.propose(ONE, &[b"b"]);
    assert_eq!(stamp(&cluster, ONE), 5000);
    cluster.settle();
    cluster.publish(ONE);
    cluster.compact(ONE, Index(3), true);
    cluster.crash(ONE, usize::MAX);
    cluster.start(ONE);
    cluster.start(THREE);
    cluster.elect(ONE);
    assert_eq!(stamp(&cluster, ONE), 5000);
    // Node 3 has nothing but the snapshot.
    cluster.publish(ONE);
    assert_eq!(cluster.raft(THREE).base(), id(3, 1));
    cluster.elect(THREE);
    assert_eq!(stamp(&cluster, THREE), 5000);
}

/// Thesis 5.3: a follower so far behind that the leader has discarded what it needs next.
#[test]
fn s5_3_a_follower_behind_the_base_needs_a_snapshot() {
    let mut cluster = behind();
    assert_eq!(
        cluster.raft(ONE).needs_snapshot().collect::<Vec<_>>(),
        [THREE]
    );
    // Others are replicated to meanwhile, it is not.
    cluster.propose(ONE, &[b"x"]);
    assert_eq!(sent(&cluster, ONE, TWO).len(), 1);
    assert_eq!(sent(&cluster, ONE, THREE).len(), 0);
    // It is followed, though, as long as heartbeats come.
    cluster.timeout(ONE);
    assert_eq!(sent(&cluster, ONE, THREE).len(), 1);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.leader(), Some(ONE));
    assert_eq!(cluster.raft(THREE).last(), cluster.raft(ONE).last());
    assert_eq!(cluster.raft(ONE).needs_snapshot().count(), 0);
}

/// The terms of a log, up to where it agrees with the leader's, how much of that is committed, and
/// what is left of it.
type Case = (&'static [u64], u64, u64, Installed, &'static [u64]);

/// Thesis 5.3: what becomes of a log.
#[test]
fn s5_3_an_installed_snapshot_discards_any_log_but_one_that_holds_it() {
    use Installed::{Kept, Reset, Stale};
    let snapshot = id(3, 2);
    let cases: [Case; 11] = [
        (&[], 0, 0, Reset, &[]),
        (&[1, 1], 0, 0, Reset, &[]),
        (&[1, 1], 2, 2, Reset, &[]),
        (&[1, 1, 1], 0, 0, Reset, &[]),
        (&[1, 1, 1, 1, 1], 2, 1, Reset, &[]),
        (&[1, 1, 2], 0, 0, Kept, &[1, 1, 2]),
        (&[1, 1, 2, 2], 4, 1, Kept, &[1, 1, 2, 2]),
        (&[1, 1, 2, 2], 4, 3, Stale, &[1, 1, 2, 2]),
        (&[1, 1, 2, 2], 4, 4, Stale, &[1, 1, 2, 2]),
        // Here the leader had another entry than the one that is said to be committed: that
        // cannot be, and what was agreed on stays.
        (&[1, 1, 1, 1], 4, 1, Stale, &[1, 1, 1, 1]),
        (&[1, 1, 1, 1], 3, 3, Stale, &[1, 1, 1, 1]),
    ];
    for (log, agreed, commit, expected, left) in cases {
        let mut cluster = with_logs(&[log, &[], &[]], 3);
        let term = agreed.checked_sub(1).map_or(0, |place| log[place as usize]);
        say(
            &mut cluster,
            TWO,
            ONE,
            append(3, id(agreed, term), &[], commit),
        );
        let case = format!("{log:?} {agreed} {commit}");
        assert_eq!(cluster.install(ONE, snapshot), expected, "{case}");
        cluster.turn(ONE, Vec::new());
        assert_eq!(terms(&cluster, ONE), left, "{case}");
        let raft = cluster.raft(ONE);
        if expected == Reset {
            assert_eq!((raft.base(), raft.last()), (snapshot, snapshot));
            assert!(raft.durable() <= Index(agreed), "the disk has to follow");
        } else {
            assert_eq!(raft.durable(), Index(log.len() as u64), "{case}");
        }
        let known = if expected == Stale { commit } else { 3 };
        assert_eq!(raft.commit(), Index(known), "{case}");
    }
}

#[test]
fn s5_3_pieces_reach_the_node_whoever_it_takes_itself_for() {
    for role in ROLES {
        let mut cluster = in_role(role);
        let before = cluster.raft(ONE).term();
        say(&mut cluster, TWO, ONE, chunk(before.0 + 1, id(50, 1)));
        assert_eq!(cluster.raft(ONE).leader(), Some(TWO), "{role:?}");
        let trace = cluster.take_trace();
        assert!(trace.contains("n1 stores snapshot=50@1 bytes=0..3 of 9"));
        assert!(cluster.nodes[&ONE].disk.received.is_some());
        // An older leader's are not taken.
        say(&mut cluster, THREE, ONE, chunk(before.0.max(1), id(60, 1)));
        if before.0 > 0 {
            assert_eq!(cluster.raft(ONE).leader(), Some(TWO));
            assert!(!cluster.take_trace().contains("60@1"));
        }
    }
}

/// Only a leader sends pieces, and only to who needs them.
#[test]
fn s5_3_pieces_are_sent_to_who_needs_them() {
    let piece = vec![7; SNAPSHOT_CHUNK_BYTES_MAX];
    let send = |cluster: &Cluster, from: NodeId, to: NodeId| {
        let mut effects = Vec::new();
        cluster.raft(from).chunk(
            to,
            id(6, 1),
            piece.len() as u64,
            0,
            piece.clone().into(),
            &mut effects,
        );
        effects
    };
    let cluster = compacted();
    assert!(send(&cluster, ONE, THREE).is_empty(), "it needs none");
    let cluster = behind();
    assert!(send(&cluster, TWO, THREE).is_empty(), "it does not lead");
    let effects = send(&cluster, ONE, THREE);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Send { to: THREE, after: None, message: Message::InstallSnapshot(m) }]
            if m.term == Term(1) && m.snapshot == id(6, 1) && m.bytes.len() == piece.len()
    ));
    assert!(send(&cluster, ONE, TWO).is_empty());
    assert!(send(&cluster, ONE, NodeId(9)).is_empty(), "a stranger");
}

/// Who follows nobody has nobody to answer.
#[test]
fn s5_3_the_leader_that_is_followed_is_answered() {
    for role in ROLES {
        let mut cluster = in_role(role);
        let mut effects = Vec::new();
        let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
        raft.answer_chunk(id(50, 1), 3, &mut effects);
        match effects.as_slice() {
            [] => assert_ne!(role, RoleName::Follower),
            [
                Effect::Send {
                    to: TWO,
                    message: Message::SnapshotOk(m),
                    ..
                },
            ] => {
                assert_eq!(role, RoleName::Follower);
                assert_eq!(
                    (m.term, m.snapshot, m.received_bytes),
                    (Term(1), id(50, 1), 3)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let mut cluster = three();
    say(&mut cluster, TWO, ONE, chunk(4, id(50, 1)));
    assert_eq!(sent(&cluster, ONE, TWO).len(), 0, "the term is not durable");
    cluster.sync(ONE, usize::MAX);
    assert_eq!(sent(&cluster, ONE, TWO).len(), 1);
}

/// Leader Completeness (3.6.3): whatever is in a snapshot is in a leader's log.
#[test]
fn s5_3_a_leader_installs_nothing() {
    let mut cluster = compacted();
    cluster.oracle.blind = true;
    assert_eq!(cluster.install(ONE, id(50, 1)), Installed::Stale);
    cluster.turn(ONE, Vec::new());
    assert_eq!(cluster.raft(ONE).last(), id(6, 1));
}
