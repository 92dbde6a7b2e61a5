//! From the files of a WAL to a log that can be written on. Nothing is changed before the verdict
//! on everything is known; each change may be interrupted and is then made again.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use raft::HardState;
use wire::entry::Entry;
use wire::types::{EntryId, Index};

use super::decide::{FileFacts, FileVerdict, PlaceFacts, PlaceVerdict, decide_file, decide_place};
use super::format::{
    ALIGN_BYTES, BATCH_BYTES_MAX, BatchHeader, BatchKind, Chain, Owner, SEGMENT_HEADER_BYTES,
    SegmentHeader, SyncMark, is_zero,
};
use super::index::LogIndex;
use super::pending::Draft;
use super::segment::{SegmentMaker, Spare, WAL_DIR, segment_id, segment_name};
use super::window::{Batch, Window};
use super::writer::{Active, Wal};
use super::{Damage, Error};
use crate::disk::Disk;

/// Read at a time while scanning.
const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// What recovery needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whose segments they must be.
    pub owner: Owner,
    /// The size of new segments; old ones may differ.
    pub segment_bytes: u64,
    /// Entries given back, in bytes, about.
    pub tail_bytes: usize,
}

/// A log, and what it held.
pub struct Recovered<D: Disk> {
    /// Ready to be written.
    pub wal: Wal<D>,
    /// The first entry of each term.
    pub terms: Vec<EntryId>,
    /// The newest entries.
    pub tail: Vec<Entry>,
    /// What was done.
    pub report: Report,
}

/// What recovery found and did, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments in use.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
    /// The last entry.
    pub last: EntryId,
    /// Bytes of an unacknowledged batch that were zeroed.
    pub torn_bytes: u64,
    /// Files that were removed: unfinished or useless spares.
    pub discarded: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "wal recovered segments={} batches={} last={} torn_bytes={} discarded={}",
            self.segments, self.batches, self.last, self.torn_bytes, self.discarded
        )
    }
}

/// A segment file before the verdict.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u64,
    /// The genuine header page, if there is one.
    header: Option<SegmentHeader>,
    /// Its first batch is whole: the segment is in use.
    open: bool,
}

/// What must be changed on disk before the log may be written.
#[derive(Debug, PartialEq, Eq)]
enum Repair {
    /// Zeros from here to there, then the mark of the batch before, in one sync.
    Zero {
        segment: u64,
        from: u64,
        to: u64,
        mark: Option<SyncMark>,
    },
    /// Remove a file.
    Remove(String),
}

/// Makes the first segment of a new log, with an `Open` batch that says: term 0, no vote, empty.
///
/// # Errors
/// The disk's, also that it is full.
pub fn create<D: Disk>(disk: &D, settings: &Settings, seed: u64) -> Result<(), Error> {
    disk.create_dir(WAL_DIR)?;
    disk.sync_dir("")?;
    let maker = SegmentMaker::begin(disk, settings.owner, 1, settings.segment_bytes, seed)?;
    let Spare { header, file } = maker.finish(disk)?;
    let open = BatchHeader {
        kind: BatchKind::Open,
        offset: SEGMENT_HEADER_BYTES,
        number: 1,
        previous: Chain::default(),
        hard_state: HardState::default(),
        first_index: Index(1),
        entries: 0,
        payload_bytes: 0,
        commit: Index::default(),
    };
    let mut head = Vec::new();
    open.encode(&header, &[], &mut head);
    disk.write_at(&file, open.offset, &head)?;
    disk.sync(&file)?;
    Ok(())
}

/// Removes what an attempt to make a log left behind, if nothing was ever written into it. False:
/// something was.
///
/// # Errors
/// The disk's; damage.
pub fn remove_virgin<D: Disk>(disk: &D) -> Result<bool, Error> {
    disk.create_dir(WAL_DIR)?;
    let names = disk.list(WAL_DIR)?;
    for name in &names {
        match segment_id(name) {
            None => {}
            Some(1) => {
                let file = disk.open(&segment_name(1))?;
                let first_mark = SEGMENT_HEADER_BYTES + ALIGN_BYTES;
                let behind = first_mark + ALIGN_BYTES;
                let Some(header) = read_header(disk, &file)? else {
                    return Ok(false);
                };
                let mut window = Window::new(disk, &file, header, READ_AHEAD_BYTES);
                if window.last_nonzero(behind, header.bytes)?.is_some() {
                    return Ok(false);
                }
                let first = window
                    .batch(SEGMENT_HEADER_BYTES)?
                    .map(|batch| batch.header);
                let written = first.is_some_and(|first| {
                    first.entries > 0 || first.hard_state != HardState::default()
                });
                let second = window.batch(first_mark)?;
                if written || second.is_some() {
                    return Ok(false);
                }
            }
            Some(_) => return Ok(false),
        }
    }
    for name in names {
        disk.remove(&format!("{WAL_DIR}/{name}"))?;
    }
    disk.sync_dir(WAL_DIR)?;
    Ok(true)
}

/// Reads the log and makes it ready to be written. `None`: there is no segment in use.
///
/// # Errors
/// [`Error::Damaged`] if something durable is gone; the disk's.
pub fn recover<D: Disk>(disk: D, settings: &Settings) -> Result<Option<Recovered<D>>, Error> {
    // Bytes that a failed sync left in the cache only, or that no sync has covered yet, must not
    // be taken for durable: sync, forget, and look at what the device holds.
    for candidate in survey(&disk, settings.owner)?.iter().rev() {
        let file = disk.open(&segment_name(candidate.id))?;
        disk.sync(&file)?;
        disk.drop_cache(&file);
        if candidate.open {
            break;
        }
    }
    let candidates = survey(&disk, settings.owner)?;
    let Some(newest) = candidates.iter().filter(|c| c.open).map(|c| c.id).max() else {
        return Ok(None);
    };
    let in_use = check_in_use(&candidates, newest)?;

    let tail_segments = settings.tail_bytes as u64 / settings.segment_bytes + 1;
    let mut scan = Scan {
        tail_bytes_max: settings.tail_bytes,
        ..Scan::default()
    };
    for header in &in_use {
        scan.keeps_tail = newest - header.id <= tail_segments;
        scan.segment(&disk, header, header.id < newest)?;
    }
    let spares = scan.files_behind(&disk, &candidates, newest, settings.segment_bytes)?;
    scan.unfinished_files(&disk)?;
    scan.carry_out(&disk)?;
    scan.into_log(disk, settings, in_use, spares).map(Some)
}

/// Looks at every segment file's header page and first batch.
fn survey<D: Disk>(disk: &D, owner: Owner) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for id in disk
        .list(WAL_DIR)?
        .iter()
        .filter_map(|name| segment_id(name))
    {
        let file = disk.open(&segment_name(id))?;
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        // A page that cannot be read is a damaged page (rules D3).
        let read = disk.read_at(&file, 0, &mut page).is_ok();
        let bytes = disk.bytes(&file)?;
        let header = SegmentHeader::decode(&page)
            .filter(|header| read && header.id == id && header.bytes == bytes);
        let mut open = false;
        if let Some(header) = header {
            if header.owner != owner {
                let what = format!("a segment of another node or life: {:?}", header.owner);
                return Err(Damage::new(id, 0, what).into());
            }
            let mut window = Window::new(disk, &file, header, ALIGN_BYTES as usize);
            let first = window.batch(SEGMENT_HEADER_BYTES);
            open = matches!(first, Ok(Some(batch)) if batch.payload_is_intact());
        }
        candidates.push(Candidate { id, header, open });
    }
    candidates.sort_by_key(|candidate| candidate.id);
    Ok(candidates)
}

/// The segments up to the newest in use: all there, all with a header page.
fn check_in_use(candidates: &[Candidate], newest: u64) -> Result<Vec<SegmentHeader>, Error> {
    let mut in_use = Vec::new();
    for id in 1..=newest {
        let candidate = candidates.iter().find(|candidate| candidate.id == id);
        let Some(candidate) = candidate else {
            return Err(Damage::new(id, 0, "a segment in use is missing").into());
        };
        let Some(header) = candidate.header else {
            let what = "the header page of a segment in use is damaged, or its size is wrong";
            return Err(Damage::new(id, 0, what).into());
        };
        in_use.push(header);
    }
    Ok(in_use)
}

/// The log as read so far, unverified until all segments were read.
#[derive(Debug, Default)]
struct Scan {
    index: LogIndex,
    chain: Chain,
    hard_state: HardState,
    commit: Index,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    keeps_tail: bool,
    sealed: bool,
    /// Where the newest segment goes on.
    offset: u64,
    repairs: Vec<Repair>,
    report: Report,
}

impl Scan {
    /// Reads one segment to the end of its batches.
    fn segment<D: Disk>(
        &mut self,
        disk: &D,
        segment: &SegmentHeader,
        successor: bool,
    ) -> Result<(), Error> {
        let file = disk.open(&segment_name(segment.id))?;
        let mut window = Window::new(disk, &file, *segment, READ_AHEAD_BYTES);
        self.report.segments += 1;
        self.sealed = false;
        self.offset = SEGMENT_HEADER_BYTES;
        loop {
            let unreadable = |cause| Damage::unreadable(segment.id, self.offset, &cause);
            let facts = self
                .facts(&mut window, segment, successor)
                .map_err(unreadable)?;
            let decision = decide_place(&facts);
            match decision.verdict {
                PlaceVerdict::Accept => {
                    let batch = window.batch(self.offset).map_err(unreadable)?;
                    self.accept(segment.id, &batch.expect("row A asks for a batch"));
                }
                PlaceVerdict::End | PlaceVerdict::Torn => {
                    let end = window
                        .last_nonzero(self.offset, segment.bytes)
                        .map_err(unreadable)?;
                    self.end(&mut window, segment, end.unwrap_or(self.offset))?;
                    return Ok(());
                }
                PlaceVerdict::Damage => {
                    let what = format!("{} (case {})", decision.why, decision.label);
                    return Err(Damage::new(segment.id, self.offset, what).into());
                }
            }
        }
    }

    /// What stands at the current place. The costly facts are gathered only where a row asks.
    fn facts<D: Disk>(
        &self,
        window: &mut Window<'_, D>,
        segment: &SegmentHeader,
        successor: bool,
    ) -> Result<PlaceFacts, crate::disk::Error> {
        let mut facts = PlaceFacts {
            sealed: self.sealed,
            successor,
            ..PlaceFacts::default()
        };
        if let Some(batch) = window.batch(self.offset)? {
            facts.header = true;
            facts.follows = batch.header.previous == self.chain;
            facts.payload = batch.payload_is_intact();
            if facts.follows && facts.payload {
                return Ok(facts);
            }
        }
        let quiet = self.is_quiet(window, segment)?;
        let behind = (self.offset + ALIGN_BYTES).min(segment.bytes);
        let end = window.last_nonzero(behind, segment.bytes)?;
        facts.blank = quiet && end.is_none();
        facts.in_reach = end.unwrap_or(behind) <= self.offset + BATCH_BYTES_MAX;
        let number = self.chain.number + 1;
        facts.evidence = evidence(window, segment, self.offset, number, end.unwrap_or(behind))?;
        Ok(facts)
    }

    /// Whether the current sector holds nothing, or the mark of the last batch.
    fn is_quiet<D: Disk>(
        &self,
        window: &mut Window<'_, D>,
        segment: &SegmentHeader,
    ) -> Result<bool, crate::disk::Error> {
        if self.offset == segment.bytes {
            return Ok(true);
        }
        let sector = window.bytes(self.offset, ALIGN_BYTES as usize)?;
        let (mark, rest) = sector.split_at(super::format::MARK_BYTES);
        Ok(is_zero(rest) && (is_zero(mark) || mark == self.mark().encode(segment)))
    }

    /// The mark of the last batch.
    fn mark(&self) -> SyncMark {
        SyncMark {
            offset: self.offset,
            number: self.chain.number,
            hard_state: self.hard_state,
            header_crc: self.chain.header_crc,
        }
    }

    fn accept(&mut self, segment: u64, batch: &Batch<'_>) {
        let header = &batch.header;
        let terms = batch.rows().map(|row| row.term);
        if header.first_index <= self.index.last().index {
            while self
                .tail
                .back()
                .is_some_and(|entry| entry.index() >= header.first_index)
            {
                let cut = self.tail.pop_back().expect("the tail has entries");
                self.tail_bytes -= cut.bytes().len();
            }
        }
        self.index.accept(segment, header, terms);
        self.hard_state = batch.hard_state();
        self.commit = header.commit;
        self.chain = batch.chain(self.index.last());
        self.sealed = header.kind == BatchKind::Seal;
        self.offset = header.end();
        self.report.batches += 1;
        if self.keeps_tail && header.entries > 0 {
            self.keep(batch.payload);
        }
    }

    fn keep(&mut self, payload: &[u8]) {
        let mut payload = Bytes::copy_from_slice(payload);
        while let Ok(entry) = Entry::split_from(&mut payload) {
            self.tail_bytes += entry.bytes().len();
            self.tail.push_back(entry);
        }
        while self.tail_bytes > self.tail_bytes_max && self.tail.len() > 1 {
            let oldest = self.tail.pop_front().expect("the tail has entries");
            self.tail_bytes -= oldest.bytes().len();
        }
    }

    /// The segment's batches end at the current place; what stands from there to `nonzero_end` is
    /// the mark of the last batch, or torn.
    fn end<D: Disk>(
        &mut self,
        window: &mut Window<'_, D>,
        segment: &SegmentHeader,
        nonzero_end: u64,
    ) -> Result<(), Error> {
        if self.sealed {
            return Ok(());
        }
        let mark = self.mark();
        let unreadable = |cause| Damage::unreadable(segment.id, mark.offset, &cause);
        let sector = window
            .bytes(self.offset, ALIGN_BYTES as usize)
            .map_err(unreadable)?;
        let marked = SyncMark::decode(sector, segment, self.offset) == Some(mark);
        let only_mark = nonzero_end <= self.offset + ALIGN_BYTES;
        if !(marked && only_mark) {
            self.report.torn_bytes += nonzero_end - self.offset;
            self.repairs.push(Repair::Zero {
                segment: segment.id,
                from: self.offset,
                to: nonzero_end.max(self.offset + ALIGN_BYTES),
                mark: Some(mark),
            });
        }
        Ok(())
    }

    /// Judges the files behind the newest segment in use and returns the spares among them.
    fn files_behind<D: Disk>(
        &mut self,
        disk: &D,
        candidates: &[Candidate],
        newest: u64,
        segment_bytes: u64,
    ) -> Result<Vec<SegmentHeader>, Error> {
        let mut spares: Vec<SegmentHeader> = Vec::new();
        let last = candidates.last().map_or(newest, |candidate| candidate.id);
        for id in newest + 1..=last.max(newest + 1) {
            let candidate = candidates.iter().find(|candidate| candidate.id == id);
            let mut facts = FileFacts {
                present: candidate.is_some(),
                next: id == newest + 1,
                sealed: self.sealed,
                ..FileFacts::default()
            };
            let header = candidate.and_then(|candidate| candidate.header);
            let mut dirty_end = SEGMENT_HEADER_BYTES;
            if let Some(header) = header {
                facts.header = true;
                dirty_end = look_at_spare(disk, &header, self.chain.number + 1, &mut facts)
                    .map_err(|cause| Damage::unreadable(id, SEGMENT_HEADER_BYTES, &cause))?;
            }
            let decision = decide_file(&facts);
            // Kept spares have no gap between them and the size of new ones, except that the one
            // behind a sealed segment must stay whatever its size is.
            let must_stay = facts.next && facts.sealed;
            let fits = spares.len() as u64 == id - newest - 1
                && header.is_some_and(|header| header.bytes == segment_bytes);
            match decision.verdict {
                FileVerdict::Nothing => {}
                FileVerdict::Spare if fits || must_stay => spares.extend(header),
                FileVerdict::TornOpen => {
                    self.report.torn_bytes += dirty_end - SEGMENT_HEADER_BYTES;
                    self.repairs.push(Repair::Zero {
                        segment: id,
                        from: SEGMENT_HEADER_BYTES,
                        to: dirty_end,
                        mark: None,
                    });
                    spares.extend(header);
                }
                FileVerdict::Spare | FileVerdict::Discard => {
                    self.repairs.push(Repair::Remove(segment_name(id)));
                }
                FileVerdict::Damage => {
                    let what = format!("{} (case {})", decision.why, decision.label);
                    return Err(Damage::new(id, SEGMENT_HEADER_BYTES, what).into());
                }
            }
        }
        Ok(spares)
    }

    /// Files with temporary names: segments that were being made.
    fn unfinished_files<D: Disk>(&mut self, disk: &D) -> Result<(), Error> {
        for name in disk.list(WAL_DIR)? {
            if name.ends_with(".wal.tmp") {
                self.repairs
                    .push(Repair::Remove(format!("{WAL_DIR}/{name}")));
            }
        }
        Ok(())
    }

    /// Makes the changes; needs no room on the disk. Interrupted at any point, the next recovery
    /// comes to the same verdicts.
    fn carry_out<D: Disk>(&mut self, disk: &D) -> Result<(), Error> {
        for repair in self.repairs.drain(..) {
            match repair {
                Repair::Zero {
                    segment,
                    from,
                    to,
                    mark,
                } => {
                    let name = segment_name(segment);
                    let file = disk.open(&name)?;
                    let page = read_header(disk, &file)?.expect("the header was read before");
                    let mut bytes = vec![0; (to - from) as usize];
                    if let Some(mark) = mark {
                        let mark = mark.encode(&page);
                        bytes[..mark.len()].copy_from_slice(&mark);
                    }
                    disk.write_at(&file, from, &bytes)?;
                    disk.sync(&file)?;
                }
                Repair::Remove(name) => {
                    disk.remove(&name)?;
                    disk.sync_dir(WAL_DIR)?;
                    self.report.discarded += 1;
                }
            }
        }
        Ok(())
    }

    fn into_log<D: Disk>(
        mut self,
        disk: D,
        settings: &Settings,
        mut in_use: Vec<SegmentHeader>,
        spares: Vec<SegmentHeader>,
    ) -> Result<Recovered<D>, Error> {
        let mut open = VecDeque::new();
        for header in spares {
            let file = disk.open(&segment_name(header.id))?;
            open.push_back(Spare { header, file });
        }
        let newest = in_use.pop().expect("a log has a segment");
        let (header, mut file) = if self.sealed {
            self.offset = SEGMENT_HEADER_BYTES;
            let next = open
                .pop_front()
                .expect("rows a and d: behind a seal there is a segment");
            (next.header, next.file)
        } else {
            (newest, disk.open(&segment_name(newest.id))?)
        };
        disk.map(&mut file)?;
        self.report.last = self.index.last();
        let wal = Wal {
            disk,
            active: Active {
                header,
                file,
                offset: self.offset,
                fetched: self.offset,
            },
            sealed: None,
            spares: open,
            first_segment: 1,
            segment_bytes: settings.segment_bytes,
            index: self.index,
            chain: self.chain,
            hard_state: self.hard_state,
            commit: self.commit,
            draft: Draft::default(),
            head: Vec::new(),
        };
        Ok(Recovered {
            terms: wal.index.terms().to_vec(),
            wal,
            tail: self.tail.into(),
            report: self.report,
        })
    }
}

fn read_header<D: Disk>(disk: &D, file: &D::File) -> Result<Option<SegmentHeader>, Error> {
    let mut page = [0; SEGMENT_HEADER_BYTES as usize];
    disk.read_at(file, 0, &mut page)?;
    Ok(SegmentHeader::decode(&page))
}

/// Whether something behind `offset`, up to `end`, could only be stored after batch `number` was
/// durable: the mark of that batch or a later one, or a genuine header of a later batch.
fn evidence<D: Disk>(
    window: &mut Window<'_, D>,
    segment: &SegmentHeader,
    offset: u64,
    number: u64,
    end: u64,
) -> Result<bool, crate::disk::Error> {
    let mut at = offset;
    while at < end {
        let sector = window.bytes(at, ALIGN_BYTES as usize)?;
        let mark = SyncMark::decode(sector, segment, at);
        if mark.is_some_and(|mark| mark.number >= number) {
            return Ok(true);
        }
        if window
            .batch(at)?
            .is_some_and(|batch| batch.header.number > number)
        {
            return Ok(true);
        }
        at += ALIGN_BYTES;
    }
    Ok(false)
}

/// Fills in what the file of a segment that is not in use holds: where its first batch would
/// stand, and if that is not blank, everywhere. Returns where its bytes end.
fn look_at_spare<D: Disk>(
    disk: &D,
    segment: &SegmentHeader,
    number: u64,
    facts: &mut FileFacts,
) -> Result<u64, crate::disk::Error> {
    let file = disk.open(&segment_name(segment.id))?;
    let mut window = Window::new(disk, &file, *segment, READ_AHEAD_BYTES);
    let start = SEGMENT_HEADER_BYTES;
    let reach = (start + BATCH_BYTES_MAX + ALIGN_BYTES).min(segment.bytes);
    let Some(end) = window.last_nonzero(start, reach)? else {
        facts.blank = true;
        return Ok(start);
    };
    // A damaged `Open` may have batches far behind it.
    let end = window.last_nonzero(reach, segment.bytes)?.unwrap_or(end);
    facts.evidence = evidence(&mut window, segment, start, number, end)?;
    Ok(end)
}
