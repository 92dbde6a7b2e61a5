//! Verifying a snapshot in constant memory, from a file or a pipe.

use std::io::Read;

use super::format::{ChunkHeader, ChunkKind, Header, TRAILER_BYTES, Trailer};
use super::frames::{Frame, Frames, Stored};
use super::{Error, SnapshotInfo};
use crate::store::digest;

/// A snapshot that was read to its end and is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its header.
    pub header: Header,
    /// Its trailer.
    pub trailer: Trailer,
    /// Its size.
    pub bytes: u64,
}

impl Verified {
    /// What there is to say about it in short.
    #[must_use]
    pub fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            id: self.header.head.applied,
            bytes: self.bytes,
            digest: self.trailer.digest,
        }
    }
}

/// Reads a snapshot chunk by chunk and checks everything that [`super::load`] checks, but for what
/// is impossible in a key or session by itself: for that the digest vouches.
///
/// Invariants: up to here
/// - every chunk is whole, in its place, and its keys are above those before it;
/// - `digest` is that of the head and of what was read.
pub struct Verifier {
    frames: Frames,
    /// Decompressed content.
    buffer: Vec<u8>,
    last_key: Vec<u8>,
    digest: u128,
}

/// What a [`Verifier`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One more chunk, which is sound.
    Chunk(ChunkHeader),
    /// The end.
    End(Verified),
}

impl Verifier {
    /// Reads the header of what is called `file` in errors.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn open(source: &mut impl Read, file: &str) -> Result<Self, Error> {
        let frames = Frames::open(source, file)?;
        let digest = digest::head(&frames.header().head);
        Ok(Self {
            frames,
            buffer: Vec::new(),
            last_key: Vec::new(),
            digest,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.frames.header()
    }

    /// Up to here it is sound: where the next chunk begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.frames.offset()
    }

    /// Reads and checks what comes next. After the end there is nothing to read.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn step(&mut self, source: &mut impl Read) -> Result<Found, Error> {
        match self.frames.next(source)? {
            Frame::Chunk(stored) => {
                self.check(&stored)?;
                Ok(Found::Chunk(stored.header))
            }
            Frame::End(trailer) => {
                let at = self.frames.offset();
                if trailer.digest != self.digest {
                    let what = "the content has another digest";
                    return Err(Error::damaged(self.frames.file(), at, what));
                }
                Ok(Found::End(Verified {
                    header: self.frames.header().clone(),
                    trailer,
                    bytes: at + TRAILER_BYTES as u64,
                }))
            }
        }
    }

    fn check(&mut self, stored: &Stored) -> Result<(), Error> {
        let content = stored.content(&mut self.buffer)?;
        let mut sum = self.digest;
        match stored.header.kind {
            ChunkKind::Keys => {
                let mut last = &self.last_key[..];
                stored.each_key(content, |item| {
                    if item.key <= last {
                        return Err("keys are out of order".to_owned());
                    }
                    last = item.key;
                    sum = sum.wrapping_add(digest::item(&item));
                    Ok(())
                })?;
                self.last_key = last.to_vec();
            }
            ChunkKind::Sessions => stored.each_session(content, |image| {
                sum = sum.wrapping_add(digest::session(&image));
            })?,
        }
        self.digest = sum;
        Ok(())
    }
}

/// Verifies all that `source` has; `file` is its name in errors.
///
/// # Errors
/// [`Error::Damaged`].
pub fn verify(source: &mut impl Read, file: &str) -> Result<Verified, Error> {
    let mut verifier = Verifier::open(source, file)?;
    loop {
        if let Found::End(verified) = verifier.step(source)? {
            return Ok(verified);
        }
    }
}
