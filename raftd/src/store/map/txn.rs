//! What a txn does: all of a branch, or nothing.

use bytes::BytesMut;
use wire::command::{
    Command, Compare, Condition, Operation, OperationResult, Outcome, Results, Txn, Undone,
};
use wire::limits::{ENTRY_KEYS_MAX, RESULTS_BYTES_MAX};
use wire::types::Index;

use super::Map;
use crate::store::record::Revisions;

/// Bytes of the result of any operation but a get, at most: a code, and that of its outcome with a
/// number.
const RESULT_BYTES_MAX: usize = 16;
const _: () = assert!(ENTRY_KEYS_MAX * RESULT_BYTES_MAX <= RESULTS_BYTES_MAX);

/// The operations of a branch, as far as they are done.
///
/// Invariant: `keys` is at most [`ENTRY_KEYS_MAX`] (rules A7), and the results are at most
/// [`RESULTS_BYTES_MAX`], after each operation that could be done.
struct Branch<'m> {
    map: &'m mut Map,
    index: Index,
    /// Keys that were touched, by compares too; one that is touched again counts again.
    keys: usize,
    /// What it was besides touching them, in keys.
    more: usize,
    results: BytesMut,
}

impl Map {
    /// Does what it says; tells what that was, in keys.
    pub(super) fn txn(&mut self, index: Index, txn: &Txn<'_>) -> (Outcome, usize) {
        let held = txn.compares.iter().all(|compare| self.holds(&compare));
        let operations = if held { txn.then } else { txn.or_else };
        // A view costs a copy of what changes beside it: only what may have to be undone takes one.
        let before = operations.iter().any(may_fail).then(|| self.clone());
        let mut branch = Branch {
            index,
            keys: txn.compares.iter().count(),
            more: 0,
            results: BytesMut::new(),
            map: self,
        };
        for (place, operation) in operations.iter().enumerate() {
            if let Err(why) = branch.operate(operation) {
                let keys = branch.work();
                *self = before.expect("an operation that may fail was foreseen");
                let undone = Outcome::Undone {
                    held,
                    operation: u32::try_from(place).expect("operations are few"),
                    why,
                };
                return (undone, keys);
            }
        }
        let results = Some(Results::new(&branch.results));
        let keys = branch.work();
        (Outcome::Txn { held, results }, keys)
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let record = self.records.get(compare.key);
        let number = |of: fn(Revisions) -> u64| record.map_or(0, |record| of(record.revisions()));
        match compare.condition {
            Condition::Exists => record.is_some(),
            Condition::Absent => record.is_none(),
            Condition::Value(relation, value) => {
                record.is_some_and(|record| relation.holds(record.value(), value))
            }
            Condition::Revision(relation, revision) => {
                relation.holds(&number(|revisions| revisions.modified.0), &revision)
            }
            Condition::CreateRevision(relation, revision) => {
                relation.holds(&number(|revisions| revisions.created.0), &revision)
            }
            Condition::Version(relation, version) => {
                relation.holds(&number(|revisions| revisions.version), &version)
            }
        }
    }
}

/// Whether what is there can make it impossible. The others are checked when they are decoded, and
/// they touch one key each, of which there are not too many.
fn may_fail(operation: Operation<'_>) -> bool {
    match operation {
        Operation::Get { .. } => true,
        Operation::Change(command) => match command {
            Command::Put { .. } | Command::Delete { .. } | Command::CompareAndSwap { .. } => false,
            Command::Increment { .. }
            | Command::Append { .. }
            | Command::DeleteRange { .. }
            | Command::Txn(_) => true,
        },
    }
}

impl Branch<'_> {
    fn operate(&mut self, operation: Operation<'_>) -> Result<(), Undone> {
        let outcome = match operation {
            Operation::Get { key } => return self.get(key),
            Operation::Change(Command::DeleteRange { from, to, expect }) => {
                let left = ENTRY_KEYS_MAX - self.keys;
                let keys = self.map.first_keys(from, to, left + 1);
                if keys.len() > left {
                    return Err(Undone::TooManyKeys);
                }
                self.keys += keys.len();
                self.map.delete(&keys, expect, &mut self.more)
            }
            Operation::Change(command) => {
                self.touch()?;
                match self.map.apply_to_one(self.index, command, &mut self.more) {
                    Outcome::NotANumber => return Err(Undone::NotANumber),
                    Outcome::Overflow => return Err(Undone::Overflow),
                    Outcome::TooLong => return Err(Undone::TooLong),
                    outcome => outcome,
                }
            }
        };
        OperationResult::Did(outcome).encode(&mut self.results);
        self.check_results()
    }

    fn get(&mut self, key: &[u8]) -> Result<(), Undone> {
        self.touch()?;
        match self.map.get(key) {
            Some(item) => OperationResult::Found(item).encode(&mut self.results),
            None => OperationResult::Missing.encode(&mut self.results),
        }
        self.check_results()
    }

    /// All that was done, in keys.
    fn work(&self) -> usize {
        self.keys + self.more
    }

    fn check_results(&self) -> Result<(), Undone> {
        if self.results.len() > RESULTS_BYTES_MAX {
            return Err(Undone::TooMuchToTell);
        }
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Undone> {
        if self.keys == ENTRY_KEYS_MAX {
            return Err(Undone::TooManyKeys);
        }
        self.keys += 1;
        Ok(())
    }
}
