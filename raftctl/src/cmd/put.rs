//! `raftctl put`: sets a key.

use std::ffi::OsString;

use raftctl::client::{Command, Outcome};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::{Codec, Resumed, Session, odd_outcome, shown};
use crate::bulk::{self, Job, OfKey, Rewrite};
use crate::decoding::Shape;
use crate::input;

/// Set a key.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl put greeting hello
  raftctl put conf - < nginx.conf
  find . -type f -print0 | raftctl put --stdin -0 --from-files --prefix site/
  raftctl put -- key -value")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true, required_unless_present = "stdin")]
    key: Option<OsString>,
    /// The value; `-` or nothing reads standard input to its end, as exact bytes.
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Set many keys: each record on standard input is a key and its value.
    #[arg(long, conflicts_with_all = ["key", "request_id"])]
    pub(super) stdin: bool,
    /// Each record is a path instead: the key is PREFIX and that path, the value is in the file.
    #[arg(long, requires = "stdin")]
    from_files: bool,
    /// Goes before every key.
    #[arg(long, value_name = "PREFIX", requires = "stdin")]
    prefix: Option<OsString>,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    flags: bulk::Flags,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let Some(key) = &args.key else {
        return put_many(args, session);
    };
    args.flags.check_unused()?;
    let key = input::full_key(key, args.codec.key.key_encode)?;
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

fn put_many(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prefix = match &args.prefix {
        Some(prefix) => input::key(prefix, args.codec.key.key_encode)?,
        None => Vec::new(),
    };
    let shape = match args.from_files {
        true => Shape::Keys,
        false => Shape::Records,
    };
    let job = Job {
        doing: "put",
        file: None,
        shape,
        encodings: args.codec.encodings(),
        rewrite: Rewrite::new(prefix, false, OfKey::File),
        flags: &args.flags,
        whole: None,
    };
    bulk::run(job, session)
}
