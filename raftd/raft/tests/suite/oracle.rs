//! What must be true of a whole cluster over all lives of its nodes (thesis figure 3.2): the
//! oracle sees every disk and every message and never forgets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::{Installed, Write};
use wire::entry::Entry;
use wire::membership::{Membership, Suffrage};
use wire::peer::{Digest, Message};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::Node;
use crate::disk::Log;

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
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
    /// What each damaged disk held before: it may have acknowledged that.
    former: BTreeMap<NodeId, BTreeMap<Index, EntryId>>,
    /// Digests that a node was told to tell.
    pub(crate) digests: BTreeSet<(NodeId, u128)>,
    pub(crate) marks: Marks,
    /// A message was invented: what follows proves nothing about a cluster.
    pub(crate) blind: bool,
}

/// How often each rare thing was seen.
macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often a rare thing was seen: a run without it proves nothing about it.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Marks {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Marks {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn least(&self) -> u64 {
                [$(self.$name),*].into_iter().min().unwrap_or(0)
            }
        }
    };
}

marks! {
    leaders,
    commits,
    truncations,
    conflicts,
    stale_terms,
    votes_refused,
    loads,
    reads_served,
    compactions,
    resets,
    /// Of these, the ones that discarded another entry in the place of the snapshot's last.
    conflicting_resets,
    kept,
    stale_snapshots,
    /// Leaders that told a follower to campaign.
    timeouts_now,
    /// Candidates that a leader had told to.
    handovers,
    /// Logs that were lost, and are whole again.
    lost,
    /// Of these, the ones that a leader noticed first.
    found,
    healed,
    /// Entries that were faulty, and are whole again.
    faulty,
    mended,
    /// States that a snapshot replaced.
    rebuilt,
    digests,
    /// Changes of the members that began, and nodes in which both sets of voters stood.
    changes,
    joint,
}

/// Whether these nodes are a majority of either set of voters.
fn is_quorum(membership: &Membership, nodes: &[NodeId]) -> bool {
    [Suffrage::votes_before, Suffrage::votes_after]
        .iter()
        .all(|votes| {
            let voters = membership
                .members
                .iter()
                .filter(|member| votes(member.suffrage));
            let voters: Vec<NodeId> = voters.map(|member| member.id).collect();
            voters.iter().filter(|id| nodes.contains(id)).count() * 2 > voters.len()
        })
}

impl Oracle {
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

    /// Who is a member as of this committed index, if an entry said so.
    pub(crate) fn membership_at(&self, index: Index) -> Option<Membership> {
        let committed = self.committed.iter().rev();
        let mut entries = committed.filter_map(|id| {
            let (_, bytes) = self.entries.get(id).filter(|_| id.index <= index)?;
            let entry = Entry::split_from(&mut bytes.clone()).expect("it was whole");
            entry.membership().expect("the gate checked it")
        });
        entries.next()
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
        if !node.disk.is_damaged() {
            self.former.remove(&node.id);
        }
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

    /// State Machine Safety (thesis 3.6.3), and that the disks of a quorum hold it: in joint
    /// consensus one of both sets of voters (4.3).
    pub(crate) fn on_commit(&mut self, id: NodeId, index: Index, nodes: &BTreeMap<NodeId, Node>) {
        if self.blind {
            return;
        }
        let log = &nodes[&id].log;
        let raft = nodes[&id].raft.as_ref().expect("the node is up");
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
            let holders = nodes.values().filter(|node| self.holds(node, here));
            let holders: Vec<NodeId> = holders.map(|node| node.id).collect();
            assert!(
                is_quorum(raft.membership(), &holders),
                "{here} is committed with copies on the disks of {holders:?} only"
            );
            self.marks.commits += 1;
            self.committed.push(here);
        }
    }

    /// Whether a disk counts for an entry: it has it, or had it before it was damaged. One that is
    /// lost counts for nothing that it was given since.
    fn holds(&self, node: &Node, id: EntryId) -> bool {
        let disk = &node.disk;
        let had = self
            .former
            .get(&node.id)
            .and_then(|held| held.get(&id.index));
        let has = self.id_in(&disk.log, id.index) == Some(id);
        had == Some(&id) || has && !disk.faulty.contains(&id.index) && !disk.hard_state.lost
    }

    /// A disk is about to lose something.
    pub(crate) fn on_damage(&mut self, node: &Node) {
        let held = node
            .disk
            .log
            .iter()
            .map(|entry| (entry.index(), entry.id()));
        let held = held.filter(|(index, _)| !node.disk.faulty.contains(index));
        if !node.disk.hard_state.lost {
            self.former.entry(node.id).or_default().extend(held);
        }
    }

    /// A digest is told as it was.
    pub(crate) fn on_digest(&mut self, from: NodeId, digest: Digest) {
        self.marks.digests += 1;
        assert!(
            self.blind || self.digests.contains(&(from, digest.sum)),
            "node {from} never had {digest:?}"
        );
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
            Message::PreVoteAnswer(m) if m.granted => {
                assert!(
                    !nodes[&from].was_lost || !disk.hard_state.lost,
                    "a lost node grants"
                );
            }
            Message::VoteAnswer(m) if m.granted => {
                assert!(
                    !nodes[&from].was_lost || !disk.hard_state.lost,
                    "a lost node votes"
                );
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
            Message::TimeoutNow(_) => self.marks.timeouts_now += 1,
            Message::RequestVote(m) if m.transfer.is_some() => self.marks.handovers += 1,
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
