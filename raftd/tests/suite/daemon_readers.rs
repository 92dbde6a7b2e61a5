//! Clients that read late, slowly or not at all, or do not finish what they say.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use wire::client::{Consistency, Request};
use wire::error::Error;
use wire::limits::CLIENT_FRAME_BYTES_MAX;

use crate::daemon_process::{Answer, Caller, Daemon, get, header, raftd};

/// Stores a value under "big"; the bytes of so many questions for it.
fn many_questions(caller: &mut Caller, value_bytes: usize, count: u64) -> BytesMut {
    let welcome = caller.greet();
    caller.put(&welcome, 1, b"big", &vec![7; value_bytes]);
    assert_eq!(caller.reply(), (1, Answer::Written));
    let mut asked = BytesMut::new();
    for id in 1..=count {
        get(b"big").encode(id, &mut asked);
    }
    asked
}

#[test]
fn a_client_that_does_not_read_costs_bounded_memory_and_is_closed_in_the_end() {
    let daemon = Daemon::dev(&["--set", "net.stall_timeout=2s", "--set", "log.level=debug"]);
    let mut deaf = Caller::connect(&daemon.client);
    let greedy = many_questions(&mut deaf, 900_000, 1_000);
    deaf.say(&greedy);
    daemon.serves();
    let resident_kb = daemon.proc_status("RssAnon:");
    assert!(
        resident_kb < 64 << 10,
        "{resident_kb} kB for 900 MB of replies"
    );
    daemon.wait_line("connection closed for its deadline");
    daemon.serves();
}

#[test]
fn a_client_that_reads_late_gets_every_reply() {
    let daemon = Daemon::dev(&[]);
    let mut late = Caller::connect(&daemon.client);
    let asked = many_questions(&mut late, 100_000, 500);
    late.say(&asked);
    daemon.serves();
    let mut ids: Vec<u64> = (1..=500)
        .map(|_| {
            let (id, answer) = late.reply();
            assert_eq!(answer, Answer::Value(100_000));
            id
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
}

/// What the kernel holds for it must not hide that it reads.
#[test]
fn a_client_that_reads_slowly_is_not_taken_for_one_that_does_not() {
    let daemon = Daemon::dev(&["--set", "net.stall_timeout=1s", "--set", "log.level=debug"]);
    let mut slow = Caller::connect(&daemon.client);
    set_socket_recv_buffer_size(&slow.stream, 64 << 10).unwrap();
    let asked = many_questions(&mut slow, 100_000, 100);
    slow.say(&asked);
    let pause = Duration::from_millis(250);
    for _ in 0..16 {
        while let Ok(line) = daemon.lines.recv_timeout(pause) {
            assert!(!line.contains("closed for its deadline"), "{line}");
        }
        assert_eq!(slow.reply().1, Answer::Value(100_000));
    }
}

/// The time that a client may take for a frame runs only while the daemon takes what it sends.
#[test]
fn a_client_that_reads_late_has_time_for_its_frame() {
    let daemon = Daemon::dev(&["--set", "net.frame_timeout=300ms"]);
    let mut late = Caller::connect(&daemon.client);
    let asked = many_questions(&mut late, 100_000, 501);
    let (now, later) = asked.split_at(asked.len() - 10);
    late.say(now);
    daemon.serves();
    late.say(later);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        daemon.serves();
    }
    for _ in 1..=501 {
        assert_eq!(late.reply().1, Answer::Value(100_000));
    }
}

#[test]
fn a_client_that_must_wait_has_time_for_its_frame() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody leads: what is asked waits for its deadline, and the rest in the kernel.
    let mut command = raftd(&[
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--id",
        "1",
        "--initial-cluster",
        "1=127.0.0.1:3,2=127.0.0.1:1,3=127.0.0.1:2",
        "--set",
        "wal.segment_bytes=1MiB",
        "--set",
        "net.frame_timeout=300ms",
    ]);
    command.arg("--data-dir").arg(dir.path().join("n1"));
    let daemon = Daemon::start(command);
    let mut held = daemon.client();
    let mut asked = BytesMut::new();
    for id in 1..=1_025 {
        let request = Request::Get {
            deadline_ms: 500,
            freshness: Consistency::Linearizable.into(),
            key: b"k",
        };
        request.encode(id, &mut asked);
    }
    let (now, later) = asked.split_at(asked.len() - 10);
    held.say(now);
    for _ in 1..=1_024 {
        assert_eq!(held.reply().1, Answer::Error(Error::NoLeader));
    }
    held.say(later);
    assert_eq!(held.reply(), (1_025, Answer::Error(Error::NoLeader)));
    // What came whole is not forgotten either.
    held.say(&asked);
    for _ in 1..=1_025 {
        assert_eq!(held.reply().1, Answer::Error(Error::NoLeader));
    }
    // From then on it runs.
    held.say(&later[..1]);
    held.wait_closed();
}

#[test]
fn the_greediest_give_way_when_all_together_wait_for_too_much() {
    let daemon = Daemon::dev(&["--set", "net.output_bytes=8MiB"]);
    let mut served = Caller::connect(&daemon.client);
    let greedy = many_questions(&mut served, 900_000, 20);
    let deaf: Vec<Caller> = (0..60)
        .map(|_| {
            let mut caller = daemon.client();
            caller.say(&greedy);
            caller
        })
        .collect();
    daemon.wait_line("slow reader closed");
    served.ask(2, &get(b"big"));
    assert_eq!(served.reply(), (2, Answer::Value(900_000)));
    drop(deaf);
}

#[test]
fn the_largest_unfinished_frame_gives_way_when_all_together_are_too_much() {
    let daemon = Daemon::dev(&["--set", "net.input_bytes=8MiB", "--set", "log.level=debug"]);
    let mut served = daemon.client();
    let mut half = header(1_500_000).to_vec();
    half.resize(1_400_000, 0);
    let mut holders: Vec<Caller> = (0..6)
        .map(|_| {
            let mut caller = daemon.client();
            // The last one may be refused while it still speaks.
            let _ = caller.stream.write_all(&half);
            caller
        })
        .collect();
    daemon.wait_line("connection refused phase=Client");
    daemon.serves();
    let refused = holders
        .iter_mut()
        .filter(|caller| {
            caller.stream.set_nonblocking(true).unwrap();
            caller.stream.peek(&mut [0]).is_ok()
        })
        .count();
    assert_eq!(refused, 1, "six times 1.4 MB are one too many");
    served.ask(1, &get(b"k"));
    assert_eq!(served.reply(), (1, Answer::Missing));
}

/// Who is told the reason before that answer finds the connection closed behind the reason.
#[test]
fn whoever_is_refused_has_the_answer_to_what_was_asked_before() {
    let daemon = Daemon::dev(&[]);
    let mut caller = daemon.client();
    let mut asked = BytesMut::new();
    Request::Status.encode(5, &mut asked);
    asked.extend_from_slice(&header(CLIENT_FRAME_BYTES_MAX));
    caller.say(&asked);
    let mut answers = [caller.reply(), caller.reply()];
    answers.sort_unstable_by_key(|(id, _)| *id);
    let [(1, Answer::Error(refusal)), (5, Answer::Other)] = answers else {
        panic!("{answers:?}");
    };
    assert!(matches!(refusal, Error::TooLarge { .. }), "{refusal}");
    caller.wait_closed();
}
