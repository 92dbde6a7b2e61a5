//! The verbs about the cluster and its nodes.

use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};
use wire::client::{LeaderChange, NodeRole, Reply, Status};
use wire::command::Outcome;
use wire::error::Error as WireError;
use wire::leadership::Cause;
use wire::membership::Suffrage;
use wire::types::{Epoch, Index, NodeId, Term};

use super::client::closed_port;
use super::fake::{Fake, What};
use super::run::{SOON, run, store};
use super::script::{always, status};

#[test]
fn status_lists_every_member_dead_ones_too() {
    let gone = closed_port();
    let addrs: Arc<Mutex<Vec<String>>> = Arc::default();
    let serve = |id: u64, role: NodeRole| {
        let addrs = Arc::clone(&addrs);
        Fake::start(id, move |asked| {
            let addrs = addrs.lock().unwrap().clone();
            let addrs = [addrs[0].as_str(), addrs[1].as_str(), addrs[2].as_str()];
            let mut told = status(id, role, addrs, [true, true, false]);
            if role == NodeRole::Follower {
                told.last.0 = 97;
            }
            asked.reply(&Reply::Status(told))
        })
    };
    let leader = serve(1, NodeRole::Leader);
    let follower = serve(2, NodeRole::Follower);
    *addrs.lock().unwrap() = vec![leader.addr.clone(), follower.addr.clone(), gone.clone()];
    for asked in [&leader, &follower] {
        let done = run(&asked.addr, &["status", "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let cluster = done.json();
        let expected = json!({
            "cluster_id": format!("{:032x}", 0xabc), "epoch": "0000000000000def",
            "leader": 1, "term": 5, "quorum_ok": true, "voters": 3, "failures_tolerated": 0,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&cluster[name], value, "{name}");
        }
        let members = cluster["members"].as_array().unwrap();
        let expected = json!({
            "id": 1, "name": "n1", "peer_addr": "127.0.0.1:7001", "client_addr": leader.addr,
            "reachable": true, "role": "leader", "kind": "voter", "term": 5, "last_index": 100,
            "durable_index": 100, "commit_index": 99, "applied_index": 99, "lag_entries": 0,
            "snapshot_index": 0, "snapshot_term": 0, "snapshot_bytes": 0, "install_bytes": null,
            "install_total_bytes": null, "install_left_ms": null, "wal_bytes": 1 << 20, "keys": 12,
            "digest": format!("{:032x}", 0xd16),
            "uptime_ms": 61_000, "version": "0.1.0", "state": "serving", "error": null,
        });
        assert_eq!(members[0], expected);
        assert_eq!(members[1]["lag_entries"], 3);
        assert_eq!(members[2]["reachable"], false);
        assert_eq!(members[2]["role"], Value::Null);
        assert_eq!(members[2]["lag_entries"], 8);
        assert_eq!(members[2]["error"], "connection refused");
    }
    let peers = run(&follower.addr, &["peers"]);
    let expected = format!(
        "1\tn1\tvoter\tleader\t127.0.0.1:7001\t{}\t0\n\
         2\tn2\tvoter\tfollower\t127.0.0.1:7002\t{}\t3\n\
         3\tn3\tvoter\t-\t127.0.0.1:7003\t{gone}\t8\n",
        leader.addr, follower.addr
    );
    peers.silently(0, expected);
    let objects = run(&leader.addr, &["peers", "--json"]);
    assert_eq!(objects.stdout.split(|b| *b == b'\n').count(), 4);
    let lines = run(&leader.addr, &["status"]);
    assert!(
        lines
            .stdout
            .starts_with(b"1\tn1\tvoter\tleader\ttrue\t5\t100\t99\t99\t0\t")
    );
    run(&leader.addr, &["is-leader"]).silently(0, "");
    run(&follower.addr, &["is-leader"]).silently(1, "");
    run(&leader.addr, &["is-healthy", "--node"]).silently(0, "");
    assert_eq!(run(&gone, &["is-leader"]).code, Some(3));
    assert_eq!(run(&gone, &["is-healthy"]).code, Some(3));
    let both = format!("{},{}", leader.addr, follower.addr);
    assert_eq!(run(&both, &["is-leader"]).code, Some(2));
    run(&both, &["wait-ready", "--leader"]).silently(0, "");
    // The follower has applied what the leader has committed.
    run(&follower.addr, &["wait-ready", "--caught-up"]).silently(0, "");
    let short = ["-t", "100ms", "wait-ready"];
    assert_eq!(run(&gone, &short).code, Some(3));
    let done = run(&format!("{gone},{}", leader.addr), &short);
    assert_eq!(done.code, Some(3));
    assert!(
        done.stderr.contains("not all endpoints answered"),
        "{done:?}"
    );
}

#[test]
fn whether_a_node_may_stop_waits_a_moment_for_all_to_hear_their_leader() {
    let addrs: Arc<Mutex<[String; 3]>> = Arc::default();
    let serve = |id: u64, role: NodeRole, hears_from: usize| {
        let known = Arc::clone(&addrs);
        let mut looks = 0;
        let node = Fake::start(id, move |asked| {
            looks += 1;
            let addrs = known.lock().unwrap();
            let mut told = status(id, role, addrs.each_ref().map(String::as_str), [true; 3]);
            if looks < hears_from {
                (told.leader, told.quorum_ok) = (None, false);
            }
            asked.reply(&Reply::Status(told))
        });
        addrs.lock().unwrap()[id as usize - 1].clone_from(&node.addr);
        node
    };
    let leader = serve(1, NodeRole::Leader, 1);
    let second = serve(2, NodeRole::Follower, 1);
    let late = serve(3, NodeRole::Follower, 3);
    run(&leader.addr, &["is-safe-to-stop"]).silently(0, "");
    drop(late);
    let late = serve(3, NodeRole::Follower, 3);
    run(&late.addr, &["is-safe-to-stop"]).silently(0, "");
    let never = serve(3, NodeRole::Follower, usize::MAX);
    for (asked, why) in [
        (&never, "it knows no leader"),
        (&second, "n3 hears no leader"),
    ] {
        // However little time there is, who answers is there.
        for time in ["5s", "1s"] {
            let done = run(&asked.addr, &["-t", time, "is-safe-to-stop"]);
            assert_eq!(done.code, Some(1), "{done:?}");
            assert!(done.stderr.contains(why), "{done:?}");
        }
    }
}

/// Nodes that tell this of themselves and of each other, whose addresses they know.
fn nodes<const N: usize>(
    tell: impl Fn(u64, [&str; N]) -> Status + Clone + Send + 'static,
) -> [Fake; N] {
    let addrs: Arc<OnceLock<[String; N]>> = Arc::default();
    let nodes: [Fake; N] = std::array::from_fn(|at| {
        let (tell, known, id) = (tell.clone(), Arc::clone(&addrs), at as u64 + 1);
        Fake::start(id, move |asked| {
            let addrs = known.wait().each_ref().map(String::as_str);
            match asked.what {
                What::Snapshot => asked.done(40, Outcome::Applied),
                What::Leaders => asked.reply(&Reply::LeaderChanges(vec![LeaderChange {
                    term: Term(id),
                    leader: NodeId(1),
                    wall_ms: 0,
                    without_ms: 0,
                    cause: Cause::Start,
                }])),
                _ => asked.reply(&Reply::Status(tell(id, addrs))),
            }
        })
    });
    let all = nodes.each_ref().map(|node| node.addr.clone());
    assert!(addrs.set(all).is_ok());
    nodes
}

fn role(id: u64) -> NodeRole {
    match id {
        1 => NodeRole::Leader,
        _ => NodeRole::Follower,
    }
}

#[test]
fn the_view_of_the_newest_leader_counts() {
    // Node 1 has not heard that node 2 leads, and has replaced node 3 by node 4.
    let [old, new, _, _] = nodes(|id, addrs: [&str; 4]| {
        let mut told = status(id, role(id), [addrs[0], addrs[1], addrs[2]], [true; 3]);
        if id == 1 {
            told.quorum_ok = false;
        } else {
            (told.term, told.leader) = (Term(6), Some(NodeId(2)));
            told.members[2].node = NodeId(4);
            addrs[3].clone_into(&mut told.members[2].client_addr);
        }
        if id == 2 {
            told.role = NodeRole::Leader;
        }
        told
    });
    for asked in [old, new] {
        let told = run(&asked.addr, &["status", "--json"]).json();
        let cluster = (&told["leader"], &told["term"], &told["quorum_ok"]);
        assert_eq!(cluster, (&json!(2), &json!(6), &json!(true)));
        let members = told["members"].as_array().unwrap();
        let members: Vec<_> = members
            .iter()
            .map(|m| (&m["id"], &m["reachable"]))
            .collect();
        let expected = [1, 2, 4].map(|id| (json!(id), json!(true)));
        assert_eq!(members, expected.each_ref().map(|(id, up)| (id, up)));
    }
}

#[test]
fn failures_that_are_tolerated_are_those_of_the_weaker_set_of_voters() {
    use Suffrage::{Incoming, Learner, Leaving, Voter};
    // How they vote, whom the leader hears, voters, and how many of them may fail.
    for (suffrage, heard, voters, tolerated) in [
        ([Voter; 3], [true; 3], 3, 1),
        ([Voter; 3], [true, true, false], 3, 0),
        ([Voter, Voter, Learner], [true; 3], 2, 0),
        ([Voter, Incoming, Incoming], [true; 3], 3, 0),
        ([Voter, Leaving, Leaving], [true; 3], 1, 0),
    ] {
        let leader = Fake::start(1, move |asked| {
            let mut told = status(1, NodeRole::Leader, ["", "", ""], heard);
            for (member, suffrage) in told.members.iter_mut().zip(suffrage) {
                member.suffrage = suffrage;
            }
            asked.reply(&Reply::Status(told))
        });
        let told = run(&leader.addr, &["status", "--json"]).json();
        let cluster = (&told["voters"], &told["failures_tolerated"]);
        assert_eq!(cluster, (&json!(voters), &json!(tolerated)), "{suffrage:?}");
        let kind = match suffrage[2] {
            Learner => "learner",
            _ => "voter",
        };
        assert_eq!(told["members"][2]["kind"], kind);
    }
}

#[test]
fn a_leader_without_a_quorum_neither_leads_nor_is_healthy() {
    let serve = |quorum_ok, error: &'static str| {
        Fake::start(1, move |asked| {
            let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            told.quorum_ok = quorum_ok;
            told.error = error.into();
            asked.reply(&Reply::Status(told))
        })
    };
    let alone = serve(false, "");
    let told = run(&alone.addr, &["is-leader", "--json"]);
    let expected = json!({"is_leader": false, "id": 1, "leader": 1});
    assert_eq!((told.code, told.json()), (Some(1), expected));
    let told = run(&alone.addr, &["is-healthy", "--node", "--json"]);
    let expected = json!({"healthy": false, "reason": "it hears no quorum"});
    assert_eq!((told.code, told.json()), (Some(1), expected));
    let told = run(&alone.addr, &["status", "--json"]).json();
    assert_eq!(told["quorum_ok"], false);
    let done = run(&alone.addr, &["-t", "100ms", "wait-ready", "--leader"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    // A follower tells who leads; how far others are only a leader knows.
    let follower = Fake::start(2, |asked| {
        let mut told = status(2, NodeRole::Follower, ["", "", ""], [true; 3]);
        told.members[0].match_index = Some(Index(0));
        asked.reply(&Reply::Status(told))
    });
    let told = run(&follower.addr, &["status", "--json"]).json();
    assert_eq!(
        (&told["leader"], &told["quorum_ok"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(told["members"][0]["lag_entries"], Value::Null);
    let troubled = serve(true, "no space");
    run(&troubled.addr, &["is-healthy", "--node"]).silently(1, "");
    let told = run(&troubled.addr, &["status", "--json"]).json();
    assert_eq!(told["members"][0]["error"], "no space");
}

#[test]
fn a_node_is_not_safe_to_stop_while_a_voter_that_is_needed_cannot_be_counted_on() {
    use Suffrage::{Incoming, Learner, Leaving};
    const ALL: u64 = 0;
    type Spoil = fn(&mut Status);
    let asked = |whose: u64, spoil: Spoil, of_all: Spoil| {
        let [_leader, asked, _third] = nodes(move |id, addrs| {
            let mut told = status(id, role(id), addrs, [true; 3]);
            of_all(&mut told);
            if whose == ALL || whose == id {
                spoil(&mut told);
            }
            told
        });
        run(&asked.addr, &["is-safe-to-stop", "--json"])
    };
    let cases: [(u64, Spoil, &str); 9] = [
        (3, |told| told.state = "replaying".into(), "n3 is replaying"),
        (3, |told| told.error = "x".into(), "n3 has trouble: x"),
        (3, |told| told.durable = Index(90), "n3 is 9 entries behind"),
        (
            3,
            |told| told.node = NodeId(9),
            "n3 does not answer: node 9 answers at its address",
        ),
        (1, |told| told.quorum_ok = false, "no leader hears a quorum"),
        (1, |told| told.role = role(2), "no leader hears a quorum"),
        (
            1,
            |told| told.node = NodeId(9),
            "the leader does not answer: node 9",
        ),
        (
            ALL,
            |told| told.members[2].suffrage = Incoming,
            "1 of 2 voters",
        ),
        (
            ALL,
            |told| told.members[2].suffrage = Leaving,
            "1 of 2 voters",
        ),
    ];
    for (whose, spoil, why) in cases {
        let done = asked(whose, spoil, |_| ());
        assert_eq!(done.code, Some(1), "{why}: {done:?}");
        assert!(done.stderr.contains(why), "{why}: {done:?}");
        assert_eq!(done.json()["safe"], false, "{why}");
    }
    let learner = asked(
        3,
        |told| told.state = "replaying".into(),
        |told| told.members[1].suffrage = Learner,
    );
    assert_eq!(
        (learner.code, &learner.json()["safe"]),
        (Some(0), &json!(true))
    );
}

/// It was recovered or restored, and the others go on without it.
#[test]
fn a_member_that_is_of_another_history_now_is_not_counted_on() {
    let of_others = |other: u64| {
        nodes(move |id, addrs| {
            let mut told = status(id, role(id), addrs, [true; 3]);
            (told.snapshot.term, told.snapshot.index) = (Term(1), Index(40));
            if id == other {
                told.epoch = Epoch(1);
            }
            told
        })
    };
    let [leader, second, _third] = of_others(3);
    let done = run(&second.addr, &["is-safe-to-stop"]);
    let why = "n3 does not answer: it is of another cluster now";
    assert!(
        done.code == Some(1) && done.stderr.contains(why),
        "{done:?}"
    );
    let done = run(&leader.addr, &["-t", "500ms", "snapshot", "--node", "n3"]);
    let why = "n3: it is of another cluster now";
    assert!(
        done.code == Some(4) && done.stderr.contains(why),
        "{done:?}"
    );
    let terms = ["leaders", "--value", "--field", "term"];
    run(&second.addr, &terms).silently(0, "1\n2\n");
    let [_leader, second, _third] = of_others(1);
    let caught_up = ["-t", "500ms", "wait-ready", "--caught-up"];
    assert_eq!(run(&second.addr, &caught_up).code, Some(1));
}

#[test]
fn health_is_a_read_through_the_quorum() {
    let (_server, at) = store();
    run(&at, &["is-healthy"]).silently(0, "");
    let lost = Fake::start(1, always(WireError::NoLeader));
    run(&lost.addr, &["-t", SOON, "is-healthy"]).silently(1, "");
}

/// A leader whose next snapshot is as of entry 40, and there once status was asked for so often.
/// A larger one, as of entry 20, is almost done when it is asked for.
fn snapshot_taker(questions: u64) -> Fake {
    let addr: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&addr);
    let (mut taken, mut asked_for) = (false, 0);
    let taker = Fake::start(1, move |asked| {
        if asked.what == What::Snapshot {
            taken = true;
            return asked.reply(&Reply::Written {
                term: Term(5),
                index: Index(40),
                outcome: Outcome::Applied,
            });
        }
        let addr = known.lock().unwrap().clone();
        let mut told = status(1, NodeRole::Leader, [&addr, "", ""], [true, false, false]);
        (told.snapshot.term, told.snapshot.index) = (Term(3), Index(7));
        if taken {
            asked_for += 1;
            told.snapshot_written_bytes = match asked_for {
                ..10 => Some(1_000 + asked_for),
                _ => Some(asked_for),
            };
        }
        if asked_for >= 10 {
            told.snapshot.index = Index(20);
        }
        if asked_for >= questions {
            (told.snapshot.term, told.snapshot.index) = (Term(5), Index(40));
            told.snapshot_bytes = 1_234;
        }
        asked.reply(&Reply::Status(told))
    });
    taker.addr.clone_into(&mut addr.lock().unwrap());
    taker
}

#[test]
fn a_snapshot_is_awaited_as_long_as_it_is_being_written() {
    let taker = snapshot_taker(60);
    // Far less than sixty questions take; each brings more of it.
    let done = run(&taker.addr, &["-t", SOON, "snapshot"]);
    done.silently(0, "n1\t40\t5\t1234\n");
    run(&taker.addr, &["snapshot", "ls"]).silently(0, "n1\t40\t5\t1234\n");
    let done = run(&taker.addr, &["--json", "snapshot", "--node", "1"]);
    let line = json!({"node": "n1", "index": 40, "term": 5, "bytes": 1234});
    assert_eq!(done.json(), line);
    let unknown = run(&taker.addr, &["snapshot", "--node", "n9"]);
    assert_eq!(unknown.code, Some(6), "as with every verb: {unknown:?}");
}

#[test]
fn a_snapshot_waits_for_a_leader_as_every_verb_does() {
    let addr: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&addr);
    let mut questions = 0;
    let late = Fake::start(1, move |asked| {
        if asked.what == What::Snapshot {
            return asked.done(40, Outcome::Applied);
        }
        questions += 1;
        let role = match questions {
            1..=5 => NodeRole::Candidate,
            _ => NodeRole::Leader,
        };
        let addr = known.lock().unwrap().clone();
        let mut told = status(1, role, [&addr, "", ""], [true, false, false]);
        (told.snapshot.term, told.snapshot.index) = (Term(1), Index(40));
        asked.reply(&Reply::Status(told))
    });
    late.addr.clone_into(&mut addr.lock().unwrap());
    let done = run(&late.addr, &["snapshot"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    assert!(done.stdout.starts_with(b"n1\t40\t"), "{done:?}");
}

#[test]
fn a_snapshot_that_does_not_come_is_told_with_its_reason() {
    let addr: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&addr);
    let stuck = Fake::start(1, move |asked| {
        if asked.what == What::Snapshot {
            return asked.done(40, Outcome::Applied);
        }
        let addr = known.lock().unwrap().clone();
        let mut told = status(1, NodeRole::Leader, [&addr, "", ""], [true, false, false]);
        told.error = "the snapshot at 40@1 could not be taken: no space".into();
        asked.reply(&Reply::Status(told))
    });
    stuck.addr.clone_into(&mut addr.lock().unwrap());
    let done = run(&stuck.addr, &["-t", SOON, "snapshot", "--all"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("no space"), "{}", done.stderr);
}
