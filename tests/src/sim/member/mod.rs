//! A member: a machine with a disk and clocks, and, most of the time, a process on it.
//!
//! The process is the daemon's in all but its surroundings. It starts through
//! [`raftd::storage::open_disk`], drives the shipped [`Node`], [`storage::Worker`], [`SpareMaker`] and
//! [`Dialler`], and runs turns in the order of `raftd/src/net/event_loop.rs`: reports of the disk,
//! peers, clients, dialling, deadlines, flush; then, from the effects, disk work first, messages,
//! replies, closes.
//!
//! # Where a crash can fall
//! - At any operation on the disk: [`Member::crash_at_operation`] plans it, and the operation that
//!   it hits fails and takes the process, or the machine, with it. That may be a store or the sync
//!   of a batch, any write, rename or sync of a spare or of IDENTITY, and any step of a recovery.
//! - Between two effects of a turn: [`Member::crash_after_effects`]. Some messages are sent, others
//!   not; the disk work is handed over or not.
//! - Between the end of a sync and the report of it: [`Member::crash_at_report`].
//! - At any other time: [`super::world::World::crash`].
//!
//! | file | what is in it |
//! |---|---|
//! | `process.rs` | a life: the process, and its turns |
//! | `table.rs` | its connections, their phases and deadlines |
//! | `intake.rs` | bytes and frames, from connections to the node and back |
//! | `disk.rs` | rounds of disk work, spares and snapshots |
//! | `clock.rs` | the machine's clocks |
//! | `vote.rs` | votes that it should give |

mod clock;
mod disk;
mod intake;
mod process;
mod table;
mod vote;

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use raftd::disk::Latched;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::net::Port;
use raftd::net::dial::Dialler;
use raftd::node::io::{Effects, LinkId};
use raftd::node::{self, Node};
use raftd::storage::{self, Keeper, Scrubber, SpareMaker, open_disk};
use raftd::store::{Builder, Store};
use raftd::wal::identity::Identity;
use raftd::wal::{Report, entry_bytes_max};
use wire::client::{Admitted, Item};
use wire::peer::DiskState;
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId};

pub use self::clock::{LocalClock, TRUE_RATE};
pub use self::process::Process;
use self::table::Table;
pub use self::table::Timeouts;
use super::audit::Held;
use super::event::Events;
use super::net::{End, Host, Net};
use super::random::Random;
use super::trace::Trace;
use super::world::Happening;

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(0x5157);
/// Its first history.
pub const EPOCH: Epoch = Epoch(0x5158);

/// How long a stop that was asked for may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// What all members of a run are told: their `raftd.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many members there are to begin with; their ids count from 1.
    pub members: usize,
    /// How many machines more there are, on which others may join later.
    pub spares: usize,
    /// Lower end of the election timeout; the upper one is twice that.
    pub election_timeout: Duration,
    /// The leader's heartbeat.
    pub heartbeat: Duration,
    /// Bounds of the node; that of an entry follows from the size of a segment.
    pub limits: node::Limits,
    /// When snapshots are taken.
    pub snapshots: node::Policy,
    /// How much of the log each member keeps before a snapshot; as the policy says for the others.
    pub keep_bytes: Vec<u64>,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Entries given back at start, in bytes.
    pub tail_bytes: usize,
    /// Below this the disk is soft.
    pub soft_free_bytes: u64,
    /// Whether what is written no more is read again and again.
    pub scrubs: bool,
    /// How long handshakes and frames may take.
    pub timeouts: Timeouts,
    /// All nodes draw from this seed in all their lives, instead of each from its own.
    pub same_seed: Option<u64>,
}

/// How fast a machine is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A turn takes this long: nothing else happens in the process meanwhile.
    pub turn: Duration,
    /// A round of disk work usually takes this long.
    pub disk: Duration,
    /// It never takes longer than this, unless the disk hangs.
    pub disk_max: Duration,
}

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; what it wrote stays in the page cache.
    Kill,
    /// The machine dies; what was not synced is old, new or garbage.
    PowerLoss,
}

/// How a process came to its end.
#[derive(Clone, Debug)]
pub enum Death {
    /// It was ended.
    Crashed(Crash),
    /// It ended itself, for a reason.
    Exited(Fatal),
    /// It was asked to stop, and has.
    Stopped,
    /// It learnt that it is no member any more.
    Removed,
}

/// What a process acts upon.
pub struct Surroundings<'a> {
    /// True time.
    pub now: Instant,
    /// The network.
    pub net: &'a mut Net,
    /// What is planned.
    pub events: &'a mut Events<Happening>,
    /// What happened.
    pub trace: &'a mut Trace,
}

impl Surroundings<'_> {
    fn send(&mut self, connection: u64, end: End, bytes: Bytes) {
        self.net.send(self.now, connection, end, bytes, self.events);
    }

    fn close(&mut self, connection: u64, end: End) {
        self.net.close(self.now, connection, end, self.events);
    }
}

/// A machine and the process on it.
///
/// Invariants:
/// - `next_turn` is never later than the process's own deadline or something that came for it,
///   unless it is busy or paused until then;
/// - one round of disk work is under way at most, and what is pushed after its begin is not part
///   of it.
pub struct Member {
    /// Its id: its position plus one, or what the cluster gave it; 0 before it joins.
    pub id: NodeId,
    host: Host,
    /// What a cluster said that admitted it, and as whose disk.
    admitted: Option<(Admitted, Incarnation)>,
    disk: SimDisk,
    clock: LocalClock,
    /// How fast it is.
    pub pace: Pace,
    random: Random,
    process: Option<Process>,
    lives: u64,
    /// The process that comes up next ends at this operation of its recovery.
    crash_in_recovery: Option<(u64, Crash)>,
    /// The next process goes on from a wrong state.
    spoils: bool,
    /// Rounds of disk work end no earlier.
    disk_hangs_until: Instant,
    /// Nothing happens in the process before this.
    busy_until: Instant,
    /// When the process has something to do; never if there is none.
    next_turn: Option<Instant>,
    /// The crash that the disk was told to have, for whoever finds it down.
    planned_crash: Crash,
}

impl Member {
    /// A machine with an empty disk, down: of a member of the beginning, if it has an id.
    #[must_use]
    pub fn new(
        host: Host,
        id: Option<NodeId>,
        disk: SimDisk,
        pace: Pace,
        clock_rate: u32,
        random: Random,
    ) -> Self {
        Self {
            id: id.unwrap_or_default(),
            host,
            admitted: None,
            disk,
            clock: LocalClock::new(Instant::default(), clock_rate),
            pace,
            random,
            process: None,
            lives: 0,
            crash_in_recovery: None,
            spoils: false,
            disk_hangs_until: Instant::default(),
            busy_until: Instant::default(),
            next_turn: None,
            planned_crash: Crash::Kill,
        }
    }

    // --- looking ---

    /// The node, if its process lives.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.process.as_ref().map(|process| &process.node)
    }

    /// What the current turn brought so far.
    #[must_use]
    pub fn effects(&self) -> Option<&Effects> {
        self.process.as_ref().map(|process| &process.effects)
    }

    /// What its log gives back at `index`, by shipped code; `None` if it holds nothing there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_back(&self, index: Index) -> Result<Option<Held>, String> {
        let Some(process) = &self.process else {
            return Ok(None);
        };
        let entries = process.worker.wal().load(index, index, 1);
        let entries = entries.map_err(|error| error.to_string())?;
        Ok(entries.first().map(|entry| Held {
            term: entry.term(),
            crc: entry.crc(),
        }))
    }

    /// Requests that wait for its keeper of snapshots.
    #[must_use]
    pub fn snapshot_requests(&self) -> usize {
        self.process
            .as_ref()
            .map_or(0, |process| process.keeper.waiting())
    }

    /// Whether its process lives.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Which life of how many this is.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.lives
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The first vote of its process that it should have given.
    #[must_use]
    pub fn refused_vote(&self) -> Option<&str> {
        self.process.as_ref()?.refused_vote.as_deref()
    }

    /// When the process has something to do.
    #[must_use]
    pub fn next_turn(&self) -> Option<Instant> {
        self.next_turn
    }

    /// What its monotonic clock shows.
    #[must_use]
    pub fn monotonic(&self, now: Instant) -> Instant {
        self.clock.show(now).monotonic
    }

    /// The open links that its process dialled: its requests go out on them.
    pub fn dialled_links(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        let process = self.process.iter();
        process.flat_map(|process| process.table.dialled_links())
    }

    /// Who is at the other end of an open link.
    #[must_use]
    pub fn peer_of(&self, link: LinkId) -> Option<NodeId> {
        self.process.as_ref()?.table.peer_of(link)
    }

    /// Where it is.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host
    }

    /// Whether it is, or was, a member of the cluster.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.id != NodeId(0)
    }

    // --- life and death ---

    /// A cluster says who it is from now on.
    pub fn admit(&mut self, admitted: Admitted, incarnation: Incarnation) {
        assert!(!self.has_id(), "an id for each disk");
        self.id = admitted.node;
        self.admitted = Some((admitted, incarnation));
    }

    /// Who its data directory becomes if it is empty.
    fn identity(&mut self, settings: &Settings) -> Identity {
        let drawn = Incarnation(self.random.bits() | 1);
        match &self.admitted {
            Some((admitted, incarnation)) => Identity {
                cluster: admitted.cluster,
                node: admitted.node,
                incarnation: *incarnation,
                epoch: admitted.epoch,
                formed: admitted.formed.clone(),
                members: admitted.members.clone(),
                next_epoch: None,
            },
            None => Identity {
                cluster: CLUSTER,
                node: self.id,
                incarnation: drawn,
                epoch: EPOCH,
                formed: Vec::new(),
                members: (0..settings.members)
                    .map(|host| (NodeId(host as u64 + 1), peer_addr(host, 0).to_string()))
                    .collect(),
                next_epoch: None,
            },
        }
    }

    /// Opens the data directory and begins a life. Says what recovery found.
    ///
    /// # Errors
    /// The process did not get that far.
    pub fn start(
        &mut self,
        settings: &Settings,
        around: &mut Surroundings<'_>,
    ) -> Result<Report, Death> {
        assert!(self.process.is_none(), "one process at a time");
        self.lives += 1;
        self.disk = self.disk.restart();
        if let Some((after, crash)) = self.crash_in_recovery.take() {
            self.crash_at_operation(after, crash);
        }
        self.clock.start_over(around.now);
        let options = storage::Options {
            data_dir: PathBuf::new(),
            segment_bytes: settings.segment_bytes,
            soft_free_bytes: settings.soft_free_bytes,
            tail_bytes: settings.tail_bytes,
            sessions_max: settings.limits.sessions_max,
            snapshot_rate_bytes: 0,
            scrubbing: storage::Scrubbing::default(),
            create: Some(self.identity(settings)),
            seed: self.random.bits(),
        };
        let mut opened = open_disk(Latched::new(self.disk.clone()), &options)
            .map_err(|fatal| self.death_of(fatal))?;
        // Of no state no part can be wrong.
        if mem::take(&mut self.spoils) && opened.state.store.applied().index > Index(0) {
            spoil(&mut opened.state.store, options.sessions_max);
        }
        let report = opened.log.recovered.report;
        let say = || format!("{} opens its disk: {report}", self.id);
        around.trace.line(around.now, say);
        let identity = opened.log.identity.clone();
        let mut keeper = Keeper::new(self.disk.clone(), &identity, options.sessions_max);
        keeper.set_newest(opened.state.store.data_bytes(), opened.state.snapshot.bytes);
        let (restored, worker) = opened.start();
        let next_segment = worker.wal().next_segment();
        let maker = SpareMaker::new(self.disk.clone(), identity.owner(), next_segment, &options);
        let now = self.clock.show(around.now);
        let config = self.config(settings, &identity, worker.wal().bytes());
        let dialler_seed = self.random.bits();
        let node = Node::new(config, restored, now);
        let dialler = Dialler::new(node.peers(), dialler_seed);
        self.process = Some(Process {
            life: self.lives,
            host: self.host,
            node,
            effects: Effects::default(),
            now,
            worker,
            maker,
            scrubber: Scrubber::new(self.disk.clone()),
            scrubs: settings.scrubs,
            keeper,
            keep_at: None,
            waiting: VecDeque::new(),
            at_disk: false,
            round: 0,
            // What is damaged is said in the first round.
            news: true,
            room: DiskState::Ok,
            reports: VecDeque::new(),
            make_at: around.now,
            table: Table::new(settings.timeouts),
            dialler,
            stop_wanted: false,
            stop_at: None,
            stopped: false,
            fuse: None,
            crash_at_report: None,
            refused_vote: None,
        });
        self.plan_spare(around);
        self.go_to_disk(around);
        self.busy_until = around.now;
        self.next_turn = Some(around.now);
        Ok(report)
    }

    fn config(&mut self, settings: &Settings, identity: &Identity, wal_bytes: u64) -> node::Config {
        let keep_bytes = settings.keep_bytes.get(self.host);
        node::Config {
            id: self.id,
            name: name_of(self.host),
            client_addr: client_addr(self.host).to_string(),
            members: identity.members.clone(),
            cluster: identity.cluster,
            epoch: identity.epoch,
            incarnation: identity.incarnation,
            life: self.random.bits(),
            formed: identity.formed.clone(),
            election_timeout_min: settings.election_timeout,
            election_timeout_max: settings.election_timeout * 2,
            heartbeat: settings.heartbeat,
            limits: node::Limits {
                entry_bytes_max: entry_bytes_max(settings.segment_bytes),
                ..settings.limits
            },
            snapshots: node::Policy {
                keep_bytes: *keep_bytes.unwrap_or(&settings.snapshots.keep_bytes),
                ..settings.snapshots
            },
            wal_bytes,
            seed: settings.same_seed.unwrap_or_else(|| self.random.bits()),
            version: "sim".to_owned(),
        }
    }

    /// What it means that disk work failed: the disk may have taken the machine down.
    fn death_of(&self, fatal: Fatal) -> Death {
        match self.disk.is_down() {
            true => Death::Crashed(self.planned_crash),
            false => Death::Exited(fatal),
        }
    }

    /// Ends the process; the network and the disk see how.
    pub fn die(&mut self, death: &Death, around: &mut Surroundings<'_>) {
        let process = self.process.take();
        self.next_turn = None;
        match death {
            Death::Crashed(Crash::PowerLoss) => {
                if !self.disk.is_down() {
                    self.disk.power_loss();
                }
                around.net.set_up(self.host, false);
                around.net.vanish(around.now, self.host, around.events);
            }
            Death::Stopped | Death::Removed => {
                if let Some(process) = process {
                    process.maker.finish();
                    process.keeper.finish();
                }
                around.net.end_process(around.now, self.host, around.events);
            }
            Death::Crashed(Crash::Kill) | Death::Exited(_) => {
                around.net.end_process(around.now, self.host, around.events);
            }
        }
    }

    /// The disk goes down with the process, or the machine, at its `after`-th change from now.
    pub fn crash_at_operation(&mut self, after: u64, crash: Crash) {
        self.planned_crash = crash;
        let fault = match crash {
            Crash::Kill => Fault::Kill,
            Crash::PowerLoss => Fault::PowerLoss,
        };
        self.disk
            .fail_at(self.disk.operations() + after.max(1), fault);
    }

    /// The next operation of this kind on its disk fails.
    pub fn fail_next(&mut self, operation: Operation, fault: Fault) {
        match fault {
            Fault::Kill => self.planned_crash = Crash::Kill,
            Fault::PowerLoss => self.planned_crash = Crash::PowerLoss,
            Fault::Io | Fault::NoSpace => {}
        }
        self.disk.fail_next(operation, fault);
    }

    /// The next process ends at this change of its disk, most likely in recovery.
    pub fn crash_in_recovery(&mut self, after: u64, crash: Crash) {
        self.crash_in_recovery = Some((after, crash));
    }

    /// The next process goes on from a state that is not what its disk holds.
    pub fn spoil(&mut self) {
        self.spoils = true;
    }

    /// The process, or the machine, ends after so many more effects.
    pub fn crash_after_effects(&mut self, effects: u32, crash: Crash) {
        if let Some(process) = &mut self.process {
            process.fuse = Some((effects, crash));
        }
    }

    /// The process, or the machine, ends when its next sync is done, before it hears of it.
    pub fn crash_at_report(&mut self, crash: Crash) {
        if let Some(process) = &mut self.process {
            process.crash_at_report = Some(crash);
        }
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn stop(&mut self, now: Instant) {
        if let Some(process) = &mut self.process {
            process.stop_wanted = true;
            self.wake(now);
        }
    }

    /// Nothing happens in the process until then, as after SIGSTOP; what comes waits.
    pub fn pause(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(until);
        self.next_turn = self.next_turn.map(|at| at.max(self.busy_until));
    }

    /// Ends a pause, as SIGCONT does.
    pub fn resume(&mut self, now: Instant) {
        self.busy_until = self.busy_until.min(now);
        self.wake(now);
    }

    /// Changes the machine's clocks.
    pub fn set_clock(&mut self, change: impl FnOnce(&mut LocalClock)) {
        change(&mut self.clock);
        self.plan_turn();
    }

    /// No round of disk work ends before then.
    pub fn hang_disk(&mut self, until: Instant) {
        self.disk_hangs_until = self.disk_hangs_until.max(until);
    }

    /// The machine is as it should be from now on: no pause, no fault of its disk or crash that
    /// is planned, a true clock, and this pace.
    pub fn cure(&mut self, pace: Pace, around: &mut Surroundings<'_>) {
        self.pace = pace;
        self.disk_hangs_until = around.now;
        self.crash_in_recovery = None;
        self.disk.forget_faults();
        self.disk.set_lying(false);
        self.set_clock(|clock| clock.set_rate(around.now, TRUE_RATE));
        if let Some(process) = &mut self.process {
            process.fuse = None;
            process.crash_at_report = None;
            process.keep_at = None;
            if process.at_disk {
                self.plan_disk_done(around);
            }
        }
        self.plan_keeping(around);
        self.resume(around.now);
    }

    /// Gives the machine another disk, empty, as after a lost data directory.
    pub fn replace_disk(&mut self, disk: SimDisk) {
        assert!(self.process.is_none(), "the process is down");
        self.disk = disk;
    }

    // --- what comes in ---

    /// Somebody dialled. Says what the process calls the connection, or nothing if none listens.
    pub fn called(&mut self, connection: u64, port: Port, now: Instant) -> Option<u64> {
        let local = self.clock.show(now).monotonic;
        let process = self.process.as_mut()?;
        let listens = !process.stop_wanted;
        listens.then(|| process.table.accept(connection, port, local))
    }

    /// A call was taken.
    pub fn answered(&mut self, name: u64, now: Instant) {
        self.tell(now, |process| process.table.answered(name));
    }

    /// Bytes came.
    pub fn received(&mut self, name: u64, bytes: Bytes, now: Instant) {
        self.tell(now, |process| process.table.received(name, bytes));
    }

    /// A connection is over.
    pub fn ended(&mut self, name: u64, by_peer: bool, now: Instant) {
        self.tell(now, |process| process.table.ended(name, by_peer));
    }

    /// So much is on its way to a client.
    pub fn judge_flow(&mut self, name: u64, unread_bytes: usize, now: Instant) {
        self.tell(now, |process| process.table.judge_flow(name, unread_bytes));
    }

    fn tell(&mut self, now: Instant, tell: impl FnOnce(&mut Process)) {
        if let Some(process) = &mut self.process {
            tell(process);
            if process.table.is_ready() {
                self.wake(now);
            }
        }
    }

    /// Has a turn come as soon as the process is free.
    pub fn wake(&mut self, now: Instant) {
        if self.process.is_some() {
            let at = now.max(self.busy_until);
            self.next_turn = Some(self.next_turn.map_or(at, |next| next.min(at)));
        }
    }

    // --- turns ---

    /// The first half of a turn: everything that came goes into the node.
    pub fn think(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            return;
        };
        process.now = self.clock.show(around.now);
        process.think(around);
    }

    /// The second half: the effects are carried out, and the next turn is planned.
    ///
    /// # Errors
    /// The process came to its end on the way.
    pub fn carry_out(&mut self, around: &mut Surroundings<'_>) -> Result<(), Death> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.carry_out(around)?;
        if let Some(fatal) = process.dialler.rejected() {
            return Err(Death::Exited(fatal));
        }
        if process.stopped {
            let end = match process.stop_at {
                Some(_) => Death::Stopped,
                None => Death::Removed,
            };
            return Err(self.finish(end));
        }
        self.busy_until = self.busy_until.max(around.now + self.pace.turn);
        self.go_to_disk(around);
        self.plan_keeping(around);
        self.plan_turn();
        Ok(())
    }

    /// Plans the next turn by what the process waits for.
    fn plan_turn(&mut self) {
        let Some(process) = &mut self.process else {
            self.next_turn = None;
            return;
        };
        let ready = process.table.is_ready() || !process.reports.is_empty();
        let at = match ready {
            true => Some(self.busy_until),
            false => process.deadline().and_then(|at| self.clock.when(at)),
        };
        self.next_turn = at.map(|at| at.max(self.busy_until));
    }
}

/// Adds a key that nobody wrote, unless an earlier life has kept it in a snapshot.
fn spoil(store: &mut Store, sessions_max: usize) {
    const KEY: &[u8] = b"\0";
    let mut head = store.view().head().clone();
    let first = store.map().iter().next();
    if first.is_some_and(|item| item.key == KEY) {
        return;
    }
    head.keys += 1;
    let mut builder = Builder::new(head);
    let wrong = Item {
        key: KEY,
        value: b"wrong",
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let items = iter::once(wrong).chain(store.map().iter());
    for item in items {
        builder.item(item).expect("keys ascend from the first");
    }
    for session in store.view().sessions() {
        builder.session(&session).expect("it was one before");
    }
    *store = builder.finish(sessions_max).expect("all of it is there");
}

/// What a member is called.
#[must_use]
pub fn name_of(host: Host) -> String {
    format!("n{}", host + 1)
}

/// Where clients find a member.
#[must_use]
pub fn client_addr(host: Host) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 1, host as u8 + 1), 7).into()
}

/// Where its peers find a member: a machine has many addresses.
#[must_use]
pub fn peer_addr(host: Host, nth: u8) -> SocketAddr {
    (Ipv4Addr::new(10, nth, 0, host as u8 + 1), 7).into()
}

/// Whose address it is.
#[must_use]
pub fn host_at(addr: SocketAddr) -> Option<Host> {
    match addr.ip() {
        IpAddr::V4(ip) => Host::from(ip.octets()[3]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}

/// Whether the service manager leaves a process down that ended with this status.
#[must_use]
pub fn stays_down(status: ExitStatus) -> bool {
    use ExitStatus::{Config, Damaged, Permission, Usage};
    matches!(status, Usage | Damaged | Permission | Config)
}
