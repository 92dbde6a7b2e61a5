//! Whose vote is counted on when the members change: who is up, was heard, and would be good as a voter.

use raft::RoleName;
use raftd::node::io::ConnectionId;
use wire::client::{MemberChange, MembersChanged, Reply};
use wire::error::Error;
use wire::membership::Suffrage;
use wire::peer::{DiskState, Health, Message, SnapshotOk};
use wire::types::NodeId;

use super::node_cluster::{put, session, written};
use super::node_harness::{Cluster, Options, ms};
use super::node_members::{change, changed, ids, learner, refusal, three};
use super::node_transfers::nothing_of_it;

#[test]
fn what_would_leave_too_few_voters_up_is_refused() {
    let (mut cluster, leader, [dead, alive], client) = three(Options::default());
    cluster.crash(dead);
    cluster.run(ms(1_000));
    for (id, asked) in [
        MemberChange::Remove(alive),
        MemberChange::Demote(alive),
        MemberChange::Remove(NodeId(9)),
        MemberChange::Promote(NodeId(9)),
        learner("4", None),
    ]
    .into_iter()
    .enumerate()
    {
        refusal(cluster.ask(client, id as u64 + 1, change(asked)));
    }
    assert_eq!(ids(&cluster, leader).len(), 3);
    // The dead one may go: those that are left are a quorum of either set.
    changed(cluster.ask(client, 10, change(MemberChange::Remove(dead))));
    // A learner that nobody hears gets no vote.
    changed(cluster.ask(client, 11, change(learner("n4", None))));
    let silent = refusal(cluster.ask(client, 12, change(MemberChange::Promote(NodeId(4)))));
    assert!(silent.contains("does not"), "{silent}");
}

/// Asks as clients do: again after a while, as long as that is the answer.
fn insist(
    cluster: &mut Cluster,
    client: ConnectionId,
    asked: MemberChange<'_>,
) -> Result<MembersChanged, Error> {
    for request in 1..100 {
        match cluster.ask(client, request, change(asked)) {
            Reply::MembersChanged(changed) => return Ok(changed),
            Reply::Error(Error::Overloaded { .. }) => cluster.run(ms(20)),
            Reply::Error(error) => return Err(error),
            other => panic!("neither changed nor refused but {other:?}"),
        }
    }
    panic!("asked in vain\n{}", cluster.describe());
}

/// Who has had no time to answer is neither up nor down.
#[test]
fn a_new_leader_has_a_caller_wait_until_it_has_heard_the_others() {
    let (mut cluster, leader, others, _) = three(Options::default());
    let clients = others.map(|id| (id, cluster.connect(id)));
    cluster.crash(leader);
    let heir = |cluster: &Cluster| {
        let mut heirs = others.into_iter();
        heirs.find(|id| cluster.node(*id).raft().role() == RoleName::Leader)
    };
    cluster.run_until("another leads", ms(2_000), |cluster| {
        heir(cluster).is_some()
    });
    let heir = heir(&cluster).unwrap();
    let (_, client) = clients.into_iter().find(|(id, _)| *id == heir).unwrap();
    let done = insist(&mut cluster, client, MemberChange::Remove(leader));
    assert_eq!(done.unwrap().after.members.len(), 2);
}

/// Who was not heard in this reign may be dead, as the leader of before is.
#[test]
fn a_new_leader_counts_on_nobody_whom_it_has_not_heard() {
    let (mut cluster, leader, others, _) = three(Options::default());
    cluster.crash(leader);
    cluster.run_until("another leads", ms(2_000), |cluster| {
        cluster.leader().is_some_and(|id| id != leader)
    });
    let heir = cluster.leader().unwrap();
    let alive = others.into_iter().find(|id| *id != heir).unwrap();
    let client = cluster.connect(heir);
    let refused = insist(&mut cluster, client, MemberChange::Remove(alive)).unwrap_err();
    let reason = refusal(Reply::Error(refused));
    assert!(
        reason.contains("of the 2 voters only 1 would be up"),
        "{reason}"
    );
    assert_eq!(ids(&cluster, heir).len(), 3);
}

/// A vote of it would cost more than it brings.
#[test]
fn a_learner_that_would_be_no_good_as_a_voter_is_refused_with_the_reason() {
    let (mut cluster, leader, [id, _], client) = three(Options::default());
    let demoted = changed(cluster.ask(client, 1, change(MemberChange::Demote(id))));
    assert_eq!(demoted.after.suffrage(id), Some(Suffrage::Learner));
    cluster.run(ms(100));
    let promote = |cluster: &mut Cluster, request| {
        cluster.run(ms(200));
        refusal(cluster.ask(client, request, change(MemberChange::Promote(id))))
    };
    cluster.set_room(id, DiskState::Hard);
    cluster.report_room(id);
    assert_eq!(
        promote(&mut cluster, 2),
        format!("node {id} has a full disk")
    );
    cluster.set_room(id, DiskState::Ok);
    cluster.report_room(id);
    cluster.hang_disk(id, true);
    let mut session = session(&cluster, 1);
    let writer = cluster.connect(leader);
    for first in [0, 1_000] {
        let writes: Vec<_> = (1..=1_000)
            .map(|request| (first + request, session.next(put(b"k", b"v"))))
            .collect();
        cluster.send(writer, &writes);
        written(cluster.await_reply(writer, first + 1_000));
    }
    assert_eq!(promote(&mut cluster, 3), format!("node {id} lags behind"));
    cluster.hang_disk(id, false);
    cluster.isolate(id);
    cluster.run(ms(300));
    assert_eq!(
        promote(&mut cluster, 4),
        format!("node {id} does not answer")
    );
    cluster.heal();
    cluster.run(ms(1_000));
    let promoted = changed(cluster.ask(client, 5, change(MemberChange::Promote(id))));
    assert_eq!(promoted.after.suffrage(id), Some(Suffrage::Voter));
}

/// A follower tells its leader of its health.
pub(crate) fn tells(cluster: &mut Cluster, from: NodeId, leader: NodeId, health: Health) {
    let Message::SnapshotOk(told) = nothing_of_it(cluster, leader, health) else {
        panic!("another answer");
    };
    let snapshot = cluster.node(leader).raft().last();
    let told = SnapshotOk { snapshot, ..told };
    cluster.arrives_late(from, leader, Message::SnapshotOk(told));
}

/// What it acknowledged may be gone: it does not count before it is healed.
#[test]
fn who_lost_its_log_is_not_up() {
    let (mut cluster, leader, [hurt, other], client) = three(Options::default());
    let health = Health {
        lost: true,
        ..Health::default()
    };
    tells(&mut cluster, hurt, leader, health);
    let refused = refusal(cluster.ask(client, 1, change(MemberChange::Remove(other))));
    let reason = "of the 2 voters only 1 would be up";
    assert!(refused.contains(reason), "{refused}");
}

#[test]
fn a_learner_without_a_state_gets_no_vote() {
    let (mut cluster, leader, [id, _], client) = three(Options::default());
    changed(cluster.ask(client, 1, change(MemberChange::Demote(id))));
    cluster.run(ms(100));
    let health = Health {
        rebuilding: true,
        ..Health::default()
    };
    tells(&mut cluster, id, leader, health);
    let refused = refusal(cluster.ask(client, 2, change(MemberChange::Promote(id))));
    assert_eq!(refused, format!("node {id} rebuilds its state"));
}
