//! How far bulk work has come, for whoever waits: a bar on a terminal, lines of JSON for programs, one
//! line for everybody who sends SIGUSR1.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use signal_hook::consts::SIGUSR1;
use signal_hook::low_level::pipe;

use crate::bar::on_terminal;

/// Work that is done by then shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the counts.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// Between two lines of JSON.
const LINE_PAUSE: Duration = Duration::from_secs(1);

/// How progress is shown without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Not at all.
    Never,
    /// As a bar, if standard error is a terminal.
    Bar,
    /// As a line of JSON each second.
    Json,
}

/// What is done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
    over: AtomicBool,
}

impl Counts {
    /// So much more is done.
    pub(crate) fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records and bytes that are done.
    pub(crate) fn now(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.records), read(&self.bytes))
    }
}

/// A thread that shows the counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) counts: Arc<Counts>,
    begun: Instant,
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows the progress of `doing`; `total_bytes` is what there is to do, if that is known.
    pub(crate) fn start(doing: &'static str, show: Show, total_bytes: Option<u64>) -> Self {
        let counts = Arc::new(Counts::default());
        let begun = Instant::now();
        let mut progress = Self {
            counts: Arc::clone(&counts),
            begun,
            wake: None,
            thread: None,
        };
        // Without it the work goes on all the same.
        let Ok((asked, wake)) = UnixStream::pair() else {
            return progress;
        };
        let by_signal = wake
            .try_clone()
            .and_then(|end| pipe::register(SIGUSR1, end));
        if by_signal.is_err() {
            return progress;
        }
        let shown = Shown {
            doing,
            show,
            total_bytes,
            counts,
            begun,
            bar: None,
            last_line: begun,
        };
        progress.wake = Some(wake);
        let spawned = thread::Builder::new().name("progress".into());
        progress.thread = spawned.spawn(move || shown.run(asked)).ok();
        progress
    }

    /// How long the work has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.counts.over.store(true, Ordering::Relaxed);
        if let (Some(wake), Some(thread)) = (&mut self.wake, self.thread.take()) {
            // The thread looks by itself before long if it cannot be woken.
            let _ = wake.write(&[0]);
            let _ = thread.join();
        }
    }
}

/// What the thread knows.
struct Shown {
    doing: &'static str,
    show: Show,
    total_bytes: Option<u64>,
    counts: Arc<Counts>,
    begun: Instant,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Shown {
    fn run(mut self, mut asked: UnixStream) {
        let mut wanted = [0; 16];
        loop {
            let mut fds = [PollFd::new(&asked, PollFlags::IN)];
            let is_asked = matches!(poll(&mut fds, Some(&PAUSE)), Ok(1..));
            if self.counts.over.load(Ordering::Relaxed) {
                break;
            }
            if is_asked && asked.read(&mut wanted).is_ok_and(|count| count > 0) {
                self.tell();
            }
            if self.begun.elapsed() >= PATIENCE {
                self.show();
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Once, in words.
    fn tell(&self) {
        let (records, bytes) = self.counts.now();
        let line = summary(self.doing, records, bytes, self.begun.elapsed());
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }

    fn show(&mut self) {
        let (records, bytes) = self.counts.now();
        match self.show {
            Show::Never => {}
            Show::Bar => {
                let bar = self
                    .bar
                    .get_or_insert_with(|| on_terminal(self.total_bytes));
                bar.set_position(bytes);
                bar.set_message(format!("{records} records"));
            }
            Show::Json if self.last_line.elapsed() >= LINE_PAUSE => {
                self.last_line = Instant::now();
                let seconds = self.begun.elapsed().as_secs_f64();
                let told = json!({ "progress": {
                    "records": records,
                    "bytes": bytes,
                    "total_bytes": self.total_bytes,
                    "seconds": (seconds * 1000.0).round() / 1000.0,
                }});
                say(&told.to_string());
            }
            Show::Json => {}
        }
    }
}

/// One line: what was done so far.
pub(crate) fn summary(doing: &str, records: u64, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let per_s = |count: u64| {
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    };
    let mb = 1e6;
    format!(
        "raftctl: {doing}: {records} records, {:.1} MB in {seconds:.1} s: {:.0} records/s, {:.1} MB/s",
        bytes as f64 / mb,
        per_s(records),
        per_s(bytes) / mb,
    )
}

/// Nobody is left to tell that standard error is gone.
pub(crate) fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
