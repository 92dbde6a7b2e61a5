//! Changes of the members (thesis 4), as clients ask for them.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed, put_bytes, put_count, put_name, put_option};
use crate::error::Error;
use crate::limits::{ADDR_BYTES_MAX, MEMBERS_MAX, MEMBERSHIP_BYTES_MAX, NAME_BYTES_MAX};
use crate::membership::Membership;
use crate::types::{ClusterId, Epoch, Incarnation, Index, NodeId};

/// One change. Each is harmless when it is asked for again: what is done already is answered as
/// done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange<'a> {
    /// Admits a learner, to which the log gives a new id.
    Add {
        /// Its name, which no other member has.
        name: &'a str,
        /// Where its peers will find it.
        peer_addr: &'a str,
        /// Within so many milliseconds it becomes a voter, or is removed again; `None`: it stays a
        /// learner.
        promote_within_ms: Option<u64>,
        /// The member that leaves when it becomes a voter.
        replaces: Option<NodeId>,
    },
    /// Ends a membership.
    Remove(NodeId),
    /// Makes a voter of a learner.
    Promote(NodeId),
    /// Makes a learner of a voter.
    Demote(NodeId),
    /// Tells another name or address.
    Update {
        /// Whose.
        id: NodeId,
        /// The new name, if another one.
        name: Option<&'a str>,
        /// The new address of its peers' links, if another one.
        peer_addr: Option<&'a str>,
    },
}

impl<'a> MemberChange<'a> {
    pub(super) fn encode(self, out: &mut BytesMut) {
        let put_label = |out: &mut BytesMut, name: &str| put_name(out, name, NAME_BYTES_MAX);
        let put_addr = |out: &mut BytesMut, addr: &str| put_name(out, addr, ADDR_BYTES_MAX);
        match self {
            Self::Add {
                name,
                peer_addr,
                promote_within_ms,
                replaces,
            } => {
                out.put_u8(1);
                put_label(out, name);
                put_addr(out, peer_addr);
                put_option(out, promote_within_ms, BufMut::put_u64);
                put_option(out, replaces, |out, id| out.put_u64(id.0));
            }
            Self::Remove(id) => {
                out.put_u8(2);
                out.put_u64(id.0);
            }
            Self::Promote(id) => {
                out.put_u8(3);
                out.put_u64(id.0);
            }
            Self::Demote(id) => {
                out.put_u8(4);
                out.put_u64(id.0);
            }
            Self::Update {
                id,
                name,
                peer_addr,
            } => {
                out.put_u8(5);
                out.put_u64(id.0);
                put_option(out, name, put_label);
                put_option(out, peer_addr, put_addr);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(match reader.u8()? {
            1 => Self::Add {
                name: read_label(reader)?,
                peer_addr: read_addr(reader)?,
                promote_within_ms: reader.option(Reader::u64)?,
                replaces: reader.option(Reader::node)?,
            },
            2 => Self::Remove(reader.node()?),
            3 => Self::Promote(reader.node()?),
            4 => Self::Demote(reader.node()?),
            5 => Self::Update {
                id: reader.node()?,
                name: reader.option(read_label)?,
                peer_addr: reader.option(read_addr)?,
            },
            _ => return Err(malformed("the change of members is not known")),
        })
    }
}

/// A name that tells somebody.
pub(super) fn read_label<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    match reader.str("name", NAME_BYTES_MAX)? {
        "" => Err(malformed("a name is empty")),
        name => Ok(name),
    }
}

/// An address that leads somewhere.
pub(super) fn read_addr<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    match reader.str("address", ADDR_BYTES_MAX)? {
        "" => Err(malformed("an address is empty")),
        addr => Ok(addr),
    }
}

/// What a change did, or would do. Between the two memberships there is a joint one, if their
/// voters differ ([`Membership::toward`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersChanged {
    /// The index of the entry that ended it; 0 if nothing was appended, because it was asked what
    /// would be, or it was done already.
    pub index: Index,
    /// The member that it is about.
    pub id: NodeId,
    /// Who was a member.
    pub before: Membership,
    /// Who is.
    pub after: Membership,
}

impl MembersChanged {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.index.0);
        out.put_u64(self.id.0);
        for membership in [&self.before, &self.after] {
            let mut body = BytesMut::new();
            membership.encode(&mut body);
            put_bytes(out, &body);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let index = reader.index()?;
        let id = reader.node()?;
        let mut membership =
            || Membership::decode(reader.bytes("membership", MEMBERSHIP_BYTES_MAX)?);
        Ok(Self {
            index,
            id,
            before: membership()?,
            after: membership()?,
        })
    }
}

/// Who a node is from now on that asked to join, and what its cluster began with: all that its
/// IDENTITY says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of its data.
    pub epoch: Epoch,
    /// The id of the node.
    pub node: NodeId,
    /// The initial members with their peer addresses, by ascending id.
    pub members: Vec<(NodeId, String)>,
    /// Their incarnations, by ascending id.
    pub formed: Vec<(NodeId, Incarnation)>,
}

impl Admitted {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u128(self.cluster.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.node.0);
        put_count(out, self.members.len(), MEMBERS_MAX);
        for (id, addr) in &self.members {
            out.put_u64(id.0);
            put_name(out, addr, ADDR_BYTES_MAX);
        }
        put_count(out, self.formed.len(), MEMBERS_MAX);
        for (id, incarnation) in &self.formed {
            out.put_u64(id.0);
            out.put_u64(incarnation.0);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let cluster = ClusterId(reader.u128()?);
        let epoch = Epoch(reader.u64()?);
        let node = reader.node()?;
        let count = reader.count(MEMBERS_MAX, 8 + 2)?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push((reader.node()?, reader.text("address", ADDR_BYTES_MAX)?));
        }
        let count = reader.count(MEMBERS_MAX, 8 + 8)?;
        let mut formed = Vec::with_capacity(count);
        for _ in 0..count {
            formed.push((reader.node()?, Incarnation(reader.u64()?)));
        }
        let ascends = members.is_sorted_by(|(a, _), (b, _)| a < b)
            && formed.is_sorted_by(|(a, _), (b, _)| a < b);
        if !ascends {
            return Err(malformed("members are not in ascending order"));
        }
        Ok(Self {
            cluster,
            epoch,
            node,
            members,
            formed,
        })
    }
}
