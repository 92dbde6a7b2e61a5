//! The daemon as a library: what the binary drives and the tests look into.

pub mod clock;
pub mod config;

pub mod entropy;
pub mod fatal;
pub mod flags;
pub mod logging;
pub mod node;
pub mod resolve;
pub mod signal;
pub mod store;
