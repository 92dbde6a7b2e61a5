//! `raftctl count`: counts keys.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::limits::PAGE_ITEMS_MAX;

use super::scan::Pages;
use super::{KeyCodec, Prefix, Session};

/// Count keys.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl count
  raftctl count user/")]
pub(crate) struct Args {
    #[command(flatten)]
    prefix: Prefix,
    #[command(flatten)]
    codec: KeyCodec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prefix = args.prefix.bytes(args.codec.key_encode)?;
    let mut pages = Pages::new(session, &prefix, ScanMode::Count);
    let mut total = 0;
    while let Some(count) = pages.next(PAGE_ITEMS_MAX, |_| {})? {
        total += count;
    }
    if session.out.json() {
        session.out.object(&json!({"count": total}))?;
    } else {
        session.out.line(&total.to_string())?;
    }
    Ok(Exit::Done)
}
