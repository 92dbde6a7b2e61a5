//! The only way to die: every end of the process that is not a clean stop goes through here.

use std::fmt::{self, Write as _};
use std::panic;
use std::process;

use rustix::event::{self, PollFd, PollFlags, Timespec};

use crate::logging::Style;

/// How long the last words wait for a reader.
const WORDS_TIMEOUT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 300_000_000,
};
/// What pipe(7) writes whole or not at all.
const PIPE_BUF_BYTES: usize = 4096;

/// Exit statuses of `raftd` (sysexits, as `man raftd` lists them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The command line cannot be understood.
    Usage = 64,
    /// Data on disk is damaged.
    Damaged = 65,
    /// A port is busy or the data directory is locked.
    Unavailable = 69,
    /// A bug of ours.
    Bug = 70,
    /// A sync, write or read of the disk failed, or standard output takes nothing.
    Io = 74,
    /// Not permitted.
    Permission = 77,
    /// Bad configuration, foreign cluster, refused incarnation.
    Config = 78,
}

/// Why the process must end: what failed and why, where, what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The exit status.
    pub status: ExitStatus,
    /// What failed and why, in one line.
    pub what: String,
    /// The file, address or setting concerned; empty if none.
    pub place: String,
    /// What to try; empty if nothing can be advised.
    pub remedy: String,
}

impl Fatal {
    /// A reason without place and remedy.
    pub fn new(status: ExitStatus, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
            place: String::new(),
            remedy: String::new(),
        }
    }

    /// Adds the file, address or setting concerned.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = place.to_string();
        self
    }

    /// Adds what to try: a line for each way to go on.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raftd: {}", OneLine(&self.what))?;
        if !self.place.is_empty() {
            write!(f, "\n  where: {}", OneLine(&self.place))?;
        }
        for (number, line) in self.remedy.lines().enumerate() {
            let margin = if number == 0 { "  try: " } else { "       " };
            write!(f, "\n{margin}{}", OneLine(line))?;
        }
        Ok(())
    }
}

/// Text for one line: what came from elsewhere may hold line breaks, and what a terminal obeys.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            f.write_char(if character.is_control() {
                ' '
            } else {
                character
            })?;
        }
        Ok(())
    }
}

/// Ends the process at once: no destructor runs, nothing more is answered.
pub fn die(fatal: &Fatal) -> ! {
    last_words(fatal);
    process::exit(fatal.status as i32)
}

/// Ends the process after a clean stop.
pub fn leave() -> ! {
    log::logger().flush();
    process::exit(0)
}

/// From here on a panic of any thread ends the process: half a daemon must not go on.
pub fn die_on_panic() {
    panic::set_hook(Box::new(|info| {
        let what = format!("this is a bug of raftd: {info}").replace('\n', " ");
        die(&Fatal::new(ExitStatus::Bug, what).remedy("report it with the lines above"))
    }));
}

/// Tells why. A stopped reader of stderr must not keep the process alive, so that this neither
/// takes a lock nor waits longer than [`WORDS_TIMEOUT`].
fn last_words(fatal: &Fatal) {
    log::logger().flush();
    let prefix = match Style::of_stderr() {
        Style::Journal => "<3>",
        Style::Plain => "",
    };
    let mut words = String::new();
    for line in fatal.to_string().lines() {
        words.push_str(prefix);
        words.push_str(line);
        words.push('\n');
    }
    let stderr = rustix::stdio::stderr();
    let mut poll = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    // Nothing can be done about a stderr that fails or takes no bytes. A pipe that polls writable
    // takes PIPE_BUF bytes without blocking.
    if matches!(event::poll(&mut poll, Some(&WORDS_TIMEOUT)), Ok(ready) if ready > 0) {
        let end = words.len().min(PIPE_BUF_BYTES);
        let _ = rustix::io::write(stderr, &words.as_bytes()[..end]);
    }
}

/// Ends the process from inside a signal handler, with status 74: only system calls that are
/// async-signal-safe, nothing allocated, no lock taken.
pub fn die_in_signal_handler(line: &[u8]) -> ! {
    // Nobody could be told of a failure to write.
    let _ = rustix::io::write(rustix::stdio::stderr(), line);
    signal_hook::low_level::exit(ExitStatus::Io as i32)
}
