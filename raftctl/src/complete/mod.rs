//! Completion: what may stand at the cursor of a shell's line.
//!
//! A shell has one line of its own, which asks this program for the rest ([`glue`]) and, at each
//! TAB, for the candidates ([`answer`]). So both always agree. Nothing here asks a person, and
//! whatever fails is silence: a shell that completes has no place for an error.

mod engine;
mod line;
mod live;

use std::ffi::OsString;

use clap::{Command, ValueEnum};

use engine::Asked;
use line::Line;

/// Candidates at most: a person reads them.
const CANDIDATES_MAX: usize = 200;

/// The shells that can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash 4 or newer
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// What the shell reads at load.
pub(crate) fn glue(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("glue.bash"),
        Shell::Zsh => include_str!("glue.zsh"),
        Shell::Fish => include_str!("glue.fish"),
    }
}

/// How a shell tells its line.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The line up to the cursor as it was typed, and the characters at which a word to complete
    /// begins anew.
    Raw { line: String, breaks: String },
    /// The words as the shell understands them, up to that at the cursor.
    Words(Vec<String>),
}

/// One possibility, with what it means if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) value: String,
    pub(crate) about: String,
}

impl Candidate {
    fn new(value: impl Into<String>, about: impl Into<String>) -> Self {
        let about: String = about.into();
        let about = about.lines().next().unwrap_or_default().replace('\t', " ");
        Self {
            value: value.into(),
            about,
        }
    }
}

/// What the shell gets: `files`, if it is to complete names of files by itself, or `words` and then
/// a line `VALUE TAB ABOUT` for each candidate.
pub(crate) fn answer(told: &Told, cli: &Command, env: &dyn Fn(&str) -> Option<OsString>) -> String {
    let (words, line) = match told {
        Told::Raw { line, breaks } => {
            let line = Line::read(line, breaks);
            (line.words.clone(), Some(line))
        }
        Told::Words(words) => (words.clone(), None),
    };
    let Some(asked) = Asked::read(words.get(1..).unwrap_or_default(), cli) else {
        return String::new();
    };
    let Some(mut candidates) = asked.candidates(env) else {
        return "files\n".into();
    };
    candidates.truncate(CANDIDATES_MAX);
    let mut text = String::from("words\n");
    for Candidate { value, about } in candidates {
        let value = format!("{}{value}", asked.stem);
        let value = line
            .as_ref()
            .map_or(value.clone(), |line| line.insert(&value));
        text += &format!("{value}\t{about}\n");
    }
    text
}

#[cfg(test)]
mod tests;
