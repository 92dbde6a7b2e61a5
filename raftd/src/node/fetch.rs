//! Entries whose bytes are damaged on this disk, while their identities are known, are fetched
//! from other members (rules D4): by index, term and checksum, so that it does not matter who has
//! them. Whoever asks is answered from the log, whatever the role. What the leader has not, for it was
//! compacted, a snapshot makes needless.

use std::collections::BTreeSet;
use std::time::Duration;

use log::Level;
use raft::Instant;
use wire::entry::{Entry, Identity};
use wire::limits::APPEND_BYTES_MAX;
use wire::peer::{Fetch, Fetched, Message};
use wire::types::{Index, NodeId};

use super::io::{Effects, LoadPurpose, StorageRequest};
use super::{Node, post};

/// A member that did not answer for so long: the next one is asked.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// So long after the first entry is known to be damaged, what the leader lacks is not hoped for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked for, and what others asked for.
///
/// Invariants:
/// - one member is asked at a time, and asked again only after [`ASK_AGAIN`];
/// - one request of each member is being read for; a newer one meanwhile is left to be asked again.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// The first damaged entries, ascending; storage tells which.
    wanted: Vec<Identity>,
    /// Since when the first of them is.
    since: Instant,
    /// Who answered since then, and had not that one.
    without: BTreeSet<NodeId>,
    asked_at: Option<Instant>,
    last_asked: NodeId,
    reading: BTreeSet<NodeId>,
}

impl Fetching {
    /// The first entry that is damaged.
    pub(super) fn first(&self) -> Option<Index> {
        self.wanted.first().map(|identity| identity.id.index)
    }

    /// When somebody is to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first()?;
        Some(self.asked_at? + ASK_AGAIN)
    }
}

impl Node {
    /// Storage tells what is damaged; nothing: it is whole again.
    pub(super) fn found_faulty(&mut self, wanted: Vec<Identity>) {
        let first = wanted.first().map(|identity| identity.id.index);
        match (self.fetching.first(), first) {
            (None, Some(index)) => {
                let text = format!("entries are damaged, fetching them from others index={index}");
                self.journal.line(Level::Error, text);
            }
            (Some(_), None) => {
                let text = "damaged entries are whole again".to_owned();
                self.journal.line(Level::Info, text);
            }
            _ => {}
        }
        if self.fetching.first() != first {
            self.fetching.since = self.now.monotonic;
            self.fetching.without.clear();
        }
        self.fetching.wanted = wanted;
        self.fetching.asked_at = None;
        self.loader.retry_at = None;
        self.raft.set_faulty(first);
    }

    /// Asks the next member for what is damaged.
    pub(super) fn fetch_faulty(&mut self, effects: &mut Effects) {
        let now = self.now.monotonic;
        let fetching = &mut self.fetching;
        let early = fetching
            .asked_at
            .is_some_and(|at| now.since(at) < ASK_AGAIN);
        if fetching.wanted.is_empty() || early {
            return;
        }
        fetching.asked_at = Some(now);
        self.do_without_faulty(effects);
        let fetching = &mut self.fetching;
        let ids = self
            .raft
            .membership()
            .members
            .iter()
            .map(|member| member.id);
        let others: Vec<NodeId> = ids.filter(|id| *id != self.config.id).collect();
        let next = others.iter().find(|id| **id > fetching.last_asked);
        let Some(to) = next.or(others.first()).copied() else {
            return;
        };
        fetching.last_asked = to;
        let entries = fetching.wanted.clone();
        post(&self.links, to, Message::Fetch(Fetch { entries }), effects);
    }

    /// The leader has not what is damaged here, or nobody has: a snapshot makes it needless, of this
    /// node if it has applied it, else of the leader.
    fn do_without_faulty(&mut self, effects: &mut Effects) {
        let fetching = &self.fetching;
        let Some(first) = fetching.first() else {
            return;
        };
        if self.now.monotonic.since(fetching.since) < PATIENCE {
            return;
        }
        let leader = self.raft.leader();
        if self.store.has_applied(first) {
            self.snapshots.want(first);
        } else if leader.is_some_and(|leader| fetching.without.contains(&leader))
            && !self.raft.is_rebuilding()
        {
            let text = format!("damaged entries are compacted elsewhere, rebuilding index={first}");
            self.journal.line(Level::Warn, text);
            self.rebuild(effects);
        }
    }

    /// A member asks for entries: the first run of them is read from the log.
    pub(super) fn fetch_asked(&mut self, from: NodeId, asked: &Fetch, effects: &mut Effects) {
        let Some(first) = asked.entries.first().map(|identity| identity.id.index) else {
            return;
        };
        let follows = asked
            .entries
            .iter()
            .zip(first.0..)
            .take_while(|(identity, index)| identity.id.index.0 == *index);
        let last = Index(first.0 + follows.count() as u64 - 1);
        if self.fetching.reading.insert(from) {
            effects.storage.push(StorageRequest::Load {
                purpose: LoadPurpose::Fetch(from),
                from: first,
                to: last,
                max_bytes: APPEND_BYTES_MAX,
            });
        }
    }

    /// The log was read for a member that fetches: whether these are the entries that it misses is
    /// for that member to see.
    pub(super) fn fetch_read(&mut self, to: NodeId, entries: Vec<Entry>, effects: &mut Effects) {
        if self.fetching.reading.remove(&to) {
            let answer = Message::Fetched(Fetched { entries });
            post(&self.links, to, answer, effects);
        }
    }

    /// A member answers with what it has.
    pub(super) fn fetched(&mut self, from: NodeId, answer: Fetched, effects: &mut Effects) {
        let mut entries = answer.entries;
        entries.retain(|entry| self.fetching.wanted.contains(&entry.identity()));
        // One with the right checksum may still be made up.
        entries.retain(|entry| entry.membership().is_ok());
        if entries.first().map(Entry::index) != self.fetching.first() {
            self.fetching.without.insert(from);
        }
        for entry in &entries {
            self.raft.mended(entry);
        }
        if !entries.is_empty() {
            effects.storage.push(StorageRequest::Mend(entries));
        }
    }
}
