//! What all members of a run are told, and where they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use raftd::node;

use super::Timeouts;
use crate::sim::net::Host;

/// What all members of a run are told: their `raftd.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many members there are to begin with; their ids count from 1.
    pub members: usize,
    /// How many machines more there are, on which others may join later.
    pub spares: usize,
    /// Lower end of the election timeout; the upper one is twice that.
    pub election_timeout: Duration,
    /// The leader's heartbeat.
    pub heartbeat: Duration,
    /// Bounds of the node; that of an entry follows from the size of a segment.
    pub limits: node::Limits,
    /// When snapshots are taken.
    pub snapshots: node::Policy,
    /// How much of the log each member keeps before a snapshot; as the policy says for the others.
    pub keep_bytes: Vec<u64>,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Entries given back at start, in bytes.
    pub tail_bytes: usize,
    /// Below this the disk is soft.
    pub soft_free_bytes: u64,
    /// Whether what is written no more is read again and again.
    pub scrubs: bool,
    /// How long handshakes and frames may take.
    pub timeouts: Timeouts,
    /// All nodes draw from this seed in all their lives, instead of each from its own.
    pub same_seed: Option<u64>,
}

/// What a member is called.
#[must_use]
pub fn name_of(host: Host) -> String {
    format!("n{}", host + 1)
}

/// Where clients find a member.
#[must_use]
pub fn client_addr(host: Host) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 1, host as u8 + 1), 7).into()
}

/// Where its peers find a member: a machine has many addresses.
#[must_use]
pub fn peer_addr(host: Host, nth: u8) -> SocketAddr {
    (Ipv4Addr::new(10, nth, 0, host as u8 + 1), 7).into()
}

/// Whose address it is.
#[must_use]
pub fn host_at(addr: SocketAddr) -> Option<Host> {
    match addr.ip() {
        IpAddr::V4(ip) => Host::from(ip.octets()[3]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}
