//! A log on the simulated disk, and what it should hold.

use std::ops::Range;
use std::path::PathBuf;

use raft::{HardState, Ticket, Write};
use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, Latched, Meter};
use raftd::fatal::Fatal;
use raftd::storage::{OpenedLog, Options, Scrubbing, open_log};
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::segment::{self, SegmentMaker};
use raftd::wal::{Error, Recovered, Wal};
use wire::entry::Entry;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::wal_support::{entries, identity, membership_entry, memberships_in};

pub(crate) const SEGMENT_BYTES: u64 = 256 * 1024;

pub(crate) fn options(seed: u64) -> Options {
    Options {
        data_dir: PathBuf::new(),
        segment_bytes: SEGMENT_BYTES,
        soft_free_bytes: 0,
        tail_bytes: 8 << 20,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
        meter: Meter::default(),
        create: Some(identity()),
        seed,
    }
}

pub(crate) type SimWal = Wal<Latched<SimDisk>>;

pub(crate) fn open(disk: &SimDisk) -> Result<OpenedLog<Latched<SimDisk>>, Fatal> {
    // Salts differ from life to life, as they do in the daemon.
    open_log(Latched::new(disk.clone()), &options(disk.operations()))
}

pub(crate) fn make_spare(wal: &mut SimWal) -> Result<(), Error> {
    let (owner, id) = (identity().owner(), wal.next_segment());
    let seed = wal.disk().inner().operations();
    let maker = SegmentMaker::begin(wal.disk(), owner, id, SEGMENT_BYTES, seed)?;
    let spare = maker.finish(wal.disk())?;
    wal.add_spare(spare);
    Ok(())
}

/// Random, the same for the same seed.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the log should hold: the entries behind `base`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: EntryId,
    pub(crate) base: EntryId,
    pub(crate) entries: Vec<Entry>,
}

impl Content {
    pub(crate) fn last(&self) -> u64 {
        self.base.index.0 + self.entries.len() as u64
    }

    pub(crate) fn at(&self, index: u64) -> Option<EntryId> {
        let place = index.checked_sub(self.base.index.0)?;
        match place.checked_sub(1) {
            None => Some(self.base),
            Some(place) => self.entries.get(place as usize).map(Entry::id),
        }
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        if let Some(snapshot) = write.reset {
            self.entries.clear();
            self.base = snapshot;
            self.snapshot = snapshot;
        }
        if let Some(from) = write.truncate_from {
            let kept = from.0 - 1 - self.base.index.0;
            self.entries.truncate(kept as usize);
        }
        self.entries.extend(write.entries.iter().cloned());
        self.hard_state = write.hard_state;
    }

    /// Whether this log is what `whole` says, but for entries that are gone from the front.
    pub(crate) fn is_end_of(&self, whole: &Self) -> bool {
        self.last() == whole.last()
            && whole.at(self.base.index.0) == Some(self.base)
            && whole.entries.ends_with(&self.entries)
    }
}

/// A node's history of writes, as its disk should tell it.
///
/// Invariant: `after[n]` is what the log holds after the first `n` of `writes`, if no other marker
/// than those of resets reached the disk and nothing was removed.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) random: Random,
    next_ticket: u64,
    pub(crate) commit: u64,
    writes: Vec<Write>,
    after: Vec<Content>,
    /// Writes reported durable.
    durable: usize,
    /// Markers that were asked for.
    marks: Vec<EntryId>,
    /// The durable one.
    marked: EntryId,
    /// Up to here the log was asked to forget.
    compacted: Index,
    /// Segments that the log has forgotten.
    garbage: Range<u64>,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            next_ticket: 1,
            commit: 0,
            writes: Vec::new(),
            after: vec![Content::default()],
            durable: 0,
            marks: Vec::new(),
            marked: EntryId::default(),
            compacted: Index(0),
            garbage: 0..0,
        }
    }

    /// Goes on from what a recovery found, which must be allowed.
    pub(crate) fn resume(&mut self, found: Content) {
        self.writes.clear();
        self.durable = 0;
        self.marks.clear();
        self.marked = found.snapshot;
        self.compacted = found.base.index;
        self.garbage = 0..0;
        self.commit = self.commit.min(found.last());
        self.after = vec![found];
    }

    /// Invents the next write: entries of all sizes, votes, terms, replaced suffixes, snapshots in
    /// place of the log.
    pub(crate) fn next_write(&mut self) -> Write {
        let before = self.after.last().expect("the beginning is always there");
        let random = &mut self.random;
        let last = before.last();
        let mut hard_state = before.hard_state;
        let (mut reset, mut truncate_from) = (None, None);
        let mut first = last + 1;
        if hard_state.term == Term(0) || random.below(4) == 0 {
            hard_state.term = hard_state.term.next();
            hard_state.vote = (random.below(2) == 0).then_some(NodeId(1 + random.below(3)));
            if last > self.commit && random.below(2) == 0 {
                first = self.commit + 1 + random.below(last - self.commit);
                truncate_from = Some(Index(first));
            } else if random.below(4) == 0 {
                self.commit += 1 + random.below(10);
                first = self.commit + 1;
                reset = Some(EntryId {
                    term: hard_state.term,
                    index: Index(self.commit),
                });
            }
        }
        // A cut brings its replacement (rules A6).
        let least = u64::from(truncate_from.is_some());
        let count = [0, 1, 1, 2, 5][random.below(5) as usize].max(least);
        let bytes = [1, 100, 500, 9_000, 40_000][random.below(5) as usize];
        let mut entries = entries(first, count, hard_state.term.0, bytes as usize);
        if let Some(last) = entries.last_mut().filter(|_| random.below(4) == 0) {
            *last = membership_entry(last.index().0, last.term().0);
        }
        let last = first - 1 + count;
        if self.commit < last && random.below(2) == 0 {
            self.commit += random.below(last - self.commit + 1);
        }
        let write = Write {
            ticket: Ticket(self.next_ticket),
            hard_state,
            reset,
            truncate_from,
            entries,
            commit: Index(self.commit),
        };
        self.next_ticket += 1;
        let mut after = before.clone();
        after.apply(&write);
        self.after.push(after);
        self.writes.push(write.clone());
        write
    }

    pub(crate) fn reported(&mut self, ticket: Ticket) {
        let durable = self.writes.iter().position(|write| write.ticket == ticket);
        self.durable = durable.expect("only what was written is reported") + 1;
    }

    /// Between two writes, while nothing waits: publishes a snapshot, forgets what one covers,
    /// removes files of that.
    pub(crate) fn keep_house<D: Disk>(&mut self, wal: &mut Wal<D>) -> Result<(), Error> {
        self.marked = wal.snapshot();
        let now = self.after.last().expect("the beginning is always there");
        let (newest, lowest) = (self.commit, wal.snapshot().index.0.max(wal.base().index.0));
        if newest > lowest && self.random.below(3) == 0 {
            let index = lowest + 1 + self.random.below(newest - lowest);
            let snapshot = now.at(index).expect("what is committed is in the log");
            self.marks.push(snapshot);
            wal.mark(snapshot);
        }
        if self.random.below(3) == 0 {
            let upto = Index(self.random.below(wal.snapshot().index.0 + 1));
            self.compacted = self.compacted.max(upto);
            let (bytes, first) = (wal.bytes(), wal.first_segment());
            let gone = wal.compact(upto, self.random.below(3) * SEGMENT_BYTES);
            assert_eq!(gone, first..wal.first_segment());
            assert_eq!(bytes - wal.bytes(), gone.count() as u64 * SEGMENT_BYTES);
            if self.garbage.is_empty() {
                self.garbage.start = first;
            }
            self.garbage.end = wal.first_segment();
        }
        for _ in 0..self.random.below(3) {
            segment::remove(wal.disk(), &mut self.garbage)?;
        }
        Ok(())
    }

    /// Whether the log may hold this.
    pub(crate) fn allows(&self, found: &Content) -> bool {
        // Entries that have no room are overtaken by the terms and votes behind them (rules E5).
        let is_promised = |n: usize| {
            let mut later = self.after[n..].iter();
            later.any(|after| after.hard_state == found.hard_state)
        };
        let fits = |n: usize, whole: &Content| {
            let own = found.snapshot == whole.snapshot;
            let newer = found.snapshot.index > whole.snapshot.index;
            let bases = whole.base.index..=self.compacted.max(whole.base.index);
            (own || newer && self.marks.contains(&found.snapshot))
                && found.snapshot.index >= self.marked.index
                && found.base.index <= found.snapshot.index
                && bases.contains(&found.base.index)
                && found.is_end_of(whole)
                && is_promised(n)
        };
        let mut whole = self.after.iter().enumerate().skip(self.durable);
        let parts = self.writes[self.durable..].iter().enumerate();
        whole.any(|(n, whole)| fits(n, whole))
            || parts.into_iter().any(|(n, write)| {
                let least = usize::from(write.reset.is_none());
                (least..write.entries.len()).any(|part| {
                    let mut content = self.after[self.durable + n].clone();
                    content.apply(&Write {
                        entries: write.entries[..part].to_vec(),
                        ..write.clone()
                    });
                    fits(self.durable + n + 1, &content)
                })
            })
    }

    pub(crate) fn check(&self, found: &Content, context: &str) {
        assert!(
            self.allows(found),
            "{context}: {} of {} writes were durable, bases and ends {:?}; marks {:?}, {} durable, \
             compacted {}; found {:?}, snapshot {}, base {}, last {:?}",
            self.durable,
            self.writes.len(),
            self.after
                .iter()
                .map(|after| (after.base.index.0, after.last()))
                .collect::<Vec<_>>(),
            self.marks,
            self.marked,
            self.compacted,
            found.hard_state,
            found.snapshot,
            found.base,
            found.entries.last().map(Entry::id),
        );
    }
}

/// Everything in the log, read back entry by entry, and compared with what recovery said of it.
pub(crate) fn content<D: Disk>(recovered: &Recovered<D>) -> Content {
    let wal = &recovered.wal;
    let (base, last) = (wal.base(), wal.last().index);
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = base.index.next();
    while next <= last {
        let more = wal
            .load(next, last, 100_000)
            .expect("what was recovered can be read");
        assert!(!more.is_empty(), "a load of entry {next} gives something");
        next = Index(next.0 + more.len() as u64);
        entries.extend(more);
    }
    for from in (0..entries.len()).step_by(5) {
        let to = (from + 3).min(entries.len());
        let index = |place: usize| Index(base.index.0 + place as u64);
        let some = wal.load(index(from + 1), index(to), usize::MAX);
        assert_eq!(some.expect("it can be read"), entries[from..to]);
    }
    let below = wal.load(base.index, last, usize::MAX);
    assert_eq!(below.expect("nothing is read"), [], "the log begins later");
    let mut terms = entries.iter().map(Entry::id).collect::<Vec<_>>();
    terms.dedup_by_key(|id| id.term);
    assert_eq!(recovered.terms, terms, "the first entry of each term");
    assert!(
        entries.ends_with(&recovered.tail),
        "the tail is the newest entries"
    );
    assert_eq!(
        recovered.memberships,
        memberships_in(&entries),
        "who is a member"
    );
    assert!(wal.commit() <= last, "the commit hint is in the log");
    assert!(wal.is_marked() && base.index <= wal.snapshot().index);
    Content {
        hard_state: wal.hard_state(),
        snapshot: wal.snapshot(),
        base,
        entries,
    }
}
