//! Reading entries back, with pread, for followers that lag and for the store after a restart.

use bytes::Bytes;
use wire::entry::Entry;
use wire::types::Index;

use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::index::Position;
use super::segment::segment_name;
use super::window::{Batch, Held, Window};
use super::writer::Wal;
use super::{Damage, Error};
use crate::disk::Disk;

/// Read at a time.
pub(super) const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// A sealed segment that is being read, load by load.
pub(super) struct Reading<F> {
    id: u64,
    file: F,
    header: SegmentHeader,
    held: Held,
}

/// Entries being collected.
struct Loading {
    next: Index,
    to: Index,
    bytes_left: usize,
    full: bool,
    entries: Vec<Entry>,
}

impl Loading {
    /// Takes what is wanted of a batch, up to `last`. False: a record is not what the table names;
    /// those before it were taken.
    fn take(&mut self, batch: &Batch<'_>, last: Index) -> bool {
        let mut index = batch.header.first_index;
        let mut at = 0;
        let (mut wanted, mut names) = (0..0, Vec::new());
        for row in batch.rows() {
            let length = row.length as usize;
            if index == self.next && index <= last {
                let first = self.entries.is_empty() && names.is_empty();
                if length > self.bytes_left && !first {
                    self.full = true;
                    break;
                }
                if names.is_empty() {
                    wanted = at..at;
                }
                wanted.end = at + length;
                names.push((row.crc, length));
                self.bytes_left = self.bytes_left.saturating_sub(length);
                self.next = self.next.next();
            }
            at += length;
            index = index.next();
        }
        let mut records = Bytes::copy_from_slice(&batch.payload[wanted]);
        names.into_iter().all(|(crc, length)| {
            let mut record = records.split_to(length);
            let entry = Entry::split_from(&mut record);
            let named = entry
                .ok()
                .filter(|entry| entry.crc() == crc && record.is_empty());
            named.map(|entry| self.entries.push(entry)).is_some()
        })
    }
}

impl<D: Disk> Wal<D> {
    /// Entries `from..=to`, as many as fit `max_bytes`, at least one; none behind one that is
    /// faulty. Empty if the log does not hold `from`, or it is faulty.
    ///
    /// # Errors
    /// [`Error::Damaged`]: where `from` stands is not what was written, see [`Wal::inspect`]; the
    /// disk's.
    pub fn load(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let mut loading = Loading {
            next: from,
            to: self.last_sound(from).min(to),
            bytes_left: max_bytes,
            full: false,
            entries: Vec::new(),
        };
        while loading.next <= loading.to && !loading.full {
            let Some((position, last)) = self.index.find(loading.next) else {
                break;
            };
            match self.walk(&mut loading, position, last) {
                // Whoever asks for what comes next is told.
                Err(Error::Damaged(_)) if !loading.entries.is_empty() => break,
                walked => walked?,
            }
        }
        Ok(loading.entries)
    }

    /// The last entry before the first faulty one from `from` on.
    fn last_sound(&self, from: Index) -> Index {
        let last = self.last().index;
        let faulty = self.faults.first_from(from);
        faulty.map_or(last, Index::prev)
    }

    /// How many of these are the entries from `first` on, by index and term: the checksums vouch
    /// for what they say, not for their being what this log has there.
    fn count_held(&self, entries: &[Entry], first: Index) -> usize {
        let is_held = |(entry, index): &(&Entry, u64)| {
            let index = Index(*index);
            entry.index() == index && entry.term() == self.index.term_before(index.next())
        };
        entries.iter().zip(first.0..).take_while(is_held).count()
    }

    /// The file of a segment, and its header page; `None` if either is gone.
    pub(super) fn open_segment(&self, id: u64) -> Result<Option<(D::File, SegmentHeader)>, Error> {
        let file = match self.disk.open(&segment_name(id)) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        let read = self.disk.read_at(&file, 0, &mut page).is_ok();
        let bytes = self.disk.bytes(&file)?;
        let is_own = |header: &SegmentHeader| header.id == id && header.bytes == bytes;
        let header = SegmentHeader::decode(&page).filter(|header| read && is_own(header));
        Ok(header.map(|header| (file, header)))
    }

    /// Reads on from `position`, up to `last`, which lies in the same segment.
    fn walk(&self, loading: &mut Loading, position: Position, last: Index) -> Result<(), Error> {
        let last = last.min(loading.to);
        let id = position.segment;
        let Reading {
            file, header, held, ..
        } = self.reading(id)?;
        let mut window = Window::over(&self.disk, &file, header, READ_AHEAD_BYTES, held);
        let mut offset = position.offset;
        while loading.next <= last && !loading.full {
            let unreadable = |cause| Damage::unreadable(id, offset, &cause);
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
            let held = self.count_held(&loading.entries[before..], next);
            if !whole || next.0 + held as u64 != loading.next.0 {
                loading.entries.truncate(before + held);
                let what = "an entry that was durable is damaged";
                return Err(Damage::new(id, offset, what).into());
            }
            offset = batch.header.end();
        }
        let held = window.into_held();
        // The active one changes.
        if id < self.active.header.id {
            self.reading.set(Some(Reading {
                id,
                file,
                header,
                held,
            }));
        }
        Ok(())
    }

    /// Goes on with the segment that was read last, or opens another.
    fn reading(&self, id: u64) -> Result<Reading<D::File>, Error> {
        if let Some(reading) = self.reading.take().filter(|reading| reading.id == id) {
            return Ok(reading);
        }
        let Some((mut file, header)) = self.open_segment(id)? else {
            let what = "the header page is damaged, or the file is gone";
            return Err(Damage::new(id, 0, what).into());
        };
        if id < self.active.header.id {
            // Nobody but who lags reads it, and that once. The end of the active one is in the cache.
            self.disk.bypass_cache(&mut file);
        }
        Ok(Reading {
            id,
            file,
            header,
            held: Held::default(),
        })
    }
}
