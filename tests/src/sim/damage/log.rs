//! What a simulated disk holds of a log.

use raftd::disk::Disk;
use raftd::disk::sim::SimDisk;
use raftd::wal::format::{
    BATCH_HEADER_BYTES, BatchHeader, BatchKind, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use raftd::wal::segment::{WAL_DIR, segment_id, segment_name};

/// A segment in use, as the disk holds it.
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) header: SegmentHeader,
    pub(super) batches: Vec<Batch>,
}

#[derive(Clone, Copy)]
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    pub(super) crc: u32,
}

impl Segment {
    /// Reads the batches that follow each other from the front.
    fn read(disk: &SimDisk, id: u64) -> Option<Self> {
        let name = segment_name(id);
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        let header = disk
            .read_durable(&name, 0, &mut page)
            .then(|| SegmentHeader::decode(&page))??;
        let mut batches = Vec::new();
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(batch) = read_batch(disk, &name, &header, offset) {
            offset = batch.header.end();
            batches.push(batch);
        }
        Some(Self {
            name,
            header,
            batches,
        })
    }

    pub(super) fn is_sealed(&self) -> bool {
        let last = self.batches.last();
        last.is_some_and(|last| last.header.kind == BatchKind::Seal)
    }

    pub(super) fn end(&self) -> u64 {
        let last = self.batches.last();
        last.map_or(SEGMENT_HEADER_BYTES, |last| last.header.end())
    }
}

fn read_batch(disk: &SimDisk, name: &str, segment: &SegmentHeader, offset: u64) -> Option<Batch> {
    let mut head = vec![0; BATCH_HEADER_BYTES];
    let fits = disk.read_durable(name, offset, &mut head);
    let claimed = fits.then(|| BatchHeader::claimed_head_bytes(&head, segment))??;
    head.resize(claimed, 0);
    let fits = disk.read_durable(name, offset, &mut head);
    let (header, crc) = fits.then(|| BatchHeader::decode(&head, segment, offset))??;
    Some(Batch { header, crc })
}

/// The files with durable names, with their sizes. One that was removed, and may be back after a loss
/// of power, can be harmed no more; and of one that was made anew since, only what both have.
pub(super) fn files(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut files = disk.durable_files();
    files.retain_mut(|(name, bytes)| {
        let now = disk.open(name).and_then(|file| disk.bytes(&file));
        *bytes = now.as_ref().map_or(0, |now| *now.min(bytes));
        now.is_ok()
    });
    files
}

/// The segments of a disk.
pub(super) struct Log {
    /// Those with batches, in order.
    pub(super) used: Vec<Segment>,
    /// The names of the others, in order.
    pub(super) spares: Vec<String>,
}

impl Log {
    pub(super) fn read(disk: &SimDisk) -> Self {
        let mut log = Self {
            used: Vec::new(),
            spares: Vec::new(),
        };
        for (name, _) in files(disk) {
            let file = name
                .strip_prefix(WAL_DIR)
                .and_then(|rest| rest.strip_prefix('/'));
            let Some(id) = file.and_then(segment_id) else {
                continue;
            };
            match Segment::read(disk, id) {
                Some(segment) if !segment.batches.is_empty() => log.used.push(segment),
                _ => log.spares.push(name),
            }
        }
        log
    }

    /// Every batch behind which another one is in its segment, with that segment's place.
    pub(super) fn vouched(&self) -> Vec<(usize, Batch)> {
        let segments = self.used.iter().enumerate();
        let batches = segments.flat_map(|(n, segment)| {
            let (_, vouched) = segment.batches.split_last()?;
            Some(vouched.iter().map(move |batch| (n, *batch)))
        });
        batches.flatten().collect()
    }

    /// The segments that have a successor in use.
    pub(super) fn older(&self) -> &[Segment] {
        self.used.split_last().map_or(&[], |(_, older)| older)
    }
}
