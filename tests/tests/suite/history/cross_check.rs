//! The search against another implementation of the idea (`todc-utils`), which knows no keys, no
//! windows and no writes of unknown outcome; and the witness against the search.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raftd_tests::history::search::{self, Budget};
use raftd_tests::history::{Answer, Breach, Command, Expect, History, Operation, Query};
use raftd_tests::sim::random::Random;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History as Actions};
use todc_utils::specifications::Specification;
use wire::command::Outcome;
use wire::types::Index;

use super::random::{Shape, right, spoil};

const SHORT: Shape = Shape {
    clients: 4,
    operations: 14,
    keys: 2,
    abandoned: 12,
    all_reads: false,
    own_values: false,
};

/// The store as `todc-utils` wants it: all keys in one state.
struct Store;

/// A value, and its revision once an answer told it.
type Cell = (Vec<u8>, Option<u64>);

/// An operation, what was answered, and the revisions that acknowledgements claim.
#[derive(Clone, Debug)]
struct Asked {
    operation: Operation,
    answer: Answer,
    claimed: Rc<BTreeSet<u64>>,
}

impl Specification for Store {
    type State = BTreeMap<Vec<u8>, Cell>;
    type Operation = Asked;

    fn init() -> Self::State {
        BTreeMap::new()
    }

    fn apply(asked: &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        let mut after = state.clone();
        let claimed = &asked.claimed;
        let fits = match (&asked.operation, &asked.answer) {
            (Operation::Write { command, .. }, Answer::Written { id, outcome }) => {
                written(command, outcome.clone(), id.index, claimed, &mut after)
            }
            // It ends after all others: never to take effect is to take effect at the end.
            (Operation::Write { command, .. }, _) => {
                perhaps_written(command, claimed, &mut after);
                true
            }
            (Operation::Read { query, .. }, Answer::Got { item, .. }) => {
                let Query::Get { key } = query else {
                    panic!("only gets are made here");
                };
                match (item, after.get_mut(key)) {
                    (None, None) => true,
                    (Some(item), Some(cell)) => {
                        item.value == cell.0 && agree(cell, item.revision.0, claimed)
                    }
                    _ => false,
                }
            }
            (Operation::Read { .. }, _) => true,
        };
        (fits, if fits { after } else { state.clone() })
    }
}

/// A revision was told: it must be the known one, or is known from now on. What an acknowledgement
/// claims is not that of a write without one.
fn agree(cell: &mut Cell, told: u64, claimed: &BTreeSet<u64>) -> bool {
    if cell.1.is_none() && claimed.contains(&told) {
        return false;
    }
    *cell.1.get_or_insert(told) == told
}

fn decimal(state: &BTreeMap<Vec<u8>, Cell>, key: &[u8]) -> Option<i64> {
    match state.get(key) {
        None => Some(0),
        Some((value, _)) => String::from_utf8(value.clone()).ok()?.parse().ok(),
    }
}

fn meets(expect: &Expect, cell: Option<&Cell>, claimed: &BTreeSet<u64>) -> bool {
    match (expect, cell) {
        (Expect::Absent, cell) => cell.is_none(),
        (_, None) => false,
        (Expect::Revision(revision), Some((_, Some(known)))) => *known == revision.0,
        (Expect::Revision(revision), Some((_, None))) => !claimed.contains(&revision.0),
        (Expect::Value(value), Some((held, _))) => value == held,
    }
}

fn written(
    command: &Command,
    outcome: Outcome,
    index: Index,
    claimed: &BTreeSet<u64>,
    state: &mut BTreeMap<Vec<u8>, Cell>,
) -> bool {
    let key = command.single_key().expect("of one key").to_vec();
    let revision = (index != Index(0)).then_some(index.0);
    match (command, outcome) {
        (Command::Put { value, .. }, Outcome::Put) => {
            state.insert(key, (value.clone(), revision));
            true
        }
        (Command::Delete { .. }, Outcome::Deleted(count)) => {
            u64::from(state.remove(&key).is_some()) == count
        }
        (Command::CompareAndSwap { expect, value, .. }, Outcome::Swapped) => {
            let held = meets(expect, state.get(&key), claimed);
            state.insert(key, (value.clone(), revision));
            held
        }
        (Command::CompareAndSwap { expect, .. }, Outcome::NotSwapped(found)) => {
            match (state.get_mut(&key), found) {
                (None, None) => *expect != Expect::Absent,
                (Some(cell), Some(found)) => {
                    agree(cell, found.0, claimed) && !meets(expect, Some(cell), claimed)
                }
                _ => false,
            }
        }
        (Command::Increment { delta, .. }, Outcome::Incremented(sum)) => {
            let before = decimal(state, &key);
            state.insert(key, (sum.to_string().into_bytes(), revision));
            before.is_some_and(|before| before + delta == sum)
        }
        other => panic!("{other:?} is not made here"),
    }
}

fn perhaps_written(
    command: &Command,
    claimed: &BTreeSet<u64>,
    state: &mut BTreeMap<Vec<u8>, Cell>,
) {
    let key = command.single_key().expect("of one key").to_vec();
    match command {
        Command::Put { value, .. } => {
            state.insert(key, (value.clone(), None));
        }
        Command::Delete { .. } => {
            state.remove(&key);
        }
        Command::CompareAndSwap { expect, value, .. } => {
            if meets(expect, state.get(&key), claimed) {
                state.insert(key, (value.clone(), None));
            }
        }
        Command::Increment { delta, .. } => {
            if let Some(before) = decimal(state, &key) {
                let sum = before + delta;
                state.insert(key, (sum.to_string().into_bytes(), None));
            }
        }
        Command::Append { .. } | Command::DeleteRange { .. } | Command::Txn { .. } => {
            unreachable!("nobody sends them here")
        }
    }
}

/// What the other implementation says.
fn other_says(history: &History) -> bool {
    let mut events = Vec::new();
    let claims = history
        .records
        .iter()
        .filter_map(|record| match &record.answer {
            Answer::Written { id, .. } if id.index != Index(0) => Some(id.index.0),
            _ => None,
        });
    let claimed = Rc::new(claims.collect::<BTreeSet<u64>>());
    for (place, record) in history.records.iter().enumerate() {
        let ended_ns = match record.answer {
            Answer::NotApplied => continue,
            Answer::Unknown if matches!(record.operation, Operation::Read { .. }) => continue,
            Answer::Unknown => u64::MAX,
            _ => record.ended_ns.expect("what is answered has ended"),
        };
        let operation = Asked {
            operation: record.operation.clone(),
            answer: record.answer.clone(),
            claimed: Rc::clone(&claimed),
        };
        // Of equal times, invocations come first: such operations are concurrent.
        events.push((record.invoked_ns, 0, place, Action::Call(operation.clone())));
        events.push((ended_ns, 1, place, Action::Response(operation)));
    }
    events.sort_by_key(|(at_ns, order, place, _)| (*at_ns, *order, *place));
    let actions: Vec<_> = events
        .into_iter()
        .map(|(_, _, place, action)| (place, action))
        .collect();
    actions.is_empty() || WGLChecker::<Store>::is_linearizable(Actions::from_actions(actions))
}

fn search_says(history: &History) -> bool {
    match search::check(history, Budget::default()) {
        Ok(searched) => {
            assert_eq!(searched.gave_up, [], "the budget is enough");
            true
        }
        Err(violation) => {
            assert_eq!(violation.breach, Breach::NotLinearizable, "{violation}");
            false
        }
    }
}

/// Nothing is left of the order that the answers claim but the revisions of items.
fn forget_indexes(history: &mut History) {
    for record in &mut history.records {
        match &mut record.answer {
            Answer::Written { id, .. } => id.index = Index(0),
            Answer::Got { index, .. } => *index = Index(0),
            _ => {}
        }
    }
}

#[test]
fn both_implementations_say_the_same() {
    let (mut linearizable, mut refuted) = (0, 0);
    for seed in 0..1_000 {
        let mut maker = right(seed, SHORT);
        assert!(search_says(&maker.history), "seed {seed}: it is right");
        assert!(
            other_says(&maker.history),
            "seed {seed}: it is right, by the other"
        );
        assert_eq!(
            maker.witness(),
            Ok(()),
            "seed {seed}: it is right, by the witness"
        );
        let mut random = Random::new(!seed);
        for spoiled in 0..6 {
            spoil(&mut maker, &mut random);
            let verdict = search_says(&maker.history);
            let other = other_says(&maker.history);
            assert_eq!(verdict, other, "seed {seed}, spoiled {spoiled} times");
            if verdict {
                linearizable += 1;
            } else {
                refuted += 1;
                // The log's order would be one that explains everything.
                let witness = maker.witness();
                assert!(witness.is_err(), "seed {seed}: the witness accepts");
            }
        }
    }
    assert!(
        linearizable > 1_500 && refuted > 1_500,
        "{linearizable} and {refuted}"
    );
}

#[test]
fn both_say_the_same_of_answers_without_indexes() {
    let (mut linearizable, mut refuted) = (0, 0);
    for seed in 10_000..11_000 {
        let mut maker = right(seed, SHORT);
        forget_indexes(&mut maker.history);
        assert!(search_says(&maker.history), "seed {seed}: it is right");
        let mut random = Random::new(!seed);
        for spoiled in 0..6 {
            spoil(&mut maker, &mut random);
            let verdict = search_says(&maker.history);
            let other = other_says(&maker.history);
            assert_eq!(verdict, other, "seed {seed}, spoiled {spoiled} times");
            linearizable += u32::from(verdict);
            refuted += u32::from(!verdict);
        }
    }
    assert!(
        linearizable > 1_500 && refuted > 1_200,
        "{linearizable} and {refuted}"
    );
}

#[test]
fn what_the_log_confirms_needs_no_log() {
    let shape = Shape {
        operations: 60,
        abandoned: 5,
        all_reads: true,
        ..SHORT
    };
    let (mut confirmed, mut refuted) = (0, 0);
    for seed in 20_000..20_500 {
        let own_values = seed % 2 == 0;
        let mut maker = right(
            seed,
            Shape {
                own_values,
                ..shape
            },
        );
        assert_eq!(maker.acks(), Ok(()), "seed {seed}: it is right");
        let mut random = Random::new(!seed);
        for spoiled in 0..3 {
            spoil(&mut maker, &mut random);
            match (maker.witness(), maker.acks()) {
                (Ok(()), acks) => {
                    assert_eq!(acks, Ok(()), "seed {seed}, spoiled {spoiled} times");
                    confirmed += 1;
                }
                (Err(_), acks) => refuted += u32::from(acks.is_err()),
            }
        }
    }
    assert!(
        confirmed > 150 && refuted > 300,
        "{confirmed} and {refuted}"
    );
}
