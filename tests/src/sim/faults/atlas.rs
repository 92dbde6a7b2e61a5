//! How much may be damaged at a time, so that what must be survived can be.

use super::super::net::Host;
use super::super::plan::{Outside, Plan};

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
/// Where members change there are three voters at least ([`super::super::plan::Changes::harm`]): any
/// quorum has two members, so that one may be harmed, and none is gone.
///
/// Invariant: in a run that does not leave the model, fewer than a quorum are harmed or gone.
#[derive(Clone, Debug)]
pub struct Atlas {
    data: Vec<Data>,
    budget: usize,
    /// Whoever is damaged gets whole again. Who would stay down is in the way of all further changes.
    heals_only: bool,
}

impl Atlas {
    /// Nothing is damaged yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let minority = (plan.members - 1) / 2;
        let changes = plan.changes.is_some();
        Self {
            data: vec![Data::Sound; plan.hosts()],
            budget: match plan.faults.outside {
                Some(Outside::EveryCopyBad) => plan.members,
                _ if changes => minority.min(1),
                _ => minority,
            },
            heals_only: changes,
        }
    }

    /// Its data is to be damaged, perhaps so that it `may_refuse` to start. False: it must not be. What is
    /// damaged twice may be too much, even if each alone is not.
    #[must_use]
    pub fn harm(&mut self, host: Host, may_refuse: bool) -> bool {
        let may = match self.data[host] {
            _ if self.heals_only && may_refuse => false,
            Data::Sound => self.damaged_members() < self.budget,
            Data::Harmed { .. } => !self.heals_only,
            Data::Gone => false,
        };
        if may {
            let may_refuse = may_refuse || self.is_harmed(host);
            self.data[host] = Data::Harmed { may_refuse };
        }
        may
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

#[cfg(test)]
mod tests {
    use super::*;

    fn atlas(is_right: impl Fn(&Plan) -> bool) -> Atlas {
        let plan = (0..).map(Plan::draw).find(is_right);
        Atlas::new(&plan.expect("plans do not end"))
    }

    #[test]
    fn a_minority_may_be_damaged_and_twice() {
        let mut five = atlas(|plan| {
            plan.members == 5 && plan.changes.is_none() && plan.faults.outside.is_none()
        });
        assert!(five.harm(0, false) && five.harm(0, false));
        assert!(five.may_refuse(0), "twice may be too much");
        assert!(five.harm(1, true));
        assert!(!five.harm(2, false), "no quorum would be sound");
        five.heal(0);
        assert!(five.harm(2, false));
    }

    #[test]
    fn where_members_change_one_at_a_time_is_damaged_and_gets_whole_again() {
        let mut five =
            atlas(|plan| plan.members == 5 && plan.changes.is_some_and(|changes| changes.harm));
        assert!(!five.harm(0, true), "it might stay down");
        assert!(five.harm(0, false));
        assert!(!five.harm(0, false), "twice may be too much");
        assert!(!five.harm(1, false));
        five.heal(0);
        assert!(five.harm(1, false));
    }
}
