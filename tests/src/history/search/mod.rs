//! The checker that believes nothing but the answers: is there any order of the operations that
//! explains them all and keeps to real time? That is linearizability (Herlihy and Wing, 1990).
//!
//! A store of keys is linearizable if every key by itself is (locality), so each key is searched
//! alone. The search is the one of Wing and Gong (1993) with the memory of Lowe (2017): depth
//! first, one operation at a time takes effect, and a configuration that led nowhere is never
//! tried again. Three things make it fit for long histories:
//! - Its position is the next answer in the order of time. All that a configuration needs beside it
//!   is which operations *in flight* took effect (a bitset over slots that are used again), and the
//!   key's state. So the search is one window that slides along, as wide as the concurrency, and
//!   never looks back further than it must: a long history costs what its short pieces cost.
//! - A write of unknown outcome stays in flight for ever. It must never take effect; so of two
//!   configurations that differ only in such writes, the one that used up fewer can do all that the
//!   other can (it *covers* it). Equal ones are told apart by nothing, so they are counted, not named.
//! - Answers name an index. It is not believed, but it is tried first: if the service is right, the
//!   first path is the right one.
//!
//! Scans over several keys, stale reads, and keys that ranges, txns and appends touch are not its
//! business: [`super::witness`] judges those.

mod key;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use wire::client::Consistency;

use self::key::{Outcome, Search};
use super::verdict::{Breach, Violation};
use super::{Answer, History, Operation, Query, touched, witness};

/// How much work is worth a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Configurations that are tried for one key, at most. About a million in a second.
    pub configurations_per_key: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            configurations_per_key: 200_000,
        }
    }
}

/// Why there is no verdict about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// The budget is spent.
    Budget {
        /// The key.
        key: Vec<u8>,
    },
    /// More operations on it were in flight at once than there are slots.
    Concurrency {
        /// The key.
        key: Vec<u8>,
    },
}

/// What was looked at; nothing wrong was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "keys that were given up were not judged"]
pub struct Searched {
    /// Answered operations that were given a place.
    pub operations: u64,
    /// Writes of unknown outcome that could be used to explain others.
    pub unknown: u64,
    /// Keys.
    pub keys: u64,
    /// Configurations tried.
    pub configurations: u64,
    /// The keys without a verdict.
    pub gave_up: Vec<GaveUp>,
}

/// Judges writes and linearizable gets, key by key. Every key is absent in the beginning.
///
/// # Errors
/// [`Breach::NotLinearizable`] with the first answer that no order explains, or
/// [`Breach::Malformed`].
pub fn check(history: &History, budget: Budget) -> Result<Searched, Violation> {
    witness::well_formed(history)?;
    let mut keys: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (place, record) in history.records.iter().enumerate() {
        let key = match &record.operation {
            Operation::Write { command, .. } => match command.single_key() {
                Some(key) => key,
                None => continue,
            },
            Operation::Read {
                consistency: Consistency::Linearizable | Consistency::LinearizableAnywhere,
                query: Query::Get { key },
                ..
            } => key,
            Operation::Read { .. } => continue,
        };
        if record.answer != Answer::NotApplied {
            keys.entry(key).or_default().push(place);
        }
    }
    touched::leave_out(history, &mut keys);
    let claims = history
        .records
        .iter()
        .filter_map(|record| match &record.answer {
            Answer::Written { id, .. } => Some(id.index.0),
            _ => None,
        });
    let claimed: BTreeSet<u64> = claims.collect();
    let mut searched = Searched::default();
    for (key, places) in keys {
        let search = Search::new(history, &places, &claimed);
        searched.keys += 1;
        searched.operations += search.operations();
        searched.unknown += search.unknown();
        let (outcome, configurations) = search.run(budget.configurations_per_key);
        searched.configurations += configurations;
        let key = key.to_vec();
        match outcome {
            Outcome::Explained => {}
            Outcome::Spent => searched.gave_up.push(GaveUp::Budget { key }),
            Outcome::TooWide => searched.gave_up.push(GaveUp::Concurrency { key }),
            Outcome::Refuted { records, why } => {
                return Err(Violation::new(
                    Breach::NotLinearizable,
                    history,
                    &records,
                    &why,
                ));
            }
        }
    }
    Ok(searched)
}
