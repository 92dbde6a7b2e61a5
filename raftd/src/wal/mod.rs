//! The write-ahead log: what makes an acknowledgement true.
//!
//! (essay follows)

mod decide;
pub mod format;
pub mod identity;
mod index;
mod load;
mod pending;
mod recover;
pub mod segment;
mod window;
mod writer;

use std::fmt;

pub use self::format::{Owner, entry_bytes_max};
pub use self::pending::Pending;
pub use self::recover::{Recovered, Report, Settings, create, recover, remove_virgin};
pub use self::writer::{Progress, Wal};
use crate::disk;

/// Something durable is gone or changed: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// The place in it.
    pub offset: u64,
    /// What is wrong, for a person.
    pub what: String,
}

impl Damage {
    fn new(segment: u64, offset: u64, what: impl Into<String>) -> Self {
        Self {
            file: segment::segment_name(segment),
            offset,
            what: what.into(),
        }
    }

    /// EIO on read is damage at that place (rules D3).
    fn unreadable(segment: u64, offset: u64, cause: &disk::Error) -> Self {
        Self::new(segment, offset, format!("cannot be read: {}", cause.cause))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.file, self.offset, self.what)
    }
}

/// Why the log cannot be read or written.
#[derive(Debug)]
pub enum Error {
    /// The disk failed.
    Disk(disk::Error),
    /// Something durable is gone.
    Damaged(Damage),
    /// An entry that segments of the configured size cannot hold: another member's are larger.
    EntryTooLarge {
        /// The entry.
        bytes: usize,
        /// [`entry_bytes_max`] here.
        bytes_max: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::EntryTooLarge { bytes, bytes_max } => write!(
                f,
                "an entry of {bytes} bytes does not fit into a segment, which takes {bytes_max}"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}
