//! How the node sees itself and its cluster.

use raft::RoleName;
use wire::client::{Member, NodeRole, Status};
use wire::membership::MemberRecord;
use wire::peer::DiskState;
use wire::types::NodeId;

use super::Node;

/// How much waits in a node, and where: all of it is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes of requests that wait for a leader or for room.
    pub parked_bytes: usize,
    /// Messages that wait for the disk.
    pub outbox: usize,
    /// Reads that wait for a quorum or for apply.
    pub reads: usize,
    /// Those of them that wait for a quorum.
    pub unconfirmed_reads: usize,
    /// Bytes of entries that were read back from the log, to be applied.
    pub loaded_bytes: usize,
    /// Writes that were handed to storage and not reported durable.
    pub unfinished_writes: usize,
    /// Pieces of snapshots that were received and not stored.
    pub pieces: usize,
    /// A snapshot is being made, or made known to the log.
    pub snapshot: bool,
}

impl Node {
    /// How much waits: for tests and checkers.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting {
            parked_bytes: self.parked.bytes(),
            outbox: self.outbox.len(),
            reads: self.reads.len(),
            unconfirmed_reads: self.reads.unconfirmed(),
            loaded_bytes: self.loader.bytes(),
            unfinished_writes: self.disks.unfinished(),
            pieces: self.snapshots.transfers.storing(),
            snapshot: self.snapshots.is_busy(),
        }
    }

    /// The node's view of itself and its cluster, at the time of the last input.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = self.now.monotonic;
        let role = match self.raft.role() {
            RoleName::Leader => NodeRole::Leader,
            RoleName::Candidate | RoleName::PreCandidate => NodeRole::Candidate,
            RoleName::Follower => NodeRole::Follower,
        };
        let uptime_ms = now.since(self.started).as_millis();
        Status {
            cluster: self.config.cluster,
            epoch: self.config.epoch,
            node: self.config.id,
            role,
            term: self.raft.term(),
            leader: self.raft.leader(),
            quorum_ok: self.raft.quorum_ok(now),
            last: self.raft.last().index,
            durable: self.raft.durable(),
            commit: self.committed,
            applied: self.store.applied().index,
            snapshot: self.snapshots.newest().id,
            snapshot_bytes: self.snapshots.newest().bytes,
            snapshot_written_bytes: self.snapshots.written_bytes(),
            digest: self.store.digest(),
            wal_bytes: self.disks.wal_bytes,
            keys: self.store.map().len() as u64,
            uptime_ms: u64::try_from(uptime_ms).unwrap_or(u64::MAX),
            disk: self.disks.state(),
            version: self.config.version.clone(),
            state: self.state().to_owned(),
            error: self.trouble(),
            members: self.members(),
        }
    }

    fn state(&self) -> &'static str {
        if !self.forming.is_formed() {
            "forming"
        } else if self.raft.hard_state().lost {
            "recovering"
        } else if self.raft.is_rebuilding() {
            "rebuilding"
        } else if !self.store.has_applied(self.replay_to) {
            "replaying"
        } else {
            "serving"
        }
    }

    fn trouble(&self) -> String {
        if self.raft.hard_state().lost {
            return "acknowledged entries were lost; not counted until a leader has brought them"
                .to_owned();
        }
        if let Some(index) = self.fetching.first() {
            return format!("entries from index {index} on are damaged, and fetched from others");
        }
        if self.raft.is_rebuilding() {
            return "the state was damaged; waiting for a snapshot of the leader".to_owned();
        }
        if let Some(index) = self.digests.split() {
            return format!("no quorum agrees on the state at index {index}: reads are refused");
        }
        if self.loader.retry_at.is_some() {
            let next = self.store.applied().index.next();
            return format!("the log cannot be read from index {next} on");
        }
        if self.stalled {
            return "the disk is stalled".to_owned();
        }
        if !self.snapshots.trouble.is_empty() {
            return self.snapshots.trouble.clone();
        }
        match self.disks.state() {
            DiskState::Ok => String::new(),
            DiskState::Soft => "the disk is low, or fails: raftd's log tells which".to_owned(),
            DiskState::Hard => "the disk is full, or fails: raftd's log tells which".to_owned(),
        }
    }

    fn members(&self) -> Vec<Member> {
        let leads = self.raft.role() == RoleName::Leader;
        let member = |member: &MemberRecord| {
            let own = member.id == self.config.id;
            let match_index = if own && leads {
                Some(self.raft.durable())
            } else {
                self.raft.match_index(member.id)
            };
            let transfers = &self.snapshots.transfers;
            Member {
                node: member.id,
                name: self.name_of(member),
                peer_addr: member.peer_addr.clone(),
                client_addr: self.hint(member.id).client_addr,
                suffrage: member.suffrage,
                connected: own || self.has_contact(member.id),
                match_index,
                install: transfers.progress(member.id, self.now.monotonic),
            }
        };
        self.raft.membership().members.iter().map(member).collect()
    }

    /// The link with a member that hangs, or has lost its power, looks as alive as any: a leader
    /// knows who answers.
    fn has_contact(&self, member: NodeId) -> bool {
        let mut followers = self.raft.followers();
        let follower = followers.find(|follower| follower.id == member);
        let is_silent = follower.is_some_and(|follower| self.is_silent(&follower));
        self.links.connected(member) && !is_silent
    }
}
