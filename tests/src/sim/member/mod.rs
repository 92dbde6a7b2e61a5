//! A member: a machine with a disk and clocks, and, most of the time, a process on it.
//!
//! The process is the daemon's in all but its surroundings. It starts through
//! [`raftd::storage::open_disk`], drives the shipped [`Node`], [`Worker`], [`SpareMaker`] and
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
//! - At any other time: [`Member::kill`] and [`Member::cut_power`].

mod clock;
mod intake;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use raftd::disk::Latched;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::net::Port;
use raftd::net::dial::Dialler;
use raftd::node::io::{Effects, Input, LinkId, Now, StorageEvent, StorageRequest};
use raftd::node::{self, Node};
use raftd::storage::{self, SpareMaker, Step, Worker, open_disk};
use raftd::wal::identity::Identity;
use raftd::wal::{Report, entry_bytes_max};
use wire::peer::DiskState;
use wire::types::{ClusterId, Epoch, Incarnation, NodeId};

pub use self::clock::{LocalClock, TRUE_RATE};
use self::intake::Table;
pub use self::intake::Timeouts;
use super::event::Events;
use super::net::{End, Host, Net};
use super::random::Random;
use super::trace::Trace;
use super::world::Happening;

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(0x5157);
/// Its first history.
pub const EPOCH: Epoch = Epoch(0x5158);

/// Between two pieces of a spare, as the daemon's thread has it.
const PACE: Duration = Duration::from_micros(600);
/// Between two looks at the room on the disk.
const LOOK: Duration = Duration::from_secs(1);
/// How long a stop that was asked for may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// What all members of a run are told: their `raftd.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many members there are; node ids count from 1.
    pub members: usize,
    /// Lower end of the election timeout; the upper one is twice that.
    pub election_timeout: Duration,
    /// The leader's heartbeat.
    pub heartbeat: Duration,
    /// Bounds of the node; that of an entry follows from the size of a segment.
    pub limits: node::Limits,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Entries given back at start, in bytes.
    pub tail_bytes: usize,
    /// Below this the disk is soft.
    pub soft_free_bytes: u64,
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
    /// Its id: its position plus one.
    pub id: NodeId,
    host: Host,
    disk: SimDisk,
    clock: LocalClock,
    /// How fast it is.
    pub pace: Pace,
    random: Random,
    process: Option<Process>,
    lives: u64,
    /// The process that comes up next ends at this operation of its recovery.
    crash_in_recovery: Option<(u64, Crash)>,
    /// Rounds of disk work end no earlier.
    disk_hangs_until: Instant,
    /// Nothing happens in the process before this.
    busy_until: Instant,
    /// When the process has something to do; never if there is none.
    next_turn: Option<Instant>,
    /// The crash that the disk was told to have, for whoever finds it down.
    planned_crash: Crash,
}

/// A life.
pub struct Process {
    life: u64,
    host: Host,
    node: Node,
    effects: Effects,
    now: Now,

    worker: Worker<Latched<SimDisk>>,
    maker: SpareMaker<SimDisk>,
    /// For the rounds to come.
    waiting: VecDeque<StorageRequest>,
    /// A round is under way.
    at_disk: bool,
    /// Its number.
    round: u64,
    /// There is work, room or a spare that no round has taken up yet.
    news: bool,
    room: DiskState,
    reports: VecDeque<StorageEvent>,
    /// When the maker of spares goes on.
    make_at: Instant,

    table: Table,
    dialler: Dialler,

    stop_wanted: bool,
    stop_at: Option<Instant>,
    stopped: bool,
    /// After so many effects, the end.
    fuse: Option<(u32, Crash)>,
    crash_at_report: Option<Crash>,
}

impl Member {
    /// A machine with an empty disk, down.
    #[must_use]
    pub fn new(host: Host, disk: SimDisk, pace: Pace, clock_rate: u32, random: Random) -> Self {
        Self {
            id: NodeId(host as u64 + 1),
            host,
            disk,
            clock: LocalClock::new(Instant::default(), clock_rate),
            pace,
            random,
            process: None,
            lives: 0,
            crash_in_recovery: None,
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

    /// Whether its process was asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.stop_wanted)
    }

    // --- life and death ---

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
        let members: Vec<_> = (1..=settings.members as u64)
            .map(|id| (NodeId(id), format!("10.0.0.{id}:7")))
            .collect();
        let options = storage::Options {
            data_dir: PathBuf::new(),
            segment_bytes: settings.segment_bytes,
            soft_free_bytes: settings.soft_free_bytes,
            tail_bytes: settings.tail_bytes,
            create: Some(Identity {
                cluster: CLUSTER,
                node: self.id,
                incarnation: Incarnation(self.random.bits() | 1),
                epoch: EPOCH,
                formed: Vec::new(),
                members,
            }),
            seed: self.random.bits(),
        };
        let opened = open_disk(Latched::new(self.disk.clone()), &options)
            .map_err(|fatal| self.death_of(fatal))?;
        let report = opened.recovered.report;
        let say = || format!("{} opens its disk: {report}", self.id);
        around.trace.line(around.now, say);
        let identity = opened.identity.clone();
        let (restored, worker) = opened.start();
        let next_segment = worker.wal().next_segment();
        let maker = SpareMaker::new(self.disk.clone(), identity.owner(), next_segment, &options);
        let now = self.clock.show(around.now);
        let config = self.config(settings, &identity, worker.wal().bytes());
        let peers = identity.members.iter().filter(|(id, _)| *id != self.id);
        let dialler = Dialler::new(peers.cloned(), self.random.bits());
        self.process = Some(Process {
            life: self.lives,
            host: self.host,
            node: Node::new(config, restored, now),
            effects: Effects::default(),
            now,
            worker,
            maker,
            waiting: VecDeque::new(),
            at_disk: false,
            round: 0,
            news: false,
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
        });
        self.plan_spare(around);
        self.busy_until = around.now;
        self.next_turn = Some(around.now);
        Ok(report)
    }

    fn config(&mut self, settings: &Settings, identity: &Identity, wal_bytes: u64) -> node::Config {
        node::Config {
            id: self.id,
            name: format!("n{}", self.id),
            client_addr: client_addr(self.id).to_string(),
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
            Death::Stopped => {
                if let Some(process) = process {
                    process.maker.finish();
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
            if process.at_disk {
                self.plan_disk_done(around);
            }
        }
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
        let members = around.net.hosts() - 1;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.carry_out(around)?;
        if let Some(fatal) = process.dialler.rejected(members) {
            return Err(Death::Exited(fatal));
        }
        if process.stopped {
            return Err(self.finish());
        }
        self.busy_until = self.busy_until.max(around.now + self.pace.turn);
        self.go_to_disk(around);
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

    // --- the disk ---

    /// Begins a round if there is something new to do and none is under way.
    fn go_to_disk(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.news && !process.at_disk {
            self.begin_round(around);
        }
    }

    fn begin_round(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            return;
        };
        for request in process.waiting.drain(..) {
            process.worker.push(request);
        }
        process.at_disk = true;
        process.news = false;
        self.plan_disk_done(around);
    }

    /// The round under way takes so long from now; what was planned before does not count.
    fn plan_disk_done(&mut self, around: &mut Surroundings<'_>) {
        let takes = self.random.heavy(self.pace.disk, self.pace.disk_max);
        let Some(process) = &mut self.process else {
            return;
        };
        process.round += 1;
        let (host, life, round) = (self.host, process.life, process.round);
        let done_at = (around.now + takes).max(self.disk_hangs_until);
        let done = Happening::DiskDone { host, life, round };
        around.events.plan(done_at, done);
    }

    /// A round of disk work is done: all of its operations happen now.
    ///
    /// # Errors
    /// It was the process's end.
    pub fn disk_done(
        &mut self,
        life: u64,
        round: u64,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Death> {
        let process = self.process.as_mut();
        let current = |process: &&mut Process| (process.life, process.round) == (life, round);
        let Some(process) = process.filter(current) else {
            return Ok(());
        };
        if self.disk_hangs_until > around.now {
            let host = self.host;
            let done = Happening::DiskDone { host, life, round };
            around.events.plan(self.disk_hangs_until, done);
            return Ok(());
        }
        process.at_disk = false;
        let spares = process.worker.wal().spares();
        let reports = process.reports.len();
        let round = match process.worker.round(&mut process.reports) {
            Ok(round) => round,
            Err(fatal) => return Err(self.death_of(fatal)),
        };
        assert!(
            !process.worker.wal().disk().has_failed(),
            "the log's disk has failed, and the process goes on (rules D3)"
        );
        drop(process.worker.take_sealed());
        let reported = process.reports.len() > reports;
        if reported && let Some(crash) = process.crash_at_report.take() {
            return Err(Death::Crashed(crash));
        }
        let fewer = process.worker.wal().spares() < spares;
        let more = round.worked && process.worker.has_work();
        if fewer {
            process.make_at = around.now;
            self.plan_spare(around);
        }
        if reported {
            self.wake(around.now);
        }
        match more {
            true => self.begin_round(around),
            false => self.go_to_disk(around),
        }
        Ok(())
    }

    fn plan_spare(&mut self, around: &mut Surroundings<'_>) {
        if let Some(process) = &self.process {
            let (host, life) = (self.host, process.life);
            let make = Happening::MakeSpare { host, life };
            around.events.plan(process.make_at, make);
        }
    }

    /// A piece of a spare, or a look at the room on the disk.
    ///
    /// # Errors
    /// It was the process's end.
    pub fn make_spare(&mut self, life: u64, around: &mut Surroundings<'_>) -> Result<(), Death> {
        let Some(process) = self.process.as_mut().filter(|process| process.life == life) else {
            return Ok(());
        };
        // One that was planned before the maker was woken early.
        if process.make_at != around.now {
            return Ok(());
        }
        let left = process.worker.wal().spares();
        let pause = match process.maker.step(left) {
            Step::Made(spare) => {
                process.worker.add_spare(spare);
                process.news = true;
                PACE
            }
            Step::Making if left > 0 => PACE,
            Step::Making => Duration::from_nanos(1),
            Step::Rest(room) => {
                process.worker.set_room(room);
                process.news |= std::mem::replace(&mut process.room, room) != room;
                LOOK
            }
        };
        if self.disk.is_down() {
            return Err(Death::Crashed(self.planned_crash));
        }
        process.make_at = around.now + pause;
        self.plan_spare(around);
        self.go_to_disk(around);
        Ok(())
    }

    /// Does all disk work that was handed over, then ends.
    fn finish(&mut self) -> Death {
        let Some(process) = &mut self.process else {
            return Death::Stopped;
        };
        for request in process.waiting.drain(..) {
            process.worker.push(request);
        }
        loop {
            match process.worker.round(&mut process.reports) {
                Ok(round) if round.worked => {}
                Ok(_) => return Death::Stopped,
                Err(fatal) => return self.death_of(fatal),
            }
        }
    }
}

impl Process {
    fn think(&mut self, around: &mut Surroundings<'_>) {
        let now = self.now;
        if self.stop_wanted && self.stop_at.is_none() {
            self.stop_at = Some(now.monotonic + STOP_TIMEOUT);
            self.node.step(now, Input::Stop, &mut self.effects);
        }
        self.tell_notices();
        while let Some(report) = self.reports.pop_front() {
            let input = Input::Storage(report);
            self.node.step(now, input, &mut self.effects);
        }
        self.take_in(around);
        self.dial(around);
        self.close_overdue(around);
        if self.node.deadline().is_some_and(|at| at <= now.monotonic) {
            self.node.step(now, Input::Tick, &mut self.effects);
        }
        self.tell_notices();
        self.node.flush(now, &mut self.effects);
    }

    fn carry_out(&mut self, around: &mut Surroundings<'_>) -> Result<(), Death> {
        around.trace.number(around.now.0 << 3 | self.host as u64);
        for request in self.effects.storage.drain(..) {
            burn(&mut self.fuse)?;
            note(around.trace, &request);
            self.waiting.push_back(request);
            self.news = true;
        }
        self.append_messages(around);
        self.append_replies();
        let refused = std::mem::take(&mut self.effects.close_links);
        for (link, error) in refused {
            self.refuse(link.0, &error, 0);
        }
        let mut at = 0;
        while let Some(name) = self.next_dirty(at) {
            burn(&mut self.fuse)?;
            self.write(name, around);
            at += 1;
        }
        self.forget_dirty();
        let renewed = std::mem::take(&mut self.effects.renew_links);
        for link in renewed {
            self.renew(link, around);
        }
        for event in self.effects.events.drain(..) {
            let id = self.host + 1;
            around
                .trace
                .line(around.now, || format!("{id} says {}", event.text));
            around.trace.bytes(event.text.as_bytes());
        }
        self.apply_pauses();
        self.stopped |= std::mem::take(&mut self.effects.stopped);
        self.stopped |= self.stop_at.is_some_and(|at| at <= self.now.monotonic);
        Ok(())
    }

    fn deadline(&mut self) -> Option<Instant> {
        let deadlines = [
            self.node.deadline(),
            self.dialler.deadline(),
            self.table.deadline(),
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// One effect more.
fn burn(fuse: &mut Option<(u32, Crash)>) -> Result<(), Death> {
    match fuse {
        Some((0, crash)) => Err(Death::Crashed(*crash)),
        Some((left, _)) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Adds disk work to the trace.
fn note(trace: &mut Trace, request: &StorageRequest) {
    match request {
        StorageRequest::Write(write) => {
            trace.number(write.ticket.0);
            trace.number(write.hard_state.term.0);
            trace.number(write.hard_state.vote.map_or(0, |vote| vote.0));
            trace.number(write.truncate_from.map_or(0, |index| index.0));
            trace.number(write.commit.0);
            for entry in &write.entries {
                trace.bytes(entry.bytes());
            }
        }
        StorageRequest::Load { from, to, .. } => {
            trace.number(from.0);
            trace.number(to.0);
        }
        StorageRequest::Form(record) => {
            for (node, incarnation) in record {
                trace.number(node.0);
                trace.number(incarnation.0);
            }
        }
    }
}

/// Where clients find a member.
#[must_use]
pub fn client_addr(id: NodeId) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 1, id.0 as u8), 7).into()
}

/// Whether the service manager leaves a process down that ended with this status.
#[must_use]
pub fn stays_down(status: ExitStatus) -> bool {
    use ExitStatus::{Config, Damaged, Permission, Usage};
    matches!(status, Usage | Damaged | Permission | Config)
}
