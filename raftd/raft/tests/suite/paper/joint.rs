//! Joint consensus: two sets of voters side by side, and the way out of it.

use std::time::Duration;

use raft::{Installed, RoleName};
use wire::types::{Index, NodeId, Term};

use super::membership::{change, changes_in, leading, members, split};
use super::{ONE, THREE, TWO};
use crate::cluster::Cluster;

const JOINT: &str = "1 2x 3x 4+ 5+";

/// Node 1 leads, and all five are to go from voters 1, 2, 3 to 1, 4, 5. All have that on their
/// disks, and nobody has told the leader.
fn joint() -> Cluster {
    let mut cluster = leading(3, 5);
    let learners = cluster.change(ONE, 0b00111, 0b11000);
    learners.expect("it has bits").expect("it leads");
    cluster.run(Duration::from_millis(100));
    for node in [2, 3, 4, 5].map(NodeId) {
        cluster.cut.insert((node, ONE));
    }
    let entry = change(&mut cluster, ONE, &[1, 4, 5]).expect("it leads");
    cluster.settle();
    for node in cluster.ids() {
        assert_eq!(members(&cluster, node), JOINT, "node {node}");
        assert_eq!(cluster.raft(node).durable(), entry.index);
        assert!(cluster.raft(node).commit() < entry.index);
    }
    cluster
}

/// The groups that are a majority of one set only, and one that is of both.
const OF_BEFORE: [u64; 3] = [1, 2, 3];
const OF_AFTER: [u64; 3] = [1, 4, 5];
const OF_BOTH: [u64; 3] = [1, 2, 4];

#[test]
fn s4_3_entries_are_committed_by_majorities_of_both_sets() {
    for (group, is_enough) in [(OF_BEFORE, false), (OF_AFTER, false), (OF_BOTH, true)] {
        let mut cluster = joint();
        split(&mut cluster, &[&group]);
        let before = cluster.raft(ONE).commit();
        let entry = cluster.propose(ONE, &[b"a"]).expect("it leads")[0];
        cluster.read(ONE).expect("it leads");
        cluster.run(Duration::from_millis(200));
        let commit = cluster.raft(ONE).commit();
        assert_eq!(commit >= entry.index, is_enough, "{group:?}");
        assert!(is_enough || commit == before, "{group:?}");
        let served = u64::from(is_enough);
        assert_eq!(cluster.nodes[&ONE].reads_served, served, "{group:?}");
        cluster.run(Duration::from_millis(300));
        let leads = cluster.raft(ONE).role() == RoleName::Leader;
        assert_eq!(leads, is_enough, "CheckQuorum of {group:?}");
    }
}

#[test]
fn s4_3_elections_take_majorities_of_both_sets() {
    for (group, is_enough) in [(OF_BEFORE, false), (OF_AFTER, false), (OF_BOTH, true)] {
        let mut cluster = joint();
        for node in cluster.ids() {
            cluster.crash(node, 0);
        }
        for node in cluster.ids() {
            cluster.start(node);
        }
        split(&mut cluster, &[&group]);
        cluster.run(Duration::from_secs(3));
        assert_eq!(cluster.leader().is_some(), is_enough, "{group:?}");
        // Without PreVote, too.
        let terms = cluster.ids().into_iter().map(|id| cluster.raft(id).term());
        assert_eq!(terms.max() > Some(Term(1)), is_enough, "{group:?}");
    }
}

/// Any voter of either set may lead.
#[test]
fn s4_3_a_voter_of_either_set_may_lead() {
    for leader in [1, 2, 3, 4, 5].map(NodeId) {
        let mut cluster = joint();
        for node in cluster.ids() {
            cluster.crash(node, 0);
        }
        for node in cluster.ids() {
            cluster.start(node);
        }
        cluster.cut.clear();
        cluster.advance(Duration::from_secs(1));
        cluster.timeout(leader);
        while cluster.raft(leader).role() != RoleName::Leader {
            for node in cluster.ids() {
                cluster.sync(node, usize::MAX);
            }
            cluster.deliver(0, false);
        }
        cluster.run(Duration::from_secs(1));
        assert_eq!(changes_in(&cluster, ONE).len(), 3, "by node {leader}");
        for node in [ONE, NodeId(4), NodeId(5)] {
            assert_eq!(members(&cluster, node), "1 4 5", "by node {leader}");
        }
    }
}

/// Row 45 of the bugs that others had: whoever leads ends it, once, also behind other entries.
#[test]
fn s4_3_the_set_of_before_ends_once_whoever_leads() {
    let mut cluster = joint();
    cluster.propose(ONE, &[b"a", b"b"]).expect("it leads on");
    assert_eq!(cluster.raft(ONE).role(), RoleName::Leader);
    cluster.crash(ONE, 0);
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
    let leader = cluster.leader().expect("two of three, twice");
    cluster.start(ONE);
    cluster.propose(leader, &[b"c"]);
    cluster.run(Duration::from_secs(2));
    for node in [ONE, NodeId(4), NodeId(5)] {
        assert_eq!(members(&cluster, node), "1 4 5", "node {node}");
        assert_eq!(changes_in(&cluster, node).len(), 3, "node {node}");
    }
    let leader = cluster.leader().expect("all are up");
    assert!(!cluster.raft(leader).is_changing());
    assert_eq!(cluster.raft(leader).membership().suffrage(TWO), None);
}

/// The second step waits until the first one is committed: until then the voters of before may
/// elect a leader that never heard of it.
#[test]
fn s4_3_the_set_of_before_does_not_end_before_both_stand() {
    let mut cluster = joint();
    split(&mut cluster, &[&OF_AFTER]);
    cluster.run(Duration::from_millis(200));
    assert_eq!(members(&cluster, ONE), JOINT);
    cluster.crash(ONE, 0);
    cluster.crash(NodeId(4), 0);
    cluster.crash(NodeId(5), 0);
    split(&mut cluster, &[&[2, 3]]);
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.leader(), None, "two of three, none of two");
}

/// Row 44 of the bugs that others had: a restart between the two steps, again and again.
#[test]
fn s4_3_a_restart_inside_goes_on() {
    let mut cluster = joint();
    for _ in 0..3 {
        for node in cluster.ids() {
            cluster.crash(node, 0);
            cluster.start(node);
            assert_eq!(members(&cluster, node), JOINT, "node {node}");
        }
    }
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
    for node in [ONE, NodeId(4), NodeId(5)] {
        assert_eq!(members(&cluster, node), "1 4 5", "node {node}");
    }
}

/// Node 1 leads and has committed that both sets stand side by side, but its disk does not have the
/// second step, nor does any other.
fn between_the_steps() -> Cluster {
    let mut cluster = joint();
    let entry = cluster.raft(ONE).last();
    cluster.cut.clear();
    for from in [TWO, THREE, NodeId(4), NodeId(5)] {
        cluster.cut.insert((ONE, from));
    }
    for node in [2, 4, 5].map(NodeId) {
        cluster.cut.remove(&(ONE, node));
    }
    cluster.timeout(ONE);
    while cluster.raft(ONE).commit() < entry.index {
        cluster.deliver(0, false);
    }
    cluster.packets.clear();
    assert_eq!(members(&cluster, ONE), "1 4 5");
    assert_eq!(cluster.raft(ONE).durable(), entry.index);
    cluster
}

/// A snapshot may be of that moment, and then the log says nothing of it any more.
#[test]
fn s4_3_a_snapshot_inside_tells_both_sets() {
    let mut cluster = between_the_steps();
    let entry = cluster.raft(ONE).last();
    let snapshot = cluster.publish(ONE);
    assert_eq!(snapshot.index, entry.index.prev());
    cluster.compact(ONE, snapshot.index, true);
    cluster.crash(ONE, 0);
    cluster.start(ONE);
    assert_eq!(changes_in(&cluster, ONE), []);
    assert_eq!(members(&cluster, ONE), JOINT);
    // It is needed by a set that it alone is not enough for, and a new node installs it.
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
    for node in [ONE, NodeId(4), NodeId(5)] {
        assert_eq!(members(&cluster, node), "1 4 5", "node {node}");
    }
}

/// The same, but it is installed by a node that was far behind, and that is all it knows.
#[test]
fn s4_3_an_installed_snapshot_tells_both_sets() {
    let mut cluster = leading(3, 5);
    split(&mut cluster, &[&[1, 2, 4, 5]]);
    for node in [2, 4, 5].map(NodeId) {
        cluster.cut.insert((ONE, node));
    }
    let joint = change(&mut cluster, ONE, &[1, 4, 5]).expect("it leads");
    split(&mut cluster, &[&[1, 2, 4, 5]]);
    cluster.timeout(ONE);
    while cluster.raft(ONE).commit() < joint.index {
        for node in cluster.ids() {
            cluster.sync(node, usize::MAX);
        }
        cluster.deliver(0, false);
    }
    let snapshot = cluster.publish(ONE);
    assert_eq!(snapshot, joint, "the second step is not committed");
    assert_eq!(members(&cluster, THREE), "1 2 3");
    cluster.packets.clear();
    cluster.install(THREE, snapshot);
    cluster.turn(THREE, Vec::new());
    assert_eq!(members(&cluster, THREE), JOINT);
    cluster.sync(THREE, usize::MAX);
    cluster.crash(THREE, 0);
    cluster.start(THREE);
    assert_eq!(members(&cluster, THREE), JOINT);
    assert_eq!(cluster.raft(THREE).last(), joint);
}

/// What stands behind an installed snapshot, in a log that holds it, stays in force.
#[test]
fn s4_3_a_set_behind_an_installed_snapshot_stays_in_force() {
    let mut cluster = leading(3, 5);
    let snapshot = cluster.propose(ONE, &[b"a"]).expect("it leads")[0];
    let joint = change(&mut cluster, ONE, &[1, 4, 5]).expect("it leads");
    split(&mut cluster, &[&[1, 3]]);
    while cluster.raft(THREE).last() < joint {
        cluster.deliver(0, false);
    }
    split(&mut cluster, &[&OF_BOTH]);
    cluster.run(Duration::from_millis(100));
    assert!(cluster.raft(ONE).commit() >= snapshot.index);
    assert!(cluster.raft(THREE).commit() < snapshot.index);
    assert_eq!(cluster.install(THREE, snapshot), Installed::Kept);
    assert_eq!(members(&cluster, THREE), JOINT);
}

/// Row 51 of the bugs that others had: what a smaller quorum has answered is enough as soon as it
/// is the quorum.
#[test]
fn s4_3_waiting_reads_are_looked_at_again() {
    let mut cluster = leading(4, 4);
    cluster.crash(THREE, 0);
    let joint = change(&mut cluster, ONE, &[1, 2, 3]).expect("it leads");
    // The answers of nodes 2 and 4 to the first step are on their way when a read comes.
    for node in [TWO, NodeId(4)] {
        let place = cluster.packets.iter().position(|packet| packet.to == node);
        cluster.deliver(place.expect("it was sent"), false);
    }
    cluster.sync(ONE, usize::MAX);
    let answered = cluster.packets.len();
    for node in [TWO, NodeId(4)] {
        cluster.sync(node, usize::MAX);
    }
    let answers = cluster.packets.split_off(answered);
    cluster.packets.clear();
    cluster.read(ONE).expect("it leads");
    // Node 2 answers the round of the read; node 4 is silent from then on.
    let round = cluster.packets.iter().position(|packet| packet.to == TWO);
    let round = cluster.packets.remove(round.expect("it was sent"));
    cluster.packets = vec![round];
    while !cluster.packets.is_empty() && cluster.nodes[&ONE].reads_served == 0 {
        cluster.deliver(0, false);
        cluster.packets.retain(|packet| packet.to != NodeId(4));
    }
    assert_eq!(cluster.nodes[&ONE].reads_served, 0, "two of four");
    assert!(cluster.raft(ONE).commit() < joint.index);
    // Its old answer commits the first step: then two of three are enough.
    let from_four = answers.into_iter().filter(|p| p.from == NodeId(4));
    cluster.packets = from_four.collect();
    assert_eq!(cluster.packets.len(), 1);
    cluster.deliver(0, false);
    assert_eq!(members(&cluster, ONE), "1 2 3");
    assert_eq!(cluster.nodes[&ONE].reads_served, 1);
    assert!(cluster.raft(ONE).commit() > Index(0));
}
