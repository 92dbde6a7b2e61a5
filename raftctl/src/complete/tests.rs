use super::engine::{Asked, Kind};
use super::*;
use crate::cli;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// What is offered at the end of the line, where no cluster and no file is asked.
fn offered(line: &str) -> Vec<String> {
    let told = Told::Words(words(line));
    let text = answer(&told, &cli::tree(), &|_| None);
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| Some(line.split('\t').next()?.to_owned()))
        .collect()
}

#[test]
fn verbs_flags_and_words_are_offered() {
    assert_eq!(offered("raftctl tran"), ["transfer-leader"]);
    assert_eq!(offered("raftctl -t 5s --json pe"), ["peers"]);
    assert_eq!(offered("raftctl get --miss"), ["--missing-ok"]);
    assert_eq!(offered("raftctl get k --endp"), ["--endpoints"]);
    assert_eq!(offered("raftctl get --encode "), ["hex", "base64"]);
    assert_eq!(offered("raftctl get --encode=b"), ["--encode=base64"]);
    assert_eq!(offered("raftctl get --encode=h -t5s -oj"), ["-ojsonl"]);
    assert_eq!(offered("raftctl -t5s -0e a:1 pe"), ["peers"]);
    assert_eq!(offered("raftctl snapshot ver"), ["verify"]);
    assert_eq!(offered("raftctl help exit"), ["exit-codes"]);
    assert_eq!(offered("raftctl config explain ti"), ["timeout"]);
    assert_eq!(offered("raftctl completion "), ["bash", "zsh", "fish"]);
    assert!(offered("raftctl __").is_empty(), "what is hidden stays so");
    assert!(offered("raftctl get -- --mis").is_empty(), "data");
    assert!(offered("raftctl -t ").is_empty());
    assert_eq!(offered("raftctl --vers"), ["--version"]);
    assert!(offered("raftctl put --vers").is_empty(), "refused there");
    assert!(offered("raftctl nonsense ").is_empty());
}

#[test]
fn each_place_takes_its_kind() {
    let of_kinds: [(Kind, &[&str]); 6] = [
        (
            Kind::Keys,
            &["get ", "get a ", "put ", "scan --keys ", "del -- -", "cas "],
        ),
        (
            Kind::Peers,
            &[
                "remove-peer ",
                "replace-peer ",
                "transfer-leader ",
                "snapshot --node ",
            ],
        ),
        (Kind::Endpoints, &["-e a:1,", "-ea:1,", "-0e=a"]),
        (
            Kind::Contexts,
            &["-c ", "get k --context ", "context use ", "context rm "],
        ),
        (
            Kind::Files,
            &[
                "--config ",
                "snapshot verify ",
                "recover apply --data-dir ",
                "config check ",
            ],
        ),
        (
            Kind::Nothing,
            &[
                "add-peer ",
                "context add ",
                "put k ",
                "replace-peer n1 ",
                "-t ",
            ],
        ),
    ];
    for (kind, lines) in of_kinds {
        for line in lines {
            let asked = Asked::read(&words(line), &cli::tree()).expect("a word");
            assert_eq!(*asked.kind(), kind, "{line}");
        }
    }
}

#[test]
fn nobody_is_waited_for() {
    let begun = std::time::Instant::now();
    // An address of which nothing comes back.
    assert!(offered("raftctl -e 192.0.2.1:7400 get a").is_empty());
    assert!(begun.elapsed() < std::time::Duration::from_millis(1000));
}
