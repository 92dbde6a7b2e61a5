//! Disks that are full, and then are not (rules E5): real file systems, small ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use raftctl::client::{Client, Command, Deadline, Error, Options, Why};
use raftd_tests::cluster::{Cluster, Node};
use raftd_tests::proc::PATIENCE;
use raftd_tests::torture::disks::Small;
use raftd_tests::{skip, wait};
use wire::error::Error as Refusal;

const MIB: u64 = 1 << 20;
/// Small segments, so that they come and go; a snapshot only where a disk is low.
const SETTINGS: &[&str] = &[
    "--set",
    "wal.segment_bytes=256KiB",
    "--set",
    "wal.soft_free_bytes=1MiB",
    "--set",
    "snapshot.gap=0s",
];
const WRITERS: u64 = 3;
const VALUE_BYTES: usize = 8_000;
/// Refusals in a row after which a writer has seen enough.
const REFUSALS: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tmpfs,
    Ext4,
}

/// Nodes with a small file system for each; `None` where this user may not mount.
///
/// The cluster ends before its disks do.
fn mount(count: usize, kind: Kind, bytes: u64, test: &str) -> Option<(Cluster, Vec<Small>)> {
    let mut cluster = Cluster::prepare(count, SETTINGS);
    let mut disks = Vec::new();
    for n in 1..=count {
        let at = cluster.path(&format!("disk{n}"));
        let small = match kind {
            Kind::Tmpfs => Small::tmpfs(&at, bytes),
            Kind::Ext4 => Small::ext4(&cluster.path(&format!("disk{n}.ext4")), &at, bytes),
        };
        match small {
            Ok(small) => {
                cluster.nodes[n - 1].data_dir = small.path().join("data");
                disks.push(small);
            }
            Err(why) => {
                skip(&format!("disk_full::{test}"), &why);
                return None;
            }
        }
    }
    cluster.start_all();
    cluster.wait_leader();
    Some((cluster, disks))
}

/// What nobody compresses, the same for the same seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut value = Vec::with_capacity(VALUE_BYTES);
    while value.len() < VALUE_BYTES {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(&(state >> 33).to_be_bytes()[4..]);
    }
    value
}

/// What all writers together have seen.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a Seen);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Puts without end. Says which keys were acknowledged, with the seeds of their values.
fn put_until(seen: &Seen, endpoints: &str, writer: u64) -> BTreeMap<String, u64> {
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    let mut client = Client::new(Options::new(endpoints));
    let mut acknowledged = BTreeMap::new();
    for n in 1_u64.. {
        let (key, seed) = (format!("k/{writer}/{n:06}"), writer << 32 | n);
        let value = noise(seed);
        let command = Command::Put {
            key: key.as_bytes(),
            value: &value,
        };
        let mut result = client.write(command, Deadline::after(Duration::from_secs(2)));
        let outcome = wait::until("a verdict", PATIENCE, || match &result {
            Err(Error::Unknown { request, why, .. }) => {
                if let Why::Server(Refusal::DiskFull { .. }) = why {
                    seen.refused.fetch_add(1, Ordering::Relaxed);
                }
                let deadline = Deadline::after(Duration::from_secs(2));
                result = client.resume(*request, command, deadline);
                None
            }
            other => Some(other.is_ok()),
        });
        if outcome {
            acknowledged.insert(key, seed);
            seen.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else if let Err(Error::Refused { error, .. }) = &result {
            assert!(matches!(error, Refusal::DiskFull { .. }), "{error}");
            seen.refused.fetch_add(1, Ordering::Relaxed);
            // Whoever is refused has time.
            thread::park_timeout(Duration::from_millis(5));
        }
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}

/// Puts go on while `act` runs. Says which keys were acknowledged.
fn under_load(
    cluster: &mut Cluster,
    act: impl FnOnce(&mut Cluster, &Seen),
) -> BTreeMap<String, u64> {
    let (seen, endpoints) = (Seen::default(), cluster.endpoints());
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=WRITERS)
            .map(|writer| {
                let (seen, endpoints) = (&seen, &endpoints);
                scope.spawn(move || put_until(seen, endpoints, writer))
            })
            .collect();
        let writing = Stop(&seen);
        act(cluster, &seen);
        drop(writing);
        let ended = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"));
        ended.flatten().collect()
    })
}

fn more(what: &str, count: &AtomicU64, by: u64) {
    let goal = count.load(Ordering::Relaxed) + by;
    wait::until_true(what, PATIENCE, || count.load(Ordering::Relaxed) >= goal);
}

/// Every acknowledged key has its value, and nothing else is there.
fn check(cluster: &Cluster, acknowledged: &BTreeMap<String, u64>) {
    let keys = cluster
        .ctl(&["-t", "30s", "scan", "--keys", "k/"])
        .quietly();
    let found: Vec<&str> = keys.text().lines().collect();
    let expected: Vec<&str> = acknowledged.keys().map(String::as_str).collect();
    assert_eq!(found, expected, "the acknowledged keys");
    for (key, seed) in acknowledged.iter().step_by(97) {
        let value = cluster.ctl(&["get", key]).quietly();
        assert!(value.stdout == noise(*seed), "the value of {key}");
    }
}

/// The others take all the room under load: puts are refused by name; reads, deletes, votes and the
/// processes go on; and when the room is back so do the puts.
fn all_the_room_is_taken_and_given_back(kind: Kind, test: &str) {
    let Some((mut cluster, disks)) = mount(3, kind, 256 * MIB, test) else {
        return;
    };
    let acknowledged = under_load(&mut cluster, |cluster, seen| {
        more("puts are acknowledged", &seen.acknowledged, 100);
        disks
            .iter()
            .for_each(|disk| disk.fill().expect("it is filled"));
        more("puts are refused", &seen.refused, REFUSALS);
        let refused = cluster.ctl(&["put", "k", "v"]).exits(6);
        assert!(
            refused.stderr.contains("only deletes"),
            "{}",
            refused.stderr
        );
        let _ = cluster.ctl(&["del", "nothing"]).exits(0);

        let warned = |node: &Node| node.log_since_start().contains("WARN  disk room changed");
        assert!(cluster.nodes.iter().any(warned), "no log tells it");
        let leader = cluster.wait_leader();
        cluster.node(leader).kill();
        wait::until_true("the others elect one", PATIENCE, || {
            cluster.wait_leader() != leader
        });
        let first = cluster.ctl(&["-t", "30s", "count", "k/1/"]).quietly();
        assert!(first.text().trim().parse::<u64>().expect("a number") > 10);
        // A start on the full disk needs no room.
        cluster.start_all();
        more("puts are refused", &seen.refused, REFUSALS);

        disks
            .iter()
            .for_each(|disk| disk.free().expect("it is freed"));
        more("puts are acknowledged again", &seen.acknowledged, 100);
    });
    check(&cluster, &acknowledged);
}

/// The data take all the room under load; what is deleted makes room for what is to come, without
/// anybody's help.
fn deletes_make_room(kind: Kind, test: &str) {
    let Some((mut cluster, _disks)) = mount(3, kind, 24 * MIB, test) else {
        return;
    };
    let mut acknowledged = under_load(&mut cluster, |_, seen| {
        more("puts are refused", &seen.refused, REFUSALS);
    });
    check(&cluster, &acknowledged);
    assert!(
        acknowledged.len() > 300,
        "{} puts fitted",
        acknowledged.len()
    );
    let keys: Vec<String> = acknowledged.keys().cloned().collect();
    for (_, key) in (0..4).cycle().zip(&keys).filter(|(n, _)| *n > 0) {
        let _ = cluster.ctl(&["del", key]).exits(0);
        acknowledged.remove(key);
    }
    wait::until_true("puts are taken again", PATIENCE, || {
        cluster.ctl(&["-t", "2s", "put", "again", "v"]).code == Some(0)
    });
    check(&cluster, &acknowledged);
}

#[test]
fn all_the_room_is_taken_and_given_back_on_tmpfs() {
    all_the_room_is_taken_and_given_back(
        Kind::Tmpfs,
        "all_the_room_is_taken_and_given_back_on_tmpfs",
    );
}

#[test]
fn all_the_room_is_taken_and_given_back_on_ext4() {
    all_the_room_is_taken_and_given_back(
        Kind::Ext4,
        "all_the_room_is_taken_and_given_back_on_ext4",
    );
}

#[test]
fn deletes_make_room_on_tmpfs() {
    deletes_make_room(Kind::Tmpfs, "deletes_make_room_on_tmpfs");
}

#[test]
fn deletes_make_room_on_ext4() {
    deletes_make_room(Kind::Ext4, "deletes_make_room_on_ext4");
}

/// A disk can be full although bytes are left: the log says what it was that could not be had.
#[test]
fn a_disk_without_room_for_files_is_named() {
    let test = "a_disk_without_room_for_files_is_named";
    let Some((cluster, disks)) = mount(1, Kind::Tmpfs, 256 * MIB, test) else {
        return;
    };
    let taken = (0_u64..).map(|n| File::create(disks[0].path().join(n.to_string())));
    assert!(taken.take_while(Result::is_ok).count() > 100);
    let value = noise(1);
    wait::until_true("the log tells why", PATIENCE, || {
        let _ = cluster.ctl_with(&["put", "k", "-"], &value);
        let log = cluster.nodes[0].log_since_start();
        let mut changes = log
            .lines()
            .filter(|line| line.contains("disk room changed"));
        changes.any(|line| line.contains("No space left on device"))
    });
}

#[test]
fn each_loss_of_the_data_directory_is_told() {
    let mut cluster = Cluster::prepare(1, SETTINGS);
    cluster.start_all();
    cluster.wait_leader();
    let here = cluster.nodes[0].data_dir.clone();
    let away = cluster.path("away");
    let told = |what: &str, times: usize| {
        wait::until_true(what, PATIENCE, || {
            let log = cluster.nodes[0].log_since_start();
            log.matches(what).count() == times
        });
    };
    for times in 1..=2 {
        fs::rename(&here, &away).expect("it is renamed");
        told("the room on the disk is not known", times);
        fs::rename(&away, &here).expect("it is renamed back");
        told("disk room changed state=Ok", times);
    }
}
