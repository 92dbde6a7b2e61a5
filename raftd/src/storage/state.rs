//! The state that a node starts with.

use wire::types::EntryId;

use super::load;
use crate::disk::Disk;
use crate::node::io::SnapshotFile;
use crate::snapshot::{self, Error, Expected};
use crate::store::Store;
use crate::wal::Wal;
use crate::wal::identity::Identity;

/// What the log goes on from.
///
/// Invariants: `store` is the state of `snapshot`, and empty without one; only a node whose log does
/// not reach back to the first entry is `rebuilding`.
#[derive(Debug)]
pub struct State {
    /// The state as of the newest snapshot that can be read.
    pub store: Store,
    /// That snapshot.
    pub snapshot: SnapshotFile,
    /// The state is missing: the leader must send its own.
    pub rebuilding: bool,
}

impl State {
    /// Loads the newest snapshot of the log: see [`State::load`]. If only the marked one could do and is
    /// damaged, one that is newer does: the process ended before it marked what it had published, and
    /// the log has the entry.
    ///
    /// # Errors
    /// Those of [`State::load`].
    pub fn of_log<D: Disk>(
        wal: &Wal<D>,
        identity: &Identity,
        alone: bool,
        sessions_max: usize,
    ) -> Result<Self, Error> {
        let load = |id| Self::load(wal.disk(), identity, id, wal.base(), alone, sessions_max);
        let marker = wal.snapshot();
        let error = match load(marker) {
            Err(error) if error.is_damage() => error,
            loaded => return loaded,
        };
        let mut newer = snapshot::published(wal.disk())?;
        newer.retain(|id| id.index > marker.index && wal.holds(*id));
        let state = newer.iter().rev().find_map(|id| load(*id).ok());
        let state = state.ok_or(error)?;
        let newer = state.snapshot.id;
        log::error!("the marked snapshot is damaged, a newer one is not id={marker} newer={newer}");
        Ok(state)
    }

    /// Loads the snapshot that the log names with its `marker`. A damaged one is not needed if the
    /// log is whole from its first entry on, and else another member has one: what is there of it
    /// stays until that takes its place. A node that is `alone` has no other member.
    ///
    /// # Errors
    /// The disk's; the snapshot's, if it is of another cluster, or there is no other member.
    pub fn load<D: Disk>(
        disk: &D,
        identity: &Identity,
        marker: EntryId,
        base: EntryId,
        alone: bool,
        sessions_max: usize,
    ) -> Result<Self, Error> {
        let without = |rebuilding| Self {
            store: Store::new(identity.epoch, sessions_max),
            snapshot: SnapshotFile::default(),
            rebuilding,
        };
        if marker == EntryId::default() {
            return Ok(without(false));
        }
        let expected = Expected {
            cluster: identity.cluster,
            epoch: identity.epoch,
            id: marker,
        };
        let whole_log = base == EntryId::default();
        match load::load_snapshot(disk, &expected, sessions_max) {
            Ok(loaded) => Ok(Self {
                store: loaded.store,
                snapshot: SnapshotFile {
                    id: marker,
                    bytes: loaded.info.bytes,
                },
                rebuilding: false,
            }),
            Err(error) if error.is_damage() && (whole_log || !alone) => {
                log::error!(
                    "the snapshot cannot be read id={marker} whole_log={whole_log} reason={error}"
                );
                Ok(without(!whole_log))
            }
            Err(error) => Err(error),
        }
    }
}
