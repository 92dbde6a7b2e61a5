//! From sockets to the node: reading, the handshakes, and closing.

use std::mem;
use std::net::Shutdown;

use bytes::Bytes;
use wire::client::Request;
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, Role, Welcome};
use wire::peer::Message;
use wire::types::NodeId;

use super::Port;
use super::connection::{Phase, Received, holds_frame};
use super::event_loop::{Driver, Notice};
use crate::node::io::{ConnectionId, Input, Knowledge, LinkId};

/// Reads of clients in one turn.
const CLIENT_READS_MAX: usize = 64;
/// Bytes of clients parsed in one turn, but for the last read.
const CLIENT_BYTES_MAX: usize = 1 << 20;
/// With this many bytes of replies at hand, a turn takes no further requests.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// TCP sends what is longer in segments of so many bytes at least, unless told otherwise (RFC 9293,
/// 3.7.1). So a smaller read seldom is from the middle of a frame: it may be a frame of its own, taken
/// in by one in front whose length was damaged. Large frames do not pay for the look.
const SEGMENT_BYTES_MIN: usize = 536;
/// Refused connections of a port that may linger until the other end has read why. They come on top of
/// the port's limit, and hold descriptors.
const LEAVING_MAX: usize = 16;

impl Driver {
    /// Reads every ready peer and every ready newcomer once: whoever has said hello is not pushed out.
    pub(super) fn read_first(&mut self) {
        for _ in 0..self.ready_first.len() {
            if let Some(id) = self.ready_first.pop_front() {
                self.serve(id);
            }
        }
    }

    /// Reads ready clients in turn, as far as the turn's budget goes.
    pub(super) fn read_clients(&mut self) {
        let (mut reads, mut bytes) = (0, 0);
        while reads < CLIENT_READS_MAX
            && bytes < CLIENT_BYTES_MAX
            && self.effects.reply_bytes.len() < REPLY_BYTES_MAX
            && let Some(id) = self.ready_clients.pop_front()
        {
            bytes += self.serve(id);
            reads += 1;
        }
    }

    /// Puts a connection into the queue of those to be read.
    pub(super) fn enqueue(&mut self, id: u64) {
        let Some(connection) = self.table.get(id) else {
            return;
        };
        if mem::replace(&mut connection.queued, true) {
            return;
        }
        match (connection.port, connection.phase) {
            (Port::Peer, _) | (_, Phase::Newcomer) => self.ready_first.push_back(id),
            (Port::Client, _) => self.ready_clients.push_back(id),
        }
    }

    /// One read of one connection, and the frames that it completes. Says how many bytes it took.
    fn serve(&mut self, id: u64) -> usize {
        let Some(connection) = self.table.get(id) else {
            return 0;
        };
        connection.queued = false;
        match connection.phase {
            Phase::Connecting(peer) => {
                self.finish_connect(id, peer);
                return 0;
            }
            Phase::Leaving(_) => return self.discard(id),
            // What ends the pause puts it back into the queue.
            _ if !connection.may_read() => return 0,
            _ => {}
        }
        let mut buffer = self.table.take_input(id);
        let own = !buffer.is_empty();
        if !own {
            buffer = mem::take(&mut self.read_buffer);
            buffer.clear();
        }
        let before = buffer.len();
        let received = match self.table.get(id) {
            Some(connection) if connection.readable && !holds_frame(&buffer) => {
                connection.receive(&mut buffer)
            }
            _ => Ok(Received::Open),
        };
        let came = buffer.len() - before;
        let (used, rest) = match own {
            true => self.parse_own(id, buffer),
            false => {
                let used = self.parse(id, &buffer, None);
                let rest = self.own_buffer(id, &buffer[used..]);
                self.read_buffer = buffer;
                (used, rest)
            }
        };
        match received {
            Ok(Received::Open) => {}
            Ok(Received::Closed) => self.close(id, true, "closed by the other end"),
            Err(error) => self.close_failed(id, &error),
        }
        self.hold(id, rest, used, came);
        came.max(used)
    }

    /// Takes whole frames off a buffer that is the connection's own, where what a message carries may
    /// stay. Says how many bytes they were, and what is left.
    fn parse_own(&mut self, id: u64, mut buffer: Vec<u8>) -> (usize, Vec<u8>) {
        if holds_frame(&buffer) {
            let buffer = Bytes::from(buffer);
            let used = self.parse(id, &buffer, Some(&buffer));
            return (used, buffer[used..].to_vec());
        }
        let used = self.parse(id, &buffer, None);
        buffer.drain(..used);
        (used, buffer)
    }

    /// The beginning of a frame, in a buffer of its own. From a member there is room for all of it,
    /// and for nothing else: large ones are neither moved as they grow nor copied out.
    fn own_buffer(&mut self, id: u64, rest: &[u8]) -> Vec<u8> {
        let mut bytes = rest.len();
        if let Some(connection) = self.table.get(id)
            && matches!(connection.phase, Phase::Link { .. })
            && !rest.is_empty()
        {
            bytes = bytes.max(frame::wanted(rest));
        }
        let mut own = Vec::with_capacity(bytes);
        own.extend_from_slice(rest);
        own
    }

    /// Keeps what was read but not taken: the beginning of a frame, or, after a pause, frames. A
    /// member's frame is given time as long as it comes: over a slow link a large one takes long, and
    /// closing it would only have it begun again.
    fn hold(&mut self, id: u64, rest: Vec<u8>, used: usize, came: usize) {
        let now = self.now.monotonic;
        let Some(connection) = self.table.get(id) else {
            return;
        };
        match connection.phase {
            Phase::Leaving(_) => return,
            Phase::Link { .. } if came < SEGMENT_BYTES_MIN => {
                if let Err(error) = Message::check_beginning(&rest) {
                    return self.refuse(id, &error, 0);
                }
            }
            _ => {}
        }
        // Not looked at yet: the hello before it, or what a turn may reply, ended the look.
        let unseen = !matches!(frame::parse(&rest, connection.frame_bytes_max()), Ok(None));
        let progress = used > 0 || (connection.port == Port::Peer && came > 0);
        connection.frame_since = match rest.is_empty() || unseen || !connection.may_read() {
            true => None,
            false if progress => Some(now),
            false => connection.frame_since.or(Some(now)),
        };
        let go_on = connection.may_read() && (connection.readable || unseen);
        if !rest.is_empty() {
            self.table.hold(id, rest);
            self.table.arm(id, &self.limits);
            self.shed_input();
        }
        if go_on {
            self.enqueue(id);
        }
    }

    /// Refuses those that hold most until what is held is within its bound again.
    fn shed_input(&mut self) {
        while self.table.input_bytes > self.limits.input_bytes
            && let Some(heaviest) = self.table.heaviest_client(|open| open.input.len())
        {
            let retry_after_ms = 1000;
            self.refuse(heaviest, &Error::Overloaded { retry_after_ms }, 0);
        }
    }

    /// Takes whole frames off the front of `bytes`, all of `whole` if that may be shared, and says how
    /// many bytes they were. A client's wait for the next turn when this one has replies enough.
    fn parse(&mut self, id: u64, bytes: &[u8], whole: Option<&Bytes>) -> usize {
        let mut at = 0;
        while let Some(connection) = self.table.get(id) {
            let (phase, port) = (connection.phase, connection.port);
            if !connection.may_read() || matches!(phase, Phase::Leaving(_)) {
                break;
            }
            if phase == Phase::Client && self.effects.reply_bytes.len() >= REPLY_BYTES_MAX {
                break;
            }
            match frame::parse(&bytes[at..], connection.frame_bytes_max()) {
                Ok(Some(frame)) => {
                    at += frame.len;
                    self.take_frame(id, phase, &frame, whole);
                    if (phase, port) == (Phase::Newcomer, Port::Client) {
                        // What follows the hello has its turn among what clients ask.
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.refuse(id, &error, frame::request_id(&bytes[at..]));
                    at = bytes.len();
                }
            }
        }
        at
    }

    fn take_frame(&mut self, id: u64, phase: Phase, frame: &Frame<'_>, whole: Option<&Bytes>) {
        match phase {
            Phase::Client => self.take_request(id, frame),
            Phase::Link { peer, .. } => self.take_message(id, peer, frame, whole),
            Phase::Newcomer => self.take_hello(id, frame),
            Phase::Greeting { peer, asked } => self.take_welcome(id, peer, asked, frame),
            Phase::Connecting(_) | Phase::Leaving(_) => {}
        }
    }

    fn take_request(&mut self, id: u64, frame: &Frame<'_>) {
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error @ Error::Malformed { .. }) => {
                return self.refuse(id, &error, frame.request_id);
            }
            // The frame was whole and what it asked is refused: the connection goes on.
            Err(error) => {
                let request_id = frame.request_id;
                self.table.append(id, |out| error.encode(request_id, out));
                return self.mark_dirty(id);
            }
        };
        let input = Input::Client {
            connection: ConnectionId(id),
            request_id: frame.request_id,
            request,
        };
        self.node.step(self.now, input, &mut self.effects);
        self.apply_pauses();
    }

    fn take_message(&mut self, id: u64, peer: NodeId, frame: &Frame<'_>, whole: Option<&Bytes>) {
        if frame.kind == Kind::Error {
            return self.refused_by(id, peer, frame);
        }
        let message = match whole {
            Some(whole) => Message::decode_shared(frame, whole),
            None => Message::decode(frame),
        };
        match message {
            Ok(message) => {
                let input = Input::Peer {
                    link: LinkId(id),
                    message,
                };
                self.node.step(self.now, input, &mut self.effects);
            }
            Err(error) => self.refuse(id, &error, 0),
        }
    }

    /// The first frame of an accepted connection.
    fn take_hello(&mut self, id: u64, frame: &Frame<'_>) {
        let Some(port) = self.table.get(id).map(|connection| connection.port) else {
            return;
        };
        let verdict = Hello::decode(frame).and_then(|hello| {
            let wrong_port = match (&hello.role, port) {
                (Role::Client, Port::Peer) => Some("this port is for peers; ask the client port"),
                (Role::Peer { .. }, Port::Client) => Some("this port is for clients, not peers"),
                _ => None,
            };
            if let Some(reason) = wrong_port {
                return Err(Error::WrongNode {
                    reason: reason.into(),
                });
            }
            self.node
                .check_hello(&hello)
                .map(|welcome| (hello, welcome))
        });
        let (hello, welcome) = match verdict {
            Ok(accepted) => accepted,
            Err(error) => return self.refuse(id, &error, frame.request_id),
        };
        self.table.append(id, |out| welcome.encode(out));
        self.mark_dirty(id);
        match hello.role {
            Role::Client => self.table.set_phase(id, Phase::Client),
            Role::Peer { identity, .. } => {
                let peer = identity.node;
                if let Some(attempt) = self.dialler.heard(peer, self.now.monotonic) {
                    drop(self.table.remove(attempt));
                }
                self.table.set_phase(
                    id,
                    Phase::Link {
                        peer,
                        dialled: false,
                    },
                );
                let input = Input::LinkAccepted {
                    link: LinkId(id),
                    peer,
                };
                self.node.step(self.now, input, &mut self.effects);
            }
        }
    }

    /// The first frame of a dialled connection.
    fn take_welcome(&mut self, id: u64, peer: NodeId, asked: Knowledge, frame: &Frame<'_>) {
        if frame.kind == Kind::Error {
            return self.refused_by(id, peer, frame);
        }
        let verdict = Welcome::decode(frame)
            .and_then(|welcome| self.node.check_welcome(peer, asked, &welcome));
        if let Err(error) = verdict {
            return self.refuse(id, &error, 0);
        }
        self.dialler.succeeded(peer);
        self.table.set_phase(
            id,
            Phase::Link {
                peer,
                dialled: true,
            },
        );
        let input = Input::LinkDialled {
            link: LinkId(id),
            peer,
        };
        self.node.step(self.now, input, &mut self.effects);
    }

    /// The other end says why it closes.
    fn refused_by(&mut self, id: u64, peer: NodeId, frame: &Frame<'_>) {
        let why = match Error::decode(frame) {
            Ok(Error::Removed) => {
                let input = Input::RemovedBy(peer);
                self.node.step(self.now, input, &mut self.effects);
                format!("refused: {}", Error::Removed)
            }
            Ok(error) => {
                self.dialler.refused(peer, &error);
                format!("refused: {error}")
            }
            Err(error) => error.to_string(),
        };
        self.close(id, false, &why);
    }

    /// Tells the other end why, and lets the connection end; at once if too many linger already.
    pub(super) fn refuse(&mut self, id: u64, error: &Error, request_id: u64) {
        let now = self.now.monotonic;
        let Some(connection) = self.table.get(id) else {
            return;
        };
        let (phase, port) = (connection.phase, connection.port);
        if matches!(phase, Phase::Leaving(_)) {
            return;
        }
        connection.frame_since = None;
        drop(self.table.take_input(id));
        log::debug!("connection refused phase={phase:?} reason=\"{error}\"");
        self.table.append(id, |out| error.encode(request_id, out));
        if self.table.counts.leaving[port as usize] >= LEAVING_MAX {
            // It arrives unless the other end has sent more than was read.
            let _ = self.table.send(id, now);
            return self.close(id, false, "refused by this node");
        }
        self.table.set_phase(id, Phase::Leaving(now));
        self.mark_dirty(id);
        self.enqueue(id);
        self.depart(id, phase, false, "refused by this node");
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, id: u64, by_peer: bool, why: &str) {
        if let Some(connection) = self.table.remove(id) {
            self.depart(id, connection.phase, by_peer, why);
        }
    }

    /// Closes a link that this node dialled, to dial again at once.
    pub(super) fn renew(&mut self, link: LinkId) {
        let phase = self.table.get(link.0).map(|connection| connection.phase);
        if let Some(Phase::Link {
            peer,
            dialled: true,
        }) = phase
        {
            drop(self.table.remove(link.0));
            self.dialler.renew(peer, self.now.monotonic);
        }
    }

    /// These are the other members now: what was dialled to others is closed.
    pub(super) fn peers_changed(&mut self, peers: Vec<(NodeId, String)>) {
        let gone = self.dialler.set_peers(peers);
        for id in self.table.dialled_to(&gone) {
            self.close(id, false, "no member any more, or elsewhere");
        }
    }

    /// Ends a connection whose socket failed.
    pub(super) fn close_failed(&mut self, id: u64, error: &std::io::Error) {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let resets = [BrokenPipe, ConnectionAborted, ConnectionReset];
        self.close(id, resets.contains(&error.kind()), &error.to_string());
    }

    fn depart(&mut self, id: u64, phase: Phase, by_peer: bool, why: &str) {
        match phase {
            Phase::Client => self.notices.push(Notice::ClientClosed(ConnectionId(id))),
            Phase::Link { .. } => self.notices.push(Notice::LinkClosed(LinkId(id), by_peer)),
            Phase::Connecting(_) | Phase::Greeting { .. } | Phase::Newcomer | Phase::Leaving(_) => {
            }
        }
        if let Some(peer) = phase.dialled() {
            self.dialler.failed(peer, self.now.monotonic, why);
        }
    }

    /// Reads and drops what a refused connection still sends.
    fn discard(&mut self, id: u64) -> usize {
        drop(self.table.take_input(id));
        let Some(connection) = self.table.get(id) else {
            return 0;
        };
        let mut buffer = mem::take(&mut self.read_buffer);
        buffer.clear();
        let received = connection.receive(&mut buffer);
        let again = connection.readable;
        let count = buffer.len();
        self.read_buffer = buffer;
        match received {
            Ok(Received::Open) if again => self.enqueue(id),
            Ok(Received::Open) => {}
            Ok(Received::Closed) => self.close(id, true, "left"),
            Err(error) => self.close_failed(id, &error),
        }
        count
    }

    /// Closes whoever let a deadline pass.
    pub(super) fn close_overdue(&mut self) {
        let now = self.now.monotonic;
        while let Some(id) = self.table.overdue(now, &self.limits) {
            log::debug!("connection closed for its deadline id={id:x}");
            self.close(id, false, "too slow");
        }
    }

    /// Ends the sending side of a refused connection whose reason is out.
    pub(super) fn finish_leaving(&mut self, id: u64) {
        if let Some(connection) = self.table.get(id)
            && matches!(connection.phase, Phase::Leaving(_))
            && connection.output.is_empty()
        {
            // If the other end is gone already, the next read shows it.
            let _ = connection.socket.shutdown(Shutdown::Write);
        }
    }
}
