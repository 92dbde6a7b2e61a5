//! The world: members, network and time. It knows what happens next and lets it happen; what it
//! means is for others to judge, and whom to hurt is for others to say.
//!
//! A turn of a member has two halves, so that its effects can be looked at before they leave:
//! [`World::step`] says [`Did::Thought`], and [`World::carry_out`] goes on.

mod fair;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use raftd::disk::sim::SimDisk;
use raftd::net::Port;
use raftd::node::Node;
use raftd::wal::Report;
use wire::client::Admitted;
use wire::types::{Incarnation, NodeId};

use super::event::Events;
use super::member::{Crash, Death, Member, Pace, Settings, Surroundings, TRUE_RATE};
use super::net::{Arrival, Delivery, End, Host, Net, Socket, Weather};
use super::random::Random;
use super::trace::Trace;

/// What happens by itself at a time that was planned.
#[derive(Debug)]
pub enum Happening {
    /// A parcel reaches the end of its link.
    Arrival(Arrival),
    /// A kernel looks whether what it sends has got anywhere.
    Patience {
        /// The connection.
        connection: u64,
        /// Who sends.
        end: End,
    },
    /// A kernel looks whether the other machine is still there.
    Silence {
        /// The connection.
        connection: u64,
        /// Who looks.
        end: End,
    },
    /// A clog may be over.
    Unclog {
        /// From here.
        from: Host,
        /// To there.
        to: Host,
    },
    /// A member's disk work is done.
    DiskDone {
        /// Whose.
        host: Host,
        /// In which of its lives it was begun.
        life: u64,
        /// Which round it is.
        round: u64,
    },
    /// A member goes on making a spare segment.
    MakeSpare {
        /// Who.
        host: Host,
        /// In which of its lives that was planned.
        life: u64,
    },
    /// A member goes on with its snapshots.
    KeepSnapshots {
        /// Who.
        host: Host,
        /// In which of its lives that was planned.
        life: u64,
    },
    /// The service manager starts a member that is down.
    Start {
        /// Which.
        host: Host,
    },
}

/// What a step did.
#[derive(Debug)]
pub enum Did {
    /// Nothing happens until the time that was given; it is that time now.
    Rest,
    /// Something that concerns nobody else.
    Something,
    /// A member has done disk work.
    Wrote(Host),
    /// A member has done the first half of its turn: [`World::carry_out`] does the second.
    Thought(Host),
    /// A member has begun a life, with what recovery found.
    Started(Host, Report),
    /// A member's life has ended. Nobody starts it again by himself.
    Died(Host, Death),
    /// A client connection is open, under the name that [`World::connect`] was given.
    Connected(u64),
    /// A client connection brought bytes.
    Received(u64, Bytes),
    /// A client connection is over.
    Disconnected(u64),
    /// A stranger was told this.
    ToldStranger(Bytes),
}

/// Everything that is simulated.
pub struct World {
    /// True time.
    now: Instant,
    settings: Settings,
    members: Vec<Member>,
    net: Net,
    events: Events<Happening>,
    trace: Trace,
    /// The clients' names for their connections, and the network's.
    connections: BTreeMap<u64, u64>,
    /// How many strangers have called.
    strangers: u64,
    /// Steps since time last went on.
    steps_at_once: u32,
}

/// Names of connections from here on are strangers'.
const STRANGERS: u64 = 1 << 60;

/// Steps at one time, from which on time stands still.
const STEPS_AT_ONCE_MAX: u32 = 200_000;

/// What a world is made of, besides the settings.
#[derive(Clone, Debug)]
pub struct Nature {
    /// Of every member, how fast it is.
    pub paces: Vec<Pace>,
    /// Of every member, the rate of its clock.
    pub clock_rates: Vec<u32>,
    /// What every link does.
    pub weather: Weather,
    /// Of every member, the size of its disk.
    pub disk_bytes: Vec<u64>,
    /// How long kernels try to send.
    pub stall_timeout: Duration,
}

impl World {
    /// All machines down, with empty disks; those of members are started at once.
    #[must_use]
    pub fn new(settings: Settings, nature: &Nature, random: &mut Random, trace: Trace) -> Self {
        let machines = settings.members + settings.spares;
        let hosts = machines + 1;
        let mut events = Events::default();
        let members = (0..machines).map(|host| {
            let disk = SimDisk::new(random.bits(), nature.disk_bytes[host]);
            let rate = nature.clock_rates.get(host).copied().unwrap_or(TRUE_RATE);
            let id = (host < settings.members).then_some(NodeId(host as u64 + 1));
            if id.is_some() {
                events.plan(Instant::default(), Happening::Start { host });
            }
            let pace = nature.paces[host];
            Member::new(host, id, disk, pace, rate, random.fork())
        });
        let members = members.collect();
        let net = Net::new(hosts, nature.weather, nature.stall_timeout, random.fork());
        Self {
            now: Instant::default(),
            settings,
            members,
            net,
            events,
            trace,
            connections: BTreeMap::new(),
            strangers: 0,
            steps_at_once: 0,
        }
    }

    // --- looking ---

    /// True time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What the members are told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The members, by position.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One of them.
    pub fn member_mut(&mut self, host: Host) -> &mut Member {
        &mut self.members[host]
    }

    /// The nodes that are up.
    pub fn nodes(&self) -> impl Iterator<Item = (Host, &Node)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(host, member)| Some((host, member.node()?)))
    }

    /// The machine where the clients are.
    #[must_use]
    pub fn client_host(&self) -> Host {
        self.members.len()
    }

    /// The network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The trace so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The trace, to add to it.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// The end: the trace is what is left.
    #[must_use]
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// Adds a line to the trace, if it has lines.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    // --- time ---

    /// Lets the next thing happen, if it does so by `until`.
    ///
    /// # Panics
    /// If time stands still: somebody wakes himself up for ever.
    pub fn step(&mut self, until: Instant) -> Did {
        let turn = self.members.iter().enumerate();
        let turn = turn.filter_map(|(host, member)| Some((member.next_turn()?, host)));
        let turn = turn.min();
        let event_at = self.events.next_at();
        let turn = turn.filter(|(at, _)| event_at.is_none_or(|event_at| *at < event_at));
        match (turn, event_at) {
            (Some((at, host)), _) if at <= until => {
                self.advance(at);
                self.with(host, Member::think);
                Did::Thought(host)
            }
            (None, Some(at)) if at <= until => {
                self.advance(at);
                match self.events.pop(at) {
                    Some(event) => self.happen(event),
                    None => Did::Something,
                }
            }
            _ => {
                self.now = self.now.max(until);
                Did::Rest
            }
        }
    }

    fn advance(&mut self, at: Instant) {
        if at > self.now {
            self.now = at;
            self.steps_at_once = 0;
        }
        self.steps_at_once += 1;
        assert!(
            self.steps_at_once < STEPS_AT_ONCE_MAX,
            "time stands still at {:?}",
            self.now
        );
    }

    /// The second half of a turn. Says how the member came to its end, if it did.
    pub fn carry_out(&mut self, host: Host) -> Option<Death> {
        let outcome = self.with(host, Member::carry_out);
        outcome.err().inspect(|death| self.end(host, death))
    }

    fn with<T>(
        &mut self,
        host: Host,
        act: impl FnOnce(&mut Member, &mut Surroundings<'_>) -> T,
    ) -> T {
        let mut around = Surroundings {
            now: self.now,
            net: &mut self.net,
            events: &mut self.events,
            trace: &mut self.trace,
        };
        act(&mut self.members[host], &mut around)
    }

    fn happen(&mut self, event: Happening) -> Did {
        match event {
            Happening::Arrival(arrival) => {
                let delivery = self.net.arrive(self.now, arrival, &mut self.events);
                self.deliver(delivery)
            }
            Happening::Patience { connection, end } => {
                let delivery = self.net.lose_patience(self.now, connection, end);
                self.deliver(delivery)
            }
            Happening::Silence { connection, end } => {
                let delivery = self.net.notice_silence(connection, end);
                self.deliver(delivery)
            }
            Happening::Unclog { from, to } => {
                self.net.release(self.now, from, to, &mut self.events);
                Did::Something
            }
            Happening::DiskDone { host, life, round } => {
                self.work(host, |member, around| member.disk_done(life, round, around))
            }
            Happening::MakeSpare { host, life } => {
                self.work(host, |member, around| member.make_spare(life, around))
            }
            Happening::KeepSnapshots { host, life } => {
                self.work(host, |member, around| member.keep_snapshots(life, around))
            }
            Happening::Start { host } => self.start(host),
        }
    }

    fn work(
        &mut self,
        host: Host,
        work: impl FnOnce(&mut Member, &mut Surroundings<'_>) -> Result<(), Death>,
    ) -> Did {
        match self.with(host, work) {
            Ok(()) => Did::Wrote(host),
            Err(death) => {
                self.end(host, &death);
                Did::Died(host, death)
            }
        }
    }

    fn deliver(&mut self, delivery: Option<Delivery>) -> Did {
        let clients = self.client_host();
        let now = self.now;
        match delivery {
            None => {}
            Some(Delivery::Called {
                host,
                port,
                connection,
            }) => match self.members[host].called(connection, port, now) {
                Some(name) => self.net.accept(now, connection, name, &mut self.events),
                None => self.net.refuse(now, connection, &mut self.events),
            },
            Some(Delivery::Answered(Socket { host, name })) => {
                if host == clients {
                    return told(name, Did::Connected(name));
                }
                self.members[host].answered(name, now);
            }
            Some(Delivery::Bytes(Socket { host, name }, bytes, (connection, end))) => {
                if host == clients {
                    let unread_bytes = self.net.unread_bytes(connection, 1 - end);
                    if let Some(server) = self.net.other_end(connection, end) {
                        self.members[server.host].judge_flow(server.name, unread_bytes, now);
                    }
                    return told(name, Did::Received(name, bytes));
                }
                self.members[host].received(name, bytes, now);
            }
            Some(Delivery::Ended(Socket { host, name }, by_peer)) => {
                if host == clients {
                    self.connections.remove(&name);
                    return told(name, Did::Disconnected(name));
                }
                self.members[host].ended(name, by_peer, now);
            }
        }
        Did::Something
    }

    // --- life and death ---

    fn start(&mut self, host: Host) -> Did {
        if self.members[host].is_up() || !self.members[host].has_id() {
            return Did::Something;
        }
        self.net.set_up(host, true);
        let settings = self.settings.clone();
        match self.with(host, |member, around| member.start(&settings, around)) {
            Ok(report) => Did::Started(host, report),
            Err(death) => {
                self.end(host, &death);
                Did::Died(host, death)
            }
        }
    }

    fn end(&mut self, host: Host, death: &Death) {
        self.note(|| format!("{} ends: {death:?}", host + 1));
        self.trace.number(!self.now.0 ^ host as u64);
        self.with(host, |member, around| member.die(death, around));
    }

    /// A member's process, or its machine, ends now. Says whether it was up.
    pub fn crash(&mut self, host: Host, crash: Crash) -> bool {
        let up = self.members[host].is_up();
        if up {
            self.end(host, &Death::Crashed(crash));
        }
        up
    }

    /// A cluster admits the machine: it becomes this member, and starts.
    pub fn admit(&mut self, host: Host, admitted: Admitted, incarnation: Incarnation) {
        self.members[host].admit(admitted, incarnation);
        self.start_later(host, Duration::ZERO);
    }

    /// Has the service manager start a member that is down.
    pub fn start_later(&mut self, host: Host, after: Duration) {
        self.events
            .plan(self.now + after, Happening::Start { host });
    }

    /// A member is as it should be from now on, and has the disk of a good machine.
    pub fn cure(&mut self, host: Host, pace: Pace) {
        self.with(host, |member, around| member.cure(pace, around));
    }

    // --- links ---

    /// Changes the network.
    pub fn disturb<T>(
        &mut self,
        change: impl FnOnce(&mut Net, Instant, &mut Events<Happening>) -> T,
    ) -> T {
        change(&mut self.net, self.now, &mut self.events)
    }

    // --- clients ---

    /// A client dials a member, under a small name that is never used again.
    pub fn connect(&mut self, name: u64, to: Host) {
        assert!(name < STRANGERS, "clients' names are small");
        self.dial(name, to, Port::Client);
    }

    /// Somebody dials a member and says this.
    pub fn call_as_stranger(&mut self, to: Host, port: Port, says: Bytes) {
        self.strangers += 1;
        let name = STRANGERS + self.strangers;
        self.dial(name, to, port);
        self.send(name, says);
    }

    fn dial(&mut self, name: u64, to: Host, port: Port) {
        let host = self.client_host();
        let socket = Socket { host, name };
        let connection = self.net.dial(self.now, socket, to, port, &mut self.events);
        self.connections.insert(name, connection);
    }

    /// A client writes to its connection.
    pub fn send(&mut self, name: u64, bytes: Bytes) {
        if let Some(connection) = self.connections.get(&name) {
            self.net
                .send(self.now, *connection, 0, bytes, &mut self.events);
        }
    }

    /// Where a client's connection ends: the member, and its name for it.
    #[must_use]
    pub fn server_of(&self, name: u64) -> Option<Socket> {
        let connection = self.connections.get(&name)?;
        self.net.other_end(*connection, 0)
    }

    /// A client closes its connection; it hears nothing more of it.
    pub fn disconnect(&mut self, name: u64) {
        if let Some(connection) = self.connections.remove(&name) {
            self.net.close(self.now, connection, 0, &mut self.events);
        }
    }
}

/// What strangers are told is of little interest.
fn told(name: u64, did: Did) -> Did {
    match did {
        did if name < STRANGERS => did,
        Did::Received(_, bytes) => Did::ToldStranger(bytes),
        _ => Did::Something,
    }
}
