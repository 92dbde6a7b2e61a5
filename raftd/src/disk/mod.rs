//! What the write-ahead log and the snapshots ask of a disk, and nothing more.
//!
//! Two disks exist: [`os::OsDisk`], the directory on a real file system, and [`sim::SimDisk`],
//! which lives in memory, loses power on command and fails where it is told to. The log is
//! written against the trait, so both run the same code.
//!
//! Assumed of the hardware (rules D2): a 512-byte sector is written whole or not at all, writing
//! one does not harm its neighbours, and a completed sync is honest on a majority of the nodes.
//!
//! One lesson shapes the error handling: after a failed sync the kernel marks the pages clean, so
//! a second sync succeeds although nothing was written. Hence [`Latched`].

mod aligned;
mod meter;
pub mod os;
mod read_only;
pub mod sim;

use std::cell::Cell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use self::aligned::{Aligned, DIRECT_BYTES};
pub use self::meter::Meter;
pub use self::read_only::ReadOnly;

/// What a disk writes whole or not at all (rules D2).
pub const SECTOR_BYTES: u64 = 512;

/// A failed operation: which one, on which file, why.
#[derive(Debug)]
pub struct Error {
    /// The operation, as a verb: "sync", "read".
    pub operation: &'static str,
    /// The file or directory, relative to the disk's root; empty for the root.
    pub name: String,
    /// Why.
    pub cause: io::Error,
}

impl Error {
    /// An error of `operation` on `name`.
    pub fn new(operation: &'static str, name: &str, cause: io::Error) -> Self {
        Self {
            operation,
            name: name.to_owned(),
            cause,
        }
    }

    /// The disk, or this user's share of it, is full: never damage and never fatal (rules D3).
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// The process, or the system, may open no more files for now: EMFILE or ENFILE.
    #[must_use]
    pub fn is_out_of_files(&self) -> bool {
        let errno = Errno::from_io_error(&self.cause);
        errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE].contains(&errno))
    }

    /// The process may have no more memory, or maps: ENOMEM.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.cause.kind() == io::ErrorKind::OutOfMemory
    }

    /// The file does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// The process may not do that.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.name[..] {
            "" => "the data directory",
            name => name,
        };
        write!(f, "cannot {} {name}: {}", self.operation, self.cause)
    }
}

impl std::error::Error for Error {}

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

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.file, self.offset, self.what)
    }
}

/// A directory of files. Names are relative to its root and use `/`.
///
/// What is written or stored is durable once `sync` of its file returned; that a file exists, or
/// has its name, is durable once `sync_dir` of its directory returned.
pub trait Disk {
    /// An open file.
    type File;

    /// Makes a directory that only the owner may enter. It may exist already.
    ///
    /// # Errors
    /// The file system's.
    fn create_dir(&self, name: &str) -> Result<(), Error>;

    /// The names of the files in a directory, sorted, without the directory's own; none if it is
    /// not there.
    ///
    /// # Errors
    /// The file system's.
    fn list(&self, dir: &str) -> Result<Vec<String>, Error>;

    /// Makes a file of this size with its room on the disk reserved: no later write into it can
    /// find the disk full. A file of that name is replaced.
    ///
    /// # Errors
    /// The file system's; [`Error::is_no_space`] leaves no file behind.
    fn create(&self, name: &str, bytes: u64) -> Result<Self::File, Error>;

    /// Makes a file longer or shorter. What is added reads as zeros and has its room reserved, like
    /// that of [`Disk::create`]; of what is cut, the room is free. The size is durable once `sync`
    /// returned. Not for a mapped file, whose map would end elsewhere than the file.
    ///
    /// # Errors
    /// The file system's; after [`Error::is_no_space`] the file is as it was.
    ///
    /// # Panics
    /// If the file is mapped: a bug of the caller.
    fn resize(&self, file: &Self::File, bytes: u64) -> Result<(), Error>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, name: &str) -> Result<Self::File, Error>;

    /// The size of a file.
    ///
    /// # Errors
    /// The file system's.
    fn bytes(&self, file: &Self::File) -> Result<u64, Error>;

    /// Fills the buffer from a place in the file; never through a map.
    ///
    /// # Errors
    /// The device's, or the file ends before the buffer is full.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Writes within the file's size.
    ///
    /// # Errors
    /// The device's.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Maps the file: from now on `store` may be used on it.
    ///
    /// # Errors
    /// The kernel's.
    fn map(&self, file: &mut Self::File) -> Result<(), Error>;

    /// Copies bytes into a mapped file, within its size.
    ///
    /// # Errors
    /// Only of a simulated disk: on a real one a store that fails is SIGBUS, which ends the
    /// process (status 74).
    ///
    /// # Panics
    /// If the file is not mapped or the range leaves it: a bug of the caller.
    fn store(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Makes everything written or stored into the file durable: fdatasync(2).
    ///
    /// # Errors
    /// The device's. What was written since the last good sync is then lost or not: nobody knows.
    fn sync(&self, file: &Self::File) -> Result<(), Error>;

    /// From now on whole blocks of this file go directly between an [`Aligned`] buffer and the device,
    /// without a copy in the page cache: that takes a small part of the processor's time, and leaves
    /// nothing for others' syncs to wait for. The rest, and all of it where the file system cannot
    /// do that, goes through the cache. It is as durable as before: when `sync` returned.
    fn bypass_cache(&self, file: &mut Self::File);

    /// Drops the file's clean pages from the page cache: the next read asks the device.
    fn drop_cache(&self, file: &Self::File);

    /// Asks for a range of the file to be in the page cache soon, so that a store into the map
    /// does not wait for the device. Returns at once.
    fn fetch(&self, file: &Self::File, offset: u64, bytes: u64);

    /// Renames within one directory, replacing what has the new name.
    ///
    /// # Errors
    /// The file system's.
    fn rename(&self, from: &str, to: &str) -> Result<(), Error>;

    /// Removes a file. Who has it open still may find it cut.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&self, name: &str) -> Result<(), Error>;

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The device's.
    fn sync_dir(&self, dir: &str) -> Result<(), Error>;

    /// Bytes that could still be allocated.
    ///
    /// # Errors
    /// The file system's.
    fn available_bytes(&self) -> Result<u64, Error>;
}

/// The directory of a file.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The names of the files in a directory of a real file system, see [`Disk::list`].
fn list(root: &Path, dir: &str) -> Result<Vec<String>, Error> {
    let failed = |cause| Error::new("list", dir, cause);
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(root.join(dir)) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(cause) => return Err(failed(cause)),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Opens a file: nothing else that somebody may have put there. Whoever opens a FIFO would wait for its
/// other end.
fn open(root: &Path, name: &str, options: &mut OpenOptions) -> Result<File, Error> {
    let options = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let opened = options.open(root.join(name)).and_then(|file| {
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        let what = "it is no regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    });
    opened.map_err(|cause| Error::new("open", name, cause))
}

/// Refuses everything after the first failed write, store or sync: what is on the disk is then
/// unknown, and the only way to learn it is to start again.
///
/// A full disk while a file is made or resized does not latch: nothing was promised yet.
#[derive(Debug)]
pub struct Latched<D> {
    disk: D,
    failed: Cell<bool>,
}

impl<D: Disk> Latched<D> {
    /// Wraps a disk on which nothing has failed yet.
    pub fn new(disk: D) -> Self {
        Self {
            disk,
            failed: Cell::new(false),
        }
    }

    /// The disk inside, for what needs no protection.
    pub fn inner(&self) -> &D {
        &self.disk
    }

    /// Whether an operation has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    fn check(&self, operation: &'static str, name: &str) -> Result<(), Error> {
        if self.failed.get() {
            let cause = io::Error::other("refused after an earlier failure of this disk");
            return Err(Error::new(operation, name, cause));
        }
        Ok(())
    }

    fn latch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.failed.set(true);
        }
        result
    }
}

impl<D: Disk> Disk for Latched<D> {
    type File = D::File;

    fn create_dir(&self, name: &str) -> Result<(), Error> {
        self.check("create", name)?;
        self.disk.create_dir(name)
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        self.check("list", dir)?;
        self.disk.list(dir)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<D::File, Error> {
        self.check("create", name)?;
        self.disk.create(name, bytes)
    }

    fn resize(&self, file: &D::File, bytes: u64) -> Result<(), Error> {
        self.check("resize", "a file")?;
        self.disk.resize(file, bytes)
    }

    fn open(&self, name: &str) -> Result<D::File, Error> {
        self.check("open", name)?;
        self.disk.open(name)
    }

    fn bytes(&self, file: &D::File) -> Result<u64, Error> {
        self.check("measure", "a file")?;
        self.disk.bytes(file)
    }

    fn read_at(&self, file: &D::File, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.check("read", "a file")?;
        self.disk.read_at(file, offset, buffer)
    }

    fn write_at(&self, file: &D::File, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.check("write", "a file")?;
        self.latch(self.disk.write_at(file, offset, bytes))
    }

    fn map(&self, file: &mut D::File) -> Result<(), Error> {
        self.check("map", "a file")?;
        self.disk.map(file)
    }

    fn store(&self, file: &D::File, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.check("store into", "a file")?;
        self.latch(self.disk.store(file, offset, bytes))
    }

    fn sync(&self, file: &D::File) -> Result<(), Error> {
        self.check("sync", "a file")?;
        self.latch(self.disk.sync(file))
    }

    fn bypass_cache(&self, file: &mut D::File) {
        self.disk.bypass_cache(file);
    }

    fn drop_cache(&self, file: &D::File) {
        self.disk.drop_cache(file);
    }

    fn fetch(&self, file: &D::File, offset: u64, bytes: u64) {
        self.disk.fetch(file, offset, bytes);
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.check("rename", from)?;
        self.latch(self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.check("remove", name)?;
        self.latch(self.disk.remove(name))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        self.check("sync", dir)?;
        self.latch(self.disk.sync_dir(dir))
    }

    fn available_bytes(&self) -> Result<u64, Error> {
        self.disk.available_bytes()
    }
}
