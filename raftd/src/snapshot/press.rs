//! Making a chunk of what was collected.

use bytes::BytesMut;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use xxhash_rust::xxh3::xxh3_128;

use super::format::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind};

/// What goes into a chunk.
#[derive(Debug)]
pub struct Collected {
    pub(super) number: u64,
    pub(super) kind: ChunkKind,
    pub(super) items: u32,
    pub(super) content: BytesMut,
}

/// A chunk as it stands in the file.
#[derive(Debug)]
pub struct Pressed {
    pub(super) header: ChunkHeader,
    /// The header's, too.
    pub(super) bytes: Vec<u8>,
}

impl Collected {
    /// Compresses and hashes it: about half of the work of writing a snapshot, and of no other
    /// chunk's concern: on any thread.
    #[must_use]
    pub fn press(&self) -> Pressed {
        let content = &self.content[..];
        let mut bytes = vec![0; CHUNK_HEADER_BYTES + get_maximum_output_size(content.len())];
        let stored = &mut bytes[CHUNK_HEADER_BYTES..];
        // Of one size for all, or small chunks would be other bytes.
        let table = &mut CompressTable::large();
        let stored_bytes = match compress_into_with_table(content, stored, table) {
            Ok(bytes) if bytes < content.len() => bytes,
            _ => {
                stored[..content.len()].copy_from_slice(content);
                content.len()
            }
        };
        bytes.truncate(CHUNK_HEADER_BYTES + stored_bytes);
        let header = ChunkHeader {
            number: self.number,
            kind: self.kind,
            items: self.items,
            content_bytes: content.len() as u32,
            stored_bytes: stored_bytes as u32,
            content_hash: xxh3_128(content),
        };
        header.encode(&mut bytes);
        Pressed { header, bytes }
    }
}

/// Who presses chunks. They come out in the order in which they went in.
pub trait Press: Send {
    /// Takes a chunk that others follow. Gives back one whose turn it is to come out: this one, or
    /// one of a few before it.
    fn push(&mut self, chunk: Collected) -> Option<Pressed>;

    /// Gives back the next one; `None` if all came out.
    fn pop(&mut self) -> Option<Pressed>;
}

/// Whoever collects presses, too.
#[derive(Debug)]
pub(super) struct Inline;

impl Press for Inline {
    fn push(&mut self, chunk: Collected) -> Option<Pressed> {
        Some(chunk.press())
    }

    fn pop(&mut self) -> Option<Pressed> {
        None
    }
}
