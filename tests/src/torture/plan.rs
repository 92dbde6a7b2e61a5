//! What a seed decides: which faults come in which order, how hard, how long and how soon after
//! each other. Whom "the leader" is, and what a fault then meets, the run decides.

use std::fmt;
use std::time::Duration;

use super::ledger::Fault;
use super::proxy::{Path, Trouble};
use crate::sim::random::Random;

/// Faults of members, in the order of a bag.
const OF_MEMBERS: [Fault; 8] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Stop,
    Fault::Freeze,
    Fault::SlowSync,
    Fault::FailedSync,
    Fault::Rot,
    Fault::Wipe,
];
/// Faults of paths, in the order of a bag.
const OF_PATHS: [Fault; 7] = [
    Fault::Delay,
    Fault::Stall,
    Fault::Reset,
    Fault::Cut,
    Fault::Isolate,
    Fault::Throttle,
    Fault::Corrupt,
];

/// Faults in an order that a seed decides: bags of all kinds, each shuffled, so that every kind
/// comes equally often however long a run is.
#[derive(Clone, Debug)]
struct Bag {
    kinds: &'static [Fault],
    left: Vec<Fault>,
    random: Random,
}

impl Bag {
    fn new(kinds: &'static [Fault], random: Random) -> Self {
        Self {
            kinds,
            left: Vec::new(),
            random,
        }
    }

    fn draw(&mut self) -> Fault {
        if self.left.is_empty() {
            self.left.extend(self.kinds);
        }
        let at = self.random.index(self.left.len());
        self.left.swap_remove(at)
    }
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Who leads when it begins; this member, counted from 0, if nobody is known to.
    Leader(usize),
    /// This member, counted from 0.
    Member(usize),
}

/// A fault of one member, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberFault {
    /// After the one before has ended.
    pub after: Duration,
    /// What.
    pub fault: Fault,
    /// Whom.
    pub whom: Whom,
    /// How long it lasts, or the member is down.
    pub lasts: Duration,
    /// [`Fault::Kill`]: killed again so soon after it was started.
    pub again: Option<Duration>,
    /// [`Fault::Freeze`]: all members. [`Fault::SlowSync`]: ended by SIGTERM, not by SIGKILL.
    pub all: bool,
    /// What the kind makes of it: a place, a strength.
    pub chance: u64,
}

/// A fault of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFault {
    /// After the one before has begun.
    pub after: Duration,
    /// What.
    pub fault: Fault,
    /// Where; [`Fault::Isolate`] is about all paths of `whom`.
    pub path: Path,
    /// What it does; of no meaning for [`Fault::Reset`].
    pub trouble: Trouble,
    /// For how long.
    pub lasts: Duration,
    /// Whom it is about: if that is not an end of the path, the path begins there instead. What two
    /// followers say to each other is next to nothing.
    pub whom: Whom,
}

/// A disk that is full for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullDisk {
    /// After the one before was given room again.
    pub after: Duration,
    /// How long it stays full after its member noticed.
    pub lasts: Duration,
    /// All small disks at once: of three members that is a quorum.
    pub all: bool,
}

/// All that a seed decides of one round.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Members keep their whole log behind snapshots; else they keep what they must, and who falls
    /// behind is sent a snapshot.
    pub keeps_logs: bool,
    kinds: Bag,
    member: Random,
    paths: Bag,
    path: Random,
    disk: Random,
    client: Random,
    /// For the proxies.
    pub proxy_seed: u64,
    /// For the clients.
    pub load_seed: u64,
}

impl Plan {
    /// What `seed` decides for so many members.
    #[must_use]
    pub fn draw(seed: u64, members: usize) -> Self {
        let mut random = Random::new(seed);
        Self {
            seed,
            members,
            kinds: Bag::new(&OF_MEMBERS, random.fork()),
            member: random.fork(),
            paths: Bag::new(&OF_PATHS, random.fork()),
            path: random.fork(),
            disk: random.fork(),
            client: random.fork(),
            proxy_seed: random.bits(),
            load_seed: random.bits(),
            // Rounds alternate.
            keeps_logs: seed.is_multiple_of(2),
        }
    }

    /// The next fault of a member.
    pub fn next_member_fault(&mut self) -> MemberFault {
        let fault = self.kinds.draw();
        let random = &mut self.member;
        let member = random.index(self.members);
        let leader = random.below(2) == 0;
        let lasts = match fault {
            Fault::SlowSync => random.time(millis(800)..=millis(1600)),
            Fault::Freeze => random.heavy(millis(300), millis(1500)),
            _ => random.heavy(millis(60), millis(800)),
        };
        MemberFault {
            after: random.heavy(millis(150), millis(900)),
            fault,
            whom: if leader {
                Whom::Leader(member)
            } else {
                Whom::Member(member)
            },
            lasts,
            again: (random.below(2) == 0).then(|| random.time(millis(0)..=millis(60))),
            all: random.below(3) == 0,
            chance: random.bits(),
        }
    }

    /// The next fault of the network.
    pub fn next_path_fault(&mut self) -> PathFault {
        let fault = self.paths.draw();
        let random = &mut self.path;
        let from = random.index(self.members);
        let to = (from + 1 + random.index(self.members - 1)) % self.members;
        let trouble = match fault {
            Fault::Delay => Trouble::Delay(random.heavy(millis(8), millis(200))),
            Fault::Stall => Trouble::Stall,
            Fault::Throttle => Trouble::Throttle(random.within(2_000..=60_000)),
            Fault::Corrupt => Trouble::Corrupt,
            _ => Trouble::Cut,
        };
        let leader = random.below(4) > 0;
        PathFault {
            after: random.heavy(millis(500), millis(2000)),
            fault,
            path: Path { from, to },
            trouble,
            lasts: random.heavy(millis(400), millis(2500)),
            whom: if leader {
                Whom::Leader(from)
            } else {
                Whom::Member(from)
            },
        }
    }

    /// The next full disk.
    pub fn next_full_disk(&mut self) -> FullDisk {
        let random = &mut self.disk;
        FullDisk {
            after: random.heavy(millis(100), millis(500)),
            lasts: random.heavy(millis(200), millis(1000)),
            all: random.below(4) == 0,
        }
    }

    /// When the connection of the next of so many clients is reset, and whose.
    pub fn next_client_reset(&mut self, clients: usize) -> (Duration, usize) {
        let random = &mut self.client;
        (
            random.heavy(millis(1000), millis(4000)),
            random.index(clients),
        )
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Its beginning, for people: the same seed tells the same.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = if self.keeps_logs { "whole" } else { "cut" };
        write!(
            f,
            "seed {} members {} logs {logs}:",
            self.seed, self.members
        )?;
        let mut plan = self.clone();
        for _ in 0..OF_MEMBERS.len() {
            write!(f, " {}", plan.next_member_fault().fault.name())?;
        }
        write!(f, " |")?;
        for _ in 0..OF_PATHS.len() {
            write!(f, " {}", plan.next_path_fault().fault.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_everything() {
        let draws = |seed| {
            let mut plan = Plan::draw(seed, 3);
            let members: Vec<_> = (0..100).map(|_| plan.next_member_fault()).collect();
            let paths: Vec<_> = (0..100).map(|_| plan.next_path_fault()).collect();
            let rest = (
                plan.next_full_disk(),
                plan.next_client_reset(9),
                plan.load_seed,
                plan.keeps_logs,
            );
            (members, paths, rest)
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn every_kind_comes_equally_often_and_no_path_leads_home() {
        let mut plan = Plan::draw(1, 3);
        let drawn: Vec<_> = (0..40).map(|_| plan.next_member_fault().fault).collect();
        for kind in OF_MEMBERS {
            assert_eq!(
                drawn.iter().filter(|&&fault| fault == kind).count(),
                5,
                "{kind:?}"
            );
        }
        let paths: Vec<_> = (0..70).map(|_| plan.next_path_fault()).collect();
        assert!(paths.iter().all(|fault| fault.path.from != fault.path.to));
    }
}
