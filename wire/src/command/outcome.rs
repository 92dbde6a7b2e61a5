//! What commands did, as it stands in replies and in what sessions keep of them.

use alloc::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, each, malformed, put_bytes, put_option};
use crate::client::Item;
use crate::error::Error;
use crate::limits::{KEPT_REPLY_BYTES_MAX, RESULTS_BYTES_MAX};
use crate::types::Index;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key was set.
    Put,
    /// This many keys were removed. Of a range: all, if fewer than
    /// [`crate::limits::ENTRY_KEYS_MAX`].
    Deleted(u64),
    /// The condition held and the key was set.
    Swapped,
    /// The condition did not hold; the key's revision, or `None` if it is absent.
    NotSwapped(Option<Index>),
    /// The counter's new value.
    Incremented(i64),
    /// The key does not hold an ASCII decimal i64; nothing changed.
    NotANumber,
    /// The sum does not fit an i64; nothing changed.
    Overflow,
    /// Of an entry that answers nothing of its own: a snapshot that a client asked for.
    Applied,
    /// The new length of the value, in bytes.
    Appended(u64),
    /// The value would be longer than [`crate::limits::VALUE_BYTES_MAX`]; nothing changed.
    TooLong,
    /// There are so many keys in the range, not as many as expected; nothing changed. Nobody
    /// counts beyond one more than [`crate::limits::ENTRY_KEYS_MAX`].
    NotDeleted(u64),
    /// The operations of one branch were done.
    Txn {
        /// Whether the compares held, so that it was the first branch.
        held: bool,
        /// What each operation did. `None` if that is too long to keep: for a retry, and for a
        /// client that does not read its answers.
        results: Option<Results>,
    },
    /// An operation could not be done, so none was; nothing changed.
    Undone {
        /// Whether the compares held.
        held: bool,
        /// Which operation of the branch, from 0.
        operation: u32,
        /// Why it could not be done.
        why: Undone,
    },
}

/// Why an operation of a txn cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The key does not hold an ASCII decimal i64.
    NotANumber,
    /// The sum does not fit an i64.
    Overflow,
    /// The value would be longer than [`crate::limits::VALUE_BYTES_MAX`].
    TooLong,
    /// With its range the txn would touch more than [`crate::limits::ENTRY_KEYS_MAX`] keys.
    TooManyKeys,
    /// What is to be answered would be longer than [`RESULTS_BYTES_MAX`].
    TooMuchToTell,
}

/// What one operation of a txn did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult<'a> {
    /// A change, or one whose own condition did not hold.
    Did(Outcome),
    /// The item that was read.
    Found(Item<'a>),
    /// There is no such key.
    Missing,
}

/// What the operations of a txn did, one after the other, still encoded.
///
/// Invariant of decoded ones: each was checked. A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    bytes: Arc<[u8]>,
}

impl Outcome {
    /// Takes one off the front of `bytes`: what [`Outcome::encode`] wrote.
    ///
    /// # Errors
    /// Of a payload that cannot be understood; `bytes` is then unchanged.
    pub fn split_from(bytes: &mut &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let outcome = Self::decode(&mut reader)?;
        *bytes = reader.rest();
        Ok(outcome)
    }

    /// What is kept of it for retries (rules C2): of results longer than
    /// [`KEPT_REPLY_BYTES_MAX`] only that there were some.
    #[must_use]
    pub fn to_keep(&self) -> Self {
        match self {
            Self::Txn {
                held,
                results: Some(results),
            } if results.bytes.len() > KEPT_REPLY_BYTES_MAX => Self::Txn {
                held: *held,
                results: None,
            },
            outcome => outcome.clone(),
        }
    }

    /// Appends it to `out`, not as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Put => out.put_u8(1),
            Self::Deleted(keys) => {
                out.put_u8(2);
                out.put_u64(*keys);
            }
            Self::Swapped => out.put_u8(3),
            Self::NotSwapped(revision) => {
                out.put_u8(4);
                put_option(out, *revision, |out, revision| out.put_u64(revision.0));
            }
            Self::Incremented(value) => {
                out.put_u8(5);
                out.put_i64(*value);
            }
            Self::NotANumber => out.put_u8(6),
            Self::Overflow => out.put_u8(7),
            Self::Applied => out.put_u8(8),
            Self::Appended(bytes) => {
                out.put_u8(9);
                out.put_u64(*bytes);
            }
            Self::TooLong => out.put_u8(10),
            Self::NotDeleted(keys) => {
                out.put_u8(11);
                out.put_u64(*keys);
            }
            Self::Txn { held, results } => {
                out.put_u8(12);
                out.put_u8(u8::from(*held));
                put_option(out, results.as_ref(), |out, results| {
                    put_bytes(out, &results.bytes);
                });
            }
            Self::Undone {
                held,
                operation,
                why,
            } => {
                out.put_u8(13);
                out.put_u8(u8::from(*held));
                out.put_u32(*operation);
                out.put_u8(why.code());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            8 => Ok(Self::Applied),
            12 => Ok(Self::Txn {
                held: reader.flag()?,
                results: reader.option(Results::decode)?,
            }),
            13 => Ok(Self::Undone {
                held: reader.flag()?,
                operation: reader.u32()?,
                why: Undone::decode(reader)?,
            }),
            code => Self::decode_of_one(code, reader),
        }
    }

    /// That of an operation: a txn holds no txn, so that no bytes lead to a recursion.
    fn decode_of_one(code: u8, reader: &mut Reader<'_>) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Put),
            2 => Ok(Self::Deleted(reader.u64()?)),
            3 => Ok(Self::Swapped),
            4 => Ok(Self::NotSwapped(reader.option(Reader::index)?)),
            5 => Ok(Self::Incremented(reader.i64()?)),
            6 => Ok(Self::NotANumber),
            7 => Ok(Self::Overflow),
            9 => Ok(Self::Appended(reader.u64()?)),
            10 => Ok(Self::TooLong),
            11 => Ok(Self::NotDeleted(reader.u64()?)),
            _ => Err(malformed("the outcome is not known")),
        }
    }
}

impl Undone {
    fn code(self) -> u8 {
        match self {
            Self::NotANumber => 1,
            Self::Overflow => 2,
            Self::TooLong => 3,
            Self::TooManyKeys => 4,
            Self::TooMuchToTell => 5,
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::NotANumber),
            2 => Ok(Self::Overflow),
            3 => Ok(Self::TooLong),
            4 => Ok(Self::TooManyKeys),
            5 => Ok(Self::TooMuchToTell),
            _ => Err(malformed("why a txn was undone is not known")),
        }
    }
}

impl<'a> OperationResult<'a> {
    /// Appends it to `out`, not as a frame: for [`Results`].
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Did(outcome) => {
                out.put_u8(1);
                outcome.encode(out);
            }
            Self::Found(item) => {
                out.put_u8(2);
                item.encode(out);
            }
            Self::Missing => out.put_u8(3),
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => {
                let code = reader.u8()?;
                Outcome::decode_of_one(code, reader).map(Self::Did)
            }
            2 => Item::decode(reader).map(Self::Found),
            3 => Ok(Self::Missing),
            _ => Err(malformed("the result of an operation is not known")),
        }
    }
}

impl Results {
    /// What [`OperationResult::encode`] wrote, back to back.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: Arc::from(bytes),
        }
    }

    /// As they are encoded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One for each operation, in order.
    pub fn iter(&self) -> impl Iterator<Item = OperationResult<'_>> {
        each(&self.bytes, OperationResult::decode)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let bytes = reader.bytes("results", RESULTS_BYTES_MAX)?;
        let mut results = Reader::new(bytes);
        while !results.is_empty() {
            OperationResult::decode(&mut results)?;
        }
        Ok(Self::new(bytes))
    }
}
