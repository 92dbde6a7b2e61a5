//! What the nemesis does, and how members come to their ends.

use raftd::fatal::ExitStatus;

use super::Run;
use crate::sim::carry;
use crate::sim::damage::Damage;
use crate::sim::faults::Fault;
use crate::sim::member::{Death, stays_down};
use crate::sim::net::Host;

impl Run {
    pub(super) fn harm(&mut self) -> Result<(), String> {
        let mut faults = std::mem::take(&mut self.faults);
        self.show(|nemesis, view| nemesis.act(view, &mut faults));
        self.faults = faults;
        self.carry_faults()
    }

    pub(super) fn carry_faults(&mut self) -> Result<(), String> {
        let mut faults = std::mem::take(&mut self.faults);
        for fault in faults.drain(..) {
            match fault {
                Fault::Wipe(host) => self.invariants.new_disk(host),
                Fault::Damage(_, damage) if Damage::HARMLESS.contains(&damage) => {}
                Fault::Damage(host, _) => self.invariants.damaged(host),
                Fault::Spoil(host) => self.invariants.spoiled(host),
                _ => {}
            }
            if let Fault::Damage(host, _) | Fault::Spoil(host) = fault
                && self.nemesis.atlas().is_harmed(host)
            {
                self.harmed_in[host] = Some(self.world.members()[host].lives());
            }
            let died = carry::carry_out(&mut self.world, &self.plan, &fault, &mut self.random);
            if let Some((host, death)) = died {
                self.died(host, &death)?;
            }
        }
        self.faults = faults;
        Ok(())
    }

    pub(super) fn died(&mut self, host: Host, death: &Death) -> Result<(), String> {
        self.up[host] = false;
        self.leads[host] = None;
        self.newest_segments[host] = None;
        if self.invariants.is_spoiled(host) {
            self.hang_up(host);
        }
        let for_good = match death {
            Death::Exited(fatal) => {
                self.watch.exited(fatal.status, &fatal.what);
                stays_down(fatal.status)
            }
            Death::Stopped => {
                self.watch.stopped();
                false
            }
            Death::Removed => return self.was_removed(host),
            Death::Crashed(_) => false,
        };
        if for_good && self.plan.faults.outside.is_none() && !self.nemesis.atlas().may_refuse(host)
        {
            let harmed = self.nemesis.atlas().is_harmed(host);
            let why = if harmed { "can be healed" } else { "is whole" };
            return Err(format!(
                "{} ended itself though its data {why}: {death:?}",
                host + 1
            ));
        }
        if let Death::Exited(fatal) = death
            && !matches!(
                fatal.status,
                ExitStatus::Damaged | ExitStatus::Io | ExitStatus::Config
            )
        {
            return Err(format!("{} ended itself: {fatal:?}", host + 1));
        }
        self.show(|nemesis, view| nemesis.died(host, for_good, view));
        Ok(())
    }
}
