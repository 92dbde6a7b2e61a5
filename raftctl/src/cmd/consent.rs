//! Whether what cannot be undone was meant.

use std::io::{self, BufRead, IsTerminal, Write};

use raftctl::failure::Failure;

use crate::session::Session;

/// Whether it was meant.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Consent {
    /// Ask no question: for scripts.
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Whether somebody will be asked.
    pub(super) fn asks(self) -> bool {
        !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks whoever sits at the terminal to type this name, and gives them time. Nothing is asked for
    /// a dry run.
    pub(super) fn get(
        self,
        doing: &str,
        name: &str,
        dry_run: bool,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        if self.yes || dry_run {
            return Ok(());
        }
        if !self.asks() {
            return Err(Failure::usage(format!(
                "{doing} asks first, and nobody is there to answer"
            ))
            .remedy("the same with --yes, or with --dry-run to see what it would do"));
        }
        let mut answer = String::new();
        let (stdin, mut stderr) = (io::stdin(), io::stderr());
        let asked = write!(stderr, "{doing}: type {name} to go on: ")
            .and_then(|()| stderr.flush())
            .and_then(|()| stdin.lock().read_line(&mut answer));
        session.was_away();
        match asked {
            Ok(_) if answer.trim() == name => Ok(()),
            _ => {
                if !answer.ends_with('\n') {
                    // Nobody is left to tell that standard error is gone.
                    let _ = writeln!(stderr);
                }
                let what = format!("{doing} was not done: that is not its name");
                Err(Failure::usage(what))
            }
        }
    }
}
