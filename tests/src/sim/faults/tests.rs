//! A nemesis without a world: what it begins it ends, and what it must spare it spares.

use std::collections::BTreeSet;

use super::*;

/// Carries nothing out, but keeps the books.
struct Books {
    up: Vec<bool>,
    cuts: BTreeMap<(Host, Host), u32>,
    damaged: BTreeSet<Host>,
    frozen: BTreeSet<Host>,
    seen: Vec<Fault>,
}

impl Books {
    fn new(members: usize) -> Self {
        Self {
            up: vec![true; members],
            cuts: BTreeMap::new(),
            damaged: BTreeSet::new(),
            frozen: BTreeSet::new(),
            seen: Vec::new(),
        }
    }

    /// Says who died.
    fn keep(&mut self, fault: &Fault) -> Option<Host> {
        self.seen.push(fault.clone());
        match *fault {
            Fault::Cut(from, to) => *self.cuts.entry((from, to)).or_default() += 1,
            Fault::Mend(from, to) => {
                let cuts = self.cuts.get_mut(&(from, to)).expect("it was cut");
                *cuts -= 1;
            }
            Fault::ClockRate(host, 0) => drop(self.frozen.insert(host)),
            Fault::ClockRate(host, _) => drop(self.frozen.remove(&host)),
            Fault::Damage(host, damage) if Damage::HARMLESS.contains(&damage) => {
                assert!(!self.up[host], "only who is down is not harmed");
            }
            Fault::Damage(host, _) | Fault::Spoil(host) => drop(self.damaged.insert(host)),
            Fault::Wipe(host) => {
                assert!(!self.up[host], "only who is down is wiped");
                self.damaged.insert(host);
            }
            Fault::Start(host) => self.up[host] = true,
            Fault::Crash(host, ..) | Fault::Stop(host) if self.up[host] => {
                self.up[host] = false;
                return Some(host);
            }
            _ => {}
        }
        None
    }
}

/// Plays a run: somebody leads, writes are acknowledged, everything crashes at once when told.
fn play(plan: &Plan) -> (Nemesis, Books) {
    let mut nemesis = Nemesis::new(plan);
    let mut books = Books::new(plan.hosts());
    let mut random = Random::new(plan.seed);
    let mut faults = Vec::new();
    let end = Instant::default() + plan.run;
    let mut now = Instant::default();
    while now < end {
        now = now + Duration::from_millis(20);
        let leader = random.index(plan.hosts());
        let up = books.up.clone();
        let view = View {
            now,
            leader: up[leader].then_some(leader),
            up: &up,
        };
        while nemesis.next_at().is_some_and(|at| at <= now) {
            nemesis.act(&view, &mut faults);
        }
        let moment = match random.below(6) {
            0 => Moment::Elected(leader),
            1 => Moment::Acknowledged(leader),
            2 => Moment::Votes(leader),
            3 => Moment::Truncates(leader),
            4 => Moment::Rotates(leader),
            _ => Moment::Receives {
                host: random.index(plan.hosts()),
                last: random.below(2) == 0,
            },
        };
        nemesis.moment(moment, &view, &mut faults);
        for fault in faults.drain(..) {
            if let Some(host) = books.keep(&fault) {
                nemesis.died(host, false, &view);
            }
        }
    }
    (nemesis, books)
}

#[test]
fn the_plan_decides_every_fault() {
    for seed in 0..20 {
        let plan = Plan::draw(seed);
        assert_eq!(play(&plan).1.seen, play(&plan).1.seen, "{plan}");
    }
}

#[test]
fn what_begins_ends_and_the_budget_holds() {
    for seed in 0..300 {
        let plan = Plan::draw(seed);
        let (mut nemesis, mut books) = play(&plan);
        let minority = (plan.hosts() - 1) / 2;
        let outside = plan.faults.outside == Some(Outside::EveryCopyBad);
        assert!(outside || books.damaged.len() <= minority, "{plan}");
        // Let everything that lasts come to its end, with nothing new.
        nemesis.next_begin = Instant::default() + Duration::from_secs(1 << 20);
        let mut faults = Vec::new();
        while let Some(now) = nemesis.schedule.next_at() {
            let up = books.up.clone();
            let view = View {
                now,
                leader: None,
                up: &up,
            };
            nemesis.act(&view, &mut faults);
            for fault in faults.drain(..) {
                if let Some(host) = books.keep(&fault) {
                    nemesis.died(host, false, &view);
                }
            }
        }
        assert!(books.cuts.values().all(|cuts| *cuts == 0), "{plan}");
        assert!(books.frozen.is_empty(), "{plan}");
        let down = (0..plan.hosts()).filter(|host| !books.up[*host]);
        assert_eq!(down.count(), 0, "{plan}");
    }
}

#[test]
fn every_kind_begins_and_the_median_run_has_many() {
    let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut totals = Vec::new();
    let (mut hung, mut rotten) = (0, 0);
    for seed in 0..300 {
        let (nemesis, books) = play(&Plan::draw(seed));
        for fault in books.seen {
            hung += u64::from(matches!(fault, Fault::HangKeeper(..)));
            rotten += u64::from(matches!(fault, Fault::Damage(_, Damage::SnapshotContent)));
        }
        totals.push(nemesis.counts.values().sum::<u64>());
        for (kind, count) in nemesis.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    for kind in Kind::ALL {
        assert!(counts.contains_key(&kind), "{} never began", kind.name());
    }
    assert!(
        hung > 0 && rotten > 0,
        "transfers: {hung} hung, {rotten} rotten"
    );
    totals.sort_unstable();
    assert!(totals[totals.len() / 2] >= 20, "{totals:?}");
}

#[test]
fn the_core_is_a_sound_quorum_and_nothing_begins_any_more() {
    for seed in 0..300 {
        let plan = Plan::draw(seed);
        let (mut nemesis, books) = play(&plan);
        let view = View {
            now: Instant::default() + plan.run,
            leader: None,
            up: &books.up,
        };
        let healed = nemesis.heal(&view, None);
        assert!(
            healed
                .core
                .iter()
                .all(|host| nemesis.atlas().is_sound(*host))
        );
        if plan.faults.outside.is_none() {
            assert!(healed.core.len() > plan.hosts() / 2, "{plan}");
        }
        assert_eq!(nemesis.next_at(), None);
        // Who dies of an earlier fault comes back, if it is needed.
        for host in healed.core {
            nemesis.died(host, false, &view);
            assert!(nemesis.next_at().is_some());
        }
    }
}
