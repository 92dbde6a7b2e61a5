//! Damage to a follower's files: a sample of what `scripts/torture --damage N` does.

use std::sync::atomic::AtomicBool;

use raftd_tests::torture::sweep::{Options, run};

const STRIKES: u32 = 28;

/// Four times every part of a data directory. A seed decides what is drawn, not what members wrote
/// by then: the places differ from run to run.
#[test]
fn a_damaged_follower_gets_whole_or_refuses_and_nothing_is_lost() {
    let options = Options {
        strikes: STRIKES,
        seed: 4,
    };
    let (tally, failure) = run(options, &AtomicBool::new(false), &|_| {});
    if let Some(failure) = failure {
        panic!("{failure}");
    }
    let struck: u32 = tally.whole.values().chain(tally.refused.values()).sum();
    assert_eq!(struck, STRIKES, "{tally}");
    assert!(tally.acknowledged > 1400, "{tally}");
    let told = tally.summary();
    assert!(told.contains(" acked, 0 lost, 0 wrong, "), "{told}");
}
