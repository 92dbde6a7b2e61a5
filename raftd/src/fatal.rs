//! The only way to die: every end of the process that is not a clean stop goes through here.

use std::fmt;
use std::process;

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
    /// A sync, write or read of the disk failed.
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

    /// Adds what to try.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raftd: {}", self.what)?;
        if !self.place.is_empty() {
            write!(f, "\n  where: {}", self.place)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  try: {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Ends the process at once: no destructor runs, nothing more is answered.
#[expect(clippy::print_stderr, reason = "the last words of the process")]
pub fn die(fatal: &Fatal) -> ! {
    eprintln!("{fatal}");
    process::exit(fatal.status as i32)
}
