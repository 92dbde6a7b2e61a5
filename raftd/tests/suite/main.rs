//! The daemon's integration tests: one binary.

mod daemon_config;
mod daemon_log;
mod daemon_man;
mod node_session;
mod node_store;
mod wal_storage;
mod wal_support;
