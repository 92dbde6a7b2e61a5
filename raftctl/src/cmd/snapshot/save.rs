//! `raftctl snapshot save`: a backup, from the leader to a file or a pipe.
//!
//! A snapshot is taken anew, so it holds every write that was acknowledged before. What arrives is
//! verified while it is written; a file gets its name only when it is whole, sound and durable.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use indicatif::ProgressBar;
use raftctl::client::{Client, Deadline, Options};
use raftctl::failure::{Exit, Failure};
use raftd::snapshot::{self, Verified};
use serde_json::json;
use wire::types::EntryId;

use super::{Line, leader_of, wait};
use crate::bar::bar;
use crate::files::{check_replaceable, inaccessible, publish};
use crate::output;
use crate::session::Session;

/// Pieces on their way to the thread that verifies them.
const PIECES: usize = 4;

/// Take a snapshot and save it in a file, or write it to a pipe.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl snapshot save backup.snap
  raftctl snapshot save - | gzip > backup.snap.gz")]
pub(super) struct Args {
    /// The file; - is standard output.
    file: PathBuf,
}

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if args.file == Path::new("-") {
        if io::stdout().is_terminal() {
            return Err(Failure::usage("a snapshot is not written to a terminal")
                .remedy("raftctl snapshot save FILE, or pipe it to a command"));
        }
        Source::take(session)?.copy(&mut io::stdout().lock(), &output::failure)?;
        return Ok(Exit::Done);
    }
    let verified = save(&args.file, session)?;
    let info = verified.info();
    let out = &mut session.out;
    if out.json() {
        out.object(&json!({
            "index": info.id.index.0,
            "term": info.id.term.0,
            "bytes": info.bytes,
            "digest": format!("{:032x}", info.digest),
        }))?;
    }
    out.note(&format!(
        "saved: {} keys as of {}",
        verified.header.head.keys, info.id
    ))?;
    Ok(Exit::Done)
}

/// Under another name until it is whole, sound and durable.
fn save(path: &Path, session: &mut Session<'_>) -> Result<Verified, Failure> {
    check_replaceable(path)
        .map_err(|error| unwritable(Exit::Usage, path, &error).remedy("a file; or - and a pipe"))?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // A file that cannot be made is found out before anything is asked of the cluster.
    let mut file = File::create(&part).map_err(|error| unwritable(Exit::Usage, &part, &error))?;
    let failed = |error: &io::Error| unwritable(Exit::Bug, &part, error);
    let saved = Source::take(session).and_then(|mut source| {
        let verified = source.copy(&mut file, &failed)?;
        file.sync_all().map_err(|error| failed(&error))?;
        publish(&part, path).map_err(|error| unwritable(Exit::Bug, path, &error))?;
        Ok(verified)
    });
    if saved.is_err() {
        // The first error counts, and what is left has a name that says what it is.
        let _ = fs::remove_file(&part);
    }
    saved
}

fn unwritable(exit: Exit, path: &Path, error: &io::Error) -> Failure {
    let what = format!("snapshot save failed: {error}");
    inaccessible(Failure::new(exit, "unwritable", what), path, error)
}

/// A snapshot on a node.
struct Source<'a, 's> {
    client: Client,
    line: Line,
    session: &'a mut Session<'s>,
}

impl<'a, 's> Source<'a, 's> {
    /// Has one taken now, and waits for that of the leader.
    fn take(session: &'a mut Session<'s>) -> Result<Self, Failure> {
        let leader = leader_of(session)?;
        let failed = |error| Failure::of("snapshot save", &error);
        let id = session
            .client()
            .snapshot(session.deadline())
            .map_err(failed)?;
        let mut found = wait(std::slice::from_ref(&leader), id, session)?;
        Ok(Self {
            client: Client::new(Options::new(vec![leader.client_addr])),
            line: found.swap_remove(0),
            session,
        })
    }

    /// Copies all of it, and says what it is if it is sound.
    fn copy(
        &mut self,
        to: &mut impl Write,
        unwritable: &dyn Fn(&io::Error) -> Failure,
    ) -> Result<Verified, Failure> {
        let (pieces, arriving) = sync_channel(PIECES);
        let name = format!("{} of {}", self.line.snapshot, self.line.node);
        let verifier = thread::spawn(move || {
            let mut arriving = Arriving {
                pieces: arriving,
                piece: Vec::new(),
                at: 0,
            };
            snapshot::verify(&mut arriving, &name)
        });
        let bar = bar(self.line.bytes, self.session.out.style());
        let copied = self.transfer(to, &pieces, &bar, unwritable);
        bar.finish_and_clear();
        drop(pieces);
        let verified = verifier
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        copied?;
        verified.map_err(|error| {
            let what = format!("snapshot save failed: what arrived is damaged: {error}");
            Failure::new(Exit::Damaged, "damaged", what)
                .remedy("raftctl snapshot takes another one; `raftctl status` tells what is wrong")
        })
    }

    fn transfer(
        &mut self,
        to: &mut impl Write,
        pieces: &SyncSender<Vec<u8>>,
        bar: &ProgressBar,
        unwritable: &dyn Fn(&io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let Line {
            snapshot, bytes, ..
        } = self.line;
        let mut offset = 0;
        while offset < bytes {
            let mut piece = Vec::new();
            let deadline = Deadline::after(self.session.timeout);
            let total = self
                .client
                .read_snapshot(snapshot, offset, deadline, |bytes| {
                    piece.extend_from_slice(bytes);
                })
                .map_err(|error| Failure::of("snapshot save", &error))?;
            if total != bytes || piece.is_empty() {
                return Err(gone(snapshot, &self.line.node));
            }
            to.write_all(&piece).map_err(|error| unwritable(&error))?;
            offset += piece.len() as u64;
            bar.set_position(offset);
            // If nobody takes it, it is known to be damaged already.
            let _ = pieces.send(piece);
        }
        to.flush().map_err(|error| unwritable(&error))
    }
}

fn gone(snapshot: EntryId, node: &str) -> Failure {
    let what =
        format!("snapshot save failed: {node} does not have the snapshot {snapshot} any more");
    Failure::new(Exit::NotApplied, "gone", what).remedy("run it again")
}

/// What arrives, as a stream.
struct Arriving {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // Without more of them it is the end.
            self.piece = self.pieces.recv().unwrap_or_default();
            self.at = 0;
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
