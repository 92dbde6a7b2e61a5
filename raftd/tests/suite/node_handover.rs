//! Leadership that is handed over because an operator wants it, or because the leader stops: what
//! those see of it who asked, and what clients do.

use std::time::Duration;

use raftd::node::io::ConnectionId;
use wire::client::{MemberChange, Reply, Request};
use wire::error::Error;
use wire::leadership::{Cause, HandOver};
use wire::limits::LEADER_CHANGES_MAX;
use wire::peer::{DiskState, Health};
use wire::types::{NodeId, Term};

use super::node_cluster::{get, put, session, value, written};
use super::node_harness::{Cluster, Options, error, ms};
use super::node_members::change;
use super::node_voters::tells;

pub(crate) fn transfer(to: Option<NodeId>) -> Request<'static> {
    let deadline_ms = 0;
    Request::TransferLeader { deadline_ms, to }
}

/// Three nodes, the leader, the others, and a connection to the leader.
fn three() -> (Cluster, NodeId, [NodeId; 2], ConnectionId) {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut others = cluster.ids();
    others.retain(|id| *id != leader);
    // Every follower has answered this leader.
    cluster.run(ms(100));
    let client = cluster.connect(leader);
    (cluster, leader, others.try_into().unwrap(), client)
}

fn term(cluster: &Cluster, id: NodeId) -> Term {
    cluster.node(id).raft().term()
}

fn refusal(reply: Reply<'_>) -> String {
    match error(reply) {
        Error::Refused { reason, .. } => reason,
        other => panic!("not refused but {other:?}"),
    }
}

fn transferred(reply: Reply<'_>) -> (bool, Term, NodeId) {
    match reply {
        Reply::LeaderTransferred { done, term, leader } => (done, term, leader),
        other => panic!("not transferred but {other:?}"),
    }
}

/// The node that the error sends its reader to.
fn sent_to(error: &Error) -> Option<NodeId> {
    match error {
        Error::NotLeader { leader } => Some(leader.node),
        _ => None,
    }
}

#[test]
fn the_named_member_takes_over_and_nobody_loses_a_write() {
    let (mut cluster, leader, [heir, other], client) = three();
    let before = term(&cluster, leader);
    let mut session = session(&cluster, 1);
    let (first, second) = (session.next(put(b"a", b"1")), session.next(put(b"b", b"2")));
    let requests = [(1, first), (2, transfer(Some(heir))), (3, second)];
    cluster.send(client, &requests);
    let end = transferred(cluster.await_reply(client, 2));
    assert_eq!(end, (true, before.next(), heir));
    written(cluster.await_reply(client, 1));
    // What came while it was handed over waited, and then knew where to go.
    assert_eq!(sent_to(&error(cluster.await_reply(client, 3))), Some(heir));
    // Who asks somebody else is sent on, and it is done already.
    let elsewhere = cluster.connect(other);
    let refused = error(cluster.ask(elsewhere, 1, transfer(Some(heir))));
    assert_eq!(sent_to(&refused), Some(heir));
    let there = cluster.connect(heir);
    let end = transferred(cluster.ask(there, 1, transfer(Some(heir))));
    assert_eq!(end, (true, before.next(), heir));
    assert_eq!(value(cluster.ask(there, 2, get(b"a"))), Some(b"1".to_vec()));
}

#[test]
fn without_a_name_it_goes_to_one_that_is_fit() {
    let (mut cluster, leader, [silent, heir], client) = three();
    cluster.isolate(silent);
    cluster.run(ms(200));
    let end = transferred(cluster.ask(client, 1, transfer(None)));
    assert_eq!(end, (true, term(&cluster, leader), heir));
}

#[test]
fn who_would_not_lead_soon_is_refused_with_the_reason() {
    let (mut cluster, leader, [a, b], client) = three();
    let refused = refusal(cluster.ask(client, 1, transfer(Some(NodeId(9)))));
    assert_eq!(refused, "no member has the id 9");
    cluster.isolate(a);
    cluster.run(ms(200));
    let refused = refusal(cluster.ask(client, 2, transfer(Some(a))));
    let begin = format!("n{a} has not answered for ");
    assert!(refused.starts_with(&begin), "{refused}");
    cluster.set_room(b, DiskState::Hard);
    cluster.report_room(b);
    cluster.run(ms(100));
    let refused = refusal(cluster.ask(client, 3, transfer(None)));
    let begin = "nobody is fit to take over: ";
    assert!(refused.starts_with(begin), "{refused}");
    let all = refused.contains(&format!("n{a} has not answered for "))
        && refused.contains(&format!("n{b} has a full disk"));
    assert!(all, "{refused}");
    assert_eq!(cluster.leader(), Some(leader));
    // Nothing came of it: writes did not wait for anything.
    assert!(!cluster.node(leader).raft().is_transferring());
}

#[test]
fn who_is_being_healed_does_not_take_over() {
    for (lost, why) in [
        (
            true,
            "lost entries that it had acknowledged, and is being healed",
        ),
        (false, "waits for a snapshot to rebuild its state"),
    ] {
        let (mut cluster, leader, [hurt, _], client) = three();
        let health = Health {
            lost,
            rebuilding: !lost,
        };
        tells(&mut cluster, hurt, leader, health);
        let refused = refusal(cluster.ask(client, 1, transfer(Some(hurt))));
        assert_eq!(refused, format!("n{hurt} {why}"));
    }
}

#[test]
fn who_does_not_vote_does_not_take_over() {
    let (mut cluster, _, [learner, _], client) = three();
    let demote = change(MemberChange::Demote(learner));
    let reply = cluster.ask(client, 1, demote);
    assert!(matches!(reply, Reply::MembersChanged(_)), "{reply:?}");
    let refused = refusal(cluster.ask(client, 2, transfer(Some(learner))));
    let expected = format!("n{learner} does not vote, and only voters lead");
    assert_eq!(refused, expected);
}

/// Writes wait until it has them all.
#[test]
fn without_a_name_it_goes_to_one_that_has_most_of_the_log() {
    for place in [0, 1] {
        let (mut cluster, leader, others, client) = three();
        cluster.hang_disk(others[place], true);
        let mut session = session(&cluster, 1);
        written(cluster.ask(client, 1, session.next(put(b"k", b"v"))));
        let end = transferred(cluster.ask(client, 2, transfer(None)));
        assert_eq!(end, (true, term(&cluster, leader), others[1 - place]));
    }
}

#[test]
fn who_is_far_behind_is_refused() {
    let (mut cluster, _, [a, _], client) = three();
    cluster.isolate(a);
    let mut session = session(&cluster, 1);
    let large = vec![1; 1_000_000];
    for request_id in 1..=20 {
        written(cluster.ask(client, request_id, session.next(put(b"large", &large))));
    }
    cluster.heal();
    // It answers again, and has not caught up yet.
    let leader = cluster.leader().unwrap();
    cluster.hang_disk(a, true);
    cluster.run(ms(450));
    let refused = refusal(cluster.ask(client, 21, transfer(Some(a))));
    assert!(refused.ends_with(" entries behind"), "{refused}");
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn alone_there_is_nobody_to_hand_over_to() {
    let options = Options {
        members: 1,
        ..Options::default()
    };
    let mut cluster = Cluster::serving(options);
    let client = cluster.connect(NodeId(1));
    let refused = refusal(cluster.ask(client, 1, transfer(None)));
    assert_eq!(refused, "there is no other member to take over");
    let end = transferred(cluster.ask(client, 2, transfer(Some(NodeId(1)))));
    assert_eq!((end.0, end.2), (true, NodeId(1)));
    cluster.stop(NodeId(1));
    assert!(cluster.has_stopped(NodeId(1)));
}

#[test]
fn if_the_target_fails_the_old_leader_goes_on_within_an_election_timeout() {
    let (mut cluster, leader, [heir, _], client) = three();
    let before = term(&cluster, leader);
    cluster.crash(heir);
    let begun = cluster.now();
    cluster.send(client, &[(1, transfer(Some(heir)))]);
    let mut session = session(&cluster, 1);
    cluster.send(client, &[(2, session.next(put(b"k", b"v")))]);
    let again = cluster.connect(leader);
    let busy = error(cluster.ask(again, 1, transfer(None)));
    assert!(matches!(busy, Error::Overloaded { .. }), "{busy:?}");
    let end = transferred(cluster.await_reply(client, 1));
    assert_eq!(end, (false, before, leader));
    assert_eq!(cluster.now().since(begun), ms(300));
    written(cluster.await_reply(client, 2));
}

/// And is told that it may still happen.
#[test]
fn nobody_waits_longer_than_he_wants_to() {
    let (mut cluster, leader, [heir, _], client) = three();
    cluster.crash(heir);
    let begun = cluster.now();
    let request = Request::TransferLeader {
        deadline_ms: 50,
        to: Some(heir),
    };
    let end = error(cluster.ask(client, 1, request));
    assert_eq!(end, Error::OutcomeUnknown);
    assert_eq!(cluster.now().since(begun), ms(50));
    assert!(cluster.node(leader).raft().is_transferring());
}

/// Rules C1: a leader that was replaced, and does not know it yet, answers no read from what it
/// has; and one that hands over and knows it goes on answering.
#[test]
fn reads_are_linearizable_while_leadership_moves() {
    let (mut cluster, mut leader, _, _) = three();
    let mut session = session(&cluster, 1);
    let (mut served, mut refused) = (0, 0);
    for round in 0..60_u64 {
        let newest = round.to_be_bytes();
        let writer = cluster.connect(leader);
        written(cluster.ask(writer, 1, session.next(put(b"k", &newest))));
        let others: Vec<_> = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != leader)
            .collect();
        let heir = others[usize::try_from(round % 2).unwrap()];
        cluster.send(writer, &[(2, transfer(Some(heir)))]);
        let readers: Vec<_> = cluster
            .ids()
            .into_iter()
            .map(|id| cluster.connect(id))
            .collect();
        let step = Duration::from_micros(cluster.below(60));
        for nth in 1..=20 {
            for reader in &readers {
                cluster.send(*reader, &[(nth, get(b"k"))]);
            }
            cluster.run(step);
        }
        cluster.await_reply(writer, 2);
        // The new leader takes a write of which the old one does not hear.
        cluster.isolate(leader);
        let writer = cluster.connect(heir);
        let newer = (1_000 + round).to_be_bytes();
        written(cluster.ask(writer, 1, session.next(put(b"k", &newer))));
        let late = cluster.connect(leader);
        cluster.send(late, &[(1, get(b"k"))]);
        cluster.run(ms(20));
        assert!(
            cluster
                .reply(late, 1)
                .is_none_or(|reply| matches!(reply, Reply::Error(_)))
        );
        cluster.heal();
        cluster.run(ms(50));
        for reader in readers {
            for nth in 1..=20 {
                match cluster.await_reply(reader, nth) {
                    Reply::Error(_) => refused += 1,
                    reply => {
                        let found = value(reply).expect("it is there");
                        assert!(found == newest || found == newer, "round {round}");
                        served += 1;
                    }
                }
            }
        }
        leader = cluster.elect();
    }
    assert!(
        served > 200 && refused > 200,
        "{served} served, {refused} not"
    );
}

#[test]
fn a_leader_that_stops_hands_over_first() {
    let (mut cluster, leader, _, client) = three();
    let before = term(&cluster, leader);
    let mut session = session(&cluster, 1);
    let requests = [(1, session.next(put(b"k", b"v"))), (2, get(b"k"))];
    cluster.send(client, &requests);
    cluster.stop(leader);
    let late = session.next(put(b"k", b"w"));
    cluster.send(client, &[(3, late)]);
    let begun = cluster.now();
    cluster.run_until("the end", ms(20), |cluster| cluster.has_stopped(leader));
    assert!(cluster.now().since(begun) < ms(5));
    let heir = cluster.elect();
    assert!(heir != leader);
    assert_eq!(term(&cluster, heir), before.next());
    written(cluster.reply(client, 1).unwrap());
    // Whoever is too late knows where to go.
    assert_eq!(
        sent_to(&error(cluster.reply(client, 3).unwrap())),
        Some(heir)
    );
}

#[test]
fn who_asked_for_another_leader_is_answered_though_the_old_one_stops() {
    let (mut cluster, leader, [heir, _], client) = three();
    cluster.crash(heir);
    cluster.send(client, &[(1, transfer(Some(heir)))]);
    cluster.stop(leader);
    cluster.run_until("the end", ms(1_000), |cluster| cluster.has_stopped(leader));
    assert!(cluster.reply(client, 1).is_some());
}

#[test]
fn a_leader_that_stops_waits_an_election_timeout_at_most() {
    let (mut cluster, leader, [a, b], client) = three();
    cluster.crash(a);
    cluster.crash(b);
    cluster.stop(leader);
    assert!(!cluster.has_stopped(leader), "they were there just now");
    let mut session = session(&cluster, 1);
    cluster.send(client, &[(1, session.next(put(b"k", b"v")))]);
    let begun = cluster.now();
    cluster.run_until("the end", ms(400), |cluster| cluster.has_stopped(leader));
    assert!(cluster.now().since(begun) <= ms(300));
    assert_eq!(
        error(cluster.reply(client, 1).unwrap()),
        Error::ShuttingDown
    );
}

#[test]
fn a_leader_that_stops_with_nobody_fit_stops_at_once() {
    let (mut cluster, leader, [a, b], _) = three();
    cluster.crash(a);
    cluster.crash(b);
    cluster.run(ms(200));
    cluster.stop(leader);
    assert!(cluster.has_stopped(leader));
}

/// The newest changes of leaders that a node remembers, with their causes.
fn leaders(cluster: &mut Cluster, id: NodeId) -> Vec<(Term, NodeId, Cause)> {
    let client = cluster.connect(id);
    match cluster.ask(client, 1, Request::Leaders) {
        Reply::LeaderChanges(changes) => {
            let told = changes.into_iter();
            told.map(|change| (change.term, change.leader, change.cause))
                .collect()
        }
        other => panic!("no leaders but {other:?}"),
    }
}

fn newest(cluster: &mut Cluster, id: NodeId) -> (NodeId, Cause) {
    let (_, leader, cause) = *leaders(cluster, id).last().expect("a leader was known");
    (leader, cause)
}

#[test]
fn every_node_knows_who_led_and_why_that_ended() {
    let (mut cluster, first, [second, third], client) = three();
    for id in cluster.ids() {
        let only = [(Term(1), first, Cause::Start)];
        assert_eq!(leaders(&mut cluster, id), only);
    }
    // Handed over: all are told why.
    transferred(cluster.ask(client, 1, transfer(Some(second))));
    cluster.run(ms(50));
    for id in cluster.ids() {
        let asked = Cause::HandedOver(HandOver::Asked);
        assert_eq!(newest(&mut cluster, id), (second, asked));
    }
    let said = |cluster: &Cluster, id, text: &str| cluster.events(id).iter().any(|e| e == text);
    let line = format!("leader lost leader={first} term=1 reason=asked");
    assert!(said(&cluster, first, &line) && said(&cluster, second, &line));
    // Dead: the others see its links closed.
    cluster.crash(second);
    let led = cluster.elect();
    cluster.run(ms(50));
    for id in [first, third] {
        assert_eq!(newest(&mut cluster, id), (led, Cause::LinkClosed));
    }
    cluster.start(second);
    cluster.run(ms(50));
    assert_eq!(
        leaders(&mut cluster, second),
        [(Term(3), led, Cause::Start)]
    );
    // Cut off: it hears no quorum, and nobody hears it.
    cluster.isolate(led);
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != led).collect();
    cluster.run_until("another leader", ms(2_000), |cluster| {
        cluster.leader().is_some_and(|leader| leader != led)
    });
    let leader = cluster.leader().unwrap();
    assert_eq!(newest(&mut cluster, leader), (leader, Cause::Silence));
    cluster.run(ms(500));
    cluster.heal();
    cluster.run(ms(500));
    assert_eq!(newest(&mut cluster, led), (leader, Cause::NoQuorum));
    for id in others {
        let (last, cause) = newest(&mut cluster, id);
        let may_be = [Cause::Silence, Cause::Elected];
        assert!(last == leader && may_be.contains(&cause), "{cause:?}");
    }
}

#[test]
fn no_more_leaders_are_remembered_than_fit() {
    let (mut cluster, _, _, _) = three();
    for _ in 0..LEADER_CHANGES_MAX + 5 {
        let leader = cluster.elect();
        let client = cluster.connect(leader);
        cluster.run(ms(50));
        transferred(cluster.ask(client, 1, transfer(None)));
    }
    let leader = cluster.elect();
    let changes = leaders(&mut cluster, leader);
    assert_eq!(changes.len(), LEADER_CHANGES_MAX);
    assert!(changes.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(changes.last().unwrap().0, term(&cluster, leader));
}

/// Rules B5: a client that hears nothing of the leader learns of the next one by another member.
#[test]
fn who_watches_is_told_of_every_leader() {
    let (mut cluster, first, [second, third], _) = three();
    let watchers = [second, third].map(|id| cluster.connect(id));
    let seen = |reply: &Reply<'_>| match reply {
        Reply::Moved { term, leader } => (*term, leader.as_ref().map(|leader| leader.node)),
        other => panic!("no news but {other:?}"),
    };
    for watcher in watchers {
        let reply = cluster.ask(watcher, 1, Request::WatchLeader);
        assert_eq!(seen(&reply), (Term(1), Some(first)));
        assert!(cluster.news(watcher).is_empty());
    }
    let bystander = cluster.connect(second);
    value(cluster.ask(bystander, 1, super::node_cluster::stale_get(b"k")));
    cluster.isolate(first);
    cluster.run_until("another leader", ms(1_000), |cluster| {
        cluster.leader().is_some_and(|leader| leader != first)
    });
    let next = cluster.leader().unwrap();
    let term = term(&cluster, next);
    cluster.run(ms(1));
    for watcher in watchers {
        let news = cluster.news(watcher);
        assert_eq!(seen(news.last().unwrap()), (term, Some(next)));
        let Reply::Moved { leader, .. } = news.last().unwrap() else {
            unreachable!("seen has looked");
        };
        assert_eq!(
            leader.as_ref().unwrap().client_addr,
            format!("client-{next}:1")
        );
    }
    assert!(cluster.news(bystander).is_empty());
}
