//! The driver against connections that are broken, slow, greedy or many.

use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use wire::client::{Consistency, Freshness, Reply, Request};
use wire::error::Error;
use wire::frame::Kind;
use wire::hello::{PeerIdentity, Role};
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX};
use wire::types::{EntryId, Incarnation, Index, NodeId, Term};

use crate::daemon_process::{Answer, Caller, Daemon, PATIENCE, exited, get, header, hello};

#[test]
fn requests_in_one_piece_and_byte_by_byte_are_the_same() {
    let daemon = Daemon::dev(&[]);
    let mut bytes = BytesMut::from(hello(Role::Client).as_slice());
    for id in 1..=100 {
        get(b"k").encode(id, &mut bytes);
    }
    let mut whole = Caller::connect(&daemon.client);
    whole.say(&bytes);
    let mut pieces = Caller::connect(&daemon.client);
    for byte in &bytes[..400] {
        pieces.say(std::slice::from_ref(byte));
    }
    pieces.say(&bytes[400..]);
    for caller in [&mut whole, &mut pieces] {
        assert_eq!(caller.reply(), (0, Answer::Welcome));
        for id in 1..=100 {
            assert_eq!(caller.reply(), (id, Answer::Missing));
        }
    }
}

#[test]
fn garbage_is_answered_by_an_error_and_the_end() {
    let daemon = Daemon::dev(&[]);
    let mut not_ours = header(100);
    not_ours[4] = 9;
    let mut unknown = header(100);
    unknown[5] = 0xee;
    for (bytes, name) in [
        (
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            "TooLarge",
        ),
        (&[0; 64][..], "Malformed"),
        (&[0xff; 64][..], "TooLarge"),
        (&not_ours[..], "UnsupportedVersion"),
        (&unknown[..], "UnknownKind"),
    ] {
        for addr in [&daemon.client, &daemon.peer] {
            let mut caller = Caller::connect(addr);
            caller.say(bytes);
            let (_, answer) = caller.reply();
            assert!(format!("{answer:?}").contains(name), "{name}: {answer:?}");
            caller.wait_closed();
        }
    }
    daemon.serves();
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_bytes_come() {
    let daemon = Daemon::dev(&[]);
    let mut early = Caller::connect(&daemon.client);
    early.say(&header(HELLO_FRAME_BYTES_MAX));
    let (_, answer) = early.reply();
    assert!(
        matches!(answer, Answer::Error(Error::TooLarge { limit: 4096, .. })),
        "{answer:?}"
    );
    early.wait_closed();

    let mut late = daemon.client();
    late.say(&header(CLIENT_FRAME_BYTES_MAX));
    let (id, answer) = late.reply();
    assert!(
        matches!(answer, Answer::Error(Error::TooLarge { .. })),
        "{answer:?}"
    );
    assert_eq!(id, 1, "the refusal names the request");
    late.wait_closed();

    // A key that is too long fits its frame: only the request is refused.
    let mut fine = daemon.client();
    fine.ask(5, &get(&[b'k'; 5000]));
    let (id, answer) = fine.reply();
    assert_eq!(id, 5);
    assert!(
        matches!(answer, Answer::Error(Error::TooLarge { .. })),
        "{answer:?}"
    );
    fine.ask(6, &get(b"k"));
    assert_eq!(fine.reply(), (6, Answer::Missing));
}

#[test]
fn whoever_says_no_hello_or_half_a_frame_is_closed_at_the_deadline() {
    let daemon = Daemon::dev(&[
        "--set",
        "net.hello_timeout=300ms",
        "--set",
        "net.frame_timeout=400ms",
    ]);
    let idle = daemon.client();
    let began = Instant::now();
    let silent = Caller::connect(&daemon.client);
    let silent_peer = Caller::connect(&daemon.peer);
    let mut half_hello = Caller::connect(&daemon.client);
    half_hello.say(&hello(Role::Client)[..10]);
    let mut half_frame = daemon.client();
    half_frame.say(&header(1000));
    for closed in [silent, silent_peer, half_hello, half_frame] {
        closed.wait_closed();
    }
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
    let mut idle = idle;
    idle.ask(1, &get(b"k"));
    assert_eq!(idle.reply(), (1, Answer::Missing), "an idle client stays");
}

/// The hello of node 2, which is new, to node 1.
pub(crate) fn hello_of_member() -> Vec<u8> {
    let identity = PeerIdentity {
        node: NodeId(2),
        incarnation: Incarnation(1),
        life: 1,
        name: "n2".into(),
        client_addr: String::new(),
        virgin: true,
        formed: Vec::new(),
    };
    let to = NodeId(1);
    hello(Role::Peer { identity, to })
}

#[test]
fn each_port_takes_its_own_callers_only() {
    let daemon = Daemon::dev(&[]);
    let peer = hello_of_member();
    for (addr, bytes, part) in [
        (&daemon.client, peer.clone(), "for clients"),
        (&daemon.peer, hello(Role::Client), "for peers"),
        (&daemon.peer, peer, "no member of this cluster"),
    ] {
        let mut caller = Caller::connect(addr);
        caller.say(&bytes);
        let (_, answer) = caller.reply();
        assert!(format!("{answer:?}").contains(part), "{part}: {answer:?}");
        caller.wait_closed();
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let daemon = Daemon::dev(&["--set", "net.connections_max=3"]);
    let mut kept: Vec<Caller> = (0..3).map(|_| daemon.client()).collect();
    let mut fourth = Caller::connect(&daemon.client);
    assert_eq!(
        fourth.reply(),
        (0, Answer::Error(Error::TooManyConnections { limit: 3 }))
    );
    fourth.wait_closed();
    kept[1].ask(1, &get(b"k"));
    assert_eq!(kept[1].reply(), (1, Answer::Missing));
    drop(kept.pop());
    // The place is free as soon as the daemon has seen the end.
    let began = Instant::now();
    loop {
        let mut next = Caller::connect(&daemon.client);
        // A refused caller may find the connection closed already.
        let _ = next.stream.write_all(&hello(Role::Client));
        if next.frame(|frame| frame.kind) == Kind::Welcome {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
}

/// What is refused stays for a moment, so that its reason arrives. That must not take the files that
/// the log needs.
#[test]
fn a_flood_of_garbage_leaves_the_daemon_its_files() {
    // 128 files: 32 client connections.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 128; exec \"$0\" --dev --listen 127.0.0.1:0 --set wal.segment_bytes=1MiB",
        env!("CARGO_BIN_EXE_raftd"),
    ]);
    let daemon = Daemon::start(command);
    let mut writer = Caller::connect(&daemon.client);
    let welcome = writer.greet();
    let before = daemon.files();
    let mut flood = Vec::new();
    for seq in 1..=20 {
        for addr in [&daemon.client, &daemon.peer] {
            for _ in 0..20 {
                let mut caller = Caller::connect(addr);
                // It may be closed already.
                let _ = caller.stream.write_all(&[b'G'; 30]);
                flood.push(caller);
            }
        }
        // The log goes on to further segments, for which it opens and closes files.
        writer.put(&welcome, seq, b"k", &[7; 500_000]);
        assert_eq!(writer.reply(), (seq, Answer::Written));
        // Both ports' connections, those on their way out, and segments that are being made.
        let files = daemon.files();
        assert!(files < before + 32 + 8 + 2 * 16 + 10, "{before} to {files}");
    }
    drop(flood);
    daemon.serves();
}

#[test]
fn newcomers_that_say_nothing_make_room_for_those_that_do() {
    let daemon = Daemon::dev(&[
        "--set",
        "net.newcomers_max=20",
        "--set",
        "net.hello_timeout=60s",
    ]);
    let mut silent: Vec<Caller> = (0..100).map(|_| Caller::connect(&daemon.client)).collect();
    daemon.serves();
    let last = silent.pop().unwrap();
    for pushed_out in silent.into_iter().take(70) {
        pushed_out.wait_closed();
    }
    last.stream.set_nonblocking(true).unwrap();
    let error = last.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the newest stay");
}

/// So they do for members, each for those of its own port.
#[test]
fn callers_of_the_peer_port_that_say_nothing_make_room() {
    let daemon = Daemon::dev(&["--set", "net.hello_timeout=60s"]);
    let client = Caller::connect(&daemon.client);
    // Eight for each member.
    let silent: Vec<Caller> = (0..20).map(|_| Caller::connect(&daemon.peer)).collect();
    for pushed_out in silent.into_iter().take(12) {
        pushed_out.wait_closed();
    }
    client.stream.set_nonblocking(true).unwrap();
    let error = client.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it stays");
}

/// Its place would be taken for good.
#[test]
fn whoever_is_refused_and_does_not_go_is_closed() {
    let daemon = Daemon::dev(&["--set", "net.hello_timeout=60s"]);
    let mut refused = Caller::connect(&daemon.client);
    refused.say(&[b'G'; 30]);
    refused.reply();
    let began = Instant::now();
    // What it says is read and dropped as long as it is open.
    while refused.stream.write(&[0]).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is still open");
        thread::yield_now();
    }
}

/// However many come at once: a hello that has arrived is read before its connection makes room.
#[test]
fn whoever_has_said_hello_is_not_pushed_out() {
    let daemon = Daemon::dev(&["--set", "net.newcomers_max=4"]);
    daemon.serves();
    daemon.signal(Signal::STOP);
    let mut callers: Vec<Caller> = (0..60)
        .map(|_| {
            let mut caller = Caller::connect(&daemon.client);
            caller.say(&hello(Role::Client));
            caller
        })
        .collect();
    daemon.signal(Signal::CONT);
    for caller in &mut callers {
        assert_eq!(caller.reply(), (0, Answer::Welcome));
    }
}

/// What is answered at once, much of it in one read, must not keep from the others their turn.
#[test]
fn clients_with_many_small_questions_leave_the_others_their_turn() {
    let daemon = Daemon::dev(&[]);
    let mut questions = BytesMut::new();
    for id in 1..=13_000 {
        Request::Status.encode(id, &mut questions);
    }
    let greedy = [daemon.client(), daemon.client()];
    let mut served = Caller::connect(&daemon.client);
    let welcome = served.greet();
    let over = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        for caller in &greedy {
            let mut stream = &caller.stream;
            scope.spawn(|| {
                let mut stream = &caller.stream;
                let over = || over.load(Ordering::Relaxed) || began.elapsed() > PATIENCE;
                while !over() && stream.write_all(&questions).is_ok() {}
                let _ = stream.shutdown(Shutdown::Both);
            });
            // Ends with the connection.
            scope.spawn(move || io::copy(&mut stream, &mut io::sink()));
        }
        for seq in 1..=10 {
            served.put(&welcome, seq, b"k", b"v");
            assert_eq!(served.reply(), (seq, Answer::Written));
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Lets this process have so many connections open.
fn allow_files(connections: usize) {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(
        most.is_none_or(|most| most > connections as u64 + 500),
        "too few files to test with"
    );
}

#[test]
fn idle_connections_are_cheap() {
    const IDLE: usize = 3_000;
    allow_files(IDLE);
    let daemon = Daemon::dev(&[]);
    daemon.serves();
    let before_kb = daemon.proc_status("RssAnon:");
    let idle: Vec<Caller> = (0..IDLE).map(|_| daemon.client()).collect();
    let each_bytes = (daemon.proc_status("RssAnon:") - before_kb) * 1024 / IDLE as u64;
    assert!(each_bytes < 2_048, "{each_bytes} bytes per idle connection");
    daemon.serves();
    drop(idle);
    daemon.serves();
}

#[test]
fn running_out_of_files_stops_nothing_and_spins_nowhere() {
    let daemon = Daemon::dev(&["--set", "net.hello_timeout=60s"]);
    let mut served = daemon.client();
    daemon.serves();
    daemon.limit_files(daemon.files() + 10);
    let flood: Vec<Caller> = (0..15).map(|_| Caller::connect(&daemon.client)).collect();
    // Those that say nothing make room.
    let users: Vec<Caller> = (0..5).map(|_| daemon.client()).collect();
    let more: Vec<Caller> = (0..15)
        .map(|_| {
            let mut caller = Caller::connect(&daemon.client);
            caller.say(&hello(Role::Client));
            caller
        })
        .collect();
    served.ask(1, &get(b"k"));
    assert_eq!(served.reply(), (1, Answer::Missing));
    let (began, before) = (Instant::now(), daemon.cpu());
    served
        .stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let nothing = served.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    let used = daemon.cpu() - before;
    assert!(
        used < began.elapsed() / 3,
        "{used:?} of CPU in {:?}",
        began.elapsed()
    );
    drop((flood, users, more));
    daemon.serves();
}

/// Whoever has said hello is read before anything is closed for want of files.
#[test]
fn running_out_of_files_closes_nobody_who_has_said_hello() {
    let daemon = Daemon::dev(&[]);
    daemon.serves();
    daemon.signal(Signal::STOP);
    daemon.limit_files(daemon.files() + 20);
    let callers: Vec<Caller> = (0..100)
        .map(|_| {
            let mut caller = Caller::connect(&daemon.client);
            caller.say(&hello(Role::Client));
            caller
        })
        .collect();
    daemon.signal(Signal::CONT);
    daemon.wait_line("accepting paused");
    // Each one that goes makes room for the next.
    for mut caller in callers {
        assert_eq!(caller.reply(), (0, Answer::Welcome));
    }
}

/// All that waits is looked at for who is gone, but not for each of them by itself.
#[test]
fn many_connections_that_end_together_are_no_burden() {
    const CONNECTIONS: usize = 2_000;
    allow_files(CONNECTIONS);
    let daemon = Daemon::dev(&[]);
    daemon.serves();
    let mut never = BytesMut::new();
    for id in 1..=32 {
        let freshness = Freshness {
            consistency: Consistency::Stale,
            after: Index(1_000_000_000_000_000),
        };
        let request = Request::Get {
            deadline_ms: 0,
            freshness,
            key: b"k",
        };
        request.encode(id, &mut never);
    }
    Request::Status.encode(33, &mut never);
    let mut callers: Vec<Caller> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
    for caller in &mut callers {
        caller.say(&never);
        assert_eq!(caller.reply(), (33, Answer::Other));
    }
    let before = daemon.cpu();
    drop(callers);
    daemon.serves();
    let used = daemon.cpu() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of CPU");
}

#[test]
fn asking_for_a_snapshot_that_is_not_there_is_no_error_of_the_node() {
    let mut daemon = Daemon::dev(&[]);
    let mut caller = daemon.client();
    let made_up = EntryId {
        term: Term(1 << 40),
        index: Index(1 << 61),
    };
    for id in 1..=3 {
        let (snapshot, offset) = (made_up, 0);
        caller.ask(id, &Request::ReadSnapshot { snapshot, offset });
        caller.frame(|frame| {
            let none = Reply::SnapshotPiece {
                total_bytes: 0,
                bytes: &[],
            };
            assert_eq!(Reply::decode(frame).unwrap(), none);
        });
    }
    daemon.signal(Signal::TERM);
    assert!(exited(daemon.wait(), 0));
    let complaint = daemon.lines.iter().find(|line| line.contains("ERROR"));
    assert_eq!(complaint, None);
}
