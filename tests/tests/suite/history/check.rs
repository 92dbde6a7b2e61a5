//! The program that judges a kept history.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use raftd_tests::history::{Answer, text};
use wire::command::Outcome;

use super::maker::Maker;

fn check(path: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_check"))
        .arg(path)
        .output()
        .expect("it runs");
    let said = String::from_utf8(stdout).expect("it speaks text");
    (status.code(), said)
}

#[test]
fn it_tells_right_from_wrong() {
    let mut maker = Maker::new();
    maker.increment(1, (0, 3), "n");
    maker.increment(2, (1, 2), "n");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    for with_log in [true, false] {
        let keep = |maker: &Maker| {
            let mut out = Vec::new();
            let log = with_log.then(|| maker.committed());
            text::write(&mut out, &maker.history, log).expect("memory takes it");
            fs::write(&path, out).expect("the folder takes it");
        };
        keep(&maker);
        let (status, said) = check(&path);
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(said.contains("by the log: right"), with_log, "{said}");
        let right = maker.history.clone();
        let Answer::Written { outcome, .. } = &mut maker.history.records[1].answer else {
            panic!("it is a write");
        };
        *outcome = Outcome::Incremented(1);
        keep(&maker);
        maker.history = right;
        let (status, said) = check(&path);
        assert_eq!(status, Some(1), "{said}");
        assert!(
            said.contains("OtherOutcome: it did Incremented(2)"),
            "{said}"
        );
        assert!(said.contains("by search: NotLinearizable"), "{said}");
    }
    fs::write(&path, "no history\n").expect("the folder takes it");
    let (status, said) = check(&path);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("line 1: "), "{said}");
}
