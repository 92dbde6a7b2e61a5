//! One verb per file.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod bounds;
pub(crate) mod cas;
pub(crate) mod completion;
pub(crate) mod config;
mod consent;
pub(crate) mod context;
pub(crate) mod count;
pub(crate) mod del;
pub(crate) mod dump;
pub(crate) mod edit;
pub(crate) mod fresh;
pub(crate) mod get;
pub(crate) mod help;
pub(crate) mod incr;
pub(crate) mod is_healthy;
pub(crate) mod is_leader;
pub(crate) mod is_safe_to_stop;
pub(crate) mod leaders;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod peers;
pub(crate) mod put;
mod range;
pub(crate) mod recover;
pub(crate) mod scan;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod transfer_leader;
pub(crate) mod txn;
pub(crate) mod undone;
pub(crate) mod version;
pub(crate) mod wait_ready;
pub(crate) mod wal;

use std::cell::OnceCell;
use std::time::Duration;

use raftctl::client::{Client, Command, Deadline, Options, RequestId, Written};
use raftctl::failure::{Exit, Failure};

use crate::cli::{Cli, Verb};
use crate::config::Config;
use crate::config::setting::{COLOR, FORMAT};
use crate::encoding::{Encoding, Encodings, screen};
use crate::format::{self, Ability};
use crate::items;
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

/// The encoding of keys and values, in arguments and in output.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Codec {
    /// Values are given and shown like this.
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub(crate) encode: Option<Encoding>,
    #[command(flatten)]
    pub(crate) key: KeyCodec,
}

/// The encoding of keys, in arguments and in output.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct KeyCodec {
    /// Keys are given and shown like this.
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub(crate) key_encode: Option<Encoding>,
}

impl Codec {
    pub(crate) fn encodings(self) -> Encodings {
        Encodings {
            key: self.key.key_encode,
            value: self.encode,
        }
    }
}

/// The id of a write that is sent again.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Resumed {
    /// Ask what became of the write of this id, and do it if it was not done.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<RequestId>,
}

impl Session<'_> {
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

/// A key in a message.
pub(crate) fn shown(key: &[u8]) -> String {
    screen::cut(screen::line(key), 60)
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

/// What the verb can print: anything else is refused before it does anything.
fn ability(verb: &Verb) -> Ability {
    match verb {
        Verb::Get(_) | Verb::Scan(_) => items::ABILITY,
        Verb::Dump(_) | Verb::Load(_) => format::BULK,
        Verb::Put(args) if args.stdin => format::BULK,
        Verb::Del(args) if args.stdin => format::BULK,
        Verb::Config(args) => config::ability(args),
        Verb::Context(args) => context::ability(args),
        Verb::Status => status::ABILITY,
        Verb::Peers => peers::ABILITY,
        Verb::Leaders => leaders::ABILITY,
        Verb::Snapshot(args) => snapshot::ability(args),
        Verb::Wal(args) => wal::ability(args),
        _ => format::LINES,
    }
}

/// Carries out the verb.
pub(crate) fn run(cli: Cli, signals: &Signals) -> Result<Exit, Failure> {
    let (mut style, mut flags) = (cli.style, cli.flags);
    let ability = ability(&cli.verb);
    style.check(ability)?;
    flags.take(style.said());
    let config = if matches!(
        cli.verb,
        Verb::Help(_) | Verb::Completion(_) | Verb::Complete(_) | Verb::Version
    ) {
        // They go on when a configuration is broken.
        Config::built_in()
    } else {
        Config::resolve(&flags, &|name| std::env::var_os(name))?
    };
    style.set_usual(config.text(&FORMAT), config.text(&COLOR), ability);
    let mut session = Session {
        endpoints: config.endpoints(),
        timeout: config.timeout(),
        deadline: OnceCell::new(),
        out: Out::new(style)?,
        signals,
        config,
    };
    let session = &mut session;
    let exit = match cli.verb {
        Verb::Put(args) => put::run(&args, session),
        Verb::Get(args) => get::run(&args, session),
        Verb::Del(args) => del::run(&args, session),
        Verb::Cas(args) => cas::run(&args, session),
        Verb::Incr(args) => incr::run(&args, session),
        Verb::Append(args) => append::run(&args, session),
        Verb::Txn(args) => txn::run(&args, session),
        Verb::Scan(args) => scan::run(&args, session),
        Verb::Count(args) => count::run(&args, session),
        Verb::Load(args) => load::run(&args, session),
        Verb::Dump(args) => dump::run(&args, session),
        Verb::Snapshot(args) => snapshot::run(&args, session),
        Verb::Status => status::run(session),
        Verb::Peers => peers::run(session),
        Verb::Leaders => leaders::run(session),
        Verb::AddPeer(args) => members::add(&args, session),
        Verb::RemovePeer(args) => members::remove(&args, session),
        Verb::PromotePeer(args) => members::promote(&args, session),
        Verb::DemotePeer(args) => members::demote(&args, session),
        Verb::ReplacePeer(args) => members::replace(&args, session),
        Verb::UpdatePeer(args) => members::update(&args, session),
        Verb::IsLeader => is_leader::run(session),
        Verb::IsSafeToStop => is_safe_to_stop::run(session),
        Verb::IsHealthy(args) => is_healthy::run(&args, session),
        Verb::WaitReady(args) => wait_ready::run(&args, session),
        Verb::TransferLeader(args) => transfer_leader::run(&args, session),
        Verb::Recover(args) => recover::run(&args, session),
        Verb::Wal(args) => wal::run(&args, session),
        Verb::Bench(args) => bench::run(&args, session),
        Verb::Edit(args) => edit::run(&args, session),
        Verb::Help(args) => help::run(&args, session),
        Verb::Completion(args) => completion::run(&args, session),
        Verb::Complete(question) => Ok(completion::answer(question)),
        Verb::Context(args) => context::run(&args, &flags, session),
        Verb::Config(args) => config::run(&args, session),
        Verb::Version => version::run(session),
    };
    // What was found before an error is data too.
    let flushed = session.out.finish();
    match exit {
        // Nobody reads what goes to a pager that could not be started.
        Err(failure) if failure.exit == Exit::Pipe => flushed.and(Err(failure)),
        exit => exit.and_then(|exit| flushed.map(|()| exit)),
    }
}
