//! What the command line says when something did not work, and the one place where an error
//! becomes an exit code.

use std::fmt::{self, Write as _};

use wire::error::Class;

use crate::client::{Cause, Error, Why};

/// Exit codes of `raftctl`; `man raftctl` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or yes.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// The command line cannot be understood; nothing was sent.
    Usage = 2,
    /// No endpoint completed the hello.
    Unreachable = 3,
    /// A read failed, or a write was certainly not applied.
    NotApplied = 4,
    /// A write may or may not be applied; the same request id tells.
    Unknown = 5,
    /// Refused: trying again as it is cannot help.
    Refused = 6,
    /// Our own failure.
    Bug = 125,
    /// The reader of standard output is gone.
    Pipe = 141,
}

/// An error for a person and, with `--json`, for a program. It is shown in at most four lines:
/// what failed and why, where, what to try, and the request id of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// A stable name, such as `no-leader`.
    pub name: String,
    /// What it says of the request's effect.
    pub class: Class,
    /// What failed and why, in one line.
    pub what: String,
    /// Endpoint, key or line concerned; empty if none.
    pub place: String,
    /// What to try; empty if nothing can be advised.
    pub remedy: String,
    /// The request id of a write without a verdict.
    pub request: Option<String>,
}

impl Failure {
    /// A failure without place and remedy.
    pub fn new(exit: Exit, name: impl Into<String>, what: impl Into<String>) -> Self {
        let class = match exit {
            Exit::Unreachable | Exit::NotApplied => Class::NotApplied,
            Exit::Unknown => Class::Unknown,
            _ => Class::Final,
        };
        Self {
            exit,
            name: name.into(),
            class,
            what: what.into(),
            place: String::new(),
            remedy: String::new(),
            request: None,
        }
    }

    /// A command line that cannot be understood.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what)
    }

    /// Adds the endpoint, key or line concerned.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = place.to_string();
        self
    }

    /// Adds what to try.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Tells what the client says of `doing`, for instance of `put a`.
    #[must_use]
    pub fn of(doing: &str, error: &Error) -> Self {
        match error {
            Error::Unreachable { causes } => {
                Self::new(Exit::Unreachable, "unreachable", format!("{doing} failed: no endpoint answered"))
                    .at(list(causes))
                    .remedy("is raftd running there? `systemctl status 'raftd@*'`; name others with -e HOST:PORT,..")
            }
            Error::NotApplied { why, place } => {
                Self::new(Exit::NotApplied, why.name(), format!("{doing} failed: {why}"))
                    .at(place)
                    .remedy(advice(why, "it had no effect: run it again; `raftctl status` shows who is missing"))
            }
            Error::Unknown { request, why, place } => {
                let mut failure = Self::new(
                    Exit::Unknown,
                    why.name(),
                    format!("{doing} has an unknown outcome: {why}"),
                )
                .at(place)
                .remedy("the same command with --request-id and this id tells the outcome, and never applies it twice");
                failure.request = Some(request.to_string());
                failure
            }
            Error::Refused { error, place } => {
                let mut failure = Self::new(Exit::Refused, error.name(), format!("{doing} was refused: {error}")).at(place);
                failure.class = error.class();
                failure.remedy = remedy(error);
                failure
            }
            Error::Full { in_flight } => Self::new(
                Exit::Bug,
                "too-many-in-flight",
                format!("{doing} failed: {in_flight} writes are in flight already"),
            ),
        }
    }

    /// Whether the same request may be sent again and may then go through.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.exit, Exit::Unreachable | Exit::NotApplied | Exit::Unknown)
            || self.class == Class::NotApplied
    }

    /// The failure as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let class = match self.class {
            Class::NotApplied => "not-applied",
            Class::Unknown => "unknown",
            Class::Final => "final",
        };
        serde_json::json!({ "error": {
            "code": self.exit as u8,
            "name": self.name,
            "class": class,
            "message": self.what,
            "retryable": self.is_retryable(),
            "request_id": self.request,
            "where": self.place,
            "try": self.remedy,
        }})
        .to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raftctl: {}", OneLine(&self.what))?;
        if !self.place.is_empty() {
            write!(f, "\n  where: {}", OneLine(&self.place))?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  try: {}", OneLine(&self.remedy))?;
        }
        if let Some(request) = &self.request {
            write!(f, "\n  request: {request}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Text that came from elsewhere, without line breaks and terminal control.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            f.write_char(if character.is_control() { ' ' } else { character })?;
        }
        Ok(())
    }
}

/// Every endpoint with its cause, in one line.
fn list(causes: &[Cause]) -> String {
    let causes: Vec<_> = causes.iter().map(ToString::to_string).collect();
    causes.join("; ")
}

fn advice(why: &Why, otherwise: &str) -> String {
    match why {
        Why::Server(error) => match remedy(error) {
            text if text.is_empty() => otherwise.into(),
            text => text,
        },
        _ => otherwise.into(),
    }
}

/// What to try after a server's refusal; empty if nothing can be advised.
fn remedy(error: &wire::error::Error) -> String {
    use wire::error::Error as E;
    match error {
        E::TooLarge { what, limit, .. } => {
            format!("a {what} has at most {limit} bytes: split it over several keys")
        }
        E::DiskFull => "make room on the disks of a quorum; deletes still work".into(),
        E::IdReused => "use the id with exactly the command that it was given for".into(),
        E::TooManyConnections { .. } => "close idle clients, or ask another node with -e".into(),
        E::Overloaded { .. } => "it had no effect: run it again, or with a longer -t".into(),
        E::UnsupportedVersion { .. } | E::UnknownKind { .. } | E::UnknownFlags { .. } => {
            "raftctl and raftd differ in version: `raftctl version`, `raftd --version`".into()
        }
        _ => String::new(),
    }
}
