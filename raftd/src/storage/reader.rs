//! Reading the log back, read by read, for followers that lag and for the store.

use std::collections::VecDeque;

use super::{Alarm, LOAD_BYTES_MAX, fatal_of};
use crate::disk::Disk;
use crate::fatal::Fatal;
use crate::node::io::{LoadPurpose, StorageEvent};
use crate::wal::{self, Damage, Passage};

/// A read that was asked for, and where the log has what it wants.
#[derive(Debug)]
pub struct Read {
    pub(super) purpose: LoadPurpose,
    pub(super) passage: Passage,
    pub(super) max_bytes: usize,
}

impl Read {
    fn is_lagging(&self) -> bool {
        matches!(self.purpose, LoadPurpose::Replicate(_))
    }
}

/// A read that found damage: [`super::Worker::unreadable`] finds out what is wrong, and answers it.
#[derive(Debug)]
pub struct Unreadable {
    pub(super) read: Read,
    pub(super) damage: Damage,
}

/// What a step did.
#[derive(Debug)]
pub enum ReadStep {
    /// Nothing waits that may be read.
    Idle,
    /// Entries were read; so many bytes of them for a follower that lags.
    Read {
        /// Whoever sets the pace of such reads may hold the next ones.
        lagging_bytes: usize,
    },
    /// What was to be read is damaged.
    Unreadable(Unreadable),
    /// No file can be opened for now: it is to be tried again after a rest.
    OutOfFiles,
}

/// Does the reads of a node's log, beside the [`super::Worker`], whose writes wait for none of them.
/// Deterministic: whoever calls [`LogReader::step`] sets the pace.
pub struct LogReader<D: Disk> {
    disk: D,
    reader: wal::Reader<D>,
    reads: VecDeque<Read>,
    out_of_files: Alarm,
}

impl<D: Disk> LogReader<D> {
    /// For the log on this disk.
    pub fn new(disk: D) -> Self {
        Self {
            disk,
            reader: wal::Reader::default(),
            reads: VecDeque::new(),
            out_of_files: Alarm::default(),
        }
    }

    /// Adds work for the steps to come.
    pub fn push(&mut self, read: Read) {
        self.reads.push_back(read);
    }

    /// Whether a read waits.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Does the next read. Those for followers that lag wait while they are held.
    ///
    /// # Errors
    /// How the process must end: the disk failed.
    pub fn step(
        &mut self,
        lagging_held: bool,
        events: &mut VecDeque<StorageEvent>,
    ) -> Result<ReadStep, Fatal> {
        let may_go = |read: &Read| !(lagging_held && read.is_lagging());
        let next = self.reads.iter().position(may_go);
        let Some(read) = next.and_then(|place| self.reads.remove(place)) else {
            return Ok(ReadStep::Idle);
        };
        let max_bytes = read.max_bytes.min(LOAD_BYTES_MAX);
        let entries = match self.reader.read(&self.disk, &read.passage, max_bytes) {
            Ok(entries) => entries,
            Err(wal::Error::Damaged(damage)) => {
                return Ok(ReadStep::Unreadable(Unreadable { read, damage }));
            }
            Err(wal::Error::Disk(error)) if error.is_out_of_files() => {
                self.out_of_files
                    .raise(format!("the log cannot be read back reason={error}"));
                self.reads.push_front(read);
                return Ok(ReadStep::OutOfFiles);
            }
            Err(error) => return Err(fatal_of(&error)),
        };
        self.out_of_files.clear();
        let mut lagging_bytes = 0;
        if read.is_lagging() {
            lagging_bytes = entries.iter().map(|entry| entry.bytes().len()).sum();
        }
        events.push_back(StorageEvent::Loaded {
            purpose: read.purpose,
            from: read.passage.first(),
            entries,
        });
        Ok(ReadStep::Read { lagging_bytes })
    }
}
