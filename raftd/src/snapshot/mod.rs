//! Snapshots: the state as of one entry, in a file (thesis 5; rules D5, E6).
//!
//! # The file
//!
//! A header page says whose state it is and as of which entry; chunks hold the keys in order, then
//! the sessions; a trailer ends it. [`mod@format`] has the bytes. Each chunk is guarded by itself, and
//! the trailer by the digest of the state, recomputed from what was written: so a snapshot proves
//! that it is whole, and that it is the state that the writer had. There is no clock and no node in
//! it, and all nodes take it at the same entry: they write the same bytes.
//!
//! # Writing one
//!
//! A [`Writer`] goes through a frozen view of the store in steps of 128 KiB, so that its thread
//! can do other things between them and decide how fast it goes. The costly part of a chunk,
//! [`Collected::press`], may run on any thread: see [`Press`]. The file is written under a
//! temporary name, synced, dropped from the cache, read again and verified to the last byte, renamed,
//! and its directory synced. Only then may a marker in the log name it, and only after that may
//! [`remove_older`] remove what it replaces (rules E6). Whatever fails, the temporary file goes
//! and the old snapshot stays: a failed snapshot is never fatal (rules D3).
//!
//! # Reading one
//!
//! [`load`] believes nothing: what is cut short, has a hole, a changed bit or bytes too many is
//! [`Error::Damaged`] with its place; what is whole, but of another cluster, history or entry than
//! its name says, is [`Error::Foreign`]. [`Loader`] is the same in pieces, of which the costly one,
//! [`Stored::unpack`], may run on any thread. [`Verifier`] reads any stream in constant memory.
//!
//! # Sending and receiving one
//!
//! A leader sends the file as it is: [`read_at`]. A [`Receiver`] collects it under a name that a
//! restart keeps, so a transfer goes on where what it has is good; the whole is verified, and the
//! store built from it, before it gets its name.
//!
//! # The files
//!
//! `pack.rs` collects what goes into a chunk, `press.rs` makes it and `unpack.rs` opens it;
//! `frames.rs` reads a file chunk by chunk; `sink.rs` writes one piece by piece; `write.rs`,
//! `verify.rs`, `load.rs` and `receive.rs` are the four that use them.

pub mod format;
mod frames;
mod load;
mod pack;
mod press;
mod receive;
mod sink;
mod unpack;
mod verify;
mod write;

use std::fmt;

use bytes::Bytes;
use wire::types::{EntryId, Index, Term};

use self::format::Header;
pub use self::frames::{FileReader, ReadAhead, Stored};
pub use self::load::{Expected, Loaded, Loader, load, read_header};
pub use self::press::{Collected, Press, Pressed};
pub use self::receive::Receiver;
pub use self::unpack::Content;
pub use self::verify::{Found, Verified, Verifier, verify};
pub use self::write::{Step, Writer};
use crate::disk::{Aligned, DIRECT_BYTES, Damage, Disk, Error as DiskError};

/// The directory of the snapshots.
pub const SNAPSHOT_DIR: &str = "snap";
/// What the name of a snapshot ends with.
const SUFFIX: &str = ".snap";
/// What the name of a snapshot that is being written ends with.
pub const UNFINISHED_SUFFIX: &str = ".snap.tmp";
/// What the name of a snapshot that is being received ends with.
pub const PARTIAL_SUFFIX: &str = ".part.tmp";

/// `snap/%016x-%x.snap`: index, then term.
#[must_use]
pub fn snapshot_name(id: EntryId) -> String {
    name(id, SUFFIX)
}

/// The entry in a file name without its directory, if it is a snapshot's.
#[must_use]
pub fn snapshot_id(file_name: &str) -> Option<EntryId> {
    named_id(file_name, SUFFIX)
}

fn name(id: EntryId, suffix: &str) -> String {
    format!("{SNAPSHOT_DIR}/{:016x}-{:x}{suffix}", id.index.0, id.term.0)
}

fn named_id(file_name: &str, suffix: &str) -> Option<EntryId> {
    let (index, term) = file_name.strip_suffix(suffix)?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let id = EntryId {
        term: Term(number(term)?),
        index: Index(number(index)?),
    };
    // One spelling for each.
    let spelled = name(id, suffix);
    (spelled.rsplit('/').next() == Some(file_name)).then_some(id)
}

/// A snapshot that has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that is part of it.
    pub id: EntryId,
    /// The size of its file.
    pub bytes: u64,
    /// The digest of the state (rules D5).
    pub digest: u128,
}

/// Why there is no snapshot, or none to be used.
#[derive(Debug)]
pub enum Error {
    /// The disk failed, or has no room.
    Disk(DiskError),
    /// Bytes are missing, changed or too many.
    Damaged(Damage),
    /// It is whole, and not what was asked for.
    Foreign {
        /// The file.
        file: String,
        /// What is other, for a person.
        what: String,
    },
    /// What the store holds is not what its digest says: memory was damaged, or a bug.
    Digest {
        /// What was kept up to date with every write.
        kept: u128,
        /// What the content comes to.
        counted: u128,
    },
}

impl Error {
    /// The disk is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_no_space())
    }

    /// The file is missing, or not what was written: a good one may be had from elsewhere.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_not_found(),
            Self::Damaged(_) | Self::Digest { .. } => true,
            Self::Foreign { .. } => false,
        }
    }

    fn damaged(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged(Damage {
            file: file.to_owned(),
            offset,
            what: what.into(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Foreign { file, what } => write!(f, "{file} is not what it should be: {what}"),
            Self::Digest { kept, counted } => write!(
                f,
                "the state does not fit its digest: it comes to {counted:032x}, not {kept:032x}"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// A part of a snapshot's file, to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The size of the whole file.
    pub total_bytes: u64,
    /// What stands there; fewer than asked for at the end of the file, none behind it.
    pub bytes: Bytes,
}

/// Reads a part of a published snapshot. What was damaged since it was published is sent as it is:
/// who receives it finds out.
///
/// # Errors
/// [`Error::Disk`]: there is no such snapshot. [`Error::Damaged`]: that part cannot be read.
pub fn read_at<D: Disk>(
    disk: &D,
    id: EntryId,
    offset: u64,
    bytes_max: usize,
) -> Result<Piece, Error> {
    let name = snapshot_name(id);
    let mut file = disk.open(&name)?;
    disk.bypass_cache(&mut file);
    let total_bytes = disk.bytes(&file)?;
    let offset = offset.min(total_bytes);
    // Whoever went on in the middle of a block asks for whole ones from then on.
    let astray = (offset % DIRECT_BYTES as u64) as usize;
    let bytes_max = bytes_max - astray.min(bytes_max / 2);
    let bytes = (total_bytes - offset).min(bytes_max as u64);
    let mut buffer = Aligned::new(bytes as usize);
    disk.read_at(&file, offset, &mut buffer)
        .map_err(|error| unreadable(&name, offset, &error))?;
    Ok(Piece {
        total_bytes,
        bytes: Bytes::from_owner(buffer),
    })
}

/// EIO on read is damage at that place (rules D3).
fn unreadable(file: &str, offset: u64, error: &DiskError) -> Error {
    Error::damaged(file, offset, format!("cannot be read: {}", error.cause))
}

/// The header of the newest published snapshot that has a readable one, whether a marker names it or
/// not.
///
/// # Errors
/// The disk's.
pub fn newest_header<D: Disk>(disk: &D) -> Result<Option<Header>, DiskError> {
    let ids = published(disk)?;
    Ok(ids.iter().rev().find_map(|id| read_header(disk, *id).ok()))
}

/// The snapshots that have their names, ascending.
///
/// # Errors
/// The disk's.
pub fn published<D: Disk>(disk: &D) -> Result<Vec<EntryId>, DiskError> {
    let names = disk.list(SNAPSHOT_DIR)?;
    let mut ids: Vec<EntryId> = names.iter().filter_map(|name| snapshot_id(name)).collect();
    ids.sort();
    Ok(ids)
}

/// Removes what is of no use beside the snapshot `kept` (0@0: none): all others, what was being
/// written when the process ended, and what was being received, but for the newest part of a
/// snapshot behind `kept`, with which a transfer can go on. Returns the names of what it removed. What
/// stays has its name after a loss of power, too. Names that are no snapshot's are somebody else's, and
/// stay.
///
/// Only for when the log's marker names `kept`, or the store did begin from it.
///
/// # Errors
/// The disk's. Some may be removed then.
pub fn remove_others<D: Disk>(disk: &D, kept: EntryId) -> Result<Vec<String>, DiskError> {
    let names = disk.list(SNAPSHOT_DIR)?;
    // The last process may have been killed between giving a name and syncing it. The first snapshot
    // makes the directory.
    if !names.is_empty() {
        disk.sync_dir(SNAPSHOT_DIR)?;
    }
    let parts = names
        .iter()
        .filter_map(|name| named_id(name, PARTIAL_SUFFIX));
    let part = parts.filter(|id| id.index > kept.index).max();
    let part = part.map(|id| name(id, PARTIAL_SUFFIX));
    let mut removed = Vec::new();
    for file_name in names.iter().filter(|name| is_ours(name)) {
        let name = format!("{SNAPSHOT_DIR}/{file_name}");
        if name == snapshot_name(kept) || Some(&name) == part.as_ref() {
            continue;
        }
        disk.remove(&name)?;
        disk.sync_dir(SNAPSHOT_DIR)?;
        removed.push(name);
    }
    Ok(removed)
}

/// A snapshot, or one that was being written or received.
fn is_ours(file_name: &str) -> bool {
    let suffixes = [SUFFIX, UNFINISHED_SUFFIX, PARTIAL_SUFFIX];
    let mut ids = suffixes.iter().map(|suffix| named_id(file_name, suffix));
    ids.any(|id| id.is_some())
}

/// Removes the snapshots, whole or received in part, that are older than `marked` and not in `also`.
/// What is newer stays, whatever `also` names: the log does not know of it yet.
///
/// # Errors
/// The disk's. Some may be removed then.
pub fn remove_older<D: Disk>(disk: &D, marked: EntryId, also: &[EntryId]) -> Result<(), DiskError> {
    // A part of one that is kept is of no use.
    remove_if(disk, |id, whole| {
        id.index <= marked.index && !(whole && (id == marked || also.contains(&id)))
    })
}

/// Removes the snapshots, whole or received in part, of later entries than `after`.
///
/// # Errors
/// The disk's. Some may be removed then.
pub fn remove_newer<D: Disk>(disk: &D, after: Index) -> Result<(), DiskError> {
    remove_if(disk, |id, _| id.index > after)
}

/// Removes snapshots by id, and whether they are whole.
fn remove_if<D: Disk>(disk: &D, goes: impl Fn(EntryId, bool) -> bool) -> Result<(), DiskError> {
    for file_name in disk.list(SNAPSHOT_DIR)? {
        let whole = snapshot_id(&file_name).map(|id| (id, true));
        let named = whole.or_else(|| Some((named_id(&file_name, PARTIAL_SUFFIX)?, false)));
        if named.is_some_and(|(id, whole)| goes(id, whole)) {
            disk.remove(&format!("{SNAPSHOT_DIR}/{file_name}"))?;
            disk.sync_dir(SNAPSHOT_DIR)?;
        }
    }
    Ok(())
}

/// Gives a verified file its name, durably.
fn publish<D: Disk>(disk: &D, from: &str, id: EntryId) -> Result<(), DiskError> {
    disk.rename(from, &snapshot_name(id))?;
    disk.sync_dir(SNAPSHOT_DIR)?;
    // The directory itself may be new.
    disk.sync_dir("")
}
