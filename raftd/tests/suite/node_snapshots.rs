//! Snapshots in clusters of nodes under the harness: taken, sent, installed, and what is left of the
//! log. Files are written and read by the shipped code on a simulated disk.

use raft::Instant;
use raftd::node::io::{ConnectionId, SnapshotEvent, SnapshotFile, StorageEvent};
use raftd::node::{Limits, Policy};
use wire::client::{Reply, Request};
use wire::command::Outcome;
use wire::error::Error;
use wire::peer::{Message, StaleTerm};
use wire::types::{EntryId, Index, NodeId};

use super::node_cluster::{put, session, stale_get, value, written};
use super::node_harness::{Cluster, Options, Session, error, ms};
use super::node_heal::{said, store_at};
use super::snap_support;

/// A snapshot every 20 entries, and no log kept before it.
pub(crate) fn eager() -> Options {
    Options {
        snapshots: Policy {
            entries: 20,
            gap: ms(0),
            keep_bytes: 0,
            ..Policy::default()
        },
        ..Options::default()
    }
}

/// A snapshot only when it is asked for.
pub(crate) fn patient() -> Options {
    Options {
        snapshots: Policy {
            keep_bytes: 0,
            ..Policy::default()
        },
        ..Options::default()
    }
}

/// A client with a session on a node.
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    pub(crate) session: Session,
    asked: u64,
}

impl Client {
    pub(crate) fn new(cluster: &mut Cluster, to: NodeId, nonce: u64) -> Self {
        Self {
            session: session(cluster, nonce),
            connection: cluster.connect(to),
            asked: 0,
        }
    }

    pub(crate) fn put(&mut self, cluster: &mut Cluster, key: &[u8], value: &[u8]) -> Index {
        self.asked += 1;
        let put = self.session.next(put(key, value));
        written(cluster.ask(self.connection, self.asked, put))
    }

    /// Has the leader take a snapshot and drop its log before that.
    pub(crate) fn compact(&mut self, cluster: &mut Cluster, leader: NodeId) -> Index {
        let index = self.snapshot(cluster);
        cluster.run_until("compaction", ms(5_000), |cluster| {
            cluster.node(leader).raft().base().index >= index
        });
        index
    }

    pub(crate) fn snapshot(&mut self, cluster: &mut Cluster) -> Index {
        self.asked += 1;
        match cluster.ask(self.connection, self.asked, Request::Snapshot) {
            Reply::Written { index, outcome, .. } => {
                assert_eq!(outcome, Outcome::Applied);
                index
            }
            other => panic!("no snapshot but {other:?}"),
        }
    }
}

pub(crate) fn snapshot_of(cluster: &Cluster, id: NodeId) -> Index {
    cluster.status(id).snapshot.index
}

pub(crate) fn await_snapshot(cluster: &mut Cluster, ids: &[NodeId], index: Index) {
    cluster.run_until("snapshot", ms(5_000), |cluster| {
        ids.iter().all(|id| snapshot_of(cluster, *id) >= index)
    });
}

pub(crate) fn holds(cluster: &mut Cluster, id: NodeId, key: &[u8]) -> Option<Vec<u8>> {
    let reader = cluster.connect(id);
    value(cluster.ask(reader, 1, stale_get(key)))
}

#[test]
fn every_node_takes_the_same_snapshot_and_drops_the_log_before_it() {
    let mut cluster = Cluster::serving(eager());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..50_u8 {
        client.put(&mut cluster, &[n], b"v");
    }
    let ids = cluster.ids();
    await_snapshot(&mut cluster, &ids, Index(40));
    let first = cluster.status(leader);
    assert!(first.snapshot_bytes > 0 && first.snapshot_written_bytes.is_none());
    for id in ids {
        let status = cluster.status(id);
        assert_eq!(
            (status.snapshot, status.snapshot_bytes),
            (first.snapshot, first.snapshot_bytes)
        );
        assert_eq!(cluster.snapshot_bytes(id), cluster.snapshot_bytes(leader));
        assert_eq!(cluster.node(id).raft().base(), first.snapshot);
        assert_eq!(cluster.snapshot_files(id), 1);
    }
}

#[test]
fn a_snapshot_that_a_leader_could_not_commit_is_not_waited_for() {
    let mut cluster = Cluster::serving(patient());
    let before = cluster.elect();
    cluster.isolate(before);
    let asker = cluster.connect(before);
    cluster.send(asker, &[(1, Request::Snapshot)]);
    assert!(cluster.node(before).waiting().snapshot);
    cluster.run_until("another leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|id| id != before)
    });
    cluster.heal();
    let leader = cluster.elect();
    let last = Client::new(&mut cluster, leader, 1).put(&mut cluster, b"k", b"v");
    cluster.run_until("the same log", ms(5_000), |cluster| {
        cluster.status(before).applied == last
    });
    assert!(!cluster.node(before).waiting().snapshot);
}

#[test]
fn a_snapshot_that_is_asked_for_is_taken_on_every_node() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    let index = client.snapshot(&mut cluster);
    let ids = cluster.ids();
    await_snapshot(&mut cluster, &ids, index);
    let follower = cluster.other_than(leader);
    let other = cluster.connect(follower);
    let refusal = error(cluster.ask(other, 1, Request::Snapshot));
    assert!(matches!(refusal, Error::NotLeader { .. }), "{refusal:?}");
}

#[test]
fn a_node_starts_from_its_snapshot_and_the_log_behind_it() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"before", b"1");
    let index = client.snapshot(&mut cluster);
    client.put(&mut cluster, b"after", b"2");
    let ids = cluster.ids();
    await_snapshot(&mut cluster, &ids, index);
    for id in &ids {
        cluster.crash(*id);
    }
    for id in &ids {
        cluster.start(*id);
        assert_eq!(cluster.node(*id).store().applied().index, index);
        assert_eq!(snapshot_of(&cluster, *id), index);
    }
    cluster.elect();
    for id in ids {
        assert_eq!(holds(&mut cluster, id, b"before"), Some(b"1".to_vec()));
        cluster.run_until("replay", ms(1_000), |cluster| {
            cluster.node(id).store().applied().index > index.next()
        });
        assert_eq!(holds(&mut cluster, id, b"after"), Some(b"2".to_vec()));
    }
}

pub(crate) fn snapshots_taken(cluster: &Cluster, by: NodeId) -> usize {
    let published = |line: &&String| line.starts_with("snapshot published");
    cluster.events(by).iter().filter(published).count()
}

#[test]
fn a_snapshot_that_cannot_be_written_is_an_alarm_and_no_more() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    cluster.fill_snapshot_disk(leader);
    let index = client.snapshot(&mut cluster);
    let follower = cluster.other_than(leader);
    await_snapshot(&mut cluster, &[follower], index);
    cluster.run(ms(200));
    let status = cluster.status(leader);
    assert_eq!(status.snapshot.index, Index(0));
    let words = ["could not be taken", "at once by `raftctl snapshot`"];
    for word in words {
        assert!(status.error.contains(word), "{}", status.error);
    }
    client.put(&mut cluster, b"k", b"w");
    // The next one finds room again.
    let index = client.snapshot(&mut cluster);
    await_snapshot(&mut cluster, &[leader], index);
    assert_eq!(cluster.status(leader).error, "");
}

/// Its log would grow until the next one is due, and with each that fails by as much again.
#[test]
fn who_lacks_a_snapshot_that_the_others_took_tries_again_by_itself() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    (0..3).for_each(|_| cluster.fill_snapshot_disk(follower));
    let index = client.snapshot(&mut cluster);
    await_snapshot(&mut cluster, &[leader], index);
    cluster.run(ms(3_000 + 3_000));
    let failed = |line: &&String| line.starts_with("snapshot not taken");
    assert_eq!(cluster.events(follower).iter().filter(failed).count(), 3);
    assert_eq!(snapshot_of(&cluster, follower), Index(0));
    cluster.run(ms(1_100));
    assert!(snapshot_of(&cluster, follower) >= index);
    assert_eq!(cluster.status(follower).error, "");
    assert_eq!(snapshots_taken(&cluster, leader), 1, "they need no other");
}

/// Whoever does not lead has nothing to do when it is time for a snapshot.
#[test]
fn a_follower_does_not_wake_up_for_a_snapshot_that_is_due() {
    let (mut cluster, leader, follower) = Cluster::led(Options {
        snapshots: Policy {
            interval: ms(100),
            gap: ms(0),
            ..Policy::default()
        },
        ..Options::default()
    });
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    cluster.isolate(follower);
    cluster.run(ms(500));
    let deadline = cluster.node(follower).deadline();
    assert!(deadline > Some(cluster.now()), "{deadline:?}");
}

/// While a leader hands over it proposes nothing; when that is over, it looks again.
#[test]
fn a_leader_that_hands_over_does_not_wake_up_for_a_snapshot_that_is_due() {
    let mut cluster = Cluster::serving(Options {
        snapshots: Policy {
            interval: ms(5_000),
            gap: ms(0),
            ..Policy::default()
        },
        ..Options::default()
    });
    let started = Instant(1_000_000_000);
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    cluster.run_until("almost the time", ms(5_000), |cluster| {
        cluster.now() >= started + ms(4_450)
    });
    cluster.hang_disk(leader, true);
    client.put(&mut cluster, b"k", b"w");
    cluster.run_until("a hand-over", ms(600), |cluster| {
        let mut said = cluster.events(leader).iter();
        said.any(|line| line.starts_with("handing over"))
    });
    cluster.isolate(leader);
    cluster.run(ms(100));
    assert!(cluster.node(leader).raft().is_transferring());
    assert!(cluster.now() > started + ms(5_000));
    let deadline = cluster.node(leader).deadline();
    assert!(deadline > Some(cluster.now()), "{deadline:?}");
}

/// Nobody wakes it up: it has no peers and no clients.
#[test]
fn a_node_alone_takes_a_snapshot_that_is_wanted_as_soon_as_it_may() {
    let mut cluster = Cluster::serving(Options {
        members: 1,
        ..patient()
    });
    let alone = cluster.elect();
    let mut client = Client::new(&mut cluster, alone, 1);
    client.put(&mut cluster, b"k", b"v");
    let index = client.snapshot(&mut cluster);
    await_snapshot(&mut cluster, &[alone], index);
    let upto = client.put(&mut cluster, b"k", b"w");
    cluster.report(alone, StorageEvent::Rot { upto });
    assert_eq!(
        snapshots_taken(&cluster, alone),
        1,
        "one has just been taken"
    );
    cluster.fill_snapshot_disk(alone);
    cluster.run(ms(1_050));
    assert!(cluster.status(alone).error.contains("could not be taken"));
    cluster.run(ms(1_050));
    assert_eq!(snapshot_of(&cluster, alone), upto);
    let event = SnapshotEvent::Rotten(cluster.status(alone).snapshot);
    cluster.report(alone, StorageEvent::Snapshot(event));
    let turns = cluster.turns;
    cluster.run_until("another one", ms(1_050), |cluster| {
        cluster.node(alone).waiting().snapshot
    });
    // Then it rests.
    cluster.run(ms(10_000));
    let turns = cluster.turns - turns;
    assert!(turns < 20, "{turns} turns");
}

/// What a snapshot was made of is freed by whoever writes to what it shares, a little at a time, and
/// the node does not sleep meanwhile.
#[test]
fn what_was_written_is_freed_piece_by_piece() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let view = snap_support::store(2_000, 10).view();
    let event = SnapshotEvent::Released(Box::new(view));
    cluster.report(leader, StorageEvent::Snapshot(event));
    let mut pieces = 0;
    let soon = |cluster: &Cluster| cluster.node(leader).deadline() <= Some(cluster.now() + ms(1));
    while soon(&cluster) {
        cluster.run(ms(1));
        pieces += 1;
        assert!(pieces < 200, "it comes to an end");
    }
    assert!(pieces > 2_000 / 100, "{pieces}");
}

/// They were committed when it stopped leading, and are in the snapshot: nobody will apply them here.
#[test]
fn who_waits_for_a_write_that_a_snapshot_brings_is_told_that_nobody_knows() {
    const WRITES: u64 = 40;
    let limits = Limits {
        turn_entries_max: 1,
        ..Limits::default()
    };
    let (mut cluster, leader, follower) = Cluster::led(Options {
        limits,
        ..patient()
    });
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let writes: Vec<_> = (1..=WRITES)
        .map(|n| (n, session.next(put(b"k", b"v"))))
        .collect();
    cluster.send(client, &writes);
    cluster.run_until("commit", ms(1_000), |cluster| {
        let raft = cluster.node(leader).raft();
        raft.commit() == raft.last().index
    });
    let term = cluster.node(leader).raft().term().next();
    let newer = Message::StaleTerm(StaleTerm { term });
    cluster.arrives_late(follower, leader, newer);
    let told = |cluster: &Cluster| {
        let mut all = 1..=WRITES;
        all.all(|n| cluster.reply(client, n).is_some())
    };
    assert!(!told(&cluster), "it applies one in a turn");
    let id = EntryId {
        term,
        index: Index(1_000),
    };
    let whole = SnapshotEvent::Whole(SnapshotFile { id, bytes: 1 }, store_at(id));
    cluster.report(leader, StorageEvent::Snapshot(whole));
    assert_eq!(cluster.status(leader).applied, id.index);
    assert!(told(&cluster));
    let last = error(cluster.await_reply(client, WRITES));
    assert_eq!(last, Error::OutcomeUnknown);
}

/// What was read of the log before is no more what comes next: nothing behind it is asked for.
#[test]
fn a_snapshot_that_overtakes_a_replay_ends_it() {
    let limits = Limits {
        turn_entries_max: 1,
        ..Limits::default()
    };
    let (mut cluster, leader, follower) = Cluster::led(Options {
        limits,
        tail_entries: 1,
        ..patient()
    });
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..40_u8 {
        client.put(&mut cluster, &[n], b"v");
    }
    cluster.run(ms(200));
    cluster.crash(follower);
    cluster.isolate(follower);
    cluster.start(follower);
    cluster.run_until("replay", ms(1_000), |cluster| {
        cluster.status(follower).applied >= Index(2)
    });
    let id = EntryId {
        term: cluster.node(follower).raft().term(),
        index: Index(1_000),
    };
    let whole = SnapshotEvent::Whole(SnapshotFile { id, bytes: 1 }, store_at(id));
    cluster.report(follower, StorageEvent::Snapshot(whole));
    assert_eq!(cluster.status(follower).applied, id.index);
    cluster.run(ms(3_000));
    assert_eq!(said(&cluster, follower, "log unreadable"), 0);
}
