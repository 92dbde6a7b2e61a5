//! `raftctl`: the command line of `raftd`. The exit code is decided here and nowhere else.
//!
//! From the top: `main`; `dispatch` from a line to its verb, and `usage`, what is said of a line that
//! is none; `cli`, the lines that there are; `cmd`, one verb per file; `bulk` (records in blocks) and
//! `complete` (what a shell asks); `grammar` (words of a line) and `session` (what a verb works with);
//! then configuration, input, output and their formats. Each knows only what is below it.

mod bar;
mod bulk;
mod cli;
mod cluster;
mod cmd;
mod complete;
mod config;
mod decoding;
mod dispatch;
mod encoding;
mod files;
mod format;
mod grammar;
mod input;
mod items;
mod output;
mod pager;
mod session;
mod signals;
mod topics;
mod undone;
mod usage;

use std::any::Any;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use raftctl::failure::{Exit, Failure};

use cli::Cli;
use cmd::help;
use format::Format;
use signals::Signals;

fn main() {
    panic::set_hook(Box::new(|info| {
        report(&bug(info), None);
        process::exit(Exit::Bug as i32);
    }));
    let line = usage::with_ls(usage::with_null_flag(std::env::args_os().collect()));
    let signals = Signals::new();
    let (result, json) = match Cli::try_parse_from(&line) {
        Ok(cli) => {
            let json = cli.style.format() == Some(Format::Jsonl);
            (dispatch::run(cli, &signals), json)
        }
        Err(error) => (refused(&error, &line), usage::wants_json(&line)),
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            if failure.exit != Exit::Pipe {
                let status = signals.status().unwrap_or(failure.exit as u8);
                report(&failure, json.then_some(status));
            }
            failure.exit
        }
    };
    signals.deliver();
    process::exit(exit as i32)
}

/// Help and version are answers; everything else that clap says is a refusal.
fn refused(error: &clap::Error, line: &[OsString]) -> Result<Exit, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut stdout = io::stdout().lock();
            let is_short =
                error.kind() == ErrorKind::DisplayHelp && !line.contains(&"--help".into());
            let short = is_short.then(|| short_help(line)).flatten();
            let text = short.unwrap_or_else(|| error.render().to_string());
            let written = stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush());
            written.map_err(|error| output::failure(&error))?;
            Ok(Exit::Done)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            if usage::wants_json(line) {
                return Err(usage::no_verb(line));
            }
            let help = short_help(line);
            let help = help.unwrap_or_else(|| Cli::command().render_help().to_string());
            say(help.as_bytes());
            Ok(Exit::Usage)
        }
        _ => Err(usage::explain(error, line)),
    }
}

/// What `-h` shows of the verb of a line, which fits on a screen; `None` if there is no verb.
fn short_help(line: &[OsString]) -> Option<String> {
    let words = line.iter().map(|word| word.clone().into_string().ok());
    let words: Vec<String> = words.collect::<Option<_>>()?;
    help::short(&words[1..], &cli::tree())
}

/// Says what failed, to programs first if the status is given that they are to be told.
fn report(failure: &Failure, status: Option<u8>) {
    if let Some(status) = status {
        say(&failure.to_json(status));
    }
    say(format!("{failure}\n").as_bytes());
}

fn say(text: &[u8]) {
    // Nobody is left to tell that standard error is gone.
    let _ = io::stderr().write_all(text);
}

fn bug(info: &PanicHookInfo<'_>) -> Failure {
    let payload: &dyn Any = info.payload();
    let text = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => *text,
        (None, Some(text)) => text,
        (None, None) => "no reason was given",
    };
    let failure = Failure::new(Exit::Bug, "bug", format!("a bug of raftctl: {text}"));
    let failure = match info.location() {
        Some(location) => failure.at(location),
        None => failure,
    };
    failure.remedy("please report it with the command line; a write may or may not be applied")
}
