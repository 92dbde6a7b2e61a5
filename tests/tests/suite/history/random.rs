//! Random histories: right by construction, and spoiled.

use raftd_tests::history::{Answer, Command, Expect, Operation, Query, Scan};
use raftd_tests::sim::random::Random;
use wire::client::{Consistency, ScanMode};
use wire::command::Outcome;
use wire::types::Index;

use super::maker::{Maker, delete, get, increment, put, swap};

/// How large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) clients: usize,
    pub(super) operations: usize,
    pub(super) keys: u64,
    /// Of a hundred writes, how many are abandoned.
    pub(super) abandoned: u64,
    /// Whether reads may be stale or scan: no business of the search.
    pub(super) all_reads: bool,
    /// Whether every put writes a value of its own.
    pub(super) own_values: bool,
}

/// Where a client is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    /// Invoked.
    Sent(usize),
    /// It took effect; the answer is held until it ends.
    Done(usize),
}

struct Run {
    maker: Maker,
    random: Random,
    shape: Shape,
    now_ns: u64,
    /// Each client's number, a new one after a write was abandoned.
    names: Vec<u64>,
    stages: Vec<Stage>,
    /// Answers of operations that took effect but did not end.
    held: Vec<Answer>,
    /// Abandoned writes that may still take effect.
    strays: Vec<usize>,
}

/// A history that is right: `seed` decides everything.
pub(super) fn right(seed: u64, shape: Shape) -> Maker {
    let mut run = Run {
        maker: Maker::new(),
        random: Random::new(seed),
        shape,
        now_ns: 0,
        names: (0..shape.clients as u64).collect(),
        stages: vec![Stage::Idle; shape.clients],
        held: vec![Answer::Unknown; shape.clients],
        strays: Vec::new(),
    };
    while run.maker.history.records.len() < shape.operations {
        run.step();
    }
    run.maker
}

impl Run {
    fn step(&mut self) {
        // Often nothing at all: equal times are to be common.
        self.now_ns += self.random.below(2);
        if self.random.below(30) == 0 {
            self.maker.elect();
        }
        if !self.strays.is_empty() && self.random.below(8) == 0 {
            let at = self.random.index(self.strays.len());
            let place = self.strays.swap_remove(at);
            self.maker.commit(place);
        }
        let client = self.random.index(self.stages.len());
        self.stages[client] = match self.stages[client] {
            Stage::Idle => self.invoke(client),
            Stage::Sent(place) => self.take_effect(client, place),
            Stage::Done(place) => {
                let record = &mut self.maker.history.records[place];
                record.ended_ns = Some(self.now_ns);
                record.answer = self.held[client].clone();
                Stage::Idle
            }
        };
    }

    fn invoke(&mut self, client: usize) -> Stage {
        let key = format!("k{}", self.random.below(self.shape.keys));
        let name = self.names[client];
        if self.random.below(3) == 0 {
            let operation = self.read(&key);
            let span = (self.now_ns, None);
            return Stage::Sent(self.maker.record(name, span, operation, Answer::Unknown));
        }
        let command = self.command(&key);
        let place = self.maker.unanswered(name, self.now_ns, command);
        if self.random.below(50) == 0 {
            let record = &mut self.maker.history.records[place];
            record.ended_ns = Some(self.now_ns);
            record.answer = Answer::NotApplied;
            return Stage::Idle;
        }
        if self.random.below(100) < self.shape.abandoned {
            self.strays.push(place);
            self.names[client] += self.shape.clients as u64;
            return Stage::Idle;
        }
        Stage::Sent(place)
    }

    fn read(&mut self, key: &str) -> Operation {
        if !self.shape.all_reads || self.random.below(2) == 0 {
            return Operation::Read {
                consistency: Consistency::Linearizable,
                after: Index(0),
                query: get(key),
            };
        }
        let consistency = *self
            .random
            .pick(&[Consistency::Linearizable, Consistency::Stale]);
        let modes = [ScanMode::Items, ScanMode::Keys, ScanMode::Count];
        let mode = *self.random.pick(&modes);
        let prefix = if self.random.below(2) == 0 { "k" } else { "" };
        let after = (self.random.below(3) == 0).then(|| key.into());
        let limit = 1 + u32::try_from(self.random.below(4)).expect("it is small");
        let mut scan = Scan::of_prefix(mode, prefix.as_bytes(), after, limit);
        scan.reverse = self.random.below(3) == 0;
        let after = Index(0);
        let query = Query::Scan(scan);
        Operation::Read {
            consistency,
            after,
            query,
        }
    }

    fn command(&mut self, key: &str) -> Command {
        let number = if self.shape.own_values {
            self.maker.history.records.len() as u64 + 1_000
        } else {
            self.random.below(4)
        };
        let value = number.to_string();
        match self.random.below(7) {
            0..=1 => put(key, &value),
            2 => delete(key),
            3 => swap(key, Expect::Absent, &value),
            4 => swap(key, self.expectation(key), &value),
            _ => increment(key, 1 + i64::from(self.random.below(3) == 0)),
        }
    }

    /// What the key is like now, mostly.
    fn expectation(&mut self, key: &str) -> Expect {
        let Answer::Got { item, .. } = self.maker.look(&get(key)) else {
            panic!("a get is asked for");
        };
        match item {
            Some(item) if self.random.below(2) == 0 => Expect::Value(item.value),
            Some(item) => Expect::Revision(item.revision),
            None => Expect::Value(self.random.below(4).to_string().into()),
        }
    }

    fn take_effect(&mut self, client: usize, place: usize) -> Stage {
        let operation = self.maker.history.records[place].operation.clone();
        self.held[client] = match operation {
            Operation::Write { .. } => self.maker.commit(place),
            Operation::Read {
                consistency: Consistency::Linearizable,
                query,
                ..
            } => self.maker.look(&query),
            Operation::Read { query, .. } => {
                let at = self.random.within(0..=self.maker.entries.len() as u64);
                self.maker.look_at(&query, Index(at))
            }
        };
        Stage::Done(place)
    }
}

/// Spoils something, perhaps: times, values, outcomes. The result may still be right.
pub(super) fn spoil(maker: &mut Maker, random: &mut Random) {
    let records = &mut maker.history.records;
    let place = random.index(records.len());
    let other = random.index(records.len());
    match random.below(4) {
        0 => {
            // It began earlier or later.
            let latest_ns = records[place].ended_ns.unwrap_or(u64::MAX);
            records[place].invoked_ns = records[other].invoked_ns.min(latest_ns);
        }
        1 => {
            // It ended earlier or later.
            if let Some(ended_ns) = records[place].ended_ns {
                let other_ns = records[other].ended_ns.unwrap_or(ended_ns);
                records[place].ended_ns = Some(other_ns.max(records[place].invoked_ns));
            }
        }
        2 => {
            let seen = records[other].answer.clone();
            if let (Answer::Got { .. }, Answer::Got { .. }) = (&records[place].answer, &seen) {
                records[place].answer = seen;
            }
        }
        _ => match &mut records[place].answer {
            Answer::Written { outcome, .. } => spoil_outcome(outcome, random),
            Answer::Got { item, .. } => match item {
                Some(item) if random.below(2) == 0 => {
                    item.value = random.below(6).to_string().into();
                }
                _ => *item = None,
            },
            Answer::Unknown => {
                records[place].ended_ns = Some(u64::MAX);
                records[place].answer = Answer::NotApplied;
            }
            Answer::Scanned { page, .. } => page.count += 1,
            Answer::NotApplied => {}
        },
    }
}

fn spoil_outcome(outcome: &mut Outcome, random: &mut Random) {
    let revision = Index(random.within(1..=20));
    *outcome = match outcome.clone() {
        Outcome::Deleted(count) => Outcome::Deleted(1 - count),
        Outcome::Swapped => Outcome::NotSwapped((random.below(2) == 0).then_some(revision)),
        Outcome::NotSwapped(_) if random.below(2) == 0 => Outcome::NotSwapped(Some(revision)),
        Outcome::NotSwapped(_) => Outcome::Swapped,
        Outcome::Incremented(sum) if random.below(2) == 0 => Outcome::Incremented(sum + 1),
        Outcome::Incremented(sum) => Outcome::Incremented(sum - 1),
        other => other,
    };
}
