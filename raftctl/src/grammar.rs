//! What the words of a line are, by the verbs and options that clap was told of.

use clap::{Arg, Command};

use crate::config::Flags;

/// An option, as a word of the command line has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a, 'w> {
    pub(crate) arg: &'a Arg,
    /// What the same word says of its value: `--opt=value`, `-ovalue`, `-o=value`.
    pub(crate) value: Option<&'w str>,
}

impl Given<'_, '_> {
    /// Whether its value is the next word.
    pub(crate) fn waits(&self) -> bool {
        let takes = self.arg.get_action().takes_values() && !self.arg.is_require_equals_set();
        takes && self.value.is_none()
    }
}

/// The option that clap takes the word for, of these verbs; of several letters in it the last.
pub(crate) fn option<'a, 'w>(verbs: &[&'a Command], word: &'w str) -> Option<Given<'a, 'w>> {
    let find = |is_it: &dyn Fn(&Arg) -> bool| {
        let mut args = verbs.iter().flat_map(|verb| verb.get_arguments());
        args.find(|arg| is_it(arg))
    };
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let arg = find(&|arg| arg.get_long() == Some(name))?;
        return Some(Given { arg, value });
    }
    let mut letters = word.strip_prefix('-')?.chars();
    loop {
        let letter = letters.next()?;
        let arg = find(&|arg| arg.get_short() == Some(letter))?;
        let rest = letters.as_str();
        if rest.is_empty() {
            return Some(Given { arg, value: None });
        }
        if arg.get_action().takes_values() {
            let value = Some(rest.strip_prefix('=').unwrap_or(rest));
            return Some(Given { arg, value });
        }
    }
}

/// Where the words of a line lead to that may go on.
pub(crate) struct Walk<'a> {
    pub(crate) cli: &'a Command,
    /// The verb, and that below it.
    pub(crate) path: Vec<&'a Command>,
    /// Data of the innermost verb so far.
    pub(crate) data: usize,
    /// `--` was there.
    pub(crate) only_data: bool,
    /// An option that waits for its value.
    pub(crate) pending: Option<&'a Arg>,
    /// The general flags of the line.
    pub(crate) flags: Flags,
}

impl<'a> Walk<'a> {
    /// Goes over the words behind the program's name.
    pub(crate) fn over(cli: &'a Command, words: &[String]) -> Self {
        let mut walk = Self {
            cli,
            path: Vec::new(),
            data: 0,
            only_data: false,
            pending: None,
            flags: Flags::default(),
        };
        words.iter().for_each(|word| walk.step(word));
        walk
    }

    pub(crate) fn innermost(&self) -> &'a Command {
        self.path.last().copied().unwrap_or(self.cli)
    }

    /// The option that the word is.
    pub(crate) fn option<'w>(&self, word: &'w str) -> Option<Given<'a, 'w>> {
        let verbs: Vec<_> = self.path.iter().rev().copied().chain([self.cli]).collect();
        option(&verbs, word)
    }

    fn step(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            self.flags.set(arg.get_id().as_str(), word);
            return;
        }
        let number = word.parse::<i64>().is_ok();
        match word {
            _ if self.only_data || number || !word.starts_with('-') || word == "-" => {
                self.datum(word);
            }
            "--" => self.only_data = true,
            _ => match self.option(word) {
                Some(given) if given.waits() => self.pending = Some(given.arg),
                Some(Given {
                    arg,
                    value: Some(value),
                }) => self.flags.set(arg.get_id().as_str(), value),
                _ => {}
            },
        }
    }

    fn datum(&mut self, word: &str) {
        match self.innermost().find_subcommand(word) {
            Some(verb) if self.data == 0 && !self.only_data => self.path.push(verb),
            _ => self.data += 1,
        }
    }
}

/// The verb of a line and those below it; `words` are those behind the program's name.
pub(crate) fn verbs<'a>(cli: &'a Command, words: &[String]) -> Vec<&'a Command> {
    Walk::over(cli, words).path
}

/// The names of the verbs below this one.
pub(crate) fn names(at: &Command) -> impl Iterator<Item = &str> {
    let verbs = at.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.flat_map(Command::get_name_and_visible_aliases)
}
