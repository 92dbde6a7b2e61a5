//! The client as a library.

pub mod bench;
