//! What clients ask and servers answer.

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{Outcome, Write};
use crate::error::Error;
use crate::peer::DiskState;
use crate::types::{ClusterId, Epoch, Index, NodeId, Term};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before it was sent (ReadIndex, thesis 6.4).
    Linearizable,
    /// What the contacted node has applied.
    Stale,
}

/// What a scan returns of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanMode {
    /// Keys with values and revisions.
    Items,
    /// Keys with revisions; values are empty.
    Keys,
    /// Nothing but the number of keys.
    Count,
}

/// A request. Decoding borrows from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Changes the store.
    Write {
        /// Milliseconds after arrival at which a write not yet appended is dropped; 0 is never.
        deadline_ms: u32,
        /// What to do.
        write: Write<'a>,
        /// The encoded write: the body of its log entry.
        body: &'a [u8],
    },
    /// Reads one key.
    Get {
        /// Milliseconds after arrival at which it is dropped; 0 is never.
        deadline_ms: u32,
        /// How fresh.
        consistency: Consistency,
        /// The key.
        key: &'a [u8],
    },
    /// Reads a page of keys with a prefix, in bytewise order.
    Scan {
        /// Milliseconds after arrival at which it is dropped; 0 is never.
        deadline_ms: u32,
        /// How fresh.
        consistency: Consistency,
        /// What to return of each key.
        mode: ScanMode,
        /// Keys must begin with it; may be empty.
        prefix: &'a [u8],
        /// Keys must be greater; `None` begins at the prefix.
        after: Option<&'a [u8]>,
        /// Items at most; capped at [`crate::limits::PAGE_ITEMS_MAX`].
        limit: u32,
    },
    /// Asks how the node sees itself and its cluster. Never waits.
    Status,
}

/// A key with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Index of the entry that last wrote it.
    pub revision: Index,
    /// Index of the entry that made it.
    pub create_revision: Index,
    /// Writes since it was made; 1 for a new key.
    pub version: u64,
}

/// A reply. Decoding borrows from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The write is committed and applied. For a retry, as it was the first time.
    Written {
        /// The entry's term.
        term: Term,
        /// The entry's index: the revision.
        index: Index,
        /// What it did.
        outcome: Outcome,
    },
    /// The key's item.
    Value {
        /// Applied index of the node when it read.
        index: Index,
        /// The item.
        item: Item<'a>,
    },
    /// There is no such key.
    Missing {
        /// Applied index of the node when it read.
        index: Index,
    },
    /// A page of a scan.
    Page {
        /// Applied index of the node when it read.
        index: Index,
        /// Keys of this page (the number of items, unless the mode is `Count`).
        count: u64,
        /// The last key of this page if there are more: the next page's `after`.
        more_after: Option<&'a [u8]>,
        /// The items; [`Items`] iterates.
        items: Items<'a>,
    },
    /// See [`Request::Status`].
    Status(Status),
    /// The request was not done, or nobody knows.
    Error(Error),
}

/// The items of a page, still encoded: `count` items back to back, checked when decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items<'a> {
    /// Encoded items.
    pub bytes: &'a [u8],
}

/// What a node does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Replicates.
    Leader,
    /// Campaigns.
    Candidate,
    /// Follows.
    Follower,
}

/// A node's view of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of its data.
    pub epoch: Epoch,
    /// The answering node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// The leader that it follows, or itself.
    pub leader: Option<NodeId>,
    /// Whether the leader hears a quorum; on others, whether they hear a leader.
    pub quorum_ok: bool,
    /// Last index of its log.
    pub last: Index,
    /// Last durable index.
    pub durable: Index,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Index of its newest snapshot; 0 if none.
    pub snapshot: Index,
    /// Bytes of its write-ahead log's segments.
    pub wal_bytes: u64,
    /// Keys in its store.
    pub keys: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Room on its disk.
    pub disk: DiskState,
    /// Its program version.
    pub version: String,
    /// In one word what it is busy with: `serving`, `forming`, `replaying`.
    pub state: String,
    /// What is wrong, for a person; empty if nothing.
    pub error: String,
    /// All members, itself included, by id.
    pub members: Vec<Member>,
}

/// A member as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its name; empty if it was never heard.
    pub name: String,
    /// The address that its peers use.
    pub peer_addr: String,
    /// The address that its clients use; empty if it was never heard.
    pub client_addr: String,
    /// Whether the answering node has a link to it (or is it).
    pub connected: bool,
    /// On a leader: the index up to which this member's log is known to agree.
    pub match_index: Option<Index>,
}
