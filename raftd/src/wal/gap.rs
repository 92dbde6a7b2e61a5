//! A log with a gap in it: batches that were durable are gone, and what was in them is not known. What
//! comes of it is decided when all is read: nothing, if they held no entries or a snapshot covers
//! them; else the log is lost, and begins anew (rules D4).

use raft::HardState;
use wire::types::Index;

use super::Damage;
use super::evidence::Known;
use super::faulty::forget_covered;
use super::format::{BatchHeader, BatchKind, Chain, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::recover::{Candidate, Settings};
use super::repair::Repair;
use super::scan::Scan;
use super::segment::segment_name;

impl Scan {
    /// Something is damaged, and the log goes on.
    pub(super) fn note(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }

    /// If the header page of this segment is damaged, and known, it is written anew.
    pub(super) fn rebuild_page(&mut self, candidate: Option<&Candidate>) {
        let damaged = candidate.filter(|candidate| candidate.page_is_damaged);
        if let Some(header) = damaged.and_then(|candidate| candidate.header) {
            self.note(Damage::new(
                header.id,
                0,
                "the header page of a segment is damaged",
            ));
            self.repairs.push(Repair::Page(header));
        }
    }

    /// If the segment that was read last has no seal, and `open` of the next one follows the seal that
    /// must have stood there, it is written anew: nothing else tells that the log goes on if the next
    /// segment's name is lost one day.
    pub(super) fn rebuild_seal(&mut self, segment: &SegmentHeader, open: &BatchHeader) {
        // A seal says what the batch before it says, but maybe of a newer snapshot.
        let snapshots = [self.snapshot, open.snapshot];
        let seals = snapshots.map(|snapshot| BatchHeader {
            kind: BatchKind::Seal,
            offset: self.offset,
            number: self.chain.number + 1,
            previous: self.chain,
            hard_state: self.hard_state,
            first_index: self.chain.last.index.next(),
            entries: 0,
            payload_bytes: 0,
            commit: self.commit,
            snapshot,
        });
        let is_followed = |seal: &BatchHeader| {
            let chain = Chain {
                number: seal.number,
                header_crc: seal.encode(segment, &[], &mut Vec::new()),
                last: self.chain.last,
            };
            open.previous == chain
        };
        if let Some(seal) = seals.into_iter().find(is_followed) {
            self.chain = open.previous;
            self.snapshot = seal.snapshot;
            let segment = *segment;
            self.repairs.push(Repair::Seal { segment, seal });
        }
    }

    /// Batches are missing: the log goes on with what is known behind them.
    pub(super) fn resume(&mut self, known: Known) {
        self.hard_state = known.hard_state();
        match known {
            Known::Batch {
                offset, previous, ..
            } => {
                self.offset = offset;
                self.resumed = true;
                if previous.last == self.index.last() {
                    // An entry names all before it (thesis 3.5, Log Matching): none is missing.
                    self.index.skip();
                    self.chain = previous;
                } else {
                    self.begin_behind_gap(previous);
                }
            }
            Known::Mark(mark) => {
                self.offset = mark.offset;
                self.headless = true;
                self.begin_behind_gap(Chain {
                    number: mark.number,
                    header_crc: mark.header_crc,
                    last: self.snapshot,
                });
            }
        }
    }

    /// What was read before has no connection any more to what follows.
    fn begin_behind_gap(&mut self, previous: Chain) {
        if let Some((_, newest)) = self.memberships.pop() {
            self.membership_before_gap = Some(newest);
        }
        self.cut(Index::default());
        self.begin(previous);
    }

    /// Whether entries are gone that no snapshot covers, and nobody knows which: what the log begins
    /// behind, and the marker is not at or behind, was in batches that are damaged or missing.
    pub(super) fn is_lost(&self) -> bool {
        self.headless || self.index.base().index > self.snapshot.index
    }

    /// The damage that the log has survived.
    pub(super) fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Whether entries are faulty.
    pub(super) fn has_faults(&self) -> bool {
        self.faults.last().is_some()
    }

    /// All segments were read: what is faulty and covered by the marker is needed no more.
    pub(super) fn forget_covered(&mut self) {
        forget_covered(&mut self.index, &mut self.faults, None, self.snapshot.index);
    }

    /// Files of segments from before the log began anew.
    pub(super) fn remove(&mut self, ids: impl Iterator<Item = u64>) {
        let removals = ids.map(|id| Repair::Remove(segment_name(id)));
        self.repairs.extend(removals);
    }

    /// What makes a lost log begin anew, behind what its marker says, in segment `id` (rules D4). It
    /// takes the room of the spares, if there are any, and appears under its name with its first
    /// batch in it: before that, what is damaged is as it was, and afterwards nothing of it counts.
    pub(super) fn begin_anew(&mut self, settings: &Settings, id: u64) {
        self.repairs.push(Repair::Anew {
            settings: *settings,
            id,
            first: BatchHeader {
                kind: BatchKind::Anew,
                offset: SEGMENT_HEADER_BYTES,
                number: self.chain.number + 1,
                previous: self.chain,
                hard_state: HardState {
                    lost: true,
                    ..self.hard_state
                },
                first_index: self.snapshot.index.next(),
                entries: 0,
                payload_bytes: 0,
                commit: self.snapshot.index,
                snapshot: self.snapshot,
            },
        });
    }
}
