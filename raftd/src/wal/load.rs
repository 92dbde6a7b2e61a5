//! Reading entries back, with pread, for followers that lag and for the store after a restart. The
//! log says where they stand, and whoever has the time reads them there: a read of the device takes
//! longer than a sync, and no write waits for it.

use bytes::Bytes;
use wire::entry::Entry;
use wire::types::{EntryId, Index, Term};

use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment::segment_name;
use super::window::{Batch, Held, READ_AHEAD_BYTES, Window};
use super::writer::Wal;
use super::{Damage, Error};
use crate::disk::Disk;

/// Entries that follow each other in one segment, and where they stand.
///
/// They are durable and were sound. What the log does later changes nothing of where they stand and
/// of what stands there: their file goes at most, or they rot.
#[derive(Debug)]
pub struct Passage {
    first: Index,
    last: Index,
    segment: u64,
    /// Of a batch from which a walk meets `first` before anything above it.
    offset: u64,
    /// The segment is written no more.
    is_sealed: bool,
    /// The first entries of their terms, up to `last`.
    terms: Vec<EntryId>,
    /// How often entries had been mended.
    mends: u64,
}

impl Passage {
    /// The first of the entries.
    #[must_use]
    pub fn first(&self) -> Index {
        self.first
    }

    fn term_of(&self, index: Index) -> Option<Term> {
        let after = self.terms.partition_point(|id| id.index <= index);
        Some(self.terms[after.checked_sub(1)?].term)
    }

    /// How many of these are the entries from `first` on, by index and term: the checksums vouch
    /// for what they say, not for their being what the log has there.
    fn count_held(&self, entries: &[Entry], first: Index) -> usize {
        let is_held = |(entry, index): &(&Entry, u64)| {
            let index = Index(*index);
            entry.index() == index && Some(entry.term()) == self.term_of(index)
        };
        entries.iter().zip(first.0..).take_while(is_held).count()
    }
}

/// Reads passages. Those that follow each other in a sealed segment are read from the device at
/// large, and once.
pub struct Reader<D: Disk> {
    reading: Option<Reading<D::File>>,
}

impl<D: Disk> Default for Reader<D> {
    fn default() -> Self {
        Self { reading: None }
    }
}

/// A sealed segment that is being read, passage by passage.
struct Reading<F> {
    /// As of so many mends.
    mends: u64,
    file: F,
    header: SegmentHeader,
    held: Held,
}

/// Entries being collected.
struct Loading {
    next: Index,
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

impl<D: Disk> Reader<D> {
    /// The entries of a passage, as many as fit `max_bytes`, at least one.
    ///
    /// # Errors
    /// [`Error::Damaged`]: where the first one stands is not what was written, or the log has
    /// forgotten it meanwhile, see [`Wal::inspect`]; the disk's.
    pub fn read(
        &mut self,
        disk: &D,
        passage: &Passage,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut loading = Loading {
            next: passage.first,
            bytes_left: max_bytes,
            full: false,
            entries: Vec::new(),
        };
        match self.walk(disk, passage, &mut loading) {
            // Whoever asks for what comes next is told.
            Err(Error::Damaged(_)) if !loading.entries.is_empty() => {}
            walked => walked?,
        }
        Ok(loading.entries)
    }

    fn walk(&mut self, disk: &D, passage: &Passage, loading: &mut Loading) -> Result<(), Error> {
        let id = passage.segment;
        let Reading {
            file, header, held, ..
        } = self.open(disk, passage)?;
        let mut window = Window::over(disk, &file, header, READ_AHEAD_BYTES, held);
        let mut offset = passage.offset;
        while loading.next <= passage.last && !loading.full {
            let unreadable = |cause| Damage::unreadable(id, offset, &cause);
            let batch = match window.batch(offset).map_err(unreadable)? {
                // Walking forward meets `next` before anything above it.
                Some(batch) if batch.header.first_index <= loading.next => batch,
                _ => {
                    let what = "a batch that was durable is gone";
                    return Err(Damage::new(id, offset, what).into());
                }
            };
            let (before, next) = (loading.entries.len(), loading.next);
            let whole = loading.take(&batch, passage.last);
            let held = passage.count_held(&loading.entries[before..], next);
            if !whole || next.0 + held as u64 != loading.next.0 {
                loading.entries.truncate(before + held);
                let what = "an entry that was durable is damaged";
                return Err(Damage::new(id, offset, what).into());
            }
            offset = batch.header.end();
        }
        let held = window.into_held();
        // Another one changes.
        self.reading = passage.is_sealed.then_some(Reading {
            mends: passage.mends,
            file,
            header,
            held,
        });
        Ok(())
    }

    /// Goes on with the segment that was read last, or opens another.
    fn open(&mut self, disk: &D, passage: &Passage) -> Result<Reading<D::File>, Error> {
        let (id, mends) = (passage.segment, passage.mends);
        let is_it = |reading: &Reading<D::File>| (reading.header.id, reading.mends) == (id, mends);
        if let Some(reading) = self.reading.take().filter(is_it) {
            return Ok(reading);
        }
        let Some((mut file, header)) = open_segment(disk, id)? else {
            let what = "the header page is damaged, or the file is gone";
            return Err(Damage::new(id, 0, what).into());
        };
        if passage.is_sealed {
            // Nobody but who lags reads it, and that once. The end of the active one is in the cache.
            disk.bypass_cache(&mut file);
        }
        Ok(Reading {
            mends,
            file,
            header,
            held: Held::default(),
        })
    }
}

/// The file of a segment, and its header page; `None` if either is gone.
pub(super) fn open_segment<D: Disk>(
    disk: &D,
    id: u64,
) -> Result<Option<(D::File, SegmentHeader)>, Error> {
    let file = match disk.open(&segment_name(id)) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut page = [0; SEGMENT_HEADER_BYTES as usize];
    let read = disk.read_at(&file, 0, &mut page).is_ok();
    let bytes = disk.bytes(&file)?;
    let is_own = |header: &SegmentHeader| header.id == id && header.bytes == bytes;
    let header = SegmentHeader::decode(&page).filter(|header| read && is_own(header));
    Ok(header.map(|header| (file, header)))
}

impl<D: Disk> Wal<D> {
    /// Where the entries from `from` on stand, up to `to` and not beyond what one passage holds.
    /// `None` if the log does not hold `from`, or it is faulty.
    #[must_use]
    pub fn passage(&self, from: Index, to: Index) -> Option<Passage> {
        let (position, last) = self.index.find(from)?;
        let last = last.min(to).min(self.last_sound(from));
        let terms = self.index.terms();
        let first_term = terms
            .partition_point(|id| id.index <= from)
            .checked_sub(1)?;
        let behind = terms.partition_point(|id| id.index <= last);
        (from <= last).then(|| Passage {
            first: from,
            last,
            segment: position.segment,
            offset: position.offset,
            is_sealed: position.segment < self.active.header.id,
            terms: terms[first_term..behind].to_vec(),
            mends: self.mends,
        })
    }

    /// Entries `from..=to`, as many as fit `max_bytes`, at least one; none behind one that is
    /// faulty. Empty if the log does not hold `from`, or it is faulty.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn load(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let mut reader = Reader::default();
        let mut entries: Vec<Entry> = Vec::new();
        let (mut next, mut bytes_left) = (from, max_bytes);
        while let Some(passage) = self.passage(next, to) {
            let read = match reader.read(&self.disk, &passage, bytes_left) {
                // Whoever asks for what comes next is told.
                Err(Error::Damaged(_)) if !entries.is_empty() => break,
                read => read?,
            };
            let bytes: usize = read.iter().map(|entry| entry.bytes().len()).sum();
            if bytes > bytes_left && !entries.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            next = Index(next.0 + read.len() as u64);
            entries.extend(read);
            if next <= passage.last {
                break;
            }
        }
        Ok(entries)
    }

    /// The last entry before the first faulty one from `from` on.
    fn last_sound(&self, from: Index) -> Index {
        let last = self.last().index;
        let faulty = self.faults.first_from(from);
        faulty.map_or(last, Index::prev)
    }
}
