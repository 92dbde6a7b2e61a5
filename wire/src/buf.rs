//! Reading and writing fields. Every read is checked against what is there, every length against
//! its limit before anything is allocated; nothing here can panic on bytes.
//!
//! The forms of fields, used by all payloads:
//! - numbers: big-endian, fixed width; a term, index or other counter is at most [`COUNTER_MAX`];
//! - flag: u8, 0 or 1; option: a flag, then the value if it is 1;
//! - bytes: u32 length, then the bytes; text: u16 length, then UTF-8;
//! - list: u16 count, then the items.

use alloc::string::String;

use byteorder::{BigEndian, ByteOrder};
use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;
use crate::limits::{COUNTER_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::types::{EntryId, Index, NodeId, Term};

/// Takes fields off the front of a payload.
///
/// Invariants: `rest` only shrinks, by exactly what was read; a failed read ends the decoding. It lies
/// in `whole`, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    whole: Option<&'a Bytes>,
}

/// "The payload cannot be understood", and why.
#[cold]
pub(crate) fn malformed(reason: &str) -> Error {
    Error::Malformed {
        reason: String::from(reason),
    }
}

/// Why a reader is refused what would lie behind its payload's end, and nothing else is.
const CUT_SHORT: &str = "the message is cut short";

#[cold]
pub(crate) fn cut_short() -> Error {
    malformed(CUT_SHORT)
}

/// Whether more bytes could have made the decoding go on.
pub(crate) fn is_cut_short(error: &Error) -> bool {
    matches!(error, Error::Malformed { reason } if reason == CUT_SHORT)
}

#[cold]
fn too_large(what: &str, limit: usize, actual: usize) -> Error {
    Error::TooLarge {
        what: String::from(what),
        limit: limit as u64,
        actual: actual as u64,
    }
}

/// Refuses `actual` bytes of `what` above `limit`.
pub(crate) fn limited(what: &str, limit: usize, actual: usize) -> Result<(), Error> {
    if actual > limit {
        return Err(too_large(what, limit, actual));
    }
    Ok(())
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            whole: None,
        }
    }

    /// For `bytes` that lie in `whole`, which may be shared.
    pub(crate) fn sharing(bytes: &'a [u8], whole: &'a Bytes) -> Self {
        Self {
            rest: bytes,
            whole: Some(whole),
        }
    }

    /// Keeps a part of what was read: shared with the buffer that it lies in, or else copied.
    pub(crate) fn keep(&self, part: &'a [u8]) -> Bytes {
        match self.whole {
            Some(whole) => whole.slice_ref(part),
            None => Bytes::copy_from_slice(part),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without taking it.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the decoding: a payload has no bytes that nobody read.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(malformed("bytes after the end of the message"))
        }
    }

    /// All that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Passes over bytes that were read through [`Reader::rest`].
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Error> {
        self.take(count).map(|_| ())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(cut_short());
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(cut_short());
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array::<2>().map(|bytes| BigEndian::read_u16(bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array::<4>().map(|bytes| BigEndian::read_u32(bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array::<8>().map(|bytes| BigEndian::read_u64(bytes))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.array::<8>().map(|bytes| BigEndian::read_i64(bytes))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Error> {
        self.array::<16>().map(|bytes| BigEndian::read_u128(bytes))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A number that others count on from: bounded so that counting never overflows.
    pub(crate) fn counter(&mut self) -> Result<u64, Error> {
        let number = self.u64()?;
        if number > COUNTER_MAX {
            return Err(malformed("a term, index or other counter is out of range"));
        }
        Ok(number)
    }

    pub(crate) fn term(&mut self) -> Result<Term, Error> {
        self.counter().map(Term)
    }

    pub(crate) fn index(&mut self) -> Result<Index, Error> {
        self.counter().map(Index)
    }

    /// Term, then index; both are 0 (before the log) or none is.
    pub(crate) fn entry_id(&mut self) -> Result<EntryId, Error> {
        let id = EntryId {
            term: self.term()?,
            index: self.index()?,
        };
        if (id.term.0 == 0) != (id.index.0 == 0) {
            return Err(malformed("an entry id is half zero"));
        }
        Ok(id)
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, Error> {
        match self.u64()? {
            0 => Err(malformed("node id 0 is never a member")),
            id => Ok(NodeId(id)),
        }
    }

    pub(crate) fn bytes(&mut self, what: &str, limit: usize) -> Result<&'a [u8], Error> {
        let length = self.u32()? as usize;
        limited(what, limit, length)?;
        self.take(length)
    }

    pub(crate) fn key(&mut self) -> Result<&'a [u8], Error> {
        let key = self.bytes("key", KEY_BYTES_MAX)?;
        if key.is_empty() {
            return Err(malformed("a key is empty"));
        }
        Ok(key)
    }

    pub(crate) fn value(&mut self) -> Result<&'a [u8], Error> {
        self.bytes("value", VALUE_BYTES_MAX)
    }

    pub(crate) fn str(&mut self, what: &str, limit: usize) -> Result<&'a str, Error> {
        let length = usize::from(self.u16()?);
        limited(what, limit, length)?;
        core::str::from_utf8(self.take(length)?).map_err(|_| malformed("a text is not UTF-8"))
    }

    pub(crate) fn text(&mut self, what: &str, limit: usize) -> Result<String, Error> {
        self.str(what, limit).map(String::from)
    }

    /// The count of a list whose items take at least `item_bytes_min` each: a count that the rest
    /// of the payload cannot hold is refused, so that it is safe to allocate for.
    pub(crate) fn count(&mut self, limit: usize, item_bytes_min: usize) -> Result<usize, Error> {
        let count = usize::from(self.u16()?);
        if count > limit {
            return Err(malformed("a list is longer than allowed"));
        }
        if count.saturating_mul(item_bytes_min) > self.rest.len() {
            return Err(cut_short());
        }
        Ok(count)
    }
}

/// The elements of a list that lies back to back, up to one that cannot be understood: a list that
/// was checked has none.
pub(crate) fn each<'a, T>(
    bytes: &'a [u8],
    decode: impl Fn(&mut Reader<'a>) -> Result<T, Error>,
) -> impl Iterator<Item = T> {
    let mut reader = Reader::new(bytes);
    core::iter::from_fn(move || {
        (!reader.is_empty())
            .then(|| decode(&mut reader).ok())
            .flatten()
    })
}

pub(crate) fn put_entry_id(out: &mut BytesMut, id: EntryId) {
    out.put_u64(id.term.0);
    out.put_u64(id.index.0);
}

pub(crate) fn put_option<T>(
    out: &mut BytesMut,
    value: Option<T>,
    put: impl FnOnce(&mut BytesMut, T),
) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("no field is near 4 GiB");
    out.put_u32(length);
    out.put_slice(bytes);
}

/// Words for a person: cut at `limit` bytes, at the boundary of a character.
pub(crate) fn put_text(out: &mut BytesMut, text: &str, limit: usize) {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, _) = text.split_at(end);
    out.put_u16(u16::try_from(end).expect("text limits fit 16 bits"));
    out.put_slice(kept.as_bytes());
}

/// A name or an address: a cut one would name something else, so whoever makes them keeps to the
/// limit.
pub(crate) fn put_name(out: &mut BytesMut, name: &str, limit: usize) {
    assert!(name.len() <= limit, "a name of {} bytes", name.len());
    put_text(out, name, limit);
}

/// The count of a list; see [`put_name`].
pub(crate) fn put_count(out: &mut BytesMut, count: usize, limit: usize) {
    assert!(count <= limit, "a list of {count} items");
    out.put_u16(u16::try_from(count).expect("list limits fit 16 bits"));
}
