//! The disk of one simulated node.

use std::collections::{BTreeSet, VecDeque};
use std::iter;

use raft::{HardState, Instant, Ticket};
use raftd::disk::sim::SimDisk;
use raftd::node::Restored;
use raftd::node::io::{SnapshotRequest, StorageEvent, StorageRequest};
use raftd::snapshot;
use raftd::storage::{Keeper, Kept, State};
use raftd::store::{Builder, Run, Store};
use raftd::wal::identity::Identity;
use wire::client::Item;
use wire::entry::Entry;
use wire::limits::FETCH_ENTRIES_MAX;
use wire::membership::Membership;
use wire::peer::{DiskState, Message};
use wire::types::{EntryId, Incarnation, Index, NodeId};

/// Enough for every test.
const DISK_BYTES: u64 = 1 << 30;
const SESSIONS_MAX: usize = 65_536;

/// What survives a crash, and what does not. Snapshots are real files on a simulated disk, by the
/// shipped code; the log is a list.
pub(super) struct Disk {
    pub(super) incarnation: Incarnation,
    pub(super) formed: Vec<(NodeId, Incarnation)>,
    pub(super) hard_state: HardState,
    /// The entry before the first of `log`.
    pub(super) base: EntryId,
    pub(super) log: Vec<Entry>,
    pub(super) commit: Index,
    pub(super) snapshot: EntryId,
    pub(super) files: SimDisk,
    keeper: Option<Keeper<SimDisk>>,
    /// The snapshots that it was given pieces of, piece by piece.
    pub(super) pieces: Vec<EntryId>,
    pub(super) state: DiskState,
    /// The newest finished write of this life.
    pub(super) durable: Ticket,
    pub(super) pending: VecDeque<StorageRequest>,
    /// When all that is pending is done; `None` if nothing is, or while the disk hangs.
    pub(super) busy_until: Option<Instant>,
    pub(super) hangs: bool,
    pub(super) fails_loads: bool,
    /// Entries of `log` whose payload is damaged.
    pub(super) faulty: BTreeSet<Index>,
    /// The next start goes on from a state that is not what the others have.
    pub(super) spoils: bool,
}

impl Disk {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            formed: Vec::new(),
            hard_state: HardState::default(),
            base: EntryId::default(),
            log: Vec::new(),
            commit: Index(0),
            snapshot: EntryId::default(),
            files: SimDisk::new(incarnation.0, DISK_BYTES),
            keeper: None,
            pieces: Vec::new(),
            state: DiskState::Ok,
            durable: Ticket::default(),
            pending: VecDeque::new(),
            busy_until: None,
            hangs: false,
            fails_loads: false,
            faulty: BTreeSet::new(),
            spoils: false,
        }
    }

    /// Does what was asked and adds what is reported of it.
    pub(super) fn finish(&mut self, request: StorageRequest, events: &mut VecDeque<StorageEvent>) {
        let event = match request {
            StorageRequest::Write(write) => {
                self.durable = write.ticket;
                self.write(write);
                self.durable_event()
            }
            StorageRequest::Mark(id) => {
                assert!(id.index <= self.last().index, "marked before it is durable");
                self.snapshot = self.snapshot.max(id);
                self.forget_covered(events);
                StorageEvent::Marked(id)
            }
            StorageRequest::Compact { upto, keep_bytes } => {
                assert!(upto <= self.snapshot.index, "no snapshot covers {upto}");
                self.compact(upto, keep_bytes);
                StorageEvent::Compacted {
                    base: self.base,
                    wal_bytes: self.bytes(),
                }
            }
            StorageRequest::Mend(entries) => {
                for entry in entries {
                    assert!(self.log.contains(&entry), "mended by another entry");
                    self.faulty.remove(&entry.index());
                }
                self.faulty_event()
            }
            StorageRequest::Snapshot(request) => {
                if let SnapshotRequest::Receive {
                    snapshot, bytes, ..
                } = &request
                    && !bytes.is_empty()
                {
                    self.pieces.push(*snapshot);
                }
                let keeper = self.keeper.as_mut().expect("the node is up");
                keeper.push(request);
                while keeper.step(events).expect("the disk is sound") != Kept::Idle {}
                return;
            }
            StorageRequest::Load {
                purpose,
                from,
                to,
                max_bytes,
            } => StorageEvent::Loaded {
                purpose,
                from,
                entries: match self.fails_loads {
                    true => Vec::new(),
                    false => self.load(from, to, max_bytes),
                },
            },
            StorageRequest::Alone(_) => return,
            StorageRequest::Form(record) => {
                self.formed = record;
                StorageEvent::Formed
            }
        };
        events.push_back(event);
    }

    pub(super) fn durable_event(&self) -> StorageEvent {
        StorageEvent::Durable {
            ticket: self.durable,
            wal_bytes: self.bytes(),
            disk: self.state,
        }
    }

    pub(super) fn faulty_event(&self) -> StorageEvent {
        let faulty = self.faulty.iter().take(FETCH_ENTRIES_MAX);
        StorageEvent::Faulty(
            faulty
                .map(|at| self.log[self.place(*at)].identity())
                .collect(),
        )
    }

    fn bytes(&self) -> u64 {
        self.log
            .iter()
            .map(|entry| entry.bytes().len() as u64)
            .sum()
    }

    /// What is damaged and covered by the snapshot is needed no more.
    fn forget_covered(&mut self, events: &mut VecDeque<StorageEvent>) {
        if let Some(upto) = self
            .faulty
            .range(..=self.snapshot.index)
            .next_back()
            .copied()
        {
            self.faulty = self.faulty.split_off(&upto.next());
            while self.base.index < upto {
                self.base = self.log.remove(0).id();
            }
            events.push_back(StorageEvent::Compacted {
                base: self.base,
                wal_bytes: self.bytes(),
            });
            events.push_back(self.faulty_event());
        }
    }

    fn last(&self) -> EntryId {
        self.log.last().map_or(self.base, Entry::id)
    }

    /// Where the entry at `index` is, or would be.
    fn place(&self, index: Index) -> usize {
        usize::try_from(index.0 - self.base.index.0 - 1).unwrap()
    }

    /// Whether this very entry is on the disk, or a snapshot with what it did.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        entry.index() <= self.snapshot.index
            || (self.log.get(self.place(entry.index())) == Some(entry)
                && !self.faulty.contains(&entry.index()))
    }

    /// What a message reveals must be on the disk before it leaves (rules A2, A3).
    pub(super) fn check_revealed(&self, to: NodeId, message: &Message) {
        let reveals = match message {
            Message::PreVote(_) => false,
            Message::PreVoteAnswer(answer) => !answer.granted,
            _ => true,
        };
        let durable = self.hard_state;
        assert!(
            !reveals || message.term() <= Some(durable.term),
            "{message:?} before {durable:?}"
        );
        match message {
            Message::AppendOk(answer) => {
                assert!(
                    answer.match_index <= self.last().index,
                    "{answer:?} too early"
                );
            }
            Message::VoteAnswer(answer) if answer.granted && answer.term == durable.term => {
                assert_eq!(durable.vote, Some(to), "a vote before its record");
            }
            Message::RequestVote(request) if request.term == durable.term => {
                assert!(durable.vote.is_some(), "a campaign before its vote");
            }
            _ => {}
        }
    }

    fn write(&mut self, write: raft::Write) {
        assert!(
            write.hard_state.term >= self.hard_state.term,
            "terms on disk never fall"
        );
        if write.hard_state.term == self.hard_state.term && self.hard_state.vote.is_some() {
            assert_eq!(
                write.hard_state.vote, self.hard_state.vote,
                "one vote per term"
            );
        }
        self.hard_state = write.hard_state;
        if let Some(id) = write.reset {
            assert!(id.index > self.commit, "nothing committed is thrown away");
            self.log.clear();
            (self.base, self.snapshot, self.commit) = (id, id, id.index);
        }
        if let Some(from) = write.truncate_from {
            assert!(from > self.commit, "nothing committed is cut off");
            self.log.truncate(self.place(from));
        }
        for entry in write.entries {
            assert_eq!(entry.index(), self.last().index.next(), "no gap on disk");
            self.log.push(entry);
        }
        self.commit = self.commit.max(write.commit.min(self.last().index));
    }

    /// Drops the first entries up to `upto`, all but the last so many bytes of them.
    fn compact(&mut self, upto: Index, keep_bytes: u64) {
        let covered = self.log.iter().take_while(|entry| entry.index() <= upto);
        let mut covered_bytes: u64 = covered.map(|entry| entry.bytes().len() as u64).sum();
        while covered_bytes > keep_bytes {
            let entry = self.log.remove(0);
            covered_bytes -= entry.bytes().len() as u64;
            self.base = entry.id();
        }
    }

    fn load(&self, from: Index, to: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let sound = |entry: &&Entry| !self.faulty.contains(&entry.index());
        let behind = self.log.iter().skip_while(|entry| entry.index() < from);
        let entries = behind
            .take_while(sound)
            .take_while(|entry| entry.index() <= to);
        entries
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes().len();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    /// Opens it for a new life.
    pub(super) fn restore(&mut self, identity: &Identity, tail_entries: usize) -> Restored {
        self.files = self.files.restart();
        snapshot::remove_others(&self.files, self.snapshot).unwrap();
        let state = State::load(
            &self.files,
            identity,
            self.snapshot,
            self.base,
            identity.members.len() == 1,
            SESSIONS_MAX,
        );
        let State {
            store,
            snapshot,
            rebuilding,
        } = state.unwrap();
        let store = match std::mem::take(&mut self.spoils) {
            true => spoiled(&store),
            false => store,
        };
        let mut keeper = Keeper::new(self.files.clone(), identity, SESSIONS_MAX);
        keeper.set_newest(store.data_bytes(), snapshot.bytes);
        self.keeper = Some(keeper);
        let initial = Membership::initial(&identity.members, &identity.formed);
        let membership = store.membership().unwrap_or(&initial).clone();
        Restored {
            raft: raft::Restored {
                wall_ms: store.wall_ms(),
                applied: snapshot.id.index.max(self.base.index),
                rebuilding,
                ..self.restore_log(tail_entries, membership)
            },
            store,
            snapshot,
        }
    }

    fn restore_log(&self, tail_entries: usize, membership: Membership) -> raft::Restored {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.log {
            if terms.last().is_none_or(|last| last.term < entry.term()) {
                terms.push(entry.id());
            }
        }
        let sound = |entry: &&Entry| !self.faulty.contains(&entry.index());
        let told = |entry: &Entry| Some((entry.id(), entry.membership().unwrap()?));
        raft::Restored {
            hard_state: self.hard_state,
            commit: self.commit.max(self.snapshot.index),
            base: self.base,
            terms,
            last: self.last(),
            tail: self.log[self.log.len().saturating_sub(tail_entries.max(1))..].to_vec(),
            formed: !self.formed.is_empty(),
            memberships: self.log.iter().filter(sound).filter_map(told).collect(),
            faulty: self.faulty.first().copied(),
            ..raft::Restored::empty(membership)
        }
    }
}

/// The same state, but for a key that nobody wrote.
fn spoiled(store: &Store) -> Store {
    let mut head = store.view().head().clone();
    head.keys += 1;
    let mut builder = Builder::new(head);
    let wrong = Item {
        key: b"\0",
        value: b"wrong",
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let mut run = Run::default();
    for item in iter::once(wrong).chain(store.map().iter()) {
        run.push(item).unwrap();
    }
    builder.run(run).unwrap();
    for session in store.view().sessions() {
        builder.session(&session).unwrap();
    }
    builder.finish(SESSIONS_MAX).unwrap()
}
