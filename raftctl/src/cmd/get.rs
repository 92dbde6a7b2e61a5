//! `raftctl get`: prints values.

use std::ffi::OsString;

use raftctl::client::{Client, Entry, Freshness, GETS_IN_FLIGHT_MAX};
use raftctl::failure::{Exit, Failure};
use wire::types::Index;

use super::fresh::Fresh;
use super::{Codec, Session, shown};
use crate::encoding::screen;
use crate::input;
use crate::items::Printer;
use crate::output::Out;

/// Print the value of a key, or of several.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl get greeting
  raftctl get conf > nginx.conf
  raftctl get feature/x --default off
  raftctl get greeting --consistency stale --max-lag 2s")]
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
    fresh: Fresh,
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
    let freshness = args.fresh.freshness()?;
    let several = keys.len() > 1;
    // One value alone is its exact bytes, unless something else was asked for.
    let style = session.out.style();
    let bare = !several && style.format().is_none() && style.fields.is_empty();
    let mut printer = Printer::new(false, 0, args.codec, &session.out)?;
    let mut client = session.client();
    let mut missing = Vec::new();
    let mut unsent = keys.iter();
    for key in &keys {
        submit(&mut client, &mut unsent, freshness)?;
        let found = client.wait_get(session.deadline).expect("it was sent");
        let found = found.map_err(|error| Failure::of(&format!("get {}", shown(key)), &error))?;
        match found.or_else(|| default.as_deref().map(absent)) {
            None => missing.push(shown(key)),
            Some(entry) if bare => value(&entry.value, args.codec, &mut session.out)?,
            Some(entry) => printer.print(&entry.item(key), &mut session.out)?,
        }
    }
    if !bare {
        printer.finish(&mut session.out)?;
    }
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

/// Has as many gets in flight as may be.
fn submit<'a>(
    client: &mut Client,
    unsent: &mut impl Iterator<Item = &'a Vec<u8>>,
    freshness: Freshness,
) -> Result<(), Failure> {
    for key in unsent.take(GETS_IN_FLIGHT_MAX - client.gets_in_flight()) {
        let submitted = client.submit_get(key, freshness);
        submitted.map_err(|error| Failure::of(&format!("get {}", shown(key)), &error))?;
    }
    Ok(())
}

/// What is taken for a key that is not there.
fn absent(value: &[u8]) -> Entry {
    Entry {
        value: value.to_vec(),
        revision: Index(0),
        create_revision: Index(0),
        version: 0,
    }
}

/// One value alone: the exact bytes, except that a terminal gets no control characters.
pub(super) fn value(value: &[u8], codec: Codec, out: &mut Out) -> Result<(), Failure> {
    if let Some(encoding) = codec.encode {
        return out.line(&encoding.encode(value));
    }
    if !out.is_terminal() {
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
