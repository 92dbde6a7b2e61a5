//! Entries that are damaged while their identities are known, from headers that are intact: named,
//! never forgotten, and mended by what peers hold (rules D4).

use std::collections::BTreeMap;
use std::ops::Range;

use wire::entry::{Entry, Identity};
use wire::types::Index;

use super::Error;
use super::format::{ALIGN_BYTES, SegmentHeader};
use super::index::{LogIndex, Position};
use super::load::open_segment;
use super::window::{Batch, READ_AHEAD_BYTES, Window};
use super::writer::Wal;
use crate::disk::Disk;

/// What is read and written at once where an entry is mended: what the kernel reads at least, so
/// that a write of it needs no read of what cannot be read.
const BLOCK_BYTES: u64 = 4096;
const SECTOR: usize = ALIGN_BYTES as usize;
const _: () = assert!(BLOCK_BYTES.is_multiple_of(ALIGN_BYTES));

/// A damaged entry: which it was, and where its record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) identity: Identity,
    segment: u64,
    /// Where its batch begins.
    batch: u64,
    offset: u64,
    bytes: u64,
}

impl Fault {
    fn is_of(&self, entry: &Entry) -> bool {
        entry.identity() == self.identity && entry.bytes().len() as u64 == self.bytes
    }
}

/// The faulty entries of a log, by index.
///
/// Invariants: each is in the log, behind its base, at the place that the log would read it from;
/// so there are at most as many as the log has entries.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<Index, Fault>);

impl Faults {
    pub(super) fn last(&self) -> Option<Index> {
        self.0.keys().next_back().copied()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The last one up to `index`.
    fn last_upto(&self, index: Index) -> Option<Index> {
        self.0.range(..=index).next_back().map(|(index, _)| *index)
    }

    /// The first one at or behind `index`.
    pub(super) fn first_from(&self, index: Index) -> Option<Index> {
        self.0.range(index..).next().map(|(index, _)| *index)
    }

    pub(super) fn add(&mut self, faults: impl IntoIterator<Item = Fault>) {
        let by_index = |fault: Fault| (fault.identity.id.index, fault);
        self.0.extend(faults.into_iter().map(by_index));
    }

    /// The log was cut before `from`.
    pub(super) fn cut(&mut self, from: Index) {
        self.0.split_off(&from);
    }

    /// The log begins behind `base`.
    pub(super) fn forget(&mut self, base: Index) {
        self.0 = self.0.split_off(&base.next());
    }
}

/// Forgets what cannot be read, up to `rotten` and what is faulty, if a marker at `marked` covers it:
/// nobody needs it. True: there was something.
pub(super) fn forget_covered(
    index: &mut LogIndex,
    faults: &mut Faults,
    rotten: Option<Index>,
    marked: Index,
) -> bool {
    let upto = rotten.max(faults.last_upto(marked));
    let Some(upto) = upto.filter(|upto| *upto > index.base().index) else {
        return false;
    };
    index.forget(upto);
    faults.forget(upto);
    true
}

/// The records of a batch that are not what its table names.
pub(super) fn faults_of<'a>(
    segment: u64,
    batch: &'a Batch<'_>,
) -> impl Iterator<Item = Fault> + 'a {
    let start = batch.header.offset + batch.header.head_bytes() as u64;
    let damaged = batch.records().filter(|record| !record.is_intact);
    damaged.map(move |record| Fault {
        identity: record.identity,
        segment,
        batch: batch.header.offset,
        offset: start + record.at.start as u64,
        bytes: record.at.len() as u64,
    })
}

/// What a look at an entry brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// It can be read, or the log does not hold it.
    Sound,
    /// It is faulty, and so may be others of its batch.
    Faulty,
    /// The header of its batch is damaged: up to this index nobody knows what was there.
    Rotten(Index),
}

/// What is wrong where an entry stands.
enum Found {
    /// These entries of its batch; maybe none.
    Batch(Vec<Fault>),
    /// A header on the way to it.
    Header,
    /// The header page of its segment, or all of it.
    Page,
}

impl<D: Disk> Wal<D> {
    /// The faulty entries, by index. They count as not durable: none at or behind the first of them
    /// may be acknowledged.
    pub fn faulty(&self) -> impl Iterator<Item = Identity> {
        self.faults.0.values().map(|fault| fault.identity)
    }

    /// Looks for damage where the entry at `index` stands. Entries of its batch that are damaged are
    /// faulty from now on.
    ///
    /// # Errors
    /// The disk's.
    pub fn inspect(&mut self, index: Index) -> Result<Inspected, Error> {
        let Some((position, end)) = self.index.find(index) else {
            return Ok(Inspected::Sound);
        };
        let found = match self.look_at(position, index)? {
            Found::Batch(found) => found,
            Found::Header => return Ok(self.rot(index.max(self.index.next_known(index, end)))),
            Found::Page => return Ok(self.rot(index.max(self.index.last_before(position)))),
        };
        let held = self.base().index.next()..=end;
        let held = |fault: &Fault| held.contains(&fault.identity.id.index);
        let found: Vec<Fault> = found.into_iter().filter(held).collect();
        if found.is_empty() {
            return Ok(Inspected::Sound);
        }
        self.faults.add(found);
        self.forget_covered();
        Ok(Inspected::Faulty)
    }

    /// Up to this index nobody knows any more what was there.
    fn rot(&mut self, upto: Index) -> Inspected {
        self.rotten = self.rotten.max(Some(upto));
        self.forget_covered();
        Inspected::Rotten(upto)
    }

    /// What is wrong with the batch that has the entry at `index`, which is behind `position`.
    fn look_at(&self, position: Position, index: Index) -> Result<Found, Error> {
        let Some((file, segment)) = open_segment(&self.disk, position.segment)? else {
            return Ok(Found::Page);
        };
        let mut window = Window::new(&self.disk, &file, segment, READ_AHEAD_BYTES);
        let mut offset = position.offset;
        loop {
            let batch = window.batch(offset)?;
            let Some(batch) = batch.filter(|batch| batch.header.first_index <= index) else {
                return Ok(Found::Header);
            };
            let header = &batch.header;
            if index.0 - header.first_index.0 < u64::from(header.entries) {
                return Ok(Found::Batch(faults_of(segment.id, &batch).collect()));
            }
            offset = header.end();
        }
    }

    /// Forgets what cannot be read and the durable marker covers.
    pub(super) fn forget_covered(&mut self) {
        let marked = self.snapshot.index;
        let rotten = self.rotten.take_if(|upto| *upto <= marked);
        self.forgotten |= forget_covered(&mut self.index, &mut self.faults, rotten, marked);
    }

    /// Whether entries that a marker covers were forgotten since the last time this was asked, since
    /// they cannot be read: [`Wal::base`] is higher now.
    pub fn take_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.forgotten)
    }

    /// Puts back what these entries hold, where they are faulty: the same bytes at the same place, so
    /// that nothing else of the log changes, and a crash on the way leaves the same damage. What is
    /// not faulty, or another entry than the one that was there, is left out.
    ///
    /// # Errors
    /// The disk's, after which nothing more may be written.
    pub fn mend(&mut self, entries: &[Entry]) -> Result<(), Error> {
        self.mends += 1;
        let mut batches: BTreeMap<(u64, u64), Vec<(Fault, &Entry)>> = BTreeMap::new();
        for entry in entries {
            let fault = self.faults.0.get(&entry.index());
            if let Some(fault) = fault.filter(|fault| fault.is_of(entry)) {
                let batch = batches.entry((fault.segment, fault.batch));
                batch.or_default().push((*fault, entry));
            }
        }
        for ((segment, offset), wanted) in batches {
            if let Some((file, header)) = open_segment(&self.disk, segment)? {
                self.mend_batch(&file, header, offset, &wanted)?;
            }
        }
        Ok(())
    }

    fn mend_batch(
        &mut self,
        file: &D::File,
        segment: SegmentHeader,
        offset: u64,
        wanted: &[(Fault, &Entry)],
    ) -> Result<(), Error> {
        let window = || Window::new(&self.disk, file, segment, ALIGN_BYTES as usize);
        let Some(payload) = window().batch(offset)?.map(|batch| batch.payload_range()) else {
            return Ok(());
        };
        for (fault, entry) in wanted {
            self.put_back(file, fault, entry, &payload)?;
        }
        let synced = self.disk.sync(file);
        // Only what the device gives back is mended, and a sync that failed must not look as if it had
        // not: this file is not read from the device at every start.
        self.disk.drop_cache(file);
        synced?;
        let mut window = window();
        let Some(batch) = window.batch(offset)? else {
            return Ok(());
        };
        let faulty: Vec<Fault> = faults_of(segment.id, &batch).collect();
        for (fault, _) in wanted {
            if !faulty.contains(fault) {
                self.faults.0.remove(&fault.identity.id.index);
            }
        }
        Ok(())
    }

    /// Writes a record into its place, block by block: sectors that hold something else, if all of
    /// the block can be read, and else the whole block, since the kernel must not need to read it.
    /// What cannot be read and is not of this `payload` stays as it is.
    fn put_back(
        &self,
        file: &D::File,
        fault: &Fault,
        entry: &Entry,
        payload: &Range<u64>,
    ) -> Result<(), Error> {
        let end = fault.offset + fault.bytes;
        let file_bytes = self.disk.bytes(file)?;
        for start in (fault.offset / BLOCK_BYTES * BLOCK_BYTES..end).step_by(BLOCK_BYTES as usize) {
            let mut block = vec![0; BLOCK_BYTES.min(file_bytes - start) as usize];
            let mut readable = true;
            for (at, sector) in (start..).step_by(SECTOR).zip(block.chunks_mut(SECTOR)) {
                if self.disk.read_at(file, at, sector).is_err() {
                    if !payload.contains(&at) {
                        return Ok(());
                    }
                    // All of it is of entries that are faulty.
                    readable = false;
                    sector.fill(0);
                }
            }
            let held = block.clone();
            let (from, to) = (fault.offset.max(start), end.min(start + BLOCK_BYTES));
            block[(from - start) as usize..(to - start) as usize].copy_from_slice(
                &entry.bytes()[(from - fault.offset) as usize..(to - fault.offset) as usize],
            );
            if !readable {
                self.disk.write_at(file, start, &block)?;
                continue;
            }
            let sectors = block.chunks(SECTOR).zip(held.chunks(SECTOR));
            for (at, (sector, held)) in (start..).step_by(SECTOR).zip(sectors) {
                if sector != held {
                    self.disk.write_at(file, at, sector)?;
                }
            }
        }
        Ok(())
    }
}
