//! Hand-overs whose end somebody waits for: an operator who asked for it, or a node that is told to
//! stop (thesis 3.10).

use std::time::Duration;

use raft::{Instant, RoleName};
use wire::client::Reply;
use wire::error::Error;
use wire::types::{NodeId, Term};

use super::Node;
use super::admission::{Leadership, overloaded};
use super::client::Caller;
use super::handover::Reason;
use super::io::Effects;

/// After a stop was asked for, how long pending requests may take.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A hand-over that is waited for.
///
/// Invariant: it ends, and its caller is answered, at `until` at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resignation {
    /// The reign that is to end.
    term: Term,
    /// By whom it is wished; `None`: the node stops.
    asked: Option<(Caller, Option<NodeId>)>,
    until: Instant,
}

/// How it ended.
#[derive(Clone, Copy)]
enum End {
    /// Somebody leads; maybe the same as before.
    Led(Term, NodeId),
    /// Not yet: another may still take over.
    Open,
}

impl Node {
    /// An operator wants another leader. One such wish is served at a time.
    pub(super) fn admit_transfer(
        &mut self,
        caller: Caller,
        deadline_ms: u32,
        to: Option<NodeId>,
        effects: &mut Effects,
    ) {
        if self.leadership() != Leadership::Own {
            return self.refuse_elsewhere(caller, effects);
        }
        if to == Some(self.config.id) {
            let end = End::Led(self.raft.term(), self.config.id);
            return self.tell_end(caller, to, end, effects);
        }
        if self.resignation.is_some() || self.raft.is_transferring() {
            return self.refuse(caller, overloaded(), effects);
        }
        let heir = match self.chosen(to) {
            Ok(heir) => heir,
            Err(error) => return self.refuse(caller, error, effects),
        };
        if !self.hand_over(Reason::Asked, heir) {
            return self.refuse(caller, overloaded(), effects);
        }
        // The attempt and the election that it leads to take one timeout each at most.
        let ends = self.now.monotonic + 2 * self.config.election_timeout_max;
        let deadline = self.deadline_after(deadline_ms).unwrap_or(ends);
        self.resignation = Some(Resignation {
            term: self.raft.term(),
            asked: Some((caller, to)),
            until: ends.min(deadline),
        });
    }

    /// Who is to lead: the named one if it is fit, else the best.
    fn chosen(&self, to: Option<NodeId>) -> Result<NodeId, Error> {
        let refused = |reason: String, advice: &str| Error::Refused {
            reason,
            advice: advice.to_owned(),
        };
        let Some(to) = to else {
            return self.heir().ok_or_else(|| {
                let unfit = self.raft.followers().filter_map(|follower| {
                    let why = self.unfit_now(&follower)?;
                    Some(format!("{} {why}", self.title(follower.id)))
                });
                let whys: Vec<_> = unfit.collect();
                match whys.as_slice() {
                    [] => refused(
                        "there is no other member to take over".to_owned(),
                        "`raftctl add-peer` adds one",
                    ),
                    whys => refused(
                        format!("nobody is fit to take over: {}", whys.join("; ")),
                        "`raftctl status` shows every member",
                    ),
                }
            });
        };
        let Some(follower) = self.raft.followers().find(|follower| follower.id == to) else {
            return Err(refused(
                format!("no member has the id {to}"),
                "`raftctl peers` lists them",
            ));
        };
        match self.unfit_now(&follower) {
            None => Ok(to),
            Some(why) => Err(refused(format!("{} {why}", self.title(to)), why.advice())),
        }
    }

    /// A member as people call it.
    fn title(&self, id: NodeId) -> String {
        let members = &self.raft.membership().members;
        let member = members.iter().find(|member| member.id == id);
        let name = member.map(|member| self.name_of(member));
        name.filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("node {id}"))
    }

    /// Before it stops, a leader hands over if it can, so that nobody has to miss it first. Says
    /// whether it does.
    pub(super) fn resign_to_stop(&mut self) -> bool {
        if self.raft.role() != RoleName::Leader {
            return false;
        }
        let heir = self.heir();
        let resigns = self.raft.is_transferring()
            || heir.is_some_and(|heir| self.hand_over(Reason::Stopping, heir));
        if resigns && self.resignation.is_none() {
            self.resignation = Some(Resignation {
                term: self.raft.term(),
                asked: None,
                until: self.now.monotonic + self.config.election_timeout_max,
            });
        }
        resigns
    }

    /// Whether somebody waits for the end of a hand-over.
    #[must_use]
    pub fn is_resigning(&self) -> bool {
        self.resignation.is_some()
    }

    /// Ends a hand-over that is waited for, if it has come to an end.
    pub(super) fn tend_resignation(&mut self, effects: &mut Effects) {
        let Some(Resignation { term, asked, until }) = self.resignation else {
            return;
        };
        let is_late = self.now.monotonic >= until;
        let end = match self.raft.leader() {
            Some(leader) if self.raft.term() > term => End::Led(self.raft.term(), leader),
            Some(leader) if !self.raft.is_transferring() => End::Led(term, leader),
            _ if is_late => End::Open,
            Some(_) | None => return,
        };
        self.resignation = None;
        if let Some((caller, to)) = asked {
            self.tell_end(caller, to, end, effects);
        }
        if self.stop_at.is_some() {
            self.refuse_parked(effects);
        }
    }

    fn tell_end(&mut self, caller: Caller, to: Option<NodeId>, end: End, effects: &mut Effects) {
        let reply = match end {
            End::Led(term, leader) => Reply::LeaderTransferred {
                done: to.map_or(leader != self.config.id, |to| leader == to),
                term,
                leader,
            },
            End::Open => Reply::Error(Error::OutcomeUnknown),
        };
        self.clients.answer(caller, &reply, effects);
    }

    /// When a hand-over that is waited for ends at the latest.
    pub(super) fn resigns_until(&self) -> Option<Instant> {
        self.resignation.map(|resignation| resignation.until)
    }

    /// A stop was asked for: leadership is handed over first, and no new work is taken.
    pub(super) fn stop(&mut self, effects: &mut Effects) {
        if self.stop_at.is_none() {
            self.stop_at = Some(self.now.monotonic + STOP_GRACE);
            if !self.resign_to_stop() {
                self.refuse_parked(effects);
            }
        }
    }

    /// Ends when nobody waits for an answer any more, or when the time is over.
    pub(super) fn end_if_stopped(&mut self, effects: &mut Effects) {
        let Some(stop_at) = self.stop_at else {
            return;
        };
        if self.now.monotonic >= stop_at {
            self.abandon_proposals(effects);
            self.abandon_change(effects);
            self.fail_reads(effects);
            for caller in self.snapshots.transfers.take_busy() {
                self.refuse(caller, Error::ShuttingDown, effects);
            }
        }
        effects.stopped = self.clients.are_idle() && self.resignation.is_none();
        // Writes that are committed but cannot be applied any more in time stay unanswered: their
        // clients retry under the same id.
        effects.stopped |= self.now.monotonic >= stop_at;
    }
}
