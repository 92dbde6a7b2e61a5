//! How a static cluster is formed, and who is not let in (rules D1).

use raft::RoleName;
use wire::client::NodeRole;
use wire::error::Error;
use wire::hello::{Hello, PeerIdentity, Role, VERSION_MAX, VERSION_MIN, Welcome};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

use super::node_cluster::{get, put, session, value, written};
use super::node_harness::{CLUSTER, Cluster, EPOCH, Options, Session, ms};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn peer_hello(identity: PeerIdentity) -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        cluster: Some(CLUSTER),
        epoch: Some(EPOCH),
        group: 0,
        role: Role::Peer { identity, to: ONE },
    }
}

fn identity(node: NodeId, incarnation: Incarnation) -> PeerIdentity {
    PeerIdentity {
        node,
        incarnation,
        life: 1,
        name: format!("n{node}"),
        client_addr: String::new(),
        virgin: true,
        formed: Vec::new(),
    }
}

/// All members, up, of which none reaches another by itself.
fn apart() -> Cluster {
    let mut cluster = Cluster::all_down(Options::default());
    cluster.cut_all();
    for id in cluster.ids() {
        cluster.start(id);
    }
    cluster
}

/// Says hello and takes the answer.
fn greet(cluster: &mut Cluster, from: NodeId, to: NodeId) {
    let answer = cluster.greet(from, to).unwrap();
    cluster.welcome(from, to, &answer).unwrap();
}

#[test]
fn a_quorum_of_new_nodes_is_not_enough_to_form() {
    let mut cluster = Cluster::all_down(Options::default());
    cluster.start(ONE);
    cluster.start(TWO);
    cluster.run(ms(3_000));
    for id in [ONE, TWO] {
        let status = cluster.status(id);
        assert_eq!((status.state.as_str(), status.term), ("forming", Term(0)));
        assert_eq!(status.leader, None);
        assert!(cluster.durable_log(id).is_empty());
    }
    cluster.start(THREE);
    let leader = cluster.elect();
    cluster.run(ms(500));
    assert_eq!(cluster.status(leader).state, "serving");
    for id in cluster.ids() {
        assert!(
            cluster
                .events(id)
                .iter()
                .any(|event| event.starts_with("cluster formed"))
        );
    }
}

#[test]
fn a_member_with_a_past_is_no_reason_to_form() {
    let mut cluster = apart();
    for to in [TWO, THREE, TWO] {
        greet(&mut cluster, ONE, to);
    }
    let mut answer = cluster.greet(ONE, THREE).unwrap();
    answer.welcome.identity.virgin = false;
    cluster.welcome(ONE, THREE, &answer).unwrap();
    cluster.run(ms(100));
    assert_eq!(cluster.formed(ONE), []);
    greet(&mut cluster, ONE, THREE);
    cluster.run(ms(100));
    let expected = cluster.ids().into_iter();
    let expected: Vec<_> = expected.map(|id| (id, cluster.incarnation(id))).collect();
    assert_eq!(cluster.formed(ONE), expected);
}

/// With the first one the others may have formed the cluster since.
#[test]
fn a_member_with_another_directory_than_before_is_reason_to_ask_the_others_again() {
    let mut cluster = apart();
    for to in [TWO, THREE, THREE] {
        greet(&mut cluster, ONE, to);
    }
    cluster.crash(TWO);
    cluster.wipe(TWO);
    cluster.start(TWO);
    greet(&mut cluster, ONE, TWO);
    cluster.run(ms(100));
    assert_eq!(cluster.formed(ONE), []);
}

/// It would forget what it told.
#[test]
fn who_formed_the_cluster_is_told_once_it_is_durable() {
    let mut cluster = apart();
    cluster.hang_disk(ONE, true);
    for to in [TWO, THREE, TWO, THREE] {
        greet(&mut cluster, ONE, to);
    }
    let told = |cluster: &Cluster| match cluster.node(ONE).hello_to(TWO).0.role {
        Role::Peer { identity, .. } => identity.formed,
        Role::Client => panic!("a client's hello"),
    };
    assert_eq!(told(&cluster), []);
    cluster.hang_disk(ONE, false);
    cluster.run(ms(100));
    assert_eq!(told(&cluster).len(), 3);
}

#[test]
fn a_formed_member_lets_in_the_incarnation_that_it_knows() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    let write = session.next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
    // A node that lost its record, though not its directory, is told again by the others.
    let follower = cluster.other_than(leader);
    cluster.crash(follower);
    cluster.forget_formation(follower);
    cluster.start(follower);
    cluster.run(ms(1_000));
    assert_eq!(cluster.status(follower).state, "serving");
    assert_eq!(
        cluster.status(follower).applied,
        cluster.status(leader).applied
    );
}

#[test]
fn a_new_directory_under_a_known_id_never_takes_part() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    let mut session = session(&cluster, 1);
    let wiped = cluster.other_than(leader);
    cluster.crash(wiped);
    cluster.wipe(wiped);
    cluster.start(wiped);
    let client = cluster.connect(leader);
    let write = session.next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
    cluster.run(ms(2_000));
    let status = cluster.status(wiped);
    assert_eq!((status.state.as_str(), status.term), ("forming", Term(0)));
    assert!(cluster.durable_log(wiped).is_empty());
    let refused = |id| {
        cluster
            .events(id)
            .iter()
            .filter(|e| e.contains("replace-peer"))
            .count()
    };
    assert!(
        refused(leader) >= 1 && refused(leader) <= 2,
        "said, and not flooded"
    );
    // Not even when it would make the quorum.
    let last = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader && *id != wiped)
        .unwrap();
    cluster.crash(leader);
    cluster.run(ms(2_000));
    assert_eq!(cluster.leader(), None);
    assert_ne!(cluster.status(last).role, NodeRole::Leader);
    cluster.start(leader);
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    assert_eq!(
        value(cluster.ask(client, 1, get(b"k"))),
        Some(b"v".to_vec())
    );
}

#[test]
fn a_member_wiped_before_the_others_met_it_is_taken_as_it_is_now() {
    let mut cluster = Cluster::all_down(Options::default());
    cluster.start(ONE);
    cluster.start(TWO);
    cluster.run(ms(100));
    cluster.crash(TWO);
    cluster.wipe(TWO);
    cluster.start(TWO);
    cluster.start(THREE);
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    let mut session = session(&cluster, 1);
    let write = session.next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
    cluster.run(ms(100));
    assert_eq!(cluster.status(TWO).applied, cluster.status(leader).applied);
}

#[test]
fn what_was_new_when_a_wiped_member_still_had_its_past_is_asked_again() {
    let mut cluster = Cluster::all_down(Options::default());
    cluster.start(ONE);
    cluster.start(THREE);
    cluster.run(ms(100));
    // ONE knows THREE as new, and never meets the first TWO, with which THREE forms.
    cluster.cut(ONE, TWO);
    cluster.start(TWO);
    while cluster.formed(THREE).is_empty() {
        cluster.run(ms(1));
    }
    cluster.cut(ONE, THREE);
    cluster.crash(TWO);
    cluster.start(TWO);
    let leader = cluster.elect();
    assert_eq!(cluster.formed(ONE), []);
    let mut session = session(&cluster, 1);
    let client = cluster.connect(leader);
    let write = session.next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
    // TWO alone loses its disk. All that ONE hears now is a new TWO.
    cluster.crash(TWO);
    cluster.wipe(TWO);
    cluster.cut(TWO, THREE);
    cluster.uncut(ONE, TWO);
    cluster.start(TWO);
    cluster.run(ms(2_000));
    for id in [ONE, TWO] {
        assert_eq!(cluster.formed(id), [], "node {id}");
        assert!(cluster.durable_log(id).is_empty());
    }
    // THREE tells what it formed: what it acknowledged with TWO is there, and TWO is refused.
    cluster.heal();
    let leader = cluster.elect();
    assert_eq!(cluster.formed(ONE), cluster.formed(THREE));
    let client = cluster.connect(leader);
    assert_eq!(
        value(cluster.ask(client, 1, get(b"k"))),
        Some(b"v".to_vec())
    );
    cluster.run(ms(1_000));
    assert_eq!(cluster.formed(TWO), []);
    assert_eq!(cluster.status(TWO).state, "forming");
}

#[test]
fn a_welcome_from_before_the_incarnations_were_known_proves_nothing() {
    let mut cluster = apart();
    // THREE says that it is new, which reaches ONE late, and forms with the first TWO.
    greet(&mut cluster, THREE, ONE);
    let early = cluster.greet(ONE, THREE).unwrap();
    for to in [TWO, ONE, TWO] {
        greet(&mut cluster, THREE, to);
    }
    cluster.run(ms(10));
    assert!(!cluster.formed(THREE).is_empty(), "all were new");
    cluster.crash(TWO);
    cluster.wipe(TWO);
    cluster.start(TWO);
    for _ in 0..2 {
        greet(&mut cluster, TWO, ONE);
        greet(&mut cluster, ONE, TWO);
    }
    cluster.welcome(ONE, THREE, &early).unwrap();
    cluster.run(ms(100));
    assert_eq!(cluster.formed(ONE), []);
    // A later one tells what THREE formed.
    greet(&mut cluster, ONE, THREE);
    cluster.run(ms(100));
    assert_eq!(cluster.formed(ONE), cluster.formed(THREE));
}

#[test]
fn a_member_that_missed_the_others_forming_learns_of_it_over_open_links() {
    let mut cluster = Cluster::all_down(Options::default());
    cluster.cut(ONE, TWO);
    for id in cluster.ids() {
        cluster.start(id);
    }
    // Only THREE meets all; the two that do not meet learn it from THREE.
    cluster.elect();
    cluster.run(ms(1_000));
    for id in cluster.ids() {
        assert_eq!(cluster.formed(id), cluster.formed(THREE), "node {id}");
    }
}

#[test]
fn a_fresh_cluster_forms_within_milliseconds_of_its_last_members_start() {
    for pauses_ms in [[0, 0], [0, 7], [50, 3_000], [5, 60_000]] {
        let mut cluster = Cluster::all_down(Options::default());
        for (id, pause_ms) in [ONE, TWO, THREE]
            .into_iter()
            .zip([0].into_iter().chain(pauses_ms))
        {
            cluster.run(ms(pause_ms));
            cluster.start(id);
        }
        let all_formed = |cluster: &Cluster| {
            let mut ids = cluster.ids().into_iter();
            ids.all(|id| cluster.status(id).state != "forming")
        };
        cluster.run_until("cluster", ms(5), all_formed);
        for id in cluster.ids() {
            assert_eq!(cluster.formed(id), cluster.formed(ONE));
            let mut events = cluster.events(id).iter();
            let noise = events.find(|event| event.contains("refused"));
            assert_eq!(noise, None, "node {id}");
        }
    }
}

#[test]
fn hellos_that_mean_something_else_are_refused_with_the_reason() {
    let mut cluster = Cluster::serving(Options::default());
    let known = cluster.incarnation(TWO);
    let good = peer_hello(identity(TWO, known));
    assert!(cluster.check_hello(ONE, &good).is_ok());
    let refused = |cluster: &mut Cluster, change: &dyn Fn(&mut Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        cluster.check_hello(ONE, &hello).expect_err("a refusal")
    };
    let c = &mut cluster;
    assert!(matches!(
        refused(c, &|hello| hello.cluster = Some(ClusterId(1))),
        Error::WrongCluster { .. }
    ));
    assert_eq!(
        refused(c, &|hello| hello.epoch = Some(Epoch(1))),
        Error::WrongEpoch
    );
    assert!(matches!(
        refused(c, &|hello| hello.group = 1),
        Error::WrongNode { .. }
    ));
    let role = |identity: PeerIdentity, to| {
        move |hello: &mut Hello| {
            hello.role = Role::Peer {
                identity: identity.clone(),
                to,
            };
        }
    };
    // Another node was meant; a caller that is no member, or this very node.
    for (node, to) in [(TWO, THREE), (NodeId(9), ONE), (ONE, ONE)] {
        let error = refused(c, &role(identity(node, known), to));
        assert!(matches!(error, Error::WrongNode { .. }), "{error:?}");
    }
    // Two data directories may have been exchanged: it says what to do then.
    let error = refused(c, &role(identity(TWO, known), THREE));
    assert!(matches!(&error, Error::WrongNode { reason } if reason.contains("update-peer 1")));
    let error = refused(c, &role(identity(TWO, Incarnation(known.0 ^ 2)), ONE));
    assert!(matches!(&error, Error::WrongIncarnation { reason } if reason.contains("replace")));
    // The caller's record knows this node by another directory: it is this node that is wrong.
    let mut other = identity(TWO, known);
    other.formed = vec![(ONE, Incarnation(2)), (TWO, known), (THREE, Incarnation(3))];
    let error = refused(c, &role(other, ONE));
    assert!(matches!(&error, Error::WrongNode { reason } if reason.contains("replace")));
    // The others may have admitted somebody of whom this node has not heard, who was told then who
    // formed the cluster.
    let mut newer = identity(NodeId(9), known);
    newer.formed = c.formed(ONE).to_vec();
    assert!(c.check_hello(ONE, &peer_hello(newer)).is_ok());
    let newer = |hello: &mut Hello| {
        (hello.version_min, hello.version_max) = (VERSION_MAX + 1, VERSION_MAX + 2);
    };
    assert!(matches!(
        refused(c, &newer),
        Error::UnsupportedVersion { .. }
    ));
}

#[test]
fn welcomes_that_mean_something_else_are_refused_with_the_reason() {
    let mut cluster = apart();
    let mut refused = |change: &dyn Fn(&mut Welcome)| {
        let mut answer = cluster.greet(ONE, TWO).unwrap();
        change(&mut answer.welcome);
        let verdict = cluster.welcome(ONE, TWO, &answer);
        verdict.expect_err("a refusal")
    };
    let error = refused(&|welcome| welcome.cluster = ClusterId(1));
    assert!(matches!(error, Error::WrongCluster { .. }), "{error:?}");
    let error = refused(&|welcome| welcome.epoch = Epoch(1));
    assert_eq!(error, Error::WrongEpoch);
    let error = refused(&|welcome| welcome.identity.node = THREE);
    assert!(matches!(error, Error::WrongNode { .. }), "{error:?}");
    let error = refused(&|welcome| welcome.version = VERSION_MAX + 1);
    assert!(
        matches!(error, Error::UnsupportedVersion { .. }),
        "{error:?}"
    );
}

#[test]
fn a_client_is_told_where_it_is() {
    let mut cluster = Cluster::serving(Options::default());
    let leader = cluster.elect();
    cluster.run(ms(100));
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX + 3,
        features: u64::MAX,
        cluster: None,
        epoch: None,
        group: 0,
        role: Role::Client,
    };
    let welcome = cluster
        .check_hello(cluster.other_than(leader), &hello)
        .unwrap();
    assert_eq!((welcome.version, welcome.features), (VERSION_MAX, 0));
    assert_eq!((welcome.cluster, welcome.epoch), (CLUSTER, EPOCH));
    assert!(welcome.applied > Index(0) && welcome.term > Term(0));
    let hint = welcome.leader.expect("the leader is known");
    assert_eq!(
        (hint.node, hint.client_addr),
        (leader, format!("client-{leader}:1"))
    );
    // What it tells is enough to open a session.
    let mut session = Session::new(welcome.applied, 5);
    let client = cluster.connect(leader);
    let write = session.next(put(b"k", b"v"));
    written(cluster.ask(client, 1, write));
}

#[test]
fn a_client_that_is_refused_is_no_node() {
    let mut cluster = Cluster::serving(Options::default());
    let stranger = Hello {
        cluster: Some(ClusterId(7)),
        role: Role::Client,
        ..peer_hello(identity(TWO, Incarnation(1)))
    };
    cluster.check_hello(ONE, &stranger).unwrap_err();
    cluster.run(ms(100));
    let events = cluster.events(ONE);
    let told = events.iter().find(|event| event.contains("refused"));
    let told = told.expect("it is told");
    assert!(told.starts_with("client refused reason="), "{told}");
}

#[test]
fn refusals_do_not_flood_the_log() {
    let mut cluster = Cluster::serving(Options::default());
    let stranger = peer_hello(identity(TWO, Incarnation(1)));
    for _ in 0..1_000 {
        cluster.check_hello(ONE, &stranger).unwrap_err();
    }
    cluster.run(ms(100));
    let lines = cluster
        .events(ONE)
        .iter()
        .filter(|event| event.contains("refused"))
        .count();
    assert_eq!(lines, 1);
}

/// It may have promised its vote, though its log is empty.
#[test]
fn a_member_that_voted_is_not_new() {
    let mut cluster = Cluster::new(Options::default());
    cluster.run_until("an election", ms(2_000), |cluster| {
        let mut ids = cluster.ids().into_iter();
        ids.any(|id| cluster.node(id).raft().role() == RoleName::Leader)
    });
    let has_voted = |cluster: &Cluster, id: NodeId| {
        let raft = cluster.node(id).raft();
        raft.term() > Term(0) && raft.last().index == Index(0)
    };
    let mut ids = cluster.ids().into_iter();
    let voter = ids.find(|id| has_voted(&cluster, *id)).unwrap();
    cluster.crash(voter);
    cluster.forget_formation(voter);
    cluster.start(voter);
    assert!(has_voted(&cluster, voter));
    let (hello, _) = cluster.node(voter).hello_to(cluster.other_than(voter));
    let Role::Peer { identity, .. } = hello.role else {
        panic!("a client's hello");
    };
    assert!(!identity.virgin && identity.formed.is_empty());
}

/// Else it would stand for one of them when they are counted.
#[test]
fn a_stranger_is_no_member_of_a_cluster_that_is_not_formed() {
    let mut cluster = apart();
    let stranger = peer_hello(identity(NodeId(9), Incarnation(9)));
    let refused = cluster.check_hello(ONE, &stranger).unwrap_err();
    assert!(matches!(refused, Error::WrongNode { .. }), "{refused:?}");
}
