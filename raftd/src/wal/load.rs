//! Reading entries back, with pread, for followers that lag and for the store after a restart.

use std::ops::Range;

use bytes::Bytes;
use wire::entry::Entry;
use wire::types::Index;

use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::index::Position;
use super::segment::segment_name;
use super::window::{Batch, Window};
use super::writer::Wal;
use super::{Damage, Error};
use crate::disk::Disk;

/// Read at a time.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// Entries being collected.
struct Loading {
    next: Index,
    to: Index,
    bytes_left: usize,
    full: bool,
    entries: Vec<Entry>,
}

impl Loading {
    /// Takes what is wanted of a batch, up to `last`. False: a record is not what the table names.
    fn take(&mut self, batch: &Batch<'_>, last: Index) -> bool {
        let mut index = batch.header.first_index;
        let mut at = 0;
        let mut wanted = 0..0;
        for row in batch.rows() {
            let length = row.length as usize;
            if index == self.next && index <= last {
                let first = self.entries.is_empty() && wanted.is_empty();
                if length > self.bytes_left && !first {
                    self.full = true;
                    break;
                }
                if wanted.is_empty() {
                    wanted = at..at;
                }
                wanted.end = at + length;
                self.bytes_left = self.bytes_left.saturating_sub(length);
                self.next = self.next.next();
            }
            at += length;
            index = index.next();
        }
        self.collect(batch.payload.get(wanted))
    }

    fn collect(&mut self, records: Option<&[u8]>) -> bool {
        let Some(records) = records else {
            return false;
        };
        let mut records = Bytes::copy_from_slice(records);
        while !records.is_empty() {
            match Entry::split_from(&mut records) {
                Ok(entry) => self.entries.push(entry),
                Err(_) => return false,
            }
        }
        true
    }
}

impl<D: Disk> Wal<D> {
    /// Entries `from..=to`, as many as fit `max_bytes`, at least one. Empty if the log does not
    /// hold `from`.
    ///
    /// # Errors
    /// [`Error::Damaged`]: what stands there is not what was written; the disk's.
    pub fn load(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let mut loading = Loading {
            next: from,
            to: to.min(self.last().index),
            bytes_left: max_bytes,
            full: false,
            entries: Vec::new(),
        };
        while loading.next <= loading.to && !loading.full {
            let Some((position, last)) = self.index.find(loading.next) else {
                break;
            };
            self.walk(&mut loading, position, last)?;
        }
        Ok(loading.entries)
    }

    /// Whether these are the entries of that range, by index and term: the checksums vouch for what
    /// they say, not for their being what this log has there.
    fn holds(&self, entries: &[Entry], range: Range<Index>) -> bool {
        let count = range.end.0 - range.start.0;
        let is_held = |(entry, index): (&Entry, u64)| {
            let index = Index(index);
            entry.index() == index && entry.term() == self.index.term_before(index.next())
        };
        entries.len() as u64 == count && entries.iter().zip(range.start.0..).all(is_held)
    }

    /// Reads on from `position`, up to `last`, which lies in the same segment.
    fn walk(&self, loading: &mut Loading, position: Position, last: Index) -> Result<(), Error> {
        let last = last.min(loading.to);
        let id = position.segment;
        let file = self.disk.open(&segment_name(id))?;
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        let unreadable = |cause| Damage::unreadable(id, position.offset, &cause);
        self.disk.read_at(&file, 0, &mut page).map_err(unreadable)?;
        let here = |header: &SegmentHeader| header.id == id && header.bytes > position.offset;
        let Some(segment) = SegmentHeader::decode(&page).filter(here) else {
            return Err(Damage::new(id, 0, "the header page is damaged").into());
        };
        let mut window = Window::new(&self.disk, &file, segment, READ_AHEAD_BYTES);
        let mut offset = position.offset;
        while loading.next <= last && !loading.full {
            let batch = match window.batch(offset).map_err(unreadable)? {
                // Walking forward from `position` meets `next` before anything above it.
                Some(batch) if batch.header.first_index <= loading.next => batch,
                _ => {
                    let what = "a batch that was durable is gone";
                    return Err(Damage::new(id, offset, what).into());
                }
            };
            let (before, next) = (loading.entries.len(), loading.next);
            let whole = loading.take(&batch, last);
            if !whole || !self.holds(&loading.entries[before..], next..loading.next) {
                let what = "an entry that was durable is damaged";
                return Err(Damage::new(id, offset, what).into());
            }
            offset = batch.header.end();
        }
        Ok(())
    }
}
