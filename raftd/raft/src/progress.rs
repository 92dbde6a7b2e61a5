//! What a leader knows of one follower. Every transition between its flows is here.
//!
//! ```text
//!                   AppendOk
//!          Probe ─────────────> Replicate
//!            │   <─────────────   │    ^
//!            │    AppendConflict  │    │
//!            │                    │    │ AppendOk: the log reaches the base
//!            └───────┐    ┌───────┘    │
//!                    v    v            │
//!                   Snapshot ──────────┘
//!
//!   down: the follower's log ends or parts before the base (AppendConflict), or the base has
//!   passed what is next (compaction)
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use wire::entry::Entry;
use wire::limits::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX};
use wire::membership::Suffrage;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, Health, Message, SnapshotOk, Standing,
};
use wire::types::{Index, NodeId};

use crate::event::{Effect, FollowerView};
use crate::loss::Loss;
use crate::question::Asked;
use crate::round::Rounds;
use crate::state::State;
use crate::time::Instant;

/// `Append`s with entries that a follower has not acknowledged, at most. The window in bytes is
/// the usual limit; this one bounds what many tiny ones cost to remember.
const APPENDS_IN_FLIGHT_MAX: usize = 4096;

/// An `Append` that was sent with entries.
#[derive(Clone, Debug)]
struct Sent {
    first: Index,
    last: Index,
    bytes: usize,
}

/// What was sent and is not acknowledged as durable. It outlives a probe: a follower whose disk
/// hangs holds what it received, however often its log is asked for anew.
///
/// Invariants: the ranges ascend and do not overlap; `bytes` is their sum.
#[derive(Clone, Debug, Default)]
struct InFlight {
    /// Oldest first.
    appends: VecDeque<Sent>,
    bytes: usize,
}

impl InFlight {
    fn add(&mut self, sent: Sent) {
        self.cut(sent.first.prev());
        self.bytes += sent.bytes;
        self.appends.push_back(sent);
    }

    fn last(&self) -> Index {
        self.appends.back().map_or(Index(0), |sent| sent.last)
    }

    fn acknowledge(&mut self, upto: Index) {
        while self.appends.front().is_some_and(|sent| sent.last <= upto) {
            let acknowledged = self.appends.pop_front();
            self.bytes -= acknowledged.map_or(0, |sent| sent.bytes);
        }
    }

    /// What comes after `upto` did not arrive, or is sent again. The `Append` with `upto` in its
    /// middle keeps all its bytes until that index is acknowledged.
    fn cut(&mut self, upto: Index) {
        while self.appends.back().is_some_and(|sent| sent.first > upto) {
            let lost = self.appends.pop_back();
            self.bytes -= lost.map_or(0, |sent| sent.bytes);
        }
        if let Some(newest) = self.appends.back_mut() {
            newest.last = newest.last.min(upto);
        }
    }

    /// Entry bytes that may be sent now. The last `Append` may go over by one entry, so that an
    /// entry larger than the window still passes.
    fn room(&self, window_bytes: usize) -> usize {
        if self.appends.len() >= APPENDS_IN_FLIGHT_MAX {
            return 0;
        }
        window_bytes
            .saturating_sub(self.bytes)
            .min(APPEND_BYTES_MAX)
    }

    /// Panics if an invariant is broken.
    fn check(&self) {
        let sum: usize = self.appends.iter().map(|sent| sent.bytes).sum();
        assert!(sum == self.bytes, "{sum} in flight, not {}", self.bytes);
        let pairs = self.appends.iter().zip(self.appends.iter().skip(1));
        for (sent, later) in pairs {
            assert!(sent.last < later.first, "{sent:?} before {later:?}");
        }
    }
}

/// How entries flow to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flow {
    /// Where the logs agree is not known: one question at a time.
    Probe {
        /// The question was sent; heartbeats repeat it without entries.
        asked: bool,
    },
    /// The logs agree up to what was sent: `Append`s are pipelined (thesis 10.2.2).
    Replicate,
    /// The follower lacks what is no longer in the log: the node sends a snapshot (thesis 5.3).
    /// Heartbeats ask meanwhile whether the follower has come up to the base.
    Snapshot,
}

/// A read of old entries from disk (see [`Effect::Load`]).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Load {
    Idle,
    /// From this index on.
    Asked(Index),
    /// These came; they are sent at the end of the turn.
    Done(Vec<Entry>),
    /// The disk could not tell: wait for the next heartbeat.
    Failed,
}

/// Invariants:
/// - `match_index < next <= last + 1`; `match_index` never falls but by a loss (rules A5, D4);
/// - `next` is behind the base, in flow Snapshot right behind it;
/// - `round` is at most the leader's newest.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) id: NodeId,
    /// In which set of voters it is.
    pub(crate) suffrage: Suffrage,
    /// The follower's log agrees up to here, durably.
    pub(crate) match_index: Index,
    /// The highest read round that it answered.
    pub(crate) round: u64,
    /// When it last answered; the start of the reign before that.
    pub(crate) heard: Instant,
    has_answered: bool,
    /// When `match_index` last rose, and by an answer to which round.
    match_rose: (Instant, u64),
    disk: DiskReport,
    /// It waits for a snapshot to replace its state by.
    rebuilding: bool,
    /// Its own digest, as it told last (rules D5).
    digest: Option<Digest>,
    loss: Option<Loss>,
    /// What it asks, and is not answered.
    pub(crate) asked: Option<Asked>,
    next: Index,
    flow: Flow,
    in_flight: InFlight,
    load: Load,
}

impl Progress {
    /// At the start of a term the logs are hoped to agree (thesis 3.5).
    pub(crate) fn new(id: NodeId, last: Index, now: Instant) -> Self {
        Self {
            id,
            suffrage: Suffrage::Learner,
            match_index: Index(0),
            round: 0,
            heard: now,
            has_answered: false,
            match_rose: (now, 0),
            disk: DiskReport::default(),
            rebuilding: false,
            digest: None,
            loss: None,
            asked: None,
            next: last.next(),
            flow: Flow::Probe { asked: false },
            in_flight: InFlight::default(),
            load: Load::Idle,
        }
    }

    /// What every answer tells beside its subject.
    fn hear(
        &mut self,
        state: &State,
        now: Instant,
        (round, disk, health): (u64, DiskReport, Health),
        rounds: &mut Rounds,
    ) {
        self.heard = now;
        self.has_answered = true;
        self.disk = disk;
        if round < self.round {
            // It is late: it tells nothing of the health now.
            return;
        }
        self.round = round;
        self.rebuilding = health.rebuilding;
        if health.lost && self.loss.is_none() {
            self.lose(state, rounds);
        } else if !health.lost && self.loss.take_if(|loss| loss.ends(round)).is_some() {
            // What it acknowledged while it was lost may be gone again: it tells anew.
            self.match_index = Index(0);
        }
    }

    /// The follower lacks what it acknowledged (rules D4).
    fn lose(&mut self, state: &State, rounds: &mut Rounds) {
        self.match_index = Index(0);
        self.loss = Some(Loss::new(state.log.last().index, rounds.want()));
    }

    /// Whether it counts for nothing because its log is not what it acknowledged.
    pub(crate) fn is_lost(&self) -> bool {
        self.loss.is_some()
    }

    /// A quorum holds everything up to `held`.
    pub(crate) fn mend(&mut self, held: Index) {
        if let Some(loss) = &mut self.loss {
            loss.mend(self.match_index, held);
        }
    }

    /// For the node's decisions.
    pub(crate) fn view(&self) -> FollowerView {
        FollowerView {
            id: self.id,
            suffrage: self.suffrage,
            match_index: self.match_index,
            match_rose_at: self.match_rose.0,
            heard_at: self.heard,
            has_answered: self.has_answered,
            disk: self.disk,
            health: Health {
                lost: self.is_lost(),
                rebuilding: self.rebuilding,
            },
        }
    }

    /// The follower holds everything up to an index. Repeated and late answers raise nothing, nor
    /// does what may be of a log that is lost.
    fn raise_match(&mut self, now: Instant, m: &AppendOk) {
        let is_current = match &self.loss {
            None => !m.health.lost,
            Some(loss) => loss.believes(m.round),
        };
        if is_current && m.match_index > self.match_index {
            self.match_index = m.match_index;
            self.match_rose = (now, m.round);
        }
    }

    /// The follower agrees (thesis 3.5).
    pub(crate) fn on_append_ok(
        &mut self,
        state: &State,
        now: Instant,
        m: &AppendOk,
        rounds: &mut Rounds,
        effects: &mut Vec<Effect>,
    ) {
        self.hear(state, now, (m.round, m.disk, m.health), rounds);
        self.raise_match(now, m);
        if let Some(digest) = m.digest
            && self.digest.replace(digest) != Some(digest)
        {
            let from = self.id;
            effects.push(Effect::Digest { from, digest });
        }
        self.in_flight.acknowledge(self.match_index);
        match self.flow {
            Flow::Probe { .. } | Flow::Snapshot => {
                // What is not counted as under way, because an older answer told that it was
                // lost, is sent again: so the window bounds all that the follower holds.
                let counted = self.in_flight.last().max(self.next.prev());
                let received = m.received.min(counted).max(self.match_index);
                // Below the base it is a late answer: the last question was about more.
                if received >= state.log.base().index {
                    self.in_flight.cut(received);
                    self.next = received.next();
                    self.flow = Flow::Replicate;
                }
            }
            Flow::Replicate => self.next = self.next.max(self.match_index.next()),
        }
    }

    /// The follower disagrees at `m.prev` (thesis 3.5): probe where it may agree. Each answer
    /// passes over a whole term of either log. A refusal still answers the round.
    ///
    /// A log that ends or differs before `match_index` has lost what it acknowledged, if the answer
    /// is younger than the one that acknowledged it: if it is to a later round.
    pub(crate) fn on_append_conflict(
        &mut self,
        state: &State,
        now: Instant,
        m: &AppendConflict,
        rounds: &mut Rounds,
    ) {
        self.hear(state, now, (m.round, m.disk, m.health), rounds);
        let refused = m.prev.index;
        if refused.min(m.last.index.next()) <= self.match_index {
            if m.round <= self.match_rose.1 {
                // It may be late: the next round will tell.
                rounds.want();
                return;
            }
            self.lose(state, rounds);
        }
        let is_stale = match self.flow {
            Flow::Probe { .. } => refused.next() != self.next,
            // It was asked before an older answer made the leader step back.
            Flow::Replicate => refused >= self.next,
            // That it lacks the base is known; a snapshot is on its way.
            Flow::Snapshot => true,
        };
        if is_stale {
            return;
        }
        let agreed = match m.conflict {
            // Past its last entry the follower has nothing; before, nothing newer than it.
            None => state.log.last_at_most(m.last.index, m.last.term),
            Some(theirs) => {
                let candidate = state.log.last_at_most(refused.prev(), theirs.term);
                if state.log.term_at(candidate) == Some(theirs.term) {
                    // Both have that term: they agree wherever both have it.
                    candidate
                } else {
                    // All that the follower has of that term must go.
                    candidate.min(theirs.index.prev())
                }
            }
        };
        self.next = agreed.max(self.match_index).min(refused.prev()).next();
        self.flow = Flow::Probe { asked: false };
        self.on_compacted(state);
    }

    /// What the log no longer holds cannot be sent, nor be asked about (thesis 5.3).
    pub(crate) fn on_compacted(&mut self, state: &State) {
        let first = state.log.base().index.next();
        if self.next < first {
            self.next = first;
            self.flow = Flow::Snapshot;
        }
    }

    /// The follower told how much of a snapshot it holds; whether that matters to anyone.
    pub(crate) fn on_snapshot_ok(
        &mut self,
        state: &State,
        now: Instant,
        m: &SnapshotOk,
        rounds: &mut Rounds,
    ) -> bool {
        self.hear(state, now, (m.round, m.disk, m.health), rounds);
        self.needs_snapshot()
    }

    /// Whether the follower lacks what the log no longer holds, or its state.
    pub(crate) fn needs_snapshot(&self) -> bool {
        self.flow == Flow::Snapshot || self.rebuilding
    }

    /// The disk's answer to a [`Effect::Load`].
    pub(crate) fn on_loaded(&mut self, state: &State, mut entries: Vec<Entry>) {
        let Load::Asked(from) = self.load else {
            return;
        };
        if from <= state.log.base().index {
            // The log was compacted meanwhile.
            self.load = Load::Idle;
            return;
        }
        // An answer to an older question is not taken; neither is what the log does not hold.
        cut_to_fit(state, from, &mut entries);
        self.load = if entries.is_empty() {
            Load::Failed
        } else {
            Load::Done(entries)
        };
    }

    /// Ends a turn: sends entries that fit the window; without any, says something only if it
    /// must (a heartbeat or a round). Returns whether it said something.
    pub(crate) fn flush(
        &mut self,
        state: &State,
        round: u64,
        must_say: bool,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if must_say && self.load == Load::Failed {
            self.load = Load::Idle;
        }
        let entries = self.take_entries(state);
        let asks = matches!(self.flow, Flow::Probe { asked: false });
        let says = must_say || asks || !entries.is_empty();
        if says {
            self.send(state, round, entries, effects);
        }
        self.load_if_behind(state, effects);
        says
    }

    /// What is to be sent next, from memory or as it came from the disk.
    fn take_entries(&mut self, state: &State) -> Vec<Entry> {
        if matches!(self.load, Load::Done(_))
            && let Load::Done(entries) = mem::replace(&mut self.load, Load::Idle)
            && matches!(self.flow, Flow::Replicate)
            && entries[0].index() == self.next
        {
            return entries;
        }
        let room = match &self.flow {
            Flow::Probe { asked: true } | Flow::Snapshot => 0,
            Flow::Probe { asked: false } | Flow::Replicate => {
                self.in_flight.room(state.config.window_bytes)
            }
        };
        if room > 0 {
            state.log.batch(self.next, room)
        } else {
            Vec::new()
        }
    }

    fn send(&mut self, state: &State, round: u64, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        let prev = state.log.id_at(self.next.prev());
        assert!(
            entries
                .first()
                .is_none_or(|first| first.index() == self.next),
            "a gap after {prev}"
        );
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.in_flight.add(Sent {
                first: first.index(),
                last: last.index(),
                bytes: entries.iter().map(|entry| entry.bytes().len()).sum(),
            });
        }
        match (&mut self.flow, entries.last()) {
            (Flow::Probe { asked }, _) => *asked = true,
            (Flow::Replicate, Some(newest)) => self.next = newest.index().next(),
            (Flow::Replicate, None) | (Flow::Snapshot, _) => {}
        }
        let append = Append {
            term: state.term(),
            prev,
            commit: state.commit(),
            round,
            standing: self.loss.as_ref().map_or(Standing::Unsaid, Loss::standing),
            digest: state.digest,
            entries,
        };
        state.send(self.id, Message::Append(append), effects);
    }

    /// What left memory is read from disk, one read at a time.
    fn load_if_behind(&mut self, state: &State, effects: &mut Vec<Effect>) {
        let room = self.in_flight.room(state.config.window_bytes);
        let is_behind = self.flow == Flow::Replicate && self.next < state.log.first_cached();
        if is_behind && room > 0 && self.load == Load::Idle {
            self.load = Load::Asked(self.next);
            effects.push(Effect::Load {
                to: self.id,
                from: self.next,
                max_bytes: room,
            });
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, state: &State, round: u64) {
        assert!(
            self.match_index < self.next,
            "match {} next {}",
            self.match_index,
            self.next
        );
        assert!(
            self.next <= state.log.last().index.next(),
            "next {} past the end",
            self.next
        );
        let first = state.log.base().index.next();
        assert!(
            self.next >= first && (self.next == first || self.flow != Flow::Snapshot),
            "next {} in flow {:?}, the log begins at {first}",
            self.next,
            self.flow
        );
        assert!(self.round <= round, "an answer to a round that never began");
        self.in_flight.check();
    }
}

/// Cuts `entries` to the prefix that is this log from `from` on and fits an `Append`.
fn cut_to_fit(state: &State, from: Index, entries: &mut Vec<Entry>) {
    let mut bytes = 0;
    let mut next = from;
    let fitting = entries.iter().take(APPEND_ENTRIES_MAX).take_while(|entry| {
        let index = next;
        next = next.next();
        bytes += entry.bytes().len();
        entry.index() == index
            && state.log.term_at(index) == Some(entry.term())
            && bytes <= APPEND_BYTES_MAX
    });
    let count = fitting.count();
    entries.truncate(count);
}
