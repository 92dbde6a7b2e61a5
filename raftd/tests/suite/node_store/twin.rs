//! The dumb twin of the map.

use bytes::BytesMut;
use wire::command::{
    Command, Compare, Condition, Expect, Operation, OperationResult, Outcome, Relation, Results,
    Txn, Undone,
};
use wire::limits::VALUE_BYTES_MAX;
use wire::types::Index;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) revision: u64,
    pub(super) created: u64,
    pub(super) version: u64,
}

impl Row {
    fn item(&self) -> wire::client::Item<'_> {
        wire::client::Item {
            key: &self.key,
            value: &self.value,
            revision: Index(self.revision),
            create_revision: Index(self.created),
            version: self.version,
        }
    }
}

/// The dumb twin: a list that is searched from the front.
#[derive(Default)]
pub(super) struct Twin {
    pub(super) rows: Vec<Row>,
}

impl Twin {
    pub(super) fn apply(&mut self, index: u64, command: Command<'_>) -> Outcome {
        match command {
            Command::Put { key, value } => {
                self.set(index, key, value);
                Outcome::Put
            }
            Command::Delete { key } => Outcome::Deleted(self.remove(|row| row.key == key)),
            Command::CompareAndSwap { key, expect, value } => {
                self.swap(index, key, value, |row| match expect {
                    Expect::Absent => row.is_none(),
                    Expect::Revision(at) => row.is_some_and(|row| row.revision == at.0),
                    Expect::Value(is) => row.is_some_and(|row| row.value == is),
                })
            }
            Command::Increment { key, delta } => self.increment(index, key, delta),
            Command::Append { key, value } => {
                let mut whole = self.find(key).map_or(Vec::new(), |row| row.value.clone());
                whole.extend_from_slice(value);
                if whole.len() > VALUE_BYTES_MAX {
                    return Outcome::TooLong;
                }
                self.set(index, key, &whole);
                Outcome::Appended(whole.len() as u64)
            }
            Command::DeleteRange { from, to, expect } => {
                let inside = |row: &Row| *row.key >= *from && to.is_none_or(|to| *row.key < *to);
                let found = self.rows.iter().filter(|row| inside(row)).count() as u64;
                match expect {
                    Some(expect) if expect != found => Outcome::NotDeleted(found),
                    _ => Outcome::Deleted(self.remove(inside)),
                }
            }
            Command::Txn(txn) => self.txn(index, txn),
        }
    }

    fn increment(&mut self, index: u64, key: &[u8], delta: i64) -> Outcome {
        let text = self
            .find(key)
            .map_or(b"0".to_vec(), |row| row.value.clone());
        let digits = text.strip_prefix(b"-").unwrap_or(&text);
        let number = String::from_utf8(text.clone())
            .ok()
            .and_then(|t| t.parse::<i64>().ok());
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let (Some(number), true) = (number, plain) else {
            return Outcome::NotANumber;
        };
        let sum = i128::from(number) + i128::from(delta);
        match i64::try_from(sum) {
            Err(_) => Outcome::Overflow,
            Ok(sum) => {
                self.set(index, key, sum.to_string().as_bytes());
                Outcome::Incremented(sum)
            }
        }
    }

    fn txn(&mut self, index: u64, txn: Txn<'_>) -> Outcome {
        let held = txn.compares.iter().all(|compare| self.holds(compare));
        let before = self.rows.clone();
        let mut told = BytesMut::new();
        let operations = if held { txn.then } else { txn.or_else };
        for (place, operation) in (0..).zip(operations.iter()) {
            let outcome = match operation {
                Operation::Get { key } => {
                    match self.find(key) {
                        Some(row) => OperationResult::Found(row.item()).encode(&mut told),
                        None => OperationResult::Missing.encode(&mut told),
                    }
                    continue;
                }
                Operation::Change(command) => self.apply(index, command),
            };
            let why = match outcome {
                Outcome::NotANumber => Undone::NotANumber,
                Outcome::Overflow => Undone::Overflow,
                Outcome::TooLong => Undone::TooLong,
                outcome => {
                    OperationResult::Did(outcome).encode(&mut told);
                    continue;
                }
            };
            self.rows = before;
            return Outcome::Undone {
                held,
                operation: place,
                why,
            };
        }
        let results = Some(Results::new(&told));
        Outcome::Txn { held, results }
    }

    fn holds(&self, compare: Compare<'_>) -> bool {
        let row = self.find(compare.key);
        let compared = |relation, there: u64, given: u64| match relation {
            Relation::Equal => there == given,
            Relation::NotEqual => there != given,
            Relation::Less => there < given,
            Relation::Greater => there > given,
        };
        match compare.condition {
            Condition::Exists => row.is_some(),
            Condition::Absent => row.is_none(),
            Condition::Value(relation, given) => row.is_some_and(|row| match relation {
                Relation::Equal => row.value == given,
                Relation::NotEqual => row.value != given,
                Relation::Less => *row.value < *given,
                Relation::Greater => *row.value > *given,
            }),
            Condition::Revision(relation, given) => {
                compared(relation, row.map_or(0, |row| row.revision), given)
            }
            Condition::CreateRevision(relation, given) => {
                compared(relation, row.map_or(0, |row| row.created), given)
            }
            Condition::Version(relation, given) => {
                compared(relation, row.map_or(0, |row| row.version), given)
            }
        }
    }

    fn remove(&mut self, doomed: impl Fn(&Row) -> bool) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|row| !doomed(row));
        (before - self.rows.len()) as u64
    }

    fn find(&self, key: &[u8]) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    fn swap(
        &mut self,
        index: u64,
        key: &[u8],
        value: &[u8],
        holds: impl Fn(Option<&Row>) -> bool,
    ) -> Outcome {
        let row = self.find(key);
        if !holds(row) {
            return Outcome::NotSwapped(row.map(|row| Index(row.revision)));
        }
        self.set(index, key, value);
        Outcome::Swapped
    }

    fn set(&mut self, index: u64, key: &[u8], value: &[u8]) {
        let old = self.find(key).cloned();
        self.rows.retain(|row| row.key != key);
        self.rows.push(Row {
            key: key.to_vec(),
            value: value.to_vec(),
            revision: index,
            created: old.as_ref().map_or(index, |row| row.created),
            version: old.map_or(1, |row| row.version + 1),
        });
        self.rows.sort_by(|a, b| a.key.cmp(&b.key));
    }
}
