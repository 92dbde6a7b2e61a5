//! Records in, blocks out.

use wire::limits::TXN_APPENDS_MAX;

use super::*;
use crate::bulk::rewrite::OfKey;

fn plan(stops: bool) -> Plan {
    Plan {
        rewrite: Rewrite::new(b"p/".to_vec(), false, OfKey::Delete),
        whole: false,
        stops,
        raw_end: Some(b'\n'),
    }
}

/// Record `n` of an input: every seventh one is none, every tenth one may fail.
fn give(builder: &mut Builder, n: u64) {
    let key = format!("{n:06}");
    let value = vec![b'v'; 1000];
    let datum = match n {
        _ if n.is_multiple_of(7) => Err("it is a seventh".to_owned()),
        _ if n.is_multiple_of(10) => Ok(Datum::Change(Command::Increment {
            key: key.as_bytes(),
            delta: 1,
        })),
        _ => Ok(Datum::Change(Command::Put {
            key: key.as_bytes(),
            value: &value,
        })),
    };
    builder.take(datum, Raw::Text(key.as_bytes()));
}

fn ready(builder: &mut Builder) -> Vec<Block> {
    std::iter::from_fn(|| builder.pop()).collect()
}

fn blocks(mut builder: Builder, records: u64) -> Vec<Block> {
    (1..=records).for_each(|n| give(&mut builder, n));
    builder.finish();
    ready(&mut builder)
}

#[track_caller]
fn check(blocks: &[Block], after: u64, last: u64) {
    let mut end = after;
    for block in blocks {
        assert_eq!(block.after, end);
        end = block.last;
        assert_eq!(block.numbers.len(), block.batch.len());
        assert!(block.batch.bytes() <= BLOCK_BYTES);
        let mut all = block.numbers.clone();
        all.extend(block.refused.iter().map(|refused| refused.number));
        all.sort_unstable();
        assert_eq!(all, (block.after + 1..=block.last).collect::<Vec<_>>());
        for number in block.after + 1..=block.last {
            assert_eq!(block.raw(number), format!("{number:06}\n").as_bytes());
        }
        for number in &block.numbers {
            assert_eq!(block.key(*number), format!("p/{number:06}").as_bytes());
        }
    }
    assert_eq!(end, last);
}

#[test]
fn blocks_hold_all_records_and_end_where_they_are_full() {
    let blocks = blocks(Builder::new(plan(false)), 1000);
    assert!((7..10).contains(&blocks.len()), "{}", blocks.len());
    check(&blocks, 0, 1000);
    assert!(blocks.iter().all(|block| block.may_fail));
}

/// An input of which nothing can be written takes no more memory than another.
#[test]
fn refused_records_fill_a_block_too() {
    let mut builder = Builder::new(plan(false));
    for _ in 0..3 * ENTRY_KEYS_MAX {
        builder.take(Err("it is none".to_owned()), Raw::Text(b"x"));
    }
    builder.finish();
    let lasts: Vec<_> = ready(&mut builder).iter().map(|block| block.last).collect();
    assert_eq!(lasts, [1, 2, 3].map(|n| n * ENTRY_KEYS_MAX as u64));
    let long = vec![b'x'; RAW_BYTES / 4];
    let mut builder = Builder::new(plan(false));
    for _ in 0..20 {
        builder.take(Err("it is none".to_owned()), Raw::Text(&long));
    }
    builder.finish();
    let blocks = ready(&mut builder);
    assert!(blocks.iter().all(|block| block.bytes() < 2 * RAW_BYTES));
}

#[test]
fn a_pause_ends_a_block_and_a_refused_record_all() {
    let mut builder = Builder::new(plan(true));
    give(&mut builder, 1);
    assert!(builder.has_rest());
    builder.cut();
    assert!(!builder.has_rest());
    (2..10).for_each(|n| give(&mut builder, n));
    assert_eq!(builder.over(), Some(Over::Refused));
    builder.finish();
    let blocks = ready(&mut builder);
    check(&blocks, 0, 6);
    assert_eq!(blocks.len(), 2);
    let stop = blocks[1].stop.as_ref().expect("the seventh");
    assert_eq!((stop.number, stop.why.as_str()), (7, "it is a seventh"));
}

#[test]
fn who_goes_on_makes_the_same_blocks_again() {
    let mut builder = Builder::new(plan(false));
    let mut all = Vec::new();
    for n in 1..=1000 {
        give(&mut builder, n);
        if n % 50 == 0 {
            builder.cut();
        }
        all.extend(ready(&mut builder));
    }
    for done in 1..all.len() {
        let before = &all[done - 1];
        let ends: VecDeque<_> = all[done..].iter().take(3).map(|block| block.last).collect();
        let begun = || Builder::new(plan(true)).behind(before.last, before.crc, ends.clone());
        let again = blocks(begun(), ends.back().copied().unwrap_or(before.last));
        check(
            &again,
            before.last,
            again.last().map_or(before.last, |block| block.last),
        );
        for (block, first) in again.iter().zip(&all[done..]) {
            assert_eq!(block.batch.operations(), first.batch.operations());
            assert_eq!((block.last, block.crc), (first.last, first.crc));
        }
        // Too little of it, or something else.
        let mut short = begun();
        (1..before.last).for_each(|n| give(&mut short, n));
        short.finish();
        assert_eq!(short.over(), Some(Over::OtherInput));
        let mut other = begun();
        give(&mut other, 2);
        (2..=before.last).for_each(|n| give(&mut other, n));
        assert_eq!(other.over(), Some(Over::OtherInput));
    }
}

#[test]
fn pieces_are_what_the_block_was() {
    let blocks = blocks(Builder::new(plan(false)), 1000);
    let mut crc = 0;
    for block in blocks {
        let (after, last, end, input) = (block.after, block.last, block.crc, block.input_bytes);
        let pieces = block.split(30, crc);
        check(&pieces, after, last);
        assert!(pieces.iter().all(|piece| piece.last - piece.after <= 30));
        assert_eq!(
            pieces.iter().map(|piece| piece.input_bytes).sum::<u64>(),
            input
        );
        crc = pieces.last().expect("there is one").crc;
        assert_eq!(crc, end);
    }
}

#[test]
fn a_block_ends_where_a_txn_is_full() {
    let mut builder = Builder::new(plan(true));
    for _ in 0..2 * TXN_APPENDS_MAX + 7 {
        let append = Command::Append {
            key: b"k",
            value: b"v",
        };
        builder.take(Ok(Datum::Change(append)), Raw::Text(b"k\n"));
    }
    builder.finish();
    let blocks = std::iter::from_fn(|| builder.pop());
    let records: Vec<usize> = blocks.map(|block| block.records()).collect();
    assert_eq!(records, [TXN_APPENDS_MAX, TXN_APPENDS_MAX, 7]);
    assert_eq!(builder.over(), None);
}

#[test]
fn all_in_one_has_a_limit() {
    let whole = Plan {
        whole: true,
        ..plan(true)
    };
    let mut builder = Builder::new(whole);
    for n in 1..=20_000 {
        let datum = Ok(Datum::Change(Command::Delete { key: b"k" }));
        builder.take(datum, Raw::Text(b"k\n"));
        assert_eq!(builder.over().is_some(), n > ENTRY_KEYS_MAX as u64);
    }
    assert_eq!(builder.over(), Some(Over::TooLarge));
    builder.finish();
    assert!(builder.pop().is_none(), "nothing is sent of it");
}
