//! Tests of the Raft core: scenarios, the thesis rule by rule, random runs, hostile peers.

mod cluster;
mod entries;
mod hostile;
mod oracle;
mod paper;
mod random;
mod scripts;
mod text;
mod timing;
mod twin;
