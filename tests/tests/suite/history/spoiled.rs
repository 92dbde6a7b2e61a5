//! The witness overlooks nothing: whatever single thing of a right history is changed, it says no.

use raftd_tests::history::{Answer, Item, Operation, Page, Record};
use raftd_tests::sim::random::Random;
use wire::command::Outcome;
use wire::types::{EntryId, Index, Term};

use super::maker::Maker;
use super::random::{Shape, right};

const SHAPE: Shape = Shape {
    clients: 5,
    operations: 60,
    keys: 3,
    abandoned: 5,
    all_reads: true,
    own_values: false,
};

/// Every answer near `answer` that differs from it in one thing.
fn others(answer: &Answer, random: &mut Random) -> Vec<Answer> {
    match answer {
        Answer::Written { id, outcome } => {
            let written = |id, outcome| Answer::Written { id, outcome };
            let at = |term, index| EntryId {
                term: Term(term),
                index: Index(index),
            };
            let (term, index) = (id.term.0, id.index.0);
            let mut others = vec![
                written(at(term, index + 1), outcome.clone()),
                written(at(term, index - 1), outcome.clone()),
                written(at(term + 1, index), outcome.clone()),
            ];
            let outcomes = [
                Outcome::Put,
                Outcome::Deleted(0),
                Outcome::Deleted(1),
                Outcome::Deleted(2),
                Outcome::Swapped,
                Outcome::NotSwapped(None),
                Outcome::NotSwapped(Some(Index(random.within(1..=60)))),
                Outcome::Incremented(random.below(9) as i64),
                Outcome::NotANumber,
                Outcome::Overflow,
                Outcome::Applied,
            ];
            let outcomes = outcomes.into_iter().filter(|other| other != outcome);
            others.extend(outcomes.map(|other| written(*id, other)));
            others
        }
        Answer::Got { index, item } => {
            let got = |item| Answer::Got {
                index: *index,
                item,
            };
            match item {
                None => vec![got(Some(any_item(random)))],
                Some(item) => {
                    let items = other_items(item).into_iter().map(Some);
                    items.chain([None]).map(got).collect()
                }
            }
        }
        Answer::Scanned { index, page } => {
            let pages = other_pages(page, random).into_iter();
            let scanned = |page| Answer::Scanned {
                index: *index,
                page,
            };
            pages.map(scanned).collect()
        }
        Answer::NotApplied | Answer::Unknown => Vec::new(),
    }
}

fn any_item(random: &mut Random) -> Item {
    let revision = Index(random.within(1..=60));
    Item {
        key: b"k0".to_vec(),
        value: b"1".to_vec(),
        revision,
        create_revision: revision,
        version: 1,
    }
}

fn other_items(item: &Item) -> Vec<Item> {
    let changes: [fn(&mut Item); 5] = [
        |item| item.key.push(b'x'),
        |item| item.value.push(b'0'),
        |item| item.revision.0 += 1,
        |item| item.create_revision.0 -= 1,
        |item| item.version += 1,
    ];
    changes.map(|change| changed(item, change)).to_vec()
}

fn other_pages(page: &Page, random: &mut Random) -> Vec<Page> {
    let mut pages = vec![
        changed(page, |page| page.count += 1),
        changed(page, |page| {
            page.more_after = match &page.more_after {
                Some(_) => None,
                None => Some(b"k1".to_vec()),
            };
        }),
        changed(page, |page| page.items.push(any_item(random))),
    ];
    for place in 0..page.items.len() {
        pages.push(changed(page, |page| {
            page.items.remove(place);
        }));
        pages.extend(
            other_items(&page.items[place])
                .into_iter()
                .map(|item| changed(page, |page| page.items[place] = item)),
        );
    }
    if page.items.len() > 1 {
        pages.push(changed(page, |page| page.items.swap(0, 1)));
    }
    pages
}

fn changed<T: Clone>(whole: &T, change: impl FnOnce(&mut T)) -> T {
    let mut whole = whole.clone();
    change(&mut whole);
    whole
}

#[test]
fn no_answer_can_be_changed() {
    let mut tried = 0;
    for seed in 0..16 {
        let mut maker = right(seed, SHAPE);
        let mut random = Random::new(!seed);
        for place in 0..maker.history.records.len() {
            let answer = maker.history.records[place].answer.clone();
            for other in others(&answer, &mut random) {
                maker.history.records[place].answer = other;
                let verdict = maker.witness();
                let record = &maker.history.records[place];
                assert!(verdict.is_err(), "seed {seed}: {record}");
                tried += 1;
            }
            maker.history.records[place].answer = answer;
        }
        assert_eq!(maker.witness(), Ok(()), "seed {seed}: as it was");
    }
    assert!(tried > 8_000, "{tried}");
}

/// What a client may say of a write whose fate the log knows.
#[test]
fn nobody_is_told_the_wrong_fate() {
    let (mut lost, mut applied) = (0, 0);
    for seed in 100..140 {
        let maker = right(seed, SHAPE);
        for place in 0..maker.history.records.len() {
            let record = &maker.history.records[place];
            let is_write = matches!(record.operation, Operation::Write { .. });
            let mut spoiled = right(seed, SHAPE);
            let told = &mut spoiled.history.records[place];
            match &record.answer {
                Answer::Written { .. } => {
                    applied += 1;
                    told.answer = Answer::NotApplied;
                    assert!(spoiled.witness().is_err(), "seed {seed}: {record}");
                    // To know less than all is no lie.
                    spoiled.history.records[place].answer = Answer::Unknown;
                    assert_eq!(spoiled.witness(), Ok(()), "seed {seed}: {record}");
                }
                Answer::NotApplied if is_write => {
                    lost += 1;
                    told.answer = Answer::Written {
                        id: maker.entries[random_place(seed, maker.entries.len())].id(),
                        outcome: Outcome::Put,
                    };
                    assert!(spoiled.witness().is_err(), "seed {seed}: {record}");
                }
                _ => {}
            }
        }
    }
    assert!(lost > 10 && applied > 800, "{lost} and {applied}");
}

fn random_place(seed: u64, len: usize) -> usize {
    Random::new(seed).index(len)
}

#[test]
fn no_two_operations_can_change_places_in_time() {
    let mut tried = 0;
    for seed in 200..230 {
        let mut maker = right(seed, SHAPE);
        let mut random = Random::new(seed);
        let right = maker.history.clone();
        for _ in 0..200 {
            let records = &mut maker.history.records;
            let (first, second) = (random.index(records.len()), random.index(records.len()));
            let ordered = |record: &Record| record.index().filter(|_| !record.is_stale_read());
            let (Some(before), Some(after)) = (ordered(&records[first]), ordered(&records[second]))
            else {
                continue;
            };
            if before >= after {
                continue;
            }
            // What has the lower index begins after the other has ended.
            let ended_ns = records[second].ended_ns.expect("it has an answer");
            records[first].invoked_ns = ended_ns + 1;
            records[first].ended_ns = records[first].ended_ns.max(Some(ended_ns + 2));
            assert!(
                maker.witness().is_err(),
                "seed {seed}: {first} after {second}"
            );
            maker.history.clone_from(&right);
            tried += 1;
        }
    }
    assert!(tried > 1_000, "{tried}");
}

#[test]
fn every_effect_in_the_log_was_asked_for() {
    for seed in 300..310 {
        let mut maker = right(seed, SHAPE);
        for place in 0..maker.history.records.len() {
            let record = maker.history.records[place].clone();
            let Operation::Write { .. } = record.operation else {
                continue;
            };
            let Answer::Written { .. } = record.answer else {
                continue;
            };
            maker.history.records.remove(place);
            assert!(maker.witness().is_err(), "seed {seed}: without {record}");
            maker.history.records.insert(place, record);
        }
        let Maker { entries, .. } = &mut maker;
        entries.clear();
        assert!(maker.witness().is_err(), "seed {seed}: without its log");
    }
}
