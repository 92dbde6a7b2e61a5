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
    let done = match asked.strikes {
        Some(strikes) => {
            let seed = asked.options.seed;
            say(&format!("damage from seed {seed}"));
            let tally = sweep::run(sweep::Options { strikes, seed }, &cancelled, &tell);
            tally.map(|tally| (tally.to_string(), Vec::new()))
        }
        None => run(asked.options, &cancelled, &tell)
            .map(|ledger| (ledger.to_string(), ledger.below_floors())),
    };
    end(done, &cancelled)
}

/// Tells what came of it: the text for stdout, and what there was too little of.
fn end(done: Result<(String, Vec<String>), Failure>, cancelled: &AtomicBool) -> ExitCode {
    let (text, below) = match done {
        Ok(done) => done,
        Err(failure) => {
            say(&format!("torture: failed: {failure}"));
            return ExitCode::FAILURE;
        }
    };
    if cancelled.load(Ordering::Relaxed) {
        say("torture: interrupted");
        return ExitCode::from(INTERRUPTED);
    }
    let written = writeln!(std::io::stdout(), "{text}\nviolations        0");
    if written.is_err() || !below.is_empty() {
        say(&format!(
            "torture: too little to mean something: {}",
            below.join("; ")
        ));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
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
