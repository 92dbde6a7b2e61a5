//! Several operations as one, and writes with conditions, on the command line.

use serde_json::json;
use wire::command::Outcome;

use super::fake::Fake;
use super::run::{run, run_with, store};

#[test]
fn a_put_with_a_condition_says_yes_or_no() {
    let (_server, at) = store();
    run(&at, &["put", "k", "1", "--if-absent"]).silently(0, "");
    run(&at, &["put", "k", "2", "--if-absent"]).silently(1, "");
    run(&at, &["put", "k", "2", "--if-revision", "9"]).silently(1, "");
    run(&at, &["put", "k", "2", "--if-revision", "1", "--json"])
        .silently(0, "{\"ok\":true,\"revision\":4}\n");
    run(&at, &["put", "k", "3", "--if-absent", "--json"])
        .silently(1, "{\"ok\":false,\"revision\":4}\n");
    run(&at, &["put", "z", "3", "--if-revision", "4", "--json"])
        .silently(1, "{\"ok\":false,\"revision\":null}\n");
    run(&at, &["get", "k"]).silently(0, "2");
    assert_eq!(
        run(&at, &["put", "k", "v", "--if-revision", "0"]).code,
        Some(2)
    );
    let both = ["put", "k", "v", "--if-revision", "1", "--if-absent"];
    assert_eq!(run(&at, &both).code, Some(2));
}

#[test]
fn a_put_prints_what_was_there_before() {
    let (_server, at) = store();
    run(&at, &["put", "k", "1", "--prev"]).silently(0, "");
    run_with(&at, &["put", "k", "-", "--prev"], b"2\0\n").silently(0, "1");
    run(&at, &["put", "k", "3", "--prev"]).silently(0, "2\0\n");
    run(&at, &["put", "k", "4", "--prev", "--if-revision", "3"]).silently(0, "3");
    // Nothing changes, and what is there is told.
    run(&at, &["put", "k", "5", "--prev", "--if-revision", "3"]).silently(1, "4");
    run(&at, &["put", "k", "5", "--prev", "--if-absent"]).silently(1, "4");
    let done = run(&at, &["put", "k", "6", "--prev", "--json"]);
    let prev = json!({"key":"k","value":"4","revision":4,"create_revision":1,"version":4});
    assert_eq!(done.json(), json!({"ok":true,"revision":7,"prev":prev}));
    let done = run(&at, &["put", "z", "1", "--prev", "--json"]);
    assert_eq!(done.json(), json!({"ok":true,"revision":8,"prev":null}));
    let done = run(&at, &["put", "z", "1", "--prev", "--if-absent", "--json"]);
    assert_eq!((done.code, &done.json()["ok"]), (Some(1), &json!(false)));
    assert_eq!(done.json()["revision"], json!(8));
}

#[test]
fn append_adds_exact_bytes_up_to_the_longest_value() {
    let (_server, at) = store();
    run(&at, &["append", "k", "a b"]).silently(0, "");
    run_with(&at, &["append", "k", "-"], b"\0\n").silently(0, "");
    run(&at, &["append", "k", "-1", "--json"]).silently(0, "{\"bytes\":7,\"revision\":3}\n");
    run(&at, &["get", "k"]).silently(0, "a b\0\n-1");
    let longest = vec![b'x'; 1 << 20];
    run_with(&at, &["append", "long", "-"], &longest).silently(0, "");
    let refused = run(&at, &["append", "long", "x"]);
    assert_eq!(refused.code, Some(6));
    assert!(
        refused
            .stderr
            .contains("would have more than 1048576 bytes"),
        "{}",
        refused.stderr
    );
    let refused = run(&at, &["append", "long", "x", "--json"]);
    assert!(
        refused.stderr.contains("\"name\":\"too-large\""),
        "{}",
        refused.stderr
    );
    assert_eq!(run(&at, &["append", "k"]).code, Some(2));
}

#[test]
fn a_txn_does_one_branch_or_the_other() {
    let (_server, at) = store();
    let txn = [
        "txn",
        "--if",
        "absent(a)",
        "--then",
        "put a 'x y'",
        "--then",
        "incr n 5",
        "--then",
        "append a !",
        "--else",
        "get a",
        "--else",
        "get none",
        "--else",
        "del n",
        "--else",
        "cas a --expect-absent z",
    ];
    run(&at, &txn).silently(0, "put\ta\tdone\t\nincr\tn\tdone\t5\nappend\ta\tdone\t4\n");
    let done = "get\ta\tfound\tx y!\nget\tnone\tmissing\t\ndel\tn\tdeleted\t1\n\
                cas\ta\tnot-swapped\t1\n";
    run(&at, &txn).silently(1, done);
    run(
        &at,
        &[
            "txn",
            "--if",
            "value(a)='x y!'",
            "--then",
            "del --prefix ''",
            "--json",
        ],
    )
    .silently(
        0,
        "{\"ok\":true,\"results\":[{\"deleted\":1,\"from\":\"\",\"op\":\"del\",\
         \"result\":\"deleted\"}],\"revision\":3}\n",
    );
    run(&at, &["count"]).silently(0, "0\n");
    // Nothing to compare is yes, and nothing to do is done.
    run(&at, &["txn", "--if", "exists(a)"]).silently(1, "");
    run(&at, &["txn", "--if", "absent(a)"]).silently(0, "");
}

#[test]
fn a_txn_tells_revisions_and_versions_apart() {
    let (_server, at) = store();
    for key in ["x", "x", "k", "k"] {
        run(&at, &["put", key, "v"]).silently(0, "");
    }
    let lines = "if revision(k)=4\nif create_revision(k)=3\nif version(k)=2\n\
                 then cas k --expect-revision 4 w\nthen cas new --expect-absent w\n";
    let done = run_with(&at, &["txn"], lines.as_bytes());
    done.silently(0, "cas\tk\tswapped\t\ncas\tnew\tswapped\t\n");
}

#[test]
fn an_encoding_of_keys_is_one_of_all_keys_of_a_txn() {
    let (_server, at) = store();
    run(&at, &["put", "k", "v"]).silently(0, "");
    let txn = ["txn", "--key-encode", "hex", "--if", "exists(6b)", "--then"];
    let get = [&txn[..], &["get 6b"]].concat();
    run(&at, &get).silently(0, "get\t6b\tfound\tv\n");
    let told = run(&at, &[&get[..], &["--json"]].concat()).json();
    assert_eq!(told["results"][0]["key_hex"], "6b");
    let del = [&txn[..], &["del --prefix 6b"]].concat();
    run(&at, &del).silently(0, "del\t6b\tdeleted\t1\n");
}

#[test]
fn a_txn_that_cannot_be_done_changes_nothing() {
    let (_server, at) = store();
    run(&at, &["put", "text", "x"]).silently(0, "");
    let done = run(&at, &["txn", "--then", "put a 1", "--then", "incr text"]);
    assert_eq!(done.code, Some(6));
    assert_eq!(
        done.stderr,
        "raftctl: txn was refused: incr: the value is no decimal number of 64 bits\n  \
         where: then, operation 2: text\n  \
         try: nothing changed, not by the other operations either\n"
    );
    assert_eq!(done.stdout, b"");
    run(&at, &["get", "a"]).silently(1, "");
    let many = "then put a 1\n".repeat(10_001);
    let done = run_with(&at, &["txn"], many.as_bytes());
    assert_eq!(done.code, Some(6), "{done:?}");
    let done = run(
        &at,
        &["txn", "--if", "exists(a)", "--else", "incr text", "--json"],
    );
    assert_eq!(done.code, Some(6));
    assert!(
        done.stderr.contains("\"name\":\"not-a-number\""),
        "{}",
        done.stderr
    );
}

#[test]
fn a_txn_is_read_from_a_file_or_standard_input_as_lines_or_json() {
    let (_server, at) = store();
    let lines = b"# move a to b\nif absent(b)\nthen put b \"1\\n\"\nelse get b\n";
    run_with(&at, &["txn", "-"], lines).silently(0, "put\tb\tdone\t\n");
    run_with(&at, &["txn"], lines).silently(1, "get\tb\tfound\t1\\n\n");
    let json = br#"{"if":["value(b)=\"1\\n\""],"then":[{"op":"get","key":"b"}]}"#;
    run_with(&at, &["txn"], json).silently(0, "get\tb\tfound\t1\\n\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txn");
    std::fs::write(&path, json).unwrap();
    run(&at, &["txn", path.to_str().unwrap()]).silently(0, "get\tb\tfound\t1\\n\n");
    let hex = [
        "txn",
        "--encode",
        "hex",
        "--if",
        "value(b)=310A",
        "--then",
        "get b",
    ];
    let got = run(&at, &hex);
    got.silently(0, "get\tb\tfound\t310a\n");
    let failed = run_with(&at, &["txn"], b"then put a 1\nthen what\n");
    assert_eq!(failed.code, Some(2));
    assert!(
        failed.stderr.contains("\n  where: line 2\n"),
        "{}",
        failed.stderr
    );
    assert_eq!(run(&at, &["txn", "/nowhere/at.all"]).code, Some(2));
    let slips: [(&[u8], &str); 3] = [
        (
            br#"{"then":[{"op":"get","kye":"a"}]}"#,
            "unknown field `kye`",
        ),
        (br#"{"if":[{"key":"a","target":1}]}"#, "expected a string"),
        (br#"{"then":[5]}"#, "expected words or an object"),
    ];
    for (slip, what) in slips {
        let refused = run_with(&at, &["txn"], slip);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(what), "{refused:?}");
    }
    // A program that was to say what is to be done, and failed.
    for nothing in ["", "# nothing\n\n", "{}"] {
        let refused = run_with(&at, &["txn"], nothing.as_bytes());
        assert_eq!(refused.code, Some(2), "{nothing:?}: {refused:?}");
    }
    run(&at, &["get", "a"]).silently(1, "");
}

/// Compares and the operations of both branches count together.
#[test]
fn what_a_txn_may_have_is_told_as_numbers_of_it() {
    let (_server, at) = store();
    let lines = |line: &str, count| format!("{line}\n").repeat(count);
    let operations = lines("if absent(k)", 5_001) + &lines("then get k", 5_000);
    let appends = lines("then append k x", 129) + &lines("else append k x", 128);
    for text in [operations, appends] {
        let refused = run_with(&at, &["txn"], text.as_bytes());
        assert_eq!(refused.code, Some(6), "{refused:?}");
        assert_eq!(
            refused.stderr,
            "raftctl: a txn has at most 10000 compares and operations, 256 of them appends, in 1.5 MiB\n  \
             try: make several of it\n"
        );
    }
    let most = lines("if absent(k)", 5_000) + &lines("else get k", 5_000);
    run_with(&at, &["txn"], most.as_bytes()).silently(0, "");
}

#[test]
fn json_tells_all_of_each_result() {
    let (_server, at) = store();
    let txn = [
        "txn",
        "--json",
        "--then",
        "put k v",
        "--then",
        "get k",
        "--then",
        "get none",
        "--then",
        "incr n",
        "--then",
        "append n 0",
        "--then",
        "cas k --expect v w",
        "--then",
        "cas k --expect v w",
        "--then",
        "cas none --expect v w",
        "--then",
        "del k",
        "--then",
        "del --from m --to z",
        "--then",
        "del --from a --expect 1",
    ];
    let done = run(&at, &txn);
    let expected = json!({"ok":true,"revision":1,"results":[
        {"op":"put","key":"k","result":"done"},
        {"op":"get","key":"k","result":"found","value":"v","revision":1,"create_revision":1,"version":1},
        {"op":"get","key":"none","result":"missing"},
        {"op":"incr","key":"n","result":"done","value":1},
        {"op":"append","key":"n","result":"done","bytes":2},
        {"op":"cas","key":"k","result":"swapped"},
        {"op":"cas","key":"k","result":"not-swapped","revision":1},
        {"op":"cas","key":"none","result":"not-swapped","revision":null},
        {"op":"del","key":"k","result":"deleted","deleted":1},
        {"op":"del","from":"m","to":"z","result":"deleted","deleted":1},
        {"op":"del","from":"a","result":"not-deleted","keys":0},
    ]});
    assert_eq!(done.json(), expected, "{}", done.stderr);
}

#[test]
fn a_range_is_removed_if_it_was_meant() {
    let (_server, at) = store();
    for key in ["a", "tmp/1", "tmp/2", "tmp/3", "z"] {
        run(&at, &["put", key, "v"]).silently(0, "");
    }
    // Nobody can be asked here.
    let refused = run(&at, &["del", "--prefix", "tmp/"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    run(&at, &["del", "--prefix", "tmp/", "--dry-run"]).silently(0, "3\n");
    run(
        &at,
        &["del", "--prefix", "tmp/", "--dry-run", "--expect", "3"],
    )
    .silently(0, "3\n");
    run(
        &at,
        &[
            "del",
            "--prefix",
            "tmp/",
            "--dry-run",
            "--expect",
            "2",
            "--json",
        ],
    )
    .silently(1, "{\"would_delete\":3}\n");
    let unexpected = run(&at, &["del", "--prefix", "tmp/", "--expect", "2"]);
    assert_eq!(unexpected.code, Some(1));
    let told = "raftctl: del --prefix tmp/ removed nothing: 3 keys are there, not 2\n";
    assert_eq!(unexpected.stderr, told);
    run(&at, &["count"]).silently(0, "5\n");
    run(&at, &["del", "--from", "tmp/2", "--to", "tmp/3", "--yes"]).silently(0, "");
    run(&at, &["scan", "--keys"]).silently(0, "a\ntmp/1\ntmp/3\nz\n");
    run(&at, &["del", "--prefix", "tmp/", "--expect", "2", "--json"])
        .silently(0, "{\"deleted\":2,\"revision\":8}\n");
    run(&at, &["del", "--prefix", "tmp/", "--yes", "--must-exist"]).silently(1, "");
    run(&at, &["del", "--prefix", "", "--to", "b", "--yes"]).silently(0, "");
    run(&at, &["scan", "--keys"]).silently(0, "z\n");
    for wrong in [
        &["del"][..],
        &["del", "a", "--prefix", "b"],
        &["del", "a", "--expect", "1"],
        &["del", "--to", "", "--yes"],
        &["del", "--expect", "1"],
    ] {
        assert_eq!(run(&at, wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_range_of_more_keys_than_an_entry_may_touch_is_removed_in_parts() {
    let (_server, at) = store();
    let keys: String = (0..25_000)
        .map(|key| format!("put k{key:05} v\n"))
        .collect();
    for part in keys.lines().collect::<Vec<_>>().chunks(10_000) {
        let lines: String = part.iter().map(|line| format!("then {line}\n")).collect();
        let done = run_with(&at, &["txn", "-o", "jsonl"], lines.as_bytes());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    run(&at, &["count"]).silently(0, "25000\n");
    let unexpected = run(&at, &["del", "--prefix", "k", "--expect", "24999"]);
    assert_eq!(unexpected.code, Some(1));
    assert!(
        unexpected.stderr.contains("25000 keys are there"),
        "{}",
        unexpected.stderr
    );
    let unexpected = run(&at, &["del", "--prefix", "k", "--expect", "9"]);
    assert!(
        unexpected.stderr.contains("more than 10000 keys"),
        "{}",
        unexpected.stderr
    );
    run(
        &at,
        &["del", "--prefix", "k", "--expect", "25000", "--json"],
    )
    .silently(0, "{\"deleted\":25000,\"revision\":7}\n");
    run(&at, &["count"]).silently(0, "0\n");
}

/// A retry brings only that the put was applied: that is not what is said of a key that was not there.
#[test]
fn what_put_would_print_of_before_and_was_not_kept_is_unknown() {
    for (held, told, advice) in [
        (
            true,
            json!({"ok": true, "revision": 41}),
            "the key is set: ",
        ),
        (false, json!({"ok": false}), "the condition did not hold: "),
    ] {
        let server = Fake::start(1, move |asked| {
            let results = None;
            asked.done(41, Outcome::Txn { held, results })
        });
        let words = ["put", "k", "v", "--prev", "--if-absent", "--json"];
        let done = run(&server.addr, &words);
        assert_eq!((done.code, done.json()), (Some(5), told), "{done:?}");
        let done = run(&server.addr, &words[..5]);
        assert_eq!((done.code, &done.stdout[..]), (Some(5), &b""[..]));
        let what = "raftctl: put k was applied at revision 41, but what it answered was too long to keep\n";
        assert!(done.stderr.starts_with(what), "{}", done.stderr);
        assert!(done.stderr.contains(advice), "{}", done.stderr);
    }
}
