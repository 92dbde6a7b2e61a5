//! Carries out the faults of a plan on disks and links, and says when all of them end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raftctl::client::status_of;
use wire::peer::DiskState;

use super::client::Shared;
use super::disks::Small;
use super::ledger::{Fault, Tally};
use super::plan::{PathFault, Plan, Whom};
use super::proxy::{Affliction, Path as Way, Proxies};
use crate::wait;

/// How long a member may take to notice that its disk is full.
const NOTICES_WITHIN: Duration = Duration::from_secs(4);
/// How long it is kept low, when its snapshots free what the log takes and it never gets full.
const LOW_FOR: Duration = Duration::from_millis(300);
/// For a look at a member's status.
const STATUS_WITHIN: Duration = Duration::from_millis(150);
/// A rest is over this much after its end at the latest, however busy the machine is.
const LATE_MAX: Duration = Duration::from_secs(20);

/// Why faults end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time is over, or somebody asked for the end.
    Asked,
    /// Something is wrong with the cluster, or with the torture itself.
    Failed(String),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Failed(what)
    }
}

/// When the faults of a round end.
#[derive(Debug)]
pub struct Halt<'a> {
    /// At the latest then.
    pub at: Instant,
    /// As soon as this is raised: a signal came.
    pub cancelled: &'a AtomicBool,
    /// As soon as this is raised: something failed elsewhere.
    pub failed: &'a AtomicBool,
}

impl Halt<'_> {
    /// Whether the round goes on.
    ///
    /// # Errors
    /// [`Stop::Asked`] if not.
    pub fn check(&self) -> Result<(), Stop> {
        let raised = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if Instant::now() >= self.at || raised(self.cancelled) || raised(self.failed) {
            return Err(Stop::Asked);
        }
        Ok(())
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Stop::Asked`] if the end comes before.
    pub fn rest(&self, time: Duration) -> Result<(), Stop> {
        let end = Instant::now() + time;
        wait::until("the end of a rest", time + LATE_MAX, || {
            match self.check() {
                Err(stop) => Some(Err(stop)),
                Ok(()) => (Instant::now() >= end).then_some(Ok(())),
            }
        })
    }
}

/// What the lanes of faults share.
pub struct Scene<'a> {
    /// The links.
    pub proxies: &'a Proxies,
    /// What bit.
    pub tally: &'a Tally,
    /// When it ends.
    pub halt: &'a Halt<'a>,
    /// Where clients reach the members, by id.
    pub client_addrs: &'a [String],
    /// Held while a disk is full, and by who needs room on every disk.
    pub room: &'a Mutex<()>,
    /// Whether fdatasync can be made slow or fail: strace is there.
    pub strace: bool,
    /// What is told of every fault.
    pub say: &'a (dyn Fn(&str) + Sync),
}

impl Scene<'_> {
    /// The member that is meant, counted from 0.
    pub(super) fn find(&self, whom: Whom) -> usize {
        match whom {
            Whom::Member(member) => member,
            Whom::Leader(otherwise) => {
                let asked = self.client_addrs.iter();
                let told = asked.filter_map(|addr| status_of(addr, STATUS_WITHIN).ok());
                let newest = told.max_by_key(|status| status.term).and_then(|s| s.leader);
                newest.map_or(otherwise, |leader| leader.0 as usize - 1)
            }
        }
    }

    /// Faults of the network, until the end.
    pub fn torture_links(&self, mut plan: Plan) {
        loop {
            let next = plan.next_path_fault();
            if self.halt.rest(next.after).is_err() {
                return;
            }
            self.afflict(&next);
        }
    }

    fn afflict(&self, next: &PathFault) {
        let count = self.client_addrs.len();
        let (fault, lasts, mut way) = (next.fault, next.lasts, next.path);
        let whom = self.find(next.whom);
        if ![way.from, way.to].contains(&whom) {
            way.from = whom;
        }
        let mut paths = vec![way];
        match fault {
            Fault::Reset => return self.proxies.reset(way),
            Fault::Stall => paths.push(way.back()),
            Fault::Isolate => {
                let others = (0..count).filter(|&other| other != whom);
                let out = others.map(|to| Way { from: whom, to });
                paths = out.flat_map(|way| [way, way.back()]).collect();
            }
            _ => {}
        }
        let trouble = next.trouble;
        (self.say)(&format!(
            "{} {}->{} {trouble:?} {lasts:?}",
            fault.name(),
            way.from + 1,
            way.to + 1
        ));
        self.proxies.afflict(Affliction {
            fault,
            paths,
            trouble,
            lasts,
        });
    }

    /// Has clients reset their connections, until the end.
    pub fn reset_clients(&self, mut plan: Plan, shared: &Shared) {
        loop {
            let (after, client) = plan.next_client_reset(shared.resets.len());
            if self.halt.rest(after).is_err() {
                return;
            }
            shared.resets[client].store(true, Ordering::Relaxed);
        }
    }

    /// Fills the small disks, one at a time and now and then all, until the end. Each belongs to a
    /// member.
    ///
    /// # Errors
    /// The torture cannot do it.
    pub fn torture_disks(&self, mut plan: Plan, disks: &[(usize, &Small)]) -> Result<(), Stop> {
        for turn in disks.iter().cycle() {
            let next = plan.next_full_disk();
            self.halt.rest(next.after)?;
            let full = if next.all {
                disks
            } else {
                std::slice::from_ref(turn)
            };
            let room = self.room.lock().expect("no lane panics");
            for (member, small) in full {
                let name = small.fault().name();
                (self.say)(&format!("{name} {} {:?}", member + 1, next.lasts));
                small.fill()?;
            }
            let noticed = full.iter().try_for_each(|(member, small)| {
                if self.notices(*member)? {
                    self.tally.count(small.fault());
                }
                Ok(())
            });
            let rested = noticed.and_then(|()| self.halt.rest(next.lasts));
            full.iter().try_for_each(|(_, small)| small.free())?;
            drop(room);
            rested?;
        }
        Ok(())
    }

    /// Whether the member tells that its disk is full, or low for a while, within a bound.
    fn notices(&self, member: usize) -> Result<bool, Stop> {
        let end = Instant::now() + NOTICES_WITHIN;
        let mut low_until = None;
        while Instant::now() < end {
            let status = status_of(&self.client_addrs[member], STATUS_WITHIN);
            let disk = status.map_or(DiskState::Ok, |status| status.disk);
            if disk >= DiskState::Soft {
                low_until.get_or_insert_with(|| Instant::now() + LOW_FOR);
            }
            if disk == DiskState::Hard || low_until.is_some_and(|until| Instant::now() > until) {
                return Ok(true);
            }
            self.halt.rest(Duration::from_millis(50))?;
        }
        Ok(false)
    }
}
