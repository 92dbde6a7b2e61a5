//! A member: a machine with a disk and clocks, and, most of the time, a process on it.
//!
//! The process is the daemon's in all but its surroundings. It starts through
//! [`storage::open_disk`], drives the shipped [`Node`], [`storage::Worker`], [`storage::SpareMaker`] and
//! [`Dialler`](raftd::net::dial::Dialler), and runs turns in the order of
//! `raftd/src/net/event_loop.rs`: reports of the disk, peers, clients, dialling, deadlines, flush;
//! then, from the effects, disk work first, messages, replies, closes.
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
//! | `settings.rs` | what all members are told, and where they are |
//! | `start.rs` | how a life begins |
//! | `process.rs` | a life: the process, and its turns |
//! | `table.rs` | its connections, their phases and deadlines |
//! | `intake.rs` | bytes and frames, from connections to the node and back |
//! | `disk.rs` | rounds of disk work, spares and snapshots |
//! | `clock.rs` | the machine's clocks |
//! | `vote.rs` | votes that it should give |
//!
//! [`storage::open_disk`]: raftd::storage::open_disk
//! [`storage::Worker`]: raftd::storage::Worker
//! [`storage::SpareMaker`]: raftd::storage::SpareMaker

mod clock;
mod disk;
mod intake;
mod process;
mod settings;
mod start;
mod table;
mod vote;

use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use raftd::disk::sim::{Fault, Operation, SimDisk};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::net::Port;
use raftd::node::Node;
use raftd::node::io::{Effects, LinkId};
use wire::client::Admitted;
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId};

pub use self::clock::{LocalClock, TRUE_RATE};
pub use self::process::Process;
pub use self::settings::{Settings, client_addr, host_at, name_of, peer_addr};
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
    /// Steps of what is to be done about snapshots end no earlier.
    keeper_hangs_until: Instant,
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
            keeper_hangs_until: Instant::default(),
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

    /// The segment in which its log goes on.
    #[must_use]
    pub fn newest_segment(&self) -> Option<u64> {
        let wal = self.process.as_ref()?.worker.wal();
        Some(wal.next_segment() - 1 - wal.spares() as u64)
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

    /// Nothing is done about snapshots before then, as if its thread got nothing of the processor.
    pub fn hang_keeper(&mut self, until: Instant) {
        self.keeper_hangs_until = self.keeper_hangs_until.max(until);
    }

    /// The machine is as it should be from now on: no pause, no fault of its disk or crash that
    /// is planned, a true clock, and this pace.
    pub fn cure(&mut self, pace: Pace, around: &mut Surroundings<'_>) {
        self.pace = pace;
        self.disk_hangs_until = around.now;
        self.keeper_hangs_until = around.now;
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

/// Whether the service manager leaves a process down that ended with this status.
#[must_use]
pub fn stays_down(status: ExitStatus) -> bool {
    use ExitStatus::{Config, Damaged, Permission, Usage};
    matches!(status, Usage | Damaged | Permission | Config)
}
