//! Who leads, who has led, and handing over.

use std::cell::Cell;
use std::time::Duration;

use wire::client::{LeaderChange, Reply, Request};
use wire::hello::Welcome;
use wire::types::{NodeId, Term};

use super::call::{Meeting, Whom};
use super::error::{Cause, Error};
use super::route::Deadline;
use super::{Client, Options};

/// How an attempt to hand leadership over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Whether who was meant leads.
    pub done: bool,
    /// The leader's term.
    pub term: Term,
    /// Who leads.
    pub leader: NodeId,
}

impl Client {
    /// Has the leader hand its office over to a member, or to the one that is fittest, and waits
    /// until that has worked or failed. If `to` leads already, it is done.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`; after [`Error::Open`] somebody else may lead, at once or soon.
    pub fn transfer_leader(
        &mut self,
        to: Option<NodeId>,
        deadline: Deadline,
    ) -> Result<Transferred, Error> {
        let transferred = Cell::new(None);
        // To be asked twice is to hand over twice, once from each leader: without a name it is the
        // first that is to go, and it has gone when another leads in a later term.
        let mut first = None;
        let mut meet = |welcome: &Welcome| {
            let (node, term) = (welcome.identity.node, welcome.term);
            if welcome.leader.as_ref().map(|leader| leader.node) != Some(node) {
                return Meeting::Wrong;
            }
            let (asked, since) = *first.get_or_insert((node, term));
            if asked == node || term <= since {
                return Meeting::Ask;
            }
            transferred.set(Some(Transferred {
                done: true,
                term,
                leader: node,
            }));
            Meeting::Settled
        };
        let meet: Option<&mut dyn FnMut(&Welcome) -> Meeting> = match to {
            Some(_) => None,
            None => Some(&mut meet),
        };
        let request = |deadline_ms| Request::TransferLeader { deadline_ms, to };
        self.act(&request, meet, deadline, &mut |reply| {
            let Reply::LeaderTransferred { done, term, leader } = *reply else {
                return false;
            };
            transferred.set(Some(Transferred { done, term, leader }));
            true
        })?;
        let transferred = transferred.get();
        Ok(transferred.expect("it was settled by a hello or a reply"))
    }

    /// Asks the node that the client is connected to, or any, which leaders it has known.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`.
    pub fn leaders(&mut self, deadline: Deadline) -> Result<Vec<LeaderChange>, Error> {
        let mut changes = Vec::new();
        let request = |_| Request::Leaders;
        self.read(&request, Whom::Anyone, deadline, &mut |reply| {
            let Reply::LeaderChanges(told) = reply else {
                return false;
            };
            changes.clone_from(told);
            true
        })?;
        Ok(changes)
    }
}

/// Asks exactly one node which leaders it has known.
///
/// # Errors
/// The cause, for a person: it could not be reached, or gave no answer in time.
pub fn leaders_of(endpoint: &str, timeout: Duration) -> Result<Vec<LeaderChange>, Cause> {
    let mut client = Client::new(Options::new(vec![endpoint.into()]));
    client
        .leaders(Deadline::after(timeout))
        .map_err(|error| Cause::of(endpoint, error))
}
