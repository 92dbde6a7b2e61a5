//! Conflict handling against a dumb twin that follows figure 3.1 of the thesis to the letter.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use raft::Input;
use wire::peer::{Append, Message, PreVoteAnswer, Standing, VoteAnswer};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, Options, log};

const LEADER: NodeId = NodeId(1);
const FOLLOWER: NodeId = NodeId(2);
const VOTER: NodeId = NodeId(3);

/// The logs of the leaders of terms 1, 2, ..: each begins with a prefix of an earlier one, as
/// elections would have it, and adds entries of its own. So they keep Log Matching.
fn histories() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let reign = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        1_usize..6,
    );
    prop::collection::vec(reign, 1..8).prop_map(|reigns| {
        let mut logs: Vec<Vec<u64>> = vec![Vec::new()];
        for (term, (base, cut, count)) in (1..).zip(reigns) {
            let mut log = logs[base.index(logs.len())].clone();
            log.truncate(cut.index(log.len() + 1));
            log.extend(std::iter::repeat_n(term, count));
            logs.push(log);
        }
        logs
    })
}

fn id_at(terms: &[u64], index: usize) -> EntryId {
    EntryId {
        term: Term(if index == 0 { 0 } else { terms[index - 1] }),
        index: Index(index as u64),
    }
}

fn terms_of(cluster: &Cluster, node: NodeId) -> Vec<u64> {
    cluster.nodes[&node]
        .log
        .iter()
        .map(|entry| entry.term().0)
        .collect()
}

/// Starts a node on a log, of which a snapshot covers all up to `base` and the rest is left.
fn start_on(cluster: &mut Cluster, node: NodeId, terms: &[u64], base: usize, term: u64) {
    cluster.crash(node, 0);
    let disk = &mut cluster.node(node).disk;
    disk.log = log(terms).into();
    disk.log.compact(Index(base as u64));
    disk.snapshot = id_at(terms, base);
    disk.hard_state.term = Term(term);
    cluster.start(node);
}

/// How many entries two logs have in common.
fn common(one: &[u64], other: &[u64]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Thesis figure 3.1, AppendEntries, steps 2 to 5, on a list of terms.
struct Twin {
    terms: Vec<u64>,
    commit: usize,
}

impl Twin {
    fn append(&mut self, prev: EntryId, entries: &[u64], commit: usize) -> bool {
        let prev_index = usize::try_from(prev.index.0).expect("small");
        if prev_index > self.terms.len() || id_at(&self.terms, prev_index) != prev {
            return false;
        }
        for (offset, term) in entries.iter().enumerate() {
            let place = prev_index + offset;
            if self.terms.get(place).is_some_and(|held| held != term) {
                self.terms.truncate(place);
            }
            if place == self.terms.len() {
                self.terms.push(*term);
            }
        }
        self.commit = self.commit.max(commit.min(prev_index + entries.len()));
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One node against the twin, which keeps its whole log: any pieces of one leader's log, in any
    /// order, wherever the node's own log begins.
    #[test]
    fn a_follower_does_what_figure_3_1_says(
        logs in histories(),
        leader in any::<prop::sample::Index>(),
        follower in any::<prop::sample::Index>(),
        base in any::<prop::sample::Index>(),
        pieces in prop::collection::vec((0_usize..40, 0_usize..10, 0_usize..40), 1..30),
    ) {
        let leader = &logs[leader.index(logs.len())];
        let follower = &logs[follower.index(logs.len())];
        let term = logs.len() as u64 + 1;
        let mut cluster = Cluster::new(Options::default());
        cluster.oracle.blind = true;
        // What a snapshot covers is committed, so that every leader has it.
        let base = base.index(common(leader, follower) + 1);
        start_on(&mut cluster, FOLLOWER, follower, base, term);
        let mut twin = Twin { terms: follower.clone(), commit: base };
        // The most that is agreed on, and hence may be believed committed, so far.
        let mut agreed = base;
        for (from, count, commit) in pieces {
            let from = from.min(leader.len());
            let to = (from + count).min(leader.len());
            let entries = log(leader).split_off(from);
            let commit = commit.min(leader.len());
            let prev = id_at(leader, from);
            let taken = twin.append(prev, &leader[from..to], commit);
            if taken {
                agreed = agreed.max(to);
                // This node remembers what was verified; figure 3.1 looks at one message.
                twin.commit = twin.commit.max(commit.min(agreed));
            }
            let message = Message::Append(Append {
                term: Term(term),
                prev,
                commit: Index(commit as u64),
                round: 0,
                standing: Standing::Unsaid,
                digest: None,
                entries: entries[..to - from].to_vec(),
            });
            cluster.turn(FOLLOWER, vec![Input::Receive { from: LEADER, message }]);
            let refused = cluster
                .packets
                .drain(..)
                .any(|packet| matches!(packet.message, Message::AppendConflict(_)));
            prop_assert!(!(taken && refused));
            prop_assert_eq!(&terms_of(&cluster, FOLLOWER), &twin.terms[base..]);
            prop_assert_eq!(cluster.raft(FOLLOWER).commit(), Index(twin.commit as u64));
            cluster.sync(FOLLOWER, 1);
        }
        cluster.sync(FOLLOWER, usize::MAX);
        prop_assert!(cluster.refusals.is_empty());
        // What was acknowledged last is what both have.
        let acked = cluster.packets.iter().rev().find_map(|packet| match &packet.message {
            Message::AppendOk(m) => Some(m.match_index),
            _ => None,
        });
        if let Some(acked) = acked {
            prop_assert_eq!(acked, Index(agreed as u64));
        }
    }

    /// A leader finds where two logs part in one answer per term at most, whatever they are, and
    /// makes the follower's log its own; by a snapshot, if they part before its log begins.
    #[test]
    fn a_leader_repairs_any_log_in_a_round_per_term(
        logs in histories(),
        leader in any::<prop::sample::Index>(),
        follower in any::<prop::sample::Index>(),
        bases in any::<(prop::sample::Index, prop::sample::Index)>(),
        window_bytes in 100_usize..2000,
    ) {
        let leader = &logs[leader.index(logs.len())];
        let follower = &logs[follower.index(logs.len())];
        let term = logs.len() as u64;
        let mut cluster = Cluster::new(Options { window_bytes, ..Options::default() });
        cluster.oracle.blind = true;
        let shared = common(leader, follower);
        let base = bases.0.index(leader.len() + 1);
        start_on(&mut cluster, LEADER, leader, base, term);
        start_on(&mut cluster, FOLLOWER, follower, bases.1.index(shared + 1), term);
        cluster.advance(Duration::from_secs(1));
        // Node 3 votes as asked; the follower's vote is not needed.
        cluster.turn(LEADER, vec![Input::Tick]);
        let granted = true;
        let term = Term(term + 1);
        for message in [
            Message::PreVoteAnswer(PreVoteAnswer { term, granted }),
            Message::VoteAnswer(VoteAnswer { term, granted }),
        ] {
            cluster.turn(LEADER, vec![Input::Receive { from: VOTER, message }]);
            cluster.sync(LEADER, usize::MAX);
        }
        cluster.packets.retain(|packet| matches!(packet.message, Message::Append(_)));
        cluster.crash(VOTER, 0);
        cluster.take_trace();
        cluster.settle();
        let trace = cluster.take_trace();
        let conflicts = trace.matches("n2 -> n1 append-conflict").count();
        let differing: BTreeSet<u64> = leader.iter().chain(follower).copied().collect();
        prop_assert!(conflicts <= differing.len() + 1, "{} conflicts\n{}", conflicts, trace);
        let mut expected = leader.clone();
        expected.push(term.0);
        let begin = usize::try_from(cluster.raft(FOLLOWER).base().index.0).expect("small");
        prop_assert_eq!(&terms_of(&cluster, FOLLOWER), &expected[begin..], "{}", trace);
        let installs = trace.matches("n2 installs").count();
        prop_assert_eq!(installs, usize::from(shared < base), "{}", trace);
        prop_assert_eq!(
            cluster.raft(LEADER).match_index(FOLLOWER),
            Some(Index(expected.len() as u64))
        );
        prop_assert!(cluster.refusals.is_empty());
    }
}
