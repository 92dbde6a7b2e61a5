//! How a node sees itself and its cluster.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed, put_count, put_entry_id, put_name, put_option, put_text};
use crate::error::Error;
use crate::limits::{ADDR_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::membership::Suffrage;
use crate::peer::DiskState;
use crate::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};

/// What a node does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Replicates.
    Leader,
    /// Campaigns.
    Candidate,
    /// Follows.
    Follower,
}

/// A node's view of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of its data.
    pub epoch: Epoch,
    /// The answering node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// The leader that it follows, or itself.
    pub leader: Option<NodeId>,
    /// Whether the leader hears a quorum; on others, whether they hear a leader.
    pub quorum_ok: bool,
    /// Last index of its log.
    pub last: Index,
    /// Last durable index.
    pub durable: Index,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Its newest snapshot, durable; 0@0 if none.
    pub snapshot: EntryId,
    /// Bytes of that snapshot's file.
    pub snapshot_bytes: u64,
    /// While another one is being written: how many bytes are, with those that were read again.
    pub snapshot_written_bytes: Option<u64>,
    /// The digest of its state as of `applied`.
    pub digest: u128,
    /// Bytes of its write-ahead log's segments.
    pub wal_bytes: u64,
    /// Keys in its store.
    pub keys: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Room on its disk.
    pub disk: DiskState,
    /// Its program version.
    pub version: String,
    /// In one word what it is busy with: `serving`, `forming`, `replaying`, `rebuilding` (it waits for
    /// a snapshot), `recovering` (it lost entries, and does not count).
    pub state: String,
    /// What is wrong, for a person; empty if nothing.
    pub error: String,
    /// All members, itself included, by ascending id.
    pub members: Vec<Member>,
}

/// A member as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its name; empty if it was never heard.
    pub name: String,
    /// The address that its peers use.
    pub peer_addr: String,
    /// The address that its clients use; empty if it was never heard.
    pub client_addr: String,
    /// In which set of voters it is.
    pub suffrage: Suffrage,
    /// Whether the answering node has a link to it (or is it); a leader: on which it answers.
    pub connected: bool,
    /// On a leader: the index up to which this member's log is known to agree.
    pub match_index: Option<Index>,
    /// On a leader: the snapshot that this member is being sent, if it is.
    pub install: Option<Install>,
}

/// A snapshot on its way to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// What the member has of it.
    pub received_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
    /// How long the rest will take at the speed so far, in milliseconds; `None` before the first
    /// piece has arrived.
    pub left_ms: Option<u64>,
}

impl NodeRole {
    fn encode(self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::Leader => 1,
            Self::Candidate => 2,
            Self::Follower => 3,
        });
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Leader),
            2 => Ok(Self::Candidate),
            3 => Ok(Self::Follower),
            _ => Err(malformed("the role of a node is not known")),
        }
    }
}

impl Status {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u128(self.cluster.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.node.0);
        self.role.encode(out);
        out.put_u64(self.term.0);
        put_option(out, self.leader, |out, leader| out.put_u64(leader.0));
        out.put_u8(u8::from(self.quorum_ok));
        out.put_u64(self.last.0);
        out.put_u64(self.durable.0);
        out.put_u64(self.commit.0);
        out.put_u64(self.applied.0);
        put_entry_id(out, self.snapshot);
        out.put_u64(self.snapshot_bytes);
        put_option(out, self.snapshot_written_bytes, |out, bytes| {
            out.put_u64(bytes);
        });
        out.put_u128(self.digest);
        out.put_u64(self.wal_bytes);
        out.put_u64(self.keys);
        out.put_u64(self.uptime_ms);
        self.disk.encode(out);
        put_text(out, &self.version, TEXT_BYTES_MAX);
        put_text(out, &self.state, TEXT_BYTES_MAX);
        put_text(out, &self.error, TEXT_BYTES_MAX);
        let ascending = self.members.is_sorted_by(|a, b| a.node < b.node);
        assert!(ascending, "members by ascending id");
        put_count(out, self.members.len(), MEMBERS_MAX);
        for member in &self.members {
            member.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            cluster: reader.u128().map(ClusterId)?,
            epoch: reader.u64().map(Epoch)?,
            node: reader.node()?,
            role: NodeRole::decode(reader)?,
            term: reader.term()?,
            leader: reader.option(Reader::node)?,
            quorum_ok: reader.flag()?,
            last: reader.index()?,
            durable: reader.index()?,
            commit: reader.index()?,
            applied: reader.index()?,
            snapshot: reader.entry_id()?,
            snapshot_bytes: reader.u64()?,
            snapshot_written_bytes: reader.option(Reader::u64)?,
            digest: reader.u128()?,
            wal_bytes: reader.u64()?,
            keys: reader.u64()?,
            uptime_ms: reader.u64()?,
            disk: DiskState::decode(reader)?,
            version: reader.text("text", TEXT_BYTES_MAX)?,
            state: reader.text("text", TEXT_BYTES_MAX)?,
            error: reader.text("text", TEXT_BYTES_MAX)?,
            members: {
                let count = reader.count(MEMBERS_MAX, MEMBER_BYTES_MIN)?;
                let mut members: Vec<Member> = Vec::with_capacity(count);
                for _ in 0..count {
                    let member = Member::decode(reader)?;
                    if members.last().is_some_and(|last| last.node >= member.node) {
                        return Err(malformed("members are not in ascending order"));
                    }
                    members.push(member);
                }
                members
            },
        })
    }
}

/// Bytes of a member without names, addresses and match.
const MEMBER_BYTES_MIN: usize = 17;

impl Member {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.node.0);
        put_name(out, &self.name, NAME_BYTES_MAX);
        put_name(out, &self.peer_addr, ADDR_BYTES_MAX);
        put_name(out, &self.client_addr, ADDR_BYTES_MAX);
        self.suffrage.encode(out);
        out.put_u8(u8::from(self.connected));
        put_option(out, self.match_index, |out, index| out.put_u64(index.0));
        put_option(out, self.install, Install::encode);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            node: reader.node()?,
            name: reader.text("name", NAME_BYTES_MAX)?,
            peer_addr: reader.text("address", ADDR_BYTES_MAX)?,
            client_addr: reader.text("address", ADDR_BYTES_MAX)?,
            suffrage: Suffrage::decode(reader)?,
            connected: reader.flag()?,
            match_index: reader.option(Reader::index)?,
            install: reader.option(Install::decode)?,
        })
    }
}

impl Install {
    fn encode(out: &mut BytesMut, install: Self) {
        out.put_u64(install.received_bytes);
        out.put_u64(install.total_bytes);
        put_option(out, install.left_ms, BufMut::put_u64);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            received_bytes: reader.u64()?,
            total_bytes: reader.u64()?,
            left_ms: reader.option(Reader::u64)?,
        })
    }
}
