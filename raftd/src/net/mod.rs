//! The driver: sockets in, sockets out. It carries bytes between the network, the node and the
//! storage thread and takes no protocol decision.
//!
//! | file | what it does |
//! |---|---|
//! | `event_loop` | the loop and its phases |
//! | `intake` | bytes and frames from sockets to the node |
//! | `carry` | the node's effects to storage and sockets |
//! | `connection` | one socket: buffers, phase, deadlines |
//! | `table` | all connections, by id; their timers and counts |
//! | `accept` | the two listeners; what happens when descriptors run out |
//! | `arrive` | new connections, accepted within limits or dialled |
//! | `dial` | when to dial which peer |
//!
//! Limits that settings do not name are constants next to what they bound.

mod accept;
mod arrive;
mod carry;
mod connection;
pub mod dial;
mod event_loop;
mod intake;
mod table;

use std::time::Duration;

pub use accept::Listener;
pub use event_loop::{Driver, Parts, Reactor};

/// The bounds of the driver; `raftd.toml(5)`, section net, says what they mean.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table of settings documents each of them")]
pub struct Limits {
    pub connections_max: usize,
    pub newcomers_max: usize,
    pub hello_timeout: Duration,
    pub frame_timeout: Duration,
    pub stall_timeout: Duration,
    pub output_bytes: usize,
    pub input_bytes: usize,
    /// What may wait for one link before it is closed; far above a follower's window.
    pub link_output_bytes: usize,
}

/// Which of the two ports a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Clients are served here.
    Client,
    /// Members of the cluster are served here, and dialled there.
    Peer,
}
