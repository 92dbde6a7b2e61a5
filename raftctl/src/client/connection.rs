//! One connection: dial, hello, frames in and out, each with a time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::TcpStream;
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
/// Who waits looks this often whether that is still wanted.
pub(super) const LOOK: Duration = Duration::from_millis(50);

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
    /// Where each frame begins in what is being sent.
    starts: Vec<(u64, usize)>,
}

/// What a wait for bytes brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Bytes came.
    Bytes,
    /// None came, and some that waited left.
    Left,
    /// The time passed, or a signal came.
    Nothing,
}

impl Connection {
    /// Connects within `connect_timeout` and completes the hello within `timeout`, both counted
    /// from now. `cluster` and `epoch` name what the caller means, once it knows. Every wait ends
    /// when `is_cancelled` says so.
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
                let connected = now + time.min(connect_timeout);
                let mut pipe = Pipe::new(connect(address, connected, is_cancelled)?);
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
                starts: Vec::new(),
            }),
            Err(error) => Err(Cause {
                endpoint: endpoint.into(),
                text: describe(&error),
                timed_out: is_timeout(&error),
            }),
        }
    }

    /// Sends frames, of which `starts` tells where each begins: at once what the kernel takes, and
    /// the rest while answers are awaited, so that a node that does not read is left like one that
    /// does not answer.
    ///
    /// # Panics
    /// If others are still being sent.
    pub(crate) fn send(&mut self, frames: BytesMut, starts: Vec<(u64, usize)>) -> io::Result<()> {
        assert!(!self.is_sending(), "frames would leave out of order");
        self.starts = starts;
        self.pipe.send(frames)
    }

    /// Whether the kernel did not take all frames yet.
    pub(crate) fn is_sending(&self) -> bool {
        self.pipe.is_sending()
    }

    /// The frames of which no byte left.
    pub(crate) fn never_left(&self) -> Vec<u64> {
        let waiting = self.starts.iter().filter(|_| self.is_sending());
        let unsent = waiting.filter(|(_, start)| *start >= self.pipe.sent);
        unsent.map(|(frame_id, _)| *frame_id).collect()
    }

    /// Whether the other end is there, as far as that can be told without waiting: its last words
    /// come before the end.
    pub(crate) fn is_open(&mut self) -> bool {
        let mut exchanged = self.exchange();
        while matches!(exchanged, Ok(Filled::Bytes)) {
            exchanged = self.exchange();
        }
        exchanged.is_ok()
    }

    /// Sends and reads what can be without waiting.
    pub(crate) fn exchange(&mut self) -> io::Result<Filled> {
        self.pipe.exchange()
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

/// Waits until one of two connections has something to read, or its end, or can send what waits for
/// that, until `until` at most. Says of each whether it has.
pub(crate) fn await_either(
    one: &Connection,
    other: Option<&Connection>,
    until: Instant,
) -> io::Result<(bool, bool)> {
    let pipes: Vec<_> = [Some(one), other].into_iter().flatten().collect();
    let mut polled: Vec<_> = pipes.iter().map(|c| c.pipe.poll_fd()).collect();
    await_any(&mut polled, until)?;
    let is_ready = |at: usize| polled.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok((is_ready(0), is_ready(1)))
}

/// Waits until one of these is ready, until `until` at most; false if none is.
fn await_any(polled: &mut [PollFd<'_>], until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(polled, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
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
    pipe.send(out)?;
    loop {
        let parsed = frame::parse(pipe.unread(), HELLO_FRAME_BYTES_MAX);
        if let Some(frame) = parsed.map_err(|error| protocol_error(&error))? {
            let length = frame.len;
            let welcome = read_welcome(&frame);
            pipe.start += length;
            return welcome;
        }
        let now = Instant::now();
        if now >= until || is_cancelled() {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "connected, but no hello came back in time",
            ));
        }
        if await_any(&mut [pipe.poll_fd()], until.min(now + LOOK))? {
            pipe.exchange()?;
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

/// A stream that never blocks, what was received on it, and what waits to leave.
///
/// Invariants: `buffer[start..end]` is received and not consumed; the buffer grows only to hold
/// the frame at its front, whose length was checked, and one read; `out[..sent]` has left, and `out`
/// is empty once all of it has.
#[derive(Debug)]
struct Pipe {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    out: BytesMut,
    sent: usize,
}

impl Pipe {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            out: BytesMut::new(),
            sent: 0,
        }
    }

    fn is_sending(&self) -> bool {
        !self.out.is_empty()
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let flags = match self.is_sending() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        PollFd::new(&self.stream, flags)
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn exchange(&mut self) -> io::Result<Filled> {
        let filled = self.fill()?;
        let before = self.sent;
        let pushed = self.push();
        match filled {
            // If nothing more leaves, that is seen again once these are taken in.
            Filled::Bytes => Ok(filled),
            Filled::Left | Filled::Nothing => pushed.map(|()| match self.sent > before {
                true => Filled::Left,
                false => Filled::Nothing,
            }),
        }
    }

    fn fill(&mut self) -> io::Result<Filled> {
        let wanted = frame::wanted(self.unread());
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let size = wanted.max(self.end) + READ_BYTES;
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )),
            Ok(count) => {
                self.end += count;
                Ok(Filled::Bytes)
            }
            Err(error) if is_not_now(&error) => Ok(Filled::Nothing),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, bytes: BytesMut) -> io::Result<()> {
        self.out = bytes;
        self.sent = 0;
        self.push()
    }

    /// Gives the kernel what it takes.
    fn push(&mut self) -> io::Result<()> {
        while self.is_sending() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if is_not_now(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.sent == self.out.len() {
                self.out = BytesMut::new();
            }
        }
        Ok(())
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The time until then; `None` if it passed.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
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

fn connect(
    address: &SocketAddr,
    until: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<TcpStream> {
    left(until).ok_or(ErrorKind::TimedOut)?;
    let stream = TcpStream::connect(*address)?;
    loop {
        let look = until.min(Instant::now() + LOOK);
        if await_any(&mut [PollFd::new(&stream, PollFlags::OUT)], look)? {
            break;
        }
        if left(until).is_none() || is_cancelled() {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
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
