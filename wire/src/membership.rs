//! Who is a member of the cluster, and who votes (thesis 4): the body of a log entry of kind
//! [`crate::entry::EntryKind::Membership`], and a part of every snapshot.
//!
//! A change of voters takes two entries (joint consensus, 4.3). Behind the first one two sets of
//! voters stand side by side, that of before and that of after, and whatever is decided needs a
//! majority of both; the second one ends the set of before. What a member is in either set is one
//! word of its own, [`Suffrage`], so that no two lists can contradict each other.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed, put_count, put_name, put_option};
use crate::error::Error;
use crate::limits::{ADDR_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX};
use crate::types::{Incarnation, NodeId};

/// In which of the two sets of voters a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffrage {
    /// In none: it only receives.
    Learner,
    /// In both.
    Voter,
    /// In that of after.
    Incoming,
    /// In that of before; a learner after.
    Demoted,
    /// In that of before; no member after.
    Leaving,
}

impl Suffrage {
    /// Whether the member is a voter of before.
    #[must_use]
    pub fn votes_before(self) -> bool {
        matches!(self, Self::Voter | Self::Demoted | Self::Leaving)
    }

    /// Whether the member is a voter of after.
    #[must_use]
    pub fn votes_after(self) -> bool {
        matches!(self, Self::Voter | Self::Incoming)
    }

    /// Whether the member has a vote in either.
    #[must_use]
    pub fn votes(self) -> bool {
        self != Self::Learner
    }

    /// What the member is when the set of before ends; `None` if none.
    #[must_use]
    pub fn after(self) -> Option<Self> {
        match self {
            Self::Voter | Self::Incoming => Some(Self::Voter),
            Self::Learner | Self::Demoted => Some(Self::Learner),
            Self::Leaving => None,
        }
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::Learner => 1,
            Self::Voter => 2,
            Self::Incoming => 3,
            Self::Demoted => 4,
            Self::Leaving => 5,
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Learner),
            2 => Ok(Self::Voter),
            3 => Ok(Self::Incoming),
            4 => Ok(Self::Demoted),
            5 => Ok(Self::Leaving),
            _ => Err(malformed("the suffrage of a member is not known")),
        }
    }
}

/// What a learner was admitted for. It outlives the leader that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// It becomes a voter as soon as that helps; if it has not by this wall clock, in milliseconds
    /// since 1970, it is removed again.
    pub until_wall_ms: u64,
    /// The member that leaves when it becomes a voter.
    pub replaces: Option<NodeId>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id, never given to another one.
    pub id: NodeId,
    /// Its name; empty if it was never told.
    pub name: String,
    /// The address that its peers use.
    pub peer_addr: String,
    /// Its data directory's life, once it is bound to one: no other may use the id (rules D1).
    pub incarnation: Option<Incarnation>,
    /// In which set of voters it is.
    pub suffrage: Suffrage,
    /// What it waits for; only a learner does.
    pub wish: Option<Wish>,
}

impl fmt::Display for Suffrage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learner => "learner",
            Self::Voter => "voter",
            Self::Incoming => "incoming",
            Self::Demoted => "demoted",
            Self::Leaving => "leaving",
        })
    }
}

/// `4:n4:learner`, for logs.
impl fmt::Display for MemberRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.id, self.name, self.suffrage)
    }
}

/// All members.
///
/// Invariants, checked when it is decoded and when it is encoded:
/// - ids ascend, and none is above `newest`;
/// - a name that was told belongs to one member;
/// - there is a voter of before and one of after;
/// - only learners have wishes, and [`MEMBERS_MAX`] bounds all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The highest id that ever was a member's: the next one is above it.
    pub newest: NodeId,
    /// By ascending id.
    pub members: Vec<MemberRecord>,
}

impl Membership {
    /// The members that a cluster begins with: voters all, bound to the incarnations of which it
    /// is formed.
    #[must_use]
    pub fn initial(members: &[(NodeId, String)], formed: &[(NodeId, Incarnation)]) -> Self {
        let bound = |id| formed.iter().find(|(formed, _)| *formed == id);
        let members: Vec<MemberRecord> = members
            .iter()
            .map(|(id, peer_addr)| MemberRecord {
                id: *id,
                name: String::new(),
                peer_addr: peer_addr.clone(),
                incarnation: bound(*id).map(|(_, incarnation)| *incarnation),
                suffrage: Suffrage::Voter,
                wish: None,
            })
            .collect();
        Self {
            newest: members
                .iter()
                .map(|member| member.id)
                .max()
                .unwrap_or_default(),
            members,
        }
    }

    /// The member of this id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&MemberRecord> {
        self.members.iter().find(|member| member.id == id)
    }

    /// What `id` is in the sets of voters; `None` if it is no member.
    #[must_use]
    pub fn suffrage(&self, id: NodeId) -> Option<Suffrage> {
        self.get(id).map(|member| member.suffrage)
    }

    /// Whether nobody but `id` has, or may have, what it holds: there is no other member that votes,
    /// or is bound to a data directory.
    #[must_use]
    pub fn is_alone(&self, id: NodeId) -> bool {
        let holds = |member: &MemberRecord| member.suffrage.votes() || member.incarnation.is_some();
        let mut others = self.members.iter().filter(|member| member.id != id);
        !others.any(holds)
    }

    /// Whether the two sets of voters differ.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        let differs =
            |member: &MemberRecord| member.suffrage.votes_before() != member.suffrage.votes_after();
        self.members.iter().any(differs)
    }

    /// Whether those that `has` names are a quorum: a majority of either set of voters (thesis 4.3).
    #[must_use]
    pub fn has_quorum(&self, has: impl Fn(NodeId) -> bool) -> bool {
        let sets: [fn(Suffrage) -> bool; 2] = [Suffrage::votes_before, Suffrage::votes_after];
        sets.iter().all(|votes| {
            let voters = self.members.iter().filter(|member| votes(member.suffrage));
            let having = voters.clone().filter(|member| has(member.id)).count();
            having > voters.count() / 2
        })
    }

    /// The first step from here to `target`, neither of which is joint: `target` itself if the
    /// voters stay the same; else both sets of voters side by side, beside all else that `target`
    /// says.
    ///
    /// # Panics
    /// If one of the two is joint.
    #[must_use]
    pub fn toward(&self, target: &Self) -> Self {
        assert!(
            !self.is_joint() && !target.is_joint(),
            "one change at a time (thesis 4.3)"
        );
        let mut step = target.clone();
        for member in &mut step.members {
            let voted = self.suffrage(member.id) == Some(Suffrage::Voter);
            let votes = member.suffrage == Suffrage::Voter;
            match (voted, votes) {
                (false, true) => member.suffrage = Suffrage::Incoming,
                (true, false) => member.suffrage = Suffrage::Demoted,
                (true, true) | (false, false) => {}
            }
        }
        let gone = |member: &&MemberRecord| {
            member.suffrage == Suffrage::Voter && target.get(member.id).is_none()
        };
        let leaving = self.members.iter().filter(gone).map(|member| MemberRecord {
            suffrage: Suffrage::Leaving,
            ..member.clone()
        });
        step.members.extend(leaving);
        step.members.sort_by_key(|member| member.id);
        step
    }

    /// This learner has got its vote, and whom it replaces is gone.
    #[must_use]
    pub fn promoted(&self, id: NodeId) -> Self {
        let mut target = self.clone();
        let mut replaced = None;
        for member in target.members.iter_mut().filter(|member| member.id == id) {
            member.suffrage = Suffrage::Voter;
            replaced = member.wish.take().and_then(|wish| wish.replaces);
        }
        target.members.retain(|member| Some(member.id) != replaced);
        target
    }

    /// The set of before has ended (thesis 4.3).
    #[must_use]
    pub fn settled(&self) -> Self {
        let members = self.members.iter().filter_map(|member| {
            let suffrage = member.suffrage.after()?;
            Some(MemberRecord {
                suffrage,
                ..member.clone()
            })
        });
        Self {
            newest: self.newest,
            members: members.collect(),
        }
    }

    /// Appends it to `out`: the body of an entry.
    ///
    /// # Panics
    /// If an invariant does not hold, or a name or an address is longer than [`crate::limits`] allow.
    pub fn encode(&self, out: &mut BytesMut) {
        if let Err(why) = self.check() {
            panic!("a membership that cannot be: {why}");
        }
        out.put_u64(self.newest.0);
        put_count(out, self.members.len(), MEMBERS_MAX);
        for member in &self.members {
            out.put_u64(member.id.0);
            put_name(out, &member.name, NAME_BYTES_MAX);
            put_name(out, &member.peer_addr, ADDR_BYTES_MAX);
            put_option(out, member.incarnation, |out, life| out.put_u64(life.0));
            member.suffrage.encode(out);
            put_option(out, member.wish, |out, wish| {
                out.put_u64(wish.until_wall_ms);
                put_option(out, wish.replaces, |out, id| out.put_u64(id.0));
            });
        }
    }

    /// Reads what [`Membership::encode`] wrote.
    ///
    /// # Errors
    /// Of bytes that are no membership, or of one that cannot be.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let newest = reader.node()?;
        let count = reader.count(MEMBERS_MAX, 8 + 2 + 2 + 1 + 1 + 1)?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(MemberRecord {
                id: reader.node()?,
                name: reader.text("name", NAME_BYTES_MAX)?,
                peer_addr: reader.text("address", ADDR_BYTES_MAX)?,
                incarnation: reader.option(Reader::u64)?.map(Incarnation),
                suffrage: Suffrage::decode(&mut reader)?,
                wish: reader.option(|reader| {
                    Ok(Wish {
                        until_wall_ms: reader.u64()?,
                        replaces: reader.option(Reader::node)?,
                    })
                })?,
            });
        }
        reader.finish()?;
        let membership = Self { newest, members };
        membership.check().map_err(malformed)?;
        Ok(membership)
    }

    /// Whether the invariants hold; if not, which one is broken.
    fn check(&self) -> Result<(), &'static str> {
        let members = || self.members.iter();
        let check_that = |fact: bool, why| if fact { Ok(()) } else { Err(why) };
        check_that(
            members().is_sorted_by(|a, b| a.id < b.id),
            "members are not in ascending order",
        )?;
        check_that(
            members().all(|member| member.id <= self.newest),
            "a member is newer than the newest",
        )?;
        let names = members().map(|member| member.name.as_str());
        let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        check_that(names.is_sorted_by(|a, b| a < b), "two members of one name")?;
        check_that(
            members().any(|member| member.suffrage.votes_before())
                && members().any(|member| member.suffrage.votes_after()),
            "nobody votes",
        )?;
        check_that(
            members().all(|member| member.wish.is_none() || !member.suffrage.votes()),
            "a voter with a wish",
        )
    }
}
