//! Hostile input: each target is a plain function of bytes that panics when something must not be.
//!
//! | target | is given | must hold |
//! |---|---|---|
//! | [`frames`] | a stream of bytes | cut anywhere, the same frames, or the same refusal |
//! | [`hello`], [`peer`], [`request`], [`reply`] | a payload | encode(decode(x)) is x |
//! | [`identity`] | the file IDENTITY | told as damaged, or the same identity each time |
//! | [`recovery`] | files of a log | told as damaged, or a log that goes on and is found again |
//! | [`rot`] | damage under an open log | entries come as written, or not at all |
//! | [`snapshot`] | a file that says it is a snapshot | told as damaged, or a state that is read again as it is |
//! | [`config`] | flags, variables, a file | refusals name the key and the line |
//! | [`step`] | a life of the Raft core | its invariants, what it sends is durable |
//! | [`node`] | a life of a node | one answer per request, it comes to rest |
//! | [`apply`] | entries for the store | two stores agree |
//!
//! Everything takes bytes, so that one corpus serves `cargo test`, which runs every file below
//! `tests/corpus` and mutations of them, and `cargo fuzz`, whose wrappers are in `tests/fuzz`. The
//! targets with a life read their bytes as a script: what happens next, and with which
//! numbers. So no format has to be guessed before anything interesting happens.

mod apply;
mod config;
mod disk;
mod frames;
mod message;
mod messages;
mod mutate;
mod node;
mod recovery;
mod script;
mod snapshot;
mod step;

pub use self::apply::apply;
pub use self::config::config;
pub use self::frames::frames;
pub use self::messages::{hello, peer, reply, request};
pub use self::mutate::mutate;
pub use self::node::node;
pub use self::recovery::{identity, recovery, rot};
pub use self::snapshot::snapshot;
pub use self::step::step;

/// A target under the name of its corpus and of its wrapper.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Runs it; a panic is a finding.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("frames", frames),
    target("hello", hello),
    target("peer", peer),
    target("request", request),
    target("reply", reply),
    target("identity", identity),
    target("recovery", recovery),
    target("rot", rot),
    target("snapshot", snapshot),
    target("config", config),
    target("step", step),
    target("node", node),
    target("apply", apply),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
