//! The log: appending, agreeing, committing, recovering.

use std::time::Duration;

use raft::{CannotPropose, Input, NotLeader, RoleName};
use wire::entry::EntryKind;
use wire::peer::{AppendOk, DiskReport, Health, Message};
use wire::types::{EntryId, Index, Term};

use super::{ONE, THREE, TWO, append, id, in_role, say, sent, terms, three, with_logs};

#[test]
fn s3_5_a_leader_appends_and_commits_what_a_quorum_holds() {
    let mut cluster = in_role(RoleName::Leader);
    let ids = cluster.propose(ONE, &[b"a", b"b"]).expect("it leads");
    assert_eq!(ids, vec![id(2, 1), id(3, 1)]);
    assert_eq!(cluster.raft(ONE).commit(), Index(1));
    cluster.settle();
    assert_eq!(cluster.raft(ONE).commit(), Index(3));
    // The others learn it from the next message.
    cluster.timeout(ONE);
    cluster.settle();
    assert!(
        cluster
            .ids()
            .iter()
            .all(|id| cluster.raft(*id).commit() == Index(3))
    );
    assert_eq!(
        cluster.raft(ONE).entry(Index(2)).expect("in memory").body(),
        b"a"
    );
}

#[test]
fn s3_5_others_take_no_proposals_and_name_the_leader() {
    let mut cluster = in_role(RoleName::Leader);
    let raft = cluster.node(TWO).raft.as_mut().expect("it is up");
    let leader = NotLeader { leader: Some(ONE) };
    assert_eq!(raft.propose(0, b"a"), Err(CannotPropose::NotLeader(leader)));
    assert!(raft.read().is_some(), "it follows");
}

#[test]
fn s3_5_consistency_check() {
    // Thesis 3.5: an Append is taken only if the entry before its first is there.
    let held = [1, 1, 4];
    for (prev, fits) in [
        (id(0, 0), true),
        (id(1, 1), true),
        (id(3, 4), true),
        (id(3, 3), false),
        (id(2, 2), false),
        (id(4, 4), false),
    ] {
        let mut cluster = with_logs(&[&held, &[], &[]], 5);
        say(&mut cluster, TWO, ONE, append(5, prev, &[], 0));
        let answer = sent(&cluster, ONE, TWO).pop().expect("an answer");
        assert_eq!(matches!(answer, Message::AppendOk(_)), fits, "{prev}");
        assert_eq!(terms(&cluster, ONE), held, "an empty Append changes no log");
    }
}

/// Thesis figure 3.6: whatever a follower's log looks like, it becomes the leader's.
#[test]
fn s3_5_a_follower_log_becomes_the_leaders() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        let mut cluster = with_logs(&[&leader, follower, &[]], 7);
        // Node 3 helps node 1 to win, even against a newer log.
        cluster.elect(ONE);
        cluster.run(Duration::from_millis(200));
        let expected: Vec<u64> = leader.into_iter().chain([8]).collect();
        assert_eq!(terms(&cluster, TWO), expected, "from {follower:?}");
        assert_eq!(cluster.raft(TWO).commit(), Index(11));
    }
}

#[test]
fn s3_5_a_leader_never_touches_its_own_log() {
    let mut cluster = with_logs(&[&[1, 2], &[], &[]], 2);
    cluster.elect(ONE);
    cluster.propose(ONE, &[b"a"]);
    assert_eq!(terms(&cluster, ONE), [1, 2, 3, 3]);
    say(&mut cluster, TWO, ONE, append(3, id(1, 1), &[(2, 3)], 0));
    assert_eq!(terms(&cluster, ONE), [1, 2, 3, 3]);
}

#[test]
fn s3_6_2_only_entries_of_the_own_term_are_committed_by_counting() {
    let mut cluster = with_logs(&[&[1, 2], &[1, 2], &[1, 2]], 2);
    cluster.elect(ONE);
    assert_eq!(
        cluster.raft(ONE).commit(),
        Index(3),
        "with the no-op all is"
    );
    let mut cluster = with_logs(&[&[1, 2], &[1, 2], &[1, 2]], 2);
    cluster.advance(Duration::from_secs(1));
    cluster.turn(ONE, vec![Input::Tick]);
    while cluster.leader().is_none() {
        if cluster.packets.is_empty() {
            for node in cluster.ids() {
                cluster.sync(node, usize::MAX);
            }
        } else {
            cluster.deliver(0, false);
        }
    }
    for follower in [TWO, THREE] {
        let ok = AppendOk {
            term: Term(3),
            round: 0,
            match_index: Index(2),
            received: Index(2),
            disk: DiskReport::default(),
            health: Health::default(),
            digest: None,
        };
        say(&mut cluster, follower, ONE, Message::AppendOk(ok));
        assert_eq!(cluster.raft(ONE).match_index(follower), Some(Index(2)));
    }
    assert_eq!(
        cluster.raft(ONE).commit(),
        Index(0),
        "three copies, but of an older term"
    );
}

#[test]
fn s3_6_2_a_term_opens_with_a_noop() {
    let mut cluster = in_role(RoleName::Leader);
    let first = cluster
        .raft(ONE)
        .entry(Index(1))
        .expect("in memory")
        .clone();
    assert_eq!((first.kind(), first.id()), (EntryKind::Noop, id(1, 1)));
    cluster.elect(TWO);
    let second = cluster
        .raft(TWO)
        .entry(Index(2))
        .expect("in memory")
        .clone();
    assert_eq!((second.kind(), second.id()), (EntryKind::Noop, id(2, 2)));
}

#[test]
fn s3_7_a_repeated_append_does_no_harm() {
    let mut cluster = three();
    let message = append(1, EntryId::default(), &[(1, 1), (2, 1)], 1);
    for _ in 0..3 {
        say(&mut cluster, TWO, ONE, message.clone());
    }
    assert_eq!(terms(&cluster, ONE), [1, 1]);
    assert_eq!(cluster.nodes[&ONE].writes.len(), 1, "it is written once");
    // Nor does an older one with fewer entries.
    say(
        &mut cluster,
        TWO,
        ONE,
        append(1, EntryId::default(), &[(1, 1)], 0),
    );
    assert_eq!(terms(&cluster, ONE), [1, 1]);
    assert_eq!(cluster.raft(ONE).commit(), Index(1));
}

#[test]
fn s3_7_a_crashed_follower_is_sent_what_it_lost() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.crash(THREE, 0);
    cluster.propose(ONE, &[b"a", b"b", b"c"]);
    cluster.settle();
    cluster.start(THREE);
    cluster.run(Duration::from_millis(200));
    assert_eq!(terms(&cluster, THREE), terms(&cluster, ONE));
}

#[test]
fn s10_2_1_entries_leave_before_the_leader_has_them_on_disk() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.propose(ONE, &[b"a"]);
    assert_eq!(cluster.raft(ONE).durable(), Index(1));
    assert_eq!(sent(&cluster, ONE, TWO).len(), 1);
    // Two followers commit it without the leader's disk.
    for follower in [TWO, THREE] {
        cluster.deliver(0, false);
        cluster.sync(follower, usize::MAX);
    }
    for _ in 0..2 {
        cluster.deliver(0, false);
    }
    assert_eq!(cluster.raft(ONE).commit(), Index(2));
    assert_eq!(cluster.raft(ONE).durable(), Index(1));
}

#[test]
fn s10_2_1_a_leaders_disk_is_awaited_once_it_completes_a_quorum() {
    let mut cluster = in_role(RoleName::Leader);
    assert!(!cluster.raft(ONE).awaits_own_disk(), "nothing is written");
    cluster.propose(ONE, &[b"a"]);
    assert!(!cluster.raft(ONE).awaits_own_disk(), "it would count alone");
    cluster.deliver(0, false);
    cluster.sync(TWO, usize::MAX);
    assert_eq!(sent(&cluster, TWO, ONE).len(), 1);
    while !sent(&cluster, TWO, ONE).is_empty() {
        cluster.deliver(0, false);
    }
    assert!(cluster.raft(ONE).awaits_own_disk(), "one more is enough");
    cluster.sync(ONE, usize::MAX);
    assert_eq!(cluster.raft(ONE).commit(), Index(2));
    assert!(!cluster.raft(ONE).awaits_own_disk(), "all is committed");
    assert!(cluster.raft(TWO).awaits_own_disk(), "its leader waits");
}

#[test]
fn s10_2_2_appends_are_pipelined_and_batched() {
    let mut cluster = in_role(RoleName::Leader);
    for _ in 0..5 {
        cluster.propose(ONE, &[b"a", b"b", b"c"]);
    }
    let appends = sent(&cluster, ONE, TWO);
    assert_eq!(appends.len(), 5, "one per turn, none waits for an answer");
    for append in appends {
        assert!(matches!(append, Message::Append(m) if m.entries.len() == 3));
    }
}
