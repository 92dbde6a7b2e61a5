//! The Raft algorithm as a pure state machine.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cache;
mod candidate;
pub mod event;
mod follower;
mod gate;
mod invariant;
mod jitter;
mod journal;
mod leader;
mod log;
mod progress;
mod quorum;
mod raft;
mod round;
mod state;
mod terms;
pub mod time;
mod timer;

pub use crate::event::{
    Config, Effect, HardState, Input, NotLeader, ReadTicket, Restored, RoleChange, RoleName,
    Ticket, Write,
};
pub use crate::raft::Raft;
pub use crate::time::Instant;
