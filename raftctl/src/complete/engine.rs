//! What the word at the cursor is, and what it may become.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, ValueHint};

use super::{Candidate, live};
use crate::config::setting::SETTINGS;
use crate::config::{Config, Flags};
use crate::grammar::Walk;
use crate::topics::TOPICS;

/// What may stand in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the command line itself defines: flags, verbs, words.
    Fixed(Vec<Candidate>),
    /// Keys of the cluster.
    Keys,
    /// Names of members.
    Peers,
    /// Addresses at which members serve clients.
    Endpoints,
    /// Names of contexts.
    Contexts,
    /// Names of files, which shells complete themselves.
    Files,
    /// Nothing that could be known.
    Nothing,
}

/// The question of a shell.
#[derive(Debug)]
pub(super) struct Asked {
    kind: Kind,
    /// What stands before the part that is completed, in the same word.
    pub(super) stem: String,
    typed: String,
    /// `--` stands before it.
    only_data: bool,
    /// The general flags of the line, for whoever has to ask the cluster.
    flags: Flags,
}

impl Asked {
    /// Reads the words behind the program's name; the last one is that at the cursor.
    pub(super) fn read(words: &[String], cli: &Command) -> Option<Self> {
        let (current, before) = words.split_last()?;
        let walk = Walk::over(cli, before);
        let (kind, stem) = walk.kind(current);
        let (stem, typed) = match kind {
            // A list of them, with commas.
            Kind::Endpoints => {
                let at = current.rfind(',').map_or(stem.len(), |comma| comma + 1);
                current.split_at(at)
            }
            _ => current.split_at(stem.len()),
        };
        Some(Self {
            kind,
            stem: stem.into(),
            typed: typed.into(),
            only_data: walk.only_data,
            flags: walk.flags,
        })
    }

    fn is_datum(&self, value: &str) -> bool {
        self.only_data || !self.stem.is_empty() || !value.starts_with('-')
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The possibilities that begin with what was typed; `None`: files.
    pub(super) fn candidates(
        &self,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<Vec<Candidate>> {
        let config = || Config::resolve(&self.flags, env).ok();
        let found = match &self.kind {
            Kind::Fixed(candidates) => candidates.clone(),
            Kind::Keys => {
                let mut keys =
                    config().map_or(Vec::new(), |config| live::keys(&config, &self.typed));
                // Without `--` such a key would be taken for an option.
                keys.retain(|key| self.is_datum(&key.value));
                keys
            }
            Kind::Peers => config().map_or(Vec::new(), |config| live::peers(&config)),
            Kind::Endpoints => config().map_or(Vec::new(), |config| live::endpoints(&config)),
            Kind::Contexts => config().map_or(Vec::new(), |config| contexts(&config)),
            Kind::Files => return None,
            Kind::Nothing => Vec::new(),
        };
        let fits = |candidate: &Candidate| candidate.value.starts_with(&self.typed);
        Some(found.into_iter().filter(fits).collect())
    }
}

fn contexts(config: &Config) -> Vec<Candidate> {
    let names = config.files.iter().flat_map(|file| file.contexts.keys());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| Candidate::new(name, ""))
        .collect()
}

impl Walk<'_> {
    /// What the word at the cursor may be, and what of it stands before that.
    fn kind(&self, current: &str) -> (Kind, String) {
        if let Some(arg) = self.pending {
            return (self.kind_of(arg), String::new());
        }
        if !self.only_data && current.starts_with('-') {
            let given = self.option(current);
            return match given.and_then(|given| Some((given.arg, given.value?))) {
                Some((arg, value)) => {
                    let stem = current.strip_suffix(value).unwrap_or_default();
                    (self.kind_of(arg), stem.into())
                }
                None => (Kind::Fixed(self.all_flags()), String::new()),
            };
        }
        let verb = self.innermost();
        let mut fixed = Vec::new();
        if self.data == 0 && !self.only_data {
            let verbs = verb.get_subcommands().filter(|verb| !verb.is_hide_set());
            fixed
                .extend(verbs.map(|verb| Candidate::new(verb.get_name(), about(verb.get_about()))));
        }
        if !fixed.is_empty() {
            return (Kind::Fixed(fixed), String::new());
        }
        let places: Vec<_> = verb.get_positionals().collect();
        let last = places.last().filter(|arg| {
            let values = arg.get_num_args().map_or(1, |range| range.max_values());
            values > 1 || matches!(arg.get_action(), ArgAction::Append)
        });
        let arg = places.get(self.data).or(last);
        (
            arg.map_or(Kind::Nothing, |arg| self.kind_of(arg)),
            String::new(),
        )
    }

    fn all_flags(&self) -> Vec<Candidate> {
        let verb = self.innermost();
        // Behind a verb, what stands only before one is refused.
        let general = self.cli.get_arguments();
        let general = general.filter(|arg| self.path.is_empty() || arg.is_global_set());
        let own = verb.get_arguments();
        let mut flags: Vec<Candidate> = Vec::new();
        for arg in own.chain(general).filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long() else { continue };
            let value = format!("--{long}");
            if !flags.iter().any(|flag| flag.value == value) {
                flags.push(Candidate::new(value, about(arg.get_help())));
            }
        }
        flags
    }

    /// What an argument takes.
    fn kind_of(&self, arg: &Arg) -> Kind {
        let words = arg.get_possible_values();
        if !words.is_empty() {
            let words = words.iter().filter(|word| !word.is_hide_set());
            let words = words.map(|word| Candidate::new(word.get_name(), about(word.get_help())));
            return Kind::Fixed(words.collect());
        }
        let verb = self.path.first().map_or("", |verb| verb.get_name());
        let below = self.path.get(1).map_or("", |verb| verb.get_name());
        match (verb, arg.get_id().as_str()) {
            (_, "endpoints") => Kind::Endpoints,
            (_, "context") => Kind::Contexts,
            ("context", "name") if below != "add" => Kind::Contexts,
            ("config", "setting") => Kind::Fixed(
                SETTINGS
                    .iter()
                    .map(|it| Candidate::new(it.key, it.doc))
                    .collect(),
            ),
            ("help", "words") => Kind::Fixed(self.helped()),
            (
                "remove-peer" | "promote-peer" | "demote-peer" | "update-peer" | "replace-peer"
                | "transfer-leader",
                "name" | "old",
            )
            | ("snapshot", "node") => Kind::Peers,
            (_, "key" | "keys" | "prefix" | "from" | "to") => Kind::Keys,
            (_, "file") => Kind::Files,
            _ if arg.get_value_hint() == ValueHint::AnyPath => Kind::Files,
            _ => Kind::Nothing,
        }
    }

    /// What there is help on.
    fn helped(&self) -> Vec<Candidate> {
        let verbs = self
            .cli
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set());
        let verbs = verbs.map(|verb| Candidate::new(verb.get_name(), about(verb.get_about())));
        let topics = TOPICS.iter().map(|(name, _)| Candidate::new(*name, ""));
        verbs.chain(topics).collect()
    }
}

fn about(text: Option<&impl ToString>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}
