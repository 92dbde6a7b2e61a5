//! A session's writes, from submission to verdict: who is named how, what was sent, what is
//! certain (rules C2-C5). Does no I/O.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::command::{Command, Outcome, SessionId, Write};
use wire::error::{Class, Error as WireError};
use wire::limits::COUNTER_MAX;
use wire::types::{Epoch, Index, Term};

use super::error::{Cause, Error, Why};
use super::route::Advice;

/// Writes in flight at most.
pub const IN_FLIGHT_MAX: usize = 1024;
/// Bytes of their bodies at most; one write always fits.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Names a write for ever: its session and its number there. As text `<hex>-<n>`, where hex is
/// epoch, born and nonce as 48 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The session.
    pub session: SessionId,
    /// The number of the write in it; 1 to [`COUNTER_MAX`].
    pub seq: u64,
}

impl RequestId {
    fn assert_in_range(&self) {
        let seq = self.seq;
        assert!((1..=COUNTER_MAX).contains(&seq), "{seq} numbers no write");
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionId { epoch, born, nonce } = self.session;
        write!(
            f,
            "{:016x}{:016x}{nonce:016x}-{}",
            epoch.0, born.0, self.seq
        )
    }
}

/// The text is no request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARequestId;

impl fmt::Display for NotARequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request id is 48 hex digits, `-` and a number from 1")
    }
}

impl std::error::Error for NotARequestId {}

impl FromStr for RequestId {
    type Err = NotARequestId;

    fn from_str(text: &str) -> Result<Self, NotARequestId> {
        let (hex, seq) = text.split_once('-').ok_or(NotARequestId)?;
        let digits = |text: &str, radix| {
            let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = plain.then(|| u64::from_str_radix(text, radix).ok());
            number.flatten().ok_or(NotARequestId)
        };
        if hex.len() != 48 || !hex.is_ascii() {
            return Err(NotARequestId);
        }
        let session = SessionId {
            epoch: Epoch(digits(&hex[..16], 16)?),
            born: Index(digits(&hex[16..32], 16)?),
            nonce: digits(&hex[32..], 16)?,
        };
        match digits(seq, 10)? {
            seq @ 1..=COUNTER_MAX => Ok(Self { session, seq }),
            _ => Err(NotARequestId),
        }
    }
}

/// A write that is committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The term of its entry.
    pub term: Term,
    /// The index of its entry: the revision.
    pub revision: Index,
    /// What it did.
    pub outcome: Outcome,
}

/// Where a write stands.
#[derive(Debug)]
enum State {
    /// To be sent, or to be sent again.
    Queued,
    /// Sent under this frame id on the current connection; no answer yet.
    Sent {
        frame_id: u64,
    },
    Settled(Result<Written, Error>),
}

#[derive(Debug)]
struct Pending {
    /// The encoded write. Its session, seq and floor count once it is named.
    body: BytesMut,
    /// 0 until the write is named.
    seq: u64,
    /// A write that left earlier and got no verdict: it may be applied.
    exposed: bool,
    state: State,
}

impl Pending {
    fn is_given_up(&self) -> bool {
        matches!(self.state, State::Settled(Err(_)))
    }
}

/// The writes of one session, oldest first.
///
/// Invariants:
/// - named writes come first, with consecutive seqs that end at `next_seq - 1`;
/// - a named write keeps its bytes until it is settled, so that a retry is the same write; it
///   gets a new name only if no write in flight may have been applied under the old one, and never
///   in a session that is `kept`;
/// - a write is settled as not applied only if no attempt of it is without a verdict;
/// - no floor is above a write that was done and whose result was not taken: whoever lost the
///   result can ask for it again;
/// - nothing is sent behind a refused write before its result is taken.
#[derive(Debug)]
pub(crate) struct Session {
    id: Option<SessionId>,
    /// Somebody remembers the name: there is no going on under another.
    kept: bool,
    next_seq: u64,
    writes: VecDeque<Pending>,
    bytes: usize,
    /// A server does not know the session, or expects a write that is settled: a new one is
    /// needed once every answer is in.
    lost: bool,
    /// A refused write: those behind it fail, those that were sent as their answers come in.
    broken: Option<RequestId>,
    /// The endpoint that was asked last, for errors.
    pub(crate) place: String,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            id: None,
            kept: false,
            next_seq: 1,
            writes: VecDeque::new(),
            bytes: 0,
            lost: false,
            broken: None,
            place: String::new(),
        }
    }

    /// A session that only tells what became of `request`: it may have been applied.
    pub(crate) fn resuming(request: RequestId, command: Command<'_>) -> Self {
        request.assert_in_range();
        let mut session = Self::new();
        session.id = Some(request.session);
        session.next_seq = request.seq + 1;
        let mut body = BytesMut::new();
        let write = Write {
            session: request.session,
            seq: request.seq,
            floor: request.seq,
            command,
        };
        write.encode_body(&mut body);
        session.bytes = body.len();
        session.writes.push_back(Pending {
            body,
            seq: request.seq,
            exposed: true,
            state: State::Queued,
        });
        session
    }

    /// A session whose next write has this name, for good.
    pub(crate) fn kept(next: RequestId) -> Self {
        next.assert_in_range();
        let mut session = Self::new();
        session.id = Some(next.session);
        session.kept = true;
        session.next_seq = next.seq;
        session
    }

    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Queues a write; `exposed` if it may have been sent before, under the name that it will get.
    pub(crate) fn submit(&mut self, command: Command<'_>, exposed: bool) -> Result<(), Error> {
        let mut body = BytesMut::new();
        let write = Write {
            session: SessionId {
                epoch: Epoch(0),
                born: Index(0),
                nonce: 0,
            },
            seq: 1,
            floor: 1,
            command,
        };
        write.encode_body(&mut body);
        let full =
            self.writes.len() >= IN_FLIGHT_MAX || self.bytes + body.len() > IN_FLIGHT_BYTES_MAX;
        if full && !self.writes.is_empty() {
            let in_flight = self.writes.len();
            return Err(Error::Full { in_flight });
        }
        self.bytes += body.len();
        self.writes.push_back(Pending {
            body,
            seq: 0,
            exposed,
            state: State::Queued,
        });
        if let Some(id) = self.id.filter(|_| self.kept) {
            // Now, for whoever remembers the name: as of now a floor is not above what that one has
            // written down, and an error names the write.
            self.name_as(id);
        }
        self.fail_broken();
        Ok(())
    }

    /// Takes the oldest write's result, if it is known.
    pub(crate) fn take_settled(&mut self) -> Option<Result<Written, Error>> {
        if !matches!(self.writes.front()?.state, State::Settled(_)) {
            return None;
        }
        let write = self.writes.pop_front()?;
        self.bytes -= write.body.len();
        match write.state {
            State::Settled(result) => Some(result),
            State::Queued | State::Sent { .. } => None,
        }
    }

    /// Whether an answer is awaited on the current connection.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.writes
            .iter()
            .any(|write| matches!(write.state, State::Sent { .. }))
    }

    /// Whether a write waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.writes
            .iter()
            .any(|write| matches!(write.state, State::Queued))
    }

    /// Whether nothing may be sent until every answer is in.
    pub(crate) fn is_draining(&self) -> bool {
        (self.lost || self.broken.is_some()) && self.is_awaiting()
    }

    /// Whether a write in flight may have been applied.
    pub(crate) fn is_exposed(&self) -> bool {
        self.unsettled().any(|write| write.exposed)
    }

    fn unsettled(&self) -> impl Iterator<Item = &Pending> {
        self.writes
            .iter()
            .filter(|write| !matches!(write.state, State::Settled(_)))
    }

    /// Names every unnamed write; `born` makes a session if there is none.
    pub(crate) fn name_writes(&mut self, born: impl FnOnce() -> SessionId) {
        assert!(!self.is_draining(), "a write was named behind a failed one");
        self.broken = self.untold();
        if self.lost && self.kept {
            self.abandon(&Why::Server(WireError::SessionExpired));
        } else if self.lost {
            self.forget();
        }
        let id = *self.id.get_or_insert_with(born);
        self.name_as(id);
    }

    fn name_as(&mut self, id: SessionId) {
        let first_open = self.writes.iter().find(|write| !write.is_given_up());
        let floor = match first_open {
            Some(write) if write.seq > 0 => write.seq,
            _ => self.next_seq,
        };
        for write in self.writes.iter_mut().filter(|write| write.seq == 0) {
            if matches!(write.state, State::Settled(_)) {
                continue;
            }
            write.seq = self.next_seq;
            self.next_seq += 1;
            let old = write.body.split();
            let decoded = Write::decode_body(&old).expect("this program encoded it");
            let named = Write {
                session: id,
                seq: write.seq,
                floor,
                command: decoded.command,
            };
            named.encode_body(&mut write.body);
            assert_eq!(
                old.len(),
                write.body.len(),
                "a name changes no body's length"
            );
        }
    }

    /// Gives up the session's name. Writes that may have been applied under it, and those behind
    /// them, are settled; the others get a new name.
    fn forget(&mut self) {
        if self.is_exposed() {
            self.abandon(&Why::Server(WireError::SessionExpired));
        }
        self.id = None;
        self.next_seq = 1;
        self.lost = false;
        let open = self.writes.iter_mut().filter(|write| !write.is_given_up());
        open.for_each(|write| write.seq = 0);
    }

    /// Encodes up to `bytes_max` of queued writes into `out`, oldest first, one at least. The
    /// returned list says where each frame begins in `out`.
    pub(crate) fn encode(
        &mut self,
        out: &mut BytesMut,
        next_frame_id: &mut u64,
        deadline_ms: u32,
        bytes_max: usize,
    ) -> Vec<(u64, usize)> {
        let mut starts = Vec::new();
        for write in &mut self.writes {
            if !matches!(write.state, State::Queued) {
                continue;
            }
            if !starts.is_empty() && out.len() + write.body.len() > bytes_max {
                break;
            }
            let frame_id = *next_frame_id;
            *next_frame_id += 1;
            starts.push((frame_id, out.len()));
            let decoded = Write::decode_body(&write.body).expect("this program encoded it");
            let request = Request::Write {
                deadline_ms,
                write: decoded,
                body: &write.body,
            };
            request.encode(frame_id, out);
            write.state = State::Sent { frame_id };
        }
        starts
    }

    /// The connection took only some of the frames: those in `frame_ids` never left.
    pub(crate) fn unsend(&mut self, frame_ids: &[u64]) {
        for write in &mut self.writes {
            if let State::Sent { frame_id } = write.state
                && frame_ids.contains(&frame_id)
            {
                write.state = State::Queued;
            }
        }
    }

    /// The connection is gone: what was sent on it has no verdict.
    pub(crate) fn connection_lost(&mut self) {
        for write in &mut self.writes {
            if matches!(write.state, State::Sent { .. }) {
                write.exposed = true;
                write.state = State::Queued;
            }
        }
        self.fail_broken();
    }

    /// Takes an answer; `None` if it is to none of these writes.
    pub(crate) fn take_reply(&mut self, frame_id: u64, reply: &Reply<'_>) -> Option<Advice> {
        let position = self.writes.iter().position(
            |write| matches!(write.state, State::Sent { frame_id: sent } if sent == frame_id),
        )?;
        match reply {
            Reply::Written {
                term,
                index,
                outcome,
            } => {
                self.writes[position].state = State::Settled(Ok(Written {
                    term: *term,
                    revision: *index,
                    outcome: outcome.clone(),
                }));
                Some(Advice::Done)
            }
            Reply::Error(error) => Some(self.take_error(position, error)),
            Reply::Value { .. }
            | Reply::Missing { .. }
            | Reply::Page { .. }
            | Reply::Status(_)
            | Reply::SnapshotPiece { .. }
            | Reply::MembersChanged(_)
            | Reply::Admitted(_)
            | Reply::LeaderTransferred { .. }
            | Reply::LeaderChanges(_)
            | Reply::Moved { .. } => Some(Advice::Protocol("a write was answered like a read")),
        }
    }

    fn take_error(&mut self, position: usize, error: &WireError) -> Advice {
        let write = &mut self.writes[position];
        write.state = State::Queued;
        match error {
            WireError::OutOfOrder { expected } => {
                let expected = *expected;
                let refused = self.broken.is_some_and(|refused| refused.seq == expected);
                let known = self.unsettled().any(|write| write.seq == expected);
                self.lost |= !known && !refused;
            }
            WireError::SessionExpired => self.lost = true,
            other => write.exposed |= other.class() == Class::Unknown,
        }
        let advice = Advice::of(error);
        if advice == Advice::Refused {
            self.refuse(position, error);
        }
        self.fail_broken();
        advice
    }

    /// The refused write, if its result was not taken.
    fn untold(&self) -> Option<RequestId> {
        let is_there = |refused: &RequestId| self.writes.iter().any(|w| w.seq == refused.seq);
        self.broken.filter(is_there)
    }

    /// Fails what is behind a refused write and awaits no answer: writes are done in order. One
    /// without a name is behind it unless whoever made it knew of the refusal.
    fn fail_broken(&mut self) {
        let Some(refused) = self.broken else { return };
        let is_untold = self.untold().is_some();
        for position in 0..self.writes.len() {
            let write = &self.writes[position];
            let is_behind = write.seq > refused.seq || (write.seq == 0 && is_untold);
            if matches!(write.state, State::Queued) && is_behind {
                self.fail(position, &Why::Behind(refused));
            }
        }
    }

    /// Settles a write that cannot work.
    fn refuse(&mut self, position: usize, error: &WireError) {
        let place = self.place.clone();
        let refused = self.request_id(position);
        // A retry that is refused says nothing of the attempt before it, except that an id given
        // for another command names a write of the past for certain.
        let unclear = self.writes[position].exposed && *error != WireError::IdReused;
        self.writes[position].state = State::Settled(Err(if unclear {
            Error::Unknown {
                request: refused,
                why: Why::Server(error.clone()),
                place,
            }
        } else {
            Error::Refused {
                error: error.clone(),
                place,
            }
        }));
        self.broken.get_or_insert(refused);
    }

    /// Settles every write: no more is done about them. The next write raises the floor past
    /// them (rules C2).
    pub(crate) fn abandon(&mut self, why: &Why) {
        for position in 0..self.writes.len() {
            self.fail(position, why);
        }
    }

    /// Like [`Session::abandon`], for a call that reached nobody.
    pub(crate) fn abandon_unreachable(&mut self, causes: &[Cause]) {
        let place: Vec<_> = causes.iter().map(ToString::to_string).collect();
        self.place = place.join("; ");
        for write in &mut self.writes {
            if matches!(write.state, State::Queued) && !write.exposed {
                let causes = causes.to_vec();
                write.state = State::Settled(Err(Error::Unreachable { causes }));
            }
        }
        self.abandon(&Why::Connection("no endpoint answered".into()));
    }

    fn fail(&mut self, position: usize, why: &Why) {
        let request = self.request_id(position);
        let place = self.place.clone();
        let why = why.clone();
        let write = &mut self.writes[position];
        let sent = match write.state {
            State::Settled(_) => return,
            State::Sent { .. } => true,
            State::Queued => false,
        };
        write.state = State::Settled(Err(if sent || write.exposed {
            Error::Unknown {
                request,
                why,
                place,
            }
        } else {
            Error::NotApplied { why, place }
        }));
    }

    /// Of a write that was named; an unnamed one was never sent, by nobody, and needs no id.
    fn request_id(&self, position: usize) -> RequestId {
        RequestId {
            session: self.id.unwrap_or(SessionId {
                epoch: Epoch(0),
                born: Index(0),
                nonce: 0,
            }),
            seq: self.writes[position].seq,
        }
    }
}
