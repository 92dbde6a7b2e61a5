use wire::types::{Index, Term};

use super::*;

fn file(index: u64) -> SnapshotFile {
    SnapshotFile {
        id: EntryId {
            term: Term(1),
            index: Index(index),
        },
        bytes: 1,
    }
}

#[test]
fn a_marker_may_overtake_the_one_that_was_asked_for() {
    let mut snapshots = Snapshots {
        marking: Some(file(4)),
        unmarked: Some(file(9)),
        ..Snapshots::default()
    };
    assert_eq!(snapshots.reach(file(9).id), Some(file(9)));
    assert_eq!(snapshots.newest(), file(9));
    assert!(!snapshots.is_busy(), "nobody answers for the one before");
    assert_eq!(snapshots.reach(file(9).id), None);
}

#[test]
fn a_newer_one_is_not_in_doubt() {
    let mut snapshots = Snapshots {
        newest: file(4),
        marking: Some(file(9)),
        ..Snapshots::default()
    };
    snapshots.doubt(file(4).id);
    snapshots.reach(file(9).id);
    assert!(!snapshots.doubted);
}

const POLICY: Policy = Policy {
    log_bytes: 1_000,
    log_factor: 4,
    entries: 0,
    interval: Duration::ZERO,
    growth_percent: 0,
    gap: Duration::from_secs(10),
    keep_bytes: 0,
    piece_bytes: 1,
};

/// After how many seconds one is due if so many bytes and entries were logged since the last one,
/// which had a file of 500 bytes, and a state of 1,000 that has so many now.
fn due_after(policy: Policy, logged: (u64, u64), data_bytes: u64) -> Option<u64> {
    let mut snapshots = Snapshots {
        newest: SnapshotFile {
            bytes: 500,
            ..file(1)
        },
        ..Snapshots::default()
    };
    snapshots.since.data_bytes = 1_000;
    (snapshots.since.log_bytes, snapshots.since.entries) = logged;
    let due = snapshots.due_at(&policy, data_bytes, false);
    due.map(|at| at.since(Instant::default()).as_secs())
}

#[test]
fn one_is_due_by_what_was_written_and_never_before_the_gap() {
    let due = |logged| due_after(POLICY, logged, 1_000);
    assert_eq!(due((1_999, 9)), None);
    assert_eq!(due((2_000, 9)), Some(10), "four times the last one");
    let entries = Policy {
        entries: 5,
        ..POLICY
    };
    assert_eq!(due_after(entries, (9, 4), 1_000), None);
    assert_eq!(due_after(entries, (9, 5), 1_000), Some(10));
    let growth = Policy {
        growth_percent: 50,
        ..POLICY
    };
    assert_eq!(due_after(growth, (9, 9), 1_500), None);
    assert_eq!(due_after(growth, (9, 9), 1_501), Some(10));
    for (seconds, after) in [(3, 10), (30, 30)] {
        let interval = Policy {
            interval: Duration::from_secs(seconds),
            ..POLICY
        };
        assert_eq!(due_after(interval, (9, 9), 1_000), Some(after));
        assert_eq!(
            due_after(interval, (0, 0), 1_000),
            None,
            "nothing was written"
        );
    }
}

#[test]
fn on_a_low_disk_one_is_due_when_it_frees_a_quarter_of_the_state() {
    let mut snapshots = Snapshots::default();
    let policy = Policy {
        log_bytes: u64::MAX,
        ..POLICY
    };
    let mut is_due = |log_bytes, before, now, low| {
        snapshots.since = Since {
            entries: 1,
            log_bytes,
            data_bytes: before,
            ..Since::default()
        };
        snapshots.due_at(&policy, now, low).is_some()
    };
    const MIB: u64 = 1024 * 1024;
    assert!(!is_due(MIB - 1, 4 * MIB, 4 * MIB, true));
    assert!(is_due(MIB, 4 * MIB, 4 * MIB, true));
    assert!(!is_due(MIB, 4 * MIB, 4 * MIB, false));
    assert!(is_due(0, 5 * MIB, 4 * MIB, true), "deletes free as much");
    assert!(!is_due(LOW_BYTES_MIN - 1, 0, 0, true));
    assert!(is_due(LOW_BYTES_MIN, 0, 0, true));
}

#[test]
fn after_failures_in_a_row_the_rest_doubles_up_to_a_bound() {
    let mut snapshots = Snapshots::default();
    (snapshots.since.entries, snapshots.since.log_bytes) = (1, 1_000);
    let policy = Policy {
        gap: Duration::ZERO,
        ..POLICY
    };
    for seconds in [0, 1, 2, 4, 8, 16, 32, 64, 64] {
        let due = snapshots.due_at(&policy, 0, false).expect("one is due");
        assert_eq!(due.since(Instant::default()).as_secs(), seconds);
        snapshots.retry.failed(Instant::default());
    }
}

#[test]
fn a_marker_that_is_not_known_leaves_what_is_later() {
    let mut snapshots = Snapshots {
        marking: Some(file(4)),
        unmarked: Some(file(9)),
        ..Snapshots::default()
    };
    assert_eq!(snapshots.reach(file(4).id), Some(file(4)));
    assert_eq!(snapshots.reach(file(7).id), None);
    assert_eq!(snapshots.unmarked, Some(file(9)));
}
