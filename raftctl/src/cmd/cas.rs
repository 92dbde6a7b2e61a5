//! `raftctl cas`: sets a key if it is as expected.

use std::ffi::OsString;

use raftctl::client::{Command, Expect, Outcome, Written};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::types::Index;

use crate::encoding::Codec;
use crate::encoding::screen::shown;
use crate::input;
use crate::session::{Resumed, Session, odd_outcome};

/// Set a key if it is as expected: exit 0, else 1.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl cas owner --expect-absent \"$HOSTNAME\"
  raftctl cas quota --expect 5 4
  raftctl cas conf --expect-revision 1234 - < nginx.conf")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    #[command(flatten)]
    expected: Expected,
    /// The new value; `-` reads standard input.
    #[arg(allow_negative_numbers = true)]
    new: OsString,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    resumed: Resumed,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Expected {
    /// The key must hold this value; `-` reads it from standard input.
    #[arg(long, value_name = "V", allow_negative_numbers = true)]
    pub(crate) expect: Option<OsString>,
    /// The key must not be there.
    #[arg(long)]
    pub(crate) expect_absent: bool,
    /// The key must have been last written at this revision.
    #[arg(long, value_name = "N")]
    pub(crate) expect_revision: Option<u64>,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = input::full_key(&args.key, args.codec.key.key_encode)?;
    let expected = &args.expected;
    if args.new == "-" && expected.expect.as_ref().is_some_and(|text| text == "-") {
        return Err(Failure::usage(
            "only one value can be read from standard input",
        ));
    }
    let value;
    let expect = match (&expected.expect, expected.expect_revision) {
        (Some(text), _) => {
            value = input::value(text, args.codec.encode)?;
            Expect::Value(&value)
        }
        (None, Some(revision)) => Expect::Revision(Index(revision)),
        (None, None) => Expect::Absent,
    };
    let new = input::value(&args.new, args.codec.encode)?;
    let what = format!("cas {}", shown(&key));
    let command = Command::CompareAndSwap {
        key: &key,
        expect,
        value: &new,
    };
    let written = session.write(&what, args.resumed, command)?;
    tell(&what, &written, session)
}

/// Tells what became of a write with a condition.
pub(super) fn tell(
    what: &str,
    written: &Written,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let (ok, revision, note) = match written.outcome {
        Outcome::Swapped => {
            let revision = written.revision.0;
            (true, Some(revision), format!("{what}: revision {revision}"))
        }
        Outcome::NotSwapped(Some(Index(revision))) => {
            let note = format!("{what}: not as expected; it is at revision {revision}");
            (false, Some(revision), note)
        }
        Outcome::NotSwapped(None) => (false, None, format!("{what}: there is no such key")),
        _ => return Err(odd_outcome(what, written)),
    };
    if session.out.json() {
        session
            .out
            .object(&json!({"revision": revision, "ok": ok}))?;
    }
    session.out.note(&note)?;
    Ok(if ok { Exit::Done } else { Exit::No })
}
