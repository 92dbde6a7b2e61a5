//! What a seed decides before anything happens: the cluster, its machines and links, the clients,
//! and which faults there are.
//!
//! This is swarm testing: not every run has everything. A kind of fault that never occurs lets
//! others do what it would mask, and a limit that is tiny in one run is out of the way in the next.

mod draw;
mod show;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use raftd::node::{Limits, Policy};

use super::faults::kind::Kind;
use super::net::Weather;

/// Everything that a seed decides beforehand.
///
/// Invariants: the same seed draws the same plan; a draw more or less in one part changes no
/// other part.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Members that the cluster begins with.
    pub members: usize,
    /// How its members change; they stay the same if nothing is said.
    pub changes: Option<Changes>,
    /// How long faults go on. Healing and the demand for progress come behind it.
    pub run: Duration,
    /// Lower end of the election timeout; the upper one is twice that.
    pub election_timeout: Duration,
    /// The leader's heartbeat.
    pub heartbeat: Duration,
    /// All nodes draw from the same seed, in every life.
    pub same_seeds: bool,
    /// The node's bounds.
    pub limits: Limits,
    /// When snapshots are taken.
    pub snapshots: Policy,
    /// The files and disks of all machines.
    pub storage: Storage,
    /// What each machine is like.
    pub machines: Vec<Machine>,
    /// What each directed link does: `links[from][to]`, the clients' host last.
    pub links: Vec<Vec<Weather>>,
    /// What clients do.
    pub workload: Workload,
    /// What goes wrong.
    pub faults: Faults,
}

/// Files and disks.
#[derive(Clone, Copy, Debug)]
pub struct Storage {
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Below this the disk is soft.
    pub soft_free_bytes: u64,
    /// Bytes of entries given back at start.
    pub tail_bytes: usize,
    /// Whether disks are scrubbed.
    pub scrubs: bool,
    /// The size of a disk that nobody fills.
    pub disk_bytes: u64,
}

/// How fast a machine is, and how right its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// A turn takes this long.
    pub turn: Duration,
    /// A round of disk work usually takes this long.
    pub disk: Duration,
    /// It never takes longer than this.
    pub disk_max: Duration,
    /// Local nanoseconds per million true ones.
    pub clock_rate: u32,
    /// The wall clock is so far ahead.
    pub wall_ahead_ms: i64,
    /// So much of the log is kept before a snapshot.
    pub keep_bytes: u64,
    /// The size of its disk until faults end: mostly that of all.
    pub disk_bytes: u64,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many there are.
    pub clients: usize,
    /// Requests that a client has unanswered, at most.
    pub in_flight: usize,
    /// Usually so long between two requests of a client.
    pub pause: Duration,
    /// Which requests, by weight.
    pub mix: Mix,
    /// So many keys; few are contended.
    pub keys: u64,
    /// Values are up to this long.
    pub value_bytes: usize,
    /// Some are up to this long.
    pub large_value_bytes: usize,
    /// How many of a million are.
    pub large_values: u32,
    /// After about so many writes a client begins another session.
    pub session_writes: u64,
    /// The deadline that requests carry.
    pub deadline: Duration,
    /// A client that gets no answer for so long tries elsewhere.
    pub patience: Duration,
    /// Writes of a million that are given up without an answer.
    pub abandoned: u32,
    /// Requests of a million that are wrong on purpose: an id used twice, a session from the
    /// future, a value that is too large, a frame that nobody understands.
    pub wrong: u32,
    /// Reads of a million that may be stale.
    pub stale_reads: u32,
    /// Of the others a million that any member may answer.
    pub anywhere_reads: u32,
    /// Reads of a million that come after the newest entry that the client knows.
    pub after_reads: u32,
    /// Whether a clock measures times well enough for some stale reads to be bounded.
    pub bounds_hold: bool,
    /// When nobody asks for anything.
    pub quiet: Vec<Range<Duration>>,
}

/// Weights of the operations; all may be 0 but not together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each weighs what its name says")]
pub struct Mix {
    pub put: u32,
    pub delete: u32,
    pub cas: u32,
    pub increment: u32,
    pub get: u32,
    pub scan: u32,
    /// Appends, ranges and txns, on keys of their own.
    pub compound: u32,
}

/// What an operator does to the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Machines on which others may join.
    pub spares: usize,
    /// Usually so long between two wishes.
    pub every: Duration,
    /// Which wishes, by weight: some clusters mostly grow, some shrink to one.
    pub wishes: Wishes,
    /// Of a million machines that are added, so many never start.
    pub absent: u32,
    /// A member may be damaged meanwhile: votes are only given, or pass from one to another, so that there
    /// are never fewer than at first.
    pub harm: bool,
}

/// Weights of the wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each weighs what its name says")]
pub struct Wishes {
    pub add: u32,
    pub remove: u32,
    pub promote: u32,
    pub demote: u32,
    pub update: u32,
    pub transfer: u32,
    /// Another machine asks to join under a member's name.
    pub intrude: u32,
}

/// What goes wrong, and how often.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Usually so long between the beginnings of two.
    pub every: Duration,
    /// The kinds that occur, in their own order.
    pub kinds: Vec<Kind>,
    /// Usually so long until it ends, if it lasts.
    pub lasts: Duration,
    /// When none begins.
    pub quiet: Vec<Range<Duration>>,
    /// The run leaves the model: what must be survived otherwise need not be.
    pub outside: Option<Outside>,
}

/// Ways to leave the model. Such a run is counted apart, and excused from what cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// Every disk says that it has synced what it has not.
    LyingSyncs,
    /// Damage does not spare a majority.
    EveryCopyBad,
    /// The last batch rots, for which nothing vouches but its mark.
    LastBatchRots,
}

impl Outside {
    /// Its word in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LyingSyncs => "lying-syncs",
            Self::EveryCopyBad => "every-copy-bad",
            Self::LastBatchRots => "last-batch-rots",
        }
    }
}

impl Plan {
    /// Machines of members, and of those that may become members.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.machines.len()
    }
}
