//! A cluster of deterministic nodes in one process: virtual time, links that can be cut, disks
//! that take their time and forget what was not synced. The same seed brings the same history.
//!
//! Everything between nodes and between clients and nodes goes through the real codecs. After
//! every turn the invariants of Raft that need no knowledge of its insides are checked: one leader
//! per term, committed entries never change, equal states at equal indexes.

mod clients;
mod disk;
mod harm;
mod links;
mod session;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::{Instant, RoleName, Ticket};
use raftd::node::io::{ConnectionId, Input, LinkId, Now};
use raftd::node::{Config, Limits, Node, Policy};
use raftd::wal::identity::Identity;
use wire::client::Status;
use wire::entry::Entry;
use wire::error::Error;
use wire::frame;
use wire::hello::{Hello, Welcome};
use wire::limits::PEER_FRAME_BYTES_MAX;
use wire::peer::Message;
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::disk::Disk;
use self::links::Answer;
pub(crate) use self::session::{Session, error};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const EPOCH: Epoch = Epoch(0xe0);
/// When the wall clock starts.
const WALL_MS: u64 = 1_700_000_000_000;

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How the cluster is made; all of it may be changed while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) members: u64,
    pub(crate) seed: u64,
    /// One way between two nodes.
    pub(crate) link_delay: Duration,
    /// One write with its sync.
    pub(crate) disk_delay: Duration,
    pub(crate) limits: Limits,
    pub(crate) snapshots: Policy,
    /// Entries that a restart keeps in memory; older ones must be loaded.
    pub(crate) tail_entries: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            members: 3,
            seed: 1,
            link_delay: Duration::from_micros(50),
            disk_delay: Duration::from_micros(100),
            limits: Limits::default(),
            snapshots: Policy::default(),
            tail_entries: 8,
        }
    }
}

struct Member {
    disk: Disk,
    /// It had another disk before.
    wiped: bool,
    /// Its state is wrong, until it is thrown away.
    spoiled: bool,
    /// `None` while it is down.
    node: Option<Node>,
    life: u64,
    stopped: bool,
    events: Vec<String>,
}

/// A link in one direction: `from` dialled.
#[derive(Clone, Copy, Debug)]
struct Link {
    from: NodeId,
    to: NodeId,
}

#[derive(Debug)]
enum Happening {
    Dial {
        from: NodeId,
        life: u64,
        to: NodeId,
    },
    Welcome {
        link: LinkId,
        answer: Answer,
    },
    Deliver {
        link: LinkId,
        to: NodeId,
        frame: Bytes,
    },
    Closed {
        link: LinkId,
        at: NodeId,
    },
}

/// What a client connection saw.
#[derive(Debug)]
struct Connection {
    to: NodeId,
    replies: BTreeMap<u64, Bytes>,
    /// What came unasked.
    news: Vec<Bytes>,
    readable: bool,
    broken: bool,
}

pub(crate) struct Cluster {
    pub(crate) options: Options,
    now: Instant,
    serial: u64,
    members: BTreeMap<NodeId, Member>,
    links: BTreeMap<LinkId, Link>,
    /// Directed: nothing gets through from the first to the second.
    cut: BTreeSet<(NodeId, NodeId)>,
    connections: BTreeMap<ConnectionId, Connection>,
    happenings: BTreeMap<(Instant, u64), Happening>,
    random: u64,
    /// A hash over all effects of all nodes.
    pub(crate) trace: u64,
    /// Turns of all nodes so far.
    pub(crate) turns: u64,
    /// Their number when time last went on.
    turns_before: u64,
    /// What is known to be committed.
    committed: BTreeMap<Index, Entry>,
    leaders: BTreeMap<Term, NodeId>,
    states: BTreeMap<Index, u64>,
    checked: BTreeMap<NodeId, Index>,
}

impl Cluster {
    /// All members, up and not yet connected.
    pub(crate) fn new(options: Options) -> Self {
        let mut cluster = Self::all_down(options);
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster
    }

    /// All members, down.
    pub(crate) fn all_down(options: Options) -> Self {
        let mut cluster = Self {
            now: Instant(1_000_000_000),
            serial: 0,
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            connections: BTreeMap::new(),
            happenings: BTreeMap::new(),
            random: options.seed,
            trace: 0,
            turns: 0,
            turns_before: 0,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            states: BTreeMap::new(),
            checked: BTreeMap::new(),
            options,
        };
        for id in cluster.initial_ids() {
            let member = cluster.new_member();
            cluster.members.insert(id, member);
        }
        cluster
    }

    /// Up, formed, with a leader that has committed its no-op.
    pub(crate) fn serving(options: Options) -> Self {
        let mut cluster = Self::new(options);
        cluster.elect();
        cluster
    }

    /// [`Cluster::serving`], its leader and a follower.
    pub(crate) fn led(options: Options) -> (Self, NodeId, NodeId) {
        let mut cluster = Self::serving(options);
        let leader = cluster.elect();
        let follower = cluster.other_than(leader);
        (cluster, leader, follower)
    }

    fn new_disk(&mut self) -> Disk {
        Disk::new(Incarnation(self.draw() | 1))
    }

    fn new_member(&mut self) -> Member {
        Member {
            disk: self.new_disk(),
            wiped: false,
            spoiled: false,
            node: None,
            life: 0,
            stopped: false,
            events: Vec::new(),
        }
    }

    // --- members ---

    /// With whom the cluster began.
    fn initial_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.options.members).map(NodeId)
    }

    /// A new node, down, that was told what this one knows of the cluster.
    pub(crate) fn newcomer(&mut self, told_by: NodeId) -> NodeId {
        let id = NodeId(self.members.len() as u64 + 1);
        let mut member = self.new_member();
        member.disk.formed = self.formed(told_by).to_vec();
        self.members.insert(id, member);
        id
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// A node that is up.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.members[&id].node.as_ref().expect("the node is up")
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.members[&id].node.is_some()
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.node(id).status()
    }

    pub(crate) fn events(&self, id: NodeId) -> &[String] {
        &self.members[&id].events
    }

    /// Whether the node has said that it stopped.
    pub(crate) fn has_stopped(&self, id: NodeId) -> bool {
        self.members[&id].stopped
    }

    /// The entries on the node's disk.
    pub(crate) fn durable_log(&self, id: NodeId) -> &[Entry] {
        &self.members[&id].disk.log
    }

    /// The formed record on the node's disk.
    pub(crate) fn formed(&self, id: NodeId) -> &[(NodeId, Incarnation)] {
        &self.members[&id].disk.formed
    }

    pub(crate) fn incarnation(&self, id: NodeId) -> Incarnation {
        self.members[&id].disk.incarnation
    }

    /// A seeded draw below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        xxh3_64_with_seed(&self.random.to_le_bytes(), 7)
    }

    /// Starts a node from what its disk holds.
    pub(crate) fn start(&mut self, id: NodeId) {
        assert!(!self.is_up(id), "the node is down");
        let (life, seed) = (self.draw(), self.draw());
        let now = self.clocks();
        let members = self.initial_ids();
        let members: Vec<_> = members.map(|id| (id, format!("peer-{id}:1"))).collect();
        let tail_entries = self.options.tail_entries;
        let (limits, snapshots) = (self.options.limits, self.options.snapshots);
        let member = self.members.get_mut(&id).unwrap();
        let identity = Identity {
            cluster: CLUSTER,
            node: id,
            incarnation: member.disk.incarnation,
            epoch: EPOCH,
            formed: member.disk.formed.clone(),
            members: members.clone(),
            next_epoch: None,
        };
        member.spoiled = member.disk.spoils;
        let restored = member.disk.restore(&identity, tail_entries);
        let config = Config {
            id,
            name: format!("n{id}"),
            client_addr: format!("client-{id}:1"),
            members,
            cluster: CLUSTER,
            epoch: EPOCH,
            incarnation: member.disk.incarnation,
            life,
            formed: member.disk.formed.clone(),
            election_timeout_min: ms(150),
            election_timeout_max: ms(300),
            heartbeat: ms(40),
            limits,
            snapshots,
            wal_bytes: 0,
            seed,
            version: "test".to_owned(),
        };
        member.life = life;
        member.stopped = false;
        member.node = Some(Node::new(config, restored, now));
        self.checked.remove(&id);
        for other in self.ids() {
            if other != id {
                self.dial_later(id, other, Duration::ZERO);
                if self.is_up(other) {
                    self.dial_later(other, id, Duration::ZERO);
                }
            }
        }
        let disk = &self.members[&id].disk;
        let faulty = (!disk.faulty.is_empty()).then(|| Input::Storage(disk.faulty_event()));
        self.turn(id, faulty.into_iter().collect());
    }

    /// Ends a node at once: what was not synced is gone, its links break.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let survived = self.draw();
        let member = self.members.get_mut(&id).unwrap();
        member.node = None;
        // Some of what was never reported may have reached the disk all the same.
        let reached = usize::try_from(survived % (member.disk.pending.len() as u64 + 1)).unwrap();
        for request in member
            .disk
            .pending
            .drain(..)
            .take(reached)
            .collect::<Vec<_>>()
        {
            member.disk.finish(request, &mut VecDeque::new());
        }
        member.disk.durable = Ticket::default();
        member.disk.busy_until = None;
        let broken: Vec<_> = self.links_of(id);
        for link in broken {
            self.break_link(link, Some(id));
        }
        for connection in self.connections.values_mut() {
            connection.broken |= connection.to == id;
        }
    }

    /// Replaces the data directory of a node that is down by a new one.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        assert!(!self.is_up(id), "the node is down");
        let disk = self.new_disk();
        let member = self.members.get_mut(&id).unwrap();
        (member.disk, member.wiped) = (disk, true);
    }

    pub(crate) fn stop(&mut self, id: NodeId) {
        self.turn(id, vec![Input::Stop]);
    }

    /// Has a node judge a hello.
    pub(crate) fn check_hello(&mut self, id: NodeId, hello: &Hello) -> Result<Welcome, Error> {
        let verdict = self.node_mut(id).check_hello(hello);
        self.turn(id, Vec::new());
        verdict
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let member = self.members.get_mut(&id).unwrap();
        member.node.as_mut().expect("the node is up")
    }

    // --- time ---

    fn clocks(&self) -> Now {
        Now {
            monotonic: self.now,
            wall_ms: WALL_MS + self.now.0 / 1_000_000,
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.advance(end) {}
    }

    /// Time passes in which nobody does anything: what was due is late.
    pub(crate) fn oversleep(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// If it is not so within `bound`.
    pub(crate) fn run_until(&mut self, what: &str, bound: Duration, is_so: impl Fn(&Self) -> bool) {
        let end = self.now + bound;
        while !is_so(self) {
            assert!(
                self.advance(end),
                "no {what} within {bound:?}\n{}",
                self.describe()
            );
        }
    }

    /// Lets time pass until a leader serves, and returns it.
    pub(crate) fn elect(&mut self) -> NodeId {
        self.run_until("leader", ms(10_000), |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    /// The leader of the highest term whose no-op is applied and that hears a quorum.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let mut best: Option<(Term, NodeId)> = None;
        for (id, member) in &self.members {
            let Some(node) = &member.node else { continue };
            let raft = node.raft();
            let leads = raft.role() == RoleName::Leader && raft.quorum_ok(self.now);
            if leads && node.store().applied().term == raft.term() {
                best = best.max(Some((raft.term(), *id)));
            }
        }
        best.map(|(_, id)| id)
    }

    /// A member that is up and not `leader`.
    pub(crate) fn other_than(&self, leader: NodeId) -> NodeId {
        let mut ids = self.ids().into_iter();
        ids.find(|id| *id != leader && self.is_up(*id))
            .expect("another member is up")
    }

    /// Does the next thing that is due; `false` if nothing is before `end`, which it is then.
    fn advance(&mut self, end: Instant) -> bool {
        #[derive(Debug)]
        enum Due {
            Happening,
            Disk(NodeId),
            Tick(NodeId),
        }
        let mut due: Option<(Instant, Due)> = None;
        let mut offer = |at: Option<Instant>, what: Due| {
            if let Some(at) = at
                && due.as_ref().is_none_or(|(first, _)| at < *first)
            {
                due = Some((at, what));
            }
        };
        offer(
            self.happenings.keys().next().map(|(at, _)| *at),
            Due::Happening,
        );
        for (id, member) in &self.members {
            if let Some(node) = member.node.as_ref().filter(|_| !member.stopped) {
                offer(member.disk.busy_until, Due::Disk(*id));
                offer(node.deadline(), Due::Tick(*id));
            }
        }
        let Some((at, what)) = due.filter(|(at, _)| *at <= end) else {
            self.now = end;
            return false;
        };
        if at > self.now {
            self.now = at;
            self.turns_before = self.turns;
        }
        let at_once = self.turns - self.turns_before;
        assert!(at_once < 100_000, "time stands still\n{}", self.describe());
        match what {
            Due::Happening => {
                let (_, happening) = self.happenings.pop_first().unwrap();
                self.happen(happening);
            }
            Due::Disk(id) => self.finish_storage(id),
            Due::Tick(id) => self.turn(id, vec![Input::Tick]),
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Dial { from, life, to } => self.dial(from, life, to),
            Happening::Welcome { link, answer } => self.welcomed(link, &answer),
            Happening::Deliver { link, to, frame } => {
                let up = self.is_up(to) && self.links.contains_key(&link);
                let ends = self.links.get(&link).copied();
                if let Some(ends) = ends.filter(|_| up) {
                    let from = if ends.to == to { ends.from } else { ends.to };
                    if !self.cut.contains(&(from, to)) {
                        let frame = frame::parse(&frame, PEER_FRAME_BYTES_MAX).unwrap().unwrap();
                        let message = Message::decode(&frame).unwrap();
                        self.turn(to, vec![Input::Peer { link, message }]);
                    }
                }
            }
            Happening::Closed { link, at } => {
                if self.is_up(at) {
                    self.turn(
                        at,
                        vec![Input::LinkClosed {
                            link,
                            by_peer: true,
                        }],
                    );
                }
            }
        }
    }
}
