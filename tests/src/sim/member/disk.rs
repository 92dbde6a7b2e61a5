//! A member's disk work: rounds that take their time, and spares in the background.

use std::time::Duration;

use raftd::storage::{ReadStep, Step};

use super::{Death, Member, Process, Surroundings};
use crate::sim::world::Happening;

/// Between two pieces of a spare, as the daemon's thread has it.
const PACE: Duration = Duration::from_micros(600);
/// Between two pieces of what is read again.
const SCRUB: Duration = Duration::from_millis(20);
/// Between two looks at the room on the disk.
const LOOK: Duration = Duration::from_secs(1);

impl Process {
    /// While no spare is missing: a piece of the log or of a snapshot is read, round after round. Says
    /// when to go on.
    fn scrub(&mut self) -> Duration {
        if !self.scrubs {
            return LOOK;
        }
        if !self.scrubber.has_work() {
            self.scrubber.begin(self.worker.wal().sealed_segments());
        }
        let scrubbed = self.scrubber.step(&mut self.reports);
        if let Some(suspect) = scrubbed.suspect {
            self.worker.suspect(suspect);
            self.news = true;
        }
        match self.scrubber.has_work() {
            true => SCRUB,
            false => LOOK,
        }
    }
}

impl Member {
    /// Begins a round if there is something new to do and none is under way.
    pub(super) fn go_to_disk(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.news && !process.at_disk {
            self.begin_round(around);
        }
    }

    fn begin_round(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            return;
        };
        for request in process.waiting.drain(..) {
            process.worker.push(request);
        }
        process.at_disk = true;
        process.news = false;
        self.plan_disk_done(around);
    }

    /// The round under way takes so long from now; what was planned before does not count.
    pub(super) fn plan_disk_done(&mut self, around: &mut Surroundings<'_>) {
        let takes = self.random.heavy(self.pace.disk, self.pace.disk_max);
        let Some(process) = &mut self.process else {
            return;
        };
        process.round += 1;
        let (host, life, round) = (self.host, process.life, process.round);
        let done_at = (around.now + takes).max(self.disk_hangs_until);
        let done = Happening::DiskDone { host, life, round };
        around.events.plan(done_at, done);
    }

    /// A round of disk work is done: all of its operations happen now.
    ///
    /// # Errors
    /// It was the process's end.
    pub fn disk_done(
        &mut self,
        life: u64,
        round: u64,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Death> {
        let process = self.process.as_mut();
        let current = |process: &&mut Process| (process.life, process.round) == (life, round);
        let Some(process) = process.filter(current) else {
            return Ok(());
        };
        if self.disk_hangs_until > around.now {
            let host = self.host;
            let done = Happening::DiskDone { host, life, round };
            around.events.plan(self.disk_hangs_until, done);
            return Ok(());
        }
        process.at_disk = false;
        let spares = process.worker.wal().spares();
        let reports = process.reports.len();
        let round = match process.worker.round(&mut process.reports) {
            Ok(round) => round,
            Err(fatal) => return Err(self.death_of(fatal)),
        };
        assert!(
            !process.worker.wal().disk().has_failed(),
            "the log's disk has failed, and the process goes on (rules D3)"
        );
        drop(process.worker.take_sealed());
        process
            .keeper
            .remove_segments(process.worker.take_garbage());
        for read in process.worker.take_reads() {
            process.log_reader.push(read);
        }
        let reported = process.reports.len() > reports;
        if reported && let Some(crash) = process.crash_at_report.take() {
            return Err(Death::Crashed(crash));
        }
        let fewer = process.worker.wal().spares() < spares;
        let more = round.worked && process.worker.has_work();
        if fewer {
            process.make_at = around.now;
            self.plan_spare(around);
        }
        if reported {
            self.wake(around.now);
        }
        self.plan_keeping(around);
        match more {
            true => self.begin_round(around),
            false => self.go_to_disk(around),
        }
        Ok(())
    }

    pub(super) fn plan_spare(&mut self, around: &mut Surroundings<'_>) {
        if let Some(process) = &self.process {
            let (host, life) = (self.host, process.life);
            let make = Happening::MakeSpare { host, life };
            around.events.plan(process.make_at, make);
        }
    }

    /// A piece of a spare, or a look at the room on the disk.
    ///
    /// # Errors
    /// It was the process's end.
    pub fn make_spare(&mut self, life: u64, around: &mut Surroundings<'_>) -> Result<(), Death> {
        let Some(process) = self.process.as_mut().filter(|process| process.life == life) else {
            return Ok(());
        };
        // One that was planned before the maker was woken early.
        if process.make_at != around.now {
            return Ok(());
        }
        let left = process.worker.wal().spares();
        let (next_bytes, busy) = (process.keeper.next_bytes(), process.keeper.has_work());
        let pause = match process.maker.step(left, next_bytes, busy) {
            Step::Made(spare) => {
                process.worker.add_spare(spare);
                process.news = true;
                PACE
            }
            Step::Making if left > 0 => PACE,
            Step::Making => Duration::from_nanos(1),
            Step::Rest(room) | Step::Failed(room) => {
                process.worker.set_room(room);
                process.news |= std::mem::replace(&mut process.room, room) != room;
                process.scrub()
            }
        };
        if self.disk.is_down() {
            return Err(Death::Crashed(self.planned_crash));
        }
        process.make_at = around.now + pause;
        if !process.reports.is_empty() {
            self.wake(around.now);
        }
        self.plan_spare(around);
        self.go_to_disk(around);
        Ok(())
    }

    /// Plans the next step of what is to be done about snapshots, and the next read of the log.
    pub(super) fn plan_keeping(&mut self, around: &mut Surroundings<'_>) {
        let idle = |process: &Process| {
            let work = process.keeper.has_work() || process.log_reader.has_work();
            process.keep_at.is_none() && work
        };
        let Some(process) = self.process.as_mut().filter(|process| idle(process)) else {
            return;
        };
        let takes = self.random.heavy(self.pace.disk, self.pace.disk_max);
        let hangs_until = self.disk_hangs_until.max(self.keeper_hangs_until);
        let at = (around.now + takes).max(hangs_until);
        process.keep_at = Some(at);
        let (host, life) = (self.host, process.life);
        let keep = Happening::KeepSnapshots { host, life };
        around.events.plan(at, keep);
    }

    /// A step of what is to be done about snapshots, and a read of the log.
    ///
    /// # Errors
    /// It was the process's end.
    pub fn keep_snapshots(
        &mut self,
        life: u64,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Death> {
        // What was planned before the machine was cured does not count.
        let due = |process: &Process| process.life == life && process.keep_at == Some(around.now);
        let Some(process) = self.process.as_mut().filter(|process| due(process)) else {
            return Ok(());
        };
        process.keep_at = None;
        if self.disk_hangs_until.max(self.keeper_hangs_until) > around.now {
            self.plan_keeping(around);
            return Ok(());
        }
        let reports = process.reports.len();
        if let Err(fatal) = process.keeper.step(&mut process.reports) {
            return Err(self.death_of(fatal));
        }
        match process.log_reader.step(false, &mut process.reports) {
            Ok(ReadStep::Idle | ReadStep::Read { .. } | ReadStep::OutOfFiles) => {}
            Ok(ReadStep::Unreadable(unreadable)) => {
                process.worker.unreadable(unreadable);
                process.news = true;
            }
            Err(fatal) => return Err(self.death_of(fatal)),
        }
        let reported = process.reports.len() > reports;
        if self.disk.is_down() {
            return Err(Death::Crashed(self.planned_crash));
        }
        if reported {
            self.wake(around.now);
        }
        self.plan_keeping(around);
        self.go_to_disk(around);
        Ok(())
    }

    /// Does all disk work that was handed over, then ends as it wanted to.
    pub(super) fn finish(&mut self, end: Death) -> Death {
        let Some(process) = &mut self.process else {
            return end;
        };
        for request in process.waiting.drain(..) {
            process.worker.push(request);
        }
        loop {
            match process.worker.round(&mut process.reports) {
                Ok(round) if round.worked => {}
                Ok(_) => return end,
                Err(fatal) => return self.death_of(fatal),
            }
        }
    }
}
