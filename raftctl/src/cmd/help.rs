//! `raftctl help`: the help of a verb, or a topic.

use clap::{Arg, Command};
use raftctl::failure::{Exit, Failure};
use raftd::config::nearest;

use crate::config::setting::SETTINGS;
use crate::grammar::{names, verbs};
use crate::session::Session;
use crate::topics::TOPICS;

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

pub(crate) fn run(
    args: &Args,
    cli: &mut Command,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let text = text(&args.words, cli)?;
    session.out.bytes(text.as_bytes())?;
    Ok(Exit::Done)
}

/// What is shown of the line that `cli` takes, or of a topic.
pub(crate) fn text(words: &[String], cli: &mut Command) -> Result<String, Failure> {
    if let [word] = words
        && let Some((name, text)) = TOPICS.iter().find(|(name, _)| name == word)
    {
        return Ok(if *name == "env" {
            settings() + text
        } else {
            (*text).to_owned()
        });
    }
    let mut at = cli;
    for word in words {
        if at.find_subcommand(word).is_none() {
            return Err(unknown(word, at));
        }
        at = at.find_subcommand_mut(word).expect("it was just found");
    }
    Ok(at.render_long_help().to_string())
}

/// What `-h` shows of a verb: no option that all verbs have. `None` for the program itself.
pub(crate) fn short(words: &[String], cli: &Command) -> Option<String> {
    let path = verbs(cli, words);
    let verb = *path.last()?;
    let general: Vec<_> = cli
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
