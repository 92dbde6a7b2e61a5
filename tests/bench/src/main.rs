//! What `scripts/bench` runs: this project and its peers, one after another on the same machine,
//! with one generator for all, in rounds of shuffled order. `tests/bench/README.md` says how to
//! read the figures.

mod case;
mod echo;
mod etcd;
mod failover;
mod kernel;
mod redis;
mod server;
mod shell;
mod storage;
mod table;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use raftctl::bench::engine::Failure;
use raftctl::bench::load::{Mix, Random};
use raftctl::bench::session::Session;

use self::case::{CASES, Case, Sample, Timing};
use self::echo::Echo;
use self::etcd::Etcd;
use self::redis::Redis;
use self::server::{Cluster, System};
use self::table::{Row, Table};

const SYSTEMS: [System; 3] = [System::Raftd, System::Etcd, System::Redis];
/// A void measurement is repeated this often.
const ATTEMPTS: usize = 3;
/// A fresh cluster prepares itself: segments are made ready, caches are filled.
const SETTLE: Duration = Duration::from_secs(3);
const PROBE: Duration = Duration::from_secs(1);
/// Memory is read this long after the last of so many puts.
const MEMORY_PUTS: u64 = 1000;
const MEMORY_WAIT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
#[command(about = "Measures raftd beside etcd and Redis")]
struct Args {
    /// Only the cases or rows of this name: put-c1, put-c64, put-16x64, get-c1, get-c64, memory,
    /// idle, probe; a row is CASE/PEER.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Rounds of every case.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    #[arg(default_value_if("failover", "true", "30"))]
    rounds: u16,
    /// Seconds of each measurement.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// One JSON object per row.
    #[arg(long)]
    json: bool,
    /// Measure what the storage does, and nothing else; --only then names a part: restart, p99,
    /// catch-up.
    #[arg(long)]
    storage: bool,
    /// Measure how long nobody can write when a leader falls, and nothing else; --only then names a
    /// fault: kill, term, stop, loss; --rounds says how often each, default 30.
    #[arg(long, conflicts_with = "storage")]
    failover: bool,
    /// Measure what the programs of the shell do, and nothing else: load, dump, get as a process.
    #[arg(long, conflicts_with_all = ["storage", "failover", "only"])]
    shell: bool,
    /// Of the storage's keys, or the shell's records, lay down only this part, to try it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    divide: u32,
    /// Where the data goes; a disk, not tmpfs.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// The daemon to measure.
    #[arg(long, value_name = "FILE")]
    raftd: PathBuf,
    /// Its command line.
    #[arg(long, value_name = "FILE")]
    raftctl: PathBuf,
}

impl Args {
    /// Whether the user wants this row.
    fn wants(&self, case: &str, system: System) -> bool {
        self.only.as_ref().is_none_or(|only| {
            let row = format!("{case}/{}", system.name());
            // What every row is compared with is measured for every row.
            only == case
                || *only == row
                || system == System::Raftd && only.starts_with(&format!("{case}/"))
        })
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(u64::from(self.seconds)),
        }
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
struct Results {
    samples: Vec<(&'static str, System, Sample)>,
    /// Memory in KiB and idle processor milliseconds, of the largest node.
    singles: Vec<(&'static str, System, f64)>,
    fdatasync_us: Vec<u64>,
    echo: Vec<(&'static str, Sample)>,
    voids: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds and prints the rows; `false` if this project has no figure for one of them.
fn bench(args: &Args) -> Result<bool, Box<dyn Error>> {
    fs::create_dir_all(&args.directory)?;
    describe_machine(args)?;
    if args.storage {
        return storage::bench(args);
    }
    if args.failover {
        return failover::bench(args);
    }
    if args.shell {
        return shell::bench(args);
    }
    let echo = echo::serve()?.to_string();
    let mut random = Random::new(u64::from(std::process::id()));
    let mut results = Results::default();
    for round in 1..=args.rounds {
        probe(args, &echo, &mut results)?;
        let mut systems = SYSTEMS;
        shuffle(&mut systems, &mut random);
        for system in systems {
            eprintln!("round {round} of {}: {}", args.rounds, system.name());
            run_round(args, system, &mut random, &mut results)?;
        }
    }
    for system in SYSTEMS {
        run_singles(args, system, &mut results)?;
    }
    let mut table = Table::default();
    for case in CASES.map(|case| case.name) {
        for peer in [System::Etcd, System::Redis] {
            if args.wants(case, peer) && (peer == System::Etcd || case.starts_with("put")) {
                table.rows.push(row(args, &results, case, peer));
            }
        }
    }
    for name in ["memory", "idle"] {
        if args.wants(name, System::Etcd) {
            table.rows.push(single_row(args, &results, name));
        }
    }
    print(args, &table, &results);
    Ok(table.rows.iter().all(|row| row.ours.is_some()))
}

fn describe_machine(args: &Args) -> Result<(), Box<dyn Error>> {
    let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = first("/proc/cpuinfo");
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("?", |(_, m)| m);
    eprintln!("machine: {} x {model}", thread::available_parallelism()?);
    eprintln!("kernel: {}", first("/proc/sys/kernel/osrelease").trim());
    eprintln!("idle: {}", kernel::idle_policy());
    for system in SYSTEMS {
        eprintln!("{}: {}", system.name(), system.version(&args.raftd));
    }
    Ok(())
}

/// Puts a list in random order (Fisher-Yates).
fn shuffle<T>(list: &mut [T], random: &mut Random) {
    for i in (1..list.len()).rev() {
        let bound = u32::try_from(i + 1).expect("lists are short");
        list.swap(i, random.below(bound) as usize);
    }
}

/// The floors: one sync, one round trip, many round trips.
fn probe(args: &Args, echo: &str, results: &mut Results) -> Result<(), Box<dyn Error>> {
    let us = kernel::fdatasync_us(&args.directory, PROBE)?;
    results.fdatasync_us.push(us);
    let timing = Timing {
        warm_up: Duration::from_millis(200),
        measured: PROBE,
    };
    for (name, connections) in [("echo-c1", 1), ("echo-c64", 64)] {
        let case = Case {
            name,
            mix: Mix::Put,
            connections,
            in_flight: 1,
        };
        let endpoints = [echo.to_owned()];
        let dir = &args.directory;
        let sample = case::run(&case, timing, &endpoints, &[], dir, 1, |_| Echo::default())?;
        results.echo.push((name, sample));
    }
    Ok(())
}

/// All cases of one system, on one fresh cluster.
fn run_round(
    args: &Args,
    system: System,
    random: &mut Random,
    results: &mut Results,
) -> Result<(), Box<dyn Error>> {
    let mut cases: Vec<Case> = CASES
        .into_iter()
        .filter(|case| args.wants(case.name, system))
        .filter(|case| system != System::Redis || case.mix == Mix::Put)
        .collect();
    let Some(program) = system.program(&args.raftd).filter(|_| !cases.is_empty()) else {
        return Ok(());
    };
    shuffle(&mut cases, random);
    let directory = args.directory.join(system.name());
    let cluster = Cluster::start(system, &program, &directory)
        .map_err(|error| format!("{}: {error}; see {}", system.name(), directory.display()))?;
    thread::sleep(SETTLE);
    for case in cases {
        for _ in 0..ATTEMPTS {
            let sample = measure(&case, args.timing(), system, &cluster, args, random.bits())?;
            let why = sample.void();
            eprintln!("  {:10} {}", case.name, table::line(&sample));
            match why {
                Some(why) => {
                    eprintln!("  {:10} void: {why}", case.name);
                    results.voids += 1;
                }
                None => {
                    results.samples.push((case.name, system, sample));
                    break;
                }
            }
        }
    }
    drop(cluster);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

fn measure(
    case: &Case,
    timing: Timing,
    system: System,
    cluster: &Cluster,
    args: &Args,
    seed: u64,
) -> Result<Sample, Failure> {
    let pids = cluster.pids();
    let dir = &args.directory;
    let nodes = &cluster.endpoints;
    match system {
        System::Raftd => case::run(case, timing, nodes, &pids, dir, seed, |i| {
            Session::new(Random::new(seed ^ (i as u64 + 1) << 32))
        }),
        System::Etcd => {
            let leader = &nodes[..1];
            case::run(case, timing, leader, &pids, dir, seed, |_| {
                Etcd::new(&leader[0])
            })
        }
        System::Redis => case::run(case, timing, nodes, &pids, dir, seed, |_| Redis::default()),
    }
}

/// Memory after a few puts, and the processor time of doing nothing.
fn run_singles(args: &Args, system: System, results: &mut Results) -> Result<(), Box<dyn Error>> {
    let wanted = |name| args.wants(name, system) && system != System::Redis;
    let Some(program) = system.program(&args.raftd) else {
        return Ok(());
    };
    if !wanted("memory") && !wanted("idle") {
        return Ok(());
    }
    eprintln!("memory and idle time: {}", system.name());
    let directory = args.directory.join(system.name());
    let cluster = Cluster::start(system, &program, &directory)?;
    let pids = cluster.pids();
    let largest = |of: fn(u32) -> u64| pids.iter().map(|pid| of(*pid)).max().unwrap_or(0) as f64;
    if wanted("memory") {
        put_some(system, &cluster, args)?;
        thread::sleep(MEMORY_WAIT);
        results
            .singles
            .push(("memory", system, largest(kernel::rss_anon_kib)));
    }
    if wanted("idle") {
        thread::sleep(SETTLE);
        let before: Vec<u64> = pids.iter().map(|pid| kernel::cpu_us(*pid)).collect();
        thread::sleep(IDLE);
        let used = pids
            .iter()
            .zip(before)
            .map(|(pid, b)| kernel::cpu_us(*pid) - b);
        let worst = used.max().unwrap_or(0) as f64 / 1000.0;
        results.singles.push(("idle", system, worst));
    }
    drop(cluster);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The puts before memory is read: at a rate that takes one second.
fn put_some(system: System, cluster: &Cluster, args: &Args) -> Result<(), Failure> {
    let nodes = &cluster.endpoints;
    match system {
        System::Raftd => case::put(MEMORY_PUTS, nodes, |_| Session::new(Random::new(7))),
        System::Etcd => case::put(MEMORY_PUTS, &nodes[..1], |_| Etcd::new(&nodes[0])),
        System::Redis => Ok(()),
    }
    .inspect_err(|_| eprintln!("see {}", args.directory.display()))
}

fn row(args: &Args, results: &Results, case: &'static str, peer: System) -> Row {
    let of = |system: System| -> Vec<&Sample> {
        let mine = |(name, s, _): &&(&str, System, Sample)| *name == case && *s == system;
        results
            .samples
            .iter()
            .filter(mine)
            .map(|(_, _, sample)| sample)
            .collect()
    };
    let (ours, theirs) = (of(System::Raftd), of(peer));
    let pairs = ours.iter().zip(&theirs);
    let ratios = pairs.map(|(a, b)| a.report.ops_per_s / b.report.ops_per_s);
    let median =
        |list: &[&Sample], of: fn(&Sample) -> f64| table::median(list.iter().map(|s| of(s)));
    Row {
        name: format!("{case}/{}", peer.name()),
        ours: median(&ours, |s| s.report.ops_per_s),
        peer: median(&theirs, |s| s.report.ops_per_s),
        peer_absent: peer.program(&args.raftd).is_none(),
        ratio: table::median(ratios),
        p50_us: median(&ours, |s| s.report.p50_us as f64),
        p99_us: median(&ours, |s| s.report.p99_us as f64),
        cpu_us_per_op: median(&ours, |s| s.servers_us_per_op + s.generator_us_per_op),
    }
}

fn single_row(args: &Args, results: &Results, name: &'static str) -> Row {
    let of = |system: System| {
        let mine = |(n, s, _): &&(&str, System, f64)| *n == name && *s == system;
        results
            .singles
            .iter()
            .find(mine)
            .map(|(_, _, value)| *value)
    };
    let (ours, peer) = (of(System::Raftd), of(System::Etcd));
    Row {
        name: format!("{name}/{}", System::Etcd.name()),
        ours,
        peer,
        peer_absent: System::Etcd.program(&args.raftd).is_none(),
        ratio: ours.zip(peer).map(|(a, b)| a / b.max(1.0)),
        p50_us: None,
        p99_us: None,
        cpu_us_per_op: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a sync")]
fn print(args: &Args, table: &Table, results: &Results) {
    let fdatasync = table::median(results.fdatasync_us.iter().map(|us| *us as f64));
    table.show(args.json);
    eprintln!();
    eprintln!("fdatasync of 256 bytes: {:.0} us", fdatasync.unwrap_or(0.0));
    let mut lines = table::Details::default();
    for name in ["echo-c1", "echo-c64"] {
        let mine = results.echo.iter().filter(|(n, _)| *n == name);
        lines.add(name, "tcp", mine.map(|(_, sample)| sample));
    }
    for case in CASES.map(|case| case.name) {
        for system in SYSTEMS {
            let mine = results
                .samples
                .iter()
                .filter(|(n, s, _)| *n == case && *s == system);
            lines.add(case, system.name(), mine.map(|(_, _, sample)| sample));
        }
    }
    lines.print();
    if results.voids != 0 {
        eprintln!("void and repeated: {}", results.voids);
    }
}
