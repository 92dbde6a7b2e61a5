//! What a client is told when it cannot be served: never a guess.

use std::time::Duration;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done, PATIENCE};
use raftd_tests::wait;
use rustix::process::Signal;

#[test]
fn refused_ports_are_told_at_once() {
    let ports = proc::free_ports(2);
    let endpoints = format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]);
    // The bound is on the program, not on a machine that is busy with other tests: best of five.
    let tries: Vec<Done> = (0..5)
        .map(|_| proc::raftctl(&endpoints, &["get", "k"], b"").exits(3))
        .collect();
    let best = tries.iter().map(|done| done.took).min().expect("five");
    assert!(best < Duration::from_millis(100), "{best:?}");
    for port in ports {
        assert!(
            tries[0].stderr.contains(&port.to_string()),
            "a cause each: {}",
            tries[0].stderr
        );
    }
}

/// The id on the last line of an error with an unknown outcome.
fn request_id(done: &Done) -> String {
    let last = done.stderr.lines().last().unwrap_or_default();
    let id = last.strip_prefix("  request: ");
    id.unwrap_or_else(|| panic!("no request id: {}", done.stderr))
        .to_owned()
}

/// An increment that the leader took and could not replicate; its request id.
fn stranded_increment(cluster: &mut Cluster, leader: u64) -> String {
    for node in cluster.nodes.iter_mut().filter(|node| node.id != leader) {
        node.kill();
    }
    request_id(&cluster.ctl(&["-t", "1s", "incr", "n"]).exits(5))
}

fn wait_no_leader(cluster: &Cluster) {
    wait::until_true("the leader steps down", PATIENCE, || {
        cluster
            .status()
            .is_some_and(|status| status["quorum_ok"] == false)
    });
}

#[test]
fn a_retry_tells_the_truth_if_the_write_survives() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    assert_eq!(cluster.ctl(&["incr", "n"]).quietly().text(), "1\n");
    let id = stranded_increment(&mut cluster, leader);

    wait_no_leader(&cluster);
    let refused = cluster.ctl(&["-t", "500ms", "put", "never", "v"]).exits(4);
    assert!(
        !refused.stderr.contains("request:"),
        "certain: {}",
        refused.stderr
    );

    cluster.start_all();
    cluster.wait_leader();
    for _ in 0..2 {
        let told = cluster.ctl(&["incr", "--request-id", &id, "n"]).quietly();
        assert_eq!(told.text(), "2\n", "the first attempt's outcome");
    }
    assert_eq!(cluster.ctl(&["get", "n"]).quietly().text(), "2");
    let _ = cluster.ctl(&["get", "never"]).exits(1);
    // The id names that command and no other.
    let _ = cluster
        .ctl(&["put", "--request-id", &id, "other", "v"])
        .exits(6);
}

#[test]
fn a_retry_tells_the_truth_if_the_write_is_lost() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    assert_eq!(cluster.ctl(&["incr", "n"]).quietly().text(), "1\n");
    let id = stranded_increment(&mut cluster, leader);

    // The others go on without the one node that has it.
    cluster.node(leader).kill();
    for node in cluster.nodes.iter_mut().filter(|node| node.id != leader) {
        node.start();
    }
    cluster.wait_leader();
    assert_eq!(
        cluster.ctl(&["get", "n"]).quietly().text(),
        "1",
        "it is lost"
    );
    assert_eq!(
        cluster
            .ctl(&["incr", "--request-id", &id, "n"])
            .quietly()
            .text(),
        "2\n"
    );

    // And when it comes back, its copy of the entry is not applied on top.
    cluster.start_all();
    let _ = cluster.ctl(&["put", "last", "v"]).quietly();
    let last = cluster.status().and_then(|status| {
        status["members"]
            .as_array()?
            .iter()
            .filter_map(|m| m["last_index"].as_u64())
            .max()
    });
    cluster.wait_applied(last.expect("a log"));
    assert_eq!(
        cluster
            .ctl(&["incr", "--request-id", &id, "n"])
            .quietly()
            .text(),
        "2\n"
    );
    assert_eq!(cluster.ctl(&["get", "n"]).quietly().text(), "2");
}

#[test]
fn a_frozen_leader_is_replaced_and_rejoins() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    proc::signal(cluster.node(leader).pid(), Signal::STOP);
    let _ = cluster
        .ctl(&["-t", "20s", "put", "k", "while it sleeps"])
        .quietly();
    proc::signal(cluster.node(leader).pid(), Signal::CONT);
    // It wakes up believing that it leads: a linearizable read must not believe it.
    let address = cluster.node(leader).client_addr.clone();
    let read = proc::raftctl(&address, &["-t", "20s", "get", "k"], b"").quietly();
    assert_eq!(read.text(), "while it sleeps");
}
