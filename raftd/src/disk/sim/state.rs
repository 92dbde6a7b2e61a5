//! What all handles on one simulated disk share: its files, its directory, its planned faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::inode::Inode;
use super::random::Random;
use super::{Fault, Operation};
use crate::disk::parent;

/// The disk itself.
///
/// Invariant: `names` is `durable_names` with all of `directory_changes` applied, in order.
#[derive(Debug)]
pub(super) struct State {
    pub(super) life: u64,
    pub(super) running: bool,
    pub(super) random: Random,
    pub(super) capacity_bytes: u64,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) direct_bytes: u64,
    /// How often the durable names have changed.
    pub(super) name_changes: u64,
    /// Syncs return at once and do nothing.
    pub(super) lies: bool,
    /// By the number of the operation.
    pub(super) faults: BTreeMap<u64, Fault>,
    /// For the next operation of its kind.
    pub(super) armed: Vec<(Operation, Fault)>,
    pub(super) out_of_files: bool,
    /// How many more reads succeed; `None` for all.
    pub(super) reads_left: Option<u64>,
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<String, usize>,
    pub(super) durable_names: BTreeMap<String, usize>,
    directory_changes: Vec<DirectoryChange>,
    directories: BTreeSet<String>,
    /// Of these, the ones that may not be there after a loss of power, with all that is in them.
    fleeting_directories: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct DirectoryChange {
    /// Removed from the directory, if it is there.
    removed: Option<String>,
    /// Added to it.
    added: Option<(String, usize)>,
}

impl DirectoryChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        if let Some(name) = self.removed {
            names.remove(&name);
        }
        if let Some((name, inode)) = self.added {
            names.insert(name, inode);
        }
    }

    /// Changes stay within one directory: which.
    fn dir(&self) -> Option<&str> {
        let added = self.added.as_ref().map(|(name, _)| name);
        self.removed.as_ref().or(added).map(|name| parent(name))
    }
}

impl State {
    pub(super) fn new(seed: u64, capacity_bytes: u64) -> Self {
        Self {
            life: 0,
            running: true,
            random: Random(seed),
            capacity_bytes,
            operations: 0,
            syncs: 0,
            direct_bytes: 0,
            name_changes: 0,
            lies: false,
            faults: BTreeMap::new(),
            armed: Vec::new(),
            out_of_files: false,
            reads_left: None,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            directory_changes: Vec::new(),
            directories: BTreeSet::new(),
            fleeting_directories: BTreeSet::new(),
        }
    }

    /// The same content under another seed, with nothing planned.
    pub(super) fn fork(&self, seed: u64) -> Self {
        Self {
            inodes: self.inodes.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            directory_changes: self.directory_changes.clone(),
            directories: self.directories.clone(),
            fleeting_directories: self.fleeting_directories.clone(),
            ..Self::new(seed, self.capacity_bytes)
        }
    }

    /// Counts an operation; the fault that was planned for it, if any.
    pub(super) fn next_fault(&mut self, operation: Operation) -> Option<Fault> {
        self.operations += 1;
        if !self.faults.is_empty() {
            let planned = self.faults.remove(&self.operations);
            if planned.is_some() {
                return planned;
            }
        }
        let armed = self.armed.iter().position(|(kind, _)| *kind == operation)?;
        Some(self.armed.remove(armed).1)
    }

    pub(super) fn forget_faults(&mut self) {
        self.faults.clear();
        self.armed.clear();
    }

    pub(super) fn has_name(&self, inode: usize) -> bool {
        self.names.values().any(|named| *named == inode)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let inodes = self.names.values();
        inodes.map(|inode| self.inodes[*inode].bytes() as u64).sum()
    }

    /// The file of this name.
    ///
    /// # Panics
    /// If there is none: a bug of the test.
    pub(super) fn file(&mut self, name: &str) -> &mut Inode {
        let inode = *self.names.get(name).expect("the file exists");
        &mut self.inodes[inode]
    }

    /// Refuses what the disk has no room for.
    fn reserve(&self, bytes: u64) -> Result<(), io::Error> {
        // Any number may be asked for: a peer tells how long its file is.
        if bytes > self.capacity_bytes.saturating_sub(self.used_bytes()) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Makes a file longer or shorter.
    pub(super) fn resize(&mut self, inode: usize, bytes: u64) -> Result<(), io::Error> {
        self.reserve(bytes.saturating_sub(self.inodes[inode].bytes() as u64))?;
        self.inodes[inode].resize(bytes as usize);
        Ok(())
    }

    /// A new file of zeros, which replaces another of that name.
    pub(super) fn create(&mut self, name: &str, bytes: u64) -> Result<usize, io::Error> {
        self.reserve(bytes)?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::new(bytes as usize));
        self.change_directory(None, Some((name.to_owned(), inode)));
        Ok(inode)
    }

    pub(super) fn create_directory(&mut self, name: &str) {
        if self.directories.insert(name.to_owned()) {
            self.fleeting_directories.insert(name.to_owned());
        }
    }

    pub(super) fn change_directory(
        &mut self,
        removed: Option<String>,
        added: Option<(String, usize)>,
    ) {
        let change = DirectoryChange { removed, added };
        change.clone().apply(&mut self.names);
        self.directory_changes.push(change);
    }

    pub(super) fn sync(&mut self, inode: usize) {
        self.syncs += 1;
        if !self.lies {
            self.inodes[inode].sync();
        }
    }

    pub(super) fn sync_directory(&mut self, dir: &str) {
        if self.lies {
            return;
        }
        self.fleeting_directories.retain(|made| parent(made) != dir);
        let mut unnamed = Vec::new();
        for change in std::mem::take(&mut self.directory_changes) {
            if change.dir() == Some(dir) {
                let names = change.removed.iter();
                let names = names.chain(change.added.as_ref().map(|(name, _)| name));
                unnamed.extend(names.filter_map(|name| self.durable_names.get(name)));
                change.apply(&mut self.durable_names);
                self.name_changes += 1;
            } else {
                self.directory_changes.push(change);
            }
        }
        for inode in unnamed {
            self.free_unnamed(inode);
        }
    }

    /// What has no name any more, whatever happens, takes no memory.
    fn free_unnamed(&mut self, inode: usize) {
        let added = self.directory_changes.iter();
        let added = added.filter_map(|change| change.added.as_ref());
        let named = self.names.values().chain(self.durable_names.values());
        let mut named = named.chain(added.map(|(_, inode)| inode));
        if named.all(|named| *named != inode) {
            self.inodes[inode] = Inode::new(0);
        }
    }

    /// The name is gone, from the disk too, though it was durable.
    pub(super) fn lose_name(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
        self.name_changes += 1;
        for change in &mut self.directory_changes {
            change.added.take_if(|(added, _)| added == name);
        }
    }

    pub(super) fn lose_power(&mut self) {
        self.running = false;
        // A device that lies about its syncs may lose all that it has not written, not only some.
        let all_old = self.lies && self.random.below(4) > 0;
        for change in std::mem::take(&mut self.directory_changes) {
            if !all_old && self.random.below(2) == 0 {
                change.apply(&mut self.durable_names);
            }
        }
        for lost in std::mem::take(&mut self.fleeting_directories) {
            if all_old || self.random.below(2) == 0 {
                self.durable_names.retain(|name, _| parent(name) != lost);
                self.directories.remove(&lost);
            }
        }
        self.names.clone_from(&self.durable_names);
        self.name_changes += 1;
        for inode in &mut self.inodes {
            if all_old {
                inode.revert_all();
            }
            inode.lose_power(&mut self.random);
        }
        for inode in 0..self.inodes.len() {
            if self.inodes[inode].bytes() > 0 {
                self.free_unnamed(inode);
            }
        }
    }
}
