//! Segment files: their names, and how a new one is made ready without anyone waiting for it.

use std::ops::Range;

use super::format::{BatchHeader, Owner, SegmentHeader};
use crate::disk::{Aligned, Disk, Error};

/// The directory of the segments.
pub const WAL_DIR: &str = "wal";
/// A step of [`SegmentMaker`]: this much is written at once. Short, for whoever makes a segment
/// keeps a processor from those who answer.
pub const STEP_BYTES: u64 = 128 * 1024;
/// So much is synced at once.
const SYNC_BYTES: u64 = 1024 * 1024;
const _: () = assert!(SYNC_BYTES.is_multiple_of(STEP_BYTES));
/// What is fetched at once. But for the beginning a segment's zeros are not in the cache, and a store
/// would wait for a read of the device, page by page.
pub(super) const FETCH_BYTES: u64 = 256 * 1024;

/// What the name of a segment that is being made ends with.
pub const UNFINISHED_SUFFIX: &str = ".wal.tmp";

/// `wal/%016x.wal`.
#[must_use]
pub fn segment_name(id: u64) -> String {
    format!("{WAL_DIR}/{id:016x}.wal")
}

/// The id in a file name without its directory, if it is a segment's.
#[must_use]
pub fn segment_id(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".wal")?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (format!("{id:016x}") == digits && id != 0).then_some(id)
}

/// A segment that can be opened at once.
#[derive(Debug)]
pub struct Spare<F> {
    pub(super) header: SegmentHeader,
    pub(super) file: F,
}

impl<F> Spare<F> {
    /// The segment's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.header.id
    }
}

/// Removes the oldest of these segments, durably: one at a time, so that a crash never leaves a gap
/// between those that are left. One that is missing costs nothing: a marker covers what was in it.
///
/// # Errors
/// The disk's.
pub fn remove<D: Disk>(disk: &D, ids: &mut Range<u64>) -> Result<(), Error> {
    let Some(id) = ids.next() else {
        return Ok(());
    };
    match disk.remove(&segment_name(id)) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => disk.sync_dir(WAL_DIR),
    }
}

/// A segment that is written to: large batches go past the page cache.
pub(super) fn open_to_write<D: Disk>(disk: &D, id: u64) -> Result<D::File, Error> {
    let mut file = disk.open(&segment_name(id))?;
    disk.bypass_cache(&mut file);
    Ok(file)
}

/// Makes a segment in steps of [`STEP_BYTES`], under a temporary name.
///
/// The name appears only when header page and zeros are durable: a file with a segment's name is
/// whole, or was damaged later.
#[derive(Debug)]
pub struct SegmentMaker<F> {
    header: SegmentHeader,
    file: F,
    zeros: Aligned,
    zeroed_bytes: u64,
}

impl<F> SegmentMaker<F> {
    /// Reserves the room.
    ///
    /// # Errors
    /// [`Error::is_no_space`], or another of the file system.
    pub fn begin<D: Disk<File = F>>(
        disk: &D,
        owner: Owner,
        id: u64,
        bytes: u64,
        seed: u64,
    ) -> Result<Self, Error> {
        let header = SegmentHeader {
            owner,
            id,
            salt: salt(seed, owner, id),
            bytes,
        };
        let mut file = disk.create(&temporary_name(id), bytes)?;
        disk.bypass_cache(&mut file);
        Ok(Self {
            header,
            file,
            zeros: Aligned::new(STEP_BYTES as usize),
            zeroed_bytes: 0,
        })
    }

    /// Zeros the next [`STEP_BYTES`], and syncs when a MiB is full; false when nothing is left to
    /// zero.
    ///
    /// # Errors
    /// The device's.
    pub fn step<D: Disk<File = F>>(&mut self, disk: &D) -> Result<bool, Error> {
        let end = self.header.bytes.min(self.zeroed_bytes + STEP_BYTES);
        let zeros = &self.zeros[..(end - self.zeroed_bytes) as usize];
        disk.write_at(&self.file, self.zeroed_bytes, zeros)?;
        self.zeroed_bytes = end;
        let left = self.zeroed_bytes < self.header.bytes;
        if !left || self.zeroed_bytes.is_multiple_of(SYNC_BYTES) {
            disk.sync(&self.file)?;
        }
        Ok(left)
    }

    /// Zeros what is left, writes the header page and gives the file its name, durably.
    ///
    /// # Errors
    /// The device's.
    pub fn finish<D: Disk<File = F>>(self, disk: &D) -> Result<Spare<F>, Error> {
        self.finish_with(disk, None)
    }

    /// The same; `first`, a batch without entries, is in it from the start.
    pub(super) fn finish_with<D: Disk<File = F>>(
        mut self,
        disk: &D,
        first: Option<&BatchHeader>,
    ) -> Result<Spare<F>, Error> {
        while self.zeroed_bytes < self.header.bytes {
            self.step(disk)?;
        }
        disk.write_at(&self.file, 0, &self.header.page())?;
        if let Some(first) = first {
            let mut head = Vec::new();
            first.encode(&self.header, &[], &mut head);
            disk.write_at(&self.file, first.offset, &head)?;
        }
        disk.sync(&self.file)?;
        disk.rename(
            &temporary_name(self.header.id),
            &segment_name(self.header.id),
        )?;
        disk.sync_dir(WAL_DIR)?;
        // What fails from now on is told with the name that the file has from now on.
        let file = open_to_write(disk, self.header.id)?;
        // Nothing but the beginning is in the cache, where the first stores find it. What is read into
        // it has small folios: a store through the map dirties a whole one (rules E7).
        disk.drop_cache(&file);
        disk.fetch(&file, 0, FETCH_BYTES);
        Ok(Spare {
            header: self.header,
            file,
        })
    }

    /// Removes the unfinished file.
    pub fn discard<D: Disk<File = F>>(self, disk: &D) {
        // A leftover has a temporary name and is removed at the next start.
        let _ = disk.remove(&temporary_name(self.header.id));
    }
}

fn temporary_name(id: u64) -> String {
    format!("{WAL_DIR}/{id:016x}{UNFINISHED_SUFFIX}")
}

/// Never 0. `seed` is drawn at random for each life of the process, so a segment made again under
/// the same id after a crash has another salt.
fn salt(seed: u64, owner: Owner, id: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&owner.incarnation.0.to_be_bytes());
    bytes[16..].copy_from_slice(&id.to_be_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes).max(1)
}
