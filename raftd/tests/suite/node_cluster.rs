//! Clusters of nodes under the harness: what a client sees, whatever happens to the nodes.

use wire::client::{Consistency, KeyRange, NodeRole, Reply, Request, ScanMode, ViewChoice};
use wire::command::{Command, Outcome};
use wire::error::{Class, Error};
use wire::peer::{Message, VoteAnswer};
use wire::types::{Index, NodeId, Term};

use super::node_harness::{Cluster, Options, Session, error, ms};

pub(crate) fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
    Command::Put { key, value }
}

pub(crate) fn get(key: &[u8]) -> Request<'_> {
    Request::Get {
        deadline_ms: 0,
        freshness: Consistency::Linearizable.into(),
        key,
    }
}

pub(crate) fn stale_get(key: &[u8]) -> Request<'_> {
    Request::Get {
        deadline_ms: 0,
        freshness: Consistency::Stale.into(),
        key,
    }
}

/// The value in a reply; `None` if there is no such key.
pub(crate) fn value(reply: Reply<'_>) -> Option<Vec<u8>> {
    match reply {
        Reply::Value { item, .. } => Some(item.value.to_vec()),
        Reply::Missing { .. } => None,
        other => panic!("no value but {other:?}"),
    }
}

/// The index by which a write was applied.
pub(crate) fn written(reply: Reply<'_>) -> Index {
    match reply {
        Reply::Written { index, .. } => index,
        other => panic!("not written but {other:?}"),
    }
}

pub(crate) fn session(cluster: &Cluster, nonce: u64) -> Session {
    let id = cluster.leader().expect("there is a leader");
    Session::new(cluster.status(id).applied, nonce)
}

#[test]
fn one_node_alone_serves() {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        ..Options::default()
    });
    let node = NodeId(1);
    let mut session = session(&cluster, 1);
    let client = cluster.connect(node);
    let put = session.next(put(b"k", b"v"));
    let index = written(cluster.ask(client, 1, put));
    assert_eq!(
        value(cluster.ask(client, 2, get(b"k"))),
        Some(b"v".to_vec())
    );
    assert_eq!(value(cluster.ask(client, 3, get(b"none"))), None);
    let Reply::Status(status) = cluster.ask(client, 4, Request::Status) else {
        panic!("no status");
    };
    assert_eq!((status.role, status.leader), (NodeRole::Leader, Some(node)));
    assert_eq!((status.applied, status.keys), (index, 1));
    assert_eq!(
        (status.state.as_str(), status.error.as_str()),
        ("serving", "")
    );
    assert!(status.quorum_ok);
}

#[test]
fn every_member_applies_what_the_leader_committed() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    for request_id in 1..=20 {
        let put = session.next(put(b"k", b"v"));
        cluster.ask(client, request_id, put);
    }
    cluster.run(ms(100));
    let applied = cluster.status(leader).applied;
    for id in cluster.ids() {
        let status = cluster.status(id);
        assert_eq!(status.applied, applied);
        assert_eq!(status.durable, applied);
        let other = cluster.connect(id);
        assert_eq!(
            value(cluster.ask(other, 1, stale_get(b"k"))),
            Some(b"v".to_vec())
        );
    }
    let status = cluster.status(leader);
    for member in &status.members {
        assert_eq!(member.name, format!("n{}", member.node));
        assert_eq!(member.client_addr, format!("client-{}:1", member.node));
        assert!(member.connected);
        assert_eq!(member.match_index, Some(applied));
    }
}

#[test]
fn a_link_on_which_nobody_answers_is_none() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let hung = cluster.other_than(leader);
    cluster.isolate(hung);
    cluster.run(ms(400));
    for member in cluster.status(leader).members {
        assert_eq!(member.connected, member.node != hung, "{}", member.node);
    }
}

#[test]
fn a_follower_names_the_leader() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    cluster.run(ms(100));
    let follower = cluster.other_than(leader);
    let client = cluster.connect(follower);
    let mut session = session(&cluster, 1);
    let put = session.next(put(b"k", b"v"));
    for (request_id, request) in [(1, put), (2, get(b"k"))] {
        match error(cluster.ask(client, request_id, request)) {
            Error::NotLeader { leader: hint } => {
                assert_eq!(hint.node, leader);
                assert_eq!(hint.client_addr, format!("client-{leader}:1"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn pages_of_a_scan_are_consistent_with_their_index() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    for key in 0..25_u8 {
        let put = session.next(put(std::slice::from_ref(&key), b"v"));
        cluster.ask(client, 1 + u64::from(key), put);
    }
    let (mut after, mut keys): (Option<Vec<u8>>, Vec<u8>) = (None, Vec::new());
    for request_id in 100.. {
        let scan = Request::Scan {
            deadline_ms: 0,
            freshness: Consistency::Linearizable.into(),
            mode: ScanMode::Keys,
            range: KeyRange::default(),
            reverse: false,
            after: after.as_deref(),
            limit: 10,
            view: ViewChoice::Now,
        };
        let Reply::Page {
            index,
            count,
            more_after,
            items,
            ..
        } = cluster.ask(client, request_id, scan)
        else {
            panic!("no page");
        };
        assert!(index.0 >= 25 && count <= 10);
        keys.extend(items.iter().map(|item| item.key[0]));
        after = more_after.map(<[u8]>::to_vec);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(keys, (0..25).collect::<Vec<_>>());
}

#[test]
fn a_read_sees_every_earlier_write_of_its_connection() {
    let mut cluster = Cluster::serving(Options {
        disk_delay: ms(20),
        ..Options::default()
    });
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let (writer, reader) = (cluster.connect(leader), cluster.connect(leader));
    let put = session.next(put(b"k", b"new"));
    cluster.send(writer, &[(1, put), (2, get(b"k"))]);
    cluster.send(reader, &[(1, get(b"k"))]);
    // Others need not wait for that write.
    assert_eq!(value(cluster.await_reply(reader, 1)), None);
    assert!(cluster.reply(writer, 1).is_none());
    assert_eq!(value(cluster.await_reply(writer, 2)), Some(b"new".to_vec()));
    assert!(cluster.reply(writer, 1).is_some());
}

#[test]
fn a_deposed_leader_serves_no_linearizable_read() {
    let mut cluster = Cluster::serving(Options::default());
    let old = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(old);
    let first = session.next(put(b"k", b"old"));
    cluster.ask(client, 1, first);
    cluster.isolate(old);
    cluster.run_until("new leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|leader| leader != old)
    });
    let new = cluster.leader().unwrap();
    let elsewhere = cluster.connect(new);
    let second = session.next(put(b"k", b"new"));
    cluster.ask(elsewhere, 1, second);
    // The old one may still think that it leads, or know that it does not: no stale value.
    cluster.send(client, &[(2, get(b"k"))]);
    cluster.run(ms(1_000));
    if let Some(reply) = cluster.reply(client, 2) {
        assert_eq!(error(reply).class(), Class::NotApplied);
    }
    assert_eq!(
        value(cluster.ask(elsewhere, 2, get(b"k"))),
        Some(b"new".to_vec())
    );
    cluster.heal();
    cluster.await_reply(client, 2);
}

#[test]
fn a_read_that_waits_when_leadership_is_lost_fails_as_not_applied() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    cluster.isolate(leader);
    let client = cluster.connect(leader);
    cluster.send(client, &[(1, get(b"k"))]);
    assert!(cluster.reply(client, 1).is_none());
    let error = error(cluster.await_reply(client, 1));
    assert_eq!(error.class(), Class::NotApplied, "{error:?}");
    assert_ne!(cluster.status(leader).role, NodeRole::Leader);
}

#[test]
fn requests_wait_for_a_leader_and_are_then_served() {
    let mut cluster = Cluster::new(Options::default());
    let mut session = Session::new(Index(0), 1);
    let clients: Vec<_> = cluster
        .ids()
        .into_iter()
        .map(|id| cluster.connect(id))
        .collect();
    let put = session.next(put(b"k", b"v"));
    for client in &clients {
        cluster.send(*client, &[(1, put), (2, get(b"k"))]);
        assert!(cluster.reply(*client, 1).is_none());
    }
    let leader = cluster.elect();
    cluster.run(ms(100));
    for (client, id) in clients.iter().zip(cluster.ids()) {
        let reply = cluster.reply(*client, 1).expect("an answer");
        if id == leader {
            written(reply);
            assert_eq!(
                value(cluster.reply(*client, 2).unwrap()),
                Some(b"v".to_vec())
            );
        } else {
            assert!(matches!(error(reply), Error::NotLeader { .. }));
        }
    }
}

#[test]
fn a_parked_write_that_expires_is_never_applied() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    for id in cluster.ids() {
        if id != leader {
            cluster.crash(id);
        }
    }
    cluster.run_until("step-down", ms(2_000), |cluster| {
        cluster.status(leader).role != NodeRole::Leader
    });
    let client = cluster.connect(leader);
    session.next(put(b"k", b"late"));
    let late = session.with_deadline(put(b"k", b"late"), 200);
    let read = Request::Get {
        deadline_ms: 200,
        freshness: Consistency::Linearizable.into(),
        key: b"k",
    };
    let sent = cluster.now();
    cluster.send(client, &[(1, late), (2, read)]);
    let reason = error(cluster.await_reply(client, 1));
    assert_eq!(
        (&reason, reason.class()),
        (&Error::NoLeader, Class::NotApplied)
    );
    assert_eq!(error(cluster.await_reply(client, 2)), Error::NoLeader);
    assert!(cluster.now().since(sent) >= ms(200) && cluster.now().since(sent) < ms(210));
    for id in cluster.ids() {
        if id != leader {
            cluster.start(id);
        }
    }
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    assert_eq!(value(cluster.ask(client, 1, get(b"k"))), None);
}

#[test]
fn status_and_stale_reads_never_wait() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    let put = session.next(put(b"k", b"v"));
    cluster.ask(client, 1, put);
    cluster.isolate(leader);
    cluster.run(ms(1_000));
    cluster.send(
        client,
        &[(2, get(b"k")), (3, Request::Status), (4, stale_get(b"k"))],
    );
    assert!(cluster.reply(client, 2).is_none());
    assert!(matches!(cluster.reply(client, 3), Some(Reply::Status(_))));
    assert_eq!(
        value(cluster.reply(client, 4).unwrap()),
        Some(b"v".to_vec())
    );
}

#[test]
fn a_lost_leader_says_unknown_and_the_retry_tells_the_truth() {
    // Whether the followers got the entry before the leader was cut off decides the outcome.
    for survives in [false, true] {
        let mut cluster = Cluster::serving(Options::default());
        let old = cluster.elect();
        let mut session = session(&cluster, 1);
        let client = cluster.connect(old);
        let command = Command::Increment {
            key: b"n",
            delta: 1,
        };
        if !survives {
            cluster.isolate(old);
        }
        let first = session.next(command);
        cluster.send(client, &[(1, first)]);
        if survives {
            cluster.run(std::time::Duration::from_micros(60));
            cluster.isolate(old);
        }
        let reason = error(cluster.await_reply(client, 1));
        assert_eq!(
            (&reason, reason.class()),
            (&Error::OutcomeUnknown, Class::Unknown)
        );
        let new = cluster.elect();
        assert_ne!(new, old);
        let elsewhere = cluster.connect(new);
        let retry = session.again(command);
        match cluster.ask(elsewhere, 1, retry) {
            Reply::Written { index, outcome, .. } => {
                assert_eq!(outcome, Outcome::Incremented(1));
                let noop = Index(2);
                assert_eq!(index == noop, survives, "index {index}");
            }
            other => panic!("{other:?}"),
        }
        cluster.heal();
        cluster.run(ms(1_000));
        let leader = cluster.elect();
        let client = cluster.connect(leader);
        assert_eq!(
            value(cluster.ask(client, 1, get(b"n"))),
            Some(b"1".to_vec())
        );
    }
}

#[test]
fn a_resend_beside_its_first_attempt_applies_once() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let (one, two) = (cluster.connect(leader), cluster.connect(leader));
    let command = Command::Increment {
        key: b"n",
        delta: 1,
    };
    let write = session.next(command);
    cluster.send(one, &[(1, write)]);
    cluster.send(two, &[(1, write)]);
    let first = written(cluster.await_reply(one, 1));
    assert_eq!(written(cluster.await_reply(two, 1)), first);
    assert_eq!(value(cluster.ask(one, 2, get(b"n"))), Some(b"1".to_vec()));
}

#[test]
fn a_session_survives_every_leader() {
    let mut cluster = Cluster::serving(Options::default());
    let mut session = session(&cluster, 1);
    for round in 1..=4 {
        let leader = cluster.elect();
        let client = cluster.connect(leader);
        let command = Command::Increment {
            key: b"n",
            delta: 1,
        };
        let write = session.next(command);
        let index = written(cluster.ask(client, 1, write));
        cluster.crash(leader);
        let next = cluster.elect();
        let client = cluster.connect(next);
        assert_eq!(written(cluster.ask(client, 1, write)), index);
        assert_eq!(
            value(cluster.ask(client, 2, get(b"n"))),
            Some(round.to_string().into_bytes())
        );
        cluster.start(leader);
        cluster.run(ms(500));
    }
}

#[test]
fn a_restarted_cluster_replays_its_log_before_it_answers() {
    let mut cluster = Cluster::serving(Options {
        tail_entries: 3,
        ..Options::default()
    });
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    for n in 1..=50_u64 {
        let write = session.next(Command::Increment {
            key: b"n",
            delta: 1,
        });
        cluster.ask(client, n, write);
    }
    cluster.run(ms(100));
    for id in cluster.ids() {
        cluster.crash(id);
    }
    for id in cluster.ids() {
        cluster.start(id);
    }
    let state = cluster.status(leader).state;
    assert_eq!(state, "replaying");
    let early: Vec<_> = cluster
        .ids()
        .into_iter()
        .map(|id| cluster.connect(id))
        .collect();
    for client in &early {
        cluster.send(*client, &[(1, get(b"n"))]);
    }
    let leader = cluster.elect();
    cluster.run(ms(100));
    for client in early {
        if let Reply::Value { item, .. } = cluster.reply(client, 1).expect("an answer") {
            assert_eq!(item.value, b"50");
        }
    }
    let client = cluster.connect(leader);
    let retry = session.again(Command::Increment {
        key: b"n",
        delta: 1,
    });
    cluster.ask(client, 1, retry);
    assert_eq!(
        value(cluster.ask(client, 2, get(b"n"))),
        Some(b"50".to_vec())
    );
    for id in cluster.ids() {
        assert_eq!(cluster.status(id).state, "serving");
        assert_eq!(cluster.node(id).waiting().loaded_bytes, 0);
    }
}

/// An acknowledgement could speak of entries that were replaced meanwhile (rules A3).
#[test]
fn what_waits_for_a_disk_is_dropped_when_the_term_changes() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let candidate = cluster.other_than(leader);
    cluster.hang_disk(candidate, true);
    cluster.crash(leader);
    let held = |cluster: &Cluster| cluster.node(candidate).waiting().outbox;
    cluster.run_until("a campaign", ms(500), |cluster| held(cluster) > 0);
    let term = Term(cluster.node(candidate).raft().term().0 + 1);
    let other = cluster
        .ids()
        .into_iter()
        .find(|id| ![leader, candidate].contains(id));
    let granted = false;
    let newer = Message::VoteAnswer(VoteAnswer { term, granted });
    cluster.arrives_late(other.unwrap(), candidate, newer);
    assert_eq!(cluster.node(candidate).raft().term(), term);
    assert_eq!(held(&cluster), 0);
}

#[test]
fn a_crashed_leader_is_replaced_within_milliseconds() {
    let mut slowest = std::time::Duration::ZERO;
    for seed in 1..=10 {
        let mut cluster = Cluster::serving(Options {
            seed,
            ..Options::default()
        });
        let leader = cluster.elect();
        cluster.run(ms(500));
        let before = cluster.now();
        cluster.crash(leader);
        cluster.elect();
        slowest = slowest.max(cluster.now().since(before));
    }
    // Its closed links are the sign (rules B3); silence would take 150 ms at least.
    assert!(slowest < ms(100), "{slowest:?}");
}

#[test]
fn a_log_that_cannot_be_read_for_a_while_is_told_and_tried_again() {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        tail_entries: 1,
        ..Options::default()
    });
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    for request_id in 1..=10 {
        let put = session.next(put(b"k", b"v"));
        cluster.ask(client, request_id, put);
    }
    cluster.crash(leader);
    cluster.fail_loads(leader, true);
    cluster.start(leader);
    cluster.run(ms(3_500));
    let status = cluster.status(leader);
    assert_eq!(
        (status.state.as_str(), status.applied),
        ("replaying", Index(0))
    );
    assert!(status.error.contains("from index 1 on"), "{}", status.error);
    let tries = cluster
        .events(leader)
        .iter()
        .filter(|e| e.contains("unreadable"))
        .count();
    assert!((3..=4).contains(&tries), "{tries} tries in 3.5 s");
    cluster.fail_loads(leader, false);
    cluster.run(ms(1_000));
    let status = cluster.status(leader);
    assert_eq!(
        (status.state.as_str(), status.error.as_str()),
        ("serving", "")
    );
    let client = cluster.connect(leader);
    assert_eq!(
        value(cluster.ask(client, 1, get(b"k"))),
        Some(b"v".to_vec())
    );
}
