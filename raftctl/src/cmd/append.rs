//! `raftctl append`: adds to the end of a value.

use std::ffi::OsString;

use raftctl::client::{Command, Outcome};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use crate::encoding::Codec;
use crate::encoding::screen::shown;
use crate::input;
use crate::session::{Resumed, Session, odd_outcome};
use crate::undone;

/// Add to the end of a value. A key that is not there is made.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl append log \"$(date) started\"
  raftctl append notes - < more.txt
  raftctl append notes done --json | jq .revision")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    /// What to add, exact bytes; `-` reads standard input to its end.
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = input::full_key(&args.key, args.codec.key.key_encode)?;
    let value = input::value(&args.value, args.codec.encode)?;
    let what = format!("append {}", shown(&key));
    let command = Command::Append {
        key: &key,
        value: &value,
    };
    let written = session.write(&what, args.resumed, command)?;
    let revision = written.revision.0;
    match written.outcome {
        Outcome::Appended(bytes) => {
            if session.out.json() {
                session
                    .out
                    .object(&json!({"bytes": bytes, "revision": revision}))?;
            }
            session
                .out
                .note(&format!("{what}: {bytes} bytes, revision {revision}"))?;
            Ok(Exit::Done)
        }
        ref other => {
            let why = undone::of(other).ok_or_else(|| odd_outcome(&what, &written))?;
            let what = format!("{what} was refused: {}", undone::text(why));
            Err(Failure::new(Exit::Refused, undone::name(why), what)
                .remedy("nothing changed; begin another key"))
        }
    }
}
