//! What an answer means for the request (rules C4), and for what the client does next.

use std::time::Duration;

use bytes::Bytes;
use wire::client::Reply;
use wire::command::Outcome;
use wire::error::{Class, Error};
use wire::frame::{self, Kind};
use wire::hello::{LeaderHint, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{EntryId, Index, Term};

use super::Desk;
use super::client::{Client, Done};
use super::line::{Asked, Phase};
use crate::history::{Answer, Operation, Passage};
use crate::sim::member::host_at;

/// Behind a gap a write is sent again after this time at least.
const GAP_PAUSE: Duration = Duration::from_micros(500);

impl Client {
    /// A frame came.
    pub(super) fn answered(&mut self, connection: u64, frame: &Bytes, desk: &mut Desk<'_>) {
        let frame = frame::parse(frame, CLIENT_FRAME_BYTES_MAX);
        let frame = frame.ok().flatten().expect("it was parsed before");
        if frame.kind == Kind::Welcome {
            return match Welcome::decode(&frame) {
                Ok(welcome) => self.welcomed(connection, &welcome, desk),
                Err(_) => self.hang_up(connection, desk),
            };
        }
        let Ok(reply) = Reply::decode(&frame) else {
            desk.common
                .report(|| "a reply cannot be decoded".to_owned());
            return self.hang_up(connection, desk);
        };
        if let Reply::Error(error) = &reply
            && (frame.request_id == 0 || matches!(error, Error::Malformed { .. }))
        {
            // The connection is refused: its end follows. A damaged frame may hold any id, also
            // that of another request, which then has its own answer on the way.
            return count(error, desk);
        }
        let Some(line) = self.line_mut(connection) else {
            return;
        };
        let passage = line.passage(frame.request_id);
        let Some(sent) = line.sent.remove(&frame.request_id) else {
            // Damaged frames may hold any id, under which they are refused.
            let id = frame.request_id;
            let of_frame = matches!(&reply, Reply::Error(error) if error.class() == Class::Final);
            if line.has_asked(id) && !of_frame {
                let number = self.number;
                desk.common.report(|| {
                    format!("client {number}: an answer to request {id}, which had one: {reply:?}")
                });
            }
            return;
        };
        if let Reply::Error(error) = &reply {
            count(error, desk);
        }
        self.count_out(&sent.asked, &reply, desk);
        match sent.asked {
            Asked::Operation(number) => {
                let page = self.second_page(number, &reply);
                self.judge(number, &reply, passage, desk);
                if let Some(page) = &page {
                    self.ask_page(connection, page, desk);
                }
            }
            Asked::Page(page) => self.page_came(connection, &page, &reply, desk),
            Asked::Resent(number) | Asked::Reused(number) => {
                let resent = matches!(sent.asked, Asked::Resent(_));
                self.judge_again(number, &reply, resent, desk);
            }
        }
    }

    /// An attempt that was refused as not applied cannot be in the log: only a write behind a gap
    /// is judged there.
    fn count_out(&self, asked: &Asked, reply: &Reply<'_>, desk: &mut Desk<'_>) {
        let refused = matches!(reply, Reply::Error(error)
            if error.class() == Class::NotApplied && !matches!(error, Error::OutOfOrder { .. }));
        let (Asked::Operation(number) | Asked::Resent(number) | Asked::Reused(number)) = asked
        else {
            return;
        };
        let name = match self.pending.get(number).map(|pending| &pending.operation) {
            Some(Operation::Write { session, seq, .. }) => Some((*session, *seq)),
            Some(Operation::Read { .. }) => None,
            None => {
                let done = self.done.iter().find(|done| done.number == *number);
                done.map(|done| (done.session, done.seq))
            }
        };
        let possible = name.and_then(|name| desk.common.possible.get_mut(&name));
        if let Some(possible) = possible.filter(|_| refused) {
            *possible -= 1;
        }
    }

    fn welcomed(&mut self, connection: u64, welcome: &Welcome, desk: &mut Desk<'_>) {
        let Some(line) = self.line_mut(connection) else {
            return;
        };
        line.phase = Phase::Open;
        self.birth = Some((welcome.epoch, welcome.applied));
        // Like a client that looks at the welcome before it asks.
        if let Some(leader) = welcome
            .leader
            .as_ref()
            .filter(|_| self.random.below(2) == 0)
        {
            self.follow(leader, desk);
        }
    }

    /// An answer to a pending operation, or one that came too late.
    fn judge(&mut self, number: u64, reply: &Reply<'_>, passage: Passage, desk: &mut Desk<'_>) {
        let Some(pending) = self.pending.get_mut(&number) else {
            return self.judge_again(number, reply, true, desk);
        };
        pending.waiting -= 1;
        let is_write = pending.is_write();
        match reply {
            Reply::Error(error) => self.refused(number, error, desk),
            reply => match Answer::from_reply(reply) {
                Some(answer) if is_write == matches!(answer, Answer::Written { .. }) => {
                    self.reset_back_off();
                    if let Answer::Written { outcome, .. } = &answer {
                        desk.common.counts.did(outcome);
                    }
                    self.settle(number, answer, Some(passage), desk);
                }
                _ => desk
                    .common
                    .report(|| format!("a request was answered by {reply:?}")),
            },
        }
    }

    /// An attempt failed.
    fn refused(&mut self, number: u64, error: &Error, desk: &mut Desk<'_>) {
        let Some(pending) = self.pending.get_mut(&number) else {
            return;
        };
        match error.class() {
            Class::NotApplied => pending.queued |= pending.waiting == 0,
            Class::Unknown if *error != Error::SessionExpired => {
                pending.exposed = true;
                pending.queued |= pending.waiting == 0;
            }
            // Decided for good, and this attempt changed nothing: with no other attempt, nothing
            // did (rules C3).
            Class::Unknown | Class::Final => return self.refused_for_good(number, error, desk),
        }
        match error {
            Error::NotLeader { leader } => self.follow(leader, desk),
            Error::Lagging(lag) => match &lag.better {
                Some(better) => self.follow(better, desk),
                None => self.elsewhere(desk),
            },
            Error::NoLeader
            | Error::ShuttingDown
            | Error::StateInDoubt
            | Error::TooManyConnections { .. }
            | Error::OutcomeUnknown => self.elsewhere(desk),
            Error::Overloaded { retry_after_ms } => {
                let pause = Duration::from_millis(u64::from(*retry_after_ms));
                self.not_before = self.not_before.max(desk.now + pause);
            }
            Error::OutOfOrder { expected } => self.out_of_order(number, *expected, desk),
            _ => self.back_off(desk),
        }
    }

    /// A write is missing before this one: back to it (rules C2).
    fn out_of_order(&mut self, number: u64, expected: u64, desk: &mut Desk<'_>) {
        let pending = self.pending.get(&number);
        let Some(Operation::Write { session, seq, .. }) = pending.map(|p| &p.operation) else {
            return;
        };
        let (session, seq) = (*session, *seq);
        if expected >= seq {
            let who = self.number;
            desk.common.report(|| {
                format!("client {who}: seq {seq} is out of order, and {expected} is expected")
            });
        }
        self.go_back_to(session, expected);
        self.not_before = self.not_before.max(desk.now + GAP_PAUSE);
    }

    fn refused_for_good(&mut self, number: u64, error: &Error, desk: &mut Desk<'_>) {
        if *error == Error::SessionExpired
            && let Some(session) = &mut self.session
        {
            session.over = true;
        }
        let pending = &self.pending[&number];
        // No other command has the id, and nobody but this client makes its sessions. One that the
        // client sent with a birth of the future has to be refused.
        let wrong = match error {
            Error::IdReused => true,
            Error::BornInFuture => {
                let own = self.session.as_ref().map(|session| session.id);
                matches!(pending.operation, Operation::Write { session, .. } if Some(session) == own)
            }
            _ => false,
        };
        if wrong {
            let text = format!("client {}: {error} was said of {pending:?}", self.number);
            desk.common.report(|| text);
        }
        self.give_up(number, desk);
    }

    /// What a member says of a write that has ended must fit what was said before; of another
    /// command under its name it must say no.
    fn judge_again(&mut self, number: u64, reply: &Reply<'_>, same: bool, desk: &mut Desk<'_>) {
        let Some(done) = self.done.iter().find(|done| done.number == number) else {
            return;
        };
        let fits = match reply {
            Reply::Written { .. } if !same => false,
            Reply::Written {
                term,
                index,
                outcome,
            } => fits_answer(done, *term, *index, outcome),
            Reply::Error(error) => fits_error(done, error, same),
            _ => false,
        };
        if !fits {
            let who = self.number;
            let text = format!("client {who}: {reply:?} was said again of {done:?}, same={same}");
            desk.common.report(|| text);
        }
    }

    /// Goes to the leader that a member named.
    fn follow(&mut self, hint: &LeaderHint, desk: &mut Desk<'_>) {
        let host = hint.client_addr.parse().ok().and_then(host_at);
        match host.filter(|host| desk.common.members.contains(host)) {
            Some(host) => self.redirect(host),
            None => self.elsewhere(desk),
        }
    }
}

fn count(error: &Error, desk: &mut Desk<'_>) {
    *desk.common.counts.errors.entry(error.name()).or_default() += 1;
}

fn fits_answer(done: &Done, term: Term, index: Index, outcome: &Outcome) -> bool {
    match &done.answer {
        Answer::Unknown => true,
        // Once it was told in full, once what was kept of it.
        Answer::Written { id, outcome: first } => {
            *id == EntryId { term, index } && first.to_keep() == outcome.to_keep()
        }
        _ => false,
    }
}

/// What may be said of a write that was sent again, or of another command under its name.
fn fits_error(done: &Done, error: &Error, same: bool) -> bool {
    let applied = matches!(done.answer, Answer::Written { .. });
    match error {
        // The session's table has the write, or has moved on.
        Error::OutOfOrder { .. } | Error::BornInFuture | Error::WrongEpoch => !applied,
        Error::IdReused => !same,
        _ => true,
    }
}
