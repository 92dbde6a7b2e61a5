//! What is said of records that were not written.

use std::path::Path;

use raftctl::client::{Error, Why};
use raftctl::failure::{Exit, Failure};
use wire::error::Class;

use super::block::Refused;
use crate::decoding::Decoder;
use crate::format::Format;

/// What the work is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    /// The verb.
    pub(crate) doing: &'static str,
    /// The input's name.
    pub(crate) input: &'a str,
    /// What one record is called: a line or a record.
    pub(crate) unit: &'static str,
}

impl Words<'_> {
    /// What one record of a format is called.
    pub(super) fn unit_of(format: Format) -> &'static str {
        match format {
            Format::Nul | Format::Frame => "record",
            _ => "line",
        }
    }

    /// A key that nobody can have.
    pub(super) fn bad_key(&self, refused: &Refused) -> Failure {
        let Self { doing, input, unit } = self;
        let Refused { number, why } = refused;
        let what = format!("{doing} failed at {unit} {number}: {why}");
        Failure::new(Exit::Refused, "bad-record", what).at(format!("{input}, {unit} {number}"))
    }

    /// The input cannot be understood from this byte on, behind so many records.
    pub(super) fn broken(&self, decoder: &Decoder, why: &str, offset: u64, count: u64) -> Failure {
        let Self { doing, input, unit } = self;
        let (exit, name) = match decoder.has_checksums() {
            true => (Exit::Damaged, "damaged"),
            false => (Exit::Refused, "unreadable"),
        };
        let what = format!("{doing} failed: the input is damaged: {why}");
        let place = format!("{input}, at byte {offset}, behind {unit} {count}");
        Failure::new(exit, name, what).at(place)
    }

    /// A record ends all. `goes_on`: what was before it is written; `None` if nothing is. Inside of
    /// it is the checkpoint that knows so, if there is one.
    pub(super) fn refused(&self, refused: &Refused, goes_on: Option<Option<&Path>>) -> Failure {
        let Self { doing, input, unit } = self;
        let Refused { number, why } = refused;
        let what = format!("{doing} failed at {unit} {number}: {why}");
        let before = match goes_on {
            None => "nothing was written".to_owned(),
            Some(_) => format!("all before it are written ({})", number - 1),
        };
        let remedy = match goes_on {
            None => "mend it and run the command again".to_owned(),
            Some(Some(path)) => format!(
                "mend it and run the command again: {} knows where to go on",
                path.display()
            ),
            Some(None) => "mend it and go on from there; or --on-error skip --rejects FILE, which \
                           keeps what cannot be written"
                .to_owned(),
        };
        Failure::new(Exit::Refused, "bad-record", what)
            .at(format!("{input}, {unit} {number}; {before}"))
            .remedy(remedy)
    }

    /// A file that failed when something was sent already: the status of what nobody could know
    /// before says that nothing was.
    pub(super) fn too_late(&self, failure: Failure, records: u64) -> Failure {
        if !["unreadable", "unwritable", "unusable"].contains(&failure.name)
            || failure.exit != Exit::Usage
        {
            return failure;
        }
        let remedy = format!(
            "all {}s up to {records} are done; those on their way may be, too",
            self.unit
        );
        let exit = Exit::Bug;
        Failure { exit, ..failure }.remedy(remedy)
    }

    /// Nothing could be sent.
    pub(super) fn failed(&self, error: &Error) -> Failure {
        Failure::of(self.doing, error)
    }

    /// Writes have no verdict, or a bad one: those of the records from the first to the last.
    pub(super) fn given_up(
        &self,
        error: &Error,
        (first, last): (u64, u64),
        checkpoint: Option<&Path>,
    ) -> Failure {
        let Self { doing, input, unit } = self;
        let mut failure = Failure::of(doing, error);
        let place = std::mem::take(&mut failure.place);
        let range = format!("{input}, {unit}s {first} to {last}");
        failure.place = match place.is_empty() {
            true => range,
            false => format!("{range}; {place}"),
        };
        let forgotten = match error {
            Error::NotApplied { why, .. } | Error::Unknown { why, .. } => why.is_forgotten(),
            _ => false,
        };
        let is_final = match error {
            Error::Unknown {
                why: Why::Server(error),
                ..
            } => error.class() == Class::Final,
            _ => false,
        };
        match (checkpoint, failure.exit) {
            (Some(path), exit) if forgotten => {
                let these = match exit {
                    Exit::Unknown => "see with `raftctl get` which of these are written",
                    _ => "these are not written",
                };
                failure.remedy(format!(
                    "the cluster no longer knows this load, all {unit}s before are written, and \
                     {these}: remove {} and load the rest",
                    path.display()
                ))
            }
            // Once more it would be refused again.
            (Some(path), Exit::Unknown) if is_final => failure.remedy(format!(
                "the cluster refuses the first of these for good, and may have done it before: see \
                 with `raftctl get` which of these are written, remove {} and load the rest",
                path.display()
            )),
            (Some(path), Exit::Unreachable | Exit::NotApplied | Exit::Unknown) => {
                failure.remedy(format!(
                    "run the same command again: {} knows where to go on",
                    path.display()
                ))
            }
            (None, Exit::Unknown) => failure.remedy(format!(
                "all {unit}s before are written; see with `raftctl get` which of these are. With \
                 --checkpoint the same command goes on by itself"
            )),
            (None, Exit::Unreachable | Exit::NotApplied) => failure.remedy(format!(
                "all {unit}s before are written, these are not: run it again from {unit} {first} on"
            )),
            _ => failure,
        }
    }
}
