//! Bulk work and who waits for it: progress, signals, pipes that close, what is wrong with a line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, PATIENCE};
use raftd_tests::wait;
use rustix::process::Signal;

fn start(cluster: &Cluster, args: &[&str]) -> Child {
    let mut command = cluster.ctl_command(&["load"]);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("raftctl starts")
}

#[test]
fn whoever_asks_is_told_how_far_it_is() {
    let cluster = Cluster::start(1);
    let mut child = start(&cluster, &["--progress", "json", "--echo"]);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"a\t1\nb\t2\n").expect("it reads");
    let mut echo = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut next = || said.next().expect("a line").expect("text");
    assert_eq!(echo.next().expect("a line").expect("text"), "a\t1");
    assert_eq!(echo.next().expect("a line").expect("text"), "b\t2");
    proc::signal(child.id(), Signal::USR1);
    let mut line = next();
    // A busy machine may be past the first second.
    while line.starts_with('{') {
        line = next();
    }
    assert!(
        line.starts_with("raftctl: load: 2 records, 0.0 MB in"),
        "{line}"
    );
    // From the first second on, by itself.
    let progress: serde_json::Value = serde_json::from_str(&next()).expect("JSON");
    assert_eq!(progress["progress"]["records"], 2);
    assert_eq!(progress["progress"]["bytes"], 8);
    drop(input);
    assert!(child.wait().expect("it ends").success());
    let last = said.last().expect("a line").expect("text");
    let done: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(done["done"]["written"], 2);
}

#[test]
fn the_second_signal_ends_it_whatever_is_on_its_way() {
    let mut cluster = Cluster::start(1);
    let mut child = start(&cluster, &["-t", "300s", "--echo"]);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"a\t1\n").expect("it reads");
    let mut echo = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(echo.next().expect("a line").expect("text"), "a\t1");
    cluster.kill_all();
    input.write_all(b"a\t2\n").expect("it reads");
    proc::wait_handles(child.id(), Signal::INT);
    proc::signal(child.id(), Signal::INT);
    wait::until_true("the second one ends it", PATIENCE, || {
        if child.try_wait().expect("it was started").is_none() {
            proc::signal(child.id(), Signal::INT);
            return false;
        }
        true
    });
    let status = child.wait().expect("it ended");
    assert_eq!(status.code(), None, "by the signal");
}

#[test]
fn a_reader_of_the_echo_that_leaves_ends_it_silently() {
    let cluster = Cluster::start(1);
    let mut child = start(&cluster, &["--echo"]);
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"a\t1\n").expect("it reads");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(141));
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(said, "");
}

#[test]
fn nobody_there_is_told_at_once() {
    let [port] = proc::free_ports(1)[..] else {
        panic!("one port was asked for");
    };
    let at = format!("127.0.0.1:{port}");
    for args in [
        &["load"][..],
        &["load", "--checkpoint", "/dev/null/x"],
        &["put", "--stdin"],
    ] {
        // Who waited for the deadline would never end.
        let patient = [&["-t", "300s"], args].concat();
        let done = proc::raftctl(&at, &patient, b"a\t1\n");
        let code = if args.len() > 2 { 2 } else { 3 };
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
    }
}

#[test]
fn what_is_wrong_with_a_record_is_told_with_its_line() {
    let cluster = Cluster::start(1);
    let long = "x".repeat(4097);
    let mib = "y".repeat(1024 * 1024 + 1);
    for (format, input, code, words) in [
        (
            "tsv",
            "a\t1\n\nb\t2\n".to_owned(),
            6,
            "at line 2: a line is a key",
        ),
        (
            "tsv",
            "a\t1\nb\t2\t3\n".to_owned(),
            6,
            "at line 2: a line is a key, a TAB and a value, and",
        ),
        (
            "tsv",
            "a\t\\q".to_owned(),
            6,
            "at line 1: the escape \\q is not known",
        ),
        (
            "tsv",
            "a\t1\n\t2\n".to_owned(),
            6,
            "at line 2: a key has at least one byte",
        ),
        (
            "tsv",
            format!("{long}\t2\n"),
            6,
            "key of 4097 bytes is over the limit",
        ),
        ("tsv", format!("a\t{mib}\n"), 6, "a: "),
        (
            "jsonl",
            "{\"key\":\"a\"}\n".to_owned(),
            6,
            "at line 1: a put needs a value",
        ),
        (
            "nul",
            "a\0b\0c\0".to_owned(),
            6,
            "at record 2: a key has no value",
        ),
        ("frame", String::new(), 9, "it is cut off"),
        ("frame", "not a frame".to_owned(), 9, "the input is damaged"),
    ] {
        let done = cluster.ctl_with(&["load", "--format", format], input.as_bytes());
        let shown = &input[..input.len().min(20)];
        assert_eq!(done.code, Some(code), "{shown}: {done:?}");
        assert!(done.stderr.contains(words), "{shown}: {}", done.stderr);
        assert!(done.stderr.len() < 1000, "{shown}: {}", done.stderr);
    }
    let usage = cluster.ctl(&["load", "--on-error", "stop", "--rejects", "x"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    for format in ["csv", "table", "env"] {
        assert_eq!(cluster.ctl(&["load", "--format", format]).code, Some(2));
    }
    let nowhere = cluster.ctl(&["load", "/no/such/file"]).exits(2);
    assert!(
        nowhere.stderr.contains("/no/such/file"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn many_keys_are_got_in_the_order_of_the_input() {
    let cluster = Cluster::start(3);
    let pairs: Vec<String> = (0..1000).map(|n| format!("k{n:03}\tv\\n{n}\n")).collect();
    let _ = cluster
        .ctl_with(&["load"], pairs.concat().as_bytes())
        .quietly();
    let keys: String = (0..1000).rev().map(|n| format!("k{n:03}\n")).collect();
    let got = cluster
        .ctl_with(&["get", "--stdin"], keys.as_bytes())
        .quietly();
    let expected: String = pairs.iter().rev().map(String::as_str).collect();
    assert!(got.text() == expected);
    // What one prints the other reads, in each format that has keys.
    for format in ["jsonl", "nul", "frame"] {
        let args = ["--format", format];
        let keys_only: &[&str] = if format == "frame" { &[] } else { &["--keys"] };
        let scanned = cluster
            .ctl(&[&["scan"][..], keys_only, &args].concat())
            .quietly();
        let got = cluster.ctl_with(&[&["get", "--stdin"][..], &args].concat(), &scanned.stdout);
        let all = cluster.ctl(&[&["scan"][..], &args].concat()).quietly();
        assert!(got.quietly().stdout == all.stdout, "{format}");
    }
    let missing = cluster
        .ctl_with(&["get", "--stdin"], b"k001\nno\nk000")
        .exits(1);
    assert_eq!(missing.stdout, b"k001\tv\\n1\nk000\tv\\n0\n");
    assert_eq!(missing.stderr, "raftctl: not found: no\n");
    let many: String = (0..12).map(|n| format!("x{n}\n")).collect();
    let missing = cluster
        .ctl_with(&["get", "--stdin"], many.as_bytes())
        .exits(1);
    assert!(
        missing.stderr.ends_with("x9 and 2 more\n"),
        "{}",
        missing.stderr
    );
    let filled = ["get", "--stdin", "--default", "d"];
    let filled = cluster.ctl_with(&filled, b"no").quietly();
    assert_eq!(filled.text(), "no\td\n");
    let wrong = cluster
        .ctl_with(&["get", "--stdin"], b"k001\na\tb\nk002\n")
        .exits(6);
    assert_eq!(wrong.stdout, b"k001\tv\\n1\n", "what came before is told");
    assert!(wrong.stderr.contains("at line 2"), "{}", wrong.stderr);
}

#[test]
fn a_key_is_got_when_the_input_pauses() {
    let cluster = Cluster::start(1);
    let _ = cluster.ctl_with(&["load"], b"a\t1\nb\t2\n").quietly();
    let mut command = cluster.ctl_command(&["get", "--stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("raftctl starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for (key, line) in [("a", "a\t1"), ("b", "b\t2"), ("a", "a\t1")] {
        writeln!(input, "{key}").expect("it reads");
        assert_eq!(output.next().expect("a line").expect("text"), line);
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}
