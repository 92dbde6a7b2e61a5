//! New nodes that join a cluster, and learners without a leader.

use wire::client::{MemberChange, Reply, Request};
use wire::membership::Suffrage;
use wire::types::NodeId;

use super::node_harness::{Cluster, Options, ms};
use super::node_heal::said;
use super::node_members::change;

/// A new node joins, to get the vote of `old`.
fn replace(cluster: &mut Cluster, leader: NodeId, old: NodeId) -> NodeId {
    let client = cluster.connect(leader);
    let new = cluster.newcomer(leader);
    let (name, peer_addr) = (format!("n{new}"), format!("peer-{new}:1"));
    let added = MemberChange::Add {
        name: &name,
        peer_addr: &peer_addr,
        promote_within_ms: Some(60_000),
        replaces: Some(old),
    };
    match cluster.ask(client, 1, change(added)) {
        Reply::MembersChanged(changed) => assert_eq!(changed.id, new),
        other => panic!("not added but {other:?}"),
    }
    let join = Request::Join {
        name: &name,
        peer_addr: &peer_addr,
        incarnation: cluster.incarnation(new),
    };
    match cluster.ask(client, 2, join) {
        Reply::Admitted(admitted) => assert_eq!(admitted.node, new),
        other => panic!("not admitted but {other:?}"),
    }
    cluster.start(new);
    new
}

fn voters(cluster: &Cluster, id: NodeId) -> Vec<NodeId> {
    let members = cluster.node(id).raft().membership().members.iter();
    let voters = members.filter(|member| member.suffrage == Suffrage::Voter);
    voters.map(|member| member.id).collect()
}

/// Nobody else could lead then (thesis 4.2.2).
#[test]
fn the_only_voter_leads_until_it_is_replaced() {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        ..Options::default()
    });
    let old = cluster.elect();
    let new = replace(&mut cluster, old, old);
    cluster.run_until("the old one ends", ms(5_000), |c| c.has_stopped(old));
    assert_eq!(
        said(&cluster, old, "removed from the cluster by=\"the log\""),
        1
    );
    cluster.run_until("the new one leads", ms(5_000), |c| c.leader() == Some(new));
    assert_eq!(voters(&cluster, new), [new]);
}

#[test]
fn a_leader_makes_way_before_it_is_replaced() {
    let (mut cluster, old, _) = Cluster::led(Options::default());
    cluster.run(ms(100));
    let mut expected = cluster.ids();
    expected.retain(|id| *id != old);
    let new = replace(&mut cluster, old, old);
    expected.push(new);
    cluster.run_until("the old one ends", ms(5_000), |c| c.has_stopped(old));
    assert_eq!(said(&cluster, old, "handing over"), 1);
    assert_eq!(voters(&cluster, new), expected);
}

/// Writes wait for each hand-over.
#[test]
fn a_leader_that_makes_way_in_vain_takes_a_while_to_try_again() {
    let (mut cluster, old, one) = Cluster::led(Options::default());
    cluster.run(ms(100));
    let others = cluster
        .ids()
        .into_iter()
        .filter(|id| ![old, one].contains(id));
    let others: Vec<_> = others.collect();
    replace(&mut cluster, old, old);
    let begun = |cluster: &Cluster| said(cluster, old, "handing over");
    cluster.run_until("a hand-over", ms(5_000), |c| begun(c) == 1);
    let to_one = said(&cluster, old, &format!("handing over to={one}")) == 1;
    let target = if to_one { one } else { others[0] };
    cluster.crash(target);
    cluster.run(ms(9_000));
    assert_eq!((begun(&cluster), cluster.leader()), (1, Some(old)));
    cluster.start(target);
    cluster.run_until("the old one ends", ms(5_000), |c| c.has_stopped(old));
    assert_eq!(begun(&cluster), 2);
}

/// Its links may have died without a word, and it asks nobody for votes. With a leader it has no
/// reason to.
#[test]
fn a_learner_says_hello_anew_now_and_then_while_it_hears_no_leader() {
    let (mut cluster, leader, learner) = Cluster::led(Options::default());
    cluster.run(ms(100));
    let client = cluster.connect(leader);
    let request = change(MemberChange::Demote(learner));
    let reply = cluster.ask(client, 1, request);
    assert!(matches!(reply, Reply::MembersChanged(_)), "{reply:?}");
    let before = cluster.dialled(learner);
    cluster.run(ms(5_000));
    assert_eq!(cluster.dialled(learner), before, "it has a leader");
    cluster.isolate(learner);
    cluster.run(ms(1_500));
    assert_eq!(cluster.node(learner).raft().leader(), None);
    assert_eq!(cluster.dialled(learner), before, "it is given time");
    cluster.run_until("hellos", ms(1_500), |c| c.dialled(learner).is_empty());
    cluster.heal();
    cluster.run_until("a leader", ms(1_000), |cluster| {
        cluster.node(learner).raft().leader() == Some(leader)
    });
    let after = cluster.dialled(learner);
    cluster.run(ms(5_000));
    assert_eq!(cluster.dialled(learner), after, "it has one again");
}
