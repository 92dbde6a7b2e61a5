//! What shells ask at a TAB.

use std::time::Duration;

use wire::client::{NodeRole, Reply};
use wire::command::Command;
use wire::types::Index;

use super::fake::Fake;
use super::run::{run, within};
use super::script::{Store, status};

/// A server with these keys, of which each page has at most so many.
fn server(keys: impl Iterator<Item = String>, page_items: u32) -> Fake {
    let mut store = Store {
        page_items,
        ..Store::default()
    };
    for key in keys {
        store.index += 1;
        let (key, value) = (key.as_bytes(), &b""[..]);
        store
            .map
            .apply(Index(store.index), &Command::Put { key, value });
    }
    store.serve()
}

fn candidates(server: &Fake, typed: &str) -> Vec<String> {
    offered(server, &["get", typed])
}

fn offered(server: &Fake, words: &[&str]) -> Vec<String> {
    let asked = ["__complete", "--", "raftctl", "-e", &server.addr];
    let done = run(&server.addr, &[&asked, words].concat());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines().skip(1);
    lines
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

#[test]
fn what_lies_below_a_separator_is_skipped() {
    let deep = (0..5000).map(|n| format!("a/{n:04}"));
    let server = server(deep.chain(["b".into(), "c:1".into(), "c:2".into()]), 10);
    assert_eq!(candidates(&server, ""), ["a/", "b", "c:"]);
    assert!(server.asked().len() < 10, "{} pages", server.asked().len());
    assert_eq!(candidates(&server, "a/000").len(), 10);
    assert_eq!(candidates(&server, "c:"), ["c:1", "c:2"]);
    assert!(candidates(&server, "nothing").is_empty());
}

#[test]
fn candidates_are_few_and_printable() {
    let many = (0..1000).map(|n| format!("k{n:03}"));
    assert_eq!(candidates(&server(many, 0), "k").len(), 200);
    let odd = ["line\nbreak", "tab\tulator", "fine"].map(str::to_owned);
    assert_eq!(candidates(&server(odd.into_iter(), 0), ""), ["fine"]);
}

#[test]
fn members_are_offered_by_name_and_by_address() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Leader, ["h:1", "h:2", ""], [true; 3]);
        told.members[1].name.clear();
        asked.reply(&Reply::Status(told))
    });
    assert_eq!(offered(&node, &["remove-peer", ""]), ["n1", "n3"]);
    assert_eq!(
        offered(&node, &["-e", &node.addr, "-e", "h"]),
        ["h:1", "h:2"]
    );
}

#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let hangs = Fake::start(1, |_| super::fake::Act::Nothing);
    let found = within(Duration::from_secs(1), || candidates(&hangs, "k"));
    assert!(found.is_empty());
}
