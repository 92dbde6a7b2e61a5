//! `raftctl get`: prints values.

use std::ffi::OsString;

use raftctl::client::{Client, Consistency, Entry};
use raftctl::failure::{Exit, Failure};
use wire::types::Index;

use super::{Codec, Session, shown};
use crate::encoding::json::{Datum, Record};
use crate::encoding::{screen, tsv};
use crate::input;
use crate::output::Out;
use crate::sheet::Sheet;

/// Print the value of a key, or of several.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl get greeting
  raftctl get conf > nginx.conf
  raftctl get feature/x --default off")]
pub(crate) struct Args {
    /// With one key its exact bytes are printed, with several `key TAB value` lines.
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    keys: Vec<OsString>,
    /// Take this value for a key that is not there.
    #[arg(long, value_name = "V", allow_negative_numbers = true)]
    default: Option<OsString>,
    /// Exit 0 also if a key is not there.
    #[arg(long)]
    missing_ok: bool,
    #[command(flatten)]
    codec: Codec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let default = match &args.default {
        Some(text) => Some(input::value(text, args.codec.encode)?),
        None => None,
    };
    let keys: Result<Vec<_>, _> = args
        .keys
        .iter()
        .map(|key| input::full_key(key, args.codec.key.key_encode))
        .collect();
    let keys = keys?;
    let several = keys.len() > 1;
    let mut client = session.client();
    let mut missing = Vec::new();
    let mut sheet = Sheet::new(false, args.codec, &session.out);
    for key in &keys {
        let found = find(&mut client, key, default.as_deref(), session)?;
        let out = &mut session.out;
        match found {
            None => missing.push(shown(key)),
            Some(entry) if out.json() => record(key, &entry, args.codec, out)?,
            Some(entry) if several && out.for_person() => sheet.add(&entry.item(key)),
            Some(entry) if several => row(key, &entry.value, args.codec, out)?,
            Some(entry) => value(&entry.value, args.codec, out)?,
        }
    }
    sheet.print(true, &mut session.out)?;
    if missing.is_empty() || args.missing_ok {
        return Ok(Exit::Done);
    }
    if several {
        session.out.flush()?;
        let names = missing.join(", ");
        return Err(Failure::new(
            Exit::No,
            "missing",
            format!("not found: {names}"),
        ));
    }
    Ok(Exit::No)
}

fn find(
    client: &mut Client,
    key: &[u8],
    default: Option<&[u8]>,
    session: &Session<'_>,
) -> Result<Option<Entry>, Failure> {
    let found = client
        .get(key, Consistency::Linearizable, session.deadline)
        .map_err(|error| Failure::of(&format!("get {}", shown(key)), &error))?;
    let absent = |value: &[u8]| Entry {
        value: value.to_vec(),
        revision: Index(0),
        create_revision: Index(0),
        version: 0,
    };
    Ok(found.or_else(|| default.map(absent)))
}

fn record(key: &[u8], entry: &Entry, codec: Codec, out: &mut Out) -> Result<(), Failure> {
    let key = Datum::new(key, codec.key.key_encode);
    let value = Datum::new(&entry.value, codec.encode);
    let numbers = [entry.revision.0, entry.create_revision.0, entry.version];
    out.object(&Record::new(&key, Some(&value), numbers))
}

fn row(key: &[u8], value: &[u8], codec: Codec, out: &mut Out) -> Result<(), Failure> {
    let mut line = Vec::new();
    tsv::field(key, codec.key.key_encode, &mut line);
    line.push(b'\t');
    tsv::field(value, codec.encode, &mut line);
    line.push(b'\n');
    out.bytes(&line)
}

/// One value alone: the exact bytes, except that a terminal gets no control characters.
fn value(value: &[u8], codec: Codec, out: &mut Out) -> Result<(), Failure> {
    if let Some(encoding) = codec.encode {
        return out.line(&encoding.encode(value));
    }
    if !out.for_person() {
        return out.bytes(value);
    }
    if !screen::is_printable(value) {
        return out.bytes(screen::hex_dump(value).as_bytes());
    }
    out.bytes(value)?;
    if value.ends_with(b"\n") {
        return Ok(());
    }
    out.bytes(b"\n")
}
