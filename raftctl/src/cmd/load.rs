//! `raftctl load`: writes many records.

use std::ffi::OsString;

use raftctl::failure::{Exit, Failure};

use crate::bulk::{self, Flags, Job, OfKey, Rewrite};
use crate::decoding::Shape;
use crate::encoding::Codec;
use crate::input;
use crate::session::{Resumed, Session};

/// Write many records, each once, in their order, whatever happens to the cluster meanwhile.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl load users.tsv
  zcat app.tsv.gz | raftctl load --if-absent
  raftctl load counts.jsonl --format jsonl --rejects bad.jsonl --checkpoint load.ck")]
#[command(mut_arg("verbose", |arg| arg.short('v')))]
pub(crate) struct Args {
    /// The records; - or nothing is standard input.
    file: Option<OsString>,
    /// Goes before every key.
    #[arg(long, value_name = "P", allow_hyphen_values = false)]
    prefix: Option<OsString>,
    /// Leave a key alone that is there already.
    #[arg(long)]
    if_absent: bool,
    /// All in one step, or nothing; refused before it is sent if it is too much for that.
    #[arg(long, conflicts_with_all = ["on_error", "rejects", "checkpoint"])]
    atomic: bool,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if args.resumed.request_id.is_some() && !args.atomic {
        let what = "a request id belongs to one write, and a load is many unless it is --atomic";
        return Err(Failure::usage(what).remedy("--checkpoint FILE makes a load that can go on"));
    }
    let encodings = args.codec.encodings();
    let prefix = match &args.prefix {
        Some(prefix) => input::key(prefix, encodings.key)?,
        None => Vec::new(),
    };
    let job = Job {
        doing: "load",
        file: args.file.as_deref(),
        shape: Shape::Records,
        encodings,
        rewrite: Rewrite::new(prefix, args.if_absent, OfKey::Delete),
        flags: &args.flags,
        whole: args.atomic.then_some(args.resumed.request_id),
    };
    bulk::run(job, session)
}
