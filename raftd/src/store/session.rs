//! Exactly once: which writes of a session take effect (rules C2, C3, C5; thesis 6.3).
//!
//! A client opens a session by its first write: it names the applied index that the hello told
//! (`born`) and a random nonce. There is no registration and no clock. Everything is decided when
//! an entry is applied, from what earlier entries left here, so every node decides alike and a
//! new leader knows what the old one did.

mod order;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wire::command::{Command, Expect, Outcome, Write};
use wire::error::Error;
use wire::limits::KEPT_REPLY_BYTES_MAX;
use wire::types::{EntryId, Epoch, Index};
use xxhash_rust::xxh3::xxh3_64;

use self::order::Order;
use self::slots::Session;
pub(super) use self::slots::Slots;
use super::digest;
use super::image::{ImageError, SessionImage};

/// Sessions that are known at a time (rules C3).
pub const SESSIONS_MAX: usize = 65_536;
/// Replies kept for one session; a client with more unsettled writes loses the oldest.
pub const KEPT_PER_SESSION_MAX: usize = 2_048;
/// Replies kept for all sessions together, beyond the last one of each.
pub const KEPT_MAX: usize = 262_144;

// Of the outcomes only that of a txn has no fixed size, far below what may be kept.
const _: () = assert!(size_of::<Kept>() <= KEPT_REPLY_BYTES_MAX);

/// An answered write, kept for its retries.
///
/// Invariant: the outcome is one that [`Outcome::to_keep`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its place among the writes of its session.
    pub seq: u64,
    /// Tells a retry from another command under the same seq (rules C5).
    pub fingerprint: u64,
    /// The entry by which it took effect.
    pub id: EntryId,
    /// What it did.
    pub outcome: Outcome,
}

/// The table of sessions.
///
/// Invariants:
/// - a session exists from its first applied write on, so it always has a last one;
/// - `order` holds the slot of every session, by ascending index of its last write;
/// - every kept seq is at or above every floor that an applied write of the session told, and at
///   most `last.seq`;
/// - at most [`SESSIONS_MAX`] sessions; `kept` counts the replies in all `earlier` and exceeds
///   [`KEPT_MAX`] only while a single session is left;
/// - `horizon` is the highest `born` of any session that was evicted; it never falls;
/// - `digest` is the sum of those of all sessions.
#[derive(Debug)]
pub struct Sessions {
    epoch: Epoch,
    sessions_max: usize,
    kept_max: usize,
    by_name: BTreeMap<(Index, u64), u32>,
    slots: Slots,
    /// Vacant slots.
    free: Vec<u32>,
    order: Order,
    kept: usize,
    horizon: Option<Index>,
    digest: u128,
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
        Self {
            epoch,
            sessions_max: table_size(sessions_max),
            kept_max,
            by_name: BTreeMap::new(),
            slots: Slots::default(),
            free: Vec::new(),
            order: Order::new(),
            kept: 0,
            horizon: None,
            digest: 0,
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

    /// The history that the sessions belong to.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The part of sessions and horizon in the state's digest.
    pub(super) fn digest(&self) -> u128 {
        self.digest.wrapping_add(digest::horizon(self.horizon))
    }

    /// The sessions as of now, whatever happens to them later.
    pub(super) fn freeze(&self) -> Slots {
        self.slots.clone()
    }

    /// Puts in a session from an image that was checked by itself, as the newest.
    pub(super) fn restore(&mut self, image: &SessionImage) -> Result<(), ImageError> {
        let (first, later) = image.replies.split_first().expect("it was checked");
        if self.by_name.contains_key(&(image.born, image.nonce)) {
            return Err(ImageError::Session("it comes twice"));
        }
        let mut session = Session::new(image.born, image.nonce, first.clone());
        for kept in later {
            session.advance(kept.clone(), 0);
        }
        if self.last_write() >= Some(session.last.id.index) {
            return Err(ImageError::Session("it is not behind the one before it"));
        }
        if self.kept + session.kept() > self.kept_max {
            return Err(ImageError::Session("there are too many kept replies"));
        }
        let slot = self.open(session);
        self.order.push(slot);
        Ok(())
    }

    /// All sessions of an image are put in: sets what else there is.
    pub(super) fn restored(
        &mut self,
        sessions_max: usize,
        horizon: Option<Index>,
    ) -> Result<(), ImageError> {
        if self.by_name.len() > sessions_max {
            return Err(ImageError::Session("there are more than this table holds"));
        }
        self.sessions_max = table_size(sessions_max);
        self.horizon = horizon;
        Ok(())
    }

    /// The index of the newest write of all sessions.
    fn last_write(&self) -> Option<Index> {
        let newest = self.order.newest()?;
        Some(self.slots.get(newest).last.id.index)
    }

    /// Whether the oldest session has to go.
    fn is_over(&self) -> bool {
        self.by_name.len() > self.sessions_max
            || (self.kept > self.kept_max && self.by_name.len() > 1)
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
        let session = self.slots.get(slot);
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
                    outcome: kept.outcome.clone(),
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
    pub fn keep(&mut self, place: Place, id: EntryId, write: &Write<'_>, outcome: &Outcome) {
        let last = Kept {
            seq: write.seq,
            fingerprint: fingerprint(&write.command),
            id,
            outcome: outcome.to_keep(),
        };
        let slot = match place.0 {
            Some(slot) => {
                self.order.remove(slot);
                let session = self.slots.get_mut(slot);
                let (kept, part) = (session.kept(), session.digest);
                session.advance(last, write.floor);
                self.kept = self.kept - kept + session.kept();
                self.digest = self.digest.wrapping_sub(part).wrapping_add(session.digest);
                slot
            }
            None => self.open(Session::new(write.session.born, write.session.nonce, last)),
        };
        debug_assert!(
            self.last_write() < Some(id.index),
            "the list is in the order of last writes"
        );
        self.order.push(slot);
        while self.is_over() {
            self.evict_oldest();
        }
    }

    fn open(&mut self, session: Session) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            u32::try_from(self.slots.len()).expect("the table is capped far below")
        });
        let previous = self.by_name.insert((session.born, session.nonce), slot);
        assert!(previous.is_none(), "a session is opened once");
        self.kept += session.kept();
        self.digest = self.digest.wrapping_add(session.digest);
        self.slots.put(slot, session);
        slot
    }

    fn evict_oldest(&mut self) {
        let slot = self.order.oldest().expect("there is a session to evict");
        self.order.remove(slot);
        let session = self.slots.take(slot);
        self.kept -= session.kept();
        self.digest = self.digest.wrapping_sub(session.digest);
        self.horizon = self.horizon.max(Some(session.born));
        self.by_name.remove(&(session.born, session.nonce));
        self.free.push(slot);
    }
}

fn table_size(sessions_max: usize) -> usize {
    assert!(
        (1..=SESSIONS_MAX).contains(&sessions_max),
        "table of sessions"
    );
    sessions_max
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
        Command::Append { key, value } => fields(7, [key, value, &[]]),
        Command::DeleteRange { from, to, expect } => {
            let expect = expect.map(u64::to_be_bytes);
            let expect = expect.as_ref().map_or(&[][..], |bytes| bytes);
            // No range ends at the empty key.
            fields(8, [from, to.unwrap_or_default(), expect])
        }
        Command::Txn(txn) => {
            let lists = [txn.compares.bytes, txn.then.bytes, txn.or_else.bytes];
            fields(9, lists)
        }
    }
}
