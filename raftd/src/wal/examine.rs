//! Looking at a log that nobody writes, without changing a byte of it: what is in each segment, and
//! what the next start would say and do.

use std::iter;

use bytes::Bytes;
use wire::entry::Entry;
use wire::types::{EntryId, Index, Term};

use super::format::{BatchHeader, Owner, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::recover::{Report, Settings, read_log, survey};
use super::repair::Repair;
use super::scan::{Scan, Seen, Watch};
use super::{Damage, Error};
use crate::disk::Disk;

/// What is in a log, as far as it could be read.
#[derive(Debug)]
pub struct Examination {
    /// The segments in use, oldest first. If the verdict is damage, the last one is that with the
    /// damage, as far as it was read, or the one before.
    pub segments: Vec<Contents>,
    /// Segments that are ready to be used.
    pub spares: u64,
    /// What the next start would change.
    pub repairs: Vec<Repair>,
    /// The first damage that the next start would find and go on from.
    pub damage: Option<Damage>,
    /// What the next start would say, or [`Error::Damaged`] with the place and the case.
    pub verdict: Result<Report, Error>,
}

/// What is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its header page.
    pub header: SegmentHeader,
    /// Whole batches in their places.
    pub batches: u64,
    /// Entries in them, also those that a later batch cut.
    pub entries: u64,
    /// The lowest and the highest index of them; `None` without entries.
    pub indexes: Option<(Index, Index)>,
    /// The lowest and the highest term of a batch.
    pub terms: (Term, Term),
    /// Batches that replace a part of the log.
    pub cuts: u64,
    /// Batches by which a snapshot replaces the log.
    pub resets: u64,
    /// The marker as of the last batch.
    pub snapshot: EntryId,
    /// Where the batches end.
    pub end: u64,
    /// The row of the decision table that applied there, as `raftd-wal(5)` names it; `None` if the
    /// segment was not read to its end.
    pub case: Option<char>,
}

impl Contents {
    fn new(header: SegmentHeader, first: &BatchHeader) -> Self {
        Self {
            header,
            batches: 0,
            entries: 0,
            indexes: None,
            terms: (first.hard_state.term, first.hard_state.term),
            cuts: 0,
            resets: 0,
            snapshot: EntryId::default(),
            end: SEGMENT_HEADER_BYTES,
            case: None,
        }
    }

    fn add(&mut self, batch: &BatchHeader) {
        self.batches += 1;
        self.entries += u64::from(batch.entries);
        if batch.entries > 0 {
            let first = batch.first_index;
            let last = Index(first.0 + u64::from(batch.entries) - 1);
            let (low, high) = self.indexes.unwrap_or((first, last));
            self.indexes = Some((low.min(first), high.max(last)));
        }
        // Terms never fall, or the batch would not be here.
        self.terms.1 = batch.hard_state.term;
        let resets = batch.kind.resets();
        self.resets += u64::from(resets);
        let cuts = !resets && batch.first_index <= batch.previous.last.index;
        self.cuts += u64::from(cuts);
        self.snapshot = batch.snapshot;
        self.end = batch.end();
    }
}

/// A whole batch in its place.
#[derive(Clone, Copy, Debug)]
pub struct FoundBatch<'a> {
    /// The segment.
    pub segment: u64,
    /// What its header says.
    pub header: BatchHeader,
    /// The header's checksum.
    pub header_crc: u32,
    payload: &'a [u8],
}

impl FoundBatch<'_> {
    /// Its entries, which are intact.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut records = Bytes::copy_from_slice(self.payload);
        iter::from_fn(move || Entry::split_from(&mut records).ok())
    }
}

/// Reads a log from front to end and shows each batch, in order. Changes nothing; so it believes
/// what the page cache says, also of bytes that a start would look for on the device.
///
/// Without `owner` the log is taken to be that of its first segment.
///
/// # Errors
/// The disk's; damage is the verdict.
pub fn examine<D: Disk>(
    disk: &D,
    owner: Option<Owner>,
    mut show: impl FnMut(FoundBatch<'_>),
) -> Result<Examination, Error> {
    let mut segments: Vec<Contents> = Vec::new();
    let mut watch = |seen: Seen<'_>| match seen {
        Seen::Batch(segment, batch) => {
            let header = batch.header;
            if segments.last().is_none_or(|last| last.header != *segment) {
                segments.push(Contents::new(*segment, &header));
            }
            if let Some(contents) = segments.last_mut() {
                contents.add(&header);
            }
            show(FoundBatch {
                segment: segment.id,
                header,
                header_crc: batch.header_crc,
                payload: batch.payload,
            });
        }
        Seen::End(case) => {
            if let Some(contents) = segments.last_mut() {
                contents.case = Some(case);
            }
        }
    };
    let mut scan = Scan::new(0);
    let mut examination = Examination {
        segments: Vec::new(),
        spares: 0,
        repairs: Vec::new(),
        damage: None,
        verdict: Ok(Report::default()),
    };
    match read(disk, owner, &mut scan, &mut watch) {
        Err(error @ Error::Disk(_)) => return Err(error),
        // A start that refuses the log leaves it as it is.
        Err(error) => examination.verdict = Err(error),
        Ok(spares) => {
            examination.spares = spares;
            examination.verdict = Ok(scan.report());
            examination.damage = scan.damage().cloned();
            examination.repairs = scan.into_repairs();
        }
    }
    examination.segments = segments;
    Ok(examination)
}

/// Reads all of it and returns how many spares there are.
fn read<D: Disk>(
    disk: &D,
    owner: Option<Owner>,
    scan: &mut Scan,
    watch: &mut Watch<'_>,
) -> Result<u64, Error> {
    let candidates = survey(disk, owner)?;
    let mut sound = candidates.iter().filter_map(|candidate| candidate.header);
    let Some(newest) = sound.next_back() else {
        return Err(Damage::new(1, 0, "there is no segment with a sound header page").into());
    };
    let settings = Settings {
        owner: newest.owner,
        segment_bytes: newest.bytes,
        tail_bytes: 0,
        alone: false,
        seed: 0,
    };
    let files = read_log(disk, &settings, &candidates, scan, watch)?;
    Ok(files.spares.len() as u64)
}
