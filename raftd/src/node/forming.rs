//! Who may take part: cluster, history, node and incarnation, and how a static cluster is formed
//! for the first time (rules D1).
//!
//! A data directory that was lost and made anew under a known id must not vote: its predecessor
//! may have promised a vote or acknowledged an entry. Therefore every directory has a random
//! incarnation, and a new one takes part only once all initial members were seen to be new
//! together, or once a member that took part says that it knows this very incarnation.
//!
//! "Together" needs care, for what a member said may be old: it may have formed the cluster since
//! with a directory that is lost by now. So only that counts which a member answers to a hello
//! that was sent when the incarnations of all were known: whoever took part with the predecessor
//! of one of them did so before, and says so.

use std::collections::BTreeMap;

use log::Level;
use wire::error::Error;
use wire::hello::{
    Hello, LeaderHint, PeerIdentity, Role, VERSION_MAX, VERSION_MIN, Welcome, negotiate,
};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

use super::Node;
use super::io::{Effects, Knowledge, LinkId, StorageRequest};

/// The abilities that this version knows.
const FEATURES: u64 = 0;

/// What is known of the members' lives.
///
/// Invariants:
/// - `record` is empty until it is known who formed the cluster, and then never changes;
/// - `durable` implies a record: only then does Raft take part;
/// - `heard` holds the newest identity that each other member told in this life of the node;
/// - `knowledge` grows whenever an incarnation in `heard` is new or another one than before;
/// - `asked` says how much this node knew when it asked for a member's newest welcome, and lacks
///   a member whose welcome is known to be out of date.
#[derive(Debug)]
pub(super) struct Forming {
    record: Vec<(NodeId, Incarnation)>,
    durable: bool,
    pub(super) heard: BTreeMap<NodeId, PeerIdentity>,
    knowledge: Knowledge,
    asked: BTreeMap<NodeId, Knowledge>,
}

impl Forming {
    /// `record` is what IDENTITY holds.
    pub(super) fn new(record: Vec<(NodeId, Incarnation)>) -> Self {
        Self {
            durable: !record.is_empty(),
            record,
            heard: BTreeMap::new(),
            knowledge: Knowledge(0),
            asked: BTreeMap::new(),
        }
    }

    /// The incarnations that formed the cluster; empty before that is known.
    pub(super) fn record(&self) -> &[(NodeId, Incarnation)] {
        &self.record
    }

    /// Whether the node takes part.
    pub(super) fn is_formed(&self) -> bool {
        self.durable
    }

    /// The incarnation under which this node is known to have formed the cluster.
    pub(super) fn known(&self, node: NodeId) -> Option<Incarnation> {
        listed(&self.record, node)
    }

    /// Remembers what a member told of itself. Says whether it told another incarnation before.
    fn hear(&mut self, peer: &PeerIdentity) -> bool {
        let before = self.heard.insert(peer.node, peer.clone());
        let before = before.map(|identity| identity.incarnation);
        if before != Some(peer.incarnation) {
            self.knowledge.0 += 1;
        }
        before.is_some_and(|incarnation| incarnation != peer.incarnation)
    }

    /// A member that sends messages takes part, whatever its last welcome said.
    pub(super) fn heard_message(&mut self, from: NodeId) {
        if self.record.is_empty() {
            self.asked.remove(&from);
        }
    }

    /// Whether the incarnations of all `members`, this node among them, are known.
    fn knows_all(&self, members: &[(NodeId, String)]) -> bool {
        self.heard.len() + 1 == members.len()
    }

    /// Whether this member must be asked again before the cluster can be formed with it.
    fn is_outdated(&self, peer: NodeId, members: &[(NodeId, String)]) -> bool {
        match self.asked.get(&peer) {
            Some(asked) => *asked < self.knowledge && self.knows_all(members),
            None => true,
        }
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
        if !self.knows_all(members) {
            return None;
        }
        let mut record = Vec::with_capacity(members.len());
        for (id, _) in members {
            if *id == own.0 {
                record.push(own);
            } else {
                let peer = self.heard.get(id).filter(|peer| peer.virgin)?;
                self.asked.get(id).filter(|at| **at == self.knowledge)?;
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
    /// The hello for a link to `peer`, and what [`Node::check_welcome`] is to be told with the
    /// answer to it.
    #[must_use]
    pub fn hello_to(&self, peer: NodeId) -> (Hello, Knowledge) {
        let hello = Hello {
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
        };
        (hello, self.forming.knowledge)
    }

    /// Judges a caller's hello, client or peer; on a peer, remembers what it told of itself.
    ///
    /// # Errors
    /// Why the connection must be closed: no common version, another cluster, history, node or
    /// incarnation.
    pub fn check_hello(&mut self, hello: &Hello) -> Result<Welcome, Error> {
        let verdict = self.judge_hello(hello);
        if let Err(error) = &verdict {
            match &hello.role {
                Role::Client => {
                    let text = || format!("client refused reason=\"{error}\"");
                    let key = ("client refused", 0);
                    self.journal
                        .repeated(self.now.monotonic, Level::Warn, key, text);
                }
                Role::Peer { identity, .. } => {
                    self.note_refusal("caller refused", identity.node, error);
                }
            }
        }
        verdict
    }

    /// Judges the answer to a hello of [`Node::hello_to`], which was `asked` with that knowledge.
    ///
    /// # Errors
    /// Why the link must be closed: another version, cluster, history, node or incarnation.
    pub fn check_welcome(
        &mut self,
        peer: NodeId,
        asked: Knowledge,
        welcome: &Welcome,
    ) -> Result<(), Error> {
        let verdict = self.judge_welcome(peer, welcome);
        match &verdict {
            Ok(()) => {
                self.forming.asked.insert(peer, asked);
            }
            Err(error) => self.note_refusal("peer refused", peer, error),
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
                return Err(another_node(self.config.id, *to));
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
            return Err(another_node(welcome.identity.node, peer));
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
        self.check_member(peer)?;
        let own = self.config.id;
        let known = self.forming.known(peer.node);
        if known.is_some_and(|known| known != peer.incarnation) {
            return Err(wrong_incarnation(peer.node));
        }
        let own_known = listed(&peer.formed, own);
        if own_known.is_some_and(|known| known != self.config.incarnation) {
            // Not the caller is wrong, and it must not take this for a refusal of itself.
            return Err(Error::WrongNode {
                reason: another_directory(own),
            });
        }
        if self.forming.hear(peer) {
            let now = self.now.monotonic;
            let key = ("another directory", peer.node.0);
            self.journal.repeated(now, Level::Warn, key, || {
                format!(
                    "member has another data directory than before node={}",
                    peer.node
                )
            });
        }
        Ok(())
    }

    fn note_refusal(&mut self, what: &'static str, node: NodeId, error: &Error) {
        let now = self.now.monotonic;
        self.journal.repeated(now, Level::Warn, (what, node.0), || {
            format!("{what} node={node} reason=\"{error}\"")
        });
    }

    /// Has the record written as soon as it is known; until then, asks those again whose answers
    /// are out of date.
    pub(super) fn form(&mut self, effects: &mut Effects) {
        if !self.forming.record.is_empty() {
            return;
        }
        let own = (self.config.id, self.config.incarnation);
        let Some(record) = self.forming.settle(own, &self.config.members) else {
            return self.ask_again(effects);
        };
        self.forming.record.clone_from(&record);
        for (id, incarnation) in &record {
            let heard = self.forming.heard.get(id);
            if heard.is_some_and(|peer| peer.incarnation != *incarnation) {
                self.refuse_peer(*id, &wrong_incarnation(*id), effects);
            }
        }
        effects.storage.push(StorageRequest::Form(record));
    }

    fn ask_again(&mut self, effects: &mut Effects) {
        let (forming, members) = (&self.forming, &self.config.members);
        let outdated = self.links.dialled();
        let outdated = outdated.filter(|(_, peer)| forming.is_outdated(*peer, members));
        let outdated = outdated.map(|(link, _)| link).collect();
        self.renew(outdated, effects);
    }

    /// Has these links, which this node dialled, dialled anew: each begins with a hello.
    pub(super) fn renew(&mut self, links: Vec<LinkId>, effects: &mut Effects) {
        for link in &links {
            self.links.close(*link);
        }
        effects.renew_links.extend(links);
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

pub(super) fn wrong_incarnation(node: NodeId) -> Error {
    Error::WrongIncarnation {
        reason: another_directory(node),
    }
}

/// Two data directories may have been exchanged, or two addresses.
fn another_node(here: NodeId, wanted: NodeId) -> Error {
    Error::WrongNode {
        reason: format!(
            "this is node {here}, not node {wanted}: start each with its own data directory, or tell \
             its new address (raftctl update-peer {here} --peer-addr HOST:PORT)"
        ),
    }
}

fn another_directory(node: NodeId) -> String {
    format!(
        "node {node} has another data directory than the one that the cluster knows; \
         its id cannot be used again: replace it (raftctl replace-peer)"
    )
}
