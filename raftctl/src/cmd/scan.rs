//! `raftctl scan`: lists keys and values.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};

use super::range::{Pages, Range};
use crate::encoding::Codec;
use crate::items::Printer;
use crate::session::Session;

/// List keys and values in bytewise order, all as of one revision.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl scan user/
  raftctl scan user/ | cut -f1 | wc -l
  raftctl scan --keys --reverse --limit 10 log/")]
pub(crate) struct Args {
    #[command(flatten)]
    range: Range,
    /// Keys only.
    #[arg(long)]
    keys: bool,
    /// The highest key first.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    codec: Codec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let mode = if args.keys {
        ScanMode::Keys
    } else {
        ScanMode::Items
    };
    let encoding = args.codec.key.key_encode;
    let way = args.range.way(mode, args.reverse, encoding)?;
    let stem_bytes = args.range.stem_bytes(encoding)?;
    let mut printer = Printer::new(args.keys, stem_bytes, args.codec, &session.out)?;
    session.out.page(session.signals);
    let pages = Pages::new(session, way, "scan", encoding)?;
    let out = &mut session.out;
    loop {
        // What was found before an error is data too.
        let page = match pages.next() {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(failure) => {
                printer.break_off(out)?;
                return Err(failure);
            }
        };
        for item in page.items() {
            printer.print(&item, out)?;
        }
        // A reader that shows lines as they come gets each page at once.
        out.flush()?;
    }
    printer.finish(out)?;
    Ok(Exit::Done)
}
