//! The client library and the command line against servers that follow a script.

mod cli;
mod client;
mod fake;
mod pipeline;
mod reads;
mod script;
