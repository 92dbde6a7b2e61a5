//! What the command line says when something did not work, and the one place where an error
//! becomes an exit code.

use std::fmt;

use raftd::fatal::OneLine;
use wire::error::{Class, Error as E};

use crate::client::{Error, Why};
use crate::json;

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
    /// A write may or may not be applied, and the same request id tells; or a change of the members,
    /// or a hand-over, may or may not be done.
    Unknown = 5,
    /// Refused: trying again as it is cannot help.
    Refused = 6,
    /// Bulk work is done, except for records that were left out.
    Rejects = 8,
    /// A file or a data directory is damaged.
    Damaged = 9,
    /// Our own failure.
    Bug = 125,
    /// Interrupted, after what was known so far was printed.
    Interrupted = 130,
    /// The reader of standard output is gone.
    Pipe = 141,
}

impl Exit {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Done,
        Self::No,
        Self::Usage,
        Self::Unreachable,
        Self::NotApplied,
        Self::Unknown,
        Self::Refused,
        Self::Rejects,
        Self::Damaged,
        Self::Bug,
        Self::Interrupted,
        Self::Pipe,
    ];
}

/// An error for a person and, with `--json`, for a program. It is shown in at most four lines:
/// what failed and why, where, what to try, and the request id of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// A stable name, such as `no-leader`.
    pub name: &'static str,
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
    pub fn new(exit: Exit, name: &'static str, what: impl Into<String>) -> Self {
        let class = match exit {
            Exit::Unreachable | Exit::NotApplied => Class::NotApplied,
            Exit::Unknown => Class::Unknown,
            _ => Class::Final,
        };
        Self {
            exit,
            name,
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
                let what = format!("{doing} failed: no endpoint answered");
                let causes: Vec<_> = causes.iter().map(ToString::to_string).collect();
                Self::new(Exit::Unreachable, "unreachable", what)
                    .at(causes.join("; "))
                    .remedy(NOBODY)
            }
            Error::NotApplied { why, place } => {
                let what = format!("{doing} failed: {why}");
                let advice = match why {
                    Why::Server(error) => remedy(error),
                    _ => String::new(),
                };
                Self::new(Exit::NotApplied, why.name(), what)
                    .at(place)
                    .remedy(if advice.is_empty() {
                        NO_EFFECT
                    } else {
                        &advice
                    })
            }
            Error::Unknown {
                request,
                why,
                place,
            } => {
                let what = format!("{doing} has an unknown outcome: {why}");
                let mut failure = Self::new(Exit::Unknown, why.name(), what);
                failure.request = Some(request.to_string());
                let advice = match why.is_forgotten() {
                    true => FORGOTTEN,
                    false => ASK_AGAIN,
                };
                failure.at(place).remedy(advice)
            }
            Error::Open { why, place } => {
                let what = format!("{doing} has an unknown outcome: {why}");
                Self::new(Exit::Unknown, why.name(), what)
                    .at(place)
                    .remedy(LOOK)
            }
            Error::Refused { error, place } => {
                let what = format!("{doing} was refused: {error}");
                let mut failure = Self::new(Exit::Refused, error.name(), what);
                failure.class = error.class();
                failure.at(place).remedy(remedy(error))
            }
            Error::Full { in_flight } => {
                let what = format!("{doing} failed: {in_flight} writes are in flight already");
                Self::new(Exit::Bug, "too-many-in-flight", what)
            }
        }
    }

    /// Whether the same request may be sent again and may then go through.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.exit,
            Exit::Unreachable | Exit::NotApplied | Exit::Unknown
        ) || self.class == Class::NotApplied
    }

    /// The failure as one line of JSON, of a process that ends with this status.
    #[must_use]
    pub fn to_json(&self, status: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let object = serde_json::json!({ "error": {
            "code": status,
            "name": self.name,
            "class": self.class.name(),
            "message": self.what,
            "retryable": self.is_retryable(),
            "request_id": self.request,
            "where": self.place,
            "try": self.remedy,
        }});
        json::line(&object, &mut out);
        out
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

const NOBODY: &str =
    "is raftd running there (`systemctl status 'raftd@*'`)? name other nodes with -e HOST:PORT,..";
const NO_EFFECT: &str =
    "it had no effect: run it again; `raftctl status` shows which nodes are missing";
const FORGOTTEN: &str =
    "the cluster no longer knows this request: `raftctl get` shows what the data are now";
const LOOK: &str = "`raftctl status` shows who the members are and who leads: run it again if that is \
                    not what was meant";
const ASK_AGAIN: &str = "run the same command with --request-id and the id below: it tells the \
                         outcome, and nothing is applied twice";

/// What to try after a server's refusal; empty if nothing can be advised.
fn remedy(error: &E) -> String {
    match error {
        E::TooLarge { what, limit, .. } => match what.as_str() {
            "value" => format!("a value has at most {limit} bytes: split it over several keys"),
            "key" => format!("a key has at most {limit} bytes: choose a shorter one"),
            _ => "make several writes of it".into(),
        },
        E::DiskFull { hard: false } => "delete keys, or make room: `raftctl status` shows which \
                                        disks are low; it goes on by itself"
            .into(),
        E::DiskFull { hard: true } => {
            "make room on the disks that `raftctl status` shows as full; \
                                       it goes on by itself"
                .into()
        }
        E::Refused { advice, .. } => advice.clone(),
        E::Lagging(_) => {
            "other nodes may be better: `raftctl status` tells the lag of each; with a \
                          longer -t it may catch up"
                .into()
        }
        E::IdReused => "use the id with exactly the command that it was given for".into(),
        E::TooManyConnections { .. } => "close idle clients, or ask another node with -e".into(),
        E::Overloaded { .. } => "it had no effect: run it again, or with a longer -t".into(),
        E::ViewGone => "run it again; a reader that is slow had better read from a file".into(),
        E::UnsupportedVersion { .. } | E::UnknownKind { .. } | E::UnknownFlags { .. } => {
            "raftctl and raftd differ in version: `raftctl version`, `raftd --version`".into()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_with_what_to_try() {
        let too_large = |what: &str| E::TooLarge {
            what: what.into(),
            limit: 7,
            actual: 8,
        };
        let refused = E::Refused {
            reason: "it cannot be".into(),
            advice: "ask n2".into(),
        };
        for (error, words) in [
            (too_large("value"), "a value has at most 7 bytes"),
            (too_large("key"), "a key has at most 7 bytes"),
            (too_large("entry"), "make several writes"),
            (E::DiskFull { hard: false }, "delete keys, or make room"),
            (E::DiskFull { hard: true }, "make room on the disks"),
            (E::IdReused, "exactly the command"),
            (E::TooManyConnections { limit: 1 }, "ask another node"),
            (E::Overloaded { retry_after_ms: 1 }, "a longer -t"),
            (E::ViewGone, "run it again"),
            (refused, "ask n2"),
        ] {
            let place = "n1:7400".to_owned();
            let failure = Failure::of("put k", &Error::Refused { error, place });
            assert!(failure.remedy.contains(words), "{failure}");
        }
    }

    #[test]
    fn what_a_node_says_of_an_error_moves_no_terminal() {
        let failure = Failure::new(Exit::No, "refused", "a\u{9b}2J\u{7f}b\nc");
        assert_eq!(failure.to_string(), "raftctl: a 2J b c");
        let told = String::from_utf8(failure.to_json(1)).unwrap();
        assert!(
            told.contains(r#""message":"a\u009b2J\u007fb\nc""#),
            "{told}"
        );
        assert_eq!(told.matches(char::is_control).collect::<String>(), "\n");
    }
}
