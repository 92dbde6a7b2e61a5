//! Receiving a snapshot, piece by piece, across broken connections and restarts.

use wire::types::EntryId;

use super::format::{HEADER_BYTES, SNAPSHOT_BYTES_MIN};
use super::frames::{FileReader, Frame, Frames, ReadAhead};
use super::load::{Expected, Loaded, load_file};
use super::sink::Sink;
use super::{Error, PARTIAL_SUFFIX, SNAPSHOT_DIR, name, named_id, publish};
use crate::disk::{Disk, Error as DiskError};

/// A snapshot that arrives.
///
/// Invariants:
/// - the file has the name of a part until all of it is durable and was loaded;
/// - it has its whole size, with its room, from the beginning: a full disk is known before anything
///   is sent;
/// - what is received went into `sink`; what of it was found when the transfer went on was verified,
///   and all of it will be.
#[derive(Debug)]
pub struct Receiver<F> {
    id: EntryId,
    total_bytes: u64,
    sink: Sink<F>,
}

impl<F> Receiver<F> {
    /// Goes on with what an earlier transfer of this snapshot left, as far as that is sound, or
    /// begins anew. Parts of other snapshots are removed.
    ///
    /// # Errors
    /// [`Error::Disk`], also if there is no room for so many bytes; [`Error::Foreign`] if no
    /// snapshot is so short.
    pub fn open<D: Disk<File = F>>(disk: &D, id: EntryId, total_bytes: u64) -> Result<Self, Error> {
        let name = part_name(id);
        if total_bytes < SNAPSHOT_BYTES_MIN {
            return Err(Error::Foreign {
                file: name,
                what: format!("no snapshot has {total_bytes} bytes"),
            });
        }
        disk.create_dir(SNAPSHOT_DIR)?;
        remove_other_parts(disk, id)?;
        let (file, sound_bytes) = match disk.open(&name) {
            Ok(file) => {
                let sound_bytes = sound_bytes(disk, &file, id)?;
                (file, sound_bytes)
            }
            Err(error) if error.is_not_found() => (disk.create(&name, HEADER_BYTES as u64)?, 0),
            Err(error) => return Err(error.into()),
        };
        // Of a file of another size there may be more than is sound: its end is no part of this.
        let received_bytes = sound_bytes.min(total_bytes);
        let sized = disk.resize(&file, total_bytes);
        let mut sink = Sink::new(disk, file, total_bytes);
        if let Err(error) = sized.and_then(|()| sink.go_on(disk, received_bytes)) {
            discard(disk, id);
            return Err(error.into());
        }
        Ok(Self {
            id,
            total_bytes,
            sink,
        })
    }

    /// The last entry that is part of the snapshot.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// The size of its file.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How much of it is here, from the start.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.sink.bytes()
    }

    /// Whether all of it is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.received_bytes() == self.total_bytes
    }

    /// Takes the next bytes, and says how many are here now. Bytes that are not the next ones, or
    /// more than the file has, are not taken: what is here says where to go on.
    ///
    /// # Errors
    /// [`Error::Disk`]: what was received is in doubt; [`Receiver::discard`] it, or open it again.
    pub fn write<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, Error> {
        let left = self.total_bytes - self.received_bytes();
        if offset == self.received_bytes() && bytes.len() as u64 <= left {
            self.sink.write(disk, bytes)?;
            if self.is_complete() {
                self.sink.write_rest(disk)?;
            }
        }
        Ok(self.received_bytes())
    }

    /// Makes it durable, reads it again from the device, builds the store from it and gives it its
    /// name.
    ///
    /// # Errors
    /// [`Error`]: what was received is removed, and a transfer begins anew.
    ///
    /// # Panics
    /// If it is not complete.
    pub fn finish<D: Disk<File = F>>(
        mut self,
        disk: &D,
        expected: &Expected,
        sessions_max: usize,
    ) -> Result<Loaded, Error> {
        assert!(self.is_complete(), "all of it was received");
        assert_eq!(self.id, expected.id, "what was asked for was received");
        let loaded = self.publish(disk, expected, sessions_max);
        if loaded.is_err() {
            self.discard(disk);
        }
        loaded
    }

    fn publish<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        expected: &Expected,
        sessions_max: usize,
    ) -> Result<Loaded, Error> {
        let name = part_name(self.id);
        self.sink.finish(disk)?;
        let loaded = load_file(disk, self.sink.file(), &name, expected, sessions_max)?;
        publish(disk, &name, self.id)?;
        Ok(loaded)
    }

    /// Removes what was received.
    pub fn discard<D: Disk<File = F>>(self, disk: &D) {
        discard(disk, self.id);
    }
}

fn discard<D: Disk>(disk: &D, id: EntryId) {
    // What is left is verified before it is gone on with, or removed at the next start.
    let _ = disk.remove(&part_name(id));
}

fn part_name(id: EntryId) -> String {
    name(id, PARTIAL_SUFFIX)
}

/// How much from the start of a part is sound: whole chunks, or the whole snapshot.
fn sound_bytes<D: Disk>(disk: &D, file: &D::File, id: EntryId) -> Result<u64, DiskError> {
    let end = disk.bytes(file)?;
    // What a process wrote that was killed, or whose sync failed, is not what the device has.
    disk.sync(file)?;
    disk.drop_cache(file);
    let mut ahead = ReadAhead::new();
    let mut source = FileReader::new(disk, file, &mut ahead, 0, end);
    let Ok(mut frames) = Frames::open(&mut source, &part_name(id)) else {
        return Ok(0);
    };
    if frames.header().head.applied != id {
        return Ok(0);
    }
    let mut buffer = Vec::new();
    loop {
        let offset = frames.offset();
        match frames.next(&mut source) {
            Ok(Frame::Chunk(stored)) if stored.content(&mut buffer).is_ok() => {}
            Ok(Frame::Chunk(_)) | Err(_) => return Ok(offset),
            Ok(Frame::End(_)) => return Ok(end),
        }
    }
}

fn remove_other_parts<D: Disk>(disk: &D, id: EntryId) -> Result<(), DiskError> {
    for file_name in disk.list(SNAPSHOT_DIR)? {
        if named_id(&file_name, PARTIAL_SUFFIX).is_some_and(|other| other != id) {
            disk.remove(&format!("{SNAPSHOT_DIR}/{file_name}"))?;
        }
    }
    Ok(())
}
