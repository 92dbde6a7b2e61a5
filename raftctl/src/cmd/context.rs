//! `raftctl context`: clusters by name, in the user's configuration.

use clap::Subcommand;
use raftctl::failure::{Exit, Failure};
use serde_json::{Map, Value, json};

use crate::config::edit::{Change, change};
use crate::config::file::{Context, File, Layer};
use crate::config::setting::failure;
use crate::config::setting::{CONTEXT, ENDPOINTS};
use crate::config::{Flags, advice_on_contexts};
use crate::format::{self, Ability};
use crate::session::Session;

/// Name clusters, and choose one of them.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl -e n1:7400,n2:7400 context add prod
  raftctl context use prod
  raftctl -c prod status")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the contexts.
    #[command(before_help = "Examples:\n  raftctl context ls\n  raftctl context ls | cut -f1")]
    Ls,
    /// Choose the context that counts when none is named.
    #[command(before_help = "Examples:\n  raftctl context use prod")]
    Use(Named),
    /// Add a context of the options -e and -t that stand on this line.
    #[command(before_help = "Examples:\n  raftctl -e n1:7400,n2:7400 -t 10s context add prod")]
    Add(Named),
    /// Print the settings of a context, or of the one that counts.
    #[command(before_help = "Examples:\n  raftctl context show\n  raftctl context show prod")]
    Show {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a context.
    #[command(before_help = "Examples:\n  raftctl context rm prod")]
    Rm(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Its name: letters, digits, - and _.
    #[arg(value_name = "NAME", value_parser = CONTEXT.parser())]
    name: String,
}

impl Args {
    /// Whether it is for the first one, too.
    pub(crate) fn adds(&self) -> bool {
        matches!(self.verb, Verb::Add(_))
    }
}

pub(crate) fn run(args: &Args, flags: &Flags, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Ls => list(session),
        Verb::Use(Named { name }) => choose(name, session),
        Verb::Add(Named { name }) => add(name, flags, session),
        Verb::Show { name } => show(name.as_deref(), session),
        Verb::Rm(Named { name }) => remove(name, session),
    }
}

/// What is told of contexts, and of the settings of one.
const FIELDS: [&str; 4] = ["name", "current", "endpoints", "file"];
const SHOWN: [&str; 2] = ["setting", "value"];

/// What the verb can print.
pub(crate) fn ability(args: &Args) -> Ability {
    match args.verb {
        Verb::Ls => format::rows(&FIELDS),
        Verb::Show { .. } => format::rows(&SHOWN),
        _ => format::LINES,
    }
}

fn list(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let config = &session.config;
    let all = config.files.iter();
    let all = all.flat_map(|file| file.contexts.iter().map(move |(name, it)| (name, it, file)));
    let mut all: Vec<_> = all
        // The user's own hides that of the machine.
        .filter(|(name, _, file)| {
            config
                .find(name)
                .is_some_and(|(first, _)| first.layer == file.layer)
        })
        .collect();
    all.sort_by_key(|(name, ..)| *name);
    let is_current = |name: &str| config.context() == Some(name);
    if session.out.json() {
        for (name, context, file) in all {
            let mut object = object(context);
            object.insert("name".into(), json!(name));
            object.insert("current".into(), json!(is_current(name)));
            object.insert("file".into(), json!(file.path.display().to_string()));
            session.out.object(&object)?;
        }
        return Ok(Exit::Done);
    }
    let row = |(name, context, file): &(&String, &Context, &File)| {
        let endpoints = context.get(&ENDPOINTS).map_or("-", |said| &said.text);
        let path = file.path.display().to_string();
        vec![
            (*name).clone(),
            is_current(name).to_string(),
            endpoints.to_owned(),
            path,
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    session.out.rows(&FIELDS, &rows)?;
    Ok(Exit::Done)
}

/// The settings of a context.
fn object(context: &Context) -> Map<String, Value> {
    let pairs = context.said.iter().map(|said| {
        let value = if said.setting.key == ENDPOINTS.key {
            said.text.split(',').collect()
        } else {
            json!(said.text)
        };
        (said.setting.key.to_owned(), value)
    });
    pairs.collect()
}

fn show(name: Option<&str>, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let Some(name) = name.or(session.config.context()) else {
        session.out.note("no context is chosen")?;
        return Ok(Exit::No);
    };
    let (_, context) = known(name, session)?;
    if session.out.json() {
        let object = object(context);
        session.out.object(&object)?;
        return Ok(Exit::Done);
    }
    let row = |said: &crate::config::file::Said| vec![said.setting.key.into(), said.text.clone()];
    let rows: Vec<_> = context.said.iter().map(row).collect();
    session.out.rows(&SHOWN, &rows)?;
    Ok(Exit::Done)
}

fn known<'a>(name: &str, session: &'a Session<'_>) -> Result<(&'a File, &'a Context), Failure> {
    session.config.find(name).ok_or_else(|| {
        let advice = advice_on_contexts(name, &session.config.files);
        failure(format!("there is no context {name}")).remedy(advice)
    })
}

/// Changes the user's own file.
fn edit(wanted: &Change<'_>, session: &Session<'_>) -> Result<(), Failure> {
    match &session.config.own {
        Some(path) => change(path, wanted),
        None => Err(
            failure("there is no place for a configuration: HOME is not set".into())
                .remedy("--config FILE names one"),
        ),
    }
}

fn choose(name: &str, session: &mut Session<'_>) -> Result<Exit, Failure> {
    known(name, session)?;
    edit(&Change::Use(name), session)?;
    session.out.note(&format!("{name} is used from now on"))?;
    Ok(Exit::Done)
}

fn add(name: &str, flags: &Flags, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let settings = flags.for_context();
    if !settings
        .iter()
        .any(|(setting, _)| setting.key == ENDPOINTS.key)
    {
        return Err(Failure::usage("a context needs endpoints")
            .remedy(format!("raftctl -e HOST:PORT,.. context add {name}")));
    }
    let own = session
        .config
        .files
        .iter()
        .find(|file| file.layer == Layer::User);
    if let Some(context) = own.and_then(|file| file.contexts.get(name)) {
        let path = session.config.own.clone().unwrap_or_default();
        let what = format!("context add was refused: there is a context {name}");
        return Err(Failure::new(Exit::Refused, "exists", what)
            .at(format!("{} line {}", path.display(), context.line))
            .remedy(format!("raftctl context rm {name}, or another name")));
    }
    edit(&Change::Add(name, settings), session)?;
    session.out.note(&format!(
        "{name} was added; `raftctl context use {name}` chooses it"
    ))?;
    Ok(Exit::Done)
}

fn remove(name: &str, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let (file, _) = known(name, session)?;
    if file.layer == Layer::System {
        let what = format!("context rm was refused: {name} is for all users of this machine");
        return Err(Failure::new(Exit::Refused, "not-yours", what).at(file.path.display()));
    }
    edit(&Change::Remove(name), session)?;
    session.out.note(&format!("{name} was removed"))?;
    Ok(Exit::Done)
}
