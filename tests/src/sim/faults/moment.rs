//! Faults that wait for their moment.

use std::time::Duration;

use raft::Instant;

use super::super::member::Crash;
use super::super::net::Host;
use super::super::random::MILLION;
use super::kind::Kind;
use super::{Fault, Nemesis, View, When};

/// Something that the world tells when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A member became leader.
    Elected(Host),
    /// A leader has sent the answer to a write.
    Acknowledged(Host),
    /// A candidate has handed its own vote to its disk.
    Votes(Host),
    /// A member has handed a write that cuts its log to its disk.
    Truncates(Host),
    /// A member has handed a piece of a snapshot to its disk, or the question how much is there.
    Receives {
        /// The member.
        host: Host,
        /// It is the last piece.
        last: bool,
    },
    /// A leader has handed another membership to its disk.
    Changes(Host),
    /// A member's log has gone on in another segment.
    Rotates(Host),
}

/// What waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    /// How many moments it takes.
    left: u32,
    /// Then it is given up.
    until: Instant,
}

impl Nemesis {
    /// Waits for a moment; what waited before of this kind is forgotten.
    pub(super) fn arm(&mut self, kind: Kind, view: &View<'_>) {
        let left = match kind {
            Kind::ShortReigns => self.random.within(3..=8) as u32,
            Kind::Divergence => self.random.within(2..=4) as u32,
            Kind::BrokenTransfer | Kind::TornChange => self.random.within(1..=6) as u32,
            Kind::OvertakenTransfer => self.random.within(1..=3) as u32,
            _ => 1,
        };
        let patience = match kind {
            Kind::BrokenTransfer
            | Kind::OvertakenTransfer
            | Kind::RottenTransfer
            | Kind::RottenSegment
            | Kind::TornChange => Duration::from_secs(30),
            _ => Duration::from_secs(8),
        };
        let until = view.now + patience;
        self.armed.insert(kind, Armed { left, until });
        if matches!(
            kind,
            Kind::BrokenTransfer | Kind::OvertakenTransfer | Kind::RottenTransfer
        ) {
            let host = self.host();
            self.fall_behind(host, view);
        }
        // Votes and truncations need an occasion.
        if let Some(leader) = view.leader
            && matches!(
                kind,
                Kind::CrashAtVote | Kind::ShortReigns | Kind::Divergence
            )
        {
            self.depose(leader, kind, view);
        }
        if let Some(leader) = view.leader
            && kind == Kind::CrashAtTruncation
        {
            self.depose(leader, Kind::Divergence, view);
        }
    }

    /// Ends a transfer between the leader and `host` somewhere, or lets others overtake it.
    fn break_transfer(&mut self, host: Host, view: &View<'_>, out: &mut Vec<Fault>) {
        let crash = self.crash();
        let leader = view.leader.unwrap_or(host);
        match self.random.below(6) {
            0 => out.push(Fault::Crash(host, crash, When::Now)),
            1 | 2 => {
                let after = self.random.within(1..=20);
                out.push(Fault::Crash(host, crash, When::Operation(after)));
            }
            3 => out.push(Fault::Crash(leader, crash, When::Now)),
            4 => {
                let lasts = self.lasts();
                out.push(Fault::Hang(host, lasts));
                self.depose(leader, Kind::ShortReigns, view);
            }
            _ => out.push(Fault::Reset(host, leader)),
        }
    }

    /// The world tells a moment; adds what is to happen now.
    pub fn moment(&mut self, moment: Moment, view: &View<'_>, out: &mut Vec<Fault>) {
        if matches!(moment, Moment::Elected(_)) {
            self.formed = true;
        }
        let mut armed = std::mem::take(&mut self.armed);
        armed.retain(|kind, armed| {
            if armed.until < view.now {
                return false;
            }
            armed.left -= u32::from(self.strike(*kind, moment, view, out));
            armed.left > 0
        });
        self.armed = armed;
    }

    /// False: it is not the moment.
    fn strike(
        &mut self,
        kind: Kind,
        moment: Moment,
        view: &View<'_>,
        out: &mut Vec<Fault>,
    ) -> bool {
        match (kind, moment) {
            (Kind::CrashAfterAcknowledgement, Moment::Acknowledged(host)) => {
                let crash = self.crash();
                out.push(Fault::Crash(host, crash, When::Now));
            }
            (Kind::BlackoutAfterAcknowledgement, Moment::Acknowledged(_)) => {
                let all = 0..self.plan.hosts();
                out.extend(all.map(|host| Fault::Crash(host, Crash::PowerLoss, When::Now)));
            }
            (Kind::CrashAtVote, Moment::Votes(host)) => {
                out.push(Fault::Crash(host, Crash::PowerLoss, When::Sync));
            }
            (Kind::CrashAtTruncation, Moment::Truncates(host)) => {
                let after = self.random.within(1..=4);
                out.push(Fault::Crash(host, Crash::PowerLoss, When::Operation(after)));
            }
            (Kind::PauseOverElection, Moment::Acknowledged(host)) => {
                let count = self.random.within(2..=6) as u32;
                out.push(Fault::Pause(host, self.timeouts(count)));
            }
            (Kind::ShortReigns | Kind::Divergence, Moment::Elected(host)) => {
                self.depose(host, kind, view);
            }
            (Kind::BrokenTransfer, Moment::Receives { host, .. }) => {
                // Not always at the first piece.
                if self.random.chance(MILLION / 3) {
                    return false;
                }
                self.break_transfer(host, view, out);
            }
            (Kind::OvertakenTransfer, Moment::Receives { host, last: true }) => {
                let Some(leader) = view.leader else {
                    return false;
                };
                let count = self.random.within(3..=12) as u32;
                out.push(Fault::HangKeeper(host, self.timeouts(count)));
                self.depose(leader, Kind::ShortReigns, view);
            }
            (Kind::RottenTransfer, Moment::Receives { last: false, .. }) => {
                return view
                    .leader
                    .is_some_and(|leader| self.rot_snapshot(leader, out));
            }
            (Kind::RottenSegment, Moment::Rotates(host)) => {
                return self.rot_segment(host, view, out);
            }
            (Kind::TornChange, Moment::Changes(host)) => {
                // Not always at the first step of two.
                if self.random.chance(MILLION / 3) {
                    return false;
                }
                self.tear_change(host, view, out);
            }
            _ => return false,
        }
        true
    }

    /// Some do not hear of a change for a while, and whoever began it soon leads no more.
    fn tear_change(&mut self, leader: Host, view: &View<'_>, out: &mut Vec<Fault>) {
        let deaf = (0..self.plan.hosts()).filter(|host| *host != leader);
        let deaf: Vec<Host> = deaf.filter(|_| self.random.chance(MILLION / 2)).collect();
        let cuts: Vec<Fault> = deaf.iter().map(|host| Fault::Cut(leader, *host)).collect();
        let mends = cuts.iter().map(Fault::end).collect();
        out.extend(cuts);
        let lasts = {
            let count = self.random.within(1..=6) as u32;
            self.timeouts(count)
        };
        self.later(view, lasts, mends);
        self.depose(leader, Kind::ShortReigns, view);
    }

    /// Takes the leader's peers away, soon: its process ends, or nobody of them hears it for a
    /// while. Its clients still do, so that its log goes on alone.
    fn depose(&mut self, leader: Host, kind: Kind, view: &View<'_>) {
        let reign = self.random.time(Duration::ZERO..=self.timeouts(1));
        if kind == Kind::ShortReigns && self.random.chance(MILLION / 2) {
            let crash = self.crash();
            return self.later(view, reign, vec![Fault::Crash(leader, crash, When::Now)]);
        }
        let peers: Vec<Host> = (0..self.plan.hosts())
            .filter(|host| *host != leader)
            .collect();
        let lasts = {
            let count = self.random.within(1..=4) as u32;
            self.timeouts(count)
        };
        // Heard by nobody, and hearing nobody; or it hears the others and does not know.
        let both_ways = self.random.chance(MILLION / 2);
        let cuts = peers.iter().map(|peer| Fault::Cut(leader, *peer));
        let deaf = peers
            .iter()
            .filter(|_| both_ways)
            .map(|peer| Fault::Cut(*peer, leader));
        let cuts: Vec<Fault> = cuts.chain(deaf).collect();
        let mends = cuts.iter().map(Fault::end).collect();
        self.later(view, reign, cuts);
        self.later(view, reign + lasts, mends);
    }
}
