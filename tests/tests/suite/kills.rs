//! Nodes die by SIGKILL, one or all, under load: nothing acknowledged is lost, no value is wrong,
//! no increment is done twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use raftctl::client::{Client, Command, Deadline, Error, Options, Outcome, Written};
use raftd_tests::cluster::{Cluster, Node};
use raftd_tests::proc::PATIENCE;
use raftd_tests::wait;

const ROUNDS: u64 = 20;
const CONNECTIONS: u64 = 8;
/// Acknowledgements between two steps of a round.
const ACKED_PER_STEP: u64 = 40;
/// How long a call may take on even and on odd connections. The client retries by itself within
/// that time; after it the outcome is unknown and the test asks.
const CALLS: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(20)];
/// Every increment of every connection goes here too.
const SHARED: &[u8] = b"shared";

/// What one connection knows when it ends.
#[derive(Debug, Default)]
struct Ledger {
    /// Acknowledged puts with their values.
    puts: BTreeMap<String, String>,
    /// Acknowledged increments of the shared counter.
    shared: i64,
    /// How long a call may take.
    call: Duration,
    /// How often an outcome was unknown.
    asked: u64,
}

/// The verdict of a write, however often it takes to ask; `None` if it is certainly not applied.
fn settle(client: &mut Client, command: Command<'_>, ledger: &mut Ledger) -> Option<Written> {
    let mut result = client.write(command, Deadline::after(ledger.call));
    loop {
        match result {
            Ok(written) => return Some(written),
            Err(Error::NotApplied { .. } | Error::Unreachable { .. }) => return None,
            Err(Error::Unknown { request, .. }) => {
                ledger.asked += 1;
                result = client.resume(request, command, Deadline::after(ledger.call));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Like [`settle`], again and again until it is applied.
fn apply(client: &mut Client, command: Command<'_>, ledger: &mut Ledger) -> Outcome {
    let what = format!("{command:?} is applied");
    wait::until(&what, PATIENCE, || settle(client, command, ledger)).outcome
}

fn write_until(stop: &AtomicBool, acked: &AtomicU64, endpoints: &str, connection: u64) -> Ledger {
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    let mut client = Client::new(Options::new(endpoints));
    let mut ledger = Ledger {
        call: CALLS[usize::from(connection % 2 == 1)],
        ..Ledger::default()
    };
    let own = format!("own/{connection}");
    for n in 1_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (
            format!("put/{connection}/{n:06}"),
            format!("{connection}-{n}"),
        );
        let put = Command::Put {
            key: key.as_bytes(),
            value: value.as_bytes(),
        };
        assert_eq!(apply(&mut client, put, &mut ledger), Outcome::Put);
        ledger.puts.insert(key, value);

        // Nobody else touches the own counter: each answer is the one before and one more.
        let delta = 1;
        let increment = Command::Increment {
            key: own.as_bytes(),
            delta,
        };
        let outcome = apply(&mut client, increment, &mut ledger);
        assert_eq!(
            outcome,
            Outcome::Incremented(i64::from(n)),
            "lost or doubled"
        );
        let shared = Command::Increment { key: SHARED, delta };
        apply(&mut client, shared, &mut ledger);
        ledger.shared += 1;
        acked.fetch_add(3, Ordering::Relaxed);
    }
    ledger
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Numbers that look random and are the same in every run.
fn chance(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn acknowledged_writes_survive_kills() {
    let mut cluster = Cluster::start(3);
    let endpoints = cluster.endpoints();
    let (stop, acked) = (AtomicBool::new(false), AtomicU64::new(0));
    let ledgers: Vec<Ledger> = thread::scope(|scope| {
        let writers: Vec<_> = (1..=CONNECTIONS)
            .map(|connection| {
                let (stop, acked, endpoints) = (&stop, &acked, &endpoints);
                scope.spawn(move || write_until(stop, acked, endpoints, connection))
            })
            .collect();
        let writing = Stop(&stop);
        let more = |what: &str| {
            let goal = acked.load(Ordering::Relaxed) + ACKED_PER_STEP;
            wait::until_true(what, PATIENCE, || {
                acked.load(Ordering::Relaxed) >= goal
                    || writers.iter().any(ScopedJoinHandle::is_finished)
            });
        };
        let mut seed = 1;
        for round in 1..=ROUNDS {
            more("writes are acknowledged");
            if round % 5 == 0 {
                cluster.nodes.iter_mut().for_each(Node::kill);
            } else {
                let victim = chance(&mut seed, 3) + 1;
                cluster.node(victim).kill();
                more("two of three go on");
            }
            cluster.start_all();
        }
        more("all three go on");
        drop(writing);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect()
    });
    check(&cluster, &ledgers);
}

fn check(cluster: &Cluster, ledgers: &[Ledger]) {
    let scan = cluster.ctl(&["-t", "30s", "scan", "put/"]).quietly();
    let found: BTreeMap<&str, &str> = scan
        .text()
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let expected: BTreeMap<&str, &str> = ledgers
        .iter()
        .flat_map(|ledger| &ledger.puts)
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let lost: Vec<_> = expected
        .iter()
        .filter(|(key, _)| !found.contains_key(*key))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        expected.len()
    );
    assert_eq!(found, expected, "wrong values, or keys that nobody wrote");

    let asked: u64 = ledgers.iter().map(|ledger| ledger.asked).sum();
    assert!(
        asked > 0,
        "no outcome was unknown: the test saw only half of it"
    );
    let shared: i64 = ledgers.iter().map(|ledger| ledger.shared).sum();
    assert_eq!(
        cluster.ctl(&["get", "shared"]).quietly().text(),
        shared.to_string()
    );
}
