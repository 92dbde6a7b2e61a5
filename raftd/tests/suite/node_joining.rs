//! New nodes that join a cluster, and learners without a leader.

use wire::client::{MemberChange, Reply, Request};
use wire::membership::Suffrage;
use wire::types::NodeId;

use super::node_harness::{Cluster, Options, ms};
use super::node_heal::said;
use super::node_members::{change, changed, ids, learner, refusal, three};

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

/// Who had OLD replaced by a member that is there already was told that it is done, and OLD stayed: by
/// itself too, as of one who lost its disk.
#[test]
fn who_is_a_member_already_takes_nobodys_place() {
    let (mut cluster, leader, [old, other], client) = three(Options::default());
    let instead = |new: NodeId, replaces| MemberChange::Add {
        name: ["", "n1", "n2", "n3", "n4"][usize::try_from(new.0).unwrap()],
        peer_addr: ["", "peer-1:1", "peer-2:1", "peer-3:1", "elsewhere:1"]
            [usize::try_from(new.0).unwrap()],
        promote_within_ms: Some(2_000),
        replaces: Some(replaces),
    };
    let itself = refusal(cluster.ask(client, 1, change(instead(old, old))));
    assert_eq!(itself, format!("n{old} is that member itself"));
    let taken = format!("n{other} is a member already, and not to replace member {old}");
    let voter = refusal(cluster.ask(client, 2, change(instead(other, old))));
    assert_eq!(voter, taken);

    // A learner that is to vote beside the others.
    let new = changed(cluster.ask(client, 3, change(learner("n4", Some(2_000))))).id;
    let beside = refusal(cluster.ask(client, 4, change(instead(new, old))));
    assert_eq!(beside, taken.replace(&format!("n{other}"), "n4"));
    assert_eq!(ids(&cluster, leader).len(), 4);

    // Asked again when it is over, nothing is left to do.
    changed(cluster.ask(client, 5, change(MemberChange::Remove(old))));
    let over = changed(cluster.ask(client, 6, change(instead(other, old))));
    assert_eq!(over.id, other);
}

/// One is told after the other, so both are at one address in between.
#[test]
fn two_members_may_exchange_their_addresses() {
    let (mut cluster, _, [one, other], client) = three(Options::default());
    let at = |id| format!("peer-{id}:1");
    for (request, id, peer_addr) in [(1, one, at(other)), (2, other, at(one))] {
        let update = MemberChange::Update {
            id,
            name: None,
            peer_addr: Some(&peer_addr),
        };
        let done = changed(cluster.ask(client, request, change(update)));
        assert_eq!(done.after.get(id).unwrap().peer_addr, peer_addr);
    }
}
