//! Reading the segments of a log from front to end into an unverified form, judging each place,
//! and carrying the verdicts out.

use std::collections::VecDeque;
use std::iter;

use bytes::Bytes;
use raft::HardState;
use wire::entry::Entry;
use wire::limits::COUNTER_MAX;
use wire::membership::Membership;
use wire::types::{EntryId, Index, Term};

use super::decide::{FileFacts, FileVerdict, PlaceFacts, PlaceVerdict, decide_file, decide_place};
use super::evidence::{is_durable, known_behind};
use super::faulty::{Faults, faults_of};
use super::format::{
    ALIGN_BYTES, BATCH_BYTES_MAX, BatchHeader, BatchKind, Chain, MARK_BYTES, SEGMENT_HEADER_BYTES,
    SegmentHeader, SyncMark, is_zero,
};
use super::index::LogIndex;
use super::pending::Draft;
use super::recover::{Candidate, Files, Recovered, Report, Settings};
use super::repair::Repair;
use super::segment::{Spare, UNFINISHED_SUFFIX, WAL_DIR, open_to_write, segment_name};
use super::window::{Batch, READ_AHEAD_BYTES, Window};
use super::writer::{Active, Wal};
use super::{Damage, Error};
use crate::disk::{Aligned, Disk};

/// What a scan comes by.
pub(super) enum Seen<'a> {
    /// A whole batch in its place, of this segment.
    Batch(&'a SegmentHeader, &'a Batch<'a>),
    /// The end of the segment's batches, and the case there.
    End(char),
}

/// Whoever wants to know.
pub(super) type Watch<'a> = dyn FnMut(Seen<'_>) + 'a;

/// The log as read so far, unverified until all segments were read.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) index: LogIndex,
    pub(super) chain: Chain,
    pub(super) hard_state: HardState,
    pub(super) commit: Index,
    pub(super) snapshot: EntryId,
    pub(super) tail: VecDeque<Entry>,
    pub(super) tail_bytes: usize,
    tail_bytes_max: usize,
    /// The segment is near enough to the end for its entries to be among the newest.
    pub(super) keeps_tail: bool,
    pub(super) faults: Faults,
    /// The entries that say who is a member, by ascending index; the damaged ones are among `faults`.
    pub(super) memberships: Vec<(EntryId, Membership)>,
    /// The newest of them before a gap: it knew who else may have what is damaged there.
    pub(super) membership_before_gap: Option<Membership>,
    /// The first damage that is not fatal.
    pub(super) damage: Option<Damage>,
    /// Of the last batch its mark is all that is left: what was in it is not known.
    pub(super) headless: bool,
    /// The batch at `offset` is the first behind a gap: what the log is before it, only it can tell.
    pub(super) resumed: bool,
    sealed: bool,
    /// Where the newest segment goes on.
    pub(super) offset: u64,
    pub(super) repairs: Vec<Repair>,
    report: Report,
}

impl Scan {
    /// Nothing read yet; about so many bytes of the newest entries will be kept.
    pub(super) fn new(tail_bytes_max: usize) -> Self {
        Self {
            tail_bytes_max,
            ..Self::default()
        }
    }

    /// The log's first batch follows this.
    pub(super) fn begin(&mut self, previous: Chain) {
        self.index = LogIndex::new(previous.last);
        self.chain = previous;
    }

    /// Reads one segment to the end of its batches.
    pub(super) fn segment<D: Disk>(
        &mut self,
        disk: &D,
        segment: &SegmentHeader,
        successor: bool,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let file = disk.open(&segment_name(segment.id))?;
        let mut window = Window::new(disk, &file, *segment, READ_AHEAD_BYTES);
        self.report.segments += 1;
        self.sealed = false;
        self.offset = SEGMENT_HEADER_BYTES;
        loop {
            let unreadable = |cause| Damage::unreadable(segment.id, self.offset, &cause);
            let (facts, nonzero_end) = self
                .look(&mut window, segment, successor)
                .map_err(unreadable)?;
            let decision = decide_place(&facts);
            self.report.cases.insert(decision.label);
            match decision.verdict {
                PlaceVerdict::Accept | PlaceVerdict::Faulty => {
                    let batch = window.batch(self.offset).map_err(unreadable)?;
                    let batch = batch.expect("these rows ask for a batch");
                    if let Some(what) = self.contradiction(segment, &batch) {
                        return Err(Damage::new(segment.id, self.offset, what).into());
                    }
                    let told = batch.memberships().map_err(|_| {
                        let what = "a batch with a membership that cannot be";
                        Damage::new(segment.id, self.offset, what)
                    })?;
                    let intact = decision.verdict == PlaceVerdict::Accept;
                    if !intact {
                        self.note(decision.damage(segment.id, self.offset));
                    }
                    self.accept(segment.id, &batch, intact);
                    self.memberships.extend(told);
                    watch(Seen::Batch(segment, &batch));
                }
                PlaceVerdict::End
                | PlaceVerdict::Passed
                | PlaceVerdict::Torn
                | PlaceVerdict::Rot => {
                    // If that one is torn, and goes, nothing tells.
                    self.headless |= self.resumed;
                    if matches!(decision.verdict, PlaceVerdict::Passed | PlaceVerdict::Rot) {
                        self.note(decision.damage(segment.id, self.offset));
                    }
                    watch(Seen::End(decision.label));
                    return self.end(&mut window, segment, nonzero_end);
                }
                PlaceVerdict::Gap => {
                    let damage = decision.damage(segment.id, self.offset);
                    let (from, number) = (self.offset, self.chain.number);
                    let known = known_behind(&mut window, segment, from, number, nonzero_end)
                        .map_err(unreadable)?;
                    match known {
                        Some(known) if self.takes_back(known.hard_state()).is_some() => {
                            return Err(damage.into());
                        }
                        Some(known) => self.resume(known),
                        None if successor => {
                            self.note(damage);
                            watch(Seen::End(decision.label));
                            return Ok(());
                        }
                        None => return Err(damage.into()),
                    }
                    self.note(damage);
                }
                PlaceVerdict::Damage => {
                    return Err(decision.damage(segment.id, self.offset).into());
                }
            }
        }
    }

    /// What stands at the current place, and where the segment's last byte that is not zero ends.
    /// Behind a good batch nothing is looked at: its row does not ask.
    fn look<D: Disk>(
        &self,
        window: &mut Window<'_, D>,
        segment: &SegmentHeader,
        successor: bool,
    ) -> Result<(PlaceFacts, u64), crate::disk::Error> {
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
                return Ok((facts, batch.header.end()));
            }
        }
        let (quiet, marked) = self.is_quiet_and_marked(window, segment)?;
        let behind = (self.offset + ALIGN_BYTES).min(segment.bytes);
        let far_end = window.last_nonzero(behind, segment.bytes)?;
        let nonzero_end = far_end.unwrap_or(behind);
        facts.marked = marked;
        facts.blank = quiet && far_end.is_none();
        facts.in_reach = nonzero_end <= self.offset + BATCH_BYTES_MAX;
        facts.readable = window.was_readable(self.offset..nonzero_end);
        let number = self.chain.number + 1;
        facts.evidence = is_durable(window, segment, self.offset, number, nonzero_end)?;
        Ok((facts, nonzero_end))
    }

    /// Whether the current sector holds nothing but the mark of the last batch, if that, and whether it
    /// holds that mark.
    fn is_quiet_and_marked<D: Disk>(
        &self,
        window: &mut Window<'_, D>,
        segment: &SegmentHeader,
    ) -> Result<(bool, bool), crate::disk::Error> {
        if self.offset == segment.bytes {
            return Ok((true, false));
        }
        let sector = window.bytes(self.offset, ALIGN_BYTES as usize)?;
        let (mark, rest) = sector.split_at(MARK_BYTES);
        let marked = mark == self.mark().encode(segment);
        Ok((is_zero(rest) && (is_zero(mark) || marked), marked))
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

    /// What no node writes, whatever the checksums say: a log with that in it would break the
    /// promises that the node asserts.
    fn contradiction(&self, segment: &SegmentHeader, batch: &Batch<'_>) -> Option<&'static str> {
        let header = &batch.header;
        if header.kind != BatchKind::Seal && header.end() > segment.reserve_end() {
            return Some("a batch where only a seal has room");
        }
        let new = header.hard_state;
        if let Some(what) = self.takes_back(new) {
            return Some(what);
        }
        if header.first_index <= self.commit {
            return Some("a batch that replaces committed entries");
        }
        let before = match header.kind {
            BatchKind::Open | BatchKind::Append | BatchKind::Seal => self.index.last(),
            BatchKind::Reset | BatchKind::Anew => header.snapshot,
        };
        let cuts = header.first_index <= before.index;
        if cuts && header.first_index <= self.index.base().index && header.entries == 0 {
            return Some("a batch that cuts the log before its beginning");
        }
        if !self.keeps_marker(header) {
            return Some("a batch whose snapshot falls, or is of another entry than the log's");
        }
        let last = Index(header.first_index.0 - 1 + u64::from(header.entries));
        if before.term > new.term || last.0 > COUNTER_MAX {
            return Some("a batch behind an entry that cannot be");
        }
        if header.commit < self.commit || header.commit > last {
            return Some("a batch whose commit index falls, or is past its end");
        }
        let mut before = self.index.term_before(header.first_index).max(Term(1));
        for row in batch.rows() {
            if row.term < before || row.term > new.term {
                return Some("a batch with an entry whose term falls, or is later than its own");
            }
            before = row.term;
        }
        None
    }

    /// In what term and vote contradict those of the batch before.
    fn takes_back(&self, new: HardState) -> Option<&'static str> {
        let old = self.hard_state;
        if new.term < old.term || new.term.0 > COUNTER_MAX {
            return Some("a batch of a term that falls, or is out of range");
        }
        let taken = new.term == old.term && old.vote.is_some() && new.vote != old.vote;
        taken.then_some("a batch that takes a vote back")
    }

    /// Whether the snapshot of a batch is the one before or a newer one, of an entry that the log
    /// had, or has from now on.
    fn keeps_marker(&self, header: &BatchHeader) -> bool {
        let (old, new) = (self.snapshot, header.snapshot);
        let newer = new.index > old.index || new == old;
        let newer = newer && new.term <= header.hard_state.term;
        match header.kind {
            BatchKind::Open | BatchKind::Append | BatchKind::Seal => {
                newer && self.index.agrees_with(new)
            }
            BatchKind::Reset | BatchKind::Anew => newer && header.commit == new.index,
        }
    }

    /// The log now holds what this batch says; if it is not `intact`, some of its entries are faulty.
    fn accept(&mut self, segment: u64, batch: &Batch<'_>, intact: bool) {
        let header = &batch.header;
        let terms = batch.rows().map(|row| row.term);
        if header.kind.resets() {
            self.cut(Index::default());
            self.membership_before_gap = None;
        } else {
            self.cut(header.first_index);
        }
        self.index.accept(segment, header, terms);
        self.hard_state = batch.hard_state();
        self.commit = header.commit;
        self.snapshot = header.snapshot;
        self.chain = batch.chain(self.index.last());
        self.sealed = header.kind == BatchKind::Seal;
        self.resumed = false;
        self.offset = header.end();
        self.report.batches += 1;
        if !intact {
            self.faults.add(faults_of(segment, batch));
            self.faults.forget(self.index.base().index);
            // The newest entries have no gap: they begin anew behind the faulty ones.
            self.tail.clear();
            self.tail_bytes = 0;
        }
        if self.keeps_tail && header.entries > 0 {
            self.keep(batch);
        }
    }

    /// What was read of the entries from `from` on does not count any more.
    pub(super) fn cut(&mut self, from: Index) {
        self.faults.cut(from);
        self.memberships.retain(|(id, _)| id.index < from);
        while self.tail.back().is_some_and(|last| last.index() >= from) {
            let cut = self.tail.pop_back().expect("the tail has entries");
            self.tail_bytes -= cut.bytes().len();
        }
    }

    /// Adds the entries of a batch, behind its last faulty one, to the newest.
    fn keep(&mut self, batch: &Batch<'_>) {
        let faulty = self.faults.last();
        let rows = batch.rows().zip(batch.header.first_index.0..);
        let skipped: usize = rows
            .take_while(|(_, index)| faulty >= Some(Index(*index)))
            .map(|(row, _)| row.length as usize)
            .sum();
        let mut payload = Bytes::copy_from_slice(&batch.payload[skipped..]);
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
        let looked = self.is_quiet_and_marked(window, segment);
        let (quiet, marked) = looked.map_err(unreadable)?;
        if !marked || nonzero_end > self.offset + ALIGN_BYTES {
            if nonzero_end > self.offset + ALIGN_BYTES || !quiet {
                self.report.torn_bytes += nonzero_end - self.offset;
            }
            self.repairs.push(Repair::Zero {
                segment: *segment,
                from: self.offset,
                to: nonzero_end,
                // Where a segment begins there is no batch to mark.
                mark: (self.offset > SEGMENT_HEADER_BYTES).then_some(mark),
            });
        }
        Ok(())
    }

    /// Whether the newest segment ends with a seal.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Judges the files behind the newest segment in use and returns the spares among them.
    pub(super) fn files_behind(
        &mut self,
        candidates: &[Candidate],
        newest: u64,
        segment_bytes: u64,
    ) -> Result<Vec<SegmentHeader>, Error> {
        let mut spares: Vec<SegmentHeader> = Vec::new();
        let behind = candidates.iter().map(|candidate| candidate.id);
        let behind = behind.filter(|id| *id > newest + 1);
        for id in iter::once(newest + 1).chain(behind) {
            let candidate = candidates.iter().find(|candidate| candidate.id == id);
            let mut facts = FileFacts {
                present: candidate.is_some(),
                next: id == newest + 1,
                blank: candidate.is_some_and(|candidate| candidate.is_blank),
                sealed: self.sealed,
                ..FileFacts::default()
            };
            let header = candidate.and_then(|candidate| candidate.header);
            let mut dirty_end = SEGMENT_HEADER_BYTES;
            if let Some(found) = candidate.and_then(|candidate| candidate.look) {
                facts.header = true;
                facts.readable = found.readable;
                dirty_end = found.end;
            }
            let decision = decide_file(&facts);
            self.report.cases.insert(decision.label);
            // Kept spares have no gap between them and the size of new ones, except that the one
            // behind a sealed segment must stay whatever its size is.
            let must_stay = facts.next && facts.sealed;
            let fits = spares.len() as u64 == id - newest - 1
                && header.is_some_and(|header| header.bytes == segment_bytes);
            match decision.verdict {
                FileVerdict::Nothing => {}
                FileVerdict::Spare if fits || must_stay => spares.extend(header),
                FileVerdict::TornOpen => {
                    let segment = header.expect("row i: its header page is genuine");
                    self.report.torn_bytes += dirty_end - SEGMENT_HEADER_BYTES;
                    self.repairs.push(Repair::Zero {
                        segment,
                        from: SEGMENT_HEADER_BYTES,
                        to: dirty_end,
                        mark: None,
                    });
                    spares.push(segment);
                }
                FileVerdict::Spare | FileVerdict::Discard => {
                    self.repairs.push(Repair::Remove(segment_name(id)));
                }
                FileVerdict::Damage => {
                    return Err(decision.damage(id, SEGMENT_HEADER_BYTES).into());
                }
            }
        }
        Ok(spares)
    }

    /// Files with temporary names: segments that were being made.
    pub(super) fn unfinished_files<D: Disk>(&mut self, disk: &D) -> Result<(), Error> {
        for name in disk.list(WAL_DIR)? {
            if name.ends_with(UNFINISHED_SUFFIX) {
                self.repairs
                    .push(Repair::Remove(format!("{WAL_DIR}/{name}")));
            }
        }
        Ok(())
    }

    /// Makes the changes; needs no room on the disk. Interrupted at any point, the next recovery
    /// comes to the same verdicts.
    pub(super) fn carry_out<D: Disk>(&mut self, disk: &D) -> Result<(), Error> {
        for repair in self.repairs.drain(..) {
            repair.carry_out(disk)?;
            self.report.discarded += u64::from(matches!(repair, Repair::Remove(_)));
        }
        Ok(())
    }

    /// Whether no other member could have what is damaged here.
    pub(super) fn is_alone(&self, settings: &Settings) -> bool {
        let newest = self.memberships.last().map(|(_, newest)| newest);
        let newest = newest.or(self.membership_before_gap.as_ref());
        newest.map_or(settings.alone, |membership| {
            membership.is_alone(settings.owner.node)
        })
    }

    /// What was found and done.
    pub(super) fn report(&self) -> Report {
        Report {
            base: self.index.base(),
            last: self.index.last(),
            snapshot: self.snapshot,
            faulty: self.faults.count(),
            lost: self.hard_state.lost || self.is_lost(),
            ..self.report
        }
    }

    /// What is to be changed.
    pub(super) fn into_repairs(self) -> Vec<Repair> {
        self.repairs
    }

    pub(super) fn into_log<D: Disk>(
        mut self,
        disk: D,
        settings: &Settings,
        files: Files,
    ) -> Result<Recovered<D>, Error> {
        let Files { newest, spares, .. } = files;
        let mut sizes = files.sizes;
        let spare_bytes: u64 = spares.iter().map(|header| header.bytes).sum();
        let bytes = sizes.iter().sum::<u64>() + spare_bytes;
        let mut open = VecDeque::new();
        for header in spares {
            let file = open_to_write(&disk, header.id)?;
            open.push_back(Spare { header, file });
        }
        let (header, mut file) = if self.sealed {
            self.offset = SEGMENT_HEADER_BYTES;
            let next = open
                .pop_front()
                .expect("rows a and d: behind a seal there is a segment");
            sizes.push_back(next.header.bytes);
            (next.header, next.file)
        } else {
            (newest, open_to_write(&disk, newest.id)?)
        };
        disk.map(&mut file)?;
        let report = self.report();
        let alone = self.is_alone(settings);
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
            sizes,
            bytes,
            segment_bytes: settings.segment_bytes,
            index: self.index,
            faults: self.faults,
            rotten: None,
            forgotten: false,
            chain: self.chain,
            hard_state: self.hard_state,
            commit: self.commit,
            snapshot: self.snapshot,
            marked: self.snapshot,
            draft: Draft::default(),
            head: Vec::new(),
            mends: 0,
            blocks: Aligned::new(0),
        };
        // Entries that were read may be before what the log begins behind.
        let base = wal.base();
        let before = self
            .tail
            .partition_point(|entry| entry.index() <= base.index);
        self.memberships.retain(|(id, _)| id.index > base.index);
        Ok(Recovered {
            terms: wal.index.terms().to_vec(),
            faulty: wal.faulty().collect(),
            damage: self.damage,
            wal,
            tail: self.tail.split_off(before).into(),
            memberships: self.memberships,
            alone,
            report,
        })
    }
}
