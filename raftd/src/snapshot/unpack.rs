//! Opening chunks: everything about one that needs no other.

use bytes::Buf;
use lz4_flex::block::decompress_into;
use wire::client::Item;
use wire::command::Outcome;
use wire::types::{EntryId, Index, Term};
use xxhash_rust::xxh3::xxh3_128;

use super::Error;
use super::format::{CHUNK_HEADER_BYTES, ChunkKind};
use super::frames::Stored;
use crate::store::session::KEPT_PER_SESSION_MAX;
use crate::store::{Kept, Run, SessionImage};

/// What is in a chunk, ready to be put in a state.
#[derive(Debug)]
pub struct Content {
    /// Where the chunk stands.
    pub(super) offset: u64,
    pub(super) part: Part,
}

#[derive(Debug)]
pub(super) enum Part {
    Keys(Run),
    Sessions(Vec<SessionImage>),
}

impl Stored {
    /// Verifies and decodes it. Costly, and of no other chunk's concern: on any thread.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn unpack(&self) -> Result<Content, Error> {
        let mut buffer = Vec::new();
        let content = self.content(&mut buffer)?;
        let part = match self.header.kind {
            ChunkKind::Keys => {
                let mut run = Run::default();
                self.each_key(content, |item| {
                    run.push(item).map_err(|error| error.to_string())
                })?;
                Part::Keys(run)
            }
            ChunkKind::Sessions => {
                let mut images = Vec::new();
                self.each_session(content, |image| images.push(image))?;
                Part::Sessions(images)
            }
        };
        Ok(Content {
            offset: self.offset,
            part,
        })
    }

    /// The content, verified; in `buffer` if it had to be decompressed.
    pub(super) fn content<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
        if crc32fast::hash(&self.bytes[8..]) != self.crc {
            return Err(self.damaged("a chunk's checksum is wrong"));
        }
        let mut content = &self.bytes[CHUNK_HEADER_BYTES..];
        if self.header.is_compressed() {
            buffer.resize(self.header.content_bytes as usize, 0);
            match decompress_into(content, buffer) {
                Ok(bytes) if bytes == buffer.len() => content = buffer,
                _ => return Err(self.damaged("a chunk cannot be decompressed")),
            }
        }
        if xxh3_128(content) != self.header.content_hash {
            return Err(self.damaged("a chunk's hash is wrong"));
        }
        Ok(content)
    }

    /// Gives all keys of the content to `take`, which may refuse one.
    pub(super) fn each_key<'a>(
        &self,
        mut content: &'a [u8],
        mut take: impl FnMut(Item<'a>) -> Result<(), String>,
    ) -> Result<(), Error> {
        for _ in 0..self.header.items {
            let item = Item::split_from(&mut content);
            let item = item.map_err(|_| self.damaged("an item cannot be understood"))?;
            take(item).map_err(|what| self.damaged(what))?;
        }
        self.demand_end(content)
    }

    /// Gives all sessions of the content to `take`.
    pub(super) fn each_session(
        &self,
        mut content: &[u8],
        mut take: impl FnMut(SessionImage),
    ) -> Result<(), Error> {
        for _ in 0..self.header.items {
            let image = decode_session(&mut content);
            take(image.ok_or_else(|| self.damaged("a session cannot be understood"))?);
        }
        self.demand_end(content)
    }

    fn demand_end(&self, rest: &[u8]) -> Result<(), Error> {
        if rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged("a chunk holds more than its items"))
        }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.file, self.offset, what)
    }
}

fn decode_session(bytes: &mut &[u8]) -> Option<SessionImage> {
    let mut image = SessionImage {
        born: Index(bytes.try_get_u64().ok()?),
        nonce: bytes.try_get_u64().ok()?,
        replies: Vec::new(),
    };
    let replies = usize::from(bytes.try_get_u16().ok()?);
    if replies > KEPT_PER_SESSION_MAX {
        return None;
    }
    image.replies.reserve_exact(replies);
    for _ in 0..replies {
        image.replies.push(Kept {
            seq: bytes.try_get_u64().ok()?,
            fingerprint: bytes.try_get_u64().ok()?,
            id: EntryId {
                term: Term(bytes.try_get_u64().ok()?),
                index: Index(bytes.try_get_u64().ok()?),
            },
            outcome: Outcome::split_from(bytes).ok()?,
        });
    }
    Some(image)
}
