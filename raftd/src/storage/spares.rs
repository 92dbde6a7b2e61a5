//! The spares thread: segments are ready before they are needed, and the room on the disk is
//! known before it is gone (rules E5, E7).

use std::sync::Arc;
use std::time::Duration;

use wire::peer::DiskState;

use super::{Options, Shared};
use crate::disk::os::{OsDisk, OsFile};
use crate::disk::{Disk, Error, Latched};
use crate::wal::identity::Identity;
use crate::wal::segment::{SegmentMaker, Spare};
use crate::wal::{Owner, Wal};

/// Spares that are kept ready, on a disk that has the room.
const SPARES: usize = 3;
/// Between two steps of 128 KiB, so that the log's own syncs keep the disk, and the loop the
/// processor: about 1 MiB in 5 ms.
const PACE: Duration = Duration::from_micros(600);
/// So much of a sealed segment leaves the page cache at once.
const RETIRE_BYTES: u64 = 2 * 1024 * 1024;
/// Between two looks at the room on the disk, and two tries to make a spare when there was none.
const LOOK: Duration = Duration::from_secs(1);

/// The state of the spares thread.
pub(super) struct Spares {
    disk: OsDisk,
    owner: Owner,
    next_segment: u64,
    segment_bytes: u64,
    soft_bytes: u64,
    seed: u64,
    shared: Arc<Shared>,
}

impl Spares {
    pub(super) fn new(
        disk: OsDisk,
        identity: &Identity,
        options: &Options,
        wal: &Wal<Latched<OsDisk>>,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            disk,
            owner: identity.owner(),
            next_segment: wal.next_segment(),
            segment_bytes: options.segment_bytes,
            soft_bytes: options.soft_free_bytes.max(2 * options.segment_bytes),
            seed: options.seed,
            shared: Arc::clone(shared),
        }
    }

    /// Runs until [`super::Storage::finish`].
    pub(super) fn run(mut self) {
        while !self.shared.inbox().finish {
            let mut inbox = self.shared.inbox();
            let left = inbox.spares_left;
            let sealed = std::mem::take(&mut inbox.sealed);
            drop(inbox);
            sealed.into_iter().for_each(|file| self.retire(file));
            let available = self.disk.available_bytes().unwrap_or(0);
            if left >= self.wanted(available) {
                self.tell(if available < self.soft_bytes {
                    DiskState::Soft
                } else {
                    DiskState::Ok
                });
                std::thread::park_timeout(LOOK);
                continue;
            }
            match self.make() {
                Ok(Some(spare)) => self.hand_over(spare),
                Ok(None) => return,
                Err(error) => {
                    let full = error.is_no_space();
                    if !full {
                        log::error!("a spare segment cannot be made reason={error}");
                    }
                    self.tell(if left == 0 {
                        DiskState::Hard
                    } else {
                        DiskState::Soft
                    });
                    std::thread::park_timeout(LOOK);
                }
            }
        }
    }

    /// Frees the memory of a segment that is written no more: it goes into the next spare, and a
    /// log that only grows does not fill the page cache.
    fn retire(&self, mut file: OsFile) {
        file.unmap();
        let mut offset = 0;
        while offset < self.segment_bytes {
            file.drop_range(offset, RETIRE_BYTES);
            offset += RETIRE_BYTES;
            self.pause();
        }
    }

    /// Leaves disk and processor to others for a moment, unless the log waits for a spare.
    fn pause(&self) {
        let urgent = self.shared.inbox().spares_left == 0;
        if !urgent {
            std::thread::park_timeout(PACE);
        }
    }

    /// The first spare is always tried; others only where they leave the disk some air.
    fn wanted(&self, available: u64) -> usize {
        let air = available.saturating_sub(self.soft_bytes) / (2 * self.segment_bytes);
        SPARES.min(air as usize).max(1)
    }

    /// Paced, unless the log may have to wait for it. `None`: the end was asked for.
    fn make(&mut self) -> Result<Option<Spare<OsFile>>, Error> {
        let (id, bytes) = (self.next_segment, self.segment_bytes);
        let mut maker = SegmentMaker::begin(&self.disk, self.owner, id, bytes, self.seed)?;
        loop {
            match maker.step(&self.disk) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    maker.discard(&self.disk);
                    return Err(error);
                }
            }
            if self.shared.inbox().finish {
                maker.discard(&self.disk);
                return Ok(None);
            }
            self.pause();
        }
        maker.finish(&self.disk).map(Some)
    }

    fn hand_over(&mut self, spare: Spare<OsFile>) {
        assert_eq!(spare.id(), self.next_segment, "spares have no gap");
        self.next_segment += 1;
        let mut inbox = self.shared.inbox();
        inbox.spares.push(spare);
        inbox.spares_left += 1;
        drop(inbox);
        self.shared.wake_storage_thread();
    }

    fn tell(&self, state: DiskState) {
        let mut inbox = self.shared.inbox();
        let changed = inbox.disk != state;
        inbox.disk = state;
        drop(inbox);
        if changed {
            log::info!("disk room changed state={state:?}");
            self.shared.wake_storage_thread();
        }
    }
}
