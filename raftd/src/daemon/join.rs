//! How a node becomes a member of a cluster that exists already (`--join`, rules D1): an operator has
//! added its name, and it asks the members who it is. Only then has it an identity, a log and a loop.
//!
//! The answer binds the id to the incarnation for ever. A node that dies before it has written that
//! down must come back under the same one: it is on disk before anybody is asked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use wire::client::{Admitted, Reply, Request};
use wire::error::Error;
use wire::frame;
use wire::hello::{Hello, LeaderHint, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::Incarnation;

use crate::clock::Clock;
use crate::entropy::random_u64;
use crate::fatal::{ExitStatus, Fatal};
use crate::signal::StopSignals;
use crate::supervisor::Supervisor;

/// Holds the incarnation until IDENTITY does.
const INCARNATION_NAME: &str = "INCARNATION.tmp";
/// For a connection, and for each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks for a signal.
const LOOK: Duration = Duration::from_millis(50);
/// Nodes that name each other as the leader are believed so often in one round.
const REDIRECTS_MAX: usize = 3;

/// Who asks.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// Client addresses of members.
    pub(super) seeds: Vec<String>,
    pub(super) name: String,
    /// Where its peers will find it.
    pub(super) peer_addr: String,
    pub(super) incarnation: Incarnation,
}

/// Why there is no answer yet.
enum Wait {
    /// A member says no, and may say yes later.
    Refused(Error),
    /// Somebody else is to be asked.
    Leader(LeaderHint),
    Io(io::Error),
}

impl From<io::Error> for Wait {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Wait {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeader { leader } if !leader.client_addr.is_empty() => Self::Leader(leader),
            error => Self::Refused(error),
        }
    }
}

/// The incarnation of a data directory that has no IDENTITY yet: drawn once, by who holds its lock.
///
/// # Errors
/// The directory cannot be read or written.
pub(super) fn incarnation(dir: &Path) -> Result<Incarnation, Fatal> {
    let path = dir.join(INCARNATION_NAME);
    let failed = |cause: &io::Error| {
        let what = format!("the data directory cannot be prepared: {cause}");
        Fatal::new(ExitStatus::Io, what).at(path.display())
    };
    match fs::read_to_string(&path) {
        // An empty file is one that was not finished; nobody was asked then.
        Ok(text) if !text.is_empty() => {
            let number = u64::from_str_radix(text.trim(), 16).ok().filter(|n| *n > 0);
            return number.map(Incarnation).ok_or_else(|| {
                Fatal::new(
                    ExitStatus::Damaged,
                    "the incarnation of the node is damaged",
                )
                .at(path.display())
                .remedy("an empty --data-dir, and replace-peer for this node's name")
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    let drawn = Incarnation(random_u64()?.max(1));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| {
        writeln!(file, "{:016x}", drawn.0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    });
    written.map_err(|error| failed(&error))?;
    Ok(drawn)
}

/// IDENTITY tells the incarnation from now on.
pub(super) fn forget_incarnation(dir: &Path) {
    // If it stays, nobody looks at it any more.
    let _ = fs::remove_file(dir.join(INCARNATION_NAME));
}

/// Asks until a leader says who this node is; `None` if a signal ended the wait.
///
/// Those who are asked may take their time, and so may the resolver. A signal does not wait for them:
/// they are asked on a thread of its own, which ends with the process.
///
/// # Errors
/// The name belongs to another data directory, or there is no room for a thread.
pub(super) fn await_admission(
    newcomer: Newcomer,
    supervisor: &mut Supervisor,
    signals: &mut StopSignals,
) -> Result<Option<Admitted>, Fatal> {
    let (answer, answers) = sync_channel(1);
    let asking = thread::Builder::new().name("join".to_owned());
    asking
        .spawn(move || {
            // Nobody listens if a signal came.
            let _ = answer.send(ask_until_told(&newcomer));
        })
        .map_err(|error| {
            Fatal::new(ExitStatus::Io, format!("no thread can be started: {error}"))
        })?;
    loop {
        match answers.recv_timeout(LOOK) {
            Ok(told) => return told.map(Some),
            Err(RecvTimeoutError::Timeout) if signals.take() > 0 => return Ok(None),
            Err(RecvTimeoutError::Timeout) => supervisor.ready_again(),
            Err(RecvTimeoutError::Disconnected) => unreachable!("a panic ends the process"),
        }
    }
}

fn ask_until_told(newcomer: &Newcomer) -> Result<Admitted, Fatal> {
    let mut told = String::new();
    loop {
        match ask_all(newcomer) {
            Ok(admitted) => return Ok(admitted),
            Err((_, Wait::Refused(error @ Error::WrongIncarnation { .. }))) => {
                return Err(Fatal::new(ExitStatus::Config, error.to_string())
                    .at(format!("member {}", newcomer.name))
                    .remedy("the data directory that it had before, or raftctl replace-peer"));
            }
            Err((by, wait)) => {
                let why = format!("by={by} why={:?}", wait.to_string());
                if why != told {
                    log::info!(
                        "waiting to be admitted name={} peer={} {why}",
                        newcomer.name,
                        newcomer.peer_addr
                    );
                    told = why;
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Asks the members one by one; what the last one said is what is told, and by whom.
fn ask_all(newcomer: &Newcomer) -> Result<Admitted, (String, Wait)> {
    let mut last = (
        String::new(),
        Wait::Io(io::Error::other("nobody is to be asked")),
    );
    for seed in &newcomer.seeds {
        let mut addr = seed.clone();
        for _ in 0..REDIRECTS_MAX {
            match ask(&addr, newcomer) {
                Ok(admitted) => return Ok(admitted),
                Err(Wait::Leader(leader)) => {
                    let next = leader.client_addr.clone();
                    last = (addr, Wait::Leader(leader));
                    addr = next;
                }
                // The leader's word is the cluster's.
                Err(Wait::Refused(
                    error @ (Error::Refused { .. } | Error::WrongIncarnation { .. }),
                )) => {
                    return Err((addr, Wait::Refused(error)));
                }
                Err(wait) => {
                    last = (addr, wait);
                    break;
                }
            }
        }
    }
    Err(last)
}

fn ask(addr: &str, newcomer: &Newcomer) -> Result<Admitted, Wait> {
    let mut stream = connect(addr)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let hello = Hello::client();
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    let request = Request::Join {
        name: &newcomer.name,
        peer_addr: &newcomer.peer_addr,
        incarnation: newcomer.incarnation,
    };
    stream.write_all(&out)?;
    let mut input = Vec::new();
    receive(&mut stream, &mut input, |frame| {
        match Welcome::decode(frame) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::decode(frame)?.into()),
        }
    })?;
    out.clear();
    request.encode(1, &mut out);
    stream.write_all(&out)?;
    receive(&mut stream, &mut input, |frame| {
        match Reply::decode(frame)? {
            Reply::Admitted(admitted) => Ok(admitted),
            Reply::Error(error) => Err(error.into()),
            _ => Err(Wait::Io(io::Error::other(
                "the answer is to something else",
            ))),
        }
    })
}

/// The first address of a name that takes a connection.
fn connect(addr: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in addr.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Waits for a whole frame, however many parts it comes in, and reads it.
fn receive<T>(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    read: impl FnOnce(&frame::Frame<'_>) -> Result<T, Wait>,
) -> Result<T, Wait> {
    let clock = Clock::start();
    let until = clock.monotonic() + ANSWER_TIMEOUT;
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = frame::parse(input, CLIENT_FRAME_BYTES_MAX)? {
            let length = frame.len;
            let taken = read(&frame);
            input.drain(..length);
            return taken;
        }
        let left = until.since(clock.monotonic());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        input.extend_from_slice(&chunk[..count]);
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(Error::Refused { reason, advice }) => write!(f, "{reason}; {advice}"),
            Self::Refused(error) => error.fmt(f),
            Self::Leader(leader) => write!(f, "node {} is said to lead", leader.node),
            Self::Io(error) => error.fmt(f),
        }
    }
}
