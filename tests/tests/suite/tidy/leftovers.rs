//! Unfinished work, and citations that lead nowhere.

use std::collections::BTreeSet;

use raftd_tests::source::{line_of, words};

use super::{House, demand, must_catch};

/// Never anywhere, comments included. Spelled in halves, for this file is looked at too.
const BANNED_WORDS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("/wo", "rk/"),
];
/// Never in code.
const BANNED_CODE: [&str; 6] = [
    "dbg!",
    "todo!",
    "unimplemented!",
    "#[ignore",
    "#[allow(",
    "#![allow(",
];
/// The one place where tests sleep: between two looks at a condition, with a bound.
const WAIT: &str = "tests/src/wait.rs";

#[test]
fn nothing_is_left_lying_about() {
    demand(leftovers);
    let mut samples: Vec<String> = BANNED_WORDS
        .iter()
        .map(|word| format!("// {word} later"))
        .collect();
    samples.extend(
        BANNED_CODE
            .iter()
            .map(|code| format!("fn f() {{ {code} }}")),
    );
    for sample in &samples {
        must_catch(leftovers, &[&[("a.rs", sample)]]);
    }
    must_catch(
        leftovers,
        &[
            &[("tests/tests/suite/a.rs", "fn f() { thread::sleep(d) }")],
            &[(
                "a.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests { fn f() { thread::sleep(d) } }",
            )],
        ],
    );
}

fn leftovers(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        let mut refuse = |text: &str, bans: &[&str], why: &str| {
            for ban in bans {
                for at in words(text, ban) {
                    found.push(format!(
                        "{}:{}: `{ban}`: {why}",
                        file.path,
                        line_of(text, at)
                    ));
                }
            }
        };
        if file.path != "LICENSE" {
            refuse(&file.text, &BANNED_WORDS, "finish it, or let it be");
        }
        refuse(&file.code, &BANNED_CODE, "not in code that lands");
        let measures = file.path.starts_with("tests/bench/");
        if file.is_test() && !measures && file.path != WAIT {
            refuse(
                &file.code,
                &["thread::sleep"],
                "wait on a condition, with a bound",
            );
        } else if !file.is_test() {
            let outside = words(&file.product, "thread::sleep").count();
            if words(&file.code, "thread::sleep").count() > outside {
                found.push(format!("{}: a test sleeps: wait on a condition", file.path));
            }
        }
    }
    found
}

#[test]
fn every_rule_that_is_cited_exists() {
    demand(citations);
    must_catch(
        citations,
        &[&[
            ("raftd/README.md", "## A. Safety\n1. One.\n"),
            ("a.rs", "// rules A2\n"),
        ]],
    );
}

/// Comments cite the safety rules as `rules A1, B2`; raftd/README.md has them, a heading per
/// letter, numbered below.
fn citations(house: &House) -> Vec<String> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let readme = house
        .files
        .iter()
        .find(|file| file.path == "raftd/README.md");
    let mut letter = String::new();
    for line in readme.map_or("", |file| &file.text).lines() {
        let heading = line.trim_start_matches('#').trim_start();
        if line.starts_with('#') {
            letter = heading
                .split_once(". ")
                .map_or("", |(letter, _)| letter)
                .to_owned();
        } else if let Some((number, _)) = line.split_once(". ") {
            known.insert(format!("{letter}{number}"));
        }
    }
    let mut found = Vec::new();
    for file in house.rust() {
        for at in words(&file.text, "rules") {
            let cited = file.text[at + "rules".len()..]
                .split([',', ' ', '\n', ';', '/'])
                .filter(|word| !word.is_empty() && *word != "and")
                .map(|word| word.trim_end_matches([')', '.', ':', ']', '`', '"']))
                .take_while(|word| is_rule(word));
            for rule in cited.filter(|rule| !known.contains(*rule)) {
                let line = line_of(&file.text, at);
                found.push(format!(
                    "{}:{line}: raftd/README.md has no rule {rule}",
                    file.path
                ));
            }
        }
    }
    found
}

fn is_rule(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_uppercase())
        && word.len() > 1
        && chars.all(|c| c.is_ascii_digit())
}
