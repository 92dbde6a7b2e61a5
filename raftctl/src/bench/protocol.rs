//! What the generator needs to know of a protocol: the rest is the same for every server that is
//! measured, so that figures compare.

use bytes::BytesMut;
use wire::error::Error;

use super::load::{Material, Operation};

/// Names an operation in flight on one connection; below the connection's in-flight limit and
/// used again once it is done.
pub type Token = u32;

/// What bytes from a server mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The opening is over: operations may be sent.
    Ready,
    /// The operation was done.
    Done {
        /// Which.
        token: Token,
        /// The index or revision that the server tells with it; 0 if none.
        revision: u64,
    },
    /// The operation was not done, or nobody knows: it will be sent again as the same operation.
    Refused {
        /// Which.
        token: Token,
    },
    /// Who leads, as the server knows.
    Leader(Box<Leader>),
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The term, if the server told it.
    pub term: Option<u64>,
    /// Where the leader is, if it is elsewhere and known.
    pub elsewhere: Option<String>,
}

/// One connection's protocol. It outlives the sockets: after a reconnection [`Protocol::open`] is
/// called again, and what was in flight is sent again in its first order.
pub trait Protocol {
    /// A connection was made: writes what opens it and forgets what belonged to the last one.
    fn open(&mut self, out: &mut BytesMut);

    /// Encodes an operation. `again` means that this token's operation was sent before, perhaps on
    /// another connection, and must keep its identity.
    fn send(
        &mut self,
        token: Token,
        operation: Operation,
        again: bool,
        material: &Material,
        out: &mut BytesMut,
    );

    /// Decodes whole messages at the front of `input` and returns how many bytes they took.
    /// `out` is for answers that the protocol owes by itself.
    ///
    /// # Errors
    /// The bytes make no sense: the connection is closed.
    fn receive(
        &mut self,
        input: &[u8],
        answers: &mut Vec<Answer>,
        out: &mut BytesMut,
    ) -> Result<usize, String>;

    /// The last refusal after which nothing was done, if sending it again is no help by itself.
    fn refusal(&self) -> Option<&Error> {
        None
    }
}
