//! The one table of settings: it serves flags, environment, files and `raftctl.toml(5)`, which is
//! tested against it.

use std::time::Duration;

use clap::ValueEnum;
use raftctl::failure::{Exit, Failure};

use crate::format::{Color, Format};

/// A configuration that cannot be.
pub(crate) fn failure(what: String) -> Failure {
    Failure::new(Exit::Usage, "config", what)
}

/// One thing that can be set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in a file.
    pub(crate) key: &'static str,
    /// Its flag, without `--`.
    pub(crate) flag: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// What holds if nobody says anything; empty: nothing does.
    pub(crate) default: &'static str,
    /// What it takes.
    pub(crate) form: &'static str,
    /// What it does, in sentences.
    pub(crate) doc: &'static str,
    /// Says why a text is no value for it.
    why_not: fn(&str) -> Option<String>,
}

pub(crate) const ENDPOINTS: Setting = Setting {
    key: "endpoints",
    flag: "endpoints",
    env: "RAFTCTL_ENDPOINTS",
    default: "127.0.0.1:7400",
    form: "HOST:PORT,.., in a file a list of texts",
    doc: "Members to ask. One that answers is enough, several are better.",
    why_not: |text| text.split(',').find_map(|part| endpoint(part).err()),
};

pub(crate) const TIMEOUT: Setting = Setting {
    key: "timeout",
    flag: "timeout",
    env: "RAFTCTL_TIMEOUT",
    default: "5s",
    form: "a time such as 500ms, 5s or 2m",
    doc: "The time that a verb may take in all; for long work, the longest time without progress.",
    why_not: |text| time(text).err(),
};

pub(crate) const CONTEXT: Setting = Setting {
    key: "context",
    flag: "context",
    env: "RAFTCTL_CONTEXT",
    default: "",
    form: "the name of a context",
    doc: "The context to use. It cannot stand in a context itself.",
    why_not: |text| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let good = !text.is_empty() && text.len() <= 64 && text.chars().all(fits);
        (!good).then(|| "a name has up to 64 letters, digits, - and _".into())
    },
};

pub(crate) const FORMAT: Setting = Setting {
    key: "format",
    flag: "format",
    env: "RAFTCTL_FORMAT",
    default: "",
    form: "one of table, tsv, jsonl, nul, csv, env",
    doc: "How data is written where nothing else is asked for. Verbs that do not know the format write \
          as usual; get with one key, dump and load only know what their own line says.",
    why_not: |text| match Format::from_str(text, true) {
        Ok(Format::Frame) | Err(_) => Some("it is no format for all verbs".into()),
        Ok(_) => None,
    },
};

pub(crate) const COLOR: Setting = Setting {
    key: "color",
    flag: "color",
    env: "RAFTCTL_COLOR",
    default: "auto",
    form: "one of auto, always, never",
    doc: "When to write colours.",
    why_not: |text| match Color::from_str(text, true) {
        Err(_) => Some("it is none of the three".into()),
        Ok(_) => None,
    },
};

/// Every setting.
pub(crate) static SETTINGS: &[Setting] = &[ENDPOINTS, TIMEOUT, CONTEXT, FORMAT, COLOR];

/// The setting with this key.
pub(crate) fn named(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// Refuses what is no value for it.
    pub(crate) fn check(&self, text: &str) -> Result<(), Failure> {
        match (self.why_not)(text) {
            None => Ok(()),
            Some(why) => Err(failure(format!("{} cannot be '{text}': {why}", self.key))
                .remedy(format!("{} takes {}", self.key, self.form))),
        }
    }

    /// Reads it from a flag.
    pub(crate) fn parser(&self) -> impl Fn(&str) -> Result<String, String> + Clone + use<> {
        let why_not = self.why_not;
        move |text| match why_not(text) {
            None => Ok(text.to_owned()),
            Some(why) => Err(why),
        }
    }
}

/// Reads `HOST:PORT`.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    match port {
        Some((host, Ok(1..))) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(text.into())
        }
        _ => Err("an endpoint is HOST:PORT, such as 127.0.0.1:7400".into()),
    }
}

/// Reads a time; more than a day is a day.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(1) => Ok(time.min(Duration::from_secs(86_400))),
        _ => Err("a time is a number from 1ms on with its unit, such as 500ms, 5s or 2m".into()),
    }
}
