//! The protocol seen from outside: its bytes, its limits, and what it makes of hostile ones.

mod any;
mod block;
mod entries;
mod frames;
mod golden;
mod limits;
mod longest;
mod make;
mod manual;
mod mutations;
mod roundtrip;
mod samples;
