//! What a leader puts into entries beside the command, and what of them stays in memory.

use wire::types::{Index, NodeId};

use crate::cluster::{Cluster, Options};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// Proposes with this wall clock and returns the one that the entry got.
fn stamped(cluster: &mut Cluster, leader: NodeId, wall_ms: u64) -> u64 {
    let raft = cluster.node(leader).raft.as_mut().expect("it is up");
    let id = raft.propose(wall_ms, b"a").expect("it leads");
    let stamp = raft.entry(id.index).expect("in memory").wall_ms();
    cluster.turn(leader, Vec::new());
    cluster.settle();
    stamp
}

/// Rules F2: apply may use the time in an entry, so it never goes back, whoever leads.
#[test]
fn wall_clocks_never_fall_along_the_log() {
    let mut cluster = Cluster::new(Options::default());
    cluster.elect(ONE);
    assert_eq!(stamped(&mut cluster, ONE, 5000), 5000);
    assert_eq!(stamped(&mut cluster, ONE, 20), 5000);
    assert_eq!(stamped(&mut cluster, ONE, 6000), 6000);
    cluster.elect(TWO);
    let noop = cluster.raft(TWO).last().index;
    let noop = cluster.raft(TWO).entry(noop).expect("in memory");
    assert_eq!(noop.wall_ms(), 6000);
    assert_eq!(stamped(&mut cluster, TWO, 30), 6000);
    // A restart does not forget it.
    cluster.crash(TWO, usize::MAX);
    cluster.start(TWO);
    cluster.elect(TWO);
    assert_eq!(stamped(&mut cluster, TWO, 40), 6000);
}

#[test]
fn memory_holds_what_is_not_applied_or_not_durable_and_little_else() {
    let mut cluster = Cluster::new(Options {
        cache_bytes: 500,
        ..Options::default()
    });
    cluster.elect(ONE);
    let body = [7; 52];
    // 100 bytes each; nothing is durable yet, so all of it stays.
    cluster.propose(ONE, &[body.as_slice(); 50]);
    let held = |cluster: &Cluster| {
        let raft = cluster.raft(ONE);
        (1..=raft.last().index.0)
            .filter(|index| raft.entry(Index(*index)).is_some())
            .count()
    };
    assert_eq!(held(&cluster), 51);
    assert_eq!(cluster.raft(ONE).uncommitted_bytes(), 5000);
    cluster.settle();
    assert_eq!(cluster.raft(ONE).commit(), Index(51));
    assert_eq!(cluster.raft(ONE).uncommitted_bytes(), 0);
    assert_eq!(held(&cluster), 5);
}
