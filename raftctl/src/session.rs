//! What every verb works with, and what becomes of its writes.

use std::cell::OnceCell;
use std::time::Duration;

use raftctl::client::{Client, Command, Deadline, Options, RequestId, Written};
use raftctl::failure::{Exit, Failure};

use crate::config::Config;
use crate::output::Out;
use crate::signals::Signals;

/// What every verb works with.
pub(crate) struct Session<'a> {
    pub(crate) endpoints: Vec<String>,
    pub(crate) timeout: Duration,
    /// Of what is asked of the cluster; begins with the first question.
    deadline: OnceCell<Deadline>,
    pub(crate) out: Out,
    pub(crate) signals: &'a Signals,
    pub(crate) config: Config,
}

/// The id of a write that is sent again.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Resumed {
    /// Ask what became of the write of this id, and do it if it was not done.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<RequestId>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(config: Config, out: Out, signals: &'a Signals) -> Self {
        Self {
            endpoints: config.endpoints(),
            timeout: config.timeout(),
            deadline: OnceCell::new(),
            out,
            signals,
            config,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let mut options = Options::new(self.endpoints.clone());
        options.cancel = Some(self.signals.cancel.clone());
        Client::new(options)
    }

    /// When all that is asked of the cluster must be answered. The time before the first question
    /// does not count: a person or a pipe may take theirs.
    pub(crate) fn deadline(&self) -> Deadline {
        *self.deadline.get_or_init(|| Deadline::after(self.timeout))
    }

    /// A person was asked in between: the time begins anew.
    pub(crate) fn was_away(&mut self) {
        self.deadline.take();
    }

    /// Does one write. `what` names it in errors.
    pub(crate) fn write(
        &self,
        what: &str,
        resumed: Resumed,
        command: Command<'_>,
    ) -> Result<Written, Failure> {
        self.signals.hold();
        let mut client = self.client();
        let result = match resumed.request_id {
            Some(request) => client.resume(request, command, self.deadline()),
            None => client.write(command, self.deadline()),
        };
        result.map_err(|error| Failure::of(what, &error))
    }

    /// The one endpoint that a verb about a node asks.
    pub(crate) fn node(&self) -> Result<&str, Failure> {
        match self.endpoints.as_slice() {
            [endpoint] => Ok(endpoint),
            _ => Err(
                Failure::usage("this asks one node, but several endpoints are given")
                    .remedy(format!("-e {}", self.endpoints[0])),
            ),
        }
    }
}

/// An answer of another kind than the command's: the server is broken.
pub(crate) fn odd_outcome(what: &str, written: &Written) -> Failure {
    let outcome = &written.outcome;
    Failure::new(
        Exit::Unknown,
        "odd-outcome",
        format!("{what} was applied, but the answer is {outcome:?}"),
    )
}

/// A retry of a write whose answer was too long to keep.
pub(crate) fn not_kept(what: &str, written: &Written) -> Failure {
    let revision = written.revision.0;
    Failure::new(
        Exit::Unknown,
        "not-kept",
        format!(
            "{what} was applied at revision {revision}, but what it answered was too long to keep"
        ),
    )
}
