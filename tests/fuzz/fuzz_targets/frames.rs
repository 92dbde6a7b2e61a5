//! See `raftd_tests::fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raftd_tests::fuzz::frames(bytes));
