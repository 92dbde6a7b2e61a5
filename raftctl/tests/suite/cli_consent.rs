//! Before something ends, whoever sits at the terminal is asked to type its name.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use wire::client::{MembersChanged, NodeRole, Reply};
use wire::membership::Membership;
use wire::types::{Index, NodeId};

use super::fake::{Act, Fake, What, thinks};
use super::run::{run, store};
use super::script::status;

/// The verbs that ask, on a member called n3, and what they ask of the leader.
const VERBS: [(&str, &str); 3] = [
    ("remove-peer n3", "Remove(NodeId(3))"),
    ("demote-peer n3", "Demote(NodeId(3))"),
    (
        "replace-peer n3 n4 127.0.0.1:7004",
        "replaces: Some(NodeId(3))",
    ),
];

/// What is typed once the program asks.
#[derive(Clone, Copy)]
enum Typed {
    Text(&'static str),
    /// The same, by somebody who thinks about it first.
    Late(&'static str),
    EndOfInput,
}

/// Longer than [`HASTE`], which is the time of `-t`.
const THINKS: Duration = Duration::from_millis(1500);
const HASTE: &str = "1s";

/// A program that goes on waiting for an answer is ended then.
const PATIENCE: &str = "30s";

const CTRL_C: Typed = Typed::Text("\x03");

/// The leader of three members, which grants every wish.
fn leader() -> Fake {
    slow_leader(Duration::ZERO, Duration::ZERO)
}

/// The same, which takes its time to tell of itself, and to change something.
fn slow_leader(to_tell: Duration, to_change: Duration) -> Fake {
    let ids: Vec<_> = (1..=3).map(|id| (NodeId(id), String::new())).collect();
    let members = Membership::initial(&ids, &[]);
    let changed = MembersChanged {
        index: Index(101),
        id: NodeId(3),
        before: members.clone(),
        after: members,
    };
    Fake::start(1, move |asked| match &asked.what {
        What::Status => {
            thinks(to_tell);
            let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
            asked.reply(&Reply::Status(told))
        }
        What::Members { .. } => {
            thinks(to_change);
            asked.reply(&Reply::MembersChanged(changed.clone()))
        }
        _ => Act::Close,
    })
}

/// The changes that were asked for.
fn changes(leader: &Fake) -> Vec<String> {
    let asked = leader.asked().into_iter();
    let changes = asked.filter_map(|asked| match asked.what {
        What::Members {
            dry_run: false,
            change,
        } => Some(change),
        _ => None,
    });
    changes.collect()
}

/// What is on the screen afterwards, and the exit code. `script` (bsdutils) makes the terminal.
fn type_in(at: &str, args: &str, typed: Typed) -> (String, Option<i32>) {
    type_before(at, args, "", typed)
}

/// The same, where something is to be typed before the question.
fn type_before(at: &str, args: &str, first: &str, typed: Typed) -> (String, Option<i32>) {
    let program = env!("CARGO_BIN_EXE_raftctl");
    let line = format!("stty cols 100; exec {program} -e {at} {args}");
    let mut child = Command::new("timeout")
        .args([PATIENCE, "script", "-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of bsdutils");
    let mut keyboard = child.stdin.take();
    let typing = keyboard.as_mut().unwrap();
    typing.write_all(first.as_bytes()).unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut byte = [0];
    while !shown.ends_with(b" to go on: ") {
        let count = screen.read(&mut byte).unwrap();
        assert!(
            count > 0,
            "no question: {}",
            String::from_utf8_lossy(&shown)
        );
        shown.push(byte[0]);
    }
    if let Typed::Late(_) = typed {
        let (_sender, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(THINKS);
    }
    match typed {
        Typed::Text(text) | Typed::Late(text) => {
            let keyboard = keyboard.as_mut().unwrap();
            keyboard.write_all(text.as_bytes()).unwrap();
        }
        Typed::EndOfInput => keyboard = None,
    }
    screen.read_to_end(&mut shown).unwrap();
    drop(keyboard);
    let code = child.wait().unwrap().code();
    (String::from_utf8(shown).unwrap().replace('\r', ""), code)
}

#[test]
fn whoever_types_the_name_means_it() {
    for (verb, change) in VERBS {
        let leader = leader();
        let (screen, code) = type_in(&leader.addr, verb, Typed::Text("n3\n"));
        assert_eq!(code, Some(0), "{screen}");
        assert!(screen.contains(": type n3 to go on: "), "{screen}");
        let asked = changes(&leader);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].contains(change), "{asked:?}");
    }
}

#[test]
fn a_person_may_take_longer_than_the_cluster() {
    for (verb, _) in VERBS {
        let leader = leader();
        let line = format!("-t {HASTE} {verb}");
        let (screen, code) = type_in(&leader.addr, &line, Typed::Late("n3\n"));
        assert_eq!(code, Some(0), "{screen}");
    }
}

/// What is done takes longer than what is left then, and less than all of the time.
#[test]
fn without_a_question_the_time_does_not_begin_anew() {
    for (verb, _) in VERBS {
        let leader = slow_leader(Duration::from_millis(200), Duration::from_millis(700));
        let args: Vec<_> = ["-t", HASTE].into_iter().chain(verb.split(' ')).collect();
        let done = run(&leader.addr, &[args.as_slice(), &["--yes"]].concat());
        assert_ne!(done.code, Some(0), "{verb}: {done:?}");
    }
}

#[test]
fn whoever_does_not_type_the_name_changes_nothing() {
    for (verb, _) in VERBS {
        for (typed, expected) in [
            (Typed::Text("yes\n"), 2),
            (Typed::Text("n33\n"), 2),
            (Typed::Text("\n"), 2),
            (Typed::EndOfInput, 2),
            (CTRL_C, 130),
        ] {
            let leader = leader();
            let (screen, code) = type_in(&leader.addr, verb, typed);
            assert_eq!(code, Some(expected), "{screen}");
            // On a line of its own, whether or not the answer had an end.
            let told = screen
                .lines()
                .any(|line| line.starts_with("raftctl: ") && line.contains("was not done"));
            assert_eq!(told, expected == 2, "{screen}");
            assert_eq!(changes(&leader), [""; 0]);
        }
    }
}

#[test]
fn a_range_is_removed_once_its_prefix_is_typed() {
    let (_server, at) = store();
    for key in ["tmp/1", "tmp/2", "z"] {
        run(&at, &["put", key, "v"]).silently(0, "");
    }
    let verb = "del --prefix tmp/";
    for (typed, expected, left) in [("yes\n", 2, "3\n"), ("tmp/\n", 0, "1\n")] {
        let (screen, code) = type_in(&at, verb, Typed::Text(typed));
        assert_eq!(code, Some(expected), "{screen}");
        let told = "del --prefix tmp/: 2 keys are there\ndel --prefix tmp/: type tmp/ to go on: ";
        assert!(screen.contains(told), "{screen}");
        run(&at, &["count"]).silently(0, left);
    }
    let (screen, code) = type_in(&at, "del --prefix ''", Typed::Text("all keys\n"));
    assert_eq!(code, Some(0), "{screen}");
    run(&at, &["count"]).silently(0, "0\n");
}

#[test]
fn a_txn_is_typed_shown_and_confirmed() {
    let lines = "if absent(a)\nthen putt a 1\nthen put a 1\n\n";
    for (typed, expected, found) in [("no\n", 2, ""), ("yes\n", 0, "1")] {
        let (_server, at) = store();
        let (screen, code) = type_before(&at, "txn", lines, Typed::Text(typed));
        assert_eq!(code, Some(expected), "{screen}");
        // What cannot be understood is said at once, and left out.
        assert!(
            screen.contains("unrecognized subcommand 'putt'"),
            "{screen}"
        );
        let told = "if absent(a)\nthen put a 1\ncompares 1, then 1, else 0: ";
        assert!(screen.contains(told), "{screen}");
        let got = run(&at, &["get", "a", "--missing-ok"]);
        got.silently(0, found);
    }
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    for (verb, change) in VERBS {
        let words: Vec<&str> = verb.split(' ').collect();
        let leader = leader();
        let done = run(&leader.addr, &words);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("--yes"), "{}", done.stderr);
        assert_eq!(changes(&leader), [""; 0]);
        let done = run(&leader.addr, &[&words[..], &["--dry-run"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(changes(&leader), [""; 0]);
        let done = run(&leader.addr, &[&words[..], &["--yes"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(changes(&leader)[0].contains(change));
    }
}
