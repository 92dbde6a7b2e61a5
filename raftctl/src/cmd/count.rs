//! `raftctl count`: counts keys.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::range::{self, Range};
use crate::encoding::KeyCodec;
use crate::session::Session;

/// Count keys, all as of one revision.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl count
  raftctl count user/
  raftctl count --from 2026-01 --to 2026-02")]
pub(crate) struct Args {
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    codec: KeyCodec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let encoding = args.codec.key_encode;
    let way = args.range.way(ScanMode::Count, false, encoding)?;
    let what = range::named("count", &way);
    let total = range::count(session, way, &what)?;
    if session.out.json() {
        session.out.object(&json!({"count": total}))?;
    } else {
        session.out.line(&total.to_string())?;
    }
    Ok(Exit::Done)
}
