//! The log of a stopped member, read back from its files by the daemon's own recovery.

use std::fmt;
use std::path::Path;

use raftd::disk::os::OsDisk;
use raftd::disk::{self, Latched};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::storage::{self, OpenedLog, Options};
use raftd::store::session::SESSIONS_MAX;
use wire::entry::Entry;
use wire::types::{EntryId, Epoch, Index};

use crate::history::witness::Committed;

/// Bytes of entries read at a time.
const LOAD_BYTES: usize = 4 * 1024 * 1024;

/// What a member's files hold.
#[derive(Debug)]
pub struct Log {
    /// The history of the data.
    pub epoch: Epoch,
    /// Every entry, from index 1 on.
    pub entries: Vec<Entry>,
    /// What is known to be committed, from the files alone.
    pub commit: Index,
}

impl Log {
    /// As the checkers want it.
    #[must_use]
    pub fn committed(&self) -> Committed<'_> {
        Committed {
            epoch: self.epoch,
            sessions_max: SESSIONS_MAX,
            entries: &self.entries,
        }
    }

    /// Reads the log of the member whose data directory this is. Nobody may use it meanwhile.
    ///
    /// # Errors
    /// What the daemon would say.
    pub fn read(data_dir: &Path, segment_bytes: u64) -> Result<Self, String> {
        let told = |what: &dyn fmt::Display| format!("{}: {what}", data_dir.display());
        let opened = open(data_dir, segment_bytes).map_err(|fatal| told(&fatal))?;
        let wal = &opened.recovered.wal;
        let mut entries: Vec<Entry> = Vec::new();
        let last = wal.last().index;
        while (entries.len() as u64) < last.0 {
            let from = Index(entries.len() as u64 + 1);
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
        seed: 0,
    };
    let io = |error: disk::Error| Fatal::new(ExitStatus::Io, error.to_string());
    let disk = OsDisk::new(data_dir.to_path_buf()).map_err(io)?;
    storage::open_log(Latched::new(disk), &options)
}
