//! The storage thread: a thin driver of [`Worker`]; and the loop's end of both threads.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Worker;
use super::background::Background;
use super::open::Opened;
use super::shared::Shared;
use crate::clock::Clock;
use crate::disk::Latched;
use crate::disk::os::OsDisk;
use crate::node;
use crate::node::io::{StorageEvent, StorageRequest};

/// Requests that may wait. The node admits no client's write beyond 4,096 unfinished ones, a leader
/// has at most 4 MiB on the way to this follower, and each of 16 members loads once at a time.
const REQUESTS_MAX: usize = 64 * 1024;
/// A batch written and synced in less time is one that a loop may wait for.
const FAST: Duration = Duration::from_millis(1);
/// So many fast ones in a row make the disk a fast one.
const FAST_BATCHES: u32 = 16;
/// Between two looks at whether the end of the threads is still waited for.
const FINISH_LOOK: Duration = Duration::from_millis(50);

impl Opened {
    /// What the node starts from; and starts the threads. `notify` is called, from either of them,
    /// after events were added: it should wake whoever calls [`Storage::next_event`].
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[must_use]
    pub fn start(self, notify: Box<dyn Fn() + Send + Sync>) -> (node::Restored, Storage) {
        let spares = self.worker.wal().spares();
        let shared = Arc::new(Shared::new(self.data_dir, self.lock, spares, notify));
        let bench = Arc::new(Mutex::new(Bench {
            worker: self.worker,
            shared: Arc::clone(&shared),
            incoming: VecDeque::new(),
            events: VecDeque::new(),
            finish: false,
            clock: Clock::start(),
            fast_batches: 0,
        }));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(run).expect("the system gives a thread")
        };
        // Nothing is sent: it is closed when both are done.
        let (working, done) = channel();
        let background = Background::new(self.chores, Arc::clone(&shared));
        let busy = working.clone();
        let run_background = move || {
            background.run();
            drop(busy);
        };
        let background = spawn("background", Box::new(run_background));
        let (lent, told) = (Arc::clone(&bench), Arc::clone(&shared));
        let run_storage = move || {
            work(&lent, &told);
            drop(working);
        };
        let storage = spawn("storage", Box::new(run_storage));
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
            done,
            events: VecDeque::new(),
            all_wanted: true,
        };
        (self.restored, storage)
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
        if !turn.worked {
            std::thread::park();
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
}

/// What a turn at the bench brought.
struct Turn {
    /// There are new events that the loop must be woken for.
    wanted: bool,
    /// Something was done: another turn may bring more.
    worked: bool,
    /// The end was asked for, and nothing is left to do.
    finished: bool,
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
        let round = match self.worker.round(&mut self.events) {
            Ok(round) => round,
            Err(fatal) => self.shared.die(fatal),
        };
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
        self.hand_over();
        Turn {
            wanted: self.report(),
            worked: round.worked,
            finished: self.finish && !round.worked,
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
        for unreadable in inbox.unreadable.drain(..) {
            self.worker.unreadable(unreadable);
        }
        inbox.segments = self.worker.wal().sealed_segments();
        self.worker.set_room(inbox.room);
        self.finish = inbox.finish;
        drop(inbox);
        for request in self.incoming.drain(..) {
            self.worker.push(request);
        }
    }

    /// Gives the background thread what is its to do.
    fn hand_over(&mut self) {
        let (reads, garbage) = (self.worker.take_reads(), self.worker.take_garbage());
        if reads.is_empty() && garbage.is_empty() {
            return;
        }
        let mut inbox = self.shared.inbox();
        inbox.reads.extend(reads);
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

/// The node's end of the storage thread.
pub struct Storage {
    shared: Arc<Shared>,
    bench: Arc<Mutex<Bench>>,
    threads: [JoinHandle<()>; 2],
    done: Receiver<Infallible>,
    events: VecDeque<StorageEvent>,
    all_wanted: bool,
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
        if turn.worked && bench.worker.has_work() {
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

    /// Writes what was handed over, as far as the log has room for it, then ends the threads and
    /// unlocks the directory. What is half-made is removed. A disk may never be done: `gives_up` is
    /// asked now and then, and if it says so, this is false, and the threads and the lock are left
    /// to the end of the process.
    pub fn finish(self, mut gives_up: impl FnMut() -> bool) -> bool {
        self.shared.inbox().finish = true;
        self.shared.wake_storage_thread();
        self.shared.wake_background_thread();
        loop {
            match self.done.recv_timeout(FINISH_LOOK) {
                Ok(never) => match never {},
                Err(RecvTimeoutError::Timeout) if gives_up() => return false,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for thread in self.threads {
            // A panic in a thread was already reported where it happened.
            let _ = thread.join();
        }
        true
    }
}
