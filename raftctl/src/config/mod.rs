//! What `raftctl` is told besides its arguments: flags, environment, contexts and files, brought
//! together. `raftctl.toml(5)` is the reference.

pub(crate) mod edit;
pub(crate) mod file;
pub(crate) mod setting;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raftctl::failure::Failure;
use raftd::config::nearest;

use file::{File, Layer, Said};
use setting::{CONTEXT, ENDPOINTS, SETTINGS, Setting, TIMEOUT};

/// The file for all users of a machine.
const SYSTEM_FILE: &str = "/etc/raftctl/config.toml";

/// What the command line says of the settings, each one checked; and which files count.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "For all verbs")]
pub(crate) struct Flags {
    /// Members to ask; one that answers is enough.
    #[arg(short, long, global = true, value_name = "HOST:PORT,..", value_parser = ENDPOINTS.parser())]
    endpoints: Option<String>,
    /// Time in all, such as 500ms or 5s; for waiting verbs and bench, time without progress.
    #[arg(short, long, global = true, value_name = "TIME", value_parser = TIMEOUT.parser())]
    timeout: Option<String>,
    /// The context of the configuration to use; it goes before the environment.
    #[arg(short, long, global = true, value_name = "NAME", value_parser = CONTEXT.parser())]
    context: Option<String>,
    /// This configuration file instead of your own.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read no configuration file.
    #[arg(long, global = true, conflicts_with_all = ["config", "context"])]
    no_config: bool,
    /// What other flags say of settings.
    #[arg(skip)]
    others: Vec<(&'static str, String)>,
    /// The verb makes your own file if it is not there.
    #[arg(skip)]
    pub(crate) makes_own: bool,
    /// The verb looks after contexts: it goes on when the one that was chosen is not there.
    #[arg(skip)]
    pub(crate) minds_contexts: bool,
}

impl Flags {
    fn of(&self, setting: &Setting) -> Option<&String> {
        match setting.key {
            "endpoints" => self.endpoints.as_ref(),
            "timeout" => self.timeout.as_ref(),
            "context" => self.context.as_ref(),
            key => {
                let mut others = self.others.iter();
                Some(&others.find(|(other, _)| *other == key)?.1)
            }
        }
    }

    /// Takes what flags beside these say of settings, by key.
    pub(crate) fn take(&mut self, said: impl IntoIterator<Item = (&'static str, Option<String>)>) {
        let said = said.into_iter();
        self.others
            .extend(said.filter_map(|(key, text)| Some((key, text?))));
    }

    /// Takes the value of a flag as it was typed: of a line that is not whole yet.
    pub(crate) fn set(&mut self, id: &str, value: &str) {
        match id {
            "endpoints" => self.endpoints = Some(value.into()),
            "timeout" => self.timeout = Some(value.into()),
            "context" => self.context = Some(value.into()),
            "config" => self.config = Some(value.into()),
            _ => {}
        }
    }

    /// What was said of the settings that a context may have.
    pub(crate) fn for_context(&self) -> Vec<(&'static Setting, String)> {
        let said = |setting: &'static Setting| Some((setting, self.of(setting)?.clone()));
        let settings = SETTINGS.iter().filter(|setting| setting.key != CONTEXT.key);
        settings.filter_map(said).collect()
    }
}

/// Which layer said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A line of a context.
    Context(String, PathBuf, usize),
    /// A line of a file, in no context.
    File(PathBuf, usize),
    /// Nobody.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Context(name, path, line) => {
                write!(f, "context {name} in {} line {line}", path.display())
            }
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::BuiltIn => write!(f, "built in"),
        }
    }
}

/// What every setting is, and why.
///
/// Invariants:
/// - for each setting there is at least one value, the built-in one last;
/// - the first value counts, and the others are what it hides, in order.
#[derive(Debug)]
pub(crate) struct Config {
    values: Vec<(&'static Setting, Vec<(Origin, String)>)>,
    /// The files that are there, the user's own first.
    pub(crate) files: Vec<File>,
    /// Where the user's own file is, or would be.
    pub(crate) own: Option<PathBuf>,
}

impl Config {
    /// Brings all layers together. An empty variable counts as unset.
    ///
    /// # Errors
    /// A file cannot be read, or something that was said cannot be; the failure tells where.
    pub(crate) fn resolve(
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        Self::resolve_over(Path::new(SYSTEM_FILE), flags, env)
    }

    /// The same, with the file of the machine at this place.
    fn resolve_over(
        system: &Path,
        flags: &Flags,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let own = own_file(flags, &env);
        let mut files = Vec::new();
        if !flags.no_config {
            if let Some((path, demanded)) = &own {
                files.extend(File::read(path, Layer::User, *demanded)?);
            }
            files.extend(File::read(system, Layer::System, false)?);
        }
        let mut values = Vec::new();
        let chosen = choose(flags, &env, &files)?;
        for setting in SETTINGS {
            let said = said_of(setting, flags, &env, &files, chosen.as_ref())?;
            values.push((setting, said));
        }
        let own = own.map(|(path, _)| path);
        Ok(Self { values, files, own })
    }

    /// What holds if nobody says anything.
    pub(crate) fn built_in() -> Self {
        let default = |setting: &'static Setting| {
            (setting, vec![(Origin::BuiltIn, setting.default.to_owned())])
        };
        Self {
            values: SETTINGS.iter().map(default).collect(),
            files: Vec::new(),
            own: None,
        }
    }

    /// What was said of a setting: what counts first, then what that hides.
    pub(crate) fn layers(&self, setting: &Setting) -> &[(Origin, String)] {
        let found = self
            .values
            .iter()
            .find(|(other, _)| other.key == setting.key);
        let layers = &found.expect("a setting of the table").1;
        assert!(!layers.is_empty(), "the built-in value is always there");
        layers
    }

    /// What counts.
    pub(crate) fn text(&self, setting: &Setting) -> &str {
        &self.layers(setting)[0].1
    }

    /// Members to ask.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let endpoints = self.text(&ENDPOINTS).split(',');
        endpoints.map(str::to_owned).collect()
    }

    /// The time for a verb.
    pub(crate) fn timeout(&self) -> Duration {
        setting::time(self.text(&TIMEOUT)).expect("each value was checked")
    }

    /// The context that counts, if one was chosen.
    pub(crate) fn context(&self) -> Option<&str> {
        Some(self.text(&CONTEXT)).filter(|name| !name.is_empty())
    }

    /// A context by name: the user's own, or else the system's.
    pub(crate) fn find(&self, name: &str) -> Option<(&File, &file::Context)> {
        find(&self.files, name)
    }
}

fn find<'a>(files: &'a [File], name: &str) -> Option<(&'a File, &'a file::Context)> {
    files
        .iter()
        .find_map(|file| Some((file, file.contexts.get(name)?)))
}

/// The user's own file, and whether it must be there.
fn own_file(flags: &Flags, env: &dyn Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    if let Some(path) = &flags.config {
        return Some((path.clone(), !flags.makes_own));
    }
    if let Some(path) = env("RAFTCTL_CONFIG") {
        return Some((path.into(), !flags.makes_own));
    }
    let folder = env("XDG_CONFIG_HOME").map(PathBuf::from);
    // The specification: a path that is not absolute does not count.
    let folder = folder.filter(|path| path.is_absolute());
    let folder = folder.or_else(|| Some(PathBuf::from(env("HOME")?).join(".config")));
    Some((folder?.join("raftctl/config.toml"), false))
}

/// A context that was chosen, and whether a flag did it.
struct Chosen<'a> {
    file: &'a File,
    name: String,
    context: &'a file::Context,
    by_flag: bool,
}

fn choose<'a>(
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<OsString>,
    files: &'a [File],
) -> Result<Option<Chosen<'a>>, Failure> {
    let said = said_of(&CONTEXT, flags, env, files, None)?;
    let (origin, name) = &said[0];
    if name.is_empty() || flags.no_config {
        return Ok(None);
    }
    let by_flag = matches!(origin, Origin::Flag(_));
    let Some((file, context)) = find(files, name) else {
        if flags.minds_contexts && !by_flag {
            return Ok(None);
        }
        let failure = setting::failure(format!("there is no context {name}")).at(origin);
        return Err(failure.remedy(advice_on_contexts(name, files)));
    };
    Ok(Some(Chosen {
        file,
        name: name.clone(),
        context,
        by_flag,
    }))
}

/// What to try when there is no such context.
pub(crate) fn advice_on_contexts(name: &str, files: &[File]) -> String {
    let names = || {
        files
            .iter()
            .flat_map(|file| file.contexts.keys())
            .map(String::as_str)
    };
    match nearest(name, names()) {
        Some(near) => format!("did you mean {near}?"),
        None if names().next().is_none() => {
            format!("raftctl -e HOST:PORT,.. context add {name}")
        }
        None => "raftctl context ls".into(),
    }
}

/// All that was said of a setting, by precedence. A context that was named by a flag goes before
/// the environment, as flags do; one that was not goes behind it.
fn said_of(
    setting: &'static Setting,
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<OsString>,
    files: &[File],
    chosen: Option<&Chosen<'_>>,
) -> Result<Vec<(Origin, String)>, Failure> {
    let mut said = Vec::new();
    if let Some(text) = flags.of(setting) {
        said.push((Origin::Flag(setting.flag), text.clone()));
    }
    let of_context = chosen.and_then(|chosen| {
        let Said { text, line, .. } = chosen.context.get(setting)?;
        let origin = Origin::Context(chosen.name.clone(), chosen.file.path.clone(), *line);
        Some((origin, text.clone()))
    });
    let by_flag = chosen.is_some_and(|chosen| chosen.by_flag);
    said.extend(of_context.clone().filter(|_| by_flag));
    if let Some(value) = env(setting.env) {
        let origin = Origin::Env(setting.env);
        let text = value
            .into_string()
            .map_err(|_| setting::failure(format!("{} is no text", setting.key)).at(&origin))?;
        setting
            .check(&text)
            .map_err(|failure| failure.at(&origin))?;
        said.push((origin, text));
    }
    said.extend(of_context.filter(|_| !by_flag));
    for file in files {
        if let Some(Said { text, line, .. }) = file.top.get(setting) {
            said.push((Origin::File(file.path.clone(), *line), text.clone()));
        }
    }
    said.push((Origin::BuiltIn, setting.default.into()));
    Ok(said)
}

#[cfg(test)]
mod tests;
