//! Blocks: keys with values in a file or a pipe, exact bytes without escapes, outside of any
//! connection. Blocks lie back to back and nothing comes before the first, so that the files of two
//! dumps, one behind the other, are the file of both.
//!
//! ```text
//!  0  u32  bytes after this field: 6 + content
//!  4  u32  CRC-32 (IEEE) of bytes 0..4, of 8..10 and of the content
//!  8  u8   version, 1
//!  9  u8   kind: 1 records, 2 end
//! 10  ..   content
//! ```
//!
//! The content of a block of *records* is one key with its value after the other (each a u32 length
//! and its bytes); that of an *end* is the number of records (u64) since the begin, or since the
//! last end. So a reader knows what was cut off, even if it was cut between two blocks.

use byteorder::{BigEndian, ByteOrder};
use bytes::{BufMut, BytesMut};
use crc32fast::Hasher;

use crate::buf::{Reader, limited, malformed, put_bytes};
use crate::error::Error;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A block, header included. One record always fits.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of a block before its content.
pub const BLOCK_HEADER_BYTES: usize = 10;

/// Bytes of the length field, which does not count itself.
const LENGTH_BYTES: usize = 4;
/// Where the bytes begin that the checksum covers besides the length.
const COVERED_FROM: usize = 8;
const VERSION: u8 = 1;
const KIND_RECORDS: u8 = 1;
const KIND_END: u8 = 2;

const _: () =
    assert!(BLOCK_HEADER_BYTES + 4 + KEY_BYTES_MAX + 4 + VALUE_BYTES_MAX <= BLOCK_BYTES_MAX);

/// A whole, checked block at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// Keys with values, one at least.
    Records(Records<'a>),
    /// Nothing is missing up to here.
    End {
        /// Records since the begin, or since the last end.
        records: u64,
    },
}

/// The records of a block, still encoded.
///
/// Invariant: every record was checked; iterating yields all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    /// A key and its value.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.bytes);
        let record = read_record(&mut reader).ok()?;
        self.bytes = reader.rest();
        Some(record)
    }
}

/// Takes a look at the front of `buffer`: the block there and the bytes that it takes; `None` if it
/// is not complete yet (see [`wanted`]). The length is judged as soon as it is there.
///
/// # Errors
/// `TooLarge` for a block over [`BLOCK_BYTES_MAX`], a key or a value over its limit; `Malformed` for
/// anything else. Where the next block begins is then not known.
pub fn parse(buffer: &[u8]) -> Result<Option<(Block<'_>, usize)>, Error> {
    let Some(len) = claimed(buffer) else {
        return Ok(None);
    };
    if len < BLOCK_HEADER_BYTES {
        return Err(malformed("a block is shorter than its header"));
    }
    limited("block", BLOCK_BYTES_MAX, len)?;
    let Some(block) = buffer.get(..len) else {
        return Ok(None);
    };
    let mut reader = Reader::new(block);
    reader.skip(LENGTH_BYTES)?;
    if reader.u32()? != checksum(block) {
        return Err(malformed("the checksum of a block is wrong"));
    }
    if reader.u8()? != VERSION {
        return Err(malformed("the version of a block is not known"));
    }
    let block = match reader.u8()? {
        KIND_RECORDS => {
            let records = Records {
                bytes: reader.rest(),
            };
            if reader.is_empty() {
                return Err(malformed("a block of no records"));
            }
            while !reader.is_empty() {
                read_record(&mut reader)?;
            }
            Block::Records(records)
        }
        KIND_END => Block::End {
            records: reader.u64()?,
        },
        _ => return Err(malformed("the kind of a block is not known")),
    };
    reader.finish()?;
    Ok(Some((block, len)))
}

/// Bytes of the whole block at the front of `buffer`, as it claims, or of its header while the
/// length is not there. Ask after [`parse`] said `None`: it has checked the claim.
#[must_use]
pub fn wanted(buffer: &[u8]) -> usize {
    claimed(buffer).unwrap_or(BLOCK_HEADER_BYTES)
}

/// Opens a block of records at the end of `out` and returns where; records follow, one at least, then
/// [`finish`].
#[must_use]
pub fn begin(out: &mut BytesMut) -> usize {
    open(out, KIND_RECORDS)
}

/// Appends a record to the open block, which must stay within [`BLOCK_BYTES_MAX`]; one record always
/// fits.
pub fn put_record(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    put_bytes(out, key);
    put_bytes(out, value);
}

/// Closes the block opened at `start`.
///
/// # Panics
/// If no block was opened there, if it has no record, or if it is over [`BLOCK_BYTES_MAX`].
pub fn finish(out: &mut BytesMut, start: usize) {
    let block = out.get_mut(start..).expect("begin wrote a header");
    assert!(block.len() > BLOCK_HEADER_BYTES, "a block has a record");
    assert!(block.len() <= BLOCK_BYTES_MAX, "a block keeps its limit");
    let length = u32::try_from(block.len() - LENGTH_BYTES).expect("a block keeps its limit");
    let (field, _) = block.split_at_mut(LENGTH_BYTES);
    BigEndian::write_u32(field, length);
    let crc = checksum(block);
    let (_, rest) = block.split_at_mut(LENGTH_BYTES);
    BigEndian::write_u32(rest, crc);
}

/// Appends an end, behind so many records.
pub fn put_end(out: &mut BytesMut, records: u64) {
    let start = open(out, KIND_END);
    out.put_u64(records);
    finish(out, start);
}

fn open(out: &mut BytesMut, kind: u8) -> usize {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(0);
    out.put_u8(VERSION);
    out.put_u8(kind);
    start
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Error> {
    Ok((reader.key()?, reader.value()?))
}

/// Bytes of the whole block that the length field claims.
fn claimed(buffer: &[u8]) -> Option<usize> {
    let length = BigEndian::read_u32(buffer.first_chunk::<LENGTH_BYTES>()?) as usize;
    Some(length.saturating_add(LENGTH_BYTES))
}

fn checksum(block: &[u8]) -> u32 {
    let (length, _) = block.split_at(LENGTH_BYTES);
    let (_, covered) = block.split_at(COVERED_FROM);
    let mut hasher = Hasher::new();
    hasher.update(length);
    hasher.update(covered);
    hasher.finalize()
}
