//! The write-ahead log: what makes an acknowledgement true.
//!
//! # What it is
//!
//! A node must not forget three things: its term, its vote and its entries (thesis 3.8). All three
//! live in one log of *batches*, so that one sync makes them durable together: there is no moment
//! at which a node holds a new term with an old vote, or an entry of a term it does not know.
//!
//! A *batch* is exactly what one fdatasync covers, and the next one is stored only after that sync
//! returned (rules E1). That one sentence carries most of the rest: at any moment at most one
//! batch is unsynced, a crash can tear only that one, and the header of batch N+1 proves by its
//! mere existence that batch N was durable.
//!
//! Batches live in *segments*, files of a fixed size that were filled with zeros and synced before
//! anything is stored in them. The active one is mapped; storing is copying, and a sync writes the
//! touched pages and no metadata. Everything else is read with pread.
//!
//! # Tear or rot
//!
//! The question of every recovery is whether bytes that do not verify were *never durable* (a torn
//! batch: cut it, nobody was told) or *durable once* (damage: entries and votes that this node
//! vouched for are gone; going on would break promises). Taking damage for the end of the log is
//! how logs lose data silently; taking a tear for damage is how every power cut takes a cluster
//! down. So what follows a sync leaves *evidence* that it happened:
//!
//! - the [`format::SyncMark`], stored behind the batch as soon as its sync returned, before anyone
//!   is told, and durable with the next sync or write-back;
//! - the header of the next batch, which takes the mark's place;
//! - the next segment's `Open`, stored only after this segment's `Seal` was durable.
//!
//! Bytes behind a bad batch are therefore searched for evidence to the segment's end. Found:
//! rot. Not found, and all that is wrong lies within the size of one batch: torn. The table in
//! `decide.rs` has one row for each case. What remains ambiguous, and is taken for torn, is rot in
//! the very last batch when neither its mark nor the next header reached the disk (rules E3).
//!
//! Identities are kept apart from payloads: the header carries term, length and CRC of each entry,
//! under a CRC of its own. So what was lost can be named even if its bytes cannot be read.
//!
//! Nothing of one segment can be taken for another's: a random *salt* of the segment, the segment's
//! id and the own offset are in every header and mark. Zeros are never valid.
//!
//! # What recovery believes
//!
//! Before it reads, recovery syncs all segments and drops the newest from the page cache. Else it
//! might believe in bytes that are not on the disk: stored by a process that was killed before its
//! sync, or left clean in the cache by a sync that failed. Then it reads every segment, decides,
//! and only then changes anything: zeros over a torn batch with the mark of its predecessor in
//! front, one sync; spares that are of no use, removed. Each change can be interrupted and made
//! again, and none needs room on the disk.
//!
//! # Where the log begins
//!
//! What a snapshot covers is needed no more. Every batch header carries the *marker*, the newest
//! published snapshot as of that batch, as it carries term and vote: so the newest batch tells it,
//! and a marker alone is a batch without entries. A marker is stored only when the snapshot is whole
//! under its name and its entry is durable here (rules E6).
//!
//! Compaction drops whole segments from the front, which a durable marker covers, one file at a
//! time. In memory the *base*, the entry that the log begins behind, is where the first segment that
//! is left begins. On disk its `Open` says so, by what it follows; it is believed if the newest
//! marker is not below it, else a segment is missing.
//!
//! A snapshot that reaches past the log, or contradicts it, *resets* it: one batch says that
//! everything before is gone, and names marker and base at once, so that no crash can leave a
//! snapshot with a conflicting log under it.
//!
//! # What damage costs
//!
//! Peers have what is damaged here (rules D4), so little of it ends the daemon:
//!
//! - Entries with an intact header are *faulty*: known by term, index and CRC, in the log, and not
//!   durable. [`Wal::mend`] puts the same bytes back in their place, and nothing else changes: a crash
//!   on the way leaves the same damage.
//! - Where headers are damaged there is a *gap*. The log goes on behind it. By Log Matching nothing is
//!   lost if the batch behind the gap follows the entry that the log ended with, and nothing that
//!   counts if the marker covers what is missing.
//! - Else the log is *lost*, as long as what is genuine at its end tells the newest term and vote. It
//!   begins anew in a segment that appears under its name with its first batch in it, and says so in
//!   its hard state until the leader knows better. That one rename decides; before it, the damage is
//!   as it was.
//! - Where term and vote are in doubt, or there is nobody to heal from: exit 65.
//!
//! What rots while the log is open is found by loads and by the scrubber, which reads sealed segments
//! again: faulty entries join the others, and for a gap a snapshot is asked for, since all that is in
//! it is in memory or applied.
//!
//! # A full disk
//!
//! Segments are made ahead of need, by another thread. When none can be made, the last 64 KiB of
//! the active one still take batches without entries: a full node can vote, and say so (rules E5),
//! and mark a snapshot, so that what it covers can go. Entries wait, and terms and votes that come
//! behind them overtake them (`pending.rs` says why they may). ENOSPC is never damage and
//! never fatal; a failed write or sync always is (rules D3), since after it nobody knows what the
//! disk holds.
//!
//! # What is missing, and why
//!
//! - Recycling of segments: it would save the zeroing, and cost the certainty that what stands
//!   behind the end of the log are zeros.
//!
//! # The files
//!
//! [`mod@format`] has the bytes; `pending.rs` forms batches; `writer.rs` stores them; `window.rs`
//! reads them; `recover.rs`, `scan.rs` and `gap.rs` bring a log back, `evidence.rs` looks for what was
//! durable, `decide.rs` is their table and `repair.rs` what they change; `faulty.rs` mends, `verify.rs`
//! is for the scrubber; `examine.rs` only looks; `index.rs` knows where entries are and
//! `load.rs` reads them back; [`segment`] makes and removes files; [`identity`] is the file beside
//! the log that says whose it is.

mod decide;
mod evidence;
mod examine;
mod faulty;
pub mod format;
mod gap;
pub mod identity;
mod index;
mod load;
mod pending;
mod recover;
mod repair;
mod scan;
pub mod segment;
mod verify;
mod window;
mod writer;

use std::fmt;

pub use self::examine::{Contents, Examination, FoundBatch, examine};
pub use self::faulty::Inspected;
pub use self::format::{Owner, entry_bytes_max};
pub use self::load::{Passage, Reader};
pub use self::pending::Pending;
pub use self::recover::{Cases, Recovered, Report, Settings, create, recover, remove_virgin};
pub use self::repair::Repair;
pub use self::verify::{SegmentPiece, SegmentVerifier};
pub use self::writer::{Progress, Wal};
use crate::disk;
pub use crate::disk::Damage;

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
