//! Damaged entries of the log in clusters of nodes under the harness: fetched from others, mended, or
//! made needless by a snapshot (rules D4).

use super::node_harness::{Cluster, Options, ms};
use super::node_heal::{others, said};
use super::node_members::{change, learner};
use super::node_snapshots::{Client, await_snapshot, holds, patient};
use bytes::BytesMut;
use raft::RoleName;
use raftd::node::io::StorageEvent;
use wire::client::Reply;
use wire::entry::{Entry, EntryKind};
use wire::peer::{Fetched, Message};
use wire::types::{EntryId, Index, NodeId};

#[test]
fn damaged_entries_are_fetched_from_others_and_mended() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let [hurt, other] = others(&cluster, leader);
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..40_u8 {
        client.put(&mut cluster, &[b'k', n], &[n]);
    }
    cluster.run(ms(200));
    cluster.crash(hurt);
    cluster.damage_entries(hurt, (5..=9).chain(20..=21).map(Index));
    // Whoever leads has them, but it need not be asked: the other is there alone at first.
    cluster.isolate(leader);
    cluster.start(hurt);
    assert_ne!(cluster.status(hurt).error, "");
    cluster.run_until("mended", ms(5_000), |cluster| cluster.damaged(hurt) == 0);
    cluster.run_until("a leader of both", ms(5_000), |cluster| {
        let leader = cluster.leader();
        leader == Some(hurt) || leader == Some(other)
    });
    cluster.heal();
    cluster.run_until("the state", ms(5_000), |cluster| {
        cluster.status(hurt).applied.0 > 41
    });
    assert_eq!(holds(&mut cluster, hurt, &[b'k', 6]), Some(vec![6]));
    assert_eq!(cluster.status(hurt).error, "");
}

/// Nobody has the entries any more: a snapshot stands for them.
#[test]
fn damaged_entries_that_others_compacted_are_replaced_by_a_snapshot() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let [hurt, _] = others(&cluster, leader);
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..10_u8 {
        client.put(&mut cluster, &[b'k', n], &[n]);
    }
    cluster.run(ms(200));
    cluster.crash(hurt);
    cluster.damage_entries(hurt, [Index(5)]);
    let index = client.snapshot(&mut cluster);
    cluster.run_until("compaction", ms(1_000), |cluster| {
        cluster.node(leader).raft().base().index == index
    });
    cluster.start(hurt);
    cluster.run_until("a state", ms(10_000), |cluster| {
        said(cluster, hurt, "snapshot installed") == 1 && cluster.damaged(hurt) == 0
    });
    assert_eq!(holds(&mut cluster, hurt, &[b'k', 9]), Some(vec![9]));
    assert_eq!(cluster.status(hurt).error, "");
}

/// The four bytes behind `begin` that give both together this checksum.
fn forged(begin: &[u8], crc: u32) -> [u8; 4] {
    let table = |byte: u32| {
        let divide = |rest: u32, _| rest >> 1 ^ (0xedb8_8320 * (rest & 1));
        (0..8).fold(byte, divide)
    };
    let mut rest = !crc;
    for _ in 0..4 {
        let byte = (0..256).find(|byte| table(*byte) >> 24 == rest >> 24);
        let byte = byte.expect("each byte comes from one");
        rest = (rest ^ table(byte)) << 8 | byte;
    }
    (rest ^ !crc32fast::hash(begin)).to_le_bytes()
}

/// A command that only its leader can read, who is down, and what stood at its place.
struct Unread {
    cluster: Cluster,
    leader: NodeId,
    hurt: NodeId,
    other: NodeId,
    lost: Entry,
}

impl Unread {
    fn new() -> Self {
        let mut cluster = Cluster::serving(patient());
        let leader = cluster.elect();
        let [hurt, other] = others(&cluster, leader);
        let mut client = Client::new(&mut cluster, leader, 1);
        client.put(&mut cluster, b"k", b"v");
        cluster.run(ms(200));
        let raft = cluster.node(leader).raft();
        let lost = raft.entry(raft.last().index).cloned();
        let lost = lost.expect("it is in memory");
        cluster.crash(leader);
        for id in [hurt, other] {
            cluster.crash(id);
            cluster.damage_entries(id, [lost.index()]);
            cluster.start(id);
        }
        cluster.run(ms(500));
        Self {
            cluster,
            leader,
            hurt,
            other,
            lost,
        }
    }

    /// The other one answers with this. Only the true entry is taken, as soon as the leader is back.
    fn check_not_taken(mut self, made_up: Entry) {
        let Self { hurt, lost, .. } = self;
        let cluster = &mut self.cluster;
        let members = cluster.node(hurt).raft().membership().clone();
        let entries = vec![made_up];
        cluster.arrives_late(self.other, hurt, Message::Fetched(Fetched { entries }));
        assert_eq!(*cluster.node(hurt).raft().membership(), members);
        cluster.start(self.leader);
        cluster.run_until("the true one", ms(10_000), |cluster| {
            let is_applied = cluster.node(hurt).store().applied().index >= lost.index();
            cluster.damaged(hurt) == 0 && is_applied
        });
        assert_eq!(holds(cluster, hurt, b"k"), Some(b"v".to_vec()));
    }
}

fn membership_entry(id: EntryId, body: &[u8]) -> Entry {
    Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Membership, body)
}

/// Nobody vouches for what comes instead of a damaged entry but its checksum.
#[test]
fn what_is_made_up_for_a_damaged_entry_is_not_taken() {
    let unread = Unread::new();
    let wanted = unread.lost.identity();
    let mut body = b"no members".to_vec();
    let begin = membership_entry(wanted.id, &body);
    body.extend(forged(&begin.bytes()[8..], wanted.crc));
    let made_up = membership_entry(wanted.id, &body);
    assert_eq!(made_up.identity(), wanted);
    unread.check_not_taken(made_up);
}

/// It would say who the members are.
#[test]
fn another_entry_at_the_place_of_a_damaged_one_is_not_taken() {
    let unread = Unread::new();
    let mut alone = unread.cluster.node(unread.hurt).raft().membership().clone();
    alone.members.truncate(1);
    let mut body = BytesMut::new();
    alone.encode(&mut body);
    let another = membership_entry(unread.lost.id(), &body);
    another.membership().expect("it can be");
    unread.check_not_taken(another);
}

/// Only the leader can say that an entry is gone for good.
#[test]
fn no_state_is_thrown_away_for_entries_that_the_leader_may_have() {
    let mut unread = Unread::new();
    unread.cluster.run(ms(5_000));
    for id in [unread.hurt, unread.other] {
        assert_eq!(
            said(&unread.cluster, id, "damaged entries are compacted"),
            0
        );
        assert!(!unread.cluster.node(id).raft().is_rebuilding());
    }
}

/// It could not be read at the start: without it this node goes by the members of before.
#[test]
fn a_damaged_entry_that_says_who_is_a_member_counts_once_it_is_fetched() {
    let (mut cluster, leader, hurt) = Cluster::led(Options::default());
    cluster.run(ms(100));
    let client = cluster.connect(leader);
    let request = change(learner("n4", None));
    let index = match cluster.ask(client, 1, request) {
        Reply::MembersChanged(changed) => changed.index,
        other => panic!("not changed but {other:?}"),
    };
    cluster.run(ms(200));
    cluster.crash(hurt);
    cluster.damage_entries(hurt, [index]);
    cluster.start(hurt);
    let members = |cluster: &Cluster| cluster.node(hurt).raft().membership().members.len();
    assert_eq!(members(&cluster), 3, "it cannot be read");
    cluster.run_until("mended", ms(5_000), |cluster| cluster.damaged(hurt) == 0);
    assert_eq!(members(&cluster), 4);
}

/// It has applied them, and they rot where they are kept: its own snapshot stands for them.
#[test]
fn damaged_entries_that_nobody_else_has_are_replaced_by_an_own_snapshot() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..10_u8 {
        client.put(&mut cluster, &[b'k', n], &[n]);
    }
    cluster.isolate(leader);
    cluster.rot(leader, Index(5));
    cluster.run_until("a snapshot", ms(10_000), |cluster| {
        cluster.damaged(leader) == 0 && cluster.status(leader).snapshot.index >= Index(5)
    });
    assert_eq!(cluster.status(leader).error, "");
}

/// It would be elected with a log that it cannot send.
#[test]
fn nobody_campaigns_with_damaged_entries_and_nobody_counts_them() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let [hurt, other] = others(&cluster, leader);
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..10_u8 {
        client.put(&mut cluster, &[n], b"v");
    }
    cluster.run(ms(200));
    cluster.crash(hurt);
    cluster.damage_entries(hurt, [Index(5)]);
    cluster.crash(other);
    cluster.crash(leader);
    cluster.start(hurt);
    cluster.run(ms(2_000));
    assert_eq!(cluster.node(hurt).raft().role(), RoleName::Follower);
    cluster.start(other);
    cluster.run_until("a leader", ms(5_000), |cluster| cluster.leader().is_some());
}

/// The headers of a part of the log cannot be read any more: a snapshot makes that part needless.
#[test]
fn a_log_that_cannot_be_read_is_replaced_by_a_snapshot() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut client = Client::new(&mut cluster, leader, 1);
    let mut last = Index(0);
    for n in 0..20_u8 {
        last = client.put(&mut cluster, &[n], b"v");
    }
    let [hurt, _] = others(&cluster, leader);
    cluster.run(ms(2_000));
    cluster.report(hurt, StorageEvent::Rot { upto: last });
    await_snapshot(&mut cluster, &[hurt], last);
    assert_eq!(
        cluster.status(leader).snapshot.index,
        Index(0),
        "the others keep theirs"
    );
}

/// Its log reaches as far as the leader's, which so does not know what it lacks.
#[test]
fn damaged_entries_that_only_a_state_lacks_are_replaced_by_the_leaders_snapshot() {
    let mut cluster = Cluster::serving(patient());
    let leader = cluster.elect();
    let [hurt, _] = others(&cluster, leader);
    let mut client = Client::new(&mut cluster, leader, 1);
    for n in 0..10_u8 {
        client.put(&mut cluster, &[b'k', n], &[n]);
    }
    (0..9).for_each(|_| cluster.fill_snapshot_disk(hurt));
    client.compact(&mut cluster, leader);
    let last = client.put(&mut cluster, b"k", b"last");
    cluster.run(ms(200));
    cluster.crash(hurt);
    cluster.damage_entries(hurt, [Index(5)]);
    cluster.start(hurt);
    // It takes a while to get one, and throws away nothing more meanwhile.
    cluster.break_snapshot_disk(hurt, true);
    cluster.run(ms(5_000));
    cluster.break_snapshot_disk(hurt, false);
    cluster.run_until("a state", ms(10_000), |cluster| {
        cluster.node(hurt).store().applied().index >= last
    });
    let rebuilds = "damaged entries are compacted elsewhere";
    assert_eq!(said(&cluster, hurt, rebuilds), 1);
    cluster.run_until("whole", ms(1_000), |cluster| cluster.damaged(hurt) == 0);
}
