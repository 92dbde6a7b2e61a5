//! Which keys a write touches: the checkers that look at keys one by one leave those out of which
//! they do not know what was done to them.

use std::collections::BTreeMap;
use std::ops::Bound;

use wire::command::{Command as Wire, Operation as Part};

use super::{Answer, Command, History, Operation};

impl Command {
    /// The key that it touches, if that is one, and the checkers that look at keys one by one
    /// know what it does to it.
    #[must_use]
    pub fn single_key(&self) -> Option<&[u8]> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::CompareAndSwap { key, .. }
            | Self::Increment { key, .. } => Some(key),
            Self::Append { .. } | Self::DeleteRange { .. } | Self::Txn { .. } => None,
        }
    }
}

/// The writes of which some may have touched several keys, with their places.
pub(super) fn compound(history: &History) -> impl Iterator<Item = (usize, &Command)> {
    let records = history.records.iter().enumerate();
    records.filter_map(|(place, record)| match &record.operation {
        Operation::Write { command, .. }
            if command.single_key().is_none() && record.answer != Answer::NotApplied =>
        {
            Some((place, command))
        }
        _ => None,
    })
}

/// Takes out the keys that any of those writes may have changed, or told of.
pub(super) fn leave_out<V>(history: &History, keys: &mut BTreeMap<&[u8], V>) {
    for (_, command) in compound(history) {
        match command.to_wire() {
            Wire::Txn(txn) => {
                for compare in txn.compares.iter() {
                    keys.remove(compare.key);
                }
                for part in txn.then.iter().chain(txn.or_else.iter()) {
                    match part {
                        Part::Change(change) => leave_out_changed(&change, keys),
                        Part::Get { key } => drop(keys.remove(key)),
                    }
                }
            }
            change => leave_out_changed(&change, keys),
        }
    }
}

fn leave_out_changed<V>(change: &Wire<'_>, keys: &mut BTreeMap<&[u8], V>) {
    match *change {
        Wire::Put { key, .. }
        | Wire::Delete { key }
        | Wire::CompareAndSwap { key, .. }
        | Wire::Increment { key, .. }
        | Wire::Append { key, .. } => drop(keys.remove(key)),
        Wire::DeleteRange { from, to, .. } => {
            let behind = keys.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
            let inside = behind.take_while(|(key, _)| to.is_none_or(|to| **key < to));
            let inside: Vec<&[u8]> = inside.map(|(key, _)| *key).collect();
            for key in inside {
                keys.remove(key);
            }
        }
        // There is none within a txn.
        Wire::Txn(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use wire::command::{Batch, Compare, Condition, SessionId};
    use wire::types::{Epoch, Index};

    use super::*;
    use crate::history::Record;

    fn left(command: Command, answer: Answer) -> String {
        let session = SessionId {
            epoch: Epoch(1),
            born: Index(0),
            nonce: 1,
        };
        let history = History {
            records: vec![Record {
                client: 1,
                invoked_ns: 0,
                ended_ns: Some(1),
                passage: None,
                operation: Operation::Write {
                    session,
                    seq: 1,
                    command,
                },
                answer,
            }],
        };
        let names = ["a", "b", "c", "d", "e"];
        let mut keys = names.iter().map(|name| (name.as_bytes(), ())).collect();
        leave_out(&history, &mut keys);
        let left = keys.keys().map(|key| String::from_utf8_lossy(key));
        left.collect()
    }

    fn range(from: &str, to: Option<&str>) -> Command {
        Command::DeleteRange {
            from: from.into(),
            to: to.map(Into::into),
            expect: None,
        }
    }

    #[test]
    fn what_may_have_been_touched_is_left_out() {
        assert_eq!(left(range("b", Some("d")), Answer::Unknown), "ade");
        assert_eq!(left(range("b", None), Answer::Unknown), "a");
        assert_eq!(left(range("d", Some("b")), Answer::Unknown), "abcde");
        assert_eq!(left(range("b", None), Answer::NotApplied), "abcde");
        let [key, value] = [b"c", b"1"].map(|bytes| bytes.to_vec());
        let append = Command::Append { key, value };
        assert_eq!(left(append, Answer::Unknown), "abde");
        let mut compares = BytesMut::new();
        let condition = Condition::Exists;
        Compare {
            key: b"a",
            condition,
        }
        .encode(&mut compares);
        let mut then = Batch::default();
        then.push(Part::Get { key: b"b" }).expect("there is room");
        let mut or_else = Batch::default();
        let delete = Wire::DeleteRange {
            from: b"d",
            to: None,
            expect: None,
        };
        or_else.push(Part::Change(delete)).expect("there is room");
        let txn = Command::Txn {
            compares: compares.to_vec(),
            then: then.operations().bytes.to_vec(),
            or_else: or_else.operations().bytes.to_vec(),
        };
        assert_eq!(left(txn, Answer::Unknown), "c");
    }

    #[test]
    fn what_touches_one_key_leaves_none_out() {
        let [key, value] = [b"c", b"1"].map(|bytes| bytes.to_vec());
        assert_eq!(left(Command::Put { key, value }, Answer::Unknown), "abcde");
    }
}
