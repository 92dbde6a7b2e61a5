//! A directory that is only looked at.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Disk, Error, Meter};

/// A directory of a real file system whose files are opened for reading only: for tools that look
/// at a data directory, which may be a backup, on a medium that cannot be written, or another
/// user's. Everything that would change something is refused.
#[derive(Clone, Debug)]
pub struct ReadOnly {
    root: PathBuf,
    meter: Meter,
}

/// An open file.
#[derive(Debug)]
pub struct ReadOnlyFile {
    name: String,
    file: File,
}

impl ReadOnly {
    /// The files below `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let meter = Meter::default();
        Self { root, meter }
    }

    /// The same, counted by this meter.
    #[must_use]
    pub fn metered(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }
}

fn refuse<T>(operation: &'static str, name: &str) -> Result<T, Error> {
    let cause = io::ErrorKind::ReadOnlyFilesystem.into();
    Err(Error::new(operation, name, cause))
}

impl Disk for ReadOnly {
    type File = ReadOnlyFile;

    fn create_dir(&self, name: &str) -> Result<(), Error> {
        refuse("create", name)
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        super::list(&self.root, dir)
    }

    fn create(&self, name: &str, _: u64) -> Result<ReadOnlyFile, Error> {
        refuse("create", name)
    }

    fn resize(&self, file: &ReadOnlyFile, _: u64) -> Result<(), Error> {
        refuse("resize", &file.name)
    }

    fn open(&self, name: &str) -> Result<ReadOnlyFile, Error> {
        let file = super::open(&self.root, name, OpenOptions::new().read(true))?;
        Ok(ReadOnlyFile {
            name: name.to_owned(),
            file,
        })
    }

    fn bytes(&self, file: &ReadOnlyFile) -> Result<u64, Error> {
        let metadata = file.file.metadata();
        let metadata = metadata.map_err(|cause| Error::new("measure", &file.name, cause))?;
        Ok(metadata.len())
    }

    fn read_at(&self, file: &ReadOnlyFile, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = file.file.read_exact_at(buffer, offset);
        read.map_err(|cause| Error::new("read", &file.name, cause))?;
        self.meter.add(buffer.len());
        Ok(())
    }

    fn write_at(&self, file: &ReadOnlyFile, _: u64, _: &[u8]) -> Result<(), Error> {
        refuse("write", &file.name)
    }

    fn map(&self, file: &mut ReadOnlyFile) -> Result<(), Error> {
        refuse("map", &file.name)
    }

    fn store(&self, file: &ReadOnlyFile, _: u64, _: &[u8]) -> Result<(), Error> {
        refuse("store into", &file.name)
    }

    fn sync(&self, file: &ReadOnlyFile) -> Result<(), Error> {
        refuse("sync", &file.name)
    }

    fn bypass_cache(&self, _: &mut ReadOnlyFile) {}

    fn drop_cache(&self, _: &ReadOnlyFile) {}

    fn fetch(&self, _: &ReadOnlyFile, _: u64, _: u64) {}

    fn rename(&self, from: &str, _: &str) -> Result<(), Error> {
        refuse("rename", from)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        refuse("remove", name)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        refuse("sync", dir)
    }

    fn available_bytes(&self) -> Result<u64, Error> {
        refuse("measure", "the file system")
    }
}
