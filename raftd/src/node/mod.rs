//! The deterministic node.

pub mod io;

use raft::Instant;
use wire::error::Error;
use wire::hello::{Hello, Welcome};
use wire::types::NodeId;

use self::io::{Effects, Input, Now};

/// One member of a cluster: Raft, store, sessions and what waits for them. No thread, socket,
/// file or clock: the simulator runs this very type.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Takes one input.
    pub fn step(&mut self, _now: Now, _input: Input<'_>, _effects: &mut Effects) {
        unimplemented!()
    }
    /// Ends a turn: what the turn's steps brought is sent, written and applied.
    pub fn flush(&mut self, _now: Now, _effects: &mut Effects) {
        unimplemented!()
    }
    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// Judges a caller's hello, client or peer; on a peer, remembers what it told of itself.
    /// # Errors
    /// Why the connection must be closed.
    pub fn check_hello(&mut self, _hello: &Hello) -> Result<Welcome, Error> {
        unimplemented!()
    }
    /// The hello for a link to `peer`.
    #[must_use]
    pub fn hello_to(&self, _peer: NodeId) -> Hello {
        unimplemented!()
    }
    /// Judges the answer to [`Node::hello_to`].
    /// # Errors
    /// Why the link must be closed.
    pub fn check_welcome(&mut self, _peer: NodeId, _welcome: &Welcome) -> Result<(), Error> {
        unimplemented!()
    }
}
