//! The sessions themselves, in numbered slots that views share.

use std::collections::VecDeque;
use std::mem;

use arrayvec::ArrayVec;
use triomphe::Arc;
use wire::types::Index;

use super::{KEPT_PER_SESSION_MAX, Kept};
use crate::store::digest;
use crate::store::image::SessionImage;

/// Slots that are copied together when one of them changes under a view. A view takes one count of
/// each chunk: 1,024 of a full table.
const CHUNK_SLOTS: usize = 64;

/// Room for replies that a session may keep unused.
const ROOM_KEPT: usize = 8;

/// One session. An idle one owns no heap: its last reply is inline.
///
/// Invariants: `digest` is the sum of the parts of all its kept replies; `earlier` is empty or
/// ascends by seq, up to below `last`.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) born: Index,
    pub(super) nonce: u64,
    pub(super) last: Kept,
    /// Kept replies before `last`. Those below a floor are gone for good, so that no floor has to be
    /// remembered. A chunk that is copied shares them.
    earlier: Option<Arc<VecDeque<Kept>>>,
    pub(super) digest: u128,
}

impl Session {
    /// A session whose first applied write left `first`.
    pub(super) fn new(born: Index, nonce: u64, first: Kept) -> Self {
        Self {
            born,
            nonce,
            digest: digest::reply(born, nonce, &first),
            last: first,
            earlier: None,
        }
    }

    /// How many replies are kept beside the last one.
    pub(super) fn kept(&self) -> usize {
        self.earlier.as_ref().map_or(0, |earlier| earlier.len())
    }

    /// All kept replies, by ascending seq.
    fn replies(&self) -> impl Iterator<Item = &Kept> {
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.iter());
        earlier.chain([&self.last])
    }

    /// The kept reply of `seq`.
    pub(super) fn find(&self, seq: u64) -> Option<&Kept> {
        if seq == self.last.seq {
            return Some(&self.last);
        }
        let earlier = self.earlier.as_ref()?;
        let at = earlier.binary_search_by_key(&seq, |kept| kept.seq);
        at.ok().map(|at| &earlier[at])
    }

    /// Takes a new last write and drops what `floor` settles.
    pub(super) fn advance(&mut self, last: Kept, floor: u64) {
        assert!(
            last.seq > self.last.seq,
            "a session's writes apply in order"
        );
        self.add(&last);
        let previous = mem::replace(&mut self.last, last);
        while self.oldest_seq().is_some_and(|seq| seq < floor) {
            self.drop_oldest();
        }
        if previous.seq < floor {
            self.remove(&previous);
        } else {
            if self.kept() + 1 >= KEPT_PER_SESSION_MAX {
                self.drop_oldest();
            }
            Arc::make_mut(self.earlier.get_or_insert_default()).push_back(previous);
        }
        self.trim();
    }

    fn oldest_seq(&self) -> Option<u64> {
        Some(self.earlier.as_ref()?.front()?.seq)
    }

    fn drop_oldest(&mut self) {
        let earlier = self.earlier.as_mut().map(Arc::make_mut);
        if let Some(kept) = earlier.and_then(VecDeque::pop_front) {
            self.remove(&kept);
        }
    }

    /// An idle session must not hold on to the room of its busiest time.
    fn trim(&mut self) {
        let Some(earlier) = &mut self.earlier else {
            return;
        };
        if earlier.capacity() > ROOM_KEPT.max(4 * earlier.len()) {
            let kept = earlier.len();
            Arc::make_mut(earlier).shrink_to(2 * kept);
        }
    }

    fn add(&mut self, kept: &Kept) {
        let part = digest::reply(self.born, self.nonce, kept);
        self.digest = self.digest.wrapping_add(part);
    }

    fn remove(&mut self, kept: &Kept) {
        let part = digest::reply(self.born, self.nonce, kept);
        self.digest = self.digest.wrapping_sub(part);
    }
}

/// Sessions in numbered slots. A clone is a view: it shares the chunks, and who changes a shared one
/// copies it first.
///
/// Invariant: every chunk but the last is full of slots, vacant or not.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Slots {
    chunks: Vec<Arc<Chunk>>,
}

type Chunk = ArrayVec<Option<Session>, CHUNK_SLOTS>;

impl Slots {
    /// How many slots there are, vacant or not.
    pub(super) fn len(&self) -> usize {
        let before = self.chunks.len().saturating_sub(1) * CHUNK_SLOTS;
        before + self.chunks.last().map_or(0, |chunk| chunk.len())
    }

    /// The session in a slot.
    ///
    /// # Panics
    /// If the slot is vacant.
    pub(super) fn get(&self, slot: u32) -> &Session {
        let (chunk, at) = place(slot);
        self.chunks[chunk][at].as_ref().expect("an occupied slot")
    }

    /// The session in a slot, to be changed.
    ///
    /// # Panics
    /// If the slot is vacant.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Session {
        let (chunk, at) = place(slot);
        let slot = &mut Arc::make_mut(&mut self.chunks[chunk])[at];
        slot.as_mut().expect("an occupied slot")
    }

    /// Puts a session in a vacant slot, or in a new one behind the others.
    pub(super) fn put(&mut self, slot: u32, session: Session) {
        let (chunk, at) = place(slot);
        if chunk == self.chunks.len() {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[chunk]);
        if at == chunk.len() {
            chunk.push(Some(session));
        } else {
            let before = chunk[at].replace(session);
            assert!(before.is_none(), "the slot was vacant");
        }
    }

    /// Makes a slot vacant.
    ///
    /// # Panics
    /// If it is.
    pub(super) fn take(&mut self, slot: u32) -> Session {
        let (chunk, at) = place(slot);
        let session = Arc::make_mut(&mut self.chunks[chunk])[at].take();
        session.expect("an occupied slot")
    }

    /// The sessions that wrote after this entry, by ascending index of their last writes.
    pub(in crate::store) fn images(&self, after: Index) -> impl Iterator<Item = SessionImage> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        let later = slots
            .flatten()
            .filter(|session| session.last.id.index > after);
        let mut sessions: Vec<_> = later.collect();
        // A view has no list: its links would have to be copied.
        sessions.sort_unstable_by_key(|session| session.last.id.index);
        sessions.into_iter().map(|session| SessionImage {
            born: session.born,
            nonce: session.nonce,
            replies: session.replies().cloned().collect(),
        })
    }
}

fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / CHUNK_SLOTS, slot % CHUNK_SLOTS)
}

#[cfg(test)]
mod tests {
    use wire::command::Outcome;
    use wire::types::{EntryId, Term};

    use super::*;

    #[test]
    fn an_idle_session_gives_back_the_room_of_its_busiest_time() {
        let kept = |seq| Kept {
            seq,
            fingerprint: 0,
            id: EntryId {
                term: Term(1),
                index: Index(seq),
            },
            outcome: Outcome::Applied,
        };
        let mut session = Session::new(Index(0), 1, kept(1));
        for seq in 2..=1_000 {
            session.advance(kept(seq), 1);
        }
        session.advance(kept(1_001), 1_000);
        assert_eq!(session.kept(), 1);
        let room = session.earlier.map_or(0, |earlier| earlier.capacity());
        assert!(room <= ROOM_KEPT, "{room}");
    }
}
