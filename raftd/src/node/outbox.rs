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

/// Holds each message until what it reveals is durable: a hard state, never an entry.
///
/// Invariants:
/// - nothing leaves before the hard state of the write that it waits for is durable;
/// - nothing of an older term leaves once the term has changed: an acknowledgement that was held
///   over a change of leader could speak of entries that were replaced meanwhile.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The newest write whose hard state is durable.
    durable: Ticket,
    held: VecDeque<Held>,
}

impl Outbox {
    /// Whether a message that waits for `after` may leave at once.
    pub(super) fn may_leave(&self, after: Ticket) -> bool {
        after <= self.durable
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many messages are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Keeps a message until `after` is durable.
    pub(super) fn hold(&mut self, after: Ticket, to: NodeId, message: Message) {
        if self.held.len() >= HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { after, to, message });
    }

    /// Every hard state up to `ticket` is durable: what waited for it leaves, in order.
    pub(super) fn durable(&mut self, ticket: Ticket, mut send: impl FnMut(NodeId, Message)) {
        self.durable = self.durable.max(ticket);
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
        self.held.retain(|held| held.message.term() >= Some(term));
    }
}

#[cfg(test)]
mod tests {
    use wire::peer::{StaleTerm, VoteAnswer};

    use super::*;

    const PEER: NodeId = NodeId(2);

    fn vote(term: u64) -> Message {
        Message::VoteAnswer(VoteAnswer {
            term: Term(term),
            granted: true,
        })
    }

    fn released(outbox: &mut Outbox, ticket: u64) -> Vec<Message> {
        let mut sent = Vec::new();
        outbox.durable(Ticket(ticket), |_, message| sent.push(message));
        sent
    }

    #[test]
    fn nothing_leaves_before_its_ticket() {
        let mut outbox = Outbox::default();
        assert!(!outbox.may_leave(Ticket(1)));
        outbox.hold(Ticket(1), PEER, vote(1));
        outbox.hold(Ticket(3), PEER, vote(3));
        assert_eq!(released(&mut outbox, 2), [vote(1)]);
        assert!(outbox.may_leave(Ticket(2)) && !outbox.may_leave(Ticket(3)));
        assert_eq!(released(&mut outbox, 3), [vote(3)]);
        assert_eq!(released(&mut outbox, 4), []);
    }

    #[test]
    fn what_is_held_from_an_older_term_never_leaves() {
        let mut outbox = Outbox::default();
        outbox.hold(Ticket(1), PEER, vote(1));
        outbox.hold(
            Ticket(2),
            PEER,
            Message::StaleTerm(StaleTerm { term: Term(2) }),
        );
        outbox.enter_term(Term(2));
        let sent = released(&mut outbox, 9);
        assert_eq!(sent, [Message::StaleTerm(StaleTerm { term: Term(2) })]);
    }

    #[test]
    fn the_oldest_of_too_many_is_lost() {
        let mut outbox = Outbox::default();
        for term in 0..=HELD_MAX as u64 {
            outbox.hold(Ticket(1), PEER, vote(term));
        }
        let sent = released(&mut outbox, 1);
        assert_eq!((sent.len(), &sent[0]), (HELD_MAX, &vote(1)));
    }
}
