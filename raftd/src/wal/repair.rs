//! What must be changed on disk before a log may be written.

use std::fmt;
use std::iter;
use std::ops::Range;

use super::Error;
use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SyncMark};
use super::recover::Settings;
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
        segment: SegmentHeader,
        /// The first byte.
        from: u64,
        /// The byte behind the last.
        to: u64,
        /// Stored in front, in the same sync: the mark of the batch before.
        mark: Option<SyncMark>,
    },
    /// Write the header page of a segment anew: its first batch tells what was there.
    Page(SegmentHeader),
    /// Write the seal of a segment anew: what the next segment's first batch follows.
    Seal {
        /// The segment.
        segment: SegmentHeader,
        /// The seal.
        seal: BatchHeader,
    },
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
                let mark = mark.map(|mark| mark.encode(segment));
                let head = mark.as_ref().map_or(&[][..], |mark| mark);
                overwrite(disk, segment, *from..*to, head)?;
            }
            Self::Seal { segment, seal } => {
                let mut head = Vec::new();
                seal.encode(segment, &[], &mut head);
                overwrite(disk, segment, seal.offset..seal.end(), &head)?;
            }
            Self::Page(header) => {
                overwrite(disk, header, 0..SEGMENT_HEADER_BYTES, &header.encode())?;
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

/// Stores `head` at the front of a range and zeros behind it, up to the end of the range's last block.
fn overwrite<D: Disk>(
    disk: &D,
    segment: &SegmentHeader,
    range: Range<u64>,
    head: &[u8],
) -> Result<(), Error> {
    let file = disk.open(&segment_name(segment.id))?;
    let mut piece = vec![0; PIECE_BYTES as usize];
    piece[..head.len()].copy_from_slice(head);
    let to = range.end.next_multiple_of(BLOCK_BYTES).min(segment.bytes);
    for Range { start, end } in pieces(range.start, to) {
        disk.write_at(&file, start, &piece[..(end - start) as usize])?;
        piece.fill(0);
    }
    disk.sync(&file)?;
    Ok(())
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
                let name = segment_name(segment.id);
                write!(f, "{name} from {from} to {to}: zeros")
            }
            Self::Page(header) => write!(f, "{}: its header page", segment_name(header.id)),
            Self::Seal { segment, seal } => {
                let name = segment_name(segment.id);
                write!(f, "{name} at {}: its seal", seal.offset)
            }
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
