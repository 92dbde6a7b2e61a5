//! `scripts/rolling-restart`, under load: no call fails while every member is restarted.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, iter, thread};

use raftctl::client::{Client, Command as Write, Deadline, Options, Outcome};
use raftd_tests::cluster::{Cluster, Node};
use raftd_tests::proc::{self, Done, Running};
use raftd_tests::root;
use rustix::process::{Pid, Signal, kill_process_group};

/// Processes that the script started: nobody else ends them.
struct Started(Vec<u32>);

impl Started {
    fn by(done: &Done) -> Self {
        let pids = done.text().lines().filter_map(|line| {
            let (_, rest) = line.split_once("is restarted: process ")?;
            rest.split_once(',')?.0.parse().ok()
        });
        Self(pids.collect())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for pid in &self.0 {
            proc::signal(*pid, Signal::KILL);
        }
    }
}

fn script_command(endpoints: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/rolling-restart"));
    command.args(["-e", endpoints, "--from"]);
    command.arg(proc::bin_dir()).args(rest);
    command
}

fn script(endpoints: &str, rest: &[&str]) -> Done {
    proc::run(script_command(endpoints, rest), b"")
}

/// Sets the flag when it is dropped, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_member_is_restarted_and_no_call_fails() {
    let mut cluster = Cluster::start(3);
    let endpoints = cluster.endpoints();
    let old: Vec<u32> = cluster.nodes.iter().map(Node::pid).collect();
    let stop = AtomicBool::new(false);
    let (done, calls, counted) = thread::scope(|scope| {
        let shell = scope.spawn(|| {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("k/{calls:06}");
                let put = ["-t", "5s", "put", &key, "v"];
                let _ = proc::raftctl(&endpoints, &put, b"").quietly();
                calls += 1;
            }
            calls
        });
        let library = scope.spawn(|| {
            let endpoints = endpoints.split(',').map(str::to_owned).collect();
            let mut client = Client::new(Options::new(endpoints));
            let mut counted = 0;
            while !stop.load(Ordering::Relaxed) {
                let (key, delta) = (b"counter".as_slice(), 1);
                let deadline = Deadline::after(Duration::from_secs(5));
                let written = client.write(Write::Increment { key, delta }, deadline);
                counted += 1;
                let outcome = written.expect("no call fails").outcome;
                assert_eq!(outcome, Outcome::Incremented(counted), "lost or doubled");
            }
            counted
        });
        let stop_at_end = Stop(&stop);
        let done = script(&endpoints, &[]);
        drop(stop_at_end);
        let calls: u64 = shell.join().expect("no call fails");
        (done, calls, library.join().expect("no call fails"))
    });
    let started = Started::by(&done);
    let done = done.quietly();
    let last = done.text().lines().last().expect("a last line");
    assert!(last.starts_with("ok: 3 members restarted, n"), "{last}");
    assert_eq!(started.0.len(), 3);
    assert!(started.0.iter().all(|pid| !old.contains(pid)));
    for node in &mut cluster.nodes {
        assert_eq!(node.wait_end().code(), Some(0), "it was stopped in order");
    }
    assert!(calls > 0 && counted > 0, "{calls} and {counted} calls");
    let count = cluster.ctl(&["count", "k/"]).quietly();
    assert_eq!(count.text(), format!("{calls}\n"));
    let counter = cluster.ctl(&["get", "counter"]).quietly();
    assert_eq!(counter.text(), counted.to_string());
}

#[test]
fn nothing_is_touched_that_would_interrupt_the_cluster() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    cluster.node(leader % 3 + 1).kill();
    let alive = cluster.node(leader).client_addr.clone();
    let done = script(&alive, &[]).exits(1);
    let why = format!("n{} does not answer: bring it up first", leader % 3 + 1);
    assert!(done.stderr.contains(&why), "{}", done.stderr);
    assert!(cluster.node(leader).ended().is_none());
    drop(cluster);
    let alone = Cluster::start(1);
    let done = script(&alone.endpoints(), &[]).exits(1);
    let why = "with 1 voters, a restart of one interrupts the cluster";
    assert!(done.stderr.contains(why), "{}", done.stderr);
}

/// Members that serve clients at the same port of different addresses, not started yet.
fn with_one_port() -> Cluster {
    let mut cluster = Cluster::prepare(3, &[]);
    let first = cluster.nodes[0].client_addr.clone();
    for node in &mut cluster.nodes {
        node.client_addr = first.replace("127.0.0.1", &format!("127.0.0.{}", node.id));
    }
    cluster
}

#[test]
fn members_with_one_port_at_several_addresses_are_told_apart() {
    let mut cluster = with_one_port();
    cluster.start_all();
    cluster.wait_leader();
    let done = script(&cluster.endpoints(), &[]);
    let started = Started::by(&done);
    let _ = done.quietly();
    assert_eq!(started.0.len(), 3);
    for node in &mut cluster.nodes {
        assert_eq!(node.wait_end().code(), Some(0), "each was stopped");
    }
}

#[test]
fn a_process_that_may_be_another_member_is_not_restarted() {
    let mut cluster = with_one_port();
    for node in &mut cluster.nodes {
        let mut command = node.command();
        // Which of those with its port this name means is not known.
        if node.id == 1 {
            let name = node.client_addr.replace("127.0.0.1", "localhost");
            command.args(["--advertise", &name]);
        }
        node.start_as(command);
    }
    cluster.wait_leader();
    let done = script(&cluster.endpoints(), &[]);
    let _started = Started::by(&done);
    let done = done.exits(1);
    let why = "or not one alone, listens at localhost:";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert!(cluster.nodes.iter_mut().all(|node| node.ended().is_none()));
}

#[test]
fn a_service_is_left_to_whoever_runs_it() {
    let mut cluster = Cluster::start(3);
    cluster.wait_leader();
    cluster.kill_all();
    // The log of a service is a socket of the journal.
    let (_journal, log) = UnixStream::pair().expect("a pair");
    let start = |node: &Node| {
        let mut command = node.command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(OwnedFd::from(log.try_clone().expect("a second handle")));
        Running::adopt(command.spawn().expect("it starts"))
    };
    let mut services: Vec<_> = cluster.nodes.iter().map(start).collect();
    cluster.wait_leader();
    let done = script(&cluster.endpoints(), &[]).exits(1);
    let why = "is a service: -- systemctl restart 'raftd@{}'";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    let mut services = services.iter_mut();
    assert!(services.all(|service| service.ended().is_none()));
}

/// Whoever presses Ctrl-C, or closes the terminal, ends all programs that run in it.
#[test]
fn ctrl_c_leaves_every_member_up() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        let cluster = Cluster::start(3);
        cluster.wait_leader();
        let mut command = script_command(&cluster.endpoints(), &[]);
        command.process_group(0).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let group = Pid::from_child(&child);
        let mut told = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        while !told.contains(" is restarted: ") {
            let read = stdout.read_line(&mut told).expect("a line");
            assert!(read > 0, "it ended: {told}");
        }
        kill_process_group(group, signal).expect("a group");
        stdout.read_to_string(&mut told).expect("the rest");
        let output = child.wait_with_output().expect("its output");
        let done = Done {
            code: output.status.code(),
            stdout: told.into_bytes(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: Duration::ZERO,
        };
        let _started = Started::by(&done);
        let done = done.exits(code);
        let why = "rolling-restart: stopped; not restarted: n";
        assert!(done.stderr.starts_with(why), "{}", done.stderr);
        let peers = cluster.ctl(&["peers"]).quietly();
        assert!(!peers.text().contains("\t-\t"), "{}", peers.text());
    }
}

/// Starts each member again by a shell, after a while: as `systemctl --no-block restart` would.
fn restart_later(cluster: &Cluster) -> String {
    for node in &cluster.nodes {
        let command = node.command();
        let words = iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.display().to_string()).collect();
        let name = cluster.path(&format!("n{}", node.id)).display().to_string();
        let script = format!(
            "sleep 0.3; kill {}; sleep 0.3\n{} </dev/null >{name}.again 2>&1 &\necho $! >{name}.pid\n",
            node.pid(),
            words.join(" "),
        );
        fs::write(format!("{name}.sh"), script).expect("a script");
    }
    let script = cluster.path("{}.sh").display().to_string();
    format!("sh {script} >/dev/null 2>&1 &")
}

#[test]
fn a_command_may_restart_the_members() {
    let mut cluster = Cluster::start(3);
    cluster.wait_leader();
    let command = restart_later(&cluster);
    let done = script(&cluster.endpoints(), &["--", "sh", "-c", &command]);
    let pids = cluster.nodes.iter().filter_map(|node| {
        let pid = cluster.path(&format!("n{}.pid", node.id));
        fs::read_to_string(pid).ok()?.trim().parse().ok()
    });
    let started = Started(pids.collect());
    let done = done.quietly();
    assert!(done.text().contains("n2 is restarted\n"), "{}", done.text());
    assert_eq!(started.0.len(), 3, "none is left for later");
    for node in &mut cluster.nodes {
        assert_eq!(node.wait_end().code(), Some(0), "it was stopped in order");
    }
    let done = script(&cluster.endpoints(), &["--", "false"]).exits(1);
    assert!(
        done.stderr.contains(": false ended with status 1"),
        "{}",
        done.stderr
    );
    let _ = script(&cluster.endpoints(), &["--bogus"]).exits(2);
}
