//! What the word at the cursor is, and what it may become.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};

use super::{Candidate, live};
use crate::cli::Cli;
use crate::cmd::help::TOPICS;
use crate::config::setting::SETTINGS;
use crate::config::{Config, Flags};

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
    /// The general flags of the line, for whoever has to ask the cluster.
    flags: Flags,
}

impl Asked {
    /// Reads the words behind the program's name; the last one is that at the cursor.
    pub(super) fn read(words: &[String]) -> Option<Self> {
        let mut cli = Cli::command();
        cli.build();
        let (current, before) = words.split_last()?;
        let mut walk = Walk::new(&cli);
        before.iter().for_each(|word| walk.step(word));
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
            flags: walk.flags,
        })
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
            Kind::Keys => config().map_or(Vec::new(), |config| live::keys(&config, &self.typed)),
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

/// A walk over the words before the cursor.
struct Walk<'a> {
    cli: &'a Command,
    /// The verb, and that below it.
    path: Vec<&'a Command>,
    /// Data of the innermost verb so far.
    data: usize,
    /// `--` was there.
    only_data: bool,
    /// An option that waits for its value.
    pending: Option<&'a Arg>,
    flags: Flags,
}

impl<'a> Walk<'a> {
    fn new(cli: &'a Command) -> Self {
        Self {
            cli,
            path: Vec::new(),
            data: 0,
            only_data: false,
            pending: None,
            flags: Flags::default(),
        }
    }

    fn innermost(&self) -> &'a Command {
        self.path.last().copied().unwrap_or(self.cli)
    }

    fn option(&self, is_it: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        let verbs = self.path.iter().rev().copied().chain([self.cli]);
        verbs
            .flat_map(Command::get_arguments)
            .find(|arg| is_it(arg))
    }

    fn step(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            self.flags.set(arg.get_id().as_str(), word);
            return;
        }
        let number = word.parse::<i64>().is_ok();
        match word.strip_prefix("--") {
            _ if self.only_data || number || word == "-" => self.datum(word),
            Some("") => self.only_data = true,
            Some(long) => {
                let (name, value) = long
                    .split_once('=')
                    .map_or((long, None), |(n, v)| (n, Some(v)));
                let arg = self.option(|arg| arg.get_long() == Some(name));
                self.value(arg, value);
            }
            None if word.starts_with('-') => self.shorts(&word[1..]),
            None => self.datum(word),
        }
    }

    fn shorts(&mut self, letters: &str) {
        for (at, letter) in letters.char_indices() {
            let arg = self.option(|arg| arg.get_short() == Some(letter));
            if arg.is_some_and(takes_value) {
                let rest = &letters[at + letter.len_utf8()..];
                self.value(arg, (!rest.is_empty()).then_some(rest));
                return;
            }
        }
    }

    fn value(&mut self, arg: Option<&'a Arg>, value: Option<&str>) {
        let Some(arg) = arg.filter(|arg| takes_value(arg)) else {
            return;
        };
        match value {
            Some(value) => self.flags.set(arg.get_id().as_str(), value),
            None if arg.is_require_equals_set() => {}
            None => self.pending = Some(arg),
        }
    }

    fn datum(&mut self, word: &str) {
        match self.innermost().find_subcommand(word) {
            Some(verb) if self.data == 0 && !self.only_data => self.path.push(verb),
            _ => self.data += 1,
        }
    }

    /// What the word at the cursor may be, and what of it stands before that.
    fn kind(&self, current: &str) -> (Kind, String) {
        if let Some(arg) = self.pending {
            return (self.kind_of(arg), String::new());
        }
        if !self.only_data && current.starts_with('-') {
            let Some((name, _)) = current.split_once('=') else {
                return (Kind::Fixed(self.all_flags()), String::new());
            };
            let arg = self.option(|arg| arg.get_long() == name.strip_prefix("--"));
            let kind = arg.map_or(Kind::Nothing, |arg| self.kind_of(arg));
            return (kind, format!("{name}="));
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
        let general = self.cli.get_arguments();
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

/// The verb of a line and those below it; `words` are those behind the program's name.
pub(crate) fn verbs<'a>(cli: &'a Command, words: &[String]) -> Vec<&'a Command> {
    let mut walk = Walk::new(cli);
    words.iter().for_each(|word| walk.step(word));
    walk.path
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn about(text: Option<&impl ToString>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}
