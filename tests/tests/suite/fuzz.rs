//! Every fuzz target: its corpus, file by file, and mutations of it.
//!
//! `PROPTEST_CASES=100000 cargo test -p raftd-tests --test suite fuzz::step` runs a target for
//! longer. What a failing run prints goes into a file of the corpus under a name that tells what
//! was wrong, before it is mended.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use raftd_tests::fuzz::{TARGETS, Target, mutate};
use raftd_tests::root;

/// Bytes of an input out of nothing, at most.
const NOISE_BYTES_MAX: usize = 600;

macro_rules! drive {
    ($($name:ident: $cases:literal,)*) => {
        $(mod $name {
            #[test]
            fn every_file_of_the_corpus_passes() {
                super::run_corpus(super::target(stringify!($name)));
            }

            #[test]
            fn mutations_and_noise_pass() {
                super::run_mutations(super::target(stringify!($name)), $cases);
            }
        })*

        #[test]
        fn every_target_is_driven_and_has_a_corpus() {
            let driven = [$(stringify!($name)),*];
            assert_eq!(driven.to_vec(), TARGETS.iter().map(|t| t.name).collect::<Vec<_>>());
            for target in TARGETS {
                assert!(corpus(*target).len() > 3, "{}", target.name);
            }
            let mut folders = list(&root().join("tests/corpus"));
            folders.retain(|folder| !driven.contains(&folder.as_str()));
            assert!(folders.is_empty(), "nobody runs these: {folders:?}");
        }
    };
}

// Cases by what one takes: all of them together a few seconds.
drive! {
    frames: 2_000,
    hello: 5_000,
    peer: 5_000,
    request: 5_000,
    reply: 5_000,
    identity: 500,
    recovery: 200,
    rot: 150,
    snapshot: 1_000,
    config: 2_000,
    step: 2_000,
    node: 1_000,
    apply: 1_000,
}

/// The wrappers are compiled by nobody but who fuzzes.
#[test]
fn every_target_has_its_wrapper_and_the_root_lock_has_nothing_of_libfuzzer() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file of the tests");
    let manifest = read("tests/fuzz/Cargo.toml");
    let wrappers = list(&root().join("tests/fuzz/fuzz_targets"));
    assert_eq!(wrappers.len(), TARGETS.len(), "{wrappers:?}");
    for target in TARGETS {
        let name = target.name;
        let wrapper = read(&format!("tests/fuzz/fuzz_targets/{name}.rs"));
        assert!(
            wrapper.contains(&format!("raftd_tests::fuzz::{name}(bytes)")),
            "{wrapper}"
        );
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
    assert!(
        !read("Cargo.lock").contains("libfuzzer"),
        "the root lock is for everybody"
    );
}

fn target(name: &str) -> Target {
    let mut targets = TARGETS.iter().copied();
    targets
        .find(|target| target.name == name)
        .expect("a target of this name")
}

fn list(folder: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of the corpus");
    let names = entries.map(|entry| entry.expect("an entry of it").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn corpus(target: Target) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("tests/corpus").join(target.name);
    let names = list(&folder).into_iter();
    names
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).expect("a file of the corpus");
            (name, bytes)
        })
        .collect()
}

fn passes(target: Target, bytes: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_ok()
}

fn run_corpus(target: Target) {
    let mut files = corpus(target);
    files.retain(|(_, bytes)| !passes(target, bytes));
    let failed: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(failed.is_empty(), "{}: {failed:?}, see above", target.name);
}

/// Most inputs are damaged files of the corpus, some are noise.
fn inputs(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let count = files.len();
    let mutant = (0..count, 0..count, any::<u64>()).prop_map(move |(file, other, seed)| {
        let mut bytes = files[file].clone();
        mutate(seed, &mut bytes, &files[other]);
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..NOISE_BYTES_MAX);
    prop_oneof![3 => mutant, 1 => noise]
}

fn run_mutations(target: Target, cases: u32) {
    let asked = env::var("PROPTEST_CASES").ok();
    let config = ProptestConfig {
        cases: asked.map_or(cases, |cases| cases.parse().expect("a number of cases")),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let files = corpus(target).into_iter().map(|(_, bytes)| bytes);
    let result = TestRunner::new(config).run(&inputs(files.collect()), |bytes| {
        match passes(target, &bytes) {
            true => Ok(()),
            false => Err(TestCaseError::fail("it panicked, see above")),
        }
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => panic!("{}: {why}: {}", target.name, hex(&bytes)),
        Err(error) => panic!("{}: {error}", target.name),
    }
}

/// For `xxd -r -p`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}
