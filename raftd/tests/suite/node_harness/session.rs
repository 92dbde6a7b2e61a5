//! What a client of the simulated cluster needs.

use wire::client::{Reply, Request};
use wire::command::{Command, SessionId, Write};
use wire::error::Error;
use wire::types::Index;

use super::EPOCH;

/// A client's session: numbers its writes.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) seq: u64,
}

impl Session {
    /// As if a hello had told the index `born`.
    pub(crate) fn new(born: Index, nonce: u64) -> Self {
        let id = SessionId {
            epoch: EPOCH,
            born,
            nonce,
        };
        Self { id, seq: 0 }
    }

    /// The next write.
    pub(crate) fn next<'a>(&mut self, command: Command<'a>) -> Request<'a> {
        self.seq += 1;
        self.again(command)
    }

    /// The last write once more, or another under its number.
    pub(crate) fn again<'a>(&self, command: Command<'a>) -> Request<'a> {
        self.with_deadline(command, 0)
    }

    pub(crate) fn with_deadline<'a>(&self, command: Command<'a>, deadline_ms: u32) -> Request<'a> {
        Request::Write {
            deadline_ms,
            write: Write {
                session: self.id,
                seq: self.seq,
                floor: 1,
                command,
            },
            body: &[],
        }
    }
}

/// The error in a reply.
pub(crate) fn error(reply: Reply<'_>) -> Error {
    match reply {
        Reply::Error(error) => error,
        other => panic!("no error but {other:?}"),
    }
}
