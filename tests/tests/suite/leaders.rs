//! Leadership as operators see it, with real processes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, PATIENCE};
use raftd_tests::wait;
use rustix::process::Signal;

/// The name of the member with this id.
fn name(id: u64) -> String {
    format!("n{id}")
}

#[test]
fn leadership_goes_around_and_refuses_the_dead() {
    let mut cluster = Cluster::start(3);
    let first = cluster.wait_leader();
    let (second, third) = (first % 3 + 1, (first + 1) % 3 + 1);
    for id in [second, third, third, first] {
        // Whoever is asked: it finds the leader by itself.
        for node in &cluster.nodes {
            let args = ["--json", "transfer-leader", &name(id)];
            let done = proc::raftctl(&node.client_addr, &args, b"").quietly();
            let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
            assert_eq!(told["leader"], id);
        }
        let _ = cluster.ctl(&["put", &name(id), "led"]).quietly();
        assert_eq!(cluster.wait_leader(), id);
    }
    let _ = cluster.ctl(&["transfer-leader"]).quietly();
    let leader = cluster.wait_leader();
    assert!(leader != first);
    let dead = leader % 3 + 1;
    cluster.node(dead).kill();
    let done = cluster.ctl(&["-t", "20s", "transfer-leader", &name(dead)]);
    // It was alive until just now, or it is known to be dead.
    assert!([Some(1), Some(6)].contains(&done.code), "{done:?}");
    assert_eq!(cluster.wait_leader(), leader);
    let done = cluster.ctl(&["transfer-leader", "n9"]).exits(6);
    assert!(
        done.stderr.contains("no member is called n9"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let mut cluster = Cluster::start(3);
    for _ in 0..3 {
        let leader = cluster.wait_leader();
        let term = cluster.status().expect("they answer")["term"].clone();
        let status = cluster.node(leader).stop(Signal::TERM);
        assert_eq!(status.code(), Some(0));
        let log = cluster.node(leader).log_since_start();
        assert!(log.contains("reason=stopping"), "{log}");
        let _ = cluster.ctl(&["put", "k", "v"]).quietly();
        // It took one election, and nobody had to miss the old leader first.
        let now = cluster.status().expect("they answer");
        assert_eq!(now["term"].as_u64(), term.as_u64().map(|term| term + 1));
        // Who led is gone; why is known all the same.
        assert_eq!(reasons(&cluster).last().expect("one leads"), "stopping");
        cluster.node(leader).start();
        cluster.node(leader).wait_ready();
        let address = cluster.node(leader).client_addr.clone();
        let wait = ["-t", "20s", "wait-ready", "--caught-up"];
        let _ = proc::raftctl(&address, &wait, b"").exits(0);
    }
    let leader = cluster.wait_leader();
    cluster.node(leader).kill();
    wait::until_true("it is missed", PATIENCE, || {
        cluster.wait_leader() != leader && reasons(&cluster).last().unwrap() == "link-closed"
    });
}

#[test]
fn a_member_is_safe_to_stop_while_the_others_would_go_on() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let [second, third] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    let ask = |cluster: &mut Cluster, id: u64| {
        let address = cluster.node(id).client_addr.clone();
        proc::raftctl(&address, &["-t", "20s", "is-safe-to-stop"], b"")
    };
    let _ = cluster.ctl(&["put", "k", "v"]).quietly();
    for id in [leader, second, third] {
        let done = ask(&mut cluster, id).quietly();
        assert_eq!(done.text(), "");
    }
    cluster.node(third).kill();
    for id in [leader, second] {
        let done = ask(&mut cluster, id).exits(1);
        let why = format!("1 of 3 voters would be left, it takes 2; n{third} does not answer: ");
        assert!(done.stderr.contains(&why), "{}", done.stderr);
    }
    let _ = ask(&mut cluster, third).exits(3);
    // Without a quorum there is nothing left that could be harmed, nor anybody to ask.
    cluster.node(second).kill();
    wait::until_true("the leader gives up", PATIENCE, || {
        let done = ask(&mut cluster, leader);
        done.code == Some(1) && done.stderr.contains("leader")
    });
    cluster.start_all();
    wait::until_true("all are back", PATIENCE, || {
        ask(&mut cluster, leader).code == Some(0)
    });
}

#[test]
fn the_only_voter_is_never_safe_to_stop() {
    let cluster = Cluster::start(1);
    let done = cluster.ctl(&["--json", "is-safe-to-stop"]).exits(1);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let reason = "0 of 1 voters would be left, it takes 1";
    let expected = serde_json::json!({"id": 1, "safe": false, "reason": reason});
    assert_eq!(told, expected);
}

/// Rules B5: whatever ends a leader, and whether or not its connections end with it.
#[test]
fn no_call_fails_over_the_end_of_a_leader() {
    let mut cluster = Cluster::start(3);
    let endpoints = cluster.endpoints();
    let stop = AtomicBool::new(false);
    let acked = AtomicU64::new(0);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let key = format!("k/{}", acked.load(Ordering::Relaxed));
                let put = ["-t", "20s", "put", &key, "v"];
                let _ = proc::raftctl(&endpoints, &put, b"").quietly();
                acked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ended = Stop(&stop);
        let await_more = |what: &str| {
            let before = acked.load(Ordering::Relaxed);
            wait::until_true(what, PATIENCE, || {
                assert!(!caller.is_finished(), "a call failed");
                acked.load(Ordering::Relaxed) >= before + 20
            });
        };
        for signal in [
            Signal::KILL,
            Signal::STOP,
            Signal::TERM,
            Signal::STOP,
            Signal::KILL,
        ] {
            let leader = cluster.wait_leader();
            await_more("calls before");
            proc::signal(cluster.node(leader).pid(), signal);
            await_more("calls after");
            match signal {
                Signal::STOP => proc::signal(cluster.node(leader).pid(), Signal::CONT),
                _ => {
                    let _ = cluster.node(leader).wait_end();
                    cluster.node(leader).start();
                }
            }
            let address = cluster.node(leader).client_addr.clone();
            let wait = ["-t", "20s", "wait-ready", "--leader", "--caught-up"];
            let _ = proc::raftctl(&address, &wait, b"").exits(0);
        }
        drop(ended);
    });
    let count = cluster.ctl(&["count", "k/"]).quietly();
    assert_eq!(count.text(), format!("{}\n", acked.into_inner()));
}

/// Ends the callers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Why each leader came, oldest first.
fn reasons(cluster: &Cluster) -> Vec<String> {
    let done = cluster.ctl(&["leaders"]).exits(0);
    let lines = done.text().lines();
    lines
        .map(|line| line.split('\t').nth(4).expect("a reason").to_owned())
        .collect()
}
