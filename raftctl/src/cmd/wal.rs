//! `raftctl wal`: a write-ahead log on this machine, looked at without changing a byte of it.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Subcommand;
use raftctl::failure::{Exit, Failure};
use raftd::disk::{Damage, Error as DiskError, Meter, ReadOnly};
use raftd::storage;
use raftd::wal::{Contents, Error, Examination, FoundBatch, Report, examine, segment};
use serde_json::{Map, Value, json};
use wire::command::{Command, Txn, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::Membership;

use super::status::number;
use crate::bar::{bar, metered};
use crate::encoding::json::Datum;
use crate::encoding::tsv;
use crate::files::inaccessible;
use crate::format::{self, Ability};
use crate::output::Out;
use crate::session::Session;

/// Look at the write-ahead log in a data directory. Nothing is changed, and no node is asked.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl wal verify /var/lib/raftd/main && echo sound
  raftctl wal stat /var/lib/raftd/main
  raftctl wal dump /var/lib/raftd/main | tail -n 20")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether the log is sound: exit 0 or 9.
    #[command(before_help = "Examples:\n  raftctl wal verify /var/lib/raftd/main")]
    Verify(Dir),
    /// List its segments.
    #[command(before_help = "Examples:\n  raftctl wal stat /var/lib/raftd/main")]
    Stat(Dir),
    /// List its entries, also those that a later batch replaced.
    #[command(before_help = "Examples:
  raftctl wal dump /var/lib/raftd/main
  raftctl wal dump /var/lib/raftd/main --json | jq -r 'select(.kind==\"put\").key'")]
    Dump(Dir),
}

#[derive(Debug, clap::Args)]
struct Dir {
    /// A node's data directory, of a process that is stopped, or a copy.
    dir: PathBuf,
}

/// What is told of a segment.
const SEGMENT_FIELDS: [&str; 12] = [
    "segment",
    "bytes",
    "used_bytes",
    "batches",
    "entries",
    "first_index",
    "last_index",
    "terms",
    "cuts",
    "resets",
    "snapshot_index",
    "case",
];

/// What the verb can print.
pub(crate) fn ability(args: &Args) -> Ability {
    match args.verb {
        Verb::Stat(_) => format::rows(&SEGMENT_FIELDS),
        Verb::Verify(_) | Verb::Dump(_) => format::LINES,
    }
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let out = &mut session.out;
    out.page(session.signals);
    match &args.verb {
        Verb::Verify(dir) => {
            let examined = dir.examine_all("wal verify", out)?;
            let report = judged("wal verify", examined)?;
            if out.json() {
                out.object(&json!({"ok": true, "torn_bytes": report.torn_bytes}))?;
            }
            out.note(&format!("sound: {report}"))?;
        }
        Verb::Stat(dir) => {
            let examined = dir.examine_all("wal stat", out)?;
            segments(&examined, out)?;
            judged("wal stat", examined)?;
        }
        Verb::Dump(dir) => {
            let mut show = |batch: FoundBatch<'_>| batch_lines(&batch, out);
            let examined = dir.examine("wal dump", &Meter::default(), &mut show)?;
            judged("wal dump", examined)?;
        }
    }
    Ok(Exit::Done)
}

impl Dir {
    /// Looks at every batch, with a bar.
    fn examine_all(&self, doing: &str, out: &Out) -> Result<Examination, Failure> {
        let bytes = storage::bytes_in(&self.dir, &[segment::WAL_DIR]);
        let meter = Meter::default();
        metered(&bar(bytes, out.style()), &meter, || {
            self.examine(doing, &meter, &mut |_| Ok(()))
        })
    }

    /// Shows every batch, in order, as long as `show` takes them.
    fn examine(
        &self,
        doing: &str,
        meter: &Meter,
        show: &mut dyn FnMut(FoundBatch<'_>) -> Result<(), Failure>,
    ) -> Result<Examination, Failure> {
        let unreadable = |why: &dyn Display| {
            Failure::new(Exit::Usage, "unreadable", format!("{doing} failed: {why}"))
        };
        let wal = self.dir.join(segment::WAL_DIR);
        fs::read_dir(&wal).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                unreadable(&"there is no write-ahead log")
                    .at(self.dir.display())
                    .remedy("a node's data directory: the one with IDENTITY and wal/")
            }
            _ => inaccessible(unreadable(&error), &wal, &error),
        })?;
        let mut shown = Ok(());
        let disk = ReadOnly::new(self.dir.clone()).metered(meter);
        let examined = examine(&disk, None, |batch| {
            if shown.is_ok() {
                shown = show(batch);
            }
        });
        shown?;
        examined.map_err(|error| match &error {
            Error::Disk(DiskError { name, cause, .. }) => {
                inaccessible(unreadable(&error), &self.dir.join(name), cause)
            }
            _ => unreadable(&error).at(self.dir.display()),
        })
    }
}

/// Damage is exit 9, with its place, also such that a start goes on from.
fn judged(doing: &str, examined: Examination) -> Result<Report, Failure> {
    let damaged = |damage: &Damage| {
        let what = format!("{doing}: the log is damaged: {}", damage.what);
        Failure::new(Exit::Damaged, "damaged", what)
            .at(format!("{} offset {}", damage.file, damage.offset))
    };
    let report = examined.verdict.map_err(|error| match error {
        Error::Damaged(damage) => damaged(&damage).remedy(
            "keep the files as they are, and have a new member take this one's place: raftctl \
             replace-peer",
        ),
        error => Failure::new(Exit::Damaged, "damaged", format!("{doing} failed: {error}")),
    })?;
    let Some(damage) = examined.damage else {
        return Ok(report);
    };
    let remedy = match report {
        Report { lost: true, .. } => "start the member: it takes the log from the leader",
        Report { faulty: 1.., .. } => {
            "start the member: it takes the entries in question from the others"
        }
        Report { .. } => "none needed: nothing that counts is lost",
    };
    Err(damaged(&damage).remedy(remedy))
}

fn segments(examined: &Examination, out: &mut Out) -> Result<(), Failure> {
    if out.json() {
        return examined.segments.iter().try_for_each(|contents| {
            let indexes = contents.indexes.map(|(first, last)| (first.0, last.0));
            out.object(&json!({
                "segment": contents.header.id,
                "bytes": contents.header.bytes,
                "used_bytes": contents.end,
                "batches": contents.batches,
                "entries": contents.entries,
                "first_index": indexes.map(|(first, _)| first),
                "last_index": indexes.map(|(_, last)| last),
                "first_term": contents.terms.0.0,
                "last_term": contents.terms.1.0,
                "cuts": contents.cuts,
                "resets": contents.resets,
                "snapshot_index": contents.snapshot.index.0,
                "case": contents.case,
            }))
        });
    }
    let rows: Vec<_> = examined.segments.iter().map(row).collect();
    if out.for_person() {
        let header = [
            "SEGMENT", "BYTES", "USED", "BATCHES", "ENTRIES", "FIRST", "LAST", "TERMS", "CUTS",
            "RESETS", "SNAPSHOT", "CASE",
        ];
        return out.table(&header, &[0, 1, 2, 3, 4, 5, 6, 8, 9, 10], rows);
    }
    out.rows(&SEGMENT_FIELDS, &rows)
}

fn row(contents: &Contents) -> Vec<String> {
    let (first_term, last_term) = contents.terms;
    vec![
        contents.header.id.to_string(),
        contents.header.bytes.to_string(),
        contents.end.to_string(),
        contents.batches.to_string(),
        contents.entries.to_string(),
        number(contents.indexes.map(|(first, _)| first.0)),
        number(contents.indexes.map(|(_, last)| last.0)),
        format!("{first_term}-{last_term}"),
        contents.cuts.to_string(),
        contents.resets.to_string(),
        contents.snapshot.index.to_string(),
        contents.case.map_or("-".into(), String::from),
    ]
}

/// The entries of a batch; a reset of the log is a line of its own.
fn batch_lines(batch: &FoundBatch<'_>, out: &mut Out) -> Result<(), Failure> {
    if batch.header.kind.resets() {
        let id = batch.header.snapshot;
        let line = Line {
            index: id.index.0,
            term: id.term.0,
            kind: "reset",
            key: None,
            value: None,
        };
        line.print(batch.segment, out)?;
    }
    batch
        .entries()
        .try_for_each(|entry| Line::of(&entry).print(batch.segment, out))
}

/// An entry, as far as it is shown.
struct Line<'a> {
    index: u64,
    term: u64,
    kind: &'static str,
    key: Option<&'a [u8]>,
    value: Option<Vec<u8>>,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let (kind, key, value) = match entry.kind() {
            EntryKind::Noop => ("noop", None, None),
            EntryKind::SnapshotAt => ("snapshot", None, None),
            EntryKind::Membership => ("members", None, Some(members(entry.body()))),
            EntryKind::Command => match Write::decode_body(entry.body()).map(|write| write.command)
            {
                Ok(Command::Put { key, value }) => ("put", Some(key), Some(value.to_vec())),
                Ok(Command::Delete { key }) => ("delete", Some(key), None),
                Ok(Command::CompareAndSwap { key, value, .. }) => {
                    ("cas", Some(key), Some(value.to_vec()))
                }
                Ok(Command::Increment { key, delta }) => {
                    ("increment", Some(key), Some(delta.to_string().into_bytes()))
                }
                Ok(Command::Append { key, value }) => ("append", Some(key), Some(value.to_vec())),
                Ok(Command::DeleteRange { from, to, .. }) => {
                    ("delete-range", Some(from), to.map(<[u8]>::to_vec))
                }
                Ok(Command::Txn(txn)) => ("txn", None, Some(counts(&txn))),
                Err(_) => ("unknown", None, None),
            },
        };
        Self {
            index: entry.index().0,
            term: entry.term().0,
            kind,
            key,
            value,
        }
    }

    fn print(&self, segment: u64, out: &mut Out) -> Result<(), Failure> {
        if out.json() {
            let mut object = Map::from_iter([
                ("segment".to_owned(), Value::from(segment)),
                ("index".to_owned(), Value::from(self.index)),
                ("term".to_owned(), Value::from(self.term)),
                ("kind".to_owned(), Value::from(self.kind)),
            ]);
            let data = [("key", self.key), ("value", self.value.as_deref())];
            for (name, bytes) in data {
                if let Some(bytes) = bytes {
                    let (name, text) = Datum::new(bytes, None).named(name);
                    object.insert(name, Value::from(text));
                }
            }
            return out.object(&object);
        }
        let line = format!("{segment}\t{}\t{}\t{}\t", self.index, self.term, self.kind);
        let mut line = line.into_bytes();
        tsv::escape(self.key.unwrap_or_default(), &mut line);
        line.push(b'\t');
        tsv::escape(self.value.as_deref().unwrap_or_default(), &mut line);
        line.push(b'\n');
        out.text(&line)
    }
}

/// `compares=1 then=2 else=0`.
fn counts(txn: &Txn<'_>) -> Vec<u8> {
    let compares = txn.compares.iter().count();
    let [then, or_else] = [txn.then, txn.or_else].map(|branch| branch.iter().count());
    format!("compares={compares} then={then} else={or_else}").into_bytes()
}

/// `1:n1:voter 4:n4:learner`.
fn members(body: &[u8]) -> Vec<u8> {
    let Ok(membership) = Membership::decode(body) else {
        return Vec::new();
    };
    let members = membership.members.iter().map(ToString::to_string);
    members.collect::<Vec<_>>().join(" ").into_bytes()
}
