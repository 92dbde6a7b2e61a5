//! Several operations as one, on a real cluster.

use std::time::Duration;

use raftctl::client::{Batch, Client, Command, Deadline, Operation, Options, Outcome, Txn};
use raftd_tests::cluster::Cluster;
use raftd_tests::proc::Done;

/// So many keys `kNNNNN` in one batch.
fn batch(keys: std::ops::Range<u32>) -> Batch {
    let mut batch = Batch::default();
    for key in keys {
        let key = format!("k{key:05}");
        let put = Command::Put {
            key: key.as_bytes(),
            value: b"v",
        };
        batch.push(Operation::Change(put)).expect("there is room");
    }
    batch
}

#[test]
fn batches_go_in_and_ranges_go_out_whole() {
    let cluster = Cluster::start(3);
    cluster.wait_leader();
    let endpoints = cluster.endpoints();
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    let mut client = Client::new(Options::new(endpoints));
    let deadline = || Deadline::after(Duration::from_secs(20));
    for part in 0..3 {
        let batch = batch(part * 10_000..(part + 1) * 10_000);
        let txn = Command::Txn(Txn::batch(batch.operations()));
        client.submit(txn).expect("it fits");
    }
    while let Some(written) = client.wait(deadline()) {
        let outcome = written.expect("it is written").outcome;
        assert!(matches!(outcome, Outcome::Txn { held: true, .. }));
    }
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "30000\n");
    let wrong = cluster.ctl(&["del", "--prefix", "k", "--expect", "30001"]);
    assert!(wrong.exits(1).stderr.contains("30000 keys are there"));
    let range = [
        "del", "--from", "k00005", "--to", "k10005", "--expect", "10000",
    ];
    assert_eq!(cluster.ctl(&range).quietly().text(), "");
    assert_eq!(cluster.ctl(&["count"]).quietly().text(), "20000\n");
    let rest = cluster.ctl(&["del", "--prefix", "k", "--yes", "--json"]);
    let rest = rest.quietly();
    assert!(rest.text().starts_with("{\"deleted\":20000,"), "{rest:?}");
    // Every member has come to the same.
    let last = cluster.ctl(&["put", "last", "v", "--json"]).quietly();
    let last: serde_json::Value = serde_json::from_str(last.text()).expect("JSON");
    cluster.wait_applied(last["revision"].as_u64().expect("a revision"));
    let status = cluster.status().expect("somebody answers");
    let members = status["members"].as_array().expect("a list").iter();
    let digests: Vec<_> = members.map(|member| &member["digest"]).collect();
    assert!(
        digests.windows(2).all(|two| two[0] == two[1]),
        "{digests:?}"
    );
}

/// The id on the last line of an error with an unknown outcome.
fn request_id(done: &Done) -> String {
    let last = done.stderr.lines().last().unwrap_or_default();
    let id = last.strip_prefix("  request: ");
    id.unwrap_or_else(|| panic!("no request id: {}", done.stderr))
        .to_owned()
}

/// A txn that the leader took and could not replicate, and that survives; its request id.
fn survives_its_leader(txn: &[&str]) -> (Cluster, String) {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let _ = cluster.ctl(&["put", "long", &"x".repeat(300)]).quietly();
    for node in cluster.nodes.iter_mut().filter(|node| node.id != leader) {
        node.kill();
    }
    let args = [&["-t", "1s"], txn].concat();
    let id = request_id(&cluster.ctl(&args).exits(5));
    cluster.start_all();
    cluster.wait_leader();
    (cluster, id)
}

#[test]
fn a_retry_of_a_txn_tells_what_the_first_attempt_did() {
    let txn = [
        "txn",
        "--if",
        "absent(n)",
        "--then",
        "incr n",
        "--else",
        "get n",
    ];
    let (cluster, id) = survives_its_leader(&txn);
    let again = [&txn[..], &["--request-id", &id]].concat();
    for _ in 0..2 {
        assert_eq!(cluster.ctl(&again).quietly().text(), "incr\tn\tdone\t1\n");
    }
    assert_eq!(cluster.ctl(&["get", "n"]).quietly().text(), "1");
    let other = ["txn", "--then", "incr n", "--request-id", &id];
    let _ = cluster.ctl(&other).exits(6);
}

/// Rules C2: long results are not kept, but whether the compares held is.
#[test]
fn a_retry_of_a_txn_with_long_results_tells_yes_or_no() {
    let txn = [
        "txn",
        "--if",
        "absent(long)",
        "--else",
        "get long",
        "--else",
        "incr n",
    ];
    let (cluster, id) = survives_its_leader(&txn);
    let again = [&txn[..], &["--request-id", &id]].concat();
    let told = cluster.ctl(&again).exits(1);
    assert_eq!(told.text(), "");
    assert!(told.stderr.contains("too long to keep"), "{}", told.stderr);
    assert_eq!(cluster.ctl(&["get", "n"]).quietly().text(), "1");
}
