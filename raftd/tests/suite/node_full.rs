//! What the nodes do while disks are low or full (rules E5).

use raftd::node::Policy;
use wire::client::{MemberChange, Reply, Request};
use wire::command::{Batch, Command, Operation, Outcome, Txn};
use wire::error::{Class, Error};
use wire::peer::DiskState;
use wire::types::{Index, NodeId};

use super::node_cluster::{get, put, session, value, written};
use super::node_harness::{Cluster, Options, Session, error, ms};
use super::node_members::change;

/// Snapshots when a disk is low, and else when asked for.
fn patient() -> Options {
    Options {
        snapshots: Policy {
            gap: ms(100),
            ..Policy::default()
        },
        ..Options::default()
    }
}

/// A write for which a snapshot is worth while.
fn write(cluster: &mut Cluster, leader: NodeId, session: &mut Session) {
    let client = cluster.connect(leader);
    let write = session.next(put(b"k", &[7; 300 * 1024]));
    written(cluster.ask(client, 1, write));
    cluster.run(ms(100));
}

fn set_room(cluster: &mut Cluster, ids: &[NodeId], state: DiskState) {
    for id in ids {
        cluster.set_room(*id, state);
        cluster.report_room(*id);
    }
    // The leader hears of the others by its next round.
    cluster.run(ms(200));
}

#[test]
fn a_quorum_of_full_disks_refuses_writes_until_there_is_room() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let mut followers = cluster.ids();
    followers.retain(|id| *id != leader);
    // One full disk is no reason: a quorum has room.
    set_room(&mut cluster, &followers[..1], DiskState::Hard);
    let write = session.next(put(b"k", b"1"));
    written(cluster.ask(client, 1, write));
    set_room(&mut cluster, &followers[1..], DiskState::Hard);
    let status = cluster.status(followers[1]);
    assert_eq!(
        (status.disk, status.error.as_str()),
        (
            DiskState::Hard,
            "the disk is full, or fails: raftd's log tells which"
        )
    );
    let write = session.next(put(b"k", b"2"));
    let reason = error(cluster.ask(client, 2, write));
    assert_eq!(
        (&reason, reason.class()),
        (&Error::DiskFull { hard: true }, Class::NotApplied)
    );
    assert_eq!(
        value(cluster.ask(client, 3, get(b"k"))),
        Some(b"1".to_vec())
    );
    set_room(&mut cluster, &followers[1..], DiskState::Ok);
    written(cluster.ask(client, 4, write));
}

/// A write that waits for room is no reason to look after the disk.
#[test]
fn a_full_disk_is_not_told_as_a_stalled_one() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut followers = cluster.ids();
    followers.retain(|id| *id != leader);
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    cluster.hang_disk(leader, true);
    let write = session.next(put(b"k", b"1"));
    written(cluster.ask(client, 1, write));
    set_room(&mut cluster, &followers, DiskState::Hard);
    set_room(&mut cluster, &[leader], DiskState::Hard);
    cluster.run(ms(1_000));
    let reasons = |cluster: &Cluster| -> Vec<String> {
        let events = cluster.events(leader).iter();
        let reasons = events.filter_map(|line| Some(line.split_once("reason=")?.1.to_owned()));
        reasons.collect()
    };
    assert_eq!(reasons(&cluster), [""; 0], "nobody has room");
    set_room(&mut cluster, &followers, DiskState::Ok);
    let told = reasons(&cluster);
    assert!(told.iter().all(|reason| reason == "disk-full"), "{told:?}");
    assert!(!told.is_empty());
}

#[test]
fn low_disks_take_what_makes_room_and_nothing_else() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    write(&mut cluster, leader, &mut session);
    let low = [leader, cluster.other_than(leader)];
    set_room(&mut cluster, &low, DiskState::Soft);
    assert_eq!(
        cluster.status(leader).error,
        "the disk is low, or fails: raftd's log tells which"
    );
    let client = cluster.connect(leader);
    let batch = |commands: &[Command<'_>]| {
        let mut batch = Batch::default();
        batch.push(Operation::Get { key: b"k" }).unwrap();
        for command in commands {
            batch.push(Operation::Change(*command)).unwrap();
        }
        batch
    };
    let delete = Command::Delete { key: b"k" };
    let range = Command::DeleteRange {
        from: b"",
        to: None,
        expect: None,
    };
    let (both, removing) = (batch(&[delete, put(b"k", b"w")]), batch(&[delete, range]));
    let adding = [
        put(b"k", b"w"),
        Command::Increment {
            key: b"n",
            delta: 1,
        },
        Command::Append {
            key: b"k",
            value: b"w",
        },
        Command::Txn(Txn::batch(both.operations())),
        Command::Txn(Txn {
            or_else: both.operations(),
            ..Txn::default()
        }),
    ];
    for (n, command) in adding.into_iter().enumerate() {
        let mut refused = session.clone();
        let refused = refused.next(command);
        let reason = error(cluster.ask(client, 1 + n as u64, refused));
        assert_eq!(reason, Error::DiskFull { hard: false });
        assert_eq!(reason.class(), Class::NotApplied);
    }
    let removing = Command::Txn(Txn::batch(removing.operations()));
    for (n, command) in [range, removing, delete].into_iter().enumerate() {
        let write = session.next(command);
        written(cluster.ask(client, 10 + n as u64, write));
    }
    assert_eq!(value(cluster.ask(client, 13, get(b"k"))), None);
    match cluster.ask(client, 14, Request::Snapshot) {
        Reply::Written { outcome, .. } => assert_eq!(outcome, Outcome::Applied),
        other => panic!("{other:?}"),
    }
    // By itself, once there is room again.
    set_room(&mut cluster, &low, DiskState::Ok);
    write(&mut cluster, leader, &mut session);
    assert_eq!(cluster.status(leader).error, "");
}

#[test]
fn while_a_disk_is_low_snapshots_come_sooner() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    write(&mut cluster, leader, &mut session);
    cluster.run(ms(1_000));
    assert_eq!(cluster.status(leader).snapshot.index, Index(0));
    let low = cluster.other_than(leader);
    set_room(&mut cluster, &[low], DiskState::Soft);
    let ids = cluster.ids();
    cluster.run_until("snapshots", ms(1_000), |cluster| {
        ids.iter()
            .all(|id| cluster.status(*id).snapshot.index > Index(0))
    });
    // With little to be gained there is no next one.
    let taken = cluster.status(leader).snapshot;
    let client = cluster.connect(leader);
    let little = session.next(put(b"little", b"v"));
    written(cluster.ask(client, 1, little));
    cluster.run(ms(1_000));
    assert_eq!(cluster.status(leader).snapshot, taken);
    // The disk that is low keeps nothing for followers that lag, the others do.
    assert_eq!(cluster.node(low).raft().base(), taken);
    assert!(cluster.node(leader).raft().base() < taken);
    set_room(&mut cluster, &[leader], DiskState::Soft);
    assert_eq!(cluster.node(leader).raft().base(), taken);
}

/// The leader stays, and knows nothing more of the disk of who was removed.
#[test]
fn a_full_disk_that_is_removed_is_no_reason_for_snapshots_any_more() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let gone = cluster.other_than(leader);
    set_room(&mut cluster, &[gone], DiskState::Hard);
    let client = cluster.connect(leader);
    let remove = change(MemberChange::Remove(gone));
    match cluster.ask(client, 1, remove) {
        Reply::MembersChanged(changed) => assert!(changed.after.get(gone).is_none()),
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.leader(), Some(leader));
    write(&mut cluster, leader, &mut session);
    cluster.run(ms(1_000));
    assert_eq!(cluster.status(leader).snapshot.index, Index(0));
}

/// Who is down by now had no room when this node led before.
#[test]
fn a_leader_counts_no_disk_as_full_that_was_in_an_earlier_reign() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut followers = cluster.ids();
    followers.retain(|id| *id != leader);
    let [full, other] = followers.try_into().unwrap();
    let mut session = session(&cluster, 1);
    set_room(&mut cluster, &[full], DiskState::Hard);
    for (from, to) in [(leader, other), (other, leader)] {
        let client = cluster.connect(from);
        let (deadline_ms, to) = (0, Some(to));
        let reply = cluster.ask(client, 1, Request::TransferLeader { deadline_ms, to });
        assert!(matches!(reply, Reply::LeaderTransferred { done: true, .. }));
        if from == leader {
            set_room(&mut cluster, &[full], DiskState::Ok);
            cluster.crash(full);
        }
    }
    write(&mut cluster, leader, &mut session);
    cluster.run(ms(1_000));
    assert_eq!(cluster.status(leader).snapshot.index, Index(0));
}

/// What a snapshot failed to make needless is reason for the next one, which waits longer.
#[test]
fn a_snapshot_without_room_is_tried_again_and_ever_less_often() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    write(&mut cluster, leader, &mut session);
    let failures = |cluster: &Cluster| {
        let failed = |line: &&String| line.starts_with("snapshot not taken");
        cluster.events(leader).iter().filter(failed).count()
    };
    (0..3).for_each(|_| cluster.fill_snapshot_disk(leader));
    cluster.set_room(leader, DiskState::Soft);
    cluster.report_room(leader);
    let mut failed_at = Vec::new();
    for n in 1..=3 {
        cluster.run_until("a failure", ms(5_000), |cluster| failures(cluster) == n);
        failed_at.push(cluster.now());
    }
    let gaps = [
        failed_at[1].since(failed_at[0]),
        failed_at[2].since(failed_at[1]),
    ];
    assert!(gaps[0] >= ms(990) && gaps[1] >= ms(1_990), "{gaps:?}");
    assert!(cluster.status(leader).error.contains("could not be taken"));
    cluster.run_until("a snapshot", ms(5_000), |cluster| {
        cluster.status(leader).snapshot.index > Index(0)
    });
    assert_eq!(
        cluster.status(leader).error,
        "the disk is low, or fails: raftd's log tells which"
    );
}
