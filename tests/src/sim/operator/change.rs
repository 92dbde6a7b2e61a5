//! What an operator wants of the members, and whether that is what it was told.

use wire::client::{MemberChange, MembersChanged};
use wire::membership::{Membership, Suffrage};
use wire::types::NodeId;

use super::End;

/// As [`MemberChange`], with words of its own.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add {
        name: String,
        peer_addr: String,
        promote_within_ms: Option<u64>,
        replaces: Option<NodeId>,
    },
    Remove(NodeId),
    Promote(NodeId),
    Demote(NodeId),
    Update {
        id: NodeId,
        peer_addr: String,
    },
}

impl Change {
    pub(super) fn request(&self) -> MemberChange<'_> {
        match self {
            Self::Add {
                name,
                peer_addr,
                promote_within_ms,
                replaces,
            } => MemberChange::Add {
                name,
                peer_addr,
                promote_within_ms: *promote_within_ms,
                replaces: *replaces,
            },
            Self::Remove(id) => MemberChange::Remove(*id),
            Self::Promote(id) => MemberChange::Promote(*id),
            Self::Demote(id) => MemberChange::Demote(*id),
            Self::Update { id, peer_addr } => MemberChange::Update {
                id: *id,
                name: None,
                peer_addr: Some(peer_addr),
            },
        }
    }

    /// How it ends if nothing is against it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Add { replaces: None, .. } => End::Added,
            Self::Add { .. } => End::Replaced,
            Self::Remove(_) => End::Removed,
            Self::Promote(_) => End::Promoted,
            Self::Demote(_) => End::Demoted,
            Self::Update { .. } => End::Updated,
        }
    }

    /// Whether this is what it did, and nothing else.
    pub(super) fn check(&self, changed: &MembersChanged) -> Result<(), String> {
        let (before, after) = (&changed.before, &changed.after);
        let expected = self.applied_to(before, changed);
        match expected == *after {
            true => Ok(()),
            false => Err(format!("{self:?} made {after:?} of {before:?}")),
        }
    }

    /// By an own rule.
    fn applied_to(&self, before: &Membership, changed: &MembersChanged) -> Membership {
        let mut expected = before.clone();
        let members = &mut expected.members;
        let place = |wanted: &NodeId| before.members.iter().position(|m| m.id == *wanted);
        match self {
            Self::Add {
                name,
                peer_addr,
                promote_within_ms,
                replaces,
            } => {
                // How long it has depends on the leader's clock.
                let new = changed.after.get(changed.id).filter(|new| {
                    let wish = new.wish.map(|wish| wish.replaces);
                    new.id.0 == before.newest.0 + 1
                        && (&new.name, &new.peer_addr) == (name, peer_addr)
                        && (new.incarnation, new.suffrage) == (None, Suffrage::Learner)
                        && wish == promote_within_ms.map(|_| *replaces)
                });
                members.extend(new.cloned());
                expected.newest = NodeId(before.newest.0 + 1);
            }
            Self::Remove(id) => members.retain(|member| member.id != *id),
            Self::Promote(id) => {
                if let Some(place) = place(id) {
                    members[place].suffrage = Suffrage::Voter;
                    let wish = members[place].wish.take();
                    let replaced = wish.and_then(|wish| wish.replaces);
                    members.retain(|member| Some(member.id) != replaced);
                }
            }
            Self::Demote(id) => {
                if let Some(place) = place(id) {
                    members[place].suffrage = Suffrage::Learner;
                }
            }
            Self::Update { id, peer_addr } => {
                if let Some(place) = place(id) {
                    members[place].peer_addr.clone_from(peer_addr);
                }
            }
        }
        expected
    }
}
