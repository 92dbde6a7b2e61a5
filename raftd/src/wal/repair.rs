//! What must be changed on disk before a log may be written.

use std::fmt;

use super::Error;
use super::format::{BatchHeader, SegmentHeader, SyncMark};
use super::recover::{Settings, read_header};
use super::segment::{SegmentMaker, WAL_DIR, segment_name};
use crate::disk::Disk;

/// Zeros that are written at once. Rot may lie anywhere in a segment.
const PIECE_BYTES: u64 = 1024 * 1024;

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
                let mut piece = vec![0; PIECE_BYTES.min(to - from) as usize];
                if let Some(mark) = mark {
                    let mark = mark.encode(&page);
                    piece[..mark.len()].copy_from_slice(&mark);
                }
                for at in (*from..*to).step_by(PIECE_BYTES as usize) {
                    piece.truncate((to - at) as usize);
                    disk.write_at(&file, at, &piece)?;
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
