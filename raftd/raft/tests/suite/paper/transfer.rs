//! Leadership transfer.

use std::time::Duration;

use raft::{CannotPropose, CannotTransfer, NotLeader, RoleName};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::leadership::HandOver;
use wire::peer::{DiskReport, Message, StaleTerm, TimeoutNow};
use wire::types::{Index, NodeId, Term};

use super::{ONE, THREE, TWO, in_role, say, sent};
use crate::cluster::Cluster;

fn timeout_now(term: u64) -> Message {
    Message::TimeoutNow(TimeoutNow {
        term: Term(term),
        why: HandOver::Asked,
    })
}

fn cut_off(cluster: &mut Cluster, id: NodeId) {
    for other in cluster.ids() {
        cluster.cut.insert((id, other));
        cluster.cut.insert((other, id));
    }
}

/// The target does not wait for its election timeout, nor does it ask around first; and who hears
/// the leader votes for it all the same.
#[test]
fn s3_10_an_up_to_date_follower_takes_over_at_once() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cluster.take_trace();
    cluster.hand_over(ONE, THREE).expect("it is fit");
    cluster.settle();
    let trace = cluster.take_trace();
    assert_eq!(cluster.leader(), Some(THREE), "{trace}");
    assert_eq!(cluster.raft(THREE).term(), Term(2));
    assert!(!trace.contains("pre-vote"), "{trace}");
    assert_eq!(cluster.raft(ONE).leader(), Some(THREE));
    assert!(!cluster.raft(ONE).is_transferring());
}

#[test]
fn s3_10_the_target_is_brought_up_to_date_first() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cut_off(&mut cluster, THREE);
    let last = cluster.propose(ONE, &[b"a", b"b"]).expect("it leads")[1];
    cluster.settle();
    cluster.hand_over(ONE, THREE).expect("it is fit");
    assert_eq!(sent(&cluster, ONE, THREE), [], "the link is cut");
    assert!(cluster.raft(ONE).is_transferring());
    cluster.cut.clear();
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.leader(), Some(THREE));
    assert!(cluster.raft(THREE).commit() > last.index);
}

#[test]
fn s3_10_proposals_are_refused_meanwhile_and_reads_go_on() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cut_off(&mut cluster, THREE);
    cluster.propose(ONE, &[b"a"]).expect("it leads");
    cluster.settle();
    cluster.hand_over(ONE, THREE).expect("it is fit");
    let last = cluster.raft(ONE).last();
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    assert_eq!(raft.propose(0, b"b"), Err(CannotPropose::Transferring));
    assert_eq!(raft.propose_snapshot(0), Err(CannotPropose::Transferring));
    assert_eq!(raft.last(), last);
    cluster.read(ONE).expect("it leads");
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.nodes[&ONE].reads_served, 1);
}

/// What is proposed before is decided before, so that whoever proposed it can be told.
#[test]
fn s3_10_the_target_waits_for_what_is_not_committed() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cut_off(&mut cluster, TWO);
    let id = cluster.propose(ONE, &[b"a"]).expect("it leads")[0];
    let size = cluster.raft(ONE).lag_bytes(THREE).expect("it is in memory");
    assert!(size > ENTRY_HEADER_BYTES && size < 100, "{size}");
    cluster.hand_over(ONE, THREE).expect("it is fit");
    while cluster.raft(ONE).match_index(THREE) != Some(id.index) {
        cluster.sync(THREE, 1);
        while !cluster.packets.is_empty() {
            cluster.deliver(0, false);
        }
    }
    assert_eq!(cluster.raft(ONE).lag_bytes(THREE), Some(0));
    assert_eq!(cluster.raft(ONE).lag_bytes(NodeId(9)), None);
    let is_told = |cluster: &Cluster| sent(cluster, ONE, THREE).contains(&timeout_now(1));
    assert!(!is_told(&cluster), "a quorum lacks its own disk");
    let mut stalled = cluster.clone();
    let raft = stalled.node(ONE).raft.as_mut().expect("it is up");
    raft.set_disk(DiskReport::default(), true);
    stalled.turn(ONE, vec![]);
    assert!(is_told(&stalled), "its own disk may never finish");
    cluster.sync(ONE, 1);
    assert_eq!(cluster.raft(ONE).commit(), id.index);
    assert!(is_told(&cluster));
}

/// Who told a target off has not left its office; after an election timeout it goes on.
#[test]
fn s3_10_a_leader_whose_target_fails_leads_on() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cluster.crash(THREE, 0);
    cluster.hand_over(ONE, THREE).expect("it was fit");
    cluster.run(Duration::from_millis(299));
    assert!(cluster.raft(ONE).is_transferring());
    cluster.run(Duration::from_millis(1));
    assert!(!cluster.raft(ONE).is_transferring());
    assert_eq!(cluster.raft(ONE).term(), Term(1));
    let id = cluster.propose(ONE, &[b"a"]).expect("it leads on")[0];
    cluster.run(Duration::from_millis(10));
    assert_eq!(cluster.raft(ONE).commit(), id.index);
    // Nothing of it is left: the next one begins anew.
    cluster.hand_over(ONE, TWO).expect("it is fit");
    cluster.settle();
    assert_eq!(cluster.leader(), Some(TWO));
}

/// Where leases are, reads renew them, and a hand-over waits for their end (row 38 of the known bugs).
#[test]
fn s3_10_reads_do_not_prolong_a_hand_over() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cluster.crash(THREE, 0);
    cluster.hand_over(ONE, THREE).expect("it was fit");
    for _ in 0..30 {
        assert!(cluster.raft(ONE).is_transferring());
        cluster.read(ONE).expect("it leads");
        cluster.run(Duration::from_millis(10));
    }
    assert!(!cluster.raft(ONE).is_transferring());
    assert_eq!(cluster.nodes[&ONE].reads_served, 30);
    cluster.propose(ONE, &[b"a"]).expect("it leads on");
}

#[test]
fn s3_10_a_stale_or_repeated_timeout_now_is_harmless() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    cluster.hand_over(ONE, THREE).expect("it is fit");
    cluster.settle();
    assert_eq!(cluster.raft(THREE).term(), Term(2));
    // It comes again: its term is over.
    say(&mut cluster, ONE, THREE, timeout_now(1));
    let over = Message::StaleTerm(StaleTerm { term: Term(2) });
    assert_eq!(sent(&cluster, THREE, ONE), [over]);
    assert_eq!(cluster.leader(), Some(THREE));
    // One that was long under way costs an election, and nothing that is committed.
    cluster.packets.clear();
    let last = cluster.propose(THREE, &[b"a"]).expect("it leads")[0];
    cluster.settle();
    say(&mut cluster, THREE, TWO, timeout_now(2));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(TWO));
    assert_eq!(cluster.nodes[&TWO].log.id_at(last.index), Some(last));
}

#[test]
fn s3_10_who_would_not_lead_declines() {
    type Spoil = fn(&mut Cluster);
    let spoils: [Spoil; 4] = [
        |cluster| {
            let raft = cluster.node(THREE).raft.as_mut().expect("it is up");
            raft.set_disk(DiskReport::default(), true);
        },
        |cluster| cluster.rot(THREE, &[Index(1)]),
        |cluster| cluster.rebuild(THREE),
        |cluster| {
            cluster.lose(THREE);
            cluster.start(THREE);
        },
    ];
    for (nth, spoil) in spoils.into_iter().enumerate() {
        let mut cluster = in_role(RoleName::Leader);
        cluster.run(Duration::from_millis(100));
        spoil(&mut cluster);
        cluster.packets.clear();
        say(&mut cluster, ONE, THREE, timeout_now(1));
        assert_eq!(cluster.raft(THREE).role(), RoleName::Follower, "{nth}");
        assert_eq!(cluster.raft(THREE).term(), Term(1), "{nth}");
    }
}

#[test]
fn s3_10_a_transfer_has_one_fit_target_and_a_leader() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_millis(100));
    let not_leader = NotLeader { leader: Some(ONE) };
    let refused = Err(CannotTransfer::NotLeader(not_leader));
    assert_eq!(cluster.hand_over(TWO, THREE), refused);
    for unfit in [ONE, NodeId(9)] {
        let refused = Err(CannotTransfer::Unfit);
        assert_eq!(cluster.hand_over(ONE, unfit), refused);
    }
    cluster.rebuild(TWO);
    cluster.timeout(ONE);
    cluster.settle();
    assert_eq!(cluster.hand_over(ONE, TWO), Err(CannotTransfer::Unfit));
    // Without node 2, nobody but node 1 holds this, so that node 3 stays lost.
    cluster.crash(TWO, 0);
    cluster.lose(THREE);
    cluster.start(THREE);
    cluster.propose(ONE, &[b"a"]).expect("it leads");
    cluster.timeout(ONE);
    cluster.settle();
    assert_eq!(cluster.hand_over(ONE, THREE), Err(CannotTransfer::Unfit));
    let mut cluster = in_role(RoleName::Leader);
    cluster.hand_over(ONE, TWO).expect("it is fit");
    let refused = Err(CannotTransfer::Transferring);
    assert_eq!(cluster.hand_over(ONE, THREE), refused);
}
