//! Random faults on both sides of the apply: what the client says of a write is what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftctl::client::{Command, Deadline, Error, Outcome};
use wire::command::{SessionId, Write};
use wire::error::Error as WireError;

use super::client::client;
use super::fake::{Act, Asked, Fake, What};

const WRITES: usize = 300;
const SEEDS: u64 = 12;

/// A cluster of two servers with one state (rules C2), of which one leads.
#[derive(Default)]
struct Cluster {
    random: u64,
    index: u64,
    leader: usize,
    sessions: BTreeMap<SessionId, Session>,
    evicted: BTreeSet<SessionId>,
    /// How often each key was written.
    applied: BTreeMap<Vec<u8>, u32>,
    hints: Vec<wire::hello::LeaderHint>,
}

#[derive(Default)]
struct Session {
    last: u64,
    floor: u64,
    replies: BTreeMap<u64, u64>,
}

impl Cluster {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn act(&mut self, server: usize, asked: &Asked) -> Act {
        if asked.what == What::WatchLeader {
            return Act::Nothing;
        }
        if self.draw(40) == 0 {
            self.leader = 1 - self.leader;
        }
        if server != self.leader {
            let leader = self.hints[self.leader].clone();
            return asked.error(WireError::NotLeader { leader });
        }
        match self.draw(60) {
            0 => return Act::Close,
            1 => return asked.error(WireError::Overloaded { retry_after_ms: 1 }),
            2 => return asked.error(WireError::NoLeader),
            3 => return asked.error(WireError::DeadlineExpired),
            _ => {}
        }
        let applied = self.apply(asked);
        match self.draw(60) {
            0 => Act::Close,
            1 => asked.error(WireError::OutcomeUnknown),
            2 if self.draw(4) == 0 => {
                // As if so many others had come that this one was evicted.
                self.evicted.insert(asked.write().session);
                match self.draw(2) {
                    0 => Act::Close,
                    _ => applied,
                }
            }
            _ => applied,
        }
    }

    fn apply(&mut self, asked: &Asked) -> Act {
        let write = asked.write();
        let decoded = Write::decode_body(&write.body).unwrap();
        let Command::Put { key, .. } = decoded.command else {
            panic!("only puts are sent");
        };
        if self.evicted.contains(&write.session) {
            return asked.error(WireError::SessionExpired);
        }
        let session = self.sessions.entry(write.session).or_default();
        session.floor = session.floor.max(write.floor);
        session.replies = session.replies.split_off(&session.floor);
        let expected = session.floor.max(session.last + 1);
        if write.seq == expected {
            self.index += 1;
            session.last = write.seq;
            session.replies.insert(write.seq, self.index);
            *self.applied.entry(key.to_vec()).or_default() += 1;
        } else if write.seq > expected {
            return asked.error(WireError::OutOfOrder { expected });
        }
        match session.replies.get(&write.seq) {
            Some(index) => asked.done(*index, Outcome::Put),
            None => asked.error(WireError::Stale),
        }
    }
}

fn run(seed: u64) {
    let cluster = Arc::new(Mutex::new(Cluster {
        random: seed,
        ..Cluster::default()
    }));
    let [one, two] = [0, 1].map(|server| {
        let cluster = Arc::clone(&cluster);
        Fake::start(server as u64 + 1, move |asked| {
            cluster.lock().unwrap().act(server, asked)
        })
    });
    cluster.lock().unwrap().hints = vec![one.hint(), two.hint()];
    let window = 1 + seed as usize * 5 % 40;
    // Some seeds give up early.
    let patience = Duration::from_millis(if seed.is_multiple_of(3) { 40 } else { 20_000 });
    let mut client = client(&[&one, &two]);
    let mut results = Vec::new();
    for number in 0..WRITES {
        let key = format!("k{number}");
        client
            .submit(Command::Put {
                key: key.as_bytes(),
                value: b"v",
            })
            .unwrap();
        if client.in_flight() >= window {
            results.extend(client.wait(Deadline::after(patience)));
        }
    }
    while let Some(result) = client.wait(Deadline::after(patience)) {
        results.push(result);
    }
    assert_eq!(results.len(), WRITES);
    // What was left on its way may still arrive while this looks: only upwards, and only unknown
    // writes.
    let applied = cluster.lock().unwrap().applied.clone();
    let mut done = 0;
    for (number, result) in results.iter().enumerate() {
        let times = applied
            .get(format!("k{number}").as_bytes())
            .copied()
            .unwrap_or(0);
        match result {
            Ok(_) => assert_eq!(times, 1, "seed {seed}, write {number}: {result:?}"),
            Err(Error::NotApplied { .. }) => {
                assert_eq!(times, 0, "seed {seed}, write {number}: {result:?}");
            }
            Err(Error::Unknown { .. }) => {
                assert!(times <= 1, "seed {seed}, write {number}: {result:?}");
            }
            Err(error) => panic!("seed {seed}, write {number}: {error:?}"),
        }
        done += u32::from(result.is_ok());
    }
    assert!(done > 0, "seed {seed}");
}

#[test]
fn what_is_said_of_a_write_is_what_happened() {
    std::thread::scope(|scope| {
        for seed in 1..=SEEDS {
            scope.spawn(move || run(seed));
        }
    });
}
