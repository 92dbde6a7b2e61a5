//! Every history with few surprises. A cluster lives through a story of some scenes, and between any two
//! of its steps something else may happen: each event at each place, and if asked for each two of them
//! at each two places. What takes the wrong fault at the wrong time is not left to chance, as it is in
//! random runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use raft::Input;
use wire::types::{EntryId, Index, NodeId};

use crate::cluster::{Cluster, Options};
use crate::oracle::Marks;

/// What goes on once all is quiet.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// Nobody was heard for long, and this node notices first.
    Rival(u64),
    /// The leader's next heartbeat.
    Beat,
    /// Somebody asks the leader to write.
    Propose,
    /// Somebody reads at this node.
    Read(u64),
    /// The leader is told to hand over to this node.
    HandOver(u64),
    /// The leader is told to make voters of these and learners of those, a bit for each node.
    Change(u64, u64),
    /// A node hears nothing and is not heard, until all are whole again.
    Cut(u64),
    Heal,
    /// The leader's log begins behind a snapshot.
    Compact,
}
use Scene::{Beat, Change, Compact, Cut, HandOver, Heal, Propose, Read, Rival};

struct Story {
    nodes: u64,
    voters: u64,
    /// Whether disks lose what they held: those of a minority, and where the members stay the same.
    damage: bool,
    /// What happened before anything goes wrong.
    before: &'static [Scene],
    scenes: &'static [Scene],
    /// It proves nothing if this was never seen.
    seen: fn(&Marks) -> u64,
}

/// What comes between.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The oldest packet is lost.
    Lose,
    /// It comes behind all the others.
    Delay,
    /// It comes twice.
    Repeat,
    /// A disk is faster than the network.
    Sync(NodeId),
    /// A disk has room for term and vote only.
    SyncHardState(NodeId),
    /// A process dies with so many of its writes on disk, and comes back at once, or when all is quiet.
    Crash {
        id: NodeId,
        kept: usize,
        at_once: bool,
    },
    /// A node's timer is due before it is the others'.
    Timeout(NodeId),
    /// Nobody was heard for long, and this node notices.
    Patience(NodeId),
    /// The leader's end closes its link to this node.
    Closed(NodeId),
    /// A disk loses its log, its last entry, or the state.
    LoseLog(NodeId),
    Rot(NodeId),
    Rebuild(NodeId),
    /// Somebody asks for something.
    Asked(Scene),
}

/// All that can happen now.
fn events(cluster: &Cluster, damage: bool) -> Vec<Event> {
    let mut all = vec![Event::Asked(Propose)];
    if !cluster.packets.is_empty() {
        all.extend([Event::Lose, Event::Repeat]);
    }
    if cluster.packets.len() > 1 {
        all.push(Event::Delay);
    }
    for node in cluster.nodes.values().filter(|node| node.raft.is_some()) {
        let id = node.id;
        for kept in 0..=node.writes.len() {
            all.extend([true, false].map(|at_once| Event::Crash { id, kept, at_once }));
        }
        if !node.writes.is_empty() {
            all.extend([Event::Sync(id), Event::SyncHardState(id)]);
        }
        all.extend([Event::Timeout(id), Event::Patience(id), Event::Closed(id)]);
        all.extend([Read(id.0), HandOver(id.0)].map(Event::Asked));
        let is_empty = node.disk.log.last() == EntryId::default();
        if damage && !is_empty && cluster.may_be_damaged(id) {
            all.extend([Event::LoseLog(id), Event::Rot(id), Event::Rebuild(id)]);
        }
    }
    all
}

fn happen(cluster: &mut Cluster, event: Event) {
    match event {
        Event::Lose => drop(cluster.packets.remove(0)),
        Event::Delay => cluster.packets.rotate_left(1),
        Event::Repeat => cluster.deliver(0, true),
        Event::Sync(id) => cluster.sync(id, 1),
        Event::SyncHardState(id) => cluster.sync_hard_state(id),
        Event::Crash { id, kept, at_once } => {
            cluster.crash(id, kept);
            if at_once {
                cluster.start(id);
            }
        }
        Event::Timeout(id) => cluster.timeout(id),
        Event::Patience(id) => play(cluster, Rival(id.0)),
        Event::Closed(id) => cluster.turn(id, vec![Input::LeaderLinkClosed]),
        Event::LoseLog(id) => cluster.lose(id),
        Event::Rot(id) => cluster.rot(id, &[cluster.nodes[&id].disk.log.last().index]),
        Event::Rebuild(id) => cluster.rebuild(id),
        Event::Asked(scene) => play(cluster, scene),
    }
}

fn play(cluster: &mut Cluster, scene: Scene) {
    match (scene, cluster.leader()) {
        (Rival(id), _) => {
            cluster.advance(Duration::from_millis(301));
            cluster.turn(NodeId(id), vec![Input::Tick]);
        }
        (Read(id), _) => drop(cluster.read(NodeId(id))),
        (Cut(id), _) => cluster.isolate(NodeId(id)),
        (Heal, _) => cluster.cut.clear(),
        (_, None) => {}
        (Beat, Some(leader)) => cluster.timeout(leader),
        (Propose, Some(leader)) => drop(cluster.propose(leader, &[b"x"])),
        (HandOver(id), Some(leader)) => drop(cluster.hand_over(leader, NodeId(id))),
        (Change(voters, learners), Some(leader)) => {
            cluster.change(leader, voters, learners);
        }
        (Compact, Some(leader)) => {
            let snapshot = cluster.publish(leader);
            cluster.compact(leader, snapshot.index, true);
        }
    }
}

/// The story's next step; false at its end. Who is down starts once all is quiet.
fn step(cluster: &mut Cluster, scenes: &mut &[Scene]) -> bool {
    if cluster.work() {
        return true;
    }
    let down = cluster.ids().into_iter().find(|id| !cluster.is_up(*id));
    if let Some(id) = down {
        cluster.start(id);
        return true;
    }
    let Some((scene, rest)) = scenes.split_first() else {
        return false;
    };
    *scenes = rest;
    play(cluster, *scene);
    true
}

/// Within a few election timeouts all disks are whole, one node leads, and all its members have what it
/// proposes.
fn must_come_to_life(cluster: &mut Cluster) {
    for _ in 0..20 {
        cluster.run(Duration::from_millis(400));
        cluster.make_whole();
        let Some(leader) = cluster.leader() else {
            continue;
        };
        let proposed = cluster.propose(leader, &[b"alive"]);
        cluster.run(Duration::from_millis(50));
        if proposed.is_some_and(|ids| all_have(cluster, leader, ids[0].index)) {
            return;
        }
    }
    panic!("it does not come to life:\n{}", cluster.status());
}

fn all_have(cluster: &Cluster, leader: NodeId, index: Index) -> bool {
    let membership = cluster.raft(leader).membership();
    let has_it = |id| {
        let is_whole = !cluster.nodes[&id].disk.is_damaged();
        is_whole && cluster.raft(id).commit() == index
    };
    !membership.is_joint() && membership.members.iter().all(|member| has_it(member.id))
}

impl Story {
    fn begin(&self) -> Cluster {
        let mut cluster = Cluster::new(Options {
            nodes: self.nodes,
            voters: self.voters,
            ..Options::default()
        });
        let mut before = self.before;
        while step(&mut cluster, &mut before) {}
        cluster
    }

    /// Lives through it once for each choice of up to so many events: one, or `RAFT_EVENTS`. Pairs are
    /// for an optimized build, millions of histories.
    fn tell(&self) {
        let events_max = std::env::var("RAFT_EVENTS").map_or(1, |n| n.parse().expect("a number"));
        let mut all = Histories {
            damage: self.damage,
            path: Vec::new(),
            marks: Marks::default(),
        };
        let told = AssertUnwindSafe(|| all.go_on(self.begin(), self.scenes, 0, events_max));
        if catch_unwind(told).is_err() {
            panic!("with {:?}:\n{}", all.path, self.trace(&all.path));
        }
        assert!((self.seen)(&all.marks) > 0, "{:?}", all.marks);
    }

    /// What was seen of one history that does not end well.
    fn trace(&self, path: &[(usize, Event)]) -> String {
        let (mut cluster, mut scenes) = (self.begin(), self.scenes);
        let told = AssertUnwindSafe(|| {
            for at in 0.. {
                for (_, event) in path.iter().filter(|(place, _)| *place == at) {
                    cluster.say(&format!("-- {event:?}"));
                    happen(&mut cluster, *event);
                }
                if !step(&mut cluster, &mut scenes) {
                    break;
                }
            }
            must_come_to_life(&mut cluster);
        });
        let _ = catch_unwind(told);
        cluster.take_trace()
    }
}

/// All histories of a story.
struct Histories {
    damage: bool,
    /// The events of the present one, with the number of the step before which they came.
    path: Vec<(usize, Event)>,
    marks: Marks,
}

impl Histories {
    /// Goes on with a history, and with each that is like it so far and has up to `left` events more.
    fn go_on(&mut self, mut cluster: Cluster, mut scenes: &[Scene], mut at: usize, left: usize) {
        loop {
            // Only who fails needs it, and a copy costs.
            cluster.take_trace();
            let choices = match left {
                0 => Vec::new(),
                _ => events(&cluster, self.damage),
            };
            for event in choices {
                let mut other = cluster.clone();
                self.path.push((at, event));
                happen(&mut other, event);
                self.go_on(other, scenes, at, left - 1);
                self.path.pop();
            }
            if !step(&mut cluster, &mut scenes) {
                break;
            }
            at += 1;
        }
        must_come_to_life(&mut cluster);
        self.marks.add(&cluster.oracle.marks);
    }
}

const THREE: Story = Story {
    nodes: 3,
    voters: 3,
    damage: false,
    before: &[],
    scenes: &[],
    seen: |marks| marks.leaders,
};

#[test]
fn every_first_election_is_safe() {
    Story {
        scenes: &[Rival(1), Propose, Beat],
        ..THREE
    }
    .tell();
}

#[test]
fn every_succession_of_leaders_is_safe() {
    Story {
        before: &[Rival(1), Propose],
        scenes: &[
            Propose,
            Cut(1),
            Propose,
            Rival(2),
            Propose,
            Heal,
            Beat,
            Rival(3),
            Beat,
        ],
        seen: |marks| marks.truncations,
        ..THREE
    }
    .tell();
}

#[test]
fn every_read_misses_nothing() {
    Story {
        before: &[Rival(1), Propose],
        scenes: &[
            Propose,
            Read(1),
            Read(2),
            Cut(1),
            Rival(2),
            Propose,
            Read(1),
            Heal,
            Beat,
        ],
        seen: |marks| marks.reads_served,
        ..THREE
    }
    .tell();
}

#[test]
fn every_hand_over_is_safe() {
    Story {
        before: &[Rival(1), Propose],
        scenes: &[Propose, HandOver(2), Propose, Beat],
        seen: |marks| marks.handovers,
        ..THREE
    }
    .tell();
}

#[test]
fn every_change_of_members_is_safe() {
    Story {
        nodes: 4,
        before: &[Rival(1), Propose, Change(7, 8), Beat],
        scenes: &[Change(14, 0), Beat, Propose, Beat],
        seen: |marks| marks.joint,
        ..THREE
    }
    .tell();
}

#[test]
fn every_change_of_members_that_is_undone_is_safe() {
    Story {
        nodes: 4,
        before: &[Rival(1), Propose, Change(7, 8), Beat],
        scenes: &[Cut(1), Change(14, 0), Rival(2), Heal, Beat, Propose, Beat],
        seen: |marks| marks.truncations.min(marks.joint),
        ..THREE
    }
    .tell();
}

#[test]
fn every_snapshot_that_is_sent_is_safe() {
    Story {
        before: &[Rival(1), Cut(3), Propose, Propose, Compact, Heal],
        scenes: &[Beat, Propose, Rival(2), Beat],
        seen: |marks| marks.resets,
        ..THREE
    }
    .tell();
}

#[test]
fn every_damage_of_a_minority_is_healed() {
    Story {
        damage: true,
        before: &[Rival(1), Propose],
        scenes: &[Propose, Beat, Rival(2), Propose, Beat],
        seen: |marks| marks.mended.min(marks.healed).min(marks.rebuilt),
        ..THREE
    }
    .tell();
}
