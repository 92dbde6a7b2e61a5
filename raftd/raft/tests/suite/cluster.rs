//! A deterministic cluster: virtual time, a network and disks that do only what they are told.
//!
//! Every node is driven as a driver drives it: a step, a flush, then the effects in order. What
//! leaves a node waits in `packets`, what it writes in `Node::writes`, until the test decides.
//! Each effect becomes a line of the trace and passes the [`Oracle`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use raft::{Config, Effect, Input, Instant, Raft, ReadTicket, RoleChange, RoleName, Ticket, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::Membership;
use wire::peer::Message;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::disk::{Disk, Log};
use crate::oracle::Oracle;
use crate::text;
use crate::transfer::Transfer;

/// What the nodes of a cluster have in common.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: u64,
    /// The first so many of them begin as members; at most all.
    pub(crate) voters: u64,
    pub(crate) seed: u64,
    pub(crate) window_bytes: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) formed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            voters: u64::MAX,
            seed: 1,
            window_bytes: 4096,
            cache_bytes: 1 << 20,
            formed: true,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// `None` while the process is down.
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    pub(crate) formed: bool,
    /// The log in memory, as the node's writes told it.
    pub(crate) log: Log,
    /// Submitted, not durable.
    pub(crate) writes: VecDeque<Write>,
    completed: Ticket,
    /// The newest write whose term and vote are durable.
    hard_states: Ticket,
    /// Sends that wait for a ticket.
    held: Vec<(Ticket, NodeId, Message)>,
    /// Reads of old entries that wait for the disk.
    pub(crate) loads: VecDeque<(NodeId, Index, usize)>,
    /// Linearizable reads that wait, with the index that they must not miss.
    pub(crate) reads: Vec<(ReadTicket, Index)>,
    pub(crate) reads_served: u64,
    /// The newest snapshot that is published, marked on disk or not yet.
    pub(crate) snapshot: EntryId,
    /// What a leader sends of it.
    pub(crate) transfers: BTreeMap<NodeId, Transfer>,
    /// It was lost when it started.
    pub(crate) was_lost: bool,
    /// Something happened outside of a turn: another one is due.
    pub(crate) wants_turn: bool,
}

impl Node {
    /// Applies what is committed, as far as there is a state and whole entries to apply to it.
    pub(crate) fn apply(&mut self) {
        let raft = self.raft.as_mut().expect("the node is up");
        if !raft.is_rebuilding() {
            raft.applied(self.disk.first_faulty().map_or(raft.commit(), |first| {
                raft.commit().min(first.prev()).max(raft.base().index)
            }));
        }
    }

    /// The marker follows once the log on disk reaches the snapshot (rules E6).
    pub(crate) fn mark(&mut self) {
        let raft = self.raft.as_ref().expect("the node is up");
        if raft.durable() >= self.snapshot.index {
            self.disk.snapshot = self.snapshot;
            self.disk.rebuilding = raft.is_rebuilding();
        }
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) options: Options,
    pub(crate) now: Instant,
    /// What proposals are stamped with.
    pub(crate) wall_ms: u64,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) packets: Vec<Packet>,
    /// Links that lose everything.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) oracle: Oracle,
    pub(crate) refusals: Vec<(NodeId, NodeId, wire::error::Error)>,
    pub(crate) trace: String,
    lives: u64,
}

impl Cluster {
    pub(crate) fn new(options: Options) -> Self {
        let mut cluster = Self {
            now: Instant(1_000_000_000),
            wall_ms: 1000,
            nodes: BTreeMap::new(),
            packets: Vec::new(),
            cut: BTreeSet::new(),
            oracle: Oracle::default(),
            refusals: Vec::new(),
            trace: String::new(),
            lives: 0,
            options,
        };
        for id in 1..=cluster.options.nodes {
            cluster.nodes.insert(
                NodeId(id),
                Node {
                    id: NodeId(id),
                    raft: None,
                    disk: Disk::default(),
                    formed: cluster.options.formed,
                    log: Log::default(),
                    writes: VecDeque::new(),
                    completed: Ticket(0),
                    hard_states: Ticket(0),
                    held: Vec::new(),
                    loads: VecDeque::new(),
                    reads: Vec::new(),
                    reads_served: 0,
                    snapshot: EntryId::default(),
                    transfers: BTreeMap::new(),
                    was_lost: false,
                    wants_turn: false,
                },
            );
            cluster.start(NodeId(id));
        }
        cluster
    }

    pub(crate) fn config(&self, id: NodeId) -> Config {
        Config {
            id,
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(40),
            window_bytes: self.options.window_bytes,
            cache_bytes: self.options.cache_bytes,
            // Its questions are numbered from here on: no life asks so many.
            life: (self.lives * 100_000) << 2,
            seed: self.options.seed.wrapping_add(self.lives << 8),
        }
    }

    /// Who is a member to begin with: nodes 1 to so many.
    pub(crate) fn initial_membership(&self) -> Membership {
        let ids = (1..=self.options.voters.min(self.options.nodes))
            .map(|id| (NodeId(id), format!("a{id}")));
        Membership::initial(&ids.collect::<Vec<_>>(), &[])
    }

    /// Who is a member in the state as of `index`, which is committed.
    pub(crate) fn membership_as_of(&self, index: Index) -> Membership {
        let newest = self.oracle.membership_at(index);
        newest.unwrap_or_else(|| self.initial_membership())
    }

    pub(crate) fn raft(&self, id: NodeId) -> &Raft {
        self.nodes[&id].raft.as_ref().expect("the node is up")
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].raft.is_some()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The lines since the last call.
    pub(crate) fn take_trace(&mut self) -> String {
        std::mem::take(&mut self.trace)
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.trace.push_str(line);
        self.trace.push('\n');
    }

    /// Starts a process on what its disk holds; only a tail of the log is in memory.
    pub(crate) fn start(&mut self, id: NodeId) {
        self.lives += 1;
        let config = self.config(id);
        let now = self.now;
        let snapshot = self.nodes[&id].disk.snapshot;
        let wall_ms = self.oracle.wall_ms(snapshot);
        // Without a state nobody knows who came and went before the log begins.
        let membership = match self.nodes[&id].disk.rebuilding {
            true => self.initial_membership(),
            false => self.membership_as_of(snapshot.index),
        };
        let node = self.node(id);
        assert!(node.raft.is_none(), "it runs already");
        let restored = node.disk.restored(node.formed, wall_ms, membership);
        node.raft = Some(Raft::new(config, restored, now));
        node.log = node.disk.log.clone();
        node.snapshot = node.disk.snapshot;
        node.was_lost = node.disk.hard_state.lost;
        node.completed = Ticket(0);
        node.hard_states = Ticket(0);
        self.turn(id, Vec::new());
    }

    /// Kills a process. Of what was not reported durable, `writes_kept` made it to the disk.
    pub(crate) fn crash(&mut self, id: NodeId, writes_kept: usize) {
        let node = self.node(id);
        node.raft = None;
        for write in node.writes.drain(..).take(writes_kept) {
            node.disk.apply(&write);
        }
        node.writes.clear();
        node.held.clear();
        node.loads.clear();
        node.reads.clear();
        node.transfers.clear();
    }

    /// One turn of the driver: steps, one flush, the effects in order.
    pub(crate) fn turn(&mut self, id: NodeId, inputs: Vec<Input>) {
        let now = self.now;
        let mut effects = Vec::new();
        let raft = self.node(id).raft.as_mut().expect("the node is up");
        for input in inputs {
            raft.step(now, input, &mut effects);
        }
        raft.flush(now, &mut effects);
        for effect in effects {
            self.effect(id, effect);
        }
        let node = self.node(id);
        if std::mem::take(&mut node.wants_turn) {
            self.turn(id, Vec::new());
        } else {
            node.mark();
            self.oracle.check_node(&self.nodes[&id]);
        }
    }

    pub(crate) fn effect(&mut self, id: NodeId, effect: Effect) {
        let line = text::effect(id, &effect);
        self.say(&line);
        self.absorb(id, effect);
    }

    fn absorb(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Write(write) => {
                let node = self.node(id);
                node.log.splice(&write);
                node.writes.push_back(write.clone());
                self.oracle.on_write(&self.nodes[&id], &write);
            }
            Effect::Send {
                message: Message::AppendOk(m),
                ..
            } if self.nodes[&id].disk.first_faulty() <= Some(m.match_index)
                && !self.nodes[&id].disk.faulty.is_empty() =>
            {
                panic!("node {id} acknowledges faulty entries: {m:?}")
            }
            Effect::Send { to, after, message } => match after {
                Some(ticket) if ticket > self.node(id).hard_states => {
                    self.node(id).held.push((ticket, to, message));
                }
                _ => self.send(id, to, message),
            },
            Effect::Commit(index) => {
                self.oracle.on_commit(id, index, &self.nodes);
                self.node(id).apply();
            }
            Effect::RoundConfirmed { round, index } => {
                let node = self.node(id);
                let before = node.reads.len();
                node.reads.retain(|(ticket, floor)| {
                    let done = ticket.round <= round;
                    assert!(
                        !done || ticket.index.max(index) >= *floor,
                        "a stale read: {ticket:?} told={index} {floor}"
                    );
                    !done
                });
                let served = (before - node.reads.len()) as u64;
                node.reads_served += served;
                self.oracle.marks.reads_served += served;
            }
            Effect::Load {
                to,
                from,
                max_bytes,
            } => {
                assert!(from > self.raft(id).base().index, "a load below the base");
                self.node(id).loads.push_back((to, from, max_bytes));
            }
            Effect::Chunk(chunk) => self.on_chunk(id, &chunk),
            Effect::SnapshotAnswer { from, answer } => self.on_snapshot_answer(id, from, answer),
            Effect::Digest { from, digest } => self.oracle.on_digest(from, digest),
            Effect::MembershipChanged(membership) => {
                self.oracle.marks.joint += u64::from(membership.is_joint());
            }
            Effect::RoleChanged(change) => self.on_role(id, change),
            Effect::Refuse { peer, error } => self.refusals.push((id, peer, error)),
        }
    }

    fn on_role(&mut self, id: NodeId, change: RoleChange) {
        if change.role == RoleName::Leader {
            self.oracle.on_leader(&self.nodes[&id], change.term);
        } else {
            // Waiting reads fail at step-down (rules C1).
            self.node(id).reads.clear();
            self.node(id).transfers.clear();
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.oracle.on_send(from, to, &message, &self.nodes);
        if !self.cut.contains(&(from, to)) {
            self.packets.push(Packet { from, to, message });
        }
    }

    /// Completes the oldest `count` writes of a node, reported at once.
    pub(crate) fn sync(&mut self, id: NodeId, count: usize) {
        if let Some(ticket) = self.complete(id, count) {
            self.turn(id, vec![Input::Durable(ticket)]);
        }
    }

    /// Makes writes durable and lets go what waits for them; the node has yet to be told.
    fn complete(&mut self, id: NodeId, count: usize) -> Option<Ticket> {
        let node = self.node(id);
        let count = count.min(node.writes.len());
        if count == 0 || node.raft.is_none() {
            return None;
        }
        let was_lost = node.disk.hard_state.lost;
        for write in node.writes.drain(..count) {
            node.disk.apply(&write);
            node.completed = write.ticket;
        }
        let healed = was_lost && !node.disk.hard_state.lost;
        let completed = node.completed;
        self.oracle.marks.healed += u64::from(healed);
        self.tell_faulty(id);
        self.say(&format!("n{id} has #{} on disk", completed.0));
        self.release(id, completed);
        Some(completed)
    }

    /// A full disk: the newest term and vote overtake all entries that wait.
    pub(crate) fn sync_hard_state(&mut self, id: NodeId) {
        let node = self.node(id);
        let Some(newest) = node.writes.back() else {
            return;
        };
        let (ticket, hard_state) = (newest.ticket, newest.hard_state);
        node.disk.hard_state = hard_state;
        for write in &mut node.writes {
            write.hard_state = hard_state;
        }
        self.say(&format!(
            "n{id} has the hard state of #{} on disk",
            ticket.0
        ));
        self.release(id, ticket);
        self.turn(id, vec![Input::HardStateDurable(ticket)]);
    }

    /// Lets go what waits for the hard states up to `ticket`.
    fn release(&mut self, id: NodeId, ticket: Ticket) {
        let node = self.node(id);
        node.hard_states = node.hard_states.max(ticket);
        let (ready, held): (Vec<_>, Vec<_>) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(after, _, _)| *after <= ticket);
        node.held = held;
        self.oracle.on_durable(&self.nodes[&id]);
        for (_, to, message) in ready {
            self.send(id, to, message);
        }
    }

    /// Hands over the packet at `place`; it stays queued too if `keep`.
    pub(crate) fn deliver(&mut self, place: usize, keep: bool) {
        let packet = if keep {
            self.packets[place].clone()
        } else {
            self.packets.remove(place)
        };
        if self.is_up(packet.to) && !self.cut.contains(&(packet.from, packet.to)) {
            let kind = text::kind(&packet.message);
            self.say(&format!(
                "n{} takes {kind} from n{}",
                packet.to, packet.from
            ));
            self.turn(
                packet.to,
                vec![Input::Receive {
                    from: packet.from,
                    message: packet.message,
                }],
            );
        }
    }

    /// Hands over all that is queued for a node, and its oldest write's completion, in one turn.
    pub(crate) fn burst(&mut self, id: NodeId) {
        let (here, elsewhere) = std::mem::take(&mut self.packets)
            .into_iter()
            .partition(|packet| packet.to == id);
        self.packets = elsewhere;
        let here: Vec<Packet> = here;
        let mut inputs = Vec::new();
        for packet in here {
            self.say(&format!(
                "n{id} takes {} from n{}",
                text::kind(&packet.message),
                packet.from
            ));
            inputs.push(Input::Receive {
                from: packet.from,
                message: packet.message,
            });
        }
        inputs.extend(self.complete(id, 1).map(Input::Durable));
        self.turn(id, inputs);
    }

    /// Answers the oldest read of old entries from the disk.
    pub(crate) fn load(&mut self, id: NodeId, fail: bool) {
        let node = self.node(id);
        let Some((to, from, max_bytes)) = node.loads.pop_front() else {
            return;
        };
        let mut bytes = 0;
        let entries: Vec<Entry> = node
            .disk
            .log
            .from(from)
            .take_while(|entry| {
                let is_first = bytes == 0;
                bytes += entry.bytes().len();
                !fail && (is_first || bytes <= max_bytes)
            })
            .cloned()
            .collect();
        self.oracle.marks.loads += u64::from(!entries.is_empty());
        let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
        self.say(&format!("n{id} loaded {} for n{to}", text::ids(&ids)));
        self.turn(id, vec![Input::Loaded { to, entries }]);
    }
}

/// An entry as a leader would make it.
pub(crate) fn entry(index: u64, term: u64, body: &[u8]) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = if body.is_empty() {
        EntryKind::Noop
    } else {
        EntryKind::Command
    };
    Entry::build(&mut BytesMut::new(), id, 1000, kind, body)
}

/// A log with one entry per term given.
pub(crate) fn log(terms: &[u64]) -> Vec<Entry> {
    terms
        .iter()
        .zip(1..)
        .map(|(&term, index)| entry(index, term, format!("{index}@{term}").as_bytes()))
        .collect()
}
