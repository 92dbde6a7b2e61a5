//! Whoever is asked for its vote gives it if it may (thesis 3.4): whether it knows of itself that it
//! is a voter does not matter (4.1), and where a leader hands over it may well hear one (3.10).

use raft::{HardState, RoleName};
use raftd::node::Node;
use wire::peer::{Message, RequestVote};
use wire::types::{NodeId, Term};

/// A request that is granted, as far as the node could know before it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    candidate: NodeId,
    term: Term,
}

impl Claim {
    /// What a message asks of a node before it takes it in; `None`: no vote, or none that is sure. A
    /// node that has seen no term yet may not be formed.
    pub(super) fn of(node: &Node, candidate: NodeId, message: &Message) -> Option<Self> {
        let Message::RequestVote(RequestVote {
            term: asked,
            last,
            transfer,
        }) = message
        else {
            return None;
        };
        let raft = node.raft();
        let HardState { term, vote, lost } = raft.hard_state();
        let is_free = *asked > term || *asked == term && vote.is_none_or(|vote| vote == candidate);
        let own = raft.last();
        let is_fit = (last.term, last.index) >= (own.term, own.index);
        let hears = raft.role() == RoleName::Leader || raft.leader().is_some();
        let is_good =
            term > Term(0) && !lost && is_free && is_fit && (!hears || transfer.is_some());
        is_good.then_some(Self {
            candidate,
            term: *asked,
        })
    }

    /// In what the node fails that took the request in.
    pub(super) fn refused(self, node: &Node) -> Option<String> {
        let HardState { term, vote, .. } = node.raft().hard_state();
        let Self {
            candidate,
            term: asked,
        } = self;
        ((term, vote) != (asked, Some(candidate)))
            .then(|| format!("refuses {candidate} its vote in term {asked}"))
    }
}
