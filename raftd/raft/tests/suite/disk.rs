//! What a node has on disk, as far as the algorithm sees it: hard state, a log behind a base, a
//! snapshot that a marker in the log names, and what was received of another one.

use std::collections::BTreeSet;
use std::ops::Deref;

use raft::{HardState, Restored, Write};
use wire::entry::Entry;
use wire::membership::Membership;
use wire::types::{EntryId, Index};

/// Newest entries that a restarted node has in memory.
const TAIL_ENTRIES: usize = 3;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    /// Entries whose payload is gone; their identities are in `log`.
    pub(crate) faulty: BTreeSet<Index>,
    /// The snapshot is good for nothing.
    pub(crate) rebuilding: bool,
    pub(crate) commit: Index,
    /// The snapshot that the marker names, or 0@0; a file without marker is no good after a crash.
    pub(crate) snapshot: EntryId,
    /// A file that is being received, and its bytes so far.
    pub(crate) received: Option<(EntryId, u64)>,
}

impl Disk {
    pub(crate) fn apply(&mut self, write: &Write) {
        self.hard_state = write.hard_state;
        self.log.splice(write);
        let from = match write.reset {
            Some(_) => Index(0),
            None => write.truncate_from.unwrap_or(Index(u64::MAX)),
        };
        self.faulty.retain(|index| *index < from);
        self.commit = self.commit.max(write.commit);
        if let Some(snapshot) = write.reset {
            assert!(write.commit >= snapshot.index, "{snapshot} is committed");
            self.snapshot = snapshot;
        }
    }

    /// The first faulty entry.
    pub(crate) fn first_faulty(&self) -> Option<Index> {
        self.faulty.first().copied()
    }

    /// Forgets the entries up to `upto`.
    pub(crate) fn compact(&mut self, upto: Index) {
        self.log.compact(upto);
        self.faulty.retain(|index| *index > upto);
    }

    /// Whether it is less than whole.
    pub(crate) fn is_damaged(&self) -> bool {
        self.hard_state.lost || self.rebuilding || !self.faulty.is_empty()
    }

    /// The entries behind the applied one that say who is a member, as far as they are whole.
    fn memberships(&self) -> Vec<(EntryId, Membership)> {
        let applied = if self.rebuilding {
            self.log.base().index
        } else {
            self.snapshot.index
        };
        let entries = self
            .log
            .iter()
            .filter(|entry| entry.index() > applied && !self.faulty.contains(&entry.index()));
        let told =
            entries.filter_map(|entry| Some((entry.id(), entry.membership().expect("whole")?)));
        told.collect()
    }

    /// What a process that starts on this disk is told.
    pub(crate) fn restored(&self, formed: bool, wall_ms: u64, membership: Membership) -> Restored {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in self.log.iter() {
            if terms.last().is_none_or(|run| run.term < entry.term()) {
                terms.push(entry.id());
            }
        }
        let base = self.log.base().index;
        let readable = self.faulty.last().map_or(0, |last| last.0 - base.0);
        let readable = usize::try_from(readable).expect("small");
        let tail = self.log.len().saturating_sub(TAIL_ENTRIES).max(readable);
        Restored {
            hard_state: self.hard_state,
            commit: self.commit.max(self.snapshot.index),
            base: self.log.base(),
            applied: if self.rebuilding {
                base
            } else {
                self.snapshot.index
            },
            wall_ms: if self.rebuilding { 0 } else { wall_ms },
            membership,
            memberships: self.memberships(),
            terms,
            last: self.log.last(),
            tail: self.log[tail..].to_vec(),
            formed,
            faulty: self.first_faulty(),
            rebuilding: self.rebuilding,
        }
    }
}

/// Entries without gap behind a base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    base: EntryId,
    entries: Vec<Entry>,
}

impl From<Vec<Entry>> for Log {
    fn from(entries: Vec<Entry>) -> Self {
        let base = EntryId::default();
        Self { base, entries }
    }
}

impl Deref for Log {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.entries
    }
}

impl Log {
    /// Nothing behind a base.
    pub(crate) fn behind(base: EntryId) -> Self {
        let entries = Vec::new();
        Self { base, entries }
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    /// The entry at an index, which may be the base.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        match self.place(index) {
            Some(place) => self.entries.get(place).map(Entry::id),
            None => (index == self.base.index).then_some(self.base),
        }
    }

    fn place(&self, index: Index) -> Option<usize> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        Some(usize::try_from(place).expect("small"))
    }

    /// The entries from an index on; none if that was compacted.
    pub(crate) fn from(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let place = self.place(index).unwrap_or(usize::MAX);
        self.entries.iter().skip(place)
    }

    /// Applies a write; panics on a gap.
    pub(crate) fn splice(&mut self, write: &Write) {
        if let Some(snapshot) = write.reset {
            assert_eq!(write.truncate_from, None, "a discarded log is cut");
            assert!(snapshot.index > self.base.index, "the base fell");
            self.base = snapshot;
            self.entries.clear();
        }
        if let Some(from) = write.truncate_from {
            assert!(!write.entries.is_empty(), "a cut without replacement");
            let kept = self.place(from).expect("the cut is behind the base");
            self.entries.truncate(kept);
        }
        for entry in &write.entries {
            assert_eq!(entry.index(), self.last().index.next(), "a gap in a write");
            self.entries.push(entry.clone());
        }
    }

    /// Forgets the entries after `upto`.
    pub(crate) fn cut_after(&mut self, upto: Index) {
        self.entries.retain(|entry| entry.index() <= upto);
    }

    /// Forgets the entries up to `upto`, which the log holds; nothing if it begins later.
    pub(crate) fn compact(&mut self, upto: Index) {
        if upto > self.base.index {
            self.base = self.id_at(upto).expect("it is in the log");
            self.entries.retain(|entry| entry.index() > upto);
        }
    }
}
