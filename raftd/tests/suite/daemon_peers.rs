//! How a daemon finds its peers by name, and waits to be admitted by them.

use crate::daemon_life::finds_the_directory_in_use;
use crate::daemon_net::hello_of_member;
use crate::daemon_process::{Answer, Caller, Daemon, PATIENCE, exited, header, hello, raftd, run};
use bytes::BytesMut;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use wire::client::{MemberChange, Request};
use wire::error::Error;
use wire::frame::HEADER_BYTES;
use wire::hello::Role;
use wire::peer::{InstallSnapshot, Message, PreVote};
use wire::types::{EntryId, Index, Term};

/// Two in one directory would be two members.
#[test]
fn a_node_that_waits_to_be_admitted_has_its_directory_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    // Nobody is there any more.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = nobody.unwrap().to_string();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let joins = ["--data-dir", data, "--name", "n4", "--join", &nobody];
    let args = [&joins[..], &ports].concat();
    let mut first = Daemon::start(raftd(&args));
    finds_the_directory_in_use(&args);
    first.signal(Signal::TERM);
    assert!(exited(first.wait(), 0));
}

/// It would be admitted, and so bound to a directory in which no node can start.
#[test]
fn a_node_does_not_ask_to_be_admitted_where_a_restore_was_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("restore.tmp")).unwrap();
    let data = dir.path().to_str().unwrap();
    let nobody = ["--name", "n4", "--join", "127.0.0.1:1"];
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let (code, stderr) = run(&[&["--data-dir", data], &nobody[..], &ports].concat());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("try: run `raftctl snapshot restore` into it again"));
    // What says that follows it.
    let names = fs::read_dir(dir.path()).unwrap().map(|name| name.unwrap());
    let mut left: Vec<_> = names.map(|name| name.file_name()).collect();
    left.sort();
    assert_eq!(left, ["LOCK", "restore.tmp"]);
}

/// The list is of the day on which the cluster was made; since then members have got other addresses
/// and names.
#[test]
fn a_list_that_does_not_have_the_node_any_more_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let small = ["--set", "wal.segment_bytes=1MiB"];
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let base = [&["--data-dir", data], &ports[..], &small].concat();
    let two = ["--initial-cluster", "1=127.0.0.1:1,2=127.0.0.1:2"];
    let refused = run(&[&base[..], &two].concat());
    assert_eq!(refused.0, Some(78), "{}", refused.1);
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    for later in [
        &one[..],
        &two,
        &["--id", "1", "--initial-cluster", "2=127.0.0.1:2"],
        &[&two[..], &["--id", "1", "--name", "n2"]].concat(),
        &[&one[..], &["--peer-advertise", "127.0.0.1:3"]].concat(),
    ] {
        let mut daemon = Daemon::start(raftd(&[&base[..], later].concat()));
        daemon.signal(Signal::TERM);
        assert!(exited(daemon.wait(), 0), "{later:?}");
    }
}

/// Whether the machine does; else the test is skipped.
fn knows_localhost(test: &str) -> bool {
    let knows = ("localhost", 0).to_socket_addrs().is_ok();
    if !knows {
        let reason = "the machine knows no localhost: it has no /etc/hosts";
        raftd_tests::skip(test, reason);
    }
    knows
}

#[test]
fn peers_are_found_by_name() {
    if !knows_localhost("daemon_peers::peers_are_found_by_name") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..3)
        .map(|_| TcpListener::bind("localhost:0").unwrap())
        .collect::<Vec<_>>()
        .iter()
        .map(|taken| taken.local_addr().unwrap().port())
        .collect();
    let list: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(n, port)| format!("{}=localhost:{port}", n + 1))
        .collect();
    let list = list.join(",");
    let start = |n: usize| {
        let data = dir.path().join(format!("n{n}"));
        let addr = format!("localhost:{}", ports[n]);
        // Each finds itself in the list by its peer address.
        let args = [
            "--listen",
            "localhost:0",
            "--peer-listen",
            &addr,
            "--initial-cluster",
            &list,
        ];
        let mut command = raftd(&args);
        command
            .arg("--data-dir")
            .arg(data)
            .args(["--set", "wal.segment_bytes=1MiB"]);
        Daemon::start(command)
    };
    let cluster: Vec<Daemon> = (0..3).map(start).collect();
    for daemon in &cluster {
        daemon.wait_line("cluster formed members=3");
    }
}

#[test]
fn a_member_that_is_added_later_is_found_by_name() {
    if !knows_localhost("daemon_peers::a_member_that_is_added_later_is_found_by_name") {
        return;
    }
    let first = Daemon::dev(&[]);
    let free = TcpListener::bind("localhost:0").unwrap().local_addr();
    let addr = format!("localhost:{}", free.unwrap().port());
    let change = MemberChange::Add {
        name: "n2",
        peer_addr: &addr,
        promote_within_ms: None,
        replaces: None,
    };
    first.serves();
    let mut operator = first.client();
    operator.ask(
        1,
        &Request::ChangeMembers {
            dry_run: false,
            change,
        },
    );
    assert_eq!(operator.reply(), (1, Answer::Other), "it is added");
    let dir = tempfile::tempdir().unwrap();
    let mut command = joining(dir.path(), &first.client);
    command.args(["--peer-listen", &addr]);
    let _second = Daemon::start(command);
    first.wait_line(&format!("peer link up peer=2 addr={addr}"));
}

/// Ids are counted on from the highest, and are never used again.
#[test]
fn a_cluster_with_the_highest_id_that_there_is_gets_no_member_more() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let highest = u64::MAX.to_string();
    let list = format!("{highest}=127.0.0.1:1");
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let args = ["--id", &highest, "--initial-cluster", &list];
    let mut command = raftd(&[&["--data-dir", data], &args[..], &ports].concat());
    command.args(["--set", "wal.segment_bytes=1MiB"]);
    let alone = Daemon::start(command);
    alone.serves();
    let mut operator = alone.client();
    let change = MemberChange::Add {
        name: "n2",
        peer_addr: "127.0.0.1:2",
        promote_within_ms: None,
        replaces: None,
    };
    let add = Request::ChangeMembers {
        dry_run: false,
        change,
    };
    operator.ask(1, &add);
    let (_, answer) = operator.reply();
    let Answer::Error(Error::Refused { reason, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason, "no id is left for it");
    alone.serves();
}

/// A node that asks the `seeds` who it is.
pub(crate) fn joining(data_dir: &Path, seeds: &str) -> Command {
    let mut command = raftd(&["--name", "n2", "--join", seeds, "--listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data_dir);
    command.args(["--set", "wal.segment_bytes=1MiB"]);
    command
}

/// A seed may have another address than was meant.
#[test]
fn a_node_that_waits_to_be_admitted_tells_who_said_why() {
    let dir = tempfile::tempdir().unwrap();
    let seeds = "127.0.0.1:2,127.0.0.1:1";
    let mut command = joining(&dir.path().join("data"), seeds);
    command.args(["--peer-listen", "127.0.0.1:0"]);
    let daemon = Daemon::start(command);
    daemon.wait_line(" by=127.0.0.1:1 why=\"Connection refused");
}

/// The directory may have been made for it, and be open to others.
#[test]
fn what_a_node_that_joins_writes_is_for_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut command = joining(&data, "127.0.0.1:1");
    command.args(["--peer-listen", "127.0.0.1:0"]);
    let daemon = Daemon::start(command);
    daemon.wait_line("waiting to be admitted");
    for file in fs::read_dir(&data).unwrap().map(Result::unwrap) {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file:?}: {mode:o}");
    }
}

#[test]
fn a_node_that_waits_to_be_admitted_ends_at_once() {
    let silent: Vec<TcpListener> = (0..5)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addrs = silent
        .iter()
        .map(|seed| seed.local_addr().unwrap().to_string());
    let dir = tempfile::tempdir().unwrap();
    let mut command = joining(dir.path(), &addrs.collect::<Vec<_>>().join(","));
    command.args(["--peer-listen", "127.0.0.1:0"]);
    let mut daemon = Daemon::start(command);
    let _asking = silent[0].accept().unwrap();
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(exited(daemon.wait(), 0));
    let took = began.elapsed();
    assert!(took.as_secs() < 2, "{took:?}: it waited for an answer");
}

/// Node 1 of a cluster of two that is not formed yet.
fn one_of_two(data_dir: &Path, second: &str, hello_timeout: &str) -> Command {
    let mut command = raftd(&["--id", "1", "--listen", "127.0.0.1:0"]);
    command.args(["--peer-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir);
    command.args(["--initial-cluster", &format!("1=127.0.0.1:1,2={second}")]);
    command.args(["--set", &format!("net.hello_timeout={hello_timeout}")]);
    command
}

/// Room for a frame is made when its length has been judged, not when it was merely claimed.
#[test]
fn a_length_over_the_limit_that_comes_with_a_hello_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(one_of_two(dir.path(), "127.0.0.1:2", "3s"));
    let mut too_long = header(0);
    too_long[..4].fill(0xff);
    for (addr, hello) in [
        (&daemon.peer, hello_of_member()),
        (&daemon.client, hello(Role::Client)),
    ] {
        let mut caller = Caller::connect(addr);
        caller.say(&[&hello[..], &too_long].concat());
        assert_eq!(caller.reply(), (0, Answer::Welcome));
        let began = Instant::now();
        let (_, answer) = caller.reply();
        let Answer::Error(Error::TooLarge { .. }) = answer else {
            panic!("{answer:?}");
        };
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        caller.wait_closed();
    }
}

/// A message of member 2 to member 1 as a frame, and who says it.
fn member_that_says(daemon: &Daemon, message: &Message) -> (Caller, BytesMut) {
    let mut member = Caller::connect(&daemon.peer);
    member.say(&hello_of_member());
    assert_eq!(member.reply(), (0, Answer::Welcome));
    let mut frame = BytesMut::new();
    message.encode(&mut frame);
    (member, frame)
}

/// Large frames over a slow link would be begun again and again.
#[test]
fn a_frame_of_a_member_only_has_to_go_on() {
    let timeout = Duration::from_millis(1_000);
    let dir = tempfile::tempdir().unwrap();
    let mut command = one_of_two(dir.path(), "127.0.0.1:2", "3s");
    command.args(["--set", "net.frame_timeout=1s"]);
    let daemon = Daemon::start(command);
    let piece = Message::InstallSnapshot(InstallSnapshot {
        term: Term(1),
        round: 1,
        snapshot: EntryId {
            term: Term(1),
            index: Index(1),
        },
        total_bytes: 1_000_000,
        offset: 0,
        bytes: vec![0; 1_000_000].into(),
    });
    let (mut member, frame) = member_that_says(&daemon, &piece);
    let began = Instant::now();
    let pause = Some(Duration::from_millis(20));
    member.stream.set_read_timeout(pause).unwrap();
    for byte in frame.chunks(1) {
        if began.elapsed() >= 2 * timeout {
            break;
        }
        member.say(byte);
        let error = member.stream.peek(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "it is not closed");
    }
    member.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    member.wait_closed();
}

/// The receiver of a bit that was flipped on the way would wait for what never comes, and take the
/// messages that do come for it: an hour long, as each of them is a little of it.
#[test]
fn a_length_that_was_damaged_on_its_way_makes_no_member_deaf() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(one_of_two(dir.path(), "127.0.0.1:2", "3s"));
    let vote = Message::PreVote(PreVote {
        term: Term(1),
        last: EntryId::default(),
    });
    for bit in 6..22 {
        let (mut member, mut frame) = member_that_says(&daemon, &vote);
        frame[3 - bit / 8] ^= 1 << (bit % 8);
        let (most, last) = frame.split_at(frame.len() - 1);
        member.say(most);
        member.say(last);
        let (_, answer) = member.reply();
        let said = format!("{answer:?}");
        assert!(said.contains("a message ends before its frame"), "{said}");
        member.wait_closed();
    }
}

/// A port with room for one caller, and that one; the next must knock again, in a second.
fn full_listener() -> (TcpListener, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let only = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, only)
}

#[test]
fn a_peer_that_hears_nothing_is_dialled_anew() {
    let (deaf, _only) = full_listener();
    let dir = tempfile::tempdir().unwrap();
    let addr = deaf.local_addr().unwrap().to_string();
    let daemon = Daemon::start(one_of_two(dir.path(), &addr, "100ms"));
    let line = daemon.wait_line("peer link down peer=2");
    assert!(line.contains("too slow"), "{line}");
}

/// Whoever refuses a caller at once has done so before the caller looks: there is no further event.
#[test]
fn a_refusal_that_comes_with_the_connection_is_heard() {
    let (second, first_come) = full_listener();
    let addr = second.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(one_of_two(dir.path(), &addr.to_string(), "60s"));
    let knocks = format!(":{:04X} 02 ", addr.port());
    let began = Instant::now();
    while !fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .contains(&knocks)
    {
        assert!(began.elapsed() < PATIENCE, "it does not dial");
        thread::yield_now();
    }
    daemon.signal(Signal::STOP);
    drop((first_come, second.accept().unwrap()));
    let (mut dialled, _) = second.accept().unwrap();
    let mut refusal = BytesMut::new();
    Error::TooManyConnections { limit: 1 }.encode(0, &mut refusal);
    dialled.write_all(&refusal).unwrap();
    dialled.shutdown(Shutdown::Write).unwrap();
    daemon.signal(Signal::CONT);
    dialled.set_read_timeout(Some(PATIENCE)).unwrap();
    io::copy(&mut dialled, &mut io::sink()).expect("it is closed");
}

#[test]
fn a_peer_that_does_not_answer_is_dialled_anew() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let daemon = Daemon::start(one_of_two(dir.path(), &addr, "100ms"));
    for _ in 0..2 {
        let (mut dialled, _) = silent.accept().unwrap();
        dialled.set_read_timeout(Some(PATIENCE)).unwrap();
        io::copy(&mut dialled, &mut io::sink()).expect("it is closed");
    }
    daemon.wait_line("peer link down peer=2");
}

/// A port at which nobody listens says so at once: nothing is to be waited for.
#[test]
fn a_peer_that_is_not_there_yet_is_found_when_it_is() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(one_of_two(dir.path(), &addr.to_string(), "60s"));
    daemon.wait_line("peer link down peer=2");
    let listener = TcpListener::bind(addr).unwrap();
    let (mut dialled, _) = listener.accept().unwrap();
    dialled.set_read_timeout(Some(PATIENCE)).unwrap();
    dialled.read_exact(&mut [0; HEADER_BYTES]).expect("a hello");
}

/// The kernel refuses this address without a try.
#[test]
fn a_peer_that_cannot_be_dialled_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(one_of_two(dir.path(), "255.255.255.255:1", "60s"));
    daemon.wait_line("peer link down peer=2");
}
