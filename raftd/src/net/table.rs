//! All connections, by id, with their timers and counts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use raft::Instant;
use slab::Slab;
use wire::types::NodeId;

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
    /// Refused and not gone yet, on each port.
    pub(super) leaving: [usize; 2],
}

/// Invariants:
/// - an id is never used twice and ids only grow: a stale event, queue entry or effect finds
///   nothing, and a later link has the higher id;
/// - `counts` and `*_bytes` are the sums over the open connections;
/// - the list of newcomers begins with a live one, or is cleared up to it before it grows;
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
            self.forget_old_newcomers(port);
            self.newcomers[port as usize].push_back(id);
        }
        Ok(id)
    }

    /// The connection with this id, if it is still open.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key(id))?;
        (connection.id == id).then_some(connection)
    }

    /// The connections that this node dialled to these peers, or is dialling.
    pub(super) fn dialled_to(&self, peers: &[NodeId]) -> Vec<u64> {
        let to = |connection: &Connection| {
            let peer = connection.phase.dialled();
            peer.is_some_and(|peer| peers.contains(&peer))
        };
        let connections = self.slab.iter().map(|(_, connection)| connection);
        let dialled = connections.filter(|connection| to(connection));
        dialled.map(|connection| connection.id).collect()
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
            Phase::Connecting(_) | Phase::Greeting { .. } => true,
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
            (
                &mut counts.leaving[port as usize],
                matches!(phase, Phase::Leaving(_)),
            ),
        ];
        for (sum, concerned) in sums {
            if concerned {
                *sum = sum
                    .checked_add_signed(by)
                    .expect("what is counted out was counted in");
            }
        }
    }

    /// The connection that has waited longest without a hello.
    pub(super) fn oldest_newcomer(&mut self, port: Port) -> Option<u64> {
        self.forget_old_newcomers(port);
        self.newcomers[port as usize].front().copied()
    }

    /// Takes those off the front of the list that are newcomers no more.
    fn forget_old_newcomers(&mut self, port: Port) {
        while let Some(id) = self.newcomers[port as usize].front().copied() {
            if self
                .get(id)
                .is_some_and(|open| open.phase == Phase::Newcomer)
            {
                return;
            }
            self.newcomers[port as usize].pop_front();
        }
    }

    /// The client that `weigh` finds heaviest. Looks at all: for when a bound is reached, which
    /// the heaviest one's end then makes up for.
    pub(super) fn heaviest_client(&self, weigh: impl Fn(&Connection) -> usize) -> Option<u64> {
        let clients = self.slab.iter().map(|(_, open)| open);
        let clients = clients.filter(|open| open.port == Port::Client);
        clients.max_by_key(|open| weigh(open)).map(|open| open.id)
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use bytes::BufMut;
    use socket2::SockRef;

    use super::*;

    const START: Instant = Instant(0);

    fn limits() -> Limits {
        Limits {
            connections_max: 10,
            newcomers_max: 10,
            hello_timeout: Duration::from_secs(3),
            frame_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            output_bytes: 1,
            input_bytes: 1,
            link_output_bytes: 1,
        }
    }

    struct Bench {
        poll: mio::Poll,
        listener: TcpListener,
        table: Table,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                poll: mio::Poll::new().expect("a poll"),
                listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
                table: Table::new(),
            }
        }

        fn newcomer(&mut self, now: Instant) -> u64 {
            let addr = self.listener.local_addr().expect("its address");
            let socket = TcpStream::connect(addr).expect("a connection");
            let registry = self.poll.registry();
            let (port, phase) = (Port::Client, Phase::Newcomer);
            let id = self.table.insert(registry, socket, port, phase, now);
            let id = id.expect("room");
            self.table.arm(id, &limits());
            id
        }
    }

    #[test]
    fn ids_grow_and_a_stale_one_finds_nothing() {
        let mut bench = Bench::new();
        let first = bench.newcomer(START);
        assert!(bench.table.remove(first).is_some());
        let second = bench.newcomer(START);
        assert_eq!(key(first), key(second), "the place is used again");
        assert!(second > first);
        assert!(bench.table.get(first).is_none());
        assert!(
            bench
                .table
                .append(first, |_| panic!("it is gone"))
                .is_none()
        );
        assert!(bench.table.remove(first).is_none());
        assert_eq!(bench.table.counts.clients, 1);
    }

    #[test]
    fn the_list_of_newcomers_does_not_grow_with_those_that_have_gone() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            let id = bench.newcomer(START);
            bench.table.set_phase(id, Phase::Client);
            let id = bench.newcomer(START);
            assert_eq!(bench.table.oldest_newcomer(Port::Client), Some(id));
            bench.table.remove(id);
        }
        assert!(bench.table.newcomers[0].len() <= 2);
        assert_eq!(bench.table.counts.newcomers, 0);
        assert_eq!(bench.table.counts.clients, 100);
        assert_eq!(bench.table.oldest_newcomer(Port::Client), None);
    }

    #[test]
    fn deadlines_come_in_order_and_moved_ones_at_their_new_time() {
        let mut bench = Bench::new();
        let limits = limits();
        let at = |seconds| START + Duration::from_secs(seconds);
        let late = bench.newcomer(at(1));
        let early = bench.newcomer(at(0));
        let greeted = bench.newcomer(at(0));
        bench.table.set_phase(greeted, Phase::Client);
        let stalled = bench.newcomer(at(0));
        bench.table.set_phase(stalled, Phase::Client);
        bench.table.get(stalled).expect("open").stalled_since = Some(at(1));
        bench.table.arm(stalled, &limits);
        assert_eq!(bench.table.overdue(at(2), &limits), None);
        assert_eq!(bench.table.overdue(at(3), &limits), Some(early));
        assert!(bench.table.remove(early).is_some());
        assert_eq!(bench.table.overdue(at(3), &limits), None);
        assert_eq!(bench.table.overdue(at(4), &limits), Some(late));
        assert!(bench.table.remove(late).is_some());
        assert_eq!(bench.table.overdue(at(10), &limits), None);
        assert_eq!(bench.table.deadline(), Some(at(11)));
        assert_eq!(bench.table.overdue(at(11), &limits), Some(stalled));
    }

    #[test]
    fn bytes_are_counted_in_and_out() {
        let mut bench = Bench::new();
        let (a, b) = (bench.newcomer(START), bench.newcomer(START));
        let add = |count: usize| move |out: &mut BytesMut| out.extend_from_slice(&vec![1; count]);
        assert_eq!(bench.table.append(a, add(100)), Some(100));
        assert_eq!(bench.table.append(b, add(50)), Some(50));
        bench.table.hold(b, vec![1; 70]);
        let sums = (bench.table.output_bytes, bench.table.input_bytes);
        assert_eq!(sums, (150, 70));
        assert_eq!(
            bench.table.heaviest_client(|open| open.output.len()),
            Some(a)
        );
        assert_eq!(
            bench.table.heaviest_client(|open| open.input.len()),
            Some(b)
        );
        assert_eq!(bench.table.take_input(b), vec![1; 70]);
        assert!(bench.table.remove(a).is_some());
        let sums = (bench.table.output_bytes, bench.table.input_bytes);
        assert_eq!(sums, (50, 0));
    }

    #[test]
    fn what_was_sent_gives_its_memory_back() {
        let mut bench = Bench::new();
        let id = bench.newcomer(START);
        let (mut reader, _) = bench.listener.accept().expect("the other end");
        let socket = &bench.table.get(id).expect("open").socket;
        let small = SockRef::from(socket).set_send_buffer_size(64 << 10);
        small.expect("a small buffer");
        let small = SockRef::from(&reader).set_recv_buffer_size(64 << 10);
        small.expect("a small buffer");
        let table = &mut bench.table;
        let large = 8 << 20;
        let mut waiting = table.append(id, |out| out.put_bytes(7, large));
        while waiting.is_some_and(|bytes| bytes > 256 << 10) {
            table.get(id).expect("open").writable = true;
            table.send(id, START).expect("it reads");
            reader.read_exact(&mut [0; 16 << 10]).expect("bytes");
            waiting = table.append(id, |_| {});
        }
        let left = &mut table.get(id).expect("open").output;
        assert!(!left.is_empty());
        assert!(!left.try_reclaim(large / 2), "its buffer is still large");
    }
}
