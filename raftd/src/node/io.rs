//! What goes into a node and what comes out. Drivers and the simulator carry these values.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use raft::{Instant, Ticket};
use wire::client::Request;
use wire::entry::{Entry, Identity};
use wire::error::Error;
use wire::peer::Message;
use wire::types::{EntryId, Incarnation, Index, NodeId};

use crate::store::{Store, View};

/// Both clocks, read once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: every deadline.
    pub monotonic: Instant,
    /// Wall clock in milliseconds since 1970: only stamped into entries.
    pub wall_ms: u64,
}

/// A client connection, named by the driver; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A peer connection, dialled or accepted, named by the driver; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// How much a node knew of the members' incarnations when it said hello: told by
/// `Node::hello_to`, given back to `Node::check_welcome` with the answer (rules D1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Knowledge(pub(super) u64);

/// Something that happened. Decoded requests borrow from the driver's buffer.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed; see `Node::deadline`.
    Tick,
    /// A link that this node dialled got its `Welcome`, which `Node::check_welcome` accepted:
    /// requests to `peer` go out on it.
    LinkDialled {
        /// The link.
        link: LinkId,
        /// The other end.
        peer: NodeId,
    },
    /// A link that the peer dialled was accepted by `Node::check_hello`: its requests come in on
    /// it, answers go back on it.
    LinkAccepted {
        /// The link.
        link: LinkId,
        /// The other end.
        peer: NodeId,
    },
    /// A link is gone.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// The other end closed it (EOF, reset), not this node.
        by_peer: bool,
    },
    /// A peer's message.
    Peer {
        /// The link that it came on.
        link: LinkId,
        /// What it said.
        message: Message,
    },
    /// A client's request.
    Client {
        /// Whose.
        connection: ConnectionId,
        /// The frame's request id.
        request_id: u64,
        /// What it asks.
        request: Request<'a>,
    },
    /// Replies pile up for a client that does not read them, or have gone out again: its reads
    /// wait meanwhile.
    ClientClogged {
        /// Whose.
        connection: ConnectionId,
        /// Whether they pile up.
        clogged: bool,
    },
    /// A client connection is gone; its pending requests need no answer.
    ClientClosed(ConnectionId),
    /// The storage thread reports.
    Storage(StorageEvent),
    /// A member says that this node is none any more.
    RemovedBy(NodeId),
    /// A stop was asked for: refuse new work, end when nothing is pending or at the deadline.
    Stop,
}

/// Work for the storage thread, in order.
#[derive(Debug)]
pub enum StorageRequest {
    /// Append to the log; answered by [`StorageEvent::Durable`].
    Write(raft::Write),
    /// Read entries; answered by [`StorageEvent::Loaded`].
    Load {
        /// For whom.
        purpose: LoadPurpose,
        /// First index.
        from: Index,
        /// Last index at most.
        to: Index,
        /// Bytes at most; one entry always fits.
        max_bytes: usize,
    },
    /// Write the members' incarnations into IDENTITY (rules D1); answered by
    /// [`StorageEvent::Formed`].
    Form(Vec<(NodeId, Incarnation)>),
    /// Record in the log that this snapshot is published; answered by [`StorageEvent::Marked`]. Its
    /// index is durable (rules E6).
    Mark(EntryId),
    /// Drop what the log holds up to here, in whole segments; answered by
    /// [`StorageEvent::Compacted`]. A marked snapshot covers it.
    Compact {
        /// The last index that may go.
        upto: Index,
        /// Bytes of segments to keep before it, for followers that lag a little.
        keep_bytes: u64,
    },
    /// Put these entries in the place of those that are faulty in the log and the same as they;
    /// answered by [`StorageEvent::Faulty`]. Others are left out.
    Mend(Vec<Entry>),
    /// Whether no other member could have what is damaged here: then nobody is asked for it.
    Alone(bool),
    /// For the background thread.
    Snapshot(SnapshotRequest),
}

/// A snapshot's file, whole and under its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The entry up to which it holds the state; the default: there is none.
    pub id: EntryId,
    /// The size of the file.
    pub bytes: u64,
}

/// Work on snapshots, for the background thread.
#[derive(Debug)]
pub enum SnapshotRequest {
    /// Write this state into a file; answered by any number of [`SnapshotEvent::Progress`], then
    /// [`SnapshotEvent::Taken`] or [`SnapshotEvent::NotTaken`]. One at a time.
    Take(Box<View>),
    /// The state has about so many bytes of keys and values now: room for the next snapshot is kept
    /// by that (rules E5).
    Expect(u64),
    /// Read a piece of a snapshot's file; answered by [`SnapshotEvent::Read`].
    Read {
        /// Who it is for.
        reader: Reader,
        /// The snapshot.
        snapshot: EntryId,
        /// The place in its file.
        offset: u64,
        /// Bytes at most.
        max_bytes: usize,
    },
    /// Store a piece that the leader sent; answered by [`SnapshotEvent::Received`], and once it
    /// was the last, by [`SnapshotEvent::Whole`].
    Receive {
        /// The snapshot.
        snapshot: EntryId,
        /// The size of its file.
        total_bytes: u64,
        /// The place of the piece.
        offset: u64,
        /// The piece; empty: how much is there?
        bytes: Bytes,
    },
    /// Remove all snapshots older than the one that the log goes on from, and what was received of
    /// such. Only that one says what is old.
    Keep {
        /// The one that the log goes on from.
        marked: EntryId,
        /// Older ones that stay.
        also: Vec<EntryId>,
    },
    /// Remove every snapshot of a later entry than this one, and give up the one being written if
    /// it is, which [`SnapshotEvent::NotTaken`] tells: they hold a state that is not to be believed.
    /// Answered by [`SnapshotEvent::Distrusted`].
    Distrust {
        /// The last entry up to which the state was right.
        after: Index,
    },
    /// Free a state that a snapshot's has replaced: if it is large that takes longer than the loop may
    /// wait (rules A7).
    Free(Box<Store>),
}

/// Who a piece of a snapshot is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A follower that is being sent it.
    Follower(NodeId),
    /// A client's request.
    Client(ConnectionId, u64),
}

/// What came of a [`SnapshotRequest`].
#[derive(Debug)]
pub enum SnapshotEvent {
    /// So many bytes of the file are written, and then read again on top: about each MiB.
    Progress(u64),
    /// Nothing more of this view is written: whoever writes to what it shares is to free it.
    Released(Box<View>),
    /// The file is whole, verified and durable under its name.
    Taken(SnapshotFile),
    /// It is not: the disk is full, or failed. Nothing is left of it (rules D3).
    NotTaken {
        /// The snapshot.
        snapshot: EntryId,
        /// Why, for a person.
        reason: String,
    },
    /// A piece of a file.
    Read {
        /// Who it is for.
        reader: Reader,
        /// The snapshot.
        snapshot: EntryId,
        /// The place of the piece.
        offset: u64,
        /// The size of the file; 0 if it could not be read.
        total_bytes: u64,
        /// The piece; none if it could not be read, or behind the end.
        bytes: Bytes,
    },
    /// So much of a snapshot has been received, without gap.
    Received {
        /// The snapshot.
        snapshot: EntryId,
        /// The size of its file.
        total_bytes: u64,
        /// From its begin.
        received_bytes: u64,
    },
    /// A snapshot was received: its file is whole, verified and durable under its name, and this is
    /// the state that it holds.
    Whole(SnapshotFile, Box<Store>),
    /// What was to be distrusted is gone, with what was received whole before.
    Distrusted,
    /// A published one was found damaged.
    Rotten(EntryId),
}

/// Who wants entries read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPurpose {
    /// The leader, for this follower.
    Replicate(NodeId),
    /// The store, after a restart.
    Apply,
    /// Another member, whose disk has damaged what it asked for.
    Fetch(NodeId),
}

/// The storage thread's reports, in order.
#[derive(Debug)]
pub enum StorageEvent {
    /// Every write up to the ticket is on disk. Said again when only the room has changed.
    Durable {
        /// The newest ticket of the batch.
        ticket: Ticket,
        /// Bytes of all segments now.
        wal_bytes: u64,
        /// Room on the disk.
        disk: wire::peer::DiskState,
    },
    /// Every write's term and vote up to the ticket are on disk, or newer ones, though entries of
    /// these writes wait for room (rules E5).
    HardStateDurable(Ticket),
    /// Entries, or none if they could not be read.
    Loaded {
        /// For whom.
        purpose: LoadPurpose,
        /// The first index asked for.
        from: Index,
        /// What was read, without gap, from `from` on.
        entries: Vec<Entry>,
    },
    /// IDENTITY holds the formed record.
    Formed,
    /// The durable marker: snapshots before this one are needed no more. Said when it rises, by a
    /// [`StorageRequest::Mark`] or a write that resets the log, and in answer to a mark that is not
    /// above it.
    Marked(EntryId),
    /// The log begins behind this entry now.
    Compacted {
        /// The last entry that is gone.
        base: EntryId,
        /// Bytes of all segments now.
        wal_bytes: u64,
    },
    /// The first of the entries that are damaged in the log, by index, at most
    /// [`wire::limits::FETCH_ENTRIES_MAX`]; none: it is whole. None at or behind the first may be acknowledged or
    /// counted as durable here, whatever was reported. Said at start if there are any, when that
    /// changes, and in answer to each [`StorageRequest::Mend`].
    Faulty(Vec<Identity>),
    /// What the log held up to this index can be read no more, and nobody knows which part: the next
    /// start would find it lost, unless a snapshot covers it by then. Until then all of it is in
    /// memory or applied. Said once for each index.
    Rot {
        /// A marker at or behind this index makes up for it.
        upto: Index,
    },
    /// Everything that is written no more, of log and snapshots, was read once more.
    Scrubbed {
        /// How much that was.
        bytes: u64,
        /// Places that were found damaged.
        findings: u64,
    },
    /// The background thread reports.
    Snapshot(SnapshotEvent),
}

/// What one turn brings about, in order within each list. The driver empties it and hands it
/// back, so that its buffers are reused.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the storage thread.
    pub storage: Vec<StorageRequest>,
    /// For peers; everything that they wait for is durable.
    pub peers: Vec<(LinkId, Message)>,
    /// For clients: encoded frames in `reply_bytes`.
    pub replies: Vec<(ConnectionId, Range<usize>)>,
    /// The bytes of all replies of the turn.
    pub reply_bytes: BytesMut,
    /// Links to close, after telling the peer why.
    pub close_links: Vec<(LinkId, Error)>,
    /// Dialled links to close and dial again at once, with a new hello: what the peer said when it
    /// was last asked is out of date (rules D1). No failure, and nothing to tell the peer; the
    /// node has forgotten them already.
    pub renew_links: Vec<LinkId>,
    /// The other members and where they are, from now on: whom to dial. Links with others that this
    /// node dialled are to be closed.
    pub peers_changed: Option<Vec<(NodeId, String)>>,
    /// Stop (false) or go on (true) reading from these clients: back-pressure (rules A7).
    pub readable: Vec<(ConnectionId, bool)>,
    /// Lines for the log.
    pub events: Vec<Event>,
    /// The node has nothing left to do after [`Input::Stop`].
    pub stopped: bool,
}

impl Effects {
    /// Hands work to the background thread.
    pub(super) fn snapshot(&mut self, request: SnapshotRequest) {
        self.storage.push(StorageRequest::Snapshot(request));
    }
}

/// A line for the log: `message key=value ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How loud.
    pub level: log::Level,
    /// Stable words and fields.
    pub text: String,
}
