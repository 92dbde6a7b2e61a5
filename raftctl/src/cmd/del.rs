//! `raftctl del`: removes keys.

mod range;

use std::ffi::OsString;

use raftctl::client::{Client, Command, Error, Outcome, Written};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::bounds::Bounds;
use super::consent::Consent;
use crate::bulk::{self, Job, OfKey, Rewrite};
use crate::decoding::Shape;
use crate::encoding::Encodings;
use crate::encoding::KeyCodec;
use crate::encoding::screen::shown;
use crate::input;
use crate::session::{Resumed, Session, odd_outcome};

/// Deletes in flight at most.
const IN_FLIGHT_MAX: usize = 64;
/// What to try when nobody told what became of one of several keys.
const ALONE: &str = "run it for this key alone with --request-id and the id below, then for the \
                     others without: nothing is applied twice";

/// Remove keys: those named, or a range. A key that is not there is no error.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl del greeting
  raftctl del --prefix tmp/ --expect 12
  raftctl scan --keys -0 tmp/ | raftctl del --stdin -0
  raftctl del lock --must-exist && echo released")]
pub(crate) struct Args {
    /// Several keys are several writes, done in this order.
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    #[arg(required_unless_present_any = ["stdin", "prefix", "from", "to"])]
    #[arg(conflicts_with_all = ["prefix", "from", "to", "expect", "dry_run", "yes"])]
    keys: Vec<OsString>,
    /// Remove many: each record on standard input is a key.
    #[arg(long, conflicts_with_all = ["keys", "must_exist", "request_id"])]
    #[arg(conflicts_with_all = ["prefix", "from", "to", "expect", "dry_run", "yes"])]
    pub(crate) stdin: bool,
    #[command(flatten)]
    bounds: Bounds,
    /// Only tell how many keys of the range there are.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    /// Exit 1 if a key was not there; of a range, if none was.
    #[arg(long)]
    must_exist: bool,
    #[command(flatten)]
    codec: KeyCodec,
    #[command(flatten)]
    flags: bulk::Flags,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if args.stdin {
        return delete_many(args, session);
    }
    args.flags.check_unused(&[])?;
    if let Some(range) = args.bounds.range(args.codec.key_encode)? {
        return range::run(args, &range, session);
    }
    let keys: Result<Vec<_>, _> = args
        .keys
        .iter()
        .map(|key| input::full_key(key, args.codec.key_encode))
        .collect();
    let keys = keys?;
    let (deleted, revision) = match keys.as_slice() {
        [key] => {
            let what = format!("del {}", shown(key));
            let written = session.write(&what, args.resumed, Command::Delete { key })?;
            (deleted(&what, &written)?, written.revision.0)
        }
        _ if args.resumed.request_id.is_some() => {
            let what = "a request id belongs to one write, but several keys are given";
            let remedy = "give the key that the error named; then the others without --request-id";
            return Err(Failure::usage(what).remedy(remedy));
        }
        keys => delete_all(keys, session)?,
    };
    tell(deleted, revision, session)?;
    if args.must_exist && deleted < keys.len() as u64 {
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

/// Tells how many keys were removed, and when the last of them.
fn tell(deleted: u64, revision: u64, session: &mut Session<'_>) -> Result<(), Failure> {
    if session.out.json() {
        session
            .out
            .object(&json!({"deleted": deleted, "revision": revision}))?;
    }
    session.out.note(&format!("deleted {deleted}"))
}

fn delete_many(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let job = Job {
        doing: "del",
        file: None,
        shape: Shape::Keys,
        encodings: Encodings {
            key: args.codec.key_encode,
            value: None,
        },
        rewrite: Rewrite::new(Vec::new(), false, OfKey::Delete),
        flags: &args.flags,
        whole: None,
    };
    bulk::run(job, session)
}

/// Deletes one after the other in one session; returns how many were there, and the last revision.
fn delete_all(keys: &[Vec<u8>], session: &Session<'_>) -> Result<(u64, u64), Failure> {
    session.signals.hold();
    let mut client = session.client();
    let (mut total, mut revision) = (0, 0);
    let mut rest = keys.iter();
    for (done, key) in keys.iter().enumerate() {
        let what = format!("del {} (key {} of {})", shown(key), done + 1, keys.len());
        let failed = |error: &Error| {
            let failure = Failure::of(&what, error);
            match error {
                Error::Unknown { why, .. } if !why.is_forgotten() => failure.remedy(ALONE),
                _ => failure,
            }
        };
        fill(&mut client, &mut rest).map_err(|error| failed(&error))?;
        let written = client
            .wait(session.deadline())
            .expect("the delete is in flight")
            .map_err(|error| failed(&error))?;
        total += deleted(&what, &written)?;
        revision = written.revision.0;
    }
    Ok((total, revision))
}

fn fill(client: &mut Client, rest: &mut std::slice::Iter<'_, Vec<u8>>) -> Result<(), Error> {
    while client.in_flight() < IN_FLIGHT_MAX {
        let Some(key) = rest.next() else { break };
        client.submit(Command::Delete { key })?;
    }
    Ok(())
}

fn deleted(what: &str, written: &Written) -> Result<u64, Failure> {
    match written.outcome {
        Outcome::Deleted(count) => Ok(count),
        _ => Err(odd_outcome(what, written)),
    }
}
