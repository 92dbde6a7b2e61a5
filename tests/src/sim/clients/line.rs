//! One connection of a client: its handshake, its frames, and what was asked on it.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use raft::Instant;
use wire::client::Request;
use wire::frame;
use wire::hello::Hello;
use wire::types::Epoch;

use super::Desk;
use super::pages::Paged;
use crate::history::Passage;
use crate::sim::member::CLUSTER;
use crate::sim::net::Host;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialled,
    Greeting,
    Open,
}

/// What an answer on a connection will be to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The operation of this number.
    Operation(u64),
    /// A page of a view that was begun before.
    Page(Paged),
    /// Again what ended long ago: the write of this number.
    Resent(u64),
    /// The name of the write of this number, with another command.
    Reused(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) asked: Asked,
}

/// A connection.
///
/// Invariant: `sent` holds what was asked and not answered, by request id; ids ascend in the order
/// of the bytes.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: u64,
    pub(super) host: Host,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) sent: BTreeMap<u64, Sent>,
    input: BytesMut,
    last_id: u64,
}

impl Line {
    pub(super) fn dial(host: Host, desk: &mut Desk<'_>) -> Self {
        Self {
            connection: desk.dial(host),
            host,
            phase: Phase::Dialled,
            since: desk.now,
            sent: BTreeMap::new(),
            input: BytesMut::new(),
            last_id: 0,
        }
    }

    /// Says hello.
    pub(super) fn greet(&mut self, epoch: Option<Epoch>, desk: &mut Desk<'_>) {
        self.phase = Phase::Greeting;
        let hello = Hello {
            cluster: epoch.map(|_| CLUSTER),
            epoch,
            ..Hello::client()
        };
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        desk.send(self.connection, out.freeze());
    }

    /// Asks; the answer will be told by the id in `sent`.
    pub(super) fn ask(&mut self, request: &Request<'_>, asked: Asked, desk: &mut Desk<'_>) {
        assert_eq!(self.phase, Phase::Open, "requests follow the welcome");
        self.last_id += 1;
        let at = desk.now;
        self.sent.insert(self.last_id, Sent { at, asked });
        let mut out = BytesMut::new();
        request.encode(self.last_id, &mut out);
        desk.common.counts.attempts += 1;
        desk.send(self.connection, out.freeze());
    }

    /// Whether a request had this id.
    pub(super) fn has_asked(&self, id: u64) -> bool {
        (1..=self.last_id).contains(&id)
    }

    /// How the answer to a request came.
    pub(super) fn passage(&self, id: u64) -> Passage {
        Passage {
            connection: self.connection,
            place: id,
        }
    }

    /// Takes what came and gives the whole frames in it, one after the other; an error is the end.
    pub(super) fn take_in(&mut self, bytes: Bytes, bytes_max: usize) -> Result<Vec<Bytes>, String> {
        let mut rest = if self.input.is_empty() {
            bytes
        } else {
            self.input.extend_from_slice(&bytes);
            self.input.split().freeze()
        };
        let mut frames = Vec::new();
        loop {
            match frame::parse(&rest, bytes_max) {
                Ok(Some(frame)) => {
                    let whole = rest.slice(..frame.len);
                    rest.advance(whole.len());
                    frames.push(whole);
                }
                Ok(None) => {
                    self.input.extend_from_slice(&rest);
                    return Ok(frames);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// When the oldest request without an answer was sent; before the welcome, when it was dialled.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Dialled | Phase::Greeting => Some(self.since),
            // Ids ascend with time.
            Phase::Open => self.sent.values().next().map(|sent| sent.at),
        }
    }
}
