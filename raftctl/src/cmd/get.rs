//! `raftctl get`: prints values.

use std::collections::VecDeque;
use std::ffi::OsString;

use raftctl::client::{Client, Deadline, Entry, Freshness, GETS_IN_FLIGHT_MAX};
use raftctl::failure::{Exit, Failure};
use wire::types::Index;

use super::fresh::Fresh;
use crate::bulk::{Keys, Next};
use crate::encoding::Codec;
use crate::encoding::screen;
use crate::encoding::screen::shown;
use crate::input;
use crate::items::Printer;
use crate::output::Out;
use crate::session::Session;

/// Print the value of a key, or of several.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl get greeting
  raftctl get conf > nginx.conf
  raftctl get feature/x --default off
  raftctl scan --keys app/ | raftctl get --stdin
  raftctl get greeting --consistency stale --max-lag 2s")]
pub(crate) struct Args {
    /// With one key its exact bytes are printed, with several `key TAB value` lines.
    #[arg(
        required_unless_present = "stdin",
        value_name = "KEY",
        allow_negative_numbers = true
    )]
    keys: Vec<OsString>,
    /// Print many: each record on standard input is a key, in the form of --format.
    #[arg(long, conflicts_with = "keys")]
    stdin: bool,
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
    if args.stdin {
        return get_many(args, default.as_deref(), session);
    }
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
        let found = client.wait_get(session.deadline()).expect("it was sent");
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

/// Keys of standard input, and their values in the same order.
fn get_many(
    args: &Args,
    default: Option<&[u8]>,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let freshness = args.fresh.freshness()?;
    let format = session.out.style().format();
    let mut printer = Printer::new(false, 0, args.codec, &session.out)?;
    let mut keys = Keys::open("get", format, args.codec.encodings())?;
    let mut client = session.client();
    let mut asked = VecDeque::new();
    let mut missing = Missing::default();
    let mut ended = Ok(false);
    loop {
        while matches!(ended, Ok(false)) && asked.len() < GETS_IN_FLIGHT_MAX {
            let next = match keys.next(false) {
                Ok(Next::Later) if asked.is_empty() => {
                    // Whoever asked for those before waits for them.
                    session.out.flush()?;
                    keys.next(true)
                }
                next => next,
            };
            match next {
                Ok(Next::Key(key)) => {
                    submit(&mut client, &mut [&key].into_iter(), freshness)?;
                    asked.push_back(key);
                }
                Ok(Next::Later) => break,
                Ok(Next::End) => ended = Ok(true),
                // Those before it are told first.
                Err(failure) => ended = Err(failure),
            }
        }
        let Some(key) = asked.pop_front() else { break };
        let found = client.wait_get(Deadline::after(session.timeout));
        let found = found.expect("it was sent");
        let found = found.map_err(|error| Failure::of(&format!("get {}", shown(&key)), &error))?;
        match found.or_else(|| default.map(absent)) {
            None => missing.add(&key),
            Some(entry) => printer.print(&entry.item(&key), &mut session.out)?,
        }
    }
    printer.finish(&mut session.out)?;
    ended?;
    missing.exit(args.missing_ok, session)
}

/// Keys that are not there.
#[derive(Default)]
struct Missing {
    count: usize,
    /// The first of them, as they are shown.
    names: Vec<String>,
}

impl Missing {
    /// Names that are told at most.
    const NAMES_MAX: usize = 10;

    fn add(&mut self, key: &[u8]) {
        self.count += 1;
        if self.names.len() < Self::NAMES_MAX {
            self.names.push(shown(key));
        }
    }

    fn exit(self, is_fine: bool, session: &mut Session<'_>) -> Result<Exit, Failure> {
        if self.count == 0 || is_fine {
            return Ok(Exit::Done);
        }
        session.out.flush()?;
        let mut what = format!("not found: {}", self.names.join(", "));
        if self.count > self.names.len() {
            what.push_str(&format!(" and {} more", self.count - self.names.len()));
        }
        Err(Failure::new(Exit::No, "missing", what))
    }
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
