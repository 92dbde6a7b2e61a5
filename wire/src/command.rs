//! A write as it stands in a request and, byte for byte, in the body of a log entry.

mod outcome;
mod txn;

use bytes::{BufMut, BytesMut};

pub use self::outcome::{OperationResult, Outcome, Results, Undone};
pub use self::txn::{
    Batch, BatchFull, Compare, Compares, Condition, Operation, Operations, Relation, Txn,
};
use crate::buf::{Reader, limited, malformed, put_bytes, put_option};
use crate::entry::ENTRY_HEADER_BYTES;
use crate::error::Error;
use crate::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX};
use crate::types::{Epoch, Index};

/// Names a session without a registration round trip (rules C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The history that it belongs to.
    pub epoch: Epoch,
    /// The applied index that the hello told when it was made.
    pub born: Index,
    /// Random, drawn by the client.
    pub nonce: u64,
}

/// A command under its session (rules C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// Whose write it is.
    pub session: SessionId,
    /// Its number in the session; 1 to [`crate::limits::COUNTER_MAX`].
    pub seq: u64,
    /// The lowest seq that the client has not settled; at most `seq`, at least 1.
    pub floor: u64,
    /// What to do.
    pub command: Command<'a>,
}

impl<'a> Write<'a> {
    /// Appends its bytes to `out`, not as a frame: the body of a log entry.
    ///
    /// Limits are not looked at: [`Write::decode_body`] of what was written tells what the server
    /// would say.
    pub fn encode_body(&self, out: &mut BytesMut) {
        out.put_u64(self.session.epoch.0);
        out.put_u64(self.session.born.0);
        out.put_u64(self.session.nonce);
        out.put_u64(self.seq);
        out.put_u64(self.floor);
        self.command.encode(out);
    }

    /// Reads the body of an entry, or of a write request. Allocates nothing.
    ///
    /// # Errors
    /// `TooLarge` for a key, a value, or all together (`entry`); `Malformed` for anything else,
    /// also for a seq or floor out of range.
    pub fn decode_body(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let write = Self {
            session: SessionId {
                epoch: reader.u64().map(Epoch)?,
                // Compared, never counted on from: apply judges any number (rules C3).
                born: reader.u64().map(Index)?,
                nonce: reader.u64()?,
            },
            seq: reader.counter()?,
            floor: reader.counter()?,
            command: Command::decode(&mut reader)?,
        };
        reader.finish()?;
        limited("entry", ENTRY_BYTES_MAX, ENTRY_HEADER_BYTES + body.len())?;
        if !(1..=write.seq).contains(&write.floor) {
            return Err(malformed("the floor is not between 1 and the seq"));
        }
        Ok(write)
    }
}

/// A change of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Sets a key if it is as expected.
    CompareAndSwap {
        /// The key.
        key: &'a [u8],
        /// How it must be.
        expect: Expect<'a>,
        /// Its new value.
        value: &'a [u8],
    },
    /// Adds to a key that holds an ASCII decimal i64; an absent key counts as 0.
    Increment {
        /// The key.
        key: &'a [u8],
        /// What to add.
        delta: i64,
    },
    /// Adds bytes to the end of a value; an absent key counts as an empty one.
    Append {
        /// The key.
        key: &'a [u8],
        /// What to add.
        value: &'a [u8],
    },
    /// Removes the keys of a range, in bytewise order; at most
    /// [`crate::limits::ENTRY_KEYS_MAX`] (rules A7): whoever wants more gone asks again.
    DeleteRange {
        /// The first key of the range; empty: the first of all.
        from: &'a [u8],
        /// The first key behind the range, not empty; `None`: there is no end.
        to: Option<&'a [u8]>,
        /// So many keys must be there, or none is removed.
        expect: Option<u64>,
    },
    /// Several operations as one (see [`Txn`]).
    Txn(Txn<'a>),
}

impl<'a> Command<'a> {
    /// Whether it can only take from the state, never add to it: a disk that is low takes it (rules
    /// E5).
    #[must_use]
    pub fn only_removes(&self) -> bool {
        match self {
            Self::Delete { .. } | Self::DeleteRange { .. } => true,
            Self::Put { .. }
            | Self::CompareAndSwap { .. }
            | Self::Increment { .. }
            | Self::Append { .. } => false,
            Self::Txn(txn) => txn.only_removes(),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Put { key, value } => {
                out.put_u8(1);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Self::Delete { key } => {
                out.put_u8(2);
                put_bytes(out, key);
            }
            Self::CompareAndSwap { key, expect, value } => {
                out.put_u8(3);
                put_bytes(out, key);
                expect.encode(out);
                put_bytes(out, value);
            }
            Self::Increment { key, delta } => {
                out.put_u8(4);
                put_bytes(out, key);
                out.put_i64(delta);
            }
            Self::Append { key, value } => {
                out.put_u8(5);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Self::DeleteRange { from, to, expect } => {
                out.put_u8(6);
                put_bytes(out, from);
                put_option(out, to, put_bytes);
                put_option(out, expect, BytesMut::put_u64);
            }
            Self::Txn(txn) => {
                out.put_u8(7);
                txn.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        match reader.u8()? {
            7 => Txn::decode(reader).map(Self::Txn),
            code => Self::decode_of_one(code, reader),
        }
    }

    /// One that may be part of a txn: a txn holds no txn, so that no bytes lead to a recursion.
    fn decode_of_one(code: u8, reader: &mut Reader<'a>) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Put {
                key: reader.key()?,
                value: reader.value()?,
            }),
            2 => Ok(Self::Delete { key: reader.key()? }),
            3 => Ok(Self::CompareAndSwap {
                key: reader.key()?,
                expect: Expect::decode(reader)?,
                value: reader.value()?,
            }),
            4 => Ok(Self::Increment {
                key: reader.key()?,
                delta: reader.i64()?,
            }),
            5 => Ok(Self::Append {
                key: reader.key()?,
                value: reader.value()?,
            }),
            6 => Ok(Self::DeleteRange {
                from: reader.bytes("key", KEY_BYTES_MAX)?,
                to: reader.option(Reader::key)?,
                expect: reader.option(Reader::u64)?,
            }),
            _ => Err(malformed("the command is not known")),
        }
    }
}

/// The condition of a compare-and-swap. Key, condition and value together fit an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect<'a> {
    /// The key is not there.
    Absent,
    /// The key was last written at this revision.
    Revision(Index),
    /// The key holds these bytes.
    Value(&'a [u8]),
}

impl<'a> Expect<'a> {
    fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Absent => out.put_u8(1),
            Self::Revision(revision) => {
                out.put_u8(2);
                out.put_u64(revision.0);
            }
            Self::Value(value) => {
                out.put_u8(3);
                put_bytes(out, value);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Absent),
            // Compared, never counted on from: a revision that never was is simply not equal.
            2 => Ok(Self::Revision(reader.u64().map(Index)?)),
            3 => Ok(Self::Value(reader.value()?)),
            _ => Err(malformed("the condition is not known")),
        }
    }
}
