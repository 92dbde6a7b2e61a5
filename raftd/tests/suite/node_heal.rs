//! Damage, wrong states and bad disks in clusters of nodes under the harness: what is healed, from
//! whom, and what clients see of it meanwhile (rules B4, D4, D5, E5).

use std::time::Duration;

use raft::RoleName;
use raftd::node::io::{SnapshotEvent, SnapshotFile, StorageEvent};
use raftd::store::{Builder, ImageHead, Store};
use wire::client::{Consistency, Reply, Request, ViewChoice};
use wire::error::Error;
use wire::peer::{DiskState, Health};
use wire::types::{EntryId, Index, NodeId};

use super::node_cluster::{get, put, session, stale_get, value, written};
use super::node_harness::{Cluster, EPOCH, Options, error, ms};
use super::node_reads::anywhere;
use super::node_snapshots::{Client, await_snapshot, holds, patient};
use super::node_transfers::nothing_of_it;
use super::node_views::scan;

/// Entries from one comparison of the states to the next.
const STEP: u64 = 1_024;

/// Three nodes with a snapshot that the log begins behind, and a key in front of and behind it.
pub(crate) fn with_snapshot() -> (Cluster, NodeId, Client, Index) {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"before", b"1");
    let index = client.snapshot(&mut cluster);
    client.put(&mut cluster, b"after", b"2");
    let ids = cluster.ids();
    await_snapshot(&mut cluster, &ids, index);
    cluster.run_until("compaction", ms(1_000), |cluster| {
        ids.iter()
            .all(|id| cluster.node(*id).raft().base().index == index)
    });
    (cluster, leader, client, index)
}

pub(crate) fn others(cluster: &Cluster, id: NodeId) -> [NodeId; 2] {
    let mut ids = cluster.ids();
    ids.retain(|other| *other != id);
    ids.try_into().unwrap()
}

/// A follower that has come back with a state that is not what the quorum holds.
pub(crate) fn spoiled(cluster: &mut Cluster, leader: NodeId) -> NodeId {
    let [hurt, _] = others(cluster, leader);
    cluster.crash(hurt);
    cluster.spoil_state(hurt);
    cluster.start(hurt);
    hurt
}

pub(crate) fn said(cluster: &Cluster, id: NodeId, begin: &str) -> usize {
    let events = cluster.events(id).iter();
    events.filter(|event| event.starts_with(begin)).count()
}

/// Writes until the states have been compared once more.
pub(crate) fn compare(cluster: &mut Cluster, client: &mut Client) -> Index {
    let applied = |cluster: &Cluster| cluster.status(cluster.leader().unwrap()).applied.0;
    let next = (applied(cluster) / STEP + 1) * STEP;
    while applied(cluster) < next {
        client.put(cluster, b"many", b"v");
    }
    Index(next)
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_leaders() {
    let (mut cluster, leader, _, index) = with_snapshot();
    let [hurt, other] = others(&cluster, leader);
    cluster.crash(hurt);
    cluster.damage_snapshot(hurt);
    cluster.isolate(leader);
    cluster.start(hurt);
    assert_eq!(cluster.status(hurt).state, "rebuilding");
    assert_ne!(cluster.status(hurt).error, "");
    let reader = cluster.connect(hurt);
    let refusal = error(cluster.ask(reader, 1, stale_get(b"before")));
    let Error::Lagging(lag) = refusal else {
        panic!("{refusal}");
    };
    assert_eq!(lag.reason, "its state is being rebuilt");
    // Others have a state: nobody waits here until there is a leader.
    cluster.send(reader, &[(2, anywhere(b"before"))]);
    let told = cluster.reply(reader, 2).expect("it is said at once");
    assert!(matches!(error(told), Error::Lagging(_)));
    // It votes, and does not lead.
    cluster.run_until("the other leads", ms(5_000), |cluster| {
        cluster.node(other).raft().role() == RoleName::Leader
    });
    cluster.heal();
    cluster.run_until("a state", ms(10_000), |cluster| {
        cluster.status(hurt).state == "serving" && cluster.status(hurt).snapshot.index > index
    });
    assert_eq!(holds(&mut cluster, hurt, b"before"), Some(b"1".to_vec()));
    assert_eq!(holds(&mut cluster, hurt, b"after"), Some(b"2".to_vec()));
    assert_eq!(cluster.status(hurt).error, "");
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 2);
    client.put(&mut cluster, b"later", b"3");
}

/// A leader that waits for a newer snapshot hears an answer to what it once sent of an older one
/// (simulator, seed 120008753).
#[test]
fn a_late_answer_does_not_begin_a_transfer_of_too_old_a_snapshot() {
    let (mut cluster, leader, _, index) = with_snapshot();
    let [hurt, _] = others(&cluster, leader);
    cluster.crash(hurt);
    cluster.damage_snapshot(hurt);
    cluster.start(hurt);
    cluster.run_until("it told that it rebuilds", ms(1_000), |cluster| {
        let mut followers = cluster.node(leader).raft().followers();
        followers.any(|follower| follower.health.rebuilding)
    });
    let health = Health {
        rebuilding: true,
        ..Health::default()
    };
    let late = nothing_of_it(&cluster, leader, health);
    cluster.arrives_late(hurt, leader, late);
    cluster.run_until("a state", ms(10_000), |cluster| {
        cluster.status(hurt).state == "serving"
    });
    let pieces = cluster.pieces(hurt);
    assert!(pieces.iter().all(|id| id.index > index), "{pieces:?}");
}

/// The log of a node without a state is good: what it acknowledges counts.
#[test]
fn writes_go_on_while_one_of_two_nodes_rebuilds() {
    let (mut cluster, leader, mut client, _) = with_snapshot();
    let [hurt, other] = others(&cluster, leader);
    cluster.crash(hurt);
    cluster.damage_snapshot(hurt);
    cluster.crash(other);
    cluster.start(hurt);
    client.put(&mut cluster, b"meanwhile", b"3");
    assert_eq!(cluster.status(hurt).state, "rebuilding");
    cluster.run_until("a state", ms(10_000), |cluster| {
        cluster.status(hurt).state == "serving"
    });
    assert_eq!(holds(&mut cluster, hurt, b"meanwhile"), Some(b"3".to_vec()));
}

#[test]
fn a_state_that_differs_is_thrown_away_and_rebuilt() {
    let (mut cluster, leader, mut client, index) = with_snapshot();
    let hurt = spoiled(&mut cluster, leader);
    assert_eq!(cluster.status(hurt).state, "serving", "nobody knows yet");
    let compared = compare(&mut cluster, &mut client);
    cluster.run_until("the finding", ms(2_000), |cluster| {
        said(cluster, hurt, "the state differs from the quorum's") == 1
    });
    cluster.run_until("another state", ms(10_000), |cluster| {
        let status = cluster.status(hurt);
        status.state == "serving" && status.snapshot.index > index && status.applied >= compared
    });
    assert_eq!(cluster.node(hurt).store().map().get(b"\0"), None);
    assert_eq!(holds(&mut cluster, hurt, b"before"), Some(b"1".to_vec()));
    // What it holds now is what all hold.
    compare(&mut cluster, &mut client);
    cluster.run(ms(1_000));
    assert_eq!(said(&cluster, hurt, "the state differs"), 1);
    assert!(
        cluster
            .ids()
            .iter()
            .all(|id| cluster.status(*id).error.is_empty())
    );
}

/// Who does not read its replies would be served later, from a state that may be older than what its
/// read has to see.
#[test]
fn a_state_that_is_thrown_away_takes_along_all_reads() {
    let (mut cluster, leader, mut client, _) = with_snapshot();
    let hurt = spoiled(&mut cluster, leader);
    cluster.run(ms(100));
    let reader = cluster.connect(hurt);
    cluster.ask(reader, 1, anywhere(b"before"));
    cluster.clog(reader, true);
    cluster.send(
        reader,
        &[(2, anywhere(b"before")), (3, stale_get(b"before"))],
    );
    cluster.run(ms(100));
    let waiting = cluster.node(hurt).waiting();
    assert_eq!((waiting.reads, waiting.unconfirmed_reads), (2, 0));
    compare(&mut cluster, &mut client);
    cluster.run_until("the finding", ms(2_000), |cluster| {
        said(cluster, hurt, "the state differs from the quorum's") == 1
    });
    assert_eq!(cluster.node(hurt).waiting().reads, 0);
    for request_id in [2, 3] {
        let told = error(cluster.reply(reader, request_id).expect("it is told"));
        assert!(matches!(told, Error::NotLeader { .. }), "{told:?}");
    }
}

/// Its pages would be of the wrong state for as long as the view is there.
#[test]
fn a_state_that_is_thrown_away_takes_along_all_views() {
    let (mut cluster, leader, mut client, _) = with_snapshot();
    client.put(&mut cluster, b"third", b"3");
    let hurt = spoiled(&mut cluster, leader);
    cluster.run(ms(100));
    let reader = cluster.connect(hurt);
    let mut first = scan(ViewChoice::Keep, None);
    if let Request::Scan { freshness, .. } = &mut first {
        *freshness = Consistency::Stale.into();
    }
    let Reply::Page {
        view: Some(view), ..
    } = cluster.ask(reader, 1, first)
    else {
        panic!("no view");
    };
    compare(&mut cluster, &mut client);
    cluster.run_until("the finding", ms(2_000), |cluster| {
        said(cluster, hurt, "the state differs from the quorum's") == 1
    });
    cluster.run_until("another state", ms(10_000), |cluster| {
        cluster.status(hurt).state == "serving"
    });
    let next = scan(ViewChoice::Of(view), Some(b"before"));
    assert_eq!(error(cluster.ask(reader, 2, next)), Error::ViewGone);
}

/// Some state as of an entry.
pub(crate) fn store_at(applied: EntryId) -> Box<Store> {
    let head = ImageHead {
        applied,
        wall_ms: 0,
        epoch: EPOCH,
        horizon: None,
        keys: 0,
        sessions: 0,
        membership: None,
    };
    let store = Builder::new(head).finish(16);
    Box::new(store.expect("there is a state without keys"))
}

/// A leader had sent one meanwhile. It goes with those that may hold the wrong state, so the node must
/// not go on from it.
#[test]
fn a_snapshot_that_came_before_the_state_was_thrown_away_is_gone() {
    let (mut cluster, leader, mut client, _) = with_snapshot();
    let hurt = spoiled(&mut cluster, leader);
    cluster.run(ms(100));
    cluster.hang_disk(hurt, true);
    compare(&mut cluster, &mut client);
    cluster.run_until("the finding", ms(2_000), |cluster| {
        said(cluster, hurt, "the state differs from the quorum's") == 1
    });
    // What was received before is told before the others are removed, and goes with them.
    let file = cluster.status(leader).snapshot;
    let whole = SnapshotEvent::Whole(SnapshotFile { id: file, bytes: 1 }, store_at(file));
    cluster.report(hurt, StorageEvent::Snapshot(whole));
    cluster.hang_disk(hurt, false);
    cluster.run_until("another state", ms(10_000), |cluster| {
        cluster.status(hurt).state == "serving" && cluster.has_marked_snapshot(hurt)
    });
    cluster.run(ms(1_000));
    assert!(cluster.has_marked_snapshot(hurt));
    assert_eq!(holds(&mut cluster, hurt, b"before"), Some(b"1".to_vec()));
    assert_eq!(said(&cluster, hurt, "snapshot installed"), 1);
}

/// Entries overtook it while it was verified.
#[test]
fn a_snapshot_that_comes_too_late_replaces_nothing() {
    let (mut cluster, leader, _, index) = with_snapshot();
    let follower = cluster.other_than(leader);
    cluster.run(ms(200));
    let applied = cluster.status(follower).applied;
    assert!(applied > index, "{applied}");
    let file = cluster.status(leader).snapshot;
    let whole = SnapshotEvent::Whole(SnapshotFile { id: file, bytes: 1 }, store_at(file));
    cluster.report(follower, StorageEvent::Snapshot(whole));
    cluster.run(ms(200));
    assert!(cluster.status(follower).applied >= applied);
    assert_eq!(holds(&mut cluster, follower, b"after"), Some(b"2".to_vec()));
}

/// Nobody else may be told what a wrong state holds.
#[test]
fn a_leader_whose_state_differs_hands_over_and_is_rebuilt() {
    let (mut cluster, mut leader, _, _) = with_snapshot();
    let hurt = spoiled(&mut cluster, leader);
    while leader != hurt {
        cluster.run_until("a whole cluster", ms(5_000), |cluster| {
            cluster
                .ids()
                .iter()
                .all(|id| cluster.status(*id).applied == cluster.status(leader).last)
        });
        cluster.crash(leader);
        cluster.run_until("another leader", ms(5_000), |cluster| {
            cluster.leader().is_some_and(|id| id != leader)
        });
        cluster.start(leader);
        leader = cluster.elect();
    }
    let mut client = Client::new(&mut cluster, hurt, 2);
    let applied = |cluster: &Cluster| cluster.status(hurt).applied.0;
    while applied(&cluster) % STEP < STEP - 10 {
        client.put(&mut cluster, b"many", b"v");
    }
    let writer = cluster.connect(hurt);
    let mut session = session(&cluster, 3);
    for n in 1..=100 {
        let write = session.next(put(b"late", b"v"));
        cluster.send(writer, &[(n, write)]);
        cluster.run(Duration::from_micros(20));
    }
    cluster.run_until("another leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|id| id != hurt)
    });
    assert_eq!(said(&cluster, hurt, "handing over"), 1);
    // What it answered from the state that it did not believe any more.
    let replies = (1..=100).map(|n| cluster.reply(writer, n).expect("an answer"));
    let unknown = replies.filter(|reply| *reply == Reply::Error(Error::OutcomeUnknown));
    assert_ne!(unknown.count(), 0);
    cluster.run_until("another state", ms(15_000), |cluster| {
        said(cluster, hurt, "snapshot installed") == 1 && cluster.status(hurt).state == "serving"
    });
    assert_eq!(cluster.node(hurt).store().map().get(b"\0"), None);
}

/// Two of three differ from each other, and the third is down: nobody can say who is right.
#[test]
fn without_a_quorum_on_any_state_reads_stop() {
    let (mut cluster, leader, mut client, _) = with_snapshot();
    let [hurt, other] = others(&cluster, leader);
    cluster.crash(hurt);
    cluster.crash(other);
    cluster.spoil_state(hurt);
    cluster.start(hurt);
    compare(&mut cluster, &mut client);
    cluster.run_until("the finding", ms(2_000), |cluster| {
        said(cluster, leader, "no quorum agrees on the state") == 1
    });
    let reader = cluster.connect(leader);
    assert_eq!(
        error(cluster.ask(reader, 1, get(b"many"))),
        Error::StateInDoubt
    );
    let beside = cluster.connect(hurt);
    let refusal = error(cluster.ask(beside, 1, anywhere(b"many")));
    assert_eq!(refusal.name(), "lagging");
    // The third decides.
    cluster.start(other);
    cluster.run_until("a verdict", ms(15_000), |cluster| {
        cluster.status(hurt).state == "serving" && said(cluster, hurt, "snapshot installed") == 1
    });
    assert_eq!(
        value(cluster.ask(reader, 2, get(b"many"))),
        Some(b"v".to_vec())
    );
}

#[test]
fn a_snapshot_that_rots_is_taken_anew() {
    let (mut cluster, leader, mut client, index) = with_snapshot();
    let [hurt, _] = others(&cluster, leader);
    client.put(&mut cluster, b"more", b"3");
    cluster.run(ms(2_000));
    let id = cluster.status(hurt).snapshot;
    cluster.report(hurt, StorageEvent::Snapshot(SnapshotEvent::Rotten(id)));
    await_snapshot(&mut cluster, &[hurt], index.next());
    assert_eq!(cluster.status(hurt).state, "serving");
    // That one is sound.
    let published = said(&cluster, hurt, "snapshot published");
    client.put(&mut cluster, b"more", b"4");
    cluster.run(ms(5_000));
    assert_eq!(said(&cluster, hurt, "snapshot published"), published);
}

/// Rules B4: nobody waits for the disk of one.
#[test]
fn a_leader_whose_disk_stalls_hands_over() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let term = cluster.node(leader).raft().term();
    let mut client = Client::new(&mut cluster, leader, 1);
    cluster.hang_disk(leader, true);
    client.put(&mut cluster, b"k", b"v");
    cluster.run_until("another leader", ms(1_000), |cluster| {
        cluster.leader().is_some_and(|id| id != leader)
    });
    assert_eq!(
        cluster.node(cluster.leader().unwrap()).raft().term(),
        term.next()
    );
    assert_eq!(said(&cluster, leader, "handing over"), 1);
    // Those who waited for the old one need not wait for its disk.
    cluster.hang_disk(leader, false);
    cluster.run_until("it follows", ms(1_000), |cluster| {
        cluster.status(leader).leader == cluster.leader()
    });
}

/// The best of the others may be one that is no better.
#[test]
fn a_leader_whose_disk_stalls_hands_over_to_one_with_room() {
    for place in [0, 1] {
        let mut cluster = Cluster::serving(Options::default());
        let leader = cluster.elect();
        let full = others(&cluster, leader)[place];
        cluster.set_room(full, DiskState::Hard);
        cluster.report_room(full);
        let mut client = Client::new(&mut cluster, leader, 1);
        cluster.hang_disk(leader, true);
        client.put(&mut cluster, b"k", b"v");
        cluster.run_until("another leader", ms(1_000), |cluster| {
            cluster.leader().is_some_and(|id| id != leader)
        });
        assert_ne!(cluster.leader(), Some(full));
    }
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_to_one_with_room() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let [full, roomy] = others(&cluster, leader);
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    cluster.set_room(full, DiskState::Hard);
    let write = session.next(put(b"k", b"1"));
    written(cluster.ask(client, 1, write));
    cluster.run(ms(100));
    cluster.set_room(leader, DiskState::Hard);
    let write = session.next(put(b"k", b"2"));
    written(cluster.ask(client, 2, write));
    cluster.run_until("the one with room leads", ms(1_000), |cluster| {
        cluster.leader() == Some(roomy)
    });
    assert_eq!(said(&cluster, leader, "handing over"), 1);
}

/// Rules B4: two that take turns would leave nobody time to serve.
#[test]
fn a_leader_hands_over_unasked_no_sooner_than_ten_seconds_after_the_last_time() {
    let mut cluster = Cluster::serving(Options {
        members: 2,
        ..Options::default()
    });
    let first = cluster.elect();
    let second = cluster.other_than(first);
    let set_room = |cluster: &mut Cluster, id, state| {
        cluster.set_room(id, state);
        cluster.report_room(id);
        cluster.run(ms(100));
    };
    for (from, to) in [(first, second), (second, first)] {
        set_room(&mut cluster, from, DiskState::Hard);
        cluster.run_until("the other leads", ms(1_000), |cluster| {
            cluster.leader() == Some(to)
        });
        set_room(&mut cluster, from, DiskState::Ok);
    }
    set_room(&mut cluster, first, DiskState::Hard);
    cluster.run(ms(9_000));
    assert_eq!(said(&cluster, first, "handing over"), 1);
    cluster.run(ms(2_000));
    assert_eq!(said(&cluster, first, "handing over"), 2);
    assert_eq!(cluster.leader(), Some(second));
}
