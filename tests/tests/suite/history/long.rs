//! Long histories: what the search does grows as they do, with strays and without.

use raftd_tests::history::search::{self, Budget, GaveUp};
use raftd_tests::history::{Answer, Breach, witness};
use raftd_tests::sim::random::Random;

use super::maker::{Maker, increment};
use super::random::{Shape, right};

const LONG: Shape = Shape {
    clients: 12,
    operations: 2_000,
    keys: 5,
    abandoned: 3,
    all_reads: true,
    own_values: true,
};

#[test]
fn a_right_history_costs_a_few_configurations_for_each_operation() {
    for (seed, keys, own_values) in [(1, 5, true), (2, 5, false), (3, 1, true), (4, 1, false)] {
        let shape = Shape {
            keys,
            own_values,
            ..LONG
        };
        let maker = right(seed, shape);
        let searched = search::check(&maker.history, Budget::default()).expect("it is right");
        assert_eq!(searched.gave_up, [], "seed {seed}");
        assert!(searched.operations > 1_000, "seed {seed}: {searched:?}");
        assert!(searched.unknown > 20, "seed {seed}: {searched:?}");
        let most = 3 * searched.operations;
        assert!(searched.configurations < most, "seed {seed}: {searched:?}");
    }
}

#[test]
fn the_witness_follows_ten_thousand_operations() {
    let shape = Shape {
        operations: 10_000,
        ..LONG
    };
    let maker = right(5, shape);
    let summary = witness::check(&maker.history, maker.committed()).expect("it is right");
    assert!(summary.written > 4_000, "{summary:?}");
    assert!(summary.reads > 1_000, "{summary:?}");
    assert!(summary.stale_reads > 500, "{summary:?}");
    assert!(summary.not_applied > 50, "{summary:?}");
    assert!(summary.unknown_applied > 50, "{summary:?}");
}

#[test]
fn a_wrong_answer_late_in_a_long_history_is_found() {
    for (seed, keys, own_values) in [(6, 5, true), (7, 5, false), (8, 1, true), (9, 1, false)] {
        let shape = Shape {
            keys,
            own_values,
            // To rule out every order costs more than to find one: a crowd on one key is too much.
            clients: if keys == 1 { 4 } else { LONG.clients },
            abandoned: if keys == 1 { 0 } else { LONG.abandoned },
            ..LONG
        };
        let mut maker = right(seed, shape);
        let has_item = |answer: &Answer| matches!(answer, Answer::Got { item: Some(_), .. });
        let records = &mut maker.history.records;
        let last = records.iter().rposition(|record| has_item(&record.answer));
        let last = last.expect("there are reads");
        let Answer::Got {
            item: Some(item), ..
        } = &mut records[last].answer
        else {
            panic!("it was just found");
        };
        item.value = b"nobody's".to_vec();
        let violation = search::check(&maker.history, Budget::default());
        let violation = violation.expect_err("nobody wrote it");
        assert_eq!(violation.breach, Breach::NotLinearizable, "seed {seed}");
        assert_eq!(violation.records[0], last, "seed {seed}: {violation}");
    }
}

#[test]
fn what_is_not_worth_the_work_is_given_up_by_name() {
    let maker = right(10, LONG);
    let budget = Budget {
        configurations_per_key: 100,
    };
    let searched = search::check(&maker.history, budget).expect("nothing wrong was found");
    assert_eq!(searched.configurations, 500);
    let keys = ["k0", "k1", "k2", "k3", "k4"];
    let expected = keys.map(|key| GaveUp::Budget { key: key.into() });
    assert_eq!(searched.gave_up, expected);
}

#[test]
fn too_many_in_flight_at_once_are_given_up_by_name() {
    let mut maker = Maker::new();
    for client in 0..128 {
        maker.get(client, (0, 9), "k");
    }
    assert_eq!(maker.search(), Ok(()), "as many as there are slots");
    maker.get(128, (9, 10), "k");
    maker.put(1, (0, 1), "other", "v");
    let searched = search::check(&maker.history, Budget::default()).expect("it is right");
    assert_eq!(searched.keys, 2);
    assert_eq!(
        searched.gave_up,
        [GaveUp::Concurrency { key: b"k".to_vec() }]
    );
}

#[test]
fn a_counter_with_many_strays_is_still_explained() {
    for seed in 0..10 {
        let mut maker = Maker::new();
        let mut random = Random::new(seed);
        let mut strays = Vec::new();
        for at in 0..1_000 {
            let delta = random.within(1..=9) as i64;
            match random.below(8) {
                0 => strays.push(maker.unanswered(100 + at, 10 * at, increment("n", delta))),
                1 if !strays.is_empty() && random.below(2) == 0 => {
                    let place = strays.swap_remove(random.index(strays.len()));
                    maker.commit(place);
                }
                2 => {
                    maker.get(2, (10 * at, 10 * at + 5), "n");
                }
                _ => {
                    maker.write(1, (10 * at, 10 * at + 5), increment("n", delta));
                }
            }
        }
        let searched = search::check(&maker.history, Budget::default()).expect("it is right");
        assert_eq!(searched.gave_up, [], "seed {seed}: {searched:?}");
        assert!(searched.unknown > 80, "seed {seed}: {searched:?}");
        // Which of several took effect is guessed, and sometimes wrongly.
        let most = 40 * searched.operations;
        assert!(searched.configurations < most, "seed {seed}: {searched:?}");
    }
}
