//! Clusters grow, shrink and have their members replaced under load: no call fails that had five
//! seconds, nothing acknowledged is lost, and what would cost the quorum is refused.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, PATIENCE};
use raftd_tests::wait;

/// Calls one after the other at a time.
const WRITERS: u64 = 2;
/// Acknowledgements between two changes.
const ACKED_PER_STEP: u64 = 10;

/// What writers and the test share.
#[derive(Default)]
struct Load {
    endpoints: Mutex<String>,
    stop: AtomicBool,
    acked: AtomicU64,
}

type Acked = BTreeMap<String, String>;

impl Load {
    fn start<'s>(&'s self, scope: &'s Scope<'s, '_>) -> Vec<ScopedJoinHandle<'s, Acked>> {
        (0..WRITERS)
            .map(|writer| scope.spawn(move || self.write(writer)))
            .collect()
    }

    /// Puts, each in a process of its own, which must all go well.
    fn write(&self, writer: u64) -> Acked {
        let mut acked = BTreeMap::new();
        for n in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let endpoints = self.endpoints.lock().expect("no writer panics").clone();
            let (key, value) = (format!("put/{writer}/{n:06}"), format!("{writer}-{n}"));
            let args = ["-t", "5s", "put", key.as_str(), value.as_str()];
            let _ = proc::raftctl(&endpoints, &args, b"").quietly();
            acked.insert(key, value);
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
        acked
    }

    /// Waits for more acknowledgements.
    fn goes_on(&self, writers: &[ScopedJoinHandle<'_, Acked>]) {
        let goal = self.acked.load(Ordering::Relaxed) + ACKED_PER_STEP;
        wait::until_true("writes are acknowledged", PATIENCE, || {
            let failed = writers.iter().any(ScopedJoinHandle::is_finished);
            assert!(!failed, "a call failed");
            self.acked.load(Ordering::Relaxed) >= goal
        });
    }
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Adds a node and waits until it votes; instead of `old`, if there is one.
pub(super) fn add(cluster: &mut Cluster, old: Option<u64>) -> u64 {
    let node = cluster.prepare_newcomer();
    let (id, addr) = (node.id, node.peer_addr.clone());
    let name = format!("n{id}");
    let old = old.map(|old| format!("n{old}"));
    let mut args = match &old {
        Some(old) => vec!["-t", "5s", "replace-peer", old, &name, &addr, "--yes"],
        None => vec!["-t", "5s", "add-peer", &name, &addr],
    };
    let line = cluster.ctl(&args).exits(0);
    assert_eq!(line.text().lines().count(), 1, "one line: {}", line.text());
    assert!(line.text().starts_with("raftd --join "), "{}", line.text());
    let node = cluster.node(id);
    node.start();
    node.wait_ready();
    args.push("--wait");
    args.push("--json");
    let _ = cluster.ctl(&args).exits(0);
    id
}

/// Waits until a removed node has ended by itself, in order.
fn ends(cluster: &mut Cluster, id: u64) {
    let status = cluster.node(id).wait_end();
    assert_eq!(status.code(), Some(0), "a removed node ends in order");
    let place = cluster.nodes.iter().position(|node| node.id == id);
    cluster.nodes.remove(place.expect("it was there"));
}

fn remove(cluster: &mut Cluster, load: &Load, id: u64) {
    let name = format!("n{id}");
    let others: Vec<&str> = cluster
        .nodes
        .iter()
        .filter(|node| node.id != id)
        .map(|node| node.client_addr.as_str())
        .collect();
    *load.endpoints.lock().expect("no writer panics") = others.join(",");
    let _ = cluster
        .ctl(&["-t", "5s", "remove-peer", &name, "--yes"])
        .exits(0);
    ends(cluster, id);
}

pub(super) fn voters(cluster: &Cluster) -> Vec<u64> {
    let peers = cluster.ctl(&["peers"]).exits(0);
    let lines = peers.text().lines().map(|line| line.split('\t').collect());
    let voters = lines.filter(|fields: &Vec<&str>| fields[2] == "voter");
    voters
        .map(|fields| fields[0].parse().expect("an id"))
        .collect()
}

/// 1, 3, 5, 3 nodes, then each of the three replaced, the leader first and last, then 1.
#[test]
fn a_cluster_grows_shrinks_and_is_replaced_under_load() {
    let mut cluster = Cluster::start(1);
    let load = Load::default();
    let follow = |cluster: &Cluster| {
        *load.endpoints.lock().expect("no writer panics") = cluster.endpoints();
    };
    follow(&cluster);
    let acked: Vec<Acked> = thread::scope(|scope| {
        let writers = load.start(scope);
        let writing = Stop(&load);
        for count in 2..=5 {
            load.goes_on(&writers);
            add(&mut cluster, None);
            follow(&cluster);
            assert_eq!(voters(&cluster).len(), count);
        }
        for victim in [cluster.wait_leader(), 0] {
            load.goes_on(&writers);
            let victim = match victim {
                0 => cluster.nodes[0].id,
                leader => leader,
            };
            remove(&mut cluster, &load, victim);
        }
        assert_eq!(voters(&cluster).len(), 3);
        let mut old = voters(&cluster);
        let leader = cluster.wait_leader();
        old.sort_by_key(|id| *id != leader);
        for old in old {
            load.goes_on(&writers);
            add(&mut cluster, Some(old));
            let others = cluster.nodes.iter().filter(|node| node.id != old);
            let others: Vec<&str> = others.map(|node| node.client_addr.as_str()).collect();
            *load.endpoints.lock().expect("no writer panics") = others.join(",");
            ends(&mut cluster, old);
        }
        for _ in 0..2 {
            load.goes_on(&writers);
            let leader = cluster.wait_leader();
            remove(&mut cluster, &load, leader);
        }
        load.goes_on(&writers);
        drop(writing);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("every call goes well"))
            .collect()
    });
    assert_eq!(voters(&cluster).len(), 1);
    let scan = cluster.ctl(&["-t", "30s", "scan", "put/"]).quietly();
    let text = scan.text();
    let found: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let expected = acked.iter().flatten();
    let expected: BTreeMap<&str, &str> = expected.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(found, expected, "lost, wrong, or written by nobody");
}

/// What would leave too few voters up is refused with status 6, and changes nothing; so are a member
/// that is not there and a promotion of who lags.
#[test]
fn what_would_cost_the_quorum_is_refused() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let mut followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let (dead, alive) = (followers.remove(0), followers.remove(0));
    cluster.node(dead).kill();
    let dead_name = format!("n{dead}");
    let alive_name = format!("n{alive}");
    let refused = |cluster: &Cluster, args: &[&str]| {
        let done = wait::until("the member counts as down", PATIENCE, || {
            let done = cluster.ctl(args);
            (done.code == Some(6)).then_some(done)
        });
        done.stderr
    };
    let told = refused(&cluster, &["remove-peer", &alive_name, "--dry-run"]);
    assert!(told.contains("only 1 would be up"), "{told}");
    refused(&cluster, &["remove-peer", &alive_name, "--yes"]);
    refused(&cluster, &["demote-peer", &alive_name, "--yes"]);
    refused(&cluster, &["remove-peer", "n9", "--yes"]);
    assert_eq!(voters(&cluster), [1, 2, 3]);
    // Without a terminal nobody can be asked.
    let _ = cluster.ctl(&["remove-peer", &dead_name]).exits(2);
    let plan = cluster
        .ctl(&["remove-peer", &dead_name, "--dry-run"])
        .exits(0);
    let steps: Vec<String> = plan
        .text()
        .lines()
        .map(|line| line.split('\t').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(steps, ["before 3 1", "during 2 0", "after 2 0"]);
    // The dead one goes, and learns it when it comes back.
    let _ = cluster.ctl(&["remove-peer", &dead_name, "--yes"]).exits(0);
    let _ = cluster
        .ctl(&["remove-peer", &dead.to_string(), "--yes"])
        .exits(0);
    cluster.node(dead).start();
    let status = cluster.node(dead).wait_end();
    assert_eq!(status.code(), Some(0));
    // The last voter stays.
    let _ = cluster.ctl(&["remove-peer", &alive_name, "--yes"]).exits(0);
    let last = format!("n{leader}");
    refused(&cluster, &["remove-peer", &last, "--yes"]);
}

/// A node that never shows up is removed again; one whose data directory was lost is refused.
#[test]
fn who_does_not_come_up_is_removed_again_and_an_id_belongs_to_one_directory() {
    let mut cluster = Cluster::start(1);
    let undone = cluster.ctl(&["add-peer", "ghost", "127.0.0.1:1", "--wait=1s"]);
    let undone = undone.exits(1);
    // Asked again, a line would name nobody to join.
    let own = cluster.nodes[0].peer_addr.clone();
    let alone = cluster.ctl(&["add-peer", "n1", &own]).exits(6);
    assert!(alone.stderr.contains("the only member"), "{}", alone.stderr);
    assert!(undone.text().starts_with("raftd --join"));
    assert_eq!(voters(&cluster), [1]);
    assert_eq!(cluster.ctl(&["peers"]).exits(0).text().lines().count(), 1);

    // The ghost used an id up: the log calls the second node of this test 3.
    let addr = cluster.prepare_newcomer().peer_addr.clone();
    let learner = cluster.ctl(&["add-peer", "n2", &addr, "--learner", "--json"]);
    assert!(learner.exits(0).text().contains("\"id\":3"));
    let node = cluster.node(2);
    node.start();
    node.wait_ready();
    wait::until_true("the learner has the log", PATIENCE, || {
        let peers = cluster.ctl(&["peers"]);
        let text = peers.text().to_owned();
        text.lines()
            .any(|line| line.starts_with("3\tn2\tlearner\tfollower") && line.ends_with("\t0"))
    });
    assert_eq!(voters(&cluster), [1]);
    let _ = cluster.ctl(&["promote-peer", "n2"]).exits(0);
    assert_eq!(voters(&cluster), [1, 3]);
    let _ = cluster.ctl(&["demote-peer", "n2", "--yes"]).exits(0);

    let node = cluster.node(2);
    node.kill();
    fs::remove_dir_all(&node.data_dir).expect("its data are lost");
    node.start();
    let status = node.wait_end();
    assert_eq!(status.code(), Some(78), "{}", node.log_since_start());
    assert!(node.log_since_start().contains("replace-peer"));
}

/// The only voter has nobody to hand over to: it makes the change that ends its own vote, and leads
/// until that is committed.
#[test]
fn the_only_node_is_replaced() {
    let mut cluster = Cluster::start(1);
    let _ = cluster.ctl(&["put", "a", "1"]).exits(0);
    add(&mut cluster, Some(1));
    ends(&mut cluster, 1);
    assert_eq!(voters(&cluster), [2]);
    assert_eq!(cluster.ctl(&["get", "a"]).quietly().text(), "1");
}
