//! The store.

use bytes::BytesMut;
use raftd::store::map::PageQuery;
use raftd::store::session::SESSIONS_MAX;
use raftd::store::{Answer, Builder, Changed, Run, Store, View};
use wire::client::{Items, KeyRange, Reply, ScanMode};
use wire::command::{
    Batch, Command, Compare, Compares, Condition, Expect, Operation, Relation, SessionId, Txn,
    Write,
};
use wire::entry::{Entry, EntryKind};
use wire::error::Error;
use wire::frame;
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{EntryId, Epoch, Index, Term};

use super::script::Script;

/// Entries of one history; more only takes time.
const ENTRIES_MAX: usize = 300;
/// Sessions that write.
const SESSIONS: usize = 4;
const EPOCH: Epoch = Epoch(0xe0);

/// Any committed entries, applied by two stores, of which one is now and then made anew from a view
/// of the other: both say and hold the same, their digest is what a scan comes to, a page of what
/// they hold can be read by a client, and revisions stand in their places.
pub fn apply(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let sessions_max = script.pick(&[2, 1, SESSIONS_MAX]);
    let (mut one, mut other) = (
        Store::new(EPOCH, sessions_max),
        Store::new(EPOCH, sessions_max),
    );
    let mut id = EntryId {
        term: Term(1),
        index: Index(0),
    };
    // The last number of each session.
    let mut seqs = [0; SESSIONS];
    for _ in 0..ENTRIES_MAX {
        if script.is_over() {
            break;
        }
        id.index = id.index.next();
        id.term.0 += u64::from(script.rarely(16));
        let entry = entry(&mut script, id, &mut seqs);
        let applied = one.apply(&entry);
        assert_eq!(applied, other.apply(&entry), "two stores disagree");
        check_answer(&entry, &applied.answer);
        if applied.changed != Changed::Nothing {
            let written = matches!(applied.answer, Answer::Written { id, .. } if id == entry.id());
            assert!(written, "a change that nobody is told of");
        }
        assert!(one.applied() == id && one.has_applied(id.index));
        if script.rarely(8) {
            page(&one, &mut script);
        }
        if script.rarely(32) {
            other = rebuilt(&one.view(), sessions_max);
        }
    }
    for item in one.map().iter() {
        assert!(item.create_revision <= item.revision && item.revision <= id.index);
        assert!(item.version > 1 || item.create_revision == item.revision);
        assert_eq!(one.map().get(item.key), Some(item));
    }
    let (one, other) = (one.view(), other.view());
    assert_eq!(one.head(), other.head());
    assert!(one.items().eq(other.items()), "two stores differ");
    assert!(one.sessions().eq(other.sessions()), "two stores differ");
    for view in [one, other] {
        assert_eq!(view.digest(), view.recompute_digest());
    }
}

/// The same state, made anew.
fn rebuilt(view: &View, sessions_max: usize) -> Store {
    let mut builder = Builder::new(view.head().clone());
    let mut run = Run::default();
    let added = view.items().try_for_each(|item| run.push(item));
    let added = added.and_then(|()| builder.run(run)).and_then(|()| {
        let mut sessions = view.sessions();
        sessions.try_for_each(|session| builder.session(&session))
    });
    let store = added.and_then(|()| builder.finish(sessions_max));
    store.expect("a state that was")
}

fn check_answer(entry: &Entry, answer: &Answer) {
    let reply = match answer {
        Answer::Nothing => {
            assert_ne!(
                entry.kind(),
                EntryKind::Command,
                "a write without an answer"
            );
            return;
        }
        Answer::Written { id, outcome } => {
            assert!(id.index <= entry.index() && id.term <= entry.term());
            Reply::Written {
                term: id.term,
                index: id.index,
                outcome: outcome.clone(),
            }
        }
        Answer::Refused(error) => Reply::Error(error.clone()),
    };
    read_back(&reply);
}

/// What is answered can be read by a client.
fn read_back(reply: &Reply<'_>) {
    let mut out = BytesMut::new();
    reply.encode(1, &mut out);
    let parsed = frame::parse(&out, CLIENT_FRAME_BYTES_MAX).expect("a good frame");
    let read = Reply::decode(&parsed.expect("a whole frame"));
    // A reason is cut where it is too long for a frame.
    if !matches!(reply, Reply::Error(Error::Malformed { .. })) {
        assert_eq!(read.as_ref(), Ok(reply));
    }
}

/// Any entry: mostly a write, near those before it, sometimes any body.
fn entry(script: &mut Script<'_>, id: EntryId, seqs: &mut [u64; SESSIONS]) -> Entry {
    let wall_ms = script.near(id.index.0 * 10);
    let mut body = BytesMut::new();
    let kind = match script.below(16) {
        0 => script.pick(&[EntryKind::Noop, EntryKind::SnapshotAt]),
        1 => {
            body.extend_from_slice(script.bytes(2048));
            EntryKind::Command
        }
        choice => {
            write(script, id, choice, seqs, &mut body);
            EntryKind::Command
        }
    };
    Entry::build(&mut BytesMut::new(), id, wall_ms, kind, &body)
}

/// Encodes a write.
fn write(
    script: &mut Script<'_>,
    id: EntryId,
    choice: usize,
    seqs: &mut [u64; SESSIONS],
    body: &mut BytesMut,
) {
    if choice < 15 {
        let command = change(script, id, choice);
        return name(script, seqs, command).encode_body(body);
    }
    let compares = compares(script);
    let [then, or_else] = [(); 2].map(|()| operations(script, id));
    let txn = Txn {
        compares: Compares { bytes: &compares },
        then: then.operations(),
        or_else: or_else.operations(),
    };
    name(script, seqs, Command::Txn(txn)).encode_body(body);
}

fn key<'a>(script: &mut Script<'a>) -> &'a [u8] {
    match script.below(8) {
        0 => script.bytes(5000),
        place => &b"abcdefg"[place - 1..place],
    }
}

/// Any command but a txn.
fn change<'a>(script: &mut Script<'a>, id: EntryId, choice: usize) -> Command<'a> {
    let key = key(script);
    match choice {
        2..=5 => Command::Put {
            key,
            value: match script.below(4) {
                0 => script.bytes(4096),
                1 => b"9223372036854775807",
                2 => b"-1",
                _ => b"+1",
            },
        },
        6 | 7 => Command::Delete { key },
        8..=10 => Command::CompareAndSwap {
            key,
            expect: match script.below(4) {
                0 => Expect::Absent,
                1 => Expect::Revision(script.index(id.index)),
                2 => Expect::Value(b"-1"),
                _ => Expect::Value(script.bytes(32)),
            },
            value: script.bytes(32),
        },
        13 => Command::Append {
            key,
            value: match script.below(8) {
                // A few of them reach the limit.
                0 => &[b'.'; 400_000],
                _ => script.bytes(32),
            },
        },
        14 => Command::DeleteRange {
            from: key,
            to: script.flag().then(|| self::key(script)),
            expect: script.flag().then(|| script.near(1)),
        },
        _ => Command::Increment {
            key,
            delta: script.near(1) as i64,
        },
    }
}

fn compares(script: &mut Script<'_>) -> BytesMut {
    let mut compares = BytesMut::new();
    for _ in 0..script.below(3) {
        let relation = script.pick(&[
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ]);
        let condition = match script.below(6) {
            0 => Condition::Exists,
            1 => Condition::Absent,
            2 => Condition::Value(relation, script.bytes(32)),
            3 => Condition::Revision(relation, script.near(1)),
            4 => Condition::CreateRevision(relation, script.near(1)),
            _ => Condition::Version(relation, script.near(1)),
        };
        let key = key(script);
        Compare { key, condition }.encode(&mut compares);
    }
    compares
}

fn operations(script: &mut Script<'_>, id: EntryId) -> Batch {
    let mut batch = Batch::default();
    for _ in 0..script.below(6) {
        let operation = match script.below(16) {
            0 | 1 => Operation::Get { key: key(script) },
            15 => continue,
            choice => Operation::Change(change(script, id, choice)),
        };
        // What does not fit is left out.
        let _ = batch.push(operation);
    }
    batch
}

/// Puts a command under the next number of a session, mostly.
fn name<'a>(
    script: &mut Script<'_>,
    seqs: &mut [u64; SESSIONS],
    command: Command<'a>,
) -> Write<'a> {
    let nonce = script.below(SESSIONS);
    seqs[nonce] += 1;
    let seq = script.mostly(seqs[nonce]);
    Write {
        session: SessionId {
            epoch: Epoch(script.mostly(EPOCH.0)),
            born: Index(script.mostly(0)),
            nonce: nonce as u64,
        },
        seq,
        floor: match script.below(4) {
            0 => seq,
            1 => script.near(1),
            _ => 1,
        },
        command,
    }
}

fn page(store: &Store, script: &mut Script<'_>) {
    let query = PageQuery {
        mode: script.pick(&[ScanMode::Items, ScanMode::Keys, ScanMode::Count]),
        range: KeyRange {
            from: script.pick(&[b"", b"a", b"\xff"]),
            to: script.pick(&[None, Some(b"b"), Some(b"")]),
        },
        reverse: script.flag(),
        after: script.pick(&[None, Some(b"b"), Some(b"")]),
        limit: script.pick(&[u32::MAX, 0, 1, 2]),
    };
    let mut bytes = BytesMut::new();
    let page = store.map().page(query, &mut bytes);
    let items = Items { bytes: &bytes };
    for item in items {
        assert!(query.range.contains(item.key));
        let behind = |after: &[u8]| (item.key > after) != query.reverse && item.key != after;
        assert!(query.after.is_none_or(behind));
    }
    read_back(&Reply::Page {
        index: store.applied().index,
        count: page.count,
        more_after: page.more_after,
        view: page.more_after.map(|_| 1),
        items,
    });
}
