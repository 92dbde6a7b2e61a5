//! Linearizable reads.

use std::time::Duration;

use raft::{Input, RoleName};
use wire::peer::Message;
use wire::types::{Index, NodeId};

use super::{ONE, THREE, TWO, in_role, of, say, three, with_logs};

#[test]
fn s6_4_a_read_waits_for_a_round_that_begins_after_it() {
    let mut cluster = in_role(RoleName::Leader);
    let first = cluster.read(ONE).expect("it leads");
    let second = cluster.read(ONE).expect("it leads");
    assert_eq!((first.round, second.round), (1, 2));
    // The answers to the first round serve the first read only.
    let in_flight = cluster.packets.len();
    for _ in 0..in_flight {
        cluster.deliver(0, false);
    }
    cluster.deliver(0, false);
    assert_eq!(cluster.nodes[&ONE].reads_served, 1);
    cluster.settle();
    assert_eq!(cluster.nodes[&ONE].reads_served, 2);
}

#[test]
fn s6_4_a_deposed_leader_serves_no_read() {
    let mut cluster = in_role(RoleName::Leader);
    for node in [TWO, THREE] {
        cluster.cut.extend([(ONE, node), (node, ONE)]);
        cluster.turn(node, vec![Input::LeaderLinkClosed]);
    }
    cluster.timeout(TWO);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(TWO));
    cluster.propose(TWO, &[b"new"]);
    cluster.settle();
    assert_eq!(
        cluster.raft(ONE).role(),
        RoleName::Leader,
        "it does not know yet"
    );
    cluster.read(ONE).expect("it still takes reads");
    cluster.cut.clear();
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.nodes[&ONE].reads_served, 0);
}

#[test]
fn s6_4_a_new_leader_reads_at_its_noop_or_later() {
    let mut cluster = with_logs(&[&[1, 1], &[1, 1], &[1, 1]], 1);
    cluster.elect(ONE);
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    assert_eq!(raft.read().expect("it leads").index, Index(3));
    cluster.propose(ONE, &[b"a"]);
    cluster.settle();
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    assert_eq!(raft.read().expect("it leads").index, Index(4));
}

/// Rules C1: the answer to a round waits for no disk, though entries come with the question.
#[test]
fn s6_4_a_round_is_answered_before_the_entries_that_came_with_it_are_on_disk() {
    let mut cluster = in_role(RoleName::Leader);
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    raft.propose(0, b"a").expect("it leads");
    let ticket = raft.read().expect("it leads");
    cluster.node(ONE).reads.push((ticket, Index(1)));
    cluster.turn(ONE, Vec::new());
    while !cluster.packets.is_empty() {
        cluster.deliver(0, false);
    }
    assert_eq!(cluster.nodes[&ONE].reads_served, 1);
    assert_eq!(cluster.raft(TWO).durable(), Index(1), "no disk moved");
}

/// A leader and one follower of five, cut off: that the follower asks proves nothing.
#[test]
fn s6_4_a_deposed_leader_answers_no_follower() {
    let mut cluster = of(5);
    cluster.elect(ONE);
    let others = [THREE, NodeId(4), NodeId(5)];
    for far in others {
        for near in [ONE, TWO] {
            cluster.cut.extend([(near, far), (far, near)]);
        }
        cluster.turn(far, vec![Input::LeaderLinkClosed]);
    }
    cluster.timeout(THREE);
    cluster.settle();
    cluster.propose(THREE, &[b"new"]);
    cluster.settle();
    assert_eq!(cluster.raft(THREE).commit(), Index(3));
    assert_eq!(
        cluster.raft(TWO).leader(),
        Some(ONE),
        "it does not know yet"
    );
    cluster.read(TWO).expect("it follows a leader");
    cluster.settle();
    assert_eq!(cluster.nodes[&TWO].reads_served, 0);
    cluster.cut.clear();
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.nodes[&TWO].reads_served, 0, "its leader is gone");
    cluster.read(TWO).expect("it follows the new one");
    cluster.settle();
    assert_eq!(cluster.nodes[&TWO].reads_served, 1);
}

/// What is answered to an earlier life of a node is none to this one.
#[test]
fn s6_4_each_life_has_questions_of_its_own() {
    let mut cluster = three();
    cluster.elect(ONE);
    cluster.read(TWO).expect("it follows");
    cluster.deliver(0, false);
    let answer = cluster.packets[0].message.clone();
    assert!(matches!(answer, Message::ReadIndexAnswer(_)), "{answer:?}");
    cluster.crash(TWO, 0);
    cluster.start(TWO);
    cluster.run(Duration::from_millis(100));
    cluster.read(TWO).expect("it follows again");
    cluster.packets.clear();
    say(&mut cluster, ONE, TWO, answer);
    assert_eq!(cluster.nodes[&TWO].reads_served, 0);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.nodes[&TWO].reads_served, 1);
}
