//! A disk in memory that loses power on command and fails where it is told to. Deterministic: one
//! seed decides everything that a real disk leaves open. For tests and the simulator.
//!
//! The model is harsher than the hardware that rules D2 assume. What was synced stays. At a loss of
//! power every 512-byte sector that was written and not synced is, independently, old, new or
//! garbage; every change of a directory that was not synced happened or not; a file whose size was
//! never synced is whole or empty. A sync that fails marks what it should have written as clean:
//! it reads back as new until the cache is dropped, and is old afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Error, SECTOR_BYTES};

const SECTOR: usize = SECTOR_BYTES as usize;

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

/// A handle on the disk, of one life of the process. Handles of an earlier life refuse to work.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    life: u64,
}

/// An open file.
#[derive(Debug)]
pub struct SimFile {
    name: String,
    inode: usize,
    mapped: bool,
}

#[derive(Debug)]
struct State {
    life: u64,
    running: bool,
    random: u64,
    capacity_bytes: u64,
    operations: u64,
    syncs: u64,
    faults: BTreeMap<u64, Fault>,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    directory_changes: Vec<DirectoryChange>,
}

/// Invariant: `cached` and `durable` differ at most in the sectors of `dirty` and `lost`.
#[derive(Clone, Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    size_is_durable: bool,
    /// Written, not synced.
    dirty: BTreeSet<usize>,
    /// A sync of them failed: clean to the kernel, and not on the disk.
    lost: BTreeSet<usize>,
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone, Debug)]
struct DirectoryChange {
    /// Removed from the directory, if it is there.
    removed: Option<String>,
    /// Added to it.
    added: Option<(String, usize)>,
}

impl SimDisk {
    /// An empty disk of this size.
    #[must_use]
    pub fn new(seed: u64, capacity_bytes: u64) -> Self {
        let state = State {
            life: 0,
            running: true,
            random: seed,
            capacity_bytes,
            operations: 0,
            syncs: 0,
            faults: BTreeMap::new(),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            directory_changes: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            life: 0,
        }
    }

    /// Operations that changed something, so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Files synced, so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Lets the `operation`-th change from the disk's beginning fail; the first is 1.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Whether a fault stopped everything: [`SimDisk::restart`] is next.
    #[must_use]
    pub fn is_down(&self) -> bool {
        !self.state().running
    }

    /// The power fails now.
    pub fn power_loss(&self) {
        let mut state = self.state();
        state.running = false;
        state.lose_power();
    }

    /// The next life of the process on what is left.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state();
        state.life += 1;
        state.running = true;
        state.faults.clear();
        Self {
            state: Arc::clone(&self.state),
            life: state.life,
        }
    }

    /// Another disk with the same content, cache and all, that goes its own way from here.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = self.state();
        let fork = State {
            life: 0,
            running: true,
            random: seed,
            capacity_bytes: state.capacity_bytes,
            operations: 0,
            syncs: 0,
            faults: BTreeMap::new(),
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            directory_changes: state.directory_changes.clone(),
        };
        Self {
            state: Arc::new(Mutex::new(fork)),
            life: 0,
        }
    }

    /// What a file holds; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.names.get(name)?;
        Some(state.inodes[inode].cached.clone())
    }

    /// Changes a file behind everyone's back: bit rot, an old backup.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = *state.names.get(name).expect("the file exists");
        let inode = &mut state.inodes[inode];
        change(&mut inode.cached);
        inode.durable.clone_from(&inode.cached);
        inode.dirty.clear();
        inode.lost.clear();
    }

    /// Reads that touch this range of a file fail with EIO.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, name: &str, range: Range<u64>) {
        let mut state = self.state();
        let inode = *state.names.get(name).expect("the file exists");
        state.inodes[inode].unreadable.push(range);
    }

    /// Changes the size of the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if this life goes on.
    fn alive(&self, operation: &'static str, name: &str) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.running && state.life == self.life {
            return Ok(state);
        }
        let cause = io::Error::other("the simulated machine is down");
        Err(Error::new(operation, name, cause))
    }

    /// Does one change, unless a fault is planned for it.
    fn change<T>(
        &self,
        operation: &'static str,
        name: &str,
        change: impl FnOnce(&mut State) -> Result<T, io::Error>,
    ) -> Result<T, Error> {
        let mut state = self.alive(operation, name)?;
        state.operations += 1;
        let number = state.operations;
        let failed = |cause: io::Error| Err(Error::new(operation, name, cause));
        match state.faults.remove(&number) {
            None => change(&mut state).or_else(failed),
            Some(Fault::Io) => {
                if operation == "sync" {
                    state.fail_sync(name);
                }
                failed(io::Error::from_raw_os_error(
                    rustix::io::Errno::IO.raw_os_error(),
                ))
            }
            Some(Fault::NoSpace) => failed(io::Error::from(io::ErrorKind::StorageFull)),
            Some(fault) => {
                // A sync under way has reached any of its sectors, or none.
                if operation != "sync" || fault == Fault::Kill {
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

impl State {
    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn used_bytes(&self) -> u64 {
        let sizes = self
            .names
            .values()
            .map(|inode| self.inodes[*inode].cached.len() as u64);
        sizes.sum()
    }

    fn write(&mut self, inode: usize, offset: u64, bytes: &[u8]) {
        let inode = &mut self.inodes[inode];
        let from = offset as usize;
        inode.cached[from..from + bytes.len()].copy_from_slice(bytes);
        for sector in from / SECTOR..(from + bytes.len()).div_ceil(SECTOR) {
            inode.lost.remove(&sector);
            inode.dirty.insert(sector);
        }
    }

    fn sync(&mut self, inode: usize) {
        self.syncs += 1;
        let inode = &mut self.inodes[inode];
        for sector in std::mem::take(&mut inode.dirty) {
            inode.copy(sector, true);
        }
        inode.size_is_durable = true;
    }

    fn fail_sync(&mut self, name: &str) {
        if let Some(inode) = self.names.get(name) {
            let inode = &mut self.inodes[*inode];
            inode.lost.append(&mut inode.dirty);
        }
    }

    fn apply(names: &mut BTreeMap<String, usize>, change: DirectoryChange) {
        if let Some(name) = change.removed {
            names.remove(&name);
        }
        if let Some((name, inode)) = change.added {
            names.insert(name, inode);
        }
    }

    fn change_directory(&mut self, removed: Option<String>, added: Option<(String, usize)>) {
        let change = DirectoryChange { removed, added };
        Self::apply(&mut self.names, change.clone());
        self.directory_changes.push(change);
    }

    fn sync_directory(&mut self, dir: &str) {
        let changes = std::mem::take(&mut self.directory_changes);
        for change in changes {
            let name = change
                .removed
                .as_ref()
                .or(change.added.as_ref().map(|(name, _)| name));
            if name.is_some_and(|name| parent(name) == dir) {
                Self::apply(&mut self.durable_names, change);
            } else {
                self.directory_changes.push(change);
            }
        }
    }

    fn lose_power(&mut self) {
        for change in std::mem::take(&mut self.directory_changes) {
            if self.draw().is_multiple_of(2) {
                Self::apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        for n in 0..self.inodes.len() {
            let mut inode = std::mem::take(&mut self.inodes[n]);
            for sector in std::mem::take(&mut inode.lost) {
                inode.copy(sector, false);
            }
            for sector in std::mem::take(&mut inode.dirty) {
                match self.draw() % 3 {
                    0 => {}
                    1 => inode.copy(sector, true),
                    _ => {
                        for at in inode.sector(sector) {
                            inode.durable[at] = self.draw() as u8;
                        }
                    }
                }
            }
            if !inode.size_is_durable && self.draw().is_multiple_of(2) {
                inode.durable.clear();
            }
            inode.size_is_durable = true;
            inode.cached.clone_from(&inode.durable);
            self.inodes[n] = inode;
        }
    }
}

impl Inode {
    fn sector(&self, sector: usize) -> Range<usize> {
        sector * SECTOR..((sector + 1) * SECTOR).min(self.cached.len())
    }

    /// From the cache to the disk, or back.
    fn copy(&mut self, sector: usize, to_disk: bool) {
        let range = self.sector(sector);
        if to_disk {
            self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        } else {
            self.cached[range.clone()].copy_from_slice(&self.durable[range]);
        }
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir(&self, name: &str) -> Result<(), Error> {
        // Directories are where their files are; losing one would only lose those.
        self.alive("create", name).map(|_| ())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let state = self.alive("list", dir)?;
        let files = state.names.keys().filter(|name| parent(name) == dir);
        Ok(files
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<SimFile, Error> {
        self.change("allocate", name, |state| {
            if state.used_bytes() + bytes > state.capacity_bytes {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode {
                cached: vec![0; bytes as usize],
                durable: vec![0; bytes as usize],
                ..Inode::default()
            });
            state.change_directory(None, Some((name.to_owned(), inode)));
            Ok(SimFile {
                name: name.to_owned(),
                inode,
                mapped: false,
            })
        })
    }

    fn open(&self, name: &str) -> Result<SimFile, Error> {
        let state = self.alive("open", name)?;
        match state.names.get(name) {
            Some(inode) => Ok(SimFile {
                name: name.to_owned(),
                inode: *inode,
                mapped: false,
            }),
            None => Err(Error::new("open", name, io::ErrorKind::NotFound.into())),
        }
    }

    fn bytes(&self, file: &SimFile) -> Result<u64, Error> {
        let state = self.alive("measure", &file.name)?;
        Ok(state.inodes[file.inode].cached.len() as u64)
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let state = self.alive("read", &file.name)?;
        let inode = &state.inodes[file.inode];
        let end = offset + buffer.len() as u64;
        let failed = |cause| Err(Error::new("read", &file.name, cause));
        if inode
            .unreadable
            .iter()
            .any(|bad| bad.start < end && offset < bad.end)
        {
            let errno = rustix::io::Errno::IO.raw_os_error();
            return failed(io::Error::from_raw_os_error(errno));
        }
        match inode.cached.get(offset as usize..end as usize) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => return failed(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_at(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.change("write", &file.name, |state| {
            state.write(file.inode, offset, bytes);
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
        self.change("store into", &file.name, |state| {
            state.write(file.inode, offset, bytes);
            Ok(())
        })
    }

    fn sync(&self, file: &SimFile) -> Result<(), Error> {
        self.change("sync", &file.name, |state| {
            state.sync(file.inode);
            Ok(())
        })
    }

    fn fetch(&self, _file: &SimFile, _offset: u64, _bytes: u64) {}

    fn drop_cache(&self, file: &SimFile) {
        let mut state = self.state();
        let inode = &mut state.inodes[file.inode];
        for sector in std::mem::take(&mut inode.lost) {
            inode.copy(sector, false);
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change("rename", from, |state| match state.names.get(from) {
            Some(inode) => {
                let added = (to.to_owned(), *inode);
                state.change_directory(Some(from.to_owned()), Some(added));
                Ok(())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.change("remove", name, |state| {
            state.change_directory(Some(name.to_owned()), None);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        // Not "sync", whose failure is about a file's pages.
        self.change("sync directory", dir, |state| {
            state.sync_directory(dir);
            Ok(())
        })
    }

    fn available_bytes(&self) -> Result<u64, Error> {
        let state = self.alive("measure", "the disk")?;
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &SimDisk, name: &str, sectors: u64) -> SimFile {
        let mut file = disk.create(name, sectors * SECTOR_BYTES).unwrap();
        disk.map(&mut file).unwrap();
        file
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_is_old_new_or_garbage() {
        let (mut old, mut new, mut garbage) = (0, 0, 0);
        for seed in 0..8 {
            let disk = SimDisk::new(seed, 1 << 20);
            let a = file(&disk, "d/a", 100);
            disk.store(&a, 0, &[1; 50 * SECTOR]).unwrap();
            disk.sync(&a).unwrap();
            disk.sync_dir("d").unwrap();
            disk.store(&a, 40 * SECTOR_BYTES, &[2; 20 * SECTOR])
                .unwrap();
            disk.power_loss();
            let left = disk.restart().content("d/a").expect("its name was synced");
            assert!(left[..40 * SECTOR].iter().all(|byte| *byte == 1));
            assert!(left[60 * SECTOR..].iter().all(|byte| *byte == 0));
            for (n, sector) in left[40 * SECTOR..60 * SECTOR].chunks(SECTOR).enumerate() {
                let before = u8::from(n < 10);
                match sector {
                    s if s.iter().all(|byte| *byte == before) => old += 1,
                    s if s.iter().all(|byte| *byte == 2) => new += 1,
                    _ => garbage += 1,
                }
            }
        }
        assert!(
            old > 20 && new > 20 && garbage > 20,
            "{old} {new} {garbage}"
        );
    }

    #[test]
    fn names_are_durable_once_their_directory_is_synced() {
        let lost = (0..16).filter(|seed| {
            let disk = SimDisk::new(*seed, 1 << 20);
            file(&disk, "d/a", 1);
            disk.sync_dir("d").unwrap();
            file(&disk, "d/b", 1);
            disk.power_loss();
            let disk = disk.restart();
            assert!(disk.content("d/a").is_some());
            disk.content("d/b").is_none()
        });
        assert!((1..16).contains(&lost.count()));
    }

    #[test]
    fn a_failed_sync_looks_clean_until_the_cache_is_dropped() {
        let disk = SimDisk::new(1, 1 << 20);
        let a = file(&disk, "a", 1);
        disk.sync(&a).unwrap();
        disk.store(&a, 0, &[7; SECTOR]).unwrap();
        disk.fail_at(disk.operations() + 1, Fault::Io);
        assert!(disk.sync(&a).is_err());
        assert!(
            disk.sync(&a).is_ok(),
            "the second sync has nothing to write"
        );
        assert_eq!(disk.content("a").unwrap()[0], 7);
        disk.drop_cache(&a);
        assert_eq!(disk.content("a").unwrap()[0], 0);
    }

    #[test]
    fn handles_of_an_earlier_life_are_dead() {
        let disk = SimDisk::new(1, 1 << 20);
        let a = file(&disk, "a", 1);
        disk.fail_at(disk.operations() + 1, Fault::Kill);
        assert!(disk.store(&a, 0, &[7]).is_err());
        assert!(disk.is_down());
        let next = disk.restart();
        assert!(disk.sync(&a).is_err());
        assert_eq!(
            next.content("a").unwrap()[0],
            7,
            "the cache survives a kill"
        );
    }

    #[test]
    fn a_full_disk_refuses_files() {
        let disk = SimDisk::new(1, 4 * SECTOR_BYTES);
        file(&disk, "a", 3);
        let error = disk.create("b", 2 * SECTOR_BYTES).unwrap_err();
        assert!(error.is_no_space());
        assert!(disk.content("b").is_none());
    }
}
