//! What stands behind a place in a segment, sector by sector: whether it proves that something was
//! durable, and where a log can be read again behind what is damaged.

use raft::HardState;

use super::format::{
    ALIGN_BYTES, BATCH_BYTES_MAX, BatchHeader, Chain, SEGMENT_HEADER_BYTES, SegmentHeader, SyncMark,
};
use super::window::{READ_AHEAD_BYTES, Window};
use crate::disk::{Disk, Error};

/// Something genuine.
enum Genuine {
    Header(BatchHeader),
    Mark(SyncMark),
}

/// What is known again behind damage.
#[derive(Clone, Copy)]
pub(super) enum Known {
    /// A batch: the log goes on with it, behind an entry that it names.
    Batch {
        /// Where it stands.
        offset: u64,
        /// What it follows.
        previous: Chain,
        /// Term and vote as of then: what is missing had none that are newer.
        hard_state: HardState,
    },
    /// That a batch was durable, and term and vote as of then.
    Mark(SyncMark),
}

impl Known {
    /// Term and vote.
    pub(super) fn hard_state(&self) -> HardState {
        match self {
            Self::Batch { hard_state, .. } => *hard_state,
            Self::Mark(mark) => mark.hard_state,
        }
    }
}

/// Looks for what is genuine, from `offset` up to `end`, until `found` takes something.
fn walk<D: Disk, T>(
    window: &mut Window<'_, D>,
    segment: &SegmentHeader,
    offset: u64,
    end: u64,
    mut found: impl FnMut(Genuine) -> Option<T>,
) -> Result<Option<T>, Error> {
    let mut at = offset;
    while at < end {
        let sector = window.bytes(at, ALIGN_BYTES as usize)?;
        let genuine = match SyncMark::decode(sector, segment, at) {
            Some(mark) => Some(Genuine::Mark(mark)),
            None => window.batch(at)?.map(|batch| Genuine::Header(batch.header)),
        };
        if let Some(taken) = genuine.and_then(&mut found) {
            return Ok(Some(taken));
        }
        at += ALIGN_BYTES;
    }
    Ok(None)
}

/// Whether something from `offset` up to `end` could only be stored after batch `number` was durable:
/// the mark of that batch or a later one, or a genuine header of a later batch.
pub(super) fn is_durable<D: Disk>(
    window: &mut Window<'_, D>,
    segment: &SegmentHeader,
    offset: u64,
    number: u64,
    end: u64,
) -> Result<bool, Error> {
    let found = walk(window, segment, offset, end, |genuine| {
        let proves = match genuine {
            Genuine::Mark(mark) => mark.number >= number,
            Genuine::Header(header) => header.number > number,
        };
        proves.then_some(())
    })?;
    Ok(found.is_some())
}

/// The first batch from `offset` up to `end` whose header is genuine and that comes after batch
/// `number`; without one, the newest mark of such a batch.
pub(super) fn known_behind<D: Disk>(
    window: &mut Window<'_, D>,
    segment: &SegmentHeader,
    offset: u64,
    number: u64,
    end: u64,
) -> Result<Option<Known>, Error> {
    let mut newest: Option<SyncMark> = None;
    let batch = walk(window, segment, offset, end, |genuine| match genuine {
        Genuine::Header(header) if header.number > number => Some(Known::Batch {
            offset: header.offset,
            previous: header.previous,
            hard_state: header.hard_state,
        }),
        Genuine::Mark(mark) if mark.number > number => {
            newest = newest.filter(|old| old.number > mark.number).or(Some(mark));
            None
        }
        Genuine::Header(_) | Genuine::Mark(_) => None,
    })?;
    Ok(batch.or(newest.map(Known::Mark)))
}

/// What the file of a segment holds behind its header page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Where its bytes end; at the header page's end if there are only zeros where the first batch
    /// would stand.
    pub(super) end: u64,
    /// All of them can be read.
    pub(super) readable: bool,
    /// The header of its first batch, if it is genuine.
    pub(super) first: Option<BatchHeader>,
    /// It has held a durable batch: the first one is whole, or something behind it says so, or it
    /// cannot be read, which no crash brings about.
    pub(super) in_use: bool,
}

impl Look {
    /// Whether it was never stored to.
    pub(super) fn is_blank(&self) -> bool {
        self.end == SEGMENT_HEADER_BYTES
    }
}

/// Whether a segment file without a genuine header page was never stored to: behind the page there are
/// only zeros.
pub(super) fn holds_nothing<D: Disk>(disk: &D, file: &D::File, bytes: u64) -> Result<bool, Error> {
    let end = bytes - bytes % ALIGN_BYTES;
    // No segment has no salt, so nothing in there is genuine.
    let nameless = SegmentHeader {
        bytes: end,
        ..SegmentHeader::default()
    };
    let mut window = Window::new(disk, file, nameless, READ_AHEAD_BYTES);
    let last = window.last_nonzero(SEGMENT_HEADER_BYTES, end)?;
    Ok(last.is_none())
}

/// Looks at a segment: at the place of its first batch, and if that is not blank and not whole,
/// everywhere.
pub(super) fn look<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: &SegmentHeader,
) -> Result<Look, Error> {
    let start = SEGMENT_HEADER_BYTES;
    let mut window = Window::new(disk, file, *segment, ALIGN_BYTES as usize);
    let mut first = None;
    if let Some(batch) = window.batch(start)? {
        first = Some(batch.header);
        if batch.payload_is_intact() {
            return Ok(Look {
                end: batch.header.end(),
                readable: true,
                first,
                in_use: true,
            });
        }
    }
    let mut window = Window::new(disk, file, *segment, READ_AHEAD_BYTES);
    let reach = (start + BATCH_BYTES_MAX + ALIGN_BYTES).min(segment.bytes);
    let Some(end) = window.last_nonzero(start, reach)? else {
        return Ok(Look {
            end: start,
            readable: true,
            first,
            in_use: false,
        });
    };
    // A damaged first batch may have others far behind it.
    let end = window.last_nonzero(reach, segment.bytes)?.unwrap_or(end);
    let readable = window.was_readable(start..end);
    let proven = is_durable(&mut window, segment, start + ALIGN_BYTES, 1, end)?;
    Ok(Look {
        end,
        readable,
        first,
        in_use: proven || first.is_some() && !readable,
    })
}
