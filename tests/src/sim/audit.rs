//! What a member really has on its disk: read from the layer below the cache, by a reader of its
//! own that shares no code with `raftd::wal`. It is written from the byte map in `raftd-wal(5)`.
//!
//! It reads each batch once, when it appears: to look costs one small read if there is nothing new.
//! What was read is remembered and not read again, so that later damage does not change what the
//! disk once held: whoever acknowledged it, acknowledged the truth; and that segments are removed
//! which a snapshot covers. [`Audit::afresh`] reads all that is there again.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use byteorder::{BigEndian, ByteOrder};
use raft::HardState;
use raftd::disk::sim::SimDisk;
use wire::types::{EntryId, Index, NodeId, Term};

const SEGMENT_MAGIC: &[u8; 8] = b"RAFTDWAL";
const BATCH_MAGIC: u32 = 0x5242_4154;
const SEGMENT_USED_BYTES: usize = 96;
const FIRST_BATCH: u64 = 4096;
const HEADER_BYTES: usize = 128;
const ROW_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 48;
const SECTOR_BYTES: u64 = 512;
const SEAL: u16 = 3;
const RESET: u16 = 4;
const ANEW: u16 = 5;
/// A bit of the flags.
const LOST: u16 = 1;
/// No batch is longer.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// An entry by what tells it from others: its index is its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its term.
    pub term: Term,
    /// The checksum of its record.
    pub crc: u32,
}

/// What a batch changed.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Term and vote as of this batch.
    pub hard_state: HardState,
    /// Index of the first of `entries`, or of the next one.
    pub first: Index,
    /// What was cut from the log: from `first` on, or, if this batch resets it, all of it.
    pub cut: &'a [Held],
    /// Index of the first of `cut`.
    pub cut_from: Index,
    /// What was appended.
    pub entries: &'a [Held],
    /// The entry before them.
    pub before: EntryId,
    /// The commit hint.
    pub commit: Index,
    /// The newest published snapshot.
    pub snapshot: EntryId,
    /// The snapshot replaced the log: what was before `first` is gone, too.
    pub resets: bool,
    /// So it is, because the log was lost.
    pub anew: bool,
}

/// The durable log of a member.
///
/// Invariants:
/// - `log` is what the batches up to `number` make: the entry behind `base` first, no gap;
/// - every batch in it follows the one before it, by number and checksum.
#[derive(Clone, Debug)]
pub struct Audit {
    segment: u64,
    name: String,
    salt: u64,
    offset: u64,
    number: u64,
    header_crc: u32,
    hard_state: HardState,
    commit: Index,
    snapshot: EntryId,
    base: EntryId,
    log: Vec<Held>,
    /// The last entry in each sealed segment that was not cut since.
    ends: BTreeMap<u64, Index>,
    /// Changes of names when a log that begins anew was last looked for.
    names: u64,
    buffer: Vec<u8>,
}

/// A batch as it was read, before it is believed.
struct Read {
    number: u64,
    header_crc: u32,
    hard_state: HardState,
    kind: u16,
    first: Index,
    commit: Index,
    snapshot: EntryId,
    end: u64,
    entries: Vec<Held>,
}

impl Default for Audit {
    fn default() -> Self {
        let mut audit = Self {
            segment: 0,
            name: String::new(),
            salt: 0,
            offset: FIRST_BATCH,
            number: 0,
            header_crc: 0,
            hard_state: HardState::default(),
            commit: Index(0),
            snapshot: EntryId::default(),
            base: EntryId::default(),
            log: Vec::new(),
            ends: BTreeMap::new(),
            names: 0,
            buffer: Vec::new(),
        };
        audit.begin_segment(1);
        audit
    }
}

impl Audit {
    /// Reads all of a disk, from the oldest segment that is there.
    #[must_use]
    pub fn afresh(disk: &SimDisk) -> Self {
        let mut audit = Self::default();
        while audit.step(disk, &mut |_| ()) {}
        audit
    }

    /// Durable term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The durable log begins behind this entry, as far as it was read.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last durable entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last().map_or(self.base, |held| EntryId {
            term: held.term,
            index: Index(self.base.index.0 + self.log.len() as u64),
        })
    }

    /// The durable marker.
    #[must_use]
    pub fn snapshot(&self) -> EntryId {
        self.snapshot
    }

    /// The durable commit hint.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// What is durable at `index`; `None` also if the log begins behind it.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<Held> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.log.get(usize::try_from(place).ok()?).copied()
    }

    /// The durable entries behind [`Audit::base`].
    #[must_use]
    pub fn log(&self) -> &[Held] {
        &self.log
    }

    /// The last entry that the log has in a segment or before it; `None` if it is not sealed.
    #[must_use]
    pub fn end_of(&self, segment: u64) -> Option<Index> {
        self.ends.get(&segment).copied()
    }

    /// Whether this is what `earlier` saw, but for what has gone from the front since then.
    #[must_use]
    pub fn continues(&self, earlier: &Self) -> bool {
        let covered = self.base.index <= self.snapshot.index.max(earlier.base.index);
        covered
            && self.hard_state == earlier.hard_state
            && self.snapshot == earlier.snapshot
            && self.last() == earlier.last()
            && earlier.log.ends_with(&self.log)
    }

    /// Whether nothing stands behind the end of the log, but for the mark of the last batch.
    #[must_use]
    pub fn ends_clean(&self, disk: &SimDisk) -> bool {
        let end = self.offset / SECTOR_BYTES;
        disk.used_sectors(&self.name).iter().all(|at| *at <= end)
    }

    /// Reads one batch that has become durable, if there is one, and shows it.
    pub fn step(&mut self, disk: &SimDisk, show: &mut impl FnMut(&Batch<'_>)) -> bool {
        let next = self.read_next(disk).or_else(|| self.read_anew(disk));
        let Some(read) = next else {
            return false;
        };
        let anew = read.kind == ANEW;
        let resets = anew || read.kind == RESET;
        let cut_from = match resets {
            true => self.base.index.next(),
            false => read.first,
        };
        let kept = (cut_from.0 - 1).saturating_sub(self.base.index.0) as usize;
        let cut = self.log.split_off(kept.min(self.log.len()));
        if resets {
            self.base = read.snapshot;
        }
        if !cut.is_empty() {
            for end in self.ends.values_mut() {
                *end = (*end).min(read.first.prev());
            }
        }
        let mut appended = read.entries.as_slice();
        if let [first, rest @ ..] = appended
            && read.first <= self.base.index
        {
            // The front is half removed, and what it ended with was replaced here.
            self.base = EntryId {
                term: first.term,
                index: read.first,
            };
            appended = rest;
        }
        let before = self.last();
        show(&Batch {
            hard_state: read.hard_state,
            first: read.first,
            cut: &cut,
            cut_from,
            entries: &read.entries,
            before,
            commit: read.commit,
            snapshot: read.snapshot,
            resets,
            anew,
        });
        self.log.extend_from_slice(appended);
        self.number = read.number;
        self.header_crc = read.header_crc;
        self.hard_state = read.hard_state;
        self.commit = read.commit;
        self.snapshot = read.snapshot;
        self.offset = read.end;
        if read.kind == SEAL {
            self.ends.insert(self.segment, self.last().index);
            self.begin_segment(self.segment + 1);
        }
        true
    }

    /// The batch that follows the last one.
    fn read_next(&mut self, disk: &SimDisk) -> Option<Read> {
        if !disk.read_durable(&self.name, 0, &mut [0]) && !self.begin_at_oldest(disk) {
            return None;
        }
        if self.was_made_again(disk) {
            *self = Self::default();
        }
        if self.offset == FIRST_BATCH && !self.read_segment_header(disk) {
            return None;
        }
        self.read_batch(disk)
    }

    /// A log in which nothing was ever written is thrown away if there is no IDENTITY beside it, and
    /// another one is made.
    fn was_made_again(&self, disk: &SimDisk) -> bool {
        let mut now = self.clone();
        self.number == 1 && now.read_segment_header(disk) && now.salt != self.salt
    }

    /// The first batch of a later segment with which a lost log begins anew, whatever was between.
    fn read_anew(&mut self, disk: &SimDisk) -> Option<Read> {
        let names = disk.name_changes();
        if std::mem::replace(&mut self.names, names) == names {
            return None;
        }
        let later = segments(disk).into_iter().rev();
        for id in later.take_while(|id| *id > self.segment) {
            let mut head = [0; HEADER_BYTES];
            let mut next = self.clone();
            next.begin_segment(id);
            if !next.read_segment_header(disk)
                || !disk.read_durable(&next.name, FIRST_BATCH, &mut head)
                || BigEndian::read_u16(&head[58..]) != ANEW
            {
                continue;
            }
            next.number = BigEndian::read_u64(&head[32..]).wrapping_sub(1);
            next.header_crc = BigEndian::read_u32(&head[88..]);
            if let Some(read) = next.read_batch(disk) {
                *self = next;
                return Some(read);
            }
        }
        None
    }

    fn begin_segment(&mut self, id: u64) {
        self.segment = id;
        self.offset = FIRST_BATCH;
        self.name.clear();
        let _ = write!(self.name, "wal/{:016x}.wal", self.segment);
    }

    /// If segments are gone up to here, the oldest that is there says what it follows: batches that
    /// nobody looked at may have been between, but no entries. Says whether it does.
    fn begin_at_oldest(&mut self, disk: &SimDisk) -> bool {
        let oldest = segments(disk).first().copied();
        let Some(oldest) = oldest.filter(|id| *id > self.segment) else {
            return false;
        };
        let untouched = self.number == 0;
        let mut next = Self {
            segment: oldest,
            ..self.clone()
        };
        next.begin_segment(oldest);
        let mut head = [0; HEADER_BYTES];
        if !disk.read_durable(&next.name, FIRST_BATCH, &mut head) {
            return false;
        }
        next.number = BigEndian::read_u64(&head[32..]).wrapping_sub(1);
        next.header_crc = BigEndian::read_u32(&head[88..]);
        let last = read_id(&head[72..]);
        if untouched {
            next.base = last;
        }
        let follows = next.last() == last && next.number >= self.number;
        if follows {
            *self = next;
        }
        follows
    }

    /// A spare may be made again until it is used, so its header is read until it is.
    fn read_segment_header(&mut self, disk: &SimDisk) -> bool {
        let mut page = [0; SEGMENT_USED_BYTES];
        let whole = disk.read_durable(&self.name, 0, &mut page)
            && page.starts_with(SEGMENT_MAGIC)
            && BigEndian::read_u32(&page[8..]) == crc32fast::hash(&page[12..])
            && BigEndian::read_u64(&page[48..]) == self.segment;
        self.salt = BigEndian::read_u64(&page[56..]);
        whole
    }

    /// The batch at the current place, if a whole one is there that follows the last.
    fn read_batch(&mut self, disk: &SimDisk) -> Option<Read> {
        let mut head = [0; HEADER_BYTES];
        if !disk.read_durable(&self.name, self.offset, &mut head) {
            return None;
        }
        let in_place = BigEndian::read_u32(&head) == BATCH_MAGIC
            && BigEndian::read_u64(&head[8..]) == self.salt
            && BigEndian::read_u64(&head[16..]) == self.offset
            && BigEndian::read_u64(&head[24..]) == self.segment
            && BigEndian::read_u64(&head[32..]) == self.number.wrapping_add(1)
            && BigEndian::read_u32(&head[88..]) == self.header_crc;
        let count = BigEndian::read_u32(&head[60..]) as usize;
        let payload_bytes = BigEndian::read_u32(&head[92..]) as usize;
        let table_bytes = count.checked_mul(ROW_BYTES)?;
        if !in_place || table_bytes + payload_bytes > BATCH_BYTES_MAX {
            return None;
        }
        let behind = self.offset + HEADER_BYTES as u64;
        self.buffer.resize(table_bytes + payload_bytes, 0);
        if !disk.read_durable(&self.name, behind, &mut self.buffer) {
            return None;
        }
        let (table, payload) = self.buffer.split_at(table_bytes);
        let header_crc = BigEndian::read_u32(&head[4..]);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[8..]);
        hasher.update(table);
        if hasher.finalize() != header_crc {
            return None;
        }
        let first = Index(BigEndian::read_u64(&head[64..]));
        let kind = BigEndian::read_u16(&head[58..]);
        let snapshot = read_id(&head[112..]);
        let fits = if kind == RESET || kind == ANEW {
            first == snapshot.index.next()
        } else {
            first.0 >= 1 && first <= self.last().index.next()
        };
        let entries = read_entries(table, payload, first).filter(|_| fits)?;
        let vote = BigEndian::read_u64(&head[48..]);
        let bytes = (HEADER_BYTES + table_bytes + payload_bytes) as u64;
        Some(Read {
            number: self.number + 1,
            header_crc,
            hard_state: HardState {
                term: Term(BigEndian::read_u64(&head[40..])),
                vote: (vote != 0).then_some(NodeId(vote)),
                lost: BigEndian::read_u16(&head[56..]) & LOST != 0,
            },
            kind,
            first,
            commit: Index(BigEndian::read_u64(&head[104..])),
            snapshot,
            end: self.offset + bytes.next_multiple_of(SECTOR_BYTES),
            entries,
        })
    }
}

/// The ids of the segments on a disk, in order.
fn segments(disk: &SimDisk) -> Vec<u64> {
    let files = disk.durable_files();
    let ids = files.iter().filter_map(|(name, _)| {
        let digits = name.strip_prefix("wal/")?.strip_suffix(".wal")?;
        u64::from_str_radix(digits, 16).ok()
    });
    ids.collect()
}

/// An index, then its term.
fn read_id(bytes: &[u8]) -> EntryId {
    EntryId {
        term: Term(BigEndian::read_u64(&bytes[8..])),
        index: Index(BigEndian::read_u64(bytes)),
    }
}

/// The entries of a batch, if every record is what the table says.
fn read_entries(table: &[u8], payload: &[u8], first: Index) -> Option<Vec<Held>> {
    let mut entries = Vec::with_capacity(table.len() / ROW_BYTES);
    let mut rest = payload;
    for (row, index) in table.chunks_exact(ROW_BYTES).zip(first.0..) {
        let term = BigEndian::read_u64(row);
        let length = BigEndian::read_u32(&row[8..]) as usize;
        let crc = BigEndian::read_u32(&row[12..]);
        if length < RECORD_HEADER_BYTES || length > rest.len() {
            return None;
        }
        let (record, behind) = rest.split_at(length);
        let whole = BigEndian::read_u32(record) as usize == length
            && BigEndian::read_u32(&record[4..]) == crc
            && BigEndian::read_u64(&record[8..]) == term
            && BigEndian::read_u64(&record[16..]) == index
            && crc32fast::hash(&record[8..]) == crc;
        if !whole {
            return None;
        }
        let term = Term(term);
        entries.push(Held { term, crc });
        rest = behind;
    }
    rest.is_empty().then_some(entries)
}
