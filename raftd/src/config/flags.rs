//! The command line. Flags that set something come from the table of settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::setting::Setting;
use super::table::SETTINGS;
use crate::fatal::{ExitStatus, Fatal};

/// What the command line said.
#[derive(Debug, Default)]
pub struct Flags {
    /// `--dev`.
    pub dev: bool,
    /// `--check-config`.
    pub check_config: bool,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--set section.key=value`, in order.
    pub set: Vec<String>,
    /// The flags of single settings.
    pub settings: Vec<(&'static Setting, String)>,
}

/// Why there are no [`Flags`].
#[derive(Debug)]
pub enum NoFlags {
    /// Help or version was asked for: print this to stdout and end with 0.
    Print(String),
    /// The command line cannot be understood.
    Wrong(Fatal),
}

/// The whole command line, for help, parsing and the test of the man page.
#[must_use]
pub fn command() -> Command {
    let settings = SETTINGS.iter().filter_map(|setting| {
        let flag = setting.flag?;
        let help = setting
            .doc
            .split(". ")
            .next()
            .unwrap_or_default()
            .trim_end_matches('.');
        let help = match setting.default {
            "" => help.to_owned(),
            default => format!("{help} [default: {default}]"),
        };
        Some(
            Arg::new(setting.key)
                .long(flag)
                .value_name(setting.placeholder)
                .help(help),
        )
    });
    Command::new("raftd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A replicated key-value and coordination daemon")
        .args(settings)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(ValueParser::path_buf())
                .help("Settings in TOML; FILE.d/*.toml are read too [env: RAFTD_CONFIG]"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("SECTION.KEY=VALUE")
                .action(ArgAction::Append)
                .help("Set anything that the file can; raftd.toml(5) lists it all"),
        )
        .arg(Arg::new("dev").long("dev").action(ArgAction::SetTrue).help(
            "One-node cluster on 127.0.0.1:7400 in a temporary directory, removed at the end",
        ))
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Check flags, environment and files, then end: 0 if good, 78 if not"),
        )
        .after_help(
            "Every setting can also be given as RAFTD_* in the environment: the flag's name, or \
             the key's.\nA flag wins over the environment, that over FILE.d, that over FILE.",
        )
}

/// Reads the command line; `args` begins with the program's name.
///
/// # Errors
/// See [`NoFlags`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, NoFlags> {
    let matches = command().try_get_matches_from(args).map_err(|error| {
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => NoFlags::Print(text),
            _ => {
                let line = text.lines().next().unwrap_or_default();
                let what = line.strip_prefix("error: ").unwrap_or(line);
                let tip = text
                    .lines()
                    .find_map(|line| line.trim().strip_prefix("tip: "));
                let remedy = tip.unwrap_or("raftd --help");
                NoFlags::Wrong(Fatal::new(ExitStatus::Usage, what).remedy(remedy))
            }
        }
    })?;
    let one = |id: &str| matches.get_one::<String>(id).cloned();
    Ok(Flags {
        dev: matches.get_flag("dev"),
        check_config: matches.get_flag("check-config"),
        config: matches.get_one::<PathBuf>("config").cloned(),
        set: matches
            .get_many::<String>("set")
            .unwrap_or_default()
            .cloned()
            .collect(),
        settings: SETTINGS
            .iter()
            .filter(|setting| setting.flag.is_some())
            .filter_map(|setting| one(setting.key).map(|text| (setting, text)))
            .collect(),
    })
}
