//! The client of `raftd`, as a library: [`client`] for other Rust programs; [`failure`] is what
//! the command line makes of an error, [`json`] how it writes objects, [`mod@bench`] its load generator.

pub mod bench;
pub mod client;
pub mod failure;
pub mod json;

/// The protocol, whose types, limits and errors the client's calls name.
pub use wire;
