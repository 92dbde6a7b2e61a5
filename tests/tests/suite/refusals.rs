//! Data directories that raftd refuses to start with: the exit code, the place and the remedy.

use std::fs;

use raftd_tests::cluster::{Cluster, Node};
use raftd_tests::{proc, wait};
use rustix::process::Signal;

/// Runs a node to its end.
fn refused(node: &Node, code: i32) -> String {
    let done = proc::run(node.command(), b"").exits(code);
    assert_eq!(done.stdout, b"", "nothing on stdout");
    done.stderr
}

#[track_caller]
fn explains(stderr: &str, words: &[&str]) {
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in:\n{stderr}");
    }
    assert!(stderr.contains("  try: "), "no remedy:\n{stderr}");
}

#[test]
fn a_data_directory_of_another_cluster() {
    let mut cluster = Cluster::start(3);
    let _ = cluster.ctl(&["put", "k", "v"]).quietly();
    // Somebody wipes the disk of one node and starts it again: it forgot its votes, and must not
    // come back under its old id.
    let node = &mut cluster.nodes[2];
    node.kill();
    fs::remove_dir_all(&node.data_dir).expect("its data");
    node.start();
    let status = node.wait_end();
    assert_eq!(status.code(), Some(78), "{}", node.log_since_start());
    explains(&node.log_since_start(), &["another data directory"]);
    let _ = cluster.ctl(&["put", "k", "the others go on"]).quietly();
}

#[test]
fn two_of_three_that_were_wiped_do_not_end_the_one_that_was_not() {
    let mut cluster = Cluster::start(3);
    let _ = cluster.ctl(&["put", "k", "v"]).quietly();
    let (whole, wiped) = cluster.nodes.split_first_mut().expect("three nodes");
    for node in wiped.iter_mut() {
        node.kill();
        fs::remove_dir_all(&node.data_dir).expect("its data");
    }
    for node in wiped.iter_mut() {
        node.start();
    }
    // Each of them hears from it who formed the cluster, and so that it is itself another.
    let refuses = |node: &Node| node.log_since_start().contains("caller refused node=1");
    wait::until_true("both refuse it", proc::PATIENCE, || {
        wiped.iter().all(refuses)
    });
    // Its log tells why, although the links were down before.
    wait::until_true("it says so", proc::PATIENCE, || {
        let log = whole.log_since_start();
        let told = |id| log.contains(&format!("why=\"refused: node {id} has another data"));
        told(2) && told(3)
    });
    let log = whole.log_since_start();
    assert_eq!(whole.stop(Signal::TERM).code(), Some(0), "{log}");
}

#[test]
fn damage_is_named_and_left_alone() {
    let mut cluster = Cluster::start(1);
    for n in 0..20 {
        let _ = cluster
            .ctl(&[
                "put",
                &format!("k{n}"),
                "a value that is long enough to be hit",
            ])
            .quietly();
    }
    let node = &mut cluster.nodes[0];
    assert_eq!(node.stop(Signal::TERM).code(), Some(0));
    let segment = fs::read_dir(node.data_dir.join("wal"))
        .expect("the log")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .min()
        .expect("a segment");
    let whole = fs::read(&segment).expect("a segment");
    let at = whole
        .windows(6)
        .position(|bytes| bytes == b"a valu")
        .expect("the first value");
    let mut damaged = whole.clone();
    damaged[at] ^= 0x40;
    fs::write(&segment, &damaged).expect("written");
    let name = segment
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    for _ in 0..2 {
        explains(&refused(node, 65), &[&name, "raftctl replace-peer"]);
        assert!(
            fs::read(&segment).expect("a segment") == damaged,
            "nothing is repaired blindly"
        );
    }
    // Healed by hand, it serves again.
    fs::write(&segment, &whole).expect("written");
    node.start();
    node.wait_ready();
    cluster.wait_leader();
    assert_eq!(cluster.ctl(&["count", "k"]).quietly().text(), "20\n");
}

#[test]
fn a_log_that_is_gone_is_no_fresh_start() {
    let mut cluster = Cluster::start(1);
    let node = &mut cluster.nodes[0];
    node.kill();
    let wal = node.data_dir.join("wal");
    for entry in fs::read_dir(&wal).expect("the log") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let words = ["wal", "raftctl replace-peer"];
    explains(&refused(node, 65), &words);
    fs::remove_dir(&wal).expect("removed");
    explains(&refused(node, 65), &words);
}
