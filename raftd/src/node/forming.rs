//! Who may take part: cluster, history, node and incarnation, and how a static cluster is formed
//! for the first time (rules D1).
//!
//! A data directory that was lost and made anew under a known id must not vote: its predecessor
//! may have promised a vote or acknowledged an entry. Therefore every directory has a random
//! incarnation, and a new one takes part only once all initial members were seen to be new
//! together, or once a member that took part says that it knows this very incarnation.

use std::collections::BTreeMap;

use log::Level;
use wire::error::Error;
use wire::hello::{
    Hello, LeaderHint, PeerIdentity, Role, VERSION_MAX, VERSION_MIN, Welcome, negotiate,
};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

use super::Node;
use super::io::{Effects, StorageRequest};

/// The abilities that this version knows.
const FEATURES: u64 = 0;

/// What is known of the members' lives.
///
/// Invariants:
/// - `record` is empty until it is known who formed the cluster, and then never changes;
/// - `durable` implies a record: only then does Raft take part;
/// - `heard` holds the newest identity that each other member told in this life of the node.
#[derive(Debug)]
pub(super) struct Forming {
    record: Vec<(NodeId, Incarnation)>,
    durable: bool,
    pub(super) heard: BTreeMap<NodeId, PeerIdentity>,
}

impl Forming {
    /// `record` is what IDENTITY holds.
    pub(super) fn new(record: Vec<(NodeId, Incarnation)>) -> Self {
        Self {
            durable: !record.is_empty(),
            record,
            heard: BTreeMap::new(),
        }
    }

    /// Whether the node takes part.
    pub(super) fn is_formed(&self) -> bool {
        self.durable
    }

    /// The incarnation under which this node is known to have formed the cluster.
    fn known(&self, node: NodeId) -> Option<Incarnation> {
        listed(&self.record, node)
    }

    /// The record, if what was heard settles it.
    fn settle(
        &self,
        own: (NodeId, Incarnation),
        members: &[(NodeId, String)],
    ) -> Option<Vec<(NodeId, Incarnation)>> {
        let formed = self
            .heard
            .values()
            .find(|peer| listed(&peer.formed, own.0) == Some(own.1));
        if let Some(peer) = formed {
            return Some(peer.formed.clone());
        }
        let mut record = Vec::with_capacity(members.len());
        for (id, _) in members {
            if *id == own.0 {
                record.push(own);
            } else {
                let peer = self.heard.get(id).filter(|peer| peer.virgin)?;
                record.push((*id, peer.incarnation));
            }
        }
        Some(record)
    }
}

fn listed(record: &[(NodeId, Incarnation)], node: NodeId) -> Option<Incarnation> {
    let (_, incarnation) = record.iter().find(|(id, _)| *id == node)?;
    Some(*incarnation)
}

impl Node {
    /// The hello for a link to `peer`.
    #[must_use]
    pub fn hello_to(&self, peer: NodeId) -> Hello {
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: FEATURES,
            cluster: Some(self.config.cluster),
            epoch: Some(self.config.epoch),
            group: 0,
            role: Role::Peer {
                identity: self.identity(),
                to: peer,
            },
        }
    }

    /// Judges a caller's hello, client or peer; on a peer, remembers what it told of itself.
    ///
    /// # Errors
    /// Why the connection must be closed: no common version, another cluster, history, node or
    /// incarnation.
    pub fn check_hello(&mut self, hello: &Hello) -> Result<Welcome, Error> {
        let verdict = self.judge_hello(hello);
        if let Err(error) = &verdict {
            let caller = match &hello.role {
                Role::Client => NodeId::default(),
                Role::Peer { identity, .. } => identity.node,
            };
            self.note_refusal("caller refused", caller, error);
        }
        verdict
    }

    /// Judges the answer to [`Node::hello_to`].
    ///
    /// # Errors
    /// Why the link must be closed: another version, cluster, history, node or incarnation.
    pub fn check_welcome(&mut self, peer: NodeId, welcome: &Welcome) -> Result<(), Error> {
        let verdict = self.judge_welcome(peer, welcome);
        if let Err(error) = &verdict {
            self.note_refusal("peer refused", peer, error);
        }
        verdict
    }

    fn judge_hello(&mut self, hello: &Hello) -> Result<Welcome, Error> {
        let version = negotiate(hello.version_min, hello.version_max)?;
        if hello.group != 0 {
            return Err(Error::WrongNode {
                reason: format!("there is no Raft group {} here", hello.group),
            });
        }
        self.check_history(hello.cluster, hello.epoch)?;
        if let Role::Peer { identity, to } = &hello.role {
            if *to != self.config.id {
                return Err(Error::WrongNode {
                    reason: format!("this is node {}, not node {to}", self.config.id),
                });
            }
            self.check_peer(identity)?;
        }
        Ok(Welcome {
            version,
            features: hello.features & FEATURES,
            cluster: self.config.cluster,
            epoch: self.config.epoch,
            identity: self.identity(),
            term: self.raft.term(),
            applied: self.store.applied().index,
            leader: self.raft.leader().map(|leader| self.hint(leader)),
        })
    }

    fn judge_welcome(&mut self, peer: NodeId, welcome: &Welcome) -> Result<(), Error> {
        negotiate(welcome.version, welcome.version)?;
        self.check_history(Some(welcome.cluster), Some(welcome.epoch))?;
        if welcome.identity.node != peer {
            return Err(Error::WrongNode {
                reason: format!("this is node {}, not node {peer}", welcome.identity.node),
            });
        }
        self.check_peer(&welcome.identity)
    }

    fn check_history(&self, cluster: Option<ClusterId>, epoch: Option<Epoch>) -> Result<(), Error> {
        if cluster.is_some_and(|cluster| cluster != self.config.cluster) {
            return Err(Error::WrongCluster {
                cluster: self.config.cluster.to_string(),
            });
        }
        if epoch.is_some_and(|epoch| epoch != self.config.epoch) {
            return Err(Error::WrongEpoch);
        }
        Ok(())
    }

    /// Judges what a member told of itself, and remembers it.
    fn check_peer(&mut self, peer: &PeerIdentity) -> Result<(), Error> {
        let own = self.config.id;
        if peer.node == own || !self.config.members.iter().any(|(id, _)| *id == peer.node) {
            return Err(Error::WrongNode {
                reason: format!("node {} is no other member of this cluster", peer.node),
            });
        }
        let known = self.forming.known(peer.node);
        if known.is_some_and(|known| known != peer.incarnation) {
            return Err(wrong_incarnation(peer.node));
        }
        if !peer.formed.is_empty() && listed(&peer.formed, own) != Some(self.config.incarnation) {
            return Err(wrong_incarnation(own));
        }
        self.forming.heard.insert(peer.node, peer.clone());
        Ok(())
    }

    fn note_refusal(&mut self, what: &'static str, node: NodeId, error: &Error) {
        let now = self.now.monotonic;
        self.journal.repeated(now, Level::Warn, (what, node.0), || {
            format!("{what} node={node} reason=\"{error}\"")
        });
    }

    /// Has the record written as soon as it is known.
    pub(super) fn form(&mut self, effects: &mut Effects) {
        if !self.forming.record.is_empty() {
            return;
        }
        let own = (self.config.id, self.config.incarnation);
        let Some(record) = self.forming.settle(own, &self.config.members) else {
            return;
        };
        self.forming.record.clone_from(&record);
        effects.storage.push(StorageRequest::Form(record));
    }

    /// IDENTITY holds the record.
    pub(super) fn formed(&mut self, effects: &mut Effects) {
        if self.forming.durable {
            return;
        }
        assert!(!self.forming.record.is_empty(), "storage formed nothing");
        self.forming.durable = true;
        let members = self.config.members.len();
        self.journal
            .line(Level::Info, format!("cluster formed members={members}"));
        self.step_raft(raft::Input::Formed, effects);
    }

    /// What this node tells of itself.
    pub(super) fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            node: self.config.id,
            incarnation: self.config.incarnation,
            life: self.config.life,
            name: self.config.name.clone(),
            client_addr: self.config.client_addr.clone(),
            virgin: self.raft.term() == Term(0) && self.raft.last().index == Index(0),
            formed: if self.forming.durable {
                self.forming.record.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// Where clients find `node`.
    pub(super) fn hint(&self, node: NodeId) -> LeaderHint {
        let client_addr = if node == self.config.id {
            self.config.client_addr.clone()
        } else {
            let heard = self.forming.heard.get(&node);
            heard.map_or_else(String::new, |peer| peer.client_addr.clone())
        };
        LeaderHint { node, client_addr }
    }
}

fn wrong_incarnation(node: NodeId) -> Error {
    Error::WrongIncarnation {
        reason: format!(
            "node {node} has another data directory than the one that the cluster knows; \
             its id cannot be used again: replace it (raftctl replace-peer)"
        ),
    }
}
