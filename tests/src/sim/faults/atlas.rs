//! How much may be damaged at a time, so that what must be survived can be.

use super::super::net::Host;
use super::super::plan::Outside;

/// What is known of a member's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Sound,
    /// Damaged, and to be healed by the others. It may end with status 65 instead if it `may_refuse`.
    Harmed {
        may_refuse: bool,
    },
    /// The member is down for good.
    Gone,
}

/// The fault budget of a run.
///
/// A member whose synced data was damaged, or whose state is wrong, is *harmed* until it is seen to
/// be whole again; one that ended with status 65, or whose data was taken away, is *gone*. Each
/// acknowledged entry is on the disks of a quorum, so while a minority is harmed or gone, a quorum
/// of the others holds it. So damage may go around, from one that is whole again to the next.
///
/// Invariant: in a run that does not leave the model, fewer than a quorum are harmed or gone.
#[derive(Clone, Debug)]
pub struct Atlas {
    data: Vec<Data>,
    budget: usize,
}

impl Atlas {
    /// Nothing is damaged yet.
    #[must_use]
    pub fn new(members: usize, outside: Option<Outside>) -> Self {
        let minority = (members - 1) / 2;
        let budget = match outside {
            Some(Outside::EveryCopyBad) => members,
            Some(Outside::LyingSyncs | Outside::LastBatchRots) | None => minority,
        };
        Self {
            data: vec![Data::Sound; members],
            budget,
        }
    }

    /// Whether this member's data may be damaged.
    #[must_use]
    pub fn may_harm(&self, host: Host) -> bool {
        match self.data[host] {
            Data::Sound => self.damaged_members() < self.budget,
            Data::Harmed { .. } => true,
            Data::Gone => false,
        }
    }

    /// Its data is damaged. What is damaged twice may be too much, even if each alone is not.
    pub fn harm(&mut self, host: Host, may_refuse: bool) {
        self.data[host] = match self.data[host] {
            Data::Sound => Data::Harmed { may_refuse },
            Data::Harmed { .. } => Data::Harmed { may_refuse: true },
            Data::Gone => Data::Gone,
        };
    }

    /// It stays down.
    pub fn lose(&mut self, host: Host) {
        self.data[host] = Data::Gone;
    }

    /// What was damaged is whole again.
    pub fn heal(&mut self, host: Host) {
        if self.is_harmed(host) {
            self.data[host] = Data::Sound;
        }
    }

    /// Whether its data is as it should be.
    #[must_use]
    pub fn is_sound(&self, host: Host) -> bool {
        self.data[host] == Data::Sound
    }

    /// Whether its data is damaged, and the others must heal it.
    #[must_use]
    pub fn is_harmed(&self, host: Host) -> bool {
        matches!(self.data[host], Data::Harmed { .. })
    }

    /// Whether it may end with status 65.
    #[must_use]
    pub fn may_refuse(&self, host: Host) -> bool {
        !matches!(
            self.data[host],
            Data::Sound | Data::Harmed { may_refuse: false }
        )
    }

    /// How many are harmed or gone.
    #[must_use]
    pub fn damaged_members(&self) -> usize {
        let damaged = self.data.iter().filter(|data| **data != Data::Sound);
        damaged.count()
    }
}
