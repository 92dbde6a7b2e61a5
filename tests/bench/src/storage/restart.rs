//! How long a node takes from its start until it serves a linearizable read.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use raftctl::bench::load::{Material, Random};
use raftctl::bench::session::Session;

use super::{Outcome, lay_down, material, read, row, short, single, take_snapshot};
use crate::etcd::Etcd;
use crate::server::{Cluster, System};
use crate::table::{Row, Table};
use crate::{Args, SETTLE};

const FEW: u32 = 1_000_000;
const MANY: u32 = 10_000_000;
const VALUE_BYTES: usize = 64;
/// A snapshot is written as fast as it goes.
const UNPACED: &[&str] = &["--set", "snapshot.rate_bytes=0"];

/// What a node of this project showed.
struct Ours {
    restart_ms: Vec<f64>,
    /// Of the snapshot's file, in 10^6 bytes per second.
    snapshot_rate: Vec<f64>,
}

/// Rows for restarts and for the writing of snapshots.
pub fn bench(args: &Args, table: &mut Table) -> Outcome<()> {
    if !args.wants_part("restart") {
        return Ok(());
    }
    for count in [FEW, MANY].map(|count| args.part_of(count)) {
        let material = material(count, VALUE_BYTES);
        let directory = args.directory.join("restart");
        let ours = ours(args, &material, &directory)?;
        fs::remove_dir_all(&directory)?;
        let name = format!("restart-{}-ms", short(count));
        if count == args.part_of(FEW) {
            let name = format!("{name}/{}", System::Etcd.name());
            table.rows.push(match System::Etcd.program(&args.raftd) {
                Some(program) => {
                    let theirs = etcd(args, &program, &material, &directory)?;
                    fs::remove_dir_all(&directory)?;
                    let pairs: Vec<_> = ours.restart_ms.iter().copied().zip(theirs).collect();
                    row(name, &pairs)
                }
                None => Row {
                    peer_absent: true,
                    ..single(name, &ours.restart_ms)
                },
            });
        } else {
            table.rows.push(single(name, &ours.restart_ms));
        }
        let name = format!("snapshot-{}-mb-per-s", short(count));
        table.rows.push(single(name, &ours.snapshot_rate));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a file")]
fn ours(args: &Args, material: &Material, directory: &Path) -> Outcome<Ours> {
    eprintln!("restart: raftd, {} keys", material.keys());
    let program = args.raftd_program()?;
    let mut cluster = Cluster::start_of(System::Raftd, &program, directory, 1, UNPACED)?;
    let session = || Session::new(Random::new(7));
    lay_down(&cluster.endpoints, material, |i| {
        Session::new(Random::new(i as u64))
    })?;
    let mut ours = Ours {
        restart_ms: Vec::new(),
        snapshot_rate: Vec::new(),
    };
    for _ in 0..args.rounds {
        let (took, bytes) = take_snapshot(&cluster.endpoints[0])?;
        let rate = bytes as f64 / 1e6 / took.as_secs_f64();
        eprintln!("  snapshot of {bytes} bytes: {rate:.0} MB/s");
        ours.snapshot_rate.push(rate);
    }
    for _ in 0..args.rounds {
        ours.restart_ms.push(restart(&mut cluster, |endpoint| {
            read::until_served(endpoint, material, session)
        })?);
    }
    Ok(ours)
}

fn etcd(args: &Args, program: &Path, material: &Material, directory: &Path) -> Outcome<Vec<f64>> {
    eprintln!("restart: etcd, {} keys", material.keys());
    let mut cluster = Cluster::start_of(System::Etcd, program, directory, 1, &[])?;
    let endpoint = cluster.endpoints[0].clone();
    lay_down(&cluster.endpoints, material, |_| Etcd::new(&endpoint))?;
    let restarts = (0..args.rounds).map(|_| {
        restart(&mut cluster, |endpoint| {
            read::until_served(endpoint, material, || Etcd::new(endpoint))
        })
    });
    restarts.collect()
}

/// Kills the only node, starts it and waits until it serves. In milliseconds.
fn restart(cluster: &mut Cluster, served: impl FnOnce(&str) -> Outcome<()>) -> Outcome<f64> {
    // What it does in the background is done.
    thread::sleep(SETTLE);
    cluster.kill(0);
    let began = Instant::now();
    cluster.restart(0)?;
    served(&cluster.endpoints[0])?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    eprintln!("  serves after {took:.0} ms");
    Ok(took)
}
