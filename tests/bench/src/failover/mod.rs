//! How long nobody can write when a leader falls: 2,000 puts per second in an open loop, and the
//! longest gap in their acknowledgements for each fault.

mod walls;
mod writers;

use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use raftctl::client::{Client, Deadline, Options, Walk, Way, status_of};

pub use self::walls::Walls;
use self::writers::Log;
use crate::server::{Cluster, Net, Signal, System};
use crate::table::{self, Row, Table};
use crate::{Args, SETTLE};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Time that a call has.
const CALL: Duration = Duration::from_secs(5);
/// Between two faults, once all members are back.
const CALM: Duration = Duration::from_millis(500);
/// How long a leader is frozen, or its network is silent.
const SILENT: Duration = Duration::from_secs(3);
/// For a cluster to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);
const NODES: usize = 3;

/// What happens to a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Term,
    /// SIGSTOP, and later SIGCONT.
    Stop,
    /// Its network is silent, and later is not.
    Loss,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Kill, Self::Term, Self::Stop, Self::Loss];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Stop => "stop",
            Self::Loss => "loss",
        }
    }
}

/// When a fault was done to a leader, and when it was undone.
#[derive(Clone, Copy, Debug)]
struct Strike {
    done: Instant,
    undone: Instant,
}

/// The longest gaps of each strike, in milliseconds.
#[derive(Debug, Default)]
struct Gaps {
    /// Begun while the leader was away.
    away_ms: Vec<f64>,
    /// Begun when it was back, with all that it costs one machine to start a third node beside two.
    back_ms: Vec<f64>,
    failed: usize,
}

/// What a row tells of them.
type Figure = fn(&Gaps) -> f64;

/// Measures every fault that is wanted, and prints the rows; `false` if a write was lost or done
/// twice, or a call was not done in its time.
pub fn bench(args: &Args) -> Outcome<bool> {
    let mut table = Table::default();
    let mut is_good = true;
    for fault in Fault::ALL {
        let name = format!("failover-{}", fault.name());
        if args
            .only
            .as_ref()
            .is_some_and(|only| *only != name && *only != fault.name())
        {
            continue;
        }
        if fault == Fault::Loss
            && let Err(error) = Walls::build(1)
        {
            eprintln!("{name}: left out: {error}");
            continue;
        }
        let ours = measure(args, fault, System::Raftd)?;
        let theirs = measure(args, fault, System::Etcd)?;
        is_good &= ours.as_ref().is_some_and(|gaps| gaps.failed == 0);
        let rows: [(&str, Figure); 3] = [
            ("ms", |gaps| median(&gaps.away_ms)),
            ("max-ms", |gaps| longest(&gaps.away_ms)),
            ("back-max-ms", |gaps| longest(&gaps.back_ms)),
        ];
        for (unit, of) in rows {
            table
                .rows
                .push(row(format!("{name}-{unit}/etcd"), &ours, &theirs, of));
        }
    }
    table.show(args.json);
    Ok(is_good)
}

fn row(name: String, ours: &Option<Gaps>, peer: &Option<Gaps>, of: Figure) -> Row {
    let (ours, theirs) = (ours.as_ref().map(of), peer.as_ref().map(of));
    Row {
        name,
        ours,
        peer: theirs,
        peer_absent: theirs.is_none(),
        ratio: ours.zip(theirs).map(|(ours, theirs)| ours / theirs),
        ..Row::default()
    }
}

fn median(gaps_ms: &[f64]) -> f64 {
    table::median(gaps_ms.iter().copied()).unwrap_or(f64::NAN)
}

fn longest(gaps_ms: &[f64]) -> f64 {
    gaps_ms.iter().copied().fold(0.0, f64::max)
}

/// All rounds of one fault on a fresh cluster; `None` if the system is not there.
fn measure(args: &Args, fault: Fault, system: System) -> Outcome<Option<Gaps>> {
    let Some(program) = system.program(&args.raftd) else {
        return Ok(None);
    };
    eprintln!("failover by {}: {}", fault.name(), system.name());
    let directory = args.directory.join("failover");
    let walls = match fault {
        Fault::Loss => Some(Walls::build(NODES)?),
        _ => None,
    };
    let net = if walls.is_some() {
        Net::Walls
    } else {
        Net::Loopback
    };
    let mut cluster = Cluster::start_in(net, system, &program, &directory, NODES, &[])?;
    thread::sleep(SETTLE);
    let endpoints = cluster.addrs.clone();
    let is_raftd = system == System::Raftd;
    let (strikes, logs) = writers::run(&endpoints, is_raftd, || {
        let mut strikes = Vec::new();
        thread::sleep(CALM);
        for _ in 0..args.rounds {
            strikes.push(strike(fault, system, &mut cluster, walls.as_ref())?);
            whole(system, &cluster)?;
            thread::sleep(CALM);
        }
        Ok(strikes)
    })?;
    let gaps = gaps(&strikes, &logs);
    if is_raftd {
        all_are_there(&endpoints, &logs)?;
    }
    drop(cluster);
    fs::remove_dir_all(&directory)?;
    tell(&gaps, &logs);
    Ok(Some(gaps))
}

/// Does it to the leader, and undoes it; says when.
fn strike(
    fault: Fault,
    system: System,
    cluster: &mut Cluster,
    walls: Option<&Walls>,
) -> Outcome<Strike> {
    let leader = leader_of(system, cluster)?;
    let done = Instant::now();
    match fault {
        Fault::Kill => cluster.kill(leader),
        Fault::Term => cluster.end(leader)?,
        Fault::Stop => cluster.signal(leader, Signal::Stop)?,
        Fault::Loss => walls.map_or(Ok(()), |walls| walls.cut(leader))?,
    }
    thread::sleep(match fault {
        Fault::Kill | Fault::Term => CALM,
        Fault::Stop | Fault::Loss => SILENT,
    });
    let undone = Instant::now();
    match fault {
        Fault::Kill | Fault::Term => cluster.restart(leader)?,
        Fault::Stop => cluster.signal(leader, Signal::Continue)?,
        Fault::Loss => walls.map_or(Ok(()), |walls| walls.heal(leader))?,
    }
    Ok(Strike { done, undone })
}

/// Waits until somebody leads; says who, by its place.
fn leader_of(system: System, cluster: &Cluster) -> Outcome<usize> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let leads = |addr: &String| match system {
            System::Raftd => status_of(addr, Duration::from_secs(1))
                .is_ok_and(|status| status.quorum_ok && status.leader == Some(status.node)),
            _ => crate::server::leads(addr),
        };
        if let Some(leader) = cluster.addrs.iter().position(leads) {
            return Ok(leader);
        }
        thread::sleep(LOOK);
    }
    Err("no leader".into())
}

/// Waits until all nodes are there and know a leader.
fn whole(system: System, cluster: &Cluster) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let follows = |addr: &String| match system {
            System::Raftd => status_of(addr, Duration::from_secs(1))
                .is_ok_and(|status| status.leader.is_some() && status.state == "serving"),
            _ => crate::server::follows(addr),
        };
        if cluster.addrs.iter().all(follows) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err("a node does not come back".into());
        }
        thread::sleep(LOOK);
    }
}

/// The longest times without any acknowledgement, of each strike.
fn gaps(strikes: &[Strike], logs: &[Log]) -> Gaps {
    let mut acked: Vec<Instant> = logs
        .iter()
        .flat_map(|log| log.acked.iter().copied())
        .collect();
    acked.sort_unstable();
    // The first may have begun just before: the last acknowledgement is what it is counted from.
    let longest = |from: Instant, to: Instant| {
        let first = acked.partition_point(|at| *at < from).saturating_sub(1);
        let behind = acked.partition_point(|at| *at < to);
        let between = acked[first..].windows(2).take(behind - first);
        let longest = between.map(|pair| pair[1] - pair[0]).max();
        longest.map_or(f64::INFINITY, |gap| gap.as_secs_f64() * 1_000.0)
    };
    let nexts = strikes.iter().skip(1).map(|next| next.done);
    let ends = nexts.chain(acked.last().copied());
    let backs = strikes.iter().zip(ends);
    Gaps {
        away_ms: strikes
            .iter()
            .map(|strike| longest(strike.done, strike.undone))
            .collect(),
        back_ms: backs
            .map(|(strike, end)| longest(strike.undone, end))
            .collect(),
        failed: logs.iter().map(|log| log.failed.len()).sum(),
    }
}

/// Whether every acknowledged key is in the store.
fn all_are_there(endpoints: &[String], logs: &[Log]) -> Outcome<()> {
    let mut found = Vec::new();
    let client = Client::new(Options::new(endpoints.to_vec()));
    let way = Way::prefix(raftctl::client::ScanMode::Keys, b"failover/");
    let mut walk = Walk::new(client, way);
    while let Some(page) = walk.next_page(Deadline::after(PATIENCE))? {
        found.extend(page.items().iter().map(|item| item.key.to_vec()));
    }
    let lost = logs.iter().flat_map(|log| &log.keys);
    let lost = lost.filter(|key| found.binary_search(&key.as_bytes().to_vec()).is_err());
    match lost.count() {
        0 => Ok(()),
        lost => Err(format!("{lost} acknowledged writes are lost").into()),
    }
}

fn tell(gaps: &Gaps, logs: &[Log]) {
    let acked: usize = logs.iter().map(|log| log.acked.len()).sum();
    eprintln!(
        "  {} faults, {acked} acknowledged: median {:.1} ms, longest {:.1} ms, {} calls failed",
        gaps.away_ms.len(),
        median(&gaps.away_ms),
        longest(&gaps.away_ms),
        gaps.failed
    );
    for (name, gaps_ms) in [("away", &gaps.away_ms), ("back", &gaps.back_ms)] {
        let all: Vec<String> = gaps_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        eprintln!("  {name}: {}", all.join(" "));
    }
    for failed in logs.iter().flat_map(|log| &log.failed).take(3) {
        eprintln!("  failed: {failed}");
    }
}
