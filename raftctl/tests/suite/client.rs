//! One write at a time: where it goes, what it is called, what becomes of it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftctl::client::{Client, Command, Deadline, Error, Options, Outcome, RequestId, Why};
use wire::client::Reply;
use wire::error::Error as WireError;
use wire::types::{ClusterId, Epoch, Index, Term};

use super::fake::{Act, Fake, Greeting, What};
use super::run::within;
use super::script::{always, obliging};

pub(crate) const PUT: Command<'static> = Command::Put {
    key: b"k",
    value: b"v",
};

pub(crate) fn client(servers: &[&Fake]) -> Client {
    Client::new(Options::new(
        servers.iter().map(|server| server.addr.clone()).collect(),
    ))
}

/// Long enough for a loaded machine.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(crate) fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(400))
}

/// A port that refuses connections.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn id_of(server: &Fake, number: usize) -> RequestId {
    let asked = server.asked();
    let write = asked[number].write();
    RequestId {
        session: write.session,
        seq: write.seq,
    }
}

#[test]
fn a_write_is_named_after_the_welcome_and_counted() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    for n in 1..=3 {
        let written = client.write(PUT, soon()).unwrap();
        assert_eq!(written.revision, Index(40 + n));
        assert_eq!(written.outcome, Outcome::Put);
    }
    let asked = server.asked();
    let first = asked[0].write();
    assert_eq!(first.session.epoch, Epoch(9));
    assert_eq!(first.session.born, Index(40));
    for (number, asked) in asked.iter().enumerate() {
        let write = asked.write();
        let seq = number as u64 + 1;
        assert_eq!(
            (write.session, write.seq, write.floor),
            (first.session, seq, seq)
        );
        assert!(
            (1..20_000).contains(&write.deadline_ms),
            "{}",
            write.deadline_ms
        );
    }
}

#[test]
fn refused_ports_fail_at_once_with_a_cause_for_each() {
    let endpoints = vec![closed_port(), closed_port()];
    let result = within(Duration::from_millis(100), || {
        Client::new(Options::new(endpoints.clone())).write(PUT, soon())
    });
    let Err(Error::Unreachable { causes }) = result else {
        panic!("{result:?}");
    };
    let mut named: Vec<_> = causes.iter().map(|cause| cause.endpoint.clone()).collect();
    named.sort();
    let mut given = endpoints;
    given.sort();
    assert_eq!(named, given);
    assert!(
        causes
            .iter()
            .all(|cause| cause.text == "connection refused"),
        "{causes:?}"
    );
}

#[test]
fn an_endpoint_without_hello_does_not_keep_from_the_next() {
    let silent = Fake::start(1, obliging());
    silent.greet(|greeting, _| *greeting = Greeting::Silence);
    let server = Fake::start(2, obliging());
    let mut client = client(&[&silent, &server]);
    client.write(PUT, soon()).unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_hello_that_never_comes_is_unreachable_at_the_deadline() {
    let silent = Fake::start(1, obliging());
    silent.greet(|greeting, _| *greeting = Greeting::Silence);
    let result = client(&[&silent]).write(PUT, briefly());
    let Err(Error::Unreachable { causes }) = result else {
        panic!("{result:?}");
    };
    assert!(causes[0].timed_out, "{causes:?}");
}

#[test]
fn a_refused_hello_is_told() {
    let full = Fake::start(1, obliging());
    full.greet(|greeting, _| {
        *greeting = Greeting::Refuse(WireError::TooManyConnections { limit: 5 });
    });
    let result = client(&[&full]).write(PUT, soon());
    let Err(Error::Unreachable { causes }) = result else {
        panic!("{result:?}");
    };
    let expected = WireError::TooManyConnections { limit: 5 }.to_string();
    assert_eq!(causes[0].text, expected);
}

#[test]
fn the_welcome_leads_straight_to_the_leader() {
    let leader = Fake::start(1, obliging());
    let follower = Fake::start(2, always(WireError::NoLeader));
    follower.name_leader(&leader, 1);
    client(&[&follower]).write(PUT, soon()).unwrap();
    assert_eq!(follower.asked(), []);
    assert_eq!(leader.asked().len(), 1);
}

#[test]
fn a_dead_leader_in_the_welcome_is_passed_over() {
    let mut hint = Fake::start(7, obliging()).hint();
    hint.client_addr = closed_port();
    let server = Fake::start(2, obliging());
    server.greet(|_, welcome| welcome.leader = Some(hint));
    client(&[&server]).write(PUT, soon()).unwrap();
}

#[test]
fn a_redirect_is_followed_with_the_same_write() {
    let leader = Fake::start(1, obliging());
    let hint = leader.hint();
    let follower = Fake::start(2, move |asked| {
        asked.error(WireError::NotLeader {
            leader: hint.clone(),
        })
    });
    let mut client = client(&[&follower]);
    client.write(PUT, soon()).unwrap();
    let (refused, done) = (follower.asked(), leader.asked());
    assert_eq!((refused.len(), done.len()), (1, 1));
    let (mut refused, done) = (refused[0].write().clone(), done[0].write());
    refused.deadline_ms = done.deadline_ms;
    assert_eq!(refused, *done);
    // The next write goes to the leader at once.
    client.write(PUT, soon()).unwrap();
    assert_eq!(follower.asked().len(), 1);
}

#[test]
fn a_later_hello_names_cluster_and_history() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => Act::Close,
        _ => asked.done(41, Outcome::Put),
    });
    client(&[&server]).write(PUT, soon()).unwrap();
    let hellos = server.hellos();
    assert_eq!((hellos[0].cluster, hellos[0].epoch), (None, None));
    assert_eq!(hellos[1].cluster, Some(ClusterId(7)));
    assert_eq!(hellos[1].epoch, Some(Epoch(9)));
}

#[test]
fn a_lost_connection_is_made_again_and_the_write_keeps_its_name() {
    let server = Fake::start(1, |asked| match asked.connection {
        0..3 => Act::Close,
        _ => asked.done(41, Outcome::Put),
    });
    // Another welcome must not rename the write.
    let written = client(&[&server]).write(PUT, soon()).unwrap();
    assert_eq!(written.revision, Index(41));
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    for retry in &asked[1..] {
        let (first, retry) = (asked[0].write(), retry.write());
        assert_eq!((first.session, first.seq), (retry.session, retry.seq));
        assert_eq!((first.floor, &first.body), (retry.floor, &retry.body));
    }
}

#[test]
fn a_write_without_verdict_is_unknown_and_the_next_raises_the_floor() {
    let server = Fake::start(1, |asked| match asked.write().seq {
        1 => Act::Nothing,
        _ => asked.done(41, Outcome::Put),
    });
    let mut client = client(&[&server]);
    let result = client.write(PUT, briefly());
    let Err(Error::Unknown { request, why, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(request, id_of(&server, 0));
    assert_eq!(why, Why::Deadline);
    client.write(PUT, soon()).unwrap();
    let asked = server.asked();
    let next = asked[1].write();
    assert_eq!(
        (next.session, next.seq, next.floor),
        (request.session, 2, 2)
    );
}

#[test]
fn a_write_that_nobody_took_is_certainly_not_applied() {
    let server = Fake::start(1, always(WireError::NoLeader));
    let begun = Instant::now();
    let result = client(&[&server]).write(PUT, briefly());
    let expected = Error::NotApplied {
        why: Why::Server(WireError::NoLeader),
        place: server.addr.clone(),
    };
    assert_eq!(result, Err(expected));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(server.asked().len() > 1, "it was tried again");
}

#[test]
fn an_unknown_attempt_stays_unknown_whatever_the_next_one_says() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => Act::Close,
        _ => asked.error(WireError::NoLeader),
    });
    let result = client(&[&server]).write(PUT, briefly());
    let Err(Error::Unknown { request, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(request, id_of(&server, 0));
}

#[test]
fn a_lost_leadership_is_asked_again_under_the_same_name() {
    let mut times = 0;
    let server = Fake::start(1, move |asked| {
        times += 1;
        match times {
            1 => asked.error(WireError::OutcomeUnknown),
            _ => asked.done(44, Outcome::Put),
        }
    });
    client(&[&server]).write(PUT, soon()).unwrap();
    assert_eq!(id_of(&server, 0), id_of(&server, 1));
}

#[test]
fn an_overloaded_server_gets_the_time_that_it_asks_for() {
    let mut times = 0;
    let server = Fake::start(1, move |asked| {
        times += 1;
        match times {
            1 => asked.error(WireError::Overloaded {
                retry_after_ms: 120,
            }),
            _ => asked.done(41, Outcome::Put),
        }
    });
    let begun = Instant::now();
    client(&[&server]).write(PUT, soon()).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(120));
}

#[test]
fn a_final_error_is_refused_at_once() {
    for error in [
        WireError::DiskFull { hard: true },
        WireError::BornInFuture,
        WireError::Stale,
    ] {
        let server = Fake::start(1, always(error.clone()));
        let result = client(&[&server]).write(PUT, soon());
        let place = server.addr.clone();
        assert_eq!(result, Err(Error::Refused { error, place }));
    }
}

#[test]
fn an_expired_session_is_replaced_if_the_write_is_certainly_not_applied() {
    let mut times = 0;
    let server = Fake::start(1, move |asked| {
        times += 1;
        match times {
            1 => asked.error(WireError::SessionExpired),
            _ => asked.done(41, Outcome::Put),
        }
    });
    client(&[&server]).write(PUT, soon()).unwrap();
    assert_ne!(id_of(&server, 0).session, id_of(&server, 1).session);
    assert_eq!(id_of(&server, 1).seq, 1);
}

#[test]
fn an_expired_session_on_a_retry_leaves_the_outcome_unknown() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => Act::Close,
        _ => asked.error(WireError::SessionExpired),
    });
    let result = client(&[&server]).write(PUT, soon());
    let Err(Error::Unknown { request, why, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(request, id_of(&server, 0));
    assert_eq!(why, Why::Server(WireError::SessionExpired));
}

#[test]
fn a_resumed_write_is_the_same_write() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => Act::Nothing,
        _ => asked.done(41, Outcome::Put),
    });
    let result = client(&[&server]).write(PUT, briefly());
    let Err(Error::Unknown { request, .. }) = result else {
        panic!("{result:?}");
    };
    let text = request.to_string();
    let mut later = client(&[&server]);
    let written = later.resume(text.parse().unwrap(), PUT, soon()).unwrap();
    assert_eq!(written.revision, Index(41));
    let asked = server.asked();
    assert_eq!(asked[0].write().body, asked[1].write().body);
    // The client's own session is another one.
    later.write(PUT, soon()).unwrap();
    assert_ne!(id_of(&server, 2).session, request.session);
}

#[test]
fn a_resumed_write_tells_where_it_was_asked() {
    let request: RequestId = format!("{}-3", "1".repeat(48)).parse().unwrap();
    let mut times = 0;
    let first = Fake::start(1, move |asked| {
        times += 1;
        match times {
            1 => asked.done(41, Outcome::Put),
            _ => asked.error(WireError::IdReused),
        }
    });
    let mut client = client(&[&first]);
    client.write(PUT, soon()).unwrap();
    let (error, place) = (WireError::IdReused, first.addr.clone());
    let reused = Err(Error::Refused { error, place });
    assert_eq!(client.resume(request, PUT, soon()), reused);
}

#[test]
fn a_resumed_write_is_never_called_not_applied() {
    let request: RequestId = format!("{}-3", "0123456789abcdef".repeat(3))
        .parse()
        .unwrap();
    let outcomes = [
        (WireError::SessionExpired, true),
        (WireError::NoLeader, true),
        (WireError::Stale, true),
        (WireError::IdReused, false),
    ];
    for (error, unknown) in outcomes {
        let server = Fake::start(1, always(error));
        let result = client(&[&server]).resume(request, PUT, briefly());
        match result {
            Err(Error::Unknown { request: named, .. }) if unknown => assert_eq!(named, request),
            Err(Error::Refused { .. }) if !unknown => {}
            other => panic!("{other:?}"),
        }
    }
    let mut nobody = Client::new(Options::new(vec![closed_port()]));
    let result = nobody.resume(request, PUT, soon());
    assert!(matches!(result, Err(Error::Unknown { .. })), "{result:?}");
}

#[test]
fn a_request_id_is_text_and_back() {
    let text = format!("{}-9223372036854775807", "00000000000000ff".repeat(3));
    let request: RequestId = text.parse().unwrap();
    assert_eq!(request.session.nonce, 255);
    assert_eq!(request.to_string(), text);
    let hex = "0".repeat(48);
    let bad = [
        "",
        "-",
        "1-1",
        &hex,
        &format!("{hex}-0"),
        &format!("{hex}-+1"),
        // No write has such a number, and none could be sent.
        &format!("{hex}-9223372036854775808"),
    ];
    for text in bad {
        assert!(text.parse::<RequestId>().is_err(), "{text}");
    }
    assert!(
        format!("{}-1", "\u{e4}".repeat(24))
            .parse::<RequestId>()
            .is_err()
    );
}

#[test]
fn a_hanging_leader_is_left_when_another_member_knows_a_new_one() {
    let hanging = Fake::start(1, |_| Act::Nothing);
    let fresh = Fake::start(2, obliging());
    hanging.name_leader(&hanging, 1);
    // At first the other one knows nothing newer.
    fresh.name_leader(&hanging, 1);
    let hint = fresh.hint();
    let welcome_changes = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&welcome_changes);
    let watched = std::thread::scope(|scope| {
        let writer = scope.spawn(|| client(&[&hanging, &fresh]).write(PUT, soon()));
        while hanging.asked().is_empty() {
            std::thread::yield_now();
        }
        fresh.greet(|_, welcome| {
            welcome.leader = Some(hint);
            welcome.term.0 = 2;
        });
        seen.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    watched.unwrap();
    assert_eq!(id_of(&hanging, 0), id_of(&fresh, 0));
}

#[test]
fn the_cancel_flag_ends_a_call() {
    let cancel = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&cancel);
    let server = Fake::start(1, move |_| {
        raised.store(true, Ordering::Relaxed);
        Act::Nothing
    });
    let mut options = Options::new(vec![server.addr.clone()]);
    options.cancel = Some(cancel);
    let result = Client::new(options).write(PUT, soon());
    assert!(
        matches!(
            result,
            Err(Error::Unknown {
                why: Why::Cancelled,
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn bytes_that_are_no_frame_end_the_connection_only() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => Act::Send(BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])),
        _ => asked.done(41, Outcome::Put),
    });
    client(&[&server]).write(PUT, soon()).unwrap();
    assert_eq!(id_of(&server, 0), id_of(&server, 1));
}

/// Rules B5: the second link tells it at once, and is asked again while the silence lasts.
#[test]
fn a_hanging_leader_is_left_when_the_second_member_is_told_of_a_new_one() {
    let hanging = Fake::start(1, |_| Act::Nothing);
    hanging.name_leader(&hanging, 5);
    let fresh = Fake::start(3, obliging());
    let (old, new) = (hanging.hint(), fresh.hint());
    let mut asked_before = false;
    let second = Fake::start(2, move |asked| {
        assert_eq!(asked.what, What::WatchLeader);
        let mut out = BytesMut::new();
        let leader = Some(old.clone());
        let term = Term(5);
        Reply::Moved { term, leader }.encode(asked.frame_id, &mut out);
        if std::mem::replace(&mut asked_before, true) {
            let leader = Some(new.clone());
            let term = Term(6);
            Reply::Moved { term, leader }.encode(0, &mut out);
        }
        Act::Send(out)
    });
    second.name_leader(&hanging, 5);
    let mut client = client(&[&hanging, &second]);
    let begun = Instant::now();
    client.write(PUT, soon()).unwrap();
    // A tenth of a second of silence, then two, and then it is told.
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(290) && took < Duration::from_millis(1_500),
        "{took:?}"
    );
    assert_eq!((hanging.asked().len(), second.asked().len()), (1, 2));
    assert_eq!(id_of(&hanging, 0), id_of(&fresh, 0));
    // It is kept, and asked again only when an answer is late.
    client.write(PUT, soon()).unwrap();
    assert_eq!(second.asked().len(), 2);
}

#[test]
fn a_second_member_that_hangs_as_well_is_replaced() {
    let hanging = Fake::start(1, |_| Act::Nothing);
    hanging.name_leader(&hanging, 5);
    let mute = Fake::start(2, |_| Act::Nothing);
    mute.name_leader(&hanging, 5);
    let fresh = Fake::start(4, obliging());
    let leader = Some(fresh.hint());
    let told = Fake::start(3, move |asked| {
        let (term, leader) = (Term(6), leader.clone());
        asked.reply(&Reply::Moved { term, leader })
    });
    told.name_leader(&hanging, 5);
    let mut client = client(&[&hanging, &mute, &told]);
    client.write(PUT, soon()).unwrap();
    assert_eq!(hanging.asked().len(), 1);
    assert_eq!(id_of(&hanging, 0), id_of(&fresh, 0));
}

/// A member that does not hear the leader stays in its term (PreVote), and has requests wait.
#[test]
fn a_member_that_knows_no_leader_is_left_for_the_leader_of_the_same_term() {
    let lonely = Fake::start(1, |_| Act::Nothing);
    let leader = Fake::start(2, obliging());
    leader.name_leader(&leader, 1);
    // Which one is asked first is left to chance.
    while lonely.asked().is_empty() {
        client(&[&lonely, &leader]).write(PUT, soon()).unwrap();
    }
}

#[test]
fn a_member_that_knows_no_leader_is_left_when_the_leader_of_its_term_is_told() {
    let lonely = Fake::start(1, |_| Act::Nothing);
    let leader = Fake::start(3, obliging());
    let hint = leader.hint();
    let told = Fake::start(2, move |asked| {
        let (term, leader) = (Term(1), Some(hint.clone()));
        match asked.what {
            What::WatchLeader => asked.reply(&Reply::Moved { term, leader }),
            _ => asked.error(WireError::NoLeader),
        }
    });
    client(&[&lonely, &told]).write(PUT, soon()).unwrap();
    assert_eq!(id_of(&lonely, 0), id_of(&leader, 0));
}
