//! Servers that hang, hang up, send in circles or answer late: how a call goes on, and how it ends.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftctl::client::{
    Client, Command, Consistency, Deadline, Error, Options, Outcome, ScanMode, Walk, Way, Why,
};
use wire::client::Reply;
use wire::error::{Class, Error as WireError};
use wire::frame::{self, Kind};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{Index, Term};

use super::client::{PUT, briefly, client, closed_port, soon};
use super::fake::{Act, Asked, Fake, Greeting, What, thinks, welcome};
use super::script::{Store, always, obliging};

const LINEARIZABLE: Consistency = Consistency::Linearizable;
const SECOND: Duration = Duration::from_secs(1);

/// Says no hello.
pub(crate) fn mute() -> Fake {
    let server = Fake::start(1, obliging());
    server.greet(|greeting, _| *greeting = Greeting::Silence);
    server
}

/// What is sent on it would get no verdict.
#[test]
fn a_connection_that_ended_between_two_calls_is_not_asked() {
    let certain = |last_words: &BytesMut| {
        let last_words = last_words.clone();
        let server = Fake::start(1, move |asked| match asked.what {
            What::Get(..) => {
                let mut out = BytesMut::new();
                let missing = Reply::Missing { index: Index(1) };
                missing.encode(asked.frame_id, &mut out);
                Act::Leave(out, last_words.clone())
            }
            _ => asked.error(WireError::DiskFull { hard: true }),
        });
        let mut client = client(&[&server]);
        client.get(b"k", LINEARIZABLE, soon()).unwrap();
        thinks(Duration::from_millis(20));
        matches!(client.write(PUT, soon()), Err(Error::Refused { .. })) && server.asked().len() == 2
    };
    let mut why = BytesMut::new();
    WireError::TooManyConnections { limit: 1 }.encode(0, &mut why);
    for last_words in [BytesMut::new(), why] {
        // A busy machine may hang up later.
        assert!((0..20).any(|_| certain(&last_words)));
    }
}

#[test]
fn no_session_is_opened_once_the_call_is_over() {
    let server = Fake::start(1, obliging());
    let mut options = Options::new(vec![server.addr.clone()]);
    let late = Client::new(options.clone()).open_session(Deadline::after(Duration::ZERO));
    options.cancel = Some(Arc::new(AtomicBool::new(true)));
    let cancelled = Client::new(options).open_session(soon());
    for (result, expected) in [(late, Why::Deadline), (cancelled, Why::Cancelled)] {
        match result {
            Err(Error::NotApplied { why, .. }) => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(server.hellos().is_empty());
}

/// A server that hangs up on its first request, and then takes nobody in.
fn leaves() -> Arc<OnceLock<Fake>> {
    let server: Arc<OnceLock<Fake>> = Arc::default();
    let known = Arc::clone(&server);
    let fake = Fake::start(1, move |asked| match (asked.connection, &asked.what) {
        (0, _) => {
            known.wait().greet(|greeting, _| {
                *greeting = Greeting::Refuse(WireError::TooManyConnections { limit: 1 });
            });
            Act::Close
        }
        (_, What::Get(..)) => asked.reply(&Reply::Missing { index: Index(1) }),
        _ => asked.done(41, Outcome::Put),
    });
    assert!(server.set(fake).is_ok());
    server
}

#[test]
fn who_was_met_is_looked_for_until_the_deadline() {
    let server = leaves();
    let server = server.wait();
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| client(&[server]).write(PUT, soon()));
        while server.hellos().len() < 4 {
            thread::yield_now();
        }
        server.greet(|greeting, _| *greeting = Greeting::Welcome);
        writer.join().unwrap()
    });
    assert_eq!(written.unwrap().revision, Index(41));
    let asked = server.asked();
    let (first, last) = (asked[0].write(), asked[1].write());
    assert_eq!((first.session, first.seq), (last.session, last.seq));
}

#[test]
fn who_was_met_and_does_not_come_back_is_not_called_unreachable() {
    let server = leaves();
    let result = client(&[server.wait()]).write(PUT, briefly());
    assert!(matches!(result, Err(Error::Unknown { .. })), "{result:?}");
    let server = leaves();
    let result = client(&[server.wait()]).get(b"k", LINEARIZABLE, briefly());
    assert!(
        matches!(result, Err(Error::NotApplied { .. })),
        "{result:?}"
    );
}

/// Longer than an endpoint is awaited while others are left.
#[test]
fn a_hello_that_comes_late_is_awaited_once_all_were_tried() {
    for others in [0, 1] {
        let server = Fake::start(1, obliging());
        server.greet(|greeting, _| *greeting = Greeting::Late(Duration::from_millis(400)));
        let mut endpoints = vec![server.addr.clone()];
        endpoints.extend((0..others).map(|_| closed_port()));
        let written = Client::new(Options::new(endpoints)).write(PUT, soon());
        assert_eq!(written.unwrap().revision, Index(41));
    }
}

#[test]
fn each_endpoint_that_is_not_there_is_told_once() {
    let servers = [mute(), mute()];
    let result = client(&[&servers[0], &servers[1]]).write(PUT, Deadline::after(SECOND));
    let Err(Error::Unreachable { causes }) = result else {
        panic!("{result:?}");
    };
    let mut named: Vec<_> = causes.iter().map(|cause| &cause.endpoint).collect();
    named.sort();
    let mut given = vec![&servers[0].addr, &servers[1].addr];
    given.sort();
    assert_eq!(named, given, "both were tried twice");
    assert!(servers.iter().all(|server| server.hellos().len() == 2));
}

#[test]
fn a_leader_that_was_named_is_remembered() {
    let leader = Fake::start(2, |asked| match asked.connection {
        0 => Act::Close,
        _ => asked.done(41, Outcome::Put),
    });
    let server: Arc<OnceLock<Fake>> = Arc::default();
    let (known, hint) = (Arc::clone(&server), leader.hint());
    let follower = Fake::start(1, move |asked| {
        known.wait().greet(|greeting, _| {
            *greeting = Greeting::Refuse(WireError::TooManyConnections { limit: 1 });
        });
        asked.error(WireError::NotLeader {
            leader: hint.clone(),
        })
    });
    assert!(server.set(follower).is_ok());
    client(&[server.wait()]).write(PUT, soon()).unwrap();
    assert_eq!(leader.asked().len(), 2);
}

/// A later version may have other errors: their class says what to do.
#[test]
fn an_error_of_another_version_is_taken_by_its_class() {
    let error = |class| WireError::Unknown {
        code: 4711,
        class,
        text: "new".into(),
    };
    for (class, is_exposed) in [(Class::NotApplied, false), (Class::Unknown, true)] {
        let mut times = 0;
        let server = Fake::start(1, move |asked| {
            times += 1;
            match times {
                1 => asked.error(error(class)),
                _ => asked.done(41, Outcome::Put),
            }
        });
        client(&[&server]).write(PUT, soon()).unwrap();
        let server = Fake::start(1, always(error(class)));
        match client(&[&server]).write(PUT, briefly()) {
            Err(Error::Unknown { .. }) if is_exposed => {}
            Err(Error::NotApplied { .. }) if !is_exposed => {}
            other => panic!("{other:?}"),
        }
    }
    let server = Fake::start(1, always(error(Class::Final)));
    let result = client(&[&server]).write(PUT, soon());
    let (error, place) = (error(Class::Final), server.addr.clone());
    assert_eq!(result, Err(Error::Refused { error, place }));
}

/// What goes wrong at once is not tried again at once, without end.
#[test]
fn a_call_rests_between_two_attempts() {
    let few = |server: &Fake| {
        let asked = server.asked().len();
        assert!((2..40).contains(&asked), "{asked} in 0.4 s");
    };
    for act in [
        (|_| Act::Close) as fn(&Asked) -> Act,
        |asked| asked.error(WireError::NoLeader),
        |asked| asked.error(WireError::DeadlineExpired),
    ] {
        let server = Fake::start(1, act);
        client(&[&server]).write(PUT, briefly()).unwrap_err();
        few(&server);
    }
    // Two that name each other.
    let nodes: Arc<OnceLock<[Fake; 2]>> = Arc::default();
    let [one, two] = [0, 1].map(|at| {
        let known = Arc::clone(&nodes);
        Fake::start(at as u64 + 1, move |asked| {
            let leader = known.wait()[1 - at].hint();
            asked.error(WireError::NotLeader { leader })
        })
    });
    assert!(nodes.set([one, two]).is_ok());
    let [one, two] = nodes.wait();
    let result = client(&[one, two]).write(PUT, briefly());
    assert!(
        matches!(result, Err(Error::NotApplied { .. })),
        "{result:?}"
    );
    few(one);
    few(two);
}

#[test]
fn who_knows_no_leader_is_left_for_another() {
    let lost = Fake::start(1, always(WireError::NoLeader));
    let leader = Fake::start(2, obliging());
    // Which one is asked first is left to chance.
    while lost.asked().is_empty() {
        client(&[&lost, &leader]).write(PUT, soon()).unwrap();
    }
}

#[test]
fn a_pipeline_gives_an_overloaded_server_the_time_that_it_asks_for() {
    const TIME: Duration = Duration::from_millis(200);
    let refused_at: Arc<Mutex<Option<Instant>>> = Arc::default();
    let rested = Arc::new(Mutex::new(None));
    let (refused, rest) = (Arc::clone(&refused_at), Arc::clone(&rested));
    let server = Fake::start(1, move |asked| {
        let mut refused = refused.lock().unwrap();
        match (asked.write().seq, *refused) {
            (2, None) => {
                *refused = Some(Instant::now());
                let retry_after_ms = 200;
                asked.error(WireError::Overloaded { retry_after_ms })
            }
            (3, Some(_)) if rest.lock().unwrap().is_none() => {
                // The refusal has long come when this does.
                thinks(TIME / 4);
                asked.error(WireError::OutOfOrder { expected: 2 })
            }
            (2, Some(at)) => {
                *rest.lock().unwrap() = Some(at.elapsed());
                asked.done(42, Outcome::Put)
            }
            (seq, _) => asked.done(40 + seq, Outcome::Put),
        }
    });
    let mut client = client(&[&server]);
    for _ in 0..3 {
        client.submit(PUT).unwrap();
    }
    for revision in 41..=43 {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(revision));
    }
    let rested = rested.lock().unwrap().unwrap();
    assert!(rested >= TIME, "{rested:?}");
}

#[test]
fn what_the_old_leader_leaves_without_an_answer_goes_to_the_new_one() {
    let leader = Fake::start(2, obliging());
    let hint = leader.hint();
    let old = Fake::start(1, move |asked| match asked.write().seq {
        1 => asked.error(WireError::NotLeader {
            leader: hint.clone(),
        }),
        _ => Act::Nothing,
    });
    let mut client = client(&[&old]);
    client.submit(PUT).unwrap();
    client.submit(PUT).unwrap();
    for revision in [41, 42] {
        let written = client.wait(soon()).unwrap().unwrap();
        assert_eq!(written.revision, Index(revision));
    }
    let names = |server: &Fake| -> Vec<_> {
        let asked = server.asked();
        let writes = asked.iter().map(Asked::write);
        writes.map(|write| (write.session, write.seq)).collect()
    };
    assert_eq!(names(&old), names(&leader));
}

#[test]
fn an_error_that_belongs_to_no_request_ends_the_connection() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => {
            let mut out = BytesMut::new();
            WireError::ShuttingDown.encode(0, &mut out);
            Act::Send(out)
        }
        _ => asked.done(41, Outcome::Put),
    });
    client(&[&server]).write(PUT, soon()).unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_one() {
    let mut late = None;
    let server = Fake::start(1, move |asked| {
        let key = |key: &[u8]| key.first().copied().map_or(0, u64::from);
        let index = match &asked.what {
            What::Get(_, asked) => key(asked),
            _ => 100 + asked.write().seq,
        };
        let reply = match &asked.what {
            What::Get(..) => {
                let item = wire::client::Item {
                    key: b"k",
                    value: &[u8::try_from(index).unwrap()],
                    revision: Index(1),
                    create_revision: Index(1),
                    version: 1,
                };
                asked.reply(&Reply::Value {
                    index: Index(1),
                    item,
                })
            }
            _ => asked.done(index, Outcome::Put),
        };
        match (late.take(), reply) {
            (None, reply) => {
                late = Some(reply);
                Act::Nothing
            }
            (Some(Act::Send(mut first)), Act::Send(second)) => {
                first.extend_from_slice(&second);
                Act::Send(first)
            }
            (Some(_), reply) => reply,
        }
    });
    let mut client = client(&[&server]);
    client.get(b"1", LINEARIZABLE, briefly()).unwrap_err();
    let found = client.get(b"2", LINEARIZABLE, soon()).unwrap();
    assert_eq!(found.unwrap().value, b"2");
    client.submit_get(b"3", LINEARIZABLE).unwrap();
    client.wait_get(briefly()).unwrap().unwrap_err();
    client.submit_get(b"4", LINEARIZABLE).unwrap();
    let found = client.wait_get(soon()).unwrap().unwrap();
    assert_eq!(found.unwrap().value, b"4");
    client.write(PUT, briefly()).unwrap_err();
    let written = client.write(PUT, soon()).unwrap();
    assert_eq!(written.revision, Index(102));
    assert_eq!(server.hellos().len(), 1, "all on one connection");
}

/// Nothing is sent any more in the last eighth of the time, and what is on its way is awaited.
#[test]
fn a_verdict_shortly_before_the_deadline_counts() {
    let server = Fake::start(1, |asked| {
        thinks(Duration::from_millis(1625));
        asked.done(41, Outcome::Put)
    });
    let in_time = || {
        let deadline = Deadline::after(Duration::from_millis(1700));
        client(&[&server]).write(PUT, deadline).is_ok()
    };
    // A busy machine may be late.
    assert!((0..5).any(|_| in_time()));
}

/// Who leads is asked while an answer is awaited; a member that hangs does not keep it from being
/// read.
#[test]
fn a_verdict_that_comes_while_a_hung_member_is_asked_counts() {
    let server = Fake::start(1, |asked| {
        thinks(Duration::from_millis(600));
        asked.error(WireError::NoLeader)
    });
    let hung = mute();
    // It is asked after 100 ms and, when that and a longer silence are over, after 550.
    let certain = || {
        let deadline = Deadline::after(Duration::from_millis(790));
        let result = client(&[&server, &hung]).write(PUT, deadline);
        matches!(result, Err(Error::NotApplied { .. }))
    };
    // A busy machine may be later than the 120 ms that are left then.
    assert!((0..20).any(|_| certain()));
}

/// Writes in flight, and as many bytes as a server that does not read keeps from leaving.
#[test]
fn what_left_is_unknown_and_what_did_not_is_certainly_not_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (ended, end) = mpsc::channel();
    let greeted = addr.clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut out = BytesMut::new();
        welcome(1, &greeted).encode(&mut out);
        stream.write_all(&out).unwrap();
        end.recv().unwrap();
        let mut all = Vec::new();
        // Its end may be a reset.
        let _ = stream.read_to_end(&mut all);
        let (mut rest, mut writes) = (&all[..], 0);
        while let Ok(Some(frame)) = frame::parse(rest, CLIENT_FRAME_BYTES_MAX) {
            writes += usize::from(frame.kind != Kind::Hello);
            rest = &rest[frame.len..];
        }
        writes
    });
    let mut client = Client::new(Options::new(vec![addr]));
    let value = vec![b'v'; 8_000];
    let put = Command::Put {
        key: b"k",
        value: &value,
    };
    for _ in 0..1_000 {
        client.submit(put).unwrap();
    }
    let deadline = Deadline::after(Duration::from_secs(1));
    let results: Vec<_> = std::iter::from_fn(|| client.wait(deadline)).collect();
    drop(client);
    ended.send(()).unwrap();
    let is_unknown = |result: &Result<_, Error>| matches!(result, Err(Error::Unknown { .. }));
    let unknown = results.iter().take_while(|result| is_unknown(result));
    let unknown = unknown.count();
    for result in &results[unknown..] {
        assert!(
            matches!(result, Err(Error::NotApplied { .. })),
            "{result:?}"
        );
    }
    let arrived = server.join().unwrap();
    assert!((1..1_000).contains(&arrived), "{arrived}");
    // The last may have left in part.
    assert!(
        (arrived..=arrived + 1).contains(&unknown),
        "{unknown} are unknown, {arrived} arrived"
    );
}

#[test]
fn a_page_of_a_view_stays_where_the_view_is() {
    let mut store = Store {
        page_items: 1,
        ..Store::default()
    };
    for (index, key) in (1..).zip([b"a", b"b"]) {
        let put = Command::Put { key, value: b"v" };
        store.map.apply(Index(index), &put);
    }
    let mut scans = 0;
    let old = Fake::start(1, move |asked| {
        scans += 1;
        if scans > 1 {
            thinks(Duration::from_millis(400));
        }
        store.act(asked)
    });
    let new = Fake::start(2, always(WireError::ViewGone));
    old.name_leader(&old, 1);
    new.name_leader(&old, 1);
    let way = Way::prefix(ScanMode::Keys, b"");
    let mut walk = Walk::new(client(&[&old, &new]), way);
    walk.next_page(soon()).unwrap().unwrap();
    new.name_leader(&new, 2);
    let page = walk.next_page(soon()).unwrap().unwrap();
    assert_eq!(page.items().iter().next().unwrap().key, b"b");
    assert_eq!(new.asked(), []);
}

#[test]
fn a_slow_leader_is_not_left_for_one_of_an_earlier_term() {
    let slow = Fake::start(1, |asked| {
        thinks(Duration::from_millis(250));
        asked.done(41, Outcome::Put)
    });
    slow.name_leader(&slow, 5);
    let earlier = Fake::start(3, always(WireError::NoLeader));
    let hint = earlier.hint();
    let behind = Fake::start(2, move |asked| {
        let (term, leader) = (Term(4), Some(hint.clone()));
        match asked.what {
            What::WatchLeader => asked.reply(&Reply::Moved { term, leader }),
            _ => asked.error(WireError::NoLeader),
        }
    });
    // Where it begins is left to chance; the leader keeps the link then.
    let mut client = client(&[&slow, &behind]);
    client.write(PUT, soon()).unwrap();
    behind.name_leader(&earlier, 4);
    let before = slow.hellos().len();
    for _ in 0..2 {
        client.write(PUT, soon()).unwrap();
    }
    assert_eq!(slow.hellos().len(), before);
    assert_eq!(earlier.asked(), []);
}
