//! A real daemon and hand-made connections to it.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use wire::client::{Consistency, Reply, Request};
use wire::command::{self, SessionId};
use wire::error::Error;
use wire::frame::{self, Frame, HEADER_BYTES, Kind};
use wire::hello::{Hello, Role, VERSION_MAX, VERSION_MIN, Welcome};

/// What a test waits at most for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with its log.
pub(crate) struct Daemon {
    child: Child,
    /// The lines of its log so far.
    pub(crate) lines: Receiver<String>,
    /// Where clients reach it.
    pub(crate) client: String,
    /// Where peers reach it.
    pub(crate) peer: String,
}

/// The daemon's command.
pub(crate) fn raftd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftd"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a daemon that ends by itself; its status and stderr.
pub(crate) fn run(args: &[&str]) -> (Option<i32>, String) {
    let done = raftd(args).output().unwrap();
    assert_eq!(done.stdout, b"", "stdout is for nothing");
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

impl Daemon {
    /// A one-node cluster on free ports.
    pub(crate) fn dev(args: &[&str]) -> Self {
        let fixed = [
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "wal.segment_bytes=1MiB",
        ];
        Self::start(raftd(&[&fixed, args].concat()))
    }

    /// Starts `command` and waits for its event `ready`.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (client, peer) = wait_ready(&mut stderr);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            client,
            peer,
        }
    }

    /// A client whose hello was accepted.
    pub(crate) fn client(&self) -> Caller {
        let mut caller = Caller::connect(&self.client);
        caller.greet();
        caller
    }

    /// Asserts that a new client is served promptly.
    pub(crate) fn serves(&self) {
        let began = Instant::now();
        let mut caller = self.client();
        caller.ask(7, &get(b"nothing"));
        // A one-node cluster has just elected itself, or is about to.
        assert!(matches!(caller.reply(), (7, Answer::Missing)));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            thread::yield_now();
        }
    }

    /// Waits for a line of its log.
    pub(crate) fn wait_line(&self, part: &str) -> String {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(_) => panic!("its log does not say {part:?}"),
            }
        }
    }

    /// A field of `/proc/PID/status`, in kB or as it is.
    pub(crate) fn proc_status(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).unwrap().count()
    }

    /// Lets it have so many files open from now on.
    pub(crate) fn limit_files(&self, files: usize) {
        let limit = Rlimit {
            current: Some(files as u64),
            maximum: Some(files as u64),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split_whitespace()
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM first: --dev cleans up after itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(None) => thread::yield_now(),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_ready(stderr: &mut BufReader<ChildStderr>) -> (String, String) {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "it ended:\n{seen}");
        let Some((_, addrs)) = seen[start..].split_once("ready client=") else {
            continue;
        };
        let (client, peer) = addrs.trim_end().split_once(" peer=").unwrap();
        return (client.to_owned(), peer.to_owned());
    }
}

/// Whether the process ended by itself with this status.
pub(crate) fn exited(status: ExitStatus, code: i32) -> bool {
    status.code() == Some(code) && status.signal().is_none()
}

/// A reply, without borrowing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Welcome,
    Written,
    Missing,
    Value(usize),
    Other,
    Error(Error),
}

/// A connection made by hand.
pub(crate) struct Caller {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

impl Caller {
    pub(crate) fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: Vec::new(),
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Says hello as a client and reads the welcome.
    pub(crate) fn greet(&mut self) -> Welcome {
        self.say(&hello(Role::Client));
        self.frame(|frame| Welcome::decode(frame).unwrap())
    }

    pub(crate) fn ask(&mut self, id: u64, request: &Request<'_>) {
        let mut out = BytesMut::new();
        request.encode(id, &mut out);
        self.say(&out);
    }

    /// The next frame.
    pub(crate) fn frame<T>(&mut self, look: impl FnOnce(&Frame<'_>) -> T) -> T {
        loop {
            if let Some(frame) = frame::parse(&self.input, usize::MAX).unwrap() {
                let (seen, len) = (look(&frame), frame.len);
                self.input.drain(..len);
                return seen;
            }
            let mut bytes = [0; 65536];
            let count = match self.stream.read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("reading: {error}"),
            };
            assert_ne!(count, 0, "the connection was closed within a frame");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    /// The next reply with its request id.
    pub(crate) fn reply(&mut self) -> (u64, Answer) {
        self.frame(|frame| {
            let answer = match frame.kind {
                Kind::Welcome => Answer::Welcome,
                _ => match Reply::decode(frame).unwrap() {
                    Reply::Written { .. } => Answer::Written,
                    Reply::Missing { .. } => Answer::Missing,
                    Reply::Value { item, .. } => Answer::Value(item.value.len()),
                    Reply::Error(error) => Answer::Error(error),
                    _ => Answer::Other,
                },
            };
            (frame.request_id, answer)
        })
    }

    /// Asserts that the other end closes, without a further frame; a reset will do.
    pub(crate) fn wait_closed(mut self) {
        assert!(self.input.is_empty(), "frames are left");
        match io::copy(&mut self.stream, &mut io::sink()) {
            Ok(count) => assert_eq!(count, 0, "more came"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Puts a value.
    pub(crate) fn put(&mut self, welcome: &Welcome, seq: u64, key: &[u8], value: &[u8]) {
        let write = command::Write {
            session: SessionId {
                epoch: welcome.epoch,
                born: welcome.applied,
                nonce: 99,
            },
            seq,
            floor: seq,
            command: command::Command::Put { key, value },
        };
        let mut body = BytesMut::new();
        write.encode_body(&mut body);
        self.ask(
            seq,
            &Request::Write {
                deadline_ms: 0,
                write,
                body: &body,
            },
        );
    }
}

pub(crate) fn hello(role: Role) -> Vec<u8> {
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        cluster: None,
        epoch: None,
        group: 0,
        role,
    };
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    out.to_vec()
}

pub(crate) fn get(key: &[u8]) -> Request<'_> {
    Request::Get {
        deadline_ms: 0,
        freshness: Consistency::Linearizable.into(),
        key,
    }
}

/// A frame's header that claims `bytes` of payload.
pub(crate) fn header(bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let length = u32::try_from(HEADER_BYTES - 4 + bytes).unwrap();
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4] = VERSION_MAX;
    header[5] = Kind::Get.code();
    header[15] = 1;
    header
}
