//! The log of a stopped member, read back from its files by the daemon's own recovery.

use std::fmt;
use std::path::Path;

use raftd::disk::os::OsDisk;
use raftd::disk::{self, Latched, Meter};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::storage::{self, OpenedLog, Options, Scrubbing};
use raftd::store::session::SESSIONS_MAX;
use wire::command::Write;
use wire::entry::Entry;
use wire::types::{EntryId, Epoch, Index};

use crate::history::witness::Committed;
use crate::history::{Answer, History, Operation};

/// Bytes of entries read at a time.
const LOAD_BYTES: usize = 4 * 1024 * 1024;

/// What a member's files hold.
#[derive(Debug)]
pub struct Log {
    /// The history of the data.
    pub epoch: Epoch,
    /// The last entry that is gone: a snapshot covers it.
    pub base: Index,
    /// Every entry behind that.
    pub entries: Vec<Entry>,
    /// What is known to be committed, from the files alone.
    pub commit: Index,
}

impl Log {
    /// As the checkers want it: from its first entry on, or not at all.
    #[must_use]
    pub fn committed(&self) -> Option<Committed<'_>> {
        (self.base == Index(0)).then_some(Committed {
            epoch: self.epoch,
            sessions_max: SESSIONS_MAX,
            entries: &self.entries,
        })
    }

    /// The index of its last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    /// An entry that is there.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Drops what is behind `last`.
    pub fn truncate(&mut self, last: Index) {
        let entries = last.0.saturating_sub(self.base.0);
        self.entries.truncate(entries as usize);
    }

    /// Demands that both hold the same wherever both hold anything.
    ///
    /// # Errors
    /// The first difference.
    pub fn agree(&self, other: &Self) -> Result<(), String> {
        let differs = self.entries.iter().find(|entry| {
            let same = |there: &Entry| there.bytes() == entry.bytes();
            !other.entry(entry.id().index).is_none_or(same)
        });
        differs.map_or(Ok(()), |entry| Err(entry.id().to_string()))
    }

    /// Looks whether every acknowledged write is the entry that its acknowledgement names, as far as
    /// the log goes back: how many are, and what is to be said of those that are not.
    #[must_use]
    pub fn acknowledged(&self, history: &History) -> (u64, Vec<String>) {
        let (mut held, mut lost) = (0, Vec::new());
        for record in &history.records {
            let (Operation::Write { session, seq, .. }, Answer::Written { id, .. }) =
                (&record.operation, &record.answer)
            else {
                continue;
            };
            if id.index <= self.base {
                continue;
            }
            let entry = self.entry(id.index).filter(|entry| entry.id() == *id);
            let write = entry.and_then(|entry| Write::decode_body(entry.body()).ok());
            if write.is_none_or(|write| (write.session, write.seq) != (*session, *seq)) {
                lost.push(format!("the log has something else at {id} than {record}"));
            } else {
                held += 1;
            }
        }
        (held, lost)
    }

    /// Reads the log of the member whose data directory this is. Nobody may use it meanwhile.
    ///
    /// # Errors
    /// What the daemon would say.
    pub fn read(data_dir: &Path, segment_bytes: u64) -> Result<Self, String> {
        let told = |what: &dyn fmt::Display| format!("{}: {what}", data_dir.display());
        let opened = open(data_dir, segment_bytes).map_err(|fatal| told(&fatal))?;
        let wal = &opened.recovered.wal;
        let (base, last) = (wal.base().index, wal.last().index);
        let mut entries: Vec<Entry> = Vec::new();
        while base.0 + (entries.len() as u64) < last.0 {
            let from = Index(base.0 + entries.len() as u64 + 1);
            let loaded = wal
                .load(from, last, LOAD_BYTES)
                .map_err(|error| told(&error))?;
            if loaded.is_empty() {
                return Err(told(&format!("no entry {from}, and {last} is the last")));
            }
            entries.extend(loaded);
        }
        Ok(Self {
            epoch: opened.identity.epoch,
            base,
            entries,
            commit: wal.commit(),
        })
    }
}

/// The last entry of a log that nobody uses. As the daemon does when it starts, this leaves the
/// evidence behind that everything up to there is durable: damage to it from now on is no tear.
///
/// # Errors
/// What the daemon would say.
pub fn last_of(data_dir: &Path, segment_bytes: u64) -> Result<EntryId, String> {
    let opened = open(data_dir, segment_bytes).map_err(|fatal| fatal.to_string())?;
    Ok(opened.recovered.wal.last())
}

fn open(data_dir: &Path, segment_bytes: u64) -> Result<OpenedLog<Latched<OsDisk>>, Fatal> {
    let options = Options {
        data_dir: data_dir.to_path_buf(),
        segment_bytes,
        soft_free_bytes: 0,
        create: None,
        tail_bytes: LOAD_BYTES,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        seed: 0,
    };
    let io = |error: disk::Error| Fatal::new(ExitStatus::Io, error.to_string());
    let disk = OsDisk::new(data_dir.to_path_buf()).map_err(io)?;
    storage::open_log(Latched::new(disk), &options)
}
