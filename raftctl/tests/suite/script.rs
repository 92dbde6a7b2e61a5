//! Scripts for fake servers: a small store that answers like a real one, and single moods.

use std::collections::BTreeMap;

use bytes::BytesMut;
use raftd::store::map::{Map, PageQuery};
use wire::client::{Items, KeyRange, Member, NodeRole, Reply, Status, ViewChoice};
use wire::command::{Outcome, Write};
use wire::error::Error as WireError;
use wire::membership::Suffrage;
use wire::peer::DiskState;
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};

use super::fake::{Act, Asked, Fake, Scanned, What};

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

/// One node with a store, and no sessions.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) map: Map,
    pub(crate) index: u64,
    /// Items in a page at most; 0 is no limit but the client's.
    pub(crate) page_items: u32,
    /// The states that scans go on with, by connection and id.
    pub(crate) views: BTreeMap<(usize, u64), (Map, u64)>,
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
                let outcome = self.map.apply(Index(self.index), &decoded.command);
                asked.done(self.index, outcome)
            }
            What::Get(_, key) => match self.map.get(key) {
                Some(item) => asked.reply(&Reply::Value {
                    index: Index(self.index),
                    item,
                }),
                None => asked.reply(&Reply::Missing {
                    index: Index(self.index),
                }),
            },
            What::Scan(scanned) => self.page(asked, scanned),
            What::Snapshot => asked.done(self.index, Outcome::Applied),
            What::Members { .. } => panic!("nobody changes the members of this script"),
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

    fn page(&mut self, asked: &Asked, scanned: &Scanned) -> Act {
        let (map, index) = match scanned.view {
            ViewChoice::Now | ViewChoice::Keep => (&self.map, self.index),
            ViewChoice::Of(id) => match self.views.get(&(asked.connection, id)) {
                Some((map, index)) => (map, *index),
                None => return asked.error(WireError::ViewGone),
            },
        };
        let limit = match self.page_items {
            0 => scanned.limit,
            items => scanned.limit.min(items),
        };
        let mut items = BytesMut::new();
        let query = PageQuery {
            mode: scanned.mode,
            range: KeyRange {
                from: &scanned.from,
                to: scanned.to.as_deref(),
            },
            reverse: scanned.reverse,
            after: scanned.after.as_deref(),
            limit,
        };
        let page = map.page(query, &mut items);
        let view = match scanned.view {
            _ if page.more_after.is_none() => None,
            ViewChoice::Now => None,
            ViewChoice::Keep => Some(self.views.len() as u64 + 1),
            ViewChoice::Of(id) => Some(id),
        };
        let act = asked.reply(&Reply::Page {
            index: Index(index),
            count: page.count,
            more_after: page.more_after,
            view,
            items: Items { bytes: &items },
        });
        if let (ViewChoice::Keep, Some(id)) = (scanned.view, view) {
            let view = (self.map.clone(), self.index);
            self.views.insert((asked.connection, id), view);
        }
        act
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
