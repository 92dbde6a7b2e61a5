//! See `raftd_tests::fuzz::rot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raftd_tests::fuzz::rot(bytes));
