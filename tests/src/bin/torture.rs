//! The command line of `scripts/torture`.

use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use raftd_tests::torture::{Failure, Options, run, sweep};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A second signal ends the program at once, and the members with it.
const INTERRUPTED: u8 = 130;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let asked = match asked(env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            say(&format!("torture: {what} (--help lists the arguments)"));
            return ExitCode::from(USAGE);
        }
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let twice = flag::register_conditional_shutdown(
            signal,
            i32::from(INTERRUPTED),
            Arc::clone(&cancelled),
        );
        let once = flag::register(signal, Arc::clone(&cancelled));
        twice.and(once).expect("handlers of signals");
    }
    let tell = |line: &str| {
        if asked.verbose || line.contains("SKIP") || line.starts_with("round") {
            say(line);
        }
    };
    let told = match asked.strikes {
        Some(strikes) => {
            let seed = asked.options.seed;
            say(&format!("damage from seed {seed}"));
            let (tally, failure) = sweep::run(sweep::Options { strikes, seed }, &cancelled, &tell);
            Told {
                text: format!("{tally}{}", tally.summary()),
                failure,
                below: Vec::new(),
            }
        }
        None => {
            let (ledger, failure) = run(asked.options, &cancelled, &tell);
            Told {
                text: format!("{ledger}\n{}", ledger.summary()),
                failure,
                below: ledger.below_floors(),
            }
        }
    };
    told.end(&cancelled)
}

/// What came of it.
struct Told {
    /// For stdout. Its last line is `N acked, L lost, W wrong, ..`.
    text: String,
    failure: Option<Failure>,
    /// What there was too little of.
    below: Vec<String>,
}

impl Told {
    fn end(self, cancelled: &AtomicBool) -> ExitCode {
        let is_interrupted = self.failure.is_none() && cancelled.load(Ordering::Relaxed);
        if is_interrupted {
            say("torture: interrupted");
            return ExitCode::from(INTERRUPTED);
        }
        let written = writeln!(std::io::stdout(), "{}", self.text);
        if let Some(failure) = self.failure {
            say(&format!("torture: failed: {failure}"));
            return ExitCode::FAILURE;
        }
        if !self.below.is_empty() {
            let below = self.below.join("; ");
            say(&format!("torture: too little to mean something: {below}"));
            return ExitCode::FAILURE;
        }
        ExitCode::from(u8::from(written.is_err()))
    }
}

/// What the command line asks for.
struct Asked {
    options: Options,
    /// Not a torture, but a sweep of damage with so many strikes.
    strikes: Option<u32>,
    verbose: bool,
}

fn asked(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options {
        time: Duration::from_secs(60),
        seed: draw(),
        members: 3,
        keep: false,
        unprivileged: false,
    };
    let (mut verbose, mut strikes) = (false, None);
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().ok_or(format!("{arg} needs a number"))?;
            text.parse::<u64>()
                .map_err(|_| format!("{arg} takes a number, not {text}"))
        };
        match arg.as_str() {
            "--seconds" => options.time = Duration::from_secs(number()?),
            "--seed" => options.seed = number()?,
            "--members" => options.members = number()? as usize,
            "--damage" => strikes = Some(number()? as u32),
            "--unprivileged" => options.unprivileged = true,
            "--keep" => options.keep = true,
            "--verbose" => verbose = true,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    if !(3..=7).contains(&options.members) || options.time.is_zero() {
        return Err("3 to 7 members, and at least a second".to_owned());
    }
    Ok(Asked {
        options,
        strikes,
        verbose,
    })
}

/// Another seed each time, short enough to be typed.
fn draw() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) % 1_000_000)
}

#[expect(clippy::print_stderr, reason = "where people look")]
fn say(line: &str) {
    eprintln!("{line}");
}
