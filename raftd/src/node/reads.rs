//! Linearizable reads: which may be served when (ReadIndex, thesis 6.4; rules C1).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::Instant;
use wire::client::{Freshness, KeyRange, ScanMode, ViewChoice};
use wire::types::Index;

use super::client::Caller;
use super::io::ConnectionId;
use crate::store::map::PageQuery;

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
    Scan(Scan),
}

/// What a scan asks for, besides the keys that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) mode: ScanMode,
    pub(super) reverse: bool,
    pub(super) limit: u32,
    pub(super) view: ViewChoice,
    pub(super) bounds: Bounds,
}

/// Where the keys that a scan names lie, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    from_bytes: usize,
    to_bytes: Option<usize>,
    has_after: bool,
}

impl Bounds {
    pub(super) fn of(range: KeyRange<'_>, after: Option<&[u8]>) -> Self {
        Self {
            from_bytes: range.from.len(),
            to_bytes: range.to.map(<[u8]>::len),
            has_after: after.is_some(),
        }
    }

    /// Takes the keys apart again: the range, and what the page comes behind.
    fn split(self, keys: &[u8]) -> (KeyRange<'_>, Option<&[u8]>) {
        let (from, rest) = keys.split_at(self.from_bytes);
        let (to, after) = rest.split_at(self.to_bytes.unwrap_or(0));
        let range = KeyRange {
            from,
            to: self.to_bytes.map(|_| to),
        };
        (range, self.has_after.then_some(after))
    }
}

impl Scan {
    /// The page, given the keys that the scan names.
    pub(super) fn page(self, keys: &[u8]) -> PageQuery<'_> {
        let (range, after) = self.bounds.split(keys);
        PageQuery {
            mode: self.mode,
            range,
            reverse: self.reverse,
            after,
            limit: self.limit,
        }
    }
}

/// A read with its own copy of the keys.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) shape: Shape,
    pub(super) keys: Vec<u8>,
}

/// A query, who asked, and how fresh the answer must be.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) caller: Caller,
    pub(super) deadline: Option<Instant>,
    /// How long this node lets it wait, if others could serve it.
    pub(super) patience: Option<Instant>,
    pub(super) freshness: Freshness,
    /// When a round was asked for on its behalf: what it sees is no older. `None`: no round is.
    pub(super) asked_at: Option<Instant>,
    pub(super) query: Query,
}

impl Read {
    /// When it is answered by an error, if it still waits.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        [self.deadline, self.patience].into_iter().flatten().min()
    }
}

/// Reads on their way through three stages: `asked` until a quorum answered their round,
/// `confirmed` until their index is applied, `ready` until the turn's budget lets them be served.
/// Those for clients that do not read their replies are `held` meanwhile.
///
/// Invariants:
/// - `asked` is in the order of rounds;
/// - `count` and `bytes` cover all stages and stay within their limits;
/// - what was acknowledged before `fresh_at` is applied;
/// - a read in `ready` may be served at any later state: what it must see is applied.
#[derive(Debug, Default)]
pub(super) struct Reads {
    asked: VecDeque<(u64, Index, Read)>,
    confirmed: BTreeMap<(Index, u64), Read>,
    ready: VecDeque<Read>,
    held: BTreeMap<ConnectionId, VecDeque<Read>>,
    free: Vec<Vec<u8>>,
    fresh_at: Option<Instant>,
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

    /// A read that needs `index` applied, and no round.
    pub(super) fn await_applied(&mut self, index: Index, applied: Index, read: Read) {
        self.count_in(&read);
        self.place(index, applied, read);
    }

    /// `round` was answered: besides their own index, its reads need this one applied.
    pub(super) fn confirm(&mut self, round: u64, told: Index, applied: Index) {
        while self
            .asked
            .front()
            .is_some_and(|(asked, _, _)| *asked <= round)
        {
            let Some((_, index, read)) = self.asked.pop_front() else {
                break;
            };
            self.place(index.max(told), applied, read);
        }
    }

    fn place(&mut self, index: Index, applied: Index, read: Read) {
        if index <= applied {
            self.make_ready(read);
        } else {
            self.serial += 1;
            self.confirmed.insert((index, self.serial), read);
        }
    }

    fn make_ready(&mut self, read: Read) {
        self.fresh_at = self.fresh_at.max(read.asked_at);
        self.ready.push_back(read);
    }

    /// Takes out the reads that wait for a round up to this one.
    pub(super) fn take_asked(&mut self, round: u64) -> Vec<Read> {
        let upto = self.asked.partition_point(|(asked, _, _)| *asked <= round);
        let taken: Vec<Read> = self.asked.drain(..upto).map(|(_, _, read)| read).collect();
        for read in &taken {
            self.count_out(read);
        }
        taken
    }

    /// As of when the state is known to have been the newest.
    pub(super) fn fresh_at(&self) -> Option<Instant> {
        self.fresh_at
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: Index) {
        while let Some(first) = self.confirmed.first_entry() {
            if first.key().0 > index {
                break;
            }
            let read = first.remove();
            self.make_ready(read);
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

    /// Drops the reads of connections that are gone.
    pub(super) fn forget(&mut self, gone: &BTreeSet<ConnectionId>) {
        for connection in gone {
            self.release(*connection);
        }
        for read in self.take_unheld(|read| gone.contains(&read.caller.connection)) {
            self.recycle(read.query.keys);
        }
    }

    /// Takes out all reads, and forgets of when the state is: it is thrown away.
    pub(super) fn take_all(&mut self) -> Vec<Read> {
        self.fresh_at = None;
        let held = std::mem::take(&mut self.held);
        self.ready.extend(held.into_values().flatten());
        self.take_unheld(|_| true)
    }

    fn take_unheld(&mut self, leave: impl Fn(&Read) -> bool) -> Vec<Read> {
        let mut taken = self.take_waiting(&leave);
        let ready = take_if(&mut self.ready, leave);
        ready.iter().for_each(|read| self.count_out(read));
        taken.extend(ready);
        taken
    }

    /// Takes out the reads that wait for others and are to `leave`.
    pub(super) fn take_waiting(&mut self, leave: impl Fn(&Read) -> bool) -> Vec<Read> {
        let asked = take_if(&mut self.asked, |(_, _, read)| leave(read));
        let mut taken: Vec<Read> = asked.into_iter().map(|(_, _, read)| read).collect();
        let gone = self.confirmed.iter().filter(|(_, read)| leave(read));
        let gone: Vec<_> = gone.map(|(place, _)| *place).collect();
        taken.extend(gone.iter().filter_map(|place| self.confirmed.remove(place)));
        taken.iter().for_each(|read| self.count_out(read));
        taken
    }

    /// When the next read that waits for others has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let asked = self.asked.iter().map(|(_, _, read)| read);
        let waiting = asked.chain(self.confirmed.values());
        waiting.filter_map(Read::gives_up_at).min()
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

/// Takes those out of a queue that are to `leave`.
pub(super) fn take_if<T>(queue: &mut VecDeque<T>, leave: impl Fn(&T) -> bool) -> Vec<T> {
    if !queue.iter().any(&leave) {
        return Vec::new();
    }
    let (out, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(leave);
    *queue = kept.into();
    out
}
