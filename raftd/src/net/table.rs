//! All connections, by id, with their timers and counts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use raft::Instant;
use slab::Slab;

use super::connection::{Connection, Phase};
use super::{Limits, Port};

/// Bits of an id that say where in the slab the connection is; the rest is a serial number.
const KEY_BITS: u32 = 24;
/// Output buffers kept for the next turn.
const SPARE_OUTPUTS_MAX: usize = 64;
/// A larger output buffer is given back to the system.
const SPARE_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Counts that limits are checked against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// On the client port, of every phase.
    pub(super) clients: usize,
    /// On the peer port, accepted, of every phase.
    pub(super) accepted_peers: usize,
    /// On the client port, without a hello.
    pub(super) newcomers: usize,
    /// Refused and not gone yet.
    pub(super) leaving: usize,
}

/// Invariants:
/// - an id is never used twice and ids only grow: a stale event, queue entry or effect finds
///   nothing, and a later link has the higher id;
/// - `counts` and `*_bytes` are the sums over the open connections;
/// - a connection has at most one valid entry among the timers, the one that `timer` names.
#[derive(Debug)]
pub(super) struct Table {
    slab: Slab<Connection>,
    serial: u64,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Accepted connections in order of age, those that have said hello still among them; clients
    /// and peers apart, so that neither can push out the other.
    newcomers: [VecDeque<u64>; 2],
    spare_outputs: Vec<BytesMut>,
    pub(super) counts: Counts,
    /// Bytes that wait for clients.
    pub(super) output_bytes: usize,
    /// Bytes of unfinished frames of clients.
    pub(super) input_bytes: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            serial: 0,
            timers: BinaryHeap::new(),
            newcomers: [VecDeque::new(), VecDeque::new()],
            spare_outputs: Vec::new(),
            counts: Counts::default(),
            output_bytes: 0,
            input_bytes: 0,
        }
    }

    /// Takes a connection in and registers its socket under its id.
    pub(super) fn insert(
        &mut self,
        registry: &Registry,
        mut socket: TcpStream,
        port: Port,
        phase: Phase,
        now: Instant,
    ) -> std::io::Result<u64> {
        let entry = self.slab.vacant_entry();
        // The serial begins at 1, so that small tokens stay free for the loop's own.
        let id = ((self.serial + 1) << KEY_BITS) | entry.key() as u64;
        assert!(
            entry.key() < 1 << KEY_BITS,
            "limits are far below the slab's room"
        );
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket, Token(id as usize), both)?;
        entry.insert(Connection::new(id, socket, port, phase, now));
        self.serial += 1;
        self.count(port, phase, 1);
        if phase == Phase::Newcomer {
            self.newcomers[port as usize].push_back(id);
        }
        Ok(id)
    }

    /// The connection with this id, if it is still open.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key(id))?;
        (connection.id == id).then_some(connection)
    }

    /// Takes a connection out; its socket closes with it.
    pub(super) fn remove(&mut self, id: u64) -> Option<Connection> {
        self.get(id)?;
        let connection = self.slab.remove(key(id));
        self.count(connection.port, connection.phase, -1);
        if connection.port == Port::Client {
            self.output_bytes -= connection.output.len();
            self.input_bytes -= connection.input.len();
        }
        Some(connection)
    }

    /// Moves a connection to another phase.
    pub(super) fn set_phase(&mut self, id: u64, phase: Phase) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let (port, before) = (connection.port, connection.phase);
        connection.phase = phase;
        self.count(port, before, -1);
        self.count(port, phase, 1);
    }

    fn count(&mut self, port: Port, phase: Phase, by: isize) {
        let dialled = match phase {
            Phase::Connecting(_) | Phase::Greeting(_) => true,
            Phase::Link { dialled, .. } => dialled,
            Phase::Newcomer | Phase::Client | Phase::Leaving(_) => false,
        };
        let counts = &mut self.counts;
        let sums = [
            (&mut counts.clients, port == Port::Client),
            (&mut counts.accepted_peers, port == Port::Peer && !dialled),
            (
                &mut counts.newcomers,
                (port, phase) == (Port::Client, Phase::Newcomer),
            ),
            (&mut counts.leaving, matches!(phase, Phase::Leaving(_))),
        ];
        for (sum, concerned) in sums {
            if concerned {
                *sum = sum
                    .checked_add_signed(by)
                    .expect("what is counted out was counted in");
            }
        }
    }

    /// The connection that has waited longest without a hello; it is no longer counted as waiting.
    pub(super) fn oldest_newcomer(&mut self, port: Port) -> Option<u64> {
        loop {
            let id = self.newcomers[port as usize].pop_front()?;
            if self
                .get(id)
                .is_some_and(|open| open.phase == Phase::Newcomer)
            {
                return Some(id);
            }
        }
    }

    /// Sees to it that the timers know a connection's deadline.
    pub(super) fn arm(&mut self, id: u64, limits: &Limits) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let Some(deadline) = connection.deadline(limits) else {
            return;
        };
        // An entry that comes earlier finds out by itself that the deadline has moved.
        if connection.timer.is_none_or(|timer| deadline < timer) {
            connection.timer = Some(deadline);
            self.timers.push(Reverse((deadline, id)));
        }
    }

    /// The next connection whose deadline has passed.
    pub(super) fn overdue(&mut self, now: Instant, limits: &Limits) -> Option<u64> {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                return None;
            }
            self.timers.pop();
            let Some(connection) = self.get(id).filter(|open| open.timer == Some(at)) else {
                continue;
            };
            connection.timer = None;
            match connection.deadline(limits) {
                Some(deadline) if deadline <= now => return Some(id),
                _ => self.arm(id, limits),
            }
        }
        None
    }

    /// When [`Table::overdue`] is worth a call.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Adds to what waits for a connection. Says how much that is now, or `None` if the
    /// connection is gone.
    pub(super) fn append(&mut self, id: u64, add: impl FnOnce(&mut BytesMut)) -> Option<usize> {
        let connection = self.slab.get_mut(key(id)).filter(|open| open.id == id)?;
        let before = connection.output.len();
        if connection.output.capacity() == 0 {
            connection.output = self.spare_outputs.pop().unwrap_or_default();
        }
        add(&mut connection.output);
        let after = connection.output.len();
        if connection.port == Port::Client {
            self.output_bytes += after - before;
        }
        Some(after)
    }

    /// Writes what waits for a connection, as far as the kernel takes it.
    pub(super) fn send(&mut self, id: u64, now: Instant) -> std::io::Result<()> {
        let Some(connection) = self.slab.get_mut(key(id)).filter(|open| open.id == id) else {
            return Ok(());
        };
        connection.dirty = false;
        let before = connection.output.len();
        let result = connection.send(now);
        let after = connection.output.len();
        if connection.port == Port::Client {
            self.output_bytes -= before - after;
        }
        let fits = (1..=SPARE_OUTPUT_BYTES_MAX).contains(&connection.output.capacity());
        if after == 0 {
            let buffer = std::mem::take(&mut connection.output);
            if fits && self.spare_outputs.len() < SPARE_OUTPUTS_MAX {
                self.spare_outputs.push(buffer);
            }
        }
        result
    }

    /// Gives a connection the bytes that it holds of unfinished frames.
    pub(super) fn hold(&mut self, id: u64, input: Vec<u8>) {
        let Some(connection) = self.slab.get_mut(key(id)).filter(|open| open.id == id) else {
            return;
        };
        if connection.port == Port::Client {
            self.input_bytes = self.input_bytes + input.len() - connection.input.len();
        }
        connection.input = input;
    }

    /// Takes the bytes that [`Table::hold`] gave.
    pub(super) fn take_input(&mut self, id: u64) -> Vec<u8> {
        let mut held = Vec::new();
        if let Some(connection) = self.slab.get_mut(key(id)).filter(|open| open.id == id) {
            if connection.port == Port::Client {
                self.input_bytes -= connection.input.len();
            }
            std::mem::swap(&mut held, &mut connection.input);
        }
        held
    }
}

fn key(id: u64) -> usize {
    (id & ((1 << KEY_BITS) - 1)) as usize
}
