//! One configuration file, read and checked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use raftctl::failure::Failure;
use raftd::config::layers::{kind, plain};
use raftd::config::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::setting::{CONTEXT, SETTINGS, Setting, failure, named};

/// A file of settings is never longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The table of a file that has contexts.
pub(super) const CONTEXTS: &str = "contexts";

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Of the user, who may change it by `raftctl context`.
    User,
    /// Of the machine.
    System,
}

/// One line of a file.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) setting: &'static Setting,
    /// As a flag would say it.
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Settings that stand together, under a name or at the top of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) said: Vec<Said>,
    /// Of its first line.
    pub(crate) line: usize,
}

impl Context {
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Said> {
        self.said
            .iter()
            .find(|said| said.setting.key == setting.key)
    }

    /// What it says, wherever it stands.
    pub(super) fn meaning(&self) -> BTreeMap<&'static str, &str> {
        let pairs = self
            .said
            .iter()
            .map(|said| (said.setting.key, said.text.as_str()));
        pairs.collect()
    }
}

/// What a file says.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) layer: Layer,
    /// What stands in no context.
    pub(crate) top: Context,
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl File {
    /// Reads a file; `None` if there is none, and none was `demanded`.
    pub(crate) fn read(path: &Path, layer: Layer, demanded: bool) -> Result<Option<Self>, Failure> {
        match read_text(path) {
            Ok(text) => Self::parse(path, layer, &text).map(Some),
            Err(error)
                if !demanded
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(
                failure(format!("the configuration cannot be read: {error}"))
                    .at(path.display())
                    .remedy("--no-config goes on without it"),
            ),
        }
    }

    /// Reads the text of a file; `path` is for messages.
    pub(crate) fn parse(path: &Path, layer: Layer, text: &str) -> Result<Self, Failure> {
        let reader = Reader { path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            failure(format!("no TOML: {}", error.message())).at(reader.place(at))
        })?;
        let mut file = Self {
            path: path.to_owned(),
            layer,
            top: Context {
                said: Vec::new(),
                line: 1,
            },
            contexts: BTreeMap::new(),
        };
        for (key, value) in table.get_ref() {
            if key.get_ref() == CONTEXTS {
                file.contexts = reader.contexts(value)?;
            } else {
                file.top.said.push(reader.said(key, value)?);
            }
        }
        Ok(file)
    }
}

pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(ErrorKind::InvalidData, what));
    }
    Ok(text)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn place(&self, offset: usize) -> String {
        format!("{} line {}", self.path.display(), self.line(offset))
    }

    fn contexts(&self, value: &Spanned<DeValue<'_>>) -> Result<BTreeMap<String, Context>, Failure> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(failure(format!("{CONTEXTS} is no table"))
                .at(self.place(value.span().start))
                .remedy("[contexts.NAME], and its settings below"));
        };
        let mut contexts = BTreeMap::new();
        for (name, value) in table {
            let place = self.place(name.span().start);
            CONTEXT
                .check(name.get_ref())
                .map_err(|failure| failure.at(&place))?;
            let Some(settings) = value.get_ref().as_table() else {
                return Err(
                    failure(format!("the context {} is no table", name.get_ref()))
                        .at(place)
                        .remedy(format!(
                            "[contexts.{}], and its settings below",
                            name.get_ref()
                        )),
                );
            };
            let mut context = Context {
                said: Vec::new(),
                line: self.line(name.span().start),
            };
            for (key, value) in settings {
                let said = self.said(key, value)?;
                if said.setting.key == CONTEXT.key {
                    return Err(failure("a context cannot choose a context".into())
                        .at(self.place(key.span().start))
                        .remedy("context = stands at the top of the file"));
                }
                context.said.push(said);
            }
            contexts.insert(name.get_ref().to_string(), context);
        }
        Ok(contexts)
    }

    fn said(
        &self,
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Said, Failure> {
        let name = key.get_ref().as_ref();
        let place = self.place(key.span().start);
        let Some(setting) = named(name) else {
            let known = SETTINGS.iter().map(|setting| setting.key).chain([CONTEXTS]);
            let advice = match nearest(name, known) {
                Some(near) => format!("did you mean {near}?"),
                None => "raftctl.toml(5) lists the settings".into(),
            };
            return Err(failure(format!("there is no setting {name}"))
                .at(place)
                .remedy(advice));
        };
        let Some(text) = plain(value) else {
            return Err(failure(format!("{name} is {}", kind(value)))
                .at(place)
                .remedy(format!("{name} takes {}", setting.form)));
        };
        setting.check(&text).map_err(|failure| failure.at(&place))?;
        let line = self.line(key.span().start);
        Ok(Said {
            setting,
            text,
            line,
        })
    }
}
