//! Simulated clients: a state machine over connections. Bytes go in and out through the real codec,
//! and what every client saw becomes a [`History`].
//!
//! They keep the rules of good clients (C2 to C5): a write that got no verdict is sent again under
//! its session and seq, hints are followed, an error of the class not-applied is the end of one
//! attempt and no more, `OutOfOrder` goes back, and every request ends: with a result, as certainly
//! not applied, or as unknown. And they have habits that only bad luck brings about elsewhere:
//! the same write sent to two members at once, a write given up and sent again long afterwards, a
//! connection closed in the middle of everything, an id used for two commands, a session from the
//! future, a key that is too long, bytes that are no frame.
//!
//! | file | what is in it |
//! |---|---|
//! | `client.rs` | one client: what it wants, and when it gives up |
//! | `calls.rs` | whom it asks, and how |
//! | `verdicts.rs` | what an answer means for the request, and for what comes next |
//! | `habits.rs` | the bad habits |
//! | `line.rs` | one connection: frames, and what was asked on it |
//! | `wishes.rs` | operations, drawn |
//! | `pages.rs` | the pages of views |
//!
//! A client must be alone with its connection as TCP has it: what is sent arrives at most once and
//! in order, or the connection breaks. Otherwise "not applied" would be said of one copy while
//! another is applied.

mod calls;
mod client;
mod habits;
mod line;
mod pages;
#[cfg(test)]
mod tests;
mod verdicts;
mod wishes;

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::Instant;
use wire::command::Outcome;

use self::client::Client;
use super::invariants::Name;
use super::net::Host;
use super::plan::Workload;
use super::random::Random;
use crate::history::{Answer, History, Record};

/// What clients want done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Dial a member, under this name.
    Connect {
        /// The connection's name; never used again.
        connection: u64,
        /// Whom.
        to: Host,
    },
    /// Write to a connection.
    Send {
        /// Which.
        connection: u64,
        /// What.
        bytes: Bytes,
    },
    /// Close a connection; nothing more of it is to be told.
    Close {
        /// Which.
        connection: u64,
    },
}

/// What came of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct Counts {
    pub ok: u64,
    pub not_applied: u64,
    pub unknown: u64,
    /// Requests sent, retries and bad habits included.
    pub attempts: u64,
    pub sessions: u64,
    /// Writes that got a result after an attempt without a verdict.
    pub retried_ok: u64,
    pub doubled: u64,
    pub resent: u64,
    pub reused: u64,
    pub from_future: u64,
    pub too_long: u64,
    pub gibberish: u64,
    pub hung_up: u64,
    pub txns_held: u64,
    pub txns_not_held: u64,
    pub txns_undone: u64,
    pub ranges_kept: u64,
    /// Pages of views behind the first ones.
    pub pages: u64,
    /// Views that ended before all that was wanted of them was read.
    pub views_lost: u64,
    /// Errors received, by name.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// A write did this.
    fn did(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Txn { held: true, .. } => self.txns_held += 1,
            Outcome::Txn { held: false, .. } => self.txns_not_held += 1,
            Outcome::Undone { .. } => self.txns_undone += 1,
            Outcome::NotDeleted(_) => self.ranges_kept += 1,
            _ => {}
        }
    }

    /// Requests that ended.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.ok + self.not_applied + self.unknown
    }
}

/// All clients of a run.
///
/// Invariants:
/// - a connection belongs to one client, from `Connect` until it is closed by either end;
/// - every operation that was begun is recorded once.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    common: Common,
    next_at: Option<Instant>,
}

/// What is left of the clients of a run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What they saw.
    pub history: History,
    /// How many attempts of each write may have been appended: all but those that were refused as
    /// not applied (rules C4).
    pub possible: BTreeMap<Name, u32>,
}

/// What the clients of a run share.
#[derive(Debug)]
struct Common {
    workload: Workload,
    /// Whom they may dial.
    members: Vec<Host>,
    owners: BTreeMap<u64, usize>,
    serial: u64,
    history: History,
    counts: Counts,
    /// How many attempts of each write may have been appended.
    possible: BTreeMap<Name, u32>,
    /// The first answer that must not be.
    breach: Option<String>,
    issuing: bool,
    /// Since when nothing is wrong on purpose.
    calm_since: Option<Instant>,
}

/// What a client acts upon.
struct Desk<'a> {
    now: Instant,
    client: usize,
    common: &'a mut Common,
    actions: &'a mut Vec<ClientAction>,
}

impl Clients {
    /// The clients that a plan asks for, of a cluster of so many members.
    #[must_use]
    pub fn new(workload: Workload, members: usize, mut random: Random) -> Self {
        let count = workload.clients;
        let common = Common {
            workload,
            members: (0..members).collect(),
            owners: BTreeMap::new(),
            serial: 0,
            history: History::default(),
            counts: Counts::default(),
            possible: BTreeMap::new(),
            breach: None,
            issuing: true,
            calm_since: None,
        };
        let client = |number| Client::new(number, &common, random.fork());
        let clients = (0..count as u64).map(client).collect();
        Self {
            clients,
            common,
            next_at: Some(Instant::default()),
        }
    }

    /// When [`Clients::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next_at
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<ClientAction>) {
        for number in 0..self.clients.len() {
            let due = self.clients[number].next_at(&self.common);
            if due.is_some_and(|at| at <= now) {
                self.with(number, now, actions, |_, _| {});
            }
        }
        self.plan();
    }

    /// A member took the call.
    pub fn connected(&mut self, now: Instant, connection: u64, actions: &mut Vec<ClientAction>) {
        if let Some(number) = self.common.owners.get(&connection).copied() {
            self.with(number, now, actions, |client, desk| {
                client.connected(connection, desk);
            });
            self.plan();
        }
    }

    /// Bytes came.
    pub fn received(
        &mut self,
        now: Instant,
        connection: u64,
        bytes: Bytes,
        actions: &mut Vec<ClientAction>,
    ) {
        if let Some(number) = self.common.owners.get(&connection).copied() {
            self.with(number, now, actions, |client, desk| {
                client.received(connection, bytes, desk);
            });
            self.plan();
        }
    }

    /// A connection is over, or was never taken.
    pub fn closed(&mut self, now: Instant, connection: u64, actions: &mut Vec<ClientAction>) {
        if let Some(number) = self.common.owners.remove(&connection) {
            self.with(number, now, actions, |client, desk| {
                client.closed(connection, desk);
            });
            self.plan();
        }
    }

    fn with(
        &mut self,
        number: usize,
        now: Instant,
        actions: &mut Vec<ClientAction>,
        act: impl FnOnce(&mut Client, &mut Desk<'_>),
    ) {
        let client = &mut self.clients[number];
        let mut desk = Desk {
            now,
            client: number,
            common: &mut self.common,
            actions,
        };
        act(client, &mut desk);
        client.go_on(&mut desk);
    }

    fn plan(&mut self) {
        let common = &self.common;
        let times = self.clients.iter();
        self.next_at = times.filter_map(|client| client.next_at(common)).min();
    }

    /// The trouble is over: from now on clients have no bad habits, dial these members only, wait
    /// for answers as long as it takes, and begin no operation with a deadline.
    pub fn calm(&mut self, now: Instant, core: &[Host], actions: &mut Vec<ClientAction>) {
        self.common.calm_since = Some(now);
        self.common.members = core.to_vec();
        for number in 0..self.clients.len() {
            self.with(number, now, actions, Client::start_over);
        }
        self.plan();
    }

    /// These are the members from now on, as far as anybody knows.
    pub fn know(&mut self, members: Vec<Host>) {
        if !self.common.is_calm() && !members.is_empty() {
            self.common.members = members;
        }
    }

    /// No client begins another operation.
    pub fn stop_issuing(&mut self) {
        self.common.issuing = false;
        self.plan();
    }

    /// Operations without an end.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.clients.iter().map(Client::pending).sum()
    }

    /// What came of the requests so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.common.counts
    }

    /// The first answer that no rule allows.
    #[must_use]
    pub fn breach(&self) -> Option<&str> {
        self.common.breach.as_deref()
    }

    /// What waits where, for a report.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for client in &self.clients {
            client.describe(&mut text);
        }
        text
    }

    /// The end: what still waits is unknown.
    #[must_use]
    pub fn finish(&mut self) -> Finished {
        for client in &mut self.clients {
            client.abandon_all(&mut self.common);
        }
        Finished {
            history: std::mem::take(&mut self.common.history),
            possible: std::mem::take(&mut self.common.possible),
        }
    }
}

impl Common {
    fn record(&mut self, record: Record) {
        let count = match record.answer {
            Answer::NotApplied => &mut self.counts.not_applied,
            Answer::Unknown => &mut self.counts.unknown,
            _ => &mut self.counts.ok,
        };
        *count += 1;
        self.history.records.push(record);
    }

    fn is_calm(&self) -> bool {
        self.calm_since.is_some()
    }

    /// Keeps the first breach.
    fn report(&mut self, breach: impl FnOnce() -> String) {
        self.breach.get_or_insert_with(breach);
    }
}

impl Desk<'_> {
    fn dial(&mut self, to: Host) -> u64 {
        self.common.serial += 1;
        let connection = self.common.serial;
        self.common.owners.insert(connection, self.client);
        self.actions.push(ClientAction::Connect { connection, to });
        connection
    }

    fn send(&mut self, connection: u64, bytes: Bytes) {
        self.actions.push(ClientAction::Send { connection, bytes });
    }

    fn close(&mut self, connection: u64) {
        if self.common.owners.remove(&connection).is_some() {
            self.actions.push(ClientAction::Close { connection });
        }
    }
}
