//! `raftctl count`: counts keys.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::range::{Pages, Range};
use super::{KeyCodec, Session};

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
    let pages = Pages::new(session, way, "count", encoding)?;
    let mut total = 0;
    while let Some(page) = pages.next()? {
        total += page.count;
    }
    if session.out.json() {
        session.out.object(&json!({"count": total}))?;
    } else {
        session.out.line(&total.to_string())?;
    }
    Ok(Exit::Done)
}
