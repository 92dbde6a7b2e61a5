//! Choices out of bytes, so that a fuzzer that knows nothing but bytes can write scripts.

use wire::types::{EntryId, Index, Term};

/// Reads choices off the front of bytes. Total: when the bytes are used up every choice is the
/// first one, and [`Script::is_over`].
///
/// One byte decides little, so that one changed byte changes little: what a mutation finds stays
/// near what it came from.
#[derive(Clone, Debug)]
pub(super) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether there is nothing left to choose.
    pub(super) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of a few.
    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Once in `times`, unless the bytes are used up.
    pub(super) fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// At most `most` bytes, as they stand; their number is chosen first, in two bytes.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let wanted = usize::from(self.byte()) << 8 | usize::from(self.byte());
        let (taken, rest) = self.rest.split_at(wanted.min(most).min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// All that is left.
    pub(super) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A number near `base`, mostly, or one at an edge of what 64 bits hold, or any.
    pub(super) fn near(&mut self, base: u64) -> u64 {
        match self.byte() {
            choice @ 0..=199 => match choice % 8 {
                0..=2 => base,
                3 => base.wrapping_add(1),
                4 => base.saturating_sub(1),
                5 => base.wrapping_add(2),
                6 => base.saturating_sub(3),
                _ => base / 2,
            },
            choice @ 200..=239 => u64::from(choice % 8),
            240..=242 => u64::MAX,
            243..=245 => u64::MAX >> 1,
            246..=248 => (u64::MAX >> 1) + 1,
            249..=250 => u64::MAX - 1,
            _ => self.u64(),
        }
    }

    /// Mostly `base`; else what [`Script::near`] makes of it.
    pub(super) fn mostly(&mut self, base: u64) -> u64 {
        if self.rarely(8) {
            self.near(base)
        } else {
            base
        }
    }

    pub(super) fn term(&mut self, base: Term) -> Term {
        Term(self.near(base.0))
    }

    pub(super) fn index(&mut self, base: Index) -> Index {
        Index(self.near(base.0))
    }

    /// An entry's identity near `base`, or the one before the log.
    pub(super) fn id(&mut self, base: EntryId) -> EntryId {
        if self.rarely(8) {
            return EntryId::default();
        }
        EntryId {
            term: self.term(base.term),
            index: self.index(base.index),
        }
    }
}
