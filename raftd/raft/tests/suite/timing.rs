//! How fast a dead leader is replaced (rules B3), and the first one found, over many seeds.

use std::time::Duration;

use raft::{Input, RoleName};
use wire::peer::{Message, PreVote, PreVoteAnswer, VoteAnswer};
use wire::types::{NodeId, Term};

use crate::cluster::{Cluster, Options};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Node 1 led and died; node 2 noticed.
fn suspicious(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(Options {
        seed,
        ..Options::default()
    });
    cluster.elect(ONE);
    cluster.crash(ONE, 0);
    cluster.packets.clear();
    cluster.turn(TWO, vec![Input::LeaderLinkClosed]);
    cluster
}

/// How long node 2 waits before it acts.
fn wait(cluster: &Cluster) -> Duration {
    let deadline = cluster.raft(TWO).deadline().expect("it waits");
    deadline.since(cluster.now)
}

/// What node 2 said to node 3 since the last call.
fn said(cluster: &mut Cluster) -> Vec<Message> {
    let packets = std::mem::take(&mut cluster.packets);
    let to_three = packets
        .into_iter()
        .filter(|p| p.from == TWO && p.to == THREE);
    to_three.map(|packet| packet.message).collect()
}

fn answer(cluster: &mut Cluster, message: Message) {
    cluster.oracle.blind = true;
    let from = THREE;
    cluster.turn(TWO, vec![Input::Receive { from, message }]);
}

#[test]
fn suspicion_asks_within_10_ms_and_again_every_10_to_20() {
    let mut first = Vec::new();
    for seed in 0..100 {
        let mut cluster = suspicious(seed);
        let lost_at = cluster.now;
        first.push(wait(&cluster));
        assert!(wait(&cluster) <= ms(10));
        cluster.timeout(TWO);
        let mut asked = said(&mut cluster).len();
        assert_eq!(asked, 1);
        loop {
            let pause = wait(&cluster);
            if cluster.now.since(lost_at) + pause > ms(300) {
                break;
            }
            assert!((ms(10)..=ms(20)).contains(&pause), "{pause:?}");
            cluster.timeout(TWO);
            asked += said(&mut cluster).len();
        }
        assert!((15..=31).contains(&asked), "{asked} times in 300 ms");
        // After one election timeout it is an ordinary node without a leader.
        cluster.timeout(TWO);
        assert!(wait(&cluster) >= ms(150));
    }
    first.sort();
    assert!(
        first[0] < ms(1) && first[99] > ms(9),
        "spread over the 10 ms"
    );
}

#[test]
fn granting_a_pre_vote_keeps_ones_own_back_for_10_ms() {
    for seed in 0..50 {
        let mut cluster = suspicious(seed);
        let question = PreVote {
            term: Term(2),
            last: cluster.raft(TWO).last(),
        };
        answer(&mut cluster, Message::PreVote(question));
        assert!(wait(&cluster) >= ms(10));
    }
}

#[test]
fn election_lost_in_suspicion_is_tried_again_after_5_to_30_ms_doubling() {
    for seed in 0..50 {
        let mut cluster = suspicious(seed);
        let lost_at = cluster.now;
        for factor in [1, 2, 4] {
            cluster.timeout(TWO);
            let term = cluster.raft(TWO).term();
            let granted = true;
            answer(
                &mut cluster,
                Message::PreVoteAnswer(PreVoteAnswer {
                    term: term.next(),
                    granted,
                }),
            );
            cluster.sync(TWO, usize::MAX);
            assert_eq!(cluster.raft(TWO).role(), RoleName::Candidate);
            assert!(wait(&cluster) >= ms(150), "undecided, it waits");
            answer(
                &mut cluster,
                Message::VoteAnswer(VoteAnswer {
                    term: term.next(),
                    granted: false,
                }),
            );
            if cluster.now.since(lost_at) < ms(300) {
                let range = ms(5) * factor..=ms(30) * factor;
                assert!(range.contains(&wait(&cluster)), "{:?}", wait(&cluster));
            }
        }
    }
}

#[test]
fn an_election_lost_without_suspicion_waits_for_the_election_timeout() {
    let mut cluster = Cluster::new(Options::default());
    cluster.timeout(TWO);
    for granted in [true, false] {
        let answered = PreVoteAnswer {
            term: Term(u64::from(granted)),
            granted,
        };
        answer(&mut cluster, Message::PreVoteAnswer(answered));
    }
    cluster.sync(TWO, usize::MAX);
    let refused = VoteAnswer {
        term: Term(1),
        granted: false,
    };
    answer(&mut cluster, Message::VoteAnswer(refused));
    assert_eq!(cluster.raft(TWO).role(), RoleName::Candidate);
    assert!(wait(&cluster) >= ms(150));
}

/// All followers notice; disks and network take no time. What remains is the protocol.
#[test]
fn a_dead_leader_is_replaced_within_milliseconds() {
    let mut gaps = Vec::new();
    for seed in 0..200 {
        let mut cluster = Cluster::new(Options {
            nodes: if seed % 2 == 0 { 3 } else { 5 },
            seed,
            ..Options::default()
        });
        cluster.elect(ONE);
        cluster.crash(ONE, 0);
        let died_at = cluster.now;
        for node in cluster.ids().split_off(1) {
            cluster.turn(node, vec![Input::LeaderLinkClosed]);
        }
        while cluster.leader().is_none() {
            cluster.run(ms(1));
            assert!(cluster.now.since(died_at) < ms(300), "seed {seed}");
        }
        gaps.push(cluster.now.since(died_at));
    }
    gaps.sort();
    assert!(gaps[100] <= ms(8), "median {:?}", gaps[100]);
    assert!(gaps[199] <= ms(60), "worst {:?}", gaps[199]);
}

/// Nobody notices: silence is covered by the election timeout.
#[test]
fn a_silent_leader_is_replaced_within_a_few_election_timeouts() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(Options {
            seed,
            ..Options::default()
        });
        cluster.elect(ONE);
        cluster.crash(ONE, 0);
        cluster.run(ms(1200));
        assert!(cluster.leader().is_some(), "seed {seed}");
    }
}

/// Its members learn one after the other that they have met; disks and network take no time.
#[test]
fn a_new_cluster_elects_within_milliseconds() {
    let mut gaps = Vec::new();
    for seed in 0..200 {
        let mut cluster = Cluster::new(Options {
            nodes: if seed % 2 == 0 { 3 } else { 5 },
            seed,
            formed: false,
            ..Options::default()
        });
        for node in cluster.ids() {
            cluster.node(node).formed = true;
            cluster.turn(node, vec![Input::Formed]);
            cluster.run(ms(3));
        }
        let formed_at = cluster.now;
        while cluster.leader().is_none() {
            cluster.run(ms(1));
            assert!(cluster.now.since(formed_at) < ms(150), "seed {seed}");
        }
        gaps.push(cluster.now.since(formed_at));
    }
    gaps.sort();
    assert!(gaps[100] <= ms(10), "{:?}", gaps[100]);
    assert!(gaps[199] <= ms(60), "{:?}", gaps[199]);
}
