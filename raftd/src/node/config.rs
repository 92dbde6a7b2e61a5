//! What a node is told when it is made.

use std::time::Duration;

use wire::limits::{ENTRY_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use wire::membership::Membership;
use wire::types::{ClusterId, Epoch, Incarnation, NodeId};

use crate::store::session::SESSIONS_MAX;

/// What never changes in a node's life.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The address that its clients use.
    pub client_addr: String,
    /// The members with which the cluster began, sorted by id, with the addresses that peers used.
    pub members: Vec<(NodeId, String)>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The history of its data. Members of a new cluster must agree on it from the start.
    pub epoch: Epoch,
    /// The data directory's life.
    pub incarnation: Incarnation,
    /// This process's life: random at each start.
    pub life: u64,
    /// The incarnations that formed the cluster, as IDENTITY holds them; empty before.
    pub formed: Vec<(NodeId, Incarnation)>,
    /// Lower end of the randomized election timeout.
    pub election_timeout_min: Duration,
    /// Upper end of the randomized election timeout.
    pub election_timeout_max: Duration,
    /// How often an idle leader shows that it lives.
    pub heartbeat: Duration,
    /// Bounds.
    pub limits: Limits,
    /// When snapshots are taken.
    pub snapshots: Policy,
    /// Bytes of the log's segments at start.
    pub wal_bytes: u64,
    /// Seeds the one random generator.
    pub seed: u64,
    /// The program's version, for status.
    pub version: String,
}

impl Config {
    /// Who is a member until an entry of the log says otherwise.
    #[must_use]
    pub fn initial_membership(&self) -> Membership {
        Membership::initial(&self.members, &self.formed)
    }
}

/// How much of what may be pending. What the daemon has no setting for is smaller only in tests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries sent to a follower and not yet acknowledged.
    pub window_bytes: usize,
    /// Entries kept in memory behind what is applied and durable.
    pub cache_bytes: usize,
    /// Entries not yet committed, or not yet on this node's own disk, from which on client writes
    /// wait (rules A7).
    pub uncommitted_bytes_max: usize,
    /// One entry with its header; less where segments are small.
    pub entry_bytes_max: usize,
    /// Requests that wait for a leader or for room.
    pub parked_max: usize,
    /// Entries that one turn applies.
    pub turn_entries_max: usize,
    /// Sessions that are known at a time (rules C3). All members must agree on it.
    pub sessions_max: usize,
    /// Entries from one comparison of the states to the next (rules D5). All members must agree on
    /// it.
    pub digest_entries: u64,
    /// Views that clients walk over at a time; each costs the memory of what changes while it lives.
    pub views_max: usize,
    /// The longest that a view is kept for a client that does not ask for the next page.
    pub view_idle_max: Duration,
    /// The longest that a view is kept at all.
    pub view_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_bytes: 4 * 1024 * 1024,
            cache_bytes: 8 * 1024 * 1024,
            uncommitted_bytes_max: 64 * 1024 * 1024,
            entry_bytes_max: ENTRY_BYTES_MAX,
            parked_max: 16_384,
            turn_entries_max: 4_096,
            sessions_max: SESSIONS_MAX,
            digest_entries: 1_024,
            views_max: 32,
            view_idle_max: Duration::from_secs(5 * 60),
            view_age_max: Duration::from_secs(60 * 60),
        }
    }
}

/// When a leader has a snapshot taken, and what is kept behind it.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// After so many bytes of log entries..
    pub log_bytes: u64,
    /// ..and so many times the size of the last snapshot.
    pub log_factor: u64,
    /// After so many entries; 0 is never.
    pub entries: u64,
    /// After so much time, if anything was written; zero is never.
    pub interval: Duration,
    /// When keys and values have grown by so many percent; 0 is never.
    pub growth_percent: u64,
    /// No sooner after the last one than this, whatever the reason, unless it is asked for.
    pub gap: Duration,
    /// Bytes of segments that are kept before a snapshot, for followers that lag a little.
    pub keep_bytes: u64,
    /// Bytes of one piece of a snapshot that is sent, at most.
    pub piece_bytes: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            log_bytes: 64 * 1024 * 1024,
            log_factor: 4,
            entries: 0,
            interval: Duration::ZERO,
            growth_percent: 0,
            gap: Duration::from_secs(10),
            keep_bytes: 64 * 1024 * 1024,
            piece_bytes: SNAPSHOT_CHUNK_BYTES_MAX,
        }
    }
}
