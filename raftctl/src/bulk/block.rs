//! Blocks: what is cut from the input, and sent as one write.

use std::collections::VecDeque;
use std::mem;

use bytes::BytesMut;
use raftctl::client::{Batch, Command, Operation};
use wire::block;
use wire::limits::ENTRY_KEYS_MAX;

use super::rewrite::{Rewrite, key_of};
use crate::decoding::{Datum, Raw};
use crate::encoding::screen::shown;

/// Bytes of a block's operations from which on it takes no more; one always fits. Entries of this
/// size fit the smallest segments that a log may have (`wal.segment_bytes`), and larger ones are no
/// faster.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;
/// Bytes of a block's records as they were read, likewise.
const RAW_BYTES: usize = 8 * BLOCK_BYTES;
/// What stands around key and value in an operation, at most.
const OPERATION_BYTES: usize = 32;

/// A record that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its number in the input, from 1.
    pub(crate) number: u64,
    /// Why.
    pub(crate) why: String,
}

/// Consecutive records of the input: those behind `after`, up to `last`.
///
/// Invariant: each of them is either in `numbers`, which has one for each operation of `batch`, or in
/// `refused`, or in both if its operation turned out to be impossible; both rise.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// What is sent.
    pub(crate) batch: Batch,
    /// Which record each operation is.
    pub(crate) numbers: Vec<u64>,
    /// Those that are none.
    pub(crate) refused: Vec<Refused>,
    /// The one behind `last`, if it is refused and thereby ends all.
    pub(crate) stop: Option<Refused>,
    pub(crate) after: u64,
    pub(crate) last: u64,
    /// All records as they were read, if somebody will ask for them.
    raw: RawRecords,
    /// Whether one of the operations may turn out to be impossible.
    pub(crate) may_fail: bool,
    /// Whether one of them may leave its key as it is.
    pub(crate) is_conditional: bool,
    /// Bytes of the input that it was cut from.
    pub(crate) input_bytes: u64,
    /// CRC-32 of all operations of the input up to here.
    pub(crate) crc: u32,
}

/// Records as they were read, back to back, with their ends.
#[derive(Debug, Default)]
struct RawRecords {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RawRecords {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }
}

impl Block {
    /// Which record an operation is, if there is such a one: a server says which.
    pub(crate) fn number_of(&self, operation: u32) -> Option<u64> {
        self.numbers.get(operation as usize).copied()
    }

    /// The record with this number as it was read; nothing if that was not kept.
    pub(crate) fn raw(&self, number: u64) -> &[u8] {
        let place = usize::try_from(number - self.after - 1).unwrap_or(usize::MAX);
        let Some(end) = self.raw.ends.get(place) else {
            return &[];
        };
        let begin = place
            .checked_sub(1)
            .map_or(0, |before| self.raw.ends[before]);
        &self.raw.bytes[begin..*end]
    }

    /// In pieces of at most so many records; `crc` is that of the operations before it. Its operations
    /// must still be there.
    pub(crate) fn split(self, records: u64, crc: u32) -> Vec<Self> {
        assert_eq!(
            self.batch.len(),
            self.numbers.len(),
            "it has its operations"
        );
        let mut crc = crc32fast::Hasher::new_with_initial(crc);
        let mut input_bytes = self.input_bytes;
        let mut operations = self
            .numbers
            .iter()
            .zip(self.batch.operations().iter())
            .peekable();
        let mut refused = self.refused.iter().peekable();
        let mut pieces = Vec::new();
        let mut after = self.after;
        while after < self.last {
            let last = self.last.min(after + records);
            let mut piece = Self {
                after,
                last,
                may_fail: self.may_fail,
                is_conditional: self.is_conditional,
                input_bytes: mem::take(&mut input_bytes),
                ..Self::default()
            };
            while let Some((number, operation)) = operations.next_if(|next| *next.0 <= last) {
                piece.numbers.push(*number);
                piece.batch.push(operation).expect("it is part of a batch");
            }
            while let Some(refused) = refused.next_if(|next| next.number <= last) {
                piece.refused.push(refused.clone());
            }
            if !self.raw.ends.is_empty() {
                (after + 1..=last).for_each(|number| piece.raw.push(self.raw(number)));
            }
            crc.update(piece.batch.operations().bytes);
            piece.crc = crc.clone().finalize();
            pieces.push(piece);
            after = last;
        }
        pieces
    }

    /// What is said of an operation that is still there and cannot be done.
    pub(crate) fn refusal(&self, number: u64, why: &str) -> String {
        format!("{}: {why}", shown(self.key(number)))
    }

    /// The operation of this record was not done, since it cannot be.
    pub(crate) fn leave_out(&mut self, refused: Refused) {
        let before = |other: &Refused| other.number < refused.number;
        let place = self.refused.partition_point(before);
        self.refused.insert(place, refused);
    }

    /// The key of an operation that is still there.
    fn key(&self, number: u64) -> &[u8] {
        let place = self.numbers.partition_point(|before| *before < number);
        match self.batch.operations().iter().nth(place) {
            Some(Operation::Change(command)) => key_of(command),
            Some(Operation::Get { key }) => key,
            None => &[],
        }
    }

    /// Bytes that it keeps in memory, nearly.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes() + self.raw.bytes.len()
    }

    fn records(&self) -> usize {
        self.numbers.len() + self.refused.len()
    }
}

/// How records become blocks.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What becomes of each record.
    pub(crate) rewrite: Rewrite,
    /// All is one block.
    pub(crate) whole: bool,
    /// A record that is refused is the last that is taken.
    pub(crate) stops: bool,
    /// Somebody will ask for records as they were read, with this behind each text.
    pub(crate) raw_end: Option<u8>,
}

/// Why no more records are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// One was refused.
    Refused,
    /// What was to be one block is too large for that.
    TooLarge,
    /// Those that were done before are not the ones that come now.
    OtherInput,
}

/// Makes blocks of records.
///
/// Invariants:
/// - records up to `done` are counted and summed up, and not sent again;
/// - while `ends` is not empty, blocks end there and nowhere else;
/// - blocks that are ready are few: one unit of the input makes them.
#[derive(Debug)]
pub(crate) struct Builder {
    plan: Plan,
    block: Block,
    crc: crc32fast::Hasher,
    /// What was done before, and the sum of its operations.
    done: Option<(u64, u32)>,
    ends: VecDeque<u64>,
    ready: VecDeque<Block>,
    over: Option<Over>,
}

impl Builder {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            block: Block::default(),
            crc: crc32fast::Hasher::new(),
            done: None,
            ends: VecDeque::new(),
            ready: VecDeque::new(),
            over: None,
        }
    }

    /// Begins where somebody was: records up to `done` are settled, their operations sum up to
    /// `crc`, and the blocks behind them, which may be done, ended at `ends`.
    #[must_use]
    pub(crate) fn behind(mut self, done: u64, crc: u32, ends: VecDeque<u64>) -> Self {
        self.done = (done > 0).then_some((done, crc));
        self.ends = ends;
        self
    }

    /// The number of the last record that was taken.
    pub(crate) fn count(&self) -> u64 {
        self.block.last
    }

    /// Whether all is one block, which there is only if all of the input is sound.
    pub(crate) fn is_whole(&self) -> bool {
        self.plan.whole
    }

    pub(crate) fn over(&self) -> Option<Over> {
        self.over
    }

    /// Whether what was done before goes on behind the records that came.
    pub(crate) fn is_behind(&self) -> bool {
        self.done.is_some() || !self.ends.is_empty()
    }

    /// Whether there are records that [`Builder::cut`] would send.
    pub(crate) fn has_rest(&self) -> bool {
        self.block.records() > 0 && !self.is_behind() && !self.plan.whole
    }

    /// Takes what the decoder found.
    pub(crate) fn take(&mut self, datum: Result<Datum<'_>, String>, raw: Raw<'_>) {
        if self.over.is_some() {
            return;
        }
        // Out of the way while a command borrows from it.
        let mut rewrite = mem::take(&mut self.plan.rewrite);
        let command = match &datum {
            Ok(datum) => rewrite.apply(*datum),
            Err(why) => Err(why.clone()),
        };
        match command {
            Ok(command) => self.put(command),
            Err(why) => self.refuse(why),
        }
        self.plan.rewrite = rewrite;
        if self.over.is_none() {
            self.keep(datum, raw);
            self.end_where_it_was();
        }
    }

    /// Counts bytes of the input.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.block.input_bytes += bytes as u64;
    }

    /// The input pauses: what there is goes on its way.
    pub(crate) fn cut(&mut self) {
        if self.has_rest() {
            self.close();
        }
    }

    /// The input is at its end, or as far as it is wanted.
    pub(crate) fn finish(&mut self) {
        if matches!(self.over, Some(Over::TooLarge | Over::OtherInput)) {
            return;
        }
        if self.is_behind() {
            self.over = Some(Over::OtherInput);
        } else if self.block.records() > 0 || self.block.stop.is_some() {
            self.close();
        }
    }

    /// The next block that is ready.
    pub(crate) fn pop(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }

    fn put(&mut self, command: Command<'_>) {
        let data = match command {
            Command::Put { value, .. }
            | Command::CompareAndSwap { value, .. }
            | Command::Append { value, .. } => value.len(),
            _ => 0,
        };
        self.make_room(key_of(command).len() + data + OPERATION_BYTES);
        let operation = Operation::Change(command);
        let mut pushed = self.block.batch.push(operation);
        if pushed.is_err() && self.may_end() {
            self.close();
            pushed = self.block.batch.push(operation);
        }
        if pushed.is_err() {
            self.over = Some(Over::TooLarge);
            return;
        }
        self.block.last += 1;
        self.block.numbers.push(self.block.last);
        self.block.is_conditional |= matches!(command, Command::CompareAndSwap { .. });
        self.block.may_fail |=
            matches!(command, Command::Increment { .. } | Command::Append { .. });
    }

    fn refuse(&mut self, why: String) {
        self.make_room(0);
        let number = self.block.last + 1;
        let refused = Refused { number, why };
        if self.plan.stops && !self.is_behind() {
            self.block.stop = Some(refused);
            self.over = Some(Over::Refused);
        } else {
            self.block.last = number;
            self.block.refused.push(refused);
        }
    }

    /// Ends the block if a record with so many bytes does not fit any more.
    fn make_room(&mut self, bytes: usize) {
        let block = &self.block;
        let is_full = block.batch.bytes() + bytes > BLOCK_BYTES
            || block.raw.bytes.len() > RAW_BYTES
            || block.records() == ENTRY_KEYS_MAX;
        if is_full && self.may_end() {
            self.close();
        }
    }

    fn may_end(&self) -> bool {
        let is_cut_here = self.done.is_some() || self.ends.is_empty();
        !self.plan.whole && is_cut_here && self.block.records() > 0
    }

    fn keep(&mut self, datum: Result<Datum<'_>, String>, raw: Raw<'_>) {
        let Some(end) = self.plan.raw_end.filter(|_| self.done.is_none()) else {
            return;
        };
        let RawRecords { bytes, ends } = &mut self.block.raw;
        match (raw, datum) {
            (Raw::Text(text), _) => {
                bytes.extend_from_slice(text);
                if text.last() != Some(&end) {
                    bytes.push(end);
                }
            }
            (Raw::Block, Ok(Datum::Change(Command::Put { key, value }))) => {
                bytes.extend_from_slice(&block_of(key, value));
            }
            (Raw::Block, Ok(Datum::Key(key))) => bytes.extend_from_slice(&block_of(key, b"")),
            (Raw::Block, _) => {}
        }
        ends.push(bytes.len());
    }

    /// Ends the block where it was ended before.
    fn end_where_it_was(&mut self) {
        match (self.done, self.ends.front()) {
            (Some((done, crc)), _) if done == self.block.last => {
                self.close();
                self.done = None;
                if self.crc.clone().finalize() != crc {
                    self.over = Some(Over::OtherInput);
                }
            }
            (None, Some(end)) if *end == self.block.last => {
                self.ends.pop_front();
                self.close();
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.crc.update(self.block.batch.operations().bytes);
        let last = self.block.last;
        let next = Block {
            after: last,
            last,
            ..Block::default()
        };
        let mut block = mem::replace(&mut self.block, next);
        block.crc = self.crc.clone().finalize();
        if self.done.is_none() {
            self.ready.push_back(block);
        }
    }
}

/// A record of a block, as a whole input.
fn block_of(key: &[u8], value: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let start = block::begin(&mut out);
    block::put_record(&mut out, key, value);
    block::finish(&mut out, start);
    block::put_end(&mut out, 1);
    out
}

#[cfg(test)]
mod tests;
