//! Where files may lie.

use std::collections::BTreeSet;

use raftd_tests::source::Source;

use super::{House, demand, must_catch};

/// Everything that may lie at the top besides dotfiles.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "man",
    "raftctl",
    "raftd",
    "scripts",
    "tests",
    "wire",
];

#[test]
fn the_top_is_as_agreed() {
    demand(top_level);
    must_catch(top_level, &[&[("docs/a.md", "")], &[("Makefile", "")]]);
}

fn top_level(house: &House) -> Vec<String> {
    let entries: BTreeSet<&str> = house
        .files
        .iter()
        .filter_map(|file| file.path.split('/').next())
        .collect();
    entries
        .into_iter()
        .filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(entry))
        .map(|entry| format!("{entry}: does not belong at the top"))
        .collect()
}

#[test]
fn every_file_is_compiled() {
    demand(orphans);
    must_catch(
        orphans,
        &[
            &[
                ("raftd/src/lib.rs", "mod a;"),
                ("raftd/src/a.rs", ""),
                ("raftd/src/b.rs", ""),
            ],
            &[("raftd/src/lib.rs", "// mod a;"), ("raftd/src/a.rs", "")],
        ],
    );
}

fn orphans(house: &House) -> Vec<String> {
    let is_root = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let folder = path.rsplit('/').nth(1).unwrap_or("");
        path.ends_with("src/lib.rs")
            || (name == "main.rs")
            || matches!(folder, "bin" | "benches" | "examples" | "fuzz_targets")
            || (folder == "tests" && !path.contains("/src/"))
            || name == "build.rs"
    };
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<&Source> = house.rust().filter(|file| is_root(&file.path)).collect();
    while let Some(file) = open.pop() {
        if !reached.insert(file.path.clone()) {
            continue;
        }
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let own = if is_root(&file.path) || name == "mod.rs" {
            folder.to_owned()
        } else {
            format!("{folder}/{}", name.trim_end_matches(".rs"))
        };
        for module in file.declared_modules() {
            let (flat, nested) = (
                format!("{own}/{module}.rs"),
                format!("{own}/{module}/mod.rs"),
            );
            open.extend(
                house
                    .rust()
                    .filter(|file| file.path == flat || file.path == nested),
            );
        }
    }
    house
        .rust()
        .filter(|file| !reached.contains(&file.path))
        .map(|file| format!("{}: no `mod` leads here", file.path))
        .collect()
}

#[test]
fn a_crate_has_one_test_binary() {
    demand(test_binaries);
    must_catch(
        test_binaries,
        &[
            &[("raftd/tests/a.rs", "")],
            &[
                ("wire/tests/suite/main.rs", ""),
                ("wire/tests/other/main.rs", ""),
            ],
        ],
    );
}

/// Each binary links the whole program again: one per crate, `tests/suite/main.rs`.
fn test_binaries(house: &House) -> Vec<String> {
    const CRATES: [&str; 5] = ["raftd/raft/", "raftd/", "raftctl/", "wire/", "tests/"];
    house
        .rust()
        .filter(|file| {
            let inside = CRATES.iter().find_map(|name| file.path.strip_prefix(name));
            let below_tests = inside.and_then(|path| path.strip_prefix("tests/"));
            below_tests.is_some_and(|path| {
                !path.contains('/') || (path.ends_with("/main.rs") && path != "suite/main.rs")
            })
        })
        .map(|file| format!("{}: make it a module of tests/suite/main.rs", file.path))
        .collect()
}
