//! `wait-ready`: for how long, and what it tells.

use serde_json::json;
use wire::client::{NodeRole, Reply};
use wire::types::Index;

use super::fake::Fake;
use super::run::run;
use super::script::status;

#[test]
fn a_node_that_comes_nearer_is_awaited_however_long_that_takes() {
    // Between two questions there are 20 ms, and every second one finds it where it was: in all it takes
    // longer than -t.
    const QUESTIONS: u64 = 75;
    let mut asked_before = 0;
    let node = Fake::start(1, move |asked| {
        asked_before += 1;
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        told.commit = Index(QUESTIONS / 2);
        told.applied = Index(asked_before / 2);
        asked.reply(&Reply::Status(told))
    });
    let caught_up = ["-t", "1s", "--json", "wait-ready", "--caught-up"];
    run(&node.addr, &caught_up).silently(0, "{\"ready\":true}\n");
}

#[test]
fn who_is_not_ready_is_told_why() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Follower, ["", "", ""], [true; 3]);
        told.leader = None;
        asked.reply(&Reply::Status(told))
    });
    run(&node.addr, &["wait-ready"]).silently(0, "");
    let done = run(
        &node.addr,
        &["-t", "100ms", "--json", "wait-ready", "--leader"],
    );
    assert_eq!((done.code, done.json()), (Some(1), json!({"ready": false})));
    let place = format!("  where: {}: it knows no leader", node.addr);
    assert!(done.stderr.contains(&place), "{done:?}");
}
