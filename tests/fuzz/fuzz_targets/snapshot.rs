//! See `raftd_tests::fuzz::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raftd_tests::fuzz::snapshot(bytes));
