//! The simulator: a whole cluster in one thread, decided by one seed.
//!
//! # What is simulated, and what is not
//! Shipped code runs from the frames of a connection down to the sectors of a disk: the node with
//! Raft, store and sessions, the storage worker and the maker of spares, the log, its recovery, the
//! dialler, the codec. Replaced are the mio loop, by `member/`, which does in the same order what
//! `raftd::net` does; the OS disk, by [`raftd::disk::sim::SimDisk`]; the two threads of the storage,
//! by events in time; and time, chance, kernels and cables, by `world.rs` and `net.rs`.
//!
//! A member's disk work takes its time like this: what is to be done is handed over when a round
//! begins, and all operations of the round happen at its end. A crash within a round is a crash at
//! one of those operations, so it can fall on every store, write, sync and rename, and on no place
//! between them that a disk would know of.
//!
//! Left out of the driver: the limits on the number of connections and on buffers of all
//! connections together, and the loop's own syncs (a round of no duration is the same to the node).
//!
//! # How a run goes
//! A seed draws a [`plan::Plan`]: the cluster, its machines and links, what clients do, which kinds
//! of faults there are. Then [`run`] lets [`world::World::step`] do one thing at a time. A member's
//! turn has two halves: first everything that came goes into the node, then checkers look at node
//! and effects, and only then the effects leave.
//!
//! 1. *Safety*: for about seventy virtual seconds clients ask and a [`faults::Nemesis`] harms.
//!    Nothing is demanded but that no rule is broken.
//! 2. *Progress*: a random core of a quorum is healed, the others are dead or cut off for good. The
//!    core owes a leader that commits, an end for every request, and the same state on all of its
//!    members, each within [`run::PATIENCE`] election timeouts.
//! 3. *Judgement*: the committed log, the disks and the clients' history are held against each
//!    other.
//!
//! A rule that is broken, or a panic anywhere, ends the run; the seed replays it exactly.
//!
//! # The files
//!
//! | file | what is in it |
//! |---|---|
//! | `run.rs` | one seed, from its plan to its verdict |
//! | `plan.rs` | what a seed decides beforehand |
//! | `world.rs` | members, network and time |
//! | `member/` | a machine and the process on it, clocks, disk work, connections |
//! | `net.rs` | links, and connections that carry bytes |
//! | `event.rs`, `random.rs`, `trace.rs`, `guard.rs` | what is planned, chance, the hash of all effects, panics |
//! | `faults/`, `damage.rs`, `stranger.rs`, `carry.rs` | what goes wrong, and how it is done to the world |
//! | `operator.rs`, `operator/` | who changes the members |
//! | `clients/` | who asks, and what they were told |
//! | `invariants/`, `conduct.rs`, `audit.rs`, `quorum.rs` | what must hold after every turn; what disks really have |
//! | `verdict.rs` | what must hold at the end |
//! | `ledger.rs` | what many runs amount to |
//!
//! # Determinism
//! Nothing here reads a clock, an address or the order of a hash map; threads run different seeds.
//! The hash of a run covers every effect of every node with its time, and a test runs seeds twice.

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
pub mod operator;
pub mod plan;
pub mod quorum;
pub mod random;
pub mod run;
pub mod stranger;
pub mod trace;
pub mod verdict;
pub mod world;
