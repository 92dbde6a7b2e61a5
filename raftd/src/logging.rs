//! The log: one line per event on stderr, written by a thread of its own.
//!
//! A reader of stderr that stops reading must never stop the loop, so lines go through a bounded
//! queue; what finds no room is counted and reported as soon as there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::SharedLogger;

use crate::clock;

/// Lines that may wait for the writing thread.
const QUEUE_LINES: usize = 4096;
/// A longer line is cut: with the queue's length it bounds the memory of the log.
const LINE_BYTES_MAX: usize = 2048;
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `<N>` with the priority of syslog(3) and no time: journald adds its own.
    Journal,
    /// UTC time in ISO 8601 and the level.
    Plain,
}

impl Style {
    /// [`Style::Journal`] if `JOURNAL_STREAM` names the very file that stderr is.
    #[must_use]
    pub fn of_stderr() -> Self {
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        match rustix::fs::fstat(io::stderr()) {
            Ok(stat) if named == format!("{}:{}", stat.st_dev, stat.st_ino) => Self::Journal,
            _ => Self::Plain,
        }
    }

    fn line(self, level: Level, message: &dyn std::fmt::Display) -> String {
        let mut line = match self {
            Self::Journal => format!("<{}>{message}", priority(level)),
            Self::Plain => {
                let time = humantime::format_rfc3339_millis(clock::wall());
                format!("{time} {:<5} {message}", level.as_str())
            }
        };
        // One event is one line, whatever a peer put into a text, and no terminal obeys it.
        if line.contains(char::is_control) {
            let mut shown = String::with_capacity(line.len());
            for character in line.chars() {
                match character.is_control() {
                    true => shown.extend(character.escape_default()),
                    false => shown.push(character),
                }
            }
            line = shown;
        }
        if line.len() > LINE_BYTES_MAX {
            let end = (0..=LINE_BYTES_MAX)
                .rev()
                .find(|at| line.is_char_boundary(*at));
            line.truncate(end.unwrap_or(0));
        }
        line.push('\n');
        line
    }
}

/// syslog(3): 3 error, 4 warning, 6 informational, 7 debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

enum Job {
    Line(String),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// The sending end: what `log`'s macros reach.
///
/// Invariants:
/// - `log` never blocks and never waits for a lock that a writing thread holds.
/// - A line is written, or counted in `dropped`; the count is written when there is room again.
#[derive(Clone)]
pub struct QueueLogger {
    level: LevelFilter,
    style: Style,
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl QueueLogger {
    /// A logger in front of `writer`, with its thread.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(
        level: LevelFilter,
        style: Style,
        writer: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&queue, style, &counted, writer))?;
        Ok(Self {
            level,
            style,
            jobs,
            dropped,
        })
    }

    /// Waits, for a bounded time, until what was logged so far is written.
    fn flush_within(&self, timeout: Duration) {
        let (done, wait) = channel();
        // A full queue means a stopped reader: its lines are lost with the process.
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            // Timed out or not, the process goes on to its end.
            let _ = wait.recv_timeout(timeout);
        }
    }
}

fn write_lines(queue: &Receiver<Job>, style: Style, dropped: &AtomicU64, mut writer: impl Write) {
    for job in queue {
        // A broken stderr has nowhere to be reported to.
        match job {
            Job::Line(line) => {
                let _ = writer.write_all(line.as_bytes());
            }
            Job::Flush(done) => {
                let _ = writer.flush();
                let _ = done.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = format_args!("log lines dropped count={lost}");
            let _ = writer.write_all(style.line(Level::Warn, &message).as_bytes());
        }
    }
}

impl Log for QueueLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = self.style.line(record.level(), record.args());
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.jobs.try_send(Job::Line(line))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        self.flush_within(FLUSH_TIMEOUT);
    }
}

impl SharedLogger for QueueLogger {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn config(&self) -> Option<&simplelog::Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

/// Sends the process's log to stderr from here on.
///
/// # Errors
/// No room for a thread or a descriptor, or a logger is set already.
pub fn install(level: LevelFilter) -> io::Result<()> {
    // A descriptor of its own: `io::stderr()` has a lock, which a thread that is stuck in a write
    // would hold against the last words of the process.
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let logger = QueueLogger::start(level, Style::of_stderr(), File::from(stderr))?;
    simplelog::CombinedLogger::init(vec![Box::new(logger)]).map_err(io::Error::other)
}
