//! Binary blocks of keys and values ([`wire::block`]): no escapes, a checksum for each block, and an
//! end that shows whether anything is missing.

use std::mem;

use bytes::BytesMut;
use wire::block;

use super::Record;

/// A block with so many bytes is closed.
const BLOCK_BYTES: usize = 64 * 1024;

/// Gathers records into blocks.
///
/// Invariants: `block` is empty or one open block with a record at least, of fewer than
/// [`BLOCK_BYTES`] and the largest record; `records` counts all that came.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    block: BytesMut,
    start: usize,
    records: u64,
}

impl Encoder {
    /// Takes a record. A block that it fills is appended to `out`.
    pub(crate) fn encode(&mut self, record: Record<'_>, out: &mut Vec<u8>) {
        if self.block.is_empty() {
            self.start = block::begin(&mut self.block);
        }
        block::put_record(&mut self.block, record.key, record.value);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.close(out);
        }
    }

    /// Appends what is left, and the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        block::put_end(&mut self.block, mem::take(&mut self.records));
        out.extend_from_slice(&self.block);
        self.block.clear();
    }

    /// Appends what is left of a sequence that breaks off: it has no end.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        if self.block.is_empty() {
            return;
        }
        block::finish(&mut self.block, self.start);
        out.extend_from_slice(&self.block);
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use wire::block::{Block, parse};

    use super::*;

    #[test]
    fn blocks_hold_all_records_and_the_end_their_number() {
        let value = vec![7; 1000];
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        for n in 0..200_u8 {
            let record = Record {
                key: &[n],
                value: &value,
            };
            encoder.encode(record, &mut out);
        }
        encoder.finish(&mut out);
        let mut rest = &out[..];
        let mut keys = Vec::new();
        let mut ends = Vec::new();
        while let Some((block, len)) = parse(rest).expect("a good block") {
            assert!(len < BLOCK_BYTES + 1100);
            match block {
                Block::Records(records) => keys.extend(records.map(|(key, _)| key[0])),
                Block::End { records } => ends.push(records),
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        assert_eq!(keys, (0..200).collect::<Vec<_>>());
        assert_eq!(ends, [200]);
    }
}
