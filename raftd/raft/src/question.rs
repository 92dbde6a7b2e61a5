//! What a follower asks its leader on behalf of reads (thesis 6.4; rules C1).

use core::time::Duration;

use wire::types::Index;

use crate::event::ReadTicket;
use crate::round::Rounds;
use crate::time::Instant;

/// The questions of a node to the leaders that it follows, through all its life: rounds that a
/// follower begins, and one message each. All reads that arrive while a question is in flight share
/// the next. It is repeated until it is answered, under its number: whichever copy is answered, it
/// left after the reads arrived.
///
/// An answer may come late, from a reign that is over, or to what an earlier life of the node asked,
/// and must not be taken for that to a later question. So:
///
/// Invariants: those of [`Rounds`]; no number is used twice; a life begins at a number of its own.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    rounds: Rounds,
    asked_at: Instant,
}

impl Questions {
    /// The questions of this life.
    pub(crate) fn new(life: u64) -> Self {
        Self {
            // Two bits are left for counting on.
            rounds: Rounds::behind(life >> 2),
            asked_at: Instant::default(),
        }
    }

    /// Registers a read.
    pub(crate) fn want(&mut self) -> ReadTicket {
        ReadTicket {
            round: self.rounds.want(),
            index: Index(0),
        }
    }

    /// Another leader is followed: whoever waited for the last one has to ask anew.
    pub(crate) fn forget(&mut self) {
        self.rounds.forget();
    }

    /// The question that is to be asked now, for the first time or again.
    pub(crate) fn due(&mut self, now: Instant, patience: Duration) -> Option<u64> {
        let begins = self.rounds.start();
        let repeats = self.repeats_at(patience).is_some_and(|at| now >= at);
        if !begins && !repeats {
            return None;
        }
        self.asked_at = now;
        Some(self.rounds.started())
    }

    /// When the question in flight is repeated.
    pub(crate) fn repeats_at(&self, patience: Duration) -> Option<Instant> {
        self.rounds.is_in_flight().then(|| self.asked_at + patience)
    }

    /// The leader has answered. Returns the question if it is the one in flight.
    pub(crate) fn answered(&mut self, question: u64) -> Option<u64> {
        if question != self.rounds.started() {
            return None;
        }
        self.rounds.confirm(question)
    }
}

/// A follower's question that waits for a round of the leader.
///
/// Invariant: the round began after the question came, or is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) question: u64,
    pub(crate) ticket: ReadTicket,
}
