//! Gray failures: links that work one way only, nodes that bridge others, leaders that are heard and
//! hear nothing. Whatever is cut, as long as a majority of the nodes hear each other both ways, one
//! of them leads within a few election timeouts, commits, and is left alone (reliability rows 6, 8,
//! 10, 11): PreVote and CheckQuorum together neither deadlock nor flap.

use std::time::Duration;

use wire::types::{NodeId, Term};

use crate::cluster::{Cluster, Options};

/// Until somebody must lead.
const SETTLES: Duration = Duration::from_secs(4);
/// How long it is then watched.
const WATCHED: Duration = Duration::from_secs(4);

type Link = (NodeId, NodeId);

fn links(nodes: u64) -> Vec<Link> {
    let ids = || (1..=nodes).map(NodeId);
    let pairs = ids().flat_map(|from| ids().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// Whether the nodes of this set, a bit each, all hear each other.
fn hear_each_other(set: u64, cut: &[Link]) -> bool {
    let has = |id: NodeId| set >> (id.0 - 1) & 1 == 1;
    !cut.iter().any(|(from, to)| has(*from) && has(*to))
}

/// The sets of a majority that hear each other.
fn majorities(nodes: u64, cut: &[Link]) -> Vec<u64> {
    let sets = 1..1_u64 << nodes;
    let large = |set: &u64| u64::from(set.count_ones()) * 2 > nodes;
    sets.filter(large)
        .filter(|set| hear_each_other(*set, cut))
        .collect()
}

/// Cuts the links of a cluster that `first` leads, and looks what becomes of it.
fn suffer(nodes: u64, seed: u64, first: NodeId, cut: &[Link]) {
    let mut cluster = Cluster::new(Options {
        nodes,
        seed,
        ..Options::default()
    });
    cluster.elect(first);
    cluster.propose(first, &[b"before".as_slice()]);
    cluster.run(Duration::from_millis(100));
    cluster.cut = cut.iter().copied().collect();
    cluster.run(SETTLES);
    let what = format!("first {first}, seed {seed}, cut {cut:?}");
    let leads = |cluster: &Cluster| -> Option<(NodeId, Term)> {
        let leader = cluster.leader()?;
        let raft = cluster.raft(leader);
        raft.quorum_ok(cluster.now).then(|| (leader, raft.term()))
    };
    let leader = leads(&cluster).unwrap_or_else(|| panic!("nobody leads: {what}"));
    let last = cluster.propose(leader.0, &[b"during".as_slice()]);
    let last = last.expect("it leads")[0];
    cluster.run(WATCHED);
    assert_eq!(leads(&cluster), Some(leader), "it is disturbed: {what}");
    let commit = cluster.raft(leader.0).commit();
    assert!(commit >= last.index, "it commits nothing: {what}");
    // Nobody's term has run away: all agree soon after the links are mended.
    cluster.cut.clear();
    cluster.run(SETTLES);
    let (_, term) = leads(&cluster).expect("all is well again");
    assert!(term.0 <= leader.1.0 + 1, "the term rose to {term}: {what}");
}

/// All 64 ways to cut links between three nodes.
#[test]
fn three_nodes_survive_any_links_that_leave_two_of_them_together() {
    let links = links(3);
    let mut cases = 0;
    for choice in 0..1_u32 << links.len() {
        let places = links.iter().enumerate();
        let cut: Vec<Link> = places
            .filter(|(place, _)| choice >> place & 1 == 1)
            .map(|(_, link)| *link)
            .collect();
        if majorities(3, &cut).is_empty() {
            continue;
        }
        for first in 1..=3 {
            for seed in 1..=3 {
                suffer(3, seed, NodeId(first), &cut);
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 37 * 9, "all that leave a pair together");
}

/// The shapes that took clusters of five down elsewhere.
#[test]
fn five_nodes_survive_bridges_stars_rings_and_one_way_links() {
    let both = |a: u64, b: u64| [(NodeId(a), NodeId(b)), (NodeId(b), NodeId(a))];
    let shapes: [(&str, Vec<Link>); 5] = [
        // Two halves that share node 3: each is a majority with it.
        (
            "a bridge",
            [both(1, 4), both(1, 5), both(2, 4), both(2, 5)].concat(),
        ),
        // Nodes 1 and 2 hear everybody and are heard by nobody but each other.
        (
            "mutes",
            [1, 2]
                .iter()
                .flat_map(|from| [3, 4, 5].map(|to| (NodeId(*from), NodeId(to))))
                .collect(),
        ),
        // Nodes 1 and 2 are heard by everybody and hear nobody but each other.
        (
            "deaf",
            [1, 2]
                .iter()
                .flat_map(|to| [3, 4, 5].map(|from| (NodeId(from), NodeId(*to))))
                .collect(),
        ),
        // Whoever leads, somebody does not hear it, and cannot tell it either.
        ("a broken chord", [both(1, 3), both(2, 5)].concat()),
        // Links that fail one way around a ring.
        (
            "a ring, one way",
            [(1, 4), (4, 2), (2, 5)]
                .map(|(from, to)| (NodeId(from), NodeId(to)))
                .to_vec(),
        ),
    ];
    for (shape, cut) in shapes {
        assert!(
            !majorities(5, &cut).is_empty(),
            "{shape} leaves no majority"
        );
        for first in 1..=5 {
            for seed in 1..=4 {
                suffer(5, seed, NodeId(first), &cut);
            }
        }
    }
}
