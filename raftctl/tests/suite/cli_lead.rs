//! The verbs about who leads.

use serde_json::json;
use wire::client::{LeaderChange, NodeRole, Reply};
use wire::error::Error as WireError;
use wire::leadership::{Cause, HandOver};
use wire::types::{NodeId, Term};

use super::fake::{Act, Fake, What};
use super::run::run;
use super::script::status;

/// Node 1, which leads, of three; what it says to a transfer.
fn leader(answer: impl Fn(Option<NodeId>) -> Reply<'static> + Send + 'static) -> Fake {
    Fake::start(1, move |asked| match asked.what {
        What::Status => {
            let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            asked.reply(&Reply::Status(told))
        }
        What::TransferLeader(to) => asked.reply(&answer(to)),
        _ => Act::Close,
    })
}

/// Who was to lead, in the newest such question.
fn wished(node: &Fake) -> Option<NodeId> {
    let asked = node.asked().into_iter().rev();
    let mut wishes = asked.filter_map(|asked| match asked.what {
        What::TransferLeader(to) => Some(to),
        _ => None,
    });
    wishes.next().expect("a transfer was asked for")
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
