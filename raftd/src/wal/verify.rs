//! Verifying a segment that is written no more, piece by piece.

use wire::types::Index;

use super::Error;
use super::format::{ALIGN_BYTES, BatchKind, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::recover::read_header;
use super::segment::segment_name;
use super::window::Window;
use crate::disk::Disk;

/// What is read in one step, about.
const STEP_BYTES: u64 = 256 * 1024;

/// What a step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentPiece {
    /// So much was read.
    pub bytes: u64,
    /// Where this entry stands, or stood before a later batch cut it, something is damaged.
    pub damaged: Option<Index>,
    /// Nothing is left that could be read.
    pub end: bool,
}

/// Reads a sealed segment from the device and checks everything that recovery checks of it but how
/// it follows the one before.
///
/// Invariants: up to `offset` every header is genuine, and `next` is the index behind the last of
/// them.
#[derive(Debug)]
pub struct SegmentVerifier<F> {
    file: F,
    /// The header page, if it is sound.
    header: Option<SegmentHeader>,
    offset: u64,
    next: Index,
}

impl<F> SegmentVerifier<F> {
    /// For segment `id`, whose first entry is `next`: what is named if it cannot be told from itself.
    ///
    /// # Errors
    /// The disk's: there is no such file, for one.
    pub fn open<D: Disk<File = F>>(disk: &D, id: u64, next: Index) -> Result<Self, Error> {
        let file = disk.open(&segment_name(id))?;
        disk.drop_cache(&file);
        let bytes = disk.bytes(&file)?;
        let header = read_header(disk, &file).ok().flatten();
        Ok(Self {
            header: header.filter(|header| header.id == id && header.bytes == bytes),
            file,
            offset: SEGMENT_HEADER_BYTES,
            next,
        })
    }

    /// The entry that comes next.
    #[must_use]
    pub fn next(&self) -> Index {
        self.next
    }

    /// The file, when all is read.
    #[must_use]
    pub fn into_file(self) -> F {
        self.file
    }

    /// Reads and checks what comes next.
    pub fn step<D: Disk<File = F>>(&mut self, disk: &D) -> SegmentPiece {
        let mut piece = SegmentPiece::default();
        let Some(segment) = self.header else {
            piece.damaged = Some(self.next);
            piece.end = true;
            return piece;
        };
        let mut window = Window::new(disk, &self.file, segment, STEP_BYTES as usize);
        while piece.bytes < STEP_BYTES && !piece.end && piece.damaged.is_none() {
            // What the device cannot read is damaged like what it reads otherwise (rules D3).
            let Ok(Some(batch)) = window.batch(self.offset) else {
                piece.damaged = Some(self.next);
                piece.end = true;
                break;
            };
            let header = &batch.header;
            let mut records = batch.records();
            let damaged = records.find(|record| !record.is_intact);
            piece.damaged = damaged.map(|record| record.identity.id.index);
            piece.bytes += header.end() - self.offset;
            // Behind the last sector no seal fits any more.
            piece.end =
                header.kind == BatchKind::Seal || header.end() + ALIGN_BYTES > segment.bytes;
            self.next = Index(header.first_index.0 + u64::from(header.entries));
            self.offset = header.end();
        }
        piece
    }
}
