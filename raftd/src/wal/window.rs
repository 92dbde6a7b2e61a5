//! Reading a segment with pread, a window at a time.

use std::collections::BTreeSet;
use std::ops::Range;

use raft::HardState;
use wire::entry::{ENTRY_HEADER_BYTES, Entry, EntryKind, Identity};
use wire::error::Error as WireError;
use wire::membership::Membership;
use wire::types::{EntryId, Index};

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, Chain, SegmentHeader, TableRow, is_zero, table,
};
use crate::disk::{Aligned, DIRECT_BYTES, Disk, Error, SECTOR_BYTES};

/// Read at a time by whoever goes through a segment.
pub(super) const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// A part of a segment in memory that moves as it is asked for other places.
///
/// What the device cannot read is damage at that place and no other (rules D3): such sectors read as
/// [`UNREADABLE`], which no checksum takes for what was there.
///
/// Invariants:
/// - memory is bounded by the largest batch plus the read-ahead;
/// - `unreadable` are the offsets of the sectors that could not be read, at most
///   [`UNREADABLE_MAX`].
pub(super) struct Window<'d, D: Disk> {
    disk: &'d D,
    file: &'d D::File,
    segment: SegmentHeader,
    held: Held,
    read_ahead: usize,
    unreadable: BTreeSet<u64>,
}

/// What a window holds of its file.
///
/// Invariant: the first `bytes` of `buffer` stand in the file from `start` on.
pub(super) struct Held {
    buffer: Aligned,
    start: u64,
    bytes: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            buffer: Aligned::new(0),
            start: 0,
            bytes: 0,
        }
    }
}

impl Held {
    fn end(&self) -> u64 {
        self.start + self.bytes as u64
    }

    /// Moves on to `start`, with room for so many bytes: what is there of them is kept.
    fn advance(&mut self, start: u64, room: usize) {
        let kept = if (self.start..self.end()).contains(&start) {
            (start - self.start) as usize..self.bytes
        } else {
            0..0
        };
        self.bytes = kept.len();
        self.start = start;
        if self.buffer.len() < room.max(kept.len()) {
            let mut larger = Aligned::new(room.max(kept.len()));
            larger[..kept.len()].copy_from_slice(&self.buffer[kept]);
            self.buffer = larger;
        } else {
            self.buffer.copy_within(kept, 0);
        }
    }
}

/// What stands for the bytes of a sector that cannot be read: not zeros, which mean something.
const UNREADABLE: u8 = 0xee;
/// Sectors of a segment that cannot be read. With more the device is broken, and each one more
/// would cost as long as it takes to say so.
const UNREADABLE_MAX: usize = 4096;

/// A record of a batch, as the table names it.
pub(super) struct Record {
    pub(super) identity: Identity,
    /// Where it stands in the payload.
    pub(super) at: Range<usize>,
    /// What stands there is what the table names.
    pub(super) is_intact: bool,
}

/// A genuine batch header with its table, and the bytes where its payload should be.
pub(super) struct Batch<'w> {
    pub(super) header: BatchHeader,
    pub(super) header_crc: u32,
    head: &'w [u8],
    pub(super) payload: &'w [u8],
}

impl Batch<'_> {
    /// The identities of the entries.
    pub(super) fn rows(&self) -> impl Iterator<Item = TableRow> + '_ {
        table(self.head)
    }

    /// The entries that the table names, in order, and where each stands in the payload: a genuine
    /// header's lengths fill it.
    fn places(&self) -> impl Iterator<Item = (Identity, Range<usize>)> + '_ {
        let mut end = 0;
        let indexes = (self.header.first_index.0..).map(Index);
        self.rows().zip(indexes).map(move |(row, index)| {
            let at = end..end + row.length as usize;
            end = at.end;
            let identity = Identity {
                id: EntryId {
                    term: row.term,
                    index,
                },
                crc: row.crc,
            };
            (identity, at)
        })
    }

    /// The records that the table names, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.places().map(|(identity, at)| Record {
            is_intact: is_record(&self.payload[at.clone()], identity),
            identity,
            at,
        })
    }

    /// Those entries that say who is a member, but for damaged ones. Only they are verified.
    ///
    /// # Errors
    /// One is intact and says nothing: no node writes that.
    pub(super) fn memberships(&self) -> Result<Vec<(EntryId, Membership)>, WireError> {
        let told = self.places().filter_map(|(identity, at)| {
            let record = &self.payload[at];
            let is_told = Entry::peek_kind(record) == Some(EntryKind::Membership)
                && is_record(record, identity);
            is_told.then(|| {
                let body = &record[ENTRY_HEADER_BYTES..];
                Ok((identity.id, Membership::decode(body)?))
            })
        });
        told.collect()
    }

    /// Where the payload and the zeros behind it stand in the segment.
    pub(super) fn payload_range(&self) -> Range<u64> {
        let start = self.header.offset + self.header.head_bytes() as u64;
        start..self.header.end()
    }

    /// Whether every record is the one that the table names.
    pub(super) fn payload_is_intact(&self) -> bool {
        self.records().all(|record| record.is_intact)
    }

    /// What the next batch must follow.
    pub(super) fn chain(&self, last: EntryId) -> Chain {
        Chain {
            number: self.header.number,
            header_crc: self.header_crc,
            last,
        }
    }

    /// Term and vote as of this batch.
    pub(super) fn hard_state(&self) -> HardState {
        self.header.hard_state
    }
}

/// Whether these bytes are the record of this entry.
fn is_record(bytes: &[u8], identity: Identity) -> bool {
    Entry::check(bytes) == Ok(bytes.len()) && Entry::peek(bytes) == (identity.id, identity.crc)
}

impl<'d, D: Disk> Window<'d, D> {
    /// A window over `file`, which is a segment with this header; at least `read_ahead` bytes are
    /// read at a time.
    pub(super) fn new(
        disk: &'d D,
        file: &'d D::File,
        segment: SegmentHeader,
        read_ahead: usize,
    ) -> Self {
        Self::over(disk, file, segment, read_ahead, Held::default())
    }

    /// The same; another window over this file held that.
    pub(super) fn over(
        disk: &'d D,
        file: &'d D::File,
        segment: SegmentHeader,
        read_ahead: usize,
        held: Held,
    ) -> Self {
        Self {
            disk,
            file,
            segment,
            held,
            read_ahead,
            unreadable: BTreeSet::new(),
        }
    }

    /// What it holds, for the next window over this file.
    pub(super) fn into_held(self) -> Held {
        self.held
    }

    /// The bytes of a range within the segment.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], Error> {
        let end = offset + length as u64;
        assert!(
            end <= self.segment.bytes,
            "a read of {offset}..{end} leaves the segment"
        );
        if offset < self.held.start || end > self.held.end() {
            let ahead = self.read_ahead.max(length) as u64;
            // If what lies ahead cannot be read, what was asked for may still be, or parts of it.
            self.read(offset, offset + ahead)
                .or_else(|_| self.read(offset, end))
                .or_else(|_| self.read_sectors(offset, length))?;
        }
        let from = (offset - self.held.start) as usize;
        Ok(&self.held.buffer[from..from + length])
    }

    /// Reads what is not held of a range and the blocks that it lies in, as far as the segment goes.
    fn read(&mut self, offset: u64, end: u64) -> Result<(), Error> {
        let block = DIRECT_BYTES as u64;
        let end = end.next_multiple_of(block).min(self.segment.bytes);
        let held = &mut self.held;
        let start = offset - offset % block;
        held.advance(start, (end - start) as usize);
        let (from, wanted) = (held.bytes, (end - start) as usize);
        if from < wanted {
            let missing = &mut held.buffer[from..wanted];
            let read = self
                .disk
                .read_at(self.file, held.start + from as u64, missing);
            held.bytes = if read.is_ok() { wanted } else { 0 };
            read?;
        }
        Ok(())
    }

    /// Reads sector by sector, and notes those that cannot be read.
    fn read_sectors(&mut self, offset: u64, length: usize) -> Result<(), Error> {
        self.held = Held {
            buffer: Aligned::new(length),
            start: offset,
            bytes: length,
        };
        let end = offset + length as u64;
        let mut at = offset;
        while at < end {
            let next = (at + 1).next_multiple_of(SECTOR_BYTES).min(end);
            let place = (at - offset) as usize..(next - offset) as usize;
            let sector = &mut self.held.buffer[place];
            if let Err(error) = self.disk.read_at(self.file, at, sector) {
                self.unreadable.insert(at / SECTOR_BYTES * SECTOR_BYTES);
                if self.unreadable.len() > UNREADABLE_MAX {
                    self.held.bytes = 0;
                    return Err(error);
                }
                sector.fill(UNREADABLE);
            }
            at = next;
        }
        Ok(())
    }

    /// Whether all that was looked at in this range could be read.
    pub(super) fn was_readable(&self, range: Range<u64>) -> bool {
        let from = range.start / SECTOR_BYTES * SECTOR_BYTES;
        self.unreadable.range(from..range.end).next().is_none()
    }

    /// The batch at `offset`, if a genuine header stands there. The payload is not checked.
    pub(super) fn batch(&mut self, offset: u64) -> Result<Option<Batch<'_>>, Error> {
        let segment = self.segment;
        let room = segment.bytes - offset;
        if room < BATCH_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let fixed = self.bytes(offset, BATCH_HEADER_BYTES)?;
        let Some(head_bytes) = BatchHeader::claimed_head_bytes(fixed, &segment) else {
            return Ok(None);
        };
        if head_bytes as u64 > room {
            return Ok(None);
        }
        let head = self.bytes(offset, head_bytes)?;
        let genuine = BatchHeader::decode(head, &segment, offset);
        let Some((header, header_crc)) = genuine else {
            return Ok(None);
        };
        let whole = self.bytes(offset, (header.end() - offset) as usize)?;
        let (head, rest) = whole.split_at(head_bytes);
        // With its payload it may have been read anew, by a device that fails meanwhile.
        if BatchHeader::decode(head, &segment, offset) != genuine {
            return Ok(None);
        }
        Ok(Some(Batch {
            header,
            header_crc,
            head,
            payload: &rest[..header.payload_bytes as usize],
        }))
    }

    /// Where the last byte that is not zero lies within `from..to`, as the end of its sector.
    pub(super) fn last_nonzero(&mut self, from: u64, to: u64) -> Result<Option<u64>, Error> {
        let mut last = None;
        let mut at = from;
        while at < to {
            let length = (to - at).min(self.read_ahead as u64) as usize;
            let bytes = self.bytes(at, length)?;
            if !is_zero(bytes) {
                let sectors = bytes.chunks(SECTOR_BYTES as usize);
                let end = sectors.enumerate().rfind(|(_, sector)| !is_zero(sector));
                last = end.map(|(n, _)| at + (n as u64 + 1) * SECTOR_BYTES);
            }
            at += length as u64;
        }
        Ok(last)
    }
}
