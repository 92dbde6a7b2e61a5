//! What goes wrong, when and to whom.
//!
//! A [`Nemesis`] draws faults over virtual time, of the kinds that a plan allows, and says what the
//! world has to do: cut a link, end a process at its third operation on the disk, set a clock. Most
//! begin at random times. Some wait for a [`Moment`] that random ones would seldom meet: the leader
//! has just acknowledged, a candidate has just handed its own vote to its disk.
//!
//! | file | what is in it |
//! |---|---|
//! | `kind.rs` | the kinds of faults, by name |
//! | `scenario.rs` | how each kind begins and ends |
//! | `moment.rs` | those that wait for their moment |
//! | `atlas.rs` | the budget that keeps survivable what must be |

pub mod atlas;
pub mod kind;
mod moment;
mod scenario;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use raft::Instant;
use raftd::disk::sim::{self, Operation};

use self::atlas::Atlas;
use self::kind::Kind;
use self::moment::Armed;
pub use self::moment::Moment;
use super::damage::Damage;
use super::event::Events;
use super::member::Crash;
use super::net::{Host, Weather};
use super::plan::{Outside, Plan};
use super::random::{MILLION, Random};
use super::stranger::Stranger;

/// So many kinds are tried until one makes sense.
const TRIES: u32 = 5;

/// When a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now.
    Now,
    /// At the so many-th change of its disk from now.
    Operation(u64),
    /// At the next sync of its disk.
    Sync,
    /// After so many more effects of its turns: messages and replies, handed over or not.
    Effects(u32),
    /// When its next round of disk work is done, before it hears of it.
    Report,
}

/// Something that the world is to do. Times are lengths from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets through in this direction. Cuts are counted.
    Cut(Host, Host),
    /// Takes one cut back.
    Mend(Host, Host),
    /// What is sent in this direction arrives at the end of that time, all at once.
    Clog(Host, Host, Duration),
    /// Connections between the two break, after a part of what is under way.
    Reset(Host, Host),
    /// What a link does from now on.
    Weather(Host, Host, Weather),
    /// Rounds of disk work usually take the first, and never longer than the second.
    Pace(Host, Duration, Duration),
    /// No disk work ends before.
    Hang(Host, Duration),
    /// Nothing is done about snapshots before, while the log's disk works on.
    HangKeeper(Host, Duration),
    /// The next operation of that kind fails.
    FailDisk(Host, Operation, sim::Fault),
    /// The so many-th change of the disk from now fails.
    FailDiskAt(Host, u64, sim::Fault),
    /// The disk has only so many bytes left; `None`: as many as it ever had.
    Room(Host, Option<u64>),
    /// Something that was synced is damaged.
    Damage(Host, Damage),
    /// The data is gone; the process is down.
    Wipe(Host),
    /// The next life goes on from a wrong state.
    Spoil(Host),
    /// Syncs of the disk do nothing, or are honest again.
    Lie(Host, bool),
    /// The process, or the machine, ends.
    Crash(Host, Crash, When),
    /// The next life ends at the so many-th change of its disk.
    CrashInRecovery(Host, u64, Crash),
    /// The process starts, if it is down.
    Start(Host),
    /// The process is asked to stop.
    Stop(Host),
    /// The process stands still.
    Pause(Host, Duration),
    /// The monotonic clock runs at this rate, per million; 0 is standing still.
    ClockRate(Host, u32),
    /// The monotonic clock leaps ahead.
    ClockLeap(Host, Duration),
    /// The wall clock is so many milliseconds ahead.
    WallClock(Host, i64),
    /// Somebody calls and says this.
    Stranger(Host, Stranger),
}

/// What the world looks like to who wants to harm it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// True time.
    pub now: Instant,
    /// Who leads in the highest term, if anybody does.
    pub leader: Option<Host>,
    /// Whose processes live.
    pub up: &'a [bool],
}

/// Who is to live when the run is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// A quorum, or more, with whole links, disks and clocks: it must make progress.
    pub core: Vec<Host>,
    /// Members that the core must heal, and that then belong to it.
    pub harmed: Vec<Host>,
    /// What becomes of the others, for good.
    pub rest: Rest,
}

impl Healed {
    /// Whether this member has whole links, disks and clocks from now on.
    #[must_use]
    pub fn lives(&self, host: Host) -> bool {
        self.core.contains(&host) || self.harmed.contains(&host)
    }
}

/// What becomes of members that are not in the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are down.
    Dead,
    /// They live and are cut off from everybody.
    CutOff,
}

/// Draws faults.
///
/// Invariants:
/// - every fault that lasts has its end in `schedule` when it begins;
/// - a process that ended is started again, unless it is gone for good ([`Atlas`]);
/// - the same plan and the same views bring the same faults.
#[derive(Debug)]
pub struct Nemesis {
    plan: Plan,
    random: Random,
    atlas: Atlas,
    /// What ends, and who starts again.
    schedule: Events<Vec<Fault>>,
    next_begin: Instant,
    /// What waits for a moment; one of each kind.
    armed: BTreeMap<Kind, Armed>,
    /// What is done to a member when it has gone down, before it starts again.
    when_down: Vec<Vec<Fault>>,
    /// A leader was seen: the cluster is formed.
    formed: bool,
    healed: Option<Healed>,
    /// How many of each kind have begun.
    pub counts: BTreeMap<Kind, u64>,
}

impl Nemesis {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let random = Random::new(plan.seed ^ 0x6e65_6d65_7369_7300);
        Self {
            atlas: Atlas::new(plan),
            random,
            schedule: Events::default(),
            next_begin: Instant::default() + plan.faults.every,
            armed: BTreeMap::new(),
            when_down: vec![Vec::new(); plan.hosts()],
            formed: false,
            healed: None,
            counts: BTreeMap::new(),
            plan: plan.clone(),
        }
    }

    /// The budget.
    #[must_use]
    pub fn atlas(&self) -> &Atlas {
        &self.atlas
    }

    /// A member that was damaged is whole again, unless more is to come.
    pub fn healed(&mut self, host: Host) {
        if self.when_down[host].is_empty() {
            self.atlas.heal(host);
        }
    }

    /// When [`Nemesis::act`] is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let begin = self.healed.is_none().then_some(self.next_begin);
        [self.schedule.next_at(), begin].into_iter().flatten().min()
    }

    /// Adds what is to happen now.
    pub fn act(&mut self, view: &View<'_>, out: &mut Vec<Fault>) {
        if self.plan.faults.outside == Some(Outside::LyingSyncs) && self.counts.is_empty() {
            out.extend((0..self.plan.hosts()).map(|host| Fault::Lie(host, true)));
        }
        while let Some(faults) = self.schedule.pop(view.now) {
            out.extend(faults);
        }
        if self.healed.is_some() || view.now < self.next_begin {
            return;
        }
        let every = self.plan.faults.every;
        self.next_begin = view.now + self.random.heavy(every, every * 4);
        let since = view.now.since(Instant::default());
        let quiet = self
            .plan
            .faults
            .quiet
            .iter()
            .any(|window| window.contains(&since));
        for _ in 0..TRIES {
            let kind = *self.random.pick(&self.plan.faults.kinds);
            if quiet || self.begin(kind, view, out) {
                break;
            }
        }
    }

    /// A process has ended. `for_good`: with a status after which the service manager leaves it
    /// down.
    pub fn died(&mut self, host: Host, for_good: bool, view: &View<'_>) {
        if for_good {
            self.atlas.lose(host);
        }
        let dead = |healed: &Healed| healed.rest == Rest::Dead && !healed.lives(host);
        if for_good || self.healed.as_ref().is_some_and(dead) {
            return;
        }
        let mut faults = std::mem::take(&mut self.when_down[host]);
        if self.healed.is_none()
            && self.has(Kind::CrashInRecovery)
            && self.random.chance(MILLION / 4)
        {
            // Every life after it may end the same way: recovery is interrupted again and again.
            self.count(Kind::CrashInRecovery);
            let crash = self.crash();
            let after = self.random.within(1..=40);
            faults.push(Fault::CrashInRecovery(host, after, crash));
        }
        faults.push(Fault::Start(host));
        let pause = self
            .random
            .heavy(Duration::from_millis(200), Duration::from_secs(8));
        self.schedule.plan(view.now + pause, faults);
    }

    /// A process has ended because its member was removed. Sometimes it is started all the same.
    pub fn removed(&mut self, host: Host, view: &View<'_>) {
        if self.healed.is_none() && self.random.chance(MILLION / 2) {
            let pause = self.lasts();
            self.later(view, pause, vec![Fault::Start(host)]);
        }
    }

    /// Faults end here. Says who must go on, all these if anybody is named, and lets nothing begin
    /// any more; the world makes links, disks and clocks of the core whole and starts whom it needs.
    pub fn heal(&mut self, view: &View<'_>, all_of: Option<Vec<Host>>) -> Healed {
        let members = self.plan.hosts();
        self.armed.clear();
        while self
            .schedule
            .pop(view.now + Duration::from_secs(1 << 20))
            .is_some()
        {}
        self.when_down.iter_mut().for_each(Vec::clear);
        let mut sound: Vec<Host> = (0..members)
            .filter(|host| self.atlas.is_sound(*host))
            .collect();
        let quorum = members / 2 + 1;
        if let Some(hosts) = all_of {
            sound = hosts;
        } else if self.formed {
            let spare = sound.len().saturating_sub(quorum);
            for _ in 0..self.random.below(spare as u64 + 1) {
                sound.remove(self.random.index(sound.len()));
            }
        }
        let harmed = (0..members).filter(|host| self.atlas.is_harmed(*host));
        let healed = Healed {
            core: sound,
            harmed: harmed.collect(),
            rest: if self.random.chance(MILLION / 2) {
                Rest::Dead
            } else {
                Rest::CutOff
            },
        };
        self.healed = Some(healed.clone());
        healed
    }

    fn has(&self, kind: Kind) -> bool {
        self.plan.faults.kinds.contains(&kind)
    }

    fn count(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// The faults happen that much later.
    fn later(&mut self, view: &View<'_>, after: Duration, faults: Vec<Fault>) {
        self.schedule.plan(view.now + after, faults);
    }

    /// How long something lasts that is not tied to elections.
    fn lasts(&mut self) -> Duration {
        self.random
            .heavy(self.plan.faults.lasts, Duration::from_secs(10))
    }

    /// So many election timeouts, upper ends.
    fn timeouts(&self, count: u32) -> Duration {
        self.plan.election_timeout * 2 * count
    }

    fn host(&mut self) -> Host {
        self.random.index(self.plan.hosts())
    }

    /// The leader half of the time, if there is one: most of what can go wrong is with it.
    fn victim(&mut self, view: &View<'_>) -> Host {
        match view.leader {
            Some(leader) if self.random.chance(MILLION / 2) => leader,
            _ => self.host(),
        }
    }

    fn crash(&mut self) -> Crash {
        *self.random.pick(&[Crash::Kill, Crash::PowerLoss])
    }
}
