//! Wrong in time or place: by the clock, by index, on a connection, in the log.

use raftd_tests::history::{Answer, Breach, Operation};
use wire::client::Consistency::{Bounded, LinearizableAnywhere, Stale};
use wire::types::{Index, Term};

use super::super::maker::{Maker, get, put};
use super::Search::{CannotTell, Refutes};
use super::{Case, copy_answer, reread, scan, span};

pub(super) const CASES: &[Case] = &[
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
        without_log: Err(Breach::RealTime),
        search: Refutes,
    },
    Case {
        name: "stale_read_at_a_node_that_does_not_lead",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.read(2, (2, 3), LinearizableAnywhere, get("k"));
            maker.put(1, (4, 5), "k", "b");
            maker.read(2, (6, 7), LinearizableAnywhere, get("k"));
        },
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::RealTime,
        without_log: Err(Breach::RealTime),
        search: Refutes,
    },
    Case {
        name: "stale_read_over_its_bound",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.stale_get(2, (2, 3), "k");
            // A millisecond by a clock that runs at half the speed is two, and this ends before them.
            maker.put(1, (4, 2_999_999), "k", "b");
            maker.read(
                2,
                (5_000_000, 5_000_001),
                Bounded { max_lag_ms: 1 },
                get("k"),
            );
            // This one does not: the read may see either.
            maker.put(1, (2_999_999, 4_000_000), "k", "c");
        },
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::RealTime,
        without_log: Err(Breach::RealTime),
        search: CannotTell,
    },
    Case {
        name: "read_that_misses_the_entry_it_comes_after",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.stale_get(2, (2, 3), "k");
            let put = maker.put(1, (4, 5), "k", "b");
            let read = maker.stale_get(2, (6, 7), "k");
            let written = maker.history.records[put].index().expect("it was written");
            let Operation::Read { after, .. } = &mut maker.history.records[read].operation else {
                panic!("it is a read");
            };
            *after = written;
        },
        spoil: |maker| copy_answer(maker, 1, 3),
        breach: Breach::TooEarly,
        without_log: Err(Breach::TooEarly),
        search: CannotTell,
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
        without_log: Err(Breach::RealTime),
        search: CannotTell,
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
        without_log: Err(Breach::RealTime),
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
        without_log: Ok(()),
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
        without_log: Ok(()),
        search: CannotTell,
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
        without_log: Err(Breach::RealTime),
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
        without_log: Err(Breach::RealTime),
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
        without_log: Err(Breach::RealTime),
        search: CannotTell,
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
        without_log: Ok(()),
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
        without_log: Ok(()),
        search: CannotTell,
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
        without_log: Err(Breach::NobodyAsked),
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
        without_log: Err(Breach::NobodyAsked),
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
        without_log: Err(Breach::OtherState),
        search: Refutes,
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
        without_log: Err(Breach::WentBack),
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
        without_log: Err(Breach::OwnWriteUnseen),
        search: CannotTell,
    },
    Case {
        name: "term_that_falls",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.elect();
            maker.put(1, (2, 3), "k", "b");
        },
        spoil: |maker| {
            let mut other = Maker::new();
            other.put(1, (0, 1), "k", "a");
            other.write(1, (0, 1), put("k", "x"));
            other.put(1, (2, 3), "k", "b");
            let last = maker.entries.len() - 1;
            maker.entries[last] = other.entries[last].clone();
            maker.history.records[0].answer = Answer::Unknown;
        },
        breach: Breach::BrokenLog,
        without_log: Ok(()),
        search: CannotTell,
    },
    Case {
        name: "log_with_a_gap",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.elect();
            maker.put(1, (2, 3), "k", "b");
        },
        spoil: |maker| {
            maker.entries.remove(2);
        },
        breach: Breach::BrokenLog,
        without_log: Ok(()),
        search: CannotTell,
    },
    Case {
        name: "session_out_of_order",
        right: |maker| {
            maker.put(1, (0, 9), "a", "1");
            maker.put(1, (1, 8), "b", "2");
        },
        // Each tells the other's entry.
        spoil: |maker| {
            let first = maker.history.records[0].answer.clone();
            copy_answer(maker, 1, 0);
            maker.history.records[1].answer = first;
        },
        breach: Breach::OtherEntry,
        without_log: Err(Breach::OtherEntry),
        search: CannotTell,
    },
    Case {
        name: "one_entry_named_by_two_writes",
        right: |maker| {
            maker.put(1, (0, 9), "a", "1");
            maker.put(2, (1, 8), "b", "2");
        },
        spoil: |maker| copy_answer(maker, 0, 1),
        breach: Breach::OtherEntry,
        without_log: Err(Breach::OtherEntry),
        search: CannotTell,
    },
    Case {
        name: "acknowledged_terms_that_fall",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.elect();
            maker.put(1, (2, 3), "k", "b");
        },
        spoil: |maker| {
            let Answer::Written { id, .. } = &mut maker.history.records[0].answer else {
                panic!("it is a write");
            };
            id.term = Term(9);
        },
        breach: Breach::OtherEntry,
        without_log: Err(Breach::BrokenLog),
        search: CannotTell,
    },
    Case {
        name: "item_newer_than_what_was_read",
        right: |maker| {
            maker.unanswered(3, 0, put("k", "c"));
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (3, 8), "k");
            maker.put(1, (2, 9), "k", "b");
            maker.get(2, (10, 11), "k");
        },
        // The value of the second put, said to be the state at the first.
        spoil: |maker| {
            copy_answer(maker, 4, 2);
            reread(maker, 2, 2);
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: CannotTell,
    },
];
