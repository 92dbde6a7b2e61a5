//! `raftctl completion`: what shells read to complete its lines.

use std::io::Write;

use clap::Command;
use raftctl::failure::{Exit, Failure};

use crate::complete::{self, Shell, Told};
use crate::session::Session;

/// Print what a shell reads to complete the lines of raftctl: verbs, options, keys and members.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  source <(raftctl completion bash)      in ~/.bashrc
  source <(raftctl completion zsh)       in ~/.zshrc, after compinit
  raftctl completion fish | source       in ~/.config/fish/config.fish")]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Print what may stand at the cursor: what shells ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Question {
    /// The line up to the cursor, as it was typed.
    #[arg(
        long,
        requires = "breaks",
        conflicts_with = "words",
        allow_hyphen_values = true
    )]
    line: Option<String>,
    /// The characters behind which a completed word begins.
    #[arg(long, requires = "line", allow_hyphen_values = true)]
    breaks: Option<String>,
    /// The words up to that at the cursor.
    #[arg(allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    session.out.bytes(complete::glue(args.shell).as_bytes())?;
    Ok(Exit::Done)
}

/// Answers a shell about the lines that `cli` takes.
pub(crate) fn answer(question: Question, cli: &Command) -> Exit {
    let told = match (question.line, question.breaks) {
        (Some(line), Some(breaks)) => Told::Raw { line, breaks },
        _ => Told::Words(question.words),
    };
    let answer = complete::answer(&told, cli, &|name| std::env::var_os(name));
    // There is nobody to tell that the shell left.
    let _ = std::io::stdout().write_all(answer.as_bytes());
    Exit::Done
}
