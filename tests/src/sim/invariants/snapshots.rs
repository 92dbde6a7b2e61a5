//! The snapshots on the disks (rules E6, D5): whole under their names, the same everywhere, and
//! never missed.

use std::collections::{BTreeMap, BTreeSet};

use raftd::disk::sim::SimDisk;
use raftd::snapshot::{self, SNAPSHOT_DIR};
use raftd::wal::segment::{WAL_DIR, segment_id};
use wire::types::EntryId;
use xxhash_rust::xxh3::xxh3_64;

use super::logs::Committed;
use super::member::Watched;
use super::states::States;

/// What was seen of the snapshots and segments on a disk.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Changes of names, and the durable marker, when it was last looked at.
    seen: Option<(u64, EntryId)>,
    snapshots: BTreeSet<EntryId>,
    /// The oldest segment, if it was looked at before.
    first_segment: Option<u64>,
}

/// All snapshots that ever had a durable name.
///
/// Invariants looked after, on disks that are not damaged, or whole again:
/// - a file that has a snapshot's name is whole, and holds the state of a committed entry (rules
///   E6);
/// - files of one snapshot are the same byte for byte, whoever wrote or received them (rules D5);
/// - the one that the durable marker names is there;
/// - of the log, only what the durable marker covers is removed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Hashes of the files.
    known: BTreeMap<EntryId, u64>,
}

impl Snapshots {
    /// Looks at the names on a disk, if they have changed.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn look(
        &mut self,
        member: &mut Watched,
        disk: &SimDisk,
        committed: &Committed,
        states: &States,
    ) -> Result<(), String> {
        let (id, marker) = (member.id, member.audit.snapshot());
        let seen = Some((disk.name_changes(), marker));
        if member.files.seen == seen || member.harmed {
            return Ok(());
        }
        member.files.seen = seen;
        let mut present = BTreeSet::new();
        let mut first_segment = None;
        for (name, bytes) in disk.durable_files() {
            let Some((dir, file_name)) = name.split_once('/') else {
                continue;
            };
            match dir {
                SNAPSHOT_DIR => {
                    let Some(snapshot) = snapshot::snapshot_id(file_name) else {
                        continue;
                    };
                    // What is left of one that was damaged goes when a newer one is marked.
                    if member.damaged && snapshot.index < marker.index {
                        continue;
                    }
                    present.insert(snapshot);
                    if !member.files.snapshots.contains(&snapshot) {
                        let mut content = vec![0; bytes as usize];
                        if !disk.read_durable(&name, 0, &mut content) {
                            return Err(format!("{name} of {id} cannot be read"));
                        }
                        self.appears(snapshot, &content, committed, states)
                            .map_err(|what| format!("{name} of {id} {what}"))?;
                    }
                }
                WAL_DIR if first_segment.is_none() => first_segment = segment_id(file_name),
                _ => {}
            }
        }
        member.files.snapshots = present;
        if marker != EntryId::default() && !member.files.snapshots.contains(&marker) {
            return Err(format!("{id} has marked {marker}, which its disk lacks"));
        }
        let Some(first_segment) = first_segment else {
            return Ok(());
        };
        let before = member.files.first_segment.unwrap_or(first_segment);
        for gone in before..first_segment {
            let end = member.audit.end_of(gone);
            if end.is_none_or(|end| end > marker.index) {
                return Err(format!(
                    "{id} removes segment {gone}, which ends with {end:?}; {marker} is marked"
                ));
            }
        }
        member.files.first_segment = Some(first_segment);
        Ok(())
    }

    /// A file has this name now.
    fn appears(
        &mut self,
        id: EntryId,
        content: &[u8],
        committed: &Committed,
        states: &States,
    ) -> Result<(), String> {
        let hash = xxh3_64(content);
        if let Some(known) = self.known.get(&id) {
            return match *known == hash {
                true => Ok(()),
                false => Err("is not what others have under that name".to_owned()),
            };
        }
        let found = snapshot::verify(&mut &*content, "it").map_err(|error| error.to_string())?;
        let info = found.info();
        let term = committed.held(id.index).map(|held| held.term);
        let digest = states.digest(id.index);
        if info.id != id || term != Some(id.term) || digest != Some(info.digest) {
            return Err(format!(
                "holds {info:?}: {term:?} is committed, and its state {digest:?}"
            ));
        }
        self.known.insert(id, hash);
        Ok(())
    }
}
