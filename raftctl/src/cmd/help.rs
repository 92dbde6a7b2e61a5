//! `raftctl help`: the help of a verb, or a topic.

use clap::{Arg, Command, CommandFactory};
use raftctl::failure::{Exit, Failure};
use raftd::config::nearest;

use super::Session;
use crate::cli::Cli;
use crate::complete::verbs;
use crate::config::setting::SETTINGS;

/// Show the help of a verb, or one of the topics exit-codes, formats, consistency, env, recipes.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl help get
  raftctl help exit-codes
  raftctl help snapshot save")]
pub(crate) struct Args {
    /// A verb, with the verb below it if it has any, or a topic.
    #[arg(value_name = "VERB|TOPIC")]
    pub(crate) words: Vec<String>,
}

/// What is told besides the verbs: name and text.
pub(crate) const TOPICS: &[(&str, &str)] = &[
    ("exit-codes", include_str!("../topics/exit-codes.txt")),
    ("formats", include_str!("../topics/formats.txt")),
    ("consistency", include_str!("../topics/consistency.txt")),
    ("env", include_str!("../topics/env.txt")),
    ("recipes", include_str!("../topics/recipes.txt")),
];

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let text = text(&args.words)?;
    session.out.bytes(text.as_bytes())?;
    Ok(Exit::Done)
}

/// What is shown.
pub(crate) fn text(words: &[String]) -> Result<String, Failure> {
    let mut command = Cli::command();
    command.build();
    if let [word] = words
        && let Some((name, text)) = TOPICS.iter().find(|(name, _)| name == word)
    {
        return Ok(if *name == "env" {
            settings() + text
        } else {
            (*text).to_owned()
        });
    }
    let mut at = &mut command;
    for word in words {
        if at.find_subcommand(word).is_none() {
            return Err(unknown(word, at));
        }
        at = at.find_subcommand_mut(word).expect("it was just found");
    }
    Ok(at.render_long_help().to_string())
}

/// What `-h` shows of a verb: no option that all verbs have. `None` for the program itself.
pub(crate) fn short(words: &[String]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let path = verbs(&command, words);
    let verb = *path.last()?;
    let general: Vec<_> = command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect();
    let hidden = |arg: Arg| {
        let hide = arg.get_id() != "help" && general.contains(arg.get_id());
        arg.hide(hide)
    };
    let names: Vec<_> = path.iter().map(|verb| verb.get_name()).collect();
    let more = format!(
        "`raftctl {} --help` has the options of all verbs, too.",
        names.join(" ")
    );
    let mut short = verb.clone().mut_args(hidden).after_help(more);
    Some(short.render_help().to_string())
}

/// The names of the verbs below this one.
pub(crate) fn names(at: &Command) -> impl Iterator<Item = &str> {
    let verbs = at.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.flat_map(Command::get_name_and_visible_aliases)
}

fn unknown(word: &str, at: &Command) -> Failure {
    let topics = TOPICS.iter().map(|(name, _)| *name);
    let advice = match nearest(word, names(at).chain(topics)) {
        Some(near) => format!("did you mean {near}?"),
        None => "raftctl help lists the verbs, and raftctl help help the topics".into(),
    };
    Failure::usage(format!("there is no help on {word}")).remedy(advice)
}

/// The variables of the settings.
fn settings() -> String {
    let mut text = String::from("Settings, each with a flag that has precedence:\n");
    for setting in SETTINGS {
        text += &format!(
            "  {:<20} --{:<12} {}\n",
            setting.env, setting.flag, setting.doc
        );
    }
    text
}
