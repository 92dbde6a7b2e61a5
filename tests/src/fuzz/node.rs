//! The whole node in any state, told anything by peers, clients and its disk.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use raft::{Instant, RoleName, Ticket};
use raftd::node::io::{
    ConnectionId, Effects, Input, Knowledge, LinkId, LoadPurpose, Now, SnapshotEvent, SnapshotFile,
    SnapshotRequest, StorageEvent, StorageRequest,
};
use raftd::node::{Config, Limits, Node, Policy, Restored};
use raftd::store::{Builder, ImageHead, Store};
use wire::client::{Consistency, Freshness, KeyRange, Reply, Request, ScanMode, ViewChoice};
use wire::command::{Command, Expect, SessionId, Write};
use wire::frame::{self, Kind};
use wire::hello::{Hello, PeerIdentity, Role, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::peer::{DiskState, Message};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId};

use super::disk::Disk;
use super::frames::seal;
use super::message::{self, Asked};
use super::script::Script;

/// Events of one life; more only takes time.
const EVENTS_MAX: usize = 300;
/// Turns at one moment after which a node that still wants another one will never rest.
const TURNS_AT_ONCE_MAX: usize = 512;
/// Connections that are open at a time.
const CONNECTIONS: usize = 3;
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
/// when the node has stopped; every answer can be read by a client; lines for the log are lines;
/// and after every event the node comes to rest until some later time.
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
            raft: disk.restored(script.below(16), formed, config.initial_membership()),
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

    // --- peers ---

    /// The link that requests, or answers, of a peer come in on; opened if there is none.
    fn link(&mut self, peer: NodeId, accepted: bool) -> LinkId {
        let known = self
            .links
            .iter()
            .find(|(_, ends)| **ends == (peer, accepted));
        if let Some((link, _)) = known {
            return *link;
        }
        self.serial += 1;
        let link = LinkId(self.serial);
        self.links.insert(link, (peer, accepted));
        self.turn(vec![match accepted {
            true => Input::LinkAccepted { link, peer },
            false => Input::LinkDialled { link, peer },
        }]);
        link
    }

    /// A message of some other member, nearly always on a link that it belongs to.
    fn receive(&mut self, script: &mut Script<'_>, message: Message) {
        let place = script.below(self.config.members.len());
        let peer = self.config.members[place].0;
        let link = match script.below(16) {
            0 => LinkId(script.near(self.serial)),
            1 => self.link(peer, message.is_answer()),
            _ => self.link(peer, !message.is_answer()),
        };
        self.turn(vec![Input::Peer { link, message }]);
    }

    fn hello(&mut self, script: &mut Script<'_>) {
        let payload = script.bytes(512);
        let kind = script.pick(&[Kind::Hello, Kind::Welcome]);
        let bytes = seal(kind, 0, payload);
        let frame = frame::parse(&bytes, 1 << 20).expect("it is sealed");
        let frame = frame.expect("it is whole");
        let place = script.below(self.config.members.len());
        let peer = self.config.members[place].0;
        if let Ok(hello) = Hello::decode(&frame) {
            self.check_hello(&hello);
        } else if let Ok(welcome) = Welcome::decode(&frame) {
            self.check_welcome(peer, &welcome);
        } else {
            let identity = self.identity(script, peer);
            let mut hello = self.node.hello_to(self.config.id).0;
            let to = NodeId(script.near(self.config.id.0));
            hello.role = Role::Peer { identity, to };
            hello.cluster = script.pick(&[Some(CLUSTER), None, Some(ClusterId(1))]);
            if let Some(mut welcome) = self.check_hello(&hello) {
                welcome.identity = self.identity(script, peer);
                self.check_welcome(peer, &welcome);
            }
        }
        self.turn(Vec::new());
    }

    fn identity(&self, script: &mut Script<'_>, peer: NodeId) -> PeerIdentity {
        let record = self
            .config
            .members
            .iter()
            .map(|(id, _)| (*id, incarnation(*id)));
        let virgin = script.flag();
        PeerIdentity {
            node: NodeId(script.near(peer.0)),
            incarnation: Incarnation(script.near(incarnation(peer).0)),
            life: u64::from(script.byte()),
            name: String::from_utf8_lossy(script.bytes(8)).into_owned(),
            client_addr: String::from_utf8_lossy(script.bytes(8)).into_owned(),
            virgin,
            formed: if virgin { Vec::new() } else { record.collect() },
        }
    }

    fn check_hello(&mut self, hello: &Hello) -> Option<Welcome> {
        match self.node.check_hello(hello) {
            Ok(welcome) => {
                welcome.encode(&mut BytesMut::new());
                Some(welcome)
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                None
            }
        }
    }

    fn check_welcome(&mut self, peer: NodeId, welcome: &Welcome) {
        let asked: Knowledge = self.node.hello_to(peer).1;
        if let Err(error) = self.node.check_welcome(peer, asked, welcome) {
            assert!(!error.to_string().is_empty());
        }
    }

    // --- clients ---

    fn connection(&mut self, script: &mut Script<'_>) -> ConnectionId {
        let place = script.below(CONNECTIONS);
        while self.connections.len() <= place {
            self.serial += 1;
            self.connections.push(ConnectionId(self.serial));
        }
        self.connections[place]
    }

    fn request(&mut self, script: &mut Script<'_>) {
        let connection = self.connection(script);
        let request_id = script.near(1).max(1);
        let key = &b"abc"[..1 + script.below(3)];
        let deadline_ms = script.pick(&[0, 0, 1, 100, u32::MAX]);
        let consistency = script.pick(&[
            Consistency::Linearizable,
            Consistency::Stale,
            Consistency::LinearizableAnywhere,
            Consistency::Bounded { max_lag_ms: 100 },
        ]);
        let after = match script.rarely(8) {
            true => script.index(self.node.store().applied().index),
            false => Index(0),
        };
        let freshness = Freshness { consistency, after };
        let mut body = BytesMut::new();
        let request = match script.below(8) {
            0..=3 => {
                let write = self.write(script, key);
                write.encode_body(&mut body);
                let Ok(write) = Write::decode_body(&body) else {
                    return;
                };
                Request::Write {
                    deadline_ms,
                    write,
                    body: &body,
                }
            }
            4 => Request::Get {
                deadline_ms,
                freshness,
                key,
            },
            5 => Request::Scan {
                deadline_ms,
                freshness,
                mode: script.pick(&[ScanMode::Items, ScanMode::Keys, ScanMode::Count]),
                range: KeyRange {
                    from: script.pick(&[b"", key]),
                    to: script.pick(&[None, Some(key), Some(b"\xff")]),
                },
                reverse: script.flag(),
                after: script.pick(&[None, Some(key), Some(b"\xff")]),
                limit: script.pick(&[1, 0, 2, u32::MAX]),
                view: script.pick(&[
                    ViewChoice::Now,
                    ViewChoice::Keep,
                    ViewChoice::Of(1),
                    ViewChoice::Of(2),
                ]),
            },
            6 => script.pick(&[
                Request::Status,
                Request::Leaders,
                Request::Snapshot,
                Request::TransferLeader {
                    deadline_ms,
                    to: None,
                },
                Request::TransferLeader {
                    deadline_ms,
                    to: Some(NodeId(self.config.id.0 % 3 + 1)),
                },
            ]),
            _ => {
                let payload = script.bytes(256);
                let kind = script.pick(&[Kind::Write, Kind::Get, Kind::Scan]);
                body = seal(kind, request_id, payload);
                let frame = frame::parse(&body, CLIENT_FRAME_BYTES_MAX).expect("it is sealed");
                let Ok(request) = Request::decode(&frame.expect("it is whole")) else {
                    return;
                };
                request
            }
        };
        self.waiting.entry(connection).or_default().push(request_id);
        let mut effects = std::mem::take(&mut self.effects);
        let input = Input::Client {
            connection,
            request_id,
            request,
        };
        self.node.step(self.now, input, &mut effects);
        self.effects = effects;
        // Several requests may share a turn.
        if !script.rarely(4) {
            self.turn(Vec::new());
        }
    }

    fn write<'k>(&mut self, script: &mut Script<'k>, key: &'k [u8]) -> Write<'k> {
        let value = script.bytes(400);
        let command = match script.below(7) {
            0 | 1 => Command::Put { key, value },
            2 => Command::Delete { key },
            3 => Command::CompareAndSwap {
                key,
                expect: script.pick(&[
                    Expect::Absent,
                    Expect::Revision(Index(3)),
                    Expect::Value(b"1"),
                ]),
                value,
            },
            4 => Command::Increment {
                key,
                delta: script.near(1) as i64,
            },
            5 => Command::Append { key, value },
            _ => Command::DeleteRange {
                from: key,
                to: None,
                expect: None,
            },
        };
        let nonce = script.below(SESSIONS);
        self.seqs[nonce] += 1;
        let seq = script.mostly(self.seqs[nonce]);
        Write {
            session: SessionId {
                epoch: Epoch(script.mostly(EPOCH.0)),
                born: Index(script.mostly(0)),
                nonce: nonce as u64,
            },
            seq,
            floor: script.pick(&[1, seq, seq.saturating_sub(1)]),
            command,
        }
    }

    // --- the disk ---

    fn sync(&mut self, script: &mut Script<'_>) {
        let ticket = self.disk.sync(script.pick(&[usize::MAX, 1, 0]));
        if script.rarely(8) {
            self.room = script.pick(&[DiskState::Ok, DiskState::Soft, DiskState::Hard]);
        }
        self.durable(ticket);
    }

    fn durable(&mut self, ticket: Ticket) {
        let event = StorageEvent::Durable {
            ticket,
            wal_bytes: 1 << 20,
            disk: self.room,
        };
        self.turn(vec![Input::Storage(event)]);
    }

    /// Something on the disk is damaged, or told again.
    fn rot(&mut self, script: &mut Script<'_>) {
        let event = match script.below(4) {
            0 => StorageEvent::Rot {
                upto: Index(script.near(self.disk.base().index.0)),
            },
            1 => StorageEvent::Snapshot(SnapshotEvent::Rotten(self.disk.snapshot())),
            _ => {
                self.disk.damage(script);
                StorageEvent::Faulty(self.disk.faulty())
            }
        };
        self.turn(vec![Input::Storage(event)]);
    }

    fn load(&mut self, script: &mut Script<'_>) {
        if let Some((purpose, from)) = self.loads.pop_front() {
            let entries = self.disk.load(from, script.below(4));
            self.turn(vec![Input::Storage(StorageEvent::Loaded {
                purpose,
                from,
                entries,
            })]);
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

    /// What a keeper of snapshots would report, sooner or later.
    fn keep(&mut self, request: SnapshotRequest) {
        let mut report = |event| self.background.push_back(StorageEvent::Snapshot(event));
        match request {
            SnapshotRequest::Take(view) => {
                let id = view.applied();
                match view.keys() % 4 {
                    3 => report(SnapshotEvent::NotTaken {
                        snapshot: id,
                        reason: "no space".to_owned(),
                    }),
                    _ => report(SnapshotEvent::Taken(SnapshotFile { id, bytes: 10_000 })),
                }
            }
            SnapshotRequest::Read {
                reader,
                snapshot,
                offset,
                max_bytes,
            } => report(SnapshotEvent::Read {
                reader,
                snapshot,
                offset,
                total_bytes: 10_000,
                bytes: vec![7; max_bytes.min(4_000)].into(),
            }),
            SnapshotRequest::Receive {
                snapshot,
                total_bytes,
                offset,
                bytes,
            } => {
                let received_bytes = (offset + bytes.len() as u64).min(total_bytes);
                report(SnapshotEvent::Received {
                    snapshot,
                    received_bytes,
                });
                if received_bytes == total_bytes {
                    let file = SnapshotFile {
                        id: snapshot,
                        bytes: total_bytes,
                    };
                    let store = store_at(snapshot, self.config.limits.sessions_max);
                    report(SnapshotEvent::Whole(file, Box::new(store)));
                }
            }
            SnapshotRequest::Expect(_)
            | SnapshotRequest::Keep(_)
            | SnapshotRequest::Distrust { .. }
            | SnapshotRequest::Free(_) => {}
        }
    }

    /// What a start finds; without the `snapshot`, if that is damaged.
    fn restored(&self, tail: usize, formed: bool, snapshot: bool) -> Restored {
        let id = match snapshot {
            true => self.disk.snapshot(),
            false => EntryId::default(),
        };
        let base = self.disk.base();
        Restored {
            raft: raft::Restored {
                applied: id.index.max(base.index),
                rebuilding: base.index > id.index,
                ..self
                    .disk
                    .restored(tail, formed, self.config.initial_membership())
            },
            store: store_at(id, self.config.limits.sessions_max),
            snapshot: SnapshotFile { id, bytes: 10_000 },
        }
    }

    fn crash(&mut self, script: &mut Script<'_>) {
        self.disk.crash(script.below(8));
        if let Some(record) = self.forming.take().filter(|_| script.flag()) {
            self.config.formed = record;
        }
        self.loads.clear();
        self.background.clear();
        self.links.clear();
        self.connections.clear();
        self.waiting.clear();
        let snapshot = !script.rarely(4);
        let restored = self.restored(script.below(16), false, snapshot);
        self.node = Node::new(self.config.clone(), restored, self.now);
        self.turn(Vec::new());
    }

    // --- turns ---

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
                let asked = waiting.iter().position(|id| *id == frame.request_id);
                waiting.remove(asked.expect("an answer to a question, once"));
                frames = &frames[frame.len..];
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
        for event in effects.events.drain(..) {
            let is_line = !event.text.contains(char::is_control);
            assert!(is_line, "a line for the log: {:?}", event.text);
        }
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

/// Some state as of an entry: its content matters to nobody here.
fn store_at(applied: EntryId, sessions_max: usize) -> Store {
    if applied == EntryId::default() {
        return Store::new(EPOCH, sessions_max);
    }
    let head = ImageHead {
        applied,
        wall_ms: applied.index.0,
        epoch: EPOCH,
        horizon: None,
        keys: 0,
        sessions: 0,
        membership: None,
    };
    let store = Builder::new(head).finish(sessions_max);
    store.expect("there is a state without keys")
}

fn incarnation(id: NodeId) -> Incarnation {
    Incarnation(0x1111 * id.0)
}
