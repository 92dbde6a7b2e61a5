//! The loop and its phases.
//!
//! A turn: wait; read all that is ready, peers and newcomers first, within a budget; step the node;
//! flush it; hand writes to the storage thread, messages to peers, replies to clients, one write
//! each.
//! There is no timer for batching: batches form while the previous sync is still running.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use raft::Instant;
use wire::types::NodeId;

use super::Limits;
use super::accept::{Accepting, Listener};
use super::connection::Phase;
use super::dial::Dialler;
use super::table::Table;
use crate::clock::Clock;
use crate::fatal::{ExitStatus, Fatal};
use crate::node::Node;
use crate::node::io::{ConnectionId, Effects, Input, LinkId, Now};
use crate::resolve::Resolver;
use crate::signal::StopSignals;
use crate::storage::Storage;
use crate::supervisor::{self, Supervisor};

/// Tokens below the first connection's.
const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);
const LISTENER: usize = 2;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// The buffer that all connections share for reading.
const READ_BUFFER_BYTES: usize = 256 << 10;
/// After a stop was asked for, the node's own grace included: then the loop ends in any case.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// The poll and its waker, made before the threads that need the waker.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    waker: Arc<Waker>,
}

impl Reactor {
    /// Asks the kernel for both.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Self, Fatal> {
        let poll = Poll::new().map_err(|error| setup_failed(&error))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(|error| setup_failed(&error))?;
        Ok(Self {
            poll,
            waker: Arc::new(waker),
        })
    }

    /// Something that wakes the loop, for another thread.
    #[must_use]
    pub fn notifier(&self) -> Box<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        // A full eventfd counter means that the loop is being woken already.
        Box::new(move || {
            let _ = waker.wake();
        })
    }
}

fn setup_failed(error: &std::io::Error) -> Fatal {
    Fatal::new(
        ExitStatus::Unavailable,
        format!("setting up the event loop failed: {error}"),
    )
    .remedy("raise the limits of open files, threads and memory: ulimit -n, -u, -v")
}

/// What the loop is made of.
pub struct Parts {
    /// Poll and waker.
    pub reactor: Reactor,
    /// The clock.
    pub clock: Clock,
    /// The node.
    pub node: Node,
    /// The storage thread, which wakes the loop.
    pub storage: Storage,
    /// Both ports, bound.
    pub listeners: Vec<Listener>,
    /// SIGTERM and SIGINT.
    pub signals: StopSignals,
    /// The other members with their peer addresses.
    pub peers: Vec<(NodeId, String)>,
    /// Bounds.
    pub limits: Limits,
    /// Seeds the dialler's jitter.
    pub seed: u64,
    /// The service manager.
    pub supervisor: Supervisor,
}

/// What is left of a driver that stopped.
pub struct Ending {
    storage: Storage,
    signals: StopSignals,
    clock: Clock,
    /// The disk has until this time.
    until: Instant,
}

impl Ending {
    /// Has the disk do what was handed over. False if that took too long, or another signal came
    /// meanwhile: nothing that was acknowledged is among what is left undone.
    #[must_use]
    pub fn finish(self) -> bool {
        let Self {
            storage,
            mut signals,
            clock,
            until,
        } = self;
        storage.finish(|| signals.take() > 0 || clock.monotonic() >= until)
    }
}

/// What happened to a connection while the node could not be stepped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    /// A client is gone.
    ClientClosed(ConnectionId),
    /// Replies pile up for a client, or have gone out.
    ClientClogged(ConnectionId, bool),
    /// A link is gone; by the peer's doing?
    LinkClosed(LinkId, bool),
}

/// The loop.
///
/// Invariants:
/// - the node is stepped in the first half of a turn only; what happens to connections in the
///   second half is told to it in the next turn, which then begins at once;
/// - a connection with something to read is in its queue, is paused, or waits for an event;
/// - every phase is bounded, and what did not fit makes the next turn begin at once.
pub struct Driver {
    pub(super) poll: Poll,
    events: Events,
    pub(super) clock: Clock,
    pub(super) now: Now,
    pub(super) limits: Limits,

    pub(super) node: Node,
    pub(super) effects: Effects,
    pub(super) storage: Storage,

    pub(super) table: Table,
    pub(super) accepting: Vec<Accepting>,
    pub(super) dialler: Dialler,
    pub(super) resolver: Resolver,
    signals: StopSignals,
    supervisor: Supervisor,

    /// Peers and newcomers: each of them is read in every turn.
    pub(super) ready_first: VecDeque<u64>,
    pub(super) ready_clients: VecDeque<u64>,
    /// Connections to be written, of each port.
    pub(super) dirty: [Vec<u64>; 2],
    pub(super) notices: Vec<Notice>,
    pub(super) read_buffer: Vec<u8>,
    /// The turn's disk work was handed over, and nobody does it yet.
    pub(super) storage_waits: bool,
    /// When running out of descriptors was last logged.
    pub(super) exhausted_at: Option<Instant>,

    /// When to end at the latest, once a stop was asked for.
    stop_at: Option<Instant>,
    /// The node has nothing left to do.
    pub(super) stopped: bool,
}

impl Driver {
    /// Begins to listen. When this returns, the node serves as soon as [`Driver::run`] runs.
    ///
    /// # Errors
    /// A port was taken meanwhile, or descriptors or threads ran out.
    pub fn new(parts: Parts) -> Result<Self, Fatal> {
        let Parts {
            reactor,
            clock,
            node,
            storage,
            listeners,
            mut signals,
            peers,
            limits,
            seed,
            supervisor,
        } = parts;
        let registry = reactor.poll.registry();
        registry
            .register(signals.source(), SIGNAL, Interest::READABLE)
            .map_err(|error| setup_failed(&error))?;
        let mut accepting = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let mut listening = listener.listen()?;
            registry
                .register(
                    &mut listening.socket,
                    Token(LISTENER + index),
                    Interest::READABLE,
                )
                .map_err(|error| setup_failed(&error))?;
            accepting.push(listening);
        }
        let resolver = Resolver::start(reactor.notifier()).map_err(|error| setup_failed(&error))?;
        Ok(Self {
            poll: reactor.poll,
            events: Events::with_capacity(EVENTS_MAX),
            now: clock.now(),
            clock,
            limits,
            node,
            effects: Effects::default(),
            storage,
            table: Table::new(),
            accepting,
            dialler: Dialler::new(peers, seed),
            resolver,
            signals,
            supervisor,
            ready_first: VecDeque::new(),
            ready_clients: VecDeque::new(),
            dirty: [Vec::new(), Vec::new()],
            notices: Vec::new(),
            read_buffer: Vec::with_capacity(READ_BUFFER_BYTES),
            storage_waits: false,
            exhausted_at: None,
            stop_at: None,
            stopped: false,
        })
    }

    /// Runs until a stop that was asked for is done, but for the disk's part of it.
    ///
    /// # Errors
    /// The poll fails, or a majority refuses this node for what it is.
    pub fn run(mut self) -> Result<Ending, Fatal> {
        self.supervisor.ready();
        while !self.stopped {
            self.wait()?;
            self.turn();
            if let Some(fatal) = self.dialler.rejected() {
                return Err(fatal);
            }
        }
        Ok(Ending {
            storage: self.storage,
            signals: self.signals,
            clock: self.clock,
            until: self.stop_at.unwrap_or(self.now.monotonic + STOP_TIMEOUT),
        })
    }

    fn wait(&mut self) -> Result<(), Fatal> {
        let timeout = match self.storage.want_all(self.node.awaits_disk()) {
            true => Some(Duration::ZERO),
            false => self.timeout(),
        };
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(setup_failed(&error));
        }
        self.now = self.clock.now();
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKE => {}
                SIGNAL => (0..self.signals.take()).for_each(|_| self.asked_to_stop()),
                Token(small) if small < LISTENER + 2 => {
                    let listening = self.accepting.get_mut(small - LISTENER);
                    if let Some(listening) = listening {
                        listening.ready = true;
                    }
                }
                Token(id) => self.socket_event(id as u64, event),
            }
        }
        self.events = events;
        Ok(())
    }

    /// How long there is nothing to do.
    fn timeout(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let busy = !self.ready_first.is_empty()
            || !self.ready_clients.is_empty()
            || !self.notices.is_empty()
            || self.dirty.iter().any(|dirty| !dirty.is_empty())
            || self
                .accepting
                .iter()
                .any(|listening| listening.has_work(now));
        if busy {
            return Some(Duration::ZERO);
        }
        let paused = self
            .accepting
            .iter()
            .filter_map(|listening| listening.paused_until);
        [
            self.node.deadline(),
            self.table.deadline(),
            self.dialler.deadline(),
            self.supervisor.deadline(),
            self.stop_at,
        ]
        .into_iter()
        .flatten()
        .chain(paused)
        .min()
        .map(|deadline| deadline.since(now))
    }

    fn socket_event(&mut self, id: u64, event: &mio::event::Event) {
        let Some(connection) = self.table.get(id) else {
            return;
        };
        let ended = event.is_read_closed() || event.is_error();
        let connecting = matches!(connection.phase, Phase::Connecting(_));
        if event.is_readable() || ended {
            connection.readable = true;
            connection.ended |= ended;
        }
        if event.is_write_closed() && !connecting && !connection.may_read() {
            // Nobody would read the end of a connection that is held back.
            return self.close(id, true, "closed by the other end");
        }
        let waiting = event.is_writable() && !connection.output.is_empty();
        connection.writable |= event.is_writable() && !connecting;
        if connecting || connection.readable {
            self.enqueue(id);
        }
        if waiting {
            self.mark_dirty(id);
        }
    }

    fn turn(&mut self) {
        let now = self.now;
        self.tell_notices();
        while let Some(event) = self.storage.next_event() {
            self.node
                .step(now, Input::Storage(event), &mut self.effects);
        }
        self.read_first();
        self.read_clients();
        self.accept();
        self.dial();
        self.close_overdue();
        if self
            .node
            .deadline()
            .is_some_and(|deadline| deadline <= now.monotonic)
        {
            self.node.step(now, Input::Tick, &mut self.effects);
        }
        self.tell_notices();
        self.node.flush(now, &mut self.effects);
        if self.stop_at.is_some() && !self.node.is_resigning() {
            // Nobody new; those who are here get their answers. As long as leadership is being
            // handed over, whoever comes is told soon to whom.
            self.accepting.clear();
        }
        self.carry_out();
        self.work_for_storage();
        self.stopped |= self.stop_at.is_some_and(|at| at <= now.monotonic);
        let node = &self.node;
        let status = || supervisor::describe(&node.status());
        self.supervisor.report(now.monotonic, status);
    }

    /// Tells the node what happened to connections.
    fn tell_notices(&mut self) {
        let mut notices = mem::take(&mut self.notices);
        for notice in notices.drain(..) {
            let input = match notice {
                Notice::ClientClosed(connection) => Input::ClientClosed(connection),
                Notice::ClientClogged(connection, clogged) => Input::ClientClogged {
                    connection,
                    clogged,
                },
                Notice::LinkClosed(link, by_peer) => Input::LinkClosed { link, by_peer },
            };
            self.node.step(self.now, input, &mut self.effects);
        }
        self.notices = notices;
        self.apply_pauses();
    }

    /// The first signal ends the daemon in order, a second one at once.
    fn asked_to_stop(&mut self) {
        let now = self.now.monotonic;
        if self.stop_at.is_some() {
            self.stop_at = Some(now);
            return;
        }
        log::info!("stopping");
        self.supervisor.stopping();
        self.stop_at = Some(now + STOP_TIMEOUT);
        self.node.step(self.now, Input::Stop, &mut self.effects);
    }
}
