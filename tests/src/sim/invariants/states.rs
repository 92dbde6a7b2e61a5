//! Equal applied indexes mean equal states (State Machine Safety, thesis 3.6.3).
//!
//! One store applies the committed log as it grows and notes, index by index, which key changed and
//! to what. A member that has applied up to some index is compared with the notes of that index:
//! the digest, the sizes of map and sessions, the keys that changed since it was last looked at, and
//! now and then, and after a snapshot, whether the digest is that of what is there. Whether the
//! store itself is right is for the history's witness to say.

use std::collections::BTreeMap;
use std::ops::Bound;

use raftd::store::{Changed, Store};
use wire::client::Item;
use wire::command::{Command, Operation};
use wire::entry::Entry;
use wire::types::{EntryId, Epoch, Index, NodeId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Everything is looked at about so many entries apart.
const FULL_EVERY: u64 = 1_024;

/// What the state is like after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    id: EntryId,
    keys: usize,
    sessions: usize,
    kept: usize,
    horizon: Option<Index>,
    digest: u128,
}

/// The state after each committed entry.
#[derive(Debug)]
pub(super) struct States {
    store: Store,
    shapes: Vec<Shape>,
    /// The keys that each entry may have changed, as their places in `keys`.
    changed: Vec<Vec<usize>>,
    places: BTreeMap<Box<[u8]>, usize>,
    keys: Vec<Key>,
}

/// A key's changes: index and fingerprint, 0 for an absent one.
#[derive(Debug)]
struct Key {
    name: Box<[u8]>,
    changes: Vec<(Index, u64)>,
}

impl States {
    /// The state before the first entry.
    #[must_use]
    pub(super) fn new(epoch: Epoch, sessions_max: usize) -> Self {
        let store = Store::new(epoch, sessions_max);
        Self {
            shapes: vec![shape(&store)],
            store,
            changed: Vec::new(),
            places: BTreeMap::new(),
            keys: Vec::new(),
        }
    }

    /// The next entry is committed.
    pub(super) fn push(&mut self, entry: &Entry) {
        let changed = self.store.apply(entry).changed;
        let mut places = self.places_of(changed);
        places.sort_unstable();
        places.dedup();
        for place in &places {
            let key = &mut self.keys[*place];
            let item = self.store.map().get(&key.name);
            let after = item.map_or(0, |item| fingerprint(&item));
            key.changes.push((entry.index(), after));
        }
        self.changed.push(places);
        self.shapes.push(shape(&self.store));
    }

    fn places_of(&mut self, changed: Changed<'_>) -> Vec<usize> {
        match changed {
            Changed::Nothing => Vec::new(),
            Changed::Key(key) => vec![self.place_of(key)],
            // A key that was there has its place.
            Changed::Range { from, to } => {
                let behind = (Bound::Included(from), Bound::Unbounded);
                let known = self.places.range::<[u8], _>(behind);
                let inside = known.take_while(|(key, _)| to.is_none_or(|to| &***key < to));
                inside.map(|(_, place)| *place).collect()
            }
            Changed::Operations(operations) => operations
                .iter()
                .flat_map(|operation| self.places_of(of_operation(operation)))
                .collect(),
        }
    }

    fn place_of(&mut self, key: &[u8]) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        self.keys.push(Key {
            name: key.into(),
            changes: Vec::new(),
        });
        self.places.insert(key.into(), self.keys.len() - 1);
        self.keys.len() - 1
    }

    /// The digest after an entry.
    pub(super) fn digest(&self, index: Index) -> Option<u128> {
        self.shapes.get(index.0 as usize).map(|shape| shape.digest)
    }

    /// Looks at sizes and digest of a state.
    ///
    /// # Errors
    /// They are not those that belong to its index.
    pub(super) fn check_shape(&self, who: NodeId, store: &Store) -> Result<&Shape, String> {
        let applied = store.applied().index;
        let Some(known) = self.shapes.get(applied.0 as usize) else {
            return Err(format!(
                "{who} has applied {applied}, which nobody committed"
            ));
        };
        let own = shape(store);
        if own != *known {
            return Err(format!(
                "the state of {who} at {applied} is {own:?} and should be {known:?}"
            ));
        }
        Ok(known)
    }

    /// A member has applied more; `seen` is how far it was looked at before. All of the state is
    /// looked at if it is to be `whole`.
    ///
    /// # Errors
    /// Its state is not the one that belongs to its index.
    pub(super) fn check(
        &self,
        who: NodeId,
        seen: Index,
        store: &Store,
        whole: bool,
    ) -> Result<(), String> {
        let applied = store.applied().index;
        let known = self.check_shape(who, store)?;
        if whole || seen.0 / FULL_EVERY != applied.0 / FULL_EVERY {
            let counted = store.view().recompute_digest();
            let digest = known.digest;
            if counted != digest {
                return Err(format!(
                    "the state of {who} at {applied} comes to {counted:032x}, not {digest:032x}"
                ));
            }
        }
        let changed = &self.changed[seen.0 as usize..applied.0 as usize];
        for place in changed.iter().flatten() {
            let key = &self.keys[*place];
            let upto = key.changes.partition_point(|(index, _)| *index <= applied);
            let expected = key.changes[upto - 1].1;
            let item = store.map().get(&key.name);
            if item.as_ref().map_or(0, fingerprint) != expected {
                return Err(format!(
                    "{who} has something else at {applied} under the key {}: {item:?}",
                    key.name.escape_ascii()
                ));
            }
        }
        Ok(())
    }
}

/// What an operation of a txn may have changed.
fn of_operation(operation: Operation<'_>) -> Changed<'_> {
    match operation {
        Operation::Change(
            Command::Put { key, .. }
            | Command::Delete { key }
            | Command::CompareAndSwap { key, .. }
            | Command::Increment { key, .. }
            | Command::Append { key, .. },
        ) => Changed::Key(key),
        Operation::Change(Command::DeleteRange { from, to, .. }) => Changed::Range { from, to },
        Operation::Change(Command::Txn(_)) | Operation::Get { .. } => Changed::Nothing,
    }
}

fn shape(store: &Store) -> Shape {
    let sessions = store.sessions();
    Shape {
        id: store.applied(),
        keys: store.map().len(),
        sessions: sessions.len(),
        kept: sessions.kept(),
        horizon: sessions.horizon(),
        digest: store.digest(),
    }
}

/// Of key, value and revisions; never 0.
fn fingerprint(item: &Item<'_>) -> u64 {
    let numbers = [item.revision.0, item.create_revision.0, item.version];
    let key = xxh3_64_with_seed(item.key, 1);
    let value = xxh3_64_with_seed(item.value, key);
    let print = numbers.iter().fold(value, |print, number| {
        xxh3_64_with_seed(&number.to_le_bytes(), print)
    });
    print.max(1)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use wire::command::{Command, SessionId, Write};
    use wire::entry::EntryKind;
    use wire::types::Term;

    use super::*;

    const EPOCH: Epoch = Epoch(1);

    fn put(index: u64, seq: u64, key: &[u8], value: &[u8]) -> Entry {
        let write = Write {
            session: SessionId {
                epoch: EPOCH,
                born: Index(0),
                nonce: 7,
            },
            seq,
            floor: 1,
            command: Command::Put { key, value },
        };
        let mut body = BytesMut::new();
        write.encode_body(&mut body);
        let id = EntryId {
            term: Term(1),
            index: Index(index),
        };
        let mut pool = BytesMut::new();
        Entry::build(&mut pool, id, 0, EntryKind::Command, &body)
    }

    fn store(entries: &[Entry]) -> Store {
        let mut store = Store::new(EPOCH, 8);
        for entry in entries {
            store.apply(entry);
        }
        store
    }

    #[test]
    fn a_member_that_applied_the_same_is_the_same_at_every_index() {
        let log = [
            put(1, 1, b"a", b"1"),
            put(2, 2, b"b", b"1"),
            put(3, 3, b"a", b"2"),
        ];
        let mut states = States::new(EPOCH, 8);
        for entry in &log {
            states.push(entry);
        }
        for seen in 0..3 {
            for applied in seen..=3 {
                let member = store(&log[..applied]);
                let seen = Index(seen as u64);
                states.check(NodeId(1), seen, &member, true).unwrap();
            }
        }
    }

    #[test]
    fn another_state_is_found() {
        let log = [put(1, 1, b"a", b"1"), put(2, 2, b"b", b"1")];
        let mut states = States::new(EPOCH, 8);
        for entry in &log {
            states.push(entry);
        }
        let others = [
            // Another value; another key; a write that had no effect.
            [log[0].clone(), put(2, 2, b"b", b"2")],
            [log[0].clone(), put(2, 2, b"c", b"1")],
            [log[0].clone(), put(2, 9, b"b", b"1")],
        ];
        for other in &others {
            assert!(
                states
                    .check(NodeId(1), Index(1), &store(other), false)
                    .is_err()
            );
        }
        // The same keys, and another reply to a retry.
        let mut states = States::new(EPOCH, 8);
        states.push(&put(1, 1, b"a", b"1"));
        states.push(&put(2, 2, b"a", b"2"));
        let other = [put(1, 1, b"a", b"0"), put(2, 2, b"a", b"2")];
        assert!(
            states
                .check(NodeId(1), Index(1), &store(&other), false)
                .is_err()
        );

        let ahead = [log[0].clone(), log[1].clone(), put(3, 3, b"a", b"2")];
        assert!(
            states
                .check(NodeId(1), Index(2), &store(&ahead), false)
                .is_err()
        );
    }
}
