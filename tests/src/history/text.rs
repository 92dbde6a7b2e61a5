//! A history as lines of JSON: kept when a run fails, for people, for a second look, and for the
//! checkers of others. `cargo run -p raftd-tests --bin check -- FILE` judges one again.
//!
//! The first line says what the file is; every other line is an entry of the committed log, if that
//! is known, or a record (each on one line, whatever its length here):
//! ```text
//! {"history":{"format":1,"log":{"epoch":7,"sessions_max":65536}}}
//! {"entry":{"term":1,"index":1,"wall_ms":0}}
//! {"entry":{"term":1,"index":2,"wall_ms":0,"write":{
//!     "session":{"epoch":7,"born":0,"nonce":1},"seq":1,"floor":1,
//!     "command":{"put":{"key":"k","value":"v"}}}}}
//! {"record":{"client":1,"invoked_ns":10,"ended_ns":20,"passage":{"connection":1,"place":1},
//!     "operation":{"write":{
//!         "session":{"epoch":7,"born":0,"nonce":1},"seq":1,
//!         "command":{"put":{"key":"k","value":"v"}}}},
//!     "answer":{"written":{"id":{"term":1,"index":2},"outcome":"put"}}}}
//! {"record":{"client":2,"invoked_ns":30,"ended_ns":40,
//!     "operation":{"read":{"consistency":"linearizable","query":{"get":{"key":"k"}}}},
//!     "answer":{"got":{"index":2,"item":{
//!         "key":"k","value":"v","revision":2,"create_revision":2,"version":1}}}}}
//! ```
//! - A record is a [`Record`], field by field. What is `None` may be left out.
//! - Entries stand in the order of their index, from 1 on, all of them or none; one without a
//!   `write` opens a term. The head has a `log` if there are entries.
//! - Keys and values are text, or `{"hex":".."}` if they are not UTF-8.
//! - `command`: `put {key, value}`, `delete {key}`, `compare_and_swap {key, expect, value}` with an
//!   `expect` of `"absent"`, `{"revision":N}` or `{"value":V}`, `increment {key, delta}`,
//!   `append {key, value}`, `delete_range {from, to, expect}`, `txn {compares, then, or_else}` with
//!   lists as in raftd-wire(7).
//! - `query`: `get {key}`, `scan {mode, from, to, reverse, after, limit}` with a `mode` of
//!   `"items"`, `"keys"` or `"count"`; `consistency`: `"linearizable"`,
//!   `"linearizable_anywhere"`, `"stale"` or `{"bounded":{"max_lag_ms":500}}`.
//! - `answer`: `written`, `got`, `scanned`, `"not_applied"`, `"unknown"`.
//! - `outcome`: `"put"`, `{"deleted":N}`, `"swapped"`, `{"not_swapped":N}` (null: absent),
//!   `{"incremented":N}`, `"not_a_number"`, `"overflow"`, `"applied"`, `{"appended":N}`,
//!   `"too_long"`, `{"not_deleted":N}`, `txn {held, results}` with results as in raftd-wire(7)
//!   (null: too long to keep), `undone {held, operation, why}`.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Write};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use wire::command::{self, SessionId};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Epoch, Index, Term};

use super::witness::Committed;
use super::{Command, History, Record, encoding};

/// The version of the lines.
const FORMAT: u32 = 1;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What the clients saw.
    pub history: History,
    /// The committed log, if it is known.
    pub log: Option<Log>,
}

/// [`Committed`] with entries of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// See [`Committed::epoch`].
    pub epoch: Epoch,
    /// See [`Committed::sessions_max`].
    pub sessions_max: usize,
    /// See [`Committed::entries`].
    pub entries: Vec<Entry>,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The disk's reason.
    Io(io::Error),
    /// A line is not what it should be.
    Line {
        /// Its number, from 1 on.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the history: {error}"),
            Self::Line { number, why } => write!(f, "line {number}: {why}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Kept {
    /// The log as the witness wants it.
    #[must_use]
    pub fn committed(&self) -> Option<Committed<'_>> {
        let log = self.log.as_ref()?;
        Some(Committed {
            epoch: log.epoch,
            sessions_max: log.sessions_max,
            entries: &log.entries,
        })
    }

    /// Reads what [`write()`] wrote.
    ///
    /// # Errors
    /// [`Unreadable`], with the first line that is not as it should be.
    pub fn read(source: impl BufRead) -> Result<Self, Unreadable> {
        let mut kept = Self::default();
        for (at, line) in source.lines().enumerate() {
            let line = line.map_err(Unreadable::Io)?;
            let number = at + 1;
            let wrong = |why: String| Unreadable::Line { number, why };
            let line: Line = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
            match line {
                Line::History(head) if number == 1 && head.format == FORMAT => {
                    kept.log = head.log.map(|log| Log {
                        epoch: log.epoch,
                        sessions_max: log.sessions_max,
                        entries: Vec::new(),
                    });
                }
                Line::History(_) => return Err(wrong("not the head of this format".to_owned())),
                _ if number == 1 => return Err(wrong("the file has no head".to_owned())),
                Line::Entry(entry) => {
                    let Some(log) = &mut kept.log else {
                        return Err(wrong("an entry without a log in the head".to_owned()));
                    };
                    log.entries.push(entry.build());
                }
                Line::Record(record) => kept.history.records.push(record.into_owned()),
            }
        }
        Ok(kept)
    }
}

/// Writes a history and, if it is known, the committed log.
///
/// # Errors
/// Those of `out`; `InvalidData` for an entry whose body is no write.
pub fn write(
    out: &mut impl Write,
    history: &History,
    committed: Option<Committed<'_>>,
) -> io::Result<()> {
    let mut line = |line: &Line| {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    };
    line(&Line::History(Head {
        format: FORMAT,
        log: committed.map(|committed| LogText {
            epoch: committed.epoch,
            sessions_max: committed.sessions_max,
        }),
    }))?;
    for entry in committed.map_or(&[][..], |committed| committed.entries) {
        line(&Line::Entry(EntryText::new(entry)?))?;
    }
    for record in &history.records {
        line(&Line::Record(Cow::Borrowed(record)))?;
    }
    Ok(())
}

/// One line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    History(Head),
    Entry(EntryText),
    Record(Cow<'a, Record>),
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogText>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogText {
    #[serde(with = "encoding::epoch")]
    epoch: Epoch,
    sessions_max: usize,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    #[serde(with = "encoding::term")]
    term: Term,
    #[serde(with = "encoding::index")]
    index: Index,
    wall_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<WriteText>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WriteText {
    #[serde(with = "encoding::SessionText")]
    session: SessionId,
    seq: u64,
    floor: u64,
    command: Command,
}

impl EntryText {
    fn new(entry: &Entry) -> io::Result<Self> {
        let write = match entry.kind() {
            EntryKind::Noop | EntryKind::SnapshotAt | EntryKind::Membership => None,
            EntryKind::Command => {
                let write = command::Write::decode_body(entry.body()).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?;
                Some(WriteText {
                    session: write.session,
                    seq: write.seq,
                    floor: write.floor,
                    command: write.command.into(),
                })
            }
        };
        Ok(Self {
            term: entry.term(),
            index: entry.index(),
            wall_ms: entry.wall_ms(),
            write,
        })
    }

    fn build(&self) -> Entry {
        let mut body = BytesMut::new();
        if let Some(write) = &self.write {
            let write = command::Write {
                session: write.session,
                seq: write.seq,
                floor: write.floor,
                command: write.command.to_wire(),
            };
            write.encode_body(&mut body);
        }
        let kind = match self.write {
            None => EntryKind::Noop,
            Some(_) => EntryKind::Command,
        };
        let id = EntryId {
            term: self.term,
            index: self.index,
        };
        Entry::build(&mut BytesMut::new(), id, self.wall_ms, kind, &body)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}
