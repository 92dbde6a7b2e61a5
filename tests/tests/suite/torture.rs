//! A short torture, as an ordinary user's: what takes root is for `scripts/torture`.

use std::process::Command;

use raftd_tests::proc::{self, PATIENCE, Running};
use raftd_tests::torture::ledger::Fault;
use raftd_tests::wait;
use rustix::process::Signal;

/// The program, with the members of the same build.
fn torture(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    command.args(args).env("TESTS_BIN_DIR", proc::bin_dir());
    command
}

#[test]
fn ten_seconds_lose_nothing() {
    let done = proc::run(torture(&["--seconds", "10", "--unprivileged"]), b"").exits(0);
    let ledger = done.text();
    let last = ledger.lines().last().expect("a line");
    let (acked, rest) = last.split_once(" acked, ").expect(last);
    assert!(acked.parse::<u64>().is_ok_and(|acked| acked > 0), "{last}");
    assert!(rest.starts_with("0 lost, 0 wrong, "), "{last}");
    let count = |fault: Fault| {
        let line = ledger
            .lines()
            .find(|line| line.trim_start().starts_with(fault.name()));
        let count = line.and_then(|line| line.split_whitespace().nth(1));
        count
            .and_then(|count| count.parse::<u64>().ok())
            .unwrap_or(0)
    };
    for fault in [Fault::Kill, Fault::Isolate, Fault::Wipe, Fault::Rot] {
        assert!(count(fault) > 0, "{}:\n{ledger}", fault.name());
    }
}

#[test]
fn an_interrupted_torture_leaves_nothing_behind() {
    let log = tempfile::NamedTempFile::new().expect("a log");
    let said = || std::fs::read_to_string(log.path()).unwrap_or_default();
    let mut running = Running::start(torture(&["--unprivileged", "--verbose"]), log.path());
    wait::until_true("a member was killed", PATIENCE, || said().contains(" kill"));
    proc::signal(running.pid(), Signal::INT);
    assert_eq!(running.wait().code(), Some(130), "{}", said());
    assert!(!said().contains("kept in"), "{}", said());
}
