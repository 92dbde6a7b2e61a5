//! Segments are ready before they are needed, and the room on the disk is known before it is gone
//! (rules E5, E7).

use wire::peer::DiskState;

use super::{Alarm, Options};
use crate::disk::{Disk, Error};
use crate::wal::Owner;
use crate::wal::segment::{SegmentMaker, Spare};

/// Spares that are kept ready, on a disk that has the room: so many at least..
pub(super) const SPARES_MIN: usize = 3;
/// ..and more, up to so many..
const SPARES_MAX: usize = 8;
/// ..as long as all take no more than this.
const SPARES_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Makes spares, piece by piece. Deterministic: whoever calls [`SpareMaker::step`] sets the pace.
///
/// The *soft mark* leaves room for the next snapshot, which may become larger than expected, and for
/// two segments: so a node that takes nothing but deletes from there on can still make its log and
/// its state smaller. At the *hard mark* no segment can be made.
///
/// Invariants: spares are made in the order of their ids, without gap; at most one is half-made.
pub struct SpareMaker<D: Disk> {
    disk: D,
    owner: Owner,
    next_segment: u64,
    segment_bytes: u64,
    soft_free_bytes: u64,
    seed: u64,
    making: Option<SegmentMaker<D::File>>,
    /// What was last told, to say when it changes.
    room: DiskState,
    /// A spare cannot be made..
    failed: Alarm,
    /// ..or the room is not known.
    unknown: Alarm,
}

/// What a step brought.
#[derive(Debug)]
pub enum Step<F> {
    /// A spare is ready, for [`super::Worker::add_spare`].
    Made(Spare<F>),
    /// A piece of one is done; the next may follow at once.
    Making,
    /// There are as many spares as the disk has room for: look again after a while. This is the
    /// room.
    Rest(DiskState),
    /// One cannot be made, and not for want of room: do not try again before a while is over. This is
    /// the room.
    Failed(DiskState),
}

impl<D: Disk> SpareMaker<D> {
    /// For a log whose next spare must be `next_segment`. A failure on this disk is no failure of
    /// the log: a spare that cannot be made is thrown away.
    pub fn new(disk: D, owner: Owner, next_segment: u64, options: &Options) -> Self {
        Self {
            disk,
            owner,
            next_segment,
            segment_bytes: options.segment_bytes,
            soft_free_bytes: options.soft_free_bytes,
            seed: options.seed,
            making: None,
            room: DiskState::Ok,
            failed: Alarm::default(),
            unknown: Alarm::default(),
        }
    }

    /// The size of the segments.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Makes a piece of a spare, if one is wanted beside the `left` that are not in use.
    /// `snapshot_bytes` is what the next snapshot is expected to take. While the disk is `busy` with
    /// other things, only the least are made.
    pub fn step(&mut self, left: usize, snapshot_bytes: u64, busy: bool) -> Step<D::File> {
        let soft_bytes = self.soft_bytes(snapshot_bytes);
        if self.making.is_none() {
            let available = self.available();
            if left >= self.wanted(available, soft_bytes, busy) {
                let room = match available < soft_bytes {
                    true => DiskState::Soft,
                    false => DiskState::Ok,
                };
                return Step::Rest(self.told(room, ""));
            }
        }
        match self.make_piece() {
            Ok(None) => Step::Making,
            Ok(Some(spare)) => {
                self.next_segment += 1;
                self.failed.clear();
                Step::Made(spare)
            }
            Err(error) => {
                let room = match left {
                    0 => DiskState::Hard,
                    _ => DiskState::Soft,
                };
                let room = self.told(room, &format!(" reason=\"{error}\""));
                if error.is_no_space() {
                    return Step::Rest(room);
                }
                let text = format!("a spare segment cannot be made reason={error}");
                self.failed.raise(text);
                Step::Failed(room)
            }
        }
    }

    /// Rules E5.
    fn soft_bytes(&self, snapshot_bytes: u64) -> u64 {
        let next_bytes = snapshot_bytes + snapshot_bytes / 4 + 2 * self.segment_bytes;
        self.soft_free_bytes.max(next_bytes)
    }

    fn available(&mut self) -> u64 {
        match self.disk.available_bytes() {
            Ok(bytes) => {
                self.unknown.clear();
                bytes
            }
            Err(error) => {
                let text = format!("the room on the disk is not known reason={error}");
                self.unknown.raise(text);
                0
            }
        }
    }

    /// The room, which is logged when it changes. Where a spare could not be made, the `reason` is
    /// that: a quota or the number of files may be what is used up, and bytes are left.
    fn told(&mut self, room: DiskState, reason: &str) -> DiskState {
        if self.room != room {
            self.room = room;
            let available = self.disk.available_bytes().unwrap_or(0);
            let level = match room {
                DiskState::Ok => log::Level::Info,
                DiskState::Soft | DiskState::Hard => log::Level::Warn,
            };
            log::log!(
                level,
                "disk room changed state={room:?} available_bytes={available}{reason}"
            );
        }
        room
    }

    /// Removes what is half-made.
    pub fn finish(self) {
        if let Some(maker) = self.making {
            maker.discard(&self.disk);
        }
    }

    /// The first spare is always tried; others only where they leave the disk some air.
    fn wanted(&self, available: u64, soft_bytes: u64, busy: bool) -> usize {
        let air = available.saturating_sub(soft_bytes) / (2 * self.segment_bytes);
        let most = match busy {
            true => SPARES_MIN,
            false => (SPARES_BYTES_MAX / self.segment_bytes) as usize,
        };
        let most = most.clamp(SPARES_MIN, SPARES_MAX);
        most.min(air as usize).max(1)
    }

    fn make_piece(&mut self) -> Result<Option<Spare<D::File>>, Error> {
        let (id, bytes) = (self.next_segment, self.segment_bytes);
        let mut maker = match self.making.take() {
            Some(maker) => maker,
            None => SegmentMaker::begin(&self.disk, self.owner, id, bytes, self.seed)?,
        };
        match maker.step(&self.disk) {
            Ok(true) => {
                self.making = Some(maker);
                Ok(None)
            }
            Ok(false) => maker.finish(&self.disk).map(Some),
            Err(error) => {
                maker.discard(&self.disk);
                Err(error)
            }
        }
    }
}
