//! The one honest thing in a hostile world: a disk that does what it was given, in order, when the
//! script says so, and forgets the rest when the node crashes.

use std::collections::{BTreeSet, VecDeque};

use bytes::BytesMut;
use raft::{HardState, Restored, Ticket, Write};
use wire::entry::{Entry, EntryKind, Identity};
use wire::limits::FETCH_ENTRIES_MAX;
use wire::membership::{MemberRecord, Membership, Suffrage};
use wire::types::{EntryId, Index, NodeId, Term};

use super::script::Script;

/// Entries that a node has when it starts, at most.
const START_ENTRIES_MAX: usize = 12;

/// What is on it, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// The log, behind `base`.
    log: Vec<Entry>,
    base: EntryId,
    /// What the marker names: from `base` to the end of the log.
    snapshot: EntryId,
    /// Who is a member as of that, if an entry said so.
    members: Option<Membership>,
    commit: Index,
    /// The entries of `log` whose payload is gone.
    pub(super) faulty: BTreeSet<Index>,
    /// The snapshot is good for nothing.
    pub(super) rebuilding: bool,
    pending: VecDeque<Write>,
    issued: Ticket,
    durable: Ticket,
}

impl Disk {
    /// A log with a past: a few terms, a vote, a commit hint.
    pub(super) fn draw(script: &mut Script<'_>) -> Self {
        let mut term = script.below(4) as u64;
        let mut disk = Self::default();
        if term > 0 {
            for index in 1..=script.below(START_ENTRIES_MAX + 1) as u64 {
                let choice = script.byte();
                term += u64::from(choice % 4 == 3);
                disk.log.push(match choice % 16 {
                    8 => membership_entry(term, index),
                    _ => entry(term, index, usize::from(choice) * 2),
                });
            }
        }
        disk.hard_state = HardState {
            term: Term(term + script.below(3) as u64),
            vote: None,
            lost: false,
        };
        if disk.hard_state.term > Term(0) {
            disk.hard_state.vote = script.pick(&[None, Some(1), Some(2), Some(9)]).map(NodeId);
        }
        disk.commit = Index(script.below(disk.log.len() + 1) as u64);
        disk
    }

    /// Sometimes a snapshot covers a part of the log, of which some is gone.
    pub(super) fn draw_snapshot(&mut self, script: &mut Script<'_>) {
        if script.flag() {
            let most = self.log.len() + 1;
            let covered = Index(script.below(most) as u64);
            self.mark(self.id_at(covered).expect("it is in the log"));
            self.compact(Index(script.below(most) as u64));
        }
    }

    fn last(&self) -> EntryId {
        self.log.last().map_or(self.base, Entry::id)
    }

    /// The entry at an index behind the base.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.log.get(usize::try_from(place).ok()?)
    }

    fn id_at(&self, index: Index) -> Option<EntryId> {
        let is_base = index == self.base.index;
        let behind = self.entry(index).map(Entry::id);
        behind.or(is_base.then_some(self.base))
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// What the log begins behind.
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// What the marker names.
    pub(super) fn snapshot(&self) -> EntryId {
        self.snapshot
    }

    /// The marker names a newer snapshot, which is in the log.
    pub(super) fn mark(&mut self, snapshot: EntryId) {
        if snapshot.index > self.snapshot.index {
            assert_eq!(
                self.id_at(snapshot.index),
                Some(snapshot),
                "{snapshot} is not in the log"
            );
            self.snapshot = snapshot;
            let log = self.log.iter();
            let covered = log.take_while(|entry| entry.index() <= snapshot.index);
            let newest = memberships_in(covered).pop();
            self.members = newest.map(|(_, members)| members).or(self.members.take());
        }
    }

    /// The log forgets what is at or below `upto`, as far as the marked snapshot covers it.
    pub(super) fn compact(&mut self, upto: Index) {
        let upto = upto.min(self.snapshot.index);
        if upto > self.base.index {
            self.base = self.id_at(upto).expect("the snapshot is in the log");
            self.log.retain(|entry| entry.index() > upto);
            self.faulty.retain(|index| *index > upto);
        }
    }

    /// What a node is told at its start: some of the newest entries are in memory, and the `first`
    /// members are those until an entry says other.
    pub(super) fn restored(&self, tail: usize, formed: bool, first: &Membership) -> Restored {
        let mut terms: Vec<EntryId> = self.log.iter().map(Entry::id).collect();
        terms.dedup_by_key(|id| id.term);
        let tail = tail.clamp(1, self.log.len().max(1));
        let applied = match self.rebuilding {
            true => self.base.index,
            false => self.snapshot.index,
        };
        let sound = |entry: &&Entry| !self.faulty.contains(&entry.index());
        let behind = self.log.iter().filter(|entry| entry.index() > applied);
        Restored {
            hard_state: self.hard_state,
            commit: self.commit.max(self.snapshot.index),
            base: self.base,
            applied,
            wall_ms: self.snapshot.index.0,
            membership: self.members.as_ref().unwrap_or(first).clone(),
            memberships: memberships_in(behind.filter(sound)),
            terms,
            last: self.last(),
            tail: self.log[self.log.len().saturating_sub(tail)..].to_vec(),
            formed,
            faulty: self.first_faulty(),
            rebuilding: self.rebuilding,
        }
    }

    /// Takes a write, which must follow what was taken before.
    pub(super) fn submit(&mut self, write: Write) {
        assert_eq!(write.ticket.0, self.issued.0 + 1, "tickets are dense");
        assert!(
            write.truncate_from.is_none() || !write.entries.is_empty(),
            "a cut without replacement"
        );
        assert!(
            write.truncate_from.is_none() || write.reset.is_none(),
            "a log that is discarded is cut"
        );
        self.issued = write.ticket;
        self.pending.push_back(write);
    }

    pub(super) fn issued(&self) -> Ticket {
        self.issued
    }

    /// Does up to `count` writes and says what is durable then.
    pub(super) fn sync(&mut self, count: usize) -> Ticket {
        for _ in 0..count {
            let Some(write) = self.pending.pop_front() else {
                break;
            };
            self.durable = write.ticket;
            self.store(write);
        }
        self.durable
    }

    fn store(&mut self, write: Write) {
        let old = self.hard_state;
        let new = write.hard_state;
        assert!(
            new.term > old.term
                || (new.term == old.term && (old.vote.is_none() || new.vote == old.vote)),
            "hard state fell from {old:?} to {new:?}"
        );
        self.hard_state = new;
        if let Some(snapshot) = write.reset {
            let covered = self.commit.max(self.snapshot.index);
            assert!(snapshot.index > covered, "{snapshot} is none too new");
            (self.base, self.snapshot) = (snapshot, snapshot);
            self.members = None;
            self.log.clear();
            self.faulty.clear();
            assert!(write.commit >= snapshot.index, "{snapshot} is committed");
        }
        if let Some(from) = write.truncate_from {
            let covered = self.commit.max(self.snapshot.index);
            assert!(from > covered, "{from} is cut and was committed");
            self.log.retain(|entry| entry.index() < from);
            self.faulty.retain(|index| *index < from);
        }
        for entry in write.entries {
            assert_eq!(entry.index(), self.last().index.next(), "a gap on disk");
            self.log.push(entry);
        }
        assert!(
            write.commit <= self.last().index,
            "the hint is past the log"
        );
        assert!(write.commit >= self.commit, "the hint fell");
        self.commit = write.commit;
    }

    /// The process dies: of what was not done, some is done all the same.
    pub(super) fn crash(&mut self, done: usize) {
        self.sync(done);
        self.pending.clear();
        (self.issued, self.durable) = (Ticket(0), Ticket(0));
    }

    /// Loses its log but for what the snapshot covers, and what was not done.
    pub(super) fn lose(&mut self) {
        self.crash(0);
        self.base = self.snapshot;
        self.log.clear();
        self.commit = self.snapshot.index;
        self.faulty.clear();
        self.hard_state.lost = true;
    }

    /// Entries from an index on, as a load would bring them.
    pub(super) fn load(&self, from: Index, count: usize) -> Vec<Entry> {
        let entries = self.log.iter().filter(|entry| entry.index() >= from);
        let sound = entries.take_while(|entry| !self.faulty.contains(&entry.index()));
        sound.take(count).cloned().collect()
    }

    /// An entry's payload is damaged.
    pub(super) fn damage(&mut self, script: &mut Script<'_>) {
        if !self.log.is_empty() {
            let place = script.below(self.log.len());
            self.faulty.insert(self.log[place].index());
        }
    }

    /// The first that is damaged.
    pub(super) fn first_faulty(&self) -> Option<Index> {
        self.faulty.first().copied()
    }

    /// Which are damaged.
    pub(super) fn faulty(&self) -> Vec<Identity> {
        let identity = |index: &Index| Some(self.entry(*index)?.identity());
        self.faulty
            .iter()
            .filter_map(identity)
            .take(FETCH_ENTRIES_MAX)
            .collect()
    }

    /// Puts the same entries in the place of damaged ones.
    pub(super) fn mend(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.entry(entry.index()) == Some(entry) {
                self.faulty.remove(&entry.index());
            }
        }
    }
}

/// An entry; without a body it is a no-op.
pub(super) fn entry(term: u64, index: u64, body_bytes: usize) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = match body_bytes {
        0 => EntryKind::Noop,
        _ => EntryKind::Command,
    };
    Entry::build(&mut BytesMut::new(), id, index, kind, &vec![7; body_bytes])
}

/// An entry that says who is a member: the first five, and at odd indexes one of them joins and one
/// leaves.
pub(super) fn membership_entry(term: u64, index: u64) -> Entry {
    let mut body = BytesMut::new();
    membership(index).encode(&mut body);
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = EntryKind::Membership;
    Entry::build(&mut BytesMut::new(), id, index, kind, &body)
}

pub(super) fn membership(index: u64) -> Membership {
    let suffrage = |id| match id {
        4 if index % 2 == 1 => Suffrage::Incoming,
        5 if index % 2 == 1 => Suffrage::Leaving,
        _ => Suffrage::Voter,
    };
    Membership {
        newest: NodeId(u64::MAX),
        members: (1..=5).map(|id| member(NodeId(id), suffrage(id))).collect(),
    }
}

pub(super) fn member(id: NodeId, suffrage: Suffrage) -> MemberRecord {
    MemberRecord {
        id,
        name: format!("n{id}"),
        peer_addr: format!("a{id}"),
        incarnation: None,
        suffrage,
        wish: None,
    }
}

/// What these entries say of the members.
pub(super) fn memberships_in<'e>(
    entries: impl Iterator<Item = &'e Entry>,
) -> Vec<(EntryId, Membership)> {
    let told = |entry: &Entry| {
        let told = entry.membership().expect("it is one of ours");
        Some((entry.id(), told?))
    };
    entries.filter_map(told).collect()
}
