//! What must be true of a whole cluster over all lives of its nodes (thesis figure 3.2): the
//! oracle sees every disk and every message and never forgets.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{Installed, Write};
use wire::entry::Entry;
use wire::peer::Message;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::Node;
use crate::disk::Log;

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    quorum: usize,
    /// Who led each term.
    leaders: BTreeMap<Term, NodeId>,
    /// What was ever written under an identity: the entry before it, and its bytes.
    entries: BTreeMap<EntryId, (EntryId, Bytes)>,
    /// What was ever told to be committed.
    committed: Vec<EntryId>,
    /// Whom each node told that it votes for it.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// The highest durable term of each node.
    terms: BTreeMap<NodeId, Term>,
    pub(crate) marks: Marks,
    /// A message was invented: what follows proves nothing about a cluster.
    pub(crate) blind: bool,
}

/// How often a rare thing was seen: a run without it proves nothing about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) leaders: u64,
    pub(crate) commits: u64,
    pub(crate) truncations: u64,
    pub(crate) conflicts: u64,
    pub(crate) stale_terms: u64,
    pub(crate) votes_refused: u64,
    pub(crate) loads: u64,
    pub(crate) reads_served: u64,
    pub(crate) compactions: u64,
    pub(crate) resets: u64,
    /// Of these, the ones that discarded another entry in the place of the snapshot's last.
    pub(crate) conflicting_resets: u64,
    pub(crate) kept: u64,
    pub(crate) stale_snapshots: u64,
}

impl Marks {
    pub(crate) fn add(&mut self, other: &Self) {
        self.leaders += other.leaders;
        self.commits += other.commits;
        self.truncations += other.truncations;
        self.conflicts += other.conflicts;
        self.stale_terms += other.stale_terms;
        self.votes_refused += other.votes_refused;
        self.loads += other.loads;
        self.reads_served += other.reads_served;
        self.compactions += other.compactions;
        self.resets += other.resets;
        self.conflicting_resets += other.conflicting_resets;
        self.kept += other.kept;
        self.stale_snapshots += other.stale_snapshots;
    }

    pub(crate) fn least(&self) -> u64 {
        [
            self.leaders,
            self.commits,
            self.truncations,
            self.conflicts,
            self.stale_terms,
            self.votes_refused,
            self.loads,
            self.reads_served,
            self.compactions,
            self.resets,
            self.conflicting_resets,
            self.kept,
            self.stale_snapshots,
        ]
        .into_iter()
        .min()
        .unwrap_or(0)
    }
}

impl Oracle {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            quorum: nodes / 2 + 1,
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: Vec::new(),
            votes: BTreeMap::new(),
            terms: BTreeMap::new(),
            marks: Marks::default(),
            blind: false,
        }
    }

    /// The highest index that any node told to be committed.
    pub(crate) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// What was committed at an index; 0@0 at 0.
    fn committed_at(&self, index: Index) -> Option<EntryId> {
        match index.0.checked_sub(1) {
            None => Some(EntryId::default()),
            Some(place) => self.committed.get(usize::try_from(place).ok()?).copied(),
        }
    }

    /// The entry at an index in a log, which stands for what is committed below its base.
    fn id_in(&self, log: &Log, index: Index) -> Option<EntryId> {
        if index < log.base().index {
            return self.committed_at(index);
        }
        log.id_at(index)
    }

    /// The wall clock of an entry that was once written.
    pub(crate) fn wall_ms(&self, id: EntryId) -> u64 {
        let bytes = self.entries.get(&id).map(|(_, bytes)| bytes.clone());
        let entry = bytes.map(|mut bytes| Entry::split_from(&mut bytes).expect("it was whole"));
        entry.map_or(0, |entry| entry.wall_ms())
    }

    /// Only what is committed is in a snapshot.
    pub(crate) fn on_install(&mut self, id: NodeId, snapshot: EntryId, installed: Installed) {
        match installed {
            Installed::Stale => self.marks.stale_snapshots += 1,
            Installed::Kept => self.marks.kept += 1,
            Installed::Reset => self.marks.resets += 1,
        }
        assert!(
            self.blind || self.committed_at(snapshot.index) == Some(snapshot),
            "node {id} installs {snapshot}, which is not committed"
        );
    }

    /// Log Matching (thesis 3.5): equal identity, equal entry, equal history.
    pub(crate) fn on_write(&mut self, node: &Node, write: &Write) {
        if self.blind {
            return;
        }
        self.marks.truncations += u64::from(write.truncate_from.is_some());
        for entry in &write.entries {
            let before = self.id_in(&node.log, entry.index().prev());
            let before = before.expect("a log has no gap");
            assert!(
                entry.wall_ms() >= self.wall_ms(before),
                "the wall clock falls from {before} to {}",
                entry.id()
            );
            let fact = (before, entry.bytes().clone());
            let known = self
                .entries
                .entry(entry.id())
                .or_insert_with(|| fact.clone());
            assert_eq!(
                *known,
                fact,
                "node {} holds another {}",
                node.id,
                entry.id()
            );
        }
    }

    /// Term and vote never go back on disk.
    pub(crate) fn on_durable(&mut self, node: &Node) {
        if self.blind {
            return;
        }
        let term = self.terms.entry(node.id).or_default();
        assert!(
            node.disk.hard_state.term >= *term,
            "node {} forgot a term",
            node.id
        );
        *term = node.disk.hard_state.term;
    }

    /// Election Safety and Leader Completeness (thesis 3.4, 3.6.3).
    pub(crate) fn on_leader(&mut self, node: &Node, term: Term) {
        if self.blind {
            return;
        }
        self.marks.leaders += 1;
        let leader = *self.leaders.entry(term).or_insert(node.id);
        assert_eq!(leader, node.id, "two leaders in term {term}");
        assert_eq!(
            (node.disk.hard_state.term, node.disk.hard_state.vote),
            (term, Some(node.id)),
            "node {} leads before its vote is durable",
            node.id
        );
        for id in &self.committed {
            assert_eq!(
                self.id_in(&node.log, id.index),
                Some(*id),
                "node {} leads term {term} without a committed entry",
                node.id
            );
        }
    }

    /// State Machine Safety (thesis 3.6.3), and that the disks of a quorum hold it.
    pub(crate) fn on_commit(&mut self, id: NodeId, index: Index, nodes: &BTreeMap<NodeId, Node>) {
        if self.blind {
            return;
        }
        let log = &nodes[&id].log;
        for index in (1..=index.0).map(Index) {
            let here = self
                .id_in(log, index)
                .expect("what is committed is in the log");
            if let Some(known) = usize::try_from(index.0 - 1)
                .ok()
                .and_then(|i| self.committed.get(i))
            {
                assert_eq!(*known, here, "node {id} commits something else");
                continue;
            }
            let holders = nodes
                .values()
                .filter(|node| self.id_in(&node.disk.log, index) == Some(here))
                .count();
            assert!(
                holders >= self.quorum,
                "{here} is committed with {holders} copies on disk"
            );
            self.marks.commits += 1;
            self.committed.push(here);
        }
    }

    /// What a message promises is true on disk when it leaves.
    pub(crate) fn on_send(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &Message,
        nodes: &BTreeMap<NodeId, Node>,
    ) {
        if self.blind {
            return;
        }
        let disk = &nodes[&from].disk;
        assert!(
            Some(disk.hard_state.term) >= message.term()
                || matches!(message, Message::PreVote(_) | Message::PreVoteAnswer(_)),
            "node {from} reveals a term that is not on its disk: {message:?}"
        );
        match message {
            Message::VoteAnswer(m) if m.granted => {
                let vote = *self.votes.entry((from, m.term)).or_insert(to);
                assert_eq!(vote, to, "node {from} votes twice in term {}", m.term);
                if disk.hard_state.term == m.term {
                    assert_eq!(disk.hard_state.vote, Some(to), "a vote that is not on disk");
                }
            }
            Message::AppendOk(m) => {
                // What is acknowledged is durable here, and is what the leader has.
                let Some(leader) = nodes.get(&to).and_then(|node| node.raft.as_ref()) else {
                    return;
                };
                if m.match_index > Index(0)
                    && leader.term() == m.term
                    && leader.leader() == Some(to)
                    && disk.hard_state.term == m.term
                {
                    assert_eq!(
                        self.id_in(&disk.log, m.match_index),
                        self.id_in(&nodes[&to].log, m.match_index),
                        "node {from} acknowledges what it does not hold"
                    );
                }
            }
            Message::AppendConflict(_) => self.marks.conflicts += 1,
            Message::StaleTerm(_) => self.marks.stale_terms += 1,
            Message::VoteAnswer(_) => self.marks.votes_refused += 1,
            _ => {}
        }
    }

    /// The node's memory is what its writes say.
    pub(crate) fn check_node(&self, node: &Node) {
        let Some(raft) = &node.raft else { return };
        assert_eq!(
            (raft.base(), raft.last()),
            (node.log.base(), node.log.last()),
            "node {} did not write its log",
            node.id
        );
        assert!(
            raft.durable() <= node.disk.log.last().index,
            "node {} believes in more than its disk holds",
            node.id
        );
        if self.blind {
            return;
        }
        let base = node.disk.log.base();
        assert!(
            base.index <= node.disk.snapshot.index,
            "node {}: the log begins behind {base}, the snapshot ends at {}",
            node.id,
            node.disk.snapshot
        );
        assert_eq!(
            self.id_in(&node.log, raft.durable()),
            self.id_in(&node.disk.log, raft.durable()),
            "node {} believes another entry durable",
            node.id
        );
    }
}
