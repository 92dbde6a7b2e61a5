//! Every way to say no, with what a program and a person need to go on.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use bytes::{BufMut, BytesMut};

mod lag;

pub use crate::error::lag::Lag;

use crate::buf::{Reader, malformed, put_text};
use crate::frame::{self, Frame, Kind};
use crate::hello::LeaderHint;
use crate::limits::TEXT_BYTES_MAX;

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

impl Class {
    /// Its word in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
            Self::Final => "final",
        }
    }

    /// Its code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::NotApplied => 1,
            Self::Unknown => 2,
            Self::Final => 3,
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::NotApplied),
            2 => Ok(Self::Unknown),
            3 => Ok(Self::Final),
            _ => Err(malformed("the class of an error is not known")),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
    /// The disks of fewer than a quorum have the room that this write needs (rules E5).
    DiskFull {
        /// They are past their hard mark: no segment of the log can be made, and deletes are refused
        /// as well. Else they are past the soft one: what removes keys is taken, so that there is a
        /// way out.
        hard: bool,
    },
    /// The session is not known any more (rules C3). Not applied on the first send, unknown on a
    /// retry: the client knows which.
    SessionExpired,
    /// An earlier write of the session is missing: go back to `expected` (rules C2).
    OutOfOrder {
        /// The seq that would be taken.
        expected: u64,
    },
    /// Leadership was lost after the write was appended; or the time for a hand-over passed while it
    /// was under way.
    OutcomeUnknown,
    /// The seq was given up, or its reply is no longer kept (rules C2).
    Stale,
    /// The seq was used for another command.
    IdReused,
    /// `born` is not in the past (rules C3).
    BornInFuture,
    /// Something is over its limit.
    TooLarge {
        /// What: `key`, `value`, `entry`, `frame`, ..; with its unit if that is not bytes: `txn, in
        /// operations`.
        what: String,
        /// The limit.
        limit: u64,
        /// What was sent.
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
    /// The node's state is missing, or not what a quorum holds; it is being rebuilt (rules D5).
    StateInDoubt,
    /// What was asked for would harm the cluster, or cannot be: members, or who leads, stay as they
    /// are.
    Refused {
        /// Why.
        reason: String,
        /// What would help; may be empty.
        advice: String,
    },
    /// The caller was a member once, and is none any more.
    Removed,
    /// The node's state is not as fresh as the read must see, and it does not get there in time.
    Lagging(Box<Lag>),
    /// The view is not there, or no more: it got too old, was not used for too long, or belongs to
    /// another connection. Begin anew.
    ViewGone,
    /// An error that this version does not know; the class says how to go on.
    Unknown {
        /// Its code.
        code: u16,
        /// Its class.
        class: Class,
        /// What the sender tells a person.
        text: String,
    },
}

impl Error {
    /// Its number on the wire; never given to another error.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::NotLeader { .. } => 1,
            Self::NoLeader => 2,
            Self::DeadlineExpired => 3,
            Self::Overloaded { .. } => 4,
            Self::TooManyConnections { .. } => 5,
            Self::ShuttingDown => 6,
            Self::DiskFull { .. } => 7,
            Self::SessionExpired => 8,
            Self::OutOfOrder { .. } => 9,
            Self::OutcomeUnknown => 10,
            Self::Stale => 11,
            Self::IdReused => 12,
            Self::BornInFuture => 13,
            Self::TooLarge { .. } => 14,
            Self::Malformed { .. } => 15,
            Self::UnknownKind { .. } => 16,
            Self::UnknownFlags { .. } => 17,
            Self::UnsupportedVersion { .. } => 18,
            Self::WrongCluster { .. } => 19,
            Self::WrongEpoch => 20,
            Self::WrongNode { .. } => 21,
            Self::WrongIncarnation { .. } => 22,
            Self::Divergence { .. } => 23,
            Self::StateInDoubt => 24,
            Self::Refused { .. } => 25,
            Self::Removed => 26,
            Self::Lagging(_) => 27,
            Self::ViewGone => 28,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// What it says of the request's effect. `SessionExpired` is `Unknown` here, since the server
    /// cannot tell a first send, where it would be `NotApplied`, from a retry.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotLeader { .. }
            | Self::NoLeader
            | Self::DeadlineExpired
            | Self::Overloaded { .. }
            | Self::TooManyConnections { .. }
            | Self::ShuttingDown
            | Self::DiskFull { .. }
            | Self::StateInDoubt
            | Self::Lagging(_)
            | Self::OutOfOrder { .. } => Class::NotApplied,
            Self::SessionExpired | Self::OutcomeUnknown => Class::Unknown,
            Self::Stale
            | Self::IdReused
            | Self::BornInFuture
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::UnknownKind { .. }
            | Self::UnknownFlags { .. }
            | Self::UnsupportedVersion { .. }
            | Self::WrongCluster { .. }
            | Self::WrongEpoch
            | Self::WrongNode { .. }
            | Self::WrongIncarnation { .. }
            | Self::Divergence { .. }
            | Self::Refused { .. }
            | Self::Removed
            | Self::ViewGone => Class::Final,
            Self::Unknown { class, .. } => *class,
        }
    }

    /// Its word in outputs; `unknown` for an error that this version does not know.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLeader { .. } => "not-leader",
            Self::NoLeader => "no-leader",
            Self::DeadlineExpired => "deadline-expired",
            Self::Overloaded { .. } => "overloaded",
            Self::TooManyConnections { .. } => "too-many-connections",
            Self::ShuttingDown => "shutting-down",
            Self::DiskFull { .. } => "disk-full",
            Self::SessionExpired => "session-expired",
            Self::OutOfOrder { .. } => "out-of-order",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Stale => "stale",
            Self::IdReused => "id-reused",
            Self::BornInFuture => "born-in-future",
            Self::TooLarge { .. } => "too-large",
            Self::Malformed { .. } => "malformed",
            Self::UnknownKind { .. } => "unknown-kind",
            Self::UnknownFlags { .. } => "unknown-flags",
            Self::UnsupportedVersion { .. } => "unsupported-version",
            Self::WrongCluster { .. } => "wrong-cluster",
            Self::WrongEpoch => "wrong-epoch",
            Self::WrongNode { .. } => "wrong-node",
            Self::WrongIncarnation { .. } => "wrong-incarnation",
            Self::Divergence { .. } => "divergence",
            Self::StateInDoubt => "state-in-doubt",
            Self::Refused { .. } => "refused",
            Self::Removed => "removed",
            Self::Lagging(_) => "lagging",
            Self::ViewGone => "view-gone",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Appends it to `out` as a frame that refuses the request `request_id`; with 0, the
    /// connection. Texts are cut at [`TEXT_BYTES_MAX`].
    pub fn encode(&self, request_id: u64, out: &mut BytesMut) {
        let start = frame::begin(out, Kind::Error, request_id);
        self.encode_payload(out);
        frame::finish(out, start);
    }

    pub(crate) fn encode_payload(&self, out: &mut BytesMut) {
        out.put_u16(self.code());
        out.put_u8(self.class().code());
        match self {
            Self::NoLeader
            | Self::DeadlineExpired
            | Self::ShuttingDown
            | Self::SessionExpired
            | Self::OutcomeUnknown
            | Self::Stale
            | Self::IdReused
            | Self::BornInFuture
            | Self::WrongEpoch
            | Self::StateInDoubt
            | Self::Removed
            | Self::ViewGone => {}
            Self::NotLeader { leader } => leader.encode(out),
            Self::DiskFull { hard } => out.put_u8(u8::from(*hard)),
            Self::Overloaded { retry_after_ms } => out.put_u32(*retry_after_ms),
            Self::TooManyConnections { limit } => out.put_u64(*limit),
            Self::OutOfOrder { expected } => out.put_u64(*expected),
            Self::TooLarge {
                what,
                limit,
                actual,
            } => {
                put_text(out, what, TEXT_BYTES_MAX);
                out.put_u64(*limit);
                out.put_u64(*actual);
            }
            Self::Refused { reason, advice } => {
                put_text(out, reason, TEXT_BYTES_MAX);
                put_text(out, advice, TEXT_BYTES_MAX);
            }
            Self::Lagging(lag) => lag.encode(out),
            Self::UnknownKind { kind } => out.put_u8(*kind),
            Self::UnknownFlags { flags } => out.put_u16(*flags),
            Self::UnsupportedVersion { min, max } => {
                out.put_u8(*min);
                out.put_u8(*max);
            }
            Self::Malformed { reason: text }
            | Self::WrongCluster { cluster: text }
            | Self::WrongNode { reason: text }
            | Self::WrongIncarnation { reason: text }
            | Self::Divergence { reason: text }
            | Self::Unknown { text, .. } => put_text(out, text, TEXT_BYTES_MAX),
        }
    }

    /// Reads a frame of kind `Error`, from whatever link it came.
    ///
    /// The details of every code that this version does not know begin with a text, by which a
    /// later version explains itself to this one; what follows the text is passed over.
    ///
    /// # Errors
    /// `Malformed` if the frame is none, or carries a known code with another class;
    /// `TooLarge` for a text.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Error> {
        if frame.kind != Kind::Error {
            return Err(malformed("the frame is not an error"));
        }
        let mut reader = Reader::new(frame.payload);
        let code = reader.u16()?;
        let class = Class::decode(&mut reader)?;
        let Some(error) = Self::decode_known(code, &mut reader)? else {
            return Ok(Self::Unknown {
                code,
                class,
                text: text(&mut reader)?,
            });
        };
        reader.finish()?;
        if error.class() != class {
            return Err(malformed("an error's class is not the one of its code"));
        }
        Ok(error)
    }

    /// `None`: a code that this version does not know.
    fn decode_known(code: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        Ok(Some(match code {
            1 => Self::NotLeader {
                leader: LeaderHint::decode(reader)?,
            },
            2 => Self::NoLeader,
            3 => Self::DeadlineExpired,
            4 => Self::Overloaded {
                retry_after_ms: reader.u32()?,
            },
            5 => Self::TooManyConnections {
                limit: reader.u64()?,
            },
            6 => Self::ShuttingDown,
            7 => Self::DiskFull {
                hard: reader.flag()?,
            },
            8 => Self::SessionExpired,
            9 => Self::OutOfOrder {
                expected: reader.counter()?,
            },
            10 => Self::OutcomeUnknown,
            11 => Self::Stale,
            12 => Self::IdReused,
            13 => Self::BornInFuture,
            14 => Self::TooLarge {
                what: text(reader)?,
                limit: reader.u64()?,
                actual: reader.u64()?,
            },
            15 => Self::Malformed {
                reason: text(reader)?,
            },
            16 => Self::UnknownKind { kind: reader.u8()? },
            17 => Self::UnknownFlags {
                flags: reader.u16()?,
            },
            18 => Self::UnsupportedVersion {
                min: reader.u8()?,
                max: reader.u8()?,
            },
            19 => Self::WrongCluster {
                cluster: text(reader)?,
            },
            20 => Self::WrongEpoch,
            21 => Self::WrongNode {
                reason: text(reader)?,
            },
            22 => Self::WrongIncarnation {
                reason: text(reader)?,
            },
            23 => Self::Divergence {
                reason: text(reader)?,
            },
            24 => Self::StateInDoubt,
            25 => Self::Refused {
                reason: text(reader)?,
                advice: text(reader)?,
            },
            26 => Self::Removed,
            27 => Self::Lagging(Box::new(Lag::decode(reader)?)),
            28 => Self::ViewGone,
            _ => return Ok(None),
        }))
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, Error> {
    reader.text("text", TEXT_BYTES_MAX)
}

const DISK_SOFT: &str = "too few disks have more left than wal.soft_free_bytes and the next snapshot \
                         need: only deletes are taken";
const DISK_HARD: &str = "too few disks have room for another segment of the log";
const VIEW_GONE: &str = "the state that the pages before are of is not kept any more: it is too old, \
                         was not used for too long, or its connection is gone";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader } if leader.client_addr.is_empty() => {
                write!(f, "node {} is the leader", leader.node)
            }
            Self::NotLeader { leader } => {
                write!(
                    f,
                    "node {} at {} is the leader",
                    leader.node, leader.client_addr
                )
            }
            Self::NoLeader => f.write_str("no leader was found in time"),
            Self::DeadlineExpired => f.write_str("the deadline passed before it was done"),
            Self::Overloaded { retry_after_ms } => {
                write!(
                    f,
                    "the node is overloaded; try again in {retry_after_ms} ms"
                )
            }
            Self::TooManyConnections { limit } => {
                write!(f, "the node has its limit of {limit} connections")
            }
            Self::ShuttingDown => f.write_str("the node is stopping"),
            Self::DiskFull { hard: false } => f.write_str(DISK_SOFT),
            Self::DiskFull { hard: true } => f.write_str(DISK_HARD),
            Self::StateInDoubt => f.write_str("the node's state is in doubt: it is being rebuilt"),
            Self::SessionExpired => f.write_str("the session is not known any more"),
            Self::OutOfOrder { expected } => {
                write!(
                    f,
                    "an earlier write of the session is missing: {expected} is next"
                )
            }
            Self::OutcomeUnknown => f.write_str("it was begun, and may or may not take effect"),
            Self::Stale => {
                f.write_str("the request id was given up, or its outcome is no longer kept")
            }
            Self::IdReused => f.write_str("the request id was used for another command"),
            Self::BornInFuture => f.write_str("the session claims to begin in the future"),
            Self::TooLarge {
                what,
                limit,
                actual,
            } => {
                let (what, unit) = what.split_once(", in ").unwrap_or((what, "bytes"));
                write!(
                    f,
                    "{what} of {actual} {unit} is over the limit of {limit} {unit}"
                )
            }
            Self::Malformed { reason } => write!(f, "not understood: {reason}"),
            Self::UnknownKind { kind } => write!(f, "frames of kind {kind:#04x} are not known"),
            Self::UnknownFlags { flags } => write!(f, "the flags {flags:#06x} are not known"),
            Self::UnsupportedVersion { min, max } => {
                write!(f, "only protocol versions {min} to {max} are spoken")
            }
            Self::WrongCluster { cluster } => write!(f, "this is cluster {cluster}"),
            Self::WrongEpoch => f.write_str("the cluster's data has another history (epoch)"),
            Self::Removed => f.write_str("the node was removed from the cluster"),
            Self::Lagging(lag) => lag.fmt(f),
            Self::ViewGone => f.write_str(VIEW_GONE),
            Self::WrongNode { reason }
            | Self::WrongIncarnation { reason }
            | Self::Divergence { reason }
            | Self::Refused { reason, .. } => f.write_str(reason),
            Self::Unknown { code, text, .. } => write!(f, "error {code}: {text}"),
        }
    }
}

impl core::error::Error for Error {}
