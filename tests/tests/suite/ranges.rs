//! Ranges of real clusters: one revision however many pages, in both directions, whoever leads.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use raftd_tests::cluster::Cluster;

/// Several pages of records between the keys `a` and `z`, which are written together.
fn filled(cluster: &Cluster) -> usize {
    let mut records = Vec::new();
    for n in 0..12_000 {
        writeln!(records, "k/{n:05}\t{}", "v".repeat(400)).expect("a vector takes everything");
    }
    let _ = cluster.ctl_with(&["load"], &records).exits(0);
    write_both(cluster, 0);
    12_000 + 2
}

fn write_both(cluster: &Cluster, n: u64) {
    let put = |key: &str| format!("put {key} {n}");
    let txn = ["txn", "--then", &put("a"), "--then", &put("z")];
    let _ = cluster.ctl(&txn).exits(0);
}

/// What `a` and `z` hold in what was dumped.
fn both(dumped: &str) -> (&str, &str) {
    (
        value(dumped.lines().next()),
        value(dumped.lines().next_back()),
    )
}

fn value(line: Option<&str>) -> &str {
    let (_, value) = line.and_then(|line| line.split_once('\t')).expect("a line");
    value
}

#[test]
fn a_dump_is_of_one_revision_while_others_write() {
    let cluster = Cluster::start(3);
    cluster.wait_leader();
    let keys = filled(&cluster);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                write_both(&cluster, n);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..5 {
            let dumped = cluster.ctl(&["dump"]).quietly();
            let (a, z) = both(dumped.text());
            assert_eq!(a, z);
            assert_eq!(dumped.text().lines().count(), keys);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let there = cluster.ctl(&["scan", "k/"]).quietly();
    let back = cluster.ctl(&["scan", "--reverse", "k/"]).quietly();
    let mut lines: Vec<_> = back.text().lines().collect();
    lines.reverse();
    assert!(lines.iter().copied().eq(there.text().lines()));
    let count = |args: &[&str]| {
        let line = [&["count"], args].concat();
        cluster.ctl(&line).quietly().text().trim().parse::<usize>()
    };
    assert_eq!(count(&[]), Ok(keys));
    assert_eq!(
        count(&["k/", "--from", "k/00010", "--to", "k/11000"]),
        Ok(10_990)
    );
    assert_eq!(count(&["--to", "k/"]), Ok(1));
    assert_eq!(count(&["--limit", "11000"]), Ok(11_000));
    let newest = cluster.ctl(&["scan", "--keys", "--reverse", "--limit", "2", "k/"]);
    assert_eq!(newest.quietly().text(), "k/11999\nk/11998\n");
}

#[test]
fn a_slow_reader_sees_one_revision_over_a_change_of_leaders() {
    let cluster = Cluster::start(3);
    cluster.wait_leader();
    let keys = filled(&cluster);
    let mut command = cluster.ctl_command(&["dump"]);
    let mut dump = command.stdout(Stdio::piped()).spawn().expect("raftctl");
    let mut output = BufReader::with_capacity(64, dump.stdout.take().expect("a pipe"));
    let mut dumped = String::new();
    output.read_line(&mut dumped).expect("the first line");
    // Most of it has not left the cluster: a pipe holds 64 KiB, and few pages are read ahead.
    let _ = cluster.ctl(&["-t", "20s", "transfer-leader"]).exits(0);
    write_both(&cluster, 7);
    output.read_to_string(&mut dumped).expect("the rest");
    assert_eq!(dump.wait().expect("it ends").code(), Some(0));
    assert_eq!(both(&dumped), ("0", "0"));
    assert_eq!(dumped.lines().count(), keys);
}

#[test]
fn what_is_left_of_a_view_ends_with_its_node() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    filled(&cluster);
    let mut command = cluster.ctl_command(&["dump"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dump = command.spawn().expect("raftctl");
    let mut output = BufReader::with_capacity(64, dump.stdout.take().expect("a pipe"));
    let mut dumped = String::new();
    output.read_line(&mut dumped).expect("the first line");
    cluster.node(leader).kill();
    output.read_to_string(&mut dumped).expect("the rest");
    let done = dump.wait_with_output().expect("it ends");
    assert_eq!(done.status.code(), Some(4));
    let said = String::from_utf8(done.stderr).expect("a text");
    assert!(said.contains("dump failed: "), "{said}");
    assert!(said.lines().count() <= 4, "{said}");
    assert!(dumped.ends_with('\n'), "only whole lines are written");
}
