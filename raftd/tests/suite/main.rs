//! The daemon's integration tests: one binary.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod daemon_config;
mod daemon_fixture;
mod daemon_life;
mod daemon_log;
mod daemon_man;
mod daemon_net;
mod daemon_process;
mod node_cluster;
mod node_digest;
mod node_forming;
mod node_full;
mod node_harness;
mod node_image;
mod node_limits;
mod node_session;
mod node_snapshots;
mod node_store;
mod node_swarm;
mod snap_crash;
mod snap_damage;
mod snap_format;
mod snap_receive;
mod snap_support;
mod snap_write;
mod storage_room;
mod wal_crash;
mod wal_damage;
mod wal_examine;
mod wal_format;
mod wal_full;
mod wal_life;
mod wal_storage;
mod wal_support;
mod wal_sweep;
mod wal_twin;
