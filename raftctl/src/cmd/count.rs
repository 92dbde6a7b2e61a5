//! `raftctl count`: counts keys.

use std::ffi::OsString;

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::limits::PAGE_ITEMS_MAX;

use super::scan::Pages;
use super::{KeyCodec, Session};
use crate::input;

/// Count keys.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl count
  raftctl count user/")]
pub(crate) struct Args {
    /// Keys must begin with it.
    #[arg(
        default_value = "",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    prefix: OsString,
    #[command(flatten)]
    codec: KeyCodec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prefix = input::key(&args.prefix, args.codec.key_encode)?;
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
