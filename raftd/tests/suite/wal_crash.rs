//! The log on the simulated disk, which loses power at every operation there is.
//!
//! The property: after any crash the log is the result of a prefix of the writes that were handed
//! over, and that prefix holds at least everything that was reported durable. The last write of
//! the prefix may be there in part if it was larger than a batch. Of the markers that were asked
//! for, one is there that is not older than the durable one; and what is gone from the front is
//! covered by it.

use std::ops::Range;
use std::path::PathBuf;

use raft::{HardState, Ticket, Write};
use raftd::disk::sim::{Fault, SimDisk};
use raftd::disk::{Disk, Latched};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::storage::{OpenedLog, Options, Scrubbing, open_log};
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::segment::{self, SegmentMaker};
use raftd::wal::{Error, Pending, Progress, Recovered, Wal};
use wire::entry::Entry;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::wal_support::{entries, identity, membership_entry, memberships_in};

const SEGMENT_BYTES: u64 = 256 * 1024;
const DISK_BYTES: u64 = 8 * 1024 * 1024;

pub(crate) fn options(seed: u64) -> Options {
    Options {
        data_dir: PathBuf::new(),
        segment_bytes: SEGMENT_BYTES,
        soft_free_bytes: 0,
        tail_bytes: 8 << 20,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: 0,
        scrubbing: Scrubbing::default(),
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
    fn last(&self) -> u64 {
        self.base.index.0 + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Option<EntryId> {
        let place = index.checked_sub(self.base.index.0)?;
        match place.checked_sub(1) {
            None => Some(self.base),
            Some(place) => self.entries.get(place as usize).map(Entry::id),
        }
    }

    fn apply(&mut self, write: &Write) {
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
    fn is_end_of(&self, whole: &Self) -> bool {
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
    random: Random,
    next_ticket: u64,
    commit: u64,
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
    fn resume(&mut self, found: Content) {
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

/// Writes until everything is durable or the machine is down.
fn work(wal: &mut SimWal, story: &mut Story, turns: u64) -> Result<(), Error> {
    let mut pending = Pending::default();
    for _ in 0..turns {
        for _ in 0..=story.random.below(3) {
            pending.push(story.next_write());
        }
        loop {
            match wal.write(&mut pending)? {
                Progress::Idle => break,
                Progress::Durable(ticket) => ticket.into_iter().for_each(|t| story.reported(t)),
                Progress::NoRoom => make_spare(wal)?,
            }
        }
        if story.random.below(8) == 0 {
            make_spare(wal)?;
        }
        story.keep_house(wal)?;
    }
    Ok(())
}

/// A life: opens, checks what is there against the story, works. False: the machine went down.
fn live(disk: &SimDisk, story: &mut Story, turns: u64, context: &str) -> bool {
    let mut opened = match open(disk) {
        Ok(opened) => opened,
        Err(fatal) => {
            assert!(disk.is_down(), "{context}: refused: {fatal}");
            return false;
        }
    };
    let found = content(&opened.recovered);
    story.check(&found, context);
    assert!(
        opened.recovered.wal.commit().0 <= story.commit,
        "{context}: commit hint"
    );
    story.resume(found);
    match work(&mut opened.recovered.wal, story, turns) {
        Ok(()) => true,
        Err(error) => {
            assert!(disk.is_down(), "{context}: {error}");
            false
        }
    }
}

/// Two lives without a fault; returns how many operations they took.
fn operations_of(seed: u64, turns: u64) -> u64 {
    let disk = SimDisk::new(seed, DISK_BYTES);
    let mut story = Story::new(seed);
    assert!(live(&disk, &mut story, turns, "no fault"));
    disk.operations()
}

#[test]
fn nothing_durable_is_lost_by_a_power_cut_at_any_operation() {
    for seed in 0..4 {
        let turns = 12;
        for at in 1..=operations_of(seed, turns) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::PowerLoss);
            let context = format!("seed {seed}, power loss at {at}");
            assert!(
                !live(&disk, &mut story, turns, &context),
                "{context} happens"
            );
            assert!(live(&disk.restart(), &mut story, 2, &context));
            disk.power_loss();
            assert!(live(&disk.restart(), &mut story, 0, &context));
        }
    }
}

#[test]
fn nothing_durable_is_lost_by_a_kill_at_any_operation() {
    let (seed, turns) = (7, 12);
    for at in 1..=operations_of(seed, turns) {
        let disk = SimDisk::new(seed, DISK_BYTES);
        let mut story = Story::new(seed);
        disk.fail_at(at, Fault::Kill);
        let context = format!("kill at {at}");
        assert!(!live(&disk, &mut story, turns, &context));
        assert!(live(&disk.restart(), &mut story, 2, &context));
        // What a kill left in the cache only must not have been taken for durable.
        disk.power_loss();
        assert!(live(&disk.restart(), &mut story, 2, &context));
    }
}

/// A name that only the cache has must not be relied upon: neither a spare's that the log goes on
/// in, nor IDENTITY's.
#[test]
fn names_that_a_kill_left_in_the_cache_are_made_durable() {
    let open_and_make_spare = |disk: &SimDisk| {
        let mut opened = open(disk).ok()?;
        make_spare(&mut opened.recovered.wal).ok()
    };
    let untouched = SimDisk::new(1, DISK_BYTES);
    open_and_make_spare(&untouched).expect("no fault is planned");
    for at in 1..=untouched.operations() {
        let disk = SimDisk::new(1, DISK_BYTES);
        disk.fail_at(at, Fault::Kill);
        assert!(open_and_make_spare(&disk).is_none());
        let disk = disk.restart();
        let mut story = Story::new(1);
        assert!(live(&disk, &mut story, 10, &format!("kill at {at}")));
        for cut in 0..4 {
            let disk = disk.fork(cut);
            disk.power_loss();
            let context = format!("kill at {at}, power loss {cut}");
            assert!(live(&disk.restart(), &mut story.clone(), 0, &context));
        }
    }
}

/// Recovery itself is interrupted, at each of its operations, again and again.
#[test]
fn recovery_is_idempotent_and_survives_power_cuts_of_its_own() {
    let mut interrupted = 0;
    for seed in 10..14 {
        let turns = 12;
        let operations = operations_of(seed, turns);
        for at in (1..=operations).rev().step_by(11) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::PowerLoss);
            live(&disk, &mut story, turns, "the first life");
            for cut in 1.. {
                let again = disk.fork(seed * 1_000_003 + cut);
                again.fail_at(cut, Fault::PowerLoss);
                let context = format!("seed {seed}, power loss at {at}, then at {cut} of recovery");
                if open(&again).is_ok() && !again.is_down() {
                    break;
                }
                interrupted += 1;
                assert!(again.is_down(), "{context}");
                let found = content(&open(&again.restart()).expect("it recovers").recovered);
                story.check(&found, &context);
                // And once more: the same.
                let twice = content(&open(&again.restart()).expect("it recovers").recovered);
                assert_eq!(found, twice, "{context}");
            }
        }
    }
    assert!(
        interrupted > 100,
        "{interrupted} recoveries were interrupted"
    );
}

#[test]
fn many_lives_in_a_row_keep_the_story() {
    for seed in 100..130 {
        let mut disk = SimDisk::new(seed, 4 * DISK_BYTES);
        let mut story = Story::new(seed);
        let mut random = Random(seed);
        for life in 0..12 {
            let fault = if random.below(2) == 0 {
                Fault::PowerLoss
            } else {
                Fault::Kill
            };
            disk.fail_at(disk.operations() + 1 + random.below(200), fault);
            live(&disk, &mut story, 20, &format!("seed {seed}, life {life}"));
            disk = disk.restart();
        }
    }
}

/// A sync that failed leaves the cache newer than the disk: the next life must see the disk.
#[test]
fn a_failed_sync_ends_the_log_and_its_bytes_are_not_believed_later() {
    let mut failures = 0;
    for seed in 0..3 {
        for at in 1..=operations_of(seed, 8) {
            let disk = SimDisk::new(seed, DISK_BYTES);
            let mut story = Story::new(seed);
            disk.fail_at(at, Fault::Io);
            let Ok(mut opened) = open(&disk) else {
                continue;
            };
            let error = work(&mut opened.recovered.wal, &mut story, 8);
            assert!(error.is_err(), "the failure is told");
            failures += 1;
            let mut pending = Pending::default();
            pending.push(Write {
                ticket: Ticket(u64::MAX),
                hard_state: opened.recovered.wal.hard_state(),
                ..Write::default()
            });
            let latched = opened.recovered.wal.disk().has_failed();
            let refused = opened.recovered.wal.write(&mut pending).is_err();
            // Only that a new file could not be made leaves the disk in order.
            assert!(refused || !latched, "the latch holds");
            // The process ends, the cache stays as it is; what the next life acknowledges must
            // survive a power cut.
            let context = format!("seed {seed}, EIO at {at}");
            let disk = disk.restart();
            assert!(live(&disk, &mut story, 1, &context));
            disk.power_loss();
            assert!(live(&disk.restart(), &mut story, 1, &context));
        }
    }
    assert!(failures > 100, "{failures} operations failed");
}

#[test]
fn no_space_is_never_damage_and_never_fatal() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut story = Story::new(1);
    let mut opened = open(&disk).expect("there is room for one segment");
    let used = SEGMENT_BYTES + 16 * 1024;
    disk.set_capacity(used);
    let wal = &mut opened.recovered.wal;
    let mut pending = Pending::default();
    // Until the segment is full.
    loop {
        if pending.is_empty() {
            pending.push(story.next_write());
        }
        match wal.write(&mut pending).expect("a full disk is no failure") {
            Progress::NoRoom => break,
            Progress::Durable(ticket) => ticket.into_iter().for_each(|t| story.reported(t)),
            Progress::Idle => {}
        }
    }
    let error = make_spare(wal).expect_err("there is no room");
    assert!(matches!(error, Error::Disk(error) if error.is_no_space()));
    assert_eq!(
        wal.write(&mut pending).expect("still none"),
        Progress::NoRoom
    );
    // Another life on the full disk: recovery needs no room, votes still fit.
    let disk = disk.restart();
    let opened = open(&disk).expect("recovery needs no room");
    let found = content(&opened.recovered);
    story.check(&found, "full disk");
    let mut wal = opened.recovered.wal;
    let mut pending = Pending::default();
    for n in 0..100 {
        let term = Term(found.hard_state.term.0 + 1 + n);
        pending.push(Write {
            ticket: Ticket(n + 1),
            hard_state: HardState {
                term,
                vote: Some(NodeId(2)),
                lost: false,
            },
            ..Write::default()
        });
        let progress = wal.write(&mut pending).expect("a vote fits");
        assert_eq!(progress, Progress::Durable(Some(Ticket(n + 1))));
    }
    // Space comes back: it goes on.
    disk.set_capacity(DISK_BYTES);
    make_spare(&mut wal).expect("there is room again");
    let next = wal.last().index.0 + 1;
    let hard_state = wal.hard_state();
    pending.push(Write {
        ticket: Ticket(200),
        hard_state,
        entries: entries(next, 5, hard_state.term.0, 40_000),
        ..Write::default()
    });
    let mut reported = None;
    loop {
        match wal.write(&mut pending).expect("there is room") {
            Progress::Durable(ticket) => reported = ticket,
            Progress::NoRoom => make_spare(&mut wal).expect("there is room"),
            Progress::Idle => break,
        }
    }
    assert_eq!(reported, Some(Ticket(200)));
    let recovered = open(&disk.restart()).expect("it recovers").recovered;
    assert_eq!(recovered.wal.last().index, Index(next + 4));
    assert_eq!(recovered.wal.hard_state(), hard_state);
}

#[test]
fn enospc_at_any_operation_is_told_and_loses_nothing() {
    for at in 1..=operations_of(3, 10) {
        let disk = SimDisk::new(3, DISK_BYTES);
        let mut story = Story::new(3);
        disk.fail_at(at, Fault::NoSpace);
        if let Ok(mut opened) = open(&disk) {
            let _ = work(&mut opened.recovered.wal, &mut story, 10);
        }
        disk.power_loss();
        assert!(live(
            &disk.restart(),
            &mut story,
            2,
            &format!("ENOSPC at {at}")
        ));
    }
}

/// Rules E1: whatever waits when a sync returns shares the next one; nothing syncs twice.
#[test]
fn a_batch_is_exactly_one_sync() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let hard_state = HardState {
        term: Term(1),
        vote: Some(NodeId(1)),
        lost: false,
    };
    let mut next = 1;
    for waiting in [1, 1, 10, 100] {
        for _ in 0..waiting {
            pending.push(Write {
                ticket: Ticket(next),
                hard_state,
                entries: entries(next, 1, 1, 20),
                ..Write::default()
            });
            next += 1;
        }
        let before = disk.syncs();
        let progress = wal.write(&mut pending).expect("no fault is planned");
        assert_eq!(progress, Progress::Durable(Some(Ticket(next - 1))));
        assert_eq!(disk.syncs() - before, 1);
        let idle = wal.write(&mut pending).expect("no fault is planned");
        assert_eq!(idle, Progress::Idle);
        assert_eq!(disk.syncs() - before, 1);
    }
}

#[test]
fn an_entry_that_no_segment_can_hold_is_refused_by_name() {
    let disk = SimDisk::new(1, DISK_BYTES);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let bytes_max = raftd::wal::entry_bytes_max(SEGMENT_BYTES);
    let body_bytes = bytes_max - wire::entry::ENTRY_HEADER_BYTES;
    let mut pending = Pending::default();
    let hard_state = HardState {
        term: Term(1),
        vote: None,
        lost: false,
    };
    let write = |ticket, entries| Write {
        ticket: Ticket(ticket),
        hard_state,
        entries,
        ..Write::default()
    };
    pending.push(write(1, entries(1, 2, 1, body_bytes)));
    make_spare(&mut wal).expect("there is room");
    make_spare(&mut wal).expect("there is room");
    make_spare(&mut wal).expect("there is room");
    while wal.write(&mut pending).expect("the largest entry fits") != Progress::Idle {}
    assert_eq!(wal.last().index, Index(2));
    pending.push(write(2, entries(3, 1, 1, body_bytes + 1)));
    let error = wal.write(&mut pending).expect_err("one byte more does not");
    assert!(matches!(error, Error::EntryTooLarge { .. }));
}

#[test]
fn an_identity_without_a_whole_copy_is_damage_and_one_copy_is_enough() {
    let disk = SimDisk::new(1, DISK_BYTES);
    open(&disk).expect("it opens");
    disk.tamper("IDENTITY", |bytes| bytes[100] ^= 1);
    let disk = disk.restart();
    open(&disk).expect("the second copy is whole");
    disk.tamper("IDENTITY", |bytes| bytes[8192 + 100] ^= 1);
    let disk = disk.restart();
    open(&disk).expect("the first copy was healed");
    disk.tamper("IDENTITY", |bytes| {
        bytes[100] ^= 1;
        bytes[8192 + 100] ^= 1;
    });
    let fatal = open(&disk.restart()).err().expect("both are damaged");
    assert_eq!(fatal.status, ExitStatus::Damaged);
}

#[test]
fn an_identity_update_is_old_or_new_after_a_crash_at_any_operation() {
    let fresh = SimDisk::new(1, DISK_BYTES);
    open(&fresh).expect("it opens");
    let mut updated = identity();
    updated.formed = vec![(NodeId(1), wire::types::Incarnation(77))];
    for (at, fault) in (1..=4).flat_map(|at| [(at, Fault::PowerLoss), (at, Fault::Kill)]) {
        let disk = fresh.fork(at);
        disk.fail_at(at, fault);
        assert!(updated.update(&disk).is_err());
        let found = open(&disk.restart()).expect("it opens").identity;
        assert!(found == identity() || found == updated, "{found:?}");
        let again = open(&disk.restart()).expect("it opens").identity;
        assert_eq!(found, again);
    }
}
