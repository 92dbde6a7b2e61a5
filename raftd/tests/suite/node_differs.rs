//! A state that differs from the quorum's: who is believed, and what is left of it.

use wire::types::NodeId;

use super::node_handover::transfer;
use super::node_harness::{Cluster, Options, ms};
use super::node_heal::{compare, others, said, spoiled, with_snapshot};
use super::node_snapshots::{Client, await_snapshot, patient};

/// A new leader tells of the same comparison again, or is told of it.
#[test]
fn a_state_that_was_rebuilt_is_not_judged_by_the_one_before() {
    let (mut cluster, leader, mut client, index) = with_snapshot();
    let hurt = spoiled(&mut cluster, leader);
    let compared = compare(&mut cluster, &mut client);
    cluster.run_until("another state", ms(10_000), |cluster| {
        let status = cluster.status(hurt);
        status.state == "serving" && status.snapshot.index > index && status.applied >= compared
    });
    let [_, other] = others(&cluster, leader);
    let mut leads = leader;
    for heir in [other, hurt] {
        let operator = cluster.connect(leads);
        cluster.ask(operator, 1, transfer(Some(heir)));
        cluster.run(ms(1_000));
        assert_eq!(cluster.leader(), Some(heir));
        leads = heir;
    }
    assert_eq!(said(&cluster, hurt, "the state differs"), 1);
}

/// Two of five hold the same wrong state: the one that leads does not have the other take over.
#[test]
fn a_leader_whose_state_differs_hands_over_to_one_whose_does_not() {
    let mut cluster = Cluster::serving(Options {
        members: 5,
        ..patient()
    });
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    let index = client.snapshot(&mut cluster);
    let ids = cluster.ids();
    await_snapshot(&mut cluster, &ids, index);
    let wrong = [NodeId(4), NodeId(5)];
    for id in wrong {
        cluster.crash(id);
        cluster.spoil_state(id);
        cluster.start(id);
    }
    let before = cluster.elect();
    cluster.run(ms(1_000));
    if before != wrong[0] {
        let operator = cluster.connect(before);
        cluster.ask(operator, 1, transfer(Some(wrong[0])));
    }
    cluster.run(ms(200));
    assert_eq!(cluster.leader(), Some(wrong[0]));
    let mut client = Client::new(&mut cluster, wrong[0], 2);
    compare(&mut cluster, &mut client);
    cluster.run_until("another leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|id| id != wrong[0])
    });
    assert_eq!(said(&cluster, wrong[0], "handing over to=5"), 0);
    assert_eq!(said(&cluster, wrong[0], "handing over"), 1);
}
