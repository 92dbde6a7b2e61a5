//! `raftctl snapshot`: the state in a file, on the nodes and here.

pub(super) mod file;
mod save;

use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::types::{EntryId, Index, Term};

use super::members::{named, no_such_member};
use crate::cluster::{MEMBER_TIMEOUT, Row, survey};
use crate::format::{self, Ability};
use crate::session::Session;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Take a snapshot now, on all members at the same entry, and wait until it is durable.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl snapshot              the leader's is awaited
  raftctl snapshot --all        every member's
  raftctl snapshot ls           the newest of each member")]
pub(crate) struct Args {
    /// Wait for that of this member, a name or an id, instead of the leader's.
    #[arg(long, value_name = "NAME", conflicts_with = "all", value_parser = named())]
    node: Option<String>,
    /// Wait for those of all members that can be reached.
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the newest snapshot of every member that has one.
    #[command(before_help = "Examples:\n  raftctl snapshot ls\n  raftctl snapshot ls | sort -k2n")]
    Ls,
    /// Say whether a snapshot's file is whole and sound: exit 0 or 9.
    #[command(before_help = "Examples:
  raftctl snapshot verify backup.snap
  gunzip < backup.snap.gz | raftctl snapshot verify -")]
    Verify(file::Source),
    /// Tell what is in a snapshot's file.
    #[command(before_help = "Examples:
  raftctl snapshot inspect backup.snap
  raftctl snapshot inspect backup.snap --json | jq .index")]
    Inspect(file::Source),
    Restore(file::Restore),
    Save(save::Args),
}

/// What is told of a member's snapshot.
const FIELDS: [&str; 4] = ["node", "index", "term", "bytes"];

/// What the verb can print.
pub(crate) fn ability(args: &Args) -> Ability {
    match args.verb {
        None | Some(Verb::Ls) => format::rows(&FIELDS),
        Some(_) => format::LINES,
    }
}

/// A member's snapshot, for a line.
struct Line {
    node: String,
    snapshot: EntryId,
    bytes: u64,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        None => take(args, session),
        Some(_) if args.all || args.node.is_some() => {
            let what = "--node and --all say whose new snapshot is awaited, and none is taken";
            Err(Failure::usage(what).remedy("raftctl snapshot --all"))
        }
        Some(Verb::Ls) => list(session),
        Some(Verb::Verify(source)) => file::verify(source, session),
        Some(Verb::Inspect(source)) => file::inspect(source, session),
        Some(Verb::Restore(args)) => file::restore(args, session),
        Some(Verb::Save(args)) => save::run(args, session),
    }
}

fn list(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let line = |member: &Row| {
        let (index, term) = (member.snapshot_index?, member.snapshot_term?);
        (index > 0).then(|| Line {
            node: member.title(),
            snapshot: EntryId {
                term: Term(term),
                index: Index(index),
            },
            bytes: member.snapshot_bytes.unwrap_or(0),
        })
    };
    let lines: Vec<_> = members(session)?.iter().filter_map(line).collect();
    print(&lines, session)?;
    Ok(Exit::Done)
}

fn take(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let wanted = match (&args.node, args.all) {
        (None, false) => vec![leader_of(session)?],
        (name, _) => {
            let wanted = |row: &Row| match name {
                Some(name) => row.name == *name || row.id.to_string() == *name,
                None => row.reachable,
            };
            let wanted: Vec<Row> = members(session)?.into_iter().filter(wanted).collect();
            if let (Some(name), []) = (name, wanted.as_slice()) {
                return Err(no_such_member("snapshot", name));
            }
            wanted
        }
    };
    let id = session.client().snapshot(session.deadline());
    let id = id.map_err(|error| Failure::of("snapshot", &error))?;
    let lines = wait(&wanted, id, session)?;
    print(&lines, session)?;
    Ok(Exit::Done)
}

fn members(session: &Session<'_>) -> Result<Vec<Row>, Failure> {
    let cluster = survey(&mut session.client(), session.deadline())
        .map_err(|error| Failure::of("snapshot", &error))?;
    Ok(cluster.members)
}

/// The member that leads now, or will soon.
fn leader_of(session: &Session<'_>) -> Result<Row, Failure> {
    let leads = |row: &Row| row.role == Some("leader");
    let mut found = members(session)?;
    loop {
        if let Some(leader) = found.into_iter().find(leads) {
            return Ok(leader);
        }
        if session.deadline().is_over() {
            let what = "snapshot failed: no member leads";
            return Err(Failure::new(Exit::NotApplied, "no-leader", what)
                .remedy("raftctl wait-ready --leader"));
        }
        thread::sleep(PAUSE);
        // Somebody has answered: what is missing is a leader.
        found = members(session).unwrap_or_default();
    }
}

/// Waits until each of them has a durable snapshot as of `id`, or a later one; as long as they get
/// on with it.
fn wait(wanted: &[Row], id: EntryId, session: &Session<'_>) -> Result<Vec<Line>, Failure> {
    let mut waiting: Vec<_> = wanted
        .iter()
        .map(|row| (row, None, Progress::default()))
        .collect();
    let mut moved = Instant::now();
    loop {
        let mut missing = Vec::new();
        for (row, line, best) in waiting.iter_mut().filter(|(_, line, _)| line.is_none()) {
            match look(row, id, session.timeout) {
                Ok(found) => {
                    *line = Some(found);
                    moved = Instant::now();
                }
                Err((why, progress)) => {
                    if progress > *best {
                        *best = progress;
                        moved = Instant::now();
                    }
                    missing.push(format!("{}: {why}", row.title()));
                }
            }
        }
        if missing.is_empty() {
            return Ok(waiting
                .into_iter()
                .filter_map(|(_, line, _)| line)
                .collect());
        }
        if moved.elapsed() >= session.timeout {
            let what = format!("the snapshot at {id} is not durable, and nothing moves");
            return Err(Failure::new(Exit::NotApplied, "snapshot", what)
                .at(missing.join("; "))
                .remedy("`raftctl status` shows what keeps it; then run it again"));
        }
        thread::sleep(PAUSE);
    }
}

/// How far a member has come: the index of its newest snapshot, and the bytes of the one that it
/// writes. That may be an earlier one, which was under way; the next begins with no bytes.
type Progress = (u64, u64);

/// The member's snapshot if it is as of `id` or later; else why not, and how far it has come.
fn look(row: &Row, id: EntryId, timeout: Duration) -> Result<Line, (String, Progress)> {
    let status = row
        .ask(MEMBER_TIMEOUT.min(timeout))
        .map_err(|why| (why, Progress::default()))?;
    if status.snapshot.index >= id.index {
        return Ok(Line {
            node: row.title(),
            snapshot: status.snapshot,
            bytes: status.snapshot_bytes,
        });
    }
    let why = match status.error.is_empty() {
        true => "it is not written yet".to_owned(),
        false => status.error,
    };
    let written = status.snapshot_written_bytes.unwrap_or(0);
    Err((why, (status.snapshot.index.0, written)))
}

fn print(lines: &[Line], session: &mut Session<'_>) -> Result<(), Failure> {
    let out = &mut session.out;
    if out.json() {
        for line in lines {
            out.object(&json!({
                "node": line.node,
                "index": line.snapshot.index.0,
                "term": line.snapshot.term.0,
                "bytes": line.bytes,
            }))?;
        }
        return Ok(());
    }
    let fields = |line: &Line| {
        vec![
            line.node.clone(),
            line.snapshot.index.to_string(),
            line.snapshot.term.to_string(),
            line.bytes.to_string(),
        ]
    };
    let rows: Vec<_> = lines.iter().map(fields).collect();
    out.rows(&FIELDS, &rows)
}
