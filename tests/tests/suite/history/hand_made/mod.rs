//! Histories that are wrong in one thing, each beside its twin that is right: all checkers accept
//! the twin; the witness names the breach, and without the log most of them; the search, which sees
//! values and times only, refutes what can be refuted by those.

mod orders;
mod states;

use raftd_tests::history::{Answer, Breach, Item, Query, Scan};
use wire::client::{Consistency, ScanMode};
use wire::command::Outcome;
use wire::types::Index;

use super::maker::Maker;

/// Whether values and times alone show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Refutes,
    CannotTell,
}

/// Makes a history wrong.
type Spoil = fn(&mut Maker);

/// One mistake.
struct Case {
    name: &'static str,
    /// Makes the twin that is right.
    right: fn(&mut Maker),
    spoil: Spoil,
    /// What the witness finds.
    breach: Breach,
    /// What it finds if it is not shown the log.
    without_log: Result<(), Breach>,
    search: Search,
}

/// The index of the log that a read says it saw.
fn reread(maker: &mut Maker, place: usize, at: u64) {
    match &mut maker.history.records[place].answer {
        Answer::Got { index, .. } | Answer::Scanned { index, .. } => *index = Index(at),
        other => panic!("{other:?} is no answer to a read"),
    }
}

/// Lets one record tell what another one was told.
fn copy_answer(maker: &mut Maker, from: usize, to: usize) {
    maker.history.records[to].answer = maker.history.records[from].answer.clone();
}

fn outcome(maker: &mut Maker, place: usize, told: Outcome) {
    match &mut maker.history.records[place].answer {
        Answer::Written { outcome, .. } => *outcome = told,
        other => panic!("{other:?} is no answer to a write"),
    }
}

fn span(maker: &mut Maker, place: usize, invoked_ns: u64, ended_ns: u64) {
    maker.history.records[place].invoked_ns = invoked_ns;
    maker.history.records[place].ended_ns = Some(ended_ns);
}

fn scan(prefix: &str) -> Query {
    Query::Scan(Scan::of_prefix(
        ScanMode::Items,
        prefix.as_bytes(),
        None,
        100,
    ))
}

/// The item that a get was told.
fn item(maker: &mut Maker, place: usize) -> &mut Item {
    match &mut maker.history.records[place].answer {
        Answer::Got {
            item: Some(item), ..
        } => item,
        other => panic!("{other:?} is no item"),
    }
}

fn cases() -> impl Iterator<Item = &'static Case> {
    orders::CASES.iter().chain(states::CASES)
}

#[test]
fn each_is_rejected_and_its_twin_accepted() {
    for case in cases() {
        let name = case.name;
        let mut maker = Maker::new();
        (case.right)(&mut maker);
        assert_eq!(maker.witness(), Ok(()), "{name}: the twin, by the witness");
        assert_eq!(maker.search(), Ok(()), "{name}: the twin, by the search");
        assert_eq!(maker.acks(), Ok(()), "{name}: the twin, without its log");
        let right = maker.history.clone();
        (case.spoil)(&mut maker);
        assert_eq!(maker.witness(), Err(case.breach), "{name}: by the witness");
        let expected = match case.search {
            Search::Refutes => Err(Breach::NotLinearizable),
            Search::CannotTell => Ok(()),
        };
        assert_eq!(maker.search(), expected, "{name}: by the search");
        assert_eq!(maker.acks(), case.without_log, "{name}: without the log");
        // The order of the records means nothing.
        maker.history.records.reverse();
        assert!(maker.witness().is_err(), "{name}: backwards");
        assert_eq!(maker.search(), expected, "{name}: backwards");
        maker.history = right;
        maker.history.records.reverse();
        assert_eq!(maker.search(), Ok(()), "{name}: the twin, backwards");
    }
}

#[test]
fn every_breach_has_a_case() {
    let mut named: Vec<_> = cases().map(|case| case.name).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), cases().count(), "no name twice");
    for breach in [
        Breach::BeyondLog,
        Breach::OtherEntry,
        Breach::OtherOutcome,
        Breach::AppliedAfterAll,
        Breach::NobodyAsked,
        Breach::BrokenLog,
        Breach::OtherState,
        Breach::RealTime,
        Breach::WentBack,
        Breach::OwnWriteUnseen,
    ] {
        assert!(
            cases().any(|case| case.breach == breach),
            "{breach:?} has a case"
        );
    }
}

#[test]
fn what_is_no_history_is_told_so_by_all() {
    let spoil: [(&str, Spoil); 5] = [
        ("a write answered by an item", |maker| {
            copy_answer(maker, 1, 0);
        }),
        ("a get answered by a page", |maker| copy_answer(maker, 2, 1)),
        ("answered without an end", |maker| {
            maker.history.records[0].ended_ns = None;
        }),
        ("ended before it was invoked", |maker| span(maker, 1, 3, 2)),
        ("two writes of one name", |maker| {
            let twin = maker.history.records[0].clone();
            maker.history.records.push(twin);
        }),
    ];
    for (name, spoil) in spoil {
        let mut maker = Maker::new();
        maker.put(1, (0, 1), "k", "a");
        maker.get(1, (2, 3), "k");
        maker.read(1, (4, 5), Consistency::Stale, scan("k"));
        spoil(&mut maker);
        let expected = Err(Breach::Malformed);
        assert_eq!(maker.witness(), expected, "{name}: by the witness");
        assert_eq!(maker.acks(), expected, "{name}: without the log");
        assert_eq!(maker.search(), expected, "{name}: by the search");
    }
}
