//! Reading a segment with pread, a window at a time.

use raft::HardState;
use wire::entry::Entry;
use wire::types::Index;

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, Chain, SegmentHeader, TableRow, is_zero, table,
};
use crate::disk::{Disk, Error, SECTOR_BYTES};

/// A part of a segment in memory that moves as it is asked for other places.
///
/// Invariant: `buffer` holds the file's bytes from `start` on; memory is bounded by the largest
/// batch plus the read-ahead.
pub(super) struct Window<'d, D: Disk> {
    disk: &'d D,
    file: &'d D::File,
    segment: SegmentHeader,
    buffer: Vec<u8>,
    start: u64,
    read_ahead: usize,
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

    /// Whether every record is the one that the table names.
    pub(super) fn payload_is_intact(&self) -> bool {
        let mut rest = self.payload;
        let mut index = self.header.first_index;
        for row in self.rows() {
            match check_record(rest, row, index) {
                Some(length) => rest = &rest[length..],
                None => return false,
            }
            index = index.next();
        }
        rest.is_empty()
    }

    /// What the next batch must follow.
    pub(super) fn chain(&self, last: wire::types::EntryId) -> Chain {
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

/// The length of the record at the front of `bytes`, if it is the one that `row` names.
fn check_record(bytes: &[u8], row: TableRow, index: Index) -> Option<usize> {
    let length = Entry::check(bytes).ok()?;
    let named = length == row.length as usize
        && Entry::peek(bytes)
            == (
                wire::types::EntryId {
                    term: row.term,
                    index,
                },
                row.crc,
            );
    named.then_some(length)
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
        Self {
            disk,
            file,
            segment,
            buffer: Vec::new(),
            start: 0,
            read_ahead,
        }
    }

    /// The bytes of a range within the segment.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], Error> {
        let end = offset + length as u64;
        assert!(
            end <= self.segment.bytes,
            "a read of {offset}..{end} leaves the segment"
        );
        let held = self.start..=self.start + self.buffer.len() as u64;
        if !held.contains(&offset) || !held.contains(&end) {
            let most = (self.segment.bytes - offset) as usize;
            let ahead = length.max(self.read_ahead).min(most);
            self.start = offset;
            // If what lies ahead cannot be read, what was asked for may still be.
            self.read(ahead).or_else(|_| self.read(length))?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..from + length])
    }

    fn read(&mut self, length: usize) -> Result<(), Error> {
        self.buffer.resize(length, 0);
        let read = self.disk.read_at(self.file, self.start, &mut self.buffer);
        if read.is_err() {
            self.buffer.clear();
        }
        read
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
        let Some((header, header_crc)) = BatchHeader::decode(head, &segment, offset) else {
            return Ok(None);
        };
        let whole = self.bytes(offset, (header.end() - offset) as usize)?;
        let (head, rest) = whole.split_at(head_bytes);
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
