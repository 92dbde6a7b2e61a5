//! What examples do when something goes wrong: which exit codes they go on after.

use std::fs;
use std::process::Command;

use raftd_tests::proc;

use super::documents::{of_pages, of_texts};
use super::write_stub;

/// By the begin of an example: exit codes of the program, one for each time that the example is to run
/// it. Once more would be one too many.
const RUNS: &[(&str, &[&[i32]])] = &[
    (
        "until raftctl put greeting",
        &[&[4, 4, 0], &[3, 0], &[1], &[2], &[5], &[6]],
    ),
    (
        "until raftctl load",
        &[&[3, 4, 5, 0], &[1], &[2], &[6], &[8], &[125], &[130]],
    ),
    // What could not be read is not counted down, what may have been is not counted down again.
    (
        "while v=$(raftctl get quota",
        &[&[0, 0], &[0, 1, 0, 1, 0, 0], &[0, 5], &[0, 4], &[1], &[4]],
    ),
    ("raftctl incr orders 2> err", &[&[0], &[5, 0], &[4]]),
    // There is no key.
    ("raftctl scan --keys -0 tmp/ | xargs", &[&[0]]),
];

/// How many times the example runs the program, if it ends like this and then with 0.
fn runs(example: &str, codes: &[i32]) -> usize {
    let folder = tempfile::tempdir_in(proc::scratch_dir()).expect("a folder");
    let stub = "echo >> runs; read -r code < codes; sed -i 1d codes; exit \"${code:-0}\"";
    write_stub(&folder.path().join("raftctl"), stub);
    write_stub(&folder.path().join("sleep"), "exit 0");
    let codes: Vec<_> = codes.iter().map(|code| format!("{code}\n")).collect();
    fs::write(folder.path().join("codes"), codes.concat()).expect("written");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["-c", example])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", folder.path().display()));
    let _ = proc::run(bash, b"");
    let runs = fs::read_to_string(folder.path().join("runs"));
    runs.expect("it ran").lines().count()
}

#[test]
fn examples_go_on_after_what_may_be_run_again_only() {
    let mut examples = of_pages();
    examples.extend(of_texts());
    for (begin, ways) in RUNS {
        let is_it = |text: &str| text.trim_start().starts_with(begin);
        let mut found = examples.iter().filter(|it| is_it(&it.text)).peekable();
        assert!(found.peek().is_some(), "{begin}");
        for example in found {
            for codes in *ways {
                let (source, text) = (&example.source, &example.text);
                let ran = runs(text, codes);
                assert_eq!(ran, codes.len(), "{source}: {codes:?}\n{text}");
            }
        }
    }
}
