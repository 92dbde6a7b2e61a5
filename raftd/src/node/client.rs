//! Client connections: how much each has in flight, and the one way to answer a request.

use std::collections::{BTreeMap, BTreeSet};

use wire::client::Reply;
use wire::types::{EntryId, Index, Term};

use super::io::{ConnectionId, Effects};

/// Requests of one connection in flight before it is no longer read.
pub(super) const IN_FLIGHT_MAX: u32 = 1_024;
/// Requests of one connection in flight before more are refused: what the driver had already read
/// when it was told to stop.
pub(super) const IN_FLIGHT_HARD_MAX: u32 = 2 * IN_FLIGHT_MAX;

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) connection: ConnectionId,
    pub(super) request_id: u64,
}

#[derive(Debug, Default)]
struct Connection {
    in_flight: u32,
    parked: u32,
    /// A write of it waits for room.
    blocked: bool,
    /// Replies to it pile up at the driver.
    clogged: bool,
    /// The driver was told not to read it.
    paused: bool,
    last_write: EntryId,
    /// It is told who leads.
    watches: bool,
}

/// All connections with a request in flight or behind them.
///
/// Invariants:
/// - every request that [`Clients::arrive`] took is answered by one [`Clients::answer`], unless
///   its connection closes first;
/// - `parked <= in_flight`;
/// - a connection is paused from the moment that it has [`IN_FLIGHT_MAX`] requests in flight or a
///   blocked write, until it has neither (and half of the requests at most).
#[derive(Debug, Default)]
pub(super) struct Clients {
    connections: BTreeMap<ConnectionId, Connection>,
    /// Those that closed in this turn with requests in flight.
    gone: BTreeSet<ConnectionId>,
}

impl Clients {
    /// Counts a request in. `false`: it is one too many and must be refused.
    pub(super) fn arrive(&mut self, id: ConnectionId, effects: &mut Effects) -> bool {
        let connection = self.connections.entry(id).or_default();
        connection.in_flight += 1;
        connection.pace(id, effects);
        connection.in_flight <= IN_FLIGHT_HARD_MAX
    }

    /// Answers a request. Nothing is sent to a connection that is gone.
    pub(super) fn answer(&mut self, caller: Caller, reply: &Reply<'_>, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(&caller.connection) else {
            return;
        };
        assert!(connection.in_flight > 0, "a request is answered once");
        connection.in_flight -= 1;
        connection.pace(caller.connection, effects);
        encode(caller, reply, effects);
    }

    /// Whether nobody waits for an answer.
    pub(super) fn are_idle(&self) -> bool {
        let mut connections = self.connections.values();
        connections.all(|connection| connection.in_flight == 0)
    }

    /// The connection is told from now on who leads.
    pub(super) fn watch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.watches = true;
        }
    }

    /// Tells every connection that watches.
    pub(super) fn tell(&self, news: &Reply<'_>, effects: &mut Effects) {
        for (connection, _) in self.connections.iter().filter(|(_, c)| c.watches) {
            let unasked = Caller {
                connection: *connection,
                request_id: 0,
            };
            encode(unasked, news, effects);
        }
    }

    /// Whether the connection is there.
    pub(super) fn has(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// The connection is gone.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let connection = self.connections.remove(&id);
        if connection.is_some_and(|connection| connection.in_flight > 0) {
            self.gone.insert(id);
        }
    }

    /// Those that closed since this was last asked, with requests in flight.
    pub(super) fn take_gone(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.gone)
    }

    /// A request of the connection is parked; `blocked` if for want of room.
    pub(super) fn park(&mut self, id: ConnectionId, blocked: bool, effects: &mut Effects) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.parked += 1;
            connection.blocked |= blocked;
            connection.pace(id, effects);
        }
    }

    /// A parked request of the connection goes on.
    pub(super) fn unpark(&mut self, id: ConnectionId, effects: &mut Effects) {
        if let Some(connection) = self.connections.get_mut(&id) {
            assert!(connection.parked > 0, "a request is unparked once");
            connection.parked -= 1;
            connection.blocked &= connection.parked > 0;
            connection.pace(id, effects);
        }
    }

    /// Whether requests of the connection are parked: later ones must queue behind them.
    pub(super) fn has_parked(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| connection.parked > 0)
    }

    /// Replies to the connection pile up, or have gone out.
    pub(super) fn clog(&mut self, id: ConnectionId, clogged: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.clogged = clogged;
        }
    }

    /// Whether replies to the connection pile up.
    pub(super) fn is_clogged(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| connection.clogged)
    }

    /// The connection's newest write is this entry.
    pub(super) fn wrote(&mut self, id: ConnectionId, entry: EntryId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.last_write = entry;
        }
    }

    /// What a read of the connection must see at least: its own newest write, if this term's
    /// leader appended it (an older term's write may be gone, and its outcome was not promised).
    pub(super) fn read_floor(&self, id: ConnectionId, term: Term) -> Index {
        match self.connections.get(&id) {
            Some(connection) if connection.last_write.term == term => connection.last_write.index,
            _ => Index::default(),
        }
    }
}

impl Connection {
    /// Tells the driver when to stop and when to go on reading (rules A7).
    fn pace(&mut self, id: ConnectionId, effects: &mut Effects) {
        let full = if self.paused {
            self.in_flight > IN_FLIGHT_MAX / 2
        } else {
            self.in_flight >= IN_FLIGHT_MAX
        };
        let pause = self.blocked || full;
        if pause != self.paused {
            self.paused = pause;
            effects.readable.push((id, !pause));
        }
    }
}

/// Encodes a reply behind those of the turn. Replies to one connection that follow each other
/// become one range.
pub(super) fn encode(caller: Caller, reply: &Reply<'_>, effects: &mut Effects) {
    let start = effects.reply_bytes.len();
    reply.encode(caller.request_id, &mut effects.reply_bytes);
    let end = effects.reply_bytes.len();
    match effects.replies.last_mut() {
        Some((connection, range)) if *connection == caller.connection && range.end == start => {
            range.end = end;
        }
        _ => effects.replies.push((caller.connection, start..end)),
    }
}
