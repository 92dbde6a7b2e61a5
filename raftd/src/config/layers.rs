//! Where values come from: files, environment, command line. Later layers win.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Settings;
use super::nearest;
use super::setting::Setting;
use super::table::{SETTINGS, find};
use crate::fatal::{ExitStatus, Fatal};

/// A file of settings is never longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which layer said it.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A flag.
    Flag(String),
    /// `--set`.
    Set(String),
    /// An environment variable.
    Env(String),
    /// A line of a file.
    File(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Set(key) => write!(f, "--set {key}"),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
        }
    }
}

/// Puts one value into `settings`.
///
/// # Errors
/// The value does not fit the setting.
pub fn apply(
    settings: &mut Settings,
    setting: &Setting,
    text: &str,
    origin: &Origin,
) -> Result<(), Fatal> {
    setting.set(settings, text).map_err(|why| {
        Fatal::new(
            ExitStatus::Config,
            format!("{} cannot be \"{text}\": {why}", setting.key),
        )
        .at(origin)
        .remedy(expected(setting))
    })
}

/// What a setting takes.
fn expected(setting: &Setting) -> String {
    format!("{}: {}", setting.key, setting.type_text())
}

/// Applies `--set section.key=value`.
///
/// # Errors
/// No such key, a wrong value, or no `=` at all (a usage error).
pub fn apply_set(settings: &mut Settings, assignment: &str) -> Result<(), Fatal> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Fatal::new(
            ExitStatus::Usage,
            format!("--set takes section.key=value, not \"{assignment}\""),
        )
        .remedy("for example: --set wal.segment_bytes=16MiB"));
    };
    let origin = Origin::Set(key.to_owned());
    let setting = find(key).ok_or_else(|| unknown(key, &origin))?;
    apply(settings, setting, text, &origin)
}

/// Applies the variables that `lookup` knows. An empty one counts as unset.
///
/// # Errors
/// A value does not fit, or is no text.
pub fn apply_env(
    settings: &mut Settings,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Fatal> {
    for setting in SETTINGS {
        let name = setting.env();
        let said = lookup(&name).filter(|value| !value.is_empty());
        let Some(value) = said else { continue };
        let origin = Origin::Env(name);
        let text = value.into_string().map_err(|_| {
            let what = format!("{} is no text", setting.key);
            Fatal::new(ExitStatus::Config, what)
                .at(&origin)
                .remedy(expected(setting))
        })?;
        apply(settings, setting, &text, &origin)?;
    }
    Ok(())
}

/// Applies `path`, then `path.d/*.toml` by name.
///
/// # Errors
/// A file cannot be read, is no TOML, or says something that cannot be.
pub fn apply_files(settings: &mut Settings, path: &Path) -> Result<(), Fatal> {
    apply_file(settings, path)?;
    let mut dir = path.as_os_str().to_owned();
    dir.push(".d");
    for file in drop_ins(Path::new(&dir))? {
        apply_file(settings, &file)?;
    }
    Ok(())
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Fatal> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(dir, &error)),
    };
    let mut files = Vec::new();
    for entry in listing {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fatal {
    let status = match error.kind() {
        ErrorKind::PermissionDenied => ExitStatus::Permission,
        _ => ExitStatus::Config,
    };
    Fatal::new(status, format!("the configuration cannot be read: {error}"))
        .at(path.display())
        .remedy("a file that this user may read, with --config or RAFTD_CONFIG")
}

fn apply_file(settings: &mut Settings, path: &Path) -> Result<(), Fatal> {
    let length = fs::metadata(path)
        .map_err(|error| unreadable(path, &error))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(Fatal::new(
            ExitStatus::Config,
            format!("a configuration of {length} bytes; the most is {FILE_BYTES_MAX}"),
        )
        .at(path.display()));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Fatal::new(ExitStatus::Config, "no TOML: a byte that is not UTF-8")
            .at(place(path, error.as_bytes(), offset))
            .remedy("save the file as UTF-8")
    })?;
    apply_toml(settings, path, &text)
}

/// The line of a file that this byte is on.
fn place(path: &Path, text: &[u8], offset: usize) -> Origin {
    let before = text.iter().take(offset);
    let line = 1 + before.filter(|byte| **byte == b'\n').count();
    Origin::File(path.to_owned(), line)
}

/// Applies the text of a file; `path` is for messages only.
///
/// # Errors
/// It is no TOML, or says something that cannot be.
pub fn apply_toml(settings: &mut Settings, path: &Path, text: &str) -> Result<(), Fatal> {
    let at = |offset: usize| place(path, text.as_bytes(), offset);
    let table = DeTable::parse(text).map_err(|error| {
        Fatal::new(ExitStatus::Config, format!("no TOML: {}", error.message()))
            .at(at(error.span().map_or(0, |span| span.start)))
            .remedy("raftd.toml(5) shows how settings are written")
    })?;
    for (section, content) in table.get_ref() {
        let origin = at(section.span().start);
        let Some(keys) = content.get_ref().as_table() else {
            return Err(unknown(section.get_ref(), &origin));
        };
        for (key, value) in keys {
            let origin = at(key.span().start);
            let name = format!("{}.{}", section.get_ref(), key.get_ref());
            let setting = find(&name).ok_or_else(|| unknown(&name, &origin))?;
            let text = plain(value).ok_or_else(|| {
                Fatal::new(
                    ExitStatus::Config,
                    format!("{name} is {}, which fits no setting", kind(value)),
                )
                .at(&origin)
                .remedy(expected(setting))
            })?;
            apply(settings, setting, &text, &origin)?;
        }
        if keys.is_empty()
            && !SETTINGS
                .iter()
                .any(|s| s.key.split('.').next() == Some(section.get_ref()))
        {
            return Err(unknown(section.get_ref(), &origin));
        }
    }
    Ok(())
}

/// A TOML value as a flag would say it; a list of texts is joined by commas. `None` for what no flag
/// says.
#[must_use]
pub fn plain(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => {
            Some(number.as_str().trim_start_matches('+').replace('_', ""))
        }
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// What a TOML value is that is not [`plain`].
#[must_use]
pub fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer that is not decimal",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a datetime",
        DeValue::Array(_) => "an array of more than texts",
        DeValue::Table(_) => "a table",
    }
}

fn unknown(key: &str, origin: &Origin) -> Fatal {
    let fatal = Fatal::new(ExitStatus::Config, format!("there is no setting {key}")).at(origin);
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let known = || SETTINGS.iter().map(|setting| setting.key);
    // The right key in the wrong section is the likeliest slip.
    let same_key = known().find(|known| last(known) == last(key));
    match same_key.or_else(|| nearest(key, known())) {
        Some(name) => fatal.remedy(format!("did you mean {name}?")),
        None => fatal.remedy("raftd.toml(5) lists the settings"),
    }
}
