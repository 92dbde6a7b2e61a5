//! What a change of members comes to, and whether the cluster can bear it.

use raft::FollowerView;
use wire::client::MemberChange;
use wire::error::Error;
use wire::limits::MEMBERS_MAX;
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::peer::DiskState;
use wire::types::NodeId;

use super::Node;
use super::admission::overloaded;
use super::links::Direction;
use crate::value;

/// A learner lags so few entries, at most, when it becomes a voter.
const PROMOTE_LAG_ENTRIES: u64 = 1_024;

/// What a change comes to.
pub(super) enum Plan {
    /// It is done already.
    Done(NodeId),
    /// Whom it is about, and the members after it.
    Change(NodeId, Membership),
}

type Planned = Result<Plan, Error>;

/// Whether a member is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Up,
    /// This reign is so young that it may not have come to answer.
    Unheard,
    /// It is silent, or has lost what it acknowledged.
    Down,
}

/// How many voters there are, and are there.
#[derive(Default)]
struct Voters {
    up: usize,
    unheard: usize,
    all: usize,
}

impl Node {
    /// What a change comes to, if it may be. `members` are those in force, by their names.
    pub(super) fn plan(&self, members: &Membership, change: MemberChange<'_>) -> Planned {
        match change {
            MemberChange::Add {
                name,
                peer_addr,
                promote_within_ms,
                replaces,
            } => {
                let wish = promote_within_ms.map(|within_ms| Wish {
                    until_wall_ms: self.now.wall_ms.saturating_add(within_ms),
                    replaces,
                });
                self.plan_addition(members, (name, peer_addr), wish)
            }
            MemberChange::Remove(id) => self.plan_removal(members, id),
            MemberChange::Promote(id) => self.plan_promotion(members, id),
            MemberChange::Demote(id) => self.plan_demotion(members, id),
            MemberChange::Update {
                id,
                name,
                peer_addr,
            } => self.plan_update(members, id, (name, peer_addr)),
        }
    }

    fn plan_addition(
        &self,
        members: &Membership,
        (name, peer_addr): (&str, &str),
        wish: Option<Wish>,
    ) -> Planned {
        check_name(name)?;
        check_address(peer_addr)?;
        let replaces = wish.and_then(|wish| wish.replaces);
        if let Some(known) = called(members, name) {
            if known.peer_addr == peer_addr {
                replaces.map_or(Ok(()), |old| check_replaced(members, known, old))?;
                return Ok(Plan::Done(known.id));
            }
            return Err(refused(
                format!(
                    "{name} is a member already, with the address {}",
                    known.peer_addr
                ),
                format!("another name, or: raftctl update-peer {name} --peer-addr {peer_addr}"),
            ));
        }
        if let Some(id) = replaces {
            check_replaceable(members, id)?;
        }
        let mut others = members.members.iter().filter(|m| Some(m.id) != replaces);
        if let Some(other) = others.find(|member| member.peer_addr == peer_addr) {
            return Err(refused(
                format!("member {} has the address {peer_addr}", other.id),
                "give every member an address of its own".to_owned(),
            ));
        }
        if members.members.len() >= MEMBERS_MAX {
            return Err(refused(
                format!("a cluster has {MEMBERS_MAX} members at most"),
                "remove one first: raftctl remove-peer".to_owned(),
            ));
        }
        // An operator may have begun with the highest.
        let Some(id) = members.newest.0.checked_add(1) else {
            return Err(refused(
                "no id is left for it".to_owned(),
                "a new cluster with lower ids, and raftctl dump and load".to_owned(),
            ));
        };
        let mut target = members.clone();
        target.newest = NodeId(id);
        target.members.push(MemberRecord {
            id: target.newest,
            name: name.to_owned(),
            peer_addr: peer_addr.to_owned(),
            incarnation: None,
            suffrage: Suffrage::Learner,
            wish,
        });
        Ok(Plan::Change(target.newest, target))
    }

    fn plan_removal(&self, members: &Membership, id: NodeId) -> Planned {
        if members.get(id).is_none() && id <= members.newest {
            return Ok(Plan::Done(id));
        }
        member_of(members, id)?;
        let mut target = members.clone();
        target.members.retain(|member| member.id != id);
        self.check_quorum(members, &target)?;
        Ok(Plan::Change(id, target))
    }

    fn plan_promotion(&self, members: &Membership, id: NodeId) -> Planned {
        if member_of(members, id)?.suffrage == Suffrage::Voter {
            return Ok(Plan::Done(id));
        }
        let target = members.promoted(id);
        self.check_ready(id)?;
        self.check_quorum(members, &target)?;
        Ok(Plan::Change(id, target))
    }

    fn plan_demotion(&self, members: &Membership, id: NodeId) -> Planned {
        if member_of(members, id)?.suffrage == Suffrage::Learner {
            return Ok(Plan::Done(id));
        }
        let mut target = members.clone();
        edit(&mut target, id, |member| {
            member.suffrage = Suffrage::Learner;
        });
        self.check_quorum(members, &target)?;
        Ok(Plan::Change(id, target))
    }

    fn plan_update(
        &self,
        members: &Membership,
        id: NodeId,
        (name, peer_addr): (Option<&str>, Option<&str>),
    ) -> Planned {
        member_of(members, id)?;
        name.map_or(Ok(()), check_name)?;
        peer_addr.map_or(Ok(()), check_address)?;
        let taken = name.and_then(|name| called(members, name));
        if let Some(other) = taken.filter(|other| other.id != id) {
            return Err(refused(
                format!("member {} is called {}", other.id, other.name),
                "give every member a name of its own".to_owned(),
            ));
        }
        let mut target = members.clone();
        edit(&mut target, id, |member| {
            if let Some(name) = name {
                name.clone_into(&mut member.name);
            }
            if let Some(peer_addr) = peer_addr {
                peer_addr.clone_into(&mut member.peer_addr);
            }
        });
        Ok(if target == *members {
            Plan::Done(id)
        } else {
            Plan::Change(id, target)
        })
    }

    /// Refuses a change that no quorum could commit, or behind which none could commit anything:
    /// what was not heard lately counts as down. Whom a new leader has yet to hear is waited for. With
    /// the vote of one that is up, also in another's place, no fewer failures are survived than before.
    pub(super) fn check_quorum(
        &self,
        before: &Membership,
        after: &Membership,
    ) -> Result<(), Error> {
        let names: Vec<String> = after.members.iter().map(|m| m.name.clone()).collect();
        if !after.members.iter().any(|member| member.suffrage.votes()) {
            return Err(refused(
                "nobody would be left who votes".to_owned(),
                "stop the last node instead, or add others first".to_owned(),
            ));
        }
        for members in [before, after] {
            let Voters { up, unheard, all } = self.voters_of(members);
            let quorum = all / 2 + 1;
            if up < quorum && quorum <= up + unheard {
                return Err(overloaded());
            }
            if up < quorum {
                return Err(refused(
                    format!("of the {all} voters only {up} would be up: no write could be done"),
                    format!(
                        "bring those that are down back first (members: {})",
                        names.join(" ")
                    ),
                ));
            }
        }
        Ok(())
    }

    fn voters_of(&self, members: &Membership) -> Voters {
        let mut voters = Voters::default();
        for member in members.members.iter().filter(|m| m.suffrage.votes_after()) {
            let follower = self
                .raft
                .followers()
                .find(|follower| follower.id == member.id);
            let presence = match follower {
                _ if member.id == self.config.id => Presence::Up,
                None => Presence::Down,
                Some(follower) => self.presence(&follower),
            };
            voters.all += 1;
            voters.up += usize::from(presence == Presence::Up);
            voters.unheard += usize::from(presence == Presence::Unheard);
        }
        voters
    }

    /// Who does not answer in this reign may be dead, as the leader of before most likely is.
    fn presence(&self, follower: &FollowerView) -> Presence {
        if self.is_silent(follower) || follower.health.lost {
            Presence::Down
        } else if follower.has_answered {
            Presence::Up
        } else {
            Presence::Unheard
        }
    }

    pub(super) fn is_silent(&self, follower: &FollowerView) -> bool {
        self.now.monotonic.since(follower.heard_at) >= self.config.election_timeout_max
    }

    /// Refuses a learner that would be no good as a voter now.
    pub(super) fn check_ready(&self, id: NodeId) -> Result<(), Error> {
        let follower = self.raft.followers().find(|follower| follower.id == id);
        let last = self.raft.last().index;
        let lacks = match follower {
            None => "is not followed by this leader",
            Some(follower) if self.presence(&follower) != Presence::Up => "does not answer",
            Some(follower) if follower.health.rebuilding => "rebuilds its state",
            Some(follower) if follower.disk.state >= DiskState::Hard => "has a full disk",
            Some(follower) if follower.match_index.0 + PROMOTE_LAG_ENTRIES < last.0 => {
                "lags behind"
            }
            Some(_) if self.links.to(id, Direction::Accepted).is_none() => {
                "does not reach this leader"
            }
            Some(_) => return Ok(()),
        };
        Err(refused(
            format!("node {id} {lacks}"),
            "see raftctl status, and try again later".to_owned(),
        ))
    }
}

/// Refuses a name that no node can be given: another could be taken for an id.
fn check_name(name: &str) -> Result<(), Error> {
    match value::name(name) {
        Ok(_) => Ok(()),
        Err(why) => Err(refused(format!("{name:?} is no name"), why)),
    }
}

/// Refuses an address that nobody could connect to.
fn check_address(addr: &str) -> Result<(), Error> {
    match value::told_address(addr) {
        Ok(_) => Ok(()),
        Err(why) => Err(refused(format!("{addr:?} is no peer address"), why)),
    }
}

/// The member of this id.
fn member_of(members: &Membership, id: NodeId) -> Result<&MemberRecord, Error> {
    members.get(id).ok_or_else(|| {
        refused(
            format!("there is no member {id}"),
            "raftctl peers lists them".to_owned(),
        )
    })
}

/// Refuses to replace who is being replaced, or who is to replace another: in whatever order the new
/// ones got their votes, there would be one voter more than was meant.
fn check_replaceable(members: &Membership, id: NodeId) -> Result<(), Error> {
    member_of(members, id)?;
    for new in &members.members {
        let Some(old) = new.wish.and_then(|wish| wish.replaces) else {
            continue;
        };
        if old == id || new.id == id {
            let name = &new.name;
            return Err(refused(
                format!("{name} is to replace member {old} already"),
                format!("wait until it votes, or: raftctl remove-peer {name}"),
            ));
        }
    }
    Ok(())
}

/// Refuses a member that is there already as the new one, unless it is the one that is to replace
/// `old`, or has.
fn check_replaced(members: &Membership, new: &MemberRecord, old: NodeId) -> Result<(), Error> {
    let replaces = new.wish.and_then(|wish| wish.replaces);
    if replaces == Some(old) || (members.get(old).is_none() && old <= members.newest) {
        return Ok(());
    }
    let name = &new.name;
    Err(if new.id == old {
        refused(
            format!("{name} is that member itself"),
            "another name for the new one; it may have the same address".to_owned(),
        )
    } else {
        member_of(members, old)?;
        refused(
            format!("{name} is a member already, and not to replace member {old}"),
            format!("another name and address, or: raftctl remove-peer {old}"),
        )
    })
}

fn called<'m>(members: &'m Membership, name: &str) -> Option<&'m MemberRecord> {
    members.members.iter().find(|member| member.name == name)
}

fn edit(members: &mut Membership, id: NodeId, change: impl FnOnce(&mut MemberRecord)) {
    if let Some(member) = members.members.iter_mut().find(|member| member.id == id) {
        change(member);
    }
}

pub(super) fn refused(reason: String, advice: String) -> Error {
    Error::Refused { reason, advice }
}
