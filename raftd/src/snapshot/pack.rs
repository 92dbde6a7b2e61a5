//! Forming chunks.

use bytes::{BufMut, BytesMut};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use wire::client::Item;
use xxhash_rust::xxh3::xxh3_128;

use super::format::{CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Sums};
use crate::store::SessionImage;

/// A chunk's content that is being collected.
///
/// Invariant: it is at most [`CHUNK_BYTES_MAX`], or a single item.
pub(super) struct Packer {
    content: BytesMut,
    items: u32,
    /// One session, encoded: its size is known only then.
    session: BytesMut,
    table: CompressTable,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self {
            content: BytesMut::with_capacity(CHUNK_BYTES_MAX),
            items: 0,
            session: BytesMut::new(),
            table: CompressTable::large(),
        }
    }

    /// Takes the next key; seals a chunk into `out` first if there is no room for it.
    pub(super) fn key(&mut self, item: &Item<'_>, sums: &mut Sums, out: &mut Vec<u8>) {
        self.make_room(item_bytes(item), ChunkKind::Keys, sums, out);
        item.encode(&mut self.content);
        self.items += 1;
    }

    /// Takes the next session; seals a chunk into `out` first if there is no room for it.
    pub(super) fn session(&mut self, image: &SessionImage, sums: &mut Sums, out: &mut Vec<u8>) {
        self.session.clear();
        encode_session(image, &mut self.session);
        self.make_room(self.session.len(), ChunkKind::Sessions, sums, out);
        self.content.put_slice(&self.session);
        self.items += 1;
    }

    fn make_room(&mut self, bytes: usize, kind: ChunkKind, sums: &mut Sums, out: &mut Vec<u8>) {
        if self.content.len() + bytes > CHUNK_BYTES_MAX {
            self.seal(kind, sums, out);
        }
    }

    /// Appends a chunk of what was collected to `out`; nothing if that is nothing.
    pub(super) fn seal(&mut self, kind: ChunkKind, sums: &mut Sums, out: &mut Vec<u8>) {
        if self.items == 0 {
            return;
        }
        let content = &self.content[..];
        let start = out.len();
        let stored = start + CHUNK_HEADER_BYTES;
        out.resize(stored + get_maximum_output_size(content.len()), 0);
        let compressed = compress_into_with_table(content, &mut out[stored..], &mut self.table);
        let stored_bytes = match compressed {
            Ok(bytes) if bytes < content.len() => bytes,
            _ => {
                out[stored..stored + content.len()].copy_from_slice(content);
                content.len()
            }
        };
        out.truncate(stored + stored_bytes);
        let header = ChunkHeader {
            number: sums.chunks(),
            kind,
            items: self.items,
            content_bytes: content.len() as u32,
            stored_bytes: stored_bytes as u32,
            content_hash: xxh3_128(content),
        };
        header.encode(&mut out[start..]);
        sums.add(&header);
        self.content.clear();
        self.items = 0;
    }
}

/// Bytes of an item, encoded.
pub(super) fn item_bytes(item: &Item<'_>) -> usize {
    item.key.len() + item.value.len() + 32
}

/// ```text
/// u64 born, u64 nonce, u16 kept replies, then for each, by ascending seq:
/// u64 seq, u64 fingerprint of the command, u64 term, u64 index, its outcome as in raftd-wire(7)
/// ```
fn encode_session(image: &SessionImage, out: &mut BytesMut) {
    out.put_u64(image.born.0);
    out.put_u64(image.nonce);
    let replies = u16::try_from(image.replies.len()).expect("kept replies are limited");
    out.put_u16(replies);
    for kept in &image.replies {
        out.put_u64(kept.seq);
        out.put_u64(kept.fingerprint);
        out.put_u64(kept.id.term.0);
        out.put_u64(kept.id.index.0);
        kept.outcome.encode(out);
    }
}
