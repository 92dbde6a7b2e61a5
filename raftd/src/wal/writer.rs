//! The log as it is written: batches, marks, rotation.

use std::collections::VecDeque;

use raft::{HardState, Ticket};
use wire::types::{EntryId, Index};

use super::Error;
use super::format::{
    ALIGN_BYTES, BatchHeader, BatchKind, Chain, SEGMENT_HEADER_BYTES, SegmentHeader, SyncMark,
    batch_bytes_max, entry_bytes_max,
};
use super::index::LogIndex;
use super::pending::{Draft, Pending, Room};
use super::segment::Spare;
use crate::disk::Disk;

/// The segment that is written to.
pub(super) struct Active<F> {
    pub(super) header: SegmentHeader,
    pub(super) file: F,
    /// Where the next batch goes. At [`SEGMENT_HEADER_BYTES`] it is the `Open`.
    pub(super) offset: u64,
    /// Up to here the pages are in the cache, or on their way.
    pub(super) fetched: u64,
}

/// What is fetched at once. A spare's zeros are in the cache when it was made in this life of the
/// process, and if not a store would wait for a read of the device, page by page.
const FETCH_BYTES: u64 = 1024 * 1024;

/// What [`Wal::write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing waits.
    Idle,
    /// One batch is durable, and with it every write up to the ticket; `None` if the batch holds
    /// only parts of a large write.
    Durable(Option<Ticket>),
    /// The active segment is full and no spare is there: add one and call again.
    NoRoom,
}

/// The write-ahead log of a node.
///
/// Invariants:
/// - Everything in the log is durable: a batch enters `index`, `chain`, `hard_state` and `commit`
///   only after its sync returned.
/// - `active.offset` is a multiple of 512; from there on the segment holds the mark of the last
///   batch, then zeros.
/// - `spares` are the segments behind the active one, in order, without gap.
/// - After an error nothing more is written: the disk is [`crate::disk::Latched`], or the caller
///   ends the process.
pub struct Wal<D: Disk> {
    pub(super) disk: D,
    pub(super) active: Active<D::File>,
    /// The last segment that was sealed, until it is taken.
    pub(super) sealed: Option<D::File>,
    pub(super) spares: VecDeque<Spare<D::File>>,
    pub(super) first_segment: u64,
    pub(super) segment_bytes: u64,
    pub(super) index: LogIndex,
    pub(super) chain: Chain,
    pub(super) hard_state: HardState,
    pub(super) commit: Index,
    pub(super) draft: Draft,
    pub(super) head: Vec<u8>,
}

impl<D: Disk> Wal<D> {
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

    /// Bytes of all segments, spares included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.next_segment() - self.first_segment) * self.segment_bytes
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
        self.spares.push_back(spare);
    }

    /// Makes the next batch of `pending` durable.
    ///
    /// # Errors
    /// The disk's, after which nothing more may be written; or an entry that segments of this
    /// size cannot hold.
    pub fn write(&mut self, pending: &mut Pending) -> Result<Progress, Error> {
        while !pending.is_empty() {
            let next = self.last().index.next();
            self.draft.reset(next, self.hard_state, self.commit);
            let room = self.room();
            if pending.fill(&mut self.draft, room) {
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
        let next = self.last().index.next();
        self.draft.reset(next, self.hard_state, self.commit);
        if self.active.offset == SEGMENT_HEADER_BYTES {
            // Not even its first entry fitted, as it was made for a smaller limit.
            self.store_batch(None)?;
        }
        self.store_batch(Some(BatchKind::Seal))?;
        let mut spare = self.spares.pop_front().expect("the caller saw a spare");
        assert_eq!(spare.id(), self.active.header.id + 1, "spares have no gap");
        self.disk.map(&mut spare.file)?;
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
        while active.fetched < (active.offset + FETCH_BYTES).min(active.header.bytes) {
            self.disk.fetch(&active.file, active.fetched, FETCH_BYTES);
            active.fetched += FETCH_BYTES;
        }
    }

    /// Stores the draft as one batch and makes it durable with one sync (rules E1). Each byte is
    /// copied once, from the entry into the map.
    fn store_batch(&mut self, seal: Option<BatchKind>) -> Result<(), Error> {
        let segment = &self.active.header;
        let kind = seal.unwrap_or(if self.active.offset == SEGMENT_HEADER_BYTES {
            BatchKind::Open
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
        };
        let end = header.end();
        assert!(end <= segment.bytes, "a batch stays in its segment");
        let header_crc = header.encode(segment, &draft.entries, &mut self.head);

        let file = &self.active.file;
        self.disk.store(file, header.offset, &self.head)?;
        let mut at = header.offset + self.head.len() as u64;
        for entry in &draft.entries {
            self.disk.store(file, at, entry.bytes())?;
            at += entry.bytes().len() as u64;
        }
        self.disk.sync(file)?;
        if kind != BatchKind::Seal {
            // On its way before anyone is told; durable with the next sync or write-back (E3).
            let mark = SyncMark {
                offset: end,
                number: header.number,
                hard_state: header.hard_state,
                header_crc,
            };
            self.disk.store(file, end, &mark.encode(segment))?;
        }

        let terms = draft.entries.iter().map(wire::entry::Entry::term);
        self.index.accept(segment.id, &header, terms);
        self.active.offset = end;
        assert!(end.is_multiple_of(ALIGN_BYTES), "batches start at sectors");
        self.fetch_ahead();
        self.hard_state = header.hard_state;
        self.commit = header.commit;
        self.chain = Chain {
            number: header.number,
            header_crc,
            last: self.index.last(),
        };
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
