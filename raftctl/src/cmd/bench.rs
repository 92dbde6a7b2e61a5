//! `raftctl bench`: hands over to the load generator.

use std::io;

use raftctl::bench::engine::Failure as BenchFailure;
use raftctl::bench::load::Mix;
use raftctl::bench::{self, Ended};
use raftctl::client::{Cause, Error, Why};
use raftctl::failure::{Exit, Failure};

use super::Session;
use crate::output;

pub(crate) fn run(args: &bench::Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if args.any_node && args.mix != Mix::Get {
        let what = "--any-node is for reads, and writes go to the leader";
        return Err(Failure::usage(what).remedy("raftctl bench get --any-node"));
    }
    let json = session.out.json();
    match bench::run(args, &session.endpoints, session.timeout, json) {
        Ok(Ended::Complete) => Ok(Exit::Done),
        Ok(Ended::Interrupted) => Ok(Exit::Interrupted),
        Err(failure) => Err(explain(failure)),
    }
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
            Failure::of("bench", &Error::NotApplied { why, place })
        }
        BenchFailure::System(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            output::failure(&error)
        }
        BenchFailure::System(error) => {
            Failure::new(Exit::Bug, "system", format!("bench failed: {error}"))
                .remedy("a limit of this machine? `ulimit -n` shows that of open files")
        }
    }
}
