//! What a leader puts into entries beside the command, and what of them stays in memory.

use raft::{HardState, Input, Instant, Raft, Restored};
use wire::entry::Entry;
use wire::limits::APPEND_BYTES_MAX;
use wire::peer::Message;
use wire::types::{Index, NodeId, Term};

use crate::cluster::{Cluster, Options, entry};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

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
    assert_eq!(cluster.raft(ONE).unsettled_bytes(), 5000);
    cluster.settle();
    assert_eq!(cluster.raft(ONE).commit(), Index(51));
    assert_eq!(cluster.raft(ONE).unsettled_bytes(), 0);
    assert_eq!(held(&cluster), 5);
}

/// What is before the snapshot that a node starts from is read no more.
#[test]
fn a_start_from_a_snapshot_holds_little_of_what_is_before_it() {
    let cluster = Cluster::new(Options {
        cache_bytes: 500,
        ..Options::default()
    });
    let entries: Vec<_> = (1..=50).map(|n| entry(n, 1, &[7; 52])).collect();
    let restored = Restored {
        hard_state: HardState {
            term: Term(1),
            vote: None,
            lost: false,
        },
        terms: vec![entries[0].id()],
        last: entries[49].id(),
        applied: Index(49),
        tail: entries,
        ..Restored::empty(cluster.initial_membership())
    };
    let raft = Raft::new(cluster.config(ONE), restored, Instant::default());
    assert_eq!((raft.settled_bytes(), raft.unsettled_bytes()), (400, 100));
}

/// The followers' disks commit without the leader's, but its memory is its own.
#[test]
fn what_is_committed_and_not_on_the_own_disk_is_unsettled() {
    let mut cluster = Cluster::new(Options::default());
    cluster.elect(ONE);
    cluster.propose(ONE, &[[7; 52].as_slice(); 50]);
    while !cluster.packets.is_empty() {
        cluster.deliver(0, false);
        cluster.sync(TWO, usize::MAX);
        cluster.sync(THREE, usize::MAX);
    }
    assert_eq!(cluster.raft(ONE).commit(), Index(51));
    assert_eq!(cluster.raft(ONE).unsettled_bytes(), 5000);
    cluster.settle();
    assert_eq!(cluster.raft(ONE).unsettled_bytes(), 0);
}

/// Node 3 is back, and lacks entries that node 1, the leader, no longer has in memory.
fn behind_the_memory(bodies: &[&[u8]]) -> Cluster {
    let mut cluster = Cluster::new(Options {
        cache_bytes: 100,
        ..Options::default()
    });
    cluster.crash(THREE, 0);
    cluster.elect(ONE);
    for body in bodies {
        cluster.propose(ONE, &[body]);
        cluster.settle();
    }
    cluster.start(THREE);
    cluster
}

/// What the leader sends when its disk gives these entries for node 3.
fn sent_of(cluster: &mut Cluster, entries: Vec<Entry>) -> Vec<Message> {
    cluster.timeout(ONE);
    while !cluster.packets.is_empty() {
        cluster.deliver(0, false);
        cluster.sync(THREE, 1);
    }
    let asked = cluster.node(ONE).loads.pop_front();
    assert_eq!(asked.map(|load| load.0), Some(THREE));
    let to = THREE;
    cluster.turn(ONE, vec![Input::Loaded { to, entries }]);
    cluster.packets.iter().map(|p| p.message.clone()).collect()
}

/// A load that was asked in an earlier reign may be answered in this one: what does not continue
/// this log is not sent.
#[test]
fn what_is_loaded_is_checked_against_the_log() {
    let mut cluster = behind_the_memory(&[b"a", b"b", b"c"]);
    let real = cluster.nodes[&ONE].log.to_vec();
    for wrong in [
        vec![entry(2, 1, b"a")],
        vec![entry(1, 7, b"")],
        vec![real[0].clone(), real[2].clone(), real[3].clone()],
    ] {
        let first_fits = wrong[0].id() == real[0].id();
        match sent_of(&mut cluster, wrong).as_slice() {
            [] => assert!(!first_fits),
            [Message::Append(m)] => assert!(first_fits && m.entries.len() == 1),
            other => panic!("{other:?}"),
        }
    }
    cluster.run(std::time::Duration::from_millis(200));
    assert_eq!(cluster.raft(THREE).last(), cluster.raft(ONE).last());
}

/// However much a disk gives at once.
#[test]
fn what_is_loaded_fits_an_append() {
    let body = vec![7; APPEND_BYTES_MAX / 3];
    let mut cluster = behind_the_memory(&[body.as_slice(); 4]);
    let all = cluster.nodes[&ONE].log.to_vec();
    let sent = sent_of(&mut cluster, all);
    let [Message::Append(m)] = sent.as_slice() else {
        panic!("one piece at a time");
    };
    let bytes: usize = m.entries.iter().map(|entry| entry.bytes().len()).sum();
    assert!(m.entries.len() == 3 && bytes <= APPEND_BYTES_MAX, "{bytes}");
}
