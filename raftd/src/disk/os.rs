//! The real disk: a directory, its files, one map. The only `unsafe` of the workspace.
#![expect(
    unsafe_code,
    reason = "copying into a shared map and hooking SIGBUS have no safe form"
)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{Advice, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::io::retry_on_intr;

use super::aligned::direct_bytes;
use super::{Disk, Error, Meter, parent};
use crate::fatal;

/// The most of a file that is removed at once.
const CUT_BYTES: u64 = 1024 * 1024;

/// A directory of a real file system.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
    /// Directories, open: a sync that had to open one could fail for want of a descriptor, and
    /// would be taken for one that lost something.
    dirs: Arc<Mutex<BTreeMap<String, Arc<File>>>>,
    meter: Meter,
}

/// An open file, mapped or not.
///
/// Invariants:
/// - The map covers the file's whole size as of `map`; a mapped file is not resized, the directory
///   is private (0700) and locked, so the file never becomes shorter than the map, unless it is
///   removed: nobody stores into it then.
/// - No reference into the map exists: bytes only go in, by copy.
#[derive(Debug)]
pub struct OsFile {
    name: String,
    file: File,
    map: Option<MmapRaw>,
    /// The same, past the page cache.
    direct: Option<File>,
}

impl OsDisk {
    /// The disk below `root`, which must exist. Hooks SIGBUS: a page of a map that cannot be
    /// read or written ends the process with status 74.
    ///
    /// # Errors
    /// The hook cannot be set, or `root` cannot be opened.
    pub fn new(root: PathBuf) -> Result<Self, Error> {
        // SAFETY: the action only calls `die_in_signal_handler`, which makes two system calls that
        // are async-signal-safe (write, _exit), allocates nothing, takes no lock and never returns.
        let hook = unsafe {
            signal_hook::low_level::register(signal_hook::consts::SIGBUS, || {
                fatal::die_in_signal_handler(
                    b"raftd: the write-ahead log cannot be read or written (SIGBUS)\n\
                      \x20 try: check the disk, then start again\n",
                )
            })
        };
        hook.map_err(|cause| Error::new("hook", "SIGBUS", cause))?;
        let disk = Self {
            root,
            dirs: Arc::default(),
            meter: Meter::default(),
        };
        disk.dir("")?;
        Ok(disk)
    }

    /// The same, counted by this meter.
    #[must_use]
    pub fn metered(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// The directory, kept open from the first time on.
    fn dir(&self, name: &str) -> Result<Arc<File>, Error> {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = dirs.get(name) {
            return Ok(Arc::clone(dir));
        }
        let opened = File::open(self.path(name));
        let dir = Arc::new(opened.map_err(|cause| Error::new("open", name, cause))?);
        dirs.insert(name.to_owned(), Arc::clone(&dir));
        Ok(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl OsFile {
    fn error(&self, operation: &'static str, cause: impl Into<io::Error>) -> Error {
        Error::new(operation, &self.name, cause.into())
    }

    /// Transfers whole blocks past the page cache; `None` if that cannot be done, with this file or
    /// with the blocks of its device.
    fn directly(
        &self,
        bytes: usize,
        transfer: impl FnOnce(&File) -> io::Result<()>,
    ) -> Option<io::Result<()>> {
        let direct = self.direct.as_ref().filter(|_| bytes > 0)?;
        let done = transfer(direct);
        let is_refused = |cause: &io::Error| cause.kind() == io::ErrorKind::InvalidInput;
        (!done.as_ref().is_err_and(is_refused)).then_some(done)
    }

    /// Ends the map: the file is stored into no more.
    pub fn unmap(&mut self) {
        self.map = None;
    }

    /// Drops the clean pages of a range from the page cache. Pages that are mapped stay.
    pub fn drop_range(&self, offset: u64, bytes: u64) {
        let bytes = std::num::NonZeroU64::new(bytes);
        // Advice: when it is not taken, only memory is lost.
        let _ = rustix::fs::fadvise(&self.file, offset, bytes, rustix::fs::Advice::DontNeed);
    }
}

/// Adds what is missing up to `end`, with its room.
fn grow(file: &File, bytes: u64, end: u64) -> Result<(), io::Error> {
    let flags = FallocateFlags::empty();
    // Some file systems end it for a signal that only stops and continues the process.
    let grown = retry_on_intr(|| rustix::fs::fallocate(file, flags, bytes, end - bytes));
    match grown {
        // No fallocate on this file system: what the caller writes reserves the room.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(end),
        other => other.map_err(io::Error::from),
    }
}

/// The file and its size, if it has no other name: whoever has it by one has it whole.
fn nameless(file: File) -> Option<(File, u64)> {
    let metadata = file.metadata().ok()?;
    (metadata.nlink() == 0).then_some((file, metadata.len()))
}

/// Gives the room of a file back, piece by piece: at once, it is one change to the file system, and
/// every sync waits for its end (64 MiB: 14 ms, 1 MiB at a time: 1 ms).
fn cut(file: &File, bytes: u64) {
    for pieces in (1..bytes.div_ceil(CUT_BYTES)).rev() {
        if file.set_len(pieces * CUT_BYTES).is_err() {
            // It goes when the file is closed.
            return;
        }
    }
}

impl Disk for OsDisk {
    type File = OsFile;

    fn create_dir(&self, name: &str) -> Result<(), Error> {
        let made = std::fs::DirBuilder::new()
            .mode(0o700)
            .create(self.path(name));
        match made {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::new("create", name, cause))
            }
            _ => self.dir(name).map(drop),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        super::list(&self.root, dir)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<OsFile, Error> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| Error::new("create", name, cause))?;
        if let Err(cause) = grow(&file, 0, bytes) {
            // The first error counts; a leftover has a temporary name and is removed at start.
            let _ = std::fs::remove_file(&path);
            return Err(Error::new("allocate", name, cause));
        }
        Ok(OsFile {
            name: name.to_owned(),
            file,
            map: None,
            direct: None,
        })
    }

    fn resize(&self, file: &OsFile, bytes: u64) -> Result<(), Error> {
        assert!(file.map.is_none(), "a mapped file keeps its size");
        let before = self.bytes(file)?;
        let resized = if bytes > before {
            grow(&file.file, before, bytes).or_else(|cause| {
                // Some file systems keep what they got before they were full.
                file.file.set_len(before)?;
                Err(cause)
            })
        } else {
            file.file.set_len(bytes)
        };
        resized.map_err(|cause| file.error("resize", cause))
    }

    fn open(&self, name: &str) -> Result<OsFile, Error> {
        let file = super::open(&self.root, name, OpenOptions::new().read(true).write(true))?;
        // No read-ahead: it would build large folios, of which a store through the map dirties the
        // whole (rules E7). Whoever reads much asks for much at once.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)
            .map_err(|cause| Error::new("open", name, cause.into()))?;
        Ok(OsFile {
            name: name.to_owned(),
            file,
            map: None,
            direct: None,
        })
    }

    fn bytes(&self, file: &OsFile) -> Result<u64, Error> {
        match file.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(cause) => Err(file.error("measure", cause)),
        }
    }

    fn read_at(&self, file: &OsFile, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let whole = direct_bytes(offset, buffer);
        let (blocks, rest) = buffer.split_at_mut(whole);
        let behind = offset + whole as u64;
        let read = file
            .directly(whole, |direct| direct.read_exact_at(blocks, offset))
            .unwrap_or_else(|| file.file.read_exact_at(blocks, offset));
        read.and_then(|()| file.file.read_exact_at(rest, behind))
            .map_err(|cause| file.error("read", cause))?;
        self.meter.add(buffer.len());
        Ok(())
    }

    fn write_at(&self, file: &OsFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (blocks, rest) = bytes.split_at(direct_bytes(offset, bytes));
        let behind = offset + blocks.len() as u64;
        let written = file
            .directly(blocks.len(), |direct| direct.write_all_at(blocks, offset))
            .unwrap_or_else(|| file.file.write_all_at(blocks, offset));
        written
            .and_then(|()| file.file.write_all_at(rest, behind))
            .map_err(|cause| file.error("write", cause))?;
        self.meter.add(bytes.len());
        Ok(())
    }

    fn map(&self, file: &mut OsFile) -> Result<(), Error> {
        let failed = |cause| Error::new("map", &file.name, cause);
        let map = MmapRaw::map_raw(&file.file).map_err(failed)?;
        // Small folios behind the map (rules E7); nothing of it in children and core dumps.
        for advice in [Advice::Random, Advice::DontFork, Advice::DontDump] {
            map.advise(advice).map_err(failed)?;
        }
        file.map = Some(map);
        Ok(())
    }

    fn store(&self, file: &OsFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let map = file
            .map
            .as_ref()
            .expect("only a mapped file is stored into");
        let offset = usize::try_from(offset).expect("offsets fit the address space");
        let end = offset.checked_add(bytes.len());
        assert!(
            end.is_some_and(|end| end <= map.len()),
            "a store of {} bytes at {offset} leaves the map of {} bytes",
            bytes.len(),
            map.len()
        );
        // SAFETY: the range was just checked to lie in the map, which is writable and lives as
        // long as `file`. The source is a borrowed slice of other memory: no reference into the
        // map exists anywhere (invariant of `OsFile`), so they do not overlap and no aliasing rule
        // is at stake. One thread owns the active segment, so no other store races this one; the
        // kernel reading a half-copied page is what recovery is made for. The file is not
        // shortened while it has its name (same invariant), and a segment loses that only after
        // another one became the active one; a device error is SIGBUS, which ends us.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                map.as_mut_ptr().add(offset),
                bytes.len(),
            );
        }
        Ok(())
    }

    fn sync(&self, file: &OsFile) -> Result<(), Error> {
        file.file
            .sync_data()
            .map_err(|cause| file.error("sync", cause))
    }

    fn bypass_cache(&self, file: &mut OsFile) {
        // Where that is not supported, the cache serves.
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(self.path(&file.name));
        file.direct = direct.ok();
    }

    fn drop_cache(&self, file: &OsFile) {
        // Advice: when it is not taken, only speed is lost.
        let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn fetch(&self, file: &OsFile, offset: u64, bytes: u64) {
        // Advice too.
        let bytes = std::num::NonZeroU64::new(bytes);
        let _ = rustix::fs::fadvise(&file.file, offset, bytes, rustix::fs::Advice::WillNeed);
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        std::fs::rename(self.path(from), self.path(to))
            .map_err(|cause| Error::new("rename", from, cause))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        let held = super::open(&self.root, name, OpenOptions::new().write(true));
        std::fs::remove_file(&path).map_err(|cause| Error::new("remove", name, cause))?;
        if let Some((file, bytes)) = held.ok().and_then(nameless)
            && bytes > CUT_BYTES
        {
            // What is cut must have no name that a loss of power could bring back.
            self.sync_dir(parent(name))?;
            cut(&file, bytes);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        self.dir(dir)?
            .sync_all()
            .map_err(|cause| Error::new("sync", dir, cause))
    }

    fn available_bytes(&self) -> Result<u64, Error> {
        fs2::available_space(&self.root).map_err(|cause| Error::new("measure", "", cause))
    }
}
