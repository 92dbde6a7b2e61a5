//! House rules that no compiler knows. Each rule carries bad samples that it must catch.

mod layers;
mod leftovers;
mod lengths;
mod lines;
mod places;

use std::fs;

use raftd_tests::root;
use raftd_tests::source::{self, Source};

/// What the rules look at.
struct House {
    files: Vec<Source>,
    /// The lines of `tests/tidy-allow.txt`.
    allowed: String,
}

impl House {
    fn real() -> Self {
        Self {
            files: source::read_all(&root()),
            allowed: fs::read_to_string(root().join("tests/tidy-allow.txt"))
                .expect("the allow-list"),
        }
    }

    fn sample(files: &[(&str, &str)], allowed: &str) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| Source::new(path, text))
                .collect(),
            allowed: allowed.to_owned(),
        }
    }

    fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

type Rule = fn(&House) -> Vec<String>;

fn demand(rule: Rule) {
    let found = rule(&House::real());
    assert!(
        found.is_empty(),
        "{} found:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// The canary: `rule` must find something in every sample, and nothing in a clean house.
fn must_catch(rule: Rule, samples: &[&[(&str, &str)]]) {
    for sample in samples {
        assert!(
            !rule(&House::sample(sample, "")).is_empty(),
            "not caught: {sample:?}"
        );
    }
    let clean = [
        ("raftd/src/lib.rs", "//! A crate.\npub mod node;\n"),
        ("raftd/src/node/mod.rs", "use wire::Term;\nfn f() {}\n"),
        ("raftd/README.md", "## A. Safety\n1. One rule.\n"),
        (".gitignore", "/target\n"),
    ];
    let found = rule(&House::sample(&clean, ""));
    assert!(found.is_empty(), "found in a clean house: {found:?}");
}
