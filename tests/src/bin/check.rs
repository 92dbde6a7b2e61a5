//! Judges a kept history once more: `cargo run -p raftd-tests --bin check -- FILE`, or `-` for the
//! standard input. The file is described in `tests/src/history/text.rs`.
//!
//! Exit status: 0 if nothing is wrong, 1 if something is, 2 if the file cannot be read, 3 if some
//! key was not worth the work and nothing is wrong with the others.

use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::process::ExitCode;

use raftd_tests::history::search::{self, Budget};
use raftd_tests::history::text::{Kept, Unreadable};
use raftd_tests::history::{acks, witness};

/// Somebody waits for one verdict, not for thousands: more than a seed of the simulator may spend.
const BUDGET: Budget = Budget {
    configurations_per_key: 5_000_000,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [path] = args.as_slice() else {
        say("usage: check FILE");
        return ExitCode::from(2);
    };
    let kept = match read(path) {
        Ok(kept) => kept,
        Err(error) => {
            say(&format!("{path}: {error}"));
            return ExitCode::from(2);
        }
    };
    let (name, by_index) = match kept.committed() {
        Some(committed) => ("by the log", witness::check(&kept.history, committed)),
        None => ("without a log", acks::check(&kept.history)),
    };
    let by_search = search::check(&kept.history, BUDGET);
    let mut status = 0;
    match by_index {
        Ok(summary) => say(&format!("{name}: right. {summary:?}")),
        Err(violation) => {
            say(&format!("{name}: {violation}"));
            status = 1;
        }
    }
    match by_search {
        Ok(searched) => {
            say(&format!("by search: nothing wrong. {searched:?}"));
            if !searched.gave_up.is_empty() && status == 0 {
                status = 3;
            }
        }
        Err(violation) => {
            say(&format!("by search: {violation}"));
            status = 1;
        }
    }
    ExitCode::from(status)
}

fn read(path: &str) -> Result<Kept, Unreadable> {
    let source: Box<dyn Read> = match path {
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(path).map_err(Unreadable::Io)?),
    };
    Kept::read(BufReader::new(source))
}

/// If nobody listens, the exit status still tells.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
