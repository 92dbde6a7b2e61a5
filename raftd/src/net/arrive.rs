//! New connections: accepted within limits, or dialled.

use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use raft::Instant;
use socket2::SockRef;
use wire::error::Error;
use wire::types::NodeId;

use super::Port;
use super::accept::{Accepted, Accepting, tune};
use super::connection::Phase;
use super::dial::Due;
use super::event_loop::Driver;

/// Accepted connections on the peer port, per member.
const ACCEPTED_PER_MEMBER_MAX: usize = 8;
/// How often running out of descriptors is logged.
const EXHAUSTION_LOG_EVERY: Duration = Duration::from_secs(10);

impl Driver {
    /// Accepts what waits, within limits.
    pub(super) fn accept(&mut self) {
        let now = self.now.monotonic;
        for index in 0..self.accepting.len() {
            for _ in 0..Accepting::TURN_MAX {
                let port = self.accepting[index].port;
                if !self.accepting[index].has_work(now) || self.must_wait(port) {
                    break;
                }
                match self.accepting[index].accept(now) {
                    Accepted::Stream(socket) => self.admit(socket, port),
                    Accepted::Nobody => {}
                    Accepted::Exhausted(error) => self.exhausted(&error, now),
                }
            }
        }
    }

    fn exhausted(&mut self, error: &std::io::Error, now: Instant) {
        if self
            .exhausted_at
            .is_none_or(|at| now >= at + EXHAUSTION_LOG_EVERY)
        {
            self.exhausted_at = Some(now);
            let open = self.table.counts.clients;
            log::error!("accepting paused connections={open} error=\"{error}\"");
        }
        if let Some(oldest) = self.table.oldest_newcomer(Port::Client)
            && !self.is_unread(oldest)
        {
            self.close(oldest, false, "pushed out");
        }
    }

    /// Whether the next connection would push out one that is unread. The next turn begins at once.
    fn must_wait(&mut self, port: Port) -> bool {
        if !self.is_full(port) && !self.is_crowded(port) {
            return false;
        }
        let oldest = self.table.oldest_newcomer(port);
        oldest.is_some_and(|oldest| self.is_unread(oldest))
    }

    /// Whether a connection came in this turn, so that nothing of it could be read yet.
    fn is_unread(&mut self, id: u64) -> bool {
        let now = self.now.monotonic;
        self.table.get(id).is_some_and(|open| open.opened == now)
    }

    fn limit(&self, port: Port) -> usize {
        match port {
            Port::Client => self.limits.connections_max,
            Port::Peer => self.dialler.members() * ACCEPTED_PER_MEMBER_MAX,
        }
    }

    fn is_full(&self, port: Port) -> bool {
        let counts = self.table.counts;
        let open = match port {
            Port::Client => counts.clients,
            Port::Peer => counts.accepted_peers,
        };
        open >= self.limit(port) + counts.leaving[port as usize]
    }

    fn is_crowded(&self, port: Port) -> bool {
        port == Port::Client && self.table.counts.newcomers >= self.limits.newcomers_max
    }

    /// Takes a connection in, if need be at the cost of the oldest that has not said hello: only
    /// those that have count as users.
    fn admit(&mut self, socket: TcpStream, port: Port) {
        let full = self.is_full(port);
        let mut refused = false;
        if full || self.is_crowded(port) {
            match self.table.oldest_newcomer(port) {
                Some(oldest) => self.close(oldest, false, "pushed out"),
                None => refused = full,
            }
        }
        let now = self.now.monotonic;
        let registry = self.poll.registry();
        let phase = Phase::Newcomer;
        match self.table.insert(registry, socket, port, phase, now) {
            Ok(id) if refused => {
                let limit = self.limit(port) as u64;
                self.refuse(id, &Error::TooManyConnections { limit }, 0);
            }
            Ok(id) => self.table.arm(id, &self.limits),
            Err(error) => log::warn!("connection lost error=\"{error}\""),
        }
    }

    /// Dials whom it is time to dial.
    pub(super) fn dial(&mut self) {
        let now = self.now.monotonic;
        while let Some(answer) = self.resolver.next() {
            self.dialler.resolved(answer, now);
        }
        while let Some(due) = self.dialler.next_due(now) {
            match due {
                Due::Dial(peer, addr) => {
                    if let Err(error) = self.connect(peer, addr) {
                        self.dialler.failed(peer, now, &error.to_string());
                    }
                }
                Due::Resolve(peer, name) => {
                    if !self.resolver.ask(name) {
                        self.dialler.failed(peer, now, "the resolver is busy");
                    }
                }
            }
        }
    }

    fn connect(&mut self, peer: NodeId, addr: SocketAddr) -> std::io::Result<()> {
        let socket = TcpStream::connect(addr)?;
        tune(
            &SockRef::from(&socket),
            Port::Peer,
            self.limits.stall_timeout,
        )?;
        let phase = Phase::Connecting(peer);
        let now = self.now.monotonic;
        let id = self
            .table
            .insert(self.poll.registry(), socket, Port::Peer, phase, now)?;
        self.table.arm(id, &self.limits);
        self.dialler.dialled(peer, id);
        Ok(())
    }

    /// TCP's handshake is over, one way or the other: say hello.
    pub(super) fn finish_connect(&mut self, id: u64, peer: NodeId) {
        let Some(connection) = self.table.get(id) else {
            return;
        };
        match connection.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return self.close(id, false, &error.to_string()),
        }
        if connection.socket.peer_addr().is_err() {
            // Not yet: another event will tell.
            return;
        }
        connection.writable = true;
        let early = connection.readable;
        let (hello, asked) = self.node.hello_to(peer);
        self.table.set_phase(id, Phase::Greeting { peer, asked });
        self.table.append(id, |out| hello.encode(out));
        self.mark_dirty(id);
        if early {
            // What came with the connection: no other event tells of it.
            self.enqueue(id);
        }
    }
}
