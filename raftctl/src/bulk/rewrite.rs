//! What a record becomes before it is sent.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use raftctl::client::{Command, Error, Expect, check};
use wire::limits::VALUE_BYTES_MAX;

use crate::decoding::Datum;
use crate::encoding::screen::shown;

/// What a record becomes.
///
/// The buffers hold what was made of the last one.
#[derive(Debug, Default)]
pub(crate) struct Rewrite {
    /// Goes before every key.
    pub(crate) prefix: Vec<u8>,
    /// A put leaves a key alone that is there.
    pub(crate) if_absent: bool,
    /// What a key by itself asks for.
    pub(crate) of_key: OfKey,
    key: Vec<u8>,
    contents: Vec<u8>,
}

/// What a key by itself asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OfKey {
    /// To be removed.
    #[default]
    Delete,
    /// It is a path: the bytes of that file become its value.
    File,
}

impl Rewrite {
    pub(crate) fn new(prefix: Vec<u8>, if_absent: bool, of_key: OfKey) -> Self {
        Self {
            prefix,
            if_absent,
            of_key,
            ..Self::default()
        }
    }

    /// The change that the record asks for; it keeps every limit.
    pub(super) fn apply<'a>(&'a mut self, datum: Datum<'a>) -> Result<Command<'a>, String> {
        let command = match datum {
            Datum::Change(command) => command,
            Datum::Key(key) if self.of_key == OfKey::Delete => Command::Delete { key },
            Datum::Key(key) => {
                read_file(key, &mut self.contents)?;
                let value = &self.contents;
                Command::Put { key, value }
            }
        };
        let command = if self.prefix.is_empty() {
            command
        } else {
            self.key.clear();
            self.key.extend_from_slice(&self.prefix);
            self.key.extend_from_slice(key_of(command));
            with_key(command, &self.key)
        };
        let command = match command {
            Command::Put { key, value } if self.if_absent => Command::CompareAndSwap {
                key,
                expect: Expect::Absent,
                value,
            },
            other => other,
        };
        match check(command) {
            Ok(()) => Ok(command),
            Err(Error::Refused { error, .. }) => Err(match key_of(command) {
                [] => error.to_string(),
                key => format!("{}: {error}", shown(key)),
            }),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The key of a change of one key, which every record is.
pub(super) fn key_of(command: Command<'_>) -> &[u8] {
    match command {
        Command::Put { key, .. }
        | Command::Delete { key }
        | Command::CompareAndSwap { key, .. }
        | Command::Increment { key, .. }
        | Command::Append { key, .. } => key,
        Command::DeleteRange { .. } | Command::Txn(_) => &[],
    }
}

fn with_key<'a>(mut command: Command<'a>, new: &'a [u8]) -> Command<'a> {
    match &mut command {
        Command::Put { key, .. }
        | Command::Delete { key }
        | Command::CompareAndSwap { key, .. }
        | Command::Increment { key, .. }
        | Command::Append { key, .. } => *key = new,
        Command::DeleteRange { .. } | Command::Txn(_) => {}
    }
    command
}

fn read_file(path: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    into.clear();
    let name = std::ffi::OsStr::from_bytes(path);
    let told = |error| format!("{}: {error}", shown(path));
    // To open a FIFO waits for who writes, and no signal to stop ends that.
    if !fs::metadata(name).map_err(told)?.is_file() {
        return Err(format!("{}: it is no regular file", shown(path)));
    }
    let file = File::open(name).map_err(told)?;
    let limit = VALUE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(into).map_err(told)?;
    Ok(())
}
