//! Scripts for fake servers: a small store that answers like a real one, and single moods.

use std::collections::BTreeMap;

use bytes::BytesMut;
use wire::client::{Item, Items, Member, NodeRole, Reply, ScanMode, Status};
use wire::command::{Command, Expect, Outcome, Write};
use wire::error::Error as WireError;
use wire::membership::Suffrage;
use wire::peer::DiskState;
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};

use super::fake::{Act, Asked, Fake, What};

/// Answers everything with this error.
pub(crate) fn always(error: WireError) -> impl FnMut(&Asked) -> Act + Send + 'static {
    move |asked| asked.error(error.clone())
}

/// Applies every put.
pub(crate) fn obliging() -> impl FnMut(&Asked) -> Act + Send + 'static {
    let mut index = 40;
    move |asked| {
        index += 1;
        asked.done(index, Outcome::Put)
    }
}

/// A key's value, revision, create revision and version.
pub(crate) type Entry = (Vec<u8>, u64, u64, u64);

/// One node with a store, and no sessions.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) keys: BTreeMap<Vec<u8>, Entry>,
    pub(crate) index: u64,
    /// Items in a page at most; 0 is no limit but the client's.
    pub(crate) page_items: u32,
    pub(crate) status: Option<Status>,
}

impl Store {
    pub(crate) fn serve(mut self) -> Fake {
        Fake::start(1, move |asked| self.act(asked))
    }

    pub(crate) fn act(&mut self, asked: &Asked) -> Act {
        match &asked.what {
            What::Write(write) => {
                self.index += 1;
                let decoded = Write::decode_body(&write.body).unwrap();
                let outcome = self.apply(decoded.command);
                asked.done(self.index, outcome)
            }
            What::Get(_, key) => match self.keys.get(key) {
                Some(entry) => asked.reply(&Reply::Value {
                    index: Index(self.index),
                    item: item(key, entry),
                }),
                None => asked.reply(&Reply::Missing {
                    index: Index(self.index),
                }),
            },
            What::Scan(mode, prefix, after, limit) => {
                self.page(asked, *mode, prefix, after.as_deref(), *limit)
            }
            What::Snapshot => asked.done(self.index, Outcome::Applied),
            What::Members => panic!("nobody changes the members of this script"),
            What::ReadSnapshot(..)
            | What::TransferLeader(_)
            | What::Leaders
            | What::WatchLeader => Act::Close,
            What::Status => match &self.status {
                Some(status) => asked.reply(&Reply::Status(status.clone())),
                None => Act::Close,
            },
        }
    }

    fn apply(&mut self, command: Command<'_>) -> Outcome {
        match command {
            Command::Put { key, value } => {
                self.set(key, value);
                Outcome::Put
            }
            Command::Delete { key } => Outcome::Deleted(self.keys.remove(key).is_some().into()),
            Command::CompareAndSwap { key, expect, value } => {
                let entry = self.keys.get(key);
                let fits = match expect {
                    Expect::Absent => entry.is_none(),
                    Expect::Revision(Index(revision)) => entry.is_some_and(|e| e.1 == revision),
                    Expect::Value(value) => entry.is_some_and(|e| e.0 == value),
                };
                if !fits {
                    return Outcome::NotSwapped(entry.map(|entry| Index(entry.1)));
                }
                self.set(key, value);
                Outcome::Swapped
            }
            Command::Increment { key, delta } => {
                let text = self.keys.get(key).map_or(&b"0"[..], |entry| &entry.0);
                let number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|t| t.parse::<i64>().ok());
                let Some(number) = number else {
                    return Outcome::NotANumber;
                };
                let Some(sum) = number.checked_add(delta) else {
                    return Outcome::Overflow;
                };
                self.set(key, sum.to_string().as_bytes());
                Outcome::Incremented(sum)
            }
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let index = self.index;
        let entry = self.keys.entry(key.to_vec());
        let entry = entry.or_insert_with(|| (Vec::new(), index, index, 0));
        *entry = (value.to_vec(), index, entry.2, entry.3 + 1);
    }

    fn page(
        &self,
        asked: &Asked,
        mode: ScanMode,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Act {
        let limit = if self.page_items == 0 {
            limit
        } else {
            limit.min(self.page_items)
        };
        let mut found = self
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        let mut items = BytesMut::new();
        let (mut count, mut last) = (0, None);
        for (key, entry) in found.by_ref().take(limit as usize) {
            let mut item = item(key, entry);
            if mode == ScanMode::Keys {
                item.value = b"";
            }
            if mode != ScanMode::Count {
                item.encode(&mut items);
            }
            count += 1;
            last = Some(key.as_slice());
        }
        asked.reply(&Reply::Page {
            index: Index(self.index),
            count,
            more_after: found.next().and(last),
            items: Items { bytes: &items },
        })
    }
}

fn item<'a>(key: &'a [u8], entry: &'a Entry) -> Item<'a> {
    Item {
        key,
        value: &entry.0,
        revision: Index(entry.1),
        create_revision: Index(entry.2),
        version: entry.3,
    }
}

/// A leader of three, of whom `connected` are heard.
pub(crate) fn status(node: u64, role: NodeRole, addrs: [&str; 3], connected: [bool; 3]) -> Status {
    let member = |(number, addr): (usize, &str)| Member {
        node: NodeId(number as u64 + 1),
        name: format!("n{}", number + 1),
        peer_addr: format!("127.0.0.1:{}", 7001 + number),
        client_addr: addr.into(),
        suffrage: Suffrage::Voter,
        connected: connected[number],
        match_index: Some(Index(90 + number as u64)),
        install: None,
    };
    Status {
        cluster: ClusterId(0xabc),
        epoch: Epoch(0xdef),
        node: NodeId(node),
        role,
        term: Term(5),
        leader: Some(NodeId(1)),
        quorum_ok: true,
        last: Index(100),
        durable: Index(100),
        commit: Index(99),
        applied: Index(99),
        snapshot: EntryId::default(),
        snapshot_bytes: 0,
        snapshot_written_bytes: None,
        digest: 0xd16,
        wal_bytes: 1 << 20,
        keys: 12,
        uptime_ms: 61_000,
        disk: DiskState::Ok,
        version: "0.1.0".into(),
        state: "serving".into(),
        error: String::new(),
        members: addrs.into_iter().enumerate().map(member).collect(),
    }
}
