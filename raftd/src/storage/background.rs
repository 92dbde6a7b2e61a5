//! The background thread: a thin driver of all disk work but the log's own.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use raft::Instant;
use wire::peer::DiskState;

use super::pace::{PACE, Rest, SparePace, next_due, pace};
use super::shared::Shared;
use super::{Keeper, Kept, LogReader, ReadStep, Scrubber, Scrubbing, SpareMaker, Step};
use crate::clock::Clock;
use crate::disk::os::{OsDisk, OsFile};
use crate::node::io::StorageEvent;

/// Followers that lag are read so many bytes in a second, so that what clients write meanwhile comes
/// first, at both ends: catching up takes all of a disk and most of two processors if it may.
const LAGGING_RATE_BYTES: u64 = 136 * 1024 * 1024;
/// What the background thread leaves to the others when processors are short: it is never in a hurry
/// that they would not wait for.
const BACKGROUND_NICENESS: i32 = 10;
/// So much of a sealed segment leaves the page cache at once.
const RETIRE_BYTES: u64 = 2 * 1024 * 1024;
/// Between two looks at the room on the disk, and two tries to make a spare when there was none.
const LOOK: Duration = Duration::from_secs(1);

/// Who does the work of the thread.
pub(super) struct Chores {
    pub(super) maker: SpareMaker<OsDisk>,
    pub(super) keeper: Keeper<OsDisk>,
    pub(super) log_reader: LogReader<OsDisk>,
    pub(super) scrubber: Scrubber<OsDisk>,
    /// Bytes of a snapshot that are written in a second; 0: as fast as it goes.
    pub(super) snapshot_rate_bytes: u64,
    pub(super) scrubbing: Scrubbing,
}

/// Spares, snapshots, reads of the log, and what is freed.
pub(super) struct Background {
    chores: Chores,
    spare_pace: SparePace,
    spare_rest: Rest,
    clock: Clock,
    snapshot_rest: Rest,
    /// After a read for which no file could be opened.
    read_rest: Rest,
    scrub_rest: Rest,
    retire_rest: Rest,
    /// When a follower that lags is read for next, at the earliest.
    lagging_at: Instant,
    /// When the next round of the scrubber begins. What was read at start needs no look at once.
    next_scrub: Instant,
    /// Segments that are written no more, and what of each has left the page cache.
    retiring: VecDeque<(OsFile, u64)>,
    shared: Arc<Shared>,
    events: VecDeque<StorageEvent>,
}

impl Background {
    pub(super) fn new(chores: Chores, shared: Arc<Shared>) -> Self {
        Self {
            next_scrub: Instant::default() + chores.scrubbing.interval,
            chores,
            spare_pace: SparePace::default(),
            spare_rest: Rest::default(),
            clock: Clock::start(),
            snapshot_rest: Rest::default(),
            read_rest: Rest::default(),
            scrub_rest: Rest::default(),
            retire_rest: Rest::default(),
            lagging_at: Instant::default(),
            retiring: VecDeque::new(),
            shared,
            events: VecDeque::new(),
        }
    }

    /// Runs until [`super::Storage::finish`].
    pub(super) fn run(mut self) {
        // Of this thread only. Where that is refused, it is as important as the others.
        let _ = rustix::process::setpriority_process(None, BACKGROUND_NICENESS);
        loop {
            let mut inbox = self.shared.inbox();
            let (left, finish) = (inbox.spares_left, inbox.finish);
            let sealed = std::mem::take(&mut inbox.sealed);
            let reads = std::mem::take(&mut inbox.reads);
            let requests = std::mem::take(&mut inbox.snapshots);
            let garbage = std::mem::take(&mut inbox.garbage);
            let segments = inbox.segments.clone();
            drop(inbox);
            if finish {
                self.chores.maker.finish();
                self.chores.keeper.finish();
                return;
            }
            for request in requests {
                self.chores.keeper.push(request);
            }
            self.chores.keeper.remove_segments(garbage);
            for mut file in sealed {
                file.unmap();
                self.retiring.push_back((file, 0));
            }
            for read in reads {
                self.chores.log_reader.push(read);
            }
            let mut rest = self
                .retire()
                .min(self.make_spares(left))
                .min(self.keep_snapshots())
                .min(self.read_log());
            if rest == LOOK {
                // All others rest.
                rest = self.scrub(segments);
            }
            if !rest.is_zero() {
                std::thread::park_timeout(rest);
            }
        }
    }

    /// Frees memory of a segment that is written no more: it goes into the next spare, and a log
    /// that only grows does not fill the page cache. Says how long the next piece may wait.
    fn retire(&mut self) -> Duration {
        let now = self.clock.monotonic();
        let Some((file, offset)) = self.retiring.front_mut() else {
            return LOOK;
        };
        if let Some(left) = self.retire_rest.left(now) {
            return left;
        }
        file.drop_range(*offset, RETIRE_BYTES);
        *offset += RETIRE_BYTES;
        if *offset >= self.chores.maker.segment_bytes() {
            self.retiring.pop_front();
        }
        self.retire_rest.begin(now, PACE)
    }

    /// A read of the log. Says how long the next one may wait.
    fn read_log(&mut self) -> Duration {
        let began = self.clock.monotonic();
        if let Some(left) = self.read_rest.left(began) {
            return left;
        }
        let held = began < self.lagging_at;
        let step = match self.chores.log_reader.step(held, &mut self.events) {
            Ok(step) => step,
            Err(fatal) => self.shared.die(fatal),
        };
        self.report();
        match step {
            ReadStep::Idle if self.chores.log_reader.has_work() => self.lagging_at.since(began),
            ReadStep::Idle => LOOK,
            ReadStep::Read { lagging_bytes } => {
                if lagging_bytes > 0 {
                    let rest = pace(lagging_bytes as u64, LAGGING_RATE_BYTES);
                    self.lagging_at = next_due(self.lagging_at, began) + rest;
                }
                Duration::ZERO
            }
            ReadStep::Unreadable(unreadable) => {
                self.shared.inbox().unreadable.push(unreadable);
                self.shared.wake_storage_thread();
                Duration::ZERO
            }
            ReadStep::OutOfFiles => self.read_rest.begin(began, LOOK),
        }
    }

    /// A piece of a spare. Says how long the next one may wait.
    fn make_spares(&mut self, left: usize) -> Duration {
        let now = self.clock.monotonic();
        // Whoever is woken often would fill a disk that fails with zeros, and the log with lines.
        if let Some(left) = self.spare_rest.left(now) {
            return left;
        }
        let rest = self.spare_pace.rest(left, now);
        if !rest.is_zero() {
            return rest;
        }
        let Chores { maker, keeper, .. } = &mut self.chores;
        match maker.step(left, keeper.next_bytes(), keeper.has_work()) {
            Step::Made(spare) => {
                let mut inbox = self.shared.inbox();
                inbox.spares.push(spare);
                inbox.spares_left += 1;
                drop(inbox);
                self.shared.wake_storage_thread();
                Duration::ZERO
            }
            Step::Making => {
                let now = self.clock.monotonic();
                self.spare_pace.made_at = now;
                self.spare_pace.rest(left, now)
            }
            Step::Rest(room) => {
                tell_room(room, &self.shared);
                LOOK
            }
            Step::Failed(room) => {
                tell_room(room, &self.shared);
                self.spare_rest.begin(now, LOOK)
            }
        }
    }

    /// A step of what is to be done about snapshots. Says how long the next one may wait.
    fn keep_snapshots(&mut self) -> Duration {
        // A log without a spare waits for the room that a snapshot may make, or else give back.
        let urgent = self.shared.is_urgent();
        if !urgent
            && !self.chores.keeper.is_awaited()
            && let Some(left) = self.snapshot_rest.left(self.clock.monotonic())
        {
            return left;
        }
        let kept = match self.chores.keeper.step(&mut self.events) {
            Ok(kept) => kept,
            Err(fatal) => self.shared.die(fatal),
        };
        self.report();
        match kept {
            Kept::Idle => LOOK,
            Kept::Served => Duration::ZERO,
            Kept::Wrote(_) if urgent => Duration::ZERO,
            Kept::Wrote(bytes) => {
                let rest = pace(bytes, self.chores.snapshot_rate_bytes);
                self.snapshot_rest.begin(self.clock.monotonic(), rest)
            }
        }
    }

    /// A step of a look for rot, if it is time for one. Says how long the next one may wait.
    fn scrub(&mut self, segments: Range<u64>) -> Duration {
        let now = self.clock.monotonic();
        if !self.chores.scrubber.has_work() {
            if self.chores.scrubbing.rate_bytes == 0 || now < self.next_scrub {
                return LOOK;
            }
            self.next_scrub = now + self.chores.scrubbing.interval;
            self.chores.scrubber.begin(segments);
        }
        if let Some(left) = self.scrub_rest.left(now) {
            return left.min(LOOK);
        }
        let scrubbed = self.chores.scrubber.step(&mut self.events);
        self.report();
        if let Some(suspect) = scrubbed.suspect {
            self.shared.inbox().suspects.push(suspect);
            self.shared.wake_storage_thread();
        }
        let rest = pace(scrubbed.bytes, self.chores.scrubbing.rate_bytes);
        self.scrub_rest.begin(now, rest).min(LOOK)
    }

    fn report(&mut self) {
        if !self.events.is_empty() {
            self.shared.reports().events.append(&mut self.events);
            (self.shared.notify)();
        }
    }
}

fn tell_room(room: DiskState, shared: &Shared) {
    let mut inbox = shared.inbox();
    let changed = inbox.room != room;
    inbox.room = room;
    drop(inbox);
    if changed {
        shared.wake_storage_thread();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::BytesMut;
    use raft::{Ticket, Write};
    use tempfile::TempDir;
    use wire::entry::{Entry, EntryKind};
    use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

    use super::super::{Options, Worker, open};
    use super::*;
    use crate::disk::{Latched, Meter};
    use crate::node::io::{LoadPurpose, SnapshotRequest, StorageRequest};
    use crate::store;
    use crate::store::session::SESSIONS_MAX;
    use crate::wal::identity::Identity;

    /// In a new directory, with a log that has so many spares. A snapshot is to be taken, and a look for
    /// rot is due; both are to rest a second for each byte.
    fn background(spares_left: usize) -> (Background, TempDir) {
        let (background, _, dir) = parts(spares_left);
        (background, dir)
    }

    fn parts(spares_left: usize) -> (Background, Worker<Latched<OsDisk>>, TempDir) {
        let dir = tempfile::tempdir().expect("it is made");
        let options = Options {
            data_dir: dir.path().to_path_buf(),
            segment_bytes: 256 * 1024,
            soft_free_bytes: 0,
            tail_bytes: 0,
            sessions_max: SESSIONS_MAX,
            snapshot_rate_bytes: 1,
            scrubbing: Scrubbing {
                rate_bytes: 1,
                interval: Duration::from_hours(1),
            },
            meter: Meter::default(),
            create: Some(Identity {
                cluster: ClusterId(1),
                node: NodeId(1),
                incarnation: Incarnation(1),
                epoch: Epoch(1),
                formed: Vec::new(),
                members: Vec::new(),
                next_epoch: None,
            }),
            seed: 1,
        };
        let opened = open(&options).expect("the directory is empty");
        let (mut chores, worker) = (opened.chores, opened.worker);
        let view = store::sample(10).view();
        chores.keeper.push(SnapshotRequest::Take(Box::new(view)));
        let wakes_nobody = Box::new(|| {});
        let shared = Shared::new(options.data_dir, opened.lock, spares_left, wakes_nobody);
        let mut background = Background::new(chores, Arc::new(shared));
        background.next_scrub = Instant::default();
        (background, worker, dir)
    }

    #[test]
    fn a_snapshot_rests_while_the_log_has_spares() {
        let (mut background, _dir) = background(1);
        while background.keep_snapshots().is_zero() {}
        for _ in 0..10 {
            assert!(background.keep_snapshots() > LOOK);
        }
        assert!(background.chores.keeper.has_work());
    }

    /// The log has none because the disk is full, and the snapshot makes room or gives up.
    #[test]
    fn a_snapshot_does_not_rest_while_the_log_has_no_spare() {
        let (mut background, _dir) = background(0);
        while background.chores.keeper.has_work() {
            assert_eq!(background.keep_snapshots(), Duration::ZERO);
        }
    }

    #[test]
    fn the_scrubber_rests_whatever_wakes_the_thread() {
        let (mut background, _dir) = background(0);
        while background.chores.keeper.has_work() {
            background.keep_snapshots();
        }
        for _ in 0..10 {
            assert_eq!(background.scrub(0..0), LOOK);
        }
        assert!(
            background.chores.scrubber.has_work(),
            "its round is not over"
        );
    }

    /// Its rest is its own: neither a request nor the log waits for the end of it.
    #[test]
    fn what_others_wait_for_is_done_while_a_snapshot_rests() {
        let (mut background, _dir) = background(1);
        while background.keep_snapshots().is_zero() {}
        let keep = SnapshotRequest::Keep {
            marked: EntryId::default(),
            also: Vec::new(),
        };
        background.chores.keeper.push(keep);
        assert_eq!(background.keep_snapshots(), Duration::ZERO, "served");
        assert!(background.keep_snapshots() > LOOK, "it rests on");
        background.shared.inbox().spares_left = 0;
        assert_eq!(background.keep_snapshots(), Duration::ZERO, "written");
    }

    #[test]
    fn a_look_for_rot_begins_when_it_is_due_and_then_not_before_the_next_one_is() {
        let (mut background, _dir) = background(0);
        while background.chores.keeper.has_work() {
            background.keep_snapshots();
        }
        let later = background.clock.monotonic() + Duration::from_hours(1);
        let mut looks = |rate_bytes, next_scrub| {
            background.chores.scrubbing.rate_bytes = rate_bytes;
            background.next_scrub = next_scrub;
            background.scrub(0..0);
            background.chores.scrubber.has_work()
        };
        assert!(!looks(0, Instant::default()), "it is off");
        assert!(!looks(u64::MAX, later), "it is not due");
        assert!(looks(u64::MAX, Instant::default()));
        while background.chores.scrubber.has_work() {
            background.scrub(0..0);
        }
        background.scrub(0..0);
        assert!(!background.chores.scrubber.has_work(), "one was just now");
    }

    /// Whoever leads or applies waits for none of it.
    #[test]
    fn reads_for_who_lags_are_paced_and_no_other() {
        let (mut background, mut worker, _dir) = parts(1);
        let id = EntryId {
            term: Term(1),
            index: Index(1),
        };
        let kind = EntryKind::Command;
        let entry = Entry::build(&mut BytesMut::new(), id, 0, kind, &[1; 100_000]);
        worker.push(StorageRequest::Write(Write {
            ticket: Ticket(1),
            entries: vec![entry],
            ..Write::default()
        }));
        let mut read = |background: &mut Background, purpose| {
            worker.push(StorageRequest::Load {
                purpose,
                from: Index(1),
                to: Index(1),
                max_bytes: 1,
            });
            worker.round(&mut VecDeque::new()).expect("no fault");
            for read in worker.take_reads() {
                background.chores.log_reader.push(read);
            }
            background.read_log()
        };
        assert_eq!(read(&mut background, LoadPurpose::Apply), Duration::ZERO);
        assert_eq!(background.lagging_at, Instant::default());
        let lags = LoadPurpose::Replicate(NodeId(2));
        assert_eq!(read(&mut background, lags), Duration::ZERO);
        assert!(background.lagging_at > Instant::default());

        background.lagging_at = background.clock.monotonic() + Duration::from_hours(1);
        assert!(read(&mut background, lags) > LOOK, "it is held");
        assert_eq!(read(&mut background, LoadPurpose::Apply), Duration::ZERO);
        assert!(background.chores.log_reader.has_work(), "as before");
        let told = &background.shared.reports().events;
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn a_spare_that_failed_rests_whatever_wakes_the_thread() {
        let (mut background, dir) = background(0);
        let (wal, away) = (dir.path().join("wal"), dir.path().join("away"));
        fs::rename(&wal, &away).expect("it is there");
        assert_eq!(background.make_spares(0), LOOK);
        fs::rename(&away, &wal).expect("it is back");
        assert!(!background.make_spares(0).is_zero(), "it rests");
    }
}
