//! The client of `raftd`, as a library: [`client`] for other Rust programs; [`failure`] is what
//! the command line makes of an error, [`mod@bench`] its load generator.

pub mod bench;
pub mod client;
pub mod failure;
