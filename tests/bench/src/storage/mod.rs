//! What a node's storage does: restart, snapshots, the catching up of followers.
//!
//! Every ratio compares two figures of the same run. `tests/bench/README.md` says what the rows
//! mean.

mod catch_up;
mod read;
mod restart;
mod snapshot;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use raftctl::bench::engine::{Engine, Failure, Setup};
use raftctl::bench::load::{Material, Random};
use raftctl::bench::protocol::Protocol;
use raftctl::client::{Client, Deadline, Options, Status, status_of};

use crate::Args;
use crate::server::System;
use crate::table::{self, Row, Table};

/// Connections that lay down keys.
const LOADERS: usize = 16;
/// The longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(2);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs what is wanted and prints the rows; `false` if this project has no figure for one of them.
pub fn bench(args: &Args) -> Outcome<bool> {
    let mut table = Table::default();
    restart::bench(args, &mut table)?;
    snapshot::bench(args, &mut table)?;
    catch_up::bench(args, &mut table)?;
    table.show(args.json);
    Ok(table.rows.iter().all(|row| row.ours.is_some()))
}

impl Args {
    /// Whether the user wants this part of the storage's figures.
    fn wants_part(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }

    /// This many things, or the part of them that the user wants.
    pub fn part_of(&self, count: u32) -> u32 {
        (count / self.divide).max(1)
    }

    pub fn raftd_program(&self) -> Outcome<PathBuf> {
        let program = System::Raftd.program(&self.raftd);
        program.ok_or_else(|| "raftd is not built".into())
    }
}

/// One figure beside another of the same run.
fn row(name: String, pairs: &[(f64, f64)]) -> Row {
    Row {
        name,
        ours: table::median(pairs.iter().map(|pair| pair.0)),
        peer: table::median(pairs.iter().map(|pair| pair.1)),
        ratio: table::median(pairs.iter().map(|pair| pair.0 / pair.1)),
        ..Row::default()
    }
}

/// A figure with nothing beside it.
fn single(name: String, figures: &[f64]) -> Row {
    Row {
        name,
        ours: table::median(figures.iter().copied()),
        ..Row::default()
    }
}

/// `10m`, `100k`, `7`.
fn short(count: u32) -> String {
    match count {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}m", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

/// A generator whose connections stay open; what ends its measurements early.
fn generator<P: Protocol>(
    endpoints: &[String],
    connections: usize,
    material: Material,
    make: impl FnMut(usize) -> P,
) -> Result<(Engine<P>, Arc<AtomicBool>), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let setup = Setup {
        endpoints: endpoints.to_vec(),
        connections,
        in_flight_max: 1,
        patience: Duration::from_secs(60),
        interrupted: Arc::clone(&interrupted),
    };
    let random = Random::new(u64::from(std::process::id()));
    Ok((Engine::new(&setup, material, random, make)?, interrupted))
}

/// Sets every key once.
fn lay_down<P: Protocol>(
    endpoints: &[String],
    material: &Material,
    make: impl FnMut(usize) -> P,
) -> Result<(), Failure> {
    let began = Instant::now();
    let (mut engine, _) = generator(endpoints, LOADERS, material.clone(), make)?;
    engine.preload(&mut ())?;
    let (keys, seconds) = (material.keys(), began.elapsed().as_secs_f64());
    eprintln!("  {keys} keys laid down in {seconds:.1} s");
    Ok(())
}

/// Keys of 16 bytes with values of so many.
fn material(keys: u32, value_bytes: usize) -> Material {
    Material::new(keys, value_bytes, &mut Random::new(u64::from(keys)))
}

fn client(endpoint: &str) -> Client {
    Client::new(Options::new(vec![endpoint.to_owned()]))
}

/// Looks at a node until `look` finds what it looks for.
fn await_status<T>(
    endpoint: &str,
    what: &str,
    mut look: impl FnMut(&Status) -> Option<T>,
) -> Outcome<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = client(endpoint);
    loop {
        let status = client.status(Deadline::after(Duration::from_secs(2)));
        if let Some(found) = status.ok().and_then(|status| look(&status)) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {PATIENCE:?}").into());
        }
        thread::sleep(LOOK);
    }
}

/// The endpoint of the leader: its place in the list.
fn leader_of(endpoints: &[String]) -> Outcome<usize> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let told = endpoints
            .iter()
            .filter_map(|endpoint| status_of(endpoint, Duration::from_secs(1)).ok())
            .filter(|status| status.quorum_ok)
            .find_map(|status| status.leader);
        if let Some(leader) = told {
            return Ok(usize::try_from(leader.0 - 1)?);
        }
        thread::sleep(LOOK);
    }
    Err("no leader".into())
}

/// Has a snapshot taken, and waits until this node has published it. Says how long that took and
/// the size of the file.
fn take_snapshot(endpoint: &str) -> Outcome<(Duration, u64)> {
    // One that is under way would be waited for.
    await_status(endpoint, "a snapshot ends", |status| {
        status.snapshot_written_bytes.is_none().then_some(())
    })?;
    let began = Instant::now();
    let id = client(endpoint).snapshot(Deadline::after(PATIENCE))?;
    let bytes = await_status(endpoint, "a snapshot is published", |status| {
        (status.snapshot.index >= id.index).then_some(status.snapshot_bytes)
    })?;
    Ok((began.elapsed(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let shorts = [10_000_000, 1_500_000, 100_000, 7].map(short);
        assert_eq!(shorts, ["10m", "1500k", "100k", "7"]);
    }
}
