//! Linearizable reads: which may be served when (ReadIndex, thesis 6.4; rules C1).

use std::collections::{BTreeMap, VecDeque};

use raft::Instant;
use wire::client::ScanMode;
use wire::types::Index;

use super::client::Caller;
use super::io::ConnectionId;

/// Reads that wait, at most.
const WAITING_MAX: usize = 65_536;
/// Bytes of their keys, at most.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Key buffers that are kept for reuse.
const FREE_MAX: usize = 1_024;
/// A larger key buffer is not kept.
const FREE_BYTES_MAX: usize = 512;

/// What a read asks for, apart from its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Get,
    Scan {
        mode: ScanMode,
        limit: u32,
        /// Where the prefix ends in the keys and `after` begins, if there is an `after`.
        after: Option<usize>,
    },
}

/// A read with its own copy of the keys.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) shape: Shape,
    pub(super) keys: Vec<u8>,
}

/// A query and who asked.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) caller: Caller,
    pub(super) deadline: Option<Instant>,
    pub(super) query: Query,
}

/// Reads on their way through three stages: `asked` until a quorum answered their round,
/// `confirmed` until their index is applied, `ready` until the turn's budget lets them be served.
/// Those for clients that do not read their replies are `held` meanwhile.
///
/// Invariants:
/// - `asked` is in the order of rounds;
/// - `count` and `bytes` cover all stages and stay within their limits;
/// - a read in `ready` may be served at any later state: what it must see is applied.
#[derive(Debug, Default)]
pub(super) struct Reads {
    asked: VecDeque<(u64, Index, Read)>,
    confirmed: BTreeMap<(Index, u64), Read>,
    ready: VecDeque<Read>,
    held: BTreeMap<ConnectionId, VecDeque<Read>>,
    free: Vec<Vec<u8>>,
    /// Orders reads of the same index.
    serial: u64,
    count: usize,
    bytes: usize,
}

impl Reads {
    /// An empty key buffer, a used one if possible.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Takes a key buffer back.
    pub(super) fn recycle(&mut self, mut keys: Vec<u8>) {
        if self.free.len() < FREE_MAX && keys.capacity() <= FREE_BYTES_MAX {
            keys.clear();
            self.free.push(keys);
        }
    }

    /// Whether one more read would be over the limits.
    pub(super) fn is_full(&self) -> bool {
        self.count >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    /// Whether no read waits.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many reads wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many wait for a quorum.
    pub(super) fn unconfirmed(&self) -> usize {
        self.asked.len()
    }

    /// Whether a read can be served right now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A read that needs `round` confirmed and `index` applied.
    pub(super) fn ask(&mut self, round: u64, index: Index, read: Read) {
        if let Some((last, _, _)) = self.asked.back() {
            assert!(*last <= round, "rounds never fall");
        }
        self.count_in(&read);
        self.asked.push_back((round, index, read));
    }

    /// A read that needs neither.
    pub(super) fn serve(&mut self, read: Read) {
        self.count_in(&read);
        self.ready.push_back(read);
    }

    /// A quorum answered `round`.
    pub(super) fn confirm(&mut self, round: u64, applied: Index) {
        while self
            .asked
            .front()
            .is_some_and(|(asked, _, _)| *asked <= round)
        {
            let Some((_, index, read)) = self.asked.pop_front() else {
                break;
            };
            if index <= applied {
                self.ready.push_back(read);
            } else {
                self.serial += 1;
                self.confirmed.insert((index, self.serial), read);
            }
        }
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: Index) {
        while let Some(first) = self.confirmed.first_entry() {
            if first.key().0 > index {
                break;
            }
            self.ready.push_back(first.remove());
        }
    }

    /// The next read to serve. Its keys go back by [`Reads::recycle`].
    pub(super) fn next_ready(&mut self) -> Option<Read> {
        let read = self.ready.pop_front()?;
        self.count_out(&read);
        Some(read)
    }

    /// Puts a ready read aside until [`Reads::release`].
    pub(super) fn hold(&mut self, read: Read) {
        self.count_in(&read);
        let held = self.held.entry(read.caller.connection).or_default();
        held.push_back(read);
    }

    /// Makes a connection's held reads ready again.
    pub(super) fn release(&mut self, connection: ConnectionId) {
        if let Some(mut held) = self.held.remove(&connection) {
            self.ready.append(&mut held);
        }
    }

    /// Drops a connection's held reads: it is gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        for read in self.held.remove(&connection).unwrap_or_default() {
            self.count_out(&read);
            self.recycle(read.query.keys);
        }
    }

    /// Takes out every read that leadership was needed for: it was lost.
    pub(super) fn fail(&mut self, mut failed: impl FnMut(Caller)) {
        while let Some((_, _, read)) = self.asked.pop_front() {
            self.drop_read(read, &mut failed);
        }
        while let Some((_, read)) = self.confirmed.pop_first() {
            self.drop_read(read, &mut failed);
        }
    }

    /// Takes out every read whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(Caller)) {
        let late = |read: &Read| read.deadline.is_some_and(|deadline| deadline <= now);
        let mut out = Vec::new();
        if self.asked.iter().any(|(_, _, read)| late(read)) {
            let (gone, kept): (Vec<_>, Vec<_>) =
                self.asked.drain(..).partition(|(_, _, read)| late(read));
            self.asked = kept.into();
            out.extend(gone.into_iter().map(|(_, _, read)| read));
        }
        let gone = self.confirmed.iter().filter(|(_, read)| late(read));
        let gone: Vec<_> = gone.map(|(place, _)| *place).collect();
        out.extend(gone.iter().filter_map(|place| self.confirmed.remove(place)));
        for read in out {
            self.drop_read(read, &mut expired);
        }
    }

    /// The earliest deadline of a read that waits for others.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let asked = self.asked.iter().filter_map(|(_, _, read)| read.deadline);
        let confirmed = self.confirmed.values().filter_map(|read| read.deadline);
        asked.chain(confirmed).min()
    }

    fn drop_read(&mut self, read: Read, dropped: &mut impl FnMut(Caller)) {
        self.count_out(&read);
        dropped(read.caller);
        self.recycle(read.query.keys);
    }

    fn count_in(&mut self, read: &Read) {
        self.count += 1;
        self.bytes += read.query.keys.len();
    }

    fn count_out(&mut self, read: &Read) {
        self.count -= 1;
        self.bytes -= read.query.keys.len();
    }
}
