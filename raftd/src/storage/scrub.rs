//! Looking for rot before it is needed: what is written no more is read again, round after round.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use wire::types::{EntryId, Index};

use crate::disk::Disk;
use crate::node::io::{SnapshotEvent, StorageEvent};
use crate::snapshot::{self, FileReader, Found, ReadAhead, SNAPSHOT_DIR, Verifier};
use crate::wal::segment::segment_name;
use crate::wal::{SegmentPiece, SegmentVerifier};

/// How often and how fast to look for rot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbing {
    /// Bytes that are read in a second; 0: none are.
    pub rate_bytes: u64,
    /// From the beginning of one round to that of the next.
    pub interval: Duration,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// So much was read: whoever sets the pace may rest before the next step.
    pub bytes: u64,
    /// Something is damaged in the log where this entry stands, see [`super::Worker::suspect`].
    pub suspect: Option<Index>,
}

/// What is being read.
enum Reading<F> {
    Segment(u64, SegmentVerifier<F>),
    Snapshot {
        id: EntryId,
        file: F,
        bytes: u64,
        ahead: ReadAhead,
        verifier: Box<Verifier>,
    },
}

/// Reads the sealed segments of a log and then the snapshots, from the device, and checks every byte
/// of them. Deterministic: whoever calls [`Scrubber::step`] sets the pace. Changes nothing.
pub struct Scrubber<D: Disk> {
    disk: D,
    /// Segments that are still to be read in this round.
    segments: Range<u64>,
    /// The first entry of the next of them, if the one before told.
    next: Index,
    /// Snapshots that are still to be read in this round.
    snapshots: VecDeque<EntryId>,
    reading: Option<Reading<D::File>>,
    /// What this round has read, and what it has found; `None` between two rounds.
    round: Option<(u64, u64)>,
}

impl<D: Disk> Scrubber<D> {
    /// For the data directory on this disk.
    pub fn new(disk: D) -> Self {
        Self {
            disk,
            segments: 0..0,
            next: Index(1),
            snapshots: VecDeque::new(),
            reading: None,
            round: None,
        }
    }

    /// Whether a round is under way.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round over these segments, see [`crate::wal::Wal::sealed_segments`], and the snapshots
    /// that there are now.
    pub fn begin(&mut self, segments: Range<u64>) {
        self.segments = segments;
        self.next = Index(1);
        // A directory that cannot be listed is told by who needs it.
        let names = self.disk.list(SNAPSHOT_DIR).unwrap_or_default();
        let ids = names.iter().filter_map(|name| snapshot::snapshot_id(name));
        self.snapshots = ids.collect();
        self.round = Some((0, 0));
    }

    /// Reads the next piece.
    pub fn step(&mut self, events: &mut VecDeque<StorageEvent>) -> Scrubbed {
        let mut scrubbed = Scrubbed::default();
        match self.reading.take().or_else(|| self.open(events)) {
            Some(Reading::Segment(id, mut verifier)) => {
                let SegmentPiece {
                    bytes,
                    damaged,
                    end,
                } = verifier.step(&self.disk);
                scrubbed = Scrubbed {
                    bytes,
                    suspect: damaged.filter(|_| !self.is_gone(&segment_name(id))),
                };
                self.next = verifier.next();
                if end {
                    self.disk.drop_cache(&verifier.into_file());
                } else {
                    self.reading = Some(Reading::Segment(id, verifier));
                }
            }
            Some(Reading::Snapshot {
                id,
                file,
                bytes,
                mut ahead,
                mut verifier,
            }) => {
                let before = verifier.offset();
                let mut source = FileReader::new(&self.disk, &file, &mut ahead, before, bytes);
                match verifier.step(&mut source) {
                    Ok(Found::Chunk(_)) => {
                        scrubbed.bytes = verifier.offset() - before;
                        self.reading = Some(Reading::Snapshot {
                            id,
                            file,
                            bytes,
                            ahead,
                            verifier,
                        });
                    }
                    Ok(Found::End(_)) => self.disk.drop_cache(&file),
                    Err(error) => self.rotten(id, &error, events),
                }
            }
            None => {
                if let Some((bytes, findings)) = self.round.take() {
                    events.push_back(StorageEvent::Scrubbed { bytes, findings });
                }
            }
        }
        if let Some((bytes, findings)) = &mut self.round {
            *bytes += scrubbed.bytes;
            *findings += u64::from(scrubbed.suspect.is_some());
        }
        scrubbed
    }

    /// Whether a file that was opened has lost its name. What was removed meanwhile was needed no more,
    /// and may have been cut.
    fn is_gone(&self, name: &str) -> bool {
        self.disk
            .open(name)
            .is_err_and(|error| error.is_not_found())
    }

    /// Opens what comes next. Files that are gone were needed no more.
    fn open(&mut self, events: &mut VecDeque<StorageEvent>) -> Option<Reading<D::File>> {
        for id in self.segments.by_ref() {
            if let Ok(verifier) = SegmentVerifier::open(&self.disk, id, self.next) {
                return Some(Reading::Segment(id, verifier));
            }
        }
        while let Some(id) = self.snapshots.pop_front() {
            let Ok(mut file) = self.disk.open(&snapshot::snapshot_name(id)) else {
                continue;
            };
            self.disk.drop_cache(&file);
            self.disk.bypass_cache(&mut file);
            let bytes = self.disk.bytes(&file).unwrap_or_default();
            let mut ahead = ReadAhead::new();
            let mut source = FileReader::new(&self.disk, &file, &mut ahead, 0, bytes);
            match Verifier::open(&mut source, &snapshot::snapshot_name(id)) {
                Ok(verifier) => {
                    return Some(Reading::Snapshot {
                        id,
                        file,
                        bytes,
                        ahead,
                        verifier: Box::new(verifier),
                    });
                }
                Err(error) => self.rotten(id, &error, events),
            }
        }
        None
    }

    fn rotten(
        &mut self,
        id: EntryId,
        error: &snapshot::Error,
        events: &mut VecDeque<StorageEvent>,
    ) {
        if self.is_gone(&snapshot::snapshot_name(id)) {
            return;
        }
        log::error!("a snapshot is damaged id={id} reason={error}");
        if let Some((_, findings)) = &mut self.round {
            *findings += 1;
        }
        events.push_back(StorageEvent::Snapshot(SnapshotEvent::Rotten(id)));
    }
}
