//! Reads that any node answers: how fresh they are, and what is said where they cannot be.

use std::time::Duration;

use raftd::node::Limits;
use wire::client::{Consistency, Freshness, NodeRole, Request};
use wire::command::{Batch, Command, Operation, Txn};
use wire::error::{Error, Lag};
use wire::limits::KEY_BYTES_MAX;
use wire::types::{Index, NodeId};

use super::node_cluster::{get, put, session, stale_get, value, written};
use super::node_harness::{Cluster, Options, error, ms};

/// The harness's upper end of the election timeout, and a bit.
const PATIENCE_MS: u64 = 310;

fn read(freshness: impl Into<Freshness>, key: &[u8]) -> Request<'_> {
    Request::Get {
        deadline_ms: 2_000,
        freshness: freshness.into(),
        key,
    }
}

pub(crate) fn anywhere(key: &[u8]) -> Request<'_> {
    read(Consistency::LinearizableAnywhere, key)
}

fn bounded(max_lag_ms: u32, key: &[u8]) -> Request<'_> {
    read(Consistency::Bounded { max_lag_ms }, key)
}

fn after(index: Index, key: &[u8]) -> Request<'_> {
    let (consistency, after) = (Consistency::Stale, index);
    read(Freshness { consistency, after }, key)
}

#[track_caller]
fn lag(error: Error) -> Lag {
    match error {
        Error::Lagging(lag) => *lag,
        other => panic!("{other:?}"),
    }
}

/// A serving cluster, its leader, a follower, and the index of the write of `k`.
fn with_key() -> (Cluster, NodeId, NodeId, Index) {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    let put = session.next(put(b"k", b"v"));
    let index = written(cluster.ask(client, 1, put));
    cluster.run(ms(100));
    let follower = cluster.other_than(leader);
    (cluster, leader, follower, index)
}

/// What a turn answers at once is no reason to serve nobody else: the next may bring as much.
#[test]
fn whoever_waits_is_served_in_a_turn_of_many_replies() {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        disk_delay: Duration::ZERO,
        ..Options::default()
    });
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let (writer, greedy) = (cluster.connect(leader), cluster.connect(leader));
    let write = session.next(put(b"large", &[1_u8; 1_000_000]));
    cluster.ask(writer, 1, write);
    let mut batch = Batch::default();
    batch.push(Operation::Get { key: b"large" }).unwrap();
    let txn = Command::Txn(Txn::batch(batch.operations()));
    let writes: Vec<_> = (2..12).map(|id| (id, session.next(txn))).collect();
    cluster.send(writer, &writes);
    cluster.run_until("the first result", ms(10), |cluster| {
        cluster.answered(writer) > 1
    });
    let before = cluster.answered(writer);
    assert!(before < 11, "some are still to be applied");
    let mut requests: Vec<_> = (1..5_000).map(|id| (id, Request::Status)).collect();
    requests.push((5_000, stale_get(b"k")));
    cluster.send(greedy, &requests);
    assert!(cluster.answered(writer) > before, "applied");
    assert!(cluster.reply(greedy, 5_000).is_some(), "read");
}

#[test]
fn a_follower_sees_every_acknowledged_write() {
    let (mut cluster, leader, follower) = Cluster::led(Options::default());
    let mut session = session(&cluster, 1);
    let (writer, reader) = (cluster.connect(leader), cluster.connect(follower));
    for n in 1..=20_u64 {
        let text = n.to_string().into_bytes();
        let put = session.next(put(b"k", &text));
        cluster.ask(writer, n, put);
        // It is not told yet that this is committed.
        cluster.send(reader, &[(2 * n, stale_get(b"k"))]);
        assert_ne!(
            value(cluster.reply(reader, 2 * n).unwrap()),
            Some(text.clone())
        );
        let seen = cluster.ask(reader, 2 * n + 1, anywhere(b"k"));
        assert_eq!(value(seen), Some(text));
    }
}

#[test]
fn a_leader_answers_any_kind_of_read() {
    let (mut cluster, leader, _, index) = with_key();
    let client = cluster.connect(leader);
    let reads = [
        get(b"k"),
        anywhere(b"k"),
        stale_get(b"k"),
        bounded(1, b"k"),
        after(index, b"k"),
    ];
    for (request_id, read) in (1..).zip(reads) {
        let seen = cluster.ask(client, request_id, read);
        assert_eq!(value(seen), Some(b"v".to_vec()), "read {request_id}");
    }
}

/// The leader dies with the question: it is put to the next one, and no client notices.
#[test]
fn reads_that_wait_for_a_leader_that_dies_are_asked_again() {
    let (mut cluster, leader, follower, _) = with_key();
    let client = cluster.connect(follower);
    cluster.send(client, &[(1, anywhere(b"k")), (2, bounded(0, b"k"))]);
    cluster.crash(leader);
    for request_id in [1, 2] {
        let seen = cluster.await_reply(client, request_id);
        assert_eq!(value(seen), Some(b"v".to_vec()));
    }
    assert_ne!(cluster.leader(), Some(leader));
    assert_eq!(cluster.node(follower).waiting().reads, 0);
}

#[test]
fn a_node_without_a_leader_names_a_better_one_within_an_election_timeout() {
    let (mut cluster, leader, follower, index) = with_key();
    let client = cluster.connect(follower);
    cluster.ask(client, 1, anywhere(b"k"));
    // The links stand, and carry nothing.
    for id in cluster.ids() {
        if id != follower {
            cluster.cut(follower, id);
        }
    }
    let asked = cluster.now();
    let first = lag(error(cluster.ask(client, 2, anywhere(b"k"))));
    assert!(cluster.now().since(asked) <= ms(PATIENCE_MS));
    assert!(
        first.better.is_some() && first.behind_ms >= Some(PATIENCE_MS - 20),
        "{first:?}"
    );
    cluster.run_until("it misses its leader", ms(2_000), |cluster| {
        cluster.status(follower).leader.is_none()
    });
    let asked = cluster.now();
    let second = lag(error(cluster.ask(client, 3, bounded(100, b"k"))));
    assert!(cluster.now().since(asked) <= ms(PATIENCE_MS));
    assert_eq!(
        (second.reason.as_str(), second.entries),
        ("it knows no leader", 0)
    );
    // What needs no leader is answered, and what cannot be answered by one is not waited for long.
    let seen = cluster.ask(client, 4, after(index, b"k"));
    assert_eq!(value(seen), Some(b"v".to_vec()));
    let asked = cluster.now();
    lag(error(cluster.ask(
        client,
        5,
        after(Index(index.0 + 10), b"k"),
    )));
    assert!(cluster.now().since(asked) <= ms(PATIENCE_MS));
    // Linearizable ones of the leader's wait as ever.
    assert_eq!(cluster.status(follower).role, NodeRole::Candidate);
    let asked = cluster.now();
    let hopeless = Request::Get {
        deadline_ms: 1_000,
        freshness: Consistency::Linearizable.into(),
        key: b"k",
    };
    assert_eq!(error(cluster.ask(client, 6, hopeless)), Error::NoLeader);
    assert!(cluster.now().since(asked) >= ms(1_000));
    assert_eq!(cluster.leader(), Some(leader));
}

/// A node that was up to date a moment ago says what it has, and asks nobody.
#[test]
fn a_bounded_read_is_answered_as_long_as_its_bound_allows() {
    let (mut cluster, _, follower, _) = with_key();
    let client = cluster.connect(follower);
    let seen = cluster.ask(client, 1, anywhere(b"k"));
    assert_eq!(value(seen), Some(b"v".to_vec()));
    cluster.isolate(follower);
    cluster.run(ms(100));
    cluster.send(client, &[(2, bounded(150, b"k")), (3, bounded(50, b"k"))]);
    assert_eq!(
        value(cluster.reply(client, 2).unwrap()),
        Some(b"v".to_vec())
    );
    assert!(cluster.reply(client, 3).is_none());
    cluster.run(ms(100));
    cluster.send(client, &[(4, bounded(150, b"k"))]);
    assert!(cluster.reply(client, 4).is_none());
    for request_id in [3, 4] {
        lag(error(cluster.await_reply(client, request_id)));
    }
    // A state that is thrown away takes along what was known of it.
    cluster.crash(follower);
    cluster.start(follower);
    let client = cluster.connect(follower);
    let lag = lag(error(cluster.ask(client, 1, bounded(1_000_000, b"k"))));
    assert_eq!(lag.behind_ms, None);
}

#[test]
fn a_read_after_a_revision_waits_for_it_on_any_node() {
    let (mut cluster, leader, follower, index) = with_key();
    let (writer, reader) = (cluster.connect(leader), cluster.connect(follower));
    let next = Index(index.0 + 1);
    // It is asked for before it is written.
    cluster.send(reader, &[(1, after(next, b"k"))]);
    let both = Freshness {
        consistency: Consistency::LinearizableAnywhere,
        after: next,
    };
    cluster.send(reader, &[(2, read(both, b"k"))]);
    cluster.send(writer, &[(3, read(both, b"k"))]);
    cluster.run(ms(50));
    for (connection, request_id) in [(reader, 1), (reader, 2), (writer, 3)] {
        assert!(cluster.reply(connection, request_id).is_none());
    }
    let mut session = session(&cluster, 2);
    let put = session.next(put(b"k", b"later"));
    assert_eq!(written(cluster.ask(writer, 1, put)), next);
    for (connection, request_id) in [(reader, 1), (reader, 2), (writer, 3)] {
        let seen = cluster.await_reply(connection, request_id);
        assert_eq!(value(seen), Some(b"later".to_vec()));
    }
}

/// It may come between two turns that apply what was committed at once.
#[test]
fn a_read_waits_for_the_rest_of_what_is_committed() {
    let limits = Limits {
        turn_entries_max: 1,
        ..Limits::default()
    };
    let mut cluster = Cluster::serving(Options {
        members: 1,
        disk_delay: Duration::ZERO,
        limits,
        ..Options::default()
    });
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let (writer, reader) = (cluster.connect(leader), cluster.connect(leader));
    let writes: Vec<_> = (1..=5)
        .map(|n| (n, session.next(put(b"k", &[b'v'; 5][..n as usize]))))
        .collect();
    let last = Index(cluster.status(leader).last.0 + 5);
    cluster.send(writer, &writes);
    cluster.send(reader, &[(1, after(last, b"k"))]);
    let seen = cluster.await_reply(reader, 1);
    assert_eq!(value(seen), Some(b"vvvvv".to_vec()));
}

/// The leader does what it can until the deadline; a follower does not wait for what takes long.
#[test]
fn a_revision_that_never_comes() {
    let (mut cluster, leader, follower, index) = with_key();
    let (at_leader, at_follower) = (cluster.connect(leader), cluster.connect(follower));
    let (soon, far) = (Index(index.0 + 9), Index(index.0 + 100_000));
    let asked = cluster.now();
    let reply = cluster.ask(at_leader, 1, after(soon, b"k"));
    assert_eq!(error(reply), Error::DeadlineExpired);
    assert!(cluster.now().since(asked) >= ms(2_000));
    let asked = cluster.now();
    let hint = lag(error(cluster.ask(at_follower, 1, after(soon, b"k")))).better;
    assert_eq!(hint.expect("the leader").node, leader);
    assert!(cluster.now().since(asked) <= ms(PATIENCE_MS));
    let freshness = Freshness {
        consistency: Consistency::LinearizableAnywhere,
        after: far,
    };
    for (request_id, read) in [(2, after(far, b"k")), (3, read(freshness, b"k"))] {
        cluster.send(at_follower, &[(request_id, read)]);
        let reply = cluster.reply(at_follower, request_id);
        lag(error(reply.expect("it is said at once")));
    }
}

/// Reads that nobody waits for any more, of any stage: enough of them would leave no room for others.
#[test]
fn what_a_closed_connection_asked_is_forgotten() {
    let (mut cluster, leader, _, _) = with_key();
    let never = Request::Get {
        deadline_ms: 0,
        freshness: Freshness {
            consistency: Consistency::Stale,
            after: Index(1_000_000_000_000_000),
        },
        key: b"k",
    };
    let clogged = cluster.connect(leader);
    let hopeless: Vec<_> = (1..=64).map(|_| cluster.connect(leader)).collect();
    for connection in &hopeless {
        let reads: Vec<_> = (1..=1_024).map(|id| (id, never)).collect();
        cluster.send(*connection, &reads);
    }
    let full = error(cluster.ask(clogged, 1, get(b"k")));
    assert!(matches!(full, Error::Overloaded { .. }), "{full:?}");
    cluster.hang_up(hopeless[0]);
    cluster.clog(clogged, true);
    cluster.send(clogged, &[(2, stale_get(b"k")), (3, get(b"k"))]);
    let waiting = cluster.node(leader).waiting();
    assert_eq!(
        (waiting.reads, waiting.unconfirmed_reads),
        (63 * 1_024 + 2, 1)
    );
    cluster.hang_up(clogged);
    assert_eq!(cluster.node(leader).waiting().unconfirmed_reads, 0);
    for connection in &hopeless[1..] {
        cluster.hang_up(*connection);
    }
    assert_eq!(cluster.node(leader).waiting().reads, 0);
    // The round that was begun for one of them serves who asks now.
    let client = cluster.connect(leader);
    let seen = cluster.ask(client, 1, get(b"k"));
    assert_eq!(value(seen), Some(b"v".to_vec()));
}

/// More bytes of keys than may wait, but never at the same time.
#[test]
fn keys_of_reads_that_were_answered_take_no_room() {
    let (mut cluster, leader, _, _) = with_key();
    let client = cluster.connect(leader);
    let key = vec![b'k'; KEY_BYTES_MAX];
    for first in 0..=64 * 1024 * 1024 / (1_024 * KEY_BYTES_MAX as u64) {
        let ids = first * 1_024 + 1..=(first + 1) * 1_024;
        let reads: Vec<_> = ids.map(|id| (id, stale_get(&key))).collect();
        cluster.send(client, &reads);
        cluster.run(ms(1));
    }
    assert_eq!(
        value(cluster.ask(client, 1 << 20, get(b"k"))),
        Some(b"v".to_vec())
    );
}

/// What became of that was never promised: the log may not reach so far for a long time.
#[test]
fn a_read_does_not_wait_for_a_write_that_an_earlier_reign_lost() {
    let (mut cluster, first, _, _) = with_key();
    let client = cluster.connect(first);
    let mut session = session(&cluster, 2);
    cluster.isolate(first);
    let mut requests = Vec::new();
    for request_id in 1..=20 {
        requests.push((request_id, session.next(put(b"lost", b"v"))));
    }
    cluster.send(client, &requests);
    let lost = cluster.node(first).raft().last().index;
    cluster.run_until("another leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|id| id != first)
    });
    cluster.heal();
    let second = cluster.elect();
    cluster.run(ms(500));
    let operator = cluster.connect(second);
    let (deadline_ms, to) = (0, Some(first));
    cluster.ask(operator, 1, Request::TransferLeader { deadline_ms, to });
    assert_eq!(cluster.elect(), first);
    assert_eq!(value(cluster.ask(client, 100, get(b"lost"))), None);
    assert!(cluster.status(first).applied < lost);
}

/// To apply that many takes longer than to ask another node.
#[test]
fn who_learns_from_the_leader_that_it_is_far_behind_says_so_at_once() {
    let (mut cluster, leader, follower, _) = with_key();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 2);
    for first in (0..10_100_u64).step_by(1_000) {
        let mut requests = Vec::new();
        for request_id in first + 1..=first + 1_000 {
            requests.push((request_id, session.next(put(b"k", b"w"))));
        }
        cluster.send(client, &requests);
        written(cluster.await_reply(client, first + 1_000));
    }
    cluster.run(ms(200));
    cluster.crash(follower);
    cluster.fail_loads(follower, true);
    cluster.start(follower);
    cluster.run_until("it follows", ms(2_000), |cluster| {
        cluster.status(follower).leader == Some(leader)
    });
    assert!(cluster.status(follower).applied.0 + 10_000 < cluster.status(leader).applied.0);
    let reader = cluster.connect(follower);
    let asked = cluster.now();
    let told = lag(error(cluster.ask(reader, 1, anywhere(b"k"))));
    assert!(cluster.now().since(asked) < ms(10));
    assert_eq!(told.better.map(|better| better.node), Some(leader));
}
