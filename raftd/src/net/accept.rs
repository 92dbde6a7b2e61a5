//! The two listeners.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use raft::Instant;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::Port;
use crate::fatal::{ExitStatus, Fatal};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// When descriptors run out, nothing is accepted for this long: the listener stays readable, and
/// trying on would spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in one turn.
const ACCEPTS_MAX: usize = 64;

/// Unsent bytes that the kernel takes of a connection. It says that it has room when half of them are
/// sent; without this bound when a third of its buffer is, which is megabytes: a slow reader, or a slow
/// line, would seem to stand still for longer than the stall timeout.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// A port. Bound before the data directory is opened, so that a busy port is found first; it
/// listens only when the node has recovered.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The real address: port 0 was replaced.
    pub addr: SocketAddr,
    /// Which one it is.
    pub port: Port,
}

impl Listener {
    /// Binds to `HOST:PORT`. The socket options are those of every connection accepted on it.
    ///
    /// # Errors
    /// The name has no address, the port is busy (69) or not permitted (77).
    pub fn bind(text: &str, port: Port, stall_timeout: Duration) -> Result<Self, Fatal> {
        let flag = match port {
            Port::Client => "--listen",
            Port::Peer => "--peer-listen",
        };
        let failed = |error: &io::Error| {
            let (status, remedy) = match error.kind() {
                ErrorKind::AddrInUse => (
                    ExitStatus::Unavailable,
                    format!("another port with {flag}; ss -ltnp tells who has this one"),
                ),
                ErrorKind::PermissionDenied => (
                    ExitStatus::Permission,
                    format!("a port above 1023 with {flag}"),
                ),
                _ => (
                    ExitStatus::Config,
                    format!("an address of this machine with {flag}"),
                ),
            };
            let what = format!("listening failed: {error}");
            Fatal::new(status, what)
                .at(format!("{flag} {text}"))
                .remedy(remedy)
        };
        Self::try_bind(text, port, stall_timeout).map_err(|error| failed(&error))
    }

    fn try_bind(text: &str, port: Port, stall_timeout: Duration) -> io::Result<Self> {
        // Before the loop runs, a name may take its time.
        let addr = text
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::other("the name has no address"))?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        tune(&socket, port, stall_timeout)?;
        socket.bind(&addr.into())?;
        let addr = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("no internet address"))?;
        Ok(Self { socket, addr, port })
    }

    /// Begins to listen.
    pub(super) fn listen(self) -> Result<Accepting, Fatal> {
        self.socket.listen(BACKLOG).map_err(|error| {
            Fatal::new(
                ExitStatus::Unavailable,
                format!("listening failed: {error}"),
            )
            .at(self.addr)
        })?;
        Ok(Accepting {
            socket: TcpListener::from_std(self.socket.into()),
            port: self.port,
            ready: true,
            paused_until: None,
        })
    }
}

/// What every connection is given: no delay of small writes (replies are batched already), a sight of
/// its progress, and an end for a machine that vanished without a word.
pub(super) fn tune(socket: &Socket, port: Port, stall_timeout: Duration) -> io::Result<()> {
    let (idle, interval) = match port {
        Port::Client => (60, 15),
        Port::Peer => (5, 1),
    };
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(idle))
            .with_interval(Duration::from_secs(interval))
            .with_retries(4),
    )?;
    socket.set_tcp_user_timeout(Some(stall_timeout))
}

/// What came of an attempt to accept.
pub(super) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// Nobody waits.
    Nobody,
    /// Descriptors or memory ran out; the listener pauses.
    Exhausted(io::Error),
}

/// A listening port.
///
/// Invariants:
/// - `ready` is cleared only when nobody waits: with edge-triggered events nobody reminds us;
/// - while `paused_until` is set, nothing is accepted: running out of descriptors does not spin.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) socket: TcpListener,
    pub(super) port: Port,
    pub(super) ready: bool,
    pub(super) paused_until: Option<Instant>,
}

impl Accepting {
    /// How many connections a turn may take.
    pub(super) const TURN_MAX: usize = ACCEPTS_MAX;

    /// Whether [`Accepting::accept`] would do something now.
    pub(super) fn has_work(&self, now: Instant) -> bool {
        self.ready && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Takes the next connection.
    pub(super) fn accept(&mut self, now: Instant) -> Accepted {
        self.paused_until = None;
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => return Accepted::Stream(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready = false;
                    return Accepted::Nobody;
                }
                // The caller was gone before it was accepted; accept(2) hands on its errors.
                Err(error) if !is_exhaustion(&error) => {}
                Err(error) => {
                    self.paused_until = Some(now + PAUSE);
                    return Accepted::Exhausted(error);
                }
            }
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhausted
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    fn accepted_connections_inherit_the_options_of_their_port() {
        let stall_timeout = Duration::from_secs(7);
        let listener = Listener::bind("127.0.0.1:0", Port::Peer, stall_timeout).unwrap();
        assert_ne!(listener.addr.port(), 0);
        let addr = listener.addr;
        let refused = std::net::TcpStream::connect(addr).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::ConnectionRefused,
            "it does not listen yet"
        );
        let mut accepting = listener.listen().unwrap();
        let _caller = std::net::TcpStream::connect(addr).unwrap();
        let Accepted::Stream(stream) = accepting.accept(Instant(0)) else {
            panic!("somebody waits");
        };
        let stream = SockRef::from(&stream);
        assert!(stream.tcp_nodelay().unwrap());
        assert!(stream.keepalive().unwrap());
        assert_eq!(stream.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        assert_eq!(stream.tcp_user_timeout().unwrap(), Some(stall_timeout));
        assert!(matches!(accepting.accept(Instant(0)), Accepted::Nobody));
        assert!(!accepting.has_work(Instant(0)));
    }
}
