//! The first frame of a connection and its answer.

use alloc::string::String;
use alloc::vec::Vec;

use crate::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

/// The oldest protocol version that this build speaks.
pub const VERSION_MIN: u8 = 1;
/// The newest protocol version that this build speaks.
pub const VERSION_MAX: u8 = 1;

/// Who a node is; told by both ends of a peer link (rules D1, F1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node's id.
    pub node: NodeId,
    /// Its data directory's life.
    pub incarnation: Incarnation,
    /// This process's life: random at each start.
    pub life: u64,
    /// Its name.
    pub name: String,
    /// The address that its clients use.
    pub client_addr: String,
    /// Term 0 and an empty log.
    pub virgin: bool,
    /// The incarnation of every initial member, once the cluster is formed; empty before.
    pub formed: Vec<(NodeId, Incarnation)>,
}

/// What the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads, writes, asks for status.
    Client,
    /// A member of the cluster. `to` is the node that it means to reach.
    Peer {
        /// Who calls.
        identity: PeerIdentity,
        /// Who is called.
        to: NodeId,
    },
}

/// The caller's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version that the caller speaks.
    pub version_min: u8,
    /// The newest version that the caller speaks.
    pub version_max: u8,
    /// Optional abilities, one bit each; none is defined in version 1.
    pub features: u64,
    /// The cluster that the caller means, if it knows.
    pub cluster: Option<ClusterId>,
    /// The history that the caller means, if it knows.
    pub epoch: Option<Epoch>,
    /// The Raft group, 0.
    pub group: u32,
    /// Client or peer.
    pub role: Role,
}

/// Where a leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// Its id.
    pub node: NodeId,
    /// The address that its clients use; empty if not known.
    pub client_addr: String,
}

/// The answer to an accepted [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that this connection speaks: the highest that both know.
    pub version: u8,
    /// The abilities that both have.
    pub features: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of its data.
    pub epoch: Epoch,
    /// Who answers.
    pub identity: PeerIdentity,
    /// The current term.
    pub term: Term,
    /// The last applied index: a new session is `born` here (rules C2).
    pub applied: Index,
    /// The leader, if known.
    pub leader: Option<LeaderHint>,
}
