//! What goes into a node and what comes out. Drivers and the simulator carry these values.

use std::ops::Range;

use bytes::BytesMut;
use raft::{Instant, Ticket};
use wire::client::Request;
use wire::entry::Entry;
use wire::error::Error;
use wire::peer::Message;
use wire::types::{EntryId, Incarnation, Index, NodeId};

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
    /// A snapshot is published, and its entry is durable here: the log says so (rules E6); answered
    /// by [`StorageEvent::Marked`].
    Mark(EntryId),
    /// Entries up to here are needed no more, once a marker covers them: whole segments go, oldest
    /// first, when nothing else is to do. No answer.
    Compact(Index),
}

/// Who wants entries read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPurpose {
    /// The leader, for this follower.
    Replicate(NodeId),
    /// The store, after a restart.
    Apply,
}

/// The storage thread's reports, in order.
#[derive(Debug)]
pub enum StorageEvent {
    /// Every write up to the ticket is on disk. Said again when only the room has changed,
    /// or old segments are gone.
    Durable {
        /// The newest ticket of the batch.
        ticket: Ticket,
        /// Bytes of all segments now.
        wal_bytes: u64,
        /// Room on the disk.
        disk: wire::peer::DiskState,
    },
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
    /// Stop (false) or go on (true) reading from these clients: back-pressure (rules A7).
    pub readable: Vec<(ConnectionId, bool)>,
    /// Lines for the log.
    pub events: Vec<Event>,
    /// The node has nothing left to do after [`Input::Stop`].
    pub stopped: bool,
}

/// A line for the log: `message key=value ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How loud.
    pub level: log::Level,
    /// Stable words and fields.
    pub text: String,
}
