//! `raftctl put`: sets a key.

use std::ffi::OsString;

use raftctl::client::{
    Batch, Command, Compare, Compares, Condition, Expect, Operation, OperationResult, Outcome,
    Relation, Txn, Written,
};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::types::Index;

use super::{cas, get};
use crate::bulk::{self, Job, OfKey, Rewrite};
use crate::decoding::Shape;
use crate::encoding::Codec;
use crate::encoding::screen::shown;
use crate::input;
use crate::items;
use crate::session::{Resumed, Session, not_kept, odd_outcome};

/// Set a key.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl put greeting hello
  raftctl put conf - < nginx.conf
  find . -type f -print0 | raftctl put --stdin -0 --from-files --prefix site/
  raftctl put lock \"$HOSTNAME\" --if-absent
  raftctl put -- key -value")]
pub(crate) struct Args {
    #[arg(allow_negative_numbers = true, required_unless_present = "stdin")]
    key: Option<OsString>,
    /// The value; `-` or nothing reads standard input to its end, as exact bytes.
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Only if the key is not there: else exit 1.
    #[arg(long)]
    if_absent: bool,
    /// Only if the key was last written at this revision: else exit 1.
    #[arg(long, value_name = "N", conflicts_with_all = ["if_absent", "stdin"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    if_revision: Option<u64>,
    /// Print the value before, as `get` would.
    #[arg(long, conflicts_with = "stdin")]
    prev: bool,
    /// Set many keys: each record on standard input is a key and its value.
    #[arg(long, conflicts_with_all = ["key", "request_id"])]
    pub(crate) stdin: bool,
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
    // What requires --stdin is let through beside a key, with which that cannot be.
    args.flags.check_unused(&[
        (args.from_files, "--from-files"),
        (args.prefix.is_some(), "--prefix"),
    ])?;
    let key = input::full_key(key, args.codec.key.key_encode)?;
    let value = match &args.value {
        Some(text) => input::value(text, args.codec.encode)?,
        None => input::piped_value(args.codec.encode)?,
    };
    let what = format!("put {}", shown(&key));
    if args.prev {
        return with_prev(args, &what, &key, &value, session);
    }
    let expect = match args.if_revision {
        Some(revision) => Some(Expect::Revision(Index(revision))),
        None => args.if_absent.then_some(Expect::Absent),
    };
    let (key, value) = (key.as_slice(), value.as_slice());
    let command = match expect {
        Some(expect) => Command::CompareAndSwap { key, expect, value },
        None => Command::Put { key, value },
    };
    let written = session.write(&what, args.resumed, command)?;
    if written.outcome == Outcome::Put {
        let revision = written.revision.0;
        if session.out.json() {
            let object = json!({"revision": revision, "ok": true});
            session.out.object(&object)?;
        }
        session.out.note(&format!("{what}: revision {revision}"))?;
        return Ok(Exit::Done);
    }
    cas::tell(&what, &written, session)
}

/// Reads the key and sets it, as one.
fn with_prev(
    args: &Args,
    what: &str,
    key: &[u8],
    value: &[u8],
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let condition = match args.if_revision {
        Some(revision) => Some(Condition::Revision(Relation::Equal, revision)),
        None => args.if_absent.then_some(Condition::Absent),
    };
    let compare = condition.map(|condition| Compare { key, condition });
    let compares = Compare::encode_all(compare.as_slice());
    let get = Operation::Get { key };
    let put = Operation::Change(Command::Put { key, value });
    let [mut then, mut or_else] = [Batch::default(), Batch::default()];
    let too_large = |_| {
        let what = format!("{what} was refused: the value is too long");
        Failure::new(Exit::Refused, "too-large", what)
    };
    then.push(get).map_err(too_large)?;
    then.push(put).map_err(too_large)?;
    or_else.push(get).map_err(too_large)?;
    let txn = Txn {
        compares: Compares { bytes: &compares },
        then: then.operations(),
        or_else: or_else.operations(),
    };
    let written = session.write(what, args.resumed, Command::Txn(txn))?;
    let Outcome::Txn { held, results } = &written.outcome else {
        return Err(odd_outcome(what, &written));
    };
    let Some(results) = results else {
        return before_not_kept(what, *held, &written, session);
    };
    let before = match results.iter().next() {
        Some(OperationResult::Found(item)) => Some(item),
        Some(OperationResult::Missing) => None,
        _ => return Err(odd_outcome(what, &written)),
    };
    let found = before.map(|item| item.revision.0);
    let out = &mut session.out;
    if out.json() {
        let prev = before.map(|item| items::object(&item, false, args.codec.encodings()));
        let revision = if *held {
            Some(written.revision.0)
        } else {
            found
        };
        out.object(&json!({"revision": revision, "ok": held, "prev": prev}))?;
    } else if let Some(item) = before {
        get::value(item.value, args.codec, out)?;
    }
    Ok(if *held { Exit::Done } else { Exit::No })
}

/// A retry does not tell what the key held. To print nothing, or null, would be to say that it was
/// not there.
fn before_not_kept(
    what: &str,
    held: bool,
    written: &Written,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    if session.out.json() {
        let object = match held {
            true => json!({"revision": written.revision.0, "ok": true}),
            // The revision would be that of what the key holds.
            false => json!({"ok": false}),
        };
        session.out.object(&object)?;
    }
    let done = match held {
        true => "the key is set",
        false => "the condition did not hold",
    };
    Err(not_kept(what, written).remedy(format!(
        "{done}: `raftctl get` shows what the key holds now"
    )))
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
        rewrite: Rewrite::new(prefix, args.if_absent, OfKey::File),
        flags: &args.flags,
        whole: None,
    };
    bulk::run(job, session)
}
