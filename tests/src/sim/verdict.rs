//! The end of a run: the log, the disks and the clients' history are held against each other.

use raftd::disk::sim::SimDisk;

use super::clients::Finished;
use super::invariants::Invariants;
use super::ledger::{KEYS, KEYS_GIVEN_UP};
use super::member::EPOCH;
use crate::history::search::{self, Searched};
use crate::history::{Summary, Violation, witness};

/// Configurations that are tried for one key: what a whole run usually takes is a few thousand.
const BUDGET: search::Budget = search::Budget {
    configurations_per_key: 20_000,
};

/// What was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// By the log.
    pub witnessed: Summary,
    /// By the answers alone.
    pub searched: Searched,
}

impl Judged {
    /// Its numbers, for the ledger.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 8] {
        let (seen, searched) = (&self.witnessed, &self.searched);
        [
            ("written", seen.written),
            ("unknown, applied", seen.unknown_applied),
            ("unknown, lost", seen.unknown_lost),
            ("read", seen.reads),
            ("read stale", seen.stale_reads),
            ("ordered without the log", searched.operations),
            (KEYS, searched.keys),
            (KEYS_GIVEN_UP, searched.gave_up.len() as u64),
        ]
    }
}

/// Judges what a run has left.
///
/// # Errors
/// What is wrong.
pub fn judge(
    invariants: &mut Invariants,
    disks: &[&SimDisk],
    finished: &Finished,
    sessions_max: usize,
) -> Result<Judged, String> {
    invariants.finish(disks, &finished.possible)?;
    let committed = witness::Committed {
        epoch: EPOCH,
        sessions_max,
        entries: invariants.committed(),
    };
    let told = |violation: Violation| violation.to_string();
    Ok(Judged {
        witnessed: witness::check(&finished.history, committed).map_err(told)?,
        searched: search::check(&finished.history, BUDGET).map_err(told)?,
    })
}
