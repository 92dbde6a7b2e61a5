//! Wrong in what was done or seen.

use raftd_tests::history::{Answer, Breach, Expect, Query, Scan};
use wire::client::Consistency::Linearizable;
use wire::client::ScanMode;
use wire::command::Outcome;
use wire::types::Index;

use super::super::maker::{Maker, delete, increment, put, swap};
use super::Search::{CannotTell, Refutes};
use super::{Case, copy_answer, item, outcome, reread, scan};

pub(super) const CASES: &[Case] = &[
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
        without_log: Err(Breach::OtherState),
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
            let item = item(maker, 2);
            item.value = b"3".to_vec();
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherOutcome),
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
        without_log: Err(Breach::OtherOutcome),
        search: Refutes,
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
        without_log: Err(Breach::NobodyAsked),
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
        without_log: Err(Breach::OtherOutcome),
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
        without_log: Err(Breach::OtherOutcome),
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
        without_log: Err(Breach::OtherOutcome),
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
        without_log: Err(Breach::OtherOutcome),
        search: Refutes,
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
        without_log: Err(Breach::OtherState),
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
        without_log: Err(Breach::OtherOutcome),
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
            let item = item(maker, 1);
            item.value = b"2".to_vec();
            item.revision = Index(3);
            item.version = 2;
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::NobodyAsked),
        search: Refutes,
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
        without_log: Err(Breach::OtherState),
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
            let item = item(maker, 1);
            item.value = b"2".to_vec();
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
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
        // The new `b` beside the old `a`: the log has the new `a` first.
        spoil: |maker| {
            let Answer::Scanned { page, .. } = &mut maker.history.records[4].answer else {
                panic!("it is a scan");
            };
            page.items[0].value = b"1".to_vec();
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
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
        without_log: Err(Breach::OtherState),
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
        without_log: Err(Breach::OtherState),
        search: CannotTell,
    },
    Case {
        name: "unknown_write_seen_at_two_revisions",
        right: |maker| {
            let sent = maker.unanswered(1, 0, put("k", "a"));
            maker.commit(sent);
            maker.get(2, (1, 2), "k");
            maker.write(2, (3, 4), delete("other"));
            maker.get(2, (5, 6), "k");
        },
        spoil: |maker| item(maker, 3).revision = Index(3),
        breach: Breach::OtherState,
        without_log: Err(Breach::AppliedTwice),
        search: Refutes,
    },
    Case {
        name: "swap_of_an_absent_key_twice",
        right: |maker| {
            maker.write(1, (0, 5), swap("lock", Expect::Absent, "1"));
            maker.write(2, (1, 4), swap("lock", Expect::Absent, "2"));
        },
        spoil: |maker| outcome(maker, 1, Outcome::Swapped),
        breach: Breach::OtherOutcome,
        without_log: Err(Breach::OtherOutcome),
        search: Refutes,
    },
    Case {
        name: "version_that_missed_a_write",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.put(1, (2, 3), "k", "b");
            maker.get(2, (4, 5), "k");
        },
        spoil: |maker| item(maker, 2).version = 1,
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: CannotTell,
    },
    Case {
        name: "counter_that_forgot_an_unanswered_increment",
        right: |maker| {
            let sent = maker.unanswered(1, 0, increment("n", 1));
            maker.commit(sent);
            maker.increment(2, (1, 2), "n");
            maker.increment(2, (3, 4), "n");
        },
        spoil: |maker| outcome(maker, 2, Outcome::Incremented(2)),
        breach: Breach::OtherOutcome,
        without_log: Ok(()),
        search: Refutes,
    },
    Case {
        name: "write_that_is_not_there",
        right: |maker| {
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
        },
        spoil: |maker| {
            maker.history.records[1].answer = Answer::Got {
                index: Index(2),
                item: None,
            };
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: Refutes,
    },
    Case {
        // Whatever became of the stray: the second put is missing.
        name: "lost_update_beside_a_stray",
        right: |maker| {
            maker.unanswered(3, 0, put("k", "c"));
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
            maker.put(1, (4, 5), "k", "b");
            maker.get(2, (6, 7), "k");
        },
        spoil: |maker| {
            copy_answer(maker, 2, 4);
            reread(maker, 4, 3);
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: Refutes,
    },
    Case {
        name: "other_value_beside_a_stray",
        right: |maker| {
            maker.unanswered(3, 0, put("k", "c"));
            maker.put(1, (0, 1), "k", "a");
            maker.get(2, (2, 3), "k");
        },
        spoil: |maker| item(maker, 2).value = b"x".to_vec(),
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: Refutes,
    },
    Case {
        name: "count_that_is_wrong",
        right: |maker| {
            maker.put(1, (0, 1), "a", "1");
            maker.put(1, (2, 3), "b", "1");
            let query = Query::Scan(Scan::of_prefix(ScanMode::Count, b"", None, 9));
            maker.read(2, (4, 5), Linearizable, query);
        },
        spoil: |maker| {
            let Answer::Scanned { page, .. } = &mut maker.history.records[2].answer else {
                panic!("it is a scan");
            };
            page.count = 1;
        },
        breach: Breach::OtherState,
        without_log: Err(Breach::OtherState),
        search: CannotTell,
    },
];
