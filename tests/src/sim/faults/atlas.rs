//! How much may be lost, so that what must be survived can be.

use super::super::net::Host;
use super::super::plan::Outside;

/// The fault budget of a run.
///
/// A member whose synced data was damaged, taken away or refused is *lost*: until repair exists it
/// ends with status 65 when it notices, and stays down. Each acknowledged entry is on the disks of
/// a quorum, so with a minority of lost members every quorum of the others holds it.
///
/// Invariant: in a run that does not leave the model, fewer than a quorum can be lost.
#[derive(Clone, Debug)]
pub struct Atlas {
    lost: Vec<bool>,
    budget: usize,
}

impl Atlas {
    /// Nothing is lost yet.
    #[must_use]
    pub fn new(members: usize, outside: Option<Outside>) -> Self {
        let minority = (members - 1) / 2;
        let budget = match outside {
            Some(Outside::EveryCopyBad) => members,
            Some(Outside::LyingSyncs | Outside::LastBatchRots) | None => minority,
        };
        Self {
            lost: vec![false; members],
            budget,
        }
    }

    /// Whether this member's data may be damaged.
    #[must_use]
    pub fn may_lose(&self, host: Host) -> bool {
        self.lost[host] || self.lost_members() < self.budget
    }

    /// Its data is damaged, or it stays down for another reason.
    pub fn lose(&mut self, host: Host) {
        self.lost[host] = true;
    }

    /// Whether its data is damaged: it may end with status 65, and must not be relied upon.
    #[must_use]
    pub fn is_lost(&self, host: Host) -> bool {
        self.lost[host]
    }

    /// How many are lost.
    #[must_use]
    pub fn lost_members(&self) -> usize {
        self.lost.iter().filter(|lost| **lost).count()
    }
}
