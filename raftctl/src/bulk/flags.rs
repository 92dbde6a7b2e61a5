//! The options of all verbs that take records from an input.

use std::path::{Path, PathBuf};

use raftctl::failure::Failure;

use super::input::Input;
use super::progress::Show;
use crate::format::Style;

/// What all verbs that take records from an input know.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// What to do about a record that cannot be written. Default: stop, or skip with --rejects.
    #[arg(long, value_enum, value_name = "WHAT", help_heading = BULK)]
    on_error: Option<OnError>,
    /// Write records that cannot be written to this file, as they were read.
    #[arg(long, value_name = "FILE", help_heading = BULK)]
    pub(super) rejects: Option<PathBuf>,
    /// Keep in this file how far it has come; go on from there if it is there already.
    #[arg(long, value_name = "FILE", help_heading = BULK)]
    pub(super) checkpoint: Option<PathBuf>,
    /// Print each record as it was read, once it is written for good.
    #[arg(long, help_heading = BULK)]
    pub(super) echo: bool,
    /// Show how far it has come in this form, from the first second on.
    #[arg(long, value_enum, value_name = "FORM", help_heading = BULK)]
    progress: Option<Form>,
    /// Say at the end what was done.
    // Not -v: where a value may stand, that is one.
    #[arg(long, help_heading = BULK)]
    pub(super) verbose: bool,
}

/// Over the options of [`Flags`] in a help.
const BULK: &str = "Bulk work";

/// What to do about a record that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnError {
    /// Write what was before it, and nothing behind it
    Stop,
    /// Leave it out; exit 8 at the end
    Skip,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A bar, on a terminal
    Bar,
    /// A line of JSON on standard error each second
    Json,
}

impl Flags {
    /// Refuses them where no records are read.
    pub(crate) fn check_unused(&self, others: &[(bool, &str)]) -> Result<(), Failure> {
        let used = [
            (self.on_error.is_some(), "--on-error"),
            (self.rejects.is_some(), "--rejects"),
            (self.checkpoint.is_some(), "--checkpoint"),
            (self.echo, "--echo"),
            (self.progress.is_some(), "--progress"),
            (self.verbose, "--verbose"),
        ];
        match used.iter().chain(others).find(|(used, _)| *used) {
            Some((_, flag)) => Err(Failure::usage(format!(
                "{flag} belongs to bulk work, and no records are read"
            ))
            .remedy("--stdin reads them")),
            None => Ok(()),
        }
    }

    /// Refuses to write over the input, or one file over the other.
    pub(super) fn check_apart(&self, input: &Input) -> Result<(), Failure> {
        let written = [
            (&self.rejects, "--rejects"),
            (&self.checkpoint, "--checkpoint"),
        ];
        let refused = |what: String, path: &Path| {
            let failure = Failure::usage(what).at(path.display());
            Err(failure.remedy("name another file"))
        };
        for (path, flag) in written {
            if let Some(path) = path.as_deref().filter(|path| input.is_at(path)) {
                return refused(format!("{flag} names the file that is read"), path);
            }
        }
        match &self.rejects {
            Some(path) if self.rejects == self.checkpoint => {
                refused("--rejects and --checkpoint name one file".into(), path)
            }
            _ => Ok(()),
        }
    }

    /// Whether records that cannot be written are left out.
    pub(super) fn skips(&self) -> Result<bool, Failure> {
        match (self.on_error, &self.rejects) {
            (Some(OnError::Stop), Some(_)) => {
                let what = "--rejects is for records that are skipped, and --on-error says stop";
                Err(Failure::usage(what).remedy("leave one of them out"))
            }
            (Some(OnError::Skip), _) | (None, Some(_)) => Ok(true),
            (Some(OnError::Stop) | None, None) => Ok(false),
        }
    }

    pub(super) fn show(&self, style: &Style) -> Show {
        match self.progress {
            _ if style.no_progress => Show::Never,
            Some(Form::Json) => Show::Json,
            Some(Form::Bar) | None => Show::Bar,
        }
    }

    /// Whether somebody will ask for records as they were read.
    pub(super) fn keeps_raw(&self) -> bool {
        self.echo || self.rejects.is_some()
    }
}
