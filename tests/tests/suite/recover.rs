//! New clusters of one out of what is left of an old one, by real processes: from the directory of a
//! member, from a backup. They grow, and nobody of before gets in.

use std::fs;
use std::path::{Path, PathBuf};

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done, PATIENCE};
use raftd_tests::wait;
use serde_json::Value;

use super::membership::{add, voters};

/// `raftctl` without any node.
fn offline(args: &[&str]) -> Done {
    proc::raftctl("127.0.0.1:1", args, b"")
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain name").to_owned()
}

fn json(done: &Done) -> Value {
    serde_json::from_str(done.text()).expect("an object")
}

fn ask(addr: &str, args: &[&str]) -> Done {
    proc::raftctl(addr, args, b"")
}

#[test]
fn a_member_goes_on_alone_and_nobody_of_before_gets_in() {
    let mut cluster = Cluster::start(3);
    cluster.wait_leader();
    for n in 0..20 {
        let _ = cluster.ctl(&["put", &format!("k/{n}"), "before"]).quietly();
    }
    let _ = cluster.ctl(&["snapshot", "--all"]).exits(0);
    let _ = cluster.ctl(&["put", "last", "before"]).quietly();
    let index = cluster.status().expect("they answer")["members"][0]["commit_index"].clone();
    cluster.wait_applied(index.as_u64().expect("a number"));
    let dir = cluster.node(1).data_dir.clone();
    let dir = text(&dir);
    let recover = |flags: &[&str]| {
        let mut args = vec!["recover", "apply", "--data-dir", dir.as_str()];
        args.extend(flags);
        offline(&args)
    };
    let runs = recover(&["--yes"]).exits(6);
    assert!(runs.stderr.contains("in use"), "{}", runs.stderr);
    cluster.kill_all();

    let identity = || fs::read(Path::new(&dir).join("IDENTITY")).expect("it is there");
    let before = identity();
    let asks = recover(&[]).exits(2);
    assert!(asks.stderr.contains("--yes"), "{}", asks.stderr);
    let told = recover(&["--dry-run"]).exits(0);
    assert_eq!(told.text(), "");
    for part in ["n1 holds 21 keys", "n2 (", "n3 (", "missing"] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    assert!(identity() == before, "it is who it was");
    // Something is in the way where its snapshot is to be: all is as before, and the place is told.
    let told = json(&recover(&["--dry-run", "--json"]).exits(0));
    let next = |name: &str| told[name].as_u64().expect("a number") + 1;
    let in_the_way = (next("term")..).take(20).map(|term| {
        let name = format!("{:016x}-{term:x}.snap.tmp", next("index"));
        Path::new(&dir).join("snap").join(name)
    });
    let in_the_way: Vec<PathBuf> = in_the_way.collect();
    for path in &in_the_way {
        fs::create_dir(path).expect("nobody else has that name");
    }
    let failed = recover(&["--yes"]).exits(2);
    let place = format!("  where: {dir}/snap/");
    assert!(failed.stderr.contains(&place), "{}", failed.stderr);
    for path in &in_the_way {
        fs::remove_dir(path).expect("it is there");
    }
    let done = json(&recover(&["--yes", "--json"]).exits(0));
    assert_eq!(done["entries"], 21);
    assert_eq!(done["forgotten"].as_array().map(Vec::len), Some(2));
    let peer_addr = cluster.node(1).peer_addr.clone();
    let command = format!("raftd --id 1 --data-dir {dir} --peer-listen {peer_addr}");
    assert_eq!(done["command"], command);
    let again = recover(&[]).exits(0);
    assert_eq!(
        again.text().trim(),
        done["command"].as_str().expect("a line")
    );
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);

    // Its old command line contradicts nothing. The two others are a majority of before.
    cluster.start_all();
    let addrs: Vec<String> = cluster
        .nodes
        .iter()
        .map(|n| n.client_addr.clone())
        .collect();
    let others = addrs[1..].join(",");
    for endpoints in [&addrs[0], &others] {
        wait::until_true("both serve", PATIENCE, || {
            ask(endpoints, &["-t", "1s", "put", "who", endpoints]).code == Some(0)
        });
    }
    let of = |addr: &str, key: &str| ask(addr, &["get", key]).exits(0).text().to_owned();
    assert_eq!(
        (of(&addrs[0], "who"), of(&addrs[1], "who")),
        (addrs[0].clone(), others)
    );
    assert_eq!(of(&addrs[0], "last"), "before");
    let epoch = |addr: &str| json(&ask(addr, &["--json", "status"]).exits(0))["epoch"].clone();
    assert_eq!(epoch(&addrs[0]), done["epoch"]);
    assert_ne!(epoch(&addrs[0]), epoch(&addrs[1]));
    wait::until_true("they are refused", PATIENCE, || {
        let log = cluster.node(1).log_since_start();
        let mut lines = log.lines();
        lines.any(|line| line.contains("caller refused node=") && line.contains("(epoch)"))
    });
    // A client of before that asks what became of its write learns nothing.
    let resumed = [
        "put",
        "who",
        "old",
        "--request-id",
        "000000000000000500000000000000000000000000000001-1",
    ];
    let _ = ask(&addrs[0], &resumed).exits(5);
    // Those of before are gone for good; new ones come with new directories.
    for mut node in cluster.nodes.drain(1..) {
        node.kill();
        fs::remove_dir_all(&node.data_dir).expect("it can be removed");
    }
    assert_eq!(voters(&cluster), [1]);
    add(&mut cluster, None);
    add(&mut cluster, None);
    assert_eq!(voters(&cluster), [1, 4, 5], "ids are used once");
    assert_eq!(of(&cluster.nodes[2].client_addr.clone(), "last"), "before");
}

#[test]
fn a_member_that_went_on_alone_is_not_taken_for_one_of_the_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.wait_leader();
    let _ = cluster.ctl(&["put", "k", "before"]).quietly();
    let asked = cluster.node(2).client_addr.clone();
    let status = || json(&ask(&asked, &["--json", "status"]).exits(0));
    wait::until_true("all are known", PATIENCE, || {
        let status = status();
        let mut members = status["members"].as_array().expect("a list").iter();
        members.all(|member| member["reachable"] == true)
    });
    let epoch = status()["epoch"].clone();
    cluster.node(1).kill();
    let dir = text(&cluster.node(1).data_dir.clone());
    let _ = offline(&["recover", "apply", "--data-dir", &dir, "--yes"]).exits(0);
    cluster.node(1).start();
    let alone = cluster.node(1).client_addr.clone();
    wait::until_true("it leads itself", PATIENCE, || {
        ask(&alone, &["-t", "1s", "is-leader"]).code == Some(0)
    });
    let status = status();
    assert_eq!(status["epoch"], epoch);
    let members = status["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3, "{status}");
    assert_eq!(members[0]["reachable"], false, "{status}");
    let why = members[0]["error"].as_str().unwrap_or_default();
    assert!(why.contains("of another cluster now"), "{status}");
}

#[test]
fn a_snapshot_restored_to_one_node_grows_to_three() {
    let old = Cluster::start(3);
    old.wait_leader();
    let _ = old.ctl(&["put", "k", "v"]).quietly();
    let file = text(&old.path("backup.snap"));
    let _ = old.ctl(&["snapshot", "save", &file]).exits(0);

    let mut cluster = Cluster::prepare(1, &[]);
    let node = &mut cluster.nodes[0];
    let (dir, addr) = (text(&node.data_dir), node.peer_addr.clone());
    let args = [
        "snapshot",
        "restore",
        &file,
        "--data-dir",
        &dir,
        "--peer-addr",
        &addr,
    ];
    let line = offline(&args).exits(0);
    let expected = format!("raftd --id 1 --data-dir {dir} --peer-listen {addr}");
    assert_eq!(line.text().trim(), expected);
    cluster.start_all();
    cluster.wait_leader();
    add(&mut cluster, None);
    add(&mut cluster, None);
    assert_eq!(voters(&cluster), [1, 4, 5], "ids are used once");
    let again = text(&cluster.path("again.snap"));
    let _ = cluster.ctl(&["snapshot", "save", &again]).exits(0);
    let told = json(&offline(&["--json", "snapshot", "inspect", &again]).exits(0));
    let members = told["members"].as_array().expect("a list");
    let members: Vec<String> = members
        .iter()
        .map(|member| format!("{} {} {}", member["id"], member["name"], member["kind"]))
        .collect();
    let expected = [
        "1 \"n1\" \"voter\"",
        "4 \"n2\" \"voter\"",
        "5 \"n3\" \"voter\"",
    ];
    assert_eq!(members, expected);
    // All of them have it, also without the first one.
    let _ = cluster.ctl(&["put", "k2", "v2"]).quietly();
    cluster.node(1).kill();
    let dump = offline(&["wal", "dump", &dir]).exits(0);
    let mut lines = dump.text().lines();
    let last = lines.rfind(|line| line.contains("\tmembers\t"));
    let last = last.expect("the log tells them");
    assert!(
        last.ends_with("\t1:n1:voter 4:n2:voter 5:n3:voter"),
        "{last}"
    );
    cluster.nodes.remove(0);
    cluster.wait_leader();
    for (key, value) in [("k", "v"), ("k2", "v2")] {
        assert_eq!(cluster.ctl(&["get", key]).exits(0).text(), value);
    }
}
