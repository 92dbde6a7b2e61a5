//! One connection: dial, hello, frames in and out, each with a time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wire::client::Reply;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, Welcome};
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX};
use wire::types::{ClusterId, Epoch};

use super::error::Cause;

/// Bytes asked of the kernel in one read at least.
const READ_BYTES: usize = 16 * 1024;
/// Who waits for a name or a hello looks this often whether that is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A connection whose hello was accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    pipe: Pipe,
    /// Where it leads.
    pub(crate) endpoint: String,
    /// What the server said of itself.
    pub(crate) welcome: Welcome,
    /// The id of the next frame; 0 is the server's, for unsolicited messages.
    pub(crate) next_frame_id: u64,
}

/// What a wait for bytes brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Bytes came.
    Bytes,
    /// The time passed, or a signal came.
    Nothing,
}

impl Connection {
    /// Connects within `connect_timeout` and completes the hello within `timeout`, both counted
    /// from now. `cluster` and `epoch` name what the caller means, once it knows. A wait for a name
    /// or a hello ends when `is_cancelled` says so.
    pub(crate) fn dial(
        endpoint: &str,
        cluster: Option<ClusterId>,
        epoch: Option<Epoch>,
        connect_timeout: Duration,
        timeout: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, Cause> {
        let until = Instant::now() + timeout;
        let made = resolve(endpoint, until, is_cancelled).and_then(|addresses| {
            first_of(&addresses, until, |address, time| {
                let now = Instant::now();
                let mut pipe = Pipe::new(connect(address, now + time.min(connect_timeout))?);
                let welcome = greet(&mut pipe, cluster, epoch, now + time, is_cancelled)?;
                Ok((pipe, welcome))
            })
        });
        match made {
            Ok((pipe, welcome)) => Ok(Self {
                pipe,
                endpoint: endpoint.into(),
                welcome,
                next_frame_id: 1,
            }),
            Err(error) => Err(Cause {
                endpoint: endpoint.into(),
                text: describe(&error),
                timed_out: is_timeout(&error),
            }),
        }
    }

    /// Sends bytes. The error says how many of them left.
    pub(crate) fn send(&mut self, bytes: &[u8], until: Instant) -> Result<(), (usize, io::Error)> {
        self.pipe.send(bytes, until)
    }

    /// Reads what is there, waiting until `until` at most.
    pub(crate) fn fill(&mut self, until: Instant) -> io::Result<Filled> {
        self.pipe.fill(until)
    }

    /// The frame at the front, if it is complete.
    pub(crate) fn frame(&self) -> Result<Option<Frame<'_>>, wire::error::Error> {
        frame::parse(self.pipe.unread(), CLIENT_FRAME_BYTES_MAX)
    }

    /// Gives back the bytes of the frame at the front.
    pub(crate) fn consume(&mut self, length: usize) {
        self.pipe.start += length;
    }
}

/// Waits until one of two connections has something to read, or its end, until `until` at most. Says
/// of each whether it has.
pub(crate) fn await_either(
    one: &Connection,
    other: &Connection,
    until: Instant,
) -> io::Result<(bool, bool)> {
    let Some(timeout) = left(until) else {
        return Ok((false, false));
    };
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    let mut both = [
        PollFd::new(&one.pipe.stream, PollFlags::IN),
        PollFd::new(&other.pipe.stream, PollFlags::IN),
    ];
    match poll(&mut both, Some(&timeout)) {
        Ok(_) => {
            let [one, other] = both.map(|fd| !fd.revents().is_empty());
            Ok((one, other))
        }
        Err(Errno::INTR) => Ok((false, false)),
        Err(error) => Err(error.into()),
    }
}

/// Says hello and reads the answer. A refusal comes back as an error with the server's words.
fn greet(
    pipe: &mut Pipe,
    cluster: Option<ClusterId>,
    epoch: Option<Epoch>,
    until: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<Welcome> {
    let mut out = BytesMut::new();
    let hello = Hello {
        cluster,
        epoch,
        ..Hello::client()
    };
    hello.encode(&mut out);
    pipe.send(&out, until).map_err(|(_, error)| error)?;
    loop {
        let parsed = frame::parse(pipe.unread(), HELLO_FRAME_BYTES_MAX);
        if let Some(frame) = parsed.map_err(|error| protocol_error(&error))? {
            let length = frame.len;
            let welcome = read_welcome(&frame);
            pipe.start += length;
            return welcome;
        }
        let look = until.min(Instant::now() + LOOK);
        if pipe.fill(look)? == Filled::Nothing && (Instant::now() >= until || is_cancelled()) {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "connected, but no hello came back in time",
            ));
        }
    }
}

fn read_welcome(frame: &Frame<'_>) -> io::Result<Welcome> {
    if frame.kind == Kind::Welcome {
        return Welcome::decode(frame).map_err(|error| protocol_error(&error));
    }
    match Reply::decode(frame).map_err(|error| protocol_error(&error))? {
        Reply::Error(error) => Err(io::Error::other(error.to_string())),
        _ => Err(io::Error::other("the hello was answered by something else")),
    }
}

fn protocol_error(error: &wire::error::Error) -> io::Error {
    io::Error::other(format!(
        "the other end does not speak raftd's protocol: {error}"
    ))
}

/// A stream and what was received on it.
///
/// Invariants: `buffer[start..end]` is received and not consumed; the buffer grows only to hold
/// the frame at its front, whose length was checked, and one read.
#[derive(Debug)]
struct Pipe {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pipe {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn fill(&mut self, until: Instant) -> io::Result<Filled> {
        let Some(timeout) = left(until) else {
            return Ok(Filled::Nothing);
        };
        let wanted = frame::wanted(self.unread());
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let size = wanted.max(self.end) + READ_BYTES;
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )),
            Ok(count) => {
                self.end += count;
                Ok(Filled::Bytes)
            }
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {
                Ok(Filled::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, bytes: &[u8], until: Instant) -> Result<(), (usize, io::Error)> {
        let mut sent = 0;
        while sent < bytes.len() {
            let written = match left(until) {
                None => Err(ErrorKind::TimedOut.into()),
                Some(timeout) => self
                    .stream
                    .set_write_timeout(Some(timeout))
                    .and_then(|()| self.stream.write(&bytes[sent..])),
            };
            match written {
                Ok(0) => return Err((sent, ErrorKind::WriteZero.into())),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((sent, error)),
            }
        }
        Ok(())
    }
}

/// The time until then; `None` if it passed.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    // The kernel counts in microseconds, and zero would mean for ever.
    (left >= Duration::from_micros(1)).then_some(left)
}

/// Dials the addresses of a name in turn until one is there. None takes the time of those behind it.
fn first_of<T>(
    addresses: &[SocketAddr],
    until: Instant,
    mut dial: impl FnMut(&SocketAddr, Duration) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::other("the name has no address");
    for (address, rest) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(rest).unwrap_or(u32::MAX);
        match dial(address, share) {
            Ok(made) => return Ok(made),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect(address: &SocketAddr, until: Instant) -> io::Result<TcpStream> {
    let timeout = left(until).ok_or(ErrorKind::TimedOut)?;
    let stream = TcpStream::connect_timeout(address, timeout)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The addresses of `HOST:PORT`. A name is looked up on a thread of its own, because the system's
/// resolver knows no deadline.
fn resolve(
    endpoint: &str,
    until: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = endpoint.parse() {
        return Ok(vec![address]);
    }
    let name = endpoint.to_owned();
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            // Nobody listens any more if the deadline passed.
            let _ = sender.send(name.to_socket_addrs().map(Iterator::collect));
        })?;
    while let Some(left) = left(until).filter(|_| !is_cancelled()) {
        if let Ok(resolved) = receiver.recv_timeout(left.min(LOOK)) {
            return resolved;
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        "the name was not resolved in time",
    ))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The error as part of a sentence, without the number that std adds.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "the connection was reset".into(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut if error.get_ref().is_none() => {
            "timed out".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_mute_leaves_time_for_the_others_of_its_name() {
        let addresses = [1, 2, 3].map(|host| SocketAddr::from(([127, 0, 0, host], 7400)));
        let total = Duration::from_secs(60);
        let mut times = Vec::new();
        let until = Instant::now() + total;
        let made = first_of(&addresses, until, |address, time| {
            times.push(time);
            match address == &addresses[2] {
                true => Ok(*address),
                false => Err(ErrorKind::TimedOut.into()),
            }
        });
        assert_eq!(made.expect("the last is there"), addresses[2]);
        assert!(times[0] <= total / 3 && times[1] <= total / 2, "{times:?}");
        assert!(
            times[2] > total / 2,
            "what was not needed is left: {times:?}"
        );
        let nobody = first_of(&[], until, |_, _| Ok(()));
        assert!(nobody.is_err());
    }
}
