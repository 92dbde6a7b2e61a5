//! The mutants: every patch applies, and together they cover what they must.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
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

/// Those that the table has no row for: they were caught by faults of the shipped code, which are
/// mended, and not measured since.
const UNMEASURED: [&str; 3] = [
    "rule-d4-mended-by-another-entry",
    "rule-d5-snapshots-of-a-wrong-state-stay",
    "rule-e5-vote-completes-entries",
];

#[test]
fn every_patch_applies() {
    let mut command = Command::new(root().join("scripts/mutants"));
    command.arg("--check").current_dir("/");
    let _ = proc::run(command, b"").exits(0);
}

/// A patch in tests/mutants.
#[derive(Debug)]
struct Mutant {
    name: String,
    /// The classes that it stands for.
    covers: Vec<String>,
    /// The protection that it takes out.
    removes: String,
}

/// All of them, by their names.
fn mutants() -> Vec<Mutant> {
    let folder = fs::read_dir(root().join("tests/mutants")).expect("the folder of the mutants");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let is_patch = |path: &PathBuf| path.extension().is_some_and(|end| end == "patch");
    let mut mutants: Vec<_> = paths.filter(is_patch).map(|path| read(&path)).collect();
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    mutants
}

fn read(path: &Path) -> Mutant {
    let patch = fs::read_to_string(path).expect("a patch");
    let (header, _) = patch.split_once("\n\n").expect("a header and the patch");
    let lines: Vec<&str> = header.lines().collect();
    let [covers, removes, caught] = lines[..] else {
        panic!("{}: three lines before the patch", path.display());
    };
    let field = |line: &str, name: &str| {
        let field = line.strip_prefix(name);
        let field = field.unwrap_or_else(|| panic!("{}: no {name}", path.display()));
        field.to_owned()
    };
    // For people only.
    let _ = field(caught, "Caught by: ");
    let name = path.file_stem().and_then(|stem| stem.to_str());
    Mutant {
        name: name.expect("a name").to_owned(),
        covers: field(covers, "Covers: ")
            .split(", ")
            .map(str::to_owned)
            .collect(),
        removes: field(removes, "Removes: "),
    }
}

#[test]
fn every_class_has_a_mutant() {
    let wanted = ROWS.iter().map(|row| format!("row {row}"));
    let wanted = wanted.chain(RULES.iter().map(|rule| format!("rule {rule}")));
    let wanted: BTreeSet<String> = wanted.collect();
    let covered = mutants().into_iter().flat_map(|mutant| mutant.covers);
    assert_eq!(covered.collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn the_table_has_a_row_for_each_mutant() {
    let readme = fs::read_to_string(root().join("tests/README.md")).expect("the README");
    let is_row = |line: &&str| line.starts_with("| row-") || line.starts_with("| rule-");
    let rows = readme.lines().filter(is_row).map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, removes, _caught_by, seeds] = cells[..] else {
            panic!("four cells: {row}");
        };
        let seeds = seeds.split(' ').next().map(str::parse::<u32>);
        assert!(matches!(seeds, Some(Ok(1..))), "{row}");
        format!("{name}: {removes}")
    });
    let mut wanted = mutants();
    wanted.retain(|mutant| !UNMEASURED.contains(&mutant.name.as_str()));
    assert_eq!(wanted.len() + UNMEASURED.len(), mutants().len());
    let wanted = wanted.into_iter();
    let wanted = wanted.map(|mutant| format!("{}: {}", mutant.name, mutant.removes));
    assert_eq!(rows.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}
