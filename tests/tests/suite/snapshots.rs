//! Snapshots, by real processes: taken, kept, sent, saved, looked into, restored.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done, PATIENCE, Running};
use raftd_tests::wait;
use serde_json::Value;

/// Small segments, of which none is kept once a snapshot covers it.
const EAGER: &[&str] = &[
    "--set",
    "wal.segment_bytes=256KiB",
    "--set",
    "snapshot.log_bytes=256KiB",
    "--set",
    "snapshot.log_factor=0",
    "--set",
    "snapshot.gap=0s",
    "--set",
    "snapshot.keep_bytes=0",
];

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").file_name())
        .map(|name| name.into_string().expect("plain names"))
        .collect();
    names.sort();
    names
}

fn fill(cluster: &Cluster, prefix: &str, count: usize) {
    let value = "v".repeat(20_000);
    for n in 0..count {
        let key = format!("{prefix}/{n:03}");
        let _ = cluster.ctl(&["put", &key, &value]).quietly();
    }
}

/// The one object that was printed.
fn json(done: &Done) -> Value {
    serde_json::from_str(done.text()).expect("an object")
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).expect("the file is there")
}

/// `raftctl` without any node.
fn offline(args: &[&str], stdin: &[u8]) -> Done {
    proc::raftctl("127.0.0.1:1", args, stdin)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

fn newest_snapshot(data_dir: &Path) -> PathBuf {
    let dir = data_dir.join("snap");
    let name = names(&dir)
        .into_iter()
        .rfind(|name| name.ends_with(".snap"));
    dir.join(name.expect("there is a snapshot"))
}

#[test]
fn the_log_is_cut_short_and_a_member_that_lags_is_sent_a_snapshot() {
    let mut cluster = Cluster::prepare(3, EAGER);
    cluster.start_all();
    let leader = cluster.wait_leader();
    let follower = leader % 3 + 1;
    cluster.node(follower).kill();
    let dead = follower.to_string();
    let none = cluster
        .ctl(&["-t", "200ms", "snapshot", "--node", &dead])
        .exits(4);
    assert!(none.stderr.contains("  try: "), "{}", none.stderr);
    fill(&cluster, "k", 60);
    let wal = cluster.node(leader).data_dir.join("wal");
    let first = "0000000000000001.wal";
    wait::until_true("the log's front is gone", PATIENCE, || {
        !names(&wal).iter().any(|name| name == first)
    });
    cluster.node(follower).start();
    cluster.node(follower).wait_ready();
    let address = cluster.node(follower).client_addr.clone();
    let ask = |args: &[&str]| proc::raftctl(&address, args, b"");
    let _ = ask(&["-t", "30s", "wait-ready", "--caught-up"]).exits(0);
    let log = cluster.node(follower).log_since_start();
    assert!(log.contains("snapshot installed"), "{log}");

    // It starts again from what it was sent; all agree on the state.
    cluster.kill_all();
    cluster.start_all();
    cluster.wait_leader();
    let count = cluster.ctl(&["count", "k/"]).exits(0);
    assert_eq!(count.text().trim(), "60");
    let digests = wait::until("equal indexes", PATIENCE, || {
        let status = cluster.status()?;
        let members = status["members"].as_array()?.clone();
        let told = |name: &str| -> Vec<Value> {
            members.iter().map(|member| member[name].clone()).collect()
        };
        let applied = told("applied_index");
        let equal = applied
            .iter()
            .all(|index| *index == applied[0] && index.is_u64());
        equal.then(|| told("digest"))
    });
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
}

#[test]
fn a_snapshot_that_is_asked_for_is_the_same_file_everywhere() {
    let mut cluster = Cluster::start(3);
    cluster.wait_leader();
    fill(&cluster, "k", 3);
    let taken = cluster.ctl(&["snapshot", "--all"]).exits(0);
    let lines: Vec<_> = taken.text().lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let rest = |line: &str| line.split_once('\t').map(|(_, rest)| rest.to_owned());
    assert!(
        lines.iter().all(|line| rest(line) == rest(lines[0])),
        "{lines:?}"
    );
    let files: Vec<_> = (1..=3)
        .map(|id| read(&newest_snapshot(&cluster.node(id).data_dir.clone())))
        .collect();
    assert!(files.iter().all(|file| *file == files[0]));
    let listed = cluster.ctl(&["snapshot", "ls"]).exits(0);
    assert_eq!(listed.text(), taken.text());
}

#[test]
fn what_a_snapshot_says_of_a_member_is_one_field_of_a_line() {
    let cluster = Cluster::start(1);
    cluster.wait_leader();
    let file = cluster.path("backup.snap");
    let _ = cluster.ctl(&["snapshot", "save", path(&file)]).quietly();
    let forged = cluster.path("forged");
    let addr = "h\tx\n\u{1b}[2J:1";
    let meter = raftd::disk::Meter::default();
    raftd::storage::restore(&file, &forged, Some(addr), 1 << 20, &meter).expect("it is restored");
    let told = offline(
        &["snapshot", "inspect", path(&newest_snapshot(&forged))],
        b"",
    );
    let told = told.exits(0);
    let members = "\nmembers\t1=h\\tx\\n\\x1b[2J:1\n";
    assert!(told.text().contains(members), "{}", told.text());
}

#[test]
fn a_backup_is_verified_looked_into_and_restored_as_another_cluster() {
    let cluster = Cluster::start(3);
    cluster.wait_leader();
    fill(&cluster, "k", 5);
    let _ = cluster.ctl(&["put", "last", "before"]).quietly();
    let file = cluster.path("backup.snap");
    let saved = cluster
        .ctl(&["--json", "snapshot", "save", path(&file)])
        .exits(0);
    let saved = json(&saved);
    assert!(!cluster.path("backup.snap.part").exists());
    // A file that fails half-way: something was sent by then, and nothing is left.
    let part = cluster.path("full.snap.part");
    std::os::unix::fs::symlink("/dev/full", &part).expect("a name");
    let full = cluster.path("full.snap");
    let failed = cluster.ctl(&["snapshot", "save", path(&full)]).exits(125);
    assert!(failed.stderr.contains("  try: df -h "), "{}", failed.stderr);
    assert!(!full.exists() && part.symlink_metadata().is_err());
    let piped = cluster.ctl(&["snapshot", "save", "-"]).exits(0);
    let _ = offline(&["snapshot", "verify", "-"], &piped.stdout).quietly();
    let _ = offline(&["snapshot", "verify", path(&file)], b"").quietly();
    let told = offline(&["--json", "snapshot", "inspect", path(&file)], b"").exits(0);
    let told = json(&told);
    assert_eq!(told["entries"], 6);
    for field in ["index", "term", "bytes", "digest"] {
        assert_eq!(told[field], saved[field], "{field}");
    }

    let mut bytes = read(&file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = cluster.path("damaged.snap");
    fs::write(&damaged, &bytes).expect("there is room");
    let refused = offline(&["snapshot", "verify", path(&damaged)], b"").exits(9);
    assert!(refused.stderr.contains("offset"), "{}", refused.stderr);
    let nowhere = cluster.path("nowhere");
    let _ = offline(&["snapshot", "verify", path(&nowhere)], b"").exits(2);
    let restore = |from: &Path| {
        offline(
            &[
                "--json",
                "snapshot",
                "restore",
                path(from),
                "--data-dir",
                path(&nowhere),
            ],
            b"",
        )
    };
    let _ = restore(&damaged).exits(9);
    assert!(!nowhere.exists(), "nothing is left of it");

    let restored = restore(&file).exits(0);
    let restored = json(&restored);
    assert_ne!(restored["cluster_id"], told["cluster_id"]);
    assert_ne!(restored["epoch"], told["epoch"]);
    let command = restored["command"].as_str().expect("a line of shell");
    assert_eq!(
        command,
        format!("raftd --id 1 --data-dir {}", path(&nowhere))
    );
    let _ = restore(&file).exits(2);

    let ports = proc::free_ports(2);
    let [client, peer] = [ports[0], ports[1]].map(|port| format!("127.0.0.1:{port}"));
    let mut node = proc::command("raftd");
    node.args(command.split(' ').skip(1));
    node.args(["--listen", &client, "--peer-listen", &peer]);
    let _running = Running::start(node, &cluster.path("restored.log"));
    let ask = |args: &[&str]| proc::raftctl(&client, args, b"");
    wait::until_true("it serves", PATIENCE, || {
        ask(&["-t", "1s", "wait-ready", "--leader"]).code == Some(0)
    });
    assert_eq!(ask(&["get", "last"]).exits(0).text(), "before");
    let _ = ask(&["put", "last", "after"]).quietly();
    assert_eq!(ask(&["count"]).exits(0).text().trim(), "6");
    // The old cluster never hears of it.
    assert_eq!(cluster.ctl(&["get", "last"]).exits(0).text(), "before");
}

#[test]
fn the_log_of_a_stopped_node_can_be_looked_at() {
    let mut cluster = Cluster::prepare(1, EAGER);
    cluster.start_all();
    cluster.wait_leader();
    let _ = cluster.ctl(&["put", "tab\tkey", "a\nvalue"]).quietly();
    let _ = cluster.ctl(&["snapshot"]).exits(0);
    let _ = cluster.ctl(&["del", "tab\tkey"]).quietly();
    for line in [
        "cas n --expect-absent 1",
        "incr n -5",
        "append n x",
        "del --prefix n --expect 1",
    ] {
        let _ = cluster.ctl(&line.split(' ').collect::<Vec<_>>()).exits(0);
    }
    let then = ["--then", "put a 1", "--then", "put b 2", "--else", "del c"];
    let _ = cluster
        .ctl(&[&["txn", "--if", "absent(a)"], &then[..]].concat())
        .exits(0);
    let dir = cluster.node(1).data_dir.clone();
    wait::until_true("there are spares", PATIENCE, || {
        names(&dir.join("wal")).len() > 4
    });
    cluster.kill_all();
    let _ = offline(&["wal", "verify", path(&dir)], b"").quietly();
    let sound = offline(&["wal", "verify", path(&dir), "--json"], b"").exits(0);
    assert_eq!(sound.text(), "{\"ok\":true,\"torn_bytes\":0}\n");
    // However many segments there are, few files are open at a time.
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 6; exec \"$0\" wal verify \"$1\""]);
    few.arg(proc::bin_dir().join("raftctl")).arg(&dir);
    let _ = proc::run(few, b"").quietly();
    let dump = offline(&["wal", "dump", path(&dir)], b"").exits(0);
    let kinds: Vec<_> = dump
        .text()
        .lines()
        .map(|line| line.split('\t').skip(3).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "noop  ",
        "put tab\\tkey a\\nvalue",
        "snapshot  ",
        "delete tab\\tkey ",
        "cas n 1",
        "increment n -5",
        "append n x",
        "delete-range n o",
        "txn  compares=1 then=2 else=1",
    ];
    assert_eq!(kinds, expected);
    let dump = offline(&["wal", "dump", path(&dir), "--json"], b"").exits(0);
    let put = dump.text().lines().nth(1);
    let rest = r#""term":1,"value":"a\nvalue"}"#;
    let expected = format!(r#"{{"index":2,"key":"tab\tkey","kind":"put","segment":1,{rest}"#);
    assert_eq!(put, Some(expected.as_str()));
    let stat = offline(&["--json", "wal", "stat", path(&dir)], b"").exits(0);
    let stat = json(&stat);
    for (name, expected) in [
        ("segment", 1),
        ("bytes", 256 * 1024),
        ("entries", 9),
        ("first_index", 1),
        ("last_index", 9),
        ("first_term", 0),
        ("last_term", 1),
        ("cuts", 0),
        ("resets", 0),
        ("snapshot_index", 3),
    ] {
        assert_eq!(stat[name], expected, "{name}");
    }
    let (used, batches) = (&stat["used_bytes"], &stat["batches"]);
    assert!(used.as_u64() < Some(256 * 1024), "{stat}");
    let row = offline(&["wal", "stat", path(&dir)], b"").exits(0);
    let begin = format!("1\t262144\t{used}\t{batches}\t9\t1\t9\t0-1\t0\t0\t3\t");
    assert!(row.text().starts_with(&begin), "{}", row.text());

    let segment = dir.join("wal").join(names(&dir.join("wal"))[0].clone());
    let mut bytes = read(&segment);
    bytes[4096 + 120] ^= 1;
    fs::write(&segment, &bytes).expect("there is room");
    for verb in ["verify", "stat", "dump"] {
        let refused = offline(&["wal", verb, path(&dir)], b"").exits(9);
        assert!(refused.stderr.contains("offset"), "{}", refused.stderr);
    }
    for name in names(&dir.join("wal")) {
        fs::remove_file(dir.join("wal").join(name)).expect("removed");
    }
    let refused = offline(&["wal", "verify", path(&dir)], b"").exits(9);
    assert!(
        refused.stderr.contains("raftctl replace-peer"),
        "{}",
        refused.stderr
    );
    let _ = offline(&["wal", "verify", path(&cluster.path("nowhere"))], b"").exits(2);
}
