//! The verbs about who leads.

use std::sync::{Arc, OnceLock};
use std::thread;

use serde_json::json;
use wire::client::{LeaderChange, NodeRole, Reply};
use wire::error::Error as WireError;
use wire::leadership::{Cause, HandOver};
use wire::types::{NodeId, Term};

use super::fake::{Act, Asked, Fake, What};
use super::run::{SOON, run};
use super::script::status;

/// Node 1, which leads, of three; what it says to a transfer.
fn leader(answer: impl Fn(Option<NodeId>) -> Reply<'static> + Send + 'static) -> Fake {
    let node = Fake::start(1, move |asked| match asked.what {
        What::Status => {
            let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            asked.reply(&Reply::Status(told))
        }
        What::TransferLeader(to) => asked.reply(&answer(to)),
        _ => Act::Close,
    });
    node.name_leader(&node, 5);
    node
}

/// What node 1 does about a question, by how often it was asked.
type Deed = fn(&Asked, usize, &[Fake; 2]) -> Act;

/// Nodes 1, which leads at first, and 2.
fn two(deed: Deed) -> Arc<OnceLock<[Fake; 2]>> {
    let nodes: Arc<OnceLock<[Fake; 2]>> = Arc::default();
    let known = Arc::clone(&nodes);
    let mut times = 0;
    let one = Fake::start(1, move |asked| match asked.what {
        What::Status => Act::Close,
        _ => {
            times += 1;
            deed(asked, times, known.wait())
        }
    });
    let two = Fake::start(2, |asked| match asked.what {
        What::Status => {
            let told = status(2, NodeRole::Leader, ["", "", ""], [true; 3]);
            asked.reply(&Reply::Status(told))
        }
        What::TransferLeader(_) => asked.reply(&ended(true, 1)),
        _ => Act::Close,
    });
    one.name_leader(&one, 5);
    two.name_leader(&one, 5);
    assert!(nodes.set([one, two]).is_ok());
    nodes
}

/// Node 2 leads from now on.
fn takes_over([one, two]: &[Fake; 2]) {
    one.name_leader(two, 6);
    two.name_leader(two, 6);
}

/// Who was to lead, in all such questions.
fn wishes(node: &Fake) -> impl Iterator<Item = Option<NodeId>> {
    let asked = node.asked().into_iter();
    asked.filter_map(|asked| match asked.what {
        What::TransferLeader(to) => Some(to),
        _ => None,
    })
}

/// Who was to lead, in the newest such question.
fn wished(node: &Fake) -> Option<NodeId> {
    wishes(node).last().expect("a transfer was asked for")
}

fn ended(done: bool, leader: u64) -> Reply<'static> {
    let leader = NodeId(leader);
    let term = Term(6);
    Reply::LeaderTransferred { done, term, leader }
}

#[test]
fn leadership_goes_to_the_member_of_a_name_or_an_id() {
    let node = leader(|to| ended(true, to.map_or(3, |to| to.0)));
    run(&node.addr, &["transfer-leader", "n2"]).silently(0, "");
    assert_eq!(wished(&node), Some(NodeId(2)));
    let done = run(&node.addr, &["--json", "transfer-leader", "2"]);
    let expected = json!({"done": true, "leader": 2, "name": "n2", "term": 6});
    assert_eq!((done.code, done.json()), (Some(0), expected));
    let done = run(&node.addr, &["--json", "transfer-leader"]);
    assert_eq!(done.json()["leader"], 3);
    assert_eq!(wished(&node), None);
}

/// Without a name whoever leads when that is asked first is to lead no more: it is not for the next
/// leader to hand over, too.
#[test]
fn leadership_is_handed_over_once_however_often_that_is_asked_for() {
    let lost: Deed = |_, _, nodes| {
        takes_over(nodes);
        Act::Close
    };
    let not_reached: Deed = |asked, times, nodes| match times {
        1 => Act::Close,
        _ => {
            takes_over(nodes);
            asked.reply(&ended(true, 2))
        }
    };
    let elected_again: Deed = |asked, times, nodes| match times {
        1 => {
            for node in nodes {
                node.name_leader(&nodes[0], 6);
            }
            Act::Close
        }
        _ => {
            takes_over(nodes);
            asked.reply(&ended(true, 2))
        }
    };
    let leads_no_more: Deed = |asked, _, nodes| {
        takes_over(nodes);
        let leader = nodes[1].hint();
        asked.error(WireError::NotLeader { leader })
    };
    let nobody_leads_yet: Deed = |asked, _, nodes| {
        nodes[1].greet(|_, welcome| {
            welcome.leader = None;
            welcome.term = Term(6);
        });
        asked.error(WireError::NoLeader)
    };
    for (deed, questions) in [
        (lost, 1),
        (not_reached, 2),
        (elected_again, 2),
        (leads_no_more, 1),
    ] {
        let nodes = two(deed);
        let [one, two] = nodes.wait();
        let both = format!("{},{}", one.addr, two.addr);
        let done = run(&both, &["--json", "transfer-leader"]);
        let expected = json!({"done": true, "leader": 2, "name": "n2", "term": 6});
        assert_eq!((done.code, done.json()), (Some(0), expected));
        assert_eq!(wishes(one).count(), questions);
        assert_eq!(wishes(two).count(), 0);
    }
    let nodes = two(nobody_leads_yet);
    let [one, two] = nodes.wait();
    let both = format!("{},{}", one.addr, two.addr);
    let done = run(&both, &["-t", SOON, "transfer-leader"]);
    assert_ne!(done.code, Some(0), "{done:?}");
    assert_eq!(wishes(two).count(), 0);
}

/// Who says in its hello that it does not lead is asked for nothing, and met again.
#[test]
fn leadership_is_handed_over_by_whoever_comes_to_lead() {
    let node = leader(|_| ended(true, 2));
    node.greet(|_, welcome| welcome.leader = None);
    let done = thread::scope(|scope| {
        let done = scope.spawn(|| run(&node.addr, &["-t", "20s", "transfer-leader"]));
        // Its status was asked for on the first connection.
        while node.hellos().len() < 3 {
            thread::yield_now();
        }
        assert_eq!(wishes(&node).count(), 0);
        node.name_leader(&node, 5);
        done.join().unwrap()
    });
    done.silently(0, "");
    assert_eq!(wishes(&node).count(), 1);
}

#[test]
fn a_target_that_does_not_take_over_is_a_no() {
    let node = leader(|_| ended(false, 1));
    let done = run(&node.addr, &["transfer-leader", "n3"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let what = "raftctl: transfer-leader n3 failed: n3 did not take over in time, n1 leads\n";
    assert!(done.stderr.starts_with(what), "{}", done.stderr);
    let done = run(&node.addr, &["transfer-leader"]);
    assert!(done.stderr.contains("n1 leads on"), "{}", done.stderr);
}

#[test]
fn what_would_not_work_is_refused_with_reason_and_advice() {
    let node = leader(|_| {
        Reply::Error(WireError::Refused {
            reason: "n2 is 9 entries behind".into(),
            advice: "wait".into(),
        })
    });
    let done = run(&node.addr, &["transfer-leader", "n2"]);
    assert_eq!(done.code, Some(6), "{done:?}");
    let text = format!(
        "raftctl: transfer-leader n2 was refused: n2 is 9 entries behind\n  where: {}\n  try: wait\n",
        node.addr
    );
    assert_eq!(done.stderr, text);
    let done = run(&node.addr, &["transfer-leader", "n9"]);
    let text = "raftctl: transfer-leader n9 failed: no member is called n9\n  \
                try: raftctl peers lists the members\n";
    assert_eq!((done.code, done.stderr.as_str()), (Some(6), text));
}

#[test]
fn the_leaders_of_the_past_are_listed_with_reasons() {
    let node = Fake::start(1, |asked| match asked.what {
        What::Status => {
            let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            asked.reply(&Reply::Status(told))
        }
        What::Leaders => {
            let change = |term, leader, cause| LeaderChange {
                term: Term(term),
                leader: NodeId(leader),
                wall_ms: 1_700_000_000_000 + term,
                without_ms: 12 * term,
                cause,
            };
            asked.reply(&Reply::LeaderChanges(vec![
                change(1, 9, Cause::Start),
                change(2, 1, Cause::HandedOver(HandOver::Stopping)),
            ]))
        }
        _ => Act::Close,
    });
    let text = "1\t9\t-\t2023-11-14T22:13:20.001Z\tstart\t12\n\
                2\t1\tn1\t2023-11-14T22:13:20.002Z\tstopping\t24\n";
    run(&node.addr, &["leaders"]).silently(0, text);
    let done = run(&node.addr, &["--json", "leaders"]);
    let last = done.stdout.split(|byte| *byte == b'\n').nth(1).unwrap();
    let last: serde_json::Value = serde_json::from_slice(last).unwrap();
    let expected = json!({
        "term": 2, "leader": 1, "name": "n1", "at_ms": 1_700_000_000_002_u64,
        "reason": "stopping", "without_ms": 24, "told_by": 1,
    });
    assert_eq!(last, expected);
}
