//! `raftctl incr`: adds to a counter.

use std::ffi::OsString;

use raftctl::client::{Command, Outcome};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use crate::encoding::KeyCodec;
use crate::encoding::screen::shown;
use crate::input;
use crate::session::{Resumed, Session, odd_outcome};
use crate::undone;

/// Add to a decimal number and print the sum. A key that is not there counts as 0.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl incr tickets
  raftctl incr stock -3
  n=$(raftctl incr ticket/next) && raftctl put \"ticket/$n\" open")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    /// What to add.
    #[arg(default_value_t = 1, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = number)]
    delta: i64,
    #[command(flatten)]
    codec: KeyCodec,
    #[command(flatten)]
    resumed: Resumed,
}

fn number(text: &str) -> Result<i64, String> {
    let parsed = text.parse();
    parsed.map_err(|_| "it is no decimal number of 64 bits with a sign".into())
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = input::full_key(&args.key, args.codec.key_encode)?;
    let what = format!("incr {}", shown(&key));
    let command = Command::Increment {
        key: &key,
        delta: args.delta,
    };
    let written = session.write(&what, args.resumed, command)?;
    match written.outcome {
        Outcome::Incremented(value) if session.out.json() => {
            let revision = written.revision.0;
            session
                .out
                .object(&json!({"value": value, "revision": revision}))?;
        }
        Outcome::Incremented(value) => session.out.line(&value.to_string())?,
        ref other => {
            let why = undone::of(other).ok_or_else(|| odd_outcome(&what, &written))?;
            let what = format!("{what} was refused: {}", undone::text(why));
            return Err(Failure::new(Exit::Refused, undone::name(why), what)
                .remedy("nothing changed; `raftctl get` shows what the key holds"));
        }
    }
    Ok(Exit::Done)
}
