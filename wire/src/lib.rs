//! The protocol of `raftd`. Peers and clients speak only through this crate; it does no I/O.
//!
//! # A connection
//! A TCP connection carries [frames](frame), back to back, both ways. Whoever calls says
//! [`hello::Hello`] first and nothing else until the answer: a [`hello::Welcome`], or an
//! [`error::Error`] and the end. A hello tells the versions that the caller speaks, which the
//! answer narrows to one ([`hello::negotiate`]), the cluster that it means, and whether it is a
//! client or a peer. After that a client sends [`client::Request`]s and reads [`client::Reply`]s,
//! and a peer sends [`peer::Message`]s and reads those that are answers.
//!
//! Requests are pipelined: a client sends on without waiting, and finds the answer by the request
//! id that it chose and the answer repeats. Id 0 asks for nothing: peers' messages, both hellos,
//! and errors that concern the connection as a whole carry it.
//!
//! # Framing
//! A frame says how long it is before anything else, so that a reader always knows how many bytes
//! to wait for, and says it where it can be refused before a byte of the rest is read or room for
//! it made. How long is too long depends on what is known of the sender: 4 KiB before the hello,
//! then the cap of clients or of peers ([`limits`]). Then come version, kind and flags, refused
//! by name if they are not known, never skipped: a frame that somebody sent and nobody did would
//! be the worst of answers. The checksum covers header and payload. It guards against broken
//! memory and cables, not against people: peers are trusted to be honest (rules D2).
//!
//! After a frame that cannot be parsed, nothing tells where the next one begins: the connection
//! ends. After a payload that cannot be decoded, the next frame is as good as any; whether to
//! go on is for the reader to say.
//!
//! # Payloads
//! Fields follow each other without padding or tags, in the order in which their type lists them.
//! There is one way to encode a value and no other one is accepted, so that whatever decodes,
//! encodes to the same bytes again; bytes after the last field are an error. The only exception is
//! made for later versions: an error of a code that is not known is read as far as its class and
//! its text, so that an old client still knows what to do and what to say.
//!
//! Decoders are total: any bytes give a value or an [`error::Error`]. They look at a length before
//! they allocate, and at what is left of the payload before they believe a count. What they accept
//! keeps every limit in [`limits`], so that nobody behind them has to ask again. Decoded requests
//! and replies borrow from the frame; the entries of an [`peer::Append`] share one copy of it.
//!
//! # One encoding end to end
//! The bytes of a [`command::Write`] in a client's frame are, unchanged, the body of its log
//! [`entry`]; the bytes of the entry are, unchanged, what peers send, what every write-ahead log
//! stores, and what a follower that lags is sent from disk. Each copy carries the checksum that
//! the leader computed once.
//!
//! `man/raftd-wire.7` is the byte map. The bytes of version 1 are frozen by the golden files in
//! `wire/tests/suite/golden`.
#![no_std]
#![deny(clippy::indexing_slicing)]

extern crate alloc;

pub mod block;
mod buf;
pub mod client;
pub mod command;
pub mod entry;
pub mod error;
pub mod frame;
pub mod hello;
pub mod leadership;
pub mod limits;
pub mod membership;
pub mod peer;
pub mod types;
