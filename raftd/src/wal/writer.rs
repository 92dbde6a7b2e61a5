//! The log as it is written: batches, marks, rotation.

use std::collections::VecDeque;
use std::iter;
use std::ops::Range;

use raft::{HardState, Ticket};
use wire::types::{EntryId, Index};

use super::Error;
use super::faulty::Faults;
use super::format::{
    ALIGN_BYTES, BatchHeader, BatchKind, Chain, SEGMENT_HEADER_BYTES, SegmentHeader, SyncMark,
    batch_bytes, batch_bytes_max, entry_bytes_max,
};
use super::index::LogIndex;
use super::pending::{Draft, Pending, Room};
use super::segment::{FETCH_BYTES, Spare};
use crate::disk::{Aligned, DIRECT_BYTES, Disk};

/// The segment that is written to.
pub(super) struct Active<F> {
    pub(super) header: SegmentHeader,
    pub(super) file: F,
    /// Where the next batch goes. At [`SEGMENT_HEADER_BYTES`] it is the `Open`.
    pub(super) offset: u64,
    /// Up to here the pages are in the cache, or on their way.
    pub(super) fetched: u64,
}

/// From this size on a batch goes past the map.
const DIRECT_BATCH_BYTES: u64 = 64 * 1024;
const _: () = assert!(DIRECT_BATCH_BYTES >= 2 * DIRECT_BYTES as u64);

/// What [`Wal::write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing waits.
    Idle,
    /// One batch is durable, and with it every write up to the ticket; `None` if the batch holds
    /// only parts of a large write, or no entries at all while some wait for room.
    Durable(Option<Ticket>),
    /// The active segment is full and no spare is there: add one and call again.
    NoRoom,
}

/// The write-ahead log of a node.
///
/// Invariants:
/// - Everything in the log is durable: a batch enters `index`, `chain`, `hard_state`, `commit` and
///   `snapshot` only after its sync returned.
/// - `snapshot` never falls, and the log holds every entry behind it: `index` begins at or before
///   it. `marked` is what the next batch says of it, the same or newer.
/// - `active.offset` is a multiple of 512; from there on the segment holds the mark of the last
///   batch, then zeros.
/// - `sizes` are those of the segments up to the active one, without gap: 0 for one that was missing
///   or bad at the start. `bytes` is their sum and that of the spares.
/// - `spares` are the segments behind the active one, in order, without gap.
/// - `faults` are entries of the log behind `snapshot`, and so is `rotten`: what the marker covers is
///   forgotten when it cannot be read.
/// - After an error nothing more is written: the disk is [`crate::disk::Latched`], or the caller
///   ends the process.
pub struct Wal<D: Disk> {
    pub(super) disk: D,
    pub(super) active: Active<D::File>,
    /// The last segment that was sealed, until it is taken.
    pub(super) sealed: Option<D::File>,
    pub(super) spares: VecDeque<Spare<D::File>>,
    pub(super) sizes: VecDeque<u64>,
    pub(super) bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) index: LogIndex,
    pub(super) faults: Faults,
    /// Up to this index nobody knows what was in the log: a header was damaged while it was open.
    pub(super) rotten: Option<Index>,
    /// Entries were forgotten because they cannot be read, see [`Wal::take_forgotten`].
    pub(super) forgotten: bool,
    pub(super) chain: Chain,
    pub(super) hard_state: HardState,
    pub(super) commit: Index,
    pub(super) snapshot: EntryId,
    pub(super) marked: EntryId,
    pub(super) draft: Draft,
    pub(super) head: Vec<u8>,
    /// How often entries were mended: what was read before may not be what is there.
    pub(super) mends: u64,
    /// For batches that go past the map.
    pub(super) blocks: Aligned,
}

impl<D: Disk> Wal<D> {
    /// The log holds the entries behind this one.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.index.base()
    }

    /// The last entry of the log; it is durable.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.index.last()
    }

    /// Durable term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The durable commit hint.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The durable marker: the newest published snapshot, 0@0 if there is none.
    #[must_use]
    pub fn snapshot(&self) -> EntryId {
        self.snapshot
    }

    /// Whether a snapshot of this entry is one of this log, as far as the log reaches back.
    #[must_use]
    pub fn holds(&self, snapshot: EntryId) -> bool {
        snapshot.index <= self.last().index && self.index.agrees_with(snapshot)
    }

    /// Whether the newest marker is durable.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.marked == self.snapshot
    }

    /// The oldest segment that the log needs.
    #[must_use]
    pub fn first_segment(&self) -> u64 {
        self.active.header.id + 1 - self.sizes.len() as u64
    }

    /// The segments before the active one that the log needs: they are written no more, but where
    /// entries are mended.
    #[must_use]
    pub fn sealed_segments(&self) -> Range<u64> {
        self.first_segment()..self.active.header.id
    }

    /// The id that the next spare must have.
    #[must_use]
    pub fn next_segment(&self) -> u64 {
        self.active.header.id + self.spares.len() as u64 + 1
    }

    /// How many spares are there.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Bytes of all segments that the log needs, spares included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last segment that was sealed, once: it is written no more.
    pub fn take_sealed(&mut self) -> Option<D::File> {
        self.sealed.take()
    }

    /// The disk below.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// A spare is ready.
    ///
    /// # Panics
    /// If its id is not [`Wal::next_segment`].
    pub fn add_spare(&mut self, spare: Spare<D::File>) {
        assert_eq!(spare.id(), self.next_segment(), "spares have no gap");
        self.bytes += spare.header.bytes;
        self.spares.push_back(spare);
    }

    /// A snapshot is published: the next batch says so. If nothing else is to be written,
    /// [`Wal::write`] makes one for it. An older one than before changes nothing.
    ///
    /// # Panics
    /// If its entry is not durable, or not the log's (rules E6).
    pub fn mark(&mut self, snapshot: EntryId) {
        let durable = snapshot.index <= self.last().index;
        assert!(durable, "{snapshot} is marked before it is durable");
        if snapshot.index > self.marked.index {
            let own = self.index.agrees_with(snapshot);
            assert!(own, "{snapshot} is marked, and the log has another");
            self.marked = snapshot;
        }
    }

    /// Entries up to `upto` are needed no more, but for about `keep_bytes` of segments: the log
    /// begins at the last segment that has all that is behind them. Returns the segments before
    /// it, which the log has forgotten: the caller removes their files, oldest first, see
    /// [`super::segment::remove`].
    ///
    /// # Panics
    /// If no durable marker covers them.
    pub fn compact(&mut self, upto: Index, keep_bytes: u64) -> Range<u64> {
        let covered = upto <= self.snapshot.index;
        assert!(covered, "what no snapshot covers stays");
        let old = self.first_segment();
        let kept = keep_bytes.div_ceil(self.segment_bytes) as usize;
        let first = self.index.compact(upto, kept).unwrap_or(old);
        for bytes in self.sizes.drain(..(first - old) as usize) {
            self.bytes -= bytes;
        }
        self.faults.forget(self.base().index);
        old..first
    }

    /// Makes the next batch of `pending` durable.
    ///
    /// # Errors
    /// The disk's, after which nothing more may be written; or an entry that segments of this
    /// size cannot hold.
    pub fn write(&mut self, pending: &mut Pending) -> Result<Progress, Error> {
        while !pending.is_empty() || !self.is_marked() {
            self.clear_draft();
            if pending.resets() && self.active.offset == SEGMENT_HEADER_BYTES {
                // A segment begins with the log as it was.
                self.store_batch(None)?;
                continue;
            }
            let room = self.room();
            if pending.fill(&mut self.draft, room) || self.fits_without_entries(pending, room) {
                self.store_batch(None)?;
                return Ok(Progress::Durable(self.draft.ticket));
            }
            self.check_fits(pending)?;
            if self.spares.is_empty() {
                return Ok(Progress::NoRoom);
            }
            self.rotate()?;
        }
        Ok(Progress::Idle)
    }

    /// Whether a batch is to be made for the marker alone, or for a term and vote that entries
    /// without room are in the way of; and can be.
    fn fits_without_entries(&mut self, pending: &mut Pending, room: Room) -> bool {
        if batch_bytes(0, 0) > room.hard_state_bytes {
            return false;
        }
        let overtakes = self.spares.is_empty() && pending.overtake(&mut self.draft);
        overtakes || !self.is_marked()
    }

    /// An empty batch at the end of the log.
    fn clear_draft(&mut self) {
        let next = self.last().index.next();
        self.draft
            .clear(next, self.hard_state, self.commit, self.marked);
    }

    fn room(&self) -> Room {
        let segment = &self.active.header;
        // While spares are there, nothing needs the reserve.
        let hard_state_end = if self.spares.is_empty() {
            segment.reserve_end()
        } else {
            segment.ordinary_end()
        };
        let ordinary = segment.ordinary_end().saturating_sub(self.active.offset);
        Room {
            ordinary_bytes: ordinary.min(batch_bytes_max(segment.bytes)),
            hard_state_bytes: hard_state_end.saturating_sub(self.active.offset),
        }
    }

    /// An entry that no new segment can hold would wait for ever.
    fn check_fits(&self, pending: &Pending) -> Result<(), Error> {
        let bytes_max = entry_bytes_max(self.segment_bytes);
        match pending.next_entry_bytes() {
            Some(bytes) if bytes > bytes_max => Err(Error::EntryTooLarge { bytes, bytes_max }),
            _ => Ok(()),
        }
    }

    /// Seals the active segment; the first spare becomes the active one. Its `Open` is stored with
    /// the entries that come first.
    fn rotate(&mut self) -> Result<(), Error> {
        self.clear_draft();
        if self.active.offset == SEGMENT_HEADER_BYTES {
            // Not even its first entry fitted, as it was made for a smaller limit.
            self.store_batch(None)?;
        }
        self.store_batch(Some(BatchKind::Seal))?;
        let mut spare = self.spares.pop_front().expect("the caller saw a spare");
        assert_eq!(spare.id(), self.active.header.id + 1, "spares have no gap");
        self.disk.map(&mut spare.file)?;
        self.sizes.push_back(spare.header.bytes);
        let active = Active {
            header: spare.header,
            file: spare.file,
            offset: SEGMENT_HEADER_BYTES,
            fetched: 0,
        };
        self.sealed = Some(std::mem::replace(&mut self.active, active).file);
        self.fetch_ahead();
        Ok(())
    }

    /// Sees to it that the pages of the next batches are in the cache.
    fn fetch_ahead(&mut self) {
        let active = &mut self.active;
        active.fetched = active.fetched.max(active.offset);
        while active.fetched < (active.offset + FETCH_BYTES).min(active.header.bytes) {
            self.disk.fetch(&active.file, active.fetched, FETCH_BYTES);
            active.fetched += FETCH_BYTES;
        }
    }

    /// Stores the draft as one batch and makes it durable with one sync (rules E1).
    fn store_batch(&mut self, seal: Option<BatchKind>) -> Result<(), Error> {
        let segment = self.active.header;
        let kind = seal.unwrap_or(if self.active.offset == SEGMENT_HEADER_BYTES {
            BatchKind::Open
        } else if self.draft.resets {
            BatchKind::Reset
        } else {
            BatchKind::Append
        });
        let draft = &self.draft;
        self.check_hard_state(draft.hard_state);
        let header = BatchHeader {
            kind,
            offset: self.active.offset,
            number: self.chain.number + 1,
            previous: self.chain,
            hard_state: draft.hard_state,
            first_index: draft.first_index,
            entries: draft.entries.len() as u32,
            payload_bytes: draft.payload_bytes as u32,
            commit: draft.commit,
            snapshot: draft.snapshot,
        };
        let end = header.end();
        assert!(end <= segment.bytes, "a batch stays in its segment");
        let header_crc = header.encode(&segment, &draft.entries, &mut self.head);

        if end - header.offset >= DIRECT_BATCH_BYTES {
            self.write_directly(&header)?;
        } else {
            self.store(&header)?;
        }
        let file = &self.active.file;
        self.disk.sync(file)?;
        if kind != BatchKind::Seal {
            // On its way before anyone is told; durable with the next sync or write-back (E3).
            let mark = SyncMark {
                offset: end,
                number: header.number,
                hard_state: header.hard_state,
                header_crc,
            };
            self.disk.store(file, end, &mark.encode(&segment))?;
        }

        let terms = self.draft.entries.iter().map(wire::entry::Entry::term);
        if kind == BatchKind::Reset {
            self.faults = Faults::default();
            self.rotten = None;
        } else {
            self.faults.cut(header.first_index);
        }
        self.index.accept(segment.id, &header, terms);
        self.active.offset = end;
        assert!(end.is_multiple_of(ALIGN_BYTES), "batches start at sectors");
        self.fetch_ahead();
        self.hard_state = header.hard_state;
        self.commit = header.commit;
        self.snapshot = header.snapshot;
        if self.snapshot.index > self.marked.index {
            self.marked = self.snapshot;
        }
        self.forget_covered();
        self.chain = Chain {
            number: header.number,
            header_crc,
            last: self.index.last(),
        };
        Ok(())
    }

    /// Copies each byte of a batch once, from the entry into the map.
    fn store(&self, header: &BatchHeader) -> Result<(), Error> {
        let file = &self.active.file;
        self.disk.store(file, header.offset, &self.head)?;
        let mut at = header.offset + self.head.len() as u64;
        for entry in &self.draft.entries {
            self.disk.store(file, at, entry.bytes())?;
            at += entry.bytes().len() as u64;
        }
        Ok(())
    }

    /// Collects a batch and gives its whole blocks to the device; what is beside them is stored. For
    /// many blocks that costs less than the map: each of its pages takes a fault for the first store
    /// and work of the kernel for being written.
    fn write_directly(&mut self, header: &BatchHeader) -> Result<(), Error> {
        let block = DIRECT_BYTES as u64;
        let (offset, end) = (header.offset, header.end());
        let from = offset - offset % block;
        let place = |at: u64| (at - from) as usize;
        if self.blocks.len() < place(end) {
            self.blocks = Aligned::new(place(end).next_power_of_two());
        }
        let mut at = place(offset);
        let entries = self.draft.entries.iter().map(|entry| &entry.bytes()[..]);
        for part in iter::once(&self.head[..]).chain(entries) {
            self.blocks[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.blocks[at..place(end)].fill(0);
        let (first, behind) = (offset.next_multiple_of(block), end - end % block);
        let part = |from, to| &self.blocks[place(from)..place(to)];
        let file = &self.active.file;
        self.disk.store(file, offset, part(offset, first))?;
        self.disk.write_at(file, first, part(first, behind))?;
        self.disk.store(file, behind, part(behind, end))?;
        Ok(())
    }

    /// A vote is given once per term and never forgotten (thesis 3.4).
    fn check_hard_state(&self, new: HardState) {
        let old = self.hard_state;
        let kept = new.term > old.term
            || (new.term == old.term && (old.vote.is_none() || new.vote == old.vote));
        assert!(kept, "hard state fell from {old:?} to {new:?}");
    }
}
