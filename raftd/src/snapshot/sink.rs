//! Writing a snapshot's file, whoever makes the bytes.

use super::write::{PIECE_BYTES, SYNC_BYTES};
use crate::disk::{Aligned, DIRECT_BYTES, Disk, Error};

/// Room is reserved ahead of what is written, at most so much.
const GROWTH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A file that is written from its start to its end, piece by piece and past the page cache: what it
/// takes of the processor is little, and the log's syncs find nothing of it to wait for.
///
/// Invariants:
/// - `written_bytes` are written, whole blocks until the rest is, within the room of the file; `held` bytes of
///   `piece` come behind them, and are fewer than a piece;
/// - no more than [`SYNC_BYTES`] and a piece are written and not synced.
#[derive(Debug)]
pub(super) struct Sink<F> {
    file: F,
    room_bytes: u64,
    written_bytes: u64,
    unsynced_bytes: u64,
    piece: Aligned,
    held: usize,
}

impl<F> Sink<F> {
    /// For a file with room for so many bytes.
    pub(super) fn new<D: Disk<File = F>>(disk: &D, mut file: F, room_bytes: u64) -> Self {
        disk.bypass_cache(&mut file);
        Self {
            file,
            room_bytes,
            written_bytes: 0,
            unsynced_bytes: 0,
            piece: Aligned::new(PIECE_BYTES),
            held: 0,
        }
    }

    /// Goes on behind the first `bytes`, which stand in the file already.
    pub(super) fn go_on<D: Disk<File = F>>(&mut self, disk: &D, bytes: u64) -> Result<(), Error> {
        self.held = (bytes % DIRECT_BYTES as u64) as usize;
        self.written_bytes = bytes - self.held as u64;
        let held = &mut self.piece[..self.held];
        disk.read_at(&self.file, self.written_bytes, held)
    }

    /// The file.
    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// How long the file is, with what is held.
    pub(super) fn bytes(&self) -> u64 {
        self.written_bytes + self.held as u64
    }

    /// Takes what comes next, and writes the pieces that it fills.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        mut bytes: &[u8],
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.held));
            self.piece[self.held..self.held + now.len()].copy_from_slice(now);
            self.held += now.len();
            if self.held == PIECE_BYTES {
                self.write_held(disk)?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Writes what is held: when nothing follows it.
    pub(super) fn write_rest<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), Error> {
        if self.held > 0 {
            self.write_held(disk)?;
        }
        Ok(())
    }

    /// Writes what is held and makes all of it durable, in a file of just this size, of which the
    /// cache has nothing.
    pub(super) fn finish<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), Error> {
        self.write_rest(disk)?;
        let bytes = self.bytes();
        if self.room_bytes != bytes {
            disk.resize(&self.file, bytes)?;
        }
        disk.sync(&self.file)?;
        disk.drop_cache(&self.file);
        Ok(())
    }

    fn write_held<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), Error> {
        let end = self.bytes();
        if end > self.room_bytes {
            self.reserve(disk, end)?;
        }
        disk.write_at(&self.file, self.written_bytes, &self.piece[..self.held])?;
        self.unsynced_bytes += self.held as u64;
        self.written_bytes = end;
        self.held = 0;
        if self.unsynced_bytes >= SYNC_BYTES {
            disk.sync(&self.file)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Makes room up to `end`, and ahead if it is there: a disk that is nearly full may have just what
    /// is needed.
    fn reserve<D: Disk<File = F>>(&mut self, disk: &D, end: u64) -> Result<(), Error> {
        let ahead = self.room_bytes.min(GROWTH_BYTES_MAX);
        let room_bytes = end.max(self.room_bytes + ahead);
        self.room_bytes = match disk.resize(&self.file, room_bytes) {
            Err(error) if error.is_no_space() => {
                disk.resize(&self.file, end)?;
                end
            }
            resized => resized.map(|()| room_bytes)?,
        };
        Ok(())
    }
}
