//! The daemon as a library: what the binary drives and the tests look into.

pub mod clock;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod entropy;
pub mod fatal;
pub mod logging;
pub mod net;
pub mod node;
pub mod resolve;
pub mod signal;
pub mod snapshot;
pub mod storage;
pub mod store;
pub mod supervisor;
pub mod value;
pub mod wal;
