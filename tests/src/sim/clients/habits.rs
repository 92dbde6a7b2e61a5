//! What no good client does, and bad luck does all the same.

use std::time::Duration;

use bytes::Bytes;
use wire::client::{Consistency, ViewChoice};
use wire::command::SessionId;
use wire::limits::KEY_BYTES_MAX;
use wire::types::Index;

use super::client::{Client, Done};
use super::line::{Asked, Phase};
use super::{Common, Desk};
use crate::history::{Answer, Command, Operation};
use crate::sim::random::Random;

/// A session of the future is born so far ahead of the applied index.
const FAR_AHEAD: u64 = 1 << 40;

/// Rates per million. Each client has some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Writes that are sent to two members at once.
    double: u32,
    /// Ended writes that are sent again, up to seconds later.
    resend: u32,
    /// Sends behind which the connection is closed.
    hang_up: u32,
    /// Reads that any member answers, and that are sent to another one than the rest.
    spread: u32,
}

/// Something that a client will do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Later {
    Resend(u64),
    Reuse(u64),
    HangUp(u64),
}

impl Habits {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            double: *random.pick(&[0, 20_000, 100_000]),
            resend: *random.pick(&[0, 20_000, 100_000]),
            hang_up: *random.pick(&[0, 0, 3_000, 20_000]),
            spread: *random.pick(&[0, 500_000, 900_000]),
        }
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            double: 0,
            resend: 0,
            hang_up: 0,
            spread: 0,
        }
    }

    /// Whether a second line is of use.
    pub(super) fn keeps_lines(&self) -> bool {
        self.double > 0 || self.spread > 0
    }
}

impl Client {
    /// A write has ended: it may be sent again later, or its name used for another command.
    pub(super) fn tempt(&mut self, number: u64, desk: &Desk<'_>) {
        if desk.common.is_calm() {
            return;
        }
        let resend = self.random.chance(self.habits.resend);
        let reuse = self.random.chance(desk.common.workload.wrong);
        let answer = self.done.back().map(|done| &done.answer);
        // What is certainly not applied must stay so.
        if resend && answer != Some(&Answer::NotApplied) {
            let after = self.random.heavy(RESEND_AFTER, RESEND_AFTER * 100);
            self.later.push((desk.now + after, Later::Resend(number)));
        }
        if reuse && matches!(answer, Some(Answer::Written { .. })) {
            let after = self.random.time(Duration::ZERO..=REUSE_WITHIN);
            self.later.push((desk.now + after, Later::Reuse(number)));
        }
    }

    pub(super) fn tempt_to_hang_up(&mut self, connection: u64, desk: &Desk<'_>) {
        if !desk.common.is_calm() && self.random.chance(self.habits.hang_up) {
            let after = self.random.time(Duration::ZERO..=HANG_UP_WITHIN);
            self.later
                .push((desk.now + after, Later::HangUp(connection)));
        }
    }

    /// Does the bad deeds that are due.
    pub(super) fn practise(&mut self, desk: &mut Desk<'_>) {
        while let Some(place) = self.later.iter().position(|(at, _)| *at <= desk.now) {
            let (_, deed) = self.later.swap_remove(place);
            match deed {
                Later::Resend(number) => self.ask_again(number, None, desk),
                Later::Reuse(number) => {
                    let key = b"k0".to_vec();
                    let value = b"another command".to_vec();
                    self.ask_again(number, Some(&Command::Put { key, value }), desk);
                }
                Later::HangUp(connection) => {
                    if self.line_mut(connection).is_some() {
                        desk.common.counts.hung_up += 1;
                        self.hang_up(connection, desk);
                    }
                }
            }
        }
    }

    /// Sends an ended write again, or another command under its name, to whoever is there.
    fn ask_again(&mut self, number: u64, other: Option<&Command>, desk: &mut Desk<'_>) {
        let open = |line: &&mut super::line::Line| line.phase == Phase::Open;
        let mut open: Vec<_> = self.lines.iter_mut().filter(open).collect();
        let done = self.done.iter().find(|done| done.number == number);
        let (Some(done), false) = (done, open.is_empty()) else {
            return;
        };
        let line = open.swap_remove(self.random.index(open.len()));
        let Done {
            session,
            seq,
            floor,
            ..
        } = *done;
        let write = Operation::Write {
            session,
            seq,
            command: other.unwrap_or(&done.command).clone(),
        };
        let counts = &mut desk.common.counts;
        let asked = match other {
            None => {
                counts.resent += 1;
                Asked::Resent(number)
            }
            Some(_) => {
                counts.reused += 1;
                Asked::Reused(number)
            }
        };
        *desk.common.possible.entry((session, seq)).or_default() += 1;
        line.ask(&write.to_wire(0, floor, ViewChoice::Now), asked, desk);
    }

    /// Sends what was just sent to another member as well.
    pub(super) fn send_twice(&mut self, number: u64, main: u64, desk: &mut Desk<'_>) {
        if desk.common.is_calm() || !self.random.chance(self.habits.double) {
            return;
        }
        if let Some(connection) = self.another_line(main, desk) {
            desk.common.counts.doubled += 1;
            self.send(number, connection, desk);
        }
    }

    /// Where an operation is sent: a read that any member answers goes to another one now and then.
    pub(super) fn line_for(&mut self, number: u64, main: u64, desk: &mut Desk<'_>) -> u64 {
        let pending = self.pending.get(&number);
        let anywhere = pending.is_some_and(|pending| match pending.operation {
            Operation::Read { consistency, .. } => consistency != Consistency::Linearizable,
            Operation::Write { .. } => false,
        });
        if desk.common.is_calm() || !anywhere || !self.random.chance(self.habits.spread) {
            return main;
        }
        self.another_line(main, desk).unwrap_or(main)
    }

    /// An open line to another member. If there is none yet, one is dialled for the next time.
    fn another_line(&mut self, main: u64, desk: &mut Desk<'_>) -> Option<u64> {
        let host = self.line_mut(main).map(|line| line.host);
        let others = desk.common.members.iter().copied();
        let others: Vec<_> = others.filter(|other| Some(*other) != host).collect();
        if others.is_empty() {
            return None;
        }
        let other = *self.random.pick(&others);
        let known = self.lines.iter().find(|line| line.host == other);
        match known.map(|line| (line.connection, line.phase)) {
            Some((connection, Phase::Open)) => Some(connection),
            Some(_) => None,
            None => {
                self.dial(other, desk);
                None
            }
        }
    }

    /// Begins something that must be refused. False: nothing was begun.
    pub(super) fn begin_wrong(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some((epoch, applied)) = self.birth else {
            return false;
        };
        let put = |common: &Common, random: &mut Random, key: Vec<u8>, more: usize| {
            let bytes = random.below(8) as usize + more;
            let value = vec![b'!'; bytes.max(common.workload.value_bytes.min(8))];
            Command::Put { key, value }
        };
        match self.random.below(4) {
            0 => {
                desk.common.counts.from_future += 1;
                let session = SessionId {
                    epoch,
                    born: Index(applied.0 + FAR_AHEAD),
                    nonce: self.random.bits(),
                };
                let command = put(desk.common, &mut self.random, b"k0".to_vec(), 0);
                let operation = Operation::Write {
                    session,
                    seq: 1,
                    command,
                };
                self.add(operation, desk);
            }
            1 => {
                desk.common.counts.too_long += 1;
                let key = vec![b'k'; KEY_BYTES_MAX + 1];
                let command = put(desk.common, &mut self.random, key, 0);
                self.begin_write(command, desk);
            }
            2 => {
                // Larger than an entry may be, where segments are small.
                desk.common.counts.too_long += 1;
                let more = desk.common.workload.large_value_bytes + 8 * 1024;
                let command = put(desk.common, &mut self.random, b"k0".to_vec(), more);
                self.begin_write(command, desk);
            }
            _ => {
                let random = &mut self.random;
                let gibberish: Vec<u8> = (0..32).map(|_| random.bits() as u8).collect();
                let line = self.lines.iter().find(|line| line.phase != Phase::Dialled);
                let Some(connection) = line.map(|line| line.connection) else {
                    return false;
                };
                desk.common.counts.gibberish += 1;
                desk.send(connection, Bytes::from(gibberish));
            }
        }
        true
    }
}

/// A write is usually sent again after this time, and at most after a hundred times that.
const RESEND_AFTER: Duration = Duration::from_millis(40);
/// A name is used again within this time.
const REUSE_WITHIN: Duration = Duration::from_millis(10);
/// A connection is closed within this time after a request was sent.
const HANG_UP_WITHIN: Duration = Duration::from_millis(5);
