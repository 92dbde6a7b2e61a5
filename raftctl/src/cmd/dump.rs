//! `raftctl dump`: writes keys and values in a form that reads back as the same bytes.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};
use wire::limits::PAGE_ITEMS_MAX;

use super::scan::Pages;
use super::{Codec, Prefix, Session};
use crate::encoding::{Encoder, Record};
use crate::format::Format;

/// Write keys and values in a form that reads back as the same bytes.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl dump app/ > app.tsv
  raftctl dump app/ | gzip > app.tsv.gz
  raftctl dump --format frame > all.frames")]
pub(crate) struct Args {
    #[command(flatten)]
    prefix: Prefix,
    #[command(flatten)]
    codec: Codec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let prefix = args.prefix.bytes(args.codec.key.key_encode)?;
    let format = session.out.style().format().unwrap_or(Format::Tsv);
    session.out.check_binary(format)?;
    let encoder = Encoder::new(format, args.codec.encodings());
    let mut encoder = encoder.expect("other formats were refused");
    let mut pages = Pages::new(session, &prefix, ScanMode::Items);
    let mut buffer = Vec::new();
    loop {
        let mut encoded = Ok(());
        let page = pages.next(PAGE_ITEMS_MAX, |item| {
            let record = Record {
                key: item.key,
                value: item.value,
            };
            if encoded.is_ok() {
                encoded = encoder.encode(record, &mut buffer);
            }
        })?;
        if page.is_none() {
            encoder.finish(&mut buffer);
        }
        session.out.text(&buffer)?;
        // What came before a record that cannot be written is data too.
        encoded?;
        if page.is_none() {
            return Ok(Exit::Done);
        }
        buffer.clear();
        session.out.flush()?;
    }
}
