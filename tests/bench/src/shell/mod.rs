//! What the shell's programs do: `raftctl load` and `dump` of many records, and `raftctl get` as a
//! process, each beside what a peer brings for the same.
//!
//! `tests/bench/README.md` says what the rows mean.

mod process;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use raftctl::bench::load::Random;

use self::process::{Ended, run};
use crate::case::CASES;
use crate::server::{Cluster, System, find};
use crate::table::{self, Row, Table};
use crate::{Args, SETTLE};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Records of a load: keys of 16 bytes with values of [`VALUE_BYTES`].
const RECORDS: u32 = 1_000_000;
const VALUE_BYTES: usize = 256;
/// Processes of a round that read one key, each.
const GETS: usize = 50;
/// How the peer writes fastest.
const FASTEST: &str = "put-16x64";
/// The first key of a load.
const KEY: &str = "load/00000000000";

/// What the rounds brought; records per second where nothing else is said.
#[derive(Debug, Default)]
struct Figures {
    load: Vec<f64>,
    load_memory_kib: Vec<f64>,
    dump: Vec<f64>,
    dump_memory_kib: Vec<f64>,
    get_ms: Vec<f64>,
    redis_load: Vec<f64>,
    etcd_puts: Vec<f64>,
    etcd_get_ms: Vec<f64>,
}

/// The records, as a file for each who reads them.
struct Files {
    count: u32,
    tsv: PathBuf,
    resp: PathBuf,
}

/// Runs what is wanted and prints the rows; `false` if this project has no figure for one of them.
pub fn bench(args: &Args) -> Outcome<bool> {
    let directory = args.directory.join("shell");
    fs::create_dir_all(&directory)?;
    let files = Files::write(&directory, args.part_of(RECORDS))?;
    let mut figures = Figures::default();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        ours(args, &files, &directory, &mut figures)?;
        redis(args, &files, &directory, &mut figures)?;
        etcd(args, &directory, &mut figures)?;
    }
    let mut table = Table::default();
    let beside = |name: &str, ours: &[f64], theirs: &[f64]| {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Row {
            name: name.to_owned(),
            ours: table::median(ours.iter().copied()),
            peer: table::median(theirs.iter().copied()),
            peer_absent: theirs.is_empty(),
            ratio: table::median(ratios),
            ..Row::default()
        }
    };
    table.rows.extend([
        beside(
            "load/redis-unreplicated",
            &figures.load,
            &figures.redis_load,
        ),
        beside("load/etcd", &figures.load, &figures.etcd_puts),
        beside("load-memory-kib", &figures.load_memory_kib, &[]),
        beside("dump/load", &figures.dump, &figures.load),
        beside("dump-memory-kib", &figures.dump_memory_kib, &[]),
        beside("get-process-ms/etcd", &figures.get_ms, &figures.etcd_get_ms),
    ]);
    for row in &mut table.rows {
        // These have nothing beside them.
        row.peer_absent &= !row.name.ends_with("-kib");
    }
    table.show(args.json);
    Ok(table.rows.iter().all(|row| row.ours.is_some()))
}

impl Files {
    /// Keys in ascending order, with random printable values.
    fn write(directory: &Path, count: u32) -> Outcome<Self> {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut random = Random::new(u64::from(count));
        let (mut tsv, mut resp) = (Vec::new(), Vec::new());
        let mut value = Vec::with_capacity(VALUE_BYTES);
        for number in 0..count {
            value.clear();
            value.extend((0..VALUE_BYTES).map(|_| DIGITS[random.below(64) as usize]));
            let key = format!("load/{number:011}");
            tsv.extend_from_slice(key.as_bytes());
            tsv.push(b'\t');
            tsv.extend_from_slice(&value);
            tsv.push(b'\n');
            let head = format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n${VALUE_BYTES}\r\n");
            resp.extend_from_slice(head.as_bytes());
            resp.extend_from_slice(&value);
            resp.extend_from_slice(b"\r\n");
        }
        let files = Self {
            count,
            tsv: directory.join("records.tsv"),
            resp: directory.join("records.resp"),
        };
        fs::write(&files.tsv, tsv)?;
        fs::write(&files.resp, resp)?;
        Ok(files)
    }

    /// Of all records, for a process that took them in.
    fn rate(&self, ended: &Ended) -> f64 {
        f64::from(self.count) / ended.took.as_secs_f64()
    }
}

/// Loads, dumps and gets with `raftctl`; what was dumped must be what was loaded.
fn ours(args: &Args, files: &Files, directory: &Path, figures: &mut Figures) -> Outcome<()> {
    let nodes = directory.join("raftd");
    let cluster = Cluster::start(System::Raftd, &args.raftd_program()?, &nodes)?;
    thread::sleep(SETTLE);
    let raftctl = |words: &[&str]| {
        let mut command = Command::new(&args.raftctl);
        command
            .arg("-e")
            .arg(cluster.endpoints.join(","))
            .args(words);
        command
    };
    let load = run(raftctl(&["load", "-"]), Some(&files.tsv), None)?;
    figures.load.push(files.rate(&load));
    figures.load_memory_kib.push(load.memory_kib);
    let dump = run(raftctl(&["dump"]), None, None)?;
    figures.dump.push(files.rate(&dump));
    figures.dump_memory_kib.push(dump.memory_kib);
    // Another one: a file takes longer to be written than to be dumped.
    let dumped = directory.join("dumped.tsv");
    run(raftctl(&["dump"]), None, Some(&dumped))?;
    if fs::read(&files.tsv)? != fs::read(&dumped)? {
        return Err("what was dumped is not what was loaded".into());
    }
    fs::remove_file(&dumped)?;
    figures.get_ms.push(gets(|| raftctl(&["get", KEY]))?);
    let (load, dump, get) = (
        last(&figures.load),
        last(&figures.dump),
        last(&figures.get_ms),
    );
    eprintln!("  raftd: load {load:.0} records/s, dump {dump:.0} records/s, get {get:.1} ms");
    drop(cluster);
    fs::remove_dir_all(nodes)?;
    Ok(())
}

/// One Redis that syncs its append-only file before each answer, loaded by its own bulk loader.
fn redis(args: &Args, files: &Files, directory: &Path, figures: &mut Figures) -> Outcome<()> {
    let (Some(server), Some(client)) = (System::Redis.program(&args.raftd), find("redis-cli"))
    else {
        return Ok(());
    };
    let nodes = directory.join("redis");
    let cluster = Cluster::start(System::Redis, &server, &nodes)?;
    let port = cluster.endpoints[0].rsplit(':').next().unwrap_or_default();
    let mut command = Command::new(client);
    command.args(["-p", port, "--pipe"]);
    let load = run(command, Some(&files.resp), None)?;
    figures.redis_load.push(files.rate(&load));
    eprintln!("  redis: load {:.0} records/s", last(&figures.redis_load));
    drop(cluster);
    fs::remove_dir_all(nodes)?;
    Ok(())
}

/// The fastest way that etcd writes, and its client as a process.
fn etcd(args: &Args, directory: &Path, figures: &mut Figures) -> Outcome<()> {
    let (Some(server), Some(client)) = (System::Etcd.program(&args.raftd), find("etcdctl")) else {
        return Ok(());
    };
    let nodes = directory.join("etcd");
    let cluster = Cluster::start(System::Etcd, &server, &nodes)?;
    let case = CASES.iter().find(|case| case.name == FASTEST);
    let case = case.ok_or("there is no such case")?;
    let sample = crate::measure(case, args.timing(), System::Etcd, &cluster, args, 1)?;
    figures.etcd_puts.push(sample.report.ops_per_s);
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new(&client);
        command.env("ETCDCTL_API", "3");
        command
            .arg("--endpoints")
            .arg(cluster.endpoints.join(","))
            .args(words);
        command
    };
    run(etcdctl(&["put", KEY, "value"]), None, None)?;
    figures.etcd_get_ms.push(gets(|| etcdctl(&["get", KEY]))?);
    let (puts, get) = (last(&figures.etcd_puts), last(&figures.etcd_get_ms));
    eprintln!("  etcd: {puts:.0} puts/s, get {get:.1} ms");
    drop(cluster);
    fs::remove_dir_all(nodes)?;
    Ok(())
}

/// The median time of a process that gets one key, in milliseconds.
fn gets(command: impl Fn() -> Command) -> Outcome<f64> {
    let took: Outcome<Vec<f64>> = (0..GETS)
        .map(|_| Ok(run(command(), None, None)?.took.as_secs_f64() * 1_000.0))
        .collect();
    table::median(took?.into_iter()).ok_or_else(|| "no process was run".into())
}

fn last(figures: &[f64]) -> f64 {
    figures.last().copied().unwrap_or(f64::NAN)
}
