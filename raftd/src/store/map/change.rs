//! What the commands that stand alone do.

use std::io::Write as _;
use std::ops::Bound;

use wire::command::{Command, Expect, Outcome};
use wire::limits::{ENTRY_KEYS_MAX, VALUE_BYTES_MAX};
use wire::types::Index;

use super::Map;
use crate::store::record::{Record, Revisions, Sums};

impl Map {
    /// Does what `command` says, as the entry at `index`. Nothing else has a part in it.
    pub fn apply(&mut self, index: Index, command: &Command<'_>) -> Outcome {
        self.apply_counting(index, command, &mut 0)
    }

    /// The same, and adds to `keys` how many it looked at or touched; a long value counts as more of
    /// them (see [`KEY_BYTES`]).
    pub(in crate::store) fn apply_counting(
        &mut self,
        index: Index,
        command: &Command<'_>,
        keys: &mut usize,
    ) -> Outcome {
        match *command {
            Command::DeleteRange { from, to, expect } => {
                let found = self.first_keys(from, to, ENTRY_KEYS_MAX + 1);
                *keys += found.len().max(1);
                self.delete(&found, expect, keys)
            }
            Command::Txn(txn) => {
                let (outcome, touched) = self.txn(index, &txn);
                *keys += touched.max(1);
                outcome
            }
            command => {
                *keys += 1;
                self.apply_to_one(index, command, keys)
            }
        }
    }

    /// Does what a command about one key says; adds to `more` what it was besides touching the key.
    pub(super) fn apply_to_one(
        &mut self,
        index: Index,
        command: Command<'_>,
        more: &mut usize,
    ) -> Outcome {
        match command {
            Command::Put { key, value } => {
                self.set(index, key, value, more);
                Outcome::Put
            }
            Command::Delete { key } => Outcome::Deleted(u64::from(self.remove(key, more))),
            Command::CompareAndSwap { key, expect, value } => {
                let current = self.records.get(key);
                let holds = match (expect, current) {
                    (Expect::Absent, current) => current.is_none(),
                    (Expect::Revision(revision), Some(record)) => {
                        record.revisions().modified == revision
                    }
                    (Expect::Value(value), Some(record)) => record.value() == value,
                    (Expect::Revision(_) | Expect::Value(_), None) => false,
                };
                if !holds {
                    return Outcome::NotSwapped(current.map(|record| record.revisions().modified));
                }
                self.set(index, key, value, more);
                Outcome::Swapped
            }
            Command::Increment { key, delta } => self.increment(index, key, delta, more),
            Command::Append { key, value } => self.append(index, key, value, more),
            Command::DeleteRange { .. } | Command::Txn(_) => {
                unreachable!("they are about several keys")
            }
        }
    }

    fn increment(&mut self, index: Index, key: &[u8], delta: i64, more: &mut usize) -> Outcome {
        let current = match self.records.get(key) {
            None => 0,
            Some(record) => {
                *more += record.value().len() / KEY_BYTES;
                match parse_decimal(record.value()) {
                    Some(number) => number,
                    None => return Outcome::NotANumber,
                }
            }
        };
        let Some(sum) = current.checked_add(delta) else {
            return Outcome::Overflow;
        };
        let mut digits = [0_u8; DECIMAL_BYTES_MAX];
        let mut rest = &mut digits[..];
        write!(rest, "{sum}").expect("an i64 has at most 20 characters");
        let unused = rest.len();
        self.set(index, key, &digits[..DECIMAL_BYTES_MAX - unused], more);
        Outcome::Incremented(sum)
    }

    fn append(&mut self, index: Index, key: &[u8], added: &[u8], more: &mut usize) -> Outcome {
        let current = self.records.get(key).map_or(&[][..], Record::value);
        let bytes = current.len() + added.len();
        if bytes > VALUE_BYTES_MAX {
            return Outcome::TooLong;
        }
        let value = [current, added].concat();
        self.set(index, key, &value, more);
        Outcome::Appended(bytes as u64)
    }

    /// The first keys of a range: so many at most.
    pub(super) fn first_keys(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        keys_max: usize,
    ) -> Vec<Record> {
        let records = self.records.range(Bound::Included(from));
        let inside = records.take_while(|record| to.is_none_or(|to| record.key() < to));
        inside.take(keys_max).cloned().collect()
    }

    /// Removes keys of a range, as many as one entry may touch, if there are as many as expected.
    pub(super) fn delete(
        &mut self,
        keys: &[Record],
        expect: Option<u64>,
        more: &mut usize,
    ) -> Outcome {
        let found = keys.len() as u64;
        // More than an entry may touch are never all of them.
        if expect.is_some_and(|expect| expect != found || keys.len() > ENTRY_KEYS_MAX) {
            return Outcome::NotDeleted(found);
        }
        let keys = &keys[..keys.len().min(ENTRY_KEYS_MAX)];
        for record in keys {
            let removed = self.remove(record.key(), more);
            assert!(removed, "a key that was just found");
        }
        Outcome::Deleted(keys.len() as u64)
    }

    fn remove(&mut self, key: &[u8], more: &mut usize) -> bool {
        let removed = self.records.remove(key);
        if let Some(record) = &removed {
            *more += record.value().len() / KEY_BYTES;
            self.sums.remove(Sums::of(record));
        }
        removed.is_some()
    }

    fn set(&mut self, index: Index, key: &[u8], value: &[u8], more: &mut usize) {
        let Self { records, sums } = self;
        *more += value.len() / KEY_BYTES;
        records.put(key, |present| {
            let Some(record) = present else {
                let revisions = Revisions {
                    created: index,
                    modified: index,
                    version: 1,
                };
                let record = Record::new(key, value, revisions);
                sums.add(Sums::of(&record));
                return Some(record);
            };
            let before = record.revisions();
            debug_assert!(before.modified <= index, "entries are applied in order");
            *more += record.value().len() / KEY_BYTES;
            let revisions = Revisions {
                modified: index,
                version: before.version + 1,
                ..before
            };
            sums.remove(Sums::of(record));
            record.set(value, revisions);
            sums.add(Sums::of(record));
            None
        });
    }
}

/// Bytes of a value that take as long to be read, written or removed, with the digest of them, as a key
/// takes to be touched.
const KEY_BYTES: usize = 2 * 1024;

/// `-9223372036854775808`
const DECIMAL_BYTES_MAX: usize = 20;

/// An optional `-` and digits, within an i64.
fn parse_decimal(bytes: &[u8]) -> Option<i64> {
    let text = str::from_utf8(bytes).ok()?;
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}
