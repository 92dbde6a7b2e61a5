//! The Raft algorithm as a pure state machine.
#![no_std]

extern crate alloc;

pub mod event;
mod raft;
pub mod time;

pub use crate::event::{
    Config, Effect, HardState, Input, NotLeader, ReadTicket, Restored, RoleChange, RoleName,
    Ticket, Write,
};
pub use crate::raft::Raft;
pub use crate::time::Instant;
