//! Membership changes: what is safe, new servers, leaders that go, servers that were removed. Joint
//! consensus is in `joint`.

use std::time::Duration;

use raft::{CannotChange, CannotTransfer, Input, RoleName};
use wire::entry::EntryKind;
use wire::membership::Suffrage;
use wire::peer::{Message, PreVote, TimeoutNow};
use wire::types::{EntryId, Index, NodeId, Term};

use super::{ONE, THREE, TWO, append, id, in_role, request_vote, say, sent};
use crate::cluster::{Cluster, Options};
use crate::text;

const FOUR: NodeId = NodeId(4);
const FIVE: NodeId = NodeId(5);

/// Node 1 leads a cluster of the first so many of these nodes, and has committed its no-op.
pub(super) fn leading(voters: u64, nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(Options {
        voters,
        nodes,
        ..Options::default()
    });
    cluster.elect(ONE);
    cluster.run(Duration::from_millis(100));
    cluster.take_trace();
    cluster
}

fn bits(nodes: &[u64]) -> u64 {
    nodes.iter().map(|node| 1 << (node - 1)).sum()
}

/// Asks a node to make voters of these.
pub(super) fn change(
    cluster: &mut Cluster,
    leader: NodeId,
    voters: &[u64],
) -> Result<EntryId, CannotChange> {
    let changed = cluster.change(leader, bits(voters), 0);
    changed.expect("somebody votes")
}

/// Who is a member in a node's eyes, as [`text::membership`] writes it.
pub(super) fn members(cluster: &Cluster, node: NodeId) -> String {
    text::membership(cluster.raft(node).membership())
}

/// Only nodes of the same group reach each other.
pub(super) fn split(cluster: &mut Cluster, groups: &[&[u64]]) {
    cluster.cut.clear();
    let group_of = |id: NodeId| groups.iter().position(|group| group.contains(&id.0));
    for from in cluster.ids() {
        for to in cluster.ids() {
            if group_of(from).is_none() || group_of(from) != group_of(to) {
                cluster.cut.insert((from, to));
            }
        }
    }
}

/// The entries of a node's log that say who is a member.
pub(super) fn changes_in(cluster: &Cluster, node: NodeId) -> Vec<EntryId> {
    let entries = cluster.nodes[&node].log.iter();
    let changes = entries.filter(|entry| entry.kind() == EntryKind::Membership);
    changes.map(wire::entry::Entry::id).collect()
}

/// A node takes office by the votes of those that it reaches, and nothing that it sends then
/// arrives.
fn take_office(cluster: &mut Cluster, id: NodeId) {
    cluster.advance(Duration::from_secs(1));
    cluster.turn(id, vec![Input::Tick]);
    for _ in 0..100 {
        if cluster.raft(id).role() == RoleName::Leader {
            break;
        }
        for node in cluster.ids() {
            cluster.sync(node, usize::MAX);
        }
        if !cluster.packets.is_empty() {
            cluster.deliver(0, false);
        }
    }
    let trace = cluster.take_trace();
    assert_eq!(cluster.raft(id).role(), RoleName::Leader, "{trace}");
    cluster.packets.clear();
}

#[test]
fn s4_1_a_membership_is_in_force_as_soon_as_it_is_in_the_log() {
    let mut cluster = leading(3, 4);
    // Nobody hears of it: it is in the leader's memory only.
    split(&mut cluster, &[&[1]]);
    let entry = change(&mut cluster, ONE, &[1, 2, 3, 4]).expect("it leads");
    assert_eq!(members(&cluster, ONE), "1 2 3 4+");
    assert!(cluster.raft(ONE).durable() < entry.index);
    // One follower hears of it: it neither waits for its disk nor for the commit.
    cluster.cut.clear();
    cluster.timeout(ONE);
    while cluster.raft(TWO).last() != entry {
        cluster.deliver(0, false);
    }
    assert_eq!(members(&cluster, TWO), "1 2 3 4+");
    assert!(cluster.raft(TWO).durable() < entry.index);
    assert!(cluster.raft(TWO).commit() < entry.index);
    assert_eq!(members(&cluster, THREE), "1 2 3");
}

/// Row 43 of the bugs that others had.
#[test]
fn s4_1_a_membership_is_gone_with_its_entry() {
    let mut cluster = leading(3, 5);
    split(&mut cluster, &[&[1], &[2, 3]]);
    change(&mut cluster, ONE, &[1, 4, 5]).expect("it leads");
    cluster.settle();
    assert_eq!(members(&cluster, ONE), "1 2x 3x 4+ 5+");
    // The others elect a leader that never heard of it.
    cluster.run(Duration::from_secs(1));
    let leader = cluster.leader().expect("two of three");
    cluster.propose(leader, &[b"a"]).expect("it leads");
    cluster.run(Duration::from_millis(100));
    cluster.cut.clear();
    cluster.run(Duration::from_millis(700));
    assert_eq!(changes_in(&cluster, ONE), []);
    for node in [ONE, TWO, THREE] {
        assert_eq!(members(&cluster, node), "1 2 3", "node {node}");
    }
    // It counts by the old voters again: nodes 4 and 5 are nobody to it.
    cluster.crash(FOUR, 0);
    cluster.crash(FIVE, 0);
    cluster.elect(ONE);
}

/// The same, but a snapshot takes the place of the log.
#[test]
fn s4_1_a_membership_is_gone_with_the_log_that_a_snapshot_replaces() {
    let mut cluster = leading(3, 5);
    split(&mut cluster, &[&[1], &[2, 3]]);
    // Its entry is behind the place of the snapshot.
    cluster
        .propose(ONE, &[b"b".as_slice(); 12])
        .expect("it leads");
    let entry = change(&mut cluster, ONE, &[1, 4, 5]).expect("it leads");
    cluster.run(Duration::from_secs(1));
    let leader = cluster.leader().expect("two of three");
    cluster
        .propose(leader, &[b"a".as_slice(); 8])
        .expect("it leads");
    cluster.run(Duration::from_millis(100));
    let snapshot = cluster.publish(leader);
    assert!(snapshot.index < entry.index);
    cluster.compact(leader, snapshot.index, true);
    cluster.cut.clear();
    cluster.run(Duration::from_millis(700));
    assert_eq!(cluster.raft(ONE).base(), snapshot, "it installed it");
    assert_eq!(members(&cluster, ONE), "1 2 3");
}

#[test]
fn s4_1_one_change_at_a_time() {
    let mut cluster = leading(3, 5);
    split(&mut cluster, &[&[1]]);
    change(&mut cluster, ONE, &[1, 2, 3, 4]).expect("it leads");
    let refused = Err(CannotChange::Changing);
    assert_eq!(change(&mut cluster, ONE, &[1, 2, 3, 5]), refused);
    // Not even one that leaves the voters as they are: the last one could still be undone.
    let learner = cluster.change(ONE, bits(&[1, 2, 3]), bits(&[5]));
    assert_eq!(learner, Some(refused));
    cluster.cut.clear();
    cluster.run(Duration::from_millis(100));
    assert_eq!(members(&cluster, ONE), "1 2 3 4");
    change(&mut cluster, ONE, &[1, 2, 3, 5]).expect("the last one is done");
    cluster.run(Duration::from_millis(100));
    assert_eq!(members(&cluster, TWO), "1 2 3 5");
    // One that leaves the voters as they are is a change, too, until it is committed.
    split(&mut cluster, &[&[1]]);
    let learner = cluster.change(ONE, bits(&[1, 2, 3, 5]), bits(&[4]));
    learner.expect("it has bits").expect("the last one is done");
    assert_eq!(change(&mut cluster, ONE, &[1, 2, 3]), refused);
}

/// The erratum of the thesis: before it has committed an entry of its term, a leader does not know
/// whether the membership that it has is the newest one.
#[test]
fn s4_1_no_change_before_an_entry_of_the_term_is_committed() {
    let mut cluster = leading(3, 4);
    split(&mut cluster, &[&[2, 3]]);
    take_office(&mut cluster, TWO);
    let refused = Err(CannotChange::Unproven);
    assert_eq!(change(&mut cluster, TWO, &[1, 2, 3, 4]), refused);
    cluster.run(Duration::from_millis(100));
    change(&mut cluster, TWO, &[1, 2, 3, 4]).expect("its no-op is committed");
}

/// One of the schedules that showed the single-server change unsafe (D. Ongaro, raft-dev, July
/// 2015), of four servers. S1 leads and appends `first`, which reaches nobody but `heard`. S2 is
/// elected by the others, appends `second` and commits it by less than a majority of the four. Then
/// S1 is elected by S4 and `heard` under `first`, and replaces what S2 committed. Here S2 has
/// to commit its no-op before, and S1 needs a majority of the four, too.
fn ongaro(first: &[u64], heard: &[u64], second: &[u64]) {
    let mut cluster = leading(4, 6);
    let group = |with: &[u64]| [with, heard].concat();
    split(&mut cluster, &[&group(&[1]), &[2, 3, 4]]);
    change(&mut cluster, ONE, first).expect("it leads");
    cluster.settle();
    take_office(&mut cluster, TWO);
    let refused = Err(CannotChange::Unproven);
    assert_eq!(change(&mut cluster, TWO, second), refused);
    split(&mut cluster, &[&group(&[1, 4]), &[2, 3]]);
    for _ in 0..10 {
        cluster.run(Duration::from_millis(200));
        let leader = cluster.leader().filter(|leader| *leader != TWO);
        assert_eq!(leader, None, "by {first:?} alone");
    }
    // Whoever wins goes by one history, and can change the members.
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
    let leader = cluster.leader().expect("all are up");
    change(&mut cluster, leader, &[1, 2, 3, 4]).expect("its no-op is committed");
    cluster.run(Duration::from_millis(100));
    for node in [ONE, TWO, THREE, FOUR] {
        assert_eq!(members(&cluster, node), "1 2 3 4");
    }
}

#[test]
fn s4_1_schedule_of_one_addition_and_one_removal() {
    ongaro(&[1, 2, 3, 4, 5], &[5], &[2, 3, 4]);
}

#[test]
fn s4_1_schedule_of_two_additions() {
    ongaro(&[1, 2, 3, 4, 5], &[5], &[1, 2, 3, 4, 6]);
}

#[test]
fn s4_1_schedule_of_two_removals() {
    ongaro(&[1, 3, 4], &[], &[2, 3, 4]);
}

/// Without that nobody could be added, for a new server knows nobody.
#[test]
fn s4_1_whoever_asks_is_heard_member_or_not() {
    let mut cluster = leading(3, 4);
    let noop = cluster.raft(ONE).last();
    say(
        &mut cluster,
        ONE,
        FOUR,
        append(1, EntryId::default(), &[(1, 1)], 0),
    );
    assert_eq!(cluster.raft(FOUR).leader(), Some(ONE));
    assert_eq!(cluster.raft(FOUR).last(), noop);
    // A vote, too, if no leader is heard.
    cluster.advance(Duration::from_secs(1));
    say(&mut cluster, FOUR, THREE, request_vote(7, noop));
    assert_eq!(cluster.raft(THREE).hard_state().vote, Some(FOUR));
    // But nothing that nobody was asked.
    let mut cluster = in_role(RoleName::Candidate);
    let term = cluster.raft(ONE).term();
    let yes = wire::peer::VoteAnswer {
        term,
        granted: true,
    };
    cluster.sync(ONE, usize::MAX);
    say(&mut cluster, FOUR, ONE, Message::VoteAnswer(yes));
    assert_eq!(cluster.raft(ONE).role(), RoleName::Candidate);
}

#[test]
fn s4_2_1_a_learner_receives_and_counts_for_nothing() {
    let mut cluster = leading(3, 5);
    let learners = cluster.change(ONE, bits(&[1, 2, 3]), bits(&[4, 5]));
    learners.expect("two bits").expect("it leads");
    cluster.run(Duration::from_millis(100));
    assert_eq!(members(&cluster, FOUR), "1 2 3 4l 5l");
    assert_eq!(changes_in(&cluster, ONE).len(), 1, "the voters stay");
    let held = cluster.propose(ONE, &[b"a"]).expect("it leads")[0];
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.raft(FOUR).commit(), held.index);
    // With three of five nodes, one of them a voter, nothing is decided.
    split(&mut cluster, &[&[1, 4, 5]]);
    let open = cluster.propose(ONE, &[b"b"]).expect("it leads")[0];
    cluster.read(ONE).expect("it leads");
    cluster.read(FOUR).expect("it follows");
    cluster.run(Duration::from_millis(250));
    assert_eq!(cluster.raft(ONE).match_index(FOUR), Some(open.index));
    assert_eq!(cluster.raft(ONE).commit(), held.index);
    assert_eq!(cluster.nodes[&ONE].reads_served, 0);
    assert_eq!(cluster.nodes[&FOUR].reads_served, 0);
    cluster.run(Duration::from_millis(250));
    assert_eq!(cluster.leader(), None, "CheckQuorum");
}

/// Row 47 of the bugs that others had.
#[test]
fn s4_2_1_a_learner_does_not_lead() {
    let mut cluster = leading(3, 4);
    let learner = cluster.change(ONE, bits(&[1, 2]), bits(&[3, 4]));
    learner.expect("two bits").expect("it leads");
    cluster.run(Duration::from_millis(100));
    assert_eq!(members(&cluster, THREE), "1 2 3l 4l");
    for node in [THREE, FOUR] {
        let refused = Err(CannotTransfer::Unfit);
        assert_eq!(cluster.hand_over(ONE, node), refused, "node {node}");
        let told = Message::TimeoutNow(TimeoutNow {
            term: Term(1),
            why: wire::leadership::HandOver::Asked,
        });
        say(&mut cluster, ONE, node, told);
        assert_eq!(cluster.raft(node).role(), RoleName::Follower);
    }
    cluster.crash(ONE, 0);
    cluster.crash(TWO, 0);
    cluster.run(Duration::from_secs(2));
    for node in [THREE, FOUR] {
        assert_eq!(cluster.raft(node).role(), RoleName::Follower);
        assert_eq!(cluster.raft(node).term(), Term(1));
    }
}

/// Row 46 of the bugs that others had: it may be a voter, and its vote be needed, before it knows.
#[test]
fn s4_2_1_a_learner_votes() {
    let mut cluster = leading(3, 4);
    let learner = cluster.change(ONE, bits(&[1, 2, 3]), bits(&[4]));
    learner.expect("two bits").expect("it leads");
    cluster.run(Duration::from_millis(100));
    // It becomes a voter without hearing of it, and a leader dies.
    split(&mut cluster, &[&[1, 2, 3]]);
    change(&mut cluster, ONE, &[1, 2, 3, 4]).expect("it leads");
    cluster.run(Duration::from_millis(100));
    assert_eq!(members(&cluster, TWO), "1 2 3 4");
    assert_eq!(members(&cluster, FOUR), "1 2 3 4l");
    cluster.crash(ONE, 0);
    cluster.crash(THREE, 0);
    cluster.start(THREE);
    split(&mut cluster, &[&[2, 3, 4]]);
    cluster.run(Duration::from_secs(1));
    assert!(cluster.leader().is_some(), "three of four");
    assert_eq!(members(&cluster, FOUR), "1 2 3 4");
}

/// A change of its own removal waits for a majority that it is not in.
#[test]
fn s4_2_2_a_leader_that_is_removed_does_not_count_itself() {
    let mut cluster = leading(3, 3);
    change(&mut cluster, ONE, &[2, 3]).expect("it leads");
    while !cluster.packets.is_empty() && members(&cluster, ONE) != "2 3" {
        for node in cluster.ids() {
            cluster.sync(node, usize::MAX);
        }
        cluster.deliver(0, false);
    }
    assert_eq!(members(&cluster, ONE), "2 3");
    // It leads on until that is committed, by both of the two.
    split(&mut cluster, &[&[1, 2]]);
    cluster.run(Duration::from_millis(100));
    let last = cluster.raft(ONE).last();
    assert_eq!(cluster.raft(ONE).match_index(TWO), Some(last.index));
    assert!(cluster.raft(ONE).commit() < last.index, "one of two");
    assert_eq!(cluster.raft(ONE).role(), RoleName::Leader);
    cluster.propose(ONE, &[b"a"]).expect("it leads on");
    cluster.cut.clear();
    cluster.run(Duration::from_millis(100));
    assert!(cluster.raft(ONE).commit() >= last.index);
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
}

/// What is known of those that stay is not asked for again.
#[test]
fn s4_2_2_the_leader_goes_on_with_those_that_stay() {
    let mut cluster = leading(4, 4);
    let before = cluster.raft(ONE).last().index;
    change(&mut cluster, ONE, &[1, 3, 4]).expect("it leads");
    while members(&cluster, ONE) != "1 3 4" {
        for node in cluster.ids() {
            cluster.sync(node, usize::MAX);
        }
        cluster.deliver(0, false);
    }
    for peer in [THREE, NodeId(4)] {
        assert!(
            cluster.raft(ONE).match_index(peer) >= Some(before),
            "{peer}"
        );
    }
    assert_eq!(cluster.raft(ONE).match_index(TWO), None);
}

/// Row 50 of the bugs that others had. The one that goes calls its successor, so that nobody waits
/// for an election timeout, and never leads again.
#[test]
fn s4_2_2_a_leader_that_is_removed_goes_at_once() {
    let mut cluster = leading(3, 3);
    let since = cluster.now;
    change(&mut cluster, ONE, &[2, 3]).expect("it leads");
    cluster.settle();
    assert_eq!(cluster.now, since, "no time passed");
    let leader = cluster.leader().expect("it was called");
    assert_ne!(leader, ONE);
    assert_eq!(cluster.raft(leader).term(), Term(2));
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.raft(leader).term(), Term(2), "it disturbs nobody");
}

/// A demoted leader goes, too, and follows as a learner.
#[test]
fn s4_2_2_a_leader_that_is_demoted_follows() {
    let mut cluster = leading(3, 3);
    let demoted = cluster.change(ONE, bits(&[2, 3]), bits(&[1]));
    demoted.expect("two bits").expect("it leads");
    cluster.run(Duration::from_millis(200));
    let leader = cluster.leader().expect("it was called");
    assert_ne!(leader, ONE);
    assert_eq!(members(&cluster, ONE), "1l 2 3");
    assert_eq!(cluster.raft(ONE).leader(), Some(leader));
}

/// The thesis: a server that is not part of its own latest configuration should still start new
/// elections, for it may be needed until that is committed.
#[test]
fn s4_2_2_a_voted_out_node_campaigns_while_it_is_needed() {
    let mut cluster = leading(2, 2);
    let joint = change(&mut cluster, ONE, &[2]).expect("it leads");
    // The second step is on node 1's disk alone, and node 2 knows the first one.
    while cluster.raft(ONE).last() == joint {
        for node in cluster.ids() {
            cluster.sync(node, usize::MAX);
        }
        cluster.deliver(0, false);
    }
    cluster.packets.clear();
    cluster.sync(ONE, usize::MAX);
    for node in [ONE, TWO] {
        cluster.crash(node, 0);
    }
    for node in [ONE, TWO] {
        cluster.start(node);
    }
    assert_eq!(members(&cluster, ONE), "2");
    assert_eq!(members(&cluster, TWO), "1x 2");
    // Node 2 cannot win: the vote that it lacks has the longer log.
    cluster.run(Duration::from_secs(2));
    assert_eq!(members(&cluster, TWO), "2");
    assert_eq!(cluster.leader(), Some(TWO));
    let log = cluster.nodes[&TWO].log.iter();
    let ids: Vec<EntryId> = log.map(wire::entry::Entry::id).collect();
    assert!(ids.contains(&id(joint.index.0 + 1, 1)), "{ids:?}");
    assert!(cluster.raft(TWO).commit() > joint.index);
    // Then it is not needed any more.
    let term = cluster.raft(TWO).term();
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
    assert_eq!(cluster.raft(TWO).term(), term);
}

/// Row 12 of the bugs that others had: whoever was removed while it was cut off keeps asking, and
/// nobody takes over its term.
#[test]
fn s4_2_3_a_removed_node_disturbs_nobody() {
    let mut cluster = leading(4, 4);
    split(&mut cluster, &[&[1, 2, 3]]);
    change(&mut cluster, ONE, &[1, 2, 3]).expect("it leads");
    cluster.run(Duration::from_secs(1));
    assert_eq!(members(&cluster, TWO), "1 2 3");
    assert_eq!(members(&cluster, FOUR), "1 2 3 4");
    assert_eq!(cluster.raft(FOUR).term(), Term(1), "it asks only");
    cluster.cut.clear();
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.leader(), Some(ONE));
    assert_eq!(cluster.raft(ONE).term(), Term(1));
    // Nor does it win when the leader is gone: it lacks what the others committed without it.
    cluster.crash(ONE, 0);
    cluster.advance(Duration::from_secs(1));
    let question = PreVote {
        term: Term(2),
        last: cluster.raft(FOUR).last(),
    };
    for node in [TWO, THREE] {
        say(&mut cluster, FOUR, node, Message::PreVote(question));
        let no = sent(&cluster, node, FOUR).pop();
        assert!(matches!(no, Some(Message::PreVoteAnswer(m)) if !m.granted));
    }
    assert_eq!(
        cluster.raft(TWO).membership().suffrage(FOUR),
        None::<Suffrage>
    );
    assert!(cluster.raft(TWO).commit() > Index(1));
}
