//! One connection of the generator: a socket, its buffers and the operations in flight on it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;

use super::load::{Material, Operation};
use super::protocol::{Answer, Protocol, Token};

/// Where a channel stands. Times are nanoseconds on the engine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No socket; the next attempt is due at this time.
    Closed { retry_at: u64 },
    /// Connecting, or connected and not ready; given up at this time.
    Opening { give_up_at: u64 },
    /// Takes operations.
    Serving,
    /// Something was refused: nothing new is sent until all that is on the wire is answered, then
    /// the refused operations go out again in their first order. (Writes of one session apply in
    /// order, rules C5: what follows a refused one is refused too.)
    Settling { retry_at: Option<u64> },
}

/// An operation's place on a channel.
#[derive(Clone, Copy, Debug)]
struct Slot {
    operation: Operation,
    /// When it was meant to be sent: latency counts from here.
    intended_ns: u64,
    /// Its place in the order of first sending.
    order: u64,
    phase: SlotPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotPhase {
    Free,
    OnWire,
    Refused,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The socket may hold more.
    More,
    /// The socket is empty.
    Drained,
    /// The connection is gone, and why.
    Gone(String),
}

/// Invariants:
/// - `on_wire` and `refused` count the slots in those phases; `free` names all others;
/// - no slot is on the wire unless the state is `Serving` or `Settling`;
/// - `out` holds bytes of the current socket only.
#[derive(Debug)]
pub(super) struct Channel<P> {
    pub(super) protocol: P,
    pub(super) state: State,
    /// The other end of the present or last socket.
    pub(super) addr: Option<SocketAddr>,
    /// When the last answer came, or the wait for one began.
    pub(super) heard_ns: u64,
    /// The pause before the next attempt; doubles until something succeeds.
    pub(super) pause_ns: u64,
    /// The last phase in which it was ready.
    pub(super) greeted_in: u64,
    /// Whether the engine already plans to flush it in this turn.
    pub(super) dirty: bool,
    pub(super) stream: Option<TcpStream>,
    /// The socket is connected and the protocol's opening was written.
    pub(super) opened: bool,
    out: BytesMut,
    /// The front of a message whose rest has not arrived.
    rest: Vec<u8>,
    slots: Vec<Slot>,
    free: Vec<Token>,
    on_wire: usize,
    refused: usize,
    next_order: u64,
}

impl<P: Protocol> Channel<P> {
    pub(super) fn new(protocol: P, slots: usize) -> Self {
        let idle = Operation {
            action: super::load::Action::Get,
            key: 0,
            value: 0,
        };
        let slot = Slot {
            operation: idle,
            intended_ns: 0,
            order: 0,
            phase: SlotPhase::Free,
        };
        let last = Token::try_from(slots).expect("the in-flight limit is small");
        Self {
            protocol,
            state: State::Closed { retry_at: 0 },
            addr: None,
            heard_ns: 0,
            pause_ns: 0,
            greeted_in: 0,
            dirty: false,
            stream: None,
            opened: false,
            out: BytesMut::with_capacity(16 * 1024),
            rest: Vec::new(),
            slots: vec![slot; slots],
            free: (0..last).rev().collect(),
            on_wire: 0,
            refused: 0,
            next_order: 0,
        }
    }

    /// Operations that are not done.
    pub(super) fn busy(&self) -> usize {
        self.on_wire + self.refused
    }

    /// Operations that wait for an answer.
    pub(super) fn on_wire(&self) -> usize {
        self.on_wire
    }

    /// Takes a new operation. The caller keeps to the in-flight limit.
    pub(super) fn issue(&mut self, operation: Operation, intended_ns: u64, material: &Material) {
        assert_eq!(
            self.state,
            State::Serving,
            "operations need a ready connection"
        );
        let token = self.free.pop().expect("the caller keeps to the limit");
        self.slots[token as usize] = Slot {
            operation,
            intended_ns,
            order: self.next_order,
            phase: SlotPhase::OnWire,
        };
        self.next_order += 1;
        self.on_wire += 1;
        self.protocol
            .send(token, operation, false, material, &mut self.out);
    }

    /// An operation is done: returns it and when it was meant to be sent. `None` if the token names
    /// nothing that waits.
    pub(super) fn done(&mut self, token: Token) -> Option<(Operation, u64)> {
        let slot = self.slots.get_mut(token as usize)?;
        match slot.phase {
            SlotPhase::OnWire => self.on_wire -= 1,
            SlotPhase::Free | SlotPhase::Refused => return None,
        }
        slot.phase = SlotPhase::Free;
        self.free.push(token);
        Some((slot.operation, slot.intended_ns))
    }

    /// An operation was refused; it waits for [`Channel::resend`]. `false` if the token names
    /// nothing that waits.
    pub(super) fn refuse(&mut self, token: Token) -> bool {
        match self.slots.get_mut(token as usize) {
            Some(slot) if slot.phase == SlotPhase::OnWire => {
                slot.phase = SlotPhase::Refused;
                self.on_wire -= 1;
                self.refused += 1;
                true
            }
            _ => false,
        }
    }

    /// Sends again what was refused, in the order of first sending.
    pub(super) fn resend(&mut self, material: &Material) {
        let mut tokens: Vec<Token> = (0..self.slots.len())
            .filter(|i| self.slots[*i].phase == SlotPhase::Refused)
            .map(|i| Token::try_from(i).expect("the in-flight limit is small"))
            .collect();
        tokens.sort_by_key(|token| self.slots[*token as usize].order);
        for token in tokens {
            let slot = &mut self.slots[token as usize];
            slot.phase = SlotPhase::OnWire;
            self.refused -= 1;
            self.on_wire += 1;
            self.protocol
                .send(token, slot.operation, true, material, &mut self.out);
        }
    }

    /// Drops the socket; what was on the wire counts as refused. Returns how many that were.
    pub(super) fn close(&mut self, retry_at: u64) -> usize {
        let lost = self.on_wire;
        for slot in &mut self.slots {
            if slot.phase == SlotPhase::OnWire {
                slot.phase = SlotPhase::Refused;
            }
        }
        self.refused += lost;
        self.on_wire = 0;
        self.stream = None;
        self.opened = false;
        self.out.clear();
        self.rest.clear();
        self.state = State::Closed { retry_at };
        lost
    }

    /// Takes up a fresh socket.
    pub(super) fn connecting(&mut self, stream: TcpStream, addr: SocketAddr, give_up_at: u64) {
        assert!(self.stream.is_none(), "the last socket was dropped");
        self.stream = Some(stream);
        self.addr = Some(addr);
        self.state = State::Opening { give_up_at };
    }

    /// Whether the socket is connected; the first time, writes the protocol's opening.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn try_open(&mut self) -> io::Result<bool> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if self.opened {
            return Ok(true);
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                stream.set_nodelay(true)?;
                self.opened = true;
                self.protocol.open(&mut self.out);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads once and decodes in place. `scratch` is longer than any message.
    pub(super) fn receive(&mut self, scratch: &mut [u8], answers: &mut Vec<Answer>) -> Received {
        let Some(stream) = &mut self.stream else {
            return Received::Drained;
        };
        let kept = self.rest.len();
        scratch[..kept].copy_from_slice(&self.rest);
        let room = scratch.len() - kept;
        let read = match stream.read(&mut scratch[kept..]) {
            Ok(0) => return Received::Gone("the server closed the connection".into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Received::More,
            Err(error) => return Received::Gone(error.to_string()),
        };
        let filled = &scratch[..kept + read];
        match self.protocol.receive(filled, answers, &mut self.out) {
            Ok(used) => {
                self.rest.clear();
                self.rest.extend_from_slice(&filled[used..]);
            }
            Err(reason) => return Received::Gone(reason),
        }
        if self.rest.len() == scratch.len() {
            return Received::Gone("a message is longer than the buffer".into());
        }
        // Readiness is edge-triggered and a short read emptied the socket: no probe for EAGAIN.
        if read == room {
            Received::More
        } else {
            Received::Drained
        }
    }

    /// Writes what is pending; what the socket does not take waits for the next writable event.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // Clearing keeps the buffer's front; advancing would eat it.
                Ok(written) if written == self.out.len() => self.out.clear(),
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
