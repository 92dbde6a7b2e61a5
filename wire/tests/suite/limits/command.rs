//! Commands, and the entries that hold them.

use wire::command::{
    Batch, Command, Compare, Condition, Expect, Operation, Operations, Outcome, Txn, Write,
};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::error::Error;
use wire::limits::*;
use wire::types::Index;

use super::{malformed, too_large};
use crate::make::{body, compares, forever, operations, write, zeros};

fn reencoded(write: Write<'static>) -> Result<(), Error> {
    Write::decode_body(&body(&write)).map(|_| ())
}

#[test]
fn keys_and_values() {
    let put = |key, value| {
        reencoded(write(Command::Put {
            key: zeros(key),
            value: zeros(value),
        }))
    };
    assert_eq!(put(1, 0), Ok(()));
    assert_eq!(put(KEY_BYTES_MAX, VALUE_BYTES_MAX), Ok(()));
    malformed(put(0, 1), "a key is empty");
    too_large(
        put(KEY_BYTES_MAX + 1, 0),
        "key",
        KEY_BYTES_MAX,
        KEY_BYTES_MAX + 1,
    );
    too_large(
        put(1, VALUE_BYTES_MAX + 1),
        "value",
        VALUE_BYTES_MAX,
        VALUE_BYTES_MAX + 1,
    );
    for command in [
        Command::Delete { key: b"" },
        Command::Append {
            key: b"",
            value: b"",
        },
        Command::DeleteRange {
            from: b"",
            to: Some(b""),
            expect: None,
        },
        Command::Increment { key: b"", delta: 1 },
        Command::CompareAndSwap {
            key: b"",
            expect: Expect::Absent,
            value: b"",
        },
    ] {
        malformed(reencoded(write(command)), "a key is empty");
    }
}

#[test]
fn two_values_of_a_compare_and_swap_must_fit_one_entry() {
    let cas = |key, expect, value| {
        let write = write(Command::CompareAndSwap {
            key: zeros(key),
            expect: Expect::Value(zeros(expect)),
            value: zeros(value),
        });
        (body(&write).len(), reencoded(write))
    };
    let (empty, _) = cas(1, 0, 0);
    let room = ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES - empty;
    assert_eq!(cas(1, VALUE_BYTES_MAX, room - VALUE_BYTES_MAX).1, Ok(()));
    let (length, refused) = cas(1, VALUE_BYTES_MAX, room - VALUE_BYTES_MAX + 1);
    assert_eq!(ENTRY_HEADER_BYTES + length, ENTRY_BYTES_MAX + 1);
    too_large(refused, "entry", ENTRY_BYTES_MAX, ENTRY_BYTES_MAX + 1);
    too_large(
        cas(1, VALUE_BYTES_MAX + 1, 0).1,
        "value",
        VALUE_BYTES_MAX,
        VALUE_BYTES_MAX + 1,
    );
}

#[test]
fn a_txn_holds_only_so_many_compares_and_operations() {
    let compare = Compare {
        key: b"k",
        condition: Condition::Exists,
    };
    let get = Operation::Get { key: b"k" };
    let txn = |compared: usize, then: usize, or_else: usize| {
        reencoded(write(Command::Txn(Txn {
            compares: compares(&vec![compare; compared]),
            then: operations(&vec![get; then]),
            or_else: operations(&vec![get; or_else]),
        })))
    };
    let most = ENTRY_KEYS_MAX;
    for (compared, then, or_else) in [(most, 0, 0), (0, most, 0), (0, 0, most), (1, 1, most - 2)] {
        assert_eq!(txn(compared, then, or_else), Ok(()));
    }
    for (compared, then, or_else) in [(most, 1, 0), (0, most, 1), (1, 0, most), (1, 1, most - 1)] {
        let refused = txn(compared, then, or_else);
        too_large(refused, "txn, in operations", most, most + 1);
    }
    let told = txn(most, 1, 0).map_err(|error| error.to_string());
    let told = told.expect_err("it is over the limit");
    assert_eq!(
        told,
        "txn of 10001 operations is over the limit of 10000 operations"
    );
}

/// In both branches together.
#[test]
fn a_txn_holds_only_so_many_appends() {
    let append = Operation::Change(Command::Append {
        key: b"key",
        value: b"",
    });
    let txn = |then, or_else| {
        reencoded(write(Command::Txn(Txn {
            compares: compares(&[]),
            then: operations(&vec![append; then]),
            or_else: operations(&vec![append; or_else]),
        })))
    };
    let most = TXN_APPENDS_MAX;
    for (then, or_else) in [(most, 0), (0, most), (1, most - 1)] {
        assert_eq!(txn(then, or_else), Ok(()));
    }
    for (then, or_else) in [(most, 1), (1, most)] {
        too_large(txn(then, or_else), "txn, in appends", most, most + 1);
    }
    let mut batch = Batch::default();
    while batch.push(append) == Ok(()) {}
    assert_eq!(batch.len(), most);
    assert_eq!(batch.push(Operation::Get { key: b"key" }), Ok(()));
    batch.clear();
    assert_eq!(batch.push(append), Ok(()));
}

#[test]
fn a_batch_is_full_where_a_txn_or_an_entry_is() {
    let put = |value| {
        Operation::Change(Command::Put {
            key: b"key",
            value: zeros(value),
        })
    };
    let mut batch = Batch::default();
    while batch.push(put(0)) == Ok(()) {}
    assert_eq!(batch.len(), ENTRY_KEYS_MAX);
    batch.clear();
    assert!(batch.is_empty() && batch.bytes() == 0);
    while batch.push(put(1000)) == Ok(()) {}
    let bytes = batch.bytes();
    let batch = Operations {
        bytes: forever(batch.operations().bytes),
    };
    assert!(ENTRY_BYTES_MAX - bytes < 2000);
    let command = Command::Txn(Txn::batch(batch));
    assert_eq!(reencoded(write(command)), Ok(()));

    let mut longest = Batch::default();
    let put = Command::Put {
        key: zeros(KEY_BYTES_MAX),
        value: zeros(VALUE_BYTES_MAX),
    };
    assert_eq!(longest.push(Operation::Change(put)), Ok(()));
}

/// Or some bytes would have a decoder call itself until the stack ends.
#[test]
fn neither_txns_nor_their_results_nest() {
    // A change by command 7, and an outcome 12, where 1 to 6 and a plain one may stand.
    let inner = [1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let txn = Txn::batch(Operations {
        bytes: forever(inner),
    });
    let nested = reencoded(write(Command::Txn(txn)));
    malformed(nested, "the command is not known");
    let mut bytes = &[12, 1, 1, 0, 0, 0, 4, 1, 12, 1, 0][..];
    let nested = Outcome::split_from(&mut bytes);
    malformed(nested.map(|_| ()), "the outcome is not known");
}

#[test]
fn what_surrounds_key_and_value_is_within_its_allowance() {
    let longest = Command::CompareAndSwap {
        key: b"",
        expect: Expect::Revision(Index(1)),
        value: b"",
    };
    assert!(body(&write(longest)).len() <= WRITE_OVERHEAD_BYTES_MAX);
}

#[test]
fn seq_and_floor() {
    let numbered = |seq, floor| {
        reencoded(Write {
            seq,
            floor,
            ..write(Command::Delete { key: b"k" })
        })
    };
    assert_eq!(numbered(1, 1), Ok(()));
    assert_eq!(numbered(COUNTER_MAX, COUNTER_MAX), Ok(()));
    assert_eq!(numbered(COUNTER_MAX, 1), Ok(()));
    let floor = "the floor is not between 1 and the seq";
    malformed(numbered(0, 0), floor);
    malformed(numbered(1, 0), floor);
    malformed(numbered(1, 2), floor);
    let range = "a term, index or other counter is out of range";
    malformed(numbered(COUNTER_MAX + 1, 1), range);
    malformed(numbered(u64::MAX, u64::MAX), range);
}
