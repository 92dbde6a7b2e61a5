//! Who is a member, as this node knows it: from the log, and from what the others tell of themselves.

use std::time::Duration;

use log::Level;
use wire::error::Error;
use wire::hello::PeerIdentity;
use wire::limits::MEMBERS_MAX;
use wire::membership::{MemberRecord, Membership, Suffrage};
use wire::types::NodeId;

use super::Node;
use super::forming::wrong_incarnation;
use super::io::{Effects, StorageRequest};

/// Nodes of which this one remembers what they told. A membership that is older than the one in
/// force among the others knows none of their newer members.
const HEARD_MAX: usize = 4 * MEMBERS_MAX;
/// Between two hellos of a learner that hears no leader.
const KNOCK_PAUSE: Duration = Duration::from_secs(2);

impl Node {
    /// Who decides: the voters, in joint consensus those of after.
    pub(super) fn voters(&self) -> impl Iterator<Item = NodeId> + Clone {
        let members = self.raft.membership().members.iter();
        let voters = members.filter(|member| member.suffrage.votes_after());
        voters.map(|member| member.id)
    }

    /// What a member is called: as the log says, or as it told.
    pub(super) fn name_of(&self, member: &MemberRecord) -> String {
        if !member.name.is_empty() {
            return member.name.clone();
        }
        if member.id == self.config.id {
            return self.config.name.clone();
        }
        let heard = self.forming.heard.get(&member.id);
        heard.map_or_else(String::new, |peer| peer.name.clone())
    }

    /// The other members, and where this node finds them: whom it dials.
    #[must_use]
    pub fn peers(&self) -> Vec<(NodeId, String)> {
        let members = self.raft.membership().members.iter();
        let others = members.filter(|member| member.id != self.config.id);
        others
            .map(|member| (member.id, member.peer_addr.clone()))
            .collect()
    }

    /// Another membership is in force.
    pub(super) fn members_changed(&mut self, membership: &Membership, effects: &mut Effects) {
        // Who leaves is as the log had it, which may not have told a name yet.
        let named = self.with_names(membership);
        let members: Vec<String> = named.members.iter().map(ToString::to_string).collect();
        let text = format!("members members=\"{}\"", members.join(" "));
        self.journal.line(Level::Info, text);
        self.forming
            .heard
            .retain(|id, _| membership.get(*id).is_some());
        self.disks.forget_removed(membership);
        effects.peers_changed = Some(self.peers());
        let alone = membership.is_alone(self.config.id);
        effects.storage.push(StorageRequest::Alone(alone));
    }

    /// Whether a node that says so much of itself may talk to this one.
    pub(super) fn check_member(&self, peer: &PeerIdentity) -> Result<(), Error> {
        if peer.node == self.config.id {
            return Err(Error::WrongNode {
                reason: format!("node {} is this node", peer.node),
            });
        }
        match self.raft.membership().get(peer.node) {
            Some(member) => match member.incarnation {
                Some(known) if known != peer.incarnation => Err(wrong_incarnation(peer.node)),
                _ => Ok(()),
            },
            None if self.was_removed(peer.node) => Err(Error::Removed),
            // The others may have admitted a member of which this node has not heard yet. Then it was
            // told who formed the cluster, which nobody else knows.
            None if peer.formed.is_empty() || peer.formed != self.forming.record() => {
                Err(Error::WrongNode {
                    reason: format!("node {} is no member of this cluster", peer.node),
                })
            }
            None if self.forming.heard.len() >= HEARD_MAX => Err(Error::TooManyConnections {
                limit: HEARD_MAX as u64,
            }),
            None => Ok(()),
        }
    }

    /// A learner that hears no leader says hello anew to all now and then. It asks nobody for votes,
    /// so that links which died without a word would look alive to it for ever, and one that was
    /// removed meanwhile would never learn it.
    pub(super) fn knock(&mut self, effects: &mut Effects) {
        let own = self.raft.membership().suffrage(self.config.id);
        let is_silent = !own.is_some_and(Suffrage::votes) && self.raft.leader().is_none();
        if !is_silent || !self.forming.is_formed() {
            self.knock_at = None;
            return;
        }
        let now = self.now.monotonic;
        if now < *self.knock_at.get_or_insert(now + KNOCK_PAUSE) {
            return;
        }
        self.knock_at = Some(now + KNOCK_PAUSE);
        let links = self.links.dialled().map(|(link, _)| link).collect();
        self.renew(links, effects);
    }

    /// Whoever was removed learns it at once.
    pub(super) fn close_links_of_removed(&self, effects: &mut Effects) {
        let links = self.links.all().filter(|(_, peer)| self.was_removed(*peer));
        effects
            .close_links
            .extend(links.map(|(link, _)| (link, Error::Removed)));
    }

    /// Whether it is committed that this node was a member and is none any more: ids are never
    /// given twice.
    fn was_removed(&self, id: NodeId) -> bool {
        let committed = self.store.membership();
        committed.is_some_and(|members| id <= members.newest && members.get(id).is_none())
    }

    /// The state says who is a member: if this node is none any more, it ends.
    pub(super) fn end_if_removed(&mut self, effects: &mut Effects) {
        if self.was_removed(self.config.id) {
            self.end_removed("the log", effects);
        }
    }

    /// This node is no member any more, says that `source`.
    pub(super) fn end_removed(&mut self, source: &str, effects: &mut Effects) {
        if self.stop_at.is_none() {
            let text = format!("removed from the cluster by=\"{source}\"");
            self.journal.line(Level::Warn, text);
            self.stop(effects);
        }
    }
}
