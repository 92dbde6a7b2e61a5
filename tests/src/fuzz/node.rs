//! The whole node in any state, told anything by peers, clients and its disk.

mod clients;
mod disk;
mod peers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use raft::{Instant, RoleName};
use raftd::node::io::{
    ConnectionId, Effects, Input, LinkId, LoadPurpose, Now, SnapshotFile, StorageEvent,
    StorageRequest,
};
use raftd::node::{Config, Limits, Node, Policy, Restored};
use wire::client::Reply;
use wire::frame;
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::peer::DiskState;
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId};

use self::disk::store_at;
use super::disk::Disk;
use super::message::{self, Asked};
use super::script::Script;

/// Events of one life; more only takes time.
const EVENTS_MAX: usize = 300;
/// Turns at one moment after which a node that still wants another one will never rest.
const TURNS_AT_ONCE_MAX: usize = 512;
/// Sessions that write.
const SESSIONS: usize = 3;

/// After this time a stopping node has ended.
const STOP_MAX: Duration = Duration::from_secs(6);

const CLUSTER: ClusterId = ClusterId(0xc1);
const EPOCH: Epoch = Epoch(0xe0);

/// A node of a cluster of one to five, with a past, that is told anything in any order: hellos,
/// messages on any link, requests of clients, and what its disk did or could not do.
///
/// Checked besides the node's own asserts: a request is answered at most once, and at least once
/// when the node has stopped; every answer can be read by a client; and after every event the node
/// comes to rest until some later time.
pub fn node(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut life = Life::draw(&mut script);
    for _ in 0..EVENTS_MAX {
        if script.is_over() || life.stopped {
            break;
        }
        life.event(&mut script);
    }
    life.end();
}

struct Life {
    node: Node,
    config: Config,
    now: Now,
    disk: Disk,
    room: DiskState,
    loads: VecDeque<(LoadPurpose, Index)>,
    /// Reports that are due.
    background: VecDeque<StorageEvent>,
    /// What is to be written into IDENTITY.
    forming: Option<Vec<(NodeId, Incarnation)>>,
    /// The open links: with whom, and whether the peer dialled.
    links: BTreeMap<LinkId, (NodeId, bool)>,
    /// Links that the node wants closed.
    closing: Vec<LinkId>,
    asked: Asked,
    /// The open connections, with the requests that wait for an answer.
    connections: Vec<ConnectionId>,
    waiting: BTreeMap<ConnectionId, Vec<u64>>,
    /// Names for links and connections.
    serial: u64,
    /// The last number of each session.
    seqs: [u64; SESSIONS],
    effects: Effects,
    stopped: bool,
}

impl Life {
    fn draw(script: &mut Script<'_>) -> Self {
        let members = script.pick(&[3, 3, 1, 2, 5]);
        let disk = Disk::draw(script);
        let formed = !script.rarely(4) || !disk.is_empty();
        let ids = || (1..=members).map(NodeId);
        let record = ids().map(|id| (id, incarnation(id)));
        let config = Config {
            id: NodeId(1 + script.below(members as usize) as u64),
            name: "n".to_owned(),
            client_addr: "client:1".to_owned(),
            members: ids().map(|id| (id, format!("peer-{id}:1"))).collect(),
            cluster: CLUSTER,
            epoch: EPOCH,
            incarnation: Incarnation(0),
            life: 1,
            formed: if formed { record.collect() } else { Vec::new() },
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(40),
            limits: Limits {
                window_bytes: script.pick(&[4096, 300]),
                cache_bytes: script.pick(&[1 << 20, 0]),
                uncommitted_bytes_max: script.pick(&[1 << 20, 200]),
                entry_bytes_max: script.pick(&[1 << 20, 300]),
                parked_max: script.pick(&[64, 2]),
                sessions_max: script.pick(&[64, 2]),
                digest_entries: script.pick(&[4, 1]),
                turn_entries_max: script.pick(&[64, 2]),
                views_max: script.pick(&[4, 1]),
                view_idle_max: Duration::from_millis(100),
                view_age_max: Duration::from_millis(500),
            },
            snapshots: Policy {
                entries: script.pick(&[0, 3]),
                gap: Duration::ZERO,
                ..Policy::default()
            },
            wal_bytes: 0,
            seed: u64::from(script.byte()),
            version: "test".to_owned(),
        };
        let config = Config {
            incarnation: incarnation(config.id),
            ..config
        };
        let now = Now {
            monotonic: Instant(1_000_000_000),
            wall_ms: script.near(1_700_000_000_000),
        };
        let restored = Restored {
            raft: disk.restored(script.below(16), formed, &config.initial_membership()),
            store: store_at(EntryId::default(), config.limits.sessions_max),
            snapshot: SnapshotFile::default(),
        };
        let mut life = Self {
            node: Node::new(config.clone(), restored, now),
            config,
            now,
            disk,
            room: DiskState::Ok,
            loads: VecDeque::new(),
            background: VecDeque::new(),
            forming: None,
            links: BTreeMap::new(),
            closing: Vec::new(),
            asked: Asked::default(),
            connections: Vec::new(),
            waiting: BTreeMap::new(),
            serial: 0,
            seqs: [0; SESSIONS],
            effects: Effects::default(),
            stopped: false,
        };
        life.turn(Vec::new());
        life
    }

    fn event(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0..=3 => {
                let message = message::draw(script, self.node.raft());
                self.receive(script, message);
            }
            4..=6 => {
                if let Some((from, message)) = self.asked.answer(script) {
                    let link = self.link(from, false);
                    self.turn(vec![Input::Peer { link, message }]);
                }
            }
            7..=11 => self.request(script),
            12 => {
                let at = self.node.deadline().unwrap_or(self.now.monotonic);
                self.now.monotonic = self.now.monotonic.max(at);
                self.turn(vec![Input::Tick]);
            }
            13 => {
                let ms = [1, 50, 400, 5_000][script.below(4)];
                self.now.monotonic = self.now.monotonic + Duration::from_millis(ms);
                self.now.wall_ms = script.near(self.now.wall_ms);
                self.turn(vec![Input::Tick]);
            }
            14 | 15 => self.sync(script),
            16 => match self.background.pop_front() {
                Some(event) if script.flag() => self.turn(vec![Input::Storage(event)]),
                event => {
                    self.background.extend(event);
                    self.load(script);
                }
            },
            17 => self.hello(script),
            18 => self.lose(script),
            _ => match script.below(16) {
                0 => self.turn(vec![Input::Stop]),
                1..=3 => self.crash(script),
                4..=6 => self.rot(script),
                _ => {
                    if let Some(record) = self.forming.take() {
                        self.config.formed = record;
                        self.turn(vec![Input::Storage(StorageEvent::Formed)]);
                    }
                }
            },
        }
    }

    /// A link or a connection goes away, or a client stops reading.
    fn lose(&mut self, script: &mut Script<'_>) {
        let connection = self.connection(script);
        match script.below(4) {
            0 if !self.links.is_empty() => {
                let place = script.below(self.links.len());
                let link = *self.links.keys().nth(place).expect("below their number");
                self.links.remove(&link);
                let by_peer = script.flag();
                self.turn(vec![Input::LinkClosed { link, by_peer }]);
            }
            1 => {
                self.connections.retain(|open| *open != connection);
                self.waiting.remove(&connection);
                self.turn(vec![Input::ClientClosed(connection)]);
            }
            choice => {
                let clogged = choice == 2;
                self.turn(vec![Input::ClientClogged {
                    connection,
                    clogged,
                }]);
            }
        }
    }

    /// One turn with these inputs, and as many more as the node wants at once.
    fn turn(&mut self, inputs: Vec<Input<'_>>) {
        let mut effects = std::mem::take(&mut self.effects);
        for input in inputs {
            self.node.step(self.now, input, &mut effects);
        }
        self.node.flush(self.now, &mut effects);
        self.absorb(&mut effects);
        for _ in 0..TURNS_AT_ONCE_MAX {
            for link in self.closing.drain(..) {
                let by_peer = false;
                self.node
                    .step(self.now, Input::LinkClosed { link, by_peer }, &mut effects);
            }
            let later = |at: Instant| at > self.now.monotonic;
            if self.stopped || self.node.deadline().is_none_or(later) {
                self.effects = effects;
                return;
            }
            self.node.step(self.now, Input::Tick, &mut effects);
            self.node.flush(self.now, &mut effects);
            self.absorb(&mut effects);
        }
        panic!("the node does not come to rest: {:?}", self.node.status());
    }

    fn absorb(&mut self, effects: &mut Effects) {
        self.stopped |= effects.stopped;
        for request in effects.storage.drain(..) {
            match request {
                StorageRequest::Write(write) => self.disk.submit(write),
                StorageRequest::Load {
                    purpose,
                    from,
                    to,
                    max_bytes,
                } => {
                    assert!(max_bytes > 0 && from <= to, "a load of nothing");
                    self.loads.push_back((purpose, from));
                }
                StorageRequest::Form(record) => {
                    assert_eq!(record.len(), self.config.members.len());
                    assert!(self.config.formed.is_empty() && self.forming.is_none());
                    self.forming = Some(record);
                }
                StorageRequest::Mark(id) => {
                    self.disk.mark(id);
                    self.background.push_back(StorageEvent::Marked(id));
                }
                StorageRequest::Alone(_) => {}
                StorageRequest::Compact { upto, .. } => {
                    self.disk.compact(upto);
                    self.background.push_back(StorageEvent::Compacted {
                        base: self.disk.base(),
                        wal_bytes: 1 << 20,
                    });
                }
                StorageRequest::Mend(entries) => {
                    self.disk.mend(&entries);
                    let faulty = self.disk.faulty();
                    self.background.push_back(StorageEvent::Faulty(faulty));
                }
                StorageRequest::Snapshot(request) => self.keep(request),
            }
        }
        for (link, message) in effects.peers.drain(..) {
            let (peer, accepted) = self.links[&link];
            assert_eq!(accepted, message.is_answer(), "sent the wrong way");
            message.encode(&mut BytesMut::new());
            self.asked.note(peer, &message);
        }
        for (connection, range) in effects.replies.drain(..) {
            // The driver drops what is for a connection that is gone.
            let Some(waiting) = self.waiting.get_mut(&connection) else {
                continue;
            };
            let mut frames = &effects.reply_bytes[range];
            while !frames.is_empty() {
                let frame = frame::parse(frames, CLIENT_FRAME_BYTES_MAX).expect("a good frame");
                let frame = frame.expect("a whole frame");
                Reply::decode(&frame).expect("a reply that clients understand");
                frames = &frames[frame.len..];
                // Who watches is told the leader without having asked.
                if frame.request_id == 0 {
                    continue;
                }
                let asked = waiting.iter().position(|id| *id == frame.request_id);
                waiting.remove(asked.expect("an answer to a question, once"));
            }
        }
        effects.reply_bytes.clear();
        effects.readable.clear();
        for (link, error) in effects.close_links.drain(..) {
            assert!(!error.to_string().is_empty());
            if self.links.remove(&link).is_some() {
                self.closing.push(link);
            }
        }
        for link in effects.renew_links.drain(..) {
            self.links.remove(&link);
        }
        effects.events.clear();
        let _ = self.node.status();
        let led = self.node.raft().role() == RoleName::Leader;
        assert!(!led || self.node.raft().leader() == Some(self.config.id));
    }

    /// The node is stopped: in the end nothing is left unanswered but what is committed and could
    /// not be applied, and what clients that do not read were to be told.
    fn end(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        for connection in connections {
            let clogged = false;
            self.turn(vec![Input::ClientClogged {
                connection,
                clogged,
            }]);
        }
        self.turn(vec![Input::Stop]);
        if !self.stopped {
            self.now.monotonic = self.now.monotonic + STOP_MAX;
            self.turn(vec![Input::Tick]);
        }
        assert!(self.stopped, "a stopping node ends");
        let raft = self.node.raft();
        if self.node.store().has_applied(raft.commit()) {
            let waiting: usize = self.waiting.values().map(Vec::len).sum();
            assert_eq!(waiting, 0, "requests were never answered");
        }
    }
}

fn incarnation(id: NodeId) -> Incarnation {
    Incarnation(0x1111 * id.0)
}
