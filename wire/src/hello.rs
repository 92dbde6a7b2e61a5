//! The first frame of a connection and its answer.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed, put_count, put_name, put_option};
use crate::error::Error;
use crate::frame::{self, Frame, Kind};
use crate::limits::{ADDR_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX};
use crate::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

/// The oldest protocol version that this build speaks.
pub const VERSION_MIN: u8 = 1;
/// The newest protocol version that this build speaks.
pub const VERSION_MAX: u8 = 1;

/// The first bytes of a hello's payload: a caller that speaks something else is told so.
pub const MAGIC: [u8; 8] = *b"raftd\r\n\0";

/// The version that both ends speak: the highest that is known to both.
///
/// # Errors
/// `UnsupportedVersion`, with the versions of this build, if there is none.
pub fn negotiate(min: u8, max: u8) -> Result<u8, Error> {
    let highest = max.min(VERSION_MAX);
    if highest < min.max(VERSION_MIN) {
        return Err(Error::UnsupportedVersion {
            min: VERSION_MIN,
            max: VERSION_MAX,
        });
    }
    Ok(highest)
}

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
    /// The incarnation of every initial member, by ascending id, once the cluster is formed;
    /// empty before.
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

impl Hello {
    /// That of a client of this build that takes any cluster.
    #[must_use]
    pub fn client() -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: 0,
            cluster: None,
            epoch: None,
            group: 0,
            role: Role::Client,
        }
    }
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

impl PeerIdentity {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.node.0);
        out.put_u64(self.incarnation.0);
        out.put_u64(self.life);
        put_name(out, &self.name, NAME_BYTES_MAX);
        put_name(out, &self.client_addr, ADDR_BYTES_MAX);
        out.put_u8(u8::from(self.virgin));
        let ascending = self.formed.is_sorted_by(|(a, _), (b, _)| a < b);
        assert!(ascending, "formed members by ascending id");
        put_count(out, self.formed.len(), MEMBERS_MAX);
        for (node, incarnation) in &self.formed {
            out.put_u64(node.0);
            out.put_u64(incarnation.0);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            node: reader.node()?,
            incarnation: reader.u64().map(Incarnation)?,
            life: reader.u64()?,
            name: reader.text("name", NAME_BYTES_MAX)?,
            client_addr: reader.text("address", ADDR_BYTES_MAX)?,
            virgin: reader.flag()?,
            formed: {
                let count = reader.count(MEMBERS_MAX, 16)?;
                let mut formed: Vec<(NodeId, Incarnation)> = Vec::with_capacity(count);
                for _ in 0..count {
                    let node = reader.node()?;
                    if formed.last().is_some_and(|(last, _)| *last >= node) {
                        return Err(malformed("members are not in ascending order"));
                    }
                    formed.push((node, reader.u64().map(Incarnation)?));
                }
                formed
            },
        })
    }
}

impl LeaderHint {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.node.0);
        put_name(out, &self.client_addr, ADDR_BYTES_MAX);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            node: reader.node()?,
            client_addr: reader.text("address", ADDR_BYTES_MAX)?,
        })
    }
}

impl Hello {
    /// Appends it to `out` as a frame. Its layout is the same in every version of the protocol.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = frame::begin(out, Kind::Hello, 0);
        out.put_slice(&MAGIC);
        out.put_u8(self.version_min);
        out.put_u8(self.version_max);
        out.put_u64(self.features);
        put_option(out, self.cluster, |out, cluster| out.put_u128(cluster.0));
        put_option(out, self.epoch, |out, epoch| out.put_u64(epoch.0));
        out.put_u32(self.group);
        match &self.role {
            Role::Client => out.put_u8(1),
            Role::Peer { identity, to } => {
                out.put_u8(2);
                identity.encode(out);
                out.put_u64(to.0);
            }
        }
        frame::finish(out, start);
    }

    /// Reads the first frame of a connection. Whether there is a common version is for
    /// [`negotiate`] to say.
    ///
    /// # Errors
    /// `Malformed` if it is no hello; `TooLarge` for a name or an address.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Error> {
        if frame.kind != Kind::Hello {
            return Err(malformed("the first frame is not a hello"));
        }
        frame::expect_request_id(frame, false)?;
        let mut reader = Reader::new(frame.payload);
        if reader.array()? != &MAGIC {
            return Err(malformed("the hello is not one of raftd"));
        }
        let hello = Self {
            version_min: reader.u8()?,
            version_max: reader.u8()?,
            features: reader.u64()?,
            cluster: reader.option(|reader| reader.u128().map(ClusterId))?,
            epoch: reader.option(|reader| reader.u64().map(Epoch))?,
            group: reader.u32()?,
            role: match reader.u8()? {
                1 => Role::Client,
                2 => Role::Peer {
                    identity: PeerIdentity::decode(&mut reader)?,
                    to: reader.node()?,
                },
                _ => return Err(malformed("the role is neither client nor peer")),
            },
        };
        reader.finish()?;
        if hello.version_min == 0 || hello.version_min > hello.version_max {
            return Err(malformed("the range of versions is empty or begins at 0"));
        }
        if hello.group != 0 {
            return Err(malformed("there is no group but 0"));
        }
        Ok(hello)
    }
}

impl Welcome {
    /// Appends it to `out` as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = frame::begin(out, Kind::Welcome, 0);
        out.put_u8(self.version);
        out.put_u64(self.features);
        out.put_u128(self.cluster.0);
        out.put_u64(self.epoch.0);
        self.identity.encode(out);
        out.put_u64(self.term.0);
        out.put_u64(self.applied.0);
        put_option(out, self.leader.as_ref(), |out, hint| hint.encode(out));
        frame::finish(out, start);
    }

    /// Reads the answer to a hello. A refusal comes as a frame of kind `Error` instead.
    ///
    /// # Errors
    /// `Malformed` if it is no welcome; `UnsupportedVersion` if it chose a version that this build
    /// does not speak; `TooLarge` for a name or an address.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Error> {
        if frame.kind != Kind::Welcome {
            return Err(malformed("the answer to the hello is not a welcome"));
        }
        frame::expect_request_id(frame, false)?;
        let mut reader = Reader::new(frame.payload);
        let version = reader.u8()?;
        let welcome = Self {
            version: negotiate(version, version)?,
            features: reader.u64()?,
            cluster: reader.u128().map(ClusterId)?,
            epoch: reader.u64().map(Epoch)?,
            identity: PeerIdentity::decode(&mut reader)?,
            term: reader.term()?,
            applied: reader.index()?,
            leader: reader.option(LeaderHint::decode)?,
        };
        reader.finish()?;
        Ok(welcome)
    }
}
