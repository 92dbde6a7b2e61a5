//! A write as it stands in a request and, byte for byte, in the body of a log entry.

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
    /// Its number in the session; 1 or more.
    pub seq: u64,
    /// The lowest seq that the client has not settled; at most `seq`, at least 1.
    pub floor: u64,
    /// What to do.
    pub command: Command<'a>,
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

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key was set.
    Put,
    /// This many keys were removed.
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
    /// A retry of a write that was applied; what it answered was too long to keep.
    Applied,
}
