//! The thread behind the gates: who calls, whom that leads to, and what becomes of the bytes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use wire::frame::{self, LENGTH_BYTES};
use wire::hello::{Hello, Role};
use wire::limits::HELLO_FRAME_BYTES_MAX;

use super::flow::{End, Flow, Passed, is_not_yet};
use super::{Affliction, Order, Path, Trouble, WAKER};
use crate::sim::random::Random;
use crate::torture::ledger::{Fault, Tally};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Connections that may be open at a time; members close old ones before they dial anew.
const PAIRS_MAX: usize = 1024;
/// While a path is corrupted, every so many reads on it get a bit flipped.
const FLIP_EVERY: u64 = 4;
/// A third of those bits are among the first so many bytes: headers and small messages. Another third
/// are in what is most often the length of a frame, which says what the bytes behind it are.
const NEAR_BYTES: usize = 160;

/// A trouble of one path while it lasts.
#[derive(Debug)]
struct Active {
    id: u64,
    path: Path,
    trouble: Trouble,
    until: Instant,
}

/// Both halves of one connection between two members.
///
/// Invariant: `there` is `None` and `route` is `None` until the caller's hello is in.
struct Pair {
    gate: usize,
    here: TcpStream,
    there: Option<TcpStream>,
    route: Option<Path>,
    /// From `here` to `there`.
    forth: Flow,
    /// From `there` to `here`.
    back: Flow,
    /// Bytes of it were lost: it is reset as soon as both directions are open.
    hole: bool,
}

impl Pair {
    /// Whether there may be something to read.
    fn wants(&self) -> bool {
        self.there.is_some() && (self.forth.wants() || self.back.wants())
    }
}

/// The thread behind the gates.
pub(super) struct Carrier {
    poll: Poll,
    gates: Vec<TcpListener>,
    members: Arc<OnceLock<Vec<SocketAddr>>>,
    inbox: Receiver<Order>,
    tally: Arc<Tally>,
    random: Random,
    active: Vec<Active>,
    /// Faults that began and harmed nobody yet.
    unbitten: BTreeMap<u64, Fault>,
    next_id: u64,
    pairs: BTreeMap<usize, Pair>,
    next_pair: usize,
    buffer: Vec<u8>,
}

/// What is to become of a pair after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    /// Both ends closed in order.
    Ended,
    /// One end was reset, or it has a hole: the other end is reset too.
    Reset,
}

impl Carrier {
    /// Behind these gates, which lead to nobody yet.
    pub(super) fn new(
        poll: Poll,
        gates: Vec<TcpListener>,
        members: Arc<OnceLock<Vec<SocketAddr>>>,
        inbox: Receiver<Order>,
        tally: Arc<Tally>,
        random: Random,
    ) -> Self {
        Self {
            poll,
            gates,
            members,
            inbox,
            tally,
            random,
            active: Vec::new(),
            unbitten: BTreeMap::new(),
            next_id: 0,
            pairs: BTreeMap::new(),
            next_pair: 0,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Carries until it is told to finish.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let wait = self
                .next_due()
                .map(|due| due.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.expect("the system polls"),
            }
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::Afflict(affliction) => self.begin(affliction),
                    Order::Reset(between) => self.reset(between),
                    Order::Heal => self.active.clear(),
                    Order::Finish => return,
                }
            }
            for event in &events {
                self.note(event);
            }
            let now = Instant::now();
            self.active.retain(|active| active.until > now);
            self.carry(now);
        }
    }

    fn begin(&mut self, affliction: Affliction) {
        let id = self.next_id;
        self.next_id += 1;
        self.unbitten.insert(id, affliction.fault);
        let until = Instant::now() + affliction.lasts;
        let trouble = affliction.trouble;
        self.active
            .extend(affliction.paths.into_iter().map(|path| Active {
                id,
                path,
                trouble,
                until,
            }));
    }

    fn reset(&mut self, between: Path) {
        let both = [Some(between), Some(between.back())];
        let hit: Vec<usize> = self
            .pairs
            .iter()
            .filter(|(_, pair)| both.contains(&pair.route))
            .map(|(&number, _)| number)
            .collect();
        if !hit.is_empty() {
            self.tally.count(Fault::Reset);
        }
        for number in hit {
            self.close(number, Fate::Reset);
        }
    }

    /// Lets in who is at the gate, and remembers what can be read or written again.
    fn note(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        if token < WAKER {
            return self.let_in(token.0);
        }
        let (number, is_there) = (
            (token.0 - WAKER.0 - 1) / 2,
            (token.0 - WAKER.0 - 1) % 2 == 1,
        );
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        let (reads, writes) = if is_there {
            (&mut pair.back, &mut pair.forth)
        } else {
            (&mut pair.forth, &mut pair.back)
        };
        let over = event.is_error() || event.is_read_closed() || event.is_write_closed();
        reads.readable |= event.is_readable() || over;
        writes.writable |= event.is_writable() || over;
    }

    fn let_in(&mut self, gate: usize) {
        while let Ok((mut here, _)) = self.gates[gate].accept() {
            let ready = self.members.get().is_some() && self.pairs.len() < PAIRS_MAX;
            let number = self.next_pair;
            if !ready || register(self.poll.registry(), &mut here, number, false).is_err() {
                continue;
            }
            self.next_pair += 1;
            self.pairs.insert(
                number,
                Pair {
                    gate,
                    here,
                    there: None,
                    route: None,
                    forth: Flow::default(),
                    back: Flow::default(),
                    hole: false,
                },
            );
        }
    }

    /// Moves what can be moved, everywhere.
    fn carry(&mut self, now: Instant) {
        let numbers: Vec<usize> = self.pairs.keys().copied().collect();
        for number in numbers {
            let fate = self.carry_pair(number, now).unwrap_or(Fate::Reset);
            if fate != Fate::Lives {
                self.close(number, fate);
            }
        }
    }

    fn carry_pair(&mut self, number: usize, now: Instant) -> io::Result<Fate> {
        if self
            .pairs
            .get(&number)
            .is_some_and(|pair| pair.there.is_none())
        {
            self.meet(number)?;
        }
        loop {
            self.read(number, now);
            let fate = self.deliver(number, now)?;
            let more = self.pairs.get(&number).is_some_and(Pair::wants);
            if fate != Fate::Lives || !more {
                return Ok(fate);
            }
        }
    }

    /// Reads what came, and lets it begin its way under the troubles of its path.
    fn read(&mut self, number: usize, now: Instant) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        let (Some(there), Some(path)) = (&mut pair.there, pair.route) else {
            return;
        };
        let flows = [
            (path, &mut pair.forth, &mut pair.here),
            (path.back(), &mut pair.back, there),
        ];
        for (path, flow, source) in flows {
            while flow.wants() {
                let mut bytes = std::mem::take(&mut flow.greeting);
                if bytes.is_empty() {
                    match source.read(&mut self.buffer) {
                        Ok(0) => flow.end(End::Closed),
                        Ok(count) => bytes.extend_from_slice(&self.buffer[..count]),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) if is_not_yet(&error) => flow.readable = false,
                        Err(_) => flow.end(End::Reset),
                    }
                }
                if bytes.is_empty() {
                    continue;
                }
                let troubles = self.active.iter().filter(|active| active.path == path);
                let passed = take(flow, bytes, troubles, &mut self.random, now);
                pair.hole |= passed.lost;
                bite(&mut self.unbitten, &self.tally, &passed.bitten);
            }
        }
    }

    /// Reads the caller's hello, and dials whom it means.
    fn meet(&mut self, number: usize) -> io::Result<()> {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Ok(());
        };
        while pair.forth.readable {
            match pair.here.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => pair.forth.greeting.extend_from_slice(&self.buffer[..count]),
                Err(error) if is_not_yet(&error) => pair.forth.readable = false,
                Err(error) => return Err(error),
            }
        }
        let parsed = frame::parse(&pair.forth.greeting, HELLO_FRAME_BYTES_MAX);
        let Some(hello) = parsed.map_err(io::Error::other)? else {
            return Ok(());
        };
        let hello = Hello::decode(&hello).map_err(io::Error::other)?;
        let Role::Peer { identity, .. } = hello.role else {
            return Err(ErrorKind::InvalidData.into());
        };
        let members = self.members.get().map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(identity.node.0 - 1).map_err(io::Error::other)?;
        if from >= members.len() {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut there = TcpStream::connect(members[pair.gate])?;
        register(self.poll.registry(), &mut there, number, true)?;
        // Small frames do not wait for each other here either.
        let _ = (pair.here.set_nodelay(true), there.set_nodelay(true));
        pair.there = Some(there);
        let to = pair.gate;
        pair.route = Some(Path { from, to });
        // What was read waits to begin its way, and more may have come.
        pair.forth.readable = true;
        Ok(())
    }

    /// Writes what is due.
    fn deliver(&mut self, number: usize, now: Instant) -> io::Result<Fate> {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Ok(Fate::Lives);
        };
        let (Some(there), Some(path)) = (&mut pair.there, pair.route) else {
            return Ok(Fate::Lives);
        };
        let shut = |path: Path, cut_only: bool| {
            self.active.iter().any(|active| {
                active.path == path
                    && (active.trouble == Trouble::Cut
                        || (!cut_only && active.trouble == Trouble::Stall))
            })
        };
        if pair.hole && !shut(path, true) && !shut(path.back(), true) {
            return Ok(Fate::Reset);
        }
        let flows = [
            (path, &mut pair.forth, there),
            (path.back(), &mut pair.back, &mut pair.here),
        ];
        let mut ended = true;
        for (path, flow, sink) in flows {
            if shut(path, false) {
                ended = false;
                continue;
            }
            let rate = self.active.iter().find_map(|active| match active.trouble {
                Trouble::Throttle(rate) if active.path == path => Some((rate, active.id)),
                _ => None,
            });
            let held_back = flow.deliver(sink, rate.map(|(rate, _)| rate), now)?;
            if let (true, Some((_, id))) = (held_back, rate) {
                bite(&mut self.unbitten, &self.tally, &[id]);
            }
            ended &= flow.is_over();
            if flow.was_reset() {
                return Ok(Fate::Reset);
            }
        }
        Ok(if ended { Fate::Ended } else { Fate::Lives })
    }

    fn close(&mut self, number: usize, fate: Fate) {
        let Some(pair) = self.pairs.remove(&number) else {
            return;
        };
        for mut stream in [Some(pair.here), pair.there].into_iter().flatten() {
            // It may never have been registered, or be closed already.
            let _ = self.poll.registry().deregister(&mut stream);
            if fate == Fate::Reset {
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
        }
    }

    /// When something is to be done without an event.
    fn next_due(&self) -> Option<Instant> {
        let ends = self.active.iter().map(|active| active.until);
        let flows = self.pairs.values().flat_map(|pair| {
            let route = pair.route;
            [(route, &pair.forth), (route.map(Path::back), &pair.back)]
        });
        let due = flows.filter_map(|(path, flow)| {
            let shut = self.active.iter().any(|active| {
                Some(active.path) == path && matches!(active.trouble, Trouble::Stall | Trouble::Cut)
            });
            if shut { None } else { flow.due() }
        });
        ends.chain(due).min()
    }
}

fn register(
    registry: &Registry,
    stream: &mut TcpStream,
    number: usize,
    is_there: bool,
) -> io::Result<()> {
    let token = Token(WAKER.0 + 1 + 2 * number + usize::from(is_there));
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

/// Lets bytes begin their way, under the troubles of their path.
fn take<'a>(
    flow: &mut Flow,
    mut bytes: Vec<u8>,
    troubles: impl Iterator<Item = &'a Active>,
    random: &mut Random,
    now: Instant,
) -> Passed {
    let mut passed = Passed::default();
    let mut late = Duration::ZERO;
    for active in troubles {
        match active.trouble {
            Trouble::Delay(by) => late = late.max(by),
            Trouble::Cut => passed.lost = true,
            Trouble::Corrupt if random.below(FLIP_EVERY) == 0 => {
                // The rest of a big piece is values, which have a checksum of their own.
                let reach = *random.pick(&[bytes.len(), NEAR_BYTES, LENGTH_BYTES]);
                let at = random.index(reach.min(bytes.len()));
                bytes[at] ^= 1 << random.below(8);
            }
            // It bites when bytes are held back.
            Trouble::Throttle(_) | Trouble::Corrupt => continue,
            Trouble::Stall => {}
        }
        passed.bitten.push(active.id);
    }
    if !passed.lost {
        flow.push(bytes, now + late);
    }
    passed
}

/// Counts a fault when it first does harm.
fn bite(unbitten: &mut BTreeMap<u64, Fault>, tally: &Tally, ids: &[u64]) {
    for id in ids {
        if let Some(fault) = unbitten.remove(id) {
            tally.count(fault);
        }
    }
}
