//! Each rule of sessions, C2, C3 and C5, by a test that fails without it.

use raftd::store::map::Map;
use raftd::store::session::{KEPT_PER_SESSION_MAX, Sessions, Verdict};
use wire::command::{
    Batch, Command, Compares, Operation, Operations, Outcome, SessionId, Txn, Write,
};
use wire::error::{Class, Error};
use wire::types::{EntryId, Epoch, Index, Term};

const EPOCH: Epoch = Epoch(77);

/// Sessions over a counter, so that a write that applied twice would be seen.
struct Table {
    sessions: Sessions,
    map: Map,
    index: u64,
}

/// What the table said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Applied by the entry at this index, now or before; the counter after it.
    Done(u64, i64),
    No(Error),
}

impl Table {
    fn new(sessions_max: usize, kept_max: usize) -> Self {
        Self {
            sessions: Sessions::new(EPOCH, sessions_max, kept_max),
            map: Map::default(),
            index: 100,
        }
    }

    /// Applies an increment as the next entry.
    fn write(&mut self, session: SessionId, seq: u64, floor: u64) -> Said {
        self.write_delta(session, seq, floor, 1)
    }

    fn write_delta(&mut self, session: SessionId, seq: u64, floor: u64, delta: i64) -> Said {
        let write = Write {
            session,
            seq,
            floor,
            command: Command::Increment { key: b"n", delta },
        };
        self.index += 1;
        let id = EntryId {
            term: Term(1),
            index: Index(self.index),
        };
        match self.sessions.judge(id.index, &write) {
            Verdict::Apply(place) => {
                let outcome = self.map.apply(id.index, &write.command);
                self.sessions.keep(place, id, &write, &outcome);
                said(id, &outcome)
            }
            Verdict::Kept { id, outcome } => said(id, &outcome),
            Verdict::Refuse(error) => Said::No(error),
        }
    }
}

fn said(id: EntryId, outcome: &Outcome) -> Said {
    let Outcome::Incremented(number) = outcome else {
        panic!("an increment said {outcome:?}");
    };
    Said::Done(id.index.0, *number)
}

fn table() -> Table {
    Table::new(65_536, 262_144)
}

fn session(nonce: u64) -> SessionId {
    SessionId {
        epoch: EPOCH,
        born: Index(50),
        nonce,
    }
}

fn out_of_order(expected: u64) -> Said {
    Said::No(Error::OutOfOrder { expected })
}

#[test]
fn a_retry_gets_the_first_reply_and_changes_nothing() {
    let mut table = table();
    assert_eq!(table.write(session(1), 1, 1), Said::Done(101, 1));
    assert_eq!(table.write(session(1), 2, 1), Said::Done(102, 2));
    assert_eq!(table.write(session(1), 1, 1), Said::Done(101, 1));
    assert_eq!(table.write(session(1), 2, 1), Said::Done(102, 2));
    assert_eq!(table.write(session(2), 1, 1), Said::Done(105, 3));
}

#[test]
fn a_gap_is_not_applied_and_names_the_expected_seq() {
    let mut table = table();
    assert_eq!(table.write(session(1), 2, 1), out_of_order(1));
    // A refused opening opens nothing.
    assert_eq!(table.sessions.len(), 0);
    assert_eq!(table.write(session(1), 1, 1), Said::Done(102, 1));
    assert_eq!(table.write(session(1), 3, 1), out_of_order(2));
    assert_eq!(table.write(session(1), 2, 1), Said::Done(104, 2));
    assert_eq!(table.write(session(1), 3, 1), Said::Done(105, 3));
}

#[test]
fn raising_the_floor_gives_a_write_up_for_good() {
    let mut table = table();
    assert_eq!(table.write(session(1), 1, 1), Said::Done(101, 1));
    // Seq 2 is given up: 3 is the lowest that is not settled.
    assert_eq!(table.write(session(1), 3, 3), Said::Done(102, 2));
    assert_eq!(table.write(session(1), 2, 1), Said::No(Error::Stale));
    assert_eq!(table.write(session(1), 4, 3), Said::Done(104, 3));
    // A floor above the next seq skips too; a gap above the floor does not apply.
    assert_eq!(table.write(session(1), 9, 8), out_of_order(8));
    assert_eq!(table.write(session(1), 8, 8), Said::Done(106, 4));
    assert_eq!(Error::Stale.class(), Class::Final);
}

#[test]
fn a_session_may_open_above_one_if_its_floor_says_so() {
    let mut table = table();
    assert_eq!(table.write(session(1), 7, 7), Said::Done(101, 1));
    assert_eq!(table.write(session(1), 6, 1), Said::No(Error::Stale));
    assert_eq!(table.write(session(2), 8, 7), out_of_order(7));
}

#[test]
fn settled_replies_are_dropped_and_their_retry_is_stale() {
    let mut table = table();
    for seq in 1..=4 {
        table.write(session(1), seq, 1);
    }
    assert_eq!(table.sessions.kept(), 3);
    assert_eq!(table.write(session(1), 5, 4), Said::Done(105, 5));
    assert_eq!(table.sessions.kept(), 1, "4 is kept beside the last one, 5");
    assert_eq!(table.write(session(1), 3, 1), Said::No(Error::Stale));
    assert_eq!(table.write(session(1), 4, 4), Said::Done(104, 4));
}

#[test]
fn a_late_copy_with_an_old_floor_does_not_lower_the_floor() {
    let mut table = table();
    table.write(session(1), 1, 1);
    table.write(session(1), 2, 2);
    table.write(session(1), 3, 1);
    assert_eq!(table.write(session(1), 1, 1), Said::No(Error::Stale));
    assert_eq!(table.write(session(1), 2, 1), Said::Done(102, 2));
}

#[test]
fn another_command_under_the_same_id_is_refused() {
    let mut table = table();
    table.write_delta(session(1), 1, 1, 5);
    assert_eq!(
        table.write_delta(session(1), 1, 1, 6),
        Said::No(Error::IdReused)
    );
    assert_eq!(table.write_delta(session(1), 2, 1, 1), Said::Done(103, 6));
    assert_eq!(
        table.write_delta(session(1), 1, 1, 6),
        Said::No(Error::IdReused)
    );
    // The floor is not part of what the id stands for.
    assert_eq!(table.write_delta(session(1), 2, 2, 1), Said::Done(103, 6));
    assert_eq!(Error::IdReused.class(), Class::Final);
}

/// Why a command is refused under this seq, if it is.
fn judge_as(table: &mut Table, seq: u64, command: Command<'_>) -> Option<Error> {
    let write = Write {
        session: session(1),
        seq,
        floor: 1,
        command,
    };
    table.index += 1;
    let id = EntryId {
        term: Term(1),
        index: Index(table.index),
    };
    match table.sessions.judge(id.index, &write) {
        Verdict::Apply(place) => {
            table.sessions.keep(place, id, &write, &Outcome::Put);
            None
        }
        Verdict::Kept { .. } => None,
        Verdict::Refuse(error) => Some(error),
    }
}

#[test]
fn commands_that_differ_only_in_where_a_field_ends_are_told_apart() {
    let mut table = table();
    let mut judge = |command| judge_as(&mut table, 1, command);
    assert_eq!(
        judge(Command::Put {
            key: b"ab",
            value: b"c"
        }),
        None
    );
    assert_eq!(
        judge(Command::Put {
            key: b"ab",
            value: b"c"
        }),
        None
    );
    assert_eq!(
        judge(Command::Put {
            key: b"a",
            value: b"bc"
        }),
        Some(Error::IdReused)
    );
    assert_eq!(judge(Command::Delete { key: b"ab" }), Some(Error::IdReused));
    let append = Command::Append {
        key: b"ab",
        value: b"c",
    };
    assert_eq!(judge(append), Some(Error::IdReused));
    let range = |to, expect| Command::DeleteRange {
        from: b"ab",
        to,
        expect,
    };
    let txn = |compares, then, or_else| {
        Command::Txn(Txn {
            compares: Compares { bytes: compares },
            then: Operations { bytes: then },
            or_else: Operations { bytes: or_else },
        })
    };
    let others = [
        range(None, None),
        range(Some(b"c"), None),
        range(None, Some(1)),
        txn(b"1", b"", b""),
        txn(b"", b"1", b""),
        txn(b"", b"", b"1"),
    ];
    for (seq, first) in (2..).zip(others) {
        let mut judge = |command| judge_as(&mut table, seq, command);
        assert_eq!(judge(first), None);
        for other in others {
            let expected = (other != first).then_some(Error::IdReused);
            assert_eq!(judge(other), expected, "{other:?} as {first:?}");
        }
    }
}

/// Rules C2: a reply of more than 256 bytes is kept without what made it long.
#[test]
fn a_retry_of_a_txn_gets_results_that_are_not_too_long() {
    let mut table = table();
    for (seq, gets, kept_bytes) in [(1, 256, Some(256)), (2, 257, None)] {
        let mut batch = Batch::default();
        for _ in 0..gets {
            // Of an absent key: one byte.
            batch.push(Operation::Get { key: b"k" }).unwrap();
        }
        let write = Write {
            session: session(1),
            seq,
            floor: 1,
            command: Command::Txn(Txn::batch(batch.operations())),
        };
        let (mut first, mut again) = (None, None);
        for said in [&mut first, &mut again] {
            table.index += 1;
            let id = EntryId {
                term: Term(1),
                index: Index(table.index),
            };
            let outcome = match table.sessions.judge(id.index, &write) {
                Verdict::Apply(place) => {
                    let outcome = table.map.apply(id.index, &write.command);
                    table.sessions.keep(place, id, &write, &outcome);
                    outcome
                }
                Verdict::Kept { outcome, .. } => outcome,
                Verdict::Refuse(error) => panic!("{error}"),
            };
            let Outcome::Txn { held, results } = outcome else {
                panic!("a txn said {outcome:?}");
            };
            assert!(held);
            *said = results.map(|results| results.bytes().len());
        }
        assert_eq!((first, again), (Some(gets), kept_bytes));
    }
}

#[test]
fn the_session_written_longest_ago_is_evicted() {
    let mut table = Table::new(2, 100);
    table.write(session(1), 1, 1);
    table.write(session(2), 1, 1);
    table.write(session(1), 2, 1);
    // 2 is the one whose last write is oldest, though 1 was opened before it.
    table.write(session(3), 1, 1);
    assert_eq!(table.sessions.len(), 2);
    assert_eq!(table.write(session(1), 2, 1), Said::Done(103, 3));
    assert_eq!(table.write(session(3), 1, 1), Said::Done(104, 4));
    assert_eq!(
        table.write(session(2), 1, 1),
        Said::No(Error::SessionExpired)
    );
}

#[test]
fn a_retry_does_not_count_as_a_write() {
    let mut table = Table::new(2, 100);
    table.write(session(1), 1, 1);
    table.write(session(2), 1, 1);
    table.write(session(1), 1, 1);
    table.write(session(3), 1, 1);
    assert_eq!(
        table.write(session(1), 1, 1),
        Said::No(Error::SessionExpired)
    );
    assert_eq!(table.write(session(2), 1, 1), Said::Done(102, 2));
}

#[test]
fn the_horizon_is_the_highest_born_of_the_evicted() {
    let mut table = Table::new(1, 100);
    let born = |born, nonce| SessionId {
        born: Index(born),
        ..session(nonce)
    };
    assert_eq!(table.sessions.horizon(), None);
    // Nobody was evicted: even `born` 0 is not expired.
    assert_eq!(table.write(born(0, 1), 1, 1), Said::Done(101, 1));
    table.write(born(60, 2), 1, 1);
    assert_eq!(table.sessions.horizon(), Some(Index(0)));
    table.write(born(40, 3), 1, 1);
    assert_eq!(table.sessions.horizon(), Some(Index(60)));
    table.write(born(61, 4), 1, 1);
    assert_eq!(table.sessions.horizon(), Some(Index(60)), "it never falls");
    assert_eq!(
        table.write(born(60, 9), 1, 1),
        Said::No(Error::SessionExpired)
    );
    assert_eq!(table.write(born(61, 9), 1, 1), Said::Done(106, 5));
}

#[test]
fn a_known_session_lives_on_below_the_horizon() {
    let mut table = Table::new(2, 100);
    let old = SessionId {
        born: Index(1),
        ..session(1)
    };
    table.write(session(2), 1, 1);
    table.write(old, 1, 1);
    table.write(session(3), 1, 1);
    assert_eq!(table.sessions.horizon(), Some(Index(50)));
    assert_eq!(table.write(old, 2, 1), Said::Done(104, 4));
}

#[test]
fn a_session_from_the_future_is_refused() {
    let mut table = table();
    let born = |born| SessionId {
        born: Index(born),
        ..session(1)
    };
    assert_eq!(table.write(born(101), 1, 1), Said::No(Error::BornInFuture));
    assert_eq!(
        table.write(born(u64::MAX), 1, 1),
        Said::No(Error::BornInFuture)
    );
    assert_eq!(table.write(born(102), 1, 1), Said::Done(103, 1));
}

#[test]
fn a_session_of_another_history_is_refused() {
    let mut table = table();
    let other = SessionId {
        epoch: Epoch(78),
        ..session(1)
    };
    assert_eq!(table.write(other, 1, 1), Said::No(Error::WrongEpoch));
}

#[test]
fn one_session_keeps_a_bounded_number_of_replies() {
    let mut table = table();
    let writes = KEPT_PER_SESSION_MAX as u64 + 10;
    for seq in 1..=writes {
        assert_eq!(
            table.write(session(1), seq, 1),
            Said::Done(100 + seq, seq as i64)
        );
    }
    assert!(table.sessions.kept() < KEPT_PER_SESSION_MAX);
    assert_eq!(table.write(session(1), 10, 1), Said::No(Error::Stale));
    assert_eq!(table.write(session(1), 11, 1), Said::Done(111, 11));
}

#[test]
fn too_many_kept_replies_evict_the_oldest_sessions() {
    let mut table = Table::new(10, 4);
    for nonce in 1..=3 {
        for seq in 1..=3 {
            table.write(session(nonce), seq, 1);
        }
    }
    assert_eq!((table.sessions.len(), table.sessions.kept()), (2, 4));
    assert_eq!(
        table.write(session(1), 3, 1),
        Said::No(Error::SessionExpired)
    );
    // The session that writes is never the victim.
    for seq in 4..=20 {
        assert_eq!(
            table.write(session(3), seq, 1),
            Said::Done(106 + seq + 1, seq as i64 + 6)
        );
    }
    assert_eq!(table.sessions.len(), 1);
}
