//! What the node does at its limits: overload, deadlines, stalled disks, the end.

use raftd::node::Limits;
use raftd::node::io::ConnectionId;
use wire::client::{NodeRole, Reply, Request};
use wire::error::{Class, Error};
use wire::hello::Role;
use wire::limits::MEMBERS_MAX;
use wire::types::{Incarnation, NodeId};

use super::node_cluster::{get, put, session, stale_get, value, written};
use super::node_harness::{Cluster, Options, error, ms};
use super::node_members::{change, learner};
use super::node_turns::committed_at_once;

/// A cluster that takes 100 kB of uncommitted entries.
fn small() -> Cluster {
    let limits = Limits {
        uncommitted_bytes_max: 100_000,
        ..Limits::default()
    };
    Cluster::serving(Options {
        limits,
        ..Options::default()
    })
}

fn hang_disks(cluster: &mut Cluster, hang: bool) {
    for id in cluster.ids() {
        cluster.hang_disk(id, hang);
    }
}

/// Sends writes of 10 kB, one per turn, and says how many until the connection was to be left
/// unread.
fn fill(cluster: &mut Cluster, client: ConnectionId, deadline_ms: u32) -> u64 {
    let mut session = session(cluster, client.0);
    let large = vec![1_u8; 10_000];
    for request_id in 1..=100 {
        session.seq += 1;
        let write = session.with_deadline(put(b"large", &large), deadline_ms);
        cluster.send(client, &[(request_id, write)]);
        if !cluster.is_readable(client) {
            return request_id;
        }
    }
    panic!("no back-pressure");
}

#[test]
fn a_full_log_stops_the_reading_of_writers_and_of_nobody_else() {
    let mut cluster = small();
    let leader = cluster.elect();
    let (writer, reader) = (cluster.connect(leader), cluster.connect(leader));
    hang_disks(&mut cluster, true);
    let sent = fill(&mut cluster, writer, 0);
    assert!((9..=12).contains(&sent), "{sent} writes");
    // Reads and status go on, on other connections.
    assert_eq!(value(cluster.ask(reader, 1, get(b"large"))), None);
    assert!(matches!(
        cluster.ask(reader, 2, Request::Status),
        Reply::Status(_)
    ));
    assert!(cluster.is_readable(reader));
    assert_eq!(cluster.answered(writer), 0);
    assert!(cluster.node(leader).waiting().parked_bytes > 10_000);
    cluster.run(ms(50));
    hang_disks(&mut cluster, false);
    let before = cluster.now();
    cluster.run_until("answers", ms(1_000), |cluster| {
        cluster.answered(writer) as u64 == sent
    });
    // What was parked goes on with the commit that made room, not with the next heartbeat.
    assert!(cluster.now().since(before) < ms(5));
    for request_id in 1..=sent {
        written(cluster.reply(writer, request_id).unwrap());
    }
    assert!(cluster.is_readable(writer));
    assert_eq!(cluster.node(leader).waiting().parked_bytes, 0);
}

/// The followers' disks commit, so nothing is uncommitted for long; but what the leader's own disk
/// has not taken must stay in memory.
#[test]
fn a_leader_whose_own_disk_hangs_takes_so_many_bytes_and_no_more() {
    let mut cluster = small();
    let leader = cluster.elect();
    let term = cluster.node(leader).raft().term();
    let (writer, reader) = (cluster.connect(leader), cluster.connect(leader));
    cluster.hang_disk(leader, true);
    let mut session = session(&cluster, 1);
    let large = vec![1_u8; 10_000];
    let mut sent = 0;
    while cluster.is_readable(writer) && sent < 100 {
        sent += 1;
        let write = session.next(put(b"large", &large));
        cluster.send(writer, &[(sent, write)]);
        cluster.run(ms(5));
    }
    assert!((9..=12).contains(&sent), "{sent} writes");
    // All but the last were committed by the followers; the last waits.
    assert_eq!(cluster.answered(writer) as u64, sent - 1);
    // One with a deadline is told that it was not applied.
    let other = cluster.connect(leader);
    session.seq += 1;
    let write = session.with_deadline(put(b"large", &large), 100);
    cluster.send(other, &[(1, write)]);
    let reason = error(cluster.await_reply(other, 1));
    assert_eq!(
        (&reason, reason.class()),
        (&Error::DeadlineExpired, Class::NotApplied)
    );
    // Reads, status and leadership go on, for half a second at least.
    cluster.run(ms(100));
    let seen = cluster.ask(reader, 1, get(b"large"));
    assert_eq!(value(seen), Some(large.clone()));
    assert!(matches!(
        cluster.ask(reader, 2, Request::Status),
        Reply::Status(_)
    ));
    assert!(cluster.is_readable(reader));
    let raft = cluster.node(leader).raft();
    assert_eq!((cluster.leader(), raft.term()), (Some(leader), term));
    // The disk goes on, and with it the writer.
    cluster.hang_disk(leader, false);
    cluster.run_until("the last answer", ms(100), |cluster| {
        cluster.answered(writer) as u64 == sent
    });
    written(cluster.reply(writer, sent).unwrap());
    assert!(cluster.is_readable(writer));
}

/// At that limit the others elect another leader, and this one follows it once its disk goes on.
#[test]
fn a_leader_at_the_limit_of_its_own_disk_can_be_replaced() {
    let mut cluster = small();
    let leader = cluster.elect();
    let writer = cluster.connect(leader);
    cluster.hang_disk(leader, true);
    fill(&mut cluster, writer, 0);
    cluster.run(ms(50));
    cluster.isolate(leader);
    let other = |cluster: &Cluster| cluster.leader().filter(|id| *id != leader);
    cluster.run_until("another leader", ms(2_000), |cluster| {
        other(cluster).is_some()
    });
    cluster.heal();
    cluster.hang_disk(leader, false);
    cluster.run_until("a follower", ms(2_000), |cluster| {
        let leads = other(cluster);
        leads.is_some() && cluster.node(leader).raft().leader() == leads
    });
}

#[test]
fn a_write_that_expires_for_want_of_room_is_not_applied() {
    let mut cluster = small();
    let leader = cluster.elect();
    let writer = cluster.connect(leader);
    hang_disks(&mut cluster, true);
    let sent = fill(&mut cluster, writer, 100);
    let reason = error(cluster.await_reply(writer, sent));
    assert_eq!(
        (&reason, reason.class()),
        (&Error::DeadlineExpired, Class::NotApplied)
    );
    // Those before it were appended: their deadline means nothing any more.
    assert_eq!(cluster.answered(writer), 1);
    assert!(cluster.is_readable(writer));
    assert_eq!(cluster.node(leader).waiting().parked_bytes, 0);
    hang_disks(&mut cluster, false);
    cluster.run_until("answers", ms(1_000), |cluster| {
        cluster.answered(writer) as u64 == sent
    });
    let last = written(cluster.reply(writer, sent - 1).unwrap());
    let client = cluster.connect(leader);
    let Reply::Value { item, .. } = cluster.ask(client, 1, get(b"large")) else {
        panic!("no value");
    };
    assert_eq!((item.revision, item.version), (last, sent - 1));
}

/// Whoever wakes up late finds deadlines that have passed, not such as pass just then.
#[test]
fn a_deadline_that_is_noticed_late_is_over() {
    let mut cluster = small();
    let leader = cluster.elect();
    let writer = cluster.connect(leader);
    hang_disks(&mut cluster, true);
    let sent = fill(&mut cluster, writer, 20);
    cluster.oversleep(ms(30));
    cluster.run_until("the answer", ms(5), |cluster| {
        cluster.reply(writer, sent).is_some()
    });
    let reason = error(cluster.reply(writer, sent).unwrap());
    assert_eq!(reason, Error::DeadlineExpired);
}

/// One connection's requests do not overtake each other, though reads need no room.
#[test]
fn a_read_behind_a_write_that_waits_for_room_sees_it() {
    let mut cluster = small();
    let leader = cluster.elect();
    let (filler, client) = (cluster.connect(leader), cluster.connect(leader));
    hang_disks(&mut cluster, true);
    fill(&mut cluster, filler, 0);
    let write = session(&cluster, 99).next(put(b"k", b"v"));
    cluster.send(client, &[(1, write), (2, get(b"k"))]);
    cluster.run(ms(50));
    assert_eq!(cluster.answered(client), 0);
    hang_disks(&mut cluster, false);
    let seen = cluster.await_reply(client, 2);
    assert_eq!(value(seen), Some(b"v".to_vec()));
}

#[test]
fn requests_that_wait_for_a_leader_have_a_limit() {
    let limits = Limits {
        parked_max: 3,
        ..Limits::default()
    };
    let mut cluster = Cluster::serving(Options {
        limits,
        ..Options::default()
    });
    let alone = cluster.elect();
    cluster.isolate(alone);
    cluster.run_until("step-down", ms(2_000), |cluster| {
        cluster.status(alone).role != NodeRole::Leader
    });
    let client = cluster.connect(alone);
    let reads: Vec<_> = (1..=4).map(|id| (id, get(b"k"))).collect();
    cluster.send(client, &reads);
    assert_eq!(cluster.answered(client), 1);
    let reason = error(cluster.reply(client, 4).expect("it is told at once"));
    assert!(matches!(reason, Error::Overloaded { .. }), "{reason:?}");
}

#[test]
fn reads_of_a_client_that_does_not_read_its_replies_wait_until_it_does() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    cluster.ask(client, 1, get(b"k"));
    cluster.clog(client, true);
    cluster.send(client, &[(2, get(b"k")), (3, stale_get(b"k"))]);
    cluster.run(ms(100));
    assert_eq!(cluster.answered(client), 1);
    cluster.clog(client, false);
    for request_id in [2, 3] {
        assert_eq!(value(cluster.await_reply(client, request_id)), None);
    }
}

#[test]
fn what_a_closed_connection_parked_is_dropped() {
    let mut cluster = small();
    let leader = cluster.elect();
    let (first, second) = (cluster.connect(leader), cluster.connect(leader));
    hang_disks(&mut cluster, true);
    fill(&mut cluster, first, 0);
    let mut other = session(&cluster, 99);
    let write = other.next(put(b"other", b"v"));
    cluster.send(second, &[(1, write)]);
    cluster.hang_up(second);
    hang_disks(&mut cluster, false);
    cluster.run(ms(200));
    let client = cluster.connect(leader);
    assert_eq!(value(cluster.ask(client, 1, get(b"other"))), None);
}

#[test]
fn one_connection_cannot_have_everything_in_flight() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    cluster.isolate(leader);
    let mut sent = 0;
    while cluster.is_readable(client) && sent < 10_000 {
        sent += 1;
        cluster.send(client, &[(sent, get(b"k"))]);
    }
    assert_eq!(sent, 1_024);
    // What the driver had read already is taken up to a point, and then refused.
    while cluster.answered(client) == 0 && sent < 10_000 {
        sent += 1;
        cluster.send(client, &[(sent, get(b"k"))]);
    }
    assert_eq!(sent, 2_049);
    let reason = error(cluster.reply(client, sent).unwrap());
    assert!(matches!(reason, Error::Overloaded { .. }));
    assert_eq!(reason.class(), Class::NotApplied);
    cluster.run(ms(1_000));
    assert_eq!(
        cluster.answered(client) as u64,
        sent,
        "the rest failed with leadership"
    );
    assert!(cluster.is_readable(client));
}

#[test]
fn an_entry_over_the_limit_is_refused_for_good() {
    let limits = Limits {
        entry_bytes_max: 1_000,
        ..Limits::default()
    };
    let mut cluster = Cluster::serving(Options {
        limits,
        ..Options::default()
    });
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let write = session.next(put(b"k", &[0; 1_000]));
    match error(cluster.ask(client, 1, write)) {
        Error::TooLarge {
            what,
            limit,
            actual,
        } => {
            assert_eq!((what.as_str(), limit), ("entry", 1_000));
            assert!(actual > 1_000);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stalled_disk_is_told_and_does_not_keep_the_loop_busy() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    cluster.hang_disk(leader, true);
    let write = session.next(put(b"k", b"v"));
    // The followers' disks are enough.
    written(cluster.ask(client, 1, write));
    cluster.run(ms(400));
    assert_eq!(cluster.status(leader).error, "");
    cluster.run(ms(200));
    assert_eq!(cluster.status(leader).error, "the disk is stalled");
    let turns = cluster.turns;
    cluster.run(ms(1_000));
    assert!(
        cluster.turns - turns < 500,
        "{} turns in a second",
        cluster.turns - turns
    );
    cluster.hang_disk(leader, false);
    cluster.run(ms(10));
    assert_eq!(cluster.status(leader).error, "");
}

#[test]
fn a_stopping_node_ends_what_it_has_and_takes_nothing_new() {
    // One that leads others hands over first.
    let mut cluster = Cluster::serving(Options {
        members: 1,
        ..Options::default()
    });
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let first = session.next(put(b"k", b"v"));
    cluster.send(client, &[(1, first)]);
    cluster.stop(leader);
    assert!(!cluster.has_stopped(leader));
    let second = session.next(put(b"k", b"w"));
    assert_eq!(error(cluster.ask(client, 2, second)), Error::ShuttingDown);
    written(cluster.await_reply(client, 1));
    assert!(cluster.has_stopped(leader));
}

#[test]
fn a_stopping_node_without_quorum_ends_nevertheless() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    cluster.isolate(leader);
    let first = session.next(put(b"k", b"v"));
    cluster.send(client, &[(1, first)]);
    cluster.stop(leader);
    cluster.run_until("end", ms(6_000), |cluster| cluster.has_stopped(leader));
    assert_eq!(
        error(cluster.reply(client, 1).unwrap()),
        Error::OutcomeUnknown
    );
}

#[test]
fn a_stopping_node_refuses_what_it_parked() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    cluster.isolate(leader);
    cluster.run_until("step-down", ms(2_000), |cluster| {
        cluster.status(leader).role != NodeRole::Leader
    });
    let client = cluster.connect(leader);
    cluster.send(client, &[(1, get(b"k"))]);
    cluster.stop(leader);
    assert_eq!(
        error(cluster.reply(client, 1).unwrap()),
        Error::ShuttingDown
    );
    assert!(cluster.has_stopped(leader));
}

/// Rules B4: the loop of a leader with others would miss its heartbeats.
#[test]
fn only_who_sends_no_heartbeats_may_wait_for_a_disk_and_only_for_a_quick_one() {
    let (mut cluster, leader, follower) = Cluster::led(Options::default());
    let may_wait = |cluster: &Cluster, id| cluster.node(id).may_wait_for_disk();
    assert!(!may_wait(&cluster, leader) && may_wait(&cluster, follower));
    cluster.hang_disk(follower, true);
    let client = cluster.connect(leader);
    let write = session(&cluster, 1).next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
    cluster.run(ms(600));
    assert!(!may_wait(&cluster, follower), "it is stalled");
    let mut alone = Cluster::serving(committed_at_once());
    let id = alone.elect();
    assert!(may_wait(&alone, id));
}

/// A leader is woken by what its followers answer, or they leave it nothing to do.
#[test]
fn a_leader_awaits_its_disk_only_for_who_waits_for_that() {
    let mut cluster = small();
    let leader = cluster.elect();
    let follower = cluster.other_than(leader);
    let awaits = |cluster: &Cluster, id| cluster.node(id).awaits_disk();
    hang_disks(&mut cluster, true);
    let client = cluster.connect(leader);
    let write = session(&cluster, 1).next(put(b"k", b"v"));
    cluster.send(client, &[(1, write)]);
    cluster.run(ms(10));
    assert!(!awaits(&cluster, leader) && awaits(&cluster, follower));
    let other = cluster.connect(leader);
    fill(&mut cluster, other, 0);
    assert!(awaits(&cluster, leader), "a write waits for room");
    let mut alone = Cluster::serving(Options {
        members: 1,
        ..Options::default()
    });
    let id = alone.elect();
    assert!(!awaits(&alone, id));
    alone.hang_disk(id, true);
    let client = alone.connect(id);
    let write = session(&alone, 1).next(put(b"k", b"v"));
    alone.send(client, &[(1, write)]);
    assert!(awaits(&alone, id), "its disk commits");
}

/// Nodes may say hello that were admitted elsewhere: so many are remembered until the members change.
#[test]
fn so_many_are_remembered_of_whom_nobody_has_told() {
    let (mut cluster, leader, judge) = Cluster::led(Options::default());
    cluster.run(ms(100));
    let (hello, _) = cluster.node(leader).hello_to(judge);
    let says = |cluster: &mut Cluster, node: u64| {
        let mut hello = hello.clone();
        let Role::Peer { identity, .. } = &mut hello.role else {
            panic!("a client's hello");
        };
        (identity.node, identity.incarnation) = (NodeId(node), Incarnation(node));
        cluster.check_hello(judge, &hello).map(|_| ())
    };
    let most = 4 * MEMBERS_MAX as u64;
    // The two other members are known, too.
    for node in 101..=100 + most - 2 {
        assert_eq!(says(&mut cluster, node), Ok(()));
    }
    let refused = says(&mut cluster, 1_000).unwrap_err();
    assert_eq!(refused, Error::TooManyConnections { limit: most });
    let client = cluster.connect(leader);
    cluster.ask(client, 1, change(learner("n4", None)));
    cluster.run(ms(200));
    assert_eq!(says(&mut cluster, 1_000), Ok(()));
}
