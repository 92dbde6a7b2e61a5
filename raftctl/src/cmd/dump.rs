//! `raftctl dump`: writes keys and values in a form that reads back as the same bytes.

use raftctl::client::ScanMode;
use raftctl::failure::{Exit, Failure};

use super::range::{Pages, Range};
use crate::encoding::Codec;
use crate::encoding::{Encoder, Record};
use crate::format::Format;
use crate::session::Session;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Write keys and values, all as of one revision, in a form that reads back as the same bytes.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl dump app/ > app.tsv
  raftctl dump app/ | gzip > app.tsv.gz
  raftctl dump --format frame > all.frames")]
pub(crate) struct Args {
    #[command(flatten)]
    range: Range,
    /// The highest key first.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    codec: Codec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let encoding = args.codec.key.key_encode;
    let way = args.range.way(ScanMode::Items, args.reverse, encoding)?;
    let format = session.out.style().format().unwrap_or(Format::Tsv);
    session.out.check_binary(format)?;
    let encoder = Encoder::new(format, args.codec.encodings());
    let mut encoder = encoder.expect("other formats were refused");
    session.out.page(session.signals);
    let pages = Pages::new(session, way, "dump", encoding)?;
    let out = &mut session.out;
    let mut buffer = Vec::new();
    loop {
        // What came before an error is data too.
        let page = match pages.next() {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(failure) => {
                encoder.close(&mut buffer);
                out.text(&buffer)?;
                return Err(failure);
            }
        };
        for item in page.items() {
            let record = Record {
                key: item.key,
                value: item.value,
            };
            if let Err(refused) = encoder.encode(record, &mut buffer) {
                out.text(&buffer)?;
                return Err(refused);
            }
            if buffer.len() >= WRITE_BYTES {
                out.text(&buffer)?;
                buffer.clear();
            }
        }
        out.text(&buffer)?;
        buffer.clear();
        out.flush()?;
    }
    encoder.finish(&mut buffer);
    out.text(&buffer)?;
    Ok(Exit::Done)
}
