//! Messages that wait for the disk (rules A2, A3).

use std::collections::VecDeque;

use raft::Ticket;
use wire::peer::Message;
use wire::types::{NodeId, Term};

/// Messages held at most. Losing one is what Raft expects of a network, so the oldest goes first.
const HELD_MAX: usize = 4_096;

#[derive(Debug)]
struct Held {
    after: Ticket,
    to: NodeId,
    message: Message,
}

/// Holds each message until what it reveals is durable.
///
/// Invariants:
/// - nothing leaves before the ticket that it waits for is durable;
/// - nothing of an older term leaves once the term has changed: an acknowledgement that was held
///   over a change of leader could speak of entries that were replaced meanwhile.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    durable: Ticket,
    held: VecDeque<Held>,
}

impl Outbox {
    /// Whether a message that waits for `after` may leave at once.
    pub(super) fn may_leave(&self, after: Ticket) -> bool {
        after <= self.durable
    }

    /// Whether `ticket` was not durable so far.
    pub(super) fn is_news(&self, ticket: Ticket) -> bool {
        ticket > self.durable
    }

    /// Keeps a message until `after` is durable.
    pub(super) fn hold(&mut self, after: Ticket, to: NodeId, message: Message) {
        if self.held.len() >= HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { after, to, message });
    }

    /// Everything up to `ticket` is durable: what waited for it leaves, in order.
    pub(super) fn durable(&mut self, ticket: Ticket, mut send: impl FnMut(NodeId, Message)) {
        assert!(ticket >= self.durable, "tickets complete in order");
        self.durable = ticket;
        // Tickets of held messages nearly always ascend; an exception waits a little longer for
        // those before it, which is harmless.
        while self.held.front().is_some_and(|held| held.after <= ticket) {
            if let Some(held) = self.held.pop_front() {
                send(held.to, held.message);
            }
        }
    }

    /// The term is now `term`: what is held from older ones never leaves.
    pub(super) fn enter_term(&mut self, term: Term) {
        self.held.retain(|held| held.message.term() >= term);
    }
}
