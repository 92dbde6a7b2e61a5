//! The keys of a range: as one, or in parts if they are more than an entry may touch.

use std::io::{self, Write};

use raftctl::client::{Command, Deadline, Outcome, ScanMode, Way, Written};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::limits::ENTRY_KEYS_MAX;

use super::{Args, tell};
use crate::cmd::bounds::Range;
use crate::cmd::range::count as count_keys;
use crate::session::{Session, odd_outcome};

/// Removes the keys of a range.
pub(super) fn run(args: &Args, range: &Range, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let what = args.bounds.said("del");
    let expect = args.bounds.expect;
    if args.dry_run {
        let there = count(&what, range, session)?;
        if session.out.json() {
            session.out.object(&json!({"would_delete": there}))?;
        } else {
            session.out.line(&there.to_string())?;
        }
        let fits = expect.is_none_or(|expect| expect == there);
        return Ok(if fits { Exit::Done } else { Exit::No });
    }
    // Of a retry the first attempt was asked about.
    let first = args.resumed.request_id.is_none();
    match expect {
        Some(expect) if expect <= ENTRY_KEYS_MAX as u64 => {
            return at_once(&what, args, range, expect, session);
        }
        Some(expect) if first => {
            let there = count(&what, range, session)?;
            if there != expect {
                return Err(unexpected(&what, &there.to_string(), expect));
            }
        }
        None if first => {
            if args.consent.asks() {
                let there = count(&what, range, session)?;
                // Who cannot read it is not asked either.
                let _ = writeln!(io::stderr(), "{what}: {there} keys are there");
            }
            args.consent.get(&what, &range.name, false, session)?;
        }
        Some(_) | None => {}
    }
    let (deleted, revision) = in_parts(&what, args, range, session)?;
    finish(args, deleted, revision, session)
}

/// As many as expected or none, by one write.
fn at_once(
    what: &str,
    args: &Args,
    range: &Range,
    expect: u64,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let command = command(range, Some(expect));
    let written = session.write(what, args.resumed, command)?;
    match written.outcome {
        Outcome::Deleted(deleted) => finish(args, deleted, written.revision.0, session),
        Outcome::NotDeleted(there) if there > ENTRY_KEYS_MAX as u64 => {
            let there = format!("more than {ENTRY_KEYS_MAX}");
            Err(unexpected(what, &there, expect))
        }
        Outcome::NotDeleted(there) => Err(unexpected(what, &there.to_string(), expect)),
        _ => Err(odd_outcome(what, &written)),
    }
}

/// All of them, in as many writes as it takes. The time of `-t` is that of each.
fn in_parts(
    what: &str,
    args: &Args,
    range: &Range,
    session: &Session<'_>,
) -> Result<(u64, u64), Failure> {
    session.signals.hold();
    let mut client = session.client();
    let mut resumed = args.resumed.request_id;
    let mut total = 0;
    loop {
        let deadline = Deadline::after(session.timeout);
        let part = match resumed.take() {
            Some(request) => client.resume(request, command(range, None), deadline),
            None => client.write(command(range, None), deadline),
        };
        let part = part.map_err(|error| {
            let so_far = match total {
                0 => String::new(),
                total => format!(" ({total} are gone)"),
            };
            Failure::of(&format!("{what}{so_far}"), &error)
        })?;
        let Written {
            outcome: Outcome::Deleted(deleted),
            revision,
            ..
        } = part
        else {
            return Err(odd_outcome(what, &part));
        };
        total += deleted;
        if deleted < ENTRY_KEYS_MAX as u64 {
            return Ok((total, revision.0));
        }
    }
}

fn command(range: &Range, expect: Option<u64>) -> Command<'_> {
    Command::DeleteRange {
        from: &range.from,
        to: range.to.as_deref(),
        expect,
    }
}

fn finish(
    args: &Args,
    deleted: u64,
    revision: u64,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    tell(deleted, revision, session)?;
    if args.must_exist && deleted == 0 {
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

fn unexpected(what: &str, there: &str, expect: u64) -> Failure {
    let what = format!("{what} removed nothing: {there} keys are there, not {expect}");
    Failure::new(Exit::No, "unexpected-count", what)
}

/// How many keys are there now.
fn count(what: &str, range: &Range, session: &Session<'_>) -> Result<u64, Failure> {
    let way = Way::range(ScanMode::Count, &range.from, range.to.as_deref());
    count_keys(session, way, what)
}
