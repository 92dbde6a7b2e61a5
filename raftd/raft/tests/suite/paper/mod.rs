//! The thesis, rule by rule: a test's name begins with the section that states the rule.

mod damage;
mod elections;
mod joint;
mod membership;
mod reads;
mod replication;
mod snapshots;
mod transfer;

use raft::{Input, RoleName};
use wire::peer::{Append, Message, RequestVote, Standing};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, Options, entry, log};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn three() -> Cluster {
    Cluster::new(Options::default())
}

fn of(nodes: u64) -> Cluster {
    Cluster::new(Options {
        nodes,
        ..Options::default()
    })
}

/// A cluster in which each node was restarted on a log of these terms.
fn with_logs(logs: &[&[u64]], term: u64) -> Cluster {
    let mut cluster = of(logs.len() as u64);
    for (id, terms) in (1..).map(NodeId).zip(logs) {
        cluster.crash(id, 0);
        let node = cluster.node(id);
        node.disk.log = log(terms).into();
        node.disk.hard_state.term = Term(term);
        cluster.start(id);
    }
    cluster.take_trace();
    cluster
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

fn say(cluster: &mut Cluster, from: NodeId, to: NodeId, message: Message) {
    cluster.oracle.blind = true;
    cluster.turn(to, vec![Input::Receive { from, message }]);
}

fn append(term: u64, prev: EntryId, entries: &[(u64, u64)], commit: u64) -> Message {
    Message::Append(Append {
        term: Term(term),
        prev,
        commit: Index(commit),
        round: 0,
        standing: Standing::Unsaid,
        digest: None,
        entries: entries
            .iter()
            .map(|&(index, term)| entry(index, term, b"x"))
            .collect(),
    })
}

fn request_vote(term: u64, last: EntryId) -> Message {
    Message::RequestVote(RequestVote {
        term: Term(term),
        last,
        transfer: None,
    })
}

/// What waits on a link, oldest first.
fn sent(cluster: &Cluster, from: NodeId, to: NodeId) -> Vec<Message> {
    let on_link = cluster
        .packets
        .iter()
        .filter(|p| p.from == from && p.to == to);
    on_link.map(|packet| packet.message.clone()).collect()
}

fn terms(cluster: &Cluster, node: NodeId) -> Vec<u64> {
    cluster.nodes[&node]
        .log
        .iter()
        .map(|entry| entry.term().0)
        .collect()
}

/// A node in a role, in term 1 (0 before the candidacy).
fn in_role(role: RoleName) -> Cluster {
    let mut cluster = three();
    match role {
        RoleName::Follower => cluster.elect(TWO),
        RoleName::Leader => cluster.elect(ONE),
        RoleName::PreCandidate | RoleName::Candidate => cluster.timeout(ONE),
    }
    if role == RoleName::Candidate {
        for _ in 0..4 {
            cluster.deliver(0, false);
        }
    }
    cluster.packets.clear();
    assert_eq!(cluster.raft(ONE).role(), role);
    cluster
}

const ROLES: [RoleName; 4] = [
    RoleName::Follower,
    RoleName::PreCandidate,
    RoleName::Candidate,
    RoleName::Leader,
];
