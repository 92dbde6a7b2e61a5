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

#[cfg(test)]
mod tests {
    use wire::membership::{MemberRecord, Wish};
    use wire::types::Index;

    use super::*;

    /// Voters 1 to 3, and learner 4 that is to replace 2.
    fn members() -> Membership {
        let ids: Vec<_> = (1..=3).map(|id| (NodeId(id), format!("at {id}"))).collect();
        let mut members = Membership::initial(&ids, &[]);
        members.newest = NodeId(4);
        members.members.push(MemberRecord {
            id: NodeId(4),
            name: "n4".to_owned(),
            peer_addr: "at 4".to_owned(),
            incarnation: None,
            suffrage: Suffrage::Learner,
            wish: Some(Wish {
                until_wall_ms: 9,
                replaces: Some(NodeId(2)),
            }),
        });
        members
    }

    fn check(change: &Change, id: u64, edit: impl Fn(&mut Membership)) -> Result<(), String> {
        let (before, mut after) = (members(), members());
        edit(&mut after);
        change.check(&MembersChanged {
            index: Index(7),
            id: NodeId(id),
            before,
            after,
        })
    }

    #[test]
    fn a_change_does_what_was_asked() {
        let update = Change::Update {
            id: NodeId(3),
            peer_addr: "elsewhere".to_owned(),
        };
        check(&update, 3, |m| {
            m.members[2].peer_addr = "elsewhere".to_owned();
        })
        .unwrap();
        check(&Change::Remove(NodeId(2)), 2, |m| drop(m.members.remove(1))).unwrap();
        check(&Change::Remove(NodeId(9)), 9, |_| {}).unwrap();
        check(&Change::Demote(NodeId(1)), 1, |m| {
            m.members[0].suffrage = Suffrage::Learner;
        })
        .unwrap();
        check(&Change::Promote(NodeId(4)), 4, |m| {
            m.members[3].suffrage = Suffrage::Voter;
            m.members[3].wish = None;
            m.members.remove(1);
        })
        .unwrap();
        let add = Change::Add {
            name: "n5".to_owned(),
            peer_addr: "at 5".to_owned(),
            promote_within_ms: None,
            replaces: None,
        };
        let added = |m: &mut Membership, suffrage| {
            m.newest = NodeId(5);
            m.members.push(MemberRecord {
                id: NodeId(5),
                name: "n5".to_owned(),
                peer_addr: "at 5".to_owned(),
                incarnation: None,
                suffrage,
                wish: None,
            });
        };
        check(&add, 5, |m| added(m, Suffrage::Learner)).unwrap();
        assert!(check(&add, 5, |m| added(m, Suffrage::Voter)).is_err());
        assert!(check(&add, 5, |_| {}).is_err());
    }

    #[test]
    fn a_change_does_nothing_else() {
        let update = Change::Update {
            id: NodeId(3),
            peer_addr: "elsewhere".to_owned(),
        };
        let votes_no_more = |m: &mut Membership| {
            m.members[2].peer_addr = "elsewhere".to_owned();
            m.members[2].suffrage = Suffrage::Learner;
        };
        assert!(check(&update, 3, votes_no_more).is_err());
        let keeps_its_wish = |m: &mut Membership| m.members[3].suffrage = Suffrage::Voter;
        assert!(check(&Change::Promote(NodeId(4)), 4, keeps_its_wish).is_err());
        assert!(check(&Change::Remove(NodeId(2)), 2, |m| drop(m.members.remove(0))).is_err());
        assert!(check(&Change::Demote(NodeId(1)), 1, |m| m.newest = NodeId(9)).is_err());
    }
}
