//! `raftctl config`: what is set, and why.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use raftctl::failure::{Exit, Failure};
use raftd::config::nearest;
use serde_json::json;

use crate::config::Origin;
use crate::config::file::{File, Layer, read_text};
use crate::config::setting::failure;
use crate::config::setting::{SETTINGS, named};
use crate::files::inaccessible;
use crate::format::{self, Ability};
use crate::session::Session;

/// Tell what is set, and where.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl config show --origin
  raftctl config explain timeout
  raftctl config check")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every setting as it counts.
    #[command(before_help = "Examples:\n  raftctl config show\n  raftctl config show --origin")]
    Show {
        /// Also tell where it was set.
        #[arg(long)]
        origin: bool,
    },
    /// Print everything that was said of one setting: what counts first.
    #[command(before_help = "Examples:\n  raftctl config explain endpoints\n  \
        RAFTCTL_TIMEOUT=1m raftctl config explain timeout")]
    Explain {
        /// The setting's name in a file.
        #[arg(value_name = "KEY")]
        setting: String,
    },
    /// Read the files, or one, and say what is wrong in them.
    #[command(before_help = "Examples:\n  raftctl config check\n  raftctl config check new.toml")]
    Check {
        /// This file only.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Show { origin } => show(*origin, session),
        Verb::Explain { setting } => explain(setting, session),
        Verb::Check { file } => check(file.as_deref(), session),
    }
}

/// What is told of settings, and of the places where one was set.
static FIELDS: [&str; 3] = ["setting", "value", "origin"];
const LAYERS: [&str; 3] = ["value", "it", "origin"];

/// What the verb can print.
pub(crate) fn ability(args: &Args) -> Ability {
    match args.verb {
        Verb::Show { origin: true } => format::rows(&FIELDS),
        Verb::Show { origin: false } => format::rows(&FIELDS[..2]),
        Verb::Explain { .. } => format::rows(&LAYERS),
        Verb::Check { .. } => format::LINES,
    }
}

fn show(with_origin: bool, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for setting in SETTINGS {
        let (origin, text) = &session.config.layers(setting)[0];
        if session.out.json() {
            let mut object = json!({"key": setting.key, "value": text});
            if with_origin {
                object["origin"] = json!(origin.to_string());
            }
            session.out.object(&object)?;
            continue;
        }
        let mut row = vec![setting.key.to_owned(), text.clone()];
        row.extend(with_origin.then(|| origin.to_string()));
        rows.push(row);
    }
    let columns = if with_origin { 3 } else { 2 };
    session.out.rows(&FIELDS[..columns], &rows)?;
    Ok(Exit::Done)
}

fn explain(key: &str, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let Some(setting) = named(key) else {
        let known = || SETTINGS.iter().map(|setting| setting.key);
        let advice = match nearest(key, known()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of {}", known().collect::<Vec<_>>().join(", ")),
        };
        return Err(failure(format!("there is no setting {key}")).remedy(advice));
    };
    let layers = session.config.layers(setting);
    if session.out.json() {
        let said = |(origin, text): &(Origin, String)| json!({"value": text, "origin": origin.to_string()});
        let hidden: Vec<_> = layers[1..].iter().map(said).collect();
        let mut object = said(&layers[0]);
        object["key"] = json!(setting.key);
        object["hidden"] = json!(hidden);
        session.out.object(&object)?;
        return Ok(Exit::Done);
    }
    let rows = layers.iter().enumerate().map(|(place, (origin, text))| {
        let counts = if place == 0 { "counts" } else { "hidden" };
        vec![text.clone(), counts.to_owned(), origin.to_string()]
    });
    let rows: Vec<_> = rows.collect();
    session.out.note(setting.doc)?;
    session.out.rows(&LAYERS, &rows)?;
    Ok(Exit::Done)
}

/// The files in effect were read before any verb is carried out: they are good if this is reached.
fn check(file: Option<&Path>, session: &mut Session<'_>) -> Result<Exit, Failure> {
    if let Some(path) = file {
        let text = read_text(path).map_err(|error| {
            let what = format!("the configuration cannot be read: {error}");
            inaccessible(failure(what), path, &error)
        })?;
        File::parse(path, Layer::User, &text)?;
        session.out.note(&format!("{}: ok", path.display()))?;
        return Ok(Exit::Done);
    }
    let files: Vec<_> = session
        .config
        .files
        .iter()
        .map(|file| file.path.clone())
        .collect();
    for path in files {
        session.out.note(&format!("{}: ok", path.display()))?;
    }
    Ok(Exit::Done)
}
