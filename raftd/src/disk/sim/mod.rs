//! A disk in memory that loses power on command and fails where it is told to. Deterministic: one
//! seed decides everything that a real disk leaves open. For tests and the simulator.
//!
//! The model is harsher than the hardware that rules D2 assume. What was synced stays. At a loss of
//! power every 512-byte sector that was written and not synced is, independently, old, new or
//! garbage; every change of a directory that was not synced happened or not; a size that was not
//! synced is the new one or that of the last sync. A sync that fails marks what it should have
//! written as clean: it reads back as new until the cache is dropped, and is old afterwards.
//!
//! Beyond those assumptions lie bits that rot where they were synced, sectors that cannot be read,
//! a durable name that is lost and syncs that lie; each happens only when it is asked for.
//!
//! Memory holds the newest bytes once, plus the older ones of sectors that are not synced, so that
//! a sync, a fork and a loss of power cost what they change, not what the disk holds.

mod inode;
mod random;
mod state;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::io;
use std::ops::Range;
use std::rc::Rc;

use rustix::io::Errno;

use self::inode::Inode;
use self::state::State;
use super::aligned::direct_bytes;
use super::{Disk, Error, parent};

/// What may go wrong with an operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails while it is under way: it happens in the cache, then everything stops.
    PowerLoss,
    /// The process dies after it: everything stops, the cache survives.
    Kill,
    /// It fails with EIO.
    Io,
    /// It fails with ENOSPC.
    NoSpace,
}

/// What changes something on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Disk::create`].
    Create,
    /// [`Disk::resize`].
    Resize,
    /// [`Disk::write_at`].
    Write,
    /// [`Disk::store`].
    Store,
    /// [`Disk::sync`].
    Sync,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_dir`].
    SyncDir,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "allocate",
            Self::Resize => "resize",
            Self::Write => "write",
            Self::Store => "store into",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "sync directory",
        }
    }
}

/// A handle on the disk, of one life of the process. Handles of an earlier life refuse to work.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
    life: u64,
}

/// An open file.
#[derive(Debug)]
pub struct SimFile {
    name: String,
    inode: usize,
    mapped: bool,
    /// Whole blocks of it go past the cache.
    direct: bool,
}

impl SimDisk {
    /// An empty disk of this size.
    #[must_use]
    pub fn new(seed: u64, capacity_bytes: u64) -> Self {
        Self {
            state: Rc::new(RefCell::new(State::new(seed, capacity_bytes))),
            life: 0,
        }
    }

    /// Operations that changed something, so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Bytes written past the cache, so far.
    #[must_use]
    pub fn direct_bytes(&self) -> u64 {
        self.state().direct_bytes
    }

    /// Files synced, so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// How often the names that would survive a loss of power have changed, so far.
    #[must_use]
    pub fn name_changes(&self) -> u64 {
        self.state().name_changes
    }

    /// Lets the `operation`-th change from the disk's beginning fail; the first is 1. Forgotten at
    /// the next [`SimDisk::restart`].
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Lets the next operation of this kind fail, and the one after it if this was asked for
    /// before. Forgotten at the next [`SimDisk::restart`].
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.state().armed.push((operation, fault));
    }

    /// From now on syncs say that they are done and do nothing: outside the model (rules D2), but
    /// not unheard of. What they should have made durable stays in doubt until an honest one; at a
    /// loss of power each sector has its own fate, or all are old.
    pub fn set_lying(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Lets no file be opened, or again.
    pub fn set_out_of_files(&self, out: bool) {
        self.state().out_of_files = out;
    }

    /// Takes back every fault that is planned.
    pub fn forget_faults(&self) {
        self.state().forget_faults();
    }

    /// Whether a fault stopped everything: [`SimDisk::restart`] is next.
    #[must_use]
    pub fn is_down(&self) -> bool {
        !self.state().running
    }

    /// The power fails now.
    pub fn power_loss(&self) {
        self.state().lose_power();
    }

    /// The next life of the process on what is left.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state();
        state.life += 1;
        state.running = true;
        state.forget_faults();
        Self {
            state: Rc::clone(&self.state),
            life: state.life,
        }
    }

    /// Another disk with the same content, cache and all, that goes its own way from here: nothing
    /// is planned for it, and its operations are counted from 0.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let fork = self.state().fork(seed);
        Self {
            state: Rc::new(RefCell::new(fork)),
            life: 0,
        }
    }

    /// What a file holds, as a reader sees it; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.names.get(name)?;
        Some(state.inodes[inode].content())
    }

    /// The names whose files would be there after a loss of power, whatever it leaves open, with
    /// their sizes in bytes; sorted.
    #[must_use]
    pub fn durable_files(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let size = |inode: &usize| state.inodes[*inode].bytes() as u64;
        let names = state.durable_names.iter();
        names
            .map(|(name, inode)| (name.clone(), size(inode)))
            .collect()
    }

    /// Fills the buffer with what the disk holds, regardless of what the cache has that is newer.
    /// False: no durable name is this one, or its file ends before the buffer is full.
    #[must_use]
    pub fn read_durable(&self, name: &str, offset: u64, buffer: &mut [u8]) -> bool {
        let state = self.state();
        let inode = state.durable_names.get(name);
        inode.is_some_and(|inode| state.inodes[*inode].read_on_disk(offset as usize, buffer))
    }

    /// The numbers of a file's sectors that hold more than zeros on the disk: where rot can do
    /// harm. Empty if there is no such file.
    #[must_use]
    pub fn used_sectors(&self, name: &str) -> Vec<u64> {
        let state = self.state();
        let inode = state.durable_names.get(name);
        inode.map_or(Vec::new(), |inode| state.inodes[*inode].used_sectors())
    }

    /// Changes a file behind everyone's back, on the disk and in the cache: an old backup, a file
    /// that is too short, any damage.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.file(name);
        let mut content = inode.content();
        change(&mut content);
        *inode = Inode::durable(&content);
    }

    /// Flips these bits of one byte where it was synced. A reader sees it, unless the cache holds
    /// something newer.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn rot(&self, name: &str, offset: u64, mask: u8) {
        self.state().file(name).rot(offset as usize, mask);
    }

    /// Reads that touch the sectors of this range fail with EIO, until they are written again.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, name: &str, range: Range<u64>) {
        let mut state = self.state();
        let file = state.file(name);
        file.make_unreadable(range.start as usize, range.end as usize);
    }

    /// So many reads succeed from now on, and every later one fails with EIO: the device went away.
    pub fn end_reads_after(&self, count: u64) {
        self.state().reads_left = Some(count);
    }

    /// A file's name is lost although its directory was synced, and the file with it.
    pub fn lose_name(&self, name: &str) {
        self.state().lose_name(name);
    }

    /// Bytes that its files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Changes the size of the disk. Files stay as they are, also if they do not fit any more.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// The state, if this life goes on.
    fn alive(&self, verb: &'static str, name: &str) -> Result<RefMut<'_, State>, Error> {
        let state = self.state();
        if state.running && state.life == self.life {
            return Ok(state);
        }
        let cause = io::Error::other("the simulated machine is down");
        Err(Error::new(verb, name, cause))
    }

    /// Does one change, unless a fault is planned for it; `synced` is the file of a sync.
    fn change<T>(
        &self,
        operation: Operation,
        name: &str,
        synced: Option<&SimFile>,
        change: impl FnOnce(&mut State) -> Result<T, io::Error>,
    ) -> Result<T, Error> {
        let mut state = self.alive(operation.verb(), name)?;
        let failed = |cause: io::Error| Err(Error::new(operation.verb(), name, cause));
        match state.next_fault(operation) {
            None => change(&mut state).or_else(failed),
            Some(Fault::Io) => {
                if let Some(file) = synced {
                    state.inodes[file.inode].fail_sync();
                }
                failed(io_error())
            }
            Some(Fault::NoSpace) => failed(io::ErrorKind::StorageFull.into()),
            Some(fault) => {
                // A sync under way has reached any of its sectors, or none.
                if operation != Operation::Sync || fault == Fault::Kill {
                    change(&mut state).or_else(failed)?;
                }
                state.running = false;
                if fault == Fault::PowerLoss {
                    state.lose_power();
                }
                failed(io::Error::other("the simulated machine went down"))
            }
        }
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(Errno::IO.raw_os_error())
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir(&self, name: &str) -> Result<(), Error> {
        let mut state = self.alive("create", name)?;
        state.create_directory(name);
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let state = self.alive("list", dir)?;
        let files = state.names.keys().filter(|name| parent(name) == dir);
        Ok(files
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<SimFile, Error> {
        let inode = self.change(Operation::Create, name, None, |state| {
            state.create(name, bytes)
        })?;
        Ok(SimFile {
            name: name.to_owned(),
            inode,
            mapped: false,
            direct: false,
        })
    }

    fn resize(&self, file: &SimFile, bytes: u64) -> Result<(), Error> {
        assert!(!file.mapped, "a mapped file keeps its size");
        self.change(Operation::Resize, &file.name, None, |state| {
            state.resize(file.inode, bytes)
        })
    }

    fn open(&self, name: &str) -> Result<SimFile, Error> {
        let state = self.alive("open", name)?;
        if state.out_of_files {
            return Err(Error::new("open", name, Errno::MFILE.into()));
        }
        match state.names.get(name) {
            Some(inode) => Ok(SimFile {
                name: name.to_owned(),
                inode: *inode,
                mapped: false,
                direct: false,
            }),
            None => Err(Error::new("open", name, io::ErrorKind::NotFound.into())),
        }
    }

    fn bytes(&self, file: &SimFile) -> Result<u64, Error> {
        let state = self.alive("measure", &file.name)?;
        Ok(state.inodes[file.inode].bytes() as u64)
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut state = self.alive("read", &file.name)?;
        let failed = |cause| Err(Error::new("read", &file.name, cause));
        if let Some(left) = &mut state.reads_left {
            let Some(less) = left.checked_sub(1) else {
                return failed(io_error());
            };
            *left = less;
        }
        let inode = &state.inodes[file.inode];
        // The real disk cuts what has no name any more.
        let bytes = if state.has_name(file.inode) {
            inode.bytes() as u64
        } else {
            0
        };
        if offset + buffer.len() as u64 > bytes {
            return failed(io::ErrorKind::UnexpectedEof.into());
        }
        if !inode.read(offset as usize, buffer) {
            return failed(io_error());
        }
        Ok(())
    }

    fn write_at(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.change(Operation::Write, &file.name, None, |state| {
            state.inodes[file.inode].write(offset as usize, bytes);
            if file.direct {
                state.direct_bytes += direct_bytes(offset, bytes) as u64;
            }
            Ok(())
        })
    }

    fn map(&self, file: &mut SimFile) -> Result<(), Error> {
        let _state = self.alive("map", &file.name)?;
        file.mapped = true;
        Ok(())
    }

    fn store(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        assert!(file.mapped, "only a mapped file is stored into");
        self.change(Operation::Store, &file.name, None, |state| {
            state.inodes[file.inode].write(offset as usize, bytes);
            Ok(())
        })
    }

    fn sync(&self, file: &SimFile) -> Result<(), Error> {
        self.change(Operation::Sync, &file.name, Some(file), |state| {
            state.sync(file.inode);
            Ok(())
        })
    }

    fn bypass_cache(&self, file: &mut SimFile) {
        file.direct = true;
    }

    fn drop_cache(&self, file: &SimFile) {
        self.state().inodes[file.inode].drop_cache();
    }

    fn fetch(&self, _file: &SimFile, _offset: u64, _bytes: u64) {}

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change(Operation::Rename, from, None, |state| {
            let Some(inode) = state.names.get(from) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let added = (to.to_owned(), *inode);
            state.change_directory(Some(from.to_owned()), Some(added));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.change(Operation::Remove, name, None, |state| {
            if !state.names.contains_key(name) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.change_directory(Some(name.to_owned()), None);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        self.change(Operation::SyncDir, dir, None, |state| {
            state.sync_directory(dir);
            Ok(())
        })
    }

    fn available_bytes(&self) -> Result<u64, Error> {
        let state = self.alive("measure", "the disk")?;
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }
}
