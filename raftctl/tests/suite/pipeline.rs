//! Several writes in flight in one session.

use std::time::Duration;

use raftctl::client::{Command, Deadline, Error, IN_FLIGHT_MAX, Outcome, RequestId, Why};
use wire::error::Error as WireError;
use wire::types::Index;

use super::client::{PUT, briefly, client, soon};
use super::fake::{Act, Asked, Fake};
use super::script::{always, obliging};

fn seqs(asked: &[Asked]) -> Vec<u64> {
    asked.iter().map(|asked| asked.write().seq).collect()
}

/// A server's part of one session: takes the next write, refuses others.
struct Sequence {
    last: u64,
    /// Refuses this one once.
    refuse: Option<(u64, WireError)>,
}

impl Sequence {
    fn act(&mut self, asked: &Asked) -> Act {
        let write = asked.write();
        let expected = write.floor.max(self.last + 1);
        if self
            .refuse
            .as_ref()
            .is_some_and(|(seq, _)| *seq == write.seq)
        {
            let (_, error) = self.refuse.take().unwrap();
            return asked.error(error);
        }
        if write.seq == expected {
            self.last = write.seq;
        } else if write.seq > self.last {
            return asked.error(WireError::OutOfOrder { expected });
        }
        asked.done(100 + write.seq, Outcome::Put)
    }
}

#[test]
fn results_come_in_the_order_of_submission() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    for _ in 0..100 {
        client.submit(PUT).unwrap();
    }
    for n in 1..=100 {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(40 + n));
    }
    assert_eq!(client.wait(soon()), None);
    assert!(server.asked().iter().all(|asked| asked.write().floor == 1));
}

#[test]
fn no_more_are_taken_than_allowed() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    for _ in 0..IN_FLIGHT_MAX {
        client.submit(PUT).unwrap();
    }
    let in_flight = IN_FLIGHT_MAX;
    assert_eq!(client.submit(PUT), Err(Error::Full { in_flight }));
    client.wait(soon()).unwrap().unwrap();
    client.submit(PUT).unwrap();
    let value = vec![0; 1024 * 1024];
    let large = Command::Put {
        key: b"k",
        value: &value,
    };
    while client.wait(soon()).is_some() {}
    // What is settled gives its room back.
    for _ in 0..3 {
        let taken = (0..100)
            .take_while(|_| client.submit(large).is_ok())
            .count();
        assert_eq!(taken, 7, "eight would not fit 8 MiB with their names");
        while let Some(result) = client.wait(soon()) {
            result.unwrap();
        }
    }
}

#[test]
fn a_write_that_was_not_taken_is_sent_again_before_those_behind_it() {
    let mut sequence = Sequence {
        last: 0,
        refuse: Some((2, WireError::Overloaded { retry_after_ms: 1 })),
    };
    let server = Fake::start(1, move |asked| sequence.act(asked));
    let mut client = client(&[&server]);
    for _ in 0..4 {
        client.submit(PUT).unwrap();
    }
    for n in 1..=4 {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(100 + n));
    }
    assert_eq!(seqs(&server.asked()), [1, 2, 3, 4, 2, 3, 4]);
}

#[test]
fn what_keeps_the_first_write_back_is_told_of_all_and_not_that_it_is_missing() {
    let server = Fake::start(1, |asked| match asked.write().seq {
        1 => asked.error(WireError::Overloaded { retry_after_ms: 1 }),
        _ => asked.error(WireError::OutOfOrder { expected: 1 }),
    });
    let mut client = client(&[&server]);
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    for _ in 0..3 {
        let expected = Error::NotApplied {
            why: Why::Server(WireError::Overloaded { retry_after_ms: 1 }),
            place: server.addr.clone(),
        };
        assert_eq!(client.wait(briefly()), Some(Err(expected)));
    }
}

#[test]
fn after_a_lost_connection_all_without_verdict_are_sent_again() {
    let mut answered = 0;
    let server = Fake::start(1, move |asked| {
        let seq = asked.write().seq;
        if asked.connection == 0 {
            answered += 1;
            return match answered {
                1 => asked.done(101, Outcome::Put),
                2..5 => Act::Nothing,
                _ => Act::Close,
            };
        }
        asked.done(100 + seq, Outcome::Put)
    });
    let mut client = client(&[&server]);
    for _ in 0..5 {
        client.submit(PUT).unwrap();
    }
    for n in 1..=5 {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(100 + n));
    }
    assert_eq!(seqs(&server.asked()), [1, 2, 3, 4, 5, 2, 3, 4, 5]);
}

#[test]
fn a_refused_write_fails_those_behind_it_for_certain() {
    let mut sequence = Sequence {
        last: 0,
        refuse: Some((2, WireError::DiskFull { hard: true })),
    };
    let server = Fake::start(1, move |asked| sequence.act(asked));
    let mut client = client(&[&server]);
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    client.wait(soon()).unwrap().unwrap();
    let refused = client.wait(soon()).unwrap();
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    let behind = client.wait(soon()).unwrap();
    let Err(Error::NotApplied { why, .. }) = behind else {
        panic!("{behind:?}");
    };
    assert!(matches!(why, Why::Behind(_)), "{why:?}");
    // The session goes on, past the ones that failed.
    client.write(PUT, soon()).unwrap();
    let asked = server.asked();
    let last = asked.last().unwrap().write();
    assert_eq!((last.seq, last.floor), (4, 4));
    assert_eq!(last.session, asked[0].write().session);
}

#[test]
fn a_write_that_comes_before_a_refusal_is_told_fails_behind_it() {
    // The second is refused before the first is answered, and those two come together.
    let mut sequence = Sequence {
        last: 0,
        refuse: Some((2, WireError::DiskFull { hard: true })),
    };
    let mut held = None;
    let server = Fake::start(1, move |asked| {
        let act = sequence.act(asked);
        match (asked.write().seq, act, &mut held) {
            (1, Act::Send(first), None) => {
                held = Some(first);
                Act::Nothing
            }
            (2, Act::Send(mut refusal), Some(first)) => {
                refusal.extend_from_slice(first);
                Act::Send(refusal)
            }
            (_, act, _) => act,
        }
    });
    let mut client = client(&[&server]);
    let named = client.open_session(soon()).unwrap();
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    client.wait(soon()).unwrap().unwrap();
    client.submit(PUT).unwrap();
    let refused = client.wait(soon()).unwrap();
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    while let Some(behind) = client.wait(soon()) {
        let Err(Error::NotApplied { why, .. }) = behind else {
            panic!("{behind:?}");
        };
        assert_eq!(why, Why::Behind(RequestId { seq: 2, ..named }));
    }
    assert_eq!(seqs(&server.asked()), [1, 2, 3], "nothing more was sent");
    // Whoever knows of it goes on in its place.
    client.continue_session(RequestId { seq: 2, ..named });
    client.write(PUT, soon()).unwrap();
    let asked = server.asked();
    let last = asked.last().unwrap().write();
    assert_eq!((last.seq, last.floor), (2, 2));
}

#[test]
fn a_session_that_expired_takes_all_its_writes_along() {
    let mut forgotten = None;
    let server = Fake::start(1, move |asked| {
        let write = asked.write();
        let forgotten = forgotten.get_or_insert(write.session);
        if *forgotten == write.session {
            return asked.error(WireError::SessionExpired);
        }
        asked.done(100 + write.seq, Outcome::Put)
    });
    let mut client = client(&[&server]);
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    for n in 1..=3 {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(100 + n));
    }
    assert_eq!(seqs(&server.asked()), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_write_that_the_server_expects_and_the_client_settled_makes_a_new_session() {
    // The server lost what it knew of the session, for instance with a restored backup.
    let mut old = None;
    let server = Fake::start(1, move |asked| {
        let write = asked.write();
        let old = old.get_or_insert(write.session);
        if *old == write.session && write.seq == 2 {
            return asked.error(WireError::OutOfOrder { expected: 1 });
        }
        asked.done(100 + write.seq, Outcome::Put)
    });
    let mut client = client(&[&server]);
    client.write(PUT, soon()).unwrap();
    client.write(PUT, soon()).unwrap();
    assert_eq!(seqs(&server.asked()), [1, 2, 1]);
}

#[test]
fn no_floor_is_above_a_result_that_was_not_taken() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    client.wait(soon()).unwrap().unwrap();
    client.submit(PUT).unwrap();
    for _ in 0..3 {
        client.wait(soon()).unwrap().unwrap();
    }
    client.write(PUT, soon()).unwrap();
    let floors: Vec<_> = server.asked().iter().map(|a| a.write().floor).collect();
    assert_eq!(floors, [1, 1, 1, 2, 5]);
}

#[test]
fn a_session_that_was_named_first_goes_on_in_another_process() {
    let mut sequence = Sequence {
        last: 0,
        refuse: None,
    };
    let server = Fake::start(1, move |asked| sequence.act(asked));
    let mut first = client(&[&server]);
    let named = first.open_session(soon()).unwrap();
    assert_eq!(named.seq, 1);
    assert!(server.asked().is_empty(), "nothing is sent yet");
    for _ in 0..3 {
        first.submit(PUT).unwrap();
    }
    for _ in 0..3 {
        first.wait(soon()).unwrap().unwrap();
    }
    drop(first);
    let mut second = client(&[&server]);
    second.continue_session(RequestId { seq: 2, ..named });
    second.resubmit(PUT).unwrap();
    second.resubmit(PUT).unwrap();
    second.submit(PUT).unwrap();
    for n in 2..=4 {
        let written = second.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(100 + n));
    }
    let mut asked = server.asked();
    assert!(asked.iter().all(|a| a.write().session == named.session));
    // What the first one sent may have come in between.
    asked.retain(|a| a.connection == 1);
    assert_eq!(seqs(&asked), [2, 3, 4]);
    assert!(asked.iter().all(|a| a.write().floor == 2));
}

#[test]
fn a_session_that_goes_on_is_not_replaced_by_another() {
    let server = Fake::start(1, always(WireError::SessionExpired));
    let mut client = client(&[&server]);
    let named = client.open_session(soon()).unwrap();
    client.continue_session(RequestId { seq: 7, ..named });
    client.resubmit(PUT).unwrap();
    client.submit(PUT).unwrap();
    let unknown = client.wait(soon()).unwrap();
    let Err(Error::Unknown { request, why, .. }) = unknown else {
        panic!("{unknown:?}");
    };
    assert_eq!(request, RequestId { seq: 7, ..named });
    assert_eq!(why, Why::Server(WireError::SessionExpired));
    let behind = client.wait(soon()).unwrap();
    assert!(
        matches!(behind, Err(Error::NotApplied { .. })),
        "{behind:?}"
    );
    // Neither if nothing of it can have been done.
    client.continue_session(RequestId { seq: 9, ..named });
    let result = client.write(PUT, soon());
    let expected = Error::NotApplied {
        why: Why::Server(WireError::SessionExpired),
        place: server.addr.clone(),
    };
    assert_eq!(result, Err(expected));
    let asked = server.asked();
    assert!(asked.iter().all(|a| a.write().session == named.session));
}

#[test]
fn no_floor_in_a_session_that_goes_on_is_above_what_was_open_at_its_submission() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    let named = client.open_session(soon()).unwrap();
    client.submit(PUT).unwrap();
    client.submit(PUT).unwrap();
    client.wait(soon()).unwrap().unwrap();
    // The second may be settled by now: who wrote down that it is not must still be able to ask.
    client.submit(PUT).unwrap();
    while client.wait(soon()).is_some() {}
    let floors: Vec<_> = server.asked().iter().map(|a| a.write().floor).collect();
    assert_eq!(floors, [1, 1, 2]);
    // One that another process may have sent has its name before it is sent.
    client.continue_session(RequestId { seq: 7, ..named });
    client.resubmit(PUT).unwrap();
    let unknown = client.wait(Deadline::after(Duration::ZERO)).unwrap();
    let Err(Error::Unknown { request, .. }) = unknown else {
        panic!("{unknown:?}");
    };
    assert_eq!(request, RequestId { seq: 7, ..named });
}
