//! Histories that are wrong in one thing, each beside its twin that is right: both checkers accept
//! the twin; the witness names the breach; the search, which sees values and times only, refutes
//! what can be refuted by those.

use raftd_tests::history::{Answer, Breach, Expect, Operation};
use wire::client::ScanMode;
use wire::command::Outcome;
use wire::types::{Index, Term};

use super::maker::{Maker, delete, increment, put, swap};
use raftd_tests::history::Query;
use wire::client::Consistency::{Linearizable, Stale};

/// Whether values and times alone show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Refutes,
    CannotTell,
}
use Search::{CannotTell, Refutes};

/// One mistake.
struct Case {
    name: &'static str,
    /// Makes the twin that is right.
    right: fn(&mut Maker),
    /// Makes it wrong.
    spoil: fn(&mut Maker),
    breach: Breach,
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
    Query::Scan {
        mode: ScanMode::Items,
        prefix: prefix.into(),
        after: None,
        limit: 100,
    }
}

const CASES: &[Case] = &[
    Case {
        name: "stale_read",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
            maker.put(1, (4, 5), "k", "b");
            maker.get(2, (6, 7), "k");
        },
        // Value and index of before the second put.
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::RealTime,
        search: Refutes,
    },
    Case {
        name: "stale_read_of_a_key_that_did_not_change",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
            maker.put(1, (4, 5), "other", "b");
            maker.get(2, (6, 7), "k");
        },
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::RealTime,
        search: CannotTell,
    },
    Case {
        name: "lost_update",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.put(1, (2, 3), "k", "b");
            maker.get(2, (4, 5), "k");
        },
        // The log lost the second put's entry: its answer names what is a later no-op now.
        spoil: |maker| {
            let mut other = Maker::new();
            other.put(1, (0, 1), "k", "a");
            other.elect();
            other.get(2, (4, 5), "k");
            maker.entries = other.entries;
            maker.history.records[2] = other.history.records[1].clone();
        },
        breach: Breach::OtherEntry,
        search: Refutes,
    },
    Case {
        name: "double_increment",
        right: |maker| {
            maker.increment(1, (0, 1), "n");
            maker.increment(1, (2, 3), "n");
            maker.get(2, (4, 5), "n");
        },
        spoil: |maker| {
            outcome(maker, 1, Outcome::Incremented(3));
            let Answer::Got {
                item: Some(item), ..
            } = &mut maker.history.records[2].answer
            else {
                panic!("the counter is there");
            };
            item.value = b"3".to_vec();
        },
        breach: Breach::OtherState,
        search: Refutes,
    },
    Case {
        name: "increments_that_did_not_see_each_other",
        right: |maker| {
            maker.increment(1, (0, 3), "n");
            maker.increment(2, (1, 2), "n");
        },
        spoil: |maker| outcome(maker, 1, Outcome::Incremented(1)),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "read_from_the_future",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
            maker.put(1, (4, 5), "k", "b");
            maker.get(2, (6, 7), "k");
        },
        spoil: |maker| copy_answer(maker, 3, 1),
        breach: Breach::RealTime,
        search: Refutes,
    },
    Case {
        name: "read_beyond_the_committed_log",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
        },
        spoil: |maker| reread(maker, 1, 9),
        breach: Breach::BeyondLog,
        search: CannotTell,
    },
    Case {
        name: "acknowledged_but_not_committed",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.put(1, (2, 3), "k", "b");
        },
        spoil: |maker| {
            maker.entries.pop();
        },
        breach: Breach::BeyondLog,
        search: CannotTell,
    },
    Case {
        name: "read_of_a_write_that_was_refused",
        right: |maker| {
            maker.refused(1, (0, 1), put("k", "a"));
            maker.get(2, (2, 3), "k");
            let sent = maker.unanswered(3, 4, put("k", "b"));
            maker.commit(sent);
            maker.get(2, (5, 6), "k");
        },
        // The one of unknown outcome was told that it was not applied.
        spoil: |maker| {
            maker.history.records[2].ended_ns = Some(5);
            maker.history.records[2].answer = Answer::NotApplied;
        },
        breach: Breach::AppliedAfterAll,
        search: Refutes,
    },
    Case {
        name: "swap_on_an_old_value",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.put(1, (2, 3), "k", "b");
            maker.write(2, (4, 5), swap("k", Expect::Value(b"a".to_vec()), "c"));
        },
        spoil: |maker| outcome(maker, 2, Outcome::Swapped),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "swap_on_an_old_revision",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.put(1, (2, 3), "k", "a");
            maker.write(2, (4, 5), swap("k", Expect::Revision(Index(2)), "c"));
        },
        spoil: |maker| outcome(maker, 2, Outcome::Swapped),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "two_swaps_of_one_revision",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.write(2, (2, 5), swap("k", Expect::Revision(Index(2)), "b"));
            maker.write(3, (3, 4), swap("k", Expect::Revision(Index(2)), "c"));
        },
        spoil: |maker| outcome(maker, 2, Outcome::Swapped),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "swap_refused_for_no_reason",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.write(2, (2, 3), swap("k", Expect::Value(b"a".to_vec()), "b"));
        },
        spoil: |maker| outcome(maker, 1, Outcome::NotSwapped(Some(Index(2)))),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "reads_that_go_back",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (11, 12), "k");
            maker.put(1, (10, 20), "k", "b");
            maker.get(3, (13, 14), "k");
        },
        // While the second put is under way, its value may be seen or not, but not lost again.
        spoil: |maker| {
            copy_answer(maker, 3, 1);
            let mut old = Maker::new();
            old.put(1, (0, 1), "k", "a");
            let seen = old.get(3, (13, 14), "k");
            maker.history.records[3] = old.history.records[seen].clone();
        },
        breach: Breach::RealTime,
        search: Refutes,
    },
    Case {
        name: "writes_out_of_real_time",
        right: |maker| {
            maker.put(1, (0, 10), "k", "a");
            maker.put(2, (1, 9), "k", "b");
            maker.get(3, (11, 12), "k");
        },
        // The one that comes later by index had ended before the earlier one was invoked.
        spoil: |maker| {
            span(maker, 0, 5, 10);
            span(maker, 1, 1, 4);
        },
        breach: Breach::RealTime,
        search: Refutes,
    },
    Case {
        name: "unread_writes_out_of_real_time",
        right: |maker| {
            maker.put(1, (0, 10), "a", "1");
            maker.put(2, (1, 9), "b", "2");
        },
        spoil: |maker| {
            span(maker, 0, 5, 10);
            span(maker, 1, 1, 4);
        },
        breach: Breach::RealTime,
        search: CannotTell,
    },
    Case {
        name: "resurrected_delete",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
            maker.write(1, (4, 5), delete("k"));
            maker.get(2, (6, 7), "k");
        },
        spoil: |maker| {
            copy_answer(maker, 1, 3);
            reread(maker, 3, 3);
        },
        breach: Breach::OtherState,
        search: Refutes,
    },
    Case {
        name: "deleted_twice",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.write(1, (2, 9), delete("k"));
            maker.write(2, (3, 8), delete("k"));
        },
        spoil: |maker| outcome(maker, 2, Outcome::Deleted(1)),
        breach: Breach::OtherOutcome,
        search: Refutes,
    },
    Case {
        name: "retry_applied_again",
        right: |maker| {
            let first = maker.increment(1, (0, 5), "n");
            // The retry's entry is in the log and has no effect.
            maker.commit(first);
            maker.get(2, (6, 7), "n");
        },
        spoil: |maker| {
            let Answer::Got {
                item: Some(item), ..
            } = &mut maker.history.records[1].answer
            else {
                panic!("the counter is there");
            };
            item.value = b"2".to_vec();
            item.revision = Index(3);
            item.version = 2;
        },
        breach: Breach::OtherState,
        search: Refutes,
    },
    Case {
        name: "retry_answered_by_its_second_entry",
        right: |maker| {
            let first = maker.put(1, (0, 5), "k", "a");
            maker.commit(first);
        },
        spoil: |maker| {
            let Answer::Written { id, .. } = &mut maker.history.records[0].answer else {
                panic!("it is a write");
            };
            id.index = Index(3);
        },
        breach: Breach::OtherEntry,
        search: CannotTell,
    },
    Case {
        name: "answered_in_another_term",
        right: |maker| {
            maker.put(1, (0, 5), "k", "a");
        },
        spoil: |maker| {
            let Answer::Written { id, .. } = &mut maker.history.records[0].answer else {
                panic!("it is a write");
            };
            id.term = Term(9);
        },
        breach: Breach::OtherEntry,
        search: CannotTell,
    },
    Case {
        name: "unknown_write_seen_then_unseen",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            let sent = maker.unanswered(2, 2, put("k", "b"));
            maker.get(3, (3, 4), "k");
            maker.commit(sent);
            maker.get(3, (5, 6), "k");
            maker.get(3, (7, 8), "k");
        },
        spoil: |maker| {
            copy_answer(maker, 2, 4);
            reread(maker, 4, 3);
        },
        breach: Breach::OtherState,
        search: Refutes,
    },
    Case {
        name: "unknown_write_before_it_was_invoked",
        right: |maker| {
            let sent = maker.unanswered(2, 2, put("k", "b"));
            maker.commit(sent);
            maker.get(3, (3, 4), "k");
        },
        spoil: |maker| maker.history.records[0].invoked_ns = 5,
        breach: Breach::RealTime,
        search: Refutes,
    },
    Case {
        name: "unknown_increment_counted_twice",
        right: |maker| {
            let sent = maker.unanswered(2, 0, increment("n", 1));
            maker.commit(sent);
            maker.get(3, (3, 4), "n");
        },
        spoil: |maker| {
            let Answer::Got {
                item: Some(item), ..
            } = &mut maker.history.records[1].answer
            else {
                panic!("the counter is there");
            };
            item.value = b"2".to_vec();
        },
        breach: Breach::OtherState,
        search: Refutes,
    },
    Case {
        name: "value_from_nowhere",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(3, (3, 4), "k");
        },
        // Another client's write that nobody recorded.
        spoil: |maker| {
            let mut other = Maker::new();
            other.put(9, (0, 1), "k", "x");
            maker.entries[1] = other.entries[1].clone();
            let seen = other.get(3, (3, 4), "k");
            maker.history.records[1] = other.history.records[seen].clone();
            maker.history.records[0].answer = Answer::Unknown;
        },
        breach: Breach::NobodyAsked,
        search: Refutes,
    },
    Case {
        name: "other_command_under_the_same_name",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(3, (3, 4), "k");
        },
        spoil: |maker| {
            let Operation::Write { command, .. } = &mut maker.history.records[0].operation else {
                panic!("it is a write");
            };
            *command = put("k", "b");
        },
        breach: Breach::NobodyAsked,
        search: Refutes,
    },
    Case {
        name: "torn_scan",
        right: |maker| {
            maker.put(1, (0, 1), "a", "1");
            maker.put(1, (2, 3), "b", "1");
            maker.put(1, (4, 9), "a", "2");
            maker.put(2, (4, 9), "b", "2");
            maker.read(3, (5, 8), Linearizable, scan(""));
        },
        // The new `a` beside the old `b`... the other way round than the log has them.
        spoil: |maker| {
            let Answer::Scanned { page, .. } = &mut maker.history.records[4].answer else {
                panic!("it is a scan");
            };
            page.items[0].value = b"1".to_vec();
        },
        breach: Breach::OtherState,
        search: CannotTell,
    },
    Case {
        name: "scan_that_misses_a_key",
        right: |maker| {
            maker.put(1, (0, 1), "a", "1");
            maker.put(1, (2, 3), "b", "1");
            maker.read(3, (5, 8), Linearizable, scan(""));
        },
        spoil: |maker| {
            let Answer::Scanned { page, .. } = &mut maker.history.records[2].answer else {
                panic!("it is a scan");
            };
            page.items.pop();
            page.count = 1;
        },
        breach: Breach::OtherState,
        search: CannotTell,
    },
    Case {
        name: "stale_read_of_what_never_was",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.stale_get(2, (2, 3), "k");
            maker.put(1, (4, 5), "k", "b");
            maker.stale_get(2, (6, 7), "k");
        },
        // Old is right for a stale read, but not an old value at a new index.
        spoil: |maker| {
            copy_answer(maker, 1, 3);
            reread(maker, 3, 3);
        },
        breach: Breach::OtherState,
        search: CannotTell,
    },
    Case {
        name: "stale_reads_that_go_back_on_one_connection",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            let first = maker.stale_get(2, (2, 3), "k");
            maker.put(1, (4, 5), "k", "b");
            let second = maker.read(2, (6, 7), Stale, scan("k"));
            let third = maker.stale_get(2, (8, 9), "k");
            maker.sent(first, 1, 1);
            maker.sent(second, 1, 2);
            maker.sent(third, 1, 3);
        },
        spoil: |maker| copy_answer(maker, 1, 4),
        breach: Breach::WentBack,
        search: CannotTell,
    },
    Case {
        name: "read_that_misses_its_connections_write",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(9, (2, 3), "k");
            let sent = maker.put(1, (4, 9), "k", "b");
            let seen = maker.get(1, (5, 8), "k");
            maker.sent(sent, 1, 1);
            maker.sent(seen, 1, 2);
        },
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::OwnWriteUnseen,
        search: CannotTell,
    },
];

#[test]
fn each_is_rejected_and_its_twin_accepted() {
    for case in CASES {
        let name = case.name;
        let mut maker = Maker::new();
        (case.right)(&mut maker);
        assert_eq!(maker.witness(), Ok(()), "{name}: the twin, by the witness");
        assert_eq!(maker.search(), Ok(()), "{name}: the twin, by the search");
        let right = maker.history.clone();
        (case.spoil)(&mut maker);
        assert_eq!(maker.witness(), Err(case.breach), "{name}: by the witness");
        let expected = match case.search {
            Refutes => Err(Breach::NotLinearizable),
            CannotTell => Ok(()),
        };
        assert_eq!(maker.search(), expected, "{name}: by the search");
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
    let mut named: Vec<_> = CASES.iter().map(|case| case.name).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), CASES.len(), "no name twice");
    for breach in [
        Breach::BeyondLog,
        Breach::OtherEntry,
        Breach::OtherOutcome,
        Breach::AppliedAfterAll,
        Breach::NobodyAsked,
        Breach::OtherState,
        Breach::RealTime,
        Breach::WentBack,
        Breach::OwnWriteUnseen,
    ] {
        assert!(
            CASES.iter().any(|case| case.breach == breach),
            "{breach:?} has a case"
        );
    }
}
