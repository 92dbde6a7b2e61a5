//! The systemd unit.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use raftd_tests::cluster::{Cluster, Slot};
use raftd_tests::proc::{self, Done, PATIENCE};
use raftd_tests::{root, skip, wait};
use rustix::process::Signal;

const UNIT: &str = "scripts/systemd/raftd@.service";

/// Whether this machine has systemd-analyze; else the test skips.
fn has_analyze(test: &str) -> bool {
    works(test, "systemd", &["systemd-analyze", "--version"])
}

fn works(test: &str, package: &str, line: &[&str]) -> bool {
    let (program, args) = line.split_first().expect("a program");
    let done = Command::new(program).args(args).output();
    let works = done.is_ok_and(|done| done.status.success());
    if !works {
        let why = format!("{program} is missing, or may not be used: apt-get install {package}");
        skip(test, &why);
    }
    works
}

fn analyze(args: &[&str]) -> Done {
    let mut command = Command::new("systemd-analyze");
    command.args(args);
    proc::run(command, b"")
}

/// `systemd-analyze` with these arguments on a copy of the unit whose program exists.
fn analyze_unit(args: &[&str]) -> Done {
    let scratch = tempfile::tempdir_in(proc::scratch_dir()).expect("a folder");
    let unit = fs::read_to_string(root().join(UNIT)).expect("the unit");
    let copy = scratch.path().join("raftd@main.service");
    let program = format!("ExecStart={}", proc::bin_dir().join("raftd").display());
    fs::write(&copy, unit.replace("ExecStart=/usr/bin/raftd", &program)).expect("written");
    analyze(&[args, &[copy.to_str().expect("a path in UTF-8")]].concat())
}

#[test]
fn it_is_valid() {
    if has_analyze("unit::it_is_valid") {
        let _ = analyze_unit(&["verify", "--man=no"]).quietly();
    }
}

#[test]
fn it_is_confined() {
    // The figure is 1.1; the threshold is in tenths.
    let args = ["security", "--offline=true", "--threshold=12"];
    if has_analyze("unit::it_is_confined") {
        let _ = analyze_unit(&args).exits(0);
    }
}

/// The system calls of a word of a filter, which may name a set.
fn expand(word: &str, calls: &mut BTreeSet<String>) {
    if !word.starts_with('@') {
        calls.insert(word.to_owned());
        return;
    }
    for line in analyze(&["syscall-filter", word])
        .exits(0)
        .text()
        .lines()
        .skip(1)
    {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            expand(line, calls);
        }
    }
}

/// What the unit's filter lets through: the first line is a list of that, others add and take away.
fn allowed() -> BTreeSet<String> {
    let unit = fs::read_to_string(root().join(UNIT)).expect("the unit");
    let mut allowed = BTreeSet::new();
    for filter in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let mut calls = BTreeSet::new();
        let words = filter.trim_start_matches('~').split(' ');
        words.for_each(|word| expand(word, &mut calls));
        match filter.starts_with('~') {
            true => allowed.retain(|call| !calls.contains(call)),
            false => allowed.extend(calls),
        }
    }
    allowed
}

#[test]
fn it_lets_the_daemon_do_what_it_does() {
    let test = "unit::it_lets_the_daemon_do_what_it_does";
    let probe = ["strace", "-o", "/dev/null", "true"];
    if !has_analyze(test) || !works(test, "strace", &probe) {
        return;
    }
    let _slot = Slot::take();
    let mut cluster = Cluster::prepare(1, &[]);
    let list = cluster.path("calls");
    let node = cluster.node(1);
    let own = node.command();
    // The tracer is a grandchild: the node stays the process that is told to end.
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-c", "-U", "calls,name", "-o"]);
    command
        .arg(&list)
        .arg(own.get_program())
        .args(own.get_args());
    node.start_as(command);
    node.wait_ready();
    let _ = cluster.ctl(&["put", "k", "v"]).quietly();
    let _ = cluster.ctl(&["snapshot"]).exits(0);
    assert!(cluster.node(1).stop(Signal::TERM).success());
    let mut calls = String::new();
    wait::until_true("the tracer has told", PATIENCE, || {
        calls = fs::read_to_string(&list).unwrap_or_default();
        calls.contains("total")
    });
    let used: BTreeSet<&str> = calls
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(count, _)| count.parse::<u64>().is_ok())
        .map(|(_, name)| name.trim())
        .filter(|name| *name != "total")
        .collect();
    assert!(used.contains("fdatasync"), "not the daemon:\n{calls}");
    let allowed = allowed();
    let refused: Vec<_> = used
        .iter()
        .filter(|name| !allowed.contains(**name))
        .collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}
