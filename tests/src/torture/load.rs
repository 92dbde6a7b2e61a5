//! What the clients ask: few keys, so that they meet there; values that name their writer.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use wire::client::{Consistency, ScanMode};
use wire::types::Index;

use super::client::{Client, Shared};
use crate::history::{Answer, Command, Expect, Operation, Query, Record, Scan, compound};
use crate::sim::random::Random;

/// Keys that hold values.
const VALUE_KEYS: u64 = 48;
/// Keys that hold counters; now and then one gets a value that is no number.
const COUNTER_KEYS: u64 = 12;
/// Operations of a burst at most.
const BURST_MAX: u64 = 8;
/// How long a burst may take before what is left of it is given up.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(60),
    Duration::from_secs(1),
    Duration::from_secs(4),
];
/// Between two bursts, so that the machine has time for the members.
const THINK: Duration = Duration::from_millis(24);

/// Asks until `end` says so, as the client `number`, counted from 0.
pub fn ask_on<'a>(shared: &'a Shared, number: usize, seed: u64, end: &Receiver<()>) -> Client<'a> {
    let mut random = Random::new(seed);
    let mut client = Client::new(shared, number as u64, random.bits());
    loop {
        let think = random.heavy(THINK / 3, THINK * 8);
        if end.recv_timeout(think) != Err(RecvTimeoutError::Timeout) || client.complaint.is_some() {
            return client;
        }
        let breaks = shared.resets[number].swap(false, Ordering::Relaxed);
        let patience = *random.pick(&PATIENCE);
        if random.below(6) == 0 {
            // From anybody, an old state or the newest; the connection then serves for whatever comes
            // next.
            client.visit(random.index(shared.addrs.len()));
            let kinds = [Consistency::Stale, Consistency::LinearizableAnywhere];
            let consistency = *random.pick(&kinds);
            if random.below(4) == 0 {
                let range = scan(&mut random);
                client.read_view(look(&client, &mut random, consistency, range), patience);
            }
            let reads = (0..=random.below(3)).map(|_| read(&client, &mut random, consistency));
            let reads = reads.collect();
            client.burst(reads, patience, breaks);
        } else {
            let operations = draw(&mut client, &mut random);
            client.burst(operations, patience, breaks);
        }
        if random.below(if breaks { 2 } else { 64 }) == 0 {
            client.be_reborn();
        }
    }
}

fn draw(client: &mut Client<'_>, random: &mut Random) -> Vec<Operation> {
    let mut operations = Vec::new();
    for _ in 0..=random.below(BURST_MAX) {
        if random.below(10) < 3 {
            operations.push(read(client, random, Consistency::Linearizable));
            continue;
        }
        let command = command(client, random);
        // Without any member in reach there is no session to write in.
        operations.extend(client.name(command));
    }
    operations
}

fn value_key(random: &mut Random) -> Vec<u8> {
    format!("value/{:02}", random.below(VALUE_KEYS)).into_bytes()
}

fn counter_key(random: &mut Random) -> Vec<u8> {
    format!("counter/{:02}", random.below(COUNTER_KEYS)).into_bytes()
}

fn command(client: &Client<'_>, random: &mut Random) -> Command {
    let mut value = format!("{}#{:x}", client.number(), random.bits()).into_bytes();
    match random.below(512) {
        0 => value.resize(random.within(10_000..=80_000) as usize, b'.'),
        1..=32 => value.resize(random.within(100..=6_000) as usize, b'.'),
        _ => {}
    }
    match random.below(24) {
        0..=7 => Command::Put {
            key: value_key(random),
            value,
        },
        8..=9 => Command::Delete {
            key: value_key(random),
        },
        10 => Command::Delete {
            key: counter_key(random),
        },
        11..=14 => {
            let key = value_key(random);
            let expect = expectation(&client.records, &key, random);
            Command::CompareAndSwap { key, expect, value }
        }
        15 if random.below(8) == 0 => Command::Put {
            key: counter_key(random),
            value,
        },
        20..=23 => {
            let writer = format!("{}-{:x}.", client.number(), random.bits());
            compound::draw(&writer, random)
        }
        _ => Command::Increment {
            key: counter_key(random),
            delta: random.within(1..=9) as i64 - 4,
        },
    }
}

/// What the client saw of the key last, if that is not long ago.
fn expectation(records: &[Record], key: &[u8], random: &mut Random) -> Expect {
    let newest = records
        .iter()
        .rev()
        .take(400)
        .find_map(|record| seen(record, key));
    match newest {
        Some((revision, _)) if random.below(2) == 0 => Expect::Revision(revision),
        Some((_, value)) => Expect::Value(value),
        None => Expect::Absent,
    }
}

/// What an answer says of a key: when it was written, and what.
fn seen(record: &Record, key: &[u8]) -> Option<(Index, Vec<u8>)> {
    match (&record.operation, &record.answer) {
        (
            Operation::Write {
                command: Command::Put { key: put, value },
                ..
            },
            Answer::Written { id, .. },
        ) if put == key => Some((id.index, value.clone())),
        (_, Answer::Got { item, .. }) => {
            let item = item.as_ref().filter(|item| item.key == key)?;
            Some((item.revision, item.value.clone()))
        }
        _ => None,
    }
}

fn read(client: &Client<'_>, random: &mut Random, consistency: Consistency) -> Operation {
    let query = match random.below(8) {
        0 => scan(random),
        1..=2 => Query::Get {
            key: counter_key(random),
        },
        3 => Query::Get {
            key: compound::key(random),
        },
        _ => Query::Get {
            key: value_key(random),
        },
    };
    look(client, random, consistency, query)
}

/// A read that now and then comes after the newest entry that the client knows.
fn look(
    client: &Client<'_>,
    random: &mut Random,
    consistency: Consistency,
    query: Query,
) -> Operation {
    let after = match random.below(4) {
        0 => client.newest(),
        _ => Index(0),
    };
    Operation::Read {
        consistency,
        after,
        query,
    }
}

fn scan(random: &mut Random) -> Query {
    let mode = *random.pick(&[ScanMode::Items, ScanMode::Keys, ScanMode::Count]);
    let prefixes = ["value/", "counter/", "value/1", "", compound::PREFIX];
    let prefix = random.pick(&prefixes).as_bytes();
    let after = (random.below(3) == 0).then(|| value_key(random));
    let limit = random.within(1..=20) as u32;
    let reverse = random.below(3) == 0;
    Query::Scan(Scan {
        reverse,
        ..Scan::of_prefix(mode, prefix, after, limit)
    })
}

/// Reads everything, page by page, from the member that the client is at or goes to. The records
/// are the client's; true if all was answered.
pub fn read_all(client: &mut Client<'_>, consistency: Consistency, patience: Duration) -> bool {
    let mut after = None;
    loop {
        let query = Query::Scan(Scan::of_prefix(ScanMode::Items, b"", after, 1000));
        client.burst(
            vec![Operation::Read {
                consistency,
                after: Index(0),
                query,
            }],
            patience,
            false,
        );
        match client.records.last().map(|record| &record.answer) {
            Some(Answer::Scanned { page, .. }) => match &page.more_after {
                Some(key) => after = Some(key.clone()),
                None => return true,
            },
            _ => return false,
        }
    }
}
