//! Makes histories that are right: the answers come from the shipped store, so that the checkers'
//! model is compared with it all the time.

use bytes::BytesMut;
use raftd::store::map::PageQuery;
use raftd::store::session::SESSIONS_MAX;
use raftd::store::{Answer as Applied, Store};
use raftd_tests::history::acks;
use raftd_tests::history::search::{self, Budget};
use raftd_tests::history::witness::{self, Committed};
use raftd_tests::history::{
    Answer, Breach, Command, Expect, History, Item, Operation, Page, Passage, Query, Record,
};
use wire::client::{Consistency, Items};
use wire::command::{SessionId, Write};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Epoch, Index, Term};

pub(super) const EPOCH: Epoch = Epoch(7);

/// A history with its log. Time is whatever the caller says; writes take effect when they are
/// made, reads see what was there when they were made.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) history: History,
    pub(super) entries: Vec<Entry>,
    sessions_max: usize,
    store: Store,
    term: Term,
    next_seq: u64,
}

impl Maker {
    /// A log with the first term's opening entry.
    pub(super) fn new() -> Self {
        Self::with_sessions(SESSIONS_MAX)
    }

    /// The same, of members with a table of this size.
    pub(super) fn with_sessions(sessions_max: usize) -> Self {
        let mut maker = Self {
            sessions_max,
            history: History::default(),
            entries: Vec::new(),
            store: Store::new(EPOCH, sessions_max),
            term: Term(0),
            next_seq: 1,
        };
        maker.elect();
        maker
    }

    /// A new leader opens its term.
    pub(super) fn elect(&mut self) {
        self.term = self.term.next();
        self.append(EntryKind::Noop, &[]);
    }

    /// An acknowledged write: `span` is when it was invoked and when it ended.
    pub(super) fn write(&mut self, client: u64, span: (u64, u64), command: Command) -> usize {
        let place = self.unanswered(client, span.0, command);
        let answer = self.commit(place);
        let record = &mut self.history.records[place];
        record.ended_ns = Some(span.1);
        record.answer = answer;
        place
    }

    pub(super) fn put(&mut self, client: u64, span: (u64, u64), key: &str, value: &str) -> usize {
        self.write(client, span, put(key, value))
    }

    pub(super) fn increment(&mut self, client: u64, span: (u64, u64), key: &str) -> usize {
        self.write(client, span, increment(key, 1))
    }

    /// A write that nobody answered; [`Maker::commit`] lets it take effect.
    pub(super) fn unanswered(&mut self, client: u64, invoked_ns: u64, command: Command) -> usize {
        let operation = Operation::Write {
            session: SessionId {
                epoch: EPOCH,
                born: Index(0),
                nonce: client,
            },
            seq: self.next_seq,
            command,
        };
        self.next_seq += 1;
        self.record(client, (invoked_ns, None), operation, Answer::Unknown)
    }

    /// A write that was refused.
    pub(super) fn refused(&mut self, client: u64, span: (u64, u64), command: Command) -> usize {
        let place = self.unanswered(client, span.0, command);
        let record = &mut self.history.records[place];
        record.ended_ns = Some(span.1);
        record.answer = Answer::NotApplied;
        place
    }

    /// Appends the write of a record to the log, once more if it is there; returns what the
    /// shipped store answers.
    pub(super) fn commit(&mut self, place: usize) -> Answer {
        let Operation::Write {
            session,
            seq,
            command,
        } = self.history.records[place].operation.clone()
        else {
            panic!("a read is not committed");
        };
        let write = Write {
            session,
            seq,
            floor: seq,
            command: command.to_wire(),
        };
        match self.offer(&write) {
            Applied::Written { id, outcome } => Answer::Written { id, outcome },
            other => panic!("the store answers {other:?}"),
        }
    }

    /// Appends any write to the log; returns what the shipped store answers.
    pub(super) fn offer(&mut self, write: &Write<'_>) -> Applied {
        let mut body = BytesMut::new();
        write.encode_body(&mut body);
        self.append(EntryKind::Command, &body)
    }

    fn append(&mut self, kind: EntryKind, body: &[u8]) -> Applied {
        let id = EntryId {
            term: self.term,
            index: self.store.applied().index.next(),
        };
        let entry = Entry::build(&mut BytesMut::new(), id, 0, kind, body);
        let answer = self.store.apply(&entry).answer;
        self.entries.push(entry);
        answer
    }

    pub(super) fn get(&mut self, client: u64, span: (u64, u64), key: &str) -> usize {
        self.read(client, span, Consistency::Linearizable, get(key))
    }

    pub(super) fn stale_get(&mut self, client: u64, span: (u64, u64), key: &str) -> usize {
        self.read(client, span, Consistency::Stale, get(key))
    }

    pub(super) fn read(
        &mut self,
        client: u64,
        span: (u64, u64),
        consistency: Consistency,
        query: Query,
    ) -> usize {
        let answer = self.look(&query);
        let after = Index(0);
        let operation = Operation::Read {
            consistency,
            after,
            query,
        };
        self.record(client, (span.0, Some(span.1)), operation, answer)
    }

    /// What the shipped store answers to a read now.
    pub(super) fn look(&self, query: &Query) -> Answer {
        look(&self.store, query)
    }

    /// What it answered at an earlier index.
    pub(super) fn look_at(&self, query: &Query, index: Index) -> Answer {
        let mut store = Store::new(EPOCH, self.sessions_max);
        for entry in self.entries.iter().filter(|entry| entry.index() <= index) {
            store.apply(entry);
        }
        look(&store, query)
    }

    pub(super) fn record(
        &mut self,
        client: u64,
        (invoked_ns, ended_ns): (u64, Option<u64>),
        operation: Operation,
        answer: Answer,
    ) -> usize {
        self.history.records.push(Record {
            client,
            invoked_ns,
            ended_ns,
            passage: None,
            operation,
            answer,
        });
        self.history.records.len() - 1
    }

    /// Says on which connection, and where on it, a record was sent.
    pub(super) fn sent(&mut self, place: usize, connection: u64, at: u64) {
        self.history.records[place].passage = Some(Passage {
            connection,
            place: at,
        });
    }

    pub(super) fn committed(&self) -> Committed<'_> {
        Committed {
            epoch: EPOCH,
            sessions_max: self.sessions_max,
            entries: &self.entries,
        }
    }

    /// What the witness says.
    pub(super) fn witness(&self) -> Result<(), Breach> {
        let verdict = witness::check(&self.history, self.committed());
        verdict.map(|_| ()).map_err(|violation| violation.breach)
    }

    /// What the witness without a log says.
    pub(super) fn acks(&self) -> Result<(), Breach> {
        let verdict = acks::check(&self.history);
        verdict.map(|_| ()).map_err(|violation| violation.breach)
    }

    /// What the search says.
    pub(super) fn search(&self) -> Result<(), Breach> {
        let verdict = search::check(&self.history, Budget::default());
        let searched = verdict.map_err(|violation| violation.breach)?;
        assert_eq!(searched.gave_up, [], "the budget is enough");
        Ok(())
    }
}

pub(super) fn put(key: &str, value: &str) -> Command {
    Command::Put {
        key: key.into(),
        value: value.into(),
    }
}

pub(super) fn delete(key: &str) -> Command {
    Command::Delete { key: key.into() }
}

pub(super) fn swap(key: &str, expect: Expect, value: &str) -> Command {
    Command::CompareAndSwap {
        key: key.into(),
        expect,
        value: value.into(),
    }
}

pub(super) fn increment(key: &str, delta: i64) -> Command {
    Command::Increment {
        key: key.into(),
        delta,
    }
}

pub(super) fn get(key: &str) -> Query {
    Query::Get { key: key.into() }
}

fn look(store: &Store, query: &Query) -> Answer {
    let index = store.applied().index;
    match query {
        Query::Get { key } => Answer::Got {
            index,
            item: store.map().get(key).map(Item::from),
        },
        Query::Scan(scan) => {
            let query = PageQuery {
                mode: scan.mode,
                range: scan.range(),
                reverse: scan.reverse,
                after: scan.after.as_deref(),
                limit: scan.limit,
            };
            let mut bytes = BytesMut::new();
            let page = store.map().page(query, &mut bytes);
            let items = Items { bytes: &bytes };
            Answer::Scanned {
                index,
                page: Page {
                    count: page.count,
                    more_after: page.more_after.map(<[u8]>::to_vec),
                    items: items.iter().map(Item::from).collect(),
                },
            }
        }
    }
}
