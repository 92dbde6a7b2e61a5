//! From the files of a WAL to a log that can be written on. Nothing is changed before the verdict
//! on everything is known; each change may be interrupted and is then made again.

use std::collections::VecDeque;
use std::fmt;

use raft::HardState;
use wire::entry::{Entry, Identity};
use wire::membership::Membership;
use wire::types::{EntryId, Index};

use super::decide::labels;
use super::evidence::{Look, holds_nothing, look};
use super::format::{
    ALIGN_BYTES, BatchHeader, BatchKind, Chain, Owner, SEGMENT_HEADER_BYTES, SegmentHeader,
    claimed_salt,
};
use super::scan::{Scan, Watch};
use super::segment::{SegmentMaker, UNFINISHED_SUFFIX, WAL_DIR, segment_id, segment_name};
use super::window::{READ_AHEAD_BYTES, Window};
use super::writer::Wal;
use super::{Damage, Error};
use crate::disk::Disk;

/// What recovery needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose segments they must be.
    pub owner: Owner,
    /// The size of new segments; old ones may differ.
    pub segment_bytes: u64,
    /// Entries given back, in bytes, about.
    pub tail_bytes: usize,
    /// No other member could have what is damaged here, and any damage is final: unless the log knows
    /// better who is a member.
    pub alone: bool,
    /// For the salts of segments made here; random, another one in each life of the process.
    pub seed: u64,
}

/// A log, and what it held.
pub struct Recovered<D: Disk> {
    /// Ready to be written.
    pub wal: Wal<D>,
    /// The first entry of each term.
    pub terms: Vec<EntryId>,
    /// The newest entries, without gap; none if the last one is faulty.
    pub tail: Vec<Entry>,
    /// The entries that say who is a member, ascending, but for the faulty ones.
    pub memberships: Vec<(EntryId, Membership)>,
    /// No other member could have what is damaged here, as far as the log tells.
    pub alone: bool,
    /// Entries that are damaged and whose identities are known, by index: see
    /// [`Wal::faulty`].
    pub faulty: Vec<Identity>,
    /// The first damage that was found, for a person: of faulty entries, of a log that is lost since
    /// now ([`HardState::lost`]), or of what a snapshot covers.
    pub damage: Option<Damage>,
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
    /// Entries that are faulty.
    pub faulty: u64,
    /// The log is lost, since now or since an earlier start.
    pub lost: bool,
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
             discarded={} faulty={} lost={} cases={}",
            self.segments,
            self.batches,
            self.base,
            self.last,
            self.snapshot,
            self.torn_bytes,
            self.discarded,
            self.faulty,
            self.lost,
            self.cases
        )
    }
}

/// A segment file before the verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: u64,
    /// The header page, if there is a genuine one, or its first batch tells what stood there.
    pub(super) header: Option<SegmentHeader>,
    /// The page is damaged.
    pub(super) page_is_damaged: bool,
    /// What is behind it.
    pub(super) look: Option<Look>,
    /// Where its first batch would stand there are only zeros; without a genuine page, nowhere else
    /// anything but zeros either.
    pub(super) is_blank: bool,
}

impl Candidate {
    fn is_in_use(&self) -> bool {
        self.look.is_some_and(|look| look.in_use)
    }

    /// The header of its first batch, if it is genuine.
    fn first_batch(&self) -> Option<BatchHeader> {
        self.look.and_then(|look| look.first)
    }

    fn begins_anew(&self) -> bool {
        let first = self.first_batch();
        self.is_in_use() && first.is_some_and(|first| first.begins_anew())
    }
}

/// Makes the first segment of a new log, with an `Open` batch that says: term 0, no vote, empty.
///
/// # Errors
/// The disk's, also that it is full.
pub fn create<D: Disk>(disk: &D, settings: &Settings) -> Result<(), Error> {
    disk.create_dir(WAL_DIR)?;
    disk.sync_dir("")?;
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
    let bytes = settings.segment_bytes;
    let maker = SegmentMaker::begin(disk, settings.owner, 1, bytes, settings.seed)?;
    maker.finish_with(disk, Some(&open))?;
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
/// [`Error::Damaged`] if something durable is gone that cannot be had from other members; the
/// disk's.
pub fn recover<D: Disk>(disk: D, settings: &Settings) -> Result<Option<Recovered<D>>, Error> {
    let Some((mut scan, mut files)) = settle(&disk, settings)? else {
        return Ok(None);
    };
    let mut damage = None;
    if scan.is_lost() {
        damage = scan.damage().cloned();
        let anew = settle(&disk, settings)?;
        (scan, files) = anew.expect("the log has begun anew in a segment");
        assert!(!scan.is_lost(), "a log that begins anew holds together");
    }
    let mut recovered = scan.into_log(disk, settings, files)?;
    recovered.damage = damage.or(recovered.damage);
    Ok(Some(recovered))
}

/// Reads the log, judges it and makes the changes. One that is lost is to be read once more.
fn settle<D: Disk>(disk: &D, settings: &Settings) -> Result<Option<(Scan, Files)>, Error> {
    // Bytes that a failed sync left in the cache only, or that no sync has covered yet, must not
    // be taken for durable: sync, forget, and look at what the device holds. The same of names: a
    // process killed between the rename of a spare and the sync of its directory leaves one that
    // is there to see, and gone with the power. Sealed segments are written where entries are mended,
    // and who fails to sync that drops it from the cache.
    let candidates = survey(disk, Some(settings.owner))?;
    if !candidates.is_empty() {
        disk.sync_dir(WAL_DIR)?;
    }
    let newest = candidates.iter().rposition(Candidate::is_in_use);
    for (n, candidate) in candidates.iter().enumerate() {
        let file = disk.open(&segment_name(candidate.id))?;
        disk.sync(&file)?;
        if Some(n) >= newest {
            disk.drop_cache(&file);
        }
    }
    let candidates = survey(disk, Some(settings.owner))?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let mut scan = Scan::new(settings.tail_bytes);
    let files = read_log(disk, settings, &candidates, &mut scan, &mut |_| {})?;
    scan.carry_out(disk)?;
    Ok(Some((scan, files)))
}

/// The files of a log, judged.
pub(super) struct Files {
    /// Bytes of each, from the oldest to the newest in use; 0 for one that is missing or bad.
    pub(super) sizes: VecDeque<u64>,
    /// The newest in use.
    pub(super) newest: SegmentHeader,
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
    let begin = candidates.iter().rposition(Candidate::begins_anew);
    let (gone, candidates) = candidates.split_at(begin.unwrap_or(0));
    scan.remove(gone.iter().map(|candidate| candidate.id));
    let first = candidates.first().expect("the caller saw a file");
    let in_use = candidates.iter().filter(|candidate| candidate.is_in_use());
    let Some(newest_header) = in_use.filter_map(|candidate| candidate.header).next_back() else {
        let what = "no segment has a whole first batch";
        return Err(Damage::new(first.id, SEGMENT_HEADER_BYTES, what).into());
    };
    let newest = newest_header.id;
    if let Some(open) = first.first_batch().filter(|_| first.id != 1) {
        scan.begin(open.previous);
    }
    let tail_segments = settings.tail_bytes as u64 / settings.segment_bytes + 1;
    let mut sizes = VecDeque::new();
    let candidate = |id| candidates.iter().find(|candidate| candidate.id == id);
    for id in first.id..=newest {
        scan.rebuild_page(candidate(id));
        match in_use_at(candidate(id), id) {
            Ok(header) => {
                scan.keeps_tail = newest - id <= tail_segments;
                let successor = id < newest;
                scan.segment(disk, &header, successor, watch)?;
                let next = candidate(id + 1).filter(|_| successor);
                if let Some(open) = next.and_then(Candidate::first_batch) {
                    scan.rebuild_seal(&header, &open);
                }
                sizes.push_back(header.bytes);
            }
            // The next one does not follow what was before, and is taken as the table says.
            Err(damage) => {
                scan.note(damage);
                sizes.push_back(0);
            }
        }
    }
    if scan.is_lost() {
        let what = "a segment is missing, and no snapshot covers what was in it";
        scan.note(Damage::new(first.id - 1, 0, what));
    } else {
        scan.forget_covered();
    }
    if let Some(damage) = scan.damage().filter(|_| scan.is_alone(settings))
        && (scan.is_lost() || scan.has_faults())
    {
        return Err(damage.clone().into());
    }
    let spares = scan.files_behind(candidates, newest, settings.segment_bytes)?;
    scan.unfinished_files(disk)?;
    if scan.is_lost() {
        // Behind a seal there must be a segment, also if this is interrupted.
        let kept = newest + u64::from(scan.is_sealed());
        let needless = spares.iter().map(|spare| spare.id);
        scan.remove(needless.filter(|id| *id > kept));
        scan.begin_anew(settings, kept + 1);
    }
    Ok(Files {
        sizes,
        newest: newest_header,
        spares,
    })
}

/// Looks at every segment file's header page and first batch. Without `owner` all must be the
/// first one's.
pub(super) fn survey<D: Disk>(disk: &D, owner: Option<Owner>) -> Result<Vec<Candidate>, Error> {
    let mut pages = Vec::new();
    for name in disk.list(WAL_DIR)? {
        if let Some(id) = segment_id(&name) {
            let file = disk.open(&segment_name(id))?;
            // A page that cannot be read is a damaged page (rules D3).
            pages.push((id, read_header(disk, &file).unwrap_or_default()));
        }
    }
    pages.sort_by_key(|(id, ..)| *id);
    let first = pages.iter().find_map(|(_, page)| *page);
    let owner = owner.or(first.map(|page| page.owner));
    let candidates = pages.into_iter().map(|(id, page)| {
        // Not kept from before: a log may have more segments than a process may have files open.
        let file = disk.open(&segment_name(id))?;
        let bytes = disk.bytes(&file)?;
        let told = || owner.and_then(|owner| header_told(disk, &file, owner, id, bytes));
        let header = page.or_else(told);
        let header = header.filter(|header| header.id == id && header.bytes == bytes);
        let mut candidate = Candidate {
            id,
            header,
            page_is_damaged: page.is_none(),
            look: None,
            is_blank: false,
        };
        let unreadable = |cause| Damage::unreadable(id, SEGMENT_HEADER_BYTES, &cause);
        if let Some(header) = header {
            if Some(header.owner) != owner {
                let Owner { cluster, node, .. } = header.owner;
                let what =
                    format!("a segment of node {node} of cluster {cluster}, or of another life");
                return Err(Damage::new(id, 0, what).into());
            }
            let found = look(disk, &file, &header).map_err(unreadable)?;
            candidate.look = Some(found);
            candidate.is_blank = found.is_blank();
            if candidate.page_is_damaged && !found.in_use {
                candidate.header = None;
                candidate.look = None;
            }
        } else {
            candidate.is_blank = holds_nothing(disk, &file, bytes).map_err(unreadable)?;
        }
        Ok(candidate)
    });
    candidates.collect()
}

/// What must have stood in the header page of this file, by its first batch: that it is genuine proves
/// the salt, and with it the rest.
fn header_told<D: Disk>(
    disk: &D,
    file: &D::File,
    owner: Owner,
    id: u64,
    bytes: u64,
) -> Option<SegmentHeader> {
    let mut sector = [0; ALIGN_BYTES as usize];
    disk.read_at(file, SEGMENT_HEADER_BYTES, &mut sector).ok()?;
    let header = SegmentHeader {
        owner,
        id,
        salt: claimed_salt(&sector)?,
        bytes,
    };
    let header = SegmentHeader::decode(&header.page())?;
    let mut window = Window::new(disk, file, header, ALIGN_BYTES as usize);
    let first = window.batch(SEGMENT_HEADER_BYTES).ok()?;
    first.map(|_| header)
}

/// The header page of a segment that must be there.
fn in_use_at(candidate: Option<&Candidate>, id: u64) -> Result<SegmentHeader, Damage> {
    let Some(candidate) = candidate else {
        return Err(Damage::new(id, 0, "a segment in use is missing"));
    };
    candidate.header.ok_or_else(|| {
        let what = "the header page of a segment in use is damaged, or its size is wrong";
        Damage::new(id, 0, what)
    })
}

pub(super) fn read_header<D: Disk>(
    disk: &D,
    file: &D::File,
) -> Result<Option<SegmentHeader>, Error> {
    let mut page = [0; SEGMENT_HEADER_BYTES as usize];
    disk.read_at(file, 0, &mut page)?;
    Ok(SegmentHeader::decode(&page))
}
