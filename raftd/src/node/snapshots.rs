//! Taking snapshots (thesis 5): when, and what of the log they make needless.
//!
//! ```text
//! the leader: due, or asked for ──> a SnapshotAt entry ──> applied, on every node:
//!   frozen ──its index is durable here──> taking ──the file is whole──> unmarked ─┬─> marking ─> newest
//! a follower: received from the leader, installed (transfer.rs) ─────────────────┘              │
//!                                                  older files and segments are removed <───────┘
//! ```

#[cfg(test)]
mod tests;

use std::time::Duration;

use log::Level;
use raft::{CannotPropose, Instant, RoleName};
use wire::peer::DiskState;
use wire::types::{EntryId, Index};

use super::Node;
use super::client::Caller;
use super::config::Policy;
use super::freeing::Freeing;
use super::io::{Effects, Reader, SnapshotEvent, SnapshotFile, SnapshotRequest, StorageRequest};
use super::retry::Retry;
use super::transfer::Transfers;
use crate::store::View;

/// Between two attempts at a snapshot that is wanted, at least.
const WANTED_PAUSE: Duration = Duration::from_secs(1);

/// While a disk is low, a snapshot is taken when it frees this part of what it takes, or more..
const LOW_PART: u64 = 4;
/// ..but not less than the smallest segment.
const LOW_BYTES_MIN: u64 = 256 * 1024;
/// A change of the state's size is told when it is this part of what was told before, and..
const TOLD_PART: u64 = 8;
/// ..so many bytes.
const TOLD_BYTES: u64 = 64 * 1024;

/// What was written since the last view was frozen, or came as a snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    at: Instant,
    log_bytes: u64,
    entries: u64,
    /// Bytes of keys and values then.
    data_bytes: u64,
}

impl Since {
    /// Nothing was written since now.
    fn now(at: Instant, data_bytes: u64) -> Self {
        Self {
            at,
            data_bytes,
            ..Self::default()
        }
    }
}

/// The snapshots of a node.
///
/// Invariants:
/// - `newest` is published and marked in the log; its index never falls, unless the state is
///   thrown away;
/// - one view at most is frozen, one is being written, and one file being marked; what is later
///   takes the place of what has not begun.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    newest: SnapshotFile,
    frozen: Option<Box<View>>,
    /// One is being written, and has come so far.
    taking: Option<u64>,
    unmarked: Option<SnapshotFile>,
    marking: Option<SnapshotFile>,
    /// A `SnapshotAt` of this leader is on its way through the log, at this index.
    proposed: Option<Index>,
    /// One at least as new as this is wanted: for a follower that rebuilds, because the log up to here
    /// cannot all be read any more, or because this one could not be taken.
    wanted: Index,
    /// The newest one's file is in doubt: another is wanted, whatever its index.
    doubted: bool,
    since: Since,
    /// Of those that cannot be taken.
    retry: Retry,
    /// Removals of distrusted ones that are not done: what is received whole before that goes, too.
    distrusting: u32,
    /// The size of the state that the background thread knows of.
    told_bytes: u64,
    pub(super) transfers: Transfers,
    /// Why the last one could not be taken; empty if it could, or is needed no more.
    pub(super) trouble: String,
}

impl Snapshots {
    /// With the snapshot that the node started from, or none.
    pub(super) fn new(newest: SnapshotFile, now: Instant, data_bytes: u64) -> Self {
        Self {
            newest,
            since: Since::now(now, data_bytes),
            ..Self::default()
        }
    }

    /// The newest snapshot that is published and marked.
    pub(super) fn newest(&self) -> SnapshotFile {
        self.newest
    }

    /// Whether it is the newest one, or kept behind that for whoever is sent it or reads it. Only such
    /// a one is read for a client: what it asks for is kept.
    pub(super) fn has(&self, id: EntryId, now: Instant) -> bool {
        let newest = (self.newest.bytes > 0).then_some(self.newest.id);
        let transfers = &self.transfers;
        let mut kept = newest
            .into_iter()
            .chain(transfers.sent())
            .chain(transfers.read(now));
        kept.any(|kept| kept == id)
    }

    /// One of this index or above is wanted.
    pub(super) fn want(&mut self, index: Index) {
        self.wanted = self.wanted.max(index);
    }

    /// The file of this one may be damaged.
    pub(super) fn doubt(&mut self, id: EntryId) {
        self.doubted |= id == self.newest.id;
    }

    /// The state after `agreed` was not right, and neither is what was made of it.
    pub(super) fn distrust(&mut self, agreed: Index, freeing: &mut Freeing, effects: &mut Effects) {
        effects.snapshot(SnapshotRequest::Distrust { after: agreed });
        self.distrusting += 1;
        if let Some(view) = self.frozen.take() {
            freeing.add(view.into_map());
        }
        let wrong = |file: &mut SnapshotFile| file.id.index > agreed;
        self.unmarked.take_if(wrong);
        self.marking.take_if(wrong);
        if wrong(&mut self.newest) {
            self.newest = SnapshotFile::default();
        }
    }

    /// While one is being written: how far it has come, see [`super::io::SnapshotEvent::Progress`].
    pub(super) fn written_bytes(&self) -> Option<u64> {
        self.taking
    }

    /// The one that is being written has come so far.
    pub(super) fn progress(&mut self, bytes: u64) {
        self.taking = Some(bytes);
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, bytes: usize) {
        self.since.entries += 1;
        self.since.log_bytes += bytes as u64;
    }

    /// Whether one is being made, or made known to the log.
    pub(super) fn is_busy(&self) -> bool {
        self.frozen.is_some()
            || self.taking.is_some()
            || self.unmarked.is_some()
            || self.marking.is_some()
            || self.proposed.is_some()
    }

    /// When it is time for the next one, if nothing more is written. `low`: a disk is.
    fn due_at(&self, policy: &Policy, data_bytes: u64, low: bool) -> Option<Instant> {
        if self.is_busy() || self.since.entries == 0 {
            return None;
        }
        let rest = if self.is_wanted(policy, data_bytes, low) {
            policy.gap
        } else if policy.interval > Duration::ZERO {
            policy.interval.max(policy.gap)
        } else {
            return None;
        };
        Some((self.since.at + rest).max(self.retry.at()))
    }

    /// Whether what was written is reason for one.
    fn is_wanted(&self, policy: &Policy, data_bytes: u64, low: bool) -> bool {
        let Since {
            log_bytes,
            entries,
            data_bytes: before,
            ..
        } = self.since;
        let log_bytes_max = policy.log_bytes.max(policy.log_factor * self.newest.bytes);
        let grown = before.saturating_mul(100 + policy.growth_percent) / 100;
        let freed = log_bytes + before.saturating_sub(data_bytes);
        log_bytes >= log_bytes_max
            || (policy.entries > 0 && entries >= policy.entries)
            || (policy.growth_percent > 0 && data_bytes > grown)
            || (low && freed >= LOW_BYTES_MIN.max(data_bytes / LOW_PART))
    }

    /// The state is that of this file now, which was received: a view of an older one is needed no
    /// more, and what was written up to there is in it.
    pub(super) fn received(
        &mut self,
        file: SnapshotFile,
        at: Instant,
        data_bytes: u64,
        freeing: &mut Freeing,
    ) {
        self.since = Since::now(at, data_bytes);
        let is_older = |view: &mut Box<View>| view.applied().index <= file.id.index;
        if let Some(view) = self.frozen.take_if(is_older) {
            freeing.add(view.into_map());
        }
        self.found(file);
    }

    /// A whole file is there that the log does not know of. A later one takes its place.
    pub(super) fn found(&mut self, file: SnapshotFile) {
        let known = [Some(self.newest), self.unmarked, self.marking];
        if known
            .iter()
            .flatten()
            .all(|known| known.id.index < file.id.index)
        {
            self.unmarked = Some(file);
        }
    }

    /// The marker is durable. Says which file it names, if that is news. A write that resets the log
    /// brings its own marker, so that one may be reached that was not asked for, and overtake one
    /// that was.
    fn reach(&mut self, marker: EntryId) -> Option<SnapshotFile> {
        let reached = |file: &mut SnapshotFile| file.id.index <= marker.index;
        let passed = [
            self.marking.take_if(reached),
            self.unmarked.take_if(reached),
        ];
        let file = passed
            .into_iter()
            .flatten()
            .find(|file| file.id == marker)?;
        assert!(
            file.id.index > self.newest.id.index,
            "snapshots only become newer"
        );
        self.newest = file;
        self.doubted = false;
        if file.id.index >= self.wanted {
            self.trouble.clear();
        }
        Some(file)
    }

    /// This node leads no more: its proposal may never be applied.
    pub(super) fn step_down(&mut self) {
        self.proposed = None;
        self.transfers.stop_sending();
    }
}

impl Node {
    /// Has a snapshot taken if it is time for one, and this node leads.
    pub(super) fn propose_due_snapshot(&mut self) {
        let now = self.now.monotonic;
        if self.snapshot_due_at().is_some_and(|at| at <= now) {
            // It leads: that was looked at.
            let _ = self.propose_snapshot();
        }
    }

    /// When it will be time for one, if this node leads, is not handing over, and nothing more is
    /// written. However full the disks are: snapshots are the way out.
    pub(super) fn snapshot_due_at(&self) -> Option<Instant> {
        if self.raft.role() != RoleName::Leader || self.raft.is_transferring() {
            return None;
        }
        let (data_bytes, low) = (self.store.data_bytes(), self.disks.any_low());
        self.snapshots
            .due_at(&self.config.snapshots, data_bytes, low)
    }

    /// When this node takes one by itself: if one is wanted that no entry of the log asks for, and can
    /// be taken.
    pub(super) fn snapshot_wanted_at(&self) -> Option<Instant> {
        let snapshots = &self.snapshots;
        let applied = self.store.applied().index;
        let missing = snapshots.newest.id.index < snapshots.wanted && applied >= snapshots.wanted;
        let is_wanted = (missing || snapshots.doubted)
            && !snapshots.is_busy()
            && self.state_in_doubt().is_none();
        is_wanted.then_some((snapshots.since.at + WANTED_PAUSE).max(snapshots.retry.at()))
    }

    /// Takes one by itself if it is time: whoever takes one at an entry takes the same.
    fn freeze_if_wanted(&mut self) {
        let now = self.now.monotonic;
        if self.snapshot_wanted_at().is_some_and(|at| at <= now) {
            self.freeze();
        }
    }

    /// Does at the end of a turn what is to be done about snapshots.
    pub(super) fn tend_snapshots(&mut self, effects: &mut Effects) {
        self.freeze_if_wanted();
        let durable = self.raft.durable();
        let snapshots = &mut self.snapshots;
        // Nothing is published that this disk lacks the log of (rules E6).
        if snapshots.taking.is_none()
            && let Some(view) = snapshots
                .frozen
                .take_if(|view| view.applied().index <= durable)
        {
            snapshots.taking = Some(0);
            effects.snapshot(SnapshotRequest::Take(view));
        }
        if snapshots.marking.is_none()
            && let Some(file) = snapshots.unmarked.take_if(|file| file.id.index <= durable)
        {
            snapshots.marking = Some(file);
            effects.storage.push(StorageRequest::Mark(file.id));
        }
        let (data_bytes, told_bytes) = (self.store.data_bytes(), &mut snapshots.told_bytes);
        if data_bytes.abs_diff(*told_bytes) > TOLD_BYTES + *told_bytes / TOLD_PART {
            *told_bytes = data_bytes;
            effects.snapshot(SnapshotRequest::Expect(data_bytes));
        }
        self.send_snapshots(effects);
    }

    /// The background thread reports.
    pub(super) fn snapshot_event(&mut self, event: SnapshotEvent, effects: &mut Effects) {
        match event {
            SnapshotEvent::Progress(bytes) => self.snapshots.progress(bytes),
            SnapshotEvent::Released(view) => self.freeing.add(view.into_map()),
            SnapshotEvent::Taken(file) => self.taken(file),
            SnapshotEvent::NotTaken { snapshot, reason } => self.not_taken(snapshot, &reason),
            SnapshotEvent::Read {
                reader: Reader::Follower(to),
                snapshot,
                offset,
                bytes,
                ..
            } => self.snapshot_read(to, snapshot, offset, bytes, effects),
            SnapshotEvent::Read {
                reader: Reader::Client(connection, request_id),
                total_bytes,
                bytes,
                ..
            } => {
                let caller = Caller {
                    connection,
                    request_id,
                };
                self.answer_piece(caller, total_bytes, &bytes, effects);
            }
            SnapshotEvent::Received {
                snapshot,
                total_bytes,
                received_bytes,
            } => self.chunk_stored(snapshot, (received_bytes, total_bytes), effects),
            // The leader sends it again.
            SnapshotEvent::Whole(_, store) if self.snapshots.distrusting > 0 => {
                effects.snapshot(SnapshotRequest::Free(store));
            }
            SnapshotEvent::Whole(file, store) => self.install(file, store, effects),
            SnapshotEvent::Distrusted => {
                let distrusting = &mut self.snapshots.distrusting;
                assert!(*distrusting > 0, "a removal is answered once");
                *distrusting -= 1;
            }
            SnapshotEvent::Rotten(id) => {
                let text = || format!("snapshot damaged on disk, taking another id={id}");
                let key = ("snapshot damaged", id.index.0);
                self.journal
                    .repeated(self.now.monotonic, Level::Error, key, text);
                self.snapshots.doubt(id);
            }
        }
    }

    /// Has every node take a snapshot at the same entry.
    ///
    /// # Errors
    /// See [`CannotPropose`].
    pub(super) fn propose_snapshot(&mut self) -> Result<EntryId, CannotPropose> {
        let id = self.raft.propose_snapshot(self.now.wall_ms)?;
        self.snapshots.proposed = Some(id.index);
        Ok(id)
    }

    /// A `SnapshotAt` entry was applied: the state as it is now is to be kept. One that was frozen
    /// before and not begun gives way to it.
    pub(super) fn freeze(&mut self) {
        let view = Box::new(self.store.view());
        let snapshots = &mut self.snapshots;
        let applied = view.applied().index;
        snapshots.proposed.take_if(|index| *index <= applied);
        snapshots.since = Since::now(self.now.monotonic, self.store.data_bytes());
        if let Some(view) = snapshots.frozen.replace(view) {
            self.freeing.add(view.into_map());
        }
    }

    /// The background thread wrote a snapshot.
    pub(super) fn taken(&mut self, file: SnapshotFile) {
        let snapshots = &mut self.snapshots;
        snapshots.taking = None;
        snapshots.retry.succeeded();
        snapshots.trouble.clear();
        if file.id == snapshots.newest.id {
            snapshots.doubted = false;
        }
        // One of a state that was thrown away since is not to be used.
        if !self.raft.is_rebuilding() {
            snapshots.found(file);
        }
    }

    /// The background thread could not write one: an alarm, and no more (rules D3). This node tries
    /// again by itself, for what the others took makes nothing of its own log needless.
    pub(super) fn not_taken(&mut self, snapshot: EntryId, reason: &str) {
        let text = format!("snapshot not taken id={snapshot} reason=\"{reason}\"");
        self.journal.line(Level::Error, text);
        let snapshots = &mut self.snapshots;
        snapshots.taking = None;
        snapshots.retry.failed(self.now.monotonic);
        snapshots.want(snapshot.index);
        snapshots.trouble = format!(
            "the snapshot at {snapshot} could not be taken: {reason}; it is tried again, ever less \
             often, or at once by `raftctl snapshot`"
        );
    }

    /// The log says that a snapshot is published: what it makes needless may go. What is kept for a
    /// follower that is being sent an older one goes with the next.
    pub(super) fn marked(&mut self, id: EntryId, effects: &mut Effects) {
        let snapshots = &mut self.snapshots;
        let Some(file) = snapshots.reach(id) else {
            return;
        };
        let transfers = &snapshots.transfers;
        let read = transfers.read(self.now.monotonic);
        let keep = SnapshotRequest::Keep {
            marked: id,
            also: transfers.sent().chain(read).collect(),
        };
        effects.snapshot(keep);
        self.compact(effects);
        let text = format!("snapshot published id={id} bytes={}", file.bytes);
        self.journal.line(Level::Info, text);
    }

    /// Has the log drop what the newest snapshot makes needless. On a low disk nothing of that is
    /// kept for followers that lag.
    pub(super) fn compact(&self, effects: &mut Effects) {
        let newest = self.snapshots.newest().id.index;
        // The log from a snapshot on goes to the follower that is being sent it.
        let oldest = self.snapshots.transfers.sent().map(|id| id.index).min();
        let keep_bytes = match self.disks.state() {
            DiskState::Ok => self.config.snapshots.keep_bytes,
            DiskState::Soft | DiskState::Hard => 0,
        };
        effects.storage.push(StorageRequest::Compact {
            upto: oldest.map_or(newest, |oldest| oldest.min(newest)),
            keep_bytes,
        });
    }
}
