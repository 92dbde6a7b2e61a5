//! The generator: one thread, one mio loop, any number of connections.
//!
//! On a small machine the generator competes with the servers that it measures, so it does as
//! little as it can: buffers are reused, answers are decoded in place, each connection is written
//! to once per turn, and the clock is read once per read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token as PollToken};
use wire::error::Error;

use super::channel::{Channel, Received, State};
use super::load::{Action, Load, Material, Random};
use super::measurement::{Measurement, Observer, nanos};
use super::pace::Alarm;
use super::phase::{Phase, Touched};
use super::protocol::{Answer, Protocol};
use super::route::Route;

/// Operations in flight on each connection while keys are laid down and removed.
pub const BULK_IN_FLIGHT: usize = 128;
/// Connections at most.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Operations in flight on one connection at most.
pub const IN_FLIGHT_MAX: usize = 4096;

const SCRATCH_BYTES: usize = 256 * 1024;
const ANSWER_OVERHEAD_BYTES: usize = 8 * 1024;
const OPEN_NS_MAX: u64 = 2_000_000_000;
const SILENCE_NS_MAX: u64 = 2_000_000_000;
const PAUSE_NS_MIN: u64 = 2_000_000;
const PAUSE_NS_MAX: u64 = 100_000_000;
const TIDY_NS: u64 = 50_000_000;

/// Where to send what, and for how long to hope.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `HOST:PORT` of the servers.
    pub endpoints: Vec<String>,
    /// Connections.
    pub connections: usize,
    /// Operations in flight on one connection at most, in any measurement.
    pub in_flight_max: usize,
    /// The longest time without progress.
    pub patience: Duration,
    /// Set from outside to end early.
    pub interrupted: Arc<AtomicBool>,
}

/// Why a run ended without a result.
#[derive(Debug)]
pub enum Failure {
    /// No endpoint completed the hello: the cause for each.
    Unreachable(Vec<(String, String)>),
    /// Nothing was answered for as long as the patience lasts.
    Stalled {
        /// What was going on.
        doing: &'static str,
        /// The last reason heard; empty if none.
        cause: String,
    },
    /// Nothing was done for as long, and this is what was said.
    Refused(Error),
    /// The system refused something.
    System(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(causes) => {
                f.write_str("no endpoint answers")?;
                for (endpoint, cause) in causes {
                    write!(f, "; {endpoint}: {cause}")?;
                }
                Ok(())
            }
            Self::Stalled { doing, cause } if cause.is_empty() => {
                write!(f, "no answer while {doing}")
            }
            Self::Stalled { doing, cause } => write!(f, "no answer while {doing}: {cause}"),
            Self::Refused(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The generator with its connections. They stay open from one measurement to the next.
#[derive(Debug)]
pub struct Engine<P> {
    poll: Poll,
    alarm: Alarm,
    started: Instant,
    channels: Vec<Channel<P>>,
    route: Route,
    material: Material,
    random: Random,
    touched: Touched,
    scratch: Vec<u8>,
    answers: Vec<Answer>,
    /// Channels to flush at the end of the turn.
    dirty: Vec<usize>,
    /// Operations that are not done, over all channels.
    busy: usize,
    /// Some connection completed its opening at least once.
    reached: bool,
    progress_ns: u64,
    /// Phases so far.
    phases: u64,
    /// When `tidy` is due.
    tidy_at_ns: u64,
    last_cause: String,
    patience_ns: u64,
    interrupted: Arc<AtomicBool>,
}

impl<P: Protocol> Engine<P> {
    /// Prepares the connections; `make` is called once for each.
    ///
    /// # Errors
    /// [`Failure::System`].
    pub fn new(
        setup: &Setup,
        material: Material,
        random: Random,
        make: impl FnMut(usize) -> P,
    ) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), PollToken(setup.connections))?;
        let slots = setup.in_flight_max.max(BULK_IN_FLIGHT);
        let channels = (0..setup.connections).map(make);
        let scratch = SCRATCH_BYTES.max(2 * (material.value_bytes() + ANSWER_OVERHEAD_BYTES));
        Ok(Self {
            poll,
            alarm,
            started: Instant::now(),
            channels: channels.map(|p| Channel::new(p, slots)).collect(),
            route: Route::new(&setup.endpoints),
            touched: Touched::new(material.keys()),
            material,
            random,
            scratch: vec![0; scratch],
            answers: Vec::with_capacity(1024),
            dirty: Vec::with_capacity(setup.connections),
            busy: 0,
            reached: false,
            progress_ns: 0,
            phases: 0,
            tidy_at_ns: 0,
            last_cause: String::new(),
            patience_ns: nanos(setup.patience),
            interrupted: Arc::clone(&setup.interrupted),
        })
    }

    /// The keys and values in use.
    #[must_use]
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// Whether keys were set, or may have been, and not removed.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.touched.next(0).is_some()
    }

    /// Sets every key once, pipelined.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn preload(&mut self, observer: &mut impl Observer) -> Result<(), Failure> {
        let mut phase = Phase::each("laying down keys", Action::Put, BULK_IN_FLIGHT);
        self.drive(&mut phase, observer)
    }

    /// Removes every key that was set, pipelined.
    ///
    /// # Errors
    /// [`Failure`]; keys are then left behind.
    pub fn remove(&mut self, observer: &mut impl Observer) -> Result<(), Failure> {
        let mut phase = Phase::each("removing keys", Action::Delete, BULK_IN_FLIGHT);
        self.drive(&mut phase, observer)
    }

    /// Has the connections go to all endpoints in turn, or to the leader only, as they do at first.
    pub fn spread(&mut self, spreads: bool) {
        self.route.spreads = spreads;
        let now = self.now();
        for channel in &mut self.channels {
            channel.close(now);
        }
    }

    /// Runs a load and measures it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn measure(
        &mut self,
        load: &Load,
        observer: &mut impl Observer,
    ) -> Result<Measurement, Failure> {
        // The hello is no part of a warm-up.
        self.drive(&mut Phase::none("connecting"), observer)?;
        let mut phase = Phase::measured(load, self.now(), Duration::from_nanos(self.patience_ns));
        self.drive(&mut phase, observer)?;
        Ok(phase.into_measurement().expect("the phase was measured"))
    }

    fn now(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    /// Runs a phase to its end: nothing more to send and nothing in flight.
    fn drive(&mut self, phase: &mut Phase, observer: &mut impl Observer) -> Result<(), Failure> {
        let mut events = Events::with_capacity(self.channels.len().clamp(64, 4096));
        self.progress_ns = self.now();
        self.phases += 1;
        self.tidy_at_ns = 0;
        let now = self.now();
        for i in 0..self.channels.len() {
            self.fill(i, phase, now);
        }
        loop {
            let now = self.now();
            if self.interrupted.load(Ordering::Relaxed) {
                phase.stop(now);
            }
            phase.watch(now, self.route.leader_changes, observer);
            self.pace(phase, now)?;
            if now >= self.tidy_at_ns {
                self.tidy(phase, now)?;
                observer.progress(phase.doing(), phase.part(now, self.material.keys()));
            }
            self.flush(now);
            if phase.is_over() && self.busy == 0 && self.is_connected() {
                return Ok(());
            }
            let timeout = self.timeout(phase, now);
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let i = event.token().0;
                if i == self.channels.len() {
                    self.alarm.acknowledge();
                    continue;
                }
                if event.is_writable() && !self.channels[i].opened {
                    self.opened(i);
                }
                if event.is_writable() {
                    self.mark(i);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(i, phase);
                }
            }
        }
    }

    fn is_connected(&self) -> bool {
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        let serving = |channel: &Channel<P>| channel.state == State::Serving;
        interrupted || self.channels.iter().all(serving)
    }

    fn timeout(&self, phase: &Phase, now: u64) -> Duration {
        let boundary = phase.boundary().unwrap_or(u64::MAX);
        Duration::from_nanos(self.tidy_at_ns.min(boundary).saturating_sub(now))
    }

    fn mark(&mut self, i: usize) {
        if !self.channels[i].dirty {
            self.channels[i].dirty = true;
            self.dirty.push(i);
        }
    }

    fn opened(&mut self, i: usize) {
        match self.channels[i].try_open() {
            Ok(_) => self.mark(i),
            Err(error) => self.broken(i, None, &error.to_string()),
        }
    }

    /// Reads a channel empty and acts on the answers.
    fn read(&mut self, i: usize, phase: &mut Phase) {
        loop {
            let mut answers = std::mem::take(&mut self.answers);
            let received = self.channels[i].receive(&mut self.scratch, &mut answers);
            let now = self.now();
            for answer in answers.drain(..) {
                self.answered(i, &answer, phase, now);
            }
            self.answers = answers;
            self.fill(i, phase, now);
            match received {
                Received::More => {}
                Received::Drained => return,
                Received::Gone(cause) => {
                    self.broken(i, Some(phase), &cause);
                    return;
                }
            }
        }
    }

    fn answered(&mut self, i: usize, answer: &Answer, phase: &mut Phase, now: u64) {
        let channel = &mut self.channels[i];
        channel.heard_ns = now;
        match answer {
            Answer::Done { token, revision } => {
                let Some((operation, intended)) = channel.done(*token) else {
                    return;
                };
                self.busy -= 1;
                self.progress_ns = now;
                channel.pause_ns = 0;
                if operation.action == Action::Delete {
                    self.touched.remove(operation.key);
                }
                phase.done(now, intended, *revision);
            }
            Answer::Refused { token } => {
                if channel.refuse(*token) {
                    phase.errors(1);
                    if channel.state == State::Serving {
                        channel.state = State::Settling { retry_at: None };
                    }
                }
            }
            Answer::Ready => {
                self.reached = true;
                // Who is greeted again and again and has nothing done gets nowhere.
                if channel.greeted_in != self.phases {
                    channel.greeted_in = self.phases;
                    self.progress_ns = now;
                }
                if self.route.is_elsewhere(channel.addr) {
                    channel.close(now);
                    self.tidy_at_ns = now;
                } else {
                    channel.state = State::Serving;
                    channel.resend(&self.material);
                }
            }
            Answer::Leader(leader) => self.route.heard(leader),
        }
        let channel = &mut self.channels[i];
        if channel.state == (State::Settling { retry_at: None }) && channel.on_wire() == 0 {
            channel.pause_ns = (channel.pause_ns * 2).clamp(PAUSE_NS_MIN, PAUSE_NS_MAX);
            let retry_at = now + channel.pause_ns;
            channel.state = State::Settling {
                retry_at: Some(retry_at),
            };
            self.tidy_at_ns = self.tidy_at_ns.min(retry_at);
        }
    }

    /// A connection failed or broke: what was in flight on it goes out again on the next.
    fn broken(&mut self, i: usize, phase: Option<&mut Phase>, cause: &str) {
        let now = self.now();
        let channel = &mut self.channels[i];
        channel.pause_ns = (channel.pause_ns * 2).clamp(PAUSE_NS_MIN, PAUSE_NS_MAX);
        let retry_at = now + channel.pause_ns;
        let lost = channel.close(retry_at);
        self.tidy_at_ns = self.tidy_at_ns.min(retry_at);
        if let Some(phase) = phase {
            phase.errors(lost as u64);
        }
        self.route.failed(self.channels[i].addr, cause);
        cause.clone_into(&mut self.last_cause);
    }

    /// Issues the phase's next operation on a channel; false if none is due.
    fn issue_next(&mut self, i: usize, phase: &mut Phase, now: u64) -> bool {
        let Some((operation, intended)) =
            phase.next(now, &self.material, &mut self.touched, &mut self.random)
        else {
            return false;
        };
        self.channels[i].issue(operation, intended, &self.material);
        self.busy += 1;
        true
    }

    /// Fills a channel up with operations of a closed loop.
    fn fill(&mut self, i: usize, phase: &mut Phase, now: u64) {
        if phase.is_open_loop() || self.channels[i].state != State::Serving {
            self.mark(i);
            return;
        }
        while self.channels[i].busy() < phase.in_flight() {
            if !self.issue_next(i, phase, now) {
                break;
            }
        }
        self.mark(i);
    }

    /// Sends what an open loop's schedule says is due, to connections in turn; what finds no room
    /// stays due, and its latency runs.
    fn pace(&mut self, phase: &mut Phase, now: u64) -> Result<(), Failure> {
        if !phase.is_open_loop() {
            return Ok(());
        }
        let mut full = 0;
        while full < self.channels.len() {
            let i = phase.turn(self.channels.len());
            let channel = &self.channels[i];
            if channel.state != State::Serving || channel.busy() >= phase.in_flight() {
                full += 1;
                continue;
            }
            full = 0;
            if !self.issue_next(i, phase, now) {
                break;
            }
            self.mark(i);
        }
        if let Some(due) = phase.due() {
            self.alarm
                .set(Duration::from_nanos(due.saturating_sub(now).max(1)))?;
        }
        Ok(())
    }

    /// One write per connection that has something to say.
    fn flush(&mut self, now: u64) {
        for at in 0..self.dirty.len() {
            let i = self.dirty[at];
            self.channels[i].dirty = false;
            if !self.channels[i].opened {
                continue;
            }
            if let Err(error) = self.channels[i].flush() {
                self.channels[i].heard_ns = now;
                self.broken(i, None, &error.to_string());
            }
        }
        self.dirty.clear();
    }

    /// What needs no haste: reconnections, retries, deadlines.
    fn tidy(&mut self, phase: &mut Phase, now: u64) -> Result<(), Failure> {
        self.tidy_at_ns = now + TIDY_NS;
        for i in 0..self.channels.len() {
            match self.channels[i].state {
                State::Closed { retry_at } if now >= retry_at => self.connect(i, now),
                State::Opening { give_up_at } if now >= give_up_at => {
                    self.broken(i, None, "the hello was not answered in time");
                }
                State::Settling { retry_at: Some(at) } if now >= at => {
                    if self.route.is_elsewhere(self.channels[i].addr) {
                        self.channels[i].close(now);
                        self.connect(i, now);
                    } else {
                        self.channels[i].state = State::Serving;
                        self.channels[i].resend(&self.material);
                        self.fill(i, phase, now);
                    }
                }
                State::Serving | State::Settling { retry_at: None } => {
                    let channel = &mut self.channels[i];
                    if channel.on_wire() == 0 {
                        channel.heard_ns = now;
                    } else if now > channel.heard_ns + SILENCE_NS_MAX {
                        self.broken(i, Some(phase), "requests were not answered in time");
                    }
                }
                State::Closed { retry_at: at }
                | State::Opening { give_up_at: at }
                | State::Settling { retry_at: Some(at) } => {
                    self.tidy_at_ns = self.tidy_at_ns.min(at);
                }
            }
        }
        if !self.reached
            && let Some(causes) = self.route.all_failed()
        {
            return Err(Failure::Unreachable(causes));
        }
        if self.busy == 0 && self.reached {
            self.progress_ns = now;
        }
        if now > self.progress_ns + self.patience_ns {
            let mut refusals = self.channels.iter().filter_map(|c| c.protocol.refusal());
            return Err(match refusals.next() {
                Some(error) => Failure::Refused(error.clone()),
                None => Failure::Stalled {
                    doing: phase.doing(),
                    cause: self.last_cause.clone(),
                },
            });
        }
        Ok(())
    }

    fn connect(&mut self, i: usize, now: u64) {
        let Some(addr) = self.route.target() else {
            self.channels[i].addr = None;
            self.broken(i, None, "the name does not resolve");
            return;
        };
        let registered = TcpStream::connect(addr).and_then(|mut stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, PollToken(i), both)?;
            Ok(stream)
        });
        match registered {
            Ok(stream) => {
                self.channels[i].heard_ns = now;
                self.channels[i].connecting(stream, addr, now + OPEN_NS_MAX);
            }
            Err(error) => {
                self.channels[i].addr = Some(addr);
                self.broken(i, None, &error.to_string());
            }
        }
    }
}
