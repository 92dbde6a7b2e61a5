//! What is drawn from a seed, part by part.

use std::ops::Range;
use std::time::Duration;

use raftd::node::{Limits, Policy};
use raftd::wal::entry_bytes_max;

use super::{Changes, Faults, Machine, Mix, Outside, Plan, Storage, Wishes, Workload};
use crate::sim::faults::kind::Kind;
use crate::sim::net::Weather;
use crate::sim::random::{MILLION, Random};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Plan {
    /// What this seed decides.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut root = Random::new(seed ^ 0x7261_6674_645f_7369);
        let [
            mut shape,
            mut timing,
            mut bounds,
            mut places,
            mut lines,
            mut work,
            mut harm,
            mut frost,
            mut growth,
        ] = std::array::from_fn(|_| root.fork());
        let members = members(&mut shape);
        let run = Duration::from_millis(shape.within(61_000..=75_000));
        let election_timeout = election_timeout(&mut timing);
        let heartbeat = between(&mut timing, election_timeout / 8, election_timeout / 2);
        let storage = storage(&mut bounds);
        let changes = changes(&mut growth, members);
        let machines_count = members + changes.map_or(0, |changes| changes.spares);
        let faults = faults(&mut harm, members, run, changes);
        let mut workload = workload(&mut work, members, run, &storage);
        workload.bounds_hold = !faults.kinds.contains(&Kind::Freeze);
        Self {
            seed,
            members,
            changes,
            run,
            election_timeout,
            heartbeat: heartbeat.max(Duration::from_millis(1)),
            same_seeds: timing.chance(MILLION / 10),
            limits: limits(&mut bounds, &storage),
            snapshots: snapshots(&mut frost),
            storage,
            machines: machines(&mut places, machines_count, &storage),
            links: links(&mut lines, machines_count + 1, election_timeout),
            workload,
            faults,
        }
    }
}

/// In four of ten runs the members change.
fn changes(random: &mut Random, members: usize) -> Option<Changes> {
    let some = random.chance(MILLION * 2 / 5);
    let mut weight = |most: u64| random.below(most + 1) as u32;
    let wishes = Wishes {
        add: 1 + weight(8),
        remove: weight(8),
        promote: weight(4),
        demote: weight(4),
        update: weight(2),
        transfer: weight(6),
        intrude: weight(1),
    };
    let mut changes = Changes {
        spares: random.within(1..=5) as usize,
        every: Duration::from_millis(random.within(300..=4_000)),
        wishes,
        absent: *random.pick(&[0, MILLION / 10, MILLION / 2]),
        harm: random.chance(MILLION / 3) && members >= 3,
    };
    if changes.harm {
        (changes.wishes.remove, changes.wishes.demote) = (0, 0);
    }
    some.then_some(changes)
}

/// Three and five are what people run; the others have their own ways to go wrong.
fn members(random: &mut Random) -> usize {
    const OF_A_HUNDRED: [(u64, usize); 7] =
        [(44, 3), (24, 5), (8, 4), (8, 7), (6, 1), (5, 2), (5, 6)];
    let mut drawn = random.below(100);
    for (share, members) in OF_A_HUNDRED {
        if drawn < share {
            return members;
        }
        drawn -= share;
    }
    unreachable!("the shares are a hundred")
}

/// Mostly the default or near it. Documented: 10 ms to 60 s; beyond a second a run is too short
/// for many leaders.
fn election_timeout(random: &mut Random) -> Duration {
    Duration::from_millis(match random.below(10) {
        0..=4 => 150,
        5..=6 => random.within(60..=150),
        7..=8 => random.within(150..=500),
        _ => random.within(500..=1000),
    })
}

fn storage(random: &mut Random) -> Storage {
    // In small segments there is much rotation. Only large ones hold more than one batch can
    // reach, which recovery has cases of its own for.
    let segment_bytes = match random.below(25) {
        0..=16 => 256 * KIB,
        17..=20 => 512 * KIB,
        21..=22 => MIB,
        _ => 4 * MIB,
    };
    Storage {
        segment_bytes,
        soft_free_bytes: *random.pick(&[0, 2 * MIB]),
        tail_bytes: *random.pick(&[0, 64 << 10, 8 << 20]),
        scrubs: random.chance(MILLION / 2),
        disk_bytes: 1 << 30,
    }
}

/// Each is tiny in some runs. The uncommitted bytes must hold an entry; a window lets one more
/// pass, so that it may be smaller.
fn limits(random: &mut Random, storage: &Storage) -> Limits {
    let usual = Limits::default();
    let entry_bytes_max = entry_bytes_max(storage.segment_bytes);
    let mut tiny = |of_a_hundred: u64| random.below(100) < of_a_hundred;
    Limits {
        window_bytes: match (tiny(30), tiny(50)) {
            (true, true) => 32 << 10,
            (true, false) => entry_bytes_max,
            (false, _) => usual.window_bytes,
        },
        cache_bytes: if tiny(40) { 4 << 10 } else { usual.cache_bytes },
        uncommitted_bytes_max: if tiny(25) {
            entry_bytes_max
        } else {
            usual.uncommitted_bytes_max
        },
        entry_bytes_max,
        parked_max: if tiny(15) { 16 } else { usual.parked_max },
        turn_entries_max: if tiny(25) { 2 } else { usual.turn_entries_max },
        sessions_max: if tiny(25) { 12 } else { usual.sessions_max },
        digest_entries: if tiny(75) { 8 } else { usual.digest_entries },
        // Always: a run is over before the usual ones end a view.
        views_max: 4,
        view_idle_max: Duration::from_secs(1),
        view_age_max: Duration::from_secs(3),
    }
}

/// Rare, by one reason or another; in a quarter of the runs there are none.
fn snapshots(random: &mut Random) -> Policy {
    let mut policy = Policy {
        gap: Duration::from_millis(random.below(3_000)),
        piece_bytes: *random.pick(&[1 << 10, 4 << 10, 64 << 10, 1 << 20]),
        ..Policy::default()
    };
    match random.below(8) {
        0 | 1 => {}
        2..=4 => policy.entries = random.within(10..=500),
        5 => policy.interval = Duration::from_millis(random.within(500..=10_000)),
        6 => policy.growth_percent = random.within(5..=100),
        _ => {
            policy.log_bytes = random.within(4 * KIB..=256 * KIB);
            policy.log_factor = random.below(3);
        }
    }
    policy
}

fn machines(random: &mut Random, members: usize, storage: &Storage) -> Vec<Machine> {
    // One sort of disk for all in most runs, or each its own.
    let alike = random.chance(MILLION / 2);
    let usual = disk(random);
    let drifting = random.chance(MILLION / 3);
    let astray = random.chance(MILLION / 3);
    let keep_bytes = *random.pick(&[0, 0, 256 * KIB, MIB]);
    let keeping_alike = random.chance(MILLION / 2);
    // A log on such a disk has a spare or none, so that it is full soon; where few are, writing goes on.
    let cramped = if random.chance(MILLION / 6) {
        MILLION / 4
    } else {
        0
    };
    let one = |_| {
        let (disk, disk_max) = if alike { usual } else { disk(random) };
        Machine {
            turn: Duration::from_micros(random.within(2..=60)),
            disk,
            disk_max,
            clock_rate: if drifting {
                random.within(900_000..=1_100_000) as u32
            } else {
                MILLION
            },
            wall_ahead_ms: if astray {
                random.within(0..=7_200_000) as i64 - 3_600_000
            } else {
                0
            },
            keep_bytes: if keeping_alike {
                keep_bytes
            } else {
                *random.pick(&[0, 256 * KIB, MIB])
            },
            disk_bytes: if random.chance(cramped) {
                storage.segment_bytes * random.within(3..=6)
            } else {
                storage.disk_bytes
            },
        }
    };
    (0..members).map(one).collect()
}

/// Usual and longest time of a round of disk work.
fn disk(random: &mut Random) -> (Duration, Duration) {
    let usual = match random.below(20) {
        0 => Duration::from_nanos(1),
        1..=15 => between(random, Duration::from_micros(30), Duration::from_millis(2)),
        _ => between(random, Duration::from_millis(2), Duration::from_millis(20)),
    };
    let most = between(random, usual * 4, Duration::from_secs(10));
    (usual, most)
}

fn links(random: &mut Random, hosts: usize, election_timeout: Duration) -> Vec<Vec<Weather>> {
    // A message and its answer must fit into an election timeout, or nobody ever leads.
    let usual = between(random, Duration::from_micros(20), election_timeout / 12);
    let most = between(random, usual * 2, election_timeout * 2);
    let uneven = random.chance(MILLION / 3);
    // Each trouble is there in some runs only, on some links only.
    let mut trouble = |of_a_hundred: u64, worst: u64| {
        let there = random.below(100) < of_a_hundred;
        if there {
            spread(random, 10, worst) as u32
        } else {
            0
        }
    };
    let foul = Weather {
        delay: usual,
        delay_max: most,
        loss: trouble(25, 20_000),
        duplication: trouble(30, 100_000),
        reordering: trouble(25, 50_000),
        tearing: trouble(30, 100_000),
        corruption: trouble(20, 3_000),
        resets: trouble(25, 1_000),
    };
    let one = |_| {
        let delay = if uneven {
            between(random, usual / 2, usual * 2)
        } else {
            usual
        };
        let fair = Weather::fair(delay, most.max(delay));
        if random.chance(MILLION / 2) {
            fair
        } else {
            Weather {
                delay,
                delay_max: most.max(delay),
                ..foul
            }
        }
    };
    let mut drawn = (0..hosts * hosts).map(one).collect::<Vec<_>>().into_iter();
    (0..hosts)
        .map(|_| drawn.by_ref().take(hosts).collect())
        .collect()
}

fn workload(random: &mut Random, members: usize, run: Duration, storage: &Storage) -> Workload {
    let clients = random.within(2..=10) as usize;
    let in_flight = *random.pick(&[1, 1, 2, 4, 16]);
    // Requests a second, all clients together, while all is well.
    let rate = random.within(110..=230) * 6 / (members as u64 + 3);
    let mut weight = |of_a_hundred: u64| {
        let there = random.below(100) < of_a_hundred;
        if there {
            random.within(1..=10) as u32
        } else {
            0
        }
    };
    let mix = Mix {
        put: 2 + weight(80),
        delete: weight(60),
        cas: weight(60),
        increment: weight(60),
        get: weight(85),
        scan: weight(80),
        compound: weight(50),
    };
    let large_value_bytes = (entry_bytes_max(storage.segment_bytes) - 4096).min(400 << 10);
    Workload {
        clients,
        in_flight,
        pause: Duration::from_secs(1) * clients as u32 / rate.max(1) as u32,
        mix,
        keys: *random.pick(&[1, 3, 10, 30, 200]),
        value_bytes: *random.pick(&[8, 64, 300, 2_000, 10_000]),
        large_value_bytes,
        large_values: *random.pick(&[0, 0, 0, 0, 3_000, 20_000]),
        session_writes: *random.pick(&[3, 30, 300, 100_000]),
        deadline: Duration::from_millis(*random.pick(&[0, 100, 1_000, 5_000])),
        patience: Duration::from_millis(random.within(300..=2_000)),
        abandoned: *random.pick(&[0, 1_000, 20_000]),
        wrong: *random.pick(&[0, 1_000, 10_000]),
        stale_reads: *random.pick(&[0, 0, 100_000, 500_000]),
        quiet: quiet(random, run, 2, Duration::from_secs(3)),
        anywhere_reads: *random.pick(&[0, 200_000, 800_000]),
        after_reads: *random.pick(&[0, 0, 100_000, 400_000]),
        bounds_hold: true,
    }
}

/// Where votes are taken none is damaged: how many may be at a time depends on who votes.
fn faults(random: &mut Random, members: usize, run: Duration, changes: Option<Changes>) -> Faults {
    let may_be = |kind: Kind| match changes {
        Some(changes) if changes.harm => kind != Kind::Wipe,
        Some(_) => !kind.damages(),
        None => true,
    };
    let changes = changes.is_some();
    let outside = random.chance(MILLION / 25) && !changes;
    let outside = outside.then(|| {
        *random.pick(&[
            // Half of them: what it takes to be told of a divergence is rare even so.
            Outside::LyingSyncs,
            Outside::LyingSyncs,
            Outside::EveryCopyBad,
            Outside::LastBatchRots,
        ])
    });
    let possible: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.needs() <= members && may_be(*kind))
        .filter(|kind| changes || *kind != Kind::TornChange)
        .collect();
    let common = random.within(300_000..=900_000) as u32;
    let mut kinds: Vec<Kind> = possible
        .iter()
        .copied()
        .filter(|_| random.chance(common))
        .collect();
    let needed = outside.map(|outside| match outside {
        Outside::LyingSyncs => Kind::Blackout,
        Outside::EveryCopyBad | Outside::LastBatchRots => Kind::Damage,
    });
    // Often, or nothing comes of it.
    kinds.extend(needed.into_iter().flat_map(|kind| [kind; 4]));
    // Who never falls behind another's log is never sent a snapshot.
    if members > 2 && random.chance(MILLION / 3) {
        let mut transfers = vec![Kind::Lag, Kind::BrokenTransfer, Kind::BrokenTransfer];
        transfers.extend([Kind::OvertakenTransfer; 2]);
        transfers.extend(may_be(Kind::RottenTransfer).then_some(Kind::RottenTransfer));
        kinds.extend(transfers.repeat(3));
    }
    if changes && random.chance(MILLION / 2) {
        kinds.extend([Kind::TornChange; 6]);
    }
    // Often, or damage seldom meets a change.
    if changes && may_be(Kind::Damage) {
        kinds.extend([Kind::Damage, Kind::RottenSegment, Kind::WrongState].repeat(4));
    }
    if kinds.is_empty() {
        kinds.push(*random.pick(&possible));
    }
    Faults {
        every: Duration::from_millis(random.within(700..=2_200)),
        kinds,
        lasts: between(
            random,
            Duration::from_millis(100),
            Duration::from_millis(1_500),
        ),
        quiet: quiet(random, run, 3, Duration::from_secs(4)),
        outside,
    }
}

/// Up to so many windows of up to this length within the run.
fn quiet(random: &mut Random, run: Duration, most: u64, longest: Duration) -> Vec<Range<Duration>> {
    let count = random.below(most + 1);
    let window = |_| {
        let start = random.time(Duration::ZERO..=run);
        start..start + random.time(Duration::ZERO..=longest)
    };
    (0..count).map(window).collect()
}

/// A time between the two, short ones as likely as long ones on a scale of orders of magnitude.
fn between(random: &mut Random, low: Duration, high: Duration) -> Duration {
    let nanos = |time: Duration| time.as_nanos() as u64;
    Duration::from_nanos(spread(random, nanos(low), nanos(high.max(low))))
}

/// A number between the two: first how often to double the lower one, then where in that octave.
fn spread(random: &mut Random, low: u64, high: u64) -> u64 {
    let octaves = u64::from((high / low.max(1)).max(1).ilog2());
    let floor = low.max(1) << random.within(0..=octaves);
    random.within(floor..=floor.saturating_mul(2).min(high).max(floor))
}
