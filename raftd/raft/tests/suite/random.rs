//! Random runs: everything that a network, a disk and a power supply may do, in any order. Safety
//! is checked by the oracle at every step; then all heals and the cluster must come to life.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use raft::{Input, RoleName};
use wire::membership::Suffrage;
use wire::peer::Digest;
use wire::types::{EntryId, Index, NodeId};

use crate::cluster::{Cluster, Options};
use crate::oracle::Marks;

/// One event. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A node's timer is due.
    Timeout(u8),
    /// Only time passes.
    Advance(u8),
    /// Some packet arrives, in any order.
    Deliver(u8),
    /// The oldest packets arrive.
    DeliverOldest(u8),
    /// All that waits for a node arrives in one turn, with completed writes.
    Burst(u8),
    /// Some packet is lost.
    Drop(u8),
    /// Some packet arrives and will arrive again.
    Duplicate(u8),
    /// A disk completes some writes.
    Sync(u8, u8),
    /// A full disk completes the newest term and vote before all entries.
    SyncHardState(u8),
    /// Old entries come from a disk, or cannot be read.
    Load(u8, bool),
    /// A process dies; some of its unfinished writes are on disk.
    Crash(u8, u8),
    Start(u8),
    Propose(u8, u8),
    Read(u8),
    /// Somebody's link to the leader is closed by the other end.
    Closed(u8),
    /// A one-way link fails, or all are mended.
    Cut(u8, u8),
    Heal,
    /// All links of a node fail.
    Isolate(u8),
    /// All is well for some milliseconds.
    Calm(u8),
    /// Everybody's patience is over, and a node notices first.
    Rival(u8),
    Stall(u8, bool),
    /// A node publishes a snapshot.
    Publish(u8),
    /// A node's log begins behind the snapshot, or some entries before, on disk too or not yet.
    Compact(u8, u8, bool),
    /// A leader sends the next pieces, whether or not the last ones were answered.
    Transfer(u8, bool),
    /// A node has received the whole of another's snapshot.
    Install(u8, u8),
    ProposeSnapshot(u8),
    /// A disk loses its log, or the payload of some entries; the process notices later or at once.
    Lose(u8),
    Rot(u8, u8, bool),
    /// A disk forgets what it acknowledged to the leader, some entries more, and that it did.
    RollBack(u8, u8),
    /// Faulty entries are fetched from the others' disks.
    Mend(u8),
    /// A state turns out to be wrong; at a start, or at once.
    Rebuild(u8, bool),
    /// A node tells a digest.
    Digest(u8, u8),
    /// The leader is asked to hand over.
    HandOver(u8),
    /// The leader is cut off and appends on, the others elect one of theirs, whose log begins
    /// behind what they have in common.
    Overtake(u8),
    /// The leader is to make voters of these nodes and learners of those, a bit each.
    Change(u8, u8, u8),
}

impl Op {
    fn damages(self) -> bool {
        matches!(
            self,
            Self::Lose(_) | Self::RollBack(..) | Self::Rot(..) | Self::Rebuild(..)
        )
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<u8>().prop_map(Op::Timeout),
        2 => (0_u8..100).prop_map(Op::Advance),
        20 => any::<u8>().prop_map(Op::Deliver),
        30 => (1_u8..12).prop_map(Op::DeliverOldest),
        12 => any::<u8>().prop_map(Op::Burst),
        4 => any::<u8>().prop_map(Op::Drop),
        4 => any::<u8>().prop_map(Op::Duplicate),
        30 => (any::<u8>(), 1_u8..4).prop_map(|(n, k)| Op::Sync(n, k)),
        2 => any::<u8>().prop_map(Op::SyncHardState),
        4 => (any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(n, f)| Op::Load(n, f)),
        2 => (any::<u8>(), 0_u8..3).prop_map(|(n, k)| Op::Crash(n, k)),
        4 => any::<u8>().prop_map(Op::Start),
        12 => (any::<u8>(), 1_u8..4).prop_map(|(n, k)| Op::Propose(n, k)),
        6 => any::<u8>().prop_map(Op::Read),
        2 => any::<u8>().prop_map(Op::Closed),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Cut(a, b)),
        2 => Just(Op::Heal),
        2 => any::<u8>().prop_map(Op::Isolate),
        6 => (1_u8..60).prop_map(Op::Calm),
        6 => any::<u8>().prop_map(Op::Rival),
        1 => (any::<u8>(), prop::bool::weighted(0.3)).prop_map(|(n, on)| Op::Stall(n, on)),
        4 => any::<u8>().prop_map(Op::Publish),
        4 => (any::<u8>(), 0_u8..6, any::<bool>()).prop_map(|(n, k, disk)| Op::Compact(n, k, disk)),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(n, again)| Op::Transfer(n, again)),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(n, m)| Op::Install(n, m)),
        1 => any::<u8>().prop_map(Op::ProposeSnapshot),
        3 => (1_u8..5).prop_map(Op::Overtake),
        2 => any::<u8>().prop_map(Op::Lose),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(n, k)| Op::RollBack(n, k)),
        2 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(n, k, now)| Op::Rot(n, k, now)),
        4 => any::<u8>().prop_map(Op::Mend),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(n, now)| Op::Rebuild(n, now)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(n, k)| Op::Digest(n, k)),
        2 => any::<u8>().prop_map(Op::HandOver),
        4 => any::<(u8, u8, u8)>().prop_map(|(n, voters, learners)| Op::Change(n, voters, learners)),
    ]
}

fn apply(cluster: &mut Cluster, op: Op) {
    let nodes = cluster.options.nodes;
    let pick = |n: u8| NodeId(u64::from(n) % nodes + 1);
    let up = |cluster: &Cluster, n: u8| Some(pick(n)).filter(|id| cluster.is_up(*id));
    let leader_or = |cluster: &Cluster, n: u8| {
        let leader = cluster.leader().filter(|_| !n.is_multiple_of(4));
        leader.or(up(cluster, n))
    };
    let place = |cluster: &Cluster, n: u8| {
        (!cluster.packets.is_empty()).then(|| usize::from(n) % cluster.packets.len())
    };
    match op {
        Op::Timeout(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.timeout(id);
            }
        }
        Op::Advance(ms) => cluster.advance(Duration::from_millis(u64::from(ms))),
        Op::Deliver(n) => {
            if let Some(place) = place(cluster, n) {
                cluster.deliver(place, false);
            }
        }
        Op::DeliverOldest(count) => {
            for _ in 0..count {
                if !cluster.packets.is_empty() {
                    cluster.deliver(0, false);
                }
            }
        }
        Op::Burst(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.burst(id);
            }
        }
        Op::Drop(n) => {
            if let Some(place) = place(cluster, n) {
                cluster.packets.remove(place);
            }
        }
        Op::Duplicate(n) => {
            if let Some(place) = place(cluster, n) {
                cluster.deliver(place, true);
            }
        }
        Op::SyncHardState(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.sync_hard_state(id);
            }
        }
        Op::Sync(n, count) => cluster.sync(pick(n), usize::from(count)),
        Op::Load(n, fail) => {
            if let Some(id) = up(cluster, n) {
                cluster.load(id, fail);
            }
        }
        Op::Crash(n, kept) => cluster.crash(pick(n), usize::from(kept)),
        Op::Start(n) => {
            if !cluster.is_up(pick(n)) {
                cluster.start(pick(n));
            }
        }
        Op::Propose(n, count) => {
            if let Some(id) = leader_or(cluster, n) {
                let body = vec![n; usize::from(n) * 4];
                cluster.wall_ms = 1000 + u64::from(n);
                cluster.propose(id, &vec![body.as_slice(); usize::from(count)]);
            }
        }
        Op::Read(n) => {
            let id = match n % 2 {
                0 => leader_or(cluster, n / 2),
                _ => up(cluster, n / 2),
            };
            if let Some(id) = id {
                cluster.read(id);
            }
        }
        Op::Closed(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.turn(id, vec![Input::LeaderLinkClosed]);
            }
        }
        Op::Cut(a, b) => {
            cluster.cut.insert((pick(a), pick(b)));
        }
        Op::Heal => cluster.cut.clear(),
        Op::Isolate(n) => cluster.isolate(pick(n)),
        Op::Overtake(count) => overtake(cluster, usize::from(count)),
        Op::Calm(ms) => cluster.run(Duration::from_millis(u64::from(ms))),
        Op::Rival(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.advance(Duration::from_millis(301));
                cluster.turn(id, vec![Input::Tick]);
            }
        }
        Op::Publish(n) => {
            if let Some(id) = up(cluster, n) {
                cluster.publish(id);
            }
        }
        Op::Compact(n, back, on_disk) => {
            if let Some(id) = up(cluster, n) {
                let raft = cluster.raft(id);
                // A state that is replaced is no reason to forget anything.
                let covered = if raft.is_rebuilding() {
                    raft.base().index
                } else {
                    cluster.nodes[&id].disk.snapshot.index
                };
                let upto = Index(covered.0.saturating_sub(u64::from(back)));
                cluster.compact(id, upto, on_disk);
            }
        }
        Op::Transfer(n, again) => {
            if let Some(id) = leader_or(cluster, n) {
                if again {
                    cluster.give_up_waiting(id);
                }
                cluster.transfer(id);
            }
        }
        Op::Install(n, m) => {
            if let (Some(id), Some(other)) = (up(cluster, n), leader_or(cluster, m))
                // Its pieces told the term in which it was committed, or a later one.
                && cluster.raft(other).term() <= cluster.raft(id).term()
            {
                let snapshot = cluster.publish(other);
                if snapshot != EntryId::default() {
                    cluster.install(id, snapshot);
                    cluster.turn(id, Vec::new());
                }
            }
        }
        Op::Lose(_) | Op::RollBack(..) | Op::Rot(..) | Op::Mend(_) | Op::Rebuild(..) => {
            damage(cluster, op);
        }
        Op::Digest(n, k) => {
            let index = Index(u64::from(k));
            let sum = u128::from(k);
            cluster.set_digest(pick(n), Digest { index, sum });
        }
        Op::HandOver(n) => {
            if let Some(leader) = cluster.leader() {
                // It may be told off: it was told already, or the target is not fit.
                let _ = cluster.hand_over(leader, pick(n));
            }
        }
        Op::Change(n, voters, learners) => {
            if let Some(id) = leader_or(cluster, n) {
                cluster.change(id, u64::from(voters), u64::from(learners));
            }
        }
        Op::ProposeSnapshot(n) => {
            if let Some(id) = leader_or(cluster, n) {
                let node = cluster.node(id);
                let raft = node.raft.as_mut().expect("it is up");
                let leads = raft.role() == RoleName::Leader && !raft.is_transferring();
                assert_eq!(raft.propose_snapshot(1000).is_ok(), leads);
                cluster.turn(id, Vec::new());
            }
        }
        Op::Stall(n, on) => {
            let node = cluster.node(pick(n));
            if let Some(raft) = &mut node.raft {
                raft.set_disk(wire::peer::DiskReport::default(), on);
            }
        }
    }
    // A network holds only so much.
    while cluster.packets.len() > 200 {
        cluster.packets.remove(0);
    }
}

/// Never more than a minority is less than whole.
fn damage(cluster: &mut Cluster, op: Op) {
    let (Op::Lose(n) | Op::RollBack(n, _) | Op::Rot(n, ..) | Op::Mend(n) | Op::Rebuild(n, _)) = op
    else {
        return;
    };
    let id = NodeId(u64::from(n) % cluster.options.nodes + 1);
    if !matches!(op, Op::Mend(_)) && !cluster.may_be_damaged(id) {
        return;
    }
    match op {
        Op::Lose(_) => {
            cluster.lose(id);
            cluster.oracle.marks.lost += 1;
        }
        Op::RollBack(_, k) => roll_back(cluster, id, k),
        Op::Rot(_, k, now) => {
            if !now {
                cluster.crash(id, 0);
            }
            let last = cluster.nodes[&id].disk.log.last().index.0;
            let first = Index(last.saturating_sub(u64::from(k % 8)));
            cluster.rot(id, &[first, first.next().next(), Index(last)]);
            cluster.oracle.marks.faulty += 1;
        }
        Op::Rebuild(_, now) => {
            if !now {
                cluster.crash(id, 0);
            }
            cluster.rebuild(id);
        }
        _ => cluster.mend(id),
    }
}

/// As long as the leader that was told lives, it finds out before anything else happens: that is
/// assumed of damage that nothing shows.
fn roll_back(cluster: &mut Cluster, id: NodeId, k: u8) {
    let Some(leader) = cluster.leader().filter(|leader| *leader != id) else {
        return;
    };
    let matched = cluster.raft(leader).match_index(id).unwrap_or_default();
    cluster.roll_back(id, Index(matched.0.saturating_sub(u64::from(k % 8) + 1)));
    if cluster.nodes[&id].disk.log.last().index < matched {
        cluster.start(id);
        for _ in 0..4 {
            cluster.timeout(leader);
            cluster.settle_between(leader, id);
        }
        cluster.oracle.marks.found += u64::from(cluster.nodes[&id].disk.hard_state.lost);
    }
    if !cluster.nodes[&id].disk.hard_state.lost {
        // Its leader is out of office, or was never told of what is gone.
        cluster.lose(id);
    }
}

fn overtake(cluster: &mut Cluster, count: usize) {
    let Some(old) = cluster.leader() else { return };
    cluster.isolate(old);
    cluster.propose(old, &vec![b"lost".as_slice(); count]);
    cluster.run(Duration::from_millis(700));
    if let Some(new) = cluster.leader().filter(|new| *new != old) {
        cluster.propose(new, &vec![b"kept".as_slice(); count]);
        cluster.settle();
        cluster.publish(new);
        let covered = cluster.nodes[&new].disk.snapshot.index;
        cluster.compact(new, covered, true);
    }
    cluster.cut.clear();
    cluster.run(Duration::from_millis(50));
}

/// Everything works again: within a few election timeouts one node leads, what is proposed
/// commits everywhere, and every member serves a read.
fn must_come_to_life(cluster: &mut Cluster) {
    cluster.cut.clear();
    for id in cluster.ids() {
        if !cluster.is_up(id) {
            cluster.start(id);
        }
        let raft = cluster.node(id).raft.as_mut().expect("it is up");
        raft.set_disk(wire::peer::DiskReport::default(), false);
    }
    for _ in 0..10 {
        cluster.run(Duration::from_secs(1));
        cluster.make_whole();
        if !cluster.nodes.values().any(|node| node.disk.is_damaged()) {
            break;
        }
    }
    cluster.run(Duration::from_secs(3));
    for node in cluster.nodes.values() {
        assert!(
            !node.disk.is_damaged(),
            "node {} is not healed: {:?}",
            node.id,
            node.disk
        );
    }
    let leader = cluster.leader().expect("a healed cluster has a leader");
    let last = cluster.propose(leader, &[b"alive"]).expect("it leads")[0];
    let served = |cluster: &Cluster, id| cluster.nodes[&id].reads_served;
    let members = cluster.raft(leader).membership().members.iter();
    let before: Vec<(NodeId, u64)> = members
        .map(|member| (member.id, served(cluster, member.id)))
        .collect();
    for (id, _) in &before {
        cluster.read(*id).expect("it leads, or follows");
    }
    cluster.run(Duration::from_secs(1));
    for (id, before) in before {
        assert!(served(cluster, id) > before, "node {id} serves no read");
    }
    assert!(
        cluster.refusals.is_empty(),
        "honest nodes refused each other: {:?}",
        cluster.refusals
    );
    let membership = cluster.raft(leader).membership();
    assert!(!membership.is_joint(), "a change stands half done");
    assert_eq!(membership.suffrage(leader), Some(Suffrage::Voter));
    let members = membership.members.iter();
    for node in members.map(|member| &cluster.nodes[&member.id]) {
        let raft = node.raft.as_ref().expect("it is up");
        assert_eq!(raft.commit(), last.index, "node {} lags", node.id);
        assert_eq!(raft.last(), last, "node {} differs", node.id);
        assert_eq!(raft.leader(), Some(leader));
    }
}

/// One cluster's fate. In half of them nothing is ever damaged: damage is hard on what else may
/// happen. In the others the members stay the same.
fn run() -> impl Strategy<Value = (Options, Vec<Op>)> {
    let nodes = prop_oneof![1 => Just(1), 1 => Just(2), 6 => Just(3), 2 => Just(4), 3 => Just(5)];
    let options = (any::<u64>(), nodes, any::<bool>()).prop_map(|(seed, nodes, small)| Options {
        voters: 3,
        nodes,
        seed,
        window_bytes: if small { 600 } else { 100_000 },
        cache_bytes: if small { 300 } else { 1 << 20 },
        formed: true,
    });
    let ops = prop::collection::vec(op(), 1..800);
    (options, ops, any::<bool>()).prop_map(|(mut options, mut ops, sound)| {
        if !sound || options.seed % 2 == 0 {
            options.voters = options.nodes;
        }
        ops.retain(|op| {
            if sound {
                !op.damages()
            } else {
                !matches!(op, Op::Change(..))
            }
        });
        (options, ops)
    })
}

/// `RAFT_RUNS` asks for more of them.
#[test]
fn any_run_is_safe_and_heals() {
    let cases = std::env::var("RAFT_RUNS").map_or(150, |n| n.parse().expect("a number of runs"));
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    });
    let marks = RefCell::new(Marks::default());
    let outcome = runner.run(&run(), |(options, ops)| {
        let mut cluster = Cluster::new(options);
        for op in ops {
            apply(&mut cluster, op);
        }
        must_come_to_life(&mut cluster);
        marks.borrow_mut().add(&cluster.oracle.marks);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let marks = marks.into_inner();
    assert!(
        marks.least() >= u64::from(cases) / 30,
        "{cases} runs saw too little: {marks:?}"
    );
}
