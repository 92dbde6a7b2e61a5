//! The manual pages and the help say what the program does, no more and no less.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::Command;
use raftctl::failure::Exit;

use super::*;
use crate::cmd::help;
use crate::topics::TOPICS;
use crate::usage;

/// The page about the program as a whole; each of the others has a group of verbs.
const GENERAL: &str = "raftctl";

/// The pages about this program by name, as they read: without the marks of their typesetting.
fn pages() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man");
    let files = fs::read_dir(folder).expect("the folder of the pages");
    let pages = files.filter_map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_name()?.to_str()?.strip_suffix(".1")?.to_owned();
        let text = fs::read_to_string(&path).expect("the page");
        let text = text.replace("\\-", "-").replace("\\(aq", "'");
        Some((name, text.replace("\\e", "\\")))
    });
    pages.collect()
}

fn general() -> String {
    pages().remove(GENERAL).expect("the general page")
}

fn section(page: &str, name: &str) -> Option<String> {
    let begin = page.find(&format!(".SH {name}\n"))?;
    let text = &page[begin + 4 + name.len()..];
    Some(text[..text.find("\n.SH ").unwrap_or(text.len())].to_owned())
}

/// What stands behind a macro that sets a term in bold.
fn terms(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix(".B ").or(line.strip_prefix(".BR "))?;
        line.split_whitespace().next().map(str::to_owned)
    });
    lines.collect()
}

/// The verbs that a page lists, those of a verb not among them.
fn verbs_told(page: &str) -> BTreeSet<String> {
    let text = section(page, "VERBS").unwrap_or_default();
    let mut told = BTreeSet::new();
    let mut depth = 0;
    for (line, next) in text.lines().zip(text.lines().skip(1)) {
        match line {
            ".RS" => depth += 1,
            ".RE" => depth -= 1,
            ".TP" if depth == 0 => told.extend(terms(next)),
            _ => {}
        }
    }
    told
}

fn flags_told(page: &str) -> BTreeSet<String> {
    let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let flags = words.filter(|word| word.starts_with("--") && word.len() > 2);
    flags.map(str::to_owned).collect()
}

/// The flags of a command and of those below it.
fn flags(command: &Command, into: &mut BTreeSet<String>) {
    if command.is_hide_set() {
        return;
    }
    for arg in command.get_arguments() {
        into.extend(arg.get_long().map(|long| format!("--{long}")));
    }
    command.get_subcommands().for_each(|verb| flags(verb, into));
}

#[test]
fn each_page_tells_all_flags_of_its_verbs_and_none_that_are_not() {
    let cli = tree();
    let mut known = BTreeSet::new();
    flags(&cli, &mut known);
    let general: BTreeSet<_> = cli
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect();
    for (name, page) in pages() {
        let told = flags_told(&page);
        let unknown: Vec<_> = told.difference(&known).collect();
        assert!(unknown.is_empty(), "{name}: unknown: {unknown:?}");
        let mut own = BTreeSet::new();
        if name == GENERAL {
            own.extend(general.iter().cloned());
        } else {
            let verbs = verbs_told(&page);
            let mine = cli
                .get_subcommands()
                .filter(|c| verbs.contains(c.get_name()));
            mine.for_each(|verb| flags(verb, &mut own));
            own.retain(|flag| !general.contains(flag));
        }
        let missing: Vec<_> = own.difference(&told).collect();
        assert!(missing.is_empty(), "{name}: missing: {missing:?}");
    }
}

#[test]
fn every_verb_is_in_the_overview_and_on_one_page() {
    let known: BTreeSet<_> = tree()
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| verb.get_name().to_owned())
        .collect();
    let pages = pages();
    assert_eq!(verbs_told(&pages[GENERAL]), known);
    let own = ["version", "help"].map(str::to_owned);
    let mut told = BTreeSet::from(own);
    for (name, page) in pages.iter().filter(|(name, _)| *name != GENERAL) {
        for verb in verbs_told(page) {
            assert!(
                told.insert(verb.clone()),
                "{name}: {verb} is elsewhere, too"
            );
        }
    }
    assert_eq!(told, known);
}

#[test]
fn the_general_page_leads_to_the_others() {
    let pages = pages();
    let see = section(&pages[GENERAL], "\"SEE ALSO\"").expect("the section");
    for (name, page) in &pages {
        assert!(
            page.starts_with(&format!(".TH {} 1 ", name.to_uppercase())),
            "{name}"
        );
        assert!(
            name == GENERAL || see.contains(&format!(".BR {name} (1)")),
            "{name}"
        );
    }
}

#[test]
fn the_page_and_the_topic_list_every_exit_status() {
    let text = section(&general(), "\"EXIT STATUS\"").expect("the section");
    let numbers = |words: BTreeSet<String>| -> BTreeSet<u8> {
        words.iter().filter_map(|word| word.parse().ok()).collect()
    };
    let topic = TOPICS[0].1;
    let begins = topic
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let topic = numbers(begins.map(str::to_owned).collect());
    let told = numbers(terms(&text));
    let by_sigterm = 143;
    let mut known: BTreeSet<_> = Exit::ALL.iter().map(|exit| *exit as u8).collect();
    known.insert(by_sigterm);
    assert_eq!(told, known, "the page");
    assert_eq!(topic, known, "the topic");
}

#[test]
fn the_help_names_every_topic() {
    let about = tree()
        .find_subcommand("help")
        .and_then(Command::get_about)
        .map(ToString::to_string);
    let about = about.expect("what it is about");
    for (name, text) in TOPICS {
        assert!(about.contains(name), "{name} in {about}");
        assert_eq!(
            help::text(&[(*name).to_owned()], &mut tree())
                .expect("it is there")
                .lines()
                .last(),
            text.lines().last()
        );
    }
}

#[test]
fn the_short_help_of_each_verb_fits_on_a_screen_with_examples_first() {
    for verb in tree().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let text = help::short(&[verb.get_name().to_owned()], &tree()).expect("a verb");
        assert!(text.starts_with("Examples:\n"), "{text}");
        let examples = text
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with("  "));
        assert!(examples.count() >= 3, "{text}");
        let lines = text.lines().count();
        assert!(lines <= 50, "{lines} lines:\n{text}");
        assert!(!text.contains("--endpoints"), "{text}");
    }
    assert_eq!(help::short(&["-h".to_owned()], &tree()), None);
}

/// The commands of a line of shell that call this program, as words.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut calls = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') if word.ends_with('$') => {
                word.clear();
                calls.push(Vec::new());
            }
            (None, '|' | ';' | '&' | ')' | ' ') => {
                if !word.is_empty() {
                    let call = calls.last_mut().expect("there is one");
                    call.push(std::mem::take(&mut word));
                }
                if c != ' ' {
                    calls.push(Vec::new());
                }
            }
            _ => word.push(c),
        }
    }
    let call = calls.last_mut().expect("there is one");
    call.push(word);
    let ours = calls.into_iter().filter_map(|call| {
        let begin = call.iter().position(|word| word == "raftctl")?;
        let words = call.into_iter().skip(begin);
        Some(
            words
                .take_while(|word| !["<", ">", "2>"].contains(&word.as_str()))
                .collect(),
        )
    });
    ours.collect()
}

/// The examples in the help of a command and of those below it.
fn helps(command: &Command, into: &mut String) {
    if let Some(help) = command.get_before_help() {
        into.push_str(&help.to_string());
        into.push('\n');
    }
    command.get_subcommands().for_each(|verb| helps(verb, into));
}

/// The line as the program reads it.
fn as_typed(words: &[String]) -> Vec<OsString> {
    usage::with_null_flag(words.iter().map(OsString::from).collect())
}

#[test]
fn every_example_is_understood() {
    let mut examples = String::new();
    for page in pages().values() {
        examples.push_str(&section(page, "EXAMPLES").expect("each page has examples"));
    }
    helps(&tree(), &mut examples);
    for (_, text) in TOPICS {
        let lines = text.lines().filter(|line| line.starts_with("    "));
        lines.for_each(|line| examples.push_str(&format!("{line}\n")));
    }
    let mut count = 0;
    for line in examples.lines().filter(|line| line.starts_with(' ')) {
        let line = line
            .split("   ")
            .find(|part| part.contains("raftctl"))
            .unwrap_or("");
        for mut call in calls(line) {
            call.retain(|word| !word.is_empty());
            if call.last().is_some_and(|word| word == "--") {
                call.push("what xargs adds".into());
            }
            if let Some(id) = call.iter().position(|word| word == "--request-id") {
                call[id + 1] = format!("{}-1", "0".repeat(48));
            }
            if let Some(revision) = call.iter_mut().find(|word| *word == "$rev") {
                "7".clone_into(revision);
            }
            if let Err(error) = Cli::try_parse_from(as_typed(&call)) {
                panic!("{line}: {call:?}: {error}");
            }
            count += 1;
        }
    }
    assert!(count > 40, "only {count} examples were found");
}
