//! Collecting what goes into chunks.

use std::mem;

use bytes::{BufMut, BytesMut};
use wire::client::Item;

use super::format::{CHUNK_BYTES, ChunkKind, Sums};
use super::press::{Collected, Inline, Press, Pressed};
use crate::store::SessionImage;

/// A chunk that is being collected, behind those that are being pressed.
///
/// Invariant: its content is at most [`CHUNK_BYTES`], or a single item.
pub(super) struct Packer {
    content: BytesMut,
    items: u32,
    /// One session, encoded: its size is known only then.
    session: BytesMut,
    /// Chunks that are collected.
    chunks: u64,
    press: Box<dyn Press>,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self {
            content: BytesMut::new(),
            items: 0,
            session: BytesMut::new(),
            chunks: 0,
            press: Box::new(Inline),
        }
    }

    /// Has chunks pressed by this one from now on.
    pub(super) fn press_with(&mut self, press: Box<dyn Press>) {
        self.press = press;
    }

    /// Takes the next key. A chunk that is full goes into `out`, at once or later.
    pub(super) fn key(&mut self, item: &Item<'_>, sums: &mut Sums, out: &mut Vec<u8>) {
        self.make_room(item_bytes(item), ChunkKind::Keys, sums, out);
        item.encode(&mut self.content);
        self.items += 1;
    }

    /// Takes the next session. A chunk that is full goes into `out`, at once or later. Says how large
    /// the session is.
    pub(super) fn session(
        &mut self,
        image: &SessionImage,
        sums: &mut Sums,
        out: &mut Vec<u8>,
    ) -> usize {
        self.session.clear();
        encode_session(image, &mut self.session);
        self.make_room(self.session.len(), ChunkKind::Sessions, sums, out);
        self.content.put_slice(&self.session);
        self.items += 1;
        self.session.len()
    }

    fn make_room(&mut self, bytes: usize, kind: ChunkKind, sums: &mut Sums, out: &mut Vec<u8>) {
        if self.items > 0 && self.content.len() + bytes > CHUNK_BYTES {
            let full = self.collected(kind);
            if let Some(pressed) = self.press.push(full) {
                put(&pressed, sums, out);
            }
        }
    }

    /// There are no more of this kind: all that did not come out yet goes into `out`.
    pub(super) fn finish(&mut self, kind: ChunkKind, sums: &mut Sums, out: &mut Vec<u8>) {
        while let Some(pressed) = self.press.pop() {
            put(&pressed, sums, out);
        }
        if self.items > 0 {
            put(&self.collected(kind).press(), sums, out);
        }
    }

    fn collected(&mut self, kind: ChunkKind) -> Collected {
        let number = self.chunks;
        self.chunks += 1;
        Collected {
            number,
            kind,
            items: mem::take(&mut self.items),
            content: mem::replace(&mut self.content, BytesMut::with_capacity(CHUNK_BYTES)),
        }
    }
}

fn put(pressed: &Pressed, sums: &mut Sums, out: &mut Vec<u8>) {
    out.extend_from_slice(&pressed.bytes);
    sums.add(&pressed.header);
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
