//! What every verb says and returns when something does not work: one table for all of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wire::error::Error as WireError;

use super::client::closed_port;
use super::fake::{Act, Fake, Greeting};
use super::run::{Done, SOON, bare, command, run, run_with, store, within};
use super::script::always;

/// How a verb is asked to do something, and what it is.
struct Verb {
    args: &'static [&'static str],
    stdin: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Changes data by one write.
    Write,
    /// Changes data by many writes, of which `--request-id` is not the way to go on.
    Bulk,
    /// Reads data.
    Read,
    /// Asks or changes the cluster.
    Admin,
    /// Works without any node.
    Offline,
}

const fn verb(args: &'static [&'static str], stdin: &'static str, kind: Kind) -> Verb {
    Verb { args, stdin, kind }
}

/// With `--json`, what comes in is JSON as well.
const RECORD: &str = "{\"key\":\"k\",\"value\":\"v\"}\n";

const VERBS: &[Verb] = &[
    verb(&["put", "k", "v"], "", Kind::Write),
    verb(&["put", "k", "-"], "v", Kind::Write),
    verb(&["put", "k", "v", "--if-absent"], "", Kind::Write),
    verb(&["del", "k"], "", Kind::Write),
    verb(&["cas", "k", "--expect-absent", "v"], "", Kind::Write),
    verb(&["incr", "k"], "", Kind::Write),
    verb(&["append", "k", "v"], "", Kind::Write),
    verb(&["txn", "--then", "put k v"], "", Kind::Write),
    verb(&["put", "--stdin"], RECORD, Kind::Bulk),
    verb(&["del", "--stdin"], "{\"key\":\"k\"}\n", Kind::Bulk),
    verb(&["load"], RECORD, Kind::Bulk),
    verb(&["get", "k"], "", Kind::Read),
    verb(&["get", "k", "l"], "", Kind::Read),
    verb(&["scan"], "", Kind::Read),
    verb(&["count"], "", Kind::Read),
    verb(&["dump"], "", Kind::Read),
    verb(&["edit", "k"], "", Kind::Read),
    verb(&["status"], "", Kind::Admin),
    verb(&["peers"], "", Kind::Admin),
    verb(&["leaders"], "", Kind::Admin),
    verb(&["is-leader"], "", Kind::Admin),
    verb(&["is-safe-to-stop"], "", Kind::Admin),
    verb(&["is-healthy"], "", Kind::Admin),
    verb(&["transfer-leader"], "", Kind::Admin),
    verb(&["add-peer", "n4", "127.0.0.1:1"], "", Kind::Admin),
    verb(&["remove-peer", "n3", "--yes"], "", Kind::Admin),
    verb(&["promote-peer", "n3"], "", Kind::Admin),
    verb(&["demote-peer", "n3", "--yes"], "", Kind::Admin),
    verb(
        &["replace-peer", "n3", "n4", "127.0.0.1:1", "--yes"],
        "",
        Kind::Admin,
    ),
    verb(&["update-peer", "n3", "--name", "x"], "", Kind::Admin),
    verb(&["wait-ready"], "", Kind::Admin),
    verb(&["bench", "get", "--seconds", "1"], "", Kind::Admin),
    verb(&["snapshot"], "", Kind::Admin),
    verb(&["snapshot", "save", "-"], "", Kind::Admin),
    verb(
        &["recover", "apply", "--data-dir", "/nonexistent", "--yes"],
        "",
        Kind::Offline,
    ),
    verb(&["wal", "verify", "/nonexistent"], "", Kind::Offline),
    verb(&["context", "ls"], "", Kind::Offline),
    verb(&["config", "show"], "", Kind::Offline),
    verb(&["completion", "bash"], "", Kind::Offline),
    verb(&["help"], "", Kind::Offline),
    verb(&["version"], "", Kind::Offline),
];

impl Verb {
    fn name(&self) -> String {
        self.args.join(" ")
    }

    /// Runs it with these general options.
    fn run(&self, at: &str, options: &[&str]) -> Done {
        run_with(at, &[options, self.args].concat(), self.stdin.as_bytes())
    }
}

fn of(kinds: &[Kind]) -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(move |verb| kinds.contains(&verb.kind))
}

const WAITS: [&str; 3] = ["--json", "-t", SOON];

/// Looks at all verbs of these kinds at once: most of the time they wait for their deadlines.
fn each(kinds: &[Kind], look: impl Fn(&Verb) + Sync) {
    thread::scope(|scope| {
        for verb in of(kinds) {
            scope.spawn(|| look(verb));
        }
    });
}

/// An error as a person and a program get it: at most four lines, and with `--json` an object before
/// them that says the same.
#[track_caller]
fn is_error(verb: &Verb, done: &Done, code: i32) -> Value {
    let name = verb.name();
    assert_eq!(done.code, Some(code), "{name}: {done:?}");
    assert_eq!(done.stdout, b"", "{name}: data only on stdout");
    let (object, text) = done.stderr.split_once('\n').unwrap_or_default();
    let object: Value = serde_json::from_str(object).unwrap_or_else(|_| panic!("{name}: {done:?}"));
    let error = &object["error"];
    assert_eq!(error["code"], code, "{name}");
    assert!(error["name"].is_string(), "{name}: {error}");
    let (class, retryable) = match code {
        3 | 4 => ("not-applied", true),
        5 => ("unknown", true),
        // By disks that are full, for now.
        6 => ("not-applied", true),
        _ => ("final", false),
    };
    assert_eq!(error["class"], class, "{name}: {error}");
    assert_eq!(error["retryable"], retryable, "{name}: {error}");
    // A person is told the same.
    let mut lines = String::new();
    for (begin, field) in [
        ("raftctl: ", "message"),
        ("  where: ", "where"),
        ("  try: ", "try"),
        ("  request: ", "request_id"),
    ] {
        match error[field].as_str() {
            None => assert_eq!(
                (&error[field], field),
                (&Value::Null, "request_id"),
                "{name}"
            ),
            Some("") => assert!(["where", "try"].contains(&field), "{name}: {error}"),
            Some(told) => lines += &format!("{begin}{told}\n"),
        }
    }
    assert_eq!(text, lines, "{name}");
    error.clone()
}

#[test]
fn every_verb_is_in_the_table() {
    let done = run("127.0.0.1:1", &["__complete", "--", "raftctl", ""]);
    let text = String::from_utf8(done.stdout).unwrap();
    let known: BTreeSet<_> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .collect();
    let told: BTreeSet<_> = VERBS.iter().map(|verb| verb.args[0]).collect();
    assert_eq!(told, known);
}

#[test]
fn nobody_there_is_3_at_once() {
    let at = closed_port();
    for verb in of(&[Kind::Write, Kind::Bulk, Kind::Read, Kind::Admin]) {
        let waits = verb.args[0] == "wait-ready";
        let options: &[&str] = if waits {
            &["--json", "-t", "200ms"]
        } else {
            &["--json"]
        };
        let done = within(Duration::from_secs(2), || verb.run(&at, options));
        let error = is_error(verb, &done, 3);
        assert_eq!(error["retryable"], true, "{}", verb.name());
        assert!(
            error["where"].as_str().unwrap().contains(&at),
            "{}: {error}",
            verb.name()
        );
        assert_eq!(error["request_id"], Value::Null);
    }
}

#[test]
fn no_leader_is_4() {
    each(&[Kind::Write, Kind::Bulk, Kind::Read], |verb| {
        let lost = Fake::start(1, always(WireError::NoLeader));
        let error = is_error(verb, &verb.run(&lost.addr, &WAITS), 4);
        assert_eq!(error["class"], "not-applied", "{}", verb.name());
        assert_eq!(error["retryable"], true, "{}", verb.name());
        assert_eq!(error["request_id"], Value::Null, "{}", verb.name());
    });
}

#[test]
fn a_hello_without_answer_is_3_and_silence_after_it_4_or_5() {
    each(&[Kind::Write, Kind::Bulk, Kind::Read], |verb| {
        let silent = Fake::start(1, |_| Act::Nothing);
        let done = verb.run(&silent.addr, &WAITS);
        match verb.kind {
            Kind::Read => {
                let error = is_error(verb, &done, 4);
                assert_eq!(error["class"], "not-applied", "{}", verb.name());
            }
            Kind::Bulk => {
                let error = is_error(verb, &done, 5);
                assert_eq!(error["class"], "unknown", "{}", verb.name());
            }
            _ => {
                let error = is_error(verb, &done, 5);
                assert_eq!(error["class"], "unknown", "{}", verb.name());
                let id = error["request_id"].as_str().unwrap();
                assert!(
                    done.stderr.ends_with(&format!("\n  request: {id}\n")),
                    "{done:?}"
                );
            }
        }
        silent.greet(|greeting, _| *greeting = Greeting::Silence);
        is_error(verb, &verb.run(&silent.addr, &WAITS), 3);
    });
}

#[test]
fn a_refusal_is_6() {
    for verb in of(&[Kind::Write, Kind::Bulk]) {
        let full = Fake::start(1, always(WireError::DiskFull { hard: false }));
        let error = is_error(verb, &verb.run(&full.addr, &["--json"]), 6);
        assert_eq!(error["name"], "disk-full", "{}", verb.name());
    }
}

#[test]
fn a_wrong_line_is_2_and_nothing_is_sent() {
    let (server, at) = store();
    for verb in VERBS {
        let done = verb.run(&at, &["--json", "--nonsense"]);
        let error = is_error(verb, &done, 2);
        assert_eq!(error["name"], "usage", "{}", verb.name());
        assert!(
            !error["try"].as_str().unwrap().is_empty(),
            "{}: {error}",
            verb.name()
        );
        // A format that a verb cannot do is known before anything is sent.
        if !verb.args.contains(&"load") {
            let done = verb.run(&at, &["--format", "xml"]);
            assert_eq!(done.code, Some(2), "{}: {done:?}", verb.name());
        }
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

/// Runs it with this standard output.
fn into(at: &str, verb: &Verb, stdout: impl Into<Stdio>) -> Output {
    let mut child = command(at, verb.args)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(verb.stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_reader_that_left_is_141_in_silence_and_a_full_disk_125() {
    let (_server, at) = store();
    run(&at, &["put", "k", "5"]).silently(0, "");
    run(&at, &["put", "l", "v"]).silently(0, "");
    let printing = [
        "get",
        "scan",
        "count",
        "dump",
        "incr",
        "config",
        "completion",
        "help",
        "version",
    ];
    for verb in VERBS.iter().filter(|verb| printing.contains(&verb.args[0])) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = into(&at, verb, writer);
        assert_eq!(
            output.status.code(),
            Some(141),
            "{}: {output:?}",
            verb.name()
        );
        assert_eq!(output.stderr, b"", "{}", verb.name());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = into(&at, verb, full);
        assert_eq!(
            output.status.code(),
            Some(125),
            "{}: {output:?}",
            verb.name()
        );
        assert!(
            output
                .stderr
                .starts_with(b"raftctl: writing to standard output failed")
        );
    }
}

#[test]
fn a_signal_ends_every_verb_by_that_signal() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [Signal::INT, Signal::TERM] {
        for verb in of(&[Kind::Write, Kind::Read]) {
            let silent = Fake::start(1, |_| Act::Nothing);
            let mut child = command(&silent.addr, &[&["-t", "60s"], verb.args].concat())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let _ = child.stdin.take().unwrap().write_all(verb.stdin.as_bytes());
            let patience = Instant::now();
            while silent.asked().is_empty() {
                assert!(
                    patience.elapsed() < Duration::from_secs(20),
                    "{}",
                    verb.name()
                );
                thread::yield_now();
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.signal(),
                Some(signal.as_raw()),
                "{}",
                verb.name()
            );
            let said = String::from_utf8(output.stderr).unwrap();
            let told = said
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("  request: "));
            assert_eq!(told, verb.kind == Kind::Write, "{}: {said}", verb.name());
        }
    }
}

#[test]
fn an_object_of_what_a_signal_ended_tells_the_status_by_that_signal() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let silent = Fake::start(1, |_| Act::Nothing);
        let (server, at) = store();
        let record = "{\"key\":\"k\",\"value\":\"v\"}\n";
        for (fake, at, verb, input) in [
            (&silent, &silent.addr, &["put", "k", "v"][..], ""),
            (&server, &at, &["load"], record),
        ] {
            let mut child = command(at, &[&["-t", "60s", "--json"], verb].concat())
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            let patience = Instant::now();
            while fake.asked().is_empty() {
                assert!(patience.elapsed() < Duration::from_secs(20), "{verb:?}");
                thread::yield_now();
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
            let object: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
            assert_eq!(object["error"]["code"], status, "{verb:?}: {said}");
        }
    }
}

#[test]
fn a_signal_ends_a_bench_with_what_was_measured_and_its_keys_removed() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [Signal::INT, Signal::TERM] {
        let (server, at) = store();
        let args = ["bench", "put", "--seconds", "600", "--connections", "1"];
        let child = command(&at, &args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = Instant::now();
        while server.asked().is_empty() {
            assert!(patience.elapsed() < Duration::from_secs(20), "{signal:?}");
            thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(signal.as_raw()), "{output:?}");
        assert!(output.stdout.starts_with(b"ops\t"), "{output:?}");
        run(&at, &["count"]).silently(0, "0\n");
    }
}

#[test]
fn a_request_id_asks_from_another_process() {
    each(&[Kind::Write], |verb| {
        let mut store = super::script::Store::default();
        let mut asked_before = false;
        // The first answer is lost; what was applied is told to whoever asks again.
        let mut kept = None;
        let server = Fake::start(1, move |asked| {
            if asked_before {
                let (index, outcome) = kept.clone().unwrap();
                return asked.done(index, outcome);
            }
            asked_before = true;
            store.index += 1;
            let body = asked.write().body.clone();
            let write = wire::command::Write::decode_body(&body).unwrap();
            let outcome = store
                .map
                .apply(wire::types::Index(store.index), &write.command);
            kept = Some((store.index, outcome));
            Act::Nothing
        });
        let done = verb.run(&server.addr, &WAITS);
        let error = is_error(verb, &done, 5);
        let id = error["request_id"].as_str().unwrap();
        let again = [verb.args, &["--request-id", id]].concat();
        let again = run_with(&server.addr, &again, verb.stdin.as_bytes());
        assert_eq!(
            (again.code, again.stderr.as_str()),
            (Some(0), ""),
            "{}",
            verb.name()
        );
        let asked = server.asked();
        assert_eq!(
            asked[0].write().body,
            asked[1].write().body,
            "{}",
            verb.name()
        );
    });
}

#[test]
fn a_name_that_is_nearly_right_gets_the_right_one() {
    for (wrong, right) in [
        (&["pu", "k", "v"][..], "put"),
        (&["satus"], "status"),
        (&["get", "--missing-okay", "k"], "--missing-ok"),
        (&["scan", "--format", "jsnl"], "jsonl"),
        (&["help", "exit-code"], "exit-codes"),
        (&["config", "explain", "endpoint"], "endpoints"),
        (&["snapshot", "vrify", "x"], "verify"),
    ] {
        let output = bare().args(wrong).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let tip = said.lines().find(|line| line.starts_with("  try: "));
        assert!(
            tip.is_some_and(|tip| tip.contains(right)),
            "{wrong:?}: {said}"
        );
    }
}
