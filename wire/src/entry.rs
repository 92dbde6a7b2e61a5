//! The record of one log entry. Its bytes are made once, by the leader, and travel unchanged
//! through [`crate::peer::Append`], every write-ahead log and catch-up reads.
//!
//! ```text
//!  0  u32  length of the whole record, this field included
//!  4  u32  CRC-32 (IEEE) of bytes 8..length
//!  8  u64  term
//! 16  u64  index
//! 24  u64  leader's wall clock, milliseconds since 1970, non-decreasing along the log
//! 32  u8   kind (1 no-op, 2 command, 3 snapshot-at, 4 membership)
//! 33  u8   format of the body, 1
//! 34  u16  flags, 0
//! 36  u32  group id, 0
//! 40  u64  principal, 0
//! 48  ..   body
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "offsets below the header's length, which build writes and check demands"
)]

use byteorder::{BigEndian, ByteOrder};
use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;
use crate::limits::{COUNTER_MAX, ENTRY_BYTES_MAX};
use crate::membership::Membership;
use crate::types::{EntryId, Index, Term};

/// Bytes of a record before its body.
pub const ENTRY_HEADER_BYTES: usize = 48;
/// The one body format of this version.
pub const BODY_FORMAT: u8 = 1;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Opens a term (thesis 6.4); changes nothing. Empty body.
    Noop,
    /// A [`crate::command::Write`] for the store.
    Command,
    /// Every node takes a snapshot as of this very entry, so that all of them are alike; changes
    /// nothing. Empty body.
    SnapshotAt,
    /// A [`crate::membership::Membership`], in force from here on (thesis 4.1).
    Membership,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            Self::Noop => 1,
            Self::Command => 2,
            Self::SnapshotAt => 3,
            Self::Membership => 4,
        }
    }

    fn has_body(self) -> bool {
        matches!(self, Self::Command | Self::Membership)
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Noop),
            2 => Some(Self::Command),
            3 => Some(Self::SnapshotAt),
            4 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Fewer bytes than the record needs.
    Short,
    /// The length field is below the header or above [`ENTRY_BYTES_MAX`], or a kind
    /// without a body has one.
    Length(u32),
    /// The checksum does not match.
    Checksum,
    /// A kind, format, flag or reserved field that this version does not know.
    Unknown,
    /// The term or the index is 0, or above [`COUNTER_MAX`].
    Id,
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short => f.write_str("the entry is cut short"),
            Self::Length(length) => write!(f, "the entry claims {length} bytes"),
            Self::Checksum => f.write_str("the entry's checksum is wrong"),
            Self::Unknown => f.write_str("the entry has a kind or flag of another version"),
            Self::Id => f.write_str("the entry's term or index is out of range"),
        }
    }
}

/// What tells an entry from any other, apart from its bytes: whoever has lost these can say which
/// they were, and know them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Term and index.
    pub id: EntryId,
    /// The record's checksum.
    pub crc: u32,
}

/// One verified record.
///
/// Invariants: `bytes` is exactly one record; its length, checksum and kind were checked (when
/// received or read) or made here; it never changes. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Bytes,
}

impl Entry {
    /// Makes the record of a new entry at the end of `pool` and splits it off: one buffer serves
    /// many entries.
    ///
    /// # Panics
    /// If the record would be over [`ENTRY_BYTES_MAX`] (bodies are limited at admission), or a kind
    /// without a body has one.
    #[must_use]
    pub fn build(
        pool: &mut BytesMut,
        id: EntryId,
        wall_ms: u64,
        kind: EntryKind,
        body: &[u8],
    ) -> Self {
        let length = ENTRY_HEADER_BYTES + body.len();
        assert!(length <= ENTRY_BYTES_MAX, "entry of {length} bytes");
        assert!(kind.has_body() || body.is_empty(), "{kind:?} with a body");
        assert!(pool.is_empty(), "the pool holds half a record");
        pool.reserve(length);
        pool.put_u32(u32::try_from(length).expect("checked above"));
        pool.put_u32(0);
        pool.put_u64(id.term.0);
        pool.put_u64(id.index.0);
        pool.put_u64(wall_ms);
        pool.put_u8(kind.code());
        pool.put_u8(BODY_FORMAT);
        pool.put_u16(0);
        pool.put_u32(0);
        pool.put_u64(0);
        pool.put_slice(body);
        let crc = crc32fast::hash(&pool[8..]);
        BigEndian::write_u32(&mut pool[4..8], crc);
        Self {
            bytes: pool.split().freeze(),
        }
    }

    /// Takes one record off the front of `source`, sharing its bytes.
    ///
    /// # Errors
    /// [`EntryError`]; `source` is then unchanged.
    pub fn split_from(source: &mut Bytes) -> Result<Self, EntryError> {
        let length = Self::check(source)?;
        Ok(Self {
            bytes: source.split_to(length),
        })
    }

    /// Verifies the record at the front of `source` and returns its length in bytes.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn check(source: &[u8]) -> Result<usize, EntryError> {
        if source.len() < ENTRY_HEADER_BYTES {
            return Err(EntryError::Short);
        }
        let claimed = BigEndian::read_u32(source);
        let length = claimed as usize;
        if !(ENTRY_HEADER_BYTES..=ENTRY_BYTES_MAX).contains(&length) {
            return Err(EntryError::Length(claimed));
        }
        if source.len() < length {
            return Err(EntryError::Short);
        }
        if crc32fast::hash(&source[8..length]) != BigEndian::read_u32(&source[4..]) {
            return Err(EntryError::Checksum);
        }
        let reserved = source[34..48].iter().all(|byte| *byte == 0);
        match EntryKind::from_code(source[32]) {
            Some(kind) if source[33] == BODY_FORMAT && reserved => {
                if !kind.has_body() && length > ENTRY_HEADER_BYTES {
                    return Err(EntryError::Length(claimed));
                }
            }
            _ => return Err(EntryError::Unknown),
        }
        let (term, index) = (
            BigEndian::read_u64(&source[8..]),
            BigEndian::read_u64(&source[16..]),
        );
        if [term, index].iter().any(|n| !(1..=COUNTER_MAX).contains(n)) {
            return Err(EntryError::Id);
        }
        Ok(length)
    }

    /// The id and the stored checksum of the record at the front of `source`, unverified.
    ///
    /// # Panics
    /// If `source` is shorter than a record's header: [`Entry::check`] it first.
    #[must_use]
    pub fn peek(source: &[u8]) -> (EntryId, u32) {
        let id = EntryId {
            term: Term(BigEndian::read_u64(&source[8..])),
            index: Index(BigEndian::read_u64(&source[16..])),
        };
        (id, BigEndian::read_u32(&source[4..]))
    }

    /// What the record at the front of `source` is for, unverified; `None` if nobody knows.
    #[must_use]
    pub fn peek_kind(source: &[u8]) -> Option<EntryKind> {
        source.get(32).copied().and_then(EntryKind::from_code)
    }

    /// Term and index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId {
            term: self.term(),
            index: self.index(),
        }
    }

    /// The term of the leader that made it.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(BigEndian::read_u64(&self.bytes[8..]))
    }

    /// Its place in the log.
    #[must_use]
    pub fn index(&self) -> Index {
        Index(BigEndian::read_u64(&self.bytes[16..]))
    }

    /// The leader's wall clock when it was made, in milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        BigEndian::read_u64(&self.bytes[24..])
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        EntryKind::from_code(self.bytes[32]).expect("the kind was checked")
    }

    /// Its id and checksum.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            id: self.id(),
            crc: self.crc(),
        }
    }

    /// The checksum stored in the record.
    #[must_use]
    pub fn crc(&self) -> u32 {
        BigEndian::read_u32(&self.bytes[4..])
    }

    /// What the kind says to do.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[ENTRY_HEADER_BYTES..]
    }

    /// The membership that is in force from here on; `None` if the entry is for something else.
    ///
    /// # Errors
    /// Its body is none: no log may have such an entry.
    pub fn membership(&self) -> Result<Option<Membership>, Error> {
        match self.kind() {
            EntryKind::Membership => Membership::decode(self.body()).map(Some),
            _ => Ok(None),
        }
    }

    /// The whole record.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} {:?} {} bytes",
            self.id(),
            self.kind(),
            self.body().len()
        )
    }
}
