//! The second phase of a run: a core is healed, and must make progress.

use std::time::Duration;

use raft::{Instant, RoleName};

use super::Run;
use crate::sim::faults::{Healed, Rest};
use crate::sim::member::{Crash, Death, Pace};
use crate::sim::net::{Host, Net, Weather};

/// So many election timeouts, upper ends, a healed core has for each thing that it owes.
pub const PATIENCE: u32 = 20;
/// So many leaders with a wrong state, one behind the other.
const DEPOSED_MAX: u32 = 5;
/// So long clients go on asking a healed core.
const SERVICE: Duration = Duration::from_secs(2);

impl Run {
    /// The core is made whole, and the others are left behind.
    pub(super) fn heal(&mut self) -> Result<Healed, String> {
        let members = self.operator.is_some().then(|| self.members_ever());
        let healed = self.show(|nemesis, view| nemesis.heal(view, members));
        self.retire_operator()?;
        self.world.note(|| format!("healed: {healed:?}"));
        let hosts = self.plan.hosts() + 1;
        let longest = self.plan.election_timeout / 4;
        for from in 0..hosts {
            for to in 0..hosts {
                let delay = self.plan.links[from][to].delay.min(longest);
                let fair = Weather::fair(delay, longest);
                self.world
                    .disturb(|net, _, _| net.set_weather(from, to, fair));
            }
        }
        self.world.disturb(Net::mend_all);
        for host in 0..self.plan.hosts() {
            match healed.lives(host) {
                true => self.cure(host)?,
                false => self.leave_behind(host, healed.rest)?,
            }
        }
        Ok(healed)
    }

    fn cure(&mut self, host: Host) -> Result<(), String> {
        // What is damaged is found out at the next start at the latest.
        let lives = self.world.members()[host].lives();
        if self.harmed_in[host] == Some(lives) && self.world.crash(host, Crash::Kill) {
            self.died(host, &Death::Crashed(Crash::Kill))?;
        }
        let pace = Pace {
            disk: Duration::from_micros(200),
            disk_max: Duration::from_millis(20),
            ..self.world.members()[host].pace
        };
        self.world.cure(host, pace);
        let member = &self.world.members()[host];
        member.disk().set_capacity(self.plan.storage.disk_bytes);
        let is_wanted = self.operator.is_none() || self.members_now().contains(&host);
        if !member.is_up() && is_wanted {
            self.world.start_later(host, Duration::ZERO);
        }
        Ok(())
    }

    fn leave_behind(&mut self, host: Host, rest: Rest) -> Result<(), String> {
        match rest {
            Rest::Dead => {
                if self.world.crash(host, Crash::Kill) {
                    self.died(host, &Death::Crashed(Crash::Kill))?;
                }
            }
            Rest::CutOff => {
                for other in (0..=self.plan.hosts()).filter(|other| *other != host) {
                    self.world.disturb(|net, _, _| {
                        net.cut(host, other);
                        net.cut(other, host);
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether the core is one of which the rules promise progress: a quorum of members with whole
    /// data or, if the cluster never formed, all.
    pub(super) fn must_go_on(&self, healed: &Healed) -> bool {
        if self.operator.is_some() {
            return true;
        }
        let quorum = self.plan.members / 2 + 1;
        self.plan.faults.outside.is_none() && healed.core.len() >= quorum
    }

    /// Demands what a healed core owes: a leader that commits, members that were damaged made whole,
    /// an end for every request, the same state on all of them.
    pub(super) fn demand_progress(&mut self, healed: &Healed) -> Result<(), String> {
        let began = self.world.now();
        let served = self.living(healed);
        self.clients.calm(began, &served, &mut self.actions);
        self.act();
        self.within("no leader commits", |run| run.serves(&run.living(healed)))?;
        self.pass(self.world.now() + SERVICE)?;
        self.depose_wrong_leaders()?;
        self.within("a member is not whole", |run| {
            run.are_whole(&run.living(healed))
        })?;
        // Who was given up meanwhile never learns it if all whom it was told of are gone.
        let left = self.living(healed);
        if left != served {
            self.clients.calm(began, &left, &mut self.actions);
            self.act();
        }
        self.clients.stop_issuing();
        self.within("the members do not settle", |run| {
            run.has_settled(&run.living(healed))
        })?;
        self.within("a request has no end", |run| run.clients.pending() == 0)?;
        self.within("the core differs", |run| run.agrees(&run.living(healed)))?;
        self.within("a snapshot is not done", |run| {
            run.has_marked(&run.living(healed))
        })
    }

    /// What a leader with a wrong state answers is heard by nobody. So clients ask for the same again
    /// and again, which brings no entries, and no digest that would tell: it is ended.
    fn depose_wrong_leaders(&mut self) -> Result<(), String> {
        for _ in 0..DEPOSED_MAX {
            let leader = self.leader();
            let Some(wrong) = leader.filter(|host| self.invariants.is_spoiled(*host)) else {
                return Ok(());
            };
            if self.world.crash(wrong, Crash::Kill) {
                self.died(wrong, &Death::Crashed(Crash::Kill))?;
            }
            self.pass(self.world.now() + SERVICE)?;
            self.world.start_later(wrong, Duration::ZERO);
            self.pass(self.world.now() + SERVICE)?;
        }
        Ok(())
    }

    /// The core, and the members that it heals; but for those that refuse to start.
    fn living(&self, healed: &Healed) -> Vec<Host> {
        let atlas = self.nemesis.atlas();
        let harmed = healed.harmed.iter().copied();
        let harmed = harmed.filter(|host| atlas.is_harmed(*host) || atlas.is_sound(*host));
        let living = healed.core.iter().copied().chain(harmed);
        match &self.operator {
            Some(_) => {
                let members = self.members_now();
                living.filter(|host| members.contains(host)).collect()
            }
            None => living.collect(),
        }
    }

    /// Whether all of them are up, miss nothing and have a state to serve from.
    fn are_whole(&self, hosts: &[Host]) -> bool {
        hosts.iter().all(|host| {
            let node = self.world.members()[*host].node();
            node.is_some_and(|node| {
                let raft = node.raft();
                let sound = !raft.hard_state().lost && raft.faulty().is_none();
                sound && node.status().state == "serving" && !self.invariants.is_spoiled(*host)
            })
        })
    }

    /// Lets time pass until it is so, but not for more than [`PATIENCE`].
    fn within(&mut self, complaint: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let began = self.world.now();
        let end = began + self.timeouts(PATIENCE);
        while !self.over && !is_so(self) {
            let now = self.world.now();
            if now >= end {
                let states = self.describe();
                return Err(format!(
                    "{complaint} within {PATIENCE} election timeouts\n{states}"
                ));
            }
            self.pass((now + self.timeouts(1) / 2).min(end))?;
        }
        let took = self.world.now().since(began);
        self.world
            .note(|| format!("not {complaint:?} any more after {took:?}"));
        Ok(())
    }

    /// Whether one of these members leads and has committed in its term.
    fn serves(&self, living: &[Host]) -> bool {
        let mut leaders = self.world.nodes().filter(|(host, node)| {
            let raft = node.raft();
            let leads = raft.role() == RoleName::Leader && raft.quorum_ok(self.local(*host));
            leads && living.contains(host) && node.store().applied().term == raft.term()
        });
        leaders.next().is_some()
    }

    fn local(&self, host: Host) -> Instant {
        self.world.members()[host].monotonic(self.world.now())
    }

    /// Whether all members of the core are up and hold and have applied the same.
    fn agrees(&self, core: &[Host]) -> bool {
        let mut places = core.iter().map(|host| {
            let node = self.world.members()[*host].node()?;
            let (raft, applied) = (node.raft(), node.store().applied());
            (raft.last() == applied && raft.durable() == applied.index).then_some(applied)
        });
        let Some(Some(first)) = places.next() else {
            return false;
        };
        places.all(|place| place == Some(first))
    }

    /// Whether nobody in the core is busy with a snapshot.
    fn has_marked(&self, core: &[Host]) -> bool {
        let nodes = core
            .iter()
            .filter_map(|host| self.world.members()[*host].node());
        nodes.into_iter().all(|node| !node.waiting().snapshot)
    }

    /// Where everybody is.
    fn describe(&self) -> String {
        let mut text = self.clients.describe();
        for (host, member) in self.world.members().iter().enumerate() {
            text += &match member.node() {
                None => format!("{} is down\n", host + 1),
                Some(node) => {
                    let raft = node.raft();
                    format!(
                        "{} id={} {:?} term={} leader={:?} last={} durable={} commit={} applied={} \
                         base={} snapshot={} faulty={:?} {:?} spoiled={} {:?} {}\n",
                        host + 1,
                        member.id,
                        raft.role(),
                        raft.term(),
                        raft.leader(),
                        raft.last(),
                        raft.durable(),
                        raft.commit(),
                        node.store().applied(),
                        raft.base(),
                        node.status().snapshot,
                        raft.faulty(),
                        node.status().state,
                        self.invariants.is_spoiled(host),
                        node.waiting(),
                        node.status().error,
                    )
                }
            };
        }
        text
    }
}
