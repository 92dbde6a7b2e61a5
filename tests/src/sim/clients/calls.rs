//! Whom a client asks: its connections, when it leaves them, and what it sends on them.

use std::time::Duration;

use bytes::Bytes;
use wire::command::SessionId;
use wire::limits::CLIENT_FRAME_BYTES_MAX;

use super::client::Client;
use super::line::{Asked, Line, Phase};
use super::{Common, Desk, pages};
use crate::history::Operation;
use crate::sim::net::Host;

/// Connections of one client, at most.
const LINES_MAX: usize = 3;
/// Back-off begins with this (rules B5) and doubles.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(4);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

impl Client {
    pub(super) fn patience(&self, common: &Common) -> Option<Duration> {
        (!common.is_calm()).then_some(common.workload.patience)
    }

    pub(super) fn lose_patience(&mut self, desk: &mut Desk<'_>) {
        let Some(patience) = self.patience(desk.common) else {
            return;
        };
        let now = desk.now;
        let late = |line: &&Line| line.waits_since().is_some_and(|at| at + patience <= now);
        let late: Vec<u64> = self
            .lines
            .iter()
            .filter(late)
            .map(|l| l.connection)
            .collect();
        for connection in late {
            self.hang_up(connection, desk);
        }
    }

    pub(super) fn hang_up(&mut self, connection: u64, desk: &mut Desk<'_>) {
        desk.close(connection);
        self.closed(connection, desk);
    }

    /// Closes everything and dials anew.
    pub(super) fn start_over(&mut self, desk: &mut Desk<'_>) {
        self.later.clear();
        let open: Vec<u64> = self.lines.iter().map(|line| line.connection).collect();
        for connection in open {
            self.hang_up(connection, desk);
        }
        self.target = *self.random.pick(&desk.common.members);
        self.not_before = desk.now;
        self.issue_at = desk.now;
    }

    /// Whether there is something to say and nobody to say it to.
    pub(super) fn wants_line(&self) -> bool {
        let silent = self.birth.is_none();
        self.main.is_none() && (silent || self.pending.values().any(|pending| pending.queued))
    }

    pub(super) fn main_is_coming(&self) -> bool {
        self.main_line()
            .is_some_and(|line| line.phase != Phase::Open)
    }

    fn main_line(&self) -> Option<&Line> {
        let main = self.main?;
        self.lines.iter().find(|line| line.connection == main)
    }

    pub(super) fn line_mut(&mut self, connection: u64) -> Option<&mut Line> {
        let mut lines = self.lines.iter_mut();
        lines.find(|line| line.connection == connection)
    }

    pub(super) fn connect(&mut self, desk: &mut Desk<'_>) {
        if !self.wants_line() || desk.now < self.not_before {
            return;
        }
        let target = self.target;
        let known = self.lines.iter().find(|line| line.host == target);
        let main = match known {
            Some(line) => line.connection,
            None => self.dial(target, desk),
        };
        self.main = Some(main);
    }

    pub(super) fn dial(&mut self, host: Host, desk: &mut Desk<'_>) -> u64 {
        while self.lines.len() >= LINES_MAX {
            let oldest = self.lines.iter().map(|line| line.connection);
            let oldest = oldest.filter(|line| Some(*line) != self.main).min();
            self.hang_up(oldest.expect("one of several is not the main one"), desk);
        }
        let line = Line::dial(host, desk);
        let connection = line.connection;
        self.lines.push(line);
        connection
    }

    pub(super) fn connected(&mut self, connection: u64, desk: &mut Desk<'_>) {
        let epoch = self.birth.map(|(epoch, _)| epoch);
        if let Some(line) = self.line_mut(connection) {
            line.greet(epoch, desk);
        }
    }

    pub(super) fn received(&mut self, connection: u64, bytes: Bytes, desk: &mut Desk<'_>) {
        let Some(line) = self.line_mut(connection) else {
            return;
        };
        match line.take_in(bytes, CLIENT_FRAME_BYTES_MAX) {
            Ok(frames) => {
                for frame in frames {
                    self.answered(connection, &frame, desk);
                }
            }
            // A damaged frame: nothing that follows can be believed.
            Err(_) => self.hang_up(connection, desk),
        }
    }

    /// A connection is over: what was asked on it has no verdict.
    pub(super) fn closed(&mut self, connection: u64, desk: &mut Desk<'_>) {
        let Some(place) = self.lines.iter().position(|l| l.connection == connection) else {
            return;
        };
        let line = self.lines.remove(place);
        for sent in line.sent.into_values() {
            let Asked::Operation(number) = sent.asked else {
                continue;
            };
            if let Some(pending) = self.pending.get_mut(&number) {
                pending.waiting -= 1;
                pending.exposed = true;
                pending.queued |= pending.waiting == 0;
            }
        }
        if self.main == Some(connection) {
            self.main = None;
            self.elsewhere(desk);
        }
    }

    /// The next attempt goes to any other member, a little later.
    pub(super) fn elsewhere(&mut self, desk: &mut Desk<'_>) {
        let from = self.target;
        let others = desk.common.members.iter().copied();
        let others: Vec<Host> = others.filter(|host| *host != from).collect();
        if !others.is_empty() {
            let other = *self.random.pick(&others);
            self.redirect(other);
        }
        self.back_off(desk);
    }

    /// The next attempt goes to this member.
    pub(super) fn redirect(&mut self, host: Host) {
        self.target = host;
        if self.main_line().is_some_and(|line| line.host != host) {
            self.main = None;
        }
    }

    pub(super) fn back_off(&mut self, desk: &Desk<'_>) {
        let pause = self.random.time(self.backoff / 2..=self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.not_before = self.not_before.max(desk.now + pause);
    }

    pub(super) fn reset_back_off(&mut self) {
        self.backoff = BACKOFF_MIN;
    }

    /// Lines that nobody needs are closed.
    pub(super) fn tidy(&mut self, desk: &mut Desk<'_>) {
        if self.habits.keeps_lines() && !desk.common.is_calm() {
            return;
        }
        let main = self.main;
        let idle = |line: &&Line| Some(line.connection) != main && line.sent.is_empty();
        let idle: Vec<u64> = self
            .lines
            .iter()
            .filter(idle)
            .map(|l| l.connection)
            .collect();
        for connection in idle {
            self.hang_up(connection, desk);
        }
    }

    pub(super) fn send_queued(&mut self, desk: &mut Desk<'_>) {
        let open = self.main_line().filter(|line| line.phase == Phase::Open);
        let Some(main) = open.map(|line| line.connection) else {
            return;
        };
        if desk.now < self.not_before {
            return;
        }
        let queued = self.pending.iter().filter(|(_, pending)| pending.queued);
        let queued: Vec<u64> = queued.map(|(number, _)| *number).collect();
        for number in queued {
            let line = self.line_for(number, main, desk);
            self.send(number, line, desk);
            self.send_twice(number, main, desk);
            self.tempt_to_hang_up(main, desk);
        }
    }

    /// Sends an operation on a line that is open.
    pub(super) fn send(&mut self, number: u64, connection: u64, desk: &mut Desk<'_>) {
        let floor = self.floor_of(number);
        let Some(pending) = self.pending.get_mut(&number) else {
            return;
        };
        pending.queued = false;
        pending.waiting += 1;
        pending.attempts += 1;
        pending.floor = floor;
        let deadline_ms = pending.deadline.map_or(0, |at| {
            // A bit less, so that the verdict comes before the client gives up.
            let left_ms = at.since(desk.now).as_millis() as u32;
            (left_ms - left_ms / 8).max(1)
        });
        let asked = Asked::Operation(number);
        let mut lines = self.lines.iter_mut();
        let line = lines.find(|line| line.connection == connection);
        let line = line.expect("the caller saw it open");
        if let Operation::Write { session, seq, .. } = pending.operation {
            *desk.common.possible.entry((session, seq)).or_default() += 1;
        }
        let view = pages::choice(number, desk.common);
        let request = pending.operation.to_wire(deadline_ms, floor, view);
        line.ask(&request, asked, desk);
    }

    /// The lowest seq of the operation's session that is not settled.
    fn floor_of(&self, number: u64) -> u64 {
        let Some(Operation::Write { session, seq, .. }) =
            self.pending.get(&number).map(|pending| &pending.operation)
        else {
            return 1;
        };
        let mut unsettled = self.pending.values();
        unsettled
            .find_map(|pending| pending.seq_in(*session))
            .unwrap_or(*seq)
    }

    /// Has the writes from `expected` on sent again (rules C2), those that wait for an answer
    /// excepted.
    pub(super) fn go_back_to(&mut self, name: SessionId, expected: u64) {
        for pending in self.pending.values_mut() {
            let behind = pending.seq_in(name).is_some_and(|seq| seq >= expected);
            pending.queued |= behind && pending.waiting == 0;
        }
    }
}
