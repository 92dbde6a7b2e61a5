//! Reading a snapshot in order, piece by piece, from anything that can be read.

use std::io::{self, Read};
use std::sync::Arc;

use super::Error;
use super::format::{
    CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkKind, HEADER_BYTES, Header, Sums,
    TRAILER_BYTES, TRAILER_MAGIC, Trailer,
};
use crate::disk::{Aligned, DIRECT_BYTES, Disk, Error as DiskError};

/// So much is read at once.
const AHEAD_BYTES: usize = 512 * 1024;

/// A chunk as it stands in the file. Nothing of it is verified but that it is where it may be:
/// [`Stored::unpack`] does the rest.
#[derive(Debug)]
pub struct Stored {
    pub(super) file: Arc<str>,
    pub(super) offset: u64,
    pub(super) header: ChunkHeader,
    pub(super) crc: u32,
    /// The header's, too.
    pub(super) bytes: Vec<u8>,
}

/// What comes next.
pub(super) enum Frame {
    Chunk(Stored),
    /// The end of the file.
    End(Trailer),
}

/// A place in a snapshot that is being read.
///
/// Invariants: up to here
/// - chunks are numbered without a gap, and no keys follow sessions;
/// - there are no more keys and sessions than the header announces, and as many at the end;
/// - at the end the trailer's sums fit what was read, and nothing follows.
pub(super) struct Frames {
    file: Arc<str>,
    header: Header,
    sums: Sums,
    kind: ChunkKind,
    keys: u64,
    sessions: u64,
}

impl Frames {
    /// Reads the header page of what is called `file`.
    pub(super) fn open(source: &mut impl Read, file: &str) -> Result<Self, Error> {
        let mut page = [0; HEADER_BYTES];
        fill(source, &mut page).map_err(|what| Error::damaged(file, 0, what))?;
        let Some(header) = Header::decode(&page) else {
            return Err(Error::damaged(file, 0, "the header page is damaged"));
        };
        Ok(Self {
            file: file.into(),
            header,
            sums: Sums::new(&page),
            kind: ChunkKind::Keys,
            keys: 0,
            sessions: 0,
        })
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next piece begins.
    pub(super) fn offset(&self) -> u64 {
        self.sums.offset()
    }

    /// Reads what comes next. After the end there is nothing to read.
    pub(super) fn next(&mut self, source: &mut impl Read) -> Result<Frame, Error> {
        let mut head = [0; CHUNK_HEADER_BYTES];
        self.fill(source, &mut head)?;
        let magic = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        match magic {
            CHUNK_MAGIC => self.chunk(source, &head).map(Frame::Chunk),
            TRAILER_MAGIC => self.end(source, &head).map(Frame::End),
            _ => Err(self.damaged("neither a chunk nor the trailer begins here")),
        }
    }

    fn chunk(
        &mut self,
        source: &mut impl Read,
        head: &[u8; CHUNK_HEADER_BYTES],
    ) -> Result<Stored, Error> {
        let Some((header, crc)) = ChunkHeader::decode(head) else {
            return Err(self.damaged("a chunk's header is damaged"));
        };
        if header.number != self.sums.chunks() || header.kind < self.kind {
            return Err(self.damaged("a chunk is out of order"));
        }
        let (count, announced) = match header.kind {
            ChunkKind::Keys => (&mut self.keys, self.header.head.keys),
            ChunkKind::Sessions => (&mut self.sessions, self.header.head.sessions),
        };
        *count += u64::from(header.items);
        if *count > announced {
            return Err(self.damaged("more items than the header announces"));
        }
        let mut bytes = vec![0; CHUNK_HEADER_BYTES + header.stored_bytes as usize];
        bytes[..CHUNK_HEADER_BYTES].copy_from_slice(head);
        self.fill(source, &mut bytes[CHUNK_HEADER_BYTES..])?;
        let stored = Stored {
            file: Arc::clone(&self.file),
            offset: self.offset(),
            header,
            crc,
            bytes,
        };
        self.kind = header.kind;
        self.sums.add(&header);
        Ok(stored)
    }

    fn end(
        &mut self,
        source: &mut impl Read,
        head: &[u8; CHUNK_HEADER_BYTES],
    ) -> Result<Trailer, Error> {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..CHUNK_HEADER_BYTES].copy_from_slice(head);
        self.fill(source, &mut bytes[CHUNK_HEADER_BYTES..])?;
        let Some(trailer) = Trailer::decode(&bytes) else {
            return Err(self.damaged("the trailer is damaged"));
        };
        if trailer != self.sums.trailer(trailer.digest) {
            return Err(self.damaged("the trailer does not fit the chunks"));
        }
        if (self.keys, self.sessions) != (self.header.head.keys, self.header.head.sessions) {
            return Err(self.damaged("fewer items than the header announces"));
        }
        match fill(source, &mut [0]) {
            Err(Unfilled::End) => Ok(trailer),
            Err(what) => Err(self.damaged(what)),
            Ok(()) => Err(self.damaged("something follows the trailer")),
        }
    }

    fn fill(&self, source: &mut impl Read, buffer: &mut [u8]) -> Result<(), Error> {
        fill(source, buffer).map_err(|what| self.damaged(what))
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.file, self.offset(), what)
    }
}

/// Why a buffer was not filled.
enum Unfilled {
    End,
    Failed(io::Error),
}

impl From<Unfilled> for String {
    fn from(unfilled: Unfilled) -> Self {
        match unfilled {
            Unfilled::End => "the file is cut short".to_owned(),
            // EIO on read is damage at that place (rules D3).
            Unfilled::Failed(cause) => format!("cannot be read: {cause}"),
        }
    }
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<(), Unfilled> {
    source
        .read_exact(buffer)
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => Unfilled::End,
            _ => Unfilled::Failed(cause),
        })
}

/// What was read of a file ahead of who reads it.
///
/// Invariant: the first `bytes` of `buffer` stand in the file from `start` on, a whole block.
#[derive(Debug)]
pub struct ReadAhead {
    buffer: Aligned,
    start: u64,
    bytes: usize,
}

impl ReadAhead {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: Aligned::new(AHEAD_BYTES),
            start: 0,
            bytes: 0,
        }
    }

    /// What is there of the file from `offset` on.
    fn from(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).map(|at| at as usize);
        at.and_then(|at| self.buffer[..self.bytes].get(at..))
            .unwrap_or_default()
    }
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self::new()
    }
}

/// A file of a disk as a stream, from some place on.
pub struct FileReader<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    ahead: &'a mut ReadAhead,
    offset: u64,
    end: u64,
}

impl<'a, D: Disk> FileReader<'a, D> {
    /// From `offset` up to `end`, which is not behind the end of the file. `ahead` is new, or was
    /// that of a reader of this file.
    #[must_use]
    pub fn new(
        disk: &'a D,
        file: &'a D::File,
        ahead: &'a mut ReadAhead,
        offset: u64,
        end: u64,
    ) -> Self {
        Self {
            disk,
            file,
            ahead,
            offset,
            end,
        }
    }

    /// Reads ahead from where it stands.
    fn fetch(&mut self) -> Result<(), DiskError> {
        let ahead = &mut *self.ahead;
        ahead.bytes = 0;
        ahead.start = self.offset - self.offset % DIRECT_BYTES as u64;
        let bytes = (self.end - ahead.start).min(AHEAD_BYTES as u64) as usize;
        self.disk
            .read_at(self.file, ahead.start, &mut ahead.buffer[..bytes])?;
        ahead.bytes = bytes;
        Ok(())
    }
}

impl<D: Disk> Read for FileReader<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (self.end - self.offset).min(buffer.len() as u64) as usize;
        if bytes == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..bytes];
        let is_there = !self.ahead.from(self.offset).is_empty();
        let bytes = if is_there || self.fetch().is_ok() {
            let there = self.ahead.from(self.offset);
            let bytes = bytes.min(there.len());
            buffer[..bytes].copy_from_slice(&there[..bytes]);
            bytes
        } else {
            // What lies ahead cannot be read; what was asked for may still be.
            self.disk
                .read_at(self.file, self.offset, buffer)
                .map_err(|error| error.cause)?;
            bytes
        };
        self.offset += bytes as u64;
        Ok(bytes)
    }
}
