//! One client: what it wants, whom it asks, when it gives up.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use raft::Instant;
use wire::client::Freshness;
use wire::command::SessionId;
use wire::types::{Epoch, Index};

use super::calls::BACKOFF_MIN;
use super::habits::{Habits, Later};
use super::line::Line;
use super::wishes::{self, Seen, Wish};
use super::{Common, Desk};
use crate::history::{Answer, Command, Operation, Passage, Query, Record};
use crate::sim::net::Host;
use crate::sim::random::Random;

/// Ended writes that a client remembers, for its bad habits.
const DONE_MAX: usize = 64;

/// An operation that has not ended.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) operation: Operation,
    pub(super) invoked: Instant,
    pub(super) deadline: Option<Instant>,
    /// Attempts whose answer may still come.
    pub(super) waiting: u32,
    /// An attempt got no verdict and will get none: the operation may have been done.
    pub(super) exposed: bool,
    /// To be sent, or sent again.
    pub(super) queued: bool,
    pub(super) attempts: u32,
    pub(super) floor: u64,
}

impl Pending {
    /// The seq, if it is a write of this session.
    pub(super) fn seq_in(&self, name: SessionId) -> Option<u64> {
        match self.operation {
            Operation::Write { session, seq, .. } if session == name => Some(seq),
            _ => None,
        }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.operation, Operation::Write { .. })
    }
}

/// A write that has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) session: SessionId,
    pub(super) seq: u64,
    pub(super) floor: u64,
    pub(super) command: Command,
    pub(super) answer: Answer,
}

/// The session under which new writes are sent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    next_seq: u64,
    /// No new write is sent under it.
    pub(super) over: bool,
}

/// A client.
///
/// Invariants:
/// - pending writes of the session are in the order of their seqs, and none is below the floor that
///   a later attempt tells;
/// - an operation that is pending is queued, or waits for an answer, or both after an
///   `OutOfOrder`.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) random: Random,
    pub(super) habits: Habits,
    pub(super) lines: Vec<Line>,
    /// The connection on which operations are sent.
    pub(super) main: Option<u64>,
    /// Whom to dial next.
    pub(super) target: Host,
    pub(super) backoff: Duration,
    /// Nothing is sent or dialled before.
    pub(super) not_before: Instant,
    pub(super) birth: Option<(Epoch, Index)>,
    pub(super) session: Option<Session>,
    pub(super) pending: BTreeMap<u64, Pending>,
    last_number: u64,
    pub(super) issue_at: Instant,
    pub(super) done: VecDeque<Done>,
    pub(super) later: Vec<(Instant, Later)>,
    seen: Seen,
}

impl Client {
    pub(super) fn new(number: u64, common: &Common, mut random: Random) -> Self {
        Self {
            number,
            habits: Habits::draw(&mut random),
            lines: Vec::new(),
            main: None,
            target: *random.pick(&common.members),
            backoff: BACKOFF_MIN,
            not_before: Instant::default(),
            birth: None,
            session: None,
            pending: BTreeMap::new(),
            last_number: 0,
            issue_at: Instant::default() + random.heavy(common.workload.pause, PAUSE_MAX),
            done: VecDeque::new(),
            later: Vec::new(),
            seen: Seen::default(),
            random,
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn describe(&self, text: &mut String) {
        for line in &self.lines {
            let (host, waiting) = (line.host + 1, line.sent.len());
            let number = self.number;
            let _ = writeln!(
                text,
                "client {number} to node {host} {:?}, {waiting} unanswered",
                line.phase
            );
        }
        for pending in self.pending.values() {
            let _ = writeln!(text, "client {} waits: {pending:?}", self.number);
        }
    }

    /// When time matters next.
    pub(super) fn next_at(&self, common: &Common) -> Option<Instant> {
        let deadlines = self.pending.values().filter_map(|pending| pending.deadline);
        let patience = self.patience(common);
        let impatient = self.lines.iter().filter_map(Line::waits_since);
        let impatient = impatient.filter_map(|since| Some(since + patience?));
        let issue = self.may_issue(common).then_some(self.issue_at);
        let later = self.later.iter().map(|(at, _)| *at);
        // Before that it cannot be sent; afterwards it was.
        let held = self.wants_line() || self.pending.values().any(|pending| pending.queued);
        let blocked = self.main_is_coming();
        let held = (held && !blocked).then_some(self.not_before);
        deadlines
            .chain(impatient)
            .chain(issue)
            .chain(later)
            .chain(held)
            .min()
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, desk: &mut Desk<'_>) {
        self.expire(desk);
        self.lose_patience(desk);
        self.issue(desk);
        self.connect(desk);
        self.send_queued(desk);
        self.practise(desk);
        self.tidy(desk);
    }

    // --- operations ---

    fn may_issue(&self, common: &Common) -> bool {
        let room = self.pending.len() < common.workload.in_flight.max(1);
        common.issuing && room && self.birth.is_some()
    }

    fn issue(&mut self, desk: &mut Desk<'_>) {
        while self.may_issue(desk.common) && self.issue_at <= desk.now {
            let pause = desk.common.workload.pause;
            self.issue_at = desk.now + self.random.heavy(pause, PAUSE_MAX);
            let since = Duration::from_nanos(desk.now.0);
            let mut quiet = desk.common.workload.quiet.iter();
            match quiet.find(|window| window.contains(&since)) {
                Some(window) if !desk.common.is_calm() => {
                    self.issue_at = Instant::default() + window.end;
                }
                _ => self.begin(desk),
            }
        }
    }

    /// Begins an operation, unless it would be a write and the old session's writes have not all
    /// ended.
    fn begin(&mut self, desk: &mut Desk<'_>) {
        let wrong = desk.common.workload.wrong;
        if !desk.common.is_calm() && self.random.chance(wrong) && self.begin_wrong(desk) {
            return;
        }
        let next = self.last_number + 1;
        let writer = format!("c{}-{next}", self.number);
        match wishes::draw(desk.common, &self.seen, &writer, &mut self.random) {
            Wish::Write(command) => {
                self.begin_write(command, desk);
            }
            Wish::Read(freshness, query) => {
                let Freshness { consistency, after } = freshness;
                let read = Operation::Read {
                    consistency,
                    after,
                    query,
                };
                self.add(read, desk);
            }
        }
    }

    /// Begins a write in the session. Not if an old session's writes are still pending.
    pub(super) fn begin_write(&mut self, command: Command, desk: &mut Desk<'_>) {
        let over = self.session.as_ref().is_none_or(|session| session.over);
        if over {
            if self.pending.values().any(Pending::is_write) {
                return;
            }
            let Some((epoch, born)) = self.birth else {
                return;
            };
            desk.common.counts.sessions += 1;
            let nonce = self.random.bits();
            self.session = Some(Session {
                id: SessionId { epoch, born, nonce },
                next_seq: 1,
                over: false,
            });
        }
        let session = self.session.as_mut().expect("it was made just now");
        let seq = session.next_seq;
        session.next_seq += 1;
        session.over = seq >= desk.common.workload.session_writes;
        let session = session.id;
        self.add(
            Operation::Write {
                session,
                seq,
                command,
            },
            desk,
        );
    }

    pub(super) fn add(&mut self, operation: Operation, desk: &mut Desk<'_>) {
        let workload = &desk.common.workload;
        let calm = desk.common.is_calm();
        let given_up = !calm && self.random.chance(workload.abandoned);
        let deadline = if given_up {
            Some(desk.now + self.random.time(Duration::ZERO..=GIVEN_UP_WITHIN))
        } else {
            let some = !calm && !workload.deadline.is_zero();
            some.then(|| desk.now + workload.deadline)
        };
        self.last_number += 1;
        let pending = Pending {
            operation,
            invoked: desk.now,
            deadline,
            waiting: 0,
            exposed: false,
            queued: true,
            attempts: 0,
            floor: 1,
        };
        self.pending.insert(self.last_number, pending);
    }

    fn expire(&mut self, desk: &mut Desk<'_>) {
        let late = |pending: &Pending| pending.deadline.is_some_and(|at| at <= desk.now);
        let late = self.pending.iter().filter(|(_, pending)| late(pending));
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.give_up(number, desk);
        }
    }

    /// Ends an operation without a result. A write is abandoned by raising the floor past it, which
    /// the next write does.
    pub(super) fn give_up(&mut self, number: u64, desk: &mut Desk<'_>) {
        let Some(pending) = self.pending.get(&number) else {
            return;
        };
        let answer = match pending.exposed || pending.waiting > 0 {
            true => Answer::Unknown,
            false => Answer::NotApplied,
        };
        self.settle(number, answer, None, desk);
    }

    /// Ends an operation.
    pub(super) fn settle(
        &mut self,
        number: u64,
        answer: Answer,
        passage: Option<Passage>,
        desk: &mut Desk<'_>,
    ) {
        let Some(pending) = self.pending.remove(&number) else {
            return;
        };
        if matches!(answer, Answer::Written { .. }) {
            desk.common.counts.retried_ok += u64::from(pending.exposed);
        }
        self.learn(&pending.operation, &answer);
        let record = Record {
            client: self.number,
            invoked_ns: pending.invoked.0,
            ended_ns: Some(desk.now.0),
            passage,
            operation: pending.operation.clone(),
            answer: answer.clone(),
        };
        if let Some(index) = record.index() {
            self.seen.index(index);
        }
        desk.common.record(record);
        if let Operation::Write {
            session,
            seq,
            command,
        } = pending.operation
        {
            self.done.push_back(Done {
                number,
                session,
                seq,
                floor: pending.floor,
                command,
                answer,
            });
            if self.done.len() > DONE_MAX {
                self.done.pop_front();
            }
            self.tempt(number, desk);
        }
    }

    /// Remembers what the answer tells of keys.
    fn learn(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (
                _,
                Answer::Got {
                    item: Some(item), ..
                },
            ) => self.seen.item(item),
            (
                Operation::Read {
                    query: Query::Get { key },
                    ..
                },
                Answer::Got { item: None, .. },
            )
            | (
                Operation::Write {
                    command: Command::Delete { key },
                    ..
                },
                Answer::Written { .. },
            ) => self.seen.absent(key),
            _ => {}
        }
    }

    /// Ends everything, at the end of the run.
    pub(super) fn abandon_all(&mut self, common: &mut Common) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            common.record(Record {
                client: self.number,
                invoked_ns: pending.invoked.0,
                ended_ns: None,
                passage: None,
                operation: pending.operation,
                answer: Answer::Unknown,
            });
        }
    }
}

/// The longest pause between two operations.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// An operation that is given up is given up within this time.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(60);
