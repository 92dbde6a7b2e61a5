//! The verbs about the cluster and its nodes.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::client::{NodeRole, Reply};
use wire::command::Outcome;
use wire::error::Error as WireError;
use wire::types::{Index, Term};

use super::client::closed_port;
use super::fake::{Fake, What};
use super::run::{SOON, run, store};
use super::script::{always, status};

#[test]
fn status_lists_every_member_dead_ones_too() {
    let gone = closed_port();
    let addrs: Arc<Mutex<Vec<String>>> = Arc::default();
    let serve = |id: u64, role: NodeRole| {
        let addrs = Arc::clone(&addrs);
        Fake::start(id, move |asked| {
            let addrs = addrs.lock().unwrap().clone();
            let addrs = [addrs[0].as_str(), addrs[1].as_str(), addrs[2].as_str()];
            let mut told = status(id, role, addrs, [true, true, false]);
            if role == NodeRole::Follower {
                told.last.0 = 97;
            }
            asked.reply(&Reply::Status(told))
        })
    };
    let leader = serve(1, NodeRole::Leader);
    let follower = serve(2, NodeRole::Follower);
    *addrs.lock().unwrap() = vec![leader.addr.clone(), follower.addr.clone(), gone.clone()];
    for asked in [&leader, &follower] {
        let done = run(&asked.addr, &["status", "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let cluster = done.json();
        let expected = json!({
            "cluster_id": format!("{:032x}", 0xabc), "epoch": "0000000000000def",
            "leader": 1, "term": 5, "quorum_ok": true, "voters": 3, "failures_tolerated": 0,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&cluster[name], value, "{name}");
        }
        let members = cluster["members"].as_array().unwrap();
        let expected = json!({
            "id": 1, "name": "n1", "peer_addr": "127.0.0.1:7001", "client_addr": leader.addr,
            "reachable": true, "role": "leader", "kind": "voter", "term": 5, "last_index": 100,
            "durable_index": 100, "commit_index": 99, "applied_index": 99, "lag_entries": 0,
            "snapshot_index": 0, "snapshot_term": 0, "snapshot_bytes": 0, "install_bytes": null,
            "install_total_bytes": null, "install_left_ms": null, "wal_bytes": 1 << 20, "keys": 12,
            "digest": format!("{:032x}", 0xd16),
            "uptime_ms": 61_000, "version": "0.1.0", "state": "serving", "error": null,
        });
        assert_eq!(members[0], expected);
        assert_eq!(members[1]["lag_entries"], 3);
        assert_eq!(members[2]["reachable"], false);
        assert_eq!(members[2]["role"], Value::Null);
        assert_eq!(members[2]["lag_entries"], 8);
        assert_eq!(members[2]["error"], "connection refused");
    }
    let peers = run(&follower.addr, &["peers"]);
    let expected = format!(
        "1\tn1\tvoter\tleader\t127.0.0.1:7001\t{}\t0\n\
         2\tn2\tvoter\tfollower\t127.0.0.1:7002\t{}\t3\n\
         3\tn3\tvoter\t-\t127.0.0.1:7003\t{gone}\t8\n",
        leader.addr, follower.addr
    );
    peers.silently(0, expected);
    let objects = run(&leader.addr, &["peers", "--json"]);
    assert_eq!(objects.stdout.split(|b| *b == b'\n').count(), 4);
    let lines = run(&leader.addr, &["status"]);
    assert!(
        lines
            .stdout
            .starts_with(b"1\tn1\tvoter\tleader\ttrue\t5\t100\t99\t99\t0\t")
    );
    run(&leader.addr, &["is-leader"]).silently(0, "");
    run(&follower.addr, &["is-leader"]).silently(1, "");
    run(&leader.addr, &["is-healthy", "--node"]).silently(0, "");
    assert_eq!(run(&gone, &["is-leader"]).code, Some(3));
    assert_eq!(run(&gone, &["is-healthy"]).code, Some(3));
    let both = format!("{},{}", leader.addr, follower.addr);
    assert_eq!(run(&both, &["is-leader"]).code, Some(2));
    run(&both, &["wait-ready", "--leader"]).silently(0, "");
    // The follower has applied what the leader has committed.
    run(&follower.addr, &["wait-ready", "--caught-up"]).silently(0, "");
    let short = ["-t", "100ms", "wait-ready"];
    assert_eq!(run(&gone, &short).code, Some(3));
    let done = run(&format!("{gone},{}", leader.addr), &short);
    assert_eq!(done.code, Some(3));
    assert!(
        done.stderr.contains("not all endpoints answered"),
        "{done:?}"
    );
}

#[test]
fn whether_a_node_may_stop_waits_a_moment_for_all_to_hear_their_leader() {
    let addrs: Arc<Mutex<[String; 3]>> = Arc::default();
    let serve = |id: u64, role: NodeRole, hears_from: usize| {
        let known = Arc::clone(&addrs);
        let mut looks = 0;
        let node = Fake::start(id, move |asked| {
            looks += 1;
            let addrs = known.lock().unwrap();
            let mut told = status(id, role, addrs.each_ref().map(String::as_str), [true; 3]);
            if looks < hears_from {
                (told.leader, told.quorum_ok) = (None, false);
            }
            asked.reply(&Reply::Status(told))
        });
        addrs.lock().unwrap()[id as usize - 1].clone_from(&node.addr);
        node
    };
    let leader = serve(1, NodeRole::Leader, 1);
    let second = serve(2, NodeRole::Follower, 1);
    let late = serve(3, NodeRole::Follower, 3);
    run(&leader.addr, &["is-safe-to-stop"]).silently(0, "");
    drop(late);
    let late = serve(3, NodeRole::Follower, 3);
    run(&late.addr, &["is-safe-to-stop"]).silently(0, "");
    let never = serve(3, NodeRole::Follower, usize::MAX);
    for (asked, why) in [
        (&never, "it knows no leader"),
        (&second, "n3 hears no leader"),
    ] {
        let done = run(&asked.addr, &["is-safe-to-stop"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(why), "{done:?}");
    }
}

#[test]
fn health_is_a_read_through_the_quorum() {
    let (_server, at) = store();
    run(&at, &["is-healthy"]).silently(0, "");
    let lost = Fake::start(1, always(WireError::NoLeader));
    run(&lost.addr, &["-t", SOON, "is-healthy"]).silently(1, "");
}

#[test]
fn a_node_that_is_not_ready_is_no_after_a_while_without_progress() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Follower, ["", "", ""], [true; 3]);
        told.state = "replaying".into();
        asked.reply(&Reply::Status(told))
    });
    let done = run(&node.addr, &["-t", SOON, "wait-ready"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("it is replaying"), "{}", done.stderr);
    run(&node.addr, &["is-healthy", "--node"]).silently(1, "");
}

/// One after the other they would take much longer than anybody said to wait.
#[test]
fn nodes_that_do_not_answer_are_awaited_together() {
    let silent: Vec<_> = (0..12)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addrs = silent.iter().map(|node| node.local_addr().unwrap());
    let all: Vec<_> = addrs.map(|addr| addr.to_string()).collect();
    let began = Instant::now();
    let done = run(&all.join(","), &["-t", "1s", "wait-ready"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// What a node that is ready applies brings the one that is waited for no nearer.
#[test]
fn a_node_that_does_not_come_up_is_not_awaited_while_others_apply() {
    // So many entries that nobody waits for them all, once each is taken for progress.
    const ENOUGH: u64 = 200;
    let mut entries = 0;
    let live = Fake::start(1, move |asked| {
        entries += 1;
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        told.applied = Index(100 + entries.min(ENOUGH));
        asked.reply(&Reply::Status(told))
    });
    let both = format!("{},{}", live.addr, closed_port());
    let done = run(&both, &["-t", "500ms", "wait-ready"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let questions = live.asked().len() as u64;
    assert!(questions < ENOUGH, "{questions}");
}

/// Nor does what it applies behind what it is to have applied.
#[test]
fn a_node_that_is_caught_up_and_not_ready_is_not_awaited_while_it_applies() {
    const ENOUGH: u64 = 200;
    let mut entries = 0;
    let node = Fake::start(1, move |asked| {
        entries += 1;
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        told.applied = Index(90 + entries.min(ENOUGH));
        if told.applied >= told.commit {
            told.state = "healing".into();
        }
        asked.reply(&Reply::Status(told))
    });
    let done = run(&node.addr, &["-t", "500ms", "wait-ready", "--caught-up"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let questions = node.asked().len() as u64;
    assert!((10..ENOUGH).contains(&questions), "{questions}");
}

/// Nor do nodes that are ready by turns, whatever they apply meanwhile.
#[test]
fn nodes_that_come_and_go_are_not_awaited_for_ever() {
    const ENOUGH: u64 = 200;
    let by_turns = |id, mut turn: u64| {
        Fake::start(id, move |asked| {
            turn += 1;
            let mut told = status(id, NodeRole::Follower, ["", "", ""], [true; 3]);
            told.applied = Index(100 + turn.min(ENOUGH));
            if turn.is_multiple_of(2) && turn < ENOUGH {
                told.state = "replaying".into();
            }
            asked.reply(&Reply::Status(told))
        })
    };
    let (even, odd) = (by_turns(1, 0), by_turns(2, 1));
    let both = format!("{},{}", even.addr, odd.addr);
    let done = run(&both, &["-t", "500ms", "wait-ready"]);
    assert_eq!(done.code, Some(1), "{done:?}");
}

/// Nor one of which nobody knows what it is to apply.
#[test]
fn a_node_that_cannot_be_known_to_be_caught_up_is_not_awaited_while_it_applies() {
    const ENOUGH: u64 = 200;
    let leader = closed_port();
    let mut entries = 0;
    let node = Fake::start(2, move |asked| {
        entries += 1;
        let mut told = status(2, NodeRole::Follower, [&leader, "", ""], [true; 3]);
        told.applied = Index(100 + entries.min(ENOUGH));
        asked.reply(&Reply::Status(told))
    });
    let done = run(&node.addr, &["-t", "500ms", "wait-ready", "--caught-up"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let questions = node.asked().len() as u64;
    assert!(questions < ENOUGH, "{questions}");
}

/// A leader whose next snapshot is as of entry 40, and there once status was asked for so often.
fn snapshot_taker(questions: u64) -> Fake {
    let addr: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&addr);
    let (mut taken, mut asked_for) = (false, 0);
    let taker = Fake::start(1, move |asked| {
        if asked.what == What::Snapshot {
            taken = true;
            return asked.reply(&Reply::Written {
                term: Term(5),
                index: Index(40),
                outcome: Outcome::Applied,
            });
        }
        let addr = known.lock().unwrap().clone();
        let mut told = status(1, NodeRole::Leader, [&addr, "", ""], [true, false, false]);
        (told.snapshot.term, told.snapshot.index) = (Term(3), Index(7));
        if taken {
            asked_for += 1;
            told.snapshot_written_bytes = Some(asked_for);
        }
        if asked_for >= questions {
            (told.snapshot.term, told.snapshot.index) = (Term(5), Index(40));
            told.snapshot_bytes = 1_234;
        }
        asked.reply(&Reply::Status(told))
    });
    taker.addr.clone_into(&mut addr.lock().unwrap());
    taker
}

#[test]
fn a_snapshot_is_awaited_as_long_as_it_is_being_written() {
    let taker = snapshot_taker(60);
    // Far less than sixty questions take; each brings more of it.
    let done = run(&taker.addr, &["-t", SOON, "snapshot"]);
    done.silently(0, "n1\t40\t5\t1234\n");
    run(&taker.addr, &["snapshot", "ls"]).silently(0, "n1\t40\t5\t1234\n");
    let done = run(&taker.addr, &["--json", "snapshot", "--node", "1"]);
    let line = json!({"node": "n1", "index": 40, "term": 5, "bytes": 1234});
    assert_eq!(done.json(), line);
    let unknown = run(&taker.addr, &["snapshot", "--node", "n9"]);
    assert_eq!(unknown.code, Some(6), "as with every verb: {unknown:?}");
}

#[test]
fn a_snapshot_that_does_not_come_is_told_with_its_reason() {
    let addr: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&addr);
    let stuck = Fake::start(1, move |asked| {
        if asked.what == What::Snapshot {
            return asked.done(40, Outcome::Applied);
        }
        let addr = known.lock().unwrap().clone();
        let mut told = status(1, NodeRole::Leader, [&addr, "", ""], [true, false, false]);
        told.error = "the snapshot at 40@1 could not be taken: no space".into();
        asked.reply(&Reply::Status(told))
    });
    stuck.addr.clone_into(&mut addr.lock().unwrap());
    let done = run(&stuck.addr, &["-t", SOON, "snapshot", "--all"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("no space"), "{}", done.stderr);
}
