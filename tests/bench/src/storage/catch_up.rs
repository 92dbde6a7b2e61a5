//! How fast a follower that was stopped catches up, and what that costs the others.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raftctl::bench::engine::Engine;
use raftctl::bench::load::{KEY_BYTES, Load, Material, Mix, Random};
use raftctl::bench::session::Session;

use super::{
    Outcome, PATIENCE, await_status, generator, lay_down, leader_of, material, row, single,
    take_snapshot,
};
use crate::kernel;
use crate::server::{Cluster, System};
use crate::table::Table;
use crate::{ATTEMPTS, Args, SETTLE};

const KEYS: u32 = 1_000_000;
const VALUE_BYTES: usize = 256;
const CONNECTIONS: usize = 64;
/// A follower that lacks no more entries than this has caught up with a leader under load.
const BEHIND_MAX: u64 = 2_000;

/// What the follower is sent.
#[derive(Clone, Copy, Debug)]
enum By {
    Log,
    Snapshot,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }

    /// Snapshots are taken when the runner says so.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Log => &[
                "--set",
                "snapshot.log_bytes=16GiB",
                "--set",
                "snapshot.keep_bytes=16GiB",
                "--set",
                "snapshot.rate_bytes=0",
            ],
            Self::Snapshot => &[
                "--set",
                "snapshot.log_bytes=16GiB",
                "--set",
                "snapshot.keep_bytes=0",
                "--set",
                "snapshot.rate_bytes=0",
            ],
        }
    }
}

/// What one stop of a follower showed.
struct Round {
    /// 10^6 bytes of keys and values per second, or of the snapshot's file where that was sent.
    rate: f64,
    /// Puts per second meanwhile.
    meanwhile: f64,
    /// And with three healthy nodes.
    healthy: f64,
}

/// Rows for the catching up by log and by snapshot.
pub fn bench(args: &Args, table: &mut Table) -> Outcome<()> {
    if !args.wants_part("catch-up") {
        return Ok(());
    }
    for by in [By::Log, By::Snapshot] {
        eprintln!("catch-up by {}", by.name());
        let directory = args.directory.join("catch-up");
        let rounds = rounds(args, by, &directory)?;
        let rates: Vec<_> = rounds.iter().map(|round| round.rate).collect();
        let pairs: Vec<_> = rounds
            .iter()
            .map(|round| (round.meanwhile, round.healthy))
            .collect();
        let name = format!("catch-up-{}", by.name());
        table.rows.push(single(format!("{name}-mb-per-s"), &rates));
        table.rows.push(row(format!("{name}-puts/healthy"), &pairs));
        fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

fn rounds(args: &Args, by: By, directory: &Path) -> Outcome<Vec<Round>> {
    let program = args.raftd_program()?;
    let mut cluster = Cluster::start_of(System::Raftd, &program, directory, 3, by.settings())?;
    let material = material(args.part_of(KEYS), VALUE_BYTES);
    thread::sleep(SETTLE);
    let mut generator = Generator::new(&cluster, &material)?;
    // Every round sees the same: keys that are there, and a log of about this length.
    lay_down(&cluster.endpoints, &material, session)?;
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        for _ in 0..ATTEMPTS {
            match one_round(args, by, &mut cluster, &material, &mut generator) {
                Ok(round) => {
                    rounds.push(round);
                    break;
                }
                Err(why) => eprintln!("  void: {why}"),
            }
            cluster.restart_all()?;
        }
    }
    Ok(rounds)
}

fn session(connection: usize) -> Session {
    Session::new(Random::new(connection as u64))
}

#[expect(clippy::cast_precision_loss, reason = "bytes of one round")]
fn one_round(
    args: &Args,
    by: By,
    cluster: &mut Cluster,
    material: &Material,
    generator: &mut Generator,
) -> Outcome<Round> {
    let leader = leader_of(&cluster.endpoints)?;
    let endpoint = cluster.endpoints[leader].clone();
    let healthy = generator.puts(Duration::from_secs(u64::from(args.seconds)))?;
    let victim = (leader + 1) % 3;
    let stopped_at = catches_up(&endpoint, victim)?;
    // Its start is to be short: what is measured is what it gets from the leader.
    take_snapshot(&cluster.endpoints[victim])?;
    cluster.kill(victim);
    lay_down(&cluster.endpoints, material, session)?;
    let file = match by {
        By::Log => None,
        By::Snapshot => {
            let (_, bytes) = take_snapshot(&endpoint)?;
            let snapshot = await_status(&endpoint, "a snapshot", |status| {
                Some(status.snapshot.index.0)
            })?;
            Some((snapshot, bytes))
        }
    };
    thread::sleep(SETTLE);
    cluster.restart(victim)?;
    await_status(&endpoint, "the follower is back", |status| {
        status.members.get(victim)?.connected.then_some(())
    })?;
    let (pids, began) = (cluster.pids(), Instant::now());
    let used = |node: usize| kernel::cpu_us(pids[node]) as f64 / 1e6;
    let before = [leader, victim].map(used);
    let (meanwhile, reached) = generator.puts_until(|| catches_up(&endpoint, victim))?;
    let seconds = began.elapsed().as_secs_f64();
    let (led, followed) = (used(leader) - before[0], used(victim) - before[1]);
    let (from, file_bytes) = file.unwrap_or((stopped_at, 0));
    let bytes = file_bytes + (reached - from) * (KEY_BYTES + VALUE_BYTES) as u64;
    let rate = bytes as f64 / 1e6 / seconds;
    eprintln!(
        "  {bytes} bytes in {seconds:.2} s, {rate:.0} MB/s; {meanwhile:.0} puts/s meanwhile, \
         {healthy:.0} healthy; processor: leader {led:.2} s, follower {followed:.2} s"
    );
    Ok(Round {
        rate,
        meanwhile,
        healthy,
    })
}

/// Waits until the leader knows that the follower lacks next to nothing. Says what it has.
fn catches_up(leader: &str, follower: usize) -> Outcome<u64> {
    let index = await_status(leader, "the follower catches up", |status| {
        if status.leader != Some(status.node) {
            return Some(None);
        }
        let member = status.members.get(follower)?;
        let reached = member.match_index?.0;
        let close = member.install.is_none() && reached + BEHIND_MAX >= status.last.0;
        close.then_some(Some(reached))
    })?;
    index.ok_or_else(|| "the leader changed".into())
}

/// Puts in a closed loop.
struct Generator {
    engine: Engine<Session>,
    interrupted: Arc<AtomicBool>,
}

impl Generator {
    fn new(cluster: &Cluster, material: &Material) -> Outcome<Self> {
        let make = |i| Session::new(Random::new(1_000 + i as u64));
        let (engine, interrupted) =
            generator(&cluster.endpoints, CONNECTIONS, material.clone(), make)?;
        Ok(Self {
            engine,
            interrupted,
        })
    }

    /// Puts per second over this time.
    #[expect(clippy::cast_precision_loss, reason = "operations of one run")]
    fn puts(&mut self, time: Duration) -> Outcome<f64> {
        let load = Load {
            mix: Mix::Put,
            connections: CONNECTIONS,
            in_flight: 1,
            warm_up: Duration::ZERO,
            measured: time,
            rate: None,
        };
        let measured = self.engine.measure(&load, &mut ())?;
        if measured.leader_changes != 0 {
            return Err("the leader changed".into());
        }
        Ok(measured.ops as f64 / measured.elapsed.as_secs_f64())
    }

    /// Puts per second until `wait` returns, and what it returns.
    fn puts_until(&mut self, wait: impl FnOnce() -> Outcome<u64> + Send) -> Outcome<(f64, u64)> {
        let interrupted = Arc::clone(&self.interrupted);
        let measured = thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                let waited = wait().map_err(|error| error.to_string());
                interrupted.store(true, Ordering::Relaxed);
                waited
            });
            let rate = self.puts(PATIENCE);
            let waited = waiter.join().map_err(|_| "the wait failed")?;
            Ok::<_, Box<dyn Error>>((rate?, waited?))
        });
        self.interrupted.store(false, Ordering::Relaxed);
        measured
    }
}
