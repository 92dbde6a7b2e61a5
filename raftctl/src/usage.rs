//! What is said of a command line that clap refuses, with the line that would have been right.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::num::{IntErrorKind, ParseIntError};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use raftctl::failure::Failure;
use raftd::config::nearest;

use crate::cli::{self, Cli};
use crate::encoding::shell::{can_be_typed, quoted};
use crate::grammar::{self, Given, names, verbs};

/// Turns clap's refusal of `line` (the program's name first) into four lines at most.
pub(crate) fn explain(error: &clap::Error, line: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n");
    let what = joined(parts.next().unwrap_or_default());
    let mut what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    if let Some(no_number) = error
        .source()
        .and_then(|source| source.downcast_ref::<ParseIntError>())
    {
        what = what.replace(&no_number.to_string(), in_words(no_number));
    }
    let failure = Failure::usage(what);
    let tip = suggestion(error, line);
    let corrected = match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue => corrected(line),
        _ => None,
    };
    // Which verbs there are is no part of it.
    let usage = parts
        .find_map(|part| part.strip_prefix("Usage: "))
        .filter(|_| error.kind() != ErrorKind::InvalidSubcommand);
    let remedy = match (tip, corrected, usage) {
        (Some(tip), Some(line), _) => format!("{tip}; or, if it is data: {line}"),
        (Some(tip), None, _) => tip,
        (None, Some(line), _) => line,
        (None, None, Some(usage)) => joined(usage),
        (None, None, None) => help_on(line),
    };
    failure.remedy(remedy)
}

/// What a line gets that ends before it says what to do, where a program would read the help.
pub(crate) fn no_verb(line: &[OsString]) -> Failure {
    Failure::usage("no verb is given").remedy(help_on(line))
}

/// The library's words for it are those of a programmer.
fn in_words(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "it is too large",
        _ => "it is no whole number",
    }
}

/// What shows what the verb of the line takes.
fn help_on(line: &[OsString]) -> String {
    let cli = cli::tree();
    let mut said = vec!["raftctl"];
    let path = verbs(&cli, &words(line));
    said.extend(path.iter().map(|verb| verb.get_name()));
    said.push("--help");
    said.join(" ")
}

/// The words behind the program's name.
fn words(line: &[OsString]) -> Vec<String> {
    let words = line.iter().skip(1).map(|word| word.to_string_lossy());
    words.map(String::from).collect()
}

/// Verbs that take data on their line and, unless they read records, know no format with NUL bytes.
const OF_DATA: [&str; 6] = ["put", "del", "cas", "incr", "append", "edit"];

/// The line with `-0` spelled out where it is a flag: clap takes it for a number, which may be a
/// datum.
pub(crate) fn with_null_flag(mut line: Vec<OsString>) -> Vec<OsString> {
    let end = line.iter().position(|word| word == "--");
    let mut end = end.unwrap_or(line.len());
    if !line[..end].iter().any(|word| word == "-0") {
        return line;
    }
    let cli = Cli::command();
    let found = verb_position(&cli, &line)
        .and_then(|at| Some((at, cli.find_subcommand(line[at].to_str()?)?)));
    let verb = found.map_or(&cli, |(_, verb)| verb);
    if let Some((at, verb)) = found
        && OF_DATA.contains(&verb.get_name())
        && !line[at..end].iter().any(|word| word == "--stdin")
    {
        // Behind the verb it is the negative number that it looks like.
        end = at;
    }
    for at in 1..end {
        let is_value = option(&[verb, &cli], &line[at - 1]).is_some_and(|before| before.waits());
        if line[at] == "-0" && !is_value {
            line[at] = "--null".into();
        }
    }
    line
}

/// The line with `ls` spelled out: `scan --keys`.
pub(crate) fn with_ls(mut line: Vec<OsString>) -> Vec<OsString> {
    if !line.iter().any(|word| word == "ls") {
        return line;
    }
    if let Some(at) = verb_position(&Cli::command(), &line)
        && line.get(at).is_some_and(|word| word == "ls")
    {
        line.insert(at + 1, "--keys".into());
    }
    line
}

fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was probably meant. Clap's own idea of verbs is good for long words only.
fn suggestion(error: &clap::Error, line: &[OsString]) -> Option<String> {
    let name = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.as_str()),
        _ => None,
    };
    let cli = cli::tree();
    let meant = match name(ContextKind::InvalidSubcommand) {
        Some(wrong) => {
            let above = verbs(&cli, &words(line));
            nearest(wrong, names(above.last().unwrap_or(&&cli)))
        }
        None => name(ContextKind::SuggestedArg).or(name(ContextKind::SuggestedValue)),
    };
    if let Some(meant) = meant {
        return Some(format!("did you mean '{meant}'?"));
    }
    // A letter alone is as likely to be data.
    let unknown = name(ContextKind::InvalidArg).filter(|unknown| unknown.starts_with("--"))?;
    is_known(&cli, OsStr::new(unknown)).then(|| help_on(line))
}

/// Whether this is an option of the verb, or of one below it.
fn is_known(verb: &Command, word: &OsStr) -> bool {
    let mut below = verb.get_subcommands();
    option(&[verb], word).is_some() || below.any(|verb| is_known(verb, word))
}

/// The same line with its data behind `--`, and options' values that begin with `-` tied to their
/// options; `None` if nothing but flags begins with `-`, or if that is no help either.
fn corrected(line: &[OsString]) -> Option<String> {
    let cli = Cli::command();
    let at = verb_position(&cli, line)?;
    let verb = cli.find_subcommand(line[at].to_str()?)?;
    let mut flags: Vec<OsString> = Vec::new();
    let mut data: Vec<OsString> = Vec::new();
    let mut rest = line[at + 1..].iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            data.extend(rest.by_ref().cloned());
        } else if let Some(given) = option(&[verb, &cli], word) {
            flags.push(word.clone());
            if given.waits() {
                let value = rest.next()?;
                if value.as_bytes().starts_with(b"-") && value != "-" {
                    let mut tied = flags.pop()?;
                    tied.push("=");
                    tied.push(value);
                    flags.push(tied);
                } else {
                    flags.push(value.clone());
                }
            }
        } else {
            data.push(word.clone());
        }
    }
    let mut right = line[..=at].to_vec();
    right.append(&mut flags);
    if data.iter().any(|word| word.as_bytes().starts_with(b"-")) {
        right.push("--".into());
    }
    right.append(&mut data);
    if right == line || !right.iter().all(|word| can_be_typed(word)) {
        return None;
    }
    cli.try_get_matches_from(&right).ok()?;
    right[0] = "raftctl".into();
    let words: Vec<_> = right.iter().map(|word| quoted(word)).collect();
    Some(words.join(" "))
}

/// Where the verb stands: behind the general options.
fn verb_position(cli: &Command, line: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while at < line.len() {
        match option(&[cli], &line[at]) {
            Some(given) if given.waits() => at += 2,
            Some(_) => at += 1,
            None => return Some(at),
        }
    }
    None
}

/// Whether a line that cannot be parsed asks for JSON.
pub(crate) fn wants_json(line: &[OsString]) -> bool {
    let cli = Cli::command();
    let flags = line.split(|word| word == "--").next().unwrap_or_default();
    (0..flags.len()).any(|at| {
        let Some(given) = option(&[&cli], &flags[at]) else {
            return false;
        };
        let value = given.value.or_else(|| flags.get(at + 1)?.to_str());
        match given.arg.get_id().as_str() {
            "json" => true,
            "format" => value == Some("jsonl"),
            _ => false,
        }
    })
}

fn option<'a, 'w>(verbs: &[&'a Command], word: &'w OsStr) -> Option<Given<'a, 'w>> {
    grammar::option(verbs, word.to_str()?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn remedy(words: &[&str]) -> String {
        let line: Vec<_> = words.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&line).expect_err("the line is wrong");
        explain(&error, &line).remedy
    }

    #[test]
    fn data_that_begin_with_a_dash_get_a_corrected_line() {
        assert_eq!(
            remedy(&["raftctl", "put", "k", "-v"]),
            "raftctl put -- k -v"
        );
        assert_eq!(
            remedy(&["raftctl", "-t", "1s", "put", "-k", "a b", "--json"]),
            "raftctl -t 1s put --json -- -k 'a b'"
        );
        assert_eq!(
            remedy(&["raftctl", "-t1s", "-en1:1,n2:1", "put", "k", "-x"]),
            "raftctl -t1s -en1:1,n2:1 put -- k -x"
        );
        assert_eq!(
            remedy(&["raftctl", "cas", "k", "--expect", "-v", "--new"]),
            "raftctl cas --expect=-v -- k --new"
        );
        assert_eq!(
            remedy(&["raftctl", "put", "k", r"-a\b'c"]),
            r"raftctl put -- k '-a\b'\''c'"
        );
    }

    #[test]
    fn an_option_of_other_verbs_is_probably_no_datum() {
        assert_eq!(
            remedy(&["raftctl", "get", "k", "--request-id", "1"]),
            "raftctl get --help; or, if it is data: raftctl get -- k --request-id 1"
        );
        assert_eq!(
            remedy(&["raftctl", "status", "--request-id=1"]),
            "raftctl status --help"
        );
    }

    #[test]
    fn a_line_that_nobody_can_type_is_not_advised() {
        let usage = "raftctl get [OPTIONS] [KEY]...";
        assert_eq!(remedy(&["raftctl", "get", "-a\n"]), usage);
        let odd = OsStr::from_bytes(b"-a\xff").to_owned();
        let line = ["raftctl".into(), "get".into(), odd];
        let error = Cli::try_parse_from(&line).expect_err("the line is wrong");
        assert_eq!(explain(&error, &line).remedy, usage);
    }

    #[test]
    fn a_zero_with_a_dash_is_a_flag_where_no_value_is_due() {
        let line = |words: &[&str]| {
            let line = words.iter().map(OsString::from).collect();
            let line = with_null_flag(line);
            line.join(OsStr::new(" ")).into_string().expect("UTF-8")
        };
        assert_eq!(
            line(&["raftctl", "scan", "-0", "p"]),
            "raftctl scan --null p"
        );
        assert_eq!(line(&["raftctl", "-0", "scan"]), "raftctl --null scan");
        assert_eq!(
            line(&["raftctl", "get", "k", "--default", "-0"]),
            "raftctl get k --default -0"
        );
        assert_eq!(line(&["raftctl", "get", "--", "-0"]), "raftctl get -- -0");
        assert_eq!(
            line(&["raftctl", "-t5s", "get", "k", "--default", "-0"]),
            "raftctl -t5s get k --default -0"
        );
        assert_eq!(
            line(&["raftctl", "get", "k", "--default=x", "-0", "-ojsonl", "-0"]),
            "raftctl get k --default=x --null -ojsonl --null"
        );
        assert_eq!(
            line(&["raftctl", "add-peer", "n4", "a:1", "--wait", "-0"]),
            "raftctl add-peer n4 a:1 --wait --null"
        );
    }

    #[test]
    fn a_zero_with_a_dash_is_a_datum_of_verbs_that_take_data_alone() {
        let line = |words: &str| {
            let line = words.split(' ').map(OsString::from).collect();
            let line = with_null_flag(line);
            line.join(OsStr::new(" ")).into_string().expect("UTF-8")
        };
        for number in [
            "raftctl incr n -0",
            "raftctl -t5s incr n -0 --json",
            "raftctl put k -0",
            "raftctl put -0 -0",
            "raftctl rm -0",
            "raftctl append k -0",
            "raftctl edit -0",
            "raftctl cas k --expect-absent -0",
        ] {
            assert_eq!(line(number), number);
        }
        for flag in [
            "raftctl put --stdin -0",
            "raftctl del -0 --stdin",
            "raftctl get k -0",
            "raftctl -0 put k v",
        ] {
            assert_eq!(line(flag), flag.replace("-0", "--null"));
        }
    }

    #[test]
    fn ls_is_found_behind_general_options() {
        for general in [
            &[][..],
            &["-t5s"],
            &["-t=5s"],
            &["-t", "5s"],
            &["--timeout=5s"],
            &["-0t", "5s"],
            &["-0t5s", "--json"],
            &["-ean:7400", "-oc"],
        ] {
            let line = |verb: &[&str]| -> Vec<OsString> {
                let words = [&["raftctl"], general, verb].concat();
                words.into_iter().map(OsString::from).collect()
            };
            let keys = line(&["ls", "--keys", "p"]);
            assert_eq!(with_ls(line(&["ls", "p"])), keys, "{general:?}");
        }
    }

    #[test]
    fn a_wrong_line_asks_for_json_in_every_spelling() {
        let wants = |words: &[&str]| {
            let line: Vec<_> = words.iter().map(OsString::from).collect();
            wants_json(&line)
        };
        for format in [
            "-o jsonl",
            "-ojsonl",
            "-o=jsonl",
            "--format jsonl",
            "--format=jsonl",
        ] {
            let words: Vec<_> = format.split(' ').collect();
            assert!(
                wants(&[&["raftctl"], &words[..], &["gett"]].concat()),
                "{format}"
            );
        }
        assert!(wants(&["raftctl", "--json", "gett"]));
        assert!(!wants(&["raftctl", "gett", "-otsv", "--", "--json"]));
    }

    #[test]
    fn a_typo_gets_a_suggestion() {
        let typos = [
            ("gett", "get"),
            ("pt", "put"),
            ("gte", "get"),
            ("promote", "promote-peer"),
        ];
        for (typo, verb) in typos {
            let meant = format!("did you mean '{verb}'?");
            assert_eq!(remedy(&["raftctl", typo, "k"]), meant);
        }
        assert_eq!(
            remedy(&["raftctl", "--json", "snapshot", "svae", "f"]),
            "did you mean 'save'?"
        );
        assert_eq!(
            remedy(&["raftctl", "get", "--jsn", "k"]),
            "did you mean '--json'?; or, if it is data: raftctl get -- --jsn k"
        );
    }

    #[test]
    fn what_is_no_verb_leads_to_the_list_of_them() {
        assert_eq!(remedy(&["raftctl", "zzz"]), "raftctl --help");
        assert_eq!(
            remedy(&["raftctl", "snapshot", "zzz"]),
            "raftctl snapshot --help"
        );
    }

    #[test]
    fn what_a_verb_does_not_take_leads_to_its_help() {
        assert_eq!(
            remedy(&["raftctl", "-t", "1s", "incr", "n", "1.5"]),
            "raftctl incr --help"
        );
        assert_eq!(
            remedy(&[
                "raftctl",
                "snapshot",
                "restore",
                "f",
                "--data-dir",
                "d",
                "--peer-addr",
                "x"
            ]),
            "raftctl snapshot restore --help"
        );
        assert_eq!(
            remedy(&["raftctl", "-t", "5", "scan"]),
            "raftctl scan --help"
        );
    }

    #[test]
    fn a_number_that_is_none_is_told_of_in_plain_words() {
        let what = |number: &str| {
            let line: Vec<_> = ["raftctl", "scan", "--limit", number]
                .map(OsString::from)
                .into();
            let error = Cli::try_parse_from(&line).expect_err("the line is wrong");
            explain(&error, &line).what
        };
        let said =
            |number: &str, why: &str| format!("invalid value '{number}' for '--limit <N>': {why}");
        assert_eq!(what("ten"), said("ten", "it is no whole number"));
        let large = "99999999999999999999";
        assert_eq!(what(large), said(large, "it is too large"));
    }

    #[test]
    fn a_missing_argument_gets_the_usage() {
        let remedy = remedy(&["raftctl", "get"]);
        assert!(remedy.starts_with("raftctl get"), "{remedy}");
    }
}
