//! A blocking client of a `raftd` cluster.
//!
//! It finds the leader by itself, follows it when it moves, and retries within a deadline. A
//! write that is retried keeps its name (session and number), so that it is applied exactly once
//! however often it was sent (thesis 6.3). What became of a call is in the type of its result:
//! done, refused, certainly not applied, or unknown ([`Error`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use raftctl::client::{
//!     Batch, Client, Command, Consistency, Deadline, Operation, Options, Txn,
//! };
//!
//! # fn main() -> Result<(), raftctl::client::Error> {
//! let endpoints = vec!["127.0.0.1:7400".to_string()];
//! let mut client = Client::new(Options::new(endpoints));
//! let deadline = Deadline::after(Duration::from_secs(5));
//! let written = client.write(Command::Put { key: b"k", value: b"v" }, deadline)?;
//! println!("written at revision {}", written.revision);
//! let entry = client.get(b"k", Consistency::Linearizable, deadline)?;
//! assert_eq!(entry.expect("it was just written").value, b"v");
//!
//! // Several as one: all of them are done, or none.
//! let mut batch = Batch::default();
//! for key in [b"a", b"b"] {
//!     let put = Command::Put { key, value: b"v" };
//!     batch.push(Operation::Change(put)).expect("a batch is not full so soon");
//! }
//! client.write(Command::Txn(Txn::batch(batch.operations())), deadline)?;
//!
//! // Many writes in flight in one session: results come in the order of submission.
//! for n in 0..100_u32 {
//!     let key = format!("k{n}");
//!     client.submit(Command::Put { key: key.as_bytes(), value: b"v" })?;
//! }
//! while let Some(result) = client.wait(Deadline::after(Duration::from_secs(5))) {
//!     result?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Revisions, ids of nodes, changes of the members and the errors that a server answers with are of
//! [`crate::wire`].
//!
//! ```no_run
//! use raftctl::client::{Client, Deadline, Error};
//! use raftctl::wire::client::MemberChange;
//! use raftctl::wire::error::Error as Refusal;
//! use raftctl::wire::types::NodeId;
//!
//! /// Whether the others could do without this member.
//! fn is_spare(client: &mut Client, node: NodeId, deadline: Deadline) -> Result<bool, Error> {
//!     match client.change_members(MemberChange::Remove(node), true, deadline) {
//!         Ok(_) => Ok(true),
//!         Err(Error::Refused { error: Refusal::Refused { .. }, .. }) => Ok(false),
//!         Err(error) => Err(error),
//!     }
//! }
//! ```
//!
//! A leader that hangs while all its connections stay open is left as soon as another member tells
//! of a new one, which takes more than one endpoint.

mod call;
mod connection;
mod error;
mod gets;
mod lead;
mod limits;
mod members;
mod read;
mod route;
mod session;
mod walk;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use wire::hello::Welcome;

pub use error::{Cause, Error, Why};
pub use gets::GETS_IN_FLIGHT_MAX;
pub use lead::{Transferred, leaders_of};
pub use limits::check;
pub use read::{Entry, Page, Scan, status_of};
pub(crate) use route::Advice;
pub use route::Deadline;
pub use session::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, NotARequestId, RequestId, Written};
pub use walk::{Reached, Walk, Way};
pub use wire::client::{
    Consistency, Freshness, Item, Items, KeyRange, LeaderChange, Member, NodeRole, ScanMode,
    Status, ViewChoice, prefix_end,
};
pub use wire::command::{
    Batch, BatchFull, Command, Compare, Compares, Condition, Expect, Operation, OperationResult,
    Operations, Outcome, Relation, Results, Txn, Undone,
};

use call::{Next, Stop, Whom};
use connection::Connection;
use gets::Gets;
use route::Router;
use session::Session;
use watch::Watch;

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Options {
    /// `HOST:PORT` of some members, best of all.
    pub endpoints: Vec<String>,
    /// The longest wait for one TCP connection.
    pub connect_timeout: Duration,
    /// When raised (by a signal handler or another thread), every call ends within a tenth of a
    /// second, as at its deadline but with [`Why::Cancelled`]; so does each that follows, before it
    /// sends anything, until the flag is lowered.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Options {
    /// Defaults: two seconds to connect, nothing to cancel.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            connect_timeout: Duration::from_secs(2),
            cancel: None,
        }
    }
}

/// A client: at most one connection for requests and one to a second member, one session, writes in
/// flight up to [`IN_FLIGHT_MAX`].
///
/// Invariants:
/// - a write is sent again only under the name that it was first sent under, unless it is
///   certain that it was not applied;
/// - while answers are awaited on a connection, it is given up only for silence or an error, so
///   that no verdict on its way is thrown away.
#[derive(Debug)]
pub struct Client {
    router: Router,
    connection: Option<Connection>,
    /// Who tells if somebody else leads, once an answer was late.
    watch: Option<Watch>,
    session: Session,
    gets: Gets,
    /// What to do before anything more is sent.
    next: Option<Next>,
}

impl Client {
    /// A client that connects when it is first used.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            router: Router::new(options.endpoints, options.connect_timeout, options.cancel),
            connection: None,
            watch: None,
            session: Session::new(),
            gets: Gets::default(),
            next: None,
        }
    }

    /// Where it looks for the cluster: what [`Options`] said.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.router.endpoints()
    }

    /// Does one write and waits for its verdict.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Panics
    /// If writes of [`Client::submit`] are still in flight: their results would be mixed up.
    pub fn write(&mut self, command: Command<'_>, deadline: Deadline) -> Result<Written, Error> {
        assert_eq!(self.session.len(), 0, "writes are in flight");
        self.submit(command)?;
        self.wait(deadline).expect("a write is in flight")
    }

    /// Asks what became of a write whose outcome is unknown, by sending it again under its name:
    /// it is applied now if it was not before, and never twice. Ask before anything more is written
    /// in its session, by this client for instance, and of several the oldest first: a later write
    /// tells the cluster that nobody will ask, which then forgets the outcome.
    ///
    /// # Errors
    /// [`Error::Unknown`] in every case that leaves the outcome open, with `Stale` or
    /// `SessionExpired` if it cannot be known any more ([`Why::is_forgotten`]); [`Error::Refused`]
    /// with `IdReused` if the name belongs to another command.
    ///
    /// # Panics
    /// If writes are in flight, or if the number of the request is none.
    pub fn resume(
        &mut self,
        request: RequestId,
        command: Command<'_>,
        deadline: Deadline,
    ) -> Result<Written, Error> {
        assert_eq!(self.session.len(), 0, "writes are in flight");
        check(command)?;
        let own = self.change_session(Session::resuming(request, command));
        let result = self.wait(deadline).expect("a write is in flight");
        self.change_session(own);
        result
    }

    /// Queues a write behind those in flight; nothing is sent before [`Client::wait`] or a read. If
    /// one of those is refused, it fails like all behind that one ([`Why::Behind`]).
    ///
    /// # Errors
    /// [`Error::Full`] if too many are in flight, [`Error::Refused`] if it is too large.
    pub fn submit(&mut self, command: Command<'_>) -> Result<(), Error> {
        check(command)?;
        self.session.submit(command, false)
    }

    /// Like [`Client::submit`], for a write that another process may have sent under the name that
    /// it now gets: see [`Client::continue_session`].
    ///
    /// # Errors
    /// Those of [`Client::submit`].
    pub fn resubmit(&mut self, command: Command<'_>) -> Result<(), Error> {
        check(command)?;
        self.session.submit(command, true)
    }

    /// Gives the session its name before anything is sent in it, so that it can be written down
    /// first, and returns that of the next write. Those after it count on by one. The session is
    /// then never replaced by another: if the cluster forgets it, its writes fail.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::NotApplied`] if nobody answered in time.
    ///
    /// # Panics
    /// If writes are in flight.
    pub fn open_session(&mut self, deadline: Deadline) -> Result<RequestId, Error> {
        assert_eq!(self.session.len(), 0, "writes are in flight");
        let mut call = self.begin(Whom::Leader, deadline);
        let born = self.arrive(&mut call)?;
        let next = RequestId {
            session: born,
            seq: 1,
        };
        self.continue_session(next);
        Ok(next)
    }

    /// Goes on with a session of [`Client::open_session`], of another process for instance: the
    /// next write gets the name `next`. Those that may have been sent already come first, in the
    /// order that they had, by [`Client::resubmit`]: each is applied once, whoever sent it.
    ///
    /// # Panics
    /// If writes are in flight, or if the number of the next write is none.
    pub fn continue_session(&mut self, next: RequestId) {
        assert_eq!(self.session.len(), 0, "writes are in flight");
        self.change_session(Session::kept(next));
    }

    /// Goes on in another session, at the same place; returns the one before.
    fn change_session(&mut self, mut session: Session) -> Session {
        session.place = std::mem::take(&mut self.session.place);
        std::mem::replace(&mut self.session, session)
    }

    /// Writes in flight, settled ones whose results were not taken included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.session.len()
    }

    /// Sends what is queued and waits for the result of the oldest write in flight; `None` if
    /// there is none. At the deadline, or when it is cancelled, all writes in flight are given up:
    /// this and the following calls tell of each whether it is certainly not applied or unknown.
    pub fn wait(&mut self, deadline: Deadline) -> Option<Result<Written, Error>> {
        let mut call = self.begin(Whom::Leader, deadline);
        loop {
            if let Some(result) = self.session.take_settled() {
                return Some(result);
            }
            if self.session.len() == 0 {
                return None;
            }
            match self.turn(&mut call, None) {
                Ok(()) => {}
                Err(Stop::Unreachable(causes)) => self.session.abandon_unreachable(&causes),
                Err(Stop::Why(why)) => self.session.abandon(&why),
            }
        }
    }

    /// The node that the client is connected to: its address, and how it introduced itself.
    #[must_use]
    pub fn peer(&self) -> Option<(&str, &Welcome)> {
        let connection = self.connection.as_ref()?;
        Some((&connection.endpoint, &connection.welcome))
    }
}
