//! Appends, ranges and txns, drawn for the clients of simulator and torture: on few keys of their own,
//! which the checker that looks at keys one by one leaves out, so that it keeps the others.

use bytes::BytesMut;
use wire::command::{Batch, Compare, Condition, Operation, Relation};

use super::{Command, Expect};
use crate::sim::random::Random;

/// What their keys begin with. No other key comes behind them: a range that is open to the end meets
/// none but them.
pub const PREFIX: &str = "z";
/// So few that txns meet.
const KEYS: u64 = 6;
/// Compares and operations of one txn, at most.
const LIST_MAX: u64 = 4;

/// Draws an append, a range that is to be removed, or a txn. `writer` is put into values.
pub fn draw(writer: &str, random: &mut Random) -> Command {
    match random.below(8) {
        0 => Command::Append {
            key: key(random),
            value: writer.as_bytes().to_vec(),
        },
        1 => delete_range(random),
        _ => {
            let mut compares = BytesMut::new();
            for _ in 0..random.below(LIST_MAX) {
                compare(random, &mut compares);
            }
            Command::Txn {
                compares: compares.to_vec(),
                then: operations(writer, random),
                or_else: operations(writer, random),
            }
        }
    }
}

/// One of their keys.
pub fn key(random: &mut Random) -> Vec<u8> {
    format!("{PREFIX}{}", random.below(KEYS)).into_bytes()
}

fn delete_range(random: &mut Random) -> Command {
    let (from, to) = (key(random), key(random));
    Command::DeleteRange {
        from,
        to: (random.below(4) > 0).then_some(to),
        expect: (random.below(2) == 0).then(|| random.below(KEYS)),
    }
}

/// Of numbers as they are in the beginning: later most revisions are larger.
fn compare(random: &mut Random, compares: &mut BytesMut) {
    let relation = *random.pick(&[
        Relation::Equal,
        Relation::NotEqual,
        Relation::Less,
        Relation::Greater,
    ]);
    let number = random.below(8);
    let condition = match random.below(6) {
        0 => Condition::Exists,
        1 => Condition::Absent,
        2 => Condition::Value(relation, b"5"),
        3 => Condition::Revision(relation, number),
        4 => Condition::CreateRevision(relation, number),
        _ => Condition::Version(relation, number),
    };
    let key = key(random);
    let compare = Compare {
        key: &key,
        condition,
    };
    compare.encode(compares);
}

fn operations(writer: &str, random: &mut Random) -> Vec<u8> {
    let mut batch = Batch::default();
    for _ in 0..random.below(LIST_MAX) {
        let key = key(random);
        let change = match random.below(8) {
            0 | 1 => Command::Put {
                key,
                value: writer.as_bytes().to_vec(),
            },
            2 => Command::Delete { key },
            3 => Command::CompareAndSwap {
                key,
                expect: Expect::Absent,
                value: b"5".to_vec(),
            },
            // Those that meet a text undo the txn.
            4 => Command::Increment { key, delta: 5 },
            5 => Command::Append {
                key,
                value: b"5".to_vec(),
            },
            6 => delete_range(random),
            _ => {
                let get = Operation::Get { key: &key };
                batch.push(get).expect("there is room");
                continue;
            }
        };
        let change = Operation::Change(change.to_wire());
        batch.push(change).expect("there is room");
    }
    batch.operations().bytes.to_vec()
}
