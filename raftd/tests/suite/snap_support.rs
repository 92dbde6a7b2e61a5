//! What the tests of snapshots share.

use bytes::BytesMut;
use wire::command::{Command, SessionId, Write};
use wire::entry::{Entry, EntryKind};
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};

use raftd::disk::Disk;
use raftd::snapshot::{Error, Expected, Loaded, SnapshotInfo, Step, Writer, load};
use raftd::store::session::SESSIONS_MAX;
use raftd::store::{Store, View};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const EPOCH: Epoch = Epoch(77);

pub(crate) fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

pub(crate) fn members() -> Vec<(NodeId, String)> {
    (1..=3)
        .map(|node| (NodeId(node), format!("10.0.0.{node}:7401")))
        .collect()
}

pub(crate) fn expected(id: EntryId) -> Expected {
    Expected {
        cluster: CLUSTER,
        epoch: EPOCH,
        id,
    }
}

/// A state that is made write by write.
pub(crate) struct Maker {
    pub(crate) store: Store,
    /// Of the entries to come.
    pub(crate) term: u64,
    /// Replies that each session keeps.
    pub(crate) kept: u64,
    /// Writes of each session so far.
    seqs: Vec<u64>,
}

impl Maker {
    /// So many sessions take turns.
    pub(crate) fn new(sessions: usize) -> Self {
        Self {
            store: Store::new(EPOCH, SESSIONS_MAX),
            term: 3,
            kept: 20,
            seqs: vec![0; sessions],
        }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.apply(Command::Put { key, value });
    }

    pub(crate) fn apply(&mut self, command: Command<'_>) -> Entry {
        let index = self.store.applied().index.0 + 1;
        let session = index as usize % self.seqs.len();
        self.seqs[session] += 1;
        let seq = self.seqs[session];
        let write = Write {
            session: SessionId {
                epoch: EPOCH,
                born: Index(0),
                nonce: session as u64,
            },
            seq,
            floor: seq.saturating_sub(self.kept).max(1),
            command,
        };
        let mut body = BytesMut::new();
        write.encode_body(&mut body);
        self.append(EntryKind::Command, &body)
    }

    pub(crate) fn append(&mut self, kind: EntryKind, body: &[u8]) -> Entry {
        let index = self.store.applied().index.0 + 1;
        let id = id(index, self.term);
        let entry = Entry::build(&mut BytesMut::new(), id, index * 10, kind, body);
        self.store.apply(&entry);
        entry
    }
}

/// A state of so many keys with values of that size, every other of which compresses.
pub(crate) fn store(keys: u64, value_bytes: usize) -> Store {
    let mut maker = Maker::new(5);
    let mut random = 1_u64;
    let mut value = vec![0; value_bytes];
    for n in 0..keys {
        let key = format!("key/{:08}", n * 7919 % keys.max(1));
        for byte in &mut value {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = if n % 2 == 0 {
                b'v'
            } else {
                (random >> 56) as u8
            };
        }
        maker.put(key.as_bytes(), &value);
    }
    for command in [
        Command::Increment {
            key: b"counter",
            delta: -5,
        },
        Command::Delete { key: b"nothing" },
        Command::Delete {
            key: b"key/00000001",
        },
    ] {
        maker.apply(command);
    }
    maker.store
}

pub(crate) fn begin<D: Disk>(disk: &D, view: View) -> Result<Writer<D::File>, Error> {
    Writer::begin(disk, view, CLUSTER, &members())
}

/// Writes a snapshot to its end.
pub(crate) fn publish<D: Disk>(disk: &D, view: View) -> Result<SnapshotInfo, Error> {
    let mut writer = begin(disk, view)?;
    loop {
        if let Step::Published(info) = writer.step(disk)? {
            return Ok(info);
        }
    }
}

pub(crate) fn load_it<D: Disk>(disk: &D, id: EntryId) -> Result<Loaded, Error> {
    load(disk, &expected(id), SESSIONS_MAX)
}

/// Whether two states are the same in all that a snapshot holds.
pub(crate) fn assert_same(a: &Store, b: &Store) {
    let (a, b) = (a.view(), b.view());
    assert_eq!(a.head(), b.head());
    assert_eq!(a.digest(), b.digest());
    assert_eq!(b.digest(), b.recompute_digest());
    assert!(a.items().eq(b.items()), "the keys");
    assert!(a.sessions().eq(b.sessions()), "the sessions");
}
