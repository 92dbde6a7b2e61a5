//! The search over the operations on one key.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Answer, History, Operation};
use super::steps::{State, Step, Stray, Unseen, Values};

/// Operations in flight at once, at most: the bits of [`Configuration::done`].
const SLOTS_MAX: usize = u128::BITS as usize;
/// Ways to use up strays that are remembered of one seat, at most: to try one again costs less than
/// to look through all of them.
const REMEMBERED_MAX: usize = 32;
/// States told to a person, at most.
const TOLD_MAX: usize = 8;

/// How a search ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// There is an order.
    Explained,
    /// There is none. The first record is the answer that no order reaches.
    Refuted { records: Vec<usize>, why: String },
    /// The budget was not enough.
    Spent,
    /// More than [`SLOTS_MAX`] in flight at once.
    TooWide,
}

/// An answered operation.
#[derive(Clone, Copy, Debug)]
struct Answered {
    record: usize,
    invoked_ns: u64,
    ended_ns: u64,
    step: Step,
    /// The index that the answer names.
    index: u64,
    slot: usize,
}

/// Writes of unknown outcome that are alike.
#[derive(Debug)]
struct Strays {
    stray: Stray,
    /// When each was invoked, ascending.
    invoked_ns: Vec<u64>,
}

/// How many of each kind of strays took effect: (kind, count > 0), by ascending kind.
type Used = Vec<(usize, usize)>;

/// Where the search is.
///
/// Invariants: operations before `next` all took effect; a bit of `done` is set only for operations
/// in flight at `next`.
#[derive(Clone, Debug)]
struct Configuration {
    /// The next answer: a place in `answered`.
    next: usize,
    /// The slots of operations in flight that took effect.
    done: u128,
    state: State,
    used: Used,
    unseen: Unseen,
}

/// What tells configurations apart, but for the strays that they used up.
type Seat = (usize, u128, State, Unseen);

/// The operations on one key, prepared.
///
/// Invariant: `answered` is in the order of ends; `in_flight[n]` are the operations that were
/// invoked by the time of answer n and do not end before it, by the index that they claim.
#[derive(Debug)]
pub(super) struct Search<'h> {
    answered: Vec<Answered>,
    in_flight: Vec<Vec<usize>>,
    strays: Vec<Strays>,
    values: Values<'h>,
    too_wide: bool,
}

impl<'h> Search<'h> {
    /// Prepares the operations at `places`; `claimed` are the revisions of all acknowledged writes.
    pub(super) fn new(history: &History, places: &[usize], claimed: &'h BTreeSet<u64>) -> Self {
        let mut values = Values::new(claimed);
        let mut answered = Vec::new();
        let mut strays: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for place in places {
            let record = &history.records[*place];
            let step = match (&record.operation, &record.answer) {
                (Operation::Write { command, .. }, Answer::Written { outcome, .. }) => {
                    values.write(command, outcome)
                }
                (Operation::Write { command, .. }, _) => {
                    strays.entry(command).or_default().push(record.invoked_ns);
                    continue;
                }
                (Operation::Read { .. }, Answer::Got { item, .. }) => values.get(item.as_ref()),
                (Operation::Read { .. }, _) => continue,
            };
            answered.push(Answered {
                record: *place,
                invoked_ns: record.invoked_ns,
                ended_ns: record.ended_ns.expect("what is answered has ended"),
                step,
                index: record.index().map_or(0, |index| index.0),
                slot: 0,
            });
        }
        answered.sort_by_key(|operation| operation.ended_ns);
        let strays = strays.into_iter().map(|(command, mut invoked_ns)| {
            invoked_ns.sort_unstable();
            Strays {
                stray: values.stray(command),
                invoked_ns,
            }
        });
        let mut search = Self {
            strays: strays.collect(),
            answered,
            in_flight: Vec::new(),
            values,
            too_wide: false,
        };
        search.seat();
        search
    }

    /// Gives every operation a slot for the time that it is in flight.
    fn seat(&mut self) {
        let mut begins: Vec<usize> = (0..self.answered.len()).collect();
        begins.sort_by_key(|place| self.answered[*place].invoked_ns);
        let mut begins = begins.into_iter().peekable();
        let mut free: Vec<usize> = (0..SLOTS_MAX).rev().collect();
        let mut in_flight: Vec<usize> = Vec::new();
        for next in 0..self.answered.len() {
            let now_ns = self.answered[next].ended_ns;
            while let Some(begun) =
                begins.next_if(|place| self.answered[*place].invoked_ns <= now_ns)
            {
                let Some(slot) = free.pop() else {
                    self.too_wide = true;
                    return;
                };
                self.answered[begun].slot = slot;
                let claim = |place: &usize| self.answered[*place].claim();
                let at = in_flight.partition_point(|place| claim(place) <= claim(&begun));
                in_flight.insert(at, begun);
            }
            self.in_flight.push(in_flight.clone());
            in_flight.retain(|place| *place != next);
            free.push(self.answered[next].slot);
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.answered.len() as u64
    }

    pub(super) fn unknown(&self) -> u64 {
        let counts = self.strays.iter().map(|strays| strays.invoked_ns.len());
        counts.sum::<usize>() as u64
    }

    /// Searches until an order is found, none is left, or `budget` configurations were tried.
    /// Returns how many were.
    pub(super) fn run(mut self, budget: u64) -> (Outcome, u64) {
        if self.too_wide {
            return (Outcome::TooWide, 0);
        }
        let mut tried = 0;
        let mut visited: BTreeMap<Seat, Vec<Used>> = BTreeMap::new();
        let mut furthest = 0;
        let mut open = vec![Configuration {
            next: 0,
            done: 0,
            state: State::default(),
            used: Used::new(),
            unseen: Unseen::Nothing,
        }];
        while let Some(mut configuration) = open.pop() {
            self.pass(&mut configuration);
            if configuration.next == self.answered.len() {
                return (Outcome::Explained, tried);
            }
            furthest = furthest.max(configuration.next);
            let seat = (
                configuration.next,
                configuration.done,
                configuration.state,
                configuration.unseen,
            );
            let before = visited.entry(seat).or_default();
            if before.iter().any(|used| covers(used, &configuration.used)) {
                continue;
            }
            before.retain(|used| !covers(&configuration.used, used));
            if before.len() == REMEMBERED_MAX {
                before.remove(0);
            }
            before.push(configuration.used.clone());
            if tried == budget {
                return (Outcome::Spent, tried);
            }
            tried += 1;
            self.expand(&configuration, &mut open);
        }
        (self.refute(furthest, &visited), tried)
    }

    /// Steps over answers of operations that took effect.
    fn pass(&self, configuration: &mut Configuration) {
        while let Some(operation) = self.answered.get(configuration.next) {
            let bit = 1 << operation.slot;
            if configuration.done & bit == 0 {
                return;
            }
            configuration.done &= !bit;
            configuration.next += 1;
        }
    }

    /// Pushes all that may take effect next, the most likely last.
    fn expand(&mut self, from: &Configuration, open: &mut Vec<Configuration>) {
        let Self {
            answered,
            in_flight,
            strays,
            values,
            ..
        } = self;
        let waiting = |place: &&usize| from.done & (1 << answered[**place].slot) == 0;
        let mut known = in_flight[from.next].iter().filter(waiting);
        let likely = known.next();
        let follow = |place: &usize| {
            let operation = &answered[*place];
            if from.unseen.is_lost_by(operation.step) {
                return None;
            }
            let state = values.after(from.state, operation.step, operation.index)?;
            Some(Configuration {
                done: from.done | 1 << operation.slot,
                state,
                unseen: Unseen::Nothing,
                ..from.clone()
            })
        };
        open.extend(known.rev().filter_map(follow));
        let now_ns = answered[from.next].ended_ns;
        let likely_next = likely.and_then(follow);
        // A stray after which the likely one fits is probably what happened.
        let wanted = likely.map(|place| &answered[*place]);
        let mut helpful = Vec::new();
        for (kind, strays) in strays.iter().enumerate() {
            let begun = strays.invoked_ns.partition_point(|at| *at <= now_ns);
            let lost = from.unseen.is_lost_by_stray(strays.stray);
            if lost || begun <= count(&from.used, kind) {
                continue;
            }
            let Some(state) = values.after_stray(from.state, strays.stray) else {
                continue;
            };
            let next = Configuration {
                state,
                used: plus_one(&from.used, kind),
                unseen: Unseen::left(from.state, state),
                ..from.clone()
            };
            let helps = wanted.is_some_and(|it| values.after(state, it.step, it.index).is_some());
            if helps {
                helpful.push(next);
            } else {
                open.push(next);
            }
        }
        open.extend(helpful);
        open.extend(likely_next);
    }

    fn refute(&self, furthest: usize, visited: &BTreeMap<Seat, Vec<Used>>) -> Outcome {
        let from = (furthest, 0, State::default(), Unseen::Nothing);
        let mut states: Vec<State> = visited
            .range(from..)
            .map(|((_, _, state, _), _)| *state)
            .collect();
        states.sort_unstable();
        states.dedup();
        let told: Vec<_> = states
            .iter()
            .take(TOLD_MAX)
            .map(|state| self.values.describe(*state))
            .collect();
        let others = self.in_flight[furthest].iter();
        let mut records = vec![self.answered[furthest].record];
        records.extend(
            others
                .filter(|place| **place != furthest)
                .map(|place| self.answered[*place].record),
        );
        Outcome::Refuted {
            why: format!(
                "no order explains the first answer (the others were in flight with it); \
                 the key could be {}{}",
                told.join(", "),
                if states.len() > TOLD_MAX { ", .." } else { "" },
            ),
            records,
        }
    }
}

impl Answered {
    /// Its place in the order that the answers claim: a read comes after the write that it saw.
    fn claim(&self) -> (u64, bool) {
        (self.index, matches!(self.step, Step::See(_)))
    }
}

fn count(used: &Used, kind: usize) -> usize {
    let at = used.binary_search_by_key(&kind, |(kind, _)| *kind);
    at.map_or(0, |at| used[at].1)
}

fn plus_one(used: &Used, kind: usize) -> Used {
    let mut used = used.clone();
    match used.binary_search_by_key(&kind, |(kind, _)| *kind) {
        Ok(at) => used[at].1 += 1,
        Err(at) => used.insert(at, (kind, 1)),
    }
    used
}

/// Whether one that used up `less` can do all that one that used up `more` can.
fn covers(less: &Used, more: &Used) -> bool {
    less.iter().all(|(kind, n)| *n <= count(more, *kind))
}
