//! The simulator: a whole cluster in one thread, decided by one seed.
//!
//! Clock, network, disks and process lives are simulated; everything else is the shipped code.

pub mod audit;
pub mod carry;
pub mod clients;
pub mod conduct;
pub mod damage;
pub mod event;
pub mod faults;
pub mod guard;
pub mod invariants;
pub mod ledger;
pub mod member;
pub mod net;
pub mod plan;
pub mod random;
pub mod run;
pub mod stranger;
pub mod trace;
pub mod verdict;
pub mod world;
