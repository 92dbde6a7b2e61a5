//! `wait-ready`: for how long, and what it tells.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use wire::client::{Install, NodeRole, Reply};
use wire::types::Index;

use super::client::closed_port;
use super::fake::Fake;
use super::run::{SOON, run};
use super::script::status;

#[test]
fn a_node_that_comes_nearer_is_awaited_however_long_that_takes() {
    // Between two questions there are 20 ms, and every second one finds it where it was: in all it takes
    // longer than -t.
    const QUESTIONS: u64 = 75;
    let mut asked_before = 0;
    let node = Fake::start(1, move |asked| {
        asked_before += 1;
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        told.commit = Index(QUESTIONS / 2);
        told.applied = Index(asked_before / 2);
        asked.reply(&Reply::Status(told))
    });
    let caught_up = ["-t", "1s", "--json", "wait-ready", "--caught-up"];
    run(&node.addr, &caught_up).silently(0, "{\"ready\":true}\n");
}

/// The leader, which takes a snapshot for it first, tells how far that is.
#[test]
fn a_node_that_gets_a_snapshot_is_awaited_however_long_that_takes() {
    const QUESTIONS: u64 = 90;
    let mut asked_before = 0;
    let leader = Fake::start(1, move |asked| {
        asked_before += 1;
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        let written = asked_before < QUESTIONS / 2;
        told.snapshot_written_bytes = written.then_some(asked_before / 2);
        told.members[1].install = Some(Install {
            received_bytes: if written { 0 } else { asked_before / 2 },
            total_bytes: QUESTIONS,
            left_ms: None,
        });
        asked.reply(&Reply::Status(told))
    });
    let (addr, mut asked_before) = (leader.addr.clone(), 0);
    let node = Fake::start(2, move |asked| {
        asked_before += 1;
        let mut told = status(2, NodeRole::Follower, [&addr, "", ""], [true; 3]);
        if asked_before < QUESTIONS {
            told.state = "rebuilding".into();
        }
        asked.reply(&Reply::Status(told))
    });
    run(&node.addr, &["-t", "1s", "wait-ready"]).silently(0, "");
}

#[test]
fn who_is_not_ready_is_told_why() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Follower, ["", "", ""], [true; 3]);
        told.leader = None;
        asked.reply(&Reply::Status(told))
    });
    run(&node.addr, &["wait-ready"]).silently(0, "");
    let done = run(
        &node.addr,
        &["-t", "100ms", "--json", "wait-ready", "--leader"],
    );
    assert_eq!((done.code, done.json()), (Some(1), json!({"ready": false})));
    let place = format!("  where: {}: it knows no leader", node.addr);
    assert!(done.stderr.contains(&place), "{done:?}");
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
