//! Long output on a terminal: a screen at a time, through the pager that the person has.

use std::env;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::signals::Signals;

/// What shows it if nobody says anything.
const PAGER_DEFAULT: &str = "less";
/// How `less` shows it unless LESS is set: as it is if it fits on the screen, with colours, left there
/// at the end.
const LESS_DEFAULT: &str = "FRX";

/// Where output goes.
///
/// Invariants: `gathered` is less than a screen of lines, and empty unless `rows` is set; once a
/// pager is there all goes to it.
pub(crate) struct Sink {
    writer: BufWriter<File>,
    /// Lines of the screen, while more of them would start a pager, to which signals are then left.
    rows: Option<(usize, Signals)>,
    gathered: Vec<u8>,
    lines: usize,
    pager: Option<Pager>,
}

/// A pager that was started.
struct Pager {
    stdin: ChildStdin,
    /// Ends when it does: signals are no longer left to it, even if nothing is written any more.
    /// Whether it was there at all.
    ended: JoinHandle<bool>,
}

impl Sink {
    pub(crate) fn new(file: File, buffer_bytes: usize) -> Self {
        Self {
            writer: BufWriter::with_capacity(buffer_bytes, file),
            rows: None,
            gathered: Vec::new(),
            lines: 0,
            pager: None,
        }
    }

    /// The file that is written to without a pager.
    pub(crate) fn file(&self) -> &File {
        self.writer.get_ref()
    }

    /// From now on, output of more lines than this goes to a pager.
    pub(crate) fn page(&mut self, rows: usize, signals: Signals) {
        self.rows = Some((rows, signals));
    }

    /// Writes out what was gathered; a person may still be reading a pager afterwards.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.rows = None;
        let released = self.release();
        if let Some(Pager { stdin, ended }) = self.pager.take() {
            drop(stdin);
            // It only waits.
            if !ended.join().unwrap_or(true) {
                return Err(io::Error::other("the pager cannot be started"));
            }
        }
        released
    }

    /// Hands what was gathered on.
    fn release(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        self.write_all(&gathered)?;
        self.flush()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(pager) = &mut self.pager {
            return pager.stdin.write(bytes);
        }
        let Some((rows, signals)) = &self.rows else {
            return self.writer.write(bytes);
        };
        self.gathered.extend_from_slice(bytes);
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        if self.lines >= *rows {
            self.pager = start(signals);
            self.rows = None;
            self.release()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.pager {
            Some(pager) => pager.stdin.flush(),
            None => self.writer.flush(),
        }
    }
}

/// Starts the pager; `None`: there is none, or none is wanted.
fn start(signals: &Signals) -> Option<Pager> {
    let said = env::var_os("RAFTCTL_PAGER").or_else(|| env::var_os("PAGER"));
    let line = said.or_else(|| is_installed(PAGER_DEFAULT).then(|| PAGER_DEFAULT.into()))?;
    if line.is_empty() || line == "cat" {
        return None;
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(&line).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        command.env("LESS", LESS_DEFAULT);
    }
    if env::var_os("SUDO_UID").is_some() {
        // Whoever may run this one command may not start others from a pager.
        command.env("LESSSECURE", "1");
    }
    let left = signals.leave();
    let mut child = command.spawn().ok()?;
    let stdin = child.stdin.take()?;
    let waiter = move || {
        let status = child.wait();
        drop(left);
        // What a shell says of a command that it cannot start.
        !status.is_ok_and(|status| matches!(status.code(), Some(126 | 127)))
    };
    let waiter = thread::Builder::new().name("pager".into()).spawn(waiter);
    let ended = waiter.ok()?;
    Some(Pager { stdin, ended })
}

/// Whether a shell would find this program.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
