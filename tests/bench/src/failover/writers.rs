//! Who writes while leaders fall: threads that put at a fixed rate, come what may, and remember when
//! each put was acknowledged.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftctl::bench::load::{Action, Material, Random};
use raftctl::bench::protocol::{Answer, Protocol};
use raftctl::client::{Client, Command, Deadline, Error, Options, Outcome};

use super::CALL;
use crate::etcd::Etcd;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Threads, each with a connection of its own.
const WRITERS: u32 = 16;
/// Puts per second, of all together.
const PUTS_PER_SECOND: u32 = 2_000;
/// Pause between two increments of the counter that shows whether a write was done twice.
const INCREMENT_PAUSE: Duration = Duration::from_millis(20);
/// A peer's server that does not answer for so long is left for another one.
const PEER_PATIENCE: Duration = Duration::from_millis(500);
const VALUE: [u8; 256] = [b'v'; 256];
const COUNTER: &[u8] = b"failover/counter";

/// What one writer saw.
#[derive(Debug, Default)]
pub struct Log {
    /// When each put was acknowledged.
    pub acked: Vec<Instant>,
    /// Keys of these, in the same order.
    pub keys: Vec<String>,
    /// Calls that were not done within their time.
    pub failed: Vec<String>,
}

/// A connection to some cluster that finds the leader again.
trait Writer {
    /// Puts a key; returns when that is acknowledged.
    fn put(&mut self, key: &str) -> Fallible<()>;
}

/// Runs `faults` while writers put; returns what they saw.
pub fn run<T>(
    endpoints: &[String],
    is_raftd: bool,
    faults: impl FnOnce() -> super::Outcome<T>,
) -> super::Outcome<(T, Vec<Log>)> {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<ScopedJoinHandle<'_, Log>> = (0..WRITERS)
            .map(|writer| {
                let stop = &stop;
                scope.spawn(move || {
                    if is_raftd {
                        let client = Client::new(Options::new(endpoints.to_vec()));
                        write(writer, began, stop, client)
                    } else {
                        write(writer, began, stop, Peer::new(endpoints, writer))
                    }
                })
            })
            .collect();
        let counted = is_raftd.then(|| scope.spawn(|| count(endpoints, &stop)));
        let done = faults();
        stop.store(true, Ordering::Relaxed);
        let logs = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"));
        let logs = logs.collect();
        if let Some(counted) = counted {
            let counted = counted.join().expect("a counter");
            counted.map_err(|error| error.to_string())?;
        }
        Ok((done?, logs))
    })
}

/// Puts at its share of the rate: what was due in a gap is done after it.
fn write(number: u32, began: Instant, stop: &AtomicBool, mut writer: impl Writer) -> Log {
    let mut log = Log::default();
    let period = Duration::from_secs(1) / PUTS_PER_SECOND;
    for turn in 0.. {
        let due = began + period * (turn * WRITERS + number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("failover/{number:02}/{turn:07}");
        match writer.put(&key) {
            Ok(()) => {
                log.acked.push(Instant::now());
                log.keys.push(key);
            }
            Err(error) => log.failed.push(format!("{key}: {error}")),
        }
    }
    log
}

impl Writer for Client {
    fn put(&mut self, key: &str) -> Fallible<()> {
        let key = key.as_bytes();
        let put = Command::Put { key, value: &VALUE };
        settle(self, put).map(|_| ())
    }
}

/// Does a write, and asks for its outcome if the first answer does not tell, within one call's time.
fn settle(client: &mut Client, command: Command<'_>) -> Fallible<Outcome> {
    let deadline = Deadline::after(CALL);
    let written = match client.write(command, deadline) {
        Err(Error::Unknown { request, .. }) => client.resume(request, command, deadline),
        result => result,
    };
    Ok(written?.outcome)
}

/// Increments a counter, each time to one more than before.
fn count(endpoints: &[String], stop: &AtomicBool) -> Fallible<()> {
    let mut client = Client::new(Options::new(endpoints.to_vec()));
    for expected in 1.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let increment = Command::Increment {
            key: COUNTER,
            delta: 1,
        };
        let outcome = settle(&mut client, increment)?;
        if outcome != Outcome::Incremented(expected) {
            return Err(format!("increment {expected} was lost or doubled: {outcome:?}").into());
        }
        thread::sleep(INCREMENT_PAUSE);
    }
    Ok(())
}

/// A client of the peer: one connection, and the next endpoint when that fails or is silent.
struct Peer {
    endpoints: Vec<String>,
    at: usize,
    link: Option<(TcpStream, Etcd)>,
    material: Material,
    random: Random,
    token: u64,
}

impl Peer {
    fn new(endpoints: &[String], number: u32) -> Self {
        let mut random = Random::new(u64::from(number) + 1);
        Self {
            endpoints: endpoints.to_vec(),
            at: number as usize % endpoints.len(),
            link: None,
            material: Material::new(100_000, VALUE.len(), &mut random),
            random,
            token: 0,
        }
    }

    /// One attempt on the connection that is there, or a new one.
    fn attempt(&mut self) -> io::Result<bool> {
        let endpoint = &self.endpoints[self.at];
        let mut out = BytesMut::new();
        if self.link.is_none() {
            let addr: SocketAddr = endpoint.parse().map_err(io::Error::other)?;
            let stream = TcpStream::connect_timeout(&addr, PEER_PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PEER_PATIENCE))?;
            let mut protocol = Etcd::new(endpoint);
            protocol.open(&mut out);
            self.link = Some((stream, protocol));
        }
        let Some((stream, protocol)) = &mut self.link else {
            return Ok(false);
        };
        self.token += 1;
        let key = u32::try_from(self.token % 100_000).unwrap_or(0);
        let operation = self.material.operation(Action::Put, key, &mut self.random);
        protocol.send(key, operation, false, &self.material, &mut out);
        stream.write_all(&out)?;
        let (mut input, mut answers) = (Vec::new(), Vec::new());
        let mut chunk = [0; 4096];
        loop {
            let count = stream.read(&mut chunk)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            input.extend_from_slice(&chunk[..count]);
            out.clear();
            let used = protocol.receive(&input, &mut answers, &mut out);
            input.drain(..used.map_err(io::Error::other)?);
            stream.write_all(&out)?;
            for answer in answers.drain(..) {
                match answer {
                    Answer::Done { token, .. } if token == key => return Ok(true),
                    Answer::Refused { token } if token == key => return Ok(false),
                    _ => {}
                }
            }
        }
    }
}

impl Writer for Peer {
    fn put(&mut self, _key: &str) -> Fallible<()> {
        let end = Instant::now() + CALL;
        loop {
            match self.attempt() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => self.at = (self.at + 1) % self.endpoints.len(),
            }
            self.link = None;
            if Instant::now() > end {
                return Err("no answer".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
