//! Nodes that are less than whole (rules D4, D5).

use std::time::Duration;

use raft::{Installed, RoleName};
use wire::peer::{
    AppendConflict, AppendOk, Digest, DiskReport, Health, Message, PreVote, Standing,
};
use wire::types::{EntryId, Index, NodeId, Term};

use super::membership::{change, leading, members, split};
use super::{ONE, THREE, TWO, append, id, in_role, request_vote, say, sent, three};
use crate::cluster::Cluster;

/// Node 1 leads term 1 with three entries committed everywhere.
fn led() -> Cluster {
    let mut cluster = in_role(RoleName::Leader);
    cluster.propose(ONE, &[b"a", b"b"]);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.raft(THREE).commit(), Index(3));
    cluster
}

/// The same, and node 2, which was down, has lost its log, and runs; nobody knows yet.
fn with_a_loss() -> Cluster {
    let mut cluster = led();
    cluster.lose(TWO);
    cluster.start(TWO);
    cluster
}

fn is_lost(cluster: &Cluster, node: NodeId) -> bool {
    cluster.raft(node).hard_state().lost
}

fn oks(messages: &[Message]) -> Vec<Index> {
    let oks = messages.iter().filter_map(|message| match message {
        Message::AppendOk(m) => Some(m.match_index),
        _ => None,
    });
    oks.collect()
}

#[test]
fn d4_acknowledgements_stop_before_the_first_faulty_entry() {
    let mut cluster = led();
    cluster.rot(THREE, &[Index(2)]);
    cluster.propose(ONE, &[b"c"]);
    cluster.deliver(1, false);
    cluster.packets.clear();
    cluster.sync(THREE, 1);
    assert_eq!(
        cluster.raft(THREE).durable(),
        Index(4),
        "tickets are as ever"
    );
    assert_eq!(oks(&sent(&cluster, THREE, ONE)), [], "it is no news");
    cluster.timeout(ONE);
    cluster.settle_between(ONE, THREE);
    assert_eq!(
        cluster.raft(ONE).commit(),
        Index(3),
        "node 3 does not hold 4@1"
    );
    cluster.mend(THREE);
    cluster.settle_between(ONE, THREE);
    assert_eq!(cluster.raft(ONE).commit(), Index(4));
}

/// It knows what it has lost: it stands by it, and lets nobody lead that lacks it.
#[test]
fn d4_faulty_entries_are_voted_with() {
    let mut cluster = led();
    cluster.crash(THREE, 0);
    cluster.rot(THREE, &[Index(3)]);
    cluster.start(THREE);
    cluster.advance(Duration::from_secs(1));
    say(&mut cluster, TWO, THREE, request_vote(2, id(2, 1)));
    say(&mut cluster, TWO, THREE, request_vote(3, id(3, 1)));
    cluster.sync(THREE, usize::MAX);
    let votes: Vec<bool> = sent(&cluster, THREE, TWO)
        .iter()
        .map(|message| matches!(message, Message::VoteAnswer(m) if m.granted))
        .collect();
    assert_eq!(votes, [false, true]);
}

#[test]
fn d4_who_is_not_whole_does_not_campaign() {
    type Spoil = fn(&mut Cluster);
    let spoils: [Spoil; 3] = [
        |cluster| cluster.rot(THREE, &[Index(3)]),
        |cluster| cluster.rebuild(THREE),
        |cluster| cluster.lose(THREE),
    ];
    for (nth, spoil) in spoils.into_iter().enumerate() {
        let mut cluster = led();
        cluster.crash(THREE, 0);
        spoil(&mut cluster);
        cluster.start(THREE);
        for _ in 0..3 {
            cluster.timeout(THREE);
            assert_eq!(cluster.raft(THREE).role(), RoleName::Follower, "{nth}");
            assert!(cluster.packets.is_empty(), "{nth}");
        }
    }
}

/// A campaign ends with the finding; a reign too, if there is no state to serve.
#[test]
fn d4_a_finding_ends_a_campaign() {
    let mut cluster = led();
    cluster.crash(ONE, 0);
    cluster.advance(Duration::from_secs(1));
    cluster.timeout(TWO);
    assert_eq!(cluster.raft(TWO).role(), RoleName::PreCandidate);
    cluster.rot(TWO, &[Index(1)]);
    assert_eq!(cluster.raft(TWO).role(), RoleName::Follower);
    let mut cluster = led();
    cluster.rot(ONE, &[Index(1)]);
    assert_eq!(cluster.raft(ONE).role(), RoleName::Leader);
    cluster.rebuild(ONE);
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
}

#[test]
fn d4_a_leader_counts_itself_before_its_first_faulty_entry() {
    let mut cluster = led();
    cluster.rot(ONE, &[Index(3)]);
    cluster.propose(ONE, &[b"c"]);
    cluster.crash(THREE, 0);
    cluster.run(Duration::from_millis(50));
    assert_eq!(cluster.raft(ONE).commit(), Index(3), "one whole copy");
    cluster.mend(ONE);
    cluster.run(Duration::from_millis(50));
    assert_eq!(cluster.raft(ONE).commit(), Index(4));
}

#[test]
fn d4_a_lost_node_grants_nothing() {
    let mut cluster = with_a_loss();
    cluster.advance(Duration::from_secs(1));
    let (term, last) = (Term(2), id(9, 1));
    say(
        &mut cluster,
        THREE,
        TWO,
        Message::PreVote(PreVote { term, last }),
    );
    say(&mut cluster, THREE, TWO, request_vote(2, last));
    cluster.sync(TWO, usize::MAX);
    let granted = sent(&cluster, TWO, THREE)
        .into_iter()
        .any(|message| match message {
            Message::PreVoteAnswer(m) => m.granted,
            Message::VoteAnswer(m) => m.granted,
            _ => false,
        });
    assert!(!granted);
    assert_eq!(cluster.raft(TWO).term(), Term(2), "the term is taken over");
    assert_eq!(cluster.raft(TWO).hard_state().vote, None);
}

/// Not for a commit, not for a round, not as heard.
#[test]
fn d4_a_lost_node_counts_for_nothing() {
    let mut cluster = with_a_loss();
    cluster.crash(THREE, 0);
    cluster.propose(ONE, &[b"c"]).expect("it leads");
    cluster.timeout(ONE);
    cluster.settle();
    cluster.read(ONE).expect("it leads");
    cluster.run(Duration::from_millis(100));
    let view = cluster.raft(ONE).followers().next().expect("node 2");
    assert!(view.id == TWO && view.health.lost);
    assert_eq!(view.match_index, Index(4), "it has caught up");
    assert_eq!(cluster.raft(ONE).commit(), Index(3));
    assert_eq!(cluster.nodes[&ONE].reads_served, 0);
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.leader(), None, "nobody is heard");
}

/// The end: all that the leader had when it learned of the loss is on the disks of a quorum of
/// others, and here.
#[test]
fn d4_a_lost_log_is_whole_when_it_and_a_quorum_of_others_have_all() {
    let mut cluster = with_a_loss();
    cluster.crash(THREE, 0);
    // The leader has 4@1 when it learns of it.
    cluster.propose(ONE, &[b"c"]).expect("it leads");
    cluster.timeout(ONE);
    cluster.settle_between(ONE, TWO);
    cluster.timeout(ONE);
    cluster.settle_between(ONE, TWO);
    assert!(is_lost(&cluster, TWO) && cluster.raft(TWO).durable() == Index(4));
    assert_eq!(cluster.raft(ONE).commit(), Index(3));
    cluster.start(THREE);
    cluster.run(Duration::from_millis(200));
    assert_eq!(cluster.raft(ONE).commit(), Index(4));
    assert!(!is_lost(&cluster, TWO));
    assert!(!cluster.nodes[&TWO].disk.hard_state.lost, "on disk, too");
    // From now on it counts again.
    cluster.crash(THREE, 0);
    cluster.propose(ONE, &[b"d"]).expect("it leads");
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.raft(ONE).commit(), Index(5));
}

/// It is whole up to an index, which it must have itself.
#[test]
fn d4_whole_is_for_a_log_that_reaches_that_far() {
    let mut cluster = with_a_loss();
    let whole = |upto: u64| {
        let Message::Append(mut m) = append(1, EntryId::default(), &[(1, 1), (2, 1)], 0) else {
            panic!("it is one");
        };
        m.standing = Standing::Whole(Index(upto));
        Message::Append(m)
    };
    cluster.oracle.blind = true;
    say(&mut cluster, ONE, TWO, whole(2));
    assert!(is_lost(&cluster, TWO), "nothing is durable");
    cluster.sync(TWO, usize::MAX);
    say(&mut cluster, ONE, TWO, whole(3));
    assert!(is_lost(&cluster, TWO), "it ends before");
    say(&mut cluster, ONE, TWO, whole(2));
    assert!(!is_lost(&cluster, TWO));
    // Until that is durable, no answer says so.
    assert!(cluster.nodes[&TWO].disk.hard_state.lost);
    let health = |cluster: &Cluster| match sent(cluster, TWO, ONE).last() {
        Some(Message::AppendOk(m)) => m.health,
        other => panic!("{other:?}"),
    };
    assert!(health(&cluster).lost);
    cluster.sync(TWO, usize::MAX);
    assert_eq!(health(&cluster), Health::default());
}

/// A follower that forgot what it acknowledged, and does not know: the leader finds out, the
/// follower makes it durable, and nobody leads by its vote who lacks what it helped to commit.
#[test]
fn d4_a_rolled_back_follower_never_lets_two_leaders_commit_differently() {
    for kept in 0..4_u64 {
        let mut cluster = led();
        // 4@1 is committed by nodes 1 and 2; node 3 lacks it.
        cluster.crash(THREE, 0);
        cluster.propose(ONE, &[b"c"]);
        cluster.settle();
        assert_eq!(cluster.raft(ONE).commit(), Index(4));
        cluster.roll_back(TWO, Index(kept));
        cluster.start(TWO);
        // The first round may be one that it answered before; the next one is not.
        for _ in 0..3 {
            cluster.timeout(ONE);
            cluster.settle_between(ONE, TWO);
        }
        assert!(cluster.nodes[&TWO].disk.hard_state.lost, "kept {kept}");
        // The others would elect node 3, and replace 4@1.
        cluster.crash(ONE, 0);
        cluster.crash(TWO, 0);
        cluster.start(TWO);
        cluster.start(THREE);
        cluster.run(Duration::from_secs(3));
        assert_eq!(cluster.leader(), None, "kept {kept}");
        cluster.start(ONE);
        cluster.run(Duration::from_secs(3));
        assert!(cluster.leader().is_some(), "kept {kept}");
        cluster.oracle.blind = false;
        for node in [ONE, TWO, THREE] {
            assert!(!is_lost(&cluster, node), "kept {kept}");
            assert_eq!(cluster.nodes[&node].log.id_at(Index(4)), Some(id(4, 1)));
        }
    }
}

/// Answers are overtaken by others; only one to a later round is younger for certain.
#[test]
fn d4_a_late_conflict_is_no_loss() {
    let mut cluster = led();
    let conflict = |round, last| {
        Message::AppendConflict(AppendConflict {
            term: Term(1),
            round,
            prev: id(3, 1),
            conflict: None,
            last,
            disk: DiskReport::default(),
            health: Health::default(),
        })
    };
    say(&mut cluster, TWO, ONE, conflict(0, id(1, 1)));
    let view = cluster.raft(ONE).followers().next().expect("node 2");
    assert!(!view.health.lost && view.match_index == Index(3));
    // But the leader wants to know.
    let asks = |m: &Message| matches!(m, Message::Append(m) if m.round == 1);
    assert!(sent(&cluster, ONE, TWO).iter().any(asks));
    say(&mut cluster, TWO, ONE, conflict(1, id(1, 1)));
    let view = cluster.raft(ONE).followers().next().expect("node 2");
    assert!(view.health.lost && view.match_index == Index(0));
}

/// What it acknowledged before the loss is not believed after it.
#[test]
fn d4_acknowledgements_of_what_is_lost_are_not_believed() {
    let mut cluster = with_a_loss();
    let ok = |round, lost| {
        Message::AppendOk(AppendOk {
            term: Term(1),
            round,
            match_index: Index(3),
            received: Index(3),
            disk: DiskReport::default(),
            health: Health {
                lost,
                rebuilding: false,
            },
            digest: None,
        })
    };
    say(&mut cluster, TWO, ONE, ok(0, true));
    say(&mut cluster, TWO, ONE, ok(0, false));
    assert_eq!(cluster.raft(ONE).match_index(TWO), Some(Index(0)));
    // The round that began since.
    say(&mut cluster, TWO, ONE, ok(1, true));
    assert_eq!(cluster.raft(ONE).match_index(TWO), Some(Index(3)));
}

/// Its log is as good as any: it votes, and counts.
#[test]
fn d5_a_node_that_rebuilds_votes_and_acknowledges() {
    let mut cluster = led();
    cluster.crash(THREE, 0);
    cluster.rebuild(TWO);
    cluster.propose(ONE, &[b"c"]);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.raft(ONE).commit(), Index(4));
    assert_eq!(cluster.raft(TWO).commit(), Index(4));
    assert!(cluster.raft(TWO).is_rebuilding(), "nobody has a snapshot");
    cluster.crash(ONE, 0);
    cluster.start(THREE);
    cluster.advance(Duration::from_secs(1));
    cluster.packets.clear();
    say(&mut cluster, THREE, TWO, request_vote(2, id(4, 1)));
    cluster.sync(TWO, usize::MAX);
    let granted = |m: &Message| matches!(m, Message::VoteAnswer(m) if m.granted);
    assert!(sent(&cluster, TWO, THREE).iter().any(granted));
}

/// The leader sends it a snapshot while entries go on flowing; it takes it though its log, which
/// it keeps, is past it.
#[test]
fn d5_a_node_that_rebuilds_takes_a_snapshot_that_its_log_is_past() {
    let mut cluster = led();
    cluster.publish(ONE);
    cluster.propose(ONE, &[b"c"]);
    cluster.run(Duration::from_millis(50));
    cluster.rebuild(TWO);
    cluster.timeout(ONE);
    while cluster.raft(ONE).needs_snapshot().next().is_none() {
        cluster.deliver(0, false);
    }
    let last = cluster.propose(ONE, &[b"d"]).expect("it leads")[0];
    cluster.settle();
    let raft = cluster.raft(TWO);
    assert!(!raft.is_rebuilding());
    assert_eq!((raft.base(), raft.last()), (EntryId::default(), last));
    assert_eq!(cluster.nodes[&TWO].snapshot, id(3, 1));
    cluster.timeout(ONE);
    cluster.settle();
    assert_eq!(cluster.raft(ONE).needs_snapshot().next(), None);
}

/// One that ends before the log begins leaves a gap.
#[test]
fn d5_a_node_that_rebuilds_takes_none_from_before_its_log() {
    let mut cluster = led();
    cluster.publish(TWO);
    cluster.compact(TWO, Index(3), true);
    cluster.rebuild(TWO);
    assert_eq!(cluster.install(TWO, id(2, 1)), Installed::Stale);
    assert!(cluster.raft(TWO).is_rebuilding());
    assert_eq!(cluster.install(TWO, id(3, 1)), Installed::Kept);
    assert!(!cluster.raft(TWO).is_rebuilding());
}

/// What its disk was asked to forget before the state was thrown away it may tell of afterwards.
#[test]
fn d5_a_node_that_rebuilds_follows_a_disk_that_forgets() {
    let mut cluster = led();
    cluster.publish(TWO);
    cluster.rebuild(TWO);
    cluster.compact(TWO, Index(2), true);
    assert_eq!(cluster.raft(TWO).base(), id(2, 1));
    assert!(cluster.raft(TWO).is_rebuilding());
    assert_eq!(cluster.install(TWO, id(3, 1)), Installed::Kept);
    assert!(!cluster.raft(TWO).is_rebuilding());
}

/// Without a state it knows the first members only. With the state it knows them all, also where its
/// log ends with it: or it would lead with a quorum of the first ones.
#[test]
fn d5_a_node_that_rebuilds_learns_who_is_a_member() {
    let mut cluster = leading(1, 3);
    change(&mut cluster, ONE, &[1, 2, 3]).expect("nothing hinders it");
    cluster.run(Duration::from_millis(500));
    let last = cluster.raft(ONE).last();
    assert_eq!(cluster.raft(TWO).commit(), last.index);
    cluster.publish(ONE);
    cluster.compact(ONE, last.index, true);
    cluster.crash(ONE, 0);
    cluster.rebuild(ONE);
    cluster.start(ONE);
    assert_eq!(members(&cluster, ONE), "1");
    assert_eq!(cluster.install(ONE, last), Installed::Kept);
    assert_eq!(members(&cluster, ONE), "1 2 3");
}

/// The place of a damaged entry that says who is a member goes to another, which the disk has not
/// reported yet, when a member answers that still has it.
#[test]
fn d4_an_entry_that_is_gone_is_not_mended() {
    let mut cluster = leading(3, 4);
    split(&mut cluster, &[&[1, 2], &[3, 4]]);
    let joint = change(&mut cluster, ONE, &[2, 3, 4]).expect("nothing hinders it");
    cluster.run(Duration::from_millis(50));
    let entry = cluster.nodes[&TWO].log.iter().last().expect("it has it");
    let entry = entry.clone();
    assert_eq!(entry.id(), joint);
    cluster.crash(TWO, 0);
    cluster.rot(TWO, &[joint.index]);
    cluster.start(TWO);
    let place = joint.index.0;
    let other = append(2, id(place - 1, 1), &[(place, 2)], 0);
    say(&mut cluster, THREE, TWO, other);
    assert_eq!(cluster.raft(TWO).last(), id(place, 2));
    let raft = cluster.node(TWO).raft.as_mut().expect("it runs");
    raft.mended(&entry);
    assert_eq!(members(&cluster, TWO), "1 2 3");
}

/// A node that begins without a state learns the wall clock with it.
#[test]
fn d5_clocks_do_not_fall_after_a_rebuild() {
    let mut cluster = three();
    cluster.elect(ONE);
    cluster.wall_ms = 9000;
    cluster.propose(ONE, &[b"a"]);
    cluster.run(Duration::from_millis(100));
    cluster.publish(TWO);
    cluster.compact(TWO, Index(2), true);
    cluster.publish(ONE);
    cluster.crash(TWO, 0);
    cluster.rebuild(TWO);
    cluster.start(TWO);
    cluster.run(Duration::from_millis(200));
    assert!(!cluster.raft(TWO).is_rebuilding());
    cluster.hand_over(ONE, TWO).expect("it is fit");
    cluster.settle();
    // The oracle compares each entry's clock with that of the one before.
    assert_eq!(cluster.leader(), Some(TWO));
}

/// The same of entries that are fetched: the newest one's clock was lost with it.
#[test]
fn d4_clocks_do_not_fall_after_a_repair() {
    let mut cluster = three();
    cluster.elect(ONE);
    cluster.wall_ms = 9000;
    cluster.propose(ONE, &[b"a"]);
    cluster.run(Duration::from_millis(100));
    cluster.crash(TWO, 0);
    cluster.rot(TWO, &[Index(2)]);
    cluster.start(TWO);
    cluster.mend(TWO);
    cluster.run(Duration::from_millis(100));
    cluster.hand_over(ONE, TWO).expect("it is fit");
    cluster.settle();
    assert_eq!(cluster.leader(), Some(TWO));
}

/// The leader tells the quorum's, the followers their own; each is news once.
#[test]
fn d5_digests_travel_and_are_told_once() {
    let mut cluster = led();
    let digest = |index, sum| Digest {
        index: Index(index),
        sum,
    };
    cluster.set_digest(ONE, digest(1, 10));
    cluster.set_digest(TWO, digest(1, 11));
    cluster.take_trace();
    cluster.run(Duration::from_millis(200));
    let trace = cluster.take_trace();
    let told: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("hears"))
        .collect();
    assert_eq!(
        told,
        [
            "n2 hears that n1 has a at 1",
            "n3 hears that n1 has a at 1",
            "n1 hears that n2 has b at 1",
        ]
    );
    cluster.set_digest(TWO, digest(2, 12));
    cluster.run(Duration::from_millis(50));
    assert!(cluster.take_trace().contains("n1 hears that n2 has c at 2"));
}
