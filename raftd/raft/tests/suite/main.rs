//! Tests of the Raft core: scenarios, the thesis rule by rule, random runs.

mod cluster;
mod damage;
mod disk;
mod entries;
mod gray;
mod histories;
mod oracle;
mod paper;
mod play;
mod random;
mod scripts;
mod text;
mod timing;
mod transfer;
mod twin;
mod words;
