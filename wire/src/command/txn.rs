//! Several operations that take effect as one, if the keys are as expected.

use core::fmt;

use bytes::{BufMut, BytesMut};

use super::Command;
use crate::buf::{Reader, each, limited, malformed, put_bytes};
use crate::entry::ENTRY_HEADER_BYTES;
use crate::error::Error;
use crate::limits::{ENTRY_BYTES_MAX, ENTRY_KEYS_MAX, TXN_APPENDS_MAX, WRITE_OVERHEAD_BYTES_MAX};

/// Compares, and two branches of operations. All compares are looked at first; if each holds, the
/// operations of `then` are done in order, else those of `or_else`. Each sees what those before it
/// did. If one cannot be done, none is ([`super::Outcome::Undone`]); one whose own condition does
/// not hold changes nothing and says so, and the others are done.
///
/// Compares and operations together, of both branches, are at most
/// [`ENTRY_KEYS_MAX`], and so are the keys that they touch (rules A7); at most [`TXN_APPENDS_MAX`] of
/// them are appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    /// What must be.
    pub compares: Compares<'a>,
    /// What to do then; always if there are no compares.
    pub then: Operations<'a>,
    /// What to do if one does not hold.
    pub or_else: Operations<'a>,
}

/// Compares, still encoded, back to back.
///
/// Invariant of decoded ones: each was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compares<'a> {
    /// What [`Compare::encode`] wrote.
    pub bytes: &'a [u8],
}

/// Operations, still encoded, back to back; [`Batch`] puts them together.
///
/// Invariant of decoded ones: each was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations<'a> {
    /// What [`Operation::encode`] wrote.
    pub bytes: &'a [u8],
}

/// What is asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// The key.
    pub key: &'a [u8],
    /// How it must be.
    pub condition: Condition<'a>,
}

/// How a key must be. The numbers of an absent key are 0; of its value nothing holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// The key is there.
    Exists,
    /// It is not.
    Absent,
    /// Its value, in bytewise order.
    Value(Relation, &'a [u8]),
    /// The entry that last wrote it.
    Revision(Relation, u64),
    /// The entry that made it.
    CreateRevision(Relation, u64),
    /// How often it was written since it was made.
    Version(Relation, u64),
}

/// How what is there stands to what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

/// One operation of a txn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A change; any command but another txn.
    Change(Command<'a>),
    /// Reads a key.
    Get {
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> Txn<'a> {
    /// Operations that are done whatever is there.
    #[must_use]
    pub fn batch(operations: Operations<'a>) -> Self {
        Self {
            then: operations,
            ..Self::default()
        }
    }

    /// See [`Command::only_removes`].
    pub(super) fn only_removes(&self) -> bool {
        let mut operations = self.then.iter().chain(self.or_else.iter());
        operations.all(|operation| match operation {
            Operation::Change(command) => command.only_removes(),
            Operation::Get { .. } => true,
        })
    }

    /// Whether a decoder takes it, whatever the length of its entry.
    ///
    /// # Errors
    /// `TooLarge` for a key, a value, or too many compares, operations and appends; `Malformed` for
    /// elements that cannot be understood.
    pub fn check(&self) -> Result<(), Error> {
        let (mut left, mut appends) = (ENTRY_KEYS_MAX, 0);
        let mut decode = |reader: &mut Reader<'a>| {
            let operation = Operation::decode(reader)?;
            appends += usize::from(operation.is_append());
            limited("txn, in appends", TXN_APPENDS_MAX, appends)?;
            Ok(operation)
        };
        check(self.compares.bytes, &mut left, Compare::decode)?;
        check(self.then.bytes, &mut left, &mut decode)?;
        check(self.or_else.bytes, &mut left, decode)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.compares.bytes);
        put_bytes(out, self.then.bytes);
        put_bytes(out, self.or_else.bytes);
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut list = || reader.bytes("txn", ENTRY_BYTES_MAX);
        let txn = Self {
            compares: Compares { bytes: list()? },
            then: Operations { bytes: list()? },
            or_else: Operations { bytes: list()? },
        };
        txn.check()?;
        Ok(txn)
    }
}

/// Decodes each element of a list; there may be `left` more of them in the txn.
fn check<'a, T>(
    bytes: &'a [u8],
    left: &mut usize,
    mut decode: impl FnMut(&mut Reader<'a>) -> Result<T, Error>,
) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        if *left == 0 {
            limited("txn, in operations", ENTRY_KEYS_MAX, ENTRY_KEYS_MAX + 1)?;
        }
        *left -= 1;
        decode(&mut reader)?;
    }
    Ok(())
}

impl<'a> Compares<'a> {
    /// The compares, in order.
    pub fn iter(self) -> impl Iterator<Item = Compare<'a>> {
        each(self.bytes, Compare::decode)
    }
}

impl<'a> Operations<'a> {
    /// The operations, in order.
    pub fn iter(self) -> impl Iterator<Item = Operation<'a>> {
        each(self.bytes, Operation::decode)
    }
}

impl<'a> Compare<'a> {
    /// All of these: the bytes of [`Compares`].
    #[must_use]
    pub fn encode_all(compares: &[Compare<'_>]) -> BytesMut {
        let mut out = BytesMut::new();
        for compare in compares {
            compare.encode(&mut out);
        }
        out
    }

    /// Appends it to `out`: for [`Compares`].
    pub fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.key);
        let number = |out: &mut BytesMut, code, relation: Relation, number| {
            out.put_u8(code);
            out.put_u8(relation.code());
            out.put_u64(number);
        };
        match self.condition {
            Condition::Exists => out.put_u8(1),
            Condition::Absent => out.put_u8(2),
            Condition::Value(relation, value) => {
                out.put_u8(3);
                out.put_u8(relation.code());
                put_bytes(out, value);
            }
            Condition::Revision(relation, revision) => number(out, 4, relation, revision),
            Condition::CreateRevision(relation, revision) => number(out, 5, relation, revision),
            Condition::Version(relation, version) => number(out, 6, relation, version),
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let key = reader.key()?;
        let code = reader.u8()?;
        // Numbers are compared, never counted on from: any will do.
        let condition = match code {
            1 => Condition::Exists,
            2 => Condition::Absent,
            3 => Condition::Value(Relation::decode(reader)?, reader.value()?),
            4 => Condition::Revision(Relation::decode(reader)?, reader.u64()?),
            5 => Condition::CreateRevision(Relation::decode(reader)?, reader.u64()?),
            6 => Condition::Version(Relation::decode(reader)?, reader.u64()?),
            _ => return Err(malformed("the condition is not known")),
        };
        Ok(Self { key, condition })
    }
}

impl Relation {
    /// Whether `there` stands like that to `given`.
    #[must_use]
    pub fn holds<T: Ord + ?Sized>(self, there: &T, given: &T) -> bool {
        match self {
            Self::Equal => there == given,
            Self::NotEqual => there != given,
            Self::Less => there < given,
            Self::Greater => there > given,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Equal => 1,
            Self::NotEqual => 2,
            Self::Less => 3,
            Self::Greater => 4,
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Equal),
            2 => Ok(Self::NotEqual),
            3 => Ok(Self::Less),
            4 => Ok(Self::Greater),
            _ => Err(malformed("the relation is not known")),
        }
    }
}

impl<'a> Operation<'a> {
    fn is_append(&self) -> bool {
        matches!(self, Self::Change(Command::Append { .. }))
    }

    /// Appends it to `out`: for [`Operations`].
    ///
    /// # Panics
    /// If it is a txn.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Change(command) => {
                assert!(!matches!(command, Command::Txn(_)), "a txn within a txn");
                out.put_u8(1);
                command.encode(out);
            }
            Self::Get { key } => {
                out.put_u8(2);
                put_bytes(out, key);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => {
                let code = reader.u8()?;
                Command::decode_of_one(code, reader).map(Self::Change)
            }
            2 => Ok(Self::Get { key: reader.key()? }),
            _ => Err(malformed("the operation is not known")),
        }
    }
}

/// Operations that are put together one by one, to be done as one: [`Txn::batch`].
///
/// Invariant: together they fit a txn, and that an entry.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: BytesMut,
    count: usize,
    appends: usize,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFull;

impl fmt::Display for BatchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch is full")
    }
}

impl core::error::Error for BatchFull {}

/// Bytes of a batch's operations, at most.
const BATCH_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES - WRITE_OVERHEAD_BYTES_MAX;

impl Batch {
    /// Adds one more operation.
    ///
    /// # Errors
    /// [`BatchFull`] if it does not fit any more; nothing is added. Into an empty batch any put
    /// fits that is within the limits of keys and values.
    ///
    /// # Panics
    /// If it is a txn.
    pub fn push(&mut self, operation: Operation<'_>) -> Result<(), BatchFull> {
        let before = self.bytes.len();
        operation.encode(&mut self.bytes);
        let appends = self.appends + usize::from(operation.is_append());
        let fits = self.count < ENTRY_KEYS_MAX
            && appends <= TXN_APPENDS_MAX
            && self.bytes.len() <= BATCH_BYTES_MAX;
        if !fits {
            self.bytes.truncate(before);
            return Err(BatchFull);
        }
        self.count += 1;
        self.appends = appends;
        Ok(())
    }

    /// The operations.
    #[must_use]
    pub fn operations(&self) -> Operations<'_> {
        Operations { bytes: &self.bytes }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their bytes, as they are sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Removes all of them; the room stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.appends) = (0, 0);
    }
}
