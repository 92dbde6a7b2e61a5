//! The connections of a process, with their phases and deadlines.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::Instant;
use raftd::net::Port;
use raftd::node::io::{ConnectionId, Knowledge, LinkId};
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use wire::types::NodeId;

use crate::sim::net::End;

/// With so much on the way to it, a client is clogged. The driver's own bound is a MiB; this one
/// is within reach of a run's clients.
const CLOGGED_BYTES: usize = 64 << 10;
/// With so little, it no longer is.
const FLOWING_BYTES: usize = 16 << 10;

/// What a connection is for, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting(NodeId),
    Greeting { peer: NodeId, asked: Knowledge },
    Newcomer(Port),
    Client,
    Link { peer: NodeId, dialled: bool },
    Leaving,
}

impl Phase {
    /// The peer at the other end, if this node dialled it.
    pub(super) fn dialled(self) -> Option<NodeId> {
        match self {
            Self::Connecting(peer)
            | Self::Greeting { peer, .. }
            | Self::Link {
                peer,
                dialled: true,
            } => Some(peer),
            _ => None,
        }
    }
}

/// A connection of a process.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: u64,
    pub(super) end: End,
    pub(super) phase: Phase,
    pub(super) opened: Instant,
    /// Came, not looked at yet.
    pub(super) incoming: Vec<Bytes>,
    /// Looked at, no whole frame.
    pub(super) input: Vec<u8>,
    pub(super) frame_since: Option<Instant>,
    pub(super) output: BytesMut,
    pub(super) answered: bool,
    /// Over: by the other end's doing?
    pub(super) ended: Option<bool>,
    pub(super) queued: bool,
    pub(super) dirty: bool,
    pub(super) paused: bool,
    pub(super) clogged: bool,
}

impl Open {
    pub(super) fn frame_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Client => CLIENT_FRAME_BYTES_MAX,
            Phase::Link { .. } => PEER_FRAME_BYTES_MAX,
            _ => HELLO_FRAME_BYTES_MAX,
        }
    }

    pub(super) fn may_read(&self) -> bool {
        !(self.paused || self.clogged)
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.phase, Phase::Client | Phase::Newcomer(Port::Client))
    }

    pub(super) fn deadline(&self, limits: &Timeouts) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Connecting(_) | Phase::Greeting { .. } | Phase::Newcomer(_) => {
                Some(self.opened + limits.hello)
            }
            Phase::Client | Phase::Link { .. } | Phase::Leaving => None,
        };
        let frame = self.frame_since.map(|since| since + limits.frame);
        [phase, frame].into_iter().flatten().min()
    }
}

/// What happened to a connection, to be told to the node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    ClientClosed(ConnectionId),
    ClientClogged(ConnectionId, bool),
    LinkClosed(LinkId, bool),
}

/// How long others may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the handshake.
    pub hello: Duration,
    /// For the rest of a frame.
    pub frame: Duration,
}

/// All connections of a process, by the process's own names for them.
///
/// Invariant: names are never used twice and only grow, so that a later link has the greater one.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) open: BTreeMap<u64, Open>,
    pub(super) serial: u64,
    pub(super) ready: [Vec<u64>; 2],
    pub(super) dirty: Vec<u64>,
    pub(super) notices: Vec<Notice>,
    pub(super) timeouts: Timeouts,
    /// Kept up to date lazily: `None` is "look again".
    pub(super) deadline: Option<Option<Instant>>,
}

impl Table {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self {
            open: BTreeMap::new(),
            serial: 0,
            ready: [Vec::new(), Vec::new()],
            dirty: Vec::new(),
            notices: Vec::new(),
            timeouts,
            deadline: None,
        }
    }

    /// Whether there is something to do now.
    pub(super) fn is_ready(&self) -> bool {
        !(self.ready.iter().all(Vec::is_empty) && self.notices.is_empty())
    }

    /// When somebody will have let a deadline pass.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let (open, timeouts) = (&self.open, &self.timeouts);
        *self.deadline.get_or_insert_with(|| {
            let deadlines = open.values().filter_map(|open| open.deadline(timeouts));
            deadlines.min()
        })
    }

    pub(super) fn dialled_links(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        self.open
            .iter()
            .filter_map(|(name, open)| match open.phase {
                Phase::Link {
                    peer,
                    dialled: true,
                } => Some((LinkId(*name), peer)),
                _ => None,
            })
    }

    /// The connections that were dialled to these.
    pub(super) fn dialled_to(&self, peers: &[NodeId]) -> Vec<u64> {
        let to = |open: &Open| {
            open.phase
                .dialled()
                .is_some_and(|peer| peers.contains(&peer))
        };
        let dialled = self.open.iter().filter(|(_, open)| to(open));
        dialled.map(|(name, _)| *name).collect()
    }

    pub(super) fn peer_of(&self, link: LinkId) -> Option<NodeId> {
        match self.open.get(&link.0)?.phase {
            Phase::Link { peer, .. } => Some(peer),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, connection: u64, end: End, phase: Phase, now: Instant) -> u64 {
        self.serial += 1;
        let open = Open {
            connection,
            end,
            phase,
            opened: now,
            incoming: Vec::new(),
            input: Vec::new(),
            frame_since: None,
            output: BytesMut::new(),
            answered: false,
            ended: None,
            queued: false,
            dirty: false,
            paused: false,
            clogged: false,
        };
        self.open.insert(self.serial, open);
        self.deadline = None;
        self.serial
    }

    pub(super) fn get(&mut self, name: u64) -> Option<&mut Open> {
        self.open.get_mut(&name)
    }

    pub(super) fn set_phase(&mut self, name: u64, phase: Phase) {
        if let Some(open) = self.open.get_mut(&name) {
            open.phase = phase;
            self.deadline = None;
        }
    }

    /// Puts a connection into the queue of those to be looked at.
    pub(super) fn enqueue(&mut self, name: u64) {
        if let Some(open) = self.open.get_mut(&name)
            && !mem::replace(&mut open.queued, true)
        {
            self.ready[usize::from(open.is_client())].push(name);
        }
    }

    /// Writes to a connection, at the end of the turn.
    pub(super) fn append(&mut self, name: u64, write: impl FnOnce(&mut BytesMut)) {
        if let Some(open) = self.open.get_mut(&name) {
            write(&mut open.output);
            if !mem::replace(&mut open.dirty, true) {
                self.dirty.push(name);
            }
        }
    }

    /// Who is at the other end of a link.
    pub(super) fn peer(&self, name: u64) -> NodeId {
        match self.open.get(&name).map(|open| open.phase) {
            Some(Phase::Link { peer, .. }) => peer,
            _ => NodeId(0),
        }
    }

    // --- what the network delivers ---

    /// Somebody dialled; the name of the connection.
    pub(super) fn accept(&mut self, connection: u64, port: Port, now: Instant) -> u64 {
        self.insert(connection, 1, Phase::Newcomer(port), now)
    }

    pub(super) fn answered(&mut self, name: u64) {
        if let Some(open) = self.open.get_mut(&name) {
            open.answered = true;
            self.enqueue(name);
        }
    }

    pub(super) fn received(&mut self, name: u64, bytes: Bytes) {
        if let Some(open) = self.open.get_mut(&name) {
            open.incoming.push(bytes);
            self.enqueue(name);
        }
    }

    pub(super) fn ended(&mut self, name: u64, by_peer: bool) {
        if let Some(open) = self.open.get_mut(&name) {
            open.ended = Some(by_peer);
            self.enqueue(name);
        }
    }

    /// So much is on its way to the other end.
    pub(super) fn judge_flow(&mut self, name: u64, unread_bytes: usize) {
        let Some(open) = self.open.get_mut(&name) else {
            return;
        };
        let bound = if open.clogged {
            FLOWING_BYTES
        } else {
            CLOGGED_BYTES
        };
        let clogged = unread_bytes >= bound;
        if open.phase == Phase::Client && open.clogged != clogged {
            open.clogged = clogged;
            let notice = Notice::ClientClogged(ConnectionId(name), clogged);
            self.notices.push(notice);
            self.enqueue(name);
        }
    }

    /// Ends a connection; says what it was.
    pub(super) fn remove(&mut self, name: u64) -> Option<Open> {
        self.deadline = None;
        self.open.remove(&name)
    }
}
