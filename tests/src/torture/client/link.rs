//! One connection of a client: hello, frames out, replies in, each within a time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::frame::{self, Kind};
use wire::hello::{Hello, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;

/// Bytes asked of the kernel in one read.
const READ_BYTES: usize = 64 * 1024;

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Answers,
    Nothing,
}

/// A connection whose hello was accepted.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    /// No other connection of the run has it.
    pub(super) number: u64,
    /// What the server said of itself.
    pub(super) welcome: Welcome,
    received: Vec<u8>,
    out: BytesMut,
    /// Requests so far: the last one's id.
    requests: u64,
}

impl Link {
    /// Connects and completes the hello. `Err` tells nothing: whatever it was, one tries another.
    pub(super) fn dial(addr: &str, number: u64, until: Instant) -> Result<Self, ()> {
        let addr = addr.parse().map_err(drop)?;
        let mut stream = TcpStream::connect_timeout(&addr, left(until)?).map_err(drop)?;
        stream.set_nodelay(true).map_err(drop)?;
        let mut out = BytesMut::new();
        let hello = Hello::client();
        hello.encode(&mut out);
        stream.write_all(&out).map_err(drop)?;
        let mut received = Vec::new();
        loop {
            let parsed = frame::parse(&received, CLIENT_FRAME_BYTES_MAX).map_err(drop)?;
            if let Some(frame) = parsed {
                let welcome = Welcome::decode(&frame).map_err(drop)?;
                let length = frame.len;
                received.drain(..length);
                out.clear();
                return Ok(Self {
                    stream,
                    number,
                    welcome,
                    received,
                    out,
                    requests: 0,
                });
            }
            fill(&mut stream, &mut received, until).map_err(drop)?;
            left(until)?;
        }
    }

    /// Puts a request behind those that wait to leave; its id is its place on the connection.
    pub(super) fn queue(&mut self, request: &Request<'_>) -> u64 {
        self.requests += 1;
        request.encode(self.requests, &mut self.out);
        self.requests
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, until: Instant) {
        let out = self.out.split();
        let Ok(timeout) = left(until) else { return };
        let _ = self.stream.set_write_timeout(Some(timeout));
        let _ = self.stream.write_all(&out);
    }

    /// Sends RST instead of whatever else would have come.
    pub(super) fn reset(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        // With nothing to linger for, the end of both directions is a reset at the drop; until
        // then nothing more is read.
        let _ = self.stream.shutdown(std::net::Shutdown::Read);
    }

    /// Waits for answers and gives each to `take`. The error is `take`'s, or `None` for a lost
    /// connection.
    pub(super) fn receive(
        &mut self,
        until: Instant,
        mut take: impl FnMut(u64, &Reply<'_>) -> Result<(), String>,
    ) -> Result<Told, Option<String>> {
        if !fill(&mut self.stream, &mut self.received, until).map_err(|()| None)? {
            return Ok(Told::Nothing);
        }
        let mut start = 0;
        loop {
            let rest = &self.received[start..];
            let bad = |error| Some(format!("a bad frame: {error}"));
            let Some(frame) = frame::parse(rest, CLIENT_FRAME_BYTES_MAX).map_err(bad)? else {
                break;
            };
            let reply = Reply::decode(&frame).map_err(bad)?;
            if frame.request_id == 0 && frame.kind == Kind::Error {
                // The server gives the connection up.
                return Err(None);
            }
            take(frame.request_id, &reply).map_err(Some)?;
            start += frame.len;
        }
        self.received.drain(..start);
        Ok(Told::Answers)
    }
}

/// Reads what is there, waiting at most until then. False: nothing came.
fn fill(stream: &mut TcpStream, received: &mut Vec<u8>, until: Instant) -> Result<bool, ()> {
    let Ok(timeout) = left(until) else {
        return Ok(false);
    };
    stream.set_read_timeout(Some(timeout)).map_err(drop)?;
    let mut buffer = [0; READ_BYTES];
    match stream.read(&mut buffer) {
        Ok(0) => Err(()),
        Ok(count) => {
            received.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
            _ => Err(()),
        },
    }
}

/// The time until then, which must not have passed.
fn left(until: Instant) -> Result<Duration, ()> {
    let left = until.saturating_duration_since(Instant::now());
    // The kernel counts in microseconds, and zero would mean for ever.
    if left < Duration::from_micros(1) {
        Err(())
    } else {
        Ok(left)
    }
}
