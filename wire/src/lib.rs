//! The protocol of `raftd`. Peers and clients speak only through this crate; it does no I/O.
#![no_std]
#![deny(clippy::indexing_slicing)]

extern crate alloc;

mod buf;
pub mod client;
pub mod command;
pub mod entry;
pub mod error;
pub mod frame;
pub mod hello;
pub mod limits;
pub mod peer;
pub mod types;
