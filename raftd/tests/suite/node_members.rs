//! Changes of the members as the node sees them: what is planned, refused, waited for and given up.

use raftd::node::Limits;
use raftd::node::io::ConnectionId;
use wire::client::{MemberChange, MembersChanged, Reply, Request};
use wire::error::Error;
use wire::hello::Role;
use wire::limits::MEMBERS_MAX;
use wire::membership::Suffrage;
use wire::peer::DiskState;
use wire::types::{Incarnation, Index, NodeId};

use super::node_cluster::{put, session, written};
use super::node_harness::{Cluster, Options, error, ms};
use super::node_snapshots::{Client, patient};

pub(crate) fn change(change: MemberChange<'_>) -> Request<'_> {
    Request::ChangeMembers {
        dry_run: false,
        change,
    }
}

pub(crate) fn learner(name: &'static str, promote_within_ms: Option<u64>) -> MemberChange<'static> {
    MemberChange::Add {
        name,
        peer_addr: "elsewhere:1",
        promote_within_ms,
        replaces: None,
    }
}

fn join(peer_addr: &'static str, incarnation: u64) -> Request<'static> {
    Request::Join {
        name: "n4",
        peer_addr,
        incarnation: Incarnation(incarnation),
    }
}

/// Three nodes, the leader, the others, and a connection to the leader.
pub(crate) fn three(options: Options) -> (Cluster, NodeId, [NodeId; 2], ConnectionId) {
    let mut cluster = Cluster::serving(options);
    let leader = cluster.elect();
    let mut others = cluster.ids();
    others.retain(|id| *id != leader);
    // Every follower has answered this leader.
    cluster.run(ms(100));
    let client = cluster.connect(leader);
    (cluster, leader, others.try_into().unwrap(), client)
}

pub(crate) fn changed(reply: Reply<'_>) -> MembersChanged {
    match reply {
        Reply::MembersChanged(changed) => changed,
        other => panic!("not changed but {other:?}"),
    }
}

pub(crate) fn refusal(reply: Reply<'_>) -> String {
    match error(reply) {
        Error::Refused { reason, .. } => reason,
        other => panic!("not refused but {other:?}"),
    }
}

pub(crate) fn ids(cluster: &Cluster, id: NodeId) -> Vec<NodeId> {
    let members = &cluster.node(id).raft().membership().members;
    members.iter().map(|member| member.id).collect()
}

#[test]
fn a_follower_that_is_removed_learns_it_and_ends() {
    let (mut cluster, leader, [gone, stays], client) = three(Options::default());
    let done = changed(cluster.ask(client, 1, change(MemberChange::Remove(gone))));
    assert_eq!((done.id, done.before.members.len()), (gone, 3));
    assert!(done.after.get(gone).is_none() && !done.after.is_joint());
    assert!(done.index > Index(0));
    cluster.run_until("the removed node ends", ms(2_000), |c| c.has_stopped(gone));
    cluster.run(ms(500));
    assert_eq!(ids(&cluster, leader), ids(&cluster, stays));
    // The log has no name of who was never told to it.
    let leaving = format!("{gone}:n{gone}:leaving");
    for id in [leader, stays] {
        let events = cluster.events(id);
        assert!(
            events.iter().any(|line| line.contains(&leaving)),
            "{events:?}"
        );
    }
    // Asked again, there is nothing to do.
    let again = changed(cluster.ask(client, 2, change(MemberChange::Remove(gone))));
    assert_eq!(again.index, Index(0));
    assert_eq!(again.before, again.after);
}

#[test]
fn a_leader_makes_way_before_it_is_removed() {
    let (mut cluster, leader, others, client) = three(Options::default());
    let remove = change(MemberChange::Remove(leader));
    cluster.send(client, &[(1, remove), (2, remove)]);
    for request in [1, 2] {
        let reply = error(cluster.await_reply(client, request));
        assert!(matches!(reply, Error::Overloaded { .. }), "{reply:?}");
    }
    cluster.run_until("another leads", ms(1_000), |c| {
        c.leader().is_some_and(|id| id != leader)
    });
    let heir = cluster.leader().unwrap();
    assert!(others.contains(&heir));
    cluster.run(ms(100));
    let line = format!("leader lost leader={leader} term=1 reason=leaving");
    assert!(cluster.events(heir).contains(&line));
    let client = cluster.connect(heir);
    let done = changed(cluster.ask(client, 1, change(MemberChange::Remove(leader))));
    assert_eq!(done.after.members.len(), 2);
    cluster.run_until("the old leader ends", ms(2_000), |c| c.has_stopped(leader));
}

#[test]
fn a_leader_makes_way_for_one_with_room() {
    for place in [0, 1] {
        let (mut cluster, leader, others, client) = three(Options::default());
        cluster.set_room(others[place], DiskState::Hard);
        cluster.report_room(others[place]);
        cluster.run(ms(100));
        error(cluster.ask(client, 1, change(MemberChange::Remove(leader))));
        cluster.run_until("another leads", ms(1_000), |c| {
            c.leader().is_some_and(|id| id != leader)
        });
        assert_eq!(cluster.leader(), Some(others[1 - place]));
    }
}

/// Three nodes that apply one entry in a turn.
fn three_that_lag() -> (Cluster, NodeId, [NodeId; 2], ConnectionId) {
    let limits = Limits {
        turn_entries_max: 1,
        ..Limits::default()
    };
    three(Options {
        limits,
        ..Options::default()
    })
}

/// Forty writes, behind which the state lags for as many turns.
fn write_much(cluster: &mut Cluster, client: ConnectionId) {
    let mut session = session(cluster, 1);
    let writes: Vec<_> = (1001..=1040)
        .map(|n| (n, session.next(put(b"k", b"v"))))
        .collect();
    cluster.send(client, &writes);
}

/// Until there are so many members, and all know it but for their states.
fn await_commit(cluster: &mut Cluster, leader: NodeId, members: usize) {
    cluster.run_until("the change is committed", ms(1_000), |cluster| {
        let raft = cluster.node(leader).raft();
        raft.membership().members.len() == members && !raft.is_changing()
    });
}

/// Also while the state lags behind what is committed: one change at a time, and no second caller is
/// forgotten.
#[test]
fn changes_wait_for_each_other() {
    let (mut cluster, leader, _, client) = three_that_lag();
    write_much(&mut cluster, client);
    cluster.send(client, &[(100, change(learner("n4", None)))]);
    await_commit(&mut cluster, leader, 4);
    assert!(cluster.reply(client, 100).is_none(), "the state lags");
    let second = error(cluster.ask(client, 101, change(learner("n5", None))));
    assert!(matches!(second, Error::Overloaded { .. }), "{second:?}");
    let first = changed(cluster.await_reply(client, 100));
    assert_eq!(first.id, NodeId(4));
    for n in 1001..=1040 {
        written(cluster.await_reply(client, n));
    }
    let third = cluster.ask(client, 102, change(learner("n5", None)));
    assert!(
        refusal(third).contains("has the address"),
        "one address each"
    );
    assert_eq!(ids(&cluster, leader).len(), 4);
}

/// A learner is given up, and while the state lags behind that, another one is added.
#[test]
fn who_waits_for_a_change_is_not_told_of_the_one_before() {
    let (mut cluster, leader, _, client) = three_that_lag();
    changed(cluster.ask(client, 1, change(learner("n4", Some(1_000)))));
    cluster.run(ms(990));
    assert_eq!(ids(&cluster, leader).len(), 4);
    cluster.oversleep(ms(20));
    write_much(&mut cluster, client);
    await_commit(&mut cluster, leader, 3);
    let added = changed(cluster.ask(client, 2, change(learner("n5", None))));
    assert!(added.after.get(added.id).is_some(), "{added:?}");
}

#[test]
fn a_follower_sends_whoever_wants_to_change_the_members_to_the_leader() {
    let (mut cluster, leader, [follower, _], _) = three(Options::default());
    let client = cluster.connect(follower);
    for (request, asked) in [
        (1, change(learner("n4", None))),
        (2, join("elsewhere:1", 7)),
    ] {
        match error(cluster.ask(client, request, asked)) {
            Error::NotLeader { leader: hint } => assert_eq!(hint.node, leader),
            other => panic!("not sent on but {other:?}"),
        }
    }
}

#[test]
fn a_plan_changes_nothing() {
    let (mut cluster, leader, [gone, _], client) = three(Options::default());
    let plan = Request::ChangeMembers {
        dry_run: true,
        change: MemberChange::Demote(gone),
    };
    let plan = changed(cluster.ask(client, 1, plan));
    assert_eq!(plan.index, Index(0));
    assert_eq!(plan.after.suffrage(gone), Some(Suffrage::Learner));
    let names: Vec<&str> = plan
        .before
        .members
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(names, ["n1", "n2", "n3"], "as the members told");
    cluster.run(ms(500));
    let members = cluster.node(leader).raft().membership();
    assert_eq!(members.suffrage(gone), Some(Suffrage::Voter));
    assert!(cluster.node(leader).store().membership().is_none());
}

#[test]
fn who_does_not_come_in_time_is_removed_and_its_id_is_used_up() {
    let (mut cluster, leader, _, client) = three(Options::default());
    let added = changed(cluster.ask(client, 1, change(learner("n4", Some(1_000)))));
    assert_eq!(added.id, NodeId(4));
    let wish = added.after.get(NodeId(4)).and_then(|member| member.wish);
    assert!(wish.is_some());
    cluster.run(ms(500));
    assert_eq!(ids(&cluster, leader).len(), 4);
    cluster.run(ms(1_500));
    assert_eq!(ids(&cluster, leader).len(), 3);
    let next = changed(cluster.ask(client, 2, change(learner("n4", None))));
    assert_eq!(next.id, NodeId(5));
}

/// Two who replace the same member, or one another, would end as one voter more than was meant.
#[test]
fn a_replacement_is_over_before_another_begins() {
    let (mut cluster, leader, [old, other], client) = three(Options::default());
    let instead = |name: &'static str, peer_addr, replaces| {
        change(MemberChange::Add {
            name,
            peer_addr,
            promote_within_ms: Some(2_000),
            replaces: Some(replaces),
        })
    };
    let first = changed(cluster.ask(client, 1, instead("n4", "elsewhere:4", old)));
    // Asked again, it is done already.
    changed(cluster.ask(client, 2, instead("n4", "elsewhere:4", old)));
    let asked = [
        instead("n5", "elsewhere:5", old),
        instead("n5", "elsewhere:5", first.id),
    ];
    for (request, asked) in (3..).zip(asked) {
        let second = refusal(cluster.ask(client, request, asked));
        assert_eq!(second, format!("n4 is to replace member {old} already"));
    }
    assert_eq!(ids(&cluster, leader).len(), 4);
    changed(cluster.ask(client, 5, change(MemberChange::Remove(first.id))));
    changed(cluster.ask(client, 6, instead("n5", "elsewhere:5", old)));
    let stranger = refusal(cluster.ask(client, 7, instead("n6", "elsewhere:6", NodeId(9))));
    assert_eq!(stranger, "there is no member 9");
    // Whoever takes the place may take the address.
    let address = format!("peer-{other}:1");
    let at_the_same = MemberChange::Add {
        name: "n6",
        peer_addr: &address,
        promote_within_ms: Some(2_000),
        replaces: Some(other),
    };
    changed(cluster.ask(client, 8, change(at_the_same)));
}

/// What says who they are has a bound.
#[test]
fn a_cluster_has_so_many_members_and_no_more() {
    let (mut cluster, leader, _, client) = three(Options::default());
    let add = |cluster: &mut Cluster, n: u64| {
        let (name, address) = (format!("n{n}"), format!("elsewhere:{n}"));
        let asked = MemberChange::Add {
            name: &name,
            peer_addr: &address,
            promote_within_ms: None,
            replaces: None,
        };
        match cluster.ask(client, n, change(asked)) {
            Reply::MembersChanged(_) => None,
            other => Some(refusal(other)),
        }
    };
    for n in 4..=MEMBERS_MAX as u64 {
        assert_eq!(add(&mut cluster, n), None);
    }
    let refused = add(&mut cluster, MEMBERS_MAX as u64 + 1).expect("it is full");
    assert_eq!(
        refused,
        format!("a cluster has {MEMBERS_MAX} members at most")
    );
    assert_eq!(ids(&cluster, leader).len(), MEMBERS_MAX);
}

#[test]
fn an_id_is_bound_to_one_directory_and_to_one_address() {
    let (mut cluster, _, _, client) = three(Options::default());
    // Those that formed the cluster are bound to theirs, though no entry says so yet.
    let wiped = Request::Join {
        name: "n2",
        peer_addr: "peer-2:1",
        incarnation: Incarnation(7),
    };
    let other = error(cluster.ask(client, 7, wiped));
    assert!(matches!(other, Error::WrongIncarnation { .. }), "{other:?}");
    let stranger = refusal(cluster.ask(client, 1, join("elsewhere:1", 7)));
    assert!(stranger.contains("no member is called n4"), "{stranger}");
    changed(cluster.ask(client, 2, change(learner("n4", None))));
    let elsewhere = refusal(cluster.ask(client, 3, join("nowhere:1", 7)));
    assert!(elsewhere.contains("elsewhere:1"), "{elsewhere}");
    for request in 4..=5 {
        match cluster.ask(client, request, join("elsewhere:1", 7)) {
            Reply::Admitted(admitted) => {
                assert_eq!(admitted.node, NodeId(4));
                assert_eq!(admitted.formed.len(), 3);
            }
            other => panic!("not admitted but {other:?}"),
        }
    }
    let add = MemberChange::Add {
        name: "n4",
        peer_addr: "nowhere:1",
        promote_within_ms: None,
        replaces: None,
    };
    let taken = refusal(cluster.ask(client, 8, change(add)));
    assert!(taken.contains("n4 is a member already"), "{taken}");
    let other = error(cluster.ask(client, 6, join("elsewhere:1", 8)));
    assert!(matches!(other, Error::WrongIncarnation { .. }), "{other:?}");
}

/// A name is one member's, and nothing else of it changes.
#[test]
fn a_member_gets_another_name_and_address() {
    let (mut cluster, _, [moved, other], client) = three(Options::default());
    let update = |id, name, peer_addr| {
        change(MemberChange::Update {
            id,
            name: Some(name),
            peer_addr,
        })
    };
    changed(cluster.ask(client, 1, update(other, "east", None)));
    let bad = [("east", "a:1"), ("9", "a:1"), ("w\t", "a:1"), ("w", "a")];
    for (request, (name, addr)) in (6..).step_by(2).zip(bad) {
        refusal(cluster.ask(client, request, update(moved, name, Some(addr))));
        let add = MemberChange::Add {
            name,
            peer_addr: addr,
            promote_within_ms: None,
            replaces: None,
        };
        refusal(cluster.ask(client, request + 1, change(add)));
    }
    let asked = update(moved, "west", Some("elsewhere:9"));
    let done = changed(cluster.ask(client, 4, asked));
    let mut expected = done.before.get(moved).unwrap().clone();
    (expected.name, expected.peer_addr) = ("west".to_owned(), "elsewhere:9".to_owned());
    assert_eq!(done.after.get(moved), Some(&expected));
    let again = changed(cluster.ask(client, 5, asked));
    assert_eq!((again.index, again.after), (Index(0), done.after));
}

#[test]
fn a_leader_that_is_cut_off_does_not_know_what_becomes_of_its_change() {
    let (mut cluster, leader, [gone, _], client) = three(Options::default());
    cluster.isolate(leader);
    cluster.send(client, &[(1, change(MemberChange::Remove(gone)))]);
    let end = error(cluster.await_reply(client, 1));
    assert_eq!(end, Error::OutcomeUnknown);
    cluster.heal();
    cluster.elect();
    cluster.run(ms(1_000));
    // The others never heard of it.
    assert_eq!(ids(&cluster, leader).len(), 3);
}

/// As it waits for writes.
#[test]
fn a_node_that_stops_tells_what_became_of_a_change_or_that_it_does_not_know() {
    for hangs in [false, true] {
        let (mut cluster, alone, client) = alone();
        cluster.hang_disk(alone, true);
        cluster.send(client, &[(1, change(learner("n2", None)))]);
        cluster.stop(alone);
        cluster.run(ms(100));
        assert!(!cluster.has_stopped(alone), "the change is not durable");
        cluster.hang_disk(alone, hangs);
        cluster.run_until("the end", ms(6_000), |c| c.has_stopped(alone));
        let told = cluster.reply(client, 1).expect("it is told");
        match hangs {
            true => assert_eq!(error(told), Error::OutcomeUnknown),
            false => assert_eq!(changed(told).after.members.len(), 2),
        }
    }
}

/// A cluster of one, and a connection to it.
fn alone() -> (Cluster, NodeId, ConnectionId) {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        ..Options::default()
    });
    let alone = cluster.elect();
    let client = cluster.connect(alone);
    (cluster, alone, client)
}

/// Nobody else might tell it: here only one node can, which knows it from a snapshot.
#[test]
fn who_learns_of_a_removal_from_a_snapshot_tells_who_was_removed() {
    let mut cluster = Cluster::serving(Options {
        members: 5,
        ..patient()
    });
    let leader = cluster.elect();
    let mut others = cluster.ids();
    others.retain(|id| *id != leader);
    let (gone, late) = (others[0], others[1]);
    cluster.run(ms(100));
    for id in cluster.ids() {
        for away in [gone, late] {
            cluster.cut(id, away);
            cluster.cut(away, id);
        }
    }
    let mut client = Client::new(&mut cluster, leader, 1);
    changed(cluster.ask(client.connection, 100, change(MemberChange::Remove(gone))));
    client.compact(&mut cluster, leader);
    cluster.heal();
    for id in cluster.ids() {
        if id != late {
            cluster.cut(id, gone);
            cluster.cut(gone, id);
        }
    }
    cluster.run_until("the removed node ends", ms(5_000), |c| c.has_stopped(gone));
}

/// Who does not come says nothing that would wake it up.
#[test]
fn a_node_alone_gives_up_who_does_not_come_in_time() {
    let (mut cluster, alone, client) = alone();
    changed(cluster.ask(client, 1, change(learner("n2", Some(1_000)))));
    cluster.run(ms(900));
    assert_eq!(ids(&cluster, alone).len(), 2);
    cluster.run(ms(200));
    assert_eq!(ids(&cluster, alone), [alone]);
}

/// A node that is told `Removed` ends for good: ids that were not given yet may have been, elsewhere.
#[test]
fn who_says_hello_is_judged_by_what_is_known_of_its_id() {
    let (mut cluster, leader, [gone, judge], client) = three(Options::default());
    changed(cluster.ask(client, 1, change(learner("n4", None))));
    cluster.ask(client, 2, join("elsewhere:1", 7));
    changed(cluster.ask(client, 3, change(MemberChange::Remove(gone))));
    cluster.run(ms(100));
    let (hello, _) = cluster.node(leader).hello_to(judge);
    let told = cluster.formed(leader).to_vec();
    let told_elsewhere = [(NodeId(6), Incarnation(9))];
    let mut says = |node: u64, incarnation: u64, formed: &[(NodeId, Incarnation)]| {
        let mut hello = hello.clone();
        let Role::Peer { identity, .. } = &mut hello.role else {
            panic!("a client's hello");
        };
        (identity.node, identity.incarnation) = (NodeId(node), Incarnation(incarnation));
        identity.formed = formed.to_vec();
        cluster.check_hello(judge, &hello).map(|_| ())
    };
    assert_eq!(says(4, 7, &told), Ok(()));
    let other = says(4, 8, &told).unwrap_err();
    assert!(matches!(other, Error::WrongIncarnation { .. }), "{other:?}");
    assert_eq!(says(gone.0, 7, &told), Err(Error::Removed));
    assert_eq!(says(5, 9, &told), Ok(()), "it may have been admitted");
    for formed in [&[][..], &told_elsewhere] {
        let stranger = says(6, 9, formed).unwrap_err();
        assert!(matches!(stranger, Error::WrongNode { .. }), "{stranger:?}");
    }
}
