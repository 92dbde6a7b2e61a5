//! Reads at nodes that do not lead, with real processes.

use std::thread;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done};
use rustix::process::Signal;

/// What one node answers.
fn at(cluster: &Cluster, id: u64, args: &[&str]) -> Done {
    let node = cluster.nodes.iter().find(|node| node.id == id);
    let addr = &node.expect("a member").client_addr;
    proc::raftctl(addr, args, b"")
}

/// Writes a value, and tells its revision.
fn put(cluster: &Cluster, key: &str, value: &str) -> String {
    let done = cluster.ctl(&["--json", "put", key, value]).quietly();
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    told["revision"].to_string()
}

#[test]
fn every_node_shows_what_was_just_acknowledged() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let any = "--any-node";
    for n in 0..10 {
        let text = n.to_string();
        let revision = put(&cluster, "n", &text);
        for id in 1..=3 {
            let seen = at(&cluster, id, &["get", "n", any]).quietly();
            assert_eq!(seen.stdout, text.as_bytes(), "at node {id}");
            let stale = ["get", "n", "--consistency", "stale", "--after", &revision];
            assert_eq!(at(&cluster, id, &stale).quietly().stdout, text.as_bytes());
        }
    }
    for id in 1..=3 {
        let lines = at(&cluster, id, &["scan", any]).quietly().stdout;
        assert_eq!(lines, b"n\t9\n");
        let count = ["count", "--consistency", "stale", "--max-lag", "10s"];
        assert_eq!(at(&cluster, id, &count).quietly().stdout, b"1\n");
        let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
        let mut args = vec!["get", any, "--default", "d"];
        args.extend(keys.iter().map(String::as_str));
        let lines = at(&cluster, id, &args).quietly().stdout;
        assert_eq!(String::from_utf8_lossy(&lines).lines().count(), 300);
    }
    // Whoever does not lead alone has no answer; whoever is asked for what it has does.
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.node(id).stop(Signal::TERM);
    }
    let stale = at(&cluster, leader, &["get", "n", "--consistency", "stale"]);
    assert_eq!(stale.quietly().stdout, b"9");
    let _ = at(&cluster, leader, &["-t", "1s", "get", "n", any]).exits(4);
}

/// Nobody who reads at a follower learns that the leader died.
#[test]
fn reads_at_a_follower_go_on_when_the_leader_dies() {
    let mut cluster = Cluster::start(3);
    put(&cluster, "k", "v");
    for _ in 0..2 {
        let leader = cluster.wait_leader();
        let follower = leader % 3 + 1;
        let node = cluster.nodes.iter().find(|node| node.id == follower);
        let addr = node.expect("a member").client_addr.clone();
        let reader = thread::spawn(move || {
            for _ in 0..100 {
                let args = ["get", "k", "--any-node"];
                assert_eq!(proc::raftctl(&addr, &args, b"").quietly().stdout, b"v");
            }
        });
        cluster.node(leader).kill();
        reader.join().expect("no read failed");
        cluster.node(leader).start();
        cluster.node(leader).wait_ready();
    }
}
