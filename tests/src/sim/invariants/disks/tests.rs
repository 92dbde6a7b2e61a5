//! What a disk cannot hold, and what cannot be cut from it.

use bytes::BytesMut;
use wire::entry::{Entry, EntryKind};

use super::super::member::Watched;
use super::super::tests::{bogus, says};
use super::*;

#[test]
fn a_committed_entry_that_is_cut() {
    let mut committed = Committed::default();
    committed.push(bogus(1, 1), Term(2)).unwrap();
    let first = committed.held(Index(1)).expect("it was pushed");
    let other = Held {
        crc: first.crc ^ 1,
        ..first
    };
    let cut =
        |term, from, entry| check_cut(&committed, NodeId(1), Term(term), Index(from), &[entry]);
    cut(2, 1, other).unwrap();
    cut(2, 2, first).unwrap();
    cut(1, 1, first).unwrap();
    assert!(cut(2, 1, first).is_err());
    assert!(cut(3, 1, first).is_err());

    let mut watched = Watched::new(NodeId(1));
    watched.memory = vec![first, other];
    watched.commit = Index(1);
    assert!(watched.cut(Index(2)).is_ok());
    assert!(watched.cut(Index(1)).is_err());
}

#[test]
fn a_disk_that_holds_what_nobody_wrote() {
    let state = HardState {
        term: Term(2),
        vote: None,
        lost: false,
    };
    let entry = Held {
        term: Term(2),
        crc: 7,
    };
    let mut written = Written::default();
    written.written(Term(1), Index(4), entry).unwrap();
    let judge = |hard_state, entries: &[Held]| {
        let batch = Batch {
            hard_state,
            first: Index(4),
            cut: &[],
            cut_from: Index(4),
            entries,
            before: EntryId {
                term: Term(1),
                index: Index(3),
            },
            commit: Index(0),
            snapshot: EntryId::default(),
            resets: false,
            anew: false,
        };
        check_written(&written, &[state], NodeId(1), &batch)
    };
    judge(state, &[entry]).unwrap();
    let voted = HardState {
        vote: Some(NodeId(1)),
        ..state
    };
    says(judge(voted, &[entry]), "never written");
    says(judge(state, &[entry, entry]), "never written");
    let other = Held { crc: 8, ..entry };
    says(judge(state, &[other]), "never written");
}

#[test]
fn markers_that_cannot_be() {
    let id = |term, index| EntryId {
        term: Term(term),
        index: Index(index),
    };
    let mut committed = Committed::default();
    for index in 1..=3 {
        let noop = Entry::build(&mut BytesMut::new(), id(1, index), 0, EntryKind::Noop, &[]);
        committed.push(noop, Term(1)).unwrap();
    }
    let judge = |before, snapshot, last: u64| {
        let batch = Batch {
            hard_state: HardState::default(),
            first: Index(last + 1),
            cut: &[],
            cut_from: Index(last + 1),
            entries: &[],
            before: id(1, last),
            commit: Index(0),
            snapshot,
            resets: false,
            anew: false,
        };
        check_marker(&committed, NodeId(1), before, &batch)
    };
    judge(id(0, 0), id(1, 2), 2).unwrap();
    judge(id(1, 2), id(1, 2), 1).unwrap();
    says(judge(id(1, 3), id(1, 2), 3), "falls");
    says(judge(id(1, 1), id(2, 2), 3), "marks");
    says(judge(id(1, 1), id(1, 4), 4), "marks");
    says(judge(id(1, 1), id(1, 3), 2), "ends at 2");
}
