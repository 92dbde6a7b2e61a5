//! Terms, votes, who may win and who may disturb.

use std::time::Duration;

use raft::{Input, RoleName};
use wire::leadership::HandOver;
use wire::peer::{Message, PreVote, PreVoteAnswer, RequestVote, StaleTerm, VoteAnswer};
use wire::types::{EntryId, NodeId, Term};

use super::{
    ONE, ROLES, THREE, TWO, append, id, in_role, of, request_vote, say, sent, three, with_logs,
};
use crate::cluster::{Cluster, Options};

#[test]
fn s3_3_a_leader_of_a_later_term_is_followed_by_every_role() {
    for role in ROLES {
        let mut cluster = in_role(role);
        let prev = cluster.raft(ONE).last();
        say(&mut cluster, THREE, ONE, append(9, prev, &[], 0));
        let raft = cluster.raft(ONE);
        assert_eq!(
            (raft.role(), raft.term()),
            (RoleName::Follower, Term(9)),
            "{role:?}"
        );
        assert_eq!(raft.leader(), Some(THREE));
        assert_eq!(
            raft.hard_state().vote,
            None,
            "the vote of the new term is free"
        );
    }
}

#[test]
fn s3_3_a_leader_of_an_earlier_term_is_told_so_by_every_role() {
    for role in ROLES {
        let mut cluster = in_role(role);
        cluster.oracle.blind = true;
        let later = cluster.raft(ONE).term().0 + 3;
        // Every role in a later term than the sender's.
        say(
            &mut cluster,
            THREE,
            ONE,
            append(later, EntryId::default(), &[], 0),
        );
        cluster.sync(ONE, usize::MAX);
        cluster.packets.clear();
        say(
            &mut cluster,
            TWO,
            ONE,
            append(later - 1, EntryId::default(), &[(1, 1)], 9),
        );
        let answer = Message::StaleTerm(StaleTerm { term: Term(later) });
        assert_eq!(sent(&cluster, ONE, TWO), vec![answer], "{role:?}");
        assert_eq!(
            cluster.raft(ONE).leader(),
            Some(THREE),
            "nothing else happened"
        );
    }
}

#[test]
fn s3_4_everyone_starts_as_a_follower() {
    let cluster = three();
    for id in cluster.ids() {
        assert_eq!(cluster.raft(id).role(), RoleName::Follower);
        assert_eq!(cluster.raft(id).leader(), None);
    }
}

#[test]
fn s3_4_a_follower_acts_after_a_random_election_timeout() {
    let (min, max) = (Duration::from_millis(150), Duration::from_millis(300));
    let mut seen = Vec::new();
    for seed in 0..200 {
        let cluster = Cluster::new(Options {
            seed,
            ..Options::default()
        });
        for node in cluster.ids() {
            let at = cluster.raft(node).deadline().expect("it waits");
            let timeout = at.since(cluster.now);
            assert!((min..=max).contains(&timeout), "{timeout:?}");
            seen.push(timeout);
        }
    }
    seen.sort();
    // All of the range is used, and no two nodes agree.
    assert!(seen[0] < min + Duration::from_millis(5));
    assert!(seen[seen.len() - 1] > max - Duration::from_millis(5));
    seen.dedup();
    assert_eq!(seen.len(), 600);
}

#[test]
fn s3_4_a_heartbeat_starts_the_timeout_anew() {
    let mut cluster = in_role(RoleName::Follower);
    for _ in 0..20 {
        cluster.advance(Duration::from_millis(140));
        cluster.turn(ONE, vec![Input::Tick]);
        assert_eq!(cluster.raft(ONE).leader(), Some(TWO));
        say(&mut cluster, TWO, ONE, append(1, id(1, 1), &[], 0));
        let wait = cluster
            .raft(ONE)
            .deadline()
            .expect("it waits")
            .since(cluster.now);
        assert!(wait >= Duration::from_millis(150));
    }
}

#[test]
fn s3_4_granting_a_vote_starts_the_timeout_anew_refusing_does_not() {
    let mut cluster = three();
    cluster.advance(Duration::from_millis(140));
    let before = cluster.raft(ONE).deadline();
    say(
        &mut cluster,
        TWO,
        ONE,
        Message::StaleTerm(StaleTerm { term: Term(3) }),
    );
    assert_eq!(cluster.raft(ONE).deadline(), before);
    say(&mut cluster, TWO, ONE, request_vote(1, EntryId::default()));
    let after = cluster.raft(ONE).deadline().expect("it waits");
    assert!(after.since(cluster.now) >= Duration::from_millis(150));
    say(
        &mut cluster,
        THREE,
        ONE,
        request_vote(1, EntryId::default()),
    );
    assert_eq!(cluster.raft(ONE).deadline(), Some(after));
}

#[test]
fn s3_4_a_vote_is_given_once_per_term_first_come_first_served() {
    let mut cluster = three();
    let mut votes = |from: NodeId, term: u64| {
        say(
            &mut cluster,
            from,
            ONE,
            request_vote(term, EntryId::default()),
        );
        cluster.sync(ONE, usize::MAX);
        match sent(&cluster, ONE, from).pop() {
            Some(Message::VoteAnswer(VoteAnswer { term: t, granted })) => {
                assert_eq!(t, Term(term));
                granted
            }
            other => panic!("{other:?} is no vote"),
        }
    };
    assert!(votes(TWO, 1));
    assert!(!votes(THREE, 1));
    assert!(votes(TWO, 1), "a repeated question gets the same answer");
    assert!(votes(THREE, 2), "a new term, a new vote");
    assert!(!votes(TWO, 2));
}

#[test]
fn s3_4_more_than_half_of_the_votes_elect() {
    for (nodes, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)] {
        let mut cluster = of(nodes);
        cluster.timeout(ONE);
        for voter in 2..=nodes {
            let answer = PreVoteAnswer {
                term: Term(1),
                granted: true,
            };
            say(
                &mut cluster,
                NodeId(voter),
                ONE,
                Message::PreVoteAnswer(answer),
            );
        }
        cluster.sync(ONE, usize::MAX);
        for votes in 0..needed {
            assert_eq!(
                cluster.raft(ONE).role(),
                RoleName::Candidate,
                "{votes} of {nodes}"
            );
            let answer = VoteAnswer {
                term: Term(1),
                granted: true,
            };
            say(
                &mut cluster,
                NodeId(votes + 2),
                ONE,
                Message::VoteAnswer(answer),
            );
        }
        assert_eq!(
            cluster.raft(ONE).role(),
            RoleName::Leader,
            "{needed} of {nodes}"
        );
    }
}

#[test]
fn s3_4_a_candidate_yields_to_the_leader_of_its_own_term() {
    let mut cluster = in_role(RoleName::Candidate);
    say(
        &mut cluster,
        TWO,
        ONE,
        append(1, EntryId::default(), &[(1, 1)], 0),
    );
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
    assert_eq!(cluster.raft(ONE).leader(), Some(TWO));
    // Votes that come now elect nobody.
    for voter in [TWO, THREE] {
        let answer = VoteAnswer {
            term: Term(1),
            granted: true,
        };
        say(&mut cluster, voter, ONE, Message::VoteAnswer(answer));
    }
    cluster.sync(ONE, usize::MAX);
    assert_eq!(cluster.raft(ONE).role(), RoleName::Follower);
}

/// Rules E5: on full disks a vote is durable before entries that were taken before it. So there is
/// a new leader; and nothing that has no room counts for anything.
#[test]
fn e5_full_disks_elect_and_commit_nothing_that_waits_for_room() {
    let mut cluster = in_role(RoleName::Leader);
    let sent = cluster.propose(ONE, &[b"no room"]).expect("it leads");
    while !cluster.packets.is_empty() {
        cluster.deliver(0, false);
    }
    let before = cluster.raft(TWO).commit();
    assert_eq!(cluster.raft(TWO).last(), sent[0]);
    cluster.crash(ONE, 0);
    cluster.advance(Duration::from_millis(301));
    cluster.turn(TWO, vec![Input::Tick]);
    for _ in 0..4 {
        while !cluster.packets.is_empty() {
            cluster.deliver(0, false);
        }
        cluster.sync_hard_state(TWO);
        cluster.sync_hard_state(THREE);
    }
    assert_eq!(cluster.raft(TWO).role(), RoleName::Leader);
    assert_eq!(cluster.raft(TWO).commit(), before);
    assert!(cluster.raft(TWO).durable() < sent[0].index);
    // There is room again: what waited follows, and then counts.
    cluster.run(Duration::from_millis(100));
    assert!(cluster.raft(TWO).commit() > sent[0].index);
    assert_eq!(cluster.raft(THREE).commit(), cluster.raft(TWO).commit());
}

#[test]
fn s3_4_a_split_vote_ends_in_a_later_term() {
    let mut cluster = of(4);
    cluster.advance(Duration::from_millis(300));
    // Nodes 1 and 2 get two votes each.
    for candidate in [ONE, TWO] {
        cluster.turn(candidate, vec![Input::Tick]);
    }
    for _ in 0..12 {
        cluster.deliver(0, false);
    }
    cluster.sync(ONE, usize::MAX);
    cluster.sync(TWO, usize::MAX);
    cluster.cut.extend([(ONE, NodeId(4)), (TWO, THREE)]);
    cluster.settle();
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.raft(ONE).role(), RoleName::Candidate);
    assert_eq!(cluster.raft(TWO).role(), RoleName::Candidate);
    cluster.cut.clear();
    cluster.run(Duration::from_secs(1));
    let leader = cluster.leader().expect("the next try succeeds");
    assert!(cluster.raft(leader).term() > Term(1));
}

#[test]
fn s3_4_a_leader_shows_that_it_lives() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.leader(), Some(ONE));
    assert_eq!(cluster.raft(THREE).term(), Term(1), "nobody campaigned");
}

#[test]
fn s3_6_1_election_restriction_compares_term_then_length() {
    // The voter's log and the candidate's last entry.
    for (held, last, granted) in [
        (&[][..], id(0, 0), true),
        (&[1][..], id(1, 1), true),
        (&[1][..], id(2, 1), true),
        (&[1, 1][..], id(1, 1), false),
        (&[1][..], id(1, 2), true),
        (&[1, 1, 1][..], id(1, 2), true),
        (&[1, 2][..], id(9, 1), false),
        (&[2][..], id(1, 1), false),
    ] {
        for pre in [false, true] {
            let mut cluster = with_logs(&[held, &[], &[]], 2);
            let question = if pre {
                Message::PreVote(PreVote {
                    term: Term(3),
                    last,
                })
            } else {
                request_vote(3, last)
            };
            say(&mut cluster, TWO, ONE, question);
            cluster.sync(ONE, usize::MAX);
            let yes = match sent(&cluster, ONE, TWO).pop() {
                Some(Message::VoteAnswer(m)) => m.granted,
                Some(Message::PreVoteAnswer(m)) => m.granted,
                other => panic!("{other:?} is no vote"),
            };
            assert_eq!(yes, granted, "{held:?} {last} pre={pre}");
        }
    }
}

#[test]
fn s3_8_term_vote_and_log_survive() {
    let mut cluster = in_role(RoleName::Follower);
    let before = cluster.raft(ONE).hard_state();
    let last = cluster.raft(ONE).last();
    cluster.crash(ONE, 0);
    cluster.start(ONE);
    assert_eq!(cluster.raft(ONE).hard_state(), before);
    assert_eq!(cluster.raft(ONE).last(), last);
    assert_eq!(cluster.raft(ONE).durable(), last.index);
}

#[test]
fn s4_2_3_a_node_that_hears_a_leader_disturbs_nobody() {
    let mut cluster = in_role(RoleName::Leader);
    for voter in [ONE, TWO] {
        let before = cluster.raft(voter).hard_state();
        say(&mut cluster, THREE, voter, request_vote(7, id(9, 6)));
        assert_eq!(cluster.raft(voter).hard_state(), before, "no vote, no term");
    }
    // Unless the leader asked for it.
    let transfer = Message::RequestVote(RequestVote {
        term: Term(7),
        last: id(9, 6),
        transfer: Some(HandOver::Asked),
    });
    say(&mut cluster, THREE, TWO, transfer);
    assert_eq!(cluster.raft(TWO).hard_state().vote, Some(THREE));
}

#[test]
fn s6_2_a_leader_without_a_quorum_steps_down() {
    let mut cluster = of(5);
    cluster.elect(ONE);
    // Two of four followers are enough.
    for node in [NodeId(4), NodeId(5)] {
        cluster.crash(node, 0);
    }
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.leader(), Some(ONE));
    cluster.crash(THREE, 0);
    cluster.run(Duration::from_millis(260));
    assert_eq!(
        cluster.leader(),
        Some(ONE),
        "not before the election timeout"
    );
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.raft(ONE).term(), Term(1), "in its own term");
}

#[test]
fn s9_6_a_pre_vote_changes_nothing() {
    let mut cluster = three();
    for node in cluster.ids() {
        cluster.advance(Duration::from_millis(300));
        cluster.turn(node, vec![Input::Tick]);
        assert_eq!(cluster.raft(node).role(), RoleName::PreCandidate);
    }
    assert!(cluster.nodes.values().all(|node| node.writes.is_empty()));
    // Nor does granting one: this node may grant another.
    for asker in [TWO, THREE] {
        let question = PreVote {
            term: Term(1),
            last: EntryId::default(),
        };
        say(&mut cluster, asker, ONE, Message::PreVote(question));
        let answer = sent(&cluster, ONE, asker).pop();
        assert!(matches!(answer, Some(Message::PreVoteAnswer(m)) if m.granted));
    }
    assert_eq!(cluster.raft(ONE).hard_state(), raft::HardState::default());
}

#[test]
fn s9_6_a_node_cut_off_keeps_its_term() {
    let mut cluster = in_role(RoleName::Leader);
    for other in [ONE, TWO] {
        cluster.cut.extend([(THREE, other), (other, THREE)]);
    }
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.raft(THREE).term(), Term(1));
    cluster.cut.clear();
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.leader(), Some(ONE));
    assert_eq!(cluster.raft(THREE).leader(), Some(ONE));
}
