//! One socket with its buffers, its phase and its deadlines.

use std::io;

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use raft::Instant;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use wire::frame;
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use wire::types::NodeId;

use super::{Limits, Port};
use crate::node::io::Knowledge;

/// With this much waiting to be written, a client is clogged: neither is it read, nor are its
/// reads answered.
const CLOGGED_BYTES: usize = 1 << 20;
/// With this much left, it no longer is.
const FLOWING_BYTES: usize = 256 << 10;
/// A read that continues a frame asks for at least this, or for as much as is there already: what
/// a frame's length claims is not allocated before the bytes come, but for a member's.
const READ_MORE_BYTES: usize = 64 << 10;
/// How long the bytes of a refusal may take; so long, too, what the other end still sends is read
/// and dropped, because closing with unread bytes would reset the connection and lose the refusal.
const LEAVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// What a connection is for, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Dialled; TCP's handshake is under way.
    Connecting(NodeId),
    /// Dialled, hello sent; the welcome is awaited.
    Greeting {
        /// The other end.
        peer: NodeId,
        /// What the node knew when it said hello.
        asked: Knowledge,
    },
    /// Accepted; the hello is awaited.
    Newcomer,
    /// A client.
    Client,
    /// A link with a peer, by either end.
    Link {
        /// The other end.
        peer: NodeId,
        /// By this node.
        dialled: bool,
    },
    /// Refused at this time: the reason goes out, then the connection ends.
    Leaving(Instant),
}

impl Phase {
    /// The peer at the other end, if this node dialled it.
    pub(super) fn dialled(self) -> Option<NodeId> {
        match self {
            Self::Connecting(peer)
            | Self::Greeting { peer, .. }
            | Self::Link {
                peer,
                dialled: true,
            } => Some(peer),
            _ => None,
        }
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes, or none for now.
    Open,
    /// The other end is done.
    Closed,
}

/// Invariants:
/// - `input` is empty or begins with a frame; it is released when empty, so that an idle
///   connection holds no buffer;
/// - `sent` is at most what `output` holds: a slow reader takes little more memory than is counted;
/// - `readable` is cleared only when the kernel's buffer was seen empty (a short read, or EAGAIN)
///   and no end of stream was announced: with edge-triggered events nobody reminds us;
/// - `writable` is cleared only on EAGAIN, for the same reason.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) socket: TcpStream,
    pub(super) port: Port,
    pub(super) phase: Phase,
    pub(super) input: Vec<u8>,
    pub(super) output: BytesMut,
    /// Bytes in front of `output` that are sent and still take room in its buffer.
    sent: usize,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// An end of stream or an error was announced: reads go on until they show it.
    pub(super) ended: bool,
    /// In the queue of connections to be read.
    pub(super) queued: bool,
    /// In the list of connections to be written.
    pub(super) dirty: bool,
    /// The node asked not to read it (rules A7).
    pub(super) paused: bool,
    /// More waits for it than it reads.
    pub(super) clogged: bool,
    /// The deadline that its entry among the timers has.
    pub(super) timer: Option<Instant>,
    pub(super) opened: Instant,
    /// Since when the frame at the front of `input` is incomplete, and could be completed: not
    /// while the connection is left unread.
    pub(super) frame_since: Option<Instant>,
    /// Since when `output` waits without progress.
    pub(super) stalled_since: Option<Instant>,
}

impl Connection {
    pub(super) fn new(id: u64, socket: TcpStream, port: Port, phase: Phase, now: Instant) -> Self {
        Self {
            id,
            socket,
            port,
            phase,
            input: Vec::new(),
            output: BytesMut::new(),
            sent: 0,
            readable: false,
            writable: !matches!(phase, Phase::Connecting(_)),
            ended: false,
            queued: false,
            dirty: false,
            paused: false,
            clogged: false,
            timer: None,
            opened: now,
            frame_since: None,
            stalled_since: None,
        }
    }

    /// The largest frame that the other end may send in this phase.
    pub(super) fn frame_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Connecting(_) | Phase::Greeting { .. } | Phase::Newcomer | Phase::Leaving(_) => {
                HELLO_FRAME_BYTES_MAX
            }
            Phase::Client => CLIENT_FRAME_BYTES_MAX,
            Phase::Link { .. } => PEER_FRAME_BYTES_MAX,
        }
    }

    /// Whether its requests may be taken: back-pressure ends here. A link is always read: what a
    /// peer says makes nothing grow that the peer's own acknowledgements do not bound.
    pub(super) fn may_read(&self) -> bool {
        self.port == Port::Peer || !(self.paused || self.clogged)
    }

    /// One read behind what `buffer` holds of a frame.
    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        if !buffer.is_empty() {
            let missing = frame::wanted(buffer).saturating_sub(buffer.len());
            buffer.reserve(missing.min(buffer.len().max(READ_MORE_BYTES)));
        }
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "a read has room");
        loop {
            match rustix::net::recv(&self.socket, spare_capacity(buffer), RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Received::Closed),
                Ok((count, _)) => {
                    // epoll(7): a short read of a stream has drained it. What comes after it is a
                    // new event; what was announced before it (an end) is not.
                    self.readable = count == room || self.ended;
                    return Ok(Received::Open);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Ok(Received::Open);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes as much of `output` as the kernel takes.
    pub(super) fn send(&mut self, now: Instant) -> io::Result<()> {
        while !self.output.is_empty() && self.writable {
            match rustix::net::send(&self.socket, &self.output, SendFlags::NOSIGNAL) {
                Ok(count) if count == self.output.len() => self.output.clear(),
                Ok(count) => {
                    self.output.advance(count);
                    self.sent += count;
                    self.stalled_since = Some(now);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error.into()),
            }
        }
        if self.sent > self.output.len() {
            // Moving what is left costs less than sending what was before it.
            self.output = BytesMut::from(&self.output[..]);
            self.sent = 0;
        }
        self.stalled_since = match self.output.is_empty() {
            true => None,
            false => self.stalled_since.or(Some(now)),
        };
        Ok(())
    }

    /// Looks anew at whether it is clogged; `Some` if that changed.
    pub(super) fn judge_flow(&mut self) -> Option<bool> {
        let bound = if self.clogged {
            FLOWING_BYTES
        } else {
            CLOGGED_BYTES
        };
        let clogged = self.output.len() >= bound;
        (self.clogged != clogged).then(|| {
            self.clogged = clogged;
            self.frame_since = None;
            clogged
        })
    }

    /// Leaves it unread, or no longer (rules A7).
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.frame_since = None;
    }

    /// When it is closed unless something happens before.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Connecting(_) | Phase::Greeting { .. } | Phase::Newcomer => {
                Some(self.opened + limits.hello_timeout)
            }
            Phase::Leaving(since) => Some(since + LEAVE_TIMEOUT),
            Phase::Client | Phase::Link { .. } => None,
        };
        let frame = self.frame_since.map(|since| since + limits.frame_timeout);
        let stall = self.stalled_since.map(|since| since + limits.stall_timeout);
        [phase, frame, stall].into_iter().flatten().min()
    }
}

/// Whether a whole frame, or one that will be refused, stands at the front.
pub(super) fn holds_frame(bytes: &[u8]) -> bool {
    bytes.len() >= frame::HEADER_BYTES && bytes.len() >= frame::wanted(bytes)
}
