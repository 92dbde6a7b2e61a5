//! The disk work of a node, off its loop.
//!
//! [`open`] brings a data directory back. A [`Worker`] owns the log and the map of the active
//! segment, and does every sync; a [`LogReader`] reads it back; a [`SpareMaker`] makes segments before
//! they are needed and watches the room on the disk; a [`Keeper`] writes, reads, receives and removes
//! snapshots; a [`Scrubber`] looks for rot. All are deterministic and work on any
//! [`crate::disk::Disk`]: the simulator runs them too. Here the first has a thread (`threads.rs`), and
//! the others share one (`background.rs`). All writes that wait when a sync returns share the next one
//! (group commit): nothing is delayed to form a batch, and a batch forms by itself while the disk is
//! busy.

mod background;
mod history;
mod keeper;
mod load;
mod open;
mod pace;
mod press;
mod reader;
mod recover;
mod restore;
mod scrub;
mod shared;
mod spares;
mod state;
mod threads;
mod worker;

use std::path::PathBuf;

pub use self::keeper::{Keeper, Kept};
pub use self::load::load_snapshot;
pub use self::open::{Opened, OpenedDisk, OpenedLog, bytes_in, open, open_disk, open_log};
pub(crate) use self::open::{is_data, lock, make_dir};
pub use self::reader::{LogReader, Read, ReadStep, Unreadable};
pub use self::recover::{Holds, Locked, Recovery, look};
pub(crate) use self::restore::check_restored;
pub use self::restore::{RESTORE_PASSES, Restored, restore};
pub use self::scrub::{Scrubbed, Scrubber, Scrubbing};
pub use self::spares::{SpareMaker, Step};
pub use self::state::State;
pub use self::threads::Storage;
pub use self::worker::{Round, Worker};
use crate::disk::{self, Meter};
use crate::fatal::{ExitStatus, Fatal};
use crate::snapshot;
use crate::wal;
use crate::wal::identity::{IDENTITY_NAME, Identity, IdentityError};

/// Bytes of entries that one load reads at most.
const LOAD_BYTES_MAX: usize = 1024 * 1024;

/// What to do when data is damaged: nothing that forgets a vote or an acknowledgement. An older
/// copy of the log or an empty directory would; peers refuse the latter (rules D1).
const LEAVE_OUT: &str = "keep the files as they are and leave this member stopped: the others \
                         go on as long as they are a majority, and raftctl replace-peer puts a new \
                         member in its place. Neither an older copy nor an empty directory may \
                         take it";
/// What to do without IDENTITY: it forgets nothing, and its content does not change once formed.
const RESTORE_IDENTITY: &str = "restore IDENTITY from this node's own backup, made since the \
                                cluster formed; without one, leave this member stopped, and have \
                                a new one take its place (raftctl replace-peer)";

/// Where and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; made if it does not exist, with mode 0700.
    pub data_dir: PathBuf,
    /// Size of new segments in bytes, 256 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Below this many free bytes the disk state is `Soft`, see [`SpareMaker`]; what the next
    /// snapshot and two segments take if that is more.
    pub soft_free_bytes: u64,
    /// Bytes of entries that are given back at start, about.
    pub tail_bytes: usize,
    /// Sessions that a snapshot may hold: what the node's limits say.
    pub sessions_max: usize,
    /// Bytes of a snapshot that are written in a second; 0: as fast as it goes.
    pub snapshot_rate_bytes: u64,
    /// How to look for rot.
    pub scrubbing: Scrubbing,
    /// Counts what is read and written.
    pub meter: Meter,
    /// Who a data directory without content becomes.
    pub create: Option<Identity>,
    /// Random, for each life of the process another.
    pub seed: u64,
}

/// What goes wrong again and again is told once, until it is something else.
#[derive(Debug, Default)]
struct Alarm {
    told: String,
}

impl Alarm {
    fn raise(&mut self, text: String) {
        if text != self.told {
            log::error!("{text}");
            self.told = text;
        }
    }

    /// It is over: the next time is told.
    fn clear(&mut self) {
        self.told.clear();
    }
}

/// How the process must end when the log says this.
fn fatal_of(error: &wal::Error) -> Fatal {
    match error {
        wal::Error::Disk(error) => fatal_of_disk(error),
        wal::Error::Damaged(damage) => Fatal::new(
            ExitStatus::Damaged,
            format!("the write-ahead log is damaged: {}", damage.what),
        )
        .at(format!("{} offset {}", damage.file, damage.offset))
        .remedy(LEAVE_OUT),
        wal::Error::EntryTooLarge { .. } => Fatal::new(ExitStatus::Config, error.to_string())
            .remedy("set wal.segment_bytes to the same value on all members"),
    }
}

/// How the process must end when the snapshot that its log goes on from is like that.
fn fatal_of_snapshot(error: &snapshot::Error) -> Fatal {
    match error {
        snapshot::Error::Disk(error) if !error.is_not_found() => fatal_of_disk(error),
        _ => Fatal::new(
            ExitStatus::Damaged,
            format!("the snapshot that the log goes on from cannot be used: {error}"),
        )
        .at(snapshot::SNAPSHOT_DIR)
        .remedy(LEAVE_OUT),
    }
}

fn fatal_of_disk(error: &disk::Error) -> Fatal {
    let place = match &error.name[..] {
        "" => ".",
        name => name,
    };
    if error.is_permission() {
        return Fatal::new(ExitStatus::Permission, error.to_string())
            .at(place)
            .remedy(
                "give the data directory to the user that raftd runs as, and run this as that user",
            );
    }
    let remedy = if error.is_no_space() {
        "free some space, then start again"
    } else if error.is_out_of_files() {
        "raise the limit of open files (LimitNOFILE=, fs.file-max), then start again"
    } else if error.is_out_of_memory() {
        "raise the limits of memory (ulimit -v, LimitAS=, MemoryMax=, vm.max_map_count), then start again"
    } else {
        "check the disk, then start again: what was not synced is not relied upon"
    };
    Fatal::new(ExitStatus::Io, error.to_string())
        .at(place)
        .remedy(remedy)
}

fn fatal_of_identity(error: &IdentityError) -> Fatal {
    match error {
        IdentityError::Disk(error) => fatal_of_disk(error),
        IdentityError::Damaged => {
            Fatal::new(ExitStatus::Damaged, "both copies in IDENTITY are damaged")
                .at(IDENTITY_NAME)
                .remedy(RESTORE_IDENTITY)
        }
    }
}
