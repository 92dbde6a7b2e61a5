//! What the node spreads over turns, so that no turn takes long: large replies, entries and results.

use super::node_cluster::{put, session, stale_get};
use super::node_harness::{Cluster, Options, ms};
use std::cell::Cell;
use std::time::Duration;
use wire::client::{Consistency, KeyRange, Reply, Request, ScanMode, ViewChoice};
use wire::command::{Batch, Command, Operation, Outcome, Txn};
use wire::limits::ENTRY_KEYS_MAX;

#[test]
fn large_replies_are_spread_over_turns() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    let large = vec![1_u8; 1_000_000];
    let write = session.next(put(b"large", &large));
    cluster.ask(client, 1, write);
    let reads: Vec<_> = (2..12)
        .map(|request_id| (request_id, stale_get(b"large")))
        .collect();
    cluster.send(client, &reads);
    let at_once = cluster.answered(client) - 1;
    assert!(
        (1..10).contains(&at_once),
        "{at_once} megabytes in one turn"
    );
    let before = cluster.now();
    cluster.run_until("the rest", ms(10), |cluster| cluster.answered(client) == 11);
    assert_eq!(cluster.now(), before, "the next turns come at once");
}

pub(crate) fn committed_at_once() -> Options {
    Options {
        members: 1,
        disk_delay: Duration::ZERO,
        ..Options::default()
    }
}

/// Operations that may touch as many keys as an entry may are applied one entry a turn (rules A7).
#[test]
fn entries_that_touch_many_keys_are_spread_over_turns() {
    let mut cluster = Cluster::serving(committed_at_once());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let mut batch = Batch::default();
    for key in 0..ENTRY_KEYS_MAX {
        let key = key.to_string();
        let put = put(key.as_bytes(), b"");
        batch.push(Operation::Change(put)).unwrap();
    }
    let txn = Command::Txn(Txn::batch(batch.operations()));
    let writes: Vec<_> = (1..=4).map(|id| (id, session.next(txn))).collect();
    let before = Cell::new(cluster.status(leader).applied);
    cluster.send(client, &writes);
    cluster.run_until("the answers", ms(10_000), |cluster| {
        let now = cluster.status(leader).applied;
        let then = before.replace(now);
        assert!(now.0 <= then.0 + 1, "from {then} to {now} in one turn");
        cluster.answered(client) == 4
    });
}

/// However short the entries are: a value that is written or removed is hashed for the digest, one that
/// is appended to is made anew, and all of one is looked at that may be a number.
#[test]
fn changes_of_long_values_are_spread_over_turns() {
    let mut cluster = Cluster::serving(committed_at_once());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let long = vec![1_u8; 1_000_000];
    let keys: Vec<String> = (0..30).map(|key| format!("{key}")).collect();
    let mut request = 0;
    let mut most_in_a_turn = |cluster: &mut Cluster, commands: &[Command<'_>]| {
        let writes: Vec<_> = commands
            .iter()
            .map(|command| {
                request += 1;
                (request, session.next(*command))
            })
            .collect();
        let before = Cell::new(cluster.status(leader).applied);
        let answered = cluster.answered(client) + writes.len();
        let most = Cell::new(0);
        cluster.send(client, &writes);
        cluster.run_until("the answers", ms(10_000), |cluster| {
            let now = cluster.status(leader).applied;
            most.set(most.get().max(now.0 - before.replace(now).0));
            cluster.answered(client) == answered
        });
        most.get()
    };
    for value in [&long[..], b"short"] {
        let append = Command::Append {
            key: b"1",
            value: b"x",
        };
        let increment = Command::Increment {
            key: b"1",
            delta: 1,
        };
        let overwrite = keys.iter().map(|key| put(key.as_bytes(), b""));
        let delete = keys.iter().map(|key| Command::Delete {
            key: key.as_bytes(),
        });
        let (overwrite, delete): (Vec<_>, Vec<_>) = (overwrite.collect(), delete.collect());
        for commands in [&[append; 30][..], &[increment; 30], &overwrite, &delete] {
            for key in &keys {
                most_in_a_turn(&mut cluster, &[put(key.as_bytes(), value)]);
            }
            let most = most_in_a_turn(&mut cluster, commands);
            assert_eq!(most == 30, value == b"short", "{most} of {:?}", commands[0]);
        }
    }
}

/// Results of writes are like those of reads: what nobody reads must not pile up.
#[test]
fn large_results_are_spread_over_turns_and_left_out_for_who_does_not_read() {
    let mut cluster = Cluster::serving(committed_at_once());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let large = vec![1_u8; 1_000_000];
    let write = session.next(put(b"large", &large));
    cluster.ask(client, 1, write);
    let mut batch = Batch::default();
    batch.push(Operation::Get { key: b"large" }).unwrap();
    let txn = Command::Txn(Txn::batch(batch.operations()));
    let results = |reply: &Reply<'_>| match reply {
        Reply::Written {
            outcome:
                Outcome::Txn {
                    held: true,
                    results,
                },
            ..
        } => results.as_ref().map(|results| results.bytes().len()),
        other => panic!("{other:?}"),
    };
    let writes: Vec<_> = (2..12).map(|id| (id, session.next(txn))).collect();
    cluster.send(client, &writes);
    let before = Cell::new(cluster.answered(client));
    cluster.run_until("the answers", ms(10_000), |cluster| {
        let now = cluster.answered(client);
        let more = now - before.replace(now);
        assert!(more <= 2, "{more} megabytes in one turn");
        now == 11
    });
    let told = results(&cluster.reply(client, 2).unwrap());
    assert!(told.is_some_and(|bytes| bytes > large.len()));
    cluster.clog(client, true);
    let write = session.next(txn);
    assert_eq!(results(&cluster.ask(client, 12, write)), None);
    cluster.clog(client, false);
    let write = session.next(txn);
    assert!(results(&cluster.ask(client, 13, write)).is_some());
}

#[test]
fn a_count_of_many_keys_comes_in_pages() {
    let mut cluster = Cluster::serving(committed_at_once());
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let keys: Vec<_> = (0..10_001)
        .map(|key| format!("{key:05}").into_bytes())
        .collect();
    for (chunk, batch) in (0..).zip(keys.chunks(500)) {
        let ids = chunk * 500 + 1..;
        let batch: Vec<_> = ids
            .zip(batch.iter().map(|key| session.next(put(key, b""))))
            .collect();
        cluster.send(client, &batch);
        cluster.run_until("answers", ms(1_000), |cluster| {
            cluster.answered(client) as u64 == chunk * 500 + batch.len() as u64
        });
    }
    let count = |after| Request::Scan {
        deadline_ms: 0,
        freshness: Consistency::Linearizable.into(),
        mode: ScanMode::Count,
        range: KeyRange::default(),
        reverse: false,
        after,
        limit: u32::MAX,
        view: ViewChoice::Now,
    };
    let client = cluster.connect(leader);
    let Reply::Page {
        count: first,
        more_after,
        ..
    } = cluster.ask(client, 1, count(None))
    else {
        panic!("no page");
    };
    let last = more_after.expect("there are more").to_vec();
    assert_eq!(first, 10_000);
    let Reply::Page {
        count: rest,
        more_after,
        ..
    } = cluster.ask(client, 2, count(Some(&last)))
    else {
        panic!("no page");
    };
    assert_eq!((rest, more_after), (1, None));
}
