//! Many gets in flight, and reads that any node answers.

use raftctl::client::{Client, Consistency, Entry, Error, Freshness, GETS_IN_FLIGHT_MAX, Why};
use wire::command::Outcome;
use wire::error::{Error as WireError, Lag};
use wire::hello::LeaderHint;
use wire::types::Index;

use super::client::{PUT, briefly, client, soon};
use super::fake::{Act, Asked, Fake, What};
use super::run::{SOON, run};
use super::script::{Store, always};

const LINEARIZABLE: Consistency = Consistency::Linearizable;

fn value(result: Option<Result<Option<Entry>, Error>>) -> Option<Vec<u8>> {
    let entry = result.expect("a get is in flight").unwrap();
    entry.map(|entry| entry.value)
}

fn submit(client: &mut Client, keys: std::ops::Range<u8>) {
    for key in keys {
        client.submit_get(&[b'k', key], LINEARIZABLE).unwrap();
    }
}

/// A server that has the key of each number as its value.
fn numbers() -> impl FnMut(&Asked) -> Act + Send + 'static {
    let mut store = Store::default();
    for key in 0..200 {
        let (key, value) = (&[b'k', key][..], &[key][..]);
        let put = wire::command::Command::Put { key, value };
        store.index += 1;
        assert_eq!(store.map.apply(Index(store.index), &put), Outcome::Put);
    }
    move |asked| store.act(asked)
}

fn lagging(better: Option<LeaderHint>) -> WireError {
    WireError::Lagging(Box::new(Lag {
        reason: "it knows no leader".into(),
        entries: 7,
        behind_ms: None,
        better,
    }))
}

#[test]
fn gets_come_back_in_the_order_in_which_they_were_asked() {
    // All have arrived before the first is answered, and the last is answered first.
    let (mut answers, mut held) = (numbers(), Vec::new());
    let server = Fake::start(1, move |asked| {
        held.push(asked.clone());
        if held.len() < 10 {
            return Act::Nothing;
        }
        let mut all = bytes::BytesMut::new();
        for asked in held.iter().rev() {
            if let Act::Send(bytes) = answers(asked) {
                all.extend_from_slice(&bytes);
            }
        }
        Act::Send(all)
    });
    let mut client = client(&[&server]);
    assert!(client.wait_get(soon()).is_none());
    submit(&mut client, 0..10);
    for key in 0..10 {
        assert_eq!(value(client.wait_get(soon())), Some(vec![key]));
    }
    assert!(client.wait_get(soon()).is_none());
}

#[test]
fn gets_in_flight_are_bounded() {
    let server = Fake::start(1, numbers());
    let mut client = client(&[&server]);
    let most = u8::try_from(GETS_IN_FLIGHT_MAX).unwrap();
    submit(&mut client, 0..most);
    let in_flight = GETS_IN_FLIGHT_MAX;
    let full = Err(Error::Full { in_flight });
    assert_eq!(client.submit_get(b"k", LINEARIZABLE), full);
    assert_eq!(value(client.wait_get(soon())), Some(vec![0]));
    submit(&mut client, most..most + 1);
    assert!(matches!(
        client.submit_get(b"", LINEARIZABLE),
        Err(Error::Refused { .. } | Error::Full { .. })
    ));
    for key in 1..=most {
        assert_eq!(value(client.wait_get(soon())), Some(vec![key]));
    }
}

#[test]
fn gets_go_on_after_a_lost_connection_and_a_redirect() {
    let leader = Fake::start(1, numbers());
    let hint = leader.hint();
    let mut answers = numbers();
    let follower = Fake::start(2, move |asked| match &asked.what {
        _ if asked.connection == 0 => Act::Close,
        What::Get(_, key) if key[1] < 3 => answers(asked),
        _ => asked.error(WireError::NotLeader {
            leader: hint.clone(),
        }),
    });
    let mut client = client(&[&follower]);
    submit(&mut client, 0..10);
    for key in 0..10 {
        assert_eq!(value(client.wait_get(soon())), Some(vec![key]));
    }
    assert_eq!(leader.asked().len(), 7, "only what was not answered");
}

#[test]
fn a_write_that_is_queued_goes_first_and_its_result_waits() {
    let server = Store::default().serve();
    let mut client = client(&[&server]);
    client.submit(PUT).unwrap();
    client.submit_get(b"k", LINEARIZABLE).unwrap();
    assert_eq!(value(client.wait_get(soon())), Some(b"v".to_vec()));
    client.wait(soon()).unwrap().unwrap();
}

#[test]
fn at_the_deadline_all_gets_end() {
    let mut answers = numbers();
    let server = Fake::start(1, move |asked| match &asked.what {
        What::Get(_, key) if key[1] == 0 => answers(asked),
        _ => Act::Nothing,
    });
    let mut client = client(&[&server]);
    submit(&mut client, 0..3);
    assert_eq!(value(client.wait_get(briefly())), Some(vec![0]));
    for _ in 1..3 {
        let error = client.wait_get(briefly()).unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotApplied {
                    why: Why::Deadline,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    assert_eq!(client.gets_in_flight(), 0);
}

#[test]
fn what_was_answered_is_kept_and_not_asked_again() {
    let mut answers = numbers();
    let server = Fake::start(1, move |asked| match (&asked.what, asked.connection) {
        (What::Get(_, key), 0) if key[1] == 1 => answers(asked),
        (What::Get(_, key), 0) if key[1] == 3 => Act::Close,
        (_, 0) => Act::Nothing,
        (What::Get(_, key), _) if key[1] == 2 => Act::Nothing,
        _ => answers(asked),
    });
    let mut client = client(&[&server]);
    submit(&mut client, 0..4);
    assert_eq!(value(client.wait_get(soon())), Some(vec![0]));
    assert_eq!(value(client.wait_get(soon())), Some(vec![1]));
    submit(&mut client, 4..5);
    client.wait_get(briefly()).unwrap().unwrap_err();
    // They came while the one before them was awaited.
    assert_eq!(value(client.wait_get(soon())), Some(vec![3]));
    assert_eq!(value(client.wait_get(soon())), Some(vec![4]));
    let asked = server.asked().into_iter().filter(|a| a.connection == 1);
    let keys: Vec<_> = asked
        .map(|asked| match asked.what {
            What::Get(_, key) => key[1],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, [0, 2, 3, 4]);
}

#[test]
fn a_get_that_is_refused_is_told_with_its_place() {
    let error = WireError::DiskFull { hard: true };
    let server = Fake::start(1, always(error.clone()));
    let mut client = client(&[&server]);
    submit(&mut client, 0..2);
    let place = server.addr.clone();
    let refused = client.wait_get(soon()).unwrap();
    assert_eq!(refused, Err(Error::Refused { error, place }));
}

#[test]
fn a_node_that_lags_names_a_better_one() {
    let better = Fake::start(1, numbers());
    let lags = Fake::start(2, always(lagging(Some(better.hint()))));
    let stale = Consistency::Stale;
    let found = client(&[&lags]).get(b"k\x05", stale, soon()).unwrap();
    assert_eq!(found.unwrap().value, [5]);
    // Without a name there are the other endpoints.
    let lost = Fake::start(3, always(lagging(None)));
    let found = client(&[&lost, &better])
        .get(b"k\x05", stale, soon())
        .unwrap();
    assert_eq!(found.unwrap().value, [5]);
    // And without others it is told why.
    let error = client(&[&lost]).get(b"k", stale, briefly()).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::NotApplied {
                why: Why::Server(WireError::Lagging(lag)),
                ..
            } if lag.entries == 7
        ),
        "{error:?}"
    );
}

#[test]
fn flags_say_how_fresh_a_read_must_be() {
    let server = Store::default().serve();
    let at = &server.addr;
    let asked = |flags: &[&str]| {
        run(at, &[&["get", "k"], flags].concat()).silently(1, "");
        match &server.asked().last().unwrap().what {
            What::Get(freshness, _) => *freshness,
            other => panic!("{other:?}"),
        }
    };
    let stale = ["--consistency", "stale"];
    assert_eq!(asked(&[]), LINEARIZABLE.into());
    assert_eq!(asked(&["--consistency", "linear"]), LINEARIZABLE.into());
    let anywhere = Consistency::LinearizableAnywhere;
    assert_eq!(asked(&["--any-node"]), anywhere.into());
    assert_eq!(asked(&stale), Consistency::Stale.into());
    assert_eq!(
        asked(&[&stale[..], &["--max-lag", "1500ms", "--any-node"]].concat()),
        Consistency::Bounded { max_lag_ms: 1500 }.into()
    );
    let after = Index(4711);
    assert_eq!(
        asked(&["--any-node", "--after", "4711"]),
        Freshness {
            consistency: anywhere,
            after
        }
    );
    assert_eq!(
        asked(&[&stale[..], &["--after=4711"]].concat()),
        Freshness {
            consistency: Consistency::Stale,
            after
        }
    );
    let before = server.asked().len();
    for wrong in [
        &["--max-lag", "1s"][..],
        &["--max-lag", "0s", "--consistency", "stale"],
        &["--after", "0"],
        &["--after", "x"],
        &["--consistency", "eventual"],
    ] {
        let done = run(at, &[&["get", "k"], wrong].concat());
        assert_eq!((done.code, done.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
    assert_eq!(server.asked().len(), before, "nothing was sent");
}

#[test]
fn a_node_that_lags_is_an_error_of_four_lines() {
    let server = Fake::start(1, always(lagging(None)));
    let line = ["-t", SOON, "get", "k", "--consistency", "stale"];
    let done = run(&server.addr, &line);
    assert_eq!(done.code, Some(4));
    let told = done.stderr;
    assert!(
        told.contains("it knows no leader, 7 entries to apply"),
        "{told}"
    );
    assert!(told.lines().count() <= 4, "{told}");
}
