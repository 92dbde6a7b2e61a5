//! `raftctl scan`: lists keys and values, a page at a time.

use std::time::{Duration, Instant};

use raftctl::client::{Client, Consistency, Deadline, Item, Page, Scan, ScanMode};
use raftctl::failure::{Exit, Failure};
use wire::limits::PAGE_ITEMS_MAX;

use super::{Codec, Prefix, Session, shown};
use crate::items::Printer;

/// List keys and values in bytewise order.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl scan user/
  raftctl scan user/ | cut -f1 | wc -l
  raftctl scan --keys --limit 10")]
pub(crate) struct Args {
    #[command(flatten)]
    prefix: Prefix,
    /// Keys only.
    #[arg(long)]
    keys: bool,
    /// Keys at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    codec: Codec,
}

/// Walks over the pages of a prefix. The deadline counts the time that the cluster takes, not that
/// of a slow reader.
pub(crate) struct Pages<'a> {
    client: Client,
    prefix: &'a [u8],
    mode: ScanMode,
    after: Option<Vec<u8>>,
    left: Duration,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(session: &Session<'_>, prefix: &'a [u8], mode: ScanMode) -> Self {
        Self {
            client: session.client(),
            prefix,
            mode,
            after: None,
            left: session.timeout,
            ended: false,
        }
    }

    /// Reads the next page; `None` after the last.
    pub(crate) fn next(
        &mut self,
        limit: u32,
        each: impl FnMut(Item<'_>),
    ) -> Result<Option<u64>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let begun = Instant::now();
        let scan = Scan {
            freshness: Consistency::Linearizable.into(),
            mode: self.mode,
            prefix: self.prefix,
            after: self.after.as_deref(),
            limit,
        };
        let page = self.client.scan(scan, Deadline::after(self.left), each);
        let Page { count, more_after } = page.map_err(|error| {
            let verb = match self.mode {
                ScanMode::Count => "count",
                ScanMode::Items | ScanMode::Keys => "scan",
            };
            let what = format!("{verb} {}", shown(self.prefix));
            Failure::of(what.trim_end(), &error)
        })?;
        self.left = self.left.saturating_sub(begun.elapsed());
        self.ended = more_after.is_none();
        self.after = more_after;
        Ok(Some(count))
    }
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prefix = args.prefix.bytes(args.codec.key.key_encode)?;
    let mode = if args.keys {
        ScanMode::Keys
    } else {
        ScanMode::Items
    };
    let mut printer = Printer::new(args.keys, prefix.len(), args.codec, &session.out)?;
    let mut pages = Pages::new(session, &prefix, mode);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE_ITEMS_MAX);
        let out = &mut session.out;
        let mut written = Ok(());
        let page = pages.next(limit, |item| {
            if written.is_ok() {
                written = printer.print(&item, out);
            }
        })?;
        written?;
        let Some(count) = page else { break };
        left = left.saturating_sub(count);
        // A reader that shows lines as they come gets each page at once.
        session.out.flush()?;
    }
    printer.finish(&mut session.out)?;
    Ok(Exit::Done)
}
