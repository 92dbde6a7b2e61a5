//! Snapshots that are sent, under the harness: to followers that lack what is gone from the log, and
//! to clients. Files are written and read by the shipped code on a simulated disk.

use super::node_cluster::{value, written};
use super::node_harness::{Cluster, Options, error, ms};
use super::node_heal::store_at;
use super::node_snapshots::{
    Client, await_snapshot, eager, holds, patient, snapshot_of, snapshots_taken,
};
use std::time::Duration;

use bytes::Bytes;
use raftd::node::io::{ConnectionId, SnapshotEvent, SnapshotFile, StorageEvent};
use wire::client::{Consistency, Freshness, Reply, Request, Status};
use wire::command::{Command, Outcome};
use wire::error::Error;
use wire::peer::{DiskReport, Health, InstallSnapshot, Message, SnapshotOk};
use wire::types::{EntryId, Index, NodeId, Term};

/// A client of the leader, the leader, and a follower that hears nobody.
fn with_a_follower_away(options: Options) -> (Cluster, Client, NodeId, NodeId) {
    let mut cluster = Cluster::serving(options);
    let leader = cluster.elect();
    let follower = cluster.other_than(leader);
    cluster.isolate(follower);
    let client = Client::new(&mut cluster, leader, 1);
    (cluster, client, leader, follower)
}

/// Row 57 of the bugs that others had, too: the log behind the snapshot that is being sent stays, so
/// that the follower does not need the next one at once.
#[test]
fn a_follower_that_lacks_what_is_gone_is_sent_a_snapshot_and_goes_on_from_it() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(eager());
    let large = vec![7; 300 * 1024];
    for n in 0..60_u8 {
        client.put(&mut cluster, &[n], &large);
    }
    cluster.run_until("compaction", ms(5_000), |cluster| {
        cluster.node(leader).raft().base().index > Index(40)
    });
    cluster.heal();
    let last = client.put(&mut cluster, b"last", b"v");
    cluster.run_until("follower", ms(10_000), |cluster| {
        cluster.node(follower).store().applied().index >= last
    });
    let installed = |line: &&String| line.starts_with("snapshot installed");
    assert_eq!(cluster.events(follower).iter().filter(installed).count(), 1);
    assert_eq!(holds(&mut cluster, follower, &[0]), Some(large));
    assert_eq!(holds(&mut cluster, follower, b"last"), Some(b"v".to_vec()));
    // Once what it got is durable, it comes back from it.
    cluster.run_until("durable", ms(1_000), |cluster| {
        cluster.status(follower).durable >= last
    });
    cluster.crash(follower);
    cluster.start(follower);
    assert!(cluster.node(follower).store().applied().index > Index(40));
}

#[test]
fn a_read_after_a_revision_is_answered_from_a_snapshot_that_has_it() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    let written = client.put(&mut cluster, b"k", b"v");
    client.compact(&mut cluster, leader);
    let reader = cluster.connect(follower);
    let read = Request::Get {
        deadline_ms: 0,
        freshness: Freshness {
            consistency: Consistency::Stale,
            after: written,
        },
        key: b"k",
    };
    cluster.heal();
    cluster.send(reader, &[(1, read)]);
    assert_eq!(cluster.answered(reader), 0);
    let seen = cluster.await_reply(reader, 1);
    assert_eq!(value(seen), Some(b"v".to_vec()));
}

/// What a leader knows that a follower has of the snapshot that it is sent; `None` if it is sent none.
fn received_bytes(cluster: &Cluster, leader: NodeId, follower: NodeId) -> Option<u64> {
    let members = cluster.status(leader).members;
    let member = members.into_iter().find(|member| member.node == follower)?;
    member.install.map(|install| install.received_bytes)
}

/// The leader takes a snapshot of many pieces, and the follower, which is down, comes up and gets half
/// of it: the index and the bytes of that.
fn with_half_of_it(cluster: &mut Cluster, leader: NodeId, follower: NodeId) -> (Index, u64) {
    let mut client = Client::new(cluster, leader, 1);
    for n in 0..16_u64 {
        // Hard to compress.
        let noise: Vec<u8> = (0..64 * 1024_u64)
            .flat_map(|at| {
                (at ^ n << 32)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
            })
            .collect();
        client.put(cluster, &n.to_be_bytes(), &noise);
    }
    let index = client.compact(cluster, leader);
    cluster.start(follower);
    let half = cluster.status(leader).snapshot_bytes / 2;
    cluster.run_until("half of it", ms(5_000), |cluster| {
        received_bytes(cluster, leader, follower) >= Some(half)
    });
    (index, half)
}

/// Each attempt reads what is there again, and takes pieces from the leader.
#[test]
fn a_follower_whose_disk_fails_is_sent_little() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    cluster.crash(follower);
    let (index, _) = with_half_of_it(&mut cluster, leader, follower);
    cluster.break_snapshot_disk(follower, true);
    let before = cluster.pieces(follower).len();
    cluster.run(ms(10_000));
    let tried = cluster.pieces(follower).len() - before;
    assert!((4..100).contains(&tried), "{tried} pieces");
    cluster.break_snapshot_disk(follower, false);
    cluster.run_until("the end of it", ms(17_000), |cluster| {
        cluster.node(follower).store().applied().index >= index
    });
}

#[test]
fn a_transfer_goes_on_where_it_was_when_the_follower_restarts() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    cluster.crash(follower);
    let (index, half) = with_half_of_it(&mut cluster, leader, follower);
    let received = |cluster: &Cluster| received_bytes(cluster, leader, follower);
    cluster.crash(follower);
    cluster.start(follower);
    cluster.run_until("the end of it", ms(5_000), |cluster| {
        let now = received(cluster);
        assert!(now.is_none() || now >= Some(half), "it began anew: {now:?}");
        cluster.node(follower).store().applied().index >= index
    });
}

/// It may be the question of the leader that there is, which asks again only after a long while
/// (simulator, seed 180000590).
#[test]
fn the_newest_of_many_pieces_is_not_left_out() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    cluster.run(ms(100));
    let last = cluster.node(leader).raft().last();
    let snapshot = |later: u64| EntryId {
        index: Index(last.index.0 + later),
        ..last
    };
    cluster.hang_disk(follower, true);
    for later in 1..=8 {
        let piece = InstallSnapshot {
            term: last.term,
            round: 0,
            snapshot: snapshot(later),
            total_bytes: 1_000,
            offset: 0,
            bytes: Bytes::from_static(b"piece"),
        };
        cluster.arrives_late(leader, follower, Message::InstallSnapshot(piece));
    }
    cluster.hang_disk(follower, false);
    cluster.run(ms(200));
    let handed = [1, 2, 3, 4, 8].map(snapshot);
    assert_eq!(cluster.pieces(follower), handed);
}

/// Else it would lack entries again when it has all of it, and be sent the next.
#[test]
fn the_log_behind_a_snapshot_that_is_being_sent_is_kept() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    cluster.crash(follower);
    let (first, _) = with_half_of_it(&mut cluster, leader, follower);
    cluster.cut(leader, follower);
    let newer = Client::new(&mut cluster, leader, 2).snapshot(&mut cluster);
    await_snapshot(&mut cluster, &[leader], newer);
    cluster.run(ms(1_000));
    assert_eq!(cluster.node(leader).raft().base().index, first);
    let sends = |line: &&String| line.starts_with("sending a snapshot");
    cluster.run(ms(12_000));
    let told = cluster.events(leader).iter().rfind(sends);
    let told = told.expect("it asked again");
    assert!(told.contains(&format!(" id={first}@")), "{told}");
    cluster.heal();
    cluster.run_until("the rest", ms(10_000), |cluster| {
        cluster.node(follower).store().applied().index >= newer
    });
    let installed = |line: &&String| line.starts_with("snapshot installed");
    assert_eq!(cluster.events(follower).iter().filter(installed).count(), 1);
}

/// A leader asks again while a follower makes a state of the pieces. What it asked meanwhile is told
/// the whole, or it would take its own file for damaged.
#[test]
fn a_question_behind_the_last_piece_is_answered_with_all_of_it() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    client.put(&mut cluster, b"k", b"v");
    let index = client.compact(&mut cluster, leader);
    cluster.heal();
    cluster.run_until("the last piece", ms(5_000), |cluster| {
        cluster.holds_last_piece(follower)
    });
    cluster.hang_disk(follower, true);
    client.put(&mut cluster, b"later", b"v");
    cluster.run(ms(1_100));
    cluster.hang_disk(follower, false);
    cluster.run_until("installed", ms(1_000), |cluster| {
        cluster.node(follower).store().applied().index >= index
    });
    cluster.run(ms(3_000));
    assert_eq!(snapshots_taken(&cluster, leader), 1, "it took another one");
}

/// What a follower answers that has nothing of the snapshot that the leader's log begins behind.
pub(crate) fn nothing_of_it(cluster: &Cluster, leader: NodeId, health: Health) -> Message {
    let raft = cluster.node(leader).raft();
    Message::SnapshotOk(SnapshotOk {
        term: raft.term(),
        round: 0,
        snapshot: raft.base(),
        received_bytes: 0,
        disk: DiskReport::default(),
        health,
    })
}

/// That it has nothing, as it once told, does not mean that the file is damaged: another one would be
/// taken, and this one go while it is needed (simulator, seed 77007790).
#[test]
fn an_answer_that_was_overtaken_by_that_of_all_is_nothing_new() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    client.put(&mut cluster, b"k", b"v");
    client.compact(&mut cluster, leader);
    client.put(&mut cluster, b"later", b"v");
    let all = cluster.snapshot_bytes(leader).len() as u64;
    cluster.heal();
    cluster.run_until("it told of all", ms(5_000), |cluster| {
        received_bytes(cluster, leader, follower) == Some(all)
    });
    let early = nothing_of_it(&cluster, leader, Health::default());
    cluster.arrives_late(follower, leader, early);
    cluster.run(ms(3_000));
    assert_eq!(snapshots_taken(&cluster, leader), 1);
}

/// It may have been damaged before it was read: another one is taken, and sent.
#[test]
fn a_snapshot_that_a_follower_cannot_use_is_not_sent_to_it_again() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    client.put(&mut cluster, b"k", b"v");
    let index = client.compact(&mut cluster, leader);
    cluster.run(ms(1_000));
    client.put(&mut cluster, b"later", b"v");
    cluster.damage_snapshot(leader);
    cluster.heal();
    cluster.run_until("installed", ms(5_000), |cluster| {
        cluster.node(follower).store().applied().index > index
    });
    let pieces = cluster.pieces(follower);
    let indexes: Vec<Index> = pieces.iter().map(|id| id.index).collect();
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    assert!(indexes[0] == index && indexes[1] > index, "{indexes:?}");
}

/// Row 59: what makes a retry harmless is part of a snapshot.
#[test]
fn a_retry_is_recognised_by_a_leader_that_was_made_from_a_snapshot() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    let add = Command::Increment {
        key: b"n",
        delta: 5,
    };
    let first = client.session.next(add);
    let first = written(cluster.ask(client.connection, 100, first));
    let index = client.compact(&mut cluster, leader);
    cluster.heal();
    cluster.run_until("installed", ms(5_000), |cluster| {
        cluster.node(follower).store().applied().index >= index
    });
    // The third one cannot lead without having what the other two have committed.
    let third = cluster
        .ids()
        .into_iter()
        .find(|id| ![leader, follower].contains(id))
        .unwrap();
    cluster.run(ms(200));
    cluster.crash(leader);
    cluster.hang_disk(third, true);
    cluster.run(ms(1_000));
    cluster.hang_disk(third, false);
    let new = cluster.elect();
    let connection = cluster.connect(new);
    let again = client.session.again(add);
    match cluster.ask(connection, 1, again) {
        Reply::Written { index, outcome, .. } => {
            assert_eq!((index, outcome), (first, Outcome::Incremented(5)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(holds(&mut cluster, new, b"n"), Some(b"5".to_vec()));
}

/// How much of a snapshot there is, as a client is told.
fn total_bytes(cluster: &mut Cluster, reader: ConnectionId, id: u64, snapshot: EntryId) -> u64 {
    let offset = 0;
    match cluster.ask(reader, id, Request::ReadSnapshot { snapshot, offset }) {
        Reply::SnapshotPiece { total_bytes, bytes } => {
            assert_eq!(bytes.is_empty(), total_bytes == 0);
            total_bytes
        }
        other => panic!("{other:?}"),
    }
}

/// What a client asks for is kept for it: so it is looked at first.
#[test]
fn a_snapshot_that_is_not_there_is_not_kept_for_a_client() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    let (term, index) = (Term(1 << 40), Index(1 << 61));
    let made_up = EntryId { term, index };
    // More than may read at a time.
    for _ in 0..20 {
        let reader = cluster.connect(leader);
        for (id, snapshot) in [(1, made_up), (2, EntryId::default())] {
            assert_eq!(total_bytes(&mut cluster, reader, id, snapshot), 0);
        }
    }
    client.put(&mut cluster, b"k", b"v");
    client.compact(&mut cluster, leader);
    let Status {
        snapshot,
        snapshot_bytes,
        ..
    } = cluster.status(leader);
    let reader = cluster.connect(leader);
    assert_eq!(total_bytes(&mut cluster, reader, 1, made_up), 0);
    let told = total_bytes(&mut cluster, reader, 2, snapshot);
    assert_eq!(told, snapshot_bytes);
}

/// A cluster, its leader, which has a snapshot and no log before it, and a client of that leader.
fn compacted() -> (Cluster, NodeId, Client) {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    client.compact(&mut cluster, leader);
    (cluster, leader, client)
}

#[test]
fn a_snapshot_is_kept_as_long_as_a_client_reads_it() {
    let (mut cluster, leader, mut client) = compacted();
    let first = cluster.status(leader).snapshot;
    let reader = cluster.connect(leader);
    assert!(total_bytes(&mut cluster, reader, 1, first) > 0);
    client.put(&mut cluster, b"k", b"w");
    client.compact(&mut cluster, leader);
    assert!(total_bytes(&mut cluster, reader, 2, first) > 0);
    cluster.run(ms(31_000));
    client.put(&mut cluster, b"k", b"x");
    client.compact(&mut cluster, leader);
    assert_eq!(total_bytes(&mut cluster, reader, 3, first), 0);
}

#[test]
fn who_reads_a_snapshot_no_more_makes_room_for_others() {
    let (mut cluster, leader, _) = compacted();
    let (snapshot, offset) = (cluster.status(leader).snapshot, 0);
    let piece = Request::ReadSnapshot { snapshot, offset };
    let readers: Vec<_> = (0..16).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        assert!(total_bytes(&mut cluster, *reader, 1, snapshot) > 0);
    }
    let one_more = cluster.connect(leader);
    let told = error(cluster.ask(one_more, 1, piece));
    assert!(matches!(told, Error::Overloaded { .. }), "{told:?}");
    // The others go on.
    assert!(total_bytes(&mut cluster, readers[1], 2, snapshot) > 0);
    cluster.hang_up(readers[0]);
    assert!(total_bytes(&mut cluster, one_more, 2, snapshot) > 0);
    let late = cluster.connect(leader);
    let told = error(cluster.ask(late, 1, piece));
    assert!(matches!(told, Error::Overloaded { .. }), "{told:?}");
    cluster.run(ms(30_000));
    assert!(total_bytes(&mut cluster, late, 2, snapshot) > 0);
}

/// What could not be taken before is needless then, and nobody tries it again.
#[test]
fn a_snapshot_of_the_leader_ends_the_alarm_about_an_own_one() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    (0..3).for_each(|_| cluster.fill_snapshot_disk(follower));
    let failed = client.snapshot(&mut cluster);
    cluster.run_until("an alarm", ms(2_000), |cluster| {
        cluster
            .status(follower)
            .error
            .contains("could not be taken")
    });
    cluster.isolate(follower);
    let sent = client.compact(&mut cluster, leader);
    assert!(sent > failed);
    cluster.heal();
    cluster.run_until("published", ms(5_000), |cluster| {
        snapshot_of(cluster, follower) >= sent
    });
    assert_eq!(cluster.status(follower).error, "");
}

/// What was written before is in the snapshot.
#[test]
fn a_snapshot_that_is_received_begins_a_new_count() {
    let (mut cluster, leader, follower) = Cluster::led(eager());
    let mut client = Client::new(&mut cluster, leader, 1);
    for _ in 0..12 {
        client.put(&mut cluster, b"before", b"v");
    }
    cluster.run(ms(1_000));
    cluster.isolate(follower);
    for _ in 0..30 {
        client.put(&mut cluster, b"meanwhile", b"v");
    }
    cluster.run(ms(100));
    cluster.heal();
    let here = |cluster: &Cluster, id| cluster.node(id).store().applied().index;
    cluster.run_until("the same state", ms(5_000), |cluster| {
        here(cluster, follower) == here(cluster, leader)
    });
    cluster.run(ms(100));
    let received = snapshot_of(&cluster, follower);
    let installed = |line: &String| line.starts_with("snapshot installed");
    assert!(cluster.events(follower).iter().any(installed));
    let asked = cluster.connect(leader);
    let (deadline_ms, to) = (0, Some(follower));
    cluster.ask(asked, 1, Request::TransferLeader { deadline_ms, to });
    assert_eq!(cluster.elect(), follower);
    let mut client = Client::new(&mut cluster, follower, 2);
    while client.put(&mut cluster, b"after", b"v").0 < received.0 + 18 {}
    cluster.run(ms(100));
    assert_eq!(snapshot_of(&cluster, follower), received, "it is too early");
    while client.put(&mut cluster, b"after", b"v").0 < received.0 + 22 {}
    await_snapshot(&mut cluster, &[follower], received.next());
}

/// Its file would be older than the one that the log goes on from, and stay.
#[test]
fn a_state_that_is_older_than_what_was_received_is_not_written() {
    let (mut cluster, leader, follower) = Cluster::led(patient());
    let mut client = Client::new(&mut cluster, leader, 1);
    client.put(&mut cluster, b"k", b"v");
    cluster.run(ms(100));
    cluster.hang_disk(follower, true);
    let frozen = client.snapshot(&mut cluster);
    cluster.run(ms(100));
    assert_eq!(cluster.node(follower).store().applied().index, frozen);
    assert!(cluster.node(follower).waiting().snapshot);
    cluster.isolate(follower);
    let later = EntryId {
        term: cluster.node(follower).raft().term(),
        index: Index(1_000),
    };
    let file = SnapshotFile {
        id: later,
        bytes: 1,
    };
    let whole = SnapshotEvent::Whole(file, store_at(later));
    cluster.report(follower, StorageEvent::Snapshot(whole));
    assert_eq!(cluster.status(follower).applied, later.index);
    cluster.hang_disk(follower, false);
    for _ in 0..1_000 {
        cluster.run(Duration::from_micros(10));
        let status = cluster.status(follower);
        assert_eq!(status.snapshot_written_bytes, None, "it is being written");
    }
}

/// An answer that was under way for it is for nobody, and so is its place.
#[test]
fn a_client_that_goes_before_its_piece_comes_keeps_no_place() {
    let (mut cluster, leader, _) = compacted();
    let (snapshot, offset) = (cluster.status(leader).snapshot, 0);
    let piece = Request::ReadSnapshot { snapshot, offset };
    for _ in 0..16 {
        let reader = cluster.connect(leader);
        cluster.send(reader, &[(1, piece)]);
        cluster.hang_up(reader);
    }
    let late = cluster.connect(leader);
    let told = error(cluster.ask(late, 1, piece));
    assert!(
        matches!(told, Error::Overloaded { .. }),
        "all are being read"
    );
    cluster.run(ms(10));
    assert!(total_bytes(&mut cluster, late, 2, snapshot) > 0);
}

/// Nobody may be needed for that: the leader takes another one by itself.
#[test]
fn a_snapshot_that_the_leader_cannot_read_is_taken_anew() {
    let (mut cluster, mut client, leader, follower) = with_a_follower_away(patient());
    client.put(&mut cluster, b"k", b"v");
    let lost = client.compact(&mut cluster, leader);
    let later = client.put(&mut cluster, b"k", b"w");
    cluster.lose_snapshot(leader);
    cluster.heal();
    cluster.run_until("installed", ms(5_000), |cluster| {
        cluster.node(follower).store().applied().index >= later
    });
    let unreadable = |line: &&String| line.starts_with("snapshot unreadable");
    assert_eq!(cluster.events(leader).iter().filter(unreadable).count(), 1);
    assert_eq!(snapshots_taken(&cluster, leader), 2);
    let pieces = cluster.pieces(follower);
    assert!(pieces.iter().all(|id| id.index > lost), "{pieces:?}");
}
