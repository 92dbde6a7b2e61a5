//! The end of a run: the log, the disks and the clients' history are held against each other.

use raftd::disk::sim::SimDisk;

use super::clients::Finished;
use super::invariants::Invariants;
use super::member::EPOCH;
use crate::history::{History, search, witness};

/// Configurations that are tried for one key: what a whole run usually takes is a few thousand.
const BUDGET: search::Budget = search::Budget {
    configurations_per_key: 20_000,
};

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Answered operations for which an order was searched, without a look at the log.
    pub searched: u64,
    /// Keys for which that was given up.
    pub gave_up: u64,
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
    witness::check(&finished.history, committed).map_err(|violation| violation.to_string())?;
    search(&finished.history)
}

fn search(history: &History) -> Result<Judged, String> {
    let searched = search::check(history, BUDGET).map_err(|violation| violation.to_string())?;
    Ok(Judged {
        searched: searched.operations,
        gave_up: searched.gave_up.len() as u64,
    })
}
