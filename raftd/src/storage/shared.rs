//! What the threads and the node's loop hand each other.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use wire::peer::DiskState;
use wire::types::Index;

use super::open::{Lock, under};
use super::{Read, Unreadable};
use crate::disk::os::OsFile;
use crate::fatal::{self, Fatal};
use crate::node::io::{SnapshotRequest, StorageEvent, StorageRequest};
use crate::wal::segment::Spare;

/// What the threads and the node's loop share.
///
/// Invariant: neither mutex is held over a system call other than a wake-up, nor one within the
/// other. (The bench's own mutex is: whoever has it does the disk's work.)
pub(super) struct Shared {
    data_dir: PathBuf,
    /// Until the last of them is done with the directory.
    _lock: Lock,
    pub(super) inbox: Mutex<Inbox>,
    pub(super) reports: Mutex<Reports>,
    pub(super) notify: Box<dyn Fn() + Send + Sync>,
    pub(super) storage_thread: OnceLock<Thread>,
    pub(super) background_thread: OnceLock<Thread>,
}

/// For the two threads.
pub(super) struct Inbox {
    /// From the node, for the storage thread.
    pub(super) requests: VecDeque<StorageRequest>,
    /// From the background thread, for the storage thread.
    pub(super) spares: Vec<Spare<OsFile>>,
    /// Spares that are not in use: those above and those that the log has.
    pub(super) spares_left: usize,
    /// For the background thread: segments that are written no more.
    pub(super) sealed: Vec<OsFile>,
    /// For the background thread: segments that the log has forgotten.
    pub(super) garbage: Range<u64>,
    /// For the background thread: the segments that the log needs and that are written no more.
    pub(super) segments: Range<u64>,
    /// From the background thread, for the storage thread: entries where something is damaged.
    pub(super) suspects: Vec<Index>,
    /// From the storage thread, for the background thread.
    pub(super) reads: Vec<Read>,
    /// And back: those that found damage.
    pub(super) unreadable: Vec<Unreadable>,
    /// From the node, for the background thread.
    pub(super) snapshots: VecDeque<SnapshotRequest>,
    /// Room on the disk, as the background thread last saw it.
    pub(super) room: DiskState,
    /// Do what waits, then end.
    pub(super) finish: bool,
}

/// For the node's loop.
pub(super) struct Reports {
    pub(super) events: VecDeque<StorageEvent>,
    /// The loop is to be woken for every event. Else one that only tells of durable writes waits
    /// until it wakes up for another reason.
    pub(super) all_wanted: bool,
}

impl Shared {
    /// For a log in a locked directory that has so many spares. `notify` wakes the loop.
    pub(super) fn new(
        data_dir: PathBuf,
        lock: Lock,
        spares_left: usize,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            data_dir,
            _lock: lock,
            inbox: Mutex::new(Inbox {
                requests: VecDeque::new(),
                spares: Vec::new(),
                spares_left,
                sealed: Vec::new(),
                garbage: 0..0,
                segments: 0..0,
                suspects: Vec::new(),
                reads: Vec::new(),
                unreadable: Vec::new(),
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
        }
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic elsewhere ends the process by itself; what is in there is whole at any moment.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process.
    pub(super) fn die(&self, fatal: Fatal) -> ! {
        fatal::die(&under(fatal, &self.data_dir))
    }

    /// Whether the log waits for a spare.
    pub(super) fn is_urgent(&self) -> bool {
        self.inbox().spares_left == 0
    }

    pub(super) fn wake_storage_thread(&self) {
        if let Some(thread) = self.storage_thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn wake_background_thread(&self) {
        if let Some(thread) = self.background_thread.get() {
            thread.unpark();
        }
    }
}
