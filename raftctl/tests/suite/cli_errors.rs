//! What the command line says, and its exit code, when something does not work.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use wire::command::Outcome;
use wire::error::Error as WireError;

use super::client::closed_port;
use super::fake::{Act, Fake, Greeting};
use super::run::{SOON, bare, command, run, run_with, store, within};
use super::script::always;

#[test]
fn nobody_there_is_told_at_once_with_causes() {
    let (one, two) = (closed_port(), closed_port());
    let both = format!("{one},{two}");
    let done = within(Duration::from_millis(100), || {
        run(&both, &["put", "k", "v"])
    });
    assert_eq!(done.code, Some(3));
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
    let done = run(&silent.addr, &["-t", SOON, "get", "k"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let refusing = Fake::start(1, |_| Act::Nothing);
    refusing.greet(|greeting, _| *greeting = Greeting::Refuse(WireError::ShuttingDown));
    assert_eq!(run(&refusing.addr, &["get", "k"]).code, Some(3));
}

#[test]
fn what_was_not_applied_is_exit_4() {
    let lost = Fake::start(1, always(WireError::NoLeader));
    let done = run(&lost.addr, &["-t", SOON, "--json", "put", "k", "v"]);
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
    assert_eq!(run(&silent.addr, &["-t", SOON, "get", "k"]).code, Some(4));
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
    let done = run(&server.addr, &["-t", SOON, "incr", "k"]);
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

/// The id belongs to the delete of one key, and the line has several.
#[test]
fn an_unknown_outcome_of_one_of_several_keys_is_asked_for_by_itself() {
    let silent = Fake::start(1, |_| Act::Nothing);
    let done = run(&silent.addr, &["-t", "300ms", "del", "a", "b"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("del a (key 1 of 2)"), "{done:?}");
    let advice = "\n  try: run it for this key alone with --request-id";
    assert!(done.stderr.contains(advice), "{done:?}");
}

#[test]
fn a_bench_that_fails_tells_what_it_may_leave_behind() {
    let silent = Fake::start(1, |_| Act::Nothing);
    let bench = ["-t", "300ms", "bench", "put", "--seconds", "1"];
    let done = run(&silent.addr, &bench);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(!done.stderr.contains("no effect"), "{done:?}");
    let line = "keys may be left behind: raftctl del --yes --prefix __bench/";
    assert!(done.stderr.contains(line), "{done:?}");
}

#[test]
fn a_refusal_is_exit_6() {
    let full = Fake::start(1, always(WireError::DiskFull { hard: false }));
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
    let refused = run(&at, &["get", &key]);
    assert_eq!(refused.code, Some(6));
    assert!(
        refused
            .stderr
            .ends_with("4096 bytes: choose a shorter one\n"),
        "{refused:?}"
    );
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
        &["-e", "127.0.0.1:1, 127.0.0.1:2", "get", "k"],
        &["incr", "k", "many"],
        &["-e", "127.0.0.1:1", "is-leader"],
    ] {
        let done = run(&at, wrong);
        assert_eq!(done.code, Some(2), "{wrong:?}: {done:?}");
        assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
        assert_eq!(done.stdout, b"");
    }
    let done = run(&at, &["incr", "k", "1.5"]);
    assert!(
        done.stderr.contains("decimal number of 64 bits"),
        "{done:?}"
    );
    let done = run(&at, &["--json", "gett", "k"]);
    let object: Value = serde_json::from_str(done.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(object["error"]["code"], 2);
    assert_eq!(server.asked().len(), asked, "nothing was sent");
}

/// What goes before keys that are read, and what is in files, is nothing to a key on the line.
#[test]
fn what_is_for_many_keys_is_not_passed_over_with_one() {
    let (server, at) = store();
    for flag in [&["--prefix", "p/"][..], &["--from-files"]] {
        let done = run(&at, &[&["put", "k", "v"], flag].concat());
        assert_eq!(done.code, Some(2), "{done:?}");
        let told = format!("raftctl: {} belongs to bulk work", flag[0]);
        assert!(done.stderr.starts_with(&told), "{done:?}");
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn options_for_all_verbs_may_stand_before_a_verb_below_another() {
    let nobody = closed_port();
    let done = run(&nobody, &["snapshot", "--json", "-t", "1s", "ls"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    for alone in [&["--all"][..], &["--node", "n1"]] {
        let done = run(&nobody, &[&["snapshot"], alone, &["ls"]].concat());
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(alone[0]), "{done:?}");
    }
}

#[test]
fn no_arguments_are_answered_by_help_and_exit_2() {
    let (_server, at) = store();
    for endpoints in [None, Some(&at)] {
        let output = bare()
            .envs(endpoints.map(|at| ("RAFTCTL_ENDPOINTS", at)))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert!(output.stderr.starts_with(b"Examples:"), "{endpoints:?}");
    }
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
fn a_verb_without_what_it_needs_below_shows_its_own_help() {
    for verb in ["recover", "context", "wal", "config"] {
        let output = bare().arg(verb).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let said = String::from_utf8(output.stderr).unwrap();
        let usage = said.lines().find(|line| line.starts_with("Usage: "));
        let wanted = format!("Usage: raftctl {verb} ");
        assert!(
            usage.is_some_and(|line| line.starts_with(&wanted)),
            "{said}"
        );
        assert!(!said.contains("--endpoints"), "{said}");
    }
}

#[test]
fn a_line_without_a_verb_that_asks_for_json_gets_an_error_and_no_help() {
    for (line, remedy) in [
        (&["--json"][..], "raftctl --help"),
        (&["-o", "jsonl", "context"], "raftctl context --help"),
        (&["wal", "--json"], "raftctl wal --help"),
    ] {
        let output = bare().args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let (object, words) = said.split_once('\n').unwrap();
        let object: Value = serde_json::from_str(object).unwrap();
        assert_eq!(object["error"]["code"], 2, "{said}");
        assert_eq!(
            words,
            format!("raftctl: no verb is given\n  try: {remedy}\n")
        );
    }
}

#[test]
fn what_is_no_file_is_neither_a_backup_nor_damaged() {
    let (server, at) = store();
    let done = run(&at, &["snapshot", "save", ""]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    let folder = tempfile::tempdir().unwrap();
    for verb in ["verify", "inspect"] {
        let stdin = std::fs::File::open(folder.path()).unwrap();
        let mut command = command(&at, &["snapshot", verb, "-"]);
        let output = command.stdin(stdin).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
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
fn endpoints_come_from_the_environment_too() {
    let (_server, at) = store();
    let output = bare()
        .env("RAFTCTL_ENDPOINTS", format!("{},{at}", closed_port()))
        .args(["count"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n");
    let output = bare()
        .env("RAFTCTL_ENDPOINTS", closed_port())
        .args(["count", "-e", &at])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n");
}

#[test]
fn bulk_work_writes_no_file_over_what_it_reads() {
    let (server, at) = store();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, other) = (path("in"), path("other"));
    std::fs::write(&input, "k\tv\n").unwrap();
    std::os::unix::fs::symlink(&input, path("link")).unwrap();
    for flags in [
        ["--rejects", &input, "--on-error", "skip"],
        ["--rejects", &path("link"), "--on-error", "skip"],
        ["--checkpoint", &input, "--on-error", "stop"],
        ["--checkpoint", &other, "--rejects", &other],
    ] {
        let done = run(&at, &[&["load", &input][..], &flags].concat());
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(
            done.stderr.ends_with("  try: name another file\n"),
            "{done:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&input).unwrap(), "k\tv\n");
    assert!(server.asked().is_empty(), "nothing was sent");
}

#[test]
fn no_file_takes_the_place_of_something_else() {
    let (server, at) = store();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let name = socket.to_str().unwrap();
    for args in [
        &["snapshot", "save", name][..],
        &["load", "/dev/null", "--checkpoint", name],
        &["--config", name, "context", "use", "x"],
    ] {
        let done = run(&at, args);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(
            done.stderr.contains(&format!("  where: {name}")),
            "{done:?}"
        );
    }
    assert!(!socket.is_file(), "it is what it was");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(server.asked().is_empty(), "nothing was sent");
}

#[test]
fn a_load_that_the_cluster_forgot_is_not_to_be_run_again() {
    let expired = Fake::start(1, always(WireError::SessionExpired));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ck");
    let checkpoint = path.to_str().unwrap();
    // The first finds that it was not applied; the second cannot know what became of the first's.
    for (code, these) in [
        (4, "these are not written"),
        (5, "which of these are written"),
    ] {
        let args = ["-t", "2s", "load", "--checkpoint", checkpoint];
        let done = run_with(&expired.addr, &args, b"k\tv\n");
        assert_eq!(done.code, Some(code), "{done:?}");
        let advice = format!("{these}: remove {checkpoint} and load the rest\n");
        assert!(done.stderr.contains(&advice), "{done:?}");
    }
}

#[test]
fn all_or_nothing_of_a_damaged_input_is_nothing() {
    let (server, at) = store();
    let mut block = bytes::BytesMut::new();
    let start = wire::block::begin(&mut block);
    wire::block::put_record(&mut block, b"k", b"v");
    wire::block::finish(&mut block, start);
    // Its end is missing.
    let done = run_with(&at, &["load", "--atomic", "-o", "frame"], &block);
    assert_eq!(done.code, Some(9), "{done:?}");
    assert!(done.stderr.ends_with("nothing was written\n"), "{done:?}");
    assert!(server.asked().is_empty(), "nothing was sent");
    let done = run_with(&at, &["load", "-o", "frame"], &block);
    assert_eq!(done.code, Some(9), "{done:?}");
    run(&at, &["get", "k"]).silently(0, "v");
    let done = run_with(&at, &["get", "--stdin", "-o", "frame"], &block);
    assert_eq!(done.code, Some(9), "keys that are damaged, too: {done:?}");
}

#[test]
fn a_file_that_fails_once_something_was_sent_is_no_wrong_line() {
    let (server, at) = store();
    let flags = ["load", "--rejects"];
    let done = run_with(&at, &[&flags[..], &["/nonexistent/x"]].concat(), b"k\tv\n");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(server.asked().is_empty(), "nothing was sent");
    let done = run_with(&at, &[&flags[..], &["/dev/full"]].concat(), b"k\tv\nbad\n");
    assert_eq!(done.code, Some(125), "{done:?}");
    let advice = "  try: all lines up to 2 are done; those on their way may be, too\n";
    assert!(done.stderr.ends_with(advice), "{done:?}");
    run(&at, &["get", "k"]).silently(0, "v");
}

#[test]
fn a_backup_that_cannot_be_kept_is_not_asked_for() {
    let server = Fake::start(1, |_| Act::Nothing);
    let done = run(&server.addr, &["snapshot", "save", "/nonexistent/x"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.ends_with("  try: ls -l /\n"), "{done:?}");
    assert!(server.asked().is_empty(), "nothing was sent");
}

#[test]
fn a_directory_that_cannot_be_looked_into_is_not_said_to_lack_anything() {
    let folder = tempfile::tempdir().unwrap();
    // It is there, and nobody can follow it; whoever runs the tests may read everything else.
    for name in ["wal", "IDENTITY"] {
        std::os::unix::fs::symlink(name, folder.path().join(name)).unwrap();
    }
    let dir = folder.path().to_str().unwrap();
    let looking: [&[&str]; 4] = [
        &["wal", "verify", dir],
        &["wal", "stat", dir],
        &["wal", "dump", dir],
        &["recover", "apply", "--dry-run", "--data-dir", dir],
    ];
    for args in looking {
        let done = run("127.0.0.1:1", args);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("symbolic links"), "{done:?}");
        assert!(!done.stderr.contains("there is no"), "{done:?}");
    }
    let done = run("127.0.0.1:1", &["wal", "verify", "/dev/null"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr.contains("there is no write-ahead log"),
        "{done:?}"
    );
}

#[test]
fn what_comes_from_elsewhere_is_one_line_without_control_characters() {
    let done = run("127.0.0.1:1", &["wal", "stat", "a\nb\x1b\u{9b}c"]);
    assert!(done.stderr.contains("\n  where: a b  c\n"), "{done:?}");
}

#[test]
fn a_record_without_a_key_is_told_in_words_of_this_program() {
    let (_server, at) = store();
    let why = "a key has at least one byte\n";
    for (args, input) in [
        (&["load"][..], &b"\tv\n"[..]),
        (
            &["load", "--format", "jsonl"],
            b"{\"key\":\"\",\"value\":\"\"}\n",
        ),
        (&["del", "--stdin"], b"\n"),
        (&["get", "--stdin"], b"\n"),
    ] {
        let done = run_with(&at, args, input);
        assert_eq!(done.code, Some(6), "{done:?}");
        let first = format!("raftctl: {} failed at line 1: {why}", args[0]);
        assert!(done.stderr.contains(&first), "{done:?}");
    }
}

#[test]
fn a_rate_that_nobody_can_keep_is_told_its_bounds() {
    for rate in ["0", "1e9", "NaN", "inf"] {
        let done = run("127.0.0.1:1", &["bench", "put", "--rate", rate]);
        assert_eq!(done.code, Some(2), "{done:?}");
        let bounds = "from 0.001 to 100000000\n";
        assert!(done.stderr.contains(bounds), "{done:?}");
    }
}
