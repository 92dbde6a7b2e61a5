//! `raftctl put`: sets a key.

use std::ffi::OsString;

use raftctl::client::{Command, Outcome};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::{Codec, Resumed, Session, odd_outcome, shown};
use crate::input;

/// Set a key.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl put greeting hello
  raftctl put conf - < nginx.conf
  raftctl put -- key -value")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    /// The value; `-` or nothing reads standard input to its end, as exact bytes.
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = input::full_key(&args.key, args.codec.key.key_encode)?;
    let value = match &args.value {
        Some(text) => input::value(text, args.codec.encode)?,
        None => input::piped_value(args.codec.encode)?,
    };
    let what = format!("put {}", shown(&key));
    let command = Command::Put {
        key: &key,
        value: &value,
    };
    let written = session.write(&what, args.resumed, command)?;
    if !matches!(written.outcome, Outcome::Put | Outcome::Applied) {
        return Err(odd_outcome(&what, &written));
    }
    let revision = written.revision.0;
    if session.out.json() {
        session
            .out
            .object(&json!({"revision": revision, "ok": true}))?;
    }
    session.out.note(&format!("{what}: revision {revision}"))?;
    Ok(Exit::Done)
}
