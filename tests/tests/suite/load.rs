//! Bulk work against real nodes: nothing lost, nothing twice, whatever dies meanwhile, and the same
//! bytes back.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done, PATIENCE};
use raftd_tests::wait;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

const FORMATS: [&str; 4] = ["tsv", "jsonl", "nul", "frame"];
/// Records of a load that is disturbed.
const INCREMENTS: u32 = 60_000;
/// Keys that they go to.
const COUNTERS: u32 = 500;

/// Keys and values with every byte in every place that matters.
fn everything() -> Vec<u8> {
    let escaped =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect() };
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let mut lines = String::new();
    for byte in &all {
        let key = escaped(&[b'k', *byte]);
        lines.push_str(&format!("{key}\t{}\n", escaped(&[*byte])));
        lines.push_str(&format!("{}\t\n", escaped(&[*byte])));
    }
    lines.push_str(&format!("{0}\t{0}\n", escaped(&all)));
    lines.into_bytes()
}

#[test]
fn what_is_dumped_is_loaded_as_it_was_in_every_format() {
    let cluster = Cluster::start(1);
    let _ = cluster.ctl_with(&["load"], &everything()).quietly();
    let original = cluster.ctl(&["dump"]).quietly().stdout;
    assert_eq!(original.iter().filter(|byte| **byte == b'\n').count(), 513);
    for format in FORMATS {
        for codec in [&[][..], &["--encode", "hex", "--key-encode", "base64"]] {
            if (format == "nul") == codec.is_empty() || (format == "frame" && !codec.is_empty()) {
                continue;
            }
            let way = [&["--format", format][..], codec].concat();
            let dumped = cluster
                .ctl(&[&["dump"][..], &way].concat())
                .quietly()
                .stdout;
            let keys = cluster
                .ctl(&["scan", "--keys", "--format", "jsonl"])
                .quietly()
                .stdout;
            let _ = cluster
                .ctl_with(&["del", "--stdin", "--format", "jsonl"], &keys)
                .quietly();
            assert_eq!(cluster.ctl(&["count"]).quietly().text(), "0\n");
            let _ = cluster
                .ctl_with(&[&["load"][..], &way].concat(), &dumped)
                .quietly();
            let again = cluster.ctl(&["dump"]).quietly().stdout;
            assert!(again == original, "{way:?}");
            let again = cluster
                .ctl(&[&["dump"][..], &way].concat())
                .quietly()
                .stdout;
            assert!(again == dumped, "{way:?}");
        }
    }
}

fn increments() -> Vec<u8> {
    let mut lines = String::new();
    for n in 0..INCREMENTS {
        let counter = n % COUNTERS;
        lines.push_str(&format!("{{\"op\":\"incr\",\"key\":\"n/{counter:03}\"}}\n"));
    }
    lines.into_bytes()
}

/// A load of increments that is under way.
struct Load {
    child: Child,
    pipe: ChildStdin,
    input: Vec<u8>,
    /// Bytes of it that were given.
    fed: usize,
}

impl Load {
    fn start(cluster: &Cluster, args: &[&str], input: Vec<u8>) -> Self {
        let mut command = cluster.ctl_command(&["-t", "60s", "load", "--format", "jsonl"]);
        command.args(args);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("raftctl starts");
        Self {
            pipe: child.stdin.take().expect("a pipe"),
            child,
            input,
            fed: 0,
        }
    }

    /// Gives it all records up to this one.
    fn feed(&mut self, records: u32) {
        let all = self.input.len();
        let end = all / INCREMENTS as usize * records as usize;
        let next = self.fed..end.clamp(self.fed, all);
        self.fed = next.end;
        // Who ended reads no more.
        let _ = self.pipe.write_all(&self.input[next]);
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), None, "it was killed");
    }

    /// As Ctrl-C does, once it can take it.
    fn interrupt(&self) {
        proc::wait_handles(self.child.id(), Signal::INT);
        proc::signal(self.child.id(), Signal::INT);
    }

    /// Gives it the rest, and waits for its end.
    fn end(mut self) -> Done {
        self.feed(INCREMENTS);
        drop(self.pipe);
        let output = self.child.wait_with_output().expect("it ends");
        Done {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: Duration::ZERO,
        }
    }
}

fn sum(cluster: &Cluster) -> u32 {
    let scan = cluster.ctl(&["-t", "60s", "scan", "n/"]).exits(0);
    let values = scan.text().lines().map(|line| line.split('\t').nth(1));
    values
        .map(|value| value.and_then(|v| v.parse::<u32>().ok()).expect("a number"))
        .sum()
}

/// Waits until the load has written some of it.
fn wait_for_some(cluster: &Cluster, least: u32) {
    wait::until_true("some increments are there", PATIENCE, || {
        sum(cluster) >= least
    });
}

/// A load into so many nodes, of which the leader is killed twice on the way: with records before it
/// that nobody has acknowledged, and others that come while nobody, or another one, leads.
fn survives_its_leader(nodes: usize) {
    let mut cluster = Cluster::start(nodes);
    let mut load = Load::start(&cluster, &[], increments());
    let part = INCREMENTS / 12;
    for round in 1..=2 {
        load.feed(4 * round * part);
        wait_for_some(&cluster, 2 * round * part);
        let leader = cluster.wait_leader();
        load.feed((4 * round + 1) * part);
        cluster.node(leader).kill();
        load.feed((4 * round + 2) * part);
        if nodes > 1 {
            cluster.wait_leader();
        }
        cluster.start_all();
    }
    let _ = load.end().quietly();
    assert_eq!(sum(&cluster), INCREMENTS);
}

#[test]
fn a_leader_that_is_killed_costs_no_record_and_doubles_none() {
    survives_its_leader(3);
}

#[test]
fn a_cluster_that_is_down_for_a_moment_is_waited_for() {
    survives_its_leader(1);
}

#[test]
fn a_load_that_is_killed_goes_on_where_it_was() {
    let cluster = Cluster::start(3);
    let file = cluster.path("load.ck");
    let checkpoint = ["--checkpoint", file.to_str().expect("UTF-8")];
    let start = || Load::start(&cluster, &checkpoint, increments());
    let part = INCREMENTS / 12;
    for round in 1..=5 {
        let mut load = start();
        load.feed(2 * round * part - part);
        wait_for_some(&cluster, 2 * round * part - part);
        load.feed(2 * round * part);
        load.kill();
    }
    // The first signal stops it in order: before it has found its place, and behind that.
    let load = start();
    load.interrupt();
    assert_eq!(load.end().code, None, "the signal ends it");
    let mut load = start();
    load.feed(11 * part);
    wait_for_some(&cluster, 11 * part);
    load.interrupt();
    let stopped = load.end();
    assert_eq!(stopped.code, None, "the signal ends it");
    let mut lines = stopped.stderr.lines();
    let behind = lines.find_map(|line| {
        let number = line.strip_prefix("raftctl: load was stopped behind line ")?;
        number.parse::<u32>().ok()
    });
    assert_eq!(behind, Some(sum(&cluster)), "what it says is what is there");
    let again = || start().end();
    let _ = again().quietly();
    assert_eq!(sum(&cluster), INCREMENTS);
    // Once more does nothing; another input is refused.
    let _ = again().quietly();
    assert_eq!(sum(&cluster), INCREMENTS);
    let mut other = increments();
    other[20] ^= 1;
    let refused = Load::start(&cluster, &checkpoint, other).end().exits(2);
    assert!(
        refused.stderr.contains("another input"),
        "{}",
        refused.stderr
    );
    assert_eq!(sum(&cluster), INCREMENTS);
}

#[test]
fn what_is_left_out_is_kept_once_whatever_is_killed() {
    let cluster = Cluster::start(3);
    let _ = cluster.ctl(&["put", "text_", "abc"]).quietly();
    let mut input = increments();
    let line = input.len() / INCREMENTS as usize;
    // As long as the others, so that lines can be counted.
    for bad in input.chunks_mut(line).skip(3).step_by(10) {
        let at = bad
            .windows(5)
            .position(|key| key.starts_with(b"n/"))
            .expect("a key");
        bad[at..at + 5].copy_from_slice(b"text_");
    }
    let path = |name: &str| cluster.path(name).to_str().expect("UTF-8").to_owned();
    let (checkpoint, rejects) = (path("load.ck"), path("bad.jsonl"));
    let flags = ["--checkpoint", &checkpoint, "--rejects", &rejects];
    let good = |records: u32| records / 10 * 9;
    let part = INCREMENTS / 12;
    for round in 1..=5 {
        let mut load = Load::start(&cluster, &flags, input.clone());
        load.feed(2 * round * part);
        wait_for_some(&cluster, good((2 * round - 1) * part));
        load.kill();
    }
    let done = Load::start(&cluster, &flags, input.clone()).end().exits(8);
    let words = format!("left out {} of {INCREMENTS} records", INCREMENTS / 10);
    assert!(done.stderr.contains(&words), "{}", done.stderr);
    assert_eq!(sum(&cluster), good(INCREMENTS));
    let bad: Vec<u8> = input
        .chunks(line)
        .skip(3)
        .step_by(10)
        .flatten()
        .copied()
        .collect();
    assert!(fs::read(&rejects).expect("rejects") == bad);
}

#[test]
fn records_that_cannot_be_done_are_left_out_and_kept() {
    let cluster = Cluster::start(1);
    let _ = cluster.ctl(&["put", "text", "abc"]).quietly();
    let path = |name: &str| cluster.path(name).to_str().expect("UTF-8").to_owned();
    let (bad, good) = (path("bad.jsonl"), path("good.jsonl"));
    let mut input = Vec::new();
    for n in 0..100 {
        let key = if n % 10 == 3 { "text" } else { "n/0" };
        writeln!(input, "{{\"op\":\"incr\",\"key\":\"{key}\",\"by\":{n}}}").expect("memory");
    }
    writeln!(input, "not json").expect("memory");
    write!(input, "{{\"key\":\"last\",\"value\":\"1\"}}").expect("memory");
    fs::write(&good, &input).expect("a file");
    let load = ["load", "--format", "jsonl", &good];
    // It stops at the first, with all before it and nothing behind it.
    let stopped = cluster.ctl(&load).exits(6);
    assert!(
        stopped
            .stderr
            .contains("at line 4: text: the value is no decimal number"),
        "{}",
        stopped.stderr
    );
    assert_eq!(cluster.ctl(&["get", "n/0"]).quietly().text(), "3");
    let _ = cluster.ctl(&["put", "n/0", "0"]).quietly();
    let skipped = cluster
        .ctl(&[&load[..], &["--rejects", &bad]].concat())
        .exits(8);
    assert!(
        skipped.stderr.contains("left out 11 of 102 records"),
        "{}",
        skipped.stderr
    );
    assert!(
        skipped.stderr.contains("first at line 4: text"),
        "{}",
        skipped.stderr
    );
    let sum: u32 = (0..100).filter(|n| n % 10 != 3).sum();
    assert_eq!(
        cluster.ctl(&["get", "n/0"]).quietly().text(),
        sum.to_string()
    );
    assert_eq!(cluster.ctl(&["get", "last"]).quietly().text(), "1");
    let rejects = fs::read_to_string(&bad).expect("rejects");
    assert_eq!(rejects.lines().count(), 11);
    assert!(rejects.ends_with("not json\n"), "{rejects}");
    // Mended, the file of rejects is an input.
    let _ = cluster.ctl(&["put", "text", "0"]).quietly();
    fs::write(&bad, rejects.replace("not json\n", "")).expect("a file");
    let same = cluster
        .ctl(&["load", "--format", "jsonl", &bad, "--rejects", &bad])
        .exits(2);
    assert!(
        same.stderr.contains("the file that is read"),
        "{}",
        same.stderr
    );
    let _ = cluster.ctl(&["load", "--format", "jsonl", &bad]).quietly();
    let sum: u32 = (0..100).filter(|n| n % 10 == 3).sum();
    assert_eq!(
        cluster.ctl(&["get", "text"]).quietly().text(),
        sum.to_string()
    );
}

#[test]
fn a_load_in_one_step_is_all_or_nothing() {
    let cluster = Cluster::start(1);
    let atomic = |input: &[u8]| cluster.ctl_with(&["load", "--atomic"], input);
    let _ = atomic(b"a\t1\nb\t2\n").quietly();
    let revisions = cluster.ctl(&["--json", "scan"]).quietly();
    let lines: Vec<serde_json::Value> = revisions
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["revision"], lines[1]["revision"]);
    let refused = atomic(b"c\t1\nd\n").exits(6);
    assert!(
        refused.stderr.contains("nothing was written"),
        "{}",
        refused.stderr
    );
    let many: Vec<u8> = (0..10_001)
        .flat_map(|n| format!("m{n}\t\n").into_bytes())
        .collect();
    let refused = atomic(&many).exits(6);
    assert!(
        refused.stderr.contains("10,000 records"),
        "{}",
        refused.stderr
    );
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "2\n");
    let _ = cluster.ctl_with(&["load"], &many).quietly();
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "10003\n");
    let odd = cluster.ctl_with(
        &["load", "--if-absent", "--prefix", "x/", "--echo"],
        b"a\t1\na\t2\n",
    );
    assert_eq!(odd.quietly().text(), "a\t1\n");
    assert_eq!(cluster.ctl(&["get", "x/a"]).quietly().text(), "1");
}

#[test]
fn what_was_read_is_written_when_the_input_pauses() {
    let cluster = Cluster::start(1);
    let path = cluster.path("echo");
    let mut command = cluster.ctl_command(&["load", "--echo"]);
    command.stdin(Stdio::piped());
    command.stdout(File::create(&path).expect("a file"));
    let mut child = command.spawn().expect("raftctl starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    for n in 1..=3 {
        writeln!(pipe, "k{n}\t{n}").expect("it reads");
        wait::until_true("the record is there", PATIENCE, || {
            let echoed = fs::read_to_string(&path).expect("the file");
            echoed.lines().count() == n && cluster.ctl(&["get", &format!("k{n}")]).code == Some(0)
        });
    }
    drop(pipe);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn files_are_put_under_their_paths() {
    let cluster = Cluster::start(1);
    let folder = cluster.path("site");
    fs::create_dir_all(folder.join("a b")).expect("a folder");
    for (name, value) in [
        ("index.html", &b"<p>\n"[..]),
        ("a b/\n", b"\0\xff"),
        ("empty", b""),
    ] {
        fs::write(folder.join(name), value).expect("a file");
    }
    let script = "find . -type f -print0 | \"$0\" put --stdin -0 --from-files --prefix site/";
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .arg(proc::bin_dir().join("raftctl"));
    bash.env("RAFTCTL_ENDPOINTS", cluster.endpoints());
    bash.current_dir(&folder);
    let _ = proc::run(bash, b"").quietly();
    let dump = cluster.ctl(&["dump"]).quietly();
    let expected = b"site/./a b/\\n\t\\0\xff\nsite/./empty\t\nsite/./index.html\t<p>\\n\n";
    assert_eq!(dump.stdout, expected);
    let missing = cluster
        .ctl_with(&["put", "--stdin", "--from-files"], b"no such file\n")
        .exits(6);
    assert!(
        missing.stderr.contains("at line 1: no such file"),
        "{}",
        missing.stderr
    );
    // Whoever reads that may wait for ever for somebody who writes.
    let fifo = folder.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a fifo");
    let path = format!("{}\n", fifo.display());
    let refused = cluster
        .ctl_with(&["put", "--stdin", "--from-files"], path.as_bytes())
        .exits(6);
    assert!(
        refused.stderr.contains("fifo: it is no regular file"),
        "{}",
        refused.stderr
    );
    let keys = cluster.ctl(&["scan", "--keys", "-0"]).quietly().stdout;
    let _ = cluster.ctl_with(&["del", "--stdin", "-0"], &keys).quietly();
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "0\n");
    let misplaced = cluster.ctl(&["put", "k", "v", "--echo"]).exits(2);
    assert!(misplaced.stderr.contains("--stdin"), "{}", misplaced.stderr);
}
