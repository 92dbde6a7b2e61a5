//! The client library and the command line against servers that follow a script.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod cli;
mod client;
mod fake;
mod pipeline;
mod reads;
mod script;
