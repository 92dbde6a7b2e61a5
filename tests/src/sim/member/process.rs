//! A life of a member: the process, and its turns.

use std::collections::VecDeque;

use raft::Instant;
use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::net::dial::Dialler;
use raftd::node::Node;
use raftd::node::io::{Effects, Input, Now, SnapshotRequest, StorageEvent, StorageRequest};
use raftd::storage::{Keeper, LogReader, Scrubber, SpareMaker, Worker};
use wire::peer::DiskState;

use super::table::Table;
use super::{Crash, Death, STOP_TIMEOUT, Surroundings};
use crate::sim::net::Host;
use crate::sim::trace::Trace;

/// A life.
pub struct Process {
    pub(super) life: u64,
    pub(super) host: Host,
    pub(super) node: Node,
    pub(super) effects: Effects,
    pub(super) now: Now,

    pub(super) worker: Worker<Latched<SimDisk>>,
    pub(super) maker: SpareMaker<SimDisk>,
    pub(super) scrubber: Scrubber<SimDisk>,
    pub(super) scrubs: bool,
    pub(super) keeper: Keeper<SimDisk>,
    pub(super) log_reader: LogReader<SimDisk>,
    /// When these two go on, if they have something to do.
    pub(super) keep_at: Option<Instant>,
    /// For the rounds to come.
    pub(super) waiting: VecDeque<StorageRequest>,
    /// A round is under way.
    pub(super) at_disk: bool,
    /// Its number.
    pub(super) round: u64,
    /// There is work, room or a spare that no round has taken up yet.
    pub(super) news: bool,
    pub(super) room: DiskState,
    pub(super) reports: VecDeque<StorageEvent>,
    /// When the maker of spares goes on.
    pub(super) make_at: Instant,

    pub(super) table: Table,
    pub(super) dialler: Dialler,

    pub(super) stop_wanted: bool,
    pub(super) stop_at: Option<Instant>,
    pub(super) stopped: bool,
    /// After so many effects, the end.
    pub(super) fuse: Option<(u32, Crash)>,
    pub(super) crash_at_report: Option<Crash>,
    /// The first vote that it should have given.
    pub(super) refused_vote: Option<String>,
}

impl Process {
    pub(super) fn think(&mut self, around: &mut Surroundings<'_>) {
        let now = self.now;
        if self.stop_wanted && self.stop_at.is_none() {
            self.stop_at = Some(now.monotonic + STOP_TIMEOUT);
            self.node.step(now, Input::Stop, &mut self.effects);
        }
        self.tell_notices();
        while let Some(report) = self.reports.pop_front() {
            let input = Input::Storage(report);
            self.node.step(now, input, &mut self.effects);
        }
        self.take_in(around);
        self.dial(around);
        self.close_overdue(around);
        if self.node.deadline().is_some_and(|at| at <= now.monotonic) {
            self.node.step(now, Input::Tick, &mut self.effects);
        }
        self.tell_notices();
        self.node.flush(now, &mut self.effects);
    }

    pub(super) fn carry_out(&mut self, around: &mut Surroundings<'_>) -> Result<(), Death> {
        around.trace.number(around.now.0 << 3 | self.host as u64);
        for request in self.effects.storage.drain(..) {
            burn(&mut self.fuse)?;
            note(around.trace, &request);
            if let StorageRequest::Snapshot(request) = request {
                self.keeper.push(request);
                continue;
            }
            self.waiting.push_back(request);
            self.news = true;
        }
        if let Some(peers) = self.effects.peers_changed.take() {
            self.peers_changed(peers, around);
        }
        self.append_messages(around);
        self.append_replies();
        let refused = std::mem::take(&mut self.effects.close_links);
        for (link, error) in refused {
            self.refuse(link.0, &error, 0);
        }
        let mut at = 0;
        while let Some(name) = self.next_dirty(at) {
            burn(&mut self.fuse)?;
            self.write(name, around);
            at += 1;
        }
        self.forget_dirty();
        let renewed = std::mem::take(&mut self.effects.renew_links);
        for link in renewed {
            self.renew(link, around);
        }
        for event in self.effects.events.drain(..) {
            let id = self.host + 1;
            around
                .trace
                .line(around.now, || format!("{id} says {}", event.text));
            around.trace.bytes(event.text.as_bytes());
        }
        self.apply_pauses();
        self.stopped |= std::mem::take(&mut self.effects.stopped);
        self.stopped |= self.stop_at.is_some_and(|at| at <= self.now.monotonic);
        Ok(())
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let deadlines = [
            self.node.deadline(),
            self.dialler.deadline(),
            self.table.deadline(),
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// One effect more.
fn burn(fuse: &mut Option<(u32, Crash)>) -> Result<(), Death> {
    match fuse {
        Some((0, crash)) => Err(Death::Crashed(*crash)),
        Some((left, _)) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Adds disk work to the trace.
fn note(trace: &mut Trace, request: &StorageRequest) {
    match request {
        StorageRequest::Write(write) => {
            trace.number(write.ticket.0);
            trace.number(write.hard_state.term.0);
            trace.number(write.hard_state.vote.map_or(0, |vote| vote.0));
            trace.number(write.reset.map_or(0, |id| id.index.0));
            trace.number(write.truncate_from.map_or(0, |index| index.0));
            trace.number(write.commit.0);
            for entry in &write.entries {
                trace.bytes(entry.bytes());
            }
        }
        StorageRequest::Load { from, to, .. } => {
            trace.number(from.0);
            trace.number(to.0);
        }
        StorageRequest::Mark(id) => trace.number(id.index.0),
        StorageRequest::Alone(alone) => trace.number(u64::from(*alone)),
        StorageRequest::Compact { upto, keep_bytes } => {
            trace.number(upto.0);
            trace.number(*keep_bytes);
        }
        StorageRequest::Mend(entries) => {
            entries.iter().for_each(|entry| trace.bytes(entry.bytes()));
        }
        StorageRequest::Snapshot(request) => note_snapshot(trace, request),
        StorageRequest::Form(record) => {
            for (node, incarnation) in record {
                trace.number(node.0);
                trace.number(incarnation.0);
            }
        }
    }
}

fn note_snapshot(trace: &mut Trace, request: &SnapshotRequest) {
    match request {
        SnapshotRequest::Take(view) => trace.number(view.applied().index.0),
        SnapshotRequest::Expect(data_bytes) => trace.number(*data_bytes),
        SnapshotRequest::Read {
            snapshot, offset, ..
        } => {
            trace.number(snapshot.index.0);
            trace.number(*offset);
        }
        SnapshotRequest::Receive {
            snapshot,
            offset,
            bytes,
            ..
        } => {
            trace.number(snapshot.index.0);
            trace.number(*offset);
            trace.bytes(bytes);
        }
        SnapshotRequest::Keep { marked, also } => {
            let kept = also.iter().chain([marked]);
            kept.for_each(|id| trace.number(id.index.0));
        }
        SnapshotRequest::Distrust { after } => trace.number(after.0),
        SnapshotRequest::Free(_) => {}
    }
}
