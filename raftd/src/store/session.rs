//! Exactly once: which writes of a session take effect (rules C2, C3, C5; thesis 6.3).
//!
//! A client opens a session by its first write: it names the applied index that the hello told
//! (`born`) and a random nonce. There is no registration and no clock. Everything is decided when
//! an entry is applied, from what earlier entries left here, so every node decides alike and a
//! new leader knows what the old one did.

use std::collections::{BTreeMap, VecDeque};

use wire::command::{Command, Expect, Outcome, Write};
use wire::error::Error;
use wire::limits::KEPT_REPLY_BYTES_MAX;
use wire::types::{EntryId, Epoch, Index};
use xxhash_rust::xxh3::xxh3_64;

/// Sessions that are known at a time (rules C3).
pub const SESSIONS_MAX: usize = 65_536;
/// Replies kept for one session; a client with more unsettled writes loses the oldest.
pub const KEPT_PER_SESSION_MAX: usize = 2_048;
/// Replies kept for all sessions together, beyond the last one of each.
pub const KEPT_MAX: usize = 262_144;

// Every outcome of this version has a fixed size, far below what may be kept: no reply has to be
// shortened to `Outcome::Applied`.
const _: () = assert!(size_of::<Kept>() <= KEPT_REPLY_BYTES_MAX);

/// Room for replies that a session may keep unused.
const ROOM_KEPT: usize = 8;

/// "No slot".
const NONE: u32 = u32::MAX;

/// An answered write, kept for its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    seq: u64,
    /// Tells a retry from another command under the same seq (rules C5).
    fingerprint: u64,
    id: EntryId,
    outcome: Outcome,
}

/// One session. An idle one owns no heap: its last reply is inline.
#[derive(Debug)]
struct Session {
    born: Index,
    nonce: u64,
    last: Kept,
    /// Kept replies before `last`, by ascending seq. Those below a floor are gone for good, so
    /// that no floor has to be remembered.
    earlier: VecDeque<Kept>,
    /// The neighbours in the order of last writes.
    older: u32,
    newer: u32,
}

/// The table of sessions.
///
/// Invariants:
/// - a session exists from its first applied write on, so it always has a last one;
/// - the list from `oldest` to `newest` holds every session, by ascending index of its last write;
/// - every kept seq is at or above every floor that an applied write of the session told, and at
///   most `last.seq`;
/// - at most [`SESSIONS_MAX`] sessions; `kept` counts the replies in all `earlier` and exceeds
///   [`KEPT_MAX`] only while a single session is left;
/// - `horizon` is the highest `born` of any session that was evicted; it never falls.
#[derive(Debug)]
pub struct Sessions {
    epoch: Epoch,
    sessions_max: usize,
    kept_max: usize,
    by_name: BTreeMap<(Index, u64), u32>,
    slots: Vec<Session>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    kept: usize,
    horizon: Option<Index>,
}

/// What is to be done with a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Apply it, then [`Sessions::keep`] its outcome.
    Apply(Place),
    /// It took effect before.
    Kept {
        /// The entry by which it did.
        id: EntryId,
        /// What it did.
        outcome: Outcome,
    },
    /// Nothing is to change.
    Refuse(Error),
}

/// Where an outcome is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Option<u32>);

impl Sessions {
    /// No session yet, in the history `epoch`. All nodes of a cluster must have the same limits:
    /// [`SESSIONS_MAX`] and [`KEPT_MAX`], or smaller ones in tests.
    ///
    /// # Panics
    /// If `sessions_max` is 0 or above [`SESSIONS_MAX`].
    #[must_use]
    pub fn new(epoch: Epoch, sessions_max: usize, kept_max: usize) -> Self {
        assert!(
            (1..=SESSIONS_MAX).contains(&sessions_max),
            "table of sessions"
        );
        Self {
            epoch,
            sessions_max,
            kept_max,
            by_name: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            kept: 0,
            horizon: None,
        }
    }

    /// How many sessions are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether no session is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The highest `born` of any evicted session: unknown ones up to it have expired.
    #[must_use]
    pub fn horizon(&self) -> Option<Index> {
        self.horizon
    }

    /// Replies kept beyond the last one of each session.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Decides about a write in the entry at `index`.
    #[must_use]
    pub fn judge(&self, index: Index, write: &Write<'_>) -> Verdict {
        if write.session.epoch != self.epoch {
            return Verdict::Refuse(Error::WrongEpoch);
        }
        let name = (write.session.born, write.session.nonce);
        let Some(slot) = self.by_name.get(&name).copied() else {
            return self.judge_opening(index, write);
        };
        let session = &self.slots[slot as usize];
        let expected = write.floor.max(session.last.seq + 1);
        if write.seq == expected {
            Verdict::Apply(Place(Some(slot)))
        } else if write.seq > expected {
            Verdict::Refuse(Error::OutOfOrder { expected })
        } else {
            match session.find(write.seq) {
                None => Verdict::Refuse(Error::Stale),
                Some(kept) if kept.fingerprint != fingerprint(&write.command) => {
                    Verdict::Refuse(Error::IdReused)
                }
                Some(kept) => Verdict::Kept {
                    id: kept.id,
                    outcome: kept.outcome,
                },
            }
        }
    }

    /// A session that is not known: new, expired, or from the future.
    fn judge_opening(&self, index: Index, write: &Write<'_>) -> Verdict {
        let expected = write.floor.max(1);
        if write.session.born >= index {
            Verdict::Refuse(Error::BornInFuture)
        } else if Some(write.session.born) <= self.horizon {
            Verdict::Refuse(Error::SessionExpired)
        } else if write.seq == expected {
            Verdict::Apply(Place(None))
        } else if write.seq > expected {
            Verdict::Refuse(Error::OutOfOrder { expected })
        } else {
            Verdict::Refuse(Error::Stale)
        }
    }

    /// Keeps the outcome of a write that [`Sessions::judge`] let through, as the entry `id`;
    /// drops what its floor settles, and evicts what is over the limits.
    pub fn keep(&mut self, place: Place, id: EntryId, write: &Write<'_>, outcome: Outcome) {
        let last = Kept {
            seq: write.seq,
            fingerprint: fingerprint(&write.command),
            id,
            outcome,
        };
        let slot = match place.0 {
            Some(slot) => {
                self.unlink(slot);
                let session = &mut self.slots[slot as usize];
                let before = session.earlier.len();
                session.advance(last, write.floor);
                self.kept = self.kept - before + session.earlier.len();
                slot
            }
            None => self.open(write, last),
        };
        self.link_newest(slot);
        while self.by_name.len() > self.sessions_max
            || (self.kept > self.kept_max && self.by_name.len() > 1)
        {
            self.evict_oldest();
        }
    }

    fn open(&mut self, write: &Write<'_>, last: Kept) -> u32 {
        let session = Session {
            born: write.session.born,
            nonce: write.session.nonce,
            last,
            earlier: VecDeque::new(),
            older: NONE,
            newer: NONE,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = session;
            slot
        } else {
            self.slots.push(session);
            u32::try_from(self.slots.len() - 1).expect("the table is capped far below")
        };
        let name = (write.session.born, write.session.nonce);
        let previous = self.by_name.insert(name, slot);
        assert!(previous.is_none(), "a session is opened once");
        slot
    }

    fn evict_oldest(&mut self) {
        let slot = self.oldest;
        assert_ne!(slot, NONE, "there is a session to evict");
        self.unlink(slot);
        let session = &mut self.slots[slot as usize];
        self.kept -= session.earlier.len();
        session.earlier = VecDeque::new();
        self.horizon = self.horizon.max(Some(session.born));
        self.by_name.remove(&(session.born, session.nonce));
        self.free.push(slot);
    }

    fn unlink(&mut self, slot: u32) {
        let Session { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let older = self.newest;
        let session = &mut self.slots[slot as usize];
        session.older = older;
        session.newer = NONE;
        match older {
            NONE => self.oldest = slot,
            older => {
                debug_assert!(
                    self.slots[older as usize].last.id.index
                        < self.slots[slot as usize].last.id.index,
                    "the list is in the order of last writes"
                );
                self.slots[older as usize].newer = slot;
            }
        }
        self.newest = slot;
    }
}

impl Session {
    /// Takes a new last write and drops what `floor` settles.
    fn advance(&mut self, last: Kept, floor: u64) {
        assert!(
            last.seq > self.last.seq,
            "a session's writes apply in order"
        );
        let previous = std::mem::replace(&mut self.last, last);
        while self.earlier.front().is_some_and(|kept| kept.seq < floor) {
            self.earlier.pop_front();
        }
        if previous.seq >= floor {
            if self.earlier.len() + 1 >= KEPT_PER_SESSION_MAX {
                self.earlier.pop_front();
            }
            self.earlier.push_back(previous);
        }
        // An idle session must not hold on to the room of its busiest time.
        if self.earlier.capacity() > ROOM_KEPT.max(4 * self.earlier.len()) {
            self.earlier.shrink_to(2 * self.earlier.len());
        }
    }

    fn find(&self, seq: u64) -> Option<&Kept> {
        if seq == self.last.seq {
            return Some(&self.last);
        }
        let at = self.earlier.binary_search_by_key(&seq, |kept| kept.seq);
        at.ok().map(|at| &self.earlier[at])
    }
}

/// A hash of the command: 64 bits against mistakes of a client, not against malice.
fn fingerprint(command: &Command<'_>) -> u64 {
    // Each field is hashed by itself, so that it matters where one ends; the multiplication makes
    // their order matter. Not seeded: a seed costs a derived secret for every longer value.
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fields = |kind: u64, fields: [&[u8]; 3]| {
        let add = |sum: u64, field: &[u8]| (sum ^ xxh3_64(field)).wrapping_mul(ODD).rotate_left(31);
        fields.into_iter().fold(kind, add)
    };
    match *command {
        Command::Put { key, value } => fields(1, [key, value, &[]]),
        Command::Delete { key } => fields(2, [key, &[], &[]]),
        Command::CompareAndSwap { key, expect, value } => match expect {
            Expect::Absent => fields(3, [key, &[], value]),
            Expect::Revision(Index(at)) => fields(4, [key, &at.to_be_bytes(), value]),
            Expect::Value(expected) => fields(5, [key, expected, value]),
        },
        Command::Increment { key, delta } => fields(6, [key, &delta.to_be_bytes(), &[]]),
    }
}
