//! Data in and out of the command line, byte for byte.

use std::collections::BTreeSet;

use wire::limits::VALUE_BYTES_MAX;

use super::fake::{Act, Fake, What};
use super::run::{run, run_with, store};
use super::script::Store;

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
fn a_pipe_may_take_longer_than_the_cluster() {
    let (_server, at) = store();
    let program = env!("CARGO_BIN_EXE_raftctl");
    for (what, value) in [
        ("put k -", "x"),
        ("append k -", "y"),
        ("cas k --expect xy -", "z"),
        ("txn", "then put k w"),
    ] {
        let line = format!("(sleep 1.2; printf %s '{value}') | {program} -e {at} -t 1s {what}");
        let done = std::process::Command::new("sh")
            .args(["-c", &line])
            .env("RAFTCTL_CONFIG", "/dev/null")
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{what}: {done:?}");
    }
    run(&at, &["get", "k"]).silently(0, "w");
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
    // The largest one, as xxd(1) writes it.
    let lines = "61".repeat(30) + "\n";
    let text = lines.repeat(VALUE_BYTES_MAX / 30) + &"61".repeat(VALUE_BYTES_MAX % 30);
    run_with(&at, &["put", "largest", "--encode", "hex"], text.as_bytes()).silently(0, "");
    run(&at, &["get", "largest"]).silently(0, "a".repeat(VALUE_BYTES_MAX));
    run(&at, &["del", "largest"]).silently(0, "");
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
fn what_breaks_off_says_how_far_it_came() {
    let mut store = Store {
        page_items: 3,
        ..Store::default()
    };
    for (index, key) in (1..).zip(["-a", "b", "c", "d e", "f", "g"]) {
        let (key, value) = (key.as_bytes(), &b"v"[..]);
        let put = wire::command::Command::Put { key, value };
        store.map.apply(wire::types::Index(index), &put);
        store.index = index;
    }
    let mut pages = BTreeSet::new();
    // The second page of each connection never comes.
    let server = Fake::start(1, move |asked| match &asked.what {
        What::Scan(_) if !pages.insert(asked.connection) => Act::Close,
        _ => store.act(asked),
    });
    let at = &server.addr;
    let (up, down) = ("-a\tv\nb\tv\nc\tv\n", "g\tv\nf\tv\nd e\tv\n");
    let hex = "--key-encode=hex";
    let in_hex = "2d61\tv\n62\tv\n63\tv\n";
    for (args, printed, last, bound) in [
        (&["scan"][..], up, "c", "--from=c"),
        (&["dump"], up, "c", "--from=c"),
        (&["scan", "--reverse"], down, "d e", "'--to=d e'"),
        (&["dump", "--reverse"], down, "d e", "'--to=d e'"),
        (&["scan", hex], in_hex, "c", "--from=63"),
        (&["ls", "-o", "table"], "-a\nb\nc\n", "c", "--from=c"),
    ] {
        let done = run(at, args);
        assert_eq!(done.code, Some(4), "{args:?}: {done:?}");
        assert_eq!(done.stdout, printed.as_bytes(), "{args:?}");
        let place = format!("  where: {at}; behind 3 keys of revision 6, up to {last}\n");
        assert!(done.stderr.contains(&place), "{done:?}");
        let remedy = format!(
            "  try: run it again; or, for the rest of it as of another revision, with {bound}\n"
        );
        assert!(done.stderr.ends_with(&remedy), "{done:?}");
    }
    // What did not fill a block is written all the same; that it has no end is seen by who reads it.
    for verb in ["scan", "dump"] {
        let done = run(at, &[verb, "-o", "frame"]);
        assert_eq!(done.code, Some(4), "{done:?}");
        let (block, length) = wire::block::parse(&done.stdout).unwrap().unwrap();
        assert_eq!(length, done.stdout.len(), "{block:?}");
        let wire::block::Block::Records(records) = block else {
            panic!("{block:?}")
        };
        assert_eq!(records.count(), 3);
    }
    let done = run(at, &["count"]);
    assert_eq!((done.code, done.stdout.as_slice()), (Some(4), &b""[..]));
    assert!(
        done.stderr.contains("  try: run it again; a reader"),
        "{done:?}"
    );
}

#[test]
fn every_format_has_its_form() {
    let (_server, at) = store();
    run(&at, &["put", "a", "1\t2"]).silently(0, "");
    run(&at, &["put", "b,c", "it's"]).silently(0, "");
    run(&at, &["scan", "-0"]).silently(0, "a\x001\t2\0b,c\0it's\0");
    run(&at, &["scan", "--keys", "-0", "b"]).silently(0, "b,c\0");
    run(&at, &["scan", "-o", "csv"]).silently(0, "key,value\na,1\t2\n\"b,c\",it's\n");
    run(
        &at,
        &[
            "scan",
            "--format",
            "csv",
            "--no-header",
            "--field",
            "bytes,key",
        ],
    )
    .silently(0, "3,a\n4,\"b,c\"\n");
    run(&at, &["scan", "--header", "--field", "key,revision"])
        .silently(0, "key\trevision\na\t1\nb,c\t2\n");
    // Also where nothing comes below it.
    for (format, header) in [
        ("tsv", "key\tvalue\n"),
        ("csv", "key,value\n"),
        ("nul", "key\0value\0"),
    ] {
        run(&at, &["scan", "none", "--header", "-o", format]).silently(0, header);
    }
    run(&at, &["scan", "-o", "csv", "--value"]).silently(0, "1\t2\nit's\n");
    run(&at, &["scan", "--value"]).silently(0, "1\\t2\nit's\n");
    run(&at, &["scan", "a", "-o", "table"]).silently(
        0,
        "KEY  REVISION  VERSION  BYTES  VALUE\na           1        1      3  1\\t2\n",
    );
    run(&at, &["get", "a", "b,c", "-o", "nul"]).silently(0, "a\x001\t2\0b,c\0it's\0");
    run(&at, &["put", "a", "x"]).silently(0, "");
    let numbers = "version,create_revision,revision,bytes";
    run(&at, &["scan", "a", "--field", numbers]).silently(0, "2\t1\t3\t1\n");
    run(&at, &["put", "cfg/X", "it's $1"]).silently(0, "");
    run(&at, &["scan", "-o", "env", "cfg/"]).silently(0, "X='it'\\''s $1'\n");
    run(&at, &["scan", "-o", "env", "cfg/", "--encode", "hex"]).silently(0, "X='69742773202431'\n");
    assert_eq!(run(&at, &["scan", "-o", "env"]).code, Some(6));
    run(&at, &["put", "nul", "00", "--encode", "hex"]).silently(0, "");
    let refused = run(&at, &["scan", "-0", "nul"]);
    assert_eq!(
        (refused.code, refused.stdout.as_slice()),
        (Some(6), &b""[..])
    );
}

#[test]
fn a_long_table_has_one_header() {
    let mut store = Store::default();
    for index in 1..=2500 {
        let (key, value) = (format!("k{index:04}"), &b"v"[..]);
        let key = key.as_bytes();
        let put = wire::command::Command::Put { key, value };
        store.map.apply(wire::types::Index(index), &put);
        store.index = index;
    }
    let server = store.serve();
    let done = run(&server.addr, &["scan", "-o", "table"]);
    let text = String::from_utf8(done.stdout).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    assert!(header.starts_with("KEY "), "{header}");
    let keys: Vec<_> = rows.lines().map(|row| &row[..5]).collect();
    let expected: Vec<_> = (1..=2500).map(|index| format!("k{index:04}")).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_dump_holds_every_byte() {
    let (_server, at) = store();
    let all = r#"{"key":"k","value_b64":"/wA="}"#;
    run(&at, &["put", "k", "ff00", "--encode", "hex"]).silently(0, "");
    run(&at, &["dump"]).silently(0, b"k\t\xff\\0\n");
    run(&at, &["dump", "--json"]).silently(0, format!("{all}\n"));
    let frames = run(&at, &["dump", "--format", "frame"]).stdout;
    let (block, len) = wire::block::parse(&frames).unwrap().unwrap();
    let wire::block::Block::Records(records) = block else {
        panic!("{block:?}")
    };
    assert_eq!(records.collect::<Vec<_>>(), [(&b"k"[..], &b"\xff\0"[..])]);
    let end = wire::block::parse(&frames[len..]).unwrap();
    assert_eq!(end, Some((wire::block::Block::End { records: 1 }, 18)));
}

#[test]
fn what_a_verb_cannot_print_is_refused_before_anything_is_sent() {
    let (server, at) = store();
    for wrong in [
        &["put", "k", "v", "-o", "csv"][..],
        &["count", "-0"],
        &["dump", "-o", "table"],
        &["scan", "--keys", "-o", "frame"],
        &["scan", "--keys", "--value"],
        &["scan", "--field", "nonsense"],
        &["peers", "--field", "nonsense"],
        &["scan", "--field", "key", "--json"],
        &["scan", "--field", "key", "-o", "frame"],
        &["scan", "--field", "key", "-o", "env"],
        &["put", "k", "v", "--value"],
        &["scan", "--json", "-o", "tsv"],
        &["scan", "-o", "xml"],
    ] {
        let done = run(&at, wrong);
        assert_eq!(done.code, Some(2), "{wrong:?}: {done:?}");
        assert!(done.stderr.lines().count() <= 4, "{}", done.stderr);
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn other_names_are_the_same_verbs() {
    let (_server, at) = store();
    run(&at, &["put", "a", "1"]).silently(0, "");
    run(&at, &["put", "b", "2"]).silently(0, "");
    run(&at, &["ls"]).silently(0, "a\nb\n");
    run(&at, &["-t", "5s", "ls", "b"]).silently(0, "b\n");
    run(&at, &["rm", "a"]).silently(0, "");
    run(&at, &["ls", "--json"]).code.expect("it ended");
    run(&at, &["get", "a"]).silently(1, "");
    run(&at, &["put", "ls", "ls"]).silently(0, "");
    run(&at, &["ls", "ls"]).silently(0, "ls\n");
}
