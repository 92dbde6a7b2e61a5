//! `raftctl bench`: hands over to the load generator.

use raftctl::bench::engine::Failure as BenchFailure;
use raftctl::bench::load::Mix;
use raftctl::bench::{self, Ended};
use raftctl::client::{Cause, Error, Why};
use raftctl::failure::{Exit, Failure};

use crate::format::Format;
use crate::session::Session;

pub(crate) fn run(args: &bench::Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if args.any_node && args.mix != Mix::Get {
        let what = "--any-node is for reads, and writes go to the leader";
        return Err(Failure::usage(what).remedy("raftctl bench get --any-node"));
    }
    // The first signal ends the measurement, the second the process.
    session.signals.hold();
    let cancel = &session.signals.cancel;
    let is_shown = !session.out.style().no_progress;
    let measured = bench::run(args, &session.endpoints, session.timeout, is_shown, cancel);
    let (report, ended) = measured.map_err(explain)?;
    let out = &mut session.out;
    match out.format() {
        Format::Jsonl => out.object(&report)?,
        Format::Table => out.line(&report.table(args.mix))?,
        _ => out.bytes(report.tsv().as_bytes())?,
    }
    Ok(match ended {
        Ended::Complete => Exit::Done,
        Ended::Interrupted => Exit::Interrupted,
    })
}

fn explain(failure: BenchFailure) -> Failure {
    match failure {
        BenchFailure::Unreachable(causes) => {
            let causes = causes.into_iter().map(|(endpoint, text)| Cause {
                endpoint,
                text,
                timed_out: false,
            });
            let causes = causes.collect();
            Failure::of("bench", &Error::Unreachable { causes })
        }
        stalled @ BenchFailure::Stalled { .. } => {
            let why = Why::Connection(stalled.to_string());
            let place = String::new();
            // Keys may have been written.
            Failure::of("bench", &Error::NotApplied { why, place })
                .remedy("run it again; `raftctl status` shows which nodes are missing")
        }
        BenchFailure::Refused(error) => {
            let place = String::new();
            Failure::of("bench", &Error::Refused { error, place })
        }
        BenchFailure::System(error) => {
            Failure::new(Exit::Bug, "system", format!("bench failed: {error}"))
                .remedy("a limit of this machine? `ulimit -n` shows that of open files")
        }
    }
}
