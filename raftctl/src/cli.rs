//! The command line, as clap reads it. `man raftctl` is its reference.

use std::time::Duration;

use clap::{Parser, Subcommand};
use raftctl::bench;

use crate::cmd::{
    cas, count, del, get, incr, is_healthy, members, put, recover, scan, snapshot, transfer_leader,
    wait_ready, wal,
};

const EXAMPLES: &str = "\
Examples:
  raftctl put greeting hello          write a key
  raftctl get greeting                its exact bytes; exit 1 if there is none
  raftctl -e n1:7400,n2:7400 status   the cluster, member by member";

/// Reads, writes and looks after a raftd cluster.
#[derive(Debug, Parser)]
#[command(name = "raftctl", version, before_help = EXAMPLES, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done or yes, 1 no, 2 usage, 3 nobody answered, 4 not applied, \
    5 outcome unknown, 6 refused; `man raftctl` has all."
)]
pub(crate) struct Cli {
    /// Members to ask; one that answers is enough.
    #[arg(
        short,
        long,
        global = true,
        value_name = "HOST:PORT,..",
        env = "RAFTCTL_ENDPOINTS"
    )]
    #[arg(default_value = "127.0.0.1:7400", value_delimiter = ',', value_parser = endpoint)]
    #[arg(hide_env_values = true)]
    pub(crate) endpoints: Vec<String>,
    /// Time in all, such as 500ms or 5s; for waiting verbs and bench, time without progress.
    #[arg(short, long, global = true, value_name = "TIME", default_value = "5s")]
    #[arg(value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// Print one JSON object per line, and errors as JSON too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Put(put::Args),
    Get(get::Args),
    Del(del::Args),
    Cas(cas::Args),
    Incr(incr::Args),
    Scan(scan::Args),
    Count(count::Args),
    Snapshot(snapshot::Args),
    /// Show the cluster and every member, dead ones too.
    #[command(before_help = "Examples:\n  raftctl status\n  raftctl status --json | jq .leader")]
    Status,
    /// List the members, one per line.
    #[command(before_help = "Examples:\n  raftctl peers\n  raftctl peers | cut -f5")]
    Peers,
    AddPeer(members::Add),
    RemovePeer(members::Remove),
    PromotePeer(members::Promote),
    DemotePeer(members::Demote),
    ReplacePeer(members::Replace),
    UpdatePeer(members::Update),
    /// Ask whether the node named with -e leads: exit 0 or 1.
    #[command(before_help = "Examples:\n  raftctl -e n1:7400 is-leader && echo yes")]
    IsLeader,
    IsHealthy(is_healthy::Args),
    /// Ask whether the others would go on without the node named with -e: exit 0 or 1.
    #[command(
        before_help = "Examples:\n  raftctl -e n1:7400 is-safe-to-stop && ssh n1 systemctl restart raftd@main"
    )]
    IsSafeToStop,
    WaitReady(wait_ready::Args),
    TransferLeader(transfer_leader::Args),
    /// List who has led, oldest first, and why somebody else came after.
    #[command(
        before_help = "Examples:\n  raftctl leaders\n  raftctl leaders | cut -f5 | sort | uniq -c"
    )]
    Leaders,
    Recover(recover::Args),
    Wal(wal::Args),
    /// Measure how fast the cluster answers.
    #[command(before_help = "Examples:\n  raftctl bench put --connections 64\n  \
        raftctl bench mixed --connections 16 --in-flight 64 --seconds 30 --json")]
    Bench(bench::Args),
    /// Print the version of this program.
    #[command(before_help = "Examples:\n  raftctl version\n  raftctl version --json")]
    Version,
}

pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    match port {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(text.into()),
        _ => Err("an endpoint is HOST:PORT, such as 127.0.0.1:7400".into()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(1) => Ok(time.min(Duration::from_secs(86_400))),
        _ => Err("a time is a number from 1ms on with its unit, such as 500ms, 5s or 2m".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory};
    use raftctl::failure::Exit;

    use super::*;

    const PAGE: &str = include_str!("../../man/raftctl.1");

    /// The page as it reads: without the marks of its typesetting.
    fn page() -> String {
        PAGE.replace("\\-", "-").replace("\\(aq", "'")
    }

    fn section(name: &str) -> String {
        let page = page();
        let begin = page
            .find(&format!(".SH {name}\n"))
            .expect("the section is there");
        let text = &page[begin + 4 + name.len()..];
        text[..text.find("\n.SH ").unwrap_or(text.len())].to_owned()
    }

    /// What stands behind a macro that sets a term in bold.
    fn terms(text: &str) -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| {
            let line = line.strip_prefix(".B ").or(line.strip_prefix(".BR "))?;
            line.split_whitespace().next().map(str::to_owned)
        });
        lines.collect()
    }

    fn flags(command: &Command, into: &mut BTreeSet<String>) {
        for arg in command.get_arguments() {
            into.extend(arg.get_long().map(|long| format!("--{long}")));
        }
        command.get_subcommands().for_each(|verb| flags(verb, into));
    }

    #[test]
    fn the_page_and_the_program_know_the_same_flags() {
        let mut known = BTreeSet::new();
        let mut cli = Cli::command();
        cli.build();
        flags(&cli, &mut known);
        let page = page();
        let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let told: BTreeSet<_> = words
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(str::to_owned)
            .collect();
        assert_eq!(told, known);
    }

    #[test]
    fn the_page_and_the_program_know_the_same_verbs() {
        let mut cli = Cli::command();
        cli.build();
        let known: BTreeSet<_> = cli
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        let text = section("VERBS");
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
        assert_eq!(told, known);
    }

    #[test]
    fn the_page_lists_every_exit_status() {
        let text = section("\"EXIT STATUS\"");
        let told: BTreeSet<_> = terms(&text)
            .into_iter()
            .filter_map(|term| term.parse::<u8>().ok())
            .collect();
        let by_sigterm = 143;
        let mut known: BTreeSet<_> = Exit::ALL.iter().map(|exit| *exit as u8).collect();
        known.insert(by_sigterm);
        assert_eq!(told, known);
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

    #[test]
    fn every_example_is_understood() {
        let mut cli = Cli::command();
        cli.build();
        let mut examples = section("EXAMPLES");
        let helps = cli.get_subcommands().chain([&cli]);
        for help in helps.filter_map(Command::get_before_help) {
            examples.push_str(&help.to_string());
            examples.push('\n');
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
                if let Err(error) = Cli::try_parse_from(&call) {
                    panic!("{line}: {call:?}: {error}");
                }
                count += 1;
            }
        }
        assert!(count > 40, "only {count} examples were found");
    }
}
