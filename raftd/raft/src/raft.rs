//! The state machine.

use alloc::vec::Vec;

use wire::entry::Entry;
use wire::peer::DiskReport;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::event::{Config, Effect, HardState, Input, NotLeader, ReadTicket, Restored, RoleName};
use crate::time::Instant;

/// One node's part in the algorithm.
#[derive(Debug)]
pub struct Raft {}

impl Raft {
    /// A node as it was when its log was last durable. Everything in the log counts as durable.
    #[must_use]
    pub fn new(_config: Config, _restored: Restored, _now: Instant) -> Self {
        unimplemented!()
    }
    /// Takes one input. Effects are appended.
    pub fn step(&mut self, _now: Instant, _input: Input, _effects: &mut Vec<Effect>) {
        unimplemented!()
    }
    /// Ends a turn: at most one `Write`, and one `Append` per follower and window, for all that
    /// the turn's steps, proposals and reads brought.
    pub fn flush(&mut self, _now: Instant, _effects: &mut Vec<Effect>) {
        unimplemented!()
    }
    /// When `step` wants the next [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// Appends a command to the leader's log, in memory; `flush` sends and writes it.
    /// # Errors
    /// This node does not lead.
    pub fn propose(&mut self, _wall_ms: u64, _body: &[u8]) -> Result<EntryId, NotLeader> {
        unimplemented!()
    }
    /// Registers a linearizable read.
    /// # Errors
    /// This node does not lead.
    pub fn read(&mut self) -> Result<ReadTicket, NotLeader> {
        unimplemented!()
    }
    /// The entry at `index`, if it is still in memory.
    #[must_use]
    pub fn entry(&self, _index: Index) -> Option<&Entry> {
        unimplemented!()
    }
    /// The store has applied everything up to here: older entries may leave memory.
    pub fn applied(&mut self, _index: Index) {
        unimplemented!()
    }
    /// What the next answers say of the disk. A stalled node (rules B4) refuses PreVotes and
    /// does not campaign.
    pub fn set_disk(&mut self, _report: DiskReport, _stalled: bool) {
        unimplemented!()
    }
    /// Bytes of entries that are not committed yet.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        unimplemented!()
    }
    /// For status.
    #[must_use]
    pub fn role(&self) -> RoleName {
        unimplemented!()
    }
    /// Term and vote, possibly not durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        unimplemented!()
    }
    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        unimplemented!()
    }
    /// The known leader.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        unimplemented!()
    }
    /// On a leader: whether a quorum was heard within the election timeout. Else: whether a leader is heard.
    #[must_use]
    pub fn quorum_ok(&self, _now: Instant) -> bool {
        unimplemented!()
    }
    /// Last entry in memory.
    #[must_use]
    pub fn last(&self) -> EntryId {
        unimplemented!()
    }
    /// Last durable index.
    #[must_use]
    pub fn durable(&self) -> Index {
        unimplemented!()
    }
    /// Commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        unimplemented!()
    }
    /// On a leader: where this follower's log is known to agree.
    #[must_use]
    pub fn match_index(&self, _peer: NodeId) -> Option<Index> {
        unimplemented!()
    }
}
