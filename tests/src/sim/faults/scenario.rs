//! How each kind of fault begins and ends.

use std::time::Duration;

use raftd::disk::sim::{Fault as DiskFault, Operation};

use super::super::damage::Damage;
use super::super::member::Crash;
use super::super::net::{Host, Weather};
use super::super::plan::Outside;
use super::super::random::MILLION;
use super::super::stranger::Stranger;
use super::kind::Kind;
use super::{Fault, Nemesis, View, When};

/// Whoever falls behind is cut off so long.
const LAG_MIN: Duration = Duration::from_secs(3);
const LAG_MAX: Duration = Duration::from_secs(15);

impl Fault {
    /// What takes back a cut.
    ///
    /// # Panics
    /// For other faults: a bug of the caller.
    pub(super) fn end(&self) -> Self {
        match self {
            Self::Cut(from, to) => Self::Mend(*from, *to),
            other => unreachable!("only cuts are taken back alike, not {other:?}"),
        }
    }
}

impl Nemesis {
    /// Begins a fault of this kind. False: it makes no sense now.
    pub(super) fn begin(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        use Kind as K;
        let begun = match kind {
            K::OneWayCut | K::Partition | K::Isolation | K::Bridge | K::Star | K::Ring => {
                self.begin_cuts(kind, view, out)
            }
            K::Lag => {
                let host = self.victim(view);
                self.fall_behind(host, view);
                true
            }
            K::Flapping => self.flap(view),
            K::Clog | K::Echo => self.clog(kind, view, out),
            K::Reset => self.reset(view, out),
            K::Storm => self.storm(view, out),
            K::LeaderUnseen => self.hide_leader(view, out),
            K::SlowDisk | K::SlowLeader | K::SlowFollowers => self.slow(kind, view, out),
            K::DiskHang => {
                let lasts = self.lasts();
                out.push(Fault::Hang(self.victim(view), lasts));
                true
            }
            K::DiskError | K::NoSpaceAt => self.fail_disk(kind, view, out),
            K::FullDisk => self.fill_disks(view, out),
            K::Damage | K::Wipe | K::WrongState => self.damage(kind, view, out),
            K::Crash
            | K::CrashAtOperation
            | K::CrashAtSend
            | K::CrashAtReport
            | K::CrashInRecovery => self.crash_one(kind, view, out),
            K::Blackout => self.black_out(out),
            K::Pause => {
                let lasts = self.lasts();
                out.push(Fault::Pause(self.victim(view), lasts));
                true
            }
            K::Stop => {
                out.push(Fault::Stop(self.victim(view)));
                true
            }
            K::Drift | K::Leap | K::WallClock | K::Freeze => self.set_clock(kind, view, out),
            K::Stranger => self.call_strangely(out),
            K::CrashAfterAcknowledgement
            | K::BlackoutAfterAcknowledgement
            | K::CrashAtVote
            | K::CrashAtTruncation
            | K::PauseOverElection
            | K::ShortReigns
            | K::Divergence
            | K::BrokenTransfer
            | K::OvertakenTransfer
            | K::RottenTransfer
            | K::RottenSegment
            | K::TornChange => {
                self.arm(kind, view);
                true
            }
        };
        if begun {
            self.count(kind);
        }
        begun
    }

    // --- network ---

    fn begin_cuts(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let mut hosts: Vec<Host> = (0..self.plan.hosts()).collect();
        for at in (1..hosts.len()).rev() {
            hosts.swap(at, self.random.index(at + 1));
        }
        let members = hosts.len();
        let cut = match kind {
            Kind::OneWayCut => vec![(self.victim(view), hosts[0])],
            Kind::Isolation => {
                let alone = self.victim(view);
                let others = hosts.iter().filter(|host| **host != alone);
                others
                    .flat_map(|other| [(alone, *other), (*other, alone)])
                    .collect()
            }
            Kind::Partition => {
                let (few, most) =
                    hosts.split_at(self.random.within(1..=members as u64 / 2) as usize);
                self.apart(few, most)
            }
            Kind::Bridge => self.apart(&hosts[1..=members / 2], &hosts[members / 2 + 1..]),
            Kind::Star => self.apart_but(&hosts, |a, b| a == 0 || b == 0),
            Kind::Ring => self.apart_but(&hosts, |a, b| {
                a.abs_diff(b) == 1 || a.abs_diff(b) == members - 1
            }),
            other => unreachable!("{} is no matter of cuts", other.name()),
        };
        let cuts: Vec<Fault> = cut
            .into_iter()
            .filter(|(from, to)| from != to)
            .map(|(from, to)| Fault::Cut(from, to))
            .collect();
        if cuts.is_empty() {
            return false;
        }
        let mends = cuts.iter().map(Fault::end).collect();
        out.extend(cuts);
        let lasts = self.lasts();
        self.later(view, lasts, mends);
        true
    }

    /// Nobody hears it for long, nor does it hear anybody.
    pub(super) fn fall_behind(&mut self, alone: Host, view: &View<'_>) {
        let others = (0..self.plan.hosts()).filter(|other| *other != alone);
        let cuts: Vec<Fault> = others
            .flat_map(|other| [Fault::Cut(alone, other), Fault::Cut(other, alone)])
            .collect();
        let mends = cuts.iter().map(Fault::end).collect();
        let lasts = self.random.time(LAG_MIN..=LAG_MAX);
        self.later(view, Duration::ZERO, cuts);
        self.later(view, lasts, mends);
    }

    /// The links between two groups, in both directions or, more wickedly, in one.
    fn apart(&mut self, some: &[Host], others: &[Host]) -> Vec<(Host, Host)> {
        let both = !self.random.chance(MILLION / 4);
        let pairs = some
            .iter()
            .flat_map(|a| others.iter().map(move |b| (*a, *b)));
        pairs
            .flat_map(|(a, b)| {
                if both {
                    vec![(a, b), (b, a)]
                } else {
                    vec![(a, b)]
                }
            })
            .collect()
    }

    /// All links but those that `stay`, which sees places in `hosts`.
    fn apart_but(&self, hosts: &[Host], stay: impl Fn(usize, usize) -> bool) -> Vec<(Host, Host)> {
        let places = 0..hosts.len();
        let pairs = places
            .clone()
            .flat_map(|a| places.clone().map(move |b| (a, b)));
        pairs
            .filter(|(a, b)| a != b && !stay(*a, *b))
            .map(|(a, b)| (hosts[a], hosts[b]))
            .collect()
    }

    fn flap(&mut self, view: &View<'_>) -> bool {
        let host = self.victim(view);
        let other = self.random.index(self.plan.hosts() + 1);
        let alone = self.random.chance(MILLION / 2);
        let peers: Vec<Host> = (0..=self.plan.hosts())
            .filter(|peer| *peer != host && (alone || *peer == other))
            .collect();
        let mut at = Duration::ZERO;
        for _ in 0..self.random.within(2..=8) {
            let (down, up) = (
                self.random.time(Duration::ZERO..=self.timeouts(1)),
                self.timeouts(1),
            );
            let both = peers.iter().flat_map(|peer| [(host, *peer), (*peer, host)]);
            let cuts: Vec<Fault> = both.map(|(from, to)| Fault::Cut(from, to)).collect();
            let mends = cuts.iter().map(Fault::end).collect();
            self.later(view, at, cuts);
            self.later(view, at + down, mends);
            at += down + self.random.time(Duration::ZERO..=up);
        }
        !peers.is_empty()
    }

    fn clog(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let host = self.victim(view);
        let lasts = self.lasts();
        let to_all = kind == Kind::Echo || self.random.chance(MILLION / 2);
        let one = self.random.index(self.plan.hosts() + 1);
        let others = (0..=self.plan.hosts()).filter(|to| *to != host && (to_all || *to == one));
        out.extend(others.map(|to| Fault::Clog(host, to, lasts)));
        if kind == Kind::Echo {
            let crash = Fault::Crash(host, Crash::Kill, When::Now);
            let soon = self.random.time(Duration::ZERO..=lasts / 2);
            self.later(view, soon, vec![crash]);
        }
        true
    }

    fn reset(&mut self, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let host = self.victim(view);
        let one = self.random.index(self.plan.hosts() + 1);
        let all = self.random.chance(MILLION / 3);
        let others =
            (0..=self.plan.hosts()).filter(|other| *other != host && (all || *other == one));
        out.extend(others.map(|other| Fault::Reset(host, other)));
        true
    }

    fn storm(&mut self, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let rate = |random: &mut super::Random, worst: u64| {
            let there = random.chance(MILLION / 2);
            if there {
                random.within(worst / 10..=worst) as u32
            } else {
                0
            }
        };
        let trouble = Weather {
            loss: rate(&mut self.random, 100_000),
            duplication: rate(&mut self.random, 300_000),
            reordering: rate(&mut self.random, 200_000),
            tearing: rate(&mut self.random, 300_000),
            corruption: rate(&mut self.random, 20_000),
            resets: rate(&mut self.random, 10_000),
            ..self.plan.links[0][0]
        };
        let share = *self.random.pick(&[MILLION, MILLION / 3]);
        let mut calm = Vec::new();
        for from in 0..=self.plan.hosts() {
            for to in 0..=self.plan.hosts() {
                if from == to || !self.random.chance(share) {
                    continue;
                }
                let usual = self.plan.links[from][to];
                out.push(Fault::Weather(
                    from,
                    to,
                    Weather {
                        delay: usual.delay,
                        delay_max: usual.delay_max,
                        ..trouble
                    },
                ));
                calm.push(Fault::Weather(from, to, usual));
            }
        }
        let lasts = self.lasts();
        self.later(view, lasts, calm);
        true
    }

    fn hide_leader(&mut self, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let Some(leader) = view.leader else {
            return false;
        };
        let clients = self.plan.hosts();
        let lasts = self.lasts();
        let cuts = [Fault::Cut(clients, leader), Fault::Cut(leader, clients)];
        // The requests do not arrive, or the answers do not.
        let cuts = match self.random.below(3) {
            0 => &cuts[..],
            1 => &cuts[..1],
            _ => &cuts[1..],
        };
        out.extend_from_slice(cuts);
        self.later(view, lasts, cuts.iter().map(Fault::end).collect());
        true
    }

    /// Not before the members know each other: who lies about being one of them while they meet
    /// for the first time is a member as far as anybody can tell.
    fn call_strangely(&mut self, out: &mut Vec<Fault>) -> bool {
        if !self.formed {
            return false;
        }
        let host = self.host();
        let stranger = Stranger::draw(&mut self.random, self.plan.members, host);
        out.push(Fault::Stranger(host, stranger));
        true
    }

    // --- disk ---

    fn slow(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let hosts: Vec<Host> = match (kind, view.leader) {
            (Kind::SlowDisk, _) => vec![self.victim(view)],
            (_, None) => return false,
            (Kind::SlowLeader, Some(leader)) => vec![leader],
            (_, Some(leader)) => (0..self.plan.hosts())
                .filter(|host| *host != leader)
                .collect(),
        };
        let usual = self
            .random
            .time(Duration::from_millis(2)..=Duration::from_millis(150));
        let most = self.random.time(usual..=Duration::from_secs(10));
        out.extend(hosts.iter().map(|host| Fault::Pace(*host, usual, most)));
        let machines = &self.plan.machines;
        let back = |host: &Host| Fault::Pace(*host, machines[*host].disk, machines[*host].disk_max);
        let back = hosts.iter().map(back).collect();
        let lasts = self.lasts();
        self.later(view, lasts, back);
        true
    }

    fn fail_disk(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        const WHERE: [Operation; 6] = [
            Operation::Create,
            Operation::Write,
            Operation::Store,
            Operation::Rename,
            Operation::SyncDir,
            Operation::Remove,
        ];
        let host = self.victim(view);
        let often = self.random.chance(MILLION * 2 / 3);
        out.push(match (kind, often) {
            (Kind::DiskError, true) => Fault::FailDisk(host, Operation::Sync, DiskFault::Io),
            (Kind::DiskError, false) => {
                Fault::FailDisk(host, *self.random.pick(&WHERE), DiskFault::Io)
            }
            // Room is reserved when a file is made, so that is where an honest disk says it.
            (_, true) => Fault::FailDisk(host, Operation::Create, DiskFault::NoSpace),
            (_, false) => Fault::FailDiskAt(host, self.random.within(1..=60), DiskFault::NoSpace),
        });
        true
    }

    fn fill_disks(&mut self, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let share = *self.random.pick(&[MILLION, MILLION / 2, MILLION / 8]);
        let hosts: Vec<Host> = (0..self.plan.hosts())
            .filter(|_| self.random.chance(share))
            .collect();
        let room = self.random.below(2 * self.plan.storage.segment_bytes);
        out.extend(hosts.iter().map(|host| Fault::Room(*host, Some(room))));
        let lasts = self.lasts() * 4;
        let back = hosts.iter().map(|host| Fault::Room(*host, None)).collect();
        self.later(view, lasts, back);
        !hosts.is_empty()
    }

    /// Within the budget, and only once there is something to lose.
    fn damage(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let host = self.victim(view);
        let outside = self.plan.faults.outside;
        if !self.formed {
            return false;
        }
        if kind == Kind::Damage && outside.is_none() && self.random.chance(MILLION / 4) {
            let harmless = Fault::Damage(host, *self.random.pick(&Damage::HARMLESS));
            self.when_down(host, harmless, view, out);
            return true;
        }
        // Digests that are compared seldom find nothing out within a run.
        let unseen = kind == Kind::WrongState && self.plan.limits.digest_entries > 100;
        // A member less is a lot: it must not happen at the beginning of every run.
        let rare = *self.random.pick(&[kind == Kind::Wipe, true, false, false]);
        let rather_not = outside.is_none() && rare && self.random.chance(MILLION * 2 / 3);
        // Whoever has not begun yet, or was removed, has nothing to lose.
        let may_be_none = self.plan.changes.is_some() && !view.up[host];
        if unseen || rather_not || may_be_none {
            return false;
        }
        let fault = match (kind, outside) {
            (Kind::Wipe, _) => Fault::Wipe(host),
            (Kind::WrongState, _) => Fault::Spoil(host),
            (_, Some(Outside::LastBatchRots)) => {
                let damage = *self.random.pick(&[Damage::LastBatch, Damage::LastMark]);
                Fault::Damage(host, damage)
            }
            _ => {
                let segment_bytes = self.plan.storage.segment_bytes;
                Fault::Damage(host, Damage::draw(&mut self.random, segment_bytes))
            }
        };
        let may_refuse = match &fault {
            Fault::Damage(_, damage) => damage.may_be_final(),
            Fault::Wipe(_) => true,
            _ => false,
        };
        if !self.atlas.harm(host, may_refuse) {
            return false;
        }
        if kind == Kind::Wipe {
            self.atlas.lose(host);
        }
        let undermines = matches!(&fault, Fault::Damage(_, damage) if damage.undermines());
        if kind == Kind::Damage && !undermines && self.random.chance(MILLION / 3) {
            out.push(fault);
        } else {
            self.when_down(host, fault, view, out);
        }
        true
    }

    /// Within the budget: the newest snapshot of a member that goes on using it.
    pub(super) fn rot_snapshot(&mut self, host: Host, out: &mut Vec<Fault>) -> bool {
        let damage = Damage::SnapshotContent;
        let may = self.atlas.harm(host, damage.may_be_final());
        if may {
            out.push(Fault::Damage(host, damage));
        }
        may
    }

    /// Within the budget: where a log has just gone on in another segment.
    pub(super) fn rot_segment(
        &mut self,
        host: Host,
        view: &View<'_>,
        out: &mut Vec<Fault>,
    ) -> bool {
        let damage = *self.random.pick(&Damage::BETWEEN_SEGMENTS);
        let may = self.atlas.harm(host, damage.may_be_final());
        if may {
            self.when_down(host, Fault::Damage(host, damage), view, out);
        }
        may
    }

    /// Has it done to a member that is down, and sees to it that it soon is.
    fn when_down(&mut self, host: Host, fault: Fault, view: &View<'_>, out: &mut Vec<Fault>) {
        self.when_down[host].push(fault);
        if view.up[host] {
            let crash = self.crash();
            out.push(Fault::Crash(host, crash, When::Now));
        }
    }

    // --- process ---

    fn crash_one(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let host = self.victim(view);
        if !view.up[host] {
            return false;
        }
        let crash = self.crash();
        let when = match kind {
            Kind::CrashAtOperation => When::Operation(self.random.within(1..=80)),
            Kind::CrashAtSend => When::Effects(self.random.below(12) as u32),
            Kind::CrashAtReport => When::Report,
            Kind::CrashInRecovery => {
                let after = self.random.within(1..=40);
                let again = self.crash();
                self.when_down[host].push(Fault::CrashInRecovery(host, after, again));
                When::Now
            }
            _ => When::Now,
        };
        out.push(Fault::Crash(host, crash, when));
        true
    }

    /// All, or a majority: those who are left may know better than those who come back.
    fn black_out(&mut self, out: &mut Vec<Fault>) -> bool {
        let lying = self.plan.faults.outside == Some(Outside::LyingSyncs);
        let crash = if lying {
            Crash::PowerLoss
        } else {
            self.crash()
        };
        let mut hosts: Vec<Host> = (0..self.plan.hosts()).collect();
        if self.random.chance(MILLION / 2) {
            while hosts.len() > self.plan.hosts() / 2 + 1 {
                hosts.swap_remove(self.random.index(hosts.len()));
            }
        }
        out.extend(
            hosts
                .into_iter()
                .map(|host| Fault::Crash(host, crash, When::Now)),
        );
        true
    }

    // --- clocks ---

    fn set_clock(&mut self, kind: Kind, view: &View<'_>, out: &mut Vec<Fault>) -> bool {
        let host = self.victim(view);
        let lasts = self.lasts();
        let back = Fault::ClockRate(host, self.plan.machines[host].clock_rate);
        match kind {
            Kind::Drift => {
                let rate = self.random.within(500_000..=1_500_000) as u32;
                out.push(Fault::ClockRate(host, rate));
                self.later(view, lasts, vec![back]);
            }
            Kind::Freeze => {
                out.push(Fault::ClockRate(host, 0));
                self.later(view, lasts, vec![back]);
            }
            Kind::Leap => {
                let longest = *self.random.pick(&[1, 60, 3600]);
                let by = self
                    .random
                    .time(Duration::ZERO..=Duration::from_secs(longest));
                out.push(Fault::ClockLeap(host, by));
            }
            _ => {
                let ahead_ms = self.random.within(0..=7_200_000) as i64 - 3_600_000;
                out.push(Fault::WallClock(host, ahead_ms));
            }
        }
        true
    }
}
