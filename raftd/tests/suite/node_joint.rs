//! A change of voters is half done when nodes restart, and when a snapshot is taken (row 44 of the
//! known bugs): either half counts as it did.

use std::time::Duration;

use raft::Raft;
use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::snapshot::{Step, Writer, verify};
use raftd::storage::open_disk;
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::{Pending, segment};
use wire::client::MemberChange;
use wire::entry::Entry;
use wire::membership::{Membership, Suffrage};
use wire::types::{Index, NodeId};

use super::node_harness::{Cluster, Options, ms};
use super::node_members::change;
use super::node_snapshots::{Client, await_snapshot, holds, patient};
use super::wal_damage::put;
use super::wal_story::{open, options};
use super::wal_support::{entries, identity, membership_entry, write};

const DEMOTE: u64 = 1_000;

fn membership(cluster: &Cluster, id: NodeId) -> &Membership {
    cluster.node(id).raft().membership()
}

/// Asks for a follower's demotion; a disk takes its time, so that one step is seen after the other.
fn begin(options: Options) -> (Cluster, NodeId, NodeId) {
    let mut cluster = Cluster::serving(options);
    let leader = cluster.elect();
    cluster.run(ms(100));
    let demoted = cluster.other_than(leader);
    let client = cluster.connect(leader);
    let request = change(MemberChange::Demote(demoted));
    cluster.send(client, &[(DEMOTE, request)]);
    (cluster, leader, demoted)
}

fn await_end(cluster: &mut Cluster, demoted: NodeId) {
    cluster.run_until("the change is done", ms(10_000), |cluster| {
        let ids = cluster.ids();
        ids.into_iter()
            .all(|id| membership(cluster, id).suffrage(demoted) == Some(Suffrage::Learner))
    });
}

#[test]
fn all_nodes_restart_within_a_change_and_finish_it() {
    for tail_entries in [1, 100] {
        let (mut cluster, _, demoted) = begin(Options {
            disk_delay: ms(5),
            tail_entries,
            ..Options::default()
        });
        let is_joint = |entry: &Entry| {
            let told = entry.membership().unwrap();
            told.is_some_and(|membership| membership.is_joint())
        };
        cluster.run_until("all disks have the first step", ms(1_000), |cluster| {
            let ids = cluster.ids();
            ids.into_iter()
                .all(|id| cluster.durable_log(id).last().is_some_and(is_joint))
        });
        for id in cluster.ids() {
            cluster.crash(id);
        }
        for id in cluster.ids() {
            cluster.start(id);
            let found = membership(&cluster, id);
            assert_eq!(found.suffrage(demoted), Some(Suffrage::Demoted), "{id}");
        }
        await_end(&mut cluster, demoted);
        cluster.elect();
    }
}

#[test]
fn a_snapshot_within_a_change_is_installed_and_begun_from() {
    let options = Options {
        members: 5,
        disk_delay: ms(5),
        ..patient()
    };
    let (mut cluster, leader, demoted) = begin(options);
    // The first step waits for disks: what is asked for now comes behind it, before the second one.
    assert!(membership(&cluster, leader).is_joint());
    let mut ids = cluster.ids();
    let late = ids.iter().position(|id| ![leader, demoted].contains(id));
    let late = ids.remove(late.expect("there are five"));
    cluster.crash(late);
    let mut client = Client::new(&mut cluster, leader, 1);
    let index = client.snapshot(&mut cluster);
    cluster.run_until("the change is done", ms(10_000), |cluster| {
        !membership(cluster, leader).is_joint()
    });
    await_snapshot(&mut cluster, &ids, index);
    let bytes = cluster.snapshot_bytes(leader);
    let header = verify(&mut &bytes[..], "it").unwrap().header;
    let told = header.head.membership.expect("it was changed by then");
    assert_eq!(told.suffrage(demoted), Some(Suffrage::Demoted));
    client.put(&mut cluster, b"k", b"v");

    // All begin from it, with what is behind it.
    let settled = membership(&cluster, leader).clone();
    for id in &ids {
        cluster.crash(*id);
    }
    for id in &ids {
        cluster.start(*id);
        let raft = cluster.node(*id).raft();
        assert_eq!(raft.membership(), &settled, "{id}");
        assert_eq!(raft.base().index, index, "{id}: the log begins behind it");
    }
    // The one that was down is sent it, and what is behind it.
    cluster.start(late);
    assert_ne!(membership(&cluster, late), &settled);
    cluster.run_until("it has the state", ms(10_000), |cluster| {
        cluster.status(late).snapshot.index == index && membership(cluster, late) == &settled
    });
    await_end(&mut cluster, demoted);
    assert_eq!(holds(&mut cluster, late, b"k").as_deref(), Some(&b"v"[..]));
}

fn core(disk: &SimDisk) -> (Raft, Vec<Index>) {
    let opened = open_disk(Latched::new(disk.clone()), &options(disk.operations()));
    let (restored, _) = opened.expect("it opens").start();
    let config = raft::Config {
        id: NodeId(1),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        heartbeat: Duration::from_millis(40),
        window_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        life: 0,
        seed: 1,
    };
    let behind = restored.raft.memberships.iter();
    let behind = behind.map(|(id, _)| id.index).collect();
    (
        Raft::new(config, restored.raft, raft::Instant::default()),
        behind,
    )
}

/// The memberships of the log count that are behind the snapshot, wherever it was taken.
#[test]
fn a_start_has_who_is_a_member_from_the_snapshot_and_the_log_behind_it() {
    let disk = SimDisk::new(3, 32 << 20);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut store = Store::new(identity().epoch, SESSIONS_MAX);
    for index in 1..=9 {
        let entry = match index {
            2 | 5 | 6 | 9 => membership_entry(index, 1),
            _ => entries(index, 1, 1, 70_000).remove(0),
        };
        store.apply(&entry);
        pending.push(write(index, 1, vec![entry]));
        put(&mut wal, &mut pending);
        if index == 1 {
            let (core, behind) = core(&disk.fork(1));
            assert_eq!(behind, []);
            let initial = Membership::initial(&identity().members, &[]);
            assert_eq!(core.membership(), &initial, "with whom it began");
        }
        if index == 5 {
            // Within the change that entry 5 began; the log before it goes.
            let (cluster, members) = (identity().cluster, identity().members);
            let mut writer = Writer::begin(&disk, store.view(), cluster, &members).unwrap();
            while !matches!(writer.step(&disk).unwrap(), Step::Published(_)) {}
            let (core, behind) = core(&disk.fork(1));
            assert!(core.membership().is_joint());
            assert_eq!(behind, [Index(2), Index(5)]);
            wal.mark(store.applied());
            put(&mut wal, &mut pending);
            let mut files = wal.compact(Index(5), 0);
            assert!(!files.is_empty(), "the log is compacted");
            while !files.is_empty() {
                segment::remove(wal.disk(), &mut files).unwrap();
            }
            let (core, behind) = self::core(&disk.fork(1));
            assert!(core.membership().is_joint(), "from the snapshot");
            assert_eq!((core.membership().newest, behind), (NodeId(10), vec![]));
        }
    }
    drop(wal);
    let (core, behind) = core(&disk.restart());
    assert_eq!(behind, [Index(6), Index(9)]);
    assert!(core.membership().is_joint());
    assert_eq!(core.membership().newest, NodeId(14));
}
