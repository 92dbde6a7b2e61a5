//! The daemon as a library: what the binary drives and the tests look into.

pub mod fatal;
pub mod node;
