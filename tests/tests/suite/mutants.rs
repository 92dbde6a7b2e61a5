//! The mutants: every patch applies, and together they cover what they must.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use raftd_tests::{proc, root};

/// The classes of bugs that a simulator of this design must see, by their row in the catalogue of
/// bugs of real Raft code that the mutants are made from.
const ROWS: [u32; 61] = [
    1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 32, 33,
    34, 35, 36, 37, 38, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59,
    60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 72,
];
/// The rules of raftd/README.md that have a mutant of their own.
const RULES: [&str; 12] = [
    "A1", "A2", "A3", "A4", "C1", "C2", "D4", "D5", "E1", "E3", "E5", "E6",
];

#[test]
fn every_patch_applies() {
    let mut command = Command::new(root().join("scripts/mutants"));
    command.arg("--check").current_dir("/");
    let _ = proc::run(command, b"").exits(0);
}

#[test]
fn every_class_has_a_mutant() {
    let wanted = ROWS.iter().map(|row| format!("row {row}"));
    let wanted = wanted.chain(RULES.iter().map(|rule| format!("rule {rule}")));
    let mut covered = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/mutants")).expect("the folder of the mutants") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        let patch = fs::read_to_string(&path).expect("a patch");
        let (header, _) = patch.split_once("\n\n").expect("a header and the patch");
        let fields: Vec<&str> = header.lines().collect();
        let [covers, removes, caught] = fields[..] else {
            panic!("{}: three lines before the patch", path.display());
        };
        assert!(removes.starts_with("Removes: "), "{}", path.display());
        assert!(caught.starts_with("Caught by: "), "{}", path.display());
        let covers = covers.strip_prefix("Covers: ").expect("what it covers");
        covered.extend(covers.split(", ").map(str::to_owned));
    }
    let missing: Vec<_> = wanted.filter(|class| !covered.contains(class)).collect();
    assert!(missing.is_empty(), "no mutant covers {missing:?}");
}
