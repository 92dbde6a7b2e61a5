//! Read rounds (thesis 6.4; rules C1): how a leader learns that it still leads, and a follower that
//! its leader does.

/// Rounds of one leader in one term. A round begins with an `Append` to every follower that
/// carries its number, and is confirmed when a quorum of voters has answered that number or a
/// higher one. Repeating a number (heartbeats do) is safe: reads wait for a round that begins
/// after they arrived, whichever copy of it is answered.
///
/// At most one round is in flight: reads that arrive meanwhile share the next.
///
/// Invariants: `confirmed <= started <= confirmed + 1`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    started: u64,
    confirmed: u64,
    wanted: bool,
}

impl Rounds {
    /// Rounds of which the next one has the number behind this one.
    pub(crate) fn behind(last: u64) -> Self {
        Self {
            started: last,
            confirmed: last,
            wanted: false,
        }
    }

    /// The newest round that `Append`s carry.
    pub(crate) fn started(self) -> u64 {
        self.started
    }

    /// Registers a read and returns the round that it waits for: one that has not begun.
    pub(crate) fn want(&mut self) -> u64 {
        self.wanted = true;
        self.started + 1
    }

    /// Begins a round if reads wait for one and none is in flight.
    pub(crate) fn start(&mut self) -> bool {
        let start = self.wanted && !self.is_in_flight();
        if start {
            self.started += 1;
            self.wanted = false;
        }
        start
    }

    /// Whether a round is not answered yet.
    pub(crate) fn is_in_flight(self) -> bool {
        self.confirmed < self.started
    }

    /// Nobody waits for anything any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::behind(self.started);
    }

    /// A quorum has answered `round`. Returns it if that is news.
    pub(crate) fn confirm(&mut self, round: u64) -> Option<u64> {
        assert!(round <= self.started, "round {round} never began");
        (round > self.confirmed).then(|| {
            self.confirmed = round;
            round
        })
    }
}
