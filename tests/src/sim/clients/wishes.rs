//! What a client wants next: operations on few keys, drawn by the plan's weights.

use std::collections::BTreeMap;

use wire::client::{Consistency, Freshness, ScanMode};
use wire::types::Index;

use super::Common;
use crate::history::{Command, Expect, Item, Query, Scan, compound};
use crate::sim::random::Random;

/// An operation, before a write has its name.
#[derive(Debug)]
pub(super) enum Wish {
    Write(Command),
    Read(Freshness, Query),
}

/// What a client last saw of keys, which its compare-and-swaps expect, and the newest entry that it
/// was told of.
#[derive(Debug, Default)]
pub(super) struct Seen {
    keys: BTreeMap<Vec<u8>, (Index, Vec<u8>)>,
    newest: Index,
}

impl Seen {
    pub(super) fn index(&mut self, index: Index) {
        self.newest = self.newest.max(index);
    }

    pub(super) fn item(&mut self, item: &Item) {
        let state = (item.revision, item.value.clone());
        self.keys.insert(item.key.clone(), state);
    }

    pub(super) fn absent(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    /// What the key is like, as far as this client knows; now and then something else.
    fn expect(&self, key: &[u8], random: &mut Random) -> Expect {
        match self.keys.get(key) {
            None => Expect::Absent,
            Some(_) if random.below(10) == 0 => Expect::Absent,
            Some((revision, value)) => match random.below(2) {
                0 => Expect::Revision(*revision),
                _ => Expect::Value(value.clone()),
            },
        }
    }
}

/// Draws an operation. `writer` is put into every value, so that it names who wrote it.
pub(super) fn draw(common: &Common, seen: &Seen, writer: &str, random: &mut Random) -> Wish {
    let mix = common.workload.mix;
    let weights = [
        mix.put,
        mix.delete,
        mix.cas,
        mix.increment,
        mix.get,
        mix.scan,
        mix.compound,
    ];
    match random.weigh(&weights) {
        0 => Wish::Write(Command::Put {
            key: text_key(common, random),
            value: value(common, writer, random),
        }),
        1 => Wish::Write(Command::Delete {
            key: any_key(common, random),
        }),
        2 => {
            let key = text_key(common, random);
            Wish::Write(Command::CompareAndSwap {
                expect: seen.expect(&key, random),
                value: value(common, writer, random),
                key,
            })
        }
        3 => Wish::Write(Command::Increment {
            // Rarely one that is no number.
            key: match random.below(30) {
                0 => text_key(common, random),
                _ => counter_key(common, random),
            },
            delta: match random.below(100) {
                0 => i64::MAX,
                _ => random.within(1..=9) as i64,
            },
        }),
        4 => Wish::Read(
            freshness(common, seen, random),
            Query::Get {
                key: any_key(common, random),
            },
        ),
        5 => Wish::Read(freshness(common, seen, random), scan(common, random)),
        _ if random.below(9) == 0 => {
            let key = compound::key(random);
            Wish::Read(freshness(common, seen, random), Query::Get { key })
        }
        _ => Wish::Write(compound::draw(writer, random)),
    }
}

fn freshness(common: &Common, seen: &Seen, random: &mut Random) -> Freshness {
    let workload = &common.workload;
    let consistency = if random.chance(workload.stale_reads) {
        match workload.bounds_hold && random.below(2) == 0 {
            true => Consistency::Bounded {
                max_lag_ms: *random.pick(&[1, 20, 200, 2_000]),
            },
            false => Consistency::Stale,
        }
    } else if random.chance(workload.anywhere_reads) {
        Consistency::LinearizableAnywhere
    } else {
        Consistency::Linearizable
    };
    let after = match random.chance(workload.after_reads) {
        true => seen.newest,
        false => Index(0),
    };
    Freshness { consistency, after }
}

/// The square of a chance: low numbers are hot.
fn number(bound: u64, random: &mut Random) -> u64 {
    let bound = random.within(1..=bound.max(1));
    random.below(bound)
}

fn text_key(common: &Common, random: &mut Random) -> Vec<u8> {
    format!("k{}", number(common.workload.keys, random)).into_bytes()
}

/// Counters have keys of their own, or most increments would meet a text.
fn counter_key(common: &Common, random: &mut Random) -> Vec<u8> {
    let counters = common.workload.keys.div_ceil(4);
    format!("n{}", number(counters, random)).into_bytes()
}

fn any_key(common: &Common, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => counter_key(common, random),
        _ => text_key(common, random),
    }
}

fn value(common: &Common, writer: &str, random: &mut Random) -> Vec<u8> {
    let workload = &common.workload;
    let bytes_max = match random.chance(workload.large_values) {
        true => workload.large_value_bytes,
        false => workload.value_bytes,
    };
    let mut value = writer.as_bytes().to_vec();
    let bytes = random.below(bytes_max as u64 + 1) as usize;
    if bytes > value.len() {
        value.resize(bytes, b'.');
    }
    value
}

fn scan(common: &Common, random: &mut Random) -> Query {
    let prefix = *random.pick(&["", "k", "n", "k1", compound::PREFIX]);
    let after = random.below(3) == 0;
    let mode = *random.pick(&[ScanMode::Items, ScanMode::Keys, ScanMode::Count]);
    let after = after.then(|| any_key(common, random));
    // Now and then a page that fills the pipe of a client that reads slowly. Small ones have others
    // behind them.
    let limit = match random.below(8) {
        0 => 500,
        1..=4 => random.within(1..=3) as u32,
        _ => random.within(1..=20) as u32,
    };
    let mut scan = Scan::of_prefix(mode, prefix.as_bytes(), after, limit);
    scan.reverse = random.below(3) == 0;
    if random.below(4) == 0 {
        scan.to = Some(any_key(common, random));
    }
    Query::Scan(scan)
}
