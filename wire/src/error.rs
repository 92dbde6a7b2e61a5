//! Every way to say no, with what a program and a person need to go on.

use alloc::string::String;

use crate::hello::LeaderHint;

/// What an error says of the request's effect (rules C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It was never appended: trying again is safe.
    NotApplied,
    /// It may or may not take effect; the same id retried tells.
    Unknown,
    /// Trying again cannot help.
    Final,
}

/// A refusal. On the wire: code, class (so that a reader who does not know the code can still
/// act), details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Ask the leader.
    NotLeader {
        /// Where it is.
        leader: LeaderHint,
    },
    /// No leader was found before the deadline.
    NoLeader,
    /// The deadline passed before the write was appended, or the read was answered.
    DeadlineExpired,
    /// A bounded queue is full.
    Overloaded {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// Too many connections.
    TooManyConnections {
        /// How many may be open.
        limit: u64,
    },
    /// The node is stopping.
    ShuttingDown,
    /// The disks of a quorum are full.
    DiskFull,
    /// The session is not known any more (rules C3). Not applied on the first send, unknown on a
    /// retry: the client knows which.
    SessionExpired,
    /// An earlier write of the session is missing: go back to `expected` (rules C2).
    OutOfOrder {
        /// The seq that would be taken.
        expected: u64,
    },
    /// Leadership was lost after the write was appended.
    OutcomeUnknown,
    /// The seq was given up, or its reply is no longer kept (rules C2).
    Stale,
    /// The seq was used for another command.
    IdReused,
    /// `born` is not in the past (rules C3).
    BornInFuture,
    /// Something is over its limit.
    TooLarge {
        /// What: `key`, `value`, `frame`, `entry`.
        what: String,
        /// The limit, in bytes.
        limit: u64,
        /// What was sent, in bytes.
        actual: u64,
    },
    /// The frame or message cannot be understood.
    Malformed {
        /// How.
        reason: String,
    },
    /// The frame's kind is not known.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// The frame has flags that are not known.
    UnknownFlags {
        /// The flags.
        flags: u16,
    },
    /// No protocol version is known to both ends.
    UnsupportedVersion {
        /// The oldest that this node speaks.
        min: u8,
        /// The newest that this node speaks.
        max: u8,
    },
    /// The caller means another cluster.
    WrongCluster {
        /// This one, as hex.
        cluster: String,
    },
    /// The caller means another history of the data.
    WrongEpoch,
    /// The caller is no member, or meant another node.
    WrongNode {
        /// What does not fit.
        reason: String,
    },
    /// The caller's id belongs to another incarnation: it must be replaced (rules D1).
    WrongIncarnation {
        /// What does not fit, and what to do.
        reason: String,
    },
    /// A peer asked to truncate committed entries (rules A6).
    Divergence {
        /// What does not fit.
        reason: String,
    },
}
