//! What must be changed on disk before a log may be written.

use std::fmt;
use std::iter;
use std::ops::Range;

use super::Error;
use super::format::{BatchHeader, SegmentHeader, SyncMark};
use super::recover::{Settings, read_header};
use super::segment::{SegmentMaker, WAL_DIR, segment_name};
use crate::disk::{DIRECT_BYTES, Disk};

/// Zeros that are written at once, up to a multiple of this. Rot may lie anywhere in a segment.
const PIECE_BYTES: u64 = 1024 * 1024;
const BLOCK_BYTES: u64 = DIRECT_BYTES as u64;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// What was never acknowledged becomes zeros.
    Zero {
        /// The segment.
        segment: u64,
        /// The first byte.
        from: u64,
        /// The byte behind the last.
        to: u64,
        /// Stored in front, in the same sync: the mark of the batch before.
        mark: Option<SyncMark>,
    },
    /// Write the header page of a segment anew: its first batch tells what was there.
    Page(SegmentHeader),
    /// Remove a file that was never used, or is needed no more.
    Remove(String),
    /// Make a segment with which the log begins anew.
    Anew {
        /// Its owner and size.
        settings: Settings,
        /// The segment.
        id: u64,
        /// Its first batch.
        first: BatchHeader,
    },
}

impl Repair {
    /// Makes the change, durably.
    pub(super) fn carry_out<D: Disk>(&self, disk: &D) -> Result<(), Error> {
        match self {
            Self::Zero {
                segment,
                from,
                to,
                mark,
            } => {
                let name = segment_name(*segment);
                let file = disk.open(&name)?;
                let page = read_header(disk, &file)?.expect("the header was read before");
                let mut piece = vec![0; PIECE_BYTES as usize];
                if let Some(mark) = mark {
                    let mark = mark.encode(&page);
                    piece[..mark.len()].copy_from_slice(&mark);
                }
                let to = to.next_multiple_of(BLOCK_BYTES).min(page.bytes);
                for Range { start, end } in pieces(*from, to) {
                    disk.write_at(&file, start, &piece[..(end - start) as usize])?;
                    piece.fill(0);
                }
                disk.sync(&file)?;
            }
            Self::Page(header) => {
                let file = disk.open(&segment_name(header.id))?;
                disk.write_at(&file, 0, &header.page())?;
                disk.sync(&file)?;
            }
            Self::Remove(name) => {
                disk.remove(name)?;
                disk.sync_dir(WAL_DIR)?;
            }
            Self::Anew {
                settings,
                id,
                first,
            } => {
                SegmentMaker::begin(
                    disk,
                    settings.owner,
                    *id,
                    settings.segment_bytes,
                    settings.seed,
                )?
                .finish_with(disk, Some(first))?;
            }
        }
        Ok(())
    }
}

/// What of a range that ends with a block is written at once. The kernel reads a block of which a part
/// is written, and that may be one that cannot be read: but for the first one, which holds more and was
/// read, all are written whole.
fn pieces(from: u64, to: u64) -> impl Iterator<Item = Range<u64>> {
    let piece = move |at: u64| at..(at + 1).next_multiple_of(PIECE_BYTES).min(to);
    let next = move |last: &Range<u64>| (last.end < to).then(|| piece(last.end));
    iter::successors(Some(piece(from)), next)
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero {
                segment, from, to, ..
            } => {
                let name = segment_name(*segment);
                write!(f, "{name} from {from} to {to}: zeros")
            }
            Self::Page(header) => write!(f, "{}: its header page", segment_name(header.id)),
            Self::Remove(name) => write!(f, "{name}: removed"),
            Self::Anew { id, .. } => write!(f, "{}: the log begins anew", segment_name(*id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn but_for_the_first_block_all_are_written_whole() {
        for (from, to) in [
            (4096, 8192),
            (4608, 8192),
            (8192 + 512, 3 * PIECE_BYTES + 4096),
            (PIECE_BYTES, 2 * PIECE_BYTES),
        ] {
            let mut at = from;
            for piece in pieces(from, to) {
                assert_eq!(piece.start, at, "without a gap");
                assert!(piece.end - piece.start <= PIECE_BYTES);
                assert!(piece.end.is_multiple_of(BLOCK_BYTES), "{piece:?}");
                at = piece.end;
            }
            assert_eq!(at, to);
        }
    }
}
