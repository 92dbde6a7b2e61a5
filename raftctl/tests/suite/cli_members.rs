//! The verbs that change who is a member: what is said when nobody tells what became of it.

use std::thread;

use serde_json::{Value, json};
use wire::client::{Member, MembersChanged, NodeRole, Reply, Status};
use wire::error::Error as WireError;
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::types::{Index, NodeId};

use super::fake::{Act, Asked, Fake, What};
use super::run::{Done, SOON, run};
use super::script::status;

/// What becomes of the first change, or hand-over, that is asked for.
#[derive(Clone, Debug)]
enum First {
    /// It left, and its connection ends.
    Lost,
    Answered(WireError),
    /// Something else was answered.
    Odd,
}

fn told(asked: &Asked) -> Act {
    let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
    asked.reply(&Reply::Status(told))
}

/// A leader whose later answers are all the same.
fn forgetful(first: First, later: WireError) -> Fake {
    let mut first = Some(first);
    let leader = Fake::start(1, move |asked| match asked.what {
        What::Status => told(asked),
        _ => match first.take() {
            Some(First::Lost) => Act::Close,
            Some(First::Answered(error)) => asked.error(error),
            Some(First::Odd) => asked.reply(&Reply::Missing { index: Index(1) }),
            None => asked.error(later.clone()),
        },
    });
    leader.name_leader(&leader, 5);
    leader
}

/// Exit code and class, by what is told to a program.
fn verdict(done: &Done) -> (i64, String) {
    assert_eq!(done.stdout, b"", "{done:?}");
    let object = done.stderr.lines().next().unwrap_or_default();
    let object: Value = serde_json::from_str(object).unwrap();
    let error = &object["error"];
    let code = error["code"].as_i64().unwrap();
    assert_eq!(done.code.map(i64::from), Some(code), "{done:?}");
    (code, error["class"].as_str().unwrap().to_owned())
}

#[test]
fn what_left_without_a_verdict_is_unknown_whatever_is_said_later() {
    let refused = || WireError::Refused {
        reason: "n4 is there already".into(),
        advice: String::new(),
    };
    let unknown = (5, "unknown");
    let not_applied = (4, "not-applied");
    let lost = || First::Lost;
    let answered = First::Answered;
    let cases = [
        (lost(), WireError::NoLeader, unknown),
        (lost(), refused(), unknown),
        (First::Odd, WireError::NoLeader, unknown),
        (
            answered(WireError::OutcomeUnknown),
            WireError::NoLeader,
            unknown,
        ),
        (
            answered(WireError::NoLeader),
            WireError::NoLeader,
            not_applied,
        ),
        (answered(WireError::NoLeader), refused(), (6, "final")),
    ];
    let verbs = [
        "add-peer n4 127.0.0.1:7004 --learner",
        "remove-peer n3 --yes",
        "transfer-leader n2",
        "transfer-leader",
    ];
    thread::scope(|scope| {
        for ((first, later, expected), verb) in cases
            .iter()
            .flat_map(|case| verbs.iter().map(move |verb| (case, verb)))
        {
            scope.spawn(move || {
                let leader = forgetful(first.clone(), later.clone());
                let words = ["-t", SOON, "--json"].into_iter().chain(verb.split(' '));
                let done = run(&leader.addr, &words.collect::<Vec<_>>());
                let (code, class) = verdict(&done);
                let case = format!("{verb}, {first:?}, {later:?}: {}", done.stderr);
                assert_eq!((code, class.as_str()), *expected, "{case}");
                assert_eq!(done.stderr.contains("had no effect"), code == 4, "{case}");
            });
        }
    });
}

#[test]
fn what_would_change_nothing_has_no_unknown_outcome() {
    let leader = forgetful(First::Lost, WireError::NoLeader);
    let words = ["-t", SOON, "--json", "promote-peer", "n3", "--dry-run"];
    assert_eq!(verdict(&run(&leader.addr, &words)).0, 4);
}

#[test]
fn nothing_fails_any_more_once_a_node_is_added() {
    let ids: Vec<_> = (1..=4).map(|id| (NodeId(id), String::new())).collect();
    let members = Membership::initial(&ids, &[]);
    let changed = MembersChanged {
        index: Index(101),
        id: NodeId(4),
        before: members.clone(),
        after: members,
    };
    let mut is_done = false;
    let leader = Fake::start(1, move |asked| match asked.what {
        What::Status if is_done => Act::Nothing,
        What::Status => told(asked),
        _ => {
            is_done = true;
            asked.reply(&Reply::MembersChanged(changed.clone()))
        }
    });
    let words = ["-t", SOON, "add-peer", "n4", "127.0.0.1:7004", "--learner"];
    let done = run(&leader.addr, &words);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.starts_with(b"raftd --join "), "{done:?}");
}

/// What comes of the learner by itself is what the change is for.
#[test]
fn the_plan_of_an_addition_goes_on_to_the_vote() {
    let plan = |wish: Option<Wish>, verb: &[&str]| {
        let mut changed = with_learner("h:1");
        changed.after.members[3].wish = wish;
        let leader = granting(three(["", "", ""]), changed);
        let done = run(&leader.addr, &[verb, &["--dry-run"]].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        String::from_utf8(done.stdout).unwrap()
    };
    let wish = |replaces| {
        let until_wall_ms = 1;
        Some(Wish {
            until_wall_ms,
            replaces,
        })
    };
    let learner = "before\t3\t1\t1::voter 2::voter 3::voter\n\
                   during\t3\t1\t1::voter 2::voter 3::voter 4:n4:learner\n";
    let add = ["add-peer", "n4", "h:1"];
    let vote = "during\t4\t1\t1::voter 2::voter 3::voter 4:n4:incoming\n\
                after\t4\t1\t1::voter 2::voter 3::voter 4:n4:voter\n";
    assert_eq!(plan(wish(None), &add), format!("{learner}{vote}"));
    let instead = "during\t3\t1\t1::leaving 2::voter 3::voter 4:n4:incoming\n\
                   after\t3\t1\t2::voter 3::voter 4:n4:voter\n";
    let replace = ["replace-peer", "n1", "n4", "h:1"];
    let told = plan(wish(Some(NodeId(1))), &replace);
    assert_eq!(told, format!("{learner}{instead}"));
    let told = plan(None, &[&add[..], &["--learner"]].concat());
    assert_eq!(told, learner.replace("during", "after"));
}

/// What a member's address must be is what raftd takes: others are told to use it.
#[test]
fn an_address_that_leads_nowhere_is_no_address_of_a_member() {
    for addr in [
        "::1:7401",
        "http://h:7401",
        "0.0.0.0:7401",
        "[::]:7401",
        "h:0",
        "h",
    ] {
        for verb in [
            &["add-peer", "n4", addr][..],
            &["replace-peer", "n3", "n4", addr, "--yes"],
            &["update-peer", "n3", "--peer-addr", addr],
            &[
                "snapshot",
                "restore",
                "/x",
                "--data-dir=/y",
                "--peer-addr",
                addr,
            ],
        ] {
            let done = run("127.0.0.1:1", verb);
            assert_eq!(done.code, Some(2), "{verb:?}: {done:?}");
            assert!(done.stderr.contains(addr), "{verb:?}: {done:?}");
        }
    }
}

/// Members tell their names themselves: a line that was copied from one configuration to the next may
/// have two of them tell the same.
#[test]
fn a_name_that_two_members_tell_means_none_of_them() {
    let leader = Fake::start(1, |asked| match asked.what {
        What::Status => {
            let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            told.members[0].name = "n2".into();
            asked.reply(&Reply::Status(told))
        }
        _ => asked.error(WireError::NoLeader),
    });
    for verb in [
        &["remove-peer", "n2", "--yes"][..],
        &["remove-peer", "n2", "--dry-run"],
        &["demote-peer", "n2", "--yes"],
        &["replace-peer", "n2", "n4", "h:1", "--yes"],
        &["update-peer", "n2", "--name", "x"],
        &["transfer-leader", "n2"],
    ] {
        let done = run(&leader.addr, &[&["-t", SOON], verb].concat());
        assert_eq!(done.code, Some(6), "{verb:?}: {done:?}");
        let told = done.stderr.contains("members 1 and 2 are both called n2");
        assert!(told, "{verb:?}: {done:?}");
        assert!(done.stderr.contains("by its id"), "{verb:?}: {done:?}");
    }
    let done = run(&leader.addr, &["-t", SOON, "remove-peer", "2", "--yes"]);
    assert_eq!(done.code, Some(4), "it is asked for: {done:?}");
}

/// A member that was never heard has no name yet, and a variable of a script may be empty.
#[test]
fn an_empty_name_means_no_member() {
    let leader = Fake::start(1, |asked| match asked.what {
        What::Status => {
            let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            told.members[2].name.clear();
            asked.reply(&Reply::Status(told))
        }
        _ => asked.error(WireError::NoLeader),
    });
    for verb in [
        &["remove-peer", "", "--yes"][..],
        &["demote-peer", "", "--yes"],
        &["promote-peer", ""],
        &["replace-peer", "", "n4", "h:1", "--yes"],
        &["update-peer", "", "--name", "x"],
        &["transfer-leader", ""],
        &["snapshot", "--node", ""],
    ] {
        let done = run(&leader.addr, &[&["-t", SOON], verb].concat());
        assert_eq!(done.code, Some(2), "{verb:?}: {done:?}");
    }
    assert!(leader.asked().is_empty(), "{:?}", leader.asked());
}

/// Three voters before, and after them a learner at this address as well.
fn with_learner(peer_addr: &str) -> MembersChanged {
    let ids: Vec<_> = (1..=3).map(|id| (NodeId(id), String::new())).collect();
    let before = Membership::initial(&ids, &[]);
    let mut after = before.clone();
    after.newest = NodeId(4);
    after.members.push(MemberRecord {
        id: NodeId(4),
        name: "n4".into(),
        peer_addr: peer_addr.into(),
        incarnation: None,
        suffrage: Suffrage::Learner,
        wish: None,
    });
    MembersChanged {
        index: Index(101),
        id: NodeId(4),
        before,
        after,
    }
}

/// The same, of one that becomes a voter by itself.
fn with_newcomer() -> MembersChanged {
    let mut changed = with_learner("h:1");
    changed.after.members[3].wish = Some(Wish {
        until_wall_ms: u64::MAX,
        replaces: None,
    });
    changed
}

/// A leader that does whatever it is asked for, and always answers this.
fn granting(told: Status, changed: MembersChanged) -> Fake {
    Fake::start(1, move |asked| match asked.what {
        What::Status => asked.reply(&Reply::Status(told.clone())),
        _ => asked.reply(&Reply::MembersChanged(changed.clone())),
    })
}

fn three(addrs: [&str; 3]) -> Status {
    status(1, NodeRole::Leader, addrs, [true; 3])
}

#[test]
fn the_leader_is_asked_for_what_the_line_says() {
    let leader = granting(three(["", "", ""]), with_learner("h:1"));
    for (line, change) in [
        (
            "add-peer n4 h:1",
            "promote_within_ms: Some(600000), replaces: None",
        ),
        (
            "add-peer n4 h:1 --learner",
            "promote_within_ms: None, replaces: None",
        ),
        (
            "replace-peer n3 n4 h:1 --yes",
            "promote_within_ms: Some(600000), replaces: Some(NodeId(3))",
        ),
        ("promote-peer n3", "Promote(NodeId(3))"),
        (
            "update-peer n3 --name x",
            "id: NodeId(3), name: Some(\"x\"), peer_addr: None",
        ),
        (
            "update-peer 3 --peer-addr h:2",
            "id: NodeId(3), name: None, peer_addr: Some(\"h:2\")",
        ),
    ] {
        let done = run(&leader.addr, &line.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{line}");
        let What::Members {
            dry_run: false,
            change: asked,
        } = leader.asked().pop().unwrap().what
        else {
            panic!("{line}: no change was asked for");
        };
        assert!(asked.contains(change), "{line}: {asked}");
    }
}

#[test]
fn a_change_is_told_to_programs() {
    let leader = granting(three(["", "", ""]), with_learner("h:1"));
    let told = run(&leader.addr, &["--json", "promote-peer", "n3"]);
    let expected = json!({"id": 4, "index": 101, "voters": 3, "failures_tolerated": 1});
    assert_eq!(told.json(), expected);
    let told = run(&leader.addr, &["--json", "add-peer", "n4", "h:1"]).json();
    assert_eq!((&told["id"], &told["name"]), (&json!(4), &json!("n4")));
    let command = told["command"].as_str().unwrap();
    assert!(command.starts_with("raftd --join "), "{command}");
    let plan = run(
        &leader.addr,
        &["--json", "add-peer", "n4", "h:1", "--dry-run"],
    );
    let steps: Vec<Value> = String::from_utf8(plan.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let step = |name: &str, members: &[&str]| {
        json!({
            "step": name, "voters": 3, "failures_tolerated": 1, "members": members,
        })
    };
    let mut members = vec!["1::voter", "2::voter", "3::voter"];
    let before = step("before", &members);
    members.push("4:n4:learner");
    assert_eq!(steps, [before, step("after", &members)]);
}

/// Its clients' port is as far from that of its peers as the leader's, if there is such a port; it
/// is not told to join itself, nor whom nobody has heard.
#[test]
fn the_line_that_starts_a_node_names_whom_to_join_and_its_ports() {
    let mut told = three(["127.0.0.1:1", "", "127.0.0.1:3"]);
    told.members[0].peer_addr = "127.0.0.1:7001".into();
    told.members.push(Member {
        node: NodeId(4),
        name: "n4".into(),
        client_addr: "127.0.0.1:4".into(),
        suffrage: Suffrage::Learner,
        ..told.members[2].clone()
    });
    for (peer_addr, listen) in [("h:7009", "h:9"), ("h:6999", "h:7400")] {
        let leader = granting(told.clone(), with_learner(peer_addr));
        let line = format!(
            "raftd --join 127.0.0.1:1,127.0.0.1:3 --name n4 --data-dir /var/lib/raftd/n4 \
             --listen {listen} --peer-listen {peer_addr}\n"
        );
        run(&leader.addr, &["add-peer", "n4", peer_addr]).silently(0, line);
    }
}

/// While the voters change, a new leader may still take the vote back.
#[test]
fn a_vote_is_awaited_until_it_is_for_good() {
    const LOOKS: usize = 3;
    let stages = [Suffrage::Learner, Suffrage::Incoming, Suffrage::Voter];
    let mut looks = 0;
    let leader = Fake::start(1, move |asked| match asked.what {
        What::Status => {
            let mut told = three(["", "", ""]);
            told.members.push(Member {
                node: NodeId(4),
                suffrage: stages[looks / LOOKS],
                ..told.members[2].clone()
            });
            looks = (looks + 1).min(2 * LOOKS);
            asked.reply(&Reply::Status(told))
        }
        _ => asked.reply(&Reply::MembersChanged(with_newcomer())),
    });
    let done = run(&leader.addr, &["add-peer", "n4", "h:1", "--wait"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let asked = leader.asked().into_iter();
    let looks = asked.filter(|asked| asked.what == What::Status).count();
    assert!(looks > 2 * LOOKS, "{looks}");
}

#[test]
fn a_vote_may_be_awaited_for_as_long_as_can_be_said() {
    let mut told = three(["", "", ""]);
    let voter = told.members[2].clone();
    told.members.push(Member {
        node: NodeId(4),
        ..voter
    });
    let leader = granting(told, with_newcomer());
    let wait = format!("--wait={}s", u64::MAX);
    let done = run(&leader.addr, &["add-peer", "n4", "h:1", &wait]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn who_is_removed_again_and_who_is_not_heard_of_are_told_apart() {
    let gone = granting(three(["", "", ""]), with_newcomer());
    let add = ["-t", SOON, "add-peer", "n4", "h:1", "--wait=1ms"];
    assert_eq!(run(&gone.addr, &add).code, Some(1));
    let asked = format!("{:?}", gone.asked());
    assert!(asked.contains("promote_within_ms: Some(1),"), "{asked}");
    // Without a leader nobody knows whether it is gone for good.
    let mut told = three(["", "", ""]);
    told.role = NodeRole::Follower;
    let unknown = granting(told, with_newcomer());
    unknown.name_leader(&unknown, 5);
    assert_eq!(run(&unknown.addr, &add).code, Some(5));
}

/// It was added like that, and nobody waits for what does not come.
#[test]
fn who_stays_a_learner_is_promoted_by_hand() {
    let mut told = three(["", "", ""]);
    let learner = Member {
        node: NodeId(4),
        name: "n4".into(),
        suffrage: Suffrage::Learner,
        ..told.members[2].clone()
    };
    told.members.push(learner);
    let mut changed = with_learner("h:1");
    changed.before = changed.after.clone();
    let leader = granting(told, changed);
    let add = ["-t", SOON, "add-peer", "n4", "h:1"];
    assert_eq!(run(&leader.addr, &add).code, Some(0));
    let wait = [add.as_slice(), &["--wait=1ms"]].concat();
    let done = run(&leader.addr, &wait);
    assert_eq!(done.code, Some(6), "{done:?}");
    let advice = "\n  try: raftctl promote-peer n4\n";
    assert!(done.stderr.contains(advice), "{done:?}");
}
