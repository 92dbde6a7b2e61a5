//! How fresh a read is: who may serve it, and from when on (thesis 6.4; rules C1).
//!
//! | a read | is served by | once |
//! |---|---|---|
//! | linearizable | the leader | a round that began after it is answered, and its index applied |
//! | linearizable anywhere | any node | the leader told an index, and that is applied |
//! | bounded | any node | as above; at once, if it was so lately enough |
//! | stale | any node | at once |
//!
//! and all of them when the entry that they come after is applied. A node that does not lead does not
//! make anybody wait long: it has to ask a leader that may be dead, or to catch up with it, and there
//! are others. So it gives a read up after an election timeout, or at once where it is far behind.

use std::time::Duration;

use wire::client::{Consistency, Freshness};
use wire::error::{Error, Lag};
use wire::hello::LeaderHint;
use wire::types::{Index, NodeId};

use super::Node;
use super::admission::{Leadership, Parked, overloaded};
use super::client::Caller;
use super::io::Effects;
use super::reads::{Query, Read};

/// A node that lacks more entries than this does not let a read wait for them: they take longer than
/// to ask another node.
const LAG_ENTRIES_MAX: u64 = 10_000;

impl Node {
    /// Takes a read.
    pub(super) fn admit_read(
        &mut self,
        caller: Caller,
        deadline_ms: u32,
        freshness: Freshness,
        query: Query,
        effects: &mut Effects,
    ) {
        let read = Read {
            caller,
            deadline: self.deadline_after(deadline_ms),
            patience: None,
            freshness,
            asked_at: None,
            query,
        };
        if self.reads.is_full() {
            return self.refuse_read(read, overloaded(), effects);
        }
        if self.is_as_fresh_as(freshness.consistency) {
            self.await_applied(read, effects);
        } else {
            self.route_read(read, effects);
        }
    }

    /// Whether what is applied here is all that such a read has to see.
    fn is_as_fresh_as(&self, consistency: Consistency) -> bool {
        match consistency {
            Consistency::Linearizable | Consistency::LinearizableAnywhere => false,
            Consistency::Stale => true,
            Consistency::Bounded { max_lag_ms } => {
                let max = Duration::from_millis(u64::from(max_lag_ms));
                self.behind().is_some_and(|behind| behind <= max)
            }
        }
    }

    /// How long ago the state was known to be the newest.
    fn behind(&self) -> Option<Duration> {
        let fresh_at = self.reads.fresh_at()?;
        Some(self.now.monotonic.since(fresh_at))
    }

    /// Has a read wait for the entry that it comes after, and for no leader.
    fn await_applied(&mut self, mut read: Read, effects: &mut Effects) {
        if self.is_far_behind(read.freshness.after) {
            return self.give_read_up(read, effects);
        }
        self.limit_patience(&mut read);
        self.expires(read.gives_up_at());
        let applied = self.store.applied().index;
        self.reads
            .await_applied(read.freshness.after, applied, read);
    }

    /// Sends a read where it can be served: on to the leader, or along here.
    fn route_read(&mut self, mut read: Read, effects: &mut Effects) {
        let anywhere = read.freshness.is_served_anywhere();
        let queued = self.clients.has_parked(read.caller.connection);
        match self.leadership() {
            Leadership::Other(_) if !anywhere => self.refuse_reads(vec![read], effects),
            Leadership::Other(_) | Leadership::Unknown
                if anywhere && self.state_in_doubt().is_some() =>
            {
                self.give_read_up(read, effects);
            }
            Leadership::Own | Leadership::Other(_) if !queued => self.ask(read, effects),
            _ => {
                if anywhere {
                    self.limit_patience(&mut read);
                }
                self.park(Parked::Read(read), false, effects);
            }
        }
    }

    /// Queues a linearizable read behind a round, this leader's or one that asks the leader (thesis
    /// 6.4).
    pub(super) fn ask(&mut self, mut read: Read, effects: &mut Effects) {
        if self.is_far_behind(read.freshness.after) {
            return self.give_read_up(read, effects);
        }
        let Some(ticket) = self.raft.read() else {
            return self.refuse_read(read, Error::NoLeader, effects);
        };
        let own = self
            .clients
            .read_floor(read.caller.connection, self.raft.term());
        self.limit_patience(&mut read);
        self.expires(read.gives_up_at());
        read.asked_at = Some(self.now.monotonic);
        let index = ticket.index.max(own).max(read.freshness.after);
        self.reads.ask(ticket.round, index, read);
    }

    /// Another leader, or none: the last one answers no more. What it has answered stays true.
    pub(super) fn reask_reads(&mut self, effects: &mut Effects) {
        for read in self.reads.take_asked(u64::MAX) {
            self.route_read(read, effects);
        }
    }

    /// A round was answered: reads that waited for it wait for their index, and for that which the
    /// leader told.
    pub(super) fn confirm_reads(&mut self, round: u64, index: Index, effects: &mut Effects) {
        if self.is_far_behind(index) {
            for read in self.reads.take_asked(round) {
                self.give_read_up(read, effects);
            }
        }
        let applied = self.store.applied().index;
        self.reads.confirm(round, index, applied);
    }

    /// Whether another node is asked sooner than this one has applied that.
    fn is_far_behind(&self, index: Index) -> bool {
        let applied = self.store.applied().index;
        self.leadership() != Leadership::Own && index.0 > applied.0 + LAG_ENTRIES_MAX
    }

    /// A leader does its best until the deadline; nobody else could do better.
    fn limit_patience(&self, read: &mut Read) {
        read.patience = match self.leadership() {
            Leadership::Own => None,
            Leadership::Other(_) | Leadership::Unknown => {
                let until = self.now.monotonic + self.config.election_timeout_max;
                read.patience.or(Some(until))
            }
        };
    }

    /// Another node can serve it better.
    pub(super) fn give_read_up(&mut self, read: Read, effects: &mut Effects) {
        self.refuse_read(read, self.lagging(), effects);
    }

    pub(super) fn refuse_read(&mut self, read: Read, error: Error, effects: &mut Effects) {
        self.refuse(read.caller, error, effects);
        self.reads.recycle(read.query.keys);
    }

    /// What a node that does not lead says of its state, if that is not as it should be.
    pub(super) fn lagging(&self) -> Error {
        let reason = if self.state_in_doubt().is_some() {
            "its state is being rebuilt"
        } else if self.leadership() == Leadership::Unknown {
            "it knows no leader"
        } else {
            "it is catching up with the leader"
        };
        let applied = self.store.applied().index;
        Error::Lagging(Box::new(Lag {
            reason: reason.to_owned(),
            entries: self.committed.0.saturating_sub(applied.0),
            behind_ms: self
                .behind()
                .map(|behind| u64::try_from(behind.as_millis()).unwrap_or(u64::MAX)),
            better: self.better(),
        }))
    }

    /// Who is probably more up to date: the leader, or else any other member that is there.
    fn better(&self) -> Option<LeaderHint> {
        let leader = match self.leadership() {
            Leadership::Other(leader) => Some(leader),
            Leadership::Own | Leadership::Unknown => None,
        };
        let members = self.raft.membership().members.iter();
        let others = members.map(|member| member.id);
        let there = |id: &NodeId| *id != self.config.id && self.links.connected(*id);
        let hints = leader.into_iter().chain(others.filter(there));
        hints
            .map(|id| self.hint(id))
            .find(|hint| !hint.client_addr.is_empty())
    }
}
