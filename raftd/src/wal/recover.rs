//! From the files of a WAL to a log that can be written on. Nothing is changed before the verdict
//! on everything is known; each change may be interrupted and is then made again.

use std::fmt;

use raft::HardState;
use wire::entry::Entry;
use wire::types::{EntryId, Index};

use super::decide::labels;
use super::format::{
    ALIGN_BYTES, BatchHeader, BatchKind, Chain, Owner, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::scan::{Scan, Watch};
use super::segment::{SegmentMaker, Spare, UNFINISHED_SUFFIX, WAL_DIR, segment_id, segment_name};
use super::window::Window;
use super::writer::Wal;
use super::{Damage, Error};
use crate::disk::Disk;

/// Read at a time while scanning.
pub(super) const READ_AHEAD_BYTES: usize = 1024 * 1024;

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
    /// The log holds the entries behind this one.
    pub base: EntryId,
    /// The last entry.
    pub last: EntryId,
    /// The newest published snapshot.
    pub snapshot: EntryId,
    /// Bytes of an unacknowledged batch that were zeroed.
    pub torn_bytes: u64,
    /// Files that were removed: unfinished or useless spares.
    pub discarded: u64,
    /// The rows of the decision tables that applied.
    pub cases: Cases,
}

/// A set of labels of the rows in `decide.rs`, as `raftd-wal(5)` names the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cases(u64);

impl Cases {
    /// Every row there is.
    #[must_use]
    pub fn all() -> Self {
        let mut all = Self::default();
        labels().for_each(|label| all.insert(label));
        all
    }

    pub(super) fn insert(&mut self, label: char) {
        assert!(label.is_ascii_alphabetic(), "rows are labelled by letters");
        self.0 |= 1 << (label as u32 - 'A' as u32);
    }

    /// The labels, in order.
    pub fn iter(self) -> impl Iterator<Item = char> {
        ('A'..='z').filter(move |label| self.0 & 1 << (*label as u32 - 'A' as u32) != 0)
    }
}

impl fmt::Display for Cases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|label| write!(f, "{label}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "wal recovered segments={} batches={} base={} last={} snapshot={} torn_bytes={} \
             discarded={} cases={}",
            self.segments,
            self.batches,
            self.base,
            self.last,
            self.snapshot,
            self.torn_bytes,
            self.discarded,
            self.cases
        )
    }
}

/// A segment file before the verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: u64,
    /// The genuine header page, if there is one.
    pub(super) header: Option<SegmentHeader>,
    /// What its first batch follows, if it has a genuine one.
    pub(super) previous: Option<Chain>,
    /// Its first batch is whole: the segment is in use.
    pub(super) open: bool,
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
        snapshot: EntryId::default(),
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
    for name in names.iter().filter(|name| is_ours(name)) {
        disk.remove(&format!("{WAL_DIR}/{name}"))?;
    }
    disk.sync_dir(WAL_DIR)?;
    Ok(true)
}

/// A segment, or one that was being made.
fn is_ours(file_name: &str) -> bool {
    segment_id(file_name).is_some() || file_name.ends_with(UNFINISHED_SUFFIX)
}

/// Reads the log and makes it ready to be written. `None`: there is no segment.
///
/// # Errors
/// [`Error::Damaged`] if something durable is gone; the disk's.
pub fn recover<D: Disk>(disk: D, settings: &Settings) -> Result<Option<Recovered<D>>, Error> {
    // Bytes that a failed sync left in the cache only, or that no sync has covered yet, must not
    // be taken for durable: sync, forget, and look at what the device holds. The same of names: a
    // process killed between the rename of a spare and the sync of its directory leaves one that
    // is there to see, and gone with the power.
    let candidates = survey(&disk, Some(settings.owner))?;
    if !candidates.is_empty() {
        disk.sync_dir(WAL_DIR)?;
    }
    for candidate in candidates.iter().rev() {
        let file = disk.open(&segment_name(candidate.id))?;
        disk.sync(&file)?;
        disk.drop_cache(&file);
        if candidate.open {
            break;
        }
    }
    let candidates = survey(&disk, Some(settings.owner))?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let mut scan = Scan::new(settings.tail_bytes);
    let files = read_log(&disk, settings, &candidates, &mut scan, &mut |_| {})?;
    scan.carry_out(&disk)?;
    scan.into_log(disk, settings, files).map(Some)
}

/// The files of a log, judged.
pub(super) struct Files {
    /// From the oldest to the newest in use.
    pub(super) in_use: Vec<SegmentHeader>,
    /// Behind them.
    pub(super) spares: Vec<SegmentHeader>,
}

/// Reads all of a log and judges it, without a change; `watch` sees each batch.
pub(super) fn read_log<D: Disk>(
    disk: &D,
    settings: &Settings,
    candidates: &[Candidate],
    scan: &mut Scan,
    watch: &mut Watch<'_>,
) -> Result<Files, Error> {
    let first = candidates.first().expect("the caller saw a file");
    let Some(newest) = candidates.iter().filter(|c| c.open).map(|c| c.id).max() else {
        let what = "no segment has a whole first batch";
        return Err(Damage::new(first.id, SEGMENT_HEADER_BYTES, what).into());
    };
    let in_use = check_in_use(candidates, newest)?;
    if let Some(previous) = first.previous.filter(|_| first.id != 1) {
        scan.begin(previous);
    }
    let tail_segments = settings.tail_bytes as u64 / settings.segment_bytes + 1;
    for header in &in_use {
        scan.keeps_tail = newest - header.id <= tail_segments;
        scan.segment(disk, header, header.id < newest, watch)?;
    }
    if !scan.begins_covered() {
        let what = "a segment is missing, and no snapshot covers what was in it";
        return Err(Damage::new(first.id - 1, 0, what).into());
    }
    let spares = scan.files_behind(disk, candidates, newest, settings.segment_bytes)?;
    scan.unfinished_files(disk)?;
    Ok(Files { in_use, spares })
}

/// Looks at every segment file's header page and first batch. Without `owner` all must be the
/// first one's.
pub(super) fn survey<D: Disk>(disk: &D, mut owner: Option<Owner>) -> Result<Vec<Candidate>, Error> {
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
        let (mut previous, mut open) = (None, false);
        if let Some(header) = header {
            if header.owner != *owner.get_or_insert(header.owner) {
                let what = format!("a segment of another node or life: {:?}", header.owner);
                return Err(Damage::new(id, 0, what).into());
            }
            let mut window = Window::new(disk, &file, header, ALIGN_BYTES as usize);
            if let Ok(Some(first)) = window.batch(SEGMENT_HEADER_BYTES) {
                previous = Some(first.header.previous);
                open = first.payload_is_intact();
            }
        }
        candidates.push(Candidate {
            id,
            header,
            previous,
            open,
        });
    }
    candidates.sort_by_key(|candidate| candidate.id);
    Ok(candidates)
}

/// The segments from the oldest to the newest in use: all there, all with a header page.
fn check_in_use(candidates: &[Candidate], newest: u64) -> Result<Vec<SegmentHeader>, Error> {
    let mut in_use = Vec::new();
    let first = candidates.first().map_or(1, |first| first.id);
    for id in first..=newest {
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

pub(super) fn read_header<D: Disk>(
    disk: &D,
    file: &D::File,
) -> Result<Option<SegmentHeader>, Error> {
    let mut page = [0; SEGMENT_HEADER_BYTES as usize];
    disk.read_at(file, 0, &mut page)?;
    Ok(SegmentHeader::decode(&page))
}
