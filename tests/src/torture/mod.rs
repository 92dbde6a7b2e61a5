//! Torture: what the simulator does to simulated members, done to real processes.
//!
//! A run is a row of *rounds*, each with a cluster, a plan and clients of its own: form, torture,
//! heal, converge, stop, read back, judge. Everything that one seed decides is in [`plan`]; what it
//! then meets is up to the machine, so a run cannot be replayed, and on failure everything is kept.
//!
//! Four lanes go on at once, each with the next fault of its kind: members ([`members`], which also
//! judges how they end), links ([`proxy`]), disks ([`disks`]) and clients' connections; [`nemesis`]
//! has the last three. At any time at most one member is harmed by the first of them, or all are
//! killed; together with full disks and the network that is more than a minority often enough, so
//! the cluster may well stand still for a moment. What it never may is lose or invent anything, or
//! stay down when all is whole again.
//!
//! What every round demands:
//! - a member ends only if it was ended, with the code that belongs to what was done to it;
//! - after all faults, every member has applied everything within [`HEALS_WITHIN`], and a client is
//!   served;
//! - all members then have the same state, by its digest;
//! - the members' files hold the same committed log, and snapshots that are whole and, of the same
//!   entry, equal;
//! - that log explains every answer that any client got ([`crate::history`]). In every other round
//!   members keep no more of it than they must, so that who falls behind is sent a snapshot: there
//!   the answers must explain each other, and what is left of the log hold what it should.

pub mod client;
pub mod disks;
pub mod ledger;
pub mod load;
pub mod log;
pub mod members;
pub mod nemesis;
pub mod plan;
pub mod proxy;
pub mod rot;
mod round;
pub mod sweep;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::ledger::{Ledger, WHOLE_RUN};
use self::plan::Plan;
use self::round::Round;

/// How long a healed cluster may take until every member has applied everything and a client is
/// served: a busy machine's slack included, about thirty election timeouts.
pub const HEALS_WITHIN: Duration = Duration::from_secs(10);
/// Size of the segments of every member's log.
const SEGMENT_BYTES: u64 = 256 * 1024;
/// Longer runs have several rounds: logs and histories stay small.
const ROUND_MAX: Duration = Duration::from_secs(120);
/// What came below its floor, for the drawn times are long and the machine is busy now and then, has
/// so many rounds more to come in, each so long.
const MORE_ROUNDS_MAX: u32 = 2;
const MORE_TIME: Duration = Duration::from_secs(30);

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long faults go on, over all rounds.
    pub time: Duration,
    /// Decides the plan of the first round; those after it have the next numbers.
    pub seed: u64,
    /// Members of each cluster, 3 to 7.
    pub members: usize,
    /// Keep what members and torture wrote, also without failure.
    pub keep: bool,
    /// Leave out what takes root, also if it could be had.
    pub unprivileged: bool,
}

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the round.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// Where data directories, logs and history are kept, if there is anything.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)?;
        match &self.kept {
            Some(kept) => write!(f, "\neverything is kept in {}", kept.display()),
            None => Ok(()),
        }
    }
}

/// Tortures clusters until the time is over, `cancelled` is raised or something is wrong, and tells what
/// `say` takes. Returns what it amounts to, and why it failed if it did.
#[must_use]
pub fn run(
    options: Options,
    cancelled: &AtomicBool,
    say: &(dyn Fn(&str) + Sync),
) -> (Ledger, Option<Failure>) {
    let mut ledger = Ledger::default();
    let rounds = options.time.as_secs_f64() / ROUND_MAX.as_secs_f64();
    let rounds = rounds.ceil().max(1.0) as u32;
    let more = if options.time < WHOLE_RUN {
        0
    } else {
        MORE_ROUNDS_MAX
    };
    for number in 0..rounds + more {
        let is_enough = number >= rounds && ledger.below_floors().is_empty();
        if is_enough || cancelled.load(Ordering::Relaxed) {
            break;
        }
        let plan = Plan::draw(
            options.seed.wrapping_add(u64::from(number)),
            options.members,
        );
        let (name, time) = if number < rounds {
            let name = format!("round {} of {rounds}", number + 1);
            (name, options.time / rounds)
        } else {
            (
                "a round more, for what came too seldom".to_owned(),
                MORE_TIME,
            )
        };
        say(&format!("{name}: {plan}"));
        let round = Round {
            plan: &plan,
            time,
            options,
            cancelled,
            say,
        };
        let (amount, failure) = round.run();
        ledger.merge(amount);
        if failure.is_some() {
            return (ledger, failure);
        }
    }
    (ledger, None)
}
