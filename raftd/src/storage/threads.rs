//! The two threads of the disk work: thin drivers of [`Worker`], and of [`SpareMaker`] and
//! [`Keeper`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use raft::Instant;
use wire::peer::DiskState;
use wire::types::Index;

use super::open::Opened;
use super::spares::SPARES_MIN;
use super::{Keeper, Kept, Scrubber, Scrubbing, SpareMaker, Step, Worker};
use crate::clock::Clock;
use crate::disk::Latched;
use crate::disk::os::{OsDisk, OsFile};
use crate::fatal;
use crate::node;
use crate::node::io::{SnapshotRequest, StorageEvent, StorageRequest};
use crate::wal::segment::Spare;

/// Requests that may wait. The node admits no client's write beyond 4,096 unfinished ones, a leader
/// has at most 4 MiB on the way to this follower, and each of 16 members loads once at a time.
const REQUESTS_MAX: usize = 64 * 1024;
/// A batch written and synced in less time is one that a loop may wait for.
const FAST: Duration = Duration::from_millis(1);
/// So many fast ones in a row make the disk a fast one.
const FAST_BATCHES: u32 = 16;
/// Between two pieces of a spare, so that the log's own syncs keep the disk, and the loop the
/// processor: about 1 MiB in 5 ms.
const PACE: Duration = Duration::from_micros(600);
/// While the log takes one spare after the other within this time, and some are left, none is made:
/// zeros would cost a follower that catches up, or a load, as much of the disk as what they write.
const BURST: Duration = Duration::from_secs(1);
/// Followers that lag are read so many bytes in a second, so that what clients write meanwhile comes
/// first, at both ends: catching up takes all of a disk and most of two processors if it may.
const LAGGING_RATE_BYTES: u64 = 136 * 1024 * 1024;
/// A read for them that comes less late than this delays no later one.
const LATE: Duration = Duration::from_millis(20);
/// What the background thread leaves to the others when processors are short: it is never in a hurry
/// that they would not wait for.
const BACKGROUND_NICENESS: i32 = 10;
/// So much of a sealed segment leaves the page cache at once.
const RETIRE_BYTES: u64 = 2 * 1024 * 1024;
/// Between two looks at the room on the disk, and two tries to make a spare when there was none.
const LOOK: Duration = Duration::from_secs(1);

impl Opened {
    /// What the node starts from; and starts the threads. `notify` is called, from either of them,
    /// after events were added: it should wake whoever calls [`Storage::next_event`].
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[must_use]
    pub fn start(self, notify: Box<dyn Fn() + Send + Sync>) -> (node::Restored, Storage) {
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox {
                requests: VecDeque::new(),
                spares: Vec::new(),
                spares_left: self.worker.wal().spares(),
                sealed: Vec::new(),
                garbage: 0..0,
                segments: 0..0,
                suspects: Vec::new(),
                snapshots: VecDeque::new(),
                room: DiskState::Ok,
                finish: false,
            }),
            reports: Mutex::new(Reports {
                events: VecDeque::new(),
                all_wanted: true,
            }),
            notify,
            storage_thread: OnceLock::new(),
            background_thread: OnceLock::new(),
        });
        let bench = Arc::new(Mutex::new(Bench {
            worker: self.worker,
            shared: Arc::clone(&shared),
            incoming: VecDeque::new(),
            events: VecDeque::new(),
            finish: false,
            clock: Clock::start(),
            fast_batches: 0,
            lagging_at: Instant::default(),
        }));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(run).expect("the system gives a thread")
        };
        let background = Background {
            maker: self.spare_maker,
            spares_left: 0,
            spare_taken_at: Instant::default(),
            keeper: self.keeper,
            rate_bytes: self.snapshot_rate_bytes,
            scrubbing: self.scrubbing,
            scrubber: self.scrubber,
            clock: Clock::start(),
            next_scrub: Instant::default() + self.scrubbing.interval,
            shared: Arc::clone(&shared),
            events: VecDeque::new(),
        };
        let background = spawn("background", Box::new(move || background.run()));
        let (lent, told) = (Arc::clone(&bench), Arc::clone(&shared));
        let storage = spawn("storage", Box::new(move || work(&lent, &told)));
        // Whoever looked for the other before this looks again.
        shared
            .background_thread
            .get_or_init(|| background.thread().clone())
            .unpark();
        shared
            .storage_thread
            .get_or_init(|| storage.thread().clone())
            .unpark();
        let storage = Storage {
            shared,
            bench,
            threads: [storage, background],
            events: VecDeque::new(),
            all_wanted: true,
            _lock: self.lock,
        };
        (self.restored, storage)
    }
}

/// What the threads and the node's loop share.
///
/// Invariant: neither mutex is held over a system call other than a wake-up, nor one within the
/// other. (The bench's own mutex is: whoever has it does the disk's work.)
struct Shared {
    inbox: Mutex<Inbox>,
    reports: Mutex<Reports>,
    notify: Box<dyn Fn() + Send + Sync>,
    storage_thread: OnceLock<Thread>,
    background_thread: OnceLock<Thread>,
}

/// For the two threads.
struct Inbox {
    /// From the node, for the storage thread.
    requests: VecDeque<StorageRequest>,
    /// From the background thread, for the storage thread.
    spares: Vec<Spare<OsFile>>,
    /// Spares that are not in use: those above and those that the log has.
    spares_left: usize,
    /// For the background thread: segments that are written no more.
    sealed: Vec<OsFile>,
    /// For the background thread: segments that the log has forgotten.
    garbage: Range<u64>,
    /// For the background thread: the segments that the log needs and that are written no more.
    segments: Range<u64>,
    /// From the background thread, for the storage thread: entries where something is damaged.
    suspects: Vec<Index>,
    /// From the node, for the background thread.
    snapshots: VecDeque<SnapshotRequest>,
    /// Room on the disk, as the background thread last saw it.
    room: DiskState,
    /// Do what waits, then end.
    finish: bool,
}

/// For the node's loop.
struct Reports {
    events: VecDeque<StorageEvent>,
    /// The loop is to be woken for every event. Else one that only tells of durable writes waits
    /// until it wakes up for another reason.
    all_wanted: bool,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic elsewhere ends the process by itself; what is in there is whole at any moment.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log waits for a spare.
    fn is_urgent(&self) -> bool {
        self.inbox().spares_left == 0
    }

    fn wake_storage_thread(&self) {
        if let Some(thread) = self.storage_thread.get() {
            thread.unpark();
        }
    }

    fn wake_background_thread(&self) {
        if let Some(thread) = self.background_thread.get() {
            thread.unpark();
        }
    }
}

/// The storage thread: rounds until [`Storage::finish`].
fn work(bench: &Mutex<Bench>, shared: &Shared) {
    loop {
        let turn = bench.lock().unwrap_or_else(PoisonError::into_inner).turn();
        if turn.wanted {
            (shared.notify)();
        }
        if turn.finished {
            break;
        }
        if turn.worked {
            continue;
        }
        match turn.rest {
            Some(rest) => std::thread::park_timeout(rest),
            None => std::thread::park(),
        }
    }
}

/// The worker with all that a round needs, lent to whoever works.
struct Bench {
    worker: Worker<Latched<OsDisk>>,
    shared: Arc<Shared>,
    incoming: VecDeque<StorageRequest>,
    events: VecDeque<StorageEvent>,
    finish: bool,
    clock: Clock,
    /// How many batches in a row were written in less than [`FAST`].
    fast_batches: u32,
    /// When a follower that lags is read for next, at the earliest.
    lagging_at: Instant,
}

/// What a turn at the bench brought.
struct Turn {
    /// There are new events that the loop must be woken for.
    wanted: bool,
    /// Something was done: another turn may bring more.
    worked: bool,
    /// The end was asked for, and nothing is left to do.
    finished: bool,
    /// A read for a follower that lags waits for so long.
    rest: Option<Duration>,
}

impl Bench {
    /// Whether the disk was fast for a while.
    fn is_fast(&self) -> bool {
        self.fast_batches >= FAST_BATCHES
    }

    /// One round of the worker. Ends the process if the disk fails.
    fn turn(&mut self) -> Turn {
        self.take_inbox();
        let spares = self.worker.wal().spares();
        let began = self.clock.monotonic();
        self.worker.hold_lagging(began < self.lagging_at);
        let round = match self.worker.round(&mut self.events) {
            Ok(round) => round,
            Err(fatal) => fatal::die(&fatal),
        };
        if round.lagging_bytes > 0 {
            let rest = pace(round.lagging_bytes as u64, LAGGING_RATE_BYTES);
            self.lagging_at = next_due(self.lagging_at, began) + rest;
        }
        if round.wrote {
            let fast = self.clock.monotonic().since(began) < FAST;
            self.fast_batches = if fast {
                self.fast_batches.saturating_add(1)
            } else {
                0
            };
        }
        if self.worker.wal().spares() < spares {
            self.ask_for_spares();
        }
        let garbage = self.worker.take_garbage();
        if !garbage.is_empty() {
            self.hand_over_garbage(garbage);
        }
        Turn {
            wanted: self.report(),
            worked: round.worked,
            finished: self.finish && !round.worked,
            rest: self
                .worker
                .has_lagging()
                .then(|| self.lagging_at.since(began)),
        }
    }

    /// Hands over the round's events; true if the loop must be woken for them.
    fn report(&mut self) -> bool {
        if self.events.is_empty() {
            return false;
        }
        let mut reports = self.shared.reports();
        let patient = |event: &StorageEvent| matches!(event, StorageEvent::Durable { .. });
        let wanted = reports.all_wanted || !self.events.iter().all(patient);
        reports.events.append(&mut self.events);
        wanted
    }

    fn take_inbox(&mut self) {
        let mut inbox = self.shared.inbox();
        std::mem::swap(&mut inbox.requests, &mut self.incoming);
        for spare in inbox.spares.drain(..) {
            self.worker.add_spare(spare);
        }
        for suspect in inbox.suspects.drain(..) {
            self.worker.suspect(suspect);
        }
        inbox.segments = self.worker.wal().sealed_segments();
        self.worker.set_room(inbox.room);
        self.finish = inbox.finish;
        drop(inbox);
        for request in self.incoming.drain(..) {
            self.worker.push(request);
        }
    }

    fn hand_over_garbage(&self, garbage: Range<u64>) {
        let mut inbox = self.shared.inbox();
        if inbox.garbage.is_empty() {
            inbox.garbage.start = garbage.start;
        }
        inbox.garbage.end = garbage.end;
        drop(inbox);
        self.shared.wake_background_thread();
    }

    fn ask_for_spares(&mut self) {
        let mut inbox = self.shared.inbox();
        // Some may have been handed over since this round began.
        inbox.spares_left = self.worker.wal().spares() + inbox.spares.len();
        inbox.sealed.extend(self.worker.take_sealed());
        drop(inbox);
        self.shared.wake_background_thread();
    }
}

/// The background thread: spares, snapshots, and what is freed.
struct Background {
    maker: SpareMaker<OsDisk>,
    /// Spares that were left when it was last looked, and since when there are fewer than before.
    spares_left: usize,
    spare_taken_at: Instant,
    keeper: Keeper<OsDisk>,
    /// Bytes of a snapshot that are written in a second; 0: as fast as it goes.
    rate_bytes: u64,
    scrubbing: Scrubbing,
    scrubber: Scrubber<OsDisk>,
    clock: Clock,
    /// When the next round of the scrubber begins. What was read at start needs no look at once.
    next_scrub: Instant,
    shared: Arc<Shared>,
    events: VecDeque<StorageEvent>,
}

impl Background {
    /// Runs until [`Storage::finish`].
    fn run(mut self) {
        // Of this thread only. Where that is refused, it is as important as the others.
        let _ = rustix::process::setpriority_process(None, BACKGROUND_NICENESS);
        loop {
            let mut inbox = self.shared.inbox();
            let (left, finish) = (inbox.spares_left, inbox.finish);
            let sealed = std::mem::take(&mut inbox.sealed);
            let requests = std::mem::take(&mut inbox.snapshots);
            let garbage = std::mem::take(&mut inbox.garbage);
            let segments = inbox.segments.clone();
            drop(inbox);
            if finish {
                self.maker.finish();
                self.keeper.finish();
                return;
            }
            for request in requests {
                self.keeper.push(request);
            }
            self.keeper.remove_segments(garbage);
            for file in sealed {
                retire(file, self.maker.segment_bytes(), &self.shared);
            }
            let mut rest = self.make_spares(left).min(self.keep_snapshots());
            if rest == LOOK {
                // All others rest.
                rest = self.scrub(segments);
            }
            if !rest.is_zero() {
                std::thread::park_timeout(rest);
            }
        }
    }

    /// A piece of a spare. Says how long the next one may wait.
    fn make_spares(&mut self, left: usize) -> Duration {
        let now = self.clock.monotonic();
        if left < self.spares_left {
            self.spare_taken_at = now;
        }
        self.spares_left = left;
        if let Some(rest) = burst_rest(left, now.since(self.spare_taken_at)) {
            return rest;
        }
        match self.maker.step(left, self.keeper.next_bytes()) {
            Step::Made(spare) => {
                let mut inbox = self.shared.inbox();
                inbox.spares.push(spare);
                inbox.spares_left += 1;
                drop(inbox);
                self.shared.wake_storage_thread();
                Duration::ZERO
            }
            Step::Making if self.shared.is_urgent() => Duration::ZERO,
            Step::Making => PACE,
            Step::Rest(room) => {
                tell_room(room, &self.shared);
                LOOK
            }
        }
    }

    /// A step of what is to be done about snapshots. Says how long the next one may wait.
    fn keep_snapshots(&mut self) -> Duration {
        let kept = match self.keeper.step(&mut self.events) {
            Ok(kept) => kept,
            Err(fatal) => fatal::die(&fatal),
        };
        self.report();
        match kept {
            Kept::Idle => LOOK,
            Kept::Served => Duration::ZERO,
            // The log waits for the room that a snapshot may make, or else give back.
            Kept::Wrote(_) if self.shared.is_urgent() => Duration::ZERO,
            Kept::Wrote(bytes) => pace(bytes, self.rate_bytes),
        }
    }

    /// A step of a look for rot, if it is time for one. Says how long the next one may wait.
    fn scrub(&mut self, segments: Range<u64>) -> Duration {
        let now = self.clock.monotonic();
        if !self.scrubber.has_work() {
            if self.scrubbing.rate_bytes == 0 || now < self.next_scrub {
                return LOOK;
            }
            self.next_scrub = now + self.scrubbing.interval;
            self.scrubber.begin(segments);
        }
        let scrubbed = self.scrubber.step(&mut self.events);
        self.report();
        if let Some(suspect) = scrubbed.suspect {
            self.shared.inbox().suspects.push(suspect);
            self.shared.wake_storage_thread();
        }
        pace(scrubbed.bytes, self.scrubbing.rate_bytes).min(LOOK)
    }

    fn report(&mut self) {
        if !self.events.is_empty() {
            self.shared.reports().events.append(&mut self.events);
            (self.shared.notify)();
        }
    }
}

/// How long to rest after so many bytes; not at all if there is no rate.
fn pace(bytes: u64, rate_bytes: u64) -> Duration {
    let micros = (bytes * 1_000_000).checked_div(rate_bytes);
    Duration::from_micros(micros.unwrap_or(0))
}

/// How long no spare is made, when so many are left and the last one was taken so long ago.
fn burst_rest(left: usize, since: Duration) -> Option<Duration> {
    BURST
        .checked_sub(since)
        .filter(|rest| left >= SPARES_MIN && !rest.is_zero())
}

/// From when the pace counts on, for what was due and began later: what was only a little late is
/// made up for, and who rested longer than [`LATE`] has nothing in hand.
fn next_due(due: Instant, began: Instant) -> Instant {
    if began.since(due) < LATE { due } else { began }
}

/// Frees the memory of a segment that is written no more: it goes into the next spare, and a log
/// that only grows does not fill the page cache.
fn retire(mut file: OsFile, bytes: u64, shared: &Shared) {
    file.unmap();
    let mut offset = 0;
    while offset < bytes {
        file.drop_range(offset, RETIRE_BYTES);
        offset += RETIRE_BYTES;
        pause(shared);
    }
}

/// Leaves disk and processor to others for a moment, unless the log waits for a spare.
fn pause(shared: &Shared) {
    if !shared.is_urgent() {
        std::thread::park_timeout(PACE);
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

/// The node's end of the storage thread. The data directory is locked as long as it lives.
pub struct Storage {
    shared: Arc<Shared>,
    bench: Arc<Mutex<Bench>>,
    threads: [JoinHandle<()>; 2],
    events: VecDeque<StorageEvent>,
    all_wanted: bool,
    _lock: std::fs::File,
}

impl Storage {
    /// Hands over work; never blocks. It is begun by [`Storage::begin`] or
    /// [`Storage::work_here`].
    ///
    /// # Panics
    /// If more requests wait than the node's own limits allow: a bug of ours.
    pub fn submit(&self, request: StorageRequest) {
        let mut inbox = self.shared.inbox();
        if let StorageRequest::Snapshot(request) = request {
            assert!(
                inbox.snapshots.len() < REQUESTS_MAX,
                "requests about snapshots are bounded"
            );
            inbox.snapshots.push_back(request);
            drop(inbox);
            return self.shared.wake_background_thread();
        }
        assert!(
            inbox.requests.len() < REQUESTS_MAX,
            "storage requests are bounded"
        );
        inbox.requests.push_back(request);
    }

    /// Has the storage thread do what was handed over.
    pub fn begin(&self) {
        self.shared.wake_storage_thread();
    }

    /// Does what was handed over in the calling thread, one batch of it, so that no thread needs
    /// to be woken, neither for the work nor for its result: [`Storage::next_event`] has that at
    /// once. The caller waits for the disk, so this is for a disk that is known to be fast; else,
    /// or if the storage thread is at work, it is the same as [`Storage::begin`].
    pub fn work_here(&self) {
        let Ok(mut bench) = self.bench.try_lock() else {
            return self.begin();
        };
        if !bench.is_fast() {
            return self.begin();
        }
        let turn = bench.turn();
        if turn.rest.is_some() || turn.worked && bench.worker.has_work() {
            self.begin();
        }
    }

    /// The next report, in order; `None` until `notify` is called again, or later if not all
    /// reports are wanted.
    pub fn next_event(&mut self) -> Option<StorageEvent> {
        if self.events.is_empty() {
            std::mem::swap(&mut self.shared.reports().events, &mut self.events);
        }
        self.events.pop_front()
    }

    /// Says, before the loop sleeps, whether `notify` shall be called for reports of durable
    /// writes too. True if a report is there already, so that there is nothing to sleep for.
    pub fn want_all(&mut self, all: bool) -> bool {
        if self.all_wanted == all {
            return false;
        }
        self.all_wanted = all;
        let mut reports = self.shared.reports();
        reports.all_wanted = all;
        all && !reports.events.is_empty()
    }

    /// Does everything that was handed over, then ends the threads and unlocks the directory.
    pub fn finish(self) {
        self.shared.inbox().finish = true;
        self.shared.wake_storage_thread();
        self.shared.wake_background_thread();
        for thread in self.threads {
            // A panic in a thread was already reported where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spare_is_made_while_the_log_takes_many_and_some_are_left() {
        let rest = |left, millis| burst_rest(left, Duration::from_millis(millis));
        assert_eq!(rest(SPARES_MIN, 0), Some(BURST));
        assert_eq!(rest(SPARES_MIN, 400), Some(Duration::from_millis(600)));
        assert_eq!(rest(SPARES_MIN, 1000), None, "it has calmed down");
        assert_eq!(rest(SPARES_MIN - 1, 0), None, "the log may need it soon");
    }

    #[test]
    fn a_little_lateness_is_made_up_for_and_no_more() {
        let due = Instant::default() + Duration::from_secs(1);
        let late = |late: Duration| next_due(due, due + late);
        assert_eq!(late(Duration::ZERO), due);
        assert_eq!(late(LATE / 2), due);
        assert_eq!(late(LATE), due + LATE, "a rest is no credit");
        assert_eq!(late(LATE * 9), due + LATE * 9);
    }
}
