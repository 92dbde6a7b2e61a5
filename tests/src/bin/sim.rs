//! `scripts/sim`: runs seeds of the simulator and tells what they found.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raftd_tests::sim::ledger::Ledger;
use raftd_tests::sim::run::{Report, Telling, run};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Lines of the trace that a failing seed shows.
const LINES_SHOWN: usize = 60;
/// As a shell says it of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs seeded histories of whole clusters through the shipped code.
///
/// Each seed decides a cluster, its machines and network, what clients ask and what goes wrong;
/// checkers look at every step and at the whole history. The same seed always does the same.
/// Exit status: 0 if all is well, 1 if a seed broke a rule or too many were vacuous, 2 for a
/// wrong command line, 130 if it was interrupted before the last seed: the first Ctrl-C (or SIGTERM)
/// lets the seeds under way end and tells what was found, the second one ends it at once.
/// The last line is `N seeds, V violations, X vacuous, ..`.
#[derive(Debug, Parser)]
#[command(name = "scripts/sim")]
struct Args {
    /// How many seeds.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        conflicts_with = "seed"
    )]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "seed")]
    from: u64,
    /// Only this one, and what it decides.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Print everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Seeds that run at a time; as many as there are processors.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Go on after a seed that broke a rule.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(&args),
    }
}

#[expect(clippy::print_stdout, reason = "the answer of a program")]
fn one(seed: u64, trace: bool) -> ExitCode {
    let telling = if trace {
        Telling::Everything
    } else {
        Telling::Lines
    };
    let report = run(seed, telling);
    println!("{}", report.plan);
    println!("trace {:016x}", report.hash);
    let failed = report.violation.is_some();
    show(&report, if trace { 0 } else { LINES_SHOWN });
    let mut ledger = Ledger::default();
    ledger.add(report.entry);
    println!("{ledger}\n{}", ledger.summary());
    ExitCode::from(u8::from(failed))
}

/// What went wrong in a seed, if anything did.
#[expect(clippy::print_stdout, reason = "the answer of a program")]
fn show(report: &Report, lines_max: usize) {
    let Some(violation) = &report.violation else {
        return;
    };
    println!("\nseed {} breaks a rule; its last steps:", report.seed);
    let skipped = report.lines.len().saturating_sub(lines_max);
    for line in &report.lines[skipped..] {
        println!("  {line}");
    }
    println!("{violation}");
    println!("try: scripts/sim --seed {} --trace", report.seed);
}

#[expect(clippy::print_stdout, reason = "the answer of a program")]
fn many(args: &Args) -> ExitCode {
    let began = Instant::now();
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.unwrap_or(processors).max(1);
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let stop = AtomicBool::new(false);
    let interrupted = on_interrupt();
    let bar = progress(args.seeds);
    let ledger = Mutex::new(Ledger::default());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && !interrupted.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let report = run(seed, Telling::Hash);
                    let broken = report.violation.is_some();
                    stop.fetch_or(broken && !args.keep_going, Ordering::Relaxed);
                    let mut ledger = ledger.lock().expect("no panic leaves a run");
                    ledger.add(report.entry);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let ledger = ledger.into_inner().expect("no panic leaves a run");
    if let Some(seed) = ledger.violations().keys().next() {
        let report = run(*seed, Telling::Lines);
        println!("{}", report.plan);
        show(&report, LINES_SHOWN);
    }
    println!("{ledger}");
    let complaints = ledger.complaints();
    for complaint in &complaints {
        println!("not good enough: {complaint}");
    }
    let runs = ledger.runs() as u64;
    let cut_short = interrupted.load(Ordering::Relaxed) && runs < args.seeds;
    if cut_short {
        println!("interrupted: {runs} of {} seeds were run", args.seeds);
    }
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let rate = runs as f64 * 60.0 / seconds;
    let summary = ledger.summary();
    println!("{summary}, {seconds:.1} s, {rate:.0} seeds per minute, {jobs} at a time");
    match (complaints.is_empty(), cut_short) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
    }
}

/// Becomes true at the first Ctrl-C or SIGTERM; the second one ends the program.
fn on_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order counts: at the first signal the flag is not up yet.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), interrupted.clone())
            .and_then(|_| flag::register(signal, interrupted.clone()))
            .expect("these signals can be caught");
    }
    interrupted
}

/// Only on a terminal; nothing in a pipe or a log.
fn progress(seeds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{pos}/{len} seeds {wide_bar} {elapsed} eta {eta}")
        .expect("the template is good");
    let bar = ProgressBar::new(seeds).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
