//! The thesis, rule by rule: a test's name begins with the section that states the rule.

use std::time::Duration;

use raft::{Input, RoleName};
use wire::entry::EntryKind;
use wire::peer::{Append, DiskReport, Message, PreVote, RequestVote, StaleTerm, VoteAnswer};
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
        node.disk.log = log(terms);
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
        transfer: false,
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
            let answer = wire::peer::PreVoteAnswer {
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
fn s3_5_a_leader_appends_and_commits_what_a_quorum_holds() {
    let mut cluster = in_role(RoleName::Leader);
    let ids = cluster.propose(ONE, &[b"a", b"b"]).expect("it leads");
    assert_eq!(ids, vec![id(2, 1), id(3, 1)]);
    assert_eq!(cluster.raft(ONE).commit(), Index(1));
    cluster.settle();
    assert_eq!(cluster.raft(ONE).commit(), Index(3));
    // The others learn it from the next message.
    cluster.timeout(ONE);
    cluster.settle();
    assert!(
        cluster
            .ids()
            .iter()
            .all(|id| cluster.raft(*id).commit() == Index(3))
    );
    assert_eq!(
        cluster.raft(ONE).entry(Index(2)).expect("in memory").body(),
        b"a"
    );
}

#[test]
fn s3_5_others_take_no_proposals_and_name_the_leader() {
    let mut cluster = in_role(RoleName::Leader);
    let raft = cluster.node(TWO).raft.as_mut().expect("it is up");
    assert_eq!(
        raft.propose(0, b"a").expect_err("it follows").leader,
        Some(ONE)
    );
    assert_eq!(raft.read().expect_err("it follows").leader, Some(ONE));
}

#[test]
fn s3_5_consistency_check() {
    // Thesis 3.5: an Append is taken only if the entry before its first is there.
    let held = [1, 1, 4];
    for (prev, fits) in [
        (id(0, 0), true),
        (id(1, 1), true),
        (id(3, 4), true),
        (id(3, 3), false),
        (id(2, 2), false),
        (id(4, 4), false),
    ] {
        let mut cluster = with_logs(&[&held, &[], &[]], 5);
        say(&mut cluster, TWO, ONE, append(5, prev, &[], 0));
        let answer = sent(&cluster, ONE, TWO).pop().expect("an answer");
        assert_eq!(matches!(answer, Message::AppendOk(_)), fits, "{prev}");
        assert_eq!(terms(&cluster, ONE), held, "an empty Append changes no log");
    }
}

/// Thesis figure 3.6: whatever a follower's log looks like, it becomes the leader's.
#[test]
fn s3_5_a_follower_log_becomes_the_leaders() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        let mut cluster = with_logs(&[&leader, follower, &[]], 7);
        // Node 3 helps node 1 to win, even against a newer log.
        cluster.elect(ONE);
        cluster.run(Duration::from_millis(200));
        let expected: Vec<u64> = leader.into_iter().chain([8]).collect();
        assert_eq!(terms(&cluster, TWO), expected, "from {follower:?}");
        assert_eq!(cluster.raft(TWO).commit(), Index(11));
    }
}

#[test]
fn s3_5_a_leader_never_touches_its_own_log() {
    let mut cluster = with_logs(&[&[1, 2], &[], &[]], 2);
    cluster.elect(ONE);
    cluster.propose(ONE, &[b"a"]);
    assert_eq!(terms(&cluster, ONE), [1, 2, 3, 3]);
    say(&mut cluster, TWO, ONE, append(3, id(1, 1), &[(2, 3)], 0));
    assert_eq!(terms(&cluster, ONE), [1, 2, 3, 3]);
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
fn s3_6_2_only_entries_of_the_own_term_are_committed_by_counting() {
    let mut cluster = with_logs(&[&[1, 2], &[1, 2], &[1, 2]], 2);
    cluster.elect(ONE);
    assert_eq!(
        cluster.raft(ONE).commit(),
        Index(3),
        "with the no-op all is"
    );
    let mut cluster = with_logs(&[&[1, 2], &[1, 2], &[1, 2]], 2);
    cluster.advance(Duration::from_secs(1));
    cluster.turn(ONE, vec![Input::Tick]);
    while cluster.leader().is_none() {
        if cluster.packets.is_empty() {
            for node in cluster.ids() {
                cluster.sync(node, usize::MAX);
            }
        } else {
            cluster.deliver(0, false);
        }
    }
    for follower in [TWO, THREE] {
        let ok = wire::peer::AppendOk {
            term: Term(3),
            round: 0,
            match_index: Index(2),
            received: Index(2),
            disk: DiskReport::default(),
            digest: None,
        };
        say(&mut cluster, follower, ONE, Message::AppendOk(ok));
        assert_eq!(cluster.raft(ONE).match_index(follower), Some(Index(2)));
    }
    assert_eq!(
        cluster.raft(ONE).commit(),
        Index(0),
        "three copies, but of an older term"
    );
}

#[test]
fn s3_6_2_a_term_opens_with_a_noop() {
    let mut cluster = in_role(RoleName::Leader);
    let first = cluster
        .raft(ONE)
        .entry(Index(1))
        .expect("in memory")
        .clone();
    assert_eq!((first.kind(), first.id()), (EntryKind::Noop, id(1, 1)));
    cluster.elect(TWO);
    let second = cluster
        .raft(TWO)
        .entry(Index(2))
        .expect("in memory")
        .clone();
    assert_eq!((second.kind(), second.id()), (EntryKind::Noop, id(2, 2)));
}

#[test]
fn s3_7_a_repeated_append_does_no_harm() {
    let mut cluster = three();
    let message = append(1, EntryId::default(), &[(1, 1), (2, 1)], 1);
    for _ in 0..3 {
        say(&mut cluster, TWO, ONE, message.clone());
    }
    assert_eq!(terms(&cluster, ONE), [1, 1]);
    assert_eq!(cluster.nodes[&ONE].writes.len(), 1, "it is written once");
    // Nor does an older one with fewer entries.
    say(
        &mut cluster,
        TWO,
        ONE,
        append(1, EntryId::default(), &[(1, 1)], 0),
    );
    assert_eq!(terms(&cluster, ONE), [1, 1]);
    assert_eq!(cluster.raft(ONE).commit(), Index(1));
}

#[test]
fn s3_7_a_crashed_follower_is_sent_what_it_lost() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.crash(THREE, 0);
    cluster.propose(ONE, &[b"a", b"b", b"c"]);
    cluster.settle();
    cluster.start(THREE);
    cluster.run(Duration::from_millis(200));
    assert_eq!(terms(&cluster, THREE), terms(&cluster, ONE));
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
        transfer: true,
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
fn s6_4_a_read_waits_for_a_round_that_begins_after_it() {
    let mut cluster = in_role(RoleName::Leader);
    let first = cluster.read(ONE).expect("it leads");
    let second = cluster.read(ONE).expect("it leads");
    assert_eq!((first.round, second.round), (1, 2));
    // The answers to the first round serve the first read only.
    let in_flight = cluster.packets.len();
    for _ in 0..in_flight {
        cluster.deliver(0, false);
    }
    cluster.deliver(0, false);
    assert_eq!(cluster.nodes[&ONE].reads_served, 1);
    cluster.settle();
    assert_eq!(cluster.nodes[&ONE].reads_served, 2);
}

#[test]
fn s6_4_a_deposed_leader_serves_no_read() {
    let mut cluster = in_role(RoleName::Leader);
    for node in [TWO, THREE] {
        cluster.cut.extend([(ONE, node), (node, ONE)]);
        cluster.turn(node, vec![Input::LeaderLinkClosed]);
    }
    cluster.timeout(TWO);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(TWO));
    cluster.propose(TWO, &[b"new"]);
    cluster.settle();
    assert_eq!(
        cluster.raft(ONE).role(),
        RoleName::Leader,
        "it does not know yet"
    );
    cluster.read(ONE).expect("it still takes reads");
    cluster.cut.clear();
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.nodes[&ONE].reads_served, 0);
}

#[test]
fn s6_4_a_new_leader_reads_at_its_noop_or_later() {
    let mut cluster = with_logs(&[&[1, 1], &[1, 1], &[1, 1]], 1);
    cluster.elect(ONE);
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    assert_eq!(raft.read().expect("it leads").index, Index(3));
    cluster.propose(ONE, &[b"a"]);
    cluster.settle();
    let raft = cluster.node(ONE).raft.as_mut().expect("it is up");
    assert_eq!(raft.read().expect("it leads").index, Index(4));
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

#[test]
fn s10_2_1_entries_leave_before_the_leader_has_them_on_disk() {
    let mut cluster = in_role(RoleName::Leader);
    cluster.propose(ONE, &[b"a"]);
    assert_eq!(cluster.raft(ONE).durable(), Index(1));
    assert_eq!(sent(&cluster, ONE, TWO).len(), 1);
    // Two followers commit it without the leader's disk.
    for follower in [TWO, THREE] {
        cluster.deliver(0, false);
        cluster.sync(follower, usize::MAX);
    }
    for _ in 0..2 {
        cluster.deliver(0, false);
    }
    assert_eq!(cluster.raft(ONE).commit(), Index(2));
    assert_eq!(cluster.raft(ONE).durable(), Index(1));
}

#[test]
fn s10_2_2_appends_are_pipelined_and_batched() {
    let mut cluster = in_role(RoleName::Leader);
    for _ in 0..5 {
        cluster.propose(ONE, &[b"a", b"b", b"c"]);
    }
    let appends = sent(&cluster, ONE, TWO);
    assert_eq!(appends.len(), 5, "one per turn, none waits for an answer");
    for append in appends {
        assert!(matches!(append, Message::Append(m) if m.entries.len() == 3));
    }
}
