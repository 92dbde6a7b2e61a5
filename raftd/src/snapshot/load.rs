//! From a snapshot to a store.

use std::io::Read;

use wire::types::{ClusterId, EntryId, Epoch};

use super::format::{HEADER_BYTES, Header, TRAILER_BYTES, Trailer};
use super::frames::{FileReader, Frame, Frames, ReadAhead, Stored};
use super::unpack::{Content, Part};
use super::{Error, SnapshotInfo, read_at, snapshot_name};
use crate::disk::Disk;
use crate::store::{Builder, ImageError, Store};

/// What a snapshot must be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of the data.
    pub epoch: Epoch,
    /// The last entry that is part of it.
    pub id: EntryId,
}

impl Expected {
    /// # Errors
    /// [`Error::Foreign`].
    fn check(&self, header: &Header, file: &str) -> Result<(), Error> {
        let head = &header.head;
        let what = if header.cluster != self.cluster {
            format!("it is of cluster {}, not {}", header.cluster, self.cluster)
        } else if head.epoch != self.epoch {
            format!("it is of epoch {}, not {}", head.epoch, self.epoch)
        } else if head.applied != self.id {
            format!("it is as of {}, not {}", head.applied, self.id)
        } else {
            return Ok(());
        };
        Err(Error::Foreign {
            file: file.to_owned(),
            what,
        })
    }
}

/// A snapshot that was read whole, and the state in it.
#[derive(Debug)]
pub struct Loaded {
    /// Its header.
    pub header: Header,
    /// The state.
    pub store: Store,
    /// What there is to say about it in short.
    pub info: SnapshotInfo,
}

/// Builds the store from the chunks of a snapshot, in three parts that can overlap: the next chunk
/// is read, those before it are unpacked on whatever threads there are, and what is unpacked is
/// taken in order.
///
/// Invariant: the builder has what was taken; everything was, when the end was read and the store is
/// whole.
pub struct Loader {
    frames: Frames,
    builder: Builder,
    trailer: Option<Trailer>,
}

impl Loader {
    /// Reads the header of what is called `file`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Foreign`].
    pub fn open(source: &mut impl Read, file: &str, expected: &Expected) -> Result<Self, Error> {
        let frames = Frames::open(source, file)?;
        expected.check(frames.header(), file)?;
        let builder = Builder::new(frames.header().head.clone());
        Ok(Self {
            frames,
            builder,
            trailer: None,
        })
    }

    /// Reads the next chunk; `None` at the end, behind which there is nothing to read.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn next(&mut self, source: &mut impl Read) -> Result<Option<Stored>, Error> {
        match self.frames.next(source)? {
            Frame::Chunk(stored) => Ok(Some(stored)),
            Frame::End(trailer) => {
                self.trailer = Some(trailer);
                Ok(None)
            }
        }
    }

    /// Takes what was unpacked, in the order in which it was read.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn take(&mut self, content: Content) -> Result<(), Error> {
        let taken = match content.part {
            Part::Keys(run) => self.builder.run(run),
            Part::Sessions(images) => images
                .iter()
                .try_for_each(|image| self.builder.session(image)),
        };
        taken.map_err(|error| self.impossible(content.offset, error))
    }

    /// The store, which knows at most so many sessions at a time.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    ///
    /// # Panics
    /// If the end was not read.
    pub fn finish(self, sessions_max: usize) -> Result<Loaded, Error> {
        let trailer = self.trailer.expect("the end was read");
        let at = self.frames.offset();
        let file = self.frames.file();
        let store = self.builder.finish(sessions_max);
        let store = store.map_err(|error| Error::damaged(file, at, error.to_string()))?;
        if store.digest() != trailer.digest {
            let what = "the content has another digest";
            return Err(Error::damaged(file, at, what));
        }
        let header = self.frames.header().clone();
        let info = SnapshotInfo {
            id: header.head.applied,
            bytes: at + TRAILER_BYTES as u64,
            digest: trailer.digest,
        };
        Ok(Loaded {
            header,
            store,
            info,
        })
    }

    fn impossible(&self, offset: u64, error: ImageError) -> Error {
        Error::damaged(self.frames.file(), offset, error.to_string())
    }
}

/// Reads the header of a published snapshot, and nothing else.
///
/// # Errors
/// [`Error::Damaged`]; [`Error::Disk`] if it is not there.
pub fn read_header<D: Disk>(disk: &D, id: EntryId) -> Result<Header, Error> {
    let page = read_at(disk, id, 0, HEADER_BYTES)?;
    let header = Header::decode(&page.bytes);
    header.ok_or_else(|| Error::damaged(&snapshot_name(id), 0, "the header page is damaged"))
}

/// Reads the snapshot `expected.id` and makes the store in it, which knows at most so many sessions
/// at a time.
///
/// # Errors
/// [`Error`]. [`Error::Disk`] if it is not there.
pub fn load<D: Disk>(disk: &D, expected: &Expected, sessions_max: usize) -> Result<Loaded, Error> {
    let name = snapshot_name(expected.id);
    let mut file = disk.open(&name)?;
    disk.bypass_cache(&mut file);
    load_file(disk, &file, &name, expected, sessions_max)
}

/// The same, whatever the file is called.
pub(super) fn load_file<D: Disk>(
    disk: &D,
    file: &D::File,
    name: &str,
    expected: &Expected,
    sessions_max: usize,
) -> Result<Loaded, Error> {
    let mut ahead = ReadAhead::new();
    let mut source = FileReader::new(disk, file, &mut ahead, 0, disk.bytes(file)?);
    let mut loader = Loader::open(&mut source, name, expected)?;
    while let Some(stored) = loader.next(&mut source)? {
        loader.take(stored.unpack()?)?;
    }
    loader.finish(sessions_max)
}
