//! What writers notice of a snapshot.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use raftctl::bench::engine::Engine;
use raftctl::bench::load::{Load, Mix, Random};
use raftctl::bench::report::Report;
use raftctl::bench::session::Session;

use super::{Outcome, generator, lay_down, leader_of, material, row, take_snapshot};
use crate::server::{Cluster, System};
use crate::table::Table;
use crate::{Args, SETTLE};

const KEYS: u32 = 1_000_000;
const VALUE_BYTES: usize = 64;
/// Enough for the rate even while a sync takes ten milliseconds: else writes would queue up in front
/// of the nodes, and their wait would be the figure.
const CONNECTIONS: usize = 64;
/// Writes per second.
const RATE: f64 = 5_000.0;
/// The three share one device: each has a third of what one has by default.
const SETTINGS: [&str; 2] = ["--set", "snapshot.rate_bytes=21MiB"];

/// The row for the 99th percentile, three nodes.
pub fn bench(args: &Args, table: &mut Table) -> Outcome<()> {
    if !args.wants_part("p99") {
        return Ok(());
    }
    eprintln!("p99 of writes while snapshots are written");
    let directory = args.directory.join("p99");
    let program = args.raftd_program()?;
    let cluster = Cluster::start_of(System::Raftd, &program, &directory, 3, &SETTINGS)?;
    let material = material(args.part_of(KEYS), VALUE_BYTES);
    lay_down(&cluster.endpoints, &material, |i| {
        Session::new(Random::new(i as u64))
    })?;
    thread::sleep(SETTLE);
    let (mut engine, _) = generator(&cluster.endpoints, CONNECTIONS, material, |i| {
        Session::new(Random::new(100 + i as u64))
    })?;
    let mut pairs = Vec::new();
    for _ in 0..args.rounds {
        let without = measure(args, &mut engine)?;
        let leader = leader_of(&cluster.endpoints)?;
        let with = while_snapshots(&cluster.endpoints[leader], || measure(args, &mut engine))?;
        match with.zip(without) {
            Some(pair) => pairs.push(pair),
            None => eprintln!("  void: the rate was not kept"),
        }
    }
    table
        .rows
        .push(row("p99-us/without-snapshot".to_owned(), &pairs));
    drop(cluster);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The 99th percentile in microseconds; `None` if the nodes did not keep up with the rate.
#[expect(clippy::cast_precision_loss, reason = "microseconds")]
fn measure(args: &Args, engine: &mut Engine<Session>) -> Outcome<Option<f64>> {
    let load = Load {
        mix: Mix::Put,
        connections: CONNECTIONS,
        in_flight: 1,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(u64::from(args.seconds)),
        rate: Some(RATE),
    };
    let measured = engine.measure(&load, &mut ())?;
    let report = Report::new(&load, engine.material(), &measured);
    let Report {
        ops_per_s,
        p50_us,
        p99_us,
        max_us,
        ..
    } = report;
    eprintln!("  {ops_per_s:.0} puts/s  p50 {p50_us} us  p99 {p99_us} us  max {max_us} us");
    Ok((ops_per_s > 0.9 * RATE).then_some(p99_us as f64))
}

/// Has one snapshot taken after another meanwhile.
fn while_snapshots<T>(leader: &str, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut taken = 0;
            while !over.load(Ordering::Relaxed) {
                take_snapshot(leader).map_err(|error| error.to_string())?;
                taken += 1;
            }
            Ok::<_, String>(taken)
        });
        let figure = act();
        over.store(true, Ordering::Relaxed);
        let taken = taker
            .join()
            .map_err(|_| "the taker of snapshots failed")??;
        eprintln!("  {taken} snapshots meanwhile");
        figure
    })
}
