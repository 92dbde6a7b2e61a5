//! The command line as a script sees it: bytes, lines, exit codes.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::client::NodeRole;
use wire::command::Outcome;
use wire::error::Error as WireError;

use super::client::closed_port;
use super::fake::{Act, Fake, Greeting};
use super::script::{Store, always, status};

/// What one run left behind.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    /// Output and exit code; nothing was said on standard error.
    #[track_caller]
    fn silently(self, code: i32, stdout: impl AsRef<[u8]>) {
        assert_eq!(self.stderr, "");
        let stdout = stdout.as_ref();
        assert_eq!(
            self.stdout,
            stdout,
            "{}",
            String::from_utf8_lossy(&self.stdout)
        );
        assert_eq!(self.code, Some(code));
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

fn command(endpoints: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftctl"));
    command
        .env_remove("RAFTCTL_ENDPOINTS")
        .args(["-e", endpoints])
        .args(args);
    command
}

fn run_with(endpoints: &str, args: &[&str], stdin: &[u8]) -> Done {
    let mut child = command(endpoints, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(endpoints: &str, args: &[&str]) -> Done {
    run_with(endpoints, args, b"")
}

fn store() -> (Fake, String) {
    let server = Store::default().serve();
    let addr = server.addr.clone();
    (server, addr)
}

#[test]
fn a_value_goes_in_and_out_byte_for_byte() {
    let (_server, at) = store();
    let value: Vec<u8> = (0..100_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    run_with(&at, &["put", "k", "-"], &value).silently(0, "");
    run(&at, &["get", "k"]).silently(0, &value);
    run_with(&at, &["put", "k"], b"piped\n").silently(0, "");
    run(&at, &["get", "k"]).silently(0, "piped\n");
    run(&at, &["put", "k", ""]).silently(0, "");
    run(&at, &["get", "k"]).silently(0, "");
    run(&at, &["put", "a key\nwith\tall", "v"]).silently(0, "");
    run(&at, &["get", "a key\nwith\tall"]).silently(0, "v");
}

#[test]
fn a_missing_key_is_silent_and_says_no() {
    let (_server, at) = store();
    run(&at, &["get", "k"]).silently(1, "");
    run(&at, &["--json", "get", "k"]).silently(1, "");
    run(&at, &["get", "k", "--missing-ok"]).silently(0, "");
    run(&at, &["get", "k", "--default", "d"]).silently(0, "d");
    run(&at, &["get", "k", "--default", "-1"]).silently(0, "-1");
    let absent = r#"{"key":"k","value":"d","revision":0,"create_revision":0,"version":0}"#;
    run(&at, &["get", "k", "--default", "d", "--json"]).silently(0, format!("{absent}\n"));
}

#[test]
fn several_keys_are_lines_and_missing_ones_are_named() {
    let (_server, at) = store();
    run(&at, &["put", "a", "1\t2"]).silently(0, "");
    run(&at, &["put", "b", "x"]).silently(0, "");
    run(&at, &["get", "b", "a"]).silently(0, "b\tx\na\t1\\t2\n");
    run(&at, &["get", "a", "no", "b", "--missing-ok"]).silently(0, "a\t1\\t2\nb\tx\n");
    let done = run(&at, &["get", "a", "no", "b", "nope"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout, b"a\t1\\t2\nb\tx\n");
    assert_eq!(done.stderr, "raftctl: not found: no, nope\n");
}

#[test]
fn json_is_one_object_per_line() {
    let (_server, at) = store();
    run(&at, &["--json", "put", "k", "v"]).silently(0, "{\"ok\":true,\"revision\":1}\n");
    let entry = r#"{"key":"k","value":"v","revision":1,"create_revision":1,"version":1}"#;
    run(&at, &["get", "k", "--json"]).silently(0, format!("{entry}\n"));
    run(&at, &["scan", "--json"]).silently(0, format!("{entry}\n"));
    let key = r#"{"key":"k","revision":1,"create_revision":1,"version":1}"#;
    run(&at, &["scan", "--json", "--keys"]).silently(0, format!("{key}\n"));
    run(&at, &["count", "--json"]).silently(0, "{\"count\":1}\n");
    run(&at, &["incr", "n", "5", "--json"]).silently(0, "{\"revision\":2,\"value\":5}\n");
    run(&at, &["cas", "k", "--expect", "x", "y", "--json"])
        .silently(1, "{\"ok\":false,\"revision\":1}\n");
    run(&at, &["cas", "z", "--expect", "x", "y", "--json"])
        .silently(1, "{\"ok\":false,\"revision\":null}\n");
    run(&at, &["cas", "k", "--expect", "v", "y", "--json"])
        .silently(0, "{\"ok\":true,\"revision\":5}\n");
    run(&at, &["del", "k", "n", "no", "--json"]).silently(0, "{\"deleted\":2,\"revision\":8}\n");
    run(&at, &["put", "bin", "/w==", "--encode", "base64"]).silently(0, "");
    assert_eq!(
        run(&at, &["get", "bin", "--json"]).json()["value_b64"],
        "/w=="
    );
    let version = run(&at, &["version", "--json"]).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn encodings_act_on_arguments_and_on_output() {
    let (_server, at) = store();
    let hex = ["--encode", "hex", "--key-encode", "hex"];
    run(&at, &[&["put", "6B00", "00fF"], &hex[..]].concat()).silently(0, "");
    run(&at, &[&["get", "6b00"], &hex[..]].concat()).silently(0, "00ff\n");
    run(&at, &[&["scan"], &hex[..]].concat()).silently(0, "6b00\t00ff\n");
    run(&at, &["scan"]).silently(0, b"k\\0\t\\0\xff\n");
    run(&at, &["get", "awA", "--key-encode", "base64"]).silently(0, b"\0\xff");
    run(&at, &["scan", "--json", "--encode", "hex", "--key-encode", "base64"]).silently(
        0,
        "{\"key_b64\":\"awA=\",\"value_hex\":\"00ff\",\"revision\":1,\"create_revision\":1,\"version\":1}\n",
    );
    run_with(&at, &["put", "k", "--encode", "base64"], b"aGk=\n").silently(0, "");
    run(&at, &["get", "k"]).silently(0, "hi");
    run(
        &at,
        &["cas", "k", "--encode", "hex", "--expect", "6869", "6a"],
    )
    .silently(0, "");
    let done = run(&at, &["put", "k", "0g", "--encode", "hex"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn cas_and_incr_answer_by_exit_code_and_number() {
    let (_server, at) = store();
    run(&at, &["cas", "k", "--expect-absent", "1"]).silently(0, "");
    run(&at, &["cas", "k", "--expect-absent", "1"]).silently(1, "");
    run(&at, &["cas", "k", "--expect-revision", "1", "-5"]).silently(0, "");
    run(&at, &["cas", "k", "--expect", "-5", "7"]).silently(0, "");
    run_with(&at, &["cas", "k", "--expect", "7", "-"], b"8").silently(0, "");
    run(&at, &["incr", "k"]).silently(0, "9\n");
    run(&at, &["incr", "k", "-10"]).silently(0, "-1\n");
    run(&at, &["incr", "new", "3"]).silently(0, "3\n");
    run(&at, &["put", "text", "abc"]).silently(0, "");
    let refused = run(&at, &["incr", "text"]);
    assert_eq!(refused.code, Some(6));
    assert!(
        refused.stderr.contains("incr text was refused"),
        "{refused:?}"
    );
    run(&at, &["put", "max", "9223372036854775807"]).silently(0, "");
    assert_eq!(run(&at, &["incr", "max"]).code, Some(6));
    assert_eq!(run(&at, &["cas", "k", "new"]).code, Some(2));
    let twice = ["cas", "k", "--expect", "-", "-"];
    assert_eq!(run(&at, &twice).code, Some(2));
}

#[test]
fn del_is_done_also_where_nothing_was() {
    let (server, at) = store();
    run(&at, &["put", "a", "1"]).silently(0, "");
    run(&at, &["del", "a"]).silently(0, "");
    run(&at, &["del", "a"]).silently(0, "");
    run(&at, &["del", "a", "--must-exist"]).silently(1, "");
    let many: Vec<_> = (0..200).map(|n| format!("k{n}")).collect();
    let mut args = vec!["del"];
    args.extend(many.iter().map(String::as_str));
    let before = server.asked().len();
    run(&at, &args).silently(0, "");
    let asked = server.asked();
    let session = asked[before].write().session;
    for (number, asked) in asked[before..].iter().enumerate() {
        assert_eq!(asked.write().session, session);
        assert_eq!(asked.write().seq, number as u64 + 1);
    }
    let id = format!("{}-1", "0".repeat(48));
    assert_eq!(
        run(&at, &["del", "a", "b", "--request-id", &id]).code,
        Some(2)
    );
}

#[test]
fn a_scan_goes_on_over_pages_and_stops_at_the_limit() {
    let store = Store {
        page_items: 3,
        ..Store::default()
    };
    let server = store.serve();
    let at = &server.addr;
    for n in 0..10 {
        run(at, &["put", &format!("k{n}"), &n.to_string()]).silently(0, "");
    }
    run(at, &["put", "other", "x"]).silently(0, "");
    let lines =
        |range: std::ops::Range<u32>| -> String { range.map(|n| format!("k{n}\t{n}\n")).collect() };
    run(at, &["scan", "k"]).silently(0, lines(0..10));
    run(at, &["scan", "k", "--limit", "4"]).silently(0, lines(0..4));
    run(at, &["scan", "--limit", "0"]).silently(0, "");
    run(at, &["scan", "ot", "--keys"]).silently(0, "other\n");
    run(at, &["scan", "none"]).silently(0, "");
    run(at, &["count"]).silently(0, "11\n");
    run(at, &["count", "k"]).silently(0, "10\n");
}

#[test]
fn nobody_there_is_told_at_once_with_causes() {
    let (one, two) = (closed_port(), closed_port());
    let begun = Instant::now();
    let done = run(&format!("{one},{two}"), &["put", "k", "v"]);
    let elapsed = begun.elapsed();
    assert_eq!(done.code, Some(3));
    assert!(elapsed < Duration::from_millis(100), "{elapsed:?}");
    for endpoint in [one, two] {
        let cause = format!("{endpoint}: connection refused");
        assert!(done.stderr.contains(&cause), "{}", done.stderr);
    }
    assert!(done.stderr.lines().count() <= 4);
    assert_eq!(done.stdout, b"");
}

#[test]
fn a_hello_without_answer_is_nobody() {
    let silent = Fake::start(1, |_| Act::Nothing);
    silent.greet(|greeting, _| *greeting = Greeting::Silence);
    let done = run(&silent.addr, &["-t", "300ms", "get", "k"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let refusing = Fake::start(1, |_| Act::Nothing);
    refusing.greet(|greeting, _| *greeting = Greeting::Refuse(WireError::ShuttingDown));
    assert_eq!(run(&refusing.addr, &["get", "k"]).code, Some(3));
}

#[test]
fn what_was_not_applied_is_exit_4() {
    let lost = Fake::start(1, always(WireError::NoLeader));
    let done = run(&lost.addr, &["-t", "300ms", "--json", "put", "k", "v"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    let (object, text) = done.stderr.split_once('\n').unwrap();
    let object: Value = serde_json::from_str(object).unwrap();
    let error = &object["error"];
    assert_eq!(error["code"], 4);
    assert_eq!(error["name"], "no-leader");
    assert_eq!(error["class"], "not-applied");
    assert_eq!(error["retryable"], true);
    assert_eq!(error["request_id"], Value::Null);
    assert!(text.starts_with("raftctl: put k failed: "), "{text}");
    let silent = Fake::start(1, |_| Act::Nothing);
    assert_eq!(
        run(&silent.addr, &["-t", "300ms", "get", "k"]).code,
        Some(4)
    );
}

#[test]
fn an_unknown_outcome_names_a_request_that_tells_it() {
    let mut times = 0;
    let server = Fake::start(1, move |asked| {
        times += 1;
        match times {
            1 => Act::Nothing,
            _ => asked.done(41, Outcome::Incremented(12)),
        }
    });
    let done = run(&server.addr, &["-t", "300ms", "incr", "k"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert_eq!(done.stdout, b"");
    assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
    let last = done.stderr.lines().last().unwrap();
    let id = last.strip_prefix("  request: ").unwrap();
    assert_eq!(id.len(), 48 + 2);
    run(&server.addr, &["incr", "k", "--request-id", id]).silently(0, "12\n");
    let asked = server.asked();
    assert_eq!(asked[0].write().body, asked[1].write().body);

    let expired = Fake::start(1, always(WireError::SessionExpired));
    let done = run(&expired.addr, &["incr", "k", "--request-id", id, "--json"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(
        done.stderr.ends_with(&format!("  request: {id}\n")),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains(&format!("\"request_id\":\"{id}\"")),
        "{}",
        done.stderr
    );
    let reused = Fake::start(1, always(WireError::IdReused));
    assert_eq!(
        run(&reused.addr, &["incr", "k", "--request-id", id]).code,
        Some(6)
    );
    assert_eq!(
        run(&reused.addr, &["incr", "k", "--request-id", "x"]).code,
        Some(2)
    );
}

#[test]
fn a_refusal_is_exit_6() {
    let full = Fake::start(1, always(WireError::DiskFull));
    let done = run(&full.addr, &["put", "k", "v"]);
    assert_eq!(done.code, Some(6));
    assert!(
        done.stderr.starts_with("raftctl: put k was refused: "),
        "{}",
        done.stderr
    );
    let (_server, at) = store();
    let large = vec![b'x'; 1024 * 1024 + 1];
    assert_eq!(run_with(&at, &["put", "k", "-"], &large).code, Some(6));
    let key = "k".repeat(5000);
    assert_eq!(run(&at, &["get", &key]).code, Some(6));
    run_with(&at, &["put", "k", "-"], &large[1..]).silently(0, "");
}

#[test]
fn a_wrong_line_is_exit_2_with_the_right_one() {
    let (server, at) = store();
    let done = run(&at, &["put", "k", "-v"]);
    assert_eq!(done.code, Some(2));
    let right = format!("  try: raftctl -e {at} put -- k -v\n");
    assert!(done.stderr.ends_with(&right), "{}", done.stderr);
    run(&at, &["put", "--", "k", "-v"]).silently(0, "");
    run(&at, &["get", "k"]).silently(0, "-v");
    run(&at, &["put", "k", "-5"]).silently(0, "");
    run(&at, &["get", "k"]).silently(0, "-5");
    let asked = server.asked().len();
    let typo = run(&at, &["gett", "k"]);
    assert!(
        typo.stderr.contains("did you mean 'get'?"),
        "{}",
        typo.stderr
    );
    for wrong in [
        &["gett", "k"][..],
        &["get"],
        &["get", ""],
        &["get", "k", "--no-such-flag"],
        &["-t", "5", "get", "k"],
        &["-t", "0s", "get", "k"],
        &["-e", "nonsense", "get", "k"],
        &["incr", "k", "many"],
        &["-e", "127.0.0.1:1", "is-leader"],
    ] {
        let done = run(&at, wrong);
        assert_eq!(done.code, Some(2), "{wrong:?}: {done:?}");
        assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
        assert_eq!(done.stdout, b"");
    }
    let done = run(&at, &["--json", "gett", "k"]);
    let object: Value = serde_json::from_str(done.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(object["error"]["code"], 2);
    assert_eq!(server.asked().len(), asked, "nothing was sent");
}

#[test]
fn no_arguments_are_answered_by_help_and_exit_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_raftctl"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(output.stderr.starts_with(b"Examples:"));
    let (_server, at) = store();
    for verb in [&["-h"][..], &["get", "-h"], &["help", "get"]] {
        let done = run(&at, verb);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert!(done.stdout.starts_with(b"Examples:"), "{verb:?}");
    }
    let version = concat!("raftctl ", env!("CARGO_PKG_VERSION"), "\n");
    run(&at, &["--version"]).silently(0, version);
    run(&at, &["version"]).silently(0, version);
}

#[test]
fn a_put_without_value_and_input_is_a_wrong_line() {
    let (_server, at) = store();
    let done = command(&at, &["put", "k"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    run_with(&at, &["put", "k"], b"").silently(0, "");
    run(&at, &["get", "k"]).silently(0, "");
}

#[test]
fn a_reader_that_leaves_is_exit_141_in_silence() {
    let (_server, at) = store();
    run_with(&at, &["put", "k", "-"], &vec![b'x'; 1024 * 1024]).silently(0, "");
    for args in [&["get", "k"][..], &["scan"], &["scan", "--json"], &["-h"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&at, args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert_eq!(output.stderr, b"");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_told() {
    let (_server, at) = store();
    run(&at, &["put", "k", "v"]).silently(0, "");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command(&at, &["get", "k"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("raftctl: writing to standard output failed"),
        "{stderr}"
    );
}

#[test]
fn a_signal_during_a_write_tells_the_request_and_ends_by_the_signal() {
    use std::os::unix::process::ExitStatusExt;
    let silent = Fake::start(1, |_| Act::Nothing);
    for (args, told) in [(&["put", "k", "v"][..], true), (&["get", "k"], false)] {
        let before = silent.asked().len();
        let mut child = command(&silent.addr, args)
            .args(["-t", "60s"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = Instant::now();
        while silent.asked().len() == before {
            assert!(patience.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(2));
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(last.starts_with("  request: "), told, "{stderr}");
    }
}

#[test]
fn endpoints_come_from_the_environment_too() {
    let (_server, at) = store();
    let output = Command::new(env!("CARGO_BIN_EXE_raftctl"))
        .env("RAFTCTL_ENDPOINTS", format!("{},{at}", closed_port()))
        .args(["count"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n");
    let output = Command::new(env!("CARGO_BIN_EXE_raftctl"))
        .env("RAFTCTL_ENDPOINTS", closed_port())
        .args(["count", "-e", &at])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n");
}

#[test]
fn status_lists_every_member_dead_ones_too() {
    let gone = closed_port();
    let addrs: Arc<Mutex<Vec<String>>> = Arc::default();
    let serve = |id: u64, role: NodeRole| {
        let addrs = Arc::clone(&addrs);
        Fake::start(id, move |asked| {
            let addrs = addrs.lock().unwrap().clone();
            let addrs = [addrs[0].as_str(), addrs[1].as_str(), addrs[2].as_str()];
            let mut told = status(id, role, addrs, [true, true, false]);
            if role == NodeRole::Follower {
                told.last.0 = 97;
            }
            asked.reply(&wire::client::Reply::Status(told))
        })
    };
    let leader = serve(1, NodeRole::Leader);
    let follower = serve(2, NodeRole::Follower);
    *addrs.lock().unwrap() = vec![leader.addr.clone(), follower.addr.clone(), gone.clone()];
    for asked in [&leader, &follower] {
        let done = run(&asked.addr, &["status", "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let cluster = done.json();
        let expected = json!({
            "cluster_id": format!("{:032x}", 0xabc), "epoch": "0000000000000def",
            "leader": 1, "term": 5, "quorum_ok": true, "voters": 3, "failures_tolerated": 0,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&cluster[name], value, "{name}");
        }
        let members = cluster["members"].as_array().unwrap();
        let expected = json!({
            "id": 1, "name": "n1", "peer_addr": "127.0.0.1:7001", "client_addr": leader.addr,
            "reachable": true, "role": "leader", "kind": "voter", "term": 5, "last_index": 100,
            "durable_index": 100, "commit_index": 99, "applied_index": 99, "lag_entries": 0,
            "snapshot_index": 0, "wal_bytes": 1 << 20, "keys": 12, "digest": null,
            "uptime_ms": 61_000, "version": "0.1.0", "state": "serving", "error": null,
        });
        assert_eq!(members[0], expected);
        assert_eq!(members[1]["lag_entries"], 3);
        assert_eq!(members[2]["reachable"], false);
        assert_eq!(members[2]["role"], Value::Null);
        assert_eq!(members[2]["lag_entries"], 8);
        assert_eq!(members[2]["error"], "connection refused");
    }
    let peers = run(&follower.addr, &["peers"]);
    let expected = format!(
        "1\tn1\tvoter\tleader\t127.0.0.1:7001\t{}\t0\n\
         2\tn2\tvoter\tfollower\t127.0.0.1:7002\t{}\t3\n\
         3\tn3\tvoter\t-\t127.0.0.1:7003\t{gone}\t8\n",
        leader.addr, follower.addr
    );
    peers.silently(0, expected);
    let objects = run(&leader.addr, &["peers", "--json"]);
    assert_eq!(objects.stdout.split(|b| *b == b'\n').count(), 4);
    let lines = run(&leader.addr, &["status"]);
    assert!(
        lines
            .stdout
            .starts_with(b"1\tn1\tvoter\tleader\ttrue\t5\t100\t99\t99\t0\t")
    );
    run(&leader.addr, &["is-leader"]).silently(0, "");
    run(&follower.addr, &["is-leader"]).silently(1, "");
    run(&leader.addr, &["is-healthy", "--node"]).silently(0, "");
    assert_eq!(run(&gone, &["is-leader"]).code, Some(3));
    assert_eq!(run(&gone, &["is-healthy"]).code, Some(3));
    let both = format!("{},{}", leader.addr, follower.addr);
    assert_eq!(run(&both, &["is-leader"]).code, Some(2));
    run(&both, &["wait-ready", "--leader"]).silently(0, "");
    // The follower has applied what the leader has committed.
    run(&follower.addr, &["wait-ready", "--caught-up"]).silently(0, "");
    let short = ["-t", "100ms", "wait-ready"];
    assert_eq!(run(&gone, &short).code, Some(3));
}

#[test]
fn health_is_a_read_through_the_quorum() {
    let (_server, at) = store();
    run(&at, &["is-healthy"]).silently(0, "");
    let lost = Fake::start(1, always(WireError::NoLeader));
    run(&lost.addr, &["-t", "200ms", "is-healthy"]).silently(1, "");
}

#[test]
fn a_node_that_is_not_ready_is_no_after_a_while_without_progress() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Follower, ["", "", ""], [true; 3]);
        told.state = "replaying".into();
        asked.reply(&wire::client::Reply::Status(told))
    });
    let done = run(&node.addr, &["-t", "100ms", "wait-ready"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("it is replaying"), "{}", done.stderr);
    run(&node.addr, &["is-healthy", "--node"]).silently(1, "");
}
