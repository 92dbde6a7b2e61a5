//! The network: hosts, directed links between them, and connections that carry streams of bytes.
//!
//! A connection is TCP as a program sees it, and a little worse. What one end writes travels as
//! *parcels*. On fair links they arrive in order, each after its delay; a link can also lose,
//! double, reorder, tear and corrupt them, which no honest TCP does, but which the frames' checksum
//! and Raft have to survive all the same. Nothing that is on the way knows of the lives of
//! processes: what a process wrote arrives after its death, and after its successor's hello.
//!
//! | what happens | what the ends see |
//! |---|---|
//! | a link is cut or clogged | nothing; what is sent waits, and comes in one burst once it is whole again |
//! | it stays so for long | the sender's kernel gives up; the other end sees nothing |
//! | a process ends | its bytes arrive, then the end of the stream |
//! | a machine loses power | nothing, until something is sent to it, or the probes go unanswered |
//! | a reset | some first bytes of what was written, then the end, on both sides |

mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use raftd::net::Port;

use self::link::Link;
pub use self::link::Weather;
use super::event::Events;
use super::random::Random;
use super::world::Happening;

/// A machine: the members by position, then the one where all clients are.
pub type Host = usize;

/// Which end of a connection: 0 dialled, 1 was dialled.
pub type End = usize;

/// How long an end waits for a machine that vanished before the kernel tells, once there is
/// nothing to send: five seconds of silence and four unanswered probes.
const PROBES: Duration = Duration::from_secs(9);

/// How often what happened to parcels and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct NetCounts {
    pub parcels: u64,
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
    pub torn: u64,
    pub corrupted: u64,
    pub reset: u64,
    /// Parcels that waited for a link that was cut or clogged.
    pub held: u64,
    /// Parcels of a process that had ended when they arrived.
    pub posthumous: u64,
    /// Connections that the kernel gave up.
    pub given_up: u64,
}

impl NetCounts {
    /// What happened to parcels and connections, by name.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 10] {
        [
            ("parcels", self.parcels),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("overtaken", self.reordered),
            ("torn", self.torn),
            ("corrupted", self.corrupted),
            ("connections reset", self.reset),
            ("held by links", self.held),
            ("of ended processes", self.posthumous),
            ("connections given up", self.given_up),
        ]
    }
}

/// One end of a connection, as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The machine.
    pub host: Host,
    /// The owner's name for the connection.
    pub name: u64,
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// Somebody dials this port.
    Call(Port),
    /// The call was taken.
    Answer,
    /// What was written.
    Bytes(Bytes),
    /// The end of the stream, or a reset.
    End,
}

/// A parcel that reaches an end of a connection.
#[derive(Clone, Debug)]
pub struct Arrival {
    connection: u64,
    end: End,
    parcel: Parcel,
}

/// What the owner of a socket is told.
#[derive(Debug)]
pub enum Delivery {
    /// A machine is dialled: [`Net::accept`] or [`Net::refuse`] answers.
    Called {
        /// The machine.
        host: Host,
        /// Where.
        port: Port,
        /// The connection.
        connection: u64,
    },
    /// A call was taken.
    Answered(Socket),
    /// Bytes came, on this connection to this end of it.
    Bytes(Socket, Bytes, (u64, End)),
    /// It is over: by the other end's doing, or given up by the own kernel?
    Ended(Socket, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not taken yet.
    Dialled,
    Open(u64),
    /// Its owner wants no more of it.
    Closed,
    /// The machine forgot it.
    Vanished,
}

#[derive(Debug)]
struct Connection {
    hosts: [Host; 2],
    states: [State; 2],
    pipes: [Pipe; 2],
    /// A reset is on its way: nothing that is written from now on arrives.
    doomed: bool,
}

/// One direction, named by the end that writes.
#[derive(Debug, Default)]
struct Pipe {
    /// When the last parcel in order arrives.
    latest: Instant,
    /// What waits for the link.
    held: VecDeque<Parcel>,
    held_since: Instant,
    /// Bytes that are on their way.
    unread_bytes: usize,
}

/// All links and connections.
///
/// Invariants:
/// - a connection is known as long as one end is open;
/// - what is held waits on a link that is cut or clogged, and comes before anything later.
#[derive(Debug)]
pub struct Net {
    hosts: usize,
    links: Vec<Link>,
    up: Vec<bool>,
    connections: BTreeMap<u64, Connection>,
    serial: u64,
    random: Random,
    stall_timeout: Duration,
    /// What happened so far.
    pub counts: NetCounts,
}

impl Net {
    /// A network of `hosts` machines, all links fair. Kernels give up what could not be sent for
    /// `stall_timeout`.
    #[must_use]
    pub fn new(hosts: usize, weather: Weather, stall_timeout: Duration, random: Random) -> Self {
        // Until somebody says otherwise, those of clients are fair: see `set_weather`.
        assert!(weather.is_fair(), "links begin fair");
        Self {
            hosts,
            links: vec![Link::new(weather); hosts * hosts],
            up: vec![true; hosts],
            connections: BTreeMap::new(),
            serial: 0,
            random,
            stall_timeout,
            counts: NetCounts::default(),
        }
    }

    /// How many machines there are, that of the clients included.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    // --- machines ---

    /// Whether a machine answers at all; one without power does not.
    pub fn set_up(&mut self, host: Host, up: bool) {
        self.up[host] = up;
    }

    /// A process ended: its sockets close behind what was written.
    pub fn end_process(&mut self, now: Instant, host: Host, events: &mut Events<Happening>) {
        for (connection, end) in self.open_ends(host) {
            self.close(now, connection, end, events);
        }
    }

    /// A machine lost power: nobody is told.
    pub fn vanish(&mut self, now: Instant, host: Host, events: &mut Events<Happening>) {
        for (name, end) in self.open_ends(host) {
            if let Some(connection) = self.connections.get_mut(&name) {
                connection.states[end] = State::Vanished;
                let silence = Happening::Silence {
                    connection: name,
                    end: 1 - end,
                };
                events.plan(now + PROBES, silence);
            }
            self.forget_if_over(name);
        }
    }

    fn open_ends(&self, host: Host) -> Vec<(u64, End)> {
        let ends = self.connections.iter().flat_map(|(name, connection)| {
            let open = |end: &End| {
                connection.hosts[*end] == host
                    && matches!(connection.states[*end], State::Open(_) | State::Dialled)
            };
            (0..2).filter(open).map(|end| (*name, end))
        });
        ends.collect()
    }

    // --- connections ---

    /// Dials; the owner calls the connection `name`.
    pub fn dial(
        &mut self,
        now: Instant,
        from: Socket,
        to: Host,
        port: Port,
        events: &mut Events<Happening>,
    ) -> u64 {
        self.serial += 1;
        let connection = Connection {
            hosts: [from.host, to],
            states: [State::Open(from.name), State::Dialled],
            pipes: [Pipe::default(), Pipe::default()],
            doomed: false,
        };
        self.connections.insert(self.serial, connection);
        self.put(now, self.serial, 0, Parcel::Call(port), events);
        self.serial
    }

    /// Takes a call; the owner calls the connection `name`.
    pub fn accept(
        &mut self,
        now: Instant,
        connection: u64,
        name: u64,
        events: &mut Events<Happening>,
    ) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.states[1] = State::Open(name);
            self.put(now, connection, 1, Parcel::Answer, events);
        }
    }

    /// Refuses a call.
    pub fn refuse(&mut self, now: Instant, connection: u64, events: &mut Events<Happening>) {
        self.close(now, connection, 1, events);
    }

    /// Writes bytes, whole frames, into a connection.
    pub fn send(
        &mut self,
        now: Instant,
        connection: u64,
        end: End,
        bytes: Bytes,
        events: &mut Events<Happening>,
    ) {
        let Some(known) = self.connections.get(&connection) else {
            return;
        };
        let open = matches!(known.states[end], State::Open(_));
        if !open || known.doomed || bytes.is_empty() {
            return;
        }
        self.counts.parcels += 1;
        let weather = self.weather(known.hosts[end], known.hosts[1 - end]);
        if weather.is_fair() {
            self.put(now, connection, end, Parcel::Bytes(bytes), events);
        } else {
            self.send_through(weather, now, connection, end, bytes, events);
        }
    }

    /// Resets every connection between two machines, at once, wherever their bytes are.
    pub fn reset_between(
        &mut self,
        now: Instant,
        a: Host,
        b: Host,
        events: &mut Events<Happening>,
    ) {
        let between =
            |connection: &Connection| connection.hosts == [a, b] || connection.hosts == [b, a];
        let known = self.connections.iter();
        let names: Vec<u64> = known
            .filter(|(_, connection)| between(connection))
            .map(|(name, _)| *name)
            .collect();
        for name in names {
            self.reset(now, name, events);
        }
    }

    fn reset(&mut self, now: Instant, connection: u64, events: &mut Events<Happening>) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        if !std::mem::replace(&mut known.doomed, true) {
            self.counts.reset += 1;
            self.put(now, connection, 0, Parcel::End, events);
            self.put(now, connection, 1, Parcel::End, events);
        }
    }

    /// An owner closes its end.
    pub fn close(
        &mut self,
        now: Instant,
        connection: u64,
        end: End,
        events: &mut Events<Happening>,
    ) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        if matches!(known.states[end], State::Open(_) | State::Dialled) {
            known.states[end] = State::Closed;
            self.put(now, connection, end, Parcel::End, events);
            self.forget_if_over(connection);
        }
    }

    /// Sends a parcel on its way, behind those before it.
    fn put(
        &mut self,
        now: Instant,
        connection: u64,
        end: End,
        parcel: Parcel,
        events: &mut Events<Happening>,
    ) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        let link = known.hosts[end] * self.hosts + known.hosts[1 - end];
        let weather = &self.links[link].weather;
        let delay = self.random.heavy(weather.delay, weather.delay_max);
        let pipe = &mut known.pipes[end];
        pipe.latest = pipe.latest.max(now + delay);
        if let Parcel::Bytes(bytes) = &parcel {
            pipe.unread_bytes += bytes.len();
        }
        let arrival = Arrival {
            connection,
            end: 1 - end,
            parcel,
        };
        events.plan(pipe.latest, Happening::Arrival(arrival));
    }

    /// Bytes that an end has written and the other one has not got.
    #[must_use]
    pub fn unread_bytes(&self, connection: u64, end: End) -> usize {
        let known = self.connections.get(&connection);
        known.map_or(0, |known| known.pipes[end].unread_bytes)
    }

    /// The other end of a connection, if it is open.
    #[must_use]
    pub fn other_end(&self, connection: u64, end: End) -> Option<Socket> {
        let known = self.connections.get(&connection)?;
        let State::Open(name) = known.states[1 - end] else {
            return None;
        };
        let host = known.hosts[1 - end];
        Some(Socket { host, name })
    }

    /// A parcel has reached the other end of its link. Says whom to tell.
    pub fn arrive(
        &mut self,
        now: Instant,
        arrival: Arrival,
        events: &mut Events<Happening>,
    ) -> Option<Delivery> {
        let Arrival {
            connection,
            end,
            parcel,
        } = arrival;
        let known = self.connections.get_mut(&connection)?;
        let (from, to) = (known.hosts[1 - end], known.hosts[end]);
        let link = &self.links[from * self.hosts + to];
        // A reset waits for nothing.
        let is_reset = known.doomed && matches!(parcel, Parcel::End);
        // What came while others were held stays behind them.
        let is_held = !link.is_whole(now) || !known.pipes[1 - end].held.is_empty();
        if is_held && !is_reset {
            let pipe = &mut known.pipes[1 - end];
            if pipe.held.is_empty() {
                pipe.held_since = now;
                let patience = Happening::Patience {
                    connection,
                    end: 1 - end,
                };
                events.plan(now + self.stall_timeout, patience);
            }
            pipe.held.push_back(parcel);
            self.counts.held += 1;
            return None;
        }
        if let Parcel::Bytes(bytes) = &parcel {
            let pipe = &mut known.pipes[1 - end];
            // What was reordered was not counted.
            pipe.unread_bytes = pipe.unread_bytes.saturating_sub(bytes.len());
            let dead = matches!(known.states[1 - end], State::Closed | State::Vanished);
            self.counts.posthumous += u64::from(dead);
        }
        match (known.states[end], parcel) {
            (State::Dialled, Parcel::Call(port)) if self.up[to] => Some(Delivery::Called {
                host: to,
                port,
                connection,
            }),
            (State::Open(name), parcel) => {
                let socket = Socket { host: to, name };
                match parcel {
                    Parcel::Call(_) => None,
                    Parcel::Answer => Some(Delivery::Answered(socket)),
                    Parcel::Bytes(bytes) => Some(Delivery::Bytes(socket, bytes, (connection, end))),
                    Parcel::End => {
                        known.states[end] = State::Closed;
                        self.forget_if_over(connection);
                        Some(Delivery::Ended(socket, true))
                    }
                }
            }
            (State::Dialled, Parcel::End) => {
                known.states[end] = State::Closed;
                self.forget_if_over(connection);
                None
            }
            // The machine is there and has no use for it: a reset. Its own end of the stream may
            // have been given up on the way.
            (State::Closed | State::Vanished, Parcel::Answer | Parcel::Bytes(_)) if self.up[to] => {
                self.put(now, connection, end, Parcel::End, events);
                None
            }
            (State::Dialled | State::Vanished | State::Closed, _) => None,
        }
    }

    /// What an end wrote has waited for a link for as long as its kernel has patience.
    pub fn lose_patience(&mut self, now: Instant, connection: u64, end: End) -> Option<Delivery> {
        let known = self.connections.get_mut(&connection)?;
        let pipe = &known.pipes[end];
        if pipe.held.is_empty() || now.since(pipe.held_since) < self.stall_timeout {
            return None;
        }
        known.pipes[end].held.clear();
        self.give_up(connection, end)
    }

    /// An end has heard nothing of a machine that vanished.
    pub fn notice_silence(&mut self, connection: u64, end: End) -> Option<Delivery> {
        let known = self.connections.get(&connection)?;
        let vanished = known.states[1 - end] == State::Vanished;
        vanished.then(|| self.give_up(connection, end))?
    }

    fn give_up(&mut self, connection: u64, end: End) -> Option<Delivery> {
        let known = self.connections.get_mut(&connection)?;
        let State::Open(name) = known.states[end] else {
            return None;
        };
        self.counts.given_up += 1;
        let host = known.hosts[end];
        known.states[end] = State::Vanished;
        self.forget_if_over(connection);
        Some(Delivery::Ended(Socket { host, name }, false))
    }

    fn forget_if_over(&mut self, connection: u64) {
        let is_over = |known: &Connection| {
            let over = |state: &State| matches!(state, State::Closed | State::Vanished);
            known.states.iter().all(over)
        };
        if self.connections.get(&connection).is_some_and(is_over) {
            self.connections.remove(&connection);
        }
    }
}
