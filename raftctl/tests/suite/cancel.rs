//! Calls that are cancelled wherever they wait, and nodes that do not read what they are sent.

use std::fmt::Debug;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftctl::client::{Client, Command, Consistency, Error, Options, Why};

use super::client::{PUT, soon};
use super::fake::{Act, Fake, thinks, welcome};
use super::obstacles::mute;
use super::script::obliging;

const LINEARIZABLE: Consistency = Consistency::Linearizable;

/// Calls at this endpoint end when the flag is raised.
fn cancellable(endpoint: String) -> (Options, Arc<AtomicBool>) {
    let cancel = Arc::new(AtomicBool::new(false));
    let mut options = Options::new(vec![endpoint]);
    options.cancel = Some(Arc::clone(&cancel));
    (options, cancel)
}

#[track_caller]
fn assert_certainly_cancelled<T: Debug>(result: &Result<T, Error>) {
    let Err(Error::NotApplied { why, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(*why, Why::Cancelled);
}

#[test]
fn the_cancel_flag_ends_a_call_that_waits_for_a_hello() {
    let server = mute();
    let (options, cancel) = cancellable(server.addr.clone());
    let begun = Instant::now();
    let result = thread::scope(|scope| {
        let writer = scope.spawn(|| Client::new(options).write(PUT, soon()));
        while server.hellos().is_empty() {
            thread::yield_now();
        }
        cancel.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_certainly_cancelled(&result);
}

#[test]
fn the_cancel_flag_ends_a_call_that_waits_for_an_answer() {
    let server = Fake::start(1, |_| Act::Nothing);
    let promptly = || {
        let (options, cancel) = cancellable(server.addr.clone());
        thread::scope(|scope| {
            let writer = scope.spawn(|| Client::new(options).get(b"k", LINEARIZABLE, soon()));
            // By now it looks for the node's answer for 0.8 s at a time.
            thinks(Duration::from_millis(800));
            cancel.store(true, Ordering::Relaxed);
            let raised = Instant::now();
            let result = writer.join().unwrap();
            assert_certainly_cancelled(&result);
            raised.elapsed() < Duration::from_millis(300)
        })
    };
    // A busy machine may be late.
    assert!((0..5).any(|_| promptly()));
}

/// Takes connections in, and no more: neither can anybody connect.
fn full() -> (socket2::Socket, Vec<mio::net::TcpStream>, String) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let connect = |_| mio::net::TcpStream::connect(addr).unwrap();
    (listener, (0..4).map(connect).collect(), addr.to_string())
}

#[test]
fn the_cancel_flag_ends_a_call_that_connects() {
    let (_listener, _queue, addr) = full();
    let (mut options, cancel) = cancellable(addr);
    options.connect_timeout = Duration::from_secs(20);
    let begun = Instant::now();
    let result = thread::scope(|scope| {
        let writer = scope.spawn(|| Client::new(options).write(PUT, soon()));
        thinks(Duration::from_millis(100));
        cancel.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_certainly_cancelled(&result);
}

/// A server with this id that says hello and reads nothing more. It runs until the test ends.
fn reads_nothing(id: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let greeted = addr.clone();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut out = BytesMut::new();
            welcome(id, &greeted).encode(&mut out);
            stream.write_all(&out).unwrap();
            open.push(stream);
        }
    });
    addr
}

/// As many writes as do not leave at once if nobody reads them.
fn submit_much(client: &mut Client) -> usize {
    let value = vec![b'v'; 1024 * 1024];
    let put = Command::Put {
        key: b"k",
        value: &value,
    };
    while client.submit(put).is_ok() {}
    client.in_flight()
}

#[test]
fn the_cancel_flag_ends_a_call_that_sends() {
    let (options, cancel) = cancellable(reads_nothing(1));
    let mut client = Client::new(options);
    client.open_session(soon()).unwrap();
    let count = submit_much(&mut client);
    let begun = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let results = || std::iter::from_fn(|| client.wait(soon())).collect();
        let writer = scope.spawn(results);
        thinks(Duration::from_millis(100));
        cancel.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(results.len(), count);
    assert!(
        matches!(
            results[0],
            Err(Error::Unknown {
                why: Why::Cancelled,
                ..
            })
        ),
        "{:?}",
        results[0]
    );
    assert_certainly_cancelled(&results[count - 1]);
}

#[test]
fn a_leader_that_reads_nothing_is_left_when_another_member_knows_a_new_one() {
    let hung = reads_nothing(1);
    let fresh = Fake::start(3, obliging());
    let named = Fake::start(2, |_| Act::Nothing);
    named.name_leader(&fresh, 2);
    // It begins with the one that hangs, and knows the other.
    let mut client = std::iter::repeat_with(|| {
        let mut client = Client::new(Options::new(vec![hung.clone(), named.addr.clone()]));
        client.open_session(soon()).unwrap();
        client
    })
    .find(|client| client.peer().is_some_and(|(endpoint, _)| endpoint == hung))
    .unwrap();
    let count = submit_much(&mut client);
    for _ in 0..count {
        client.wait(soon()).unwrap().unwrap();
    }
    assert_eq!(fresh.asked().len(), count);
}
