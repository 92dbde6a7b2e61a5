//! The disk work of a node, off its loop: opening the data directory, and the two threads.
//!
//! The *storage thread* owns the log and the map of the active segment, and does every sync. All
//! writes that wait when a sync returns share the next one (group commit): nothing is delayed to
//! form a batch, and a batch forms by itself while the disk is busy. The *spares thread* makes
//! segments before they are needed and watches the room on the disk.

mod open;
mod spares;
mod worker;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};

use wire::peer::DiskState;

pub use self::open::{OpenedDisk, open, open_disk};
use self::spares::Spares;
use self::worker::Worker;
use crate::disk::os::{OsDisk, OsFile};
use crate::disk::{self, Latched};
use crate::fatal::{ExitStatus, Fatal};
use crate::node::io::{StorageEvent, StorageRequest};
use crate::wal::identity::{IDENTITY_NAME, Identity, IdentityError};
use crate::wal::segment::Spare;
use crate::wal::{self, Wal};

/// Bytes of entries that are given back at start.
const TAIL_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of entries that one load reads at most: the next sync waits no longer than that takes.
const LOAD_BYTES_MAX: usize = 1024 * 1024;
/// Requests that may wait. The node admits no client's write beyond 4,096 unfinished ones, a leader
/// has at most 4 MiB on the way to this follower, and each of 16 members loads once at a time.
const REQUESTS_MAX: usize = 64 * 1024;

/// What to do when data is damaged: nothing that forgets a vote or an acknowledgement. An older
/// copy of the log or an empty directory would; peers refuse the latter (rules D1).
const LEAVE_OUT: &str = "keep the files as they are and leave this member stopped: the others \
                         go on as long as they are a majority. Neither an older copy nor an \
                         empty directory may take its place";
/// What to do without IDENTITY: it forgets nothing, and its content does not change once formed.
const RESTORE_IDENTITY: &str = "restore IDENTITY from this node's own backup, made since the \
                                cluster formed; without one, leave this member stopped";

/// Where and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; made if it does not exist, with mode 0700.
    pub data_dir: PathBuf,
    /// Size of new segments in bytes, 256 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Below this many free bytes the disk state is `Soft`; two segments if that is more.
    pub soft_free_bytes: u64,
    /// Who a data directory without content becomes.
    pub create: Option<Identity>,
    /// Random, for each life of the process another.
    pub seed: u64,
}

/// An opened data directory: what it holds, before the threads run.
pub struct Opened {
    /// Who it is.
    pub identity: Identity,
    /// It was made just now.
    pub created: bool,
    /// What the log holds.
    pub restored: raft::Restored,
    /// Bytes of all segments.
    pub wal_bytes: u64,
    /// What recovery did, in one line.
    pub report: String,
    wal: Wal<Latched<OsDisk>>,
    disk: OsDisk,
    options: Options,
    lock: std::fs::File,
}

impl Opened {
    /// Starts the threads. `notify` is called, from the storage thread, after events were added:
    /// it should wake whoever calls [`Storage::next_event`].
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[must_use]
    pub fn start(self, notify: Box<dyn Fn() + Send + Sync>) -> Storage {
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox {
                requests: VecDeque::new(),
                spares: Vec::new(),
                spares_left: self.wal.spares(),
                sealed: Vec::new(),
                disk: DiskState::Ok,
                finish: false,
            }),
            events: Mutex::new(VecDeque::new()),
            notify,
            storage_thread: OnceLock::new(),
            spares_thread: OnceLock::new(),
        });
        let spares = Spares::new(self.disk, &self.identity, &self.options, &self.wal, &shared);
        let worker = Worker::new(self.wal, self.identity, &shared);
        let worker = Arc::new(Mutex::new(worker));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(run).expect("the system gives a thread")
        };
        let spares = spawn("spares", Box::new(move || spares.run()));
        let (lent, told) = (Arc::clone(&worker), Arc::clone(&shared));
        let thread = spawn("storage", Box::new(move || run(&lent, &told)));
        // Whoever looked for the other before this looks again.
        shared
            .spares_thread
            .get_or_init(|| spares.thread().clone())
            .unpark();
        shared
            .storage_thread
            .get_or_init(|| thread.thread().clone())
            .unpark();
        Storage {
            shared,
            worker,
            threads: [thread, spares],
            events: VecDeque::new(),
            _lock: self.lock,
        }
    }
}

/// The storage thread: rounds until [`Storage::finish`].
fn run(worker: &Mutex<Worker>, shared: &Shared) {
    loop {
        let round = worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .round();
        if round.reported {
            (shared.notify)();
        }
        if round.finished {
            break;
        }
        if !round.worked {
            std::thread::park();
        }
    }
}

/// What the threads and the node's loop share.
///
/// Invariant: neither mutex is held over a system call other than a wake-up, nor one within the
/// other. (The worker's own mutex is: whoever has it does the disk's work.)
struct Shared {
    inbox: Mutex<Inbox>,
    events: Mutex<VecDeque<StorageEvent>>,
    notify: Box<dyn Fn() + Send + Sync>,
    storage_thread: OnceLock<Thread>,
    spares_thread: OnceLock<Thread>,
}

/// For the storage thread.
struct Inbox {
    /// From the node.
    requests: VecDeque<StorageRequest>,
    /// From the spares thread.
    spares: Vec<Spare<OsFile>>,
    /// Spares that are not in use: those above and those that the log has.
    spares_left: usize,
    /// For the spares thread: segments that are written no more.
    sealed: Vec<OsFile>,
    /// Room on the disk, as the spares thread last saw it.
    disk: DiskState,
    /// Do what waits, then end.
    finish: bool,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic elsewhere ends the process by itself; what is in there is whole at any moment.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<StorageEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_storage_thread(&self) {
        if let Some(thread) = self.storage_thread.get() {
            thread.unpark();
        }
    }

    fn wake_spares_thread(&self) {
        if let Some(thread) = self.spares_thread.get() {
            thread.unpark();
        }
    }
}

/// The node's end of the storage thread. The data directory is locked as long as it lives.
pub struct Storage {
    shared: Arc<Shared>,
    worker: Arc<Mutex<Worker>>,
    threads: [JoinHandle<()>; 2],
    events: VecDeque<StorageEvent>,
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
        let Ok(mut worker) = self.worker.try_lock() else {
            return self.begin();
        };
        if !worker.is_fast() {
            return self.begin();
        }
        let round = worker.round();
        if round.worked && worker.has_work() {
            self.begin();
        }
    }

    /// The next report, in order; `None` until `notify` is called again.
    pub fn next_event(&mut self) -> Option<StorageEvent> {
        if self.events.is_empty() {
            std::mem::swap(&mut *self.shared.events(), &mut self.events);
        }
        self.events.pop_front()
    }

    /// Does everything that was handed over, then ends the threads and unlocks the directory.
    pub fn finish(self) {
        self.shared.inbox().finish = true;
        self.shared.wake_storage_thread();
        self.shared.wake_spares_thread();
        for thread in self.threads {
            // A panic in a thread was already reported where it happened.
            let _ = thread.join();
        }
    }
}

/// How the process must end when the log says this.
fn fatal_of(error: &wal::Error) -> Fatal {
    match error {
        wal::Error::Disk(error) => fatal_of_disk(error),
        wal::Error::Damaged(damage) => Fatal::new(
            ExitStatus::Damaged,
            format!("the write-ahead log is damaged: {}", damage.what),
        )
        .at(format!("{} offset {}", damage.file, damage.offset))
        .remedy(LEAVE_OUT),
        wal::Error::EntryTooLarge { .. } => Fatal::new(ExitStatus::Config, error.to_string())
            .remedy("set wal.segment_bytes to the same value on all members"),
    }
}

fn fatal_of_disk(error: &disk::Error) -> Fatal {
    if error.is_permission() {
        return Fatal::new(ExitStatus::Permission, error.to_string())
            .remedy("give the data directory to the user that raftd runs as");
    }
    let fatal = Fatal::new(ExitStatus::Io, error.to_string());
    if error.is_no_space() {
        fatal.remedy("free some space, then start again")
    } else {
        fatal.remedy("check the disk, then start again: what was not synced is not relied upon")
    }
}

fn fatal_of_identity(error: &IdentityError) -> Fatal {
    match error {
        IdentityError::Disk(error) => fatal_of_disk(error),
        IdentityError::Damaged => {
            Fatal::new(ExitStatus::Damaged, "both copies in IDENTITY are damaged")
                .at(IDENTITY_NAME)
                .remedy(RESTORE_IDENTITY)
        }
    }
}
