//! What can become of a call, sorted by what the caller may do next.

use std::fmt;

use super::RequestId;

/// Why a call did not succeed. The variant says what the caller may do; [`Why`] and the texts
/// are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No endpoint completed the hello; nothing was sent.
    Unreachable {
        /// What happened at each endpoint.
        causes: Vec<Cause>,
    },
    /// A read failed, or a write was certainly not applied: trying again is safe.
    NotApplied {
        /// Why.
        why: Why,
        /// The endpoint that was asked last; empty if none.
        place: String,
    },
    /// Bytes of a write left and no verdict came before the deadline: it may or may not be
    /// applied. [`super::Client::resume`] with the same command tells, as long as nothing was
    /// written behind it (rules C2) and the cluster knows its session ([`Why::is_forgotten`]).
    Unknown {
        /// Names the write.
        request: RequestId,
        /// Why.
        why: Why,
        /// The endpoint that was asked last; empty if none.
        place: String,
    },
    /// A change of the members, or a hand-over, left and no verdict came: it may or may not be done.
    /// Nothing names it; who the members are, and who leads, tells.
    Open {
        /// Why.
        why: Why,
        /// The endpoint that was asked last.
        place: String,
    },
    /// The request was refused and had no effect: it cannot work as it is, or before somebody has
    /// done something about it (`DiskFull`).
    Refused {
        /// The refusal.
        error: wire::error::Error,
        /// The endpoint that refused; empty if the client did.
        place: String,
    },
    /// As many writes, or gets, as allowed are in flight: wait for one first.
    Full {
        /// How many are in flight.
        in_flight: usize,
    },
}

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The deadline passed and nobody answered.
    Deadline,
    /// A server said so.
    Server(wire::error::Error),
    /// The connection failed, or could not be made.
    Connection(String),
    /// The caller's cancel flag was raised.
    Cancelled,
    /// An earlier write of the session failed: writes of a session are done in order.
    Behind(RequestId),
}

impl Why {
    /// Whether the cluster does not know the write's session, or no more: what became of it cannot be
    /// asked.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        use wire::error::Error as E;
        matches!(
            self,
            Self::Server(E::Stale | E::SessionExpired | E::WrongEpoch)
        )
    }

    /// A stable name for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Server(error) => error.name(),
            Self::Connection(_) => "connection",
            Self::Cancelled => "cancelled",
            Self::Behind(_) => "behind",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("no answer before the deadline"),
            Self::Server(error) => error.fmt(f),
            Self::Connection(text) => f.write_str(text),
            Self::Cancelled => f.write_str("interrupted"),
            Self::Behind(request) => write!(f, "the write before it failed ({request})"),
        }
    }
}

/// What happened at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `HOST:PORT`.
    pub endpoint: String,
    /// What went wrong there.
    pub text: String,
    /// Whether it only took too long.
    pub timed_out: bool,
}

impl Cause {
    /// Why a client of one endpoint did not succeed.
    pub(super) fn of(endpoint: &str, error: Error) -> Self {
        match error {
            Error::Unreachable { mut causes } if causes.len() == 1 => causes.remove(0),
            error => Self {
                endpoint: endpoint.into(),
                text: error.to_string(),
                timed_out: false,
            },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.text)
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { causes } => {
                f.write_str("no endpoint answered")?;
                causes.iter().try_for_each(|cause| write!(f, "; {cause}"))
            }
            Self::NotApplied { why, .. } => write!(f, "not applied: {why}"),
            Self::Unknown { request, why, .. } => {
                write!(f, "the outcome is unknown: {why} (request {request})")
            }
            Self::Open { why, .. } => write!(f, "the outcome is unknown: {why}"),
            Self::Refused { error, .. } => write!(f, "refused: {error}"),
            Self::Full { in_flight } => write!(f, "{in_flight} are in flight already"),
        }
    }
}

impl std::error::Error for Error {}
