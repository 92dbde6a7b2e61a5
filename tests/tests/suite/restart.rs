//! Nodes that stop, start again, and are starved of a reader.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use raftctl::client::{Client, Consistency, Deadline, KeyRange, Options, Scan, ScanMode};
use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, PATIENCE, Running};
use raftd_tests::{fixture, wait};
use rustix::process::Signal;

#[test]
fn a_restarted_node_catches_up() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let follower = leader % 3 + 1;
    let _ = cluster.ctl(&["put", "before", "v"]).quietly();
    cluster.node(follower).kill();
    for n in 0..50 {
        let _ = cluster
            .ctl(&["put", &format!("while/{n:02}"), "v"])
            .quietly();
    }
    cluster.node(follower).start();
    cluster.node(follower).wait_ready();
    let address = cluster.node(follower).client_addr.clone();
    let ask = |args: &[&str]| proc::raftctl(&address, args, b"");
    let _ = ask(&["-t", "20s", "wait-ready", "--caught-up"]).exits(0);
    // What it has itself, without asking the leader.
    let mut client = Client::new(Options::new(vec![address]));
    let while_keys = KeyRange {
        from: b"while/",
        to: Some(b"while0"),
    };
    let own = Scan {
        freshness: Consistency::Stale.into(),
        ..Scan::new(ScanMode::Count, while_keys)
    };
    let page = client.scan(own, Deadline::after(PATIENCE));
    assert_eq!(page.expect("a stale read").count, 50);
}

/// A leader of two that has a write that cannot be committed, and a client that waits so long for it.
fn leader_with_a_pending_write(patience: &str) -> (Cluster, u64, Child) {
    let mut cluster = Cluster::prepare(2, &["--set", "raft.election_timeout=60s"]);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.node(3 - leader).kill();
    let mut put = cluster.ctl_command(&["-t", patience, "put", "k", "v"]);
    let put = put.stderr(Stdio::null()).spawn().expect("raftctl");
    wait::until_true("the write is in the log", PATIENCE, || {
        let status = cluster.status().expect("a leader");
        let own = &status["members"][leader as usize - 1];
        own["last_index"].as_u64() > own["commit_index"].as_u64()
    });
    (cluster, leader, put)
}

#[test]
fn what_is_pending_is_waited_for_until_a_second_signal_and_not_for_ever() {
    for (impatient, patience) in [(true, "5s"), (false, "20s")] {
        let (mut cluster, leader, mut put) = leader_with_a_pending_write(patience);
        let node = cluster.node(leader);
        let began = Instant::now();
        proc::signal(node.pid(), Signal::TERM);
        wait::until_true("it knows", PATIENCE, || {
            node.log_since_start().contains("stopping")
        });
        if impatient {
            proc::signal(node.pid(), Signal::TERM);
        }
        assert_eq!(node.wait_end().code(), Some(0));
        let took_s = began.elapsed().as_secs();
        assert_eq!(took_s < 5, impatient, "{took_s} s");
        assert_eq!(put.wait().expect("it ends").code(), Some(5));
    }
}

#[test]
fn a_cluster_keeps_its_data_over_a_full_stop() {
    let mut cluster = Cluster::start(3);
    for n in 0..20 {
        let _ = cluster
            .ctl(&["put", &format!("k/{n:02}"), &n.to_string()])
            .quietly();
    }
    for (node, signal) in cluster
        .nodes
        .iter_mut()
        .zip([Signal::TERM, Signal::INT, Signal::TERM])
    {
        let status = node.stop(signal);
        assert_eq!(status.code(), Some(0), "node {} by {signal:?}", node.id);
    }
    cluster.start_all();
    cluster.wait_leader();
    let scan = cluster.ctl(&["scan", "k/"]).quietly();
    let expected: String = (0..20).map(|n| format!("k/{n:02}\t{n}\n")).collect();
    assert_eq!(scan.text(), expected);
}

/// Whatever is released later starts from what was written once, and goes on.
#[test]
fn the_data_directory_of_format_1_serves() {
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().join("data");
    fixture::unpack(&fixture::data_dir(1), &data_dir).expect("a copy");
    let ports = proc::free_ports(2);
    let [client, peer] = [ports[0], ports[1]].map(|port| format!("127.0.0.1:{port}"));
    let ask = |args: &[&str]| proc::raftctl(&client, args, b"");
    for life in 1..=2 {
        let mut node = proc::command("raftd");
        node.args(["--id", "1", "--set", "wal.segment_bytes=256KiB"]);
        node.args(["--listen", &client, "--peer-listen", &peer]);
        node.arg("--data-dir").arg(&data_dir);
        let _running = Running::start(node, &dir.path().join("log"));
        wait::until_true("it serves", PATIENCE, || {
            ask(&["-t", "1s", "wait-ready", "--leader"]).code == Some(0)
        });
        let scan = ask(&["scan", ""]).quietly();
        assert_eq!(scan.text(), format!("bytes\ttext\ncounter\t{}\n", life + 1));
        let _ = ask(&["incr", "counter"]).exits(0);
    }
}

#[test]
fn a_stopped_reader_of_the_log_stops_nothing() {
    let mut cluster = Cluster::prepare(3, &["--set", "log.level=trace"]);
    // Nobody reads these pipes after the first lines; they hold 64 KiB each.
    let mut unread = Vec::new();
    let mut running = Vec::new();
    for node in &cluster.nodes {
        let mut child = node
            .command()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("raftd starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        running.push(Running::adopt(child));
        let mut line = String::new();
        while !line.contains("ready client=") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("its log"), 0, "it ended");
        }
        unread.push(log);
    }
    let leader = cluster.wait_leader();
    let term = |cluster: &Cluster| cluster.status().map(|status| status["term"].clone());
    let before = term(&cluster);
    // Every connection is worth a line or more: far more than the pipes hold.
    for _ in 0..40 {
        for node in &mut cluster.nodes {
            for _ in 0..50 {
                let _ = std::net::TcpStream::connect(&node.client_addr).expect("it listens");
            }
        }
        let _ = cluster.ctl(&["put", "k", "v"]).quietly();
    }
    wait::until_true("the same leader leads", PATIENCE, || {
        cluster.wait_leader() == leader
    });
    assert_eq!(term(&cluster), before, "no election");
    drop(unread);
}

#[test]
fn an_idle_node_is_idle() {
    let cluster = Cluster::start(3);
    let used = || -> u64 {
        cluster
            .nodes
            .iter()
            .map(|node| cpu_ms(node.pid()))
            .max()
            .unwrap_or(0)
    };
    let before = used();
    let began = Instant::now();
    wait::until_true("three seconds pass", PATIENCE, || {
        began.elapsed().as_secs() >= 3
    });
    // A loop that spins would use 3000; what heartbeats cost is a matter of benchmarks.
    let spent = used() - before;
    assert!(spent < 300, "{spent} ms of CPU in 3 s");
}

/// User and system time that a process used so far.
fn cpu_ms(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    tasks
        .filter_map(|task| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        })
        .sum::<u64>()
        / 1_000_000
}
