//! Views of the state, and states made from views.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use raftd::store::session::{KEPT_PER_SESSION_MAX, SESSIONS_MAX};
use raftd::store::{Answer, Builder, Changed, ImageHead, Run, SessionImage, Store, View};
use wire::client::KeyRange;
use wire::command::{Command, Operation, SessionId, Write};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Epoch, Index, Term};

use super::node_store::op::{Op, op, txn};

const EPOCH: Epoch = Epoch(77);

/// What comes next in a log.
#[derive(Clone, Debug)]
struct Step {
    client: usize,
    course: Course,
    /// Whether the client has settled all before this write.
    settled: bool,
    op: Op,
}

#[derive(Clone, Copy, Debug)]
enum Course {
    /// Its next write.
    Next,
    /// An earlier one again, that many back.
    Again(usize),
    /// Another command under an earlier id.
    Reuse,
    /// A write that overtook another.
    Skip,
    /// A new session's first write.
    Renew,
    /// A new term's first entry.
    Elect,
    /// An entry at which snapshots are taken.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let course = prop_oneof![
        12 => Just(Course::Next),
        4 => (0..4_usize).prop_map(Course::Again),
        1 => Just(Course::Reuse),
        1 => Just(Course::Skip),
        2 => Just(Course::Renew),
        1 => Just(Course::Elect),
        1 => Just(Course::Snapshot),
    ];
    (
        0..CLIENTS,
        course,
        prop::bool::weighted(0.2),
        prop_oneof![4 => op(), 1 => txn()],
    )
        .prop_map(|(client, course, settled, op)| Step {
            client,
            course,
            settled,
            op,
        })
}

const CLIENTS: usize = 6;

#[derive(Clone, Debug, Default)]
struct Client {
    born: Index,
    nonce: u64,
    ops: Vec<Op>,
    floor: u64,
}

/// Makes the log of what clients do.
#[derive(Debug)]
struct Log {
    clients: Vec<Client>,
    id: EntryId,
}

impl Log {
    fn new() -> Self {
        let client = |nonce| Client {
            nonce,
            ..Client::default()
        };
        Self {
            clients: (0..CLIENTS as u64).map(client).collect(),
            id: EntryId {
                term: Term(1),
                index: Index(0),
            },
        }
    }

    fn entry(&mut self, step: &Step) -> Entry {
        let born = self.id.index;
        self.id.index = born.next();
        let client = &mut self.clients[step.client];
        let last = client.ops.len();
        let (seq, op) = match step.course {
            Course::Elect => {
                self.id.term = self.id.term.next();
                return self.build(EntryKind::Noop, &[]);
            }
            Course::Snapshot => return self.build(EntryKind::SnapshotAt, &[]),
            Course::Again(back) if back < last => (last - back, &client.ops[last - back - 1]),
            Course::Reuse if last > 0 => (last, &step.op),
            Course::Skip => (last + 2, &step.op),
            Course::Renew => {
                *client = Client {
                    born,
                    nonce: client.nonce + CLIENTS as u64,
                    ops: vec![step.op.clone()],
                    floor: 0,
                };
                (1, &step.op)
            }
            Course::Next | Course::Again(_) | Course::Reuse => {
                client.ops.push(step.op.clone());
                (last + 1, &step.op)
            }
        };
        let seq = seq as u64;
        if step.settled {
            client.floor = client.floor.max(seq);
        }
        let write = Write {
            session: SessionId {
                epoch: EPOCH,
                born: client.born,
                nonce: client.nonce,
            },
            seq,
            floor: client.floor.max(1),
            command: op.command(),
        };
        let mut body = BytesMut::new();
        write.encode_body(&mut body);
        self.build(EntryKind::Command, &body)
    }

    fn build(&self, kind: EntryKind, body: &[u8]) -> Entry {
        let wall_ms = self.id.index.0 * 10;
        Entry::build(&mut BytesMut::new(), self.id, wall_ms, kind, body)
    }
}

/// All that a view shows.
#[derive(Debug, PartialEq)]
struct Shown {
    head: ImageHead,
    items: Vec<String>,
    sessions: Vec<SessionImage>,
    data_bytes: u64,
    digest: u128,
}

fn shown(view: &View) -> Shown {
    let items: Vec<_> = view.items().map(|item| format!("{item:?}")).collect();
    let sessions: Vec<_> = view.sessions().collect();
    let data_bytes = view.items().map(|item| item.key.len() + item.value.len());
    assert_eq!(view.digest(), view.recompute_digest());
    assert_eq!(view.data_bytes(), data_bytes.sum::<usize>() as u64);
    assert_eq!(view.keys(), items.len() as u64);
    assert_eq!(view.head().sessions, sessions.len() as u64);
    let last_write = |image: &SessionImage| image.replies.last().map(|kept| kept.id.index);
    assert!(sessions.is_sorted_by_key(last_write));
    Shown {
        head: view.head().clone(),
        items,
        sessions,
        data_bytes: view.data_bytes(),
        digest: view.digest(),
    }
}

/// The same state, made anew, from runs of so many items.
fn rebuilt(view: &View, sessions_max: usize, run_items: usize) -> Store {
    let mut builder = Builder::new(view.head().clone());
    let items: Vec<_> = view.items().collect();
    for items in items.chunks(run_items) {
        let mut run = Run::default();
        items.iter().for_each(|item| run.push(*item).unwrap());
        builder.run(run).unwrap();
    }
    view.sessions()
        .for_each(|session| builder.session(&session).unwrap());
    builder.finish(sessions_max).unwrap()
}

proptest! {
    #[test]
    fn the_digest_is_what_a_scan_comes_to_and_views_stay(
        steps in vec((step(), prop::bool::weighted(0.1)), 1..120),
        sessions_max in prop::sample::select(vec![1, 3, SESSIONS_MAX]),
    ) {
        let (mut store, mut log) = (Store::new(EPOCH, sessions_max), Log::new());
        let mut views = Vec::new();
        for (step, look) in &steps {
            let before = store.digest();
            let entry = log.entry(step);
            let applied = store.apply(&entry);
            let view = store.view();
            prop_assert_eq!(view.digest(), view.recompute_digest());
            // What took no effect left no trace.
            let written = matches!(applied.answer, Answer::Written { id, .. } if id == entry.id());
            prop_assert_eq!(store.digest() != before, written);
            if *look {
                let shown = shown(&view);
                views.push((view, shown));
            }
        }
        for (view, before) in &views {
            prop_assert_eq!(&shown(view), before);
        }
    }

    #[test]
    fn a_state_made_from_a_view_goes_on_like_the_state_itself(
        before in vec(step(), 0..120),
        after in vec(step(), 0..60),
        sessions_max in prop::sample::select(vec![1, 3, SESSIONS_MAX]),
        run_items in 1..40_usize,
    ) {
        let (mut store, mut log) = (Store::new(EPOCH, sessions_max), Log::new());
        for step in &before {
            store.apply(&log.entry(step));
        }
        let view = store.view();
        let mut other = rebuilt(&view, sessions_max, run_items);
        prop_assert_eq!(shown(&other.view()), shown(&view));
        prop_assert_eq!(other.sessions().kept(), store.sessions().kept());
        for step in &after {
            let entry = log.entry(step);
            prop_assert_eq!(store.apply(&entry), other.apply(&entry));
            prop_assert_eq!(store.digest(), other.digest());
        }
        prop_assert_eq!(shown(&other.view()), shown(&store.view()));
    }

    /// Rules F2.
    #[test]
    fn apply_returns_the_changed_keys(steps in vec(step(), 0..120)) {
        let (mut store, mut log) = (Store::new(EPOCH, SESSIONS_MAX), Log::new());
        let mut before = BTreeMap::new();
        for step in &steps {
            let entry = log.entry(step);
            let changed = store.apply(&entry).changed;
            let after = revisions(&store);
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let differ = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
            let differ: Vec<_> = differ.cloned().collect();
            match changed {
                Changed::Nothing => prop_assert_eq!(&differ, &[] as &[Vec<u8>]),
                Changed::Key(key) => prop_assert_eq!(&differ, &[key.to_vec()]),
                Changed::Range { from, to } => {
                    prop_assert!(!differ.is_empty());
                    let range = KeyRange { from, to };
                    prop_assert!(differ.iter().all(|key| range.contains(key)));
                }
                Changed::Operations(operations) => {
                    let is_named = |key| operations.iter().any(|one| may_change(one, key));
                    prop_assert!(differ.iter().all(|key| is_named(key)));
                }
            }
            before = after;
        }
    }
}

fn revisions(store: &Store) -> BTreeMap<Vec<u8>, Index> {
    let items = store.map().iter();
    items
        .map(|item| (item.key.to_vec(), item.revision))
        .collect()
}

fn may_change(operation: Operation<'_>, key: &[u8]) -> bool {
    let Operation::Change(command) = operation else {
        return false;
    };
    match command {
        Command::Put { key: one, .. }
        | Command::Delete { key: one }
        | Command::CompareAndSwap { key: one, .. }
        | Command::Increment { key: one, .. }
        | Command::Append { key: one, .. } => one == key,
        Command::DeleteRange { from, to, .. } => KeyRange { from, to }.contains(key),
        Command::Txn(_) => unreachable!("a txn has none in it"),
    }
}

/// The next entry is an increment by the session `nonce`, which settles nothing.
fn increment(store: &mut Store, nonce: u64, seq: u64) {
    let write = Write {
        session: SessionId {
            epoch: EPOCH,
            born: Index(0),
            nonce,
        },
        seq,
        floor: 1,
        command: Command::Increment {
            key: &nonce.to_be_bytes(),
            delta: 1,
        },
    };
    let mut body = BytesMut::new();
    write.encode_body(&mut body);
    let id = EntryId {
        term: Term(1),
        index: store.applied().index.next(),
    };
    let entry = Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Command, &body);
    let answer = store.apply(&entry).answer;
    assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
}

/// A store with so many sessions, each of which wrote so often, in turn.
fn busy(sessions: u64, rounds: u64) -> Store {
    let mut store = Store::new(EPOCH, SESSIONS_MAX);
    for seq in 1..=rounds {
        for nonce in 0..sessions {
            increment(&mut store, nonce, seq);
        }
    }
    store
}

#[test]
fn an_entry_at_which_snapshots_are_taken_changes_nothing() {
    let mut store = busy(3, 2);
    let before = shown(&store.view());
    let id = EntryId {
        term: Term(2),
        index: store.applied().index.next(),
    };
    let entry = Entry::build(&mut BytesMut::new(), id, 0, EntryKind::SnapshotAt, &[]);
    let applied = store.apply(&entry);
    assert_eq!(applied.changed, Changed::Nothing);
    assert_eq!(applied.answer, Answer::Nothing);
    let mut after = shown(&store.view());
    assert_eq!(after.head.applied, id);
    after.head.applied = before.head.applied;
    assert_eq!(after, before);
}

#[test]
fn sessions_under_a_view_stay_as_they_were_in_every_part_of_the_table() {
    let mut store = busy(200, 3);
    let view = store.view();
    let before = shown(&view);
    // The first, the last and one amid: written again, retried and new.
    for nonce in [0, 63, 64, 199] {
        increment(&mut store, nonce, 4);
        increment(&mut store, nonce, 2);
    }
    increment(&mut store, 200, 1);
    assert_eq!(shown(&view), before);
    assert_eq!(before.sessions.len(), 200);
    let now = shown(&store.view());
    assert_eq!(now.sessions.len(), 201);
    assert_eq!(now.sessions[200].nonce, 200);
    assert_eq!(now.sessions[199].replies.len(), 4);
}

#[test]
fn a_session_with_all_the_replies_it_may_keep_survives() {
    let store = busy(2, KEPT_PER_SESSION_MAX as u64 + 3);
    let mut other = rebuilt(&store.view(), SESSIONS_MAX, 1);
    let sessions = shown(&store.view()).sessions;
    assert_eq!(sessions[0].replies.len(), KEPT_PER_SESSION_MAX);
    assert_eq!(shown(&other.view()), shown(&store.view()));
    increment(&mut other, 1, KEPT_PER_SESSION_MAX as u64 + 4);
    let kept = &shown(&other.view()).sessions[1].replies;
    assert_eq!((kept.len(), kept[0].seq), (KEPT_PER_SESSION_MAX, 5));
}

#[test]
fn a_view_can_be_read_on_another_thread() {
    let mut store = busy(10, 2);
    let (view, digest) = (store.view(), store.digest());
    let reader = std::thread::spawn(move || view.recompute_digest());
    for seq in 3..50 {
        increment(&mut store, 7, seq);
    }
    assert_eq!(reader.join().unwrap(), digest);
}
