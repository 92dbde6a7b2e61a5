//! Sums, medians and complaints.

use super::*;

fn run(seed: u64, operations: u64) -> Run {
    Run {
        seed,
        simulated: Duration::from_secs(70),
        operations: BTreeMap::from([("written", operations)]),
        faults: BTreeMap::from([(Kind::Crash, 30)]),
        judged: BTreeMap::from([(KEYS, 30), (KEYS_GIVEN_UP, 1)]),
        leaders: 3,
        ..Run::default()
    }
}

#[test]
fn the_order_of_adding_does_not_matter() {
    let mut one = Ledger::default();
    let mut parts = [Ledger::default(), Ledger::default()];
    for seed in 0..10 {
        one.add(run(seed, seed * 1_000));
        parts[seed as usize % 2].add(run(seed, seed * 1_000));
    }
    let [mut even, odd] = parts;
    even.merge(odd);
    assert_eq!(one.to_string(), even.to_string());
    assert_eq!(one.median().operations, 5_000);
}

#[test]
fn a_broken_rule_is_always_a_complaint() {
    let mut ledger = Ledger::default();
    ledger.add(run(1, 3_000));
    assert_eq!(ledger.complaints(), [""; 0]);
    let violation = Some("two leaders".to_owned());
    ledger.add(Run {
        violation,
        ..run(7, 3_000)
    });
    assert_eq!(ledger.complaints().len(), 1);
    assert_eq!(ledger.violations().keys().collect::<Vec<_>>(), [&7]);
}

#[test]
fn too_many_vacuous_runs_and_a_small_median_are_complaints() {
    let mut ledger = Ledger::default();
    (0..98).for_each(|seed| ledger.add(run(seed, 3_000)));
    (98..100).for_each(|seed| ledger.add(run(seed, 10)));
    assert_eq!(ledger.complaints(), [""; 0], "two of a hundred are allowed");
    ledger.add(run(100, 10));
    assert!(ledger.complaints()[0].contains("vacuous"));
    (101..400).for_each(|seed| ledger.add(run(seed, 1_500)));
    assert!(ledger.complaints()[0].contains("median"));
}

#[test]
fn a_search_that_gives_up_too_often_is_a_complaint() {
    let mut ledger = Ledger::default();
    (0..100).for_each(|seed| ledger.add(run(seed, 3_000)));
    assert_eq!(ledger.complaints(), [""; 0]);
    ledger.add(Run {
        judged: BTreeMap::from([(KEYS, 200), (KEYS_GIVEN_UP, 61)]),
        ..run(100, 3_000)
    });
    assert_eq!(ledger.complaints(), ["the search gave up 161 of 3200 keys"]);
    let mut unjudged = Ledger::default();
    (0..100).for_each(|seed| {
        unjudged.add(Run {
            judged: BTreeMap::new(),
            ..run(seed, 3_000)
        });
    });
    assert_eq!(unjudged.complaints(), ["the search gave up 0 of 0 keys"]);
}

#[test]
fn what_was_never_reached_is_told_and_fails_a_long_run() {
    let mut ledger = Ledger::default();
    (0..MARKS_DUE as u64).for_each(|seed| ledger.add(run(seed, 3_000)));
    let missing = ledger.missing();
    for name in [
        "fault wipe",
        "branch log cut",
        "error divergence",
        "recovery case F",
    ] {
        assert!(missing.iter().any(|one| one == name), "{name}");
    }
    assert!(!missing.iter().any(|one| one == "fault crash"));
    assert!(ledger.complaints()[0].contains("never reached"));
}

#[test]
fn errors_are_told_by_their_frames_and_damage_by_its_case() {
    let mut watch = Watch::default();
    let mut bytes = bytes::BytesMut::new();
    wire::error::Error::NoLeader.encode(3, &mut bytes);
    wire::error::Error::Stale.encode(4, &mut bytes);
    watch.heard(&bytes);
    watch.heard(b"something else");
    assert_eq!(
        watch.marks.errors.keys().copied().collect::<Vec<_>>(),
        ["no-leader", "stale"]
    );
    watch.exited(raftd::fatal::ExitStatus::Damaged, "gone (case H)");
    assert_eq!(watch.marks.cases, BTreeMap::from([('H', 1)]));
}
