//! `raftctl bench`: how fast a cluster answers.
//!
//! Every operation is a frame, a request id and, for a write, a log entry of its own. Keys are 16
//! bytes: the prefix `__bench/NONCE/`, where NONCE is three characters drawn for the run, and four
//! base-62 digits. Values are cut at random places from random bytes. Keys that were set are
//! removed afterwards, also after an interrupt.
//!
//! The generator itself ([`engine`]) knows no protocol, so that `scripts/bench` drives other
//! servers with the very same code; [`session`] is the protocol of `raftd`.

pub mod engine;
pub mod load;
pub mod measurement;
pub mod protocol;
pub mod report;
pub mod session;

mod channel;
#[cfg(test)]
mod fake;
mod pace;
mod phase;
mod route;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};

use self::engine::{Engine, Failure, Setup};
use self::load::{KEYS_MAX, Load, Material, Mix, Random};
use self::measurement::Observer;
use self::report::Report;
use self::session::Session;
use crate::client::Consistency;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 32;

/// Measures how fast the cluster answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    pub mix: Mix,
    /// Connections.
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,
    /// Operations in flight on each connection.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// Bytes of each value.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value_bytes: u32,
    /// Keys to draw from.
    #[arg(long, value_name = "K", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    pub keys: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds before them that are not.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub warm_up: f64,
    /// Send this many operations per second, whether or not earlier ones are answered; latency
    /// then counts from the time that the schedule says. Default: send the next when one is
    /// answered.
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
    /// With get: connect to all endpoints in turn; reads are linearizable all the same.
    #[arg(long)]
    pub any_node: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e6).contains(&number) => Ok(number),
        _ => Err("not a number of seconds from 0 to 1000000".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.001..=1e8).contains(&number) => Ok(number),
        _ => Err("not a number of operations per second from 0.001 to 100000000".into()),
    }
}

impl Args {
    fn load(&self) -> Load {
        Load {
            mix: self.mix,
            connections: usize::from(self.connections),
            in_flight: usize::from(self.in_flight),
            warm_up: Duration::from_secs_f64(self.warm_up),
            measured: Duration::from_secs_f64(self.seconds),
            rate: self.rate,
        }
    }
}

/// How a run ended that has a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Complete,
    /// By a signal; the result is of the time until then.
    Interrupted,
}

/// Runs the measurement. `timeout` is the longest time without progress; whoever raises
/// `interrupted` ends it early. If `is_shown`, a terminal sees how far it is.
///
/// # Errors
/// [`Failure`]. Keys may then be left behind: standard error says which.
pub fn run(
    args: &Args,
    endpoints: &[String],
    timeout: Duration,
    is_shown: bool,
    interrupted: &Arc<AtomicBool>,
) -> Result<(Report, Ended), Failure> {
    let load = args.load();
    allow_files(u64::from(args.connections) + OTHER_FILES)?;
    let mut seed = [0; 8];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let mut random = Random::new(u64::from_ne_bytes(seed));
    let material = Material::new(args.keys, args.value_bytes as usize, &mut random);
    let prefix = material.prefix().to_owned();
    let setup = Setup {
        endpoints: endpoints.to_vec(),
        connections: load.connections,
        in_flight_max: load.in_flight,
        patience: timeout,
        interrupted: Arc::clone(interrupted),
    };
    let mut sessions = random.clone();
    let consistency = if args.any_node {
        Consistency::LinearizableAnywhere
    } else {
        Consistency::Linearizable
    };
    let mut engine = Engine::new(&setup, material, random, |_| {
        Session::new(Random::new(sessions.bits())).reading(consistency)
    })?;
    let mut progress = Progress::new(is_shown);

    let result = measure(&mut engine, &load, args.any_node, &mut progress);
    let ended = if interrupted.swap(false, Ordering::Relaxed) {
        Ended::Interrupted
    } else {
        Ended::Complete
    };
    // A failure shows in the keys that remain, and the measurement's own is the one to tell.
    let _ = engine.has_keys() && engine.remove(&mut progress).is_ok();
    progress.bar.finish_and_clear();
    if engine.has_keys() {
        // What cannot be said cannot be helped.
        let _ = writeln!(
            io::stderr(),
            "raftctl: keys may be left behind: raftctl del --yes --prefix {prefix}"
        );
    }
    Ok((result?, ended))
}

fn measure(
    engine: &mut Engine<Session>,
    load: &Load,
    any_node: bool,
    progress: &mut Progress,
) -> Result<Report, Failure> {
    if load.mix.reads() {
        engine.preload(progress)?;
    }
    if any_node {
        engine.spread(true);
    }
    let measured = engine.measure(load, progress);
    if any_node {
        engine.spread(false);
    }
    let measured = measured?;
    Ok(Report::new(load, engine.material(), &measured))
}

/// Raises the soft limit of open files where the connections need it.
fn allow_files(files: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let raised = Rlimit {
            current: Some(files),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(())
}

/// A bar on standard error, if that is a terminal.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(is_shown: bool) -> Self {
        let style = ProgressStyle::with_template("{msg:16} {bar:40} {percent:>3}%");
        let bar = match is_shown {
            true => ProgressBar::new(1000),
            false => ProgressBar::hidden(),
        };
        bar.set_style(style.expect("the template is sound"));
        Self { bar }
    }
}

impl Observer for Progress {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part is from 0 to 1"
    )]
    fn progress(&mut self, doing: &str, part: f64) {
        if self.bar.message() != doing {
            self.bar.set_message(doing.to_owned());
        }
        self.bar.set_position((part * 1000.0) as u64);
    }
}
