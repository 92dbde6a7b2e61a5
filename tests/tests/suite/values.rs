//! What goes in comes out, byte for byte, and a script can tell what happened.

use raftd_tests::cluster::Cluster;

#[test]
fn exact_bytes_come_back() {
    let cluster = Cluster::start(3);
    // Every byte, and every byte after every other: nothing is text to a value.
    let odd: Vec<u8> = (0..=u8::MAX)
        .flat_map(|a| (0..=u8::MAX).flat_map(move |b| [a, b]))
        .collect();
    for value in [&b""[..], b"\n", b"\0", b"-x\n", &odd[..100_000]] {
        let put = cluster.ctl_with(&["put", "k", "-"], value).quietly();
        assert_eq!(put.stdout, b"", "put says nothing in a pipe");
        assert!(
            cluster.ctl(&["get", "k"]).quietly().stdout == value,
            "{} bytes",
            value.len()
        );
    }
    // Without a value, stdin is the value.
    let _ = cluster.ctl_with(&["put", "k"], b"from stdin").quietly();
    assert_eq!(cluster.ctl(&["get", "k"]).quietly().text(), "from stdin");
    // A leading dash: numbers are values, anything else needs `--`, and the error says so.
    let _ = cluster.ctl(&["put", "k", "-5"]).quietly();
    assert_eq!(cluster.ctl(&["get", "k"]).quietly().text(), "-5");
    let refused = cluster.ctl(&["put", "k", "--not-a-flag"]).exits(2);
    assert!(
        refused.stderr.contains("-- "),
        "the corrected line: {}",
        refused.stderr
    );
    let _ = cluster.ctl(&["put", "--", "k", "--not-a-flag"]).quietly();
    assert_eq!(cluster.ctl(&["get", "k"]).quietly().text(), "--not-a-flag");
}

#[test]
fn any_key_will_do() {
    let cluster = Cluster::start(1);
    for key in [
        "with spaces",
        "line\nbreak",
        "tab\there",
        "k=v",
        "/",
        "\u{fc}ber",
        "'\"$(id)",
    ] {
        let _ = cluster.ctl(&["put", key, key]).quietly();
        assert_eq!(cluster.ctl(&["get", key]).quietly().text(), key);
    }
    // NUL cannot be an argument: hex can.
    let _ = cluster
        .ctl(&["put", "--key-encode", "hex", "610062", "nul"])
        .quietly();
    assert_eq!(
        cluster
            .ctl(&["get", "--key-encode", "hex", "610062"])
            .quietly()
            .text(),
        "nul"
    );
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "8\n");

    let scan = cluster.ctl(&["scan", "line"]).quietly();
    assert_eq!(
        scan.text(),
        "line\\nbreak\tline\\nbreak\n",
        "a pipe gets lossless TSV"
    );
    let json = cluster.ctl(&["--json", "scan", "a"]).quietly();
    let object: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(object["key"], "a\0b");
    assert_eq!(object["value"], "nul");
}

#[test]
fn answers_are_exit_codes() {
    let cluster = Cluster::start(1);
    let missing = cluster.ctl(&["get", "missing"]).exits(1);
    assert_eq!(
        (missing.stdout.len(), missing.stderr.as_str()),
        (0, ""),
        "silent"
    );
    assert_eq!(
        cluster
            .ctl(&["get", "missing", "--default", "d"])
            .quietly()
            .text(),
        "d"
    );
    assert_eq!(
        cluster
            .ctl(&["get", "missing", "--missing-ok"])
            .quietly()
            .text(),
        ""
    );

    let _ = cluster.ctl(&["cas", "k", "--expect-absent", "1"]).quietly();
    let _ = cluster.ctl(&["cas", "k", "--expect-absent", "2"]).exits(1);
    let _ = cluster.ctl(&["cas", "k", "--expect", "1", "2"]).quietly();
    assert_eq!(cluster.ctl(&["get", "k"]).quietly().text(), "2");

    assert_eq!(cluster.ctl(&["incr", "n"]).quietly().text(), "1\n");
    assert_eq!(cluster.ctl(&["incr", "n", "-43"]).quietly().text(), "-42\n");
    let _ = cluster.ctl(&["put", "word", "abc"]).quietly();
    let _ = cluster.ctl(&["incr", "word"]).exits(6);

    let _ = cluster.ctl(&["del", "k", "absent"]).quietly();
    let _ = cluster.ctl(&["get", "k"]).exits(1);
    let _ = cluster.ctl(&["del", "k", "--must-exist"]).exits(1);

    let too_large = vec![b'x'; 2 << 20];
    let refused = cluster.ctl_with(&["put", "k", "-"], &too_large).exits(6);
    assert!(
        refused.stderr.lines().count() <= 4,
        "at most four lines: {}",
        refused.stderr
    );
    let _ = cluster.ctl(&["no-such-verb"]).exits(2);
}
