//! What becomes of a client's request: it is proposed, asked for, parked, or refused at once.

use std::collections::VecDeque;
use std::time::Duration;

use raft::{CannotPropose, Instant};
use wire::client::{Consistency, Reply, Request, ViewChoice};
use wire::command::Write;
use wire::entry::ENTRY_HEADER_BYTES;
use wire::error::Error;
use wire::peer::DiskState;
use wire::types::NodeId;

use super::Node;
use super::client::{Caller, encode};
use super::io::{ConnectionId, Effects};
use super::reads::{Bounds, Query, Read, Scan, Shape, take_if};

/// Bytes of parked requests, at most.
const PARKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Parked requests that go on in one turn, at most.
const TURN_UNPARKED_MAX: usize = 4_096;
/// Keys that the reads of one turn may walk over, at most; one read always fits.
const TURN_KEYS_MAX: u64 = 20_000;
/// Bytes of a turn's replies after which no more entries are applied and no more reads served in it.
pub(super) const TURN_REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Between two looks at the deadlines of all that waits.
const EXPIRY_PAUSE: Duration = Duration::from_millis(5);
/// What a client that met a full queue should wait.
const RETRY_AFTER_MS: u32 = 20;

/// A request that waits for a leader or for room, with its own copy of the bytes.
#[derive(Debug)]
pub(super) enum Parked {
    Write {
        caller: Caller,
        deadline: Option<Instant>,
        body: Box<[u8]>,
    },
    Read(Read),
}

impl Parked {
    fn caller(&self) -> Caller {
        match self {
            Self::Write { caller, .. } => *caller,
            Self::Read(read) => read.caller,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Write { body, .. } => body.len(),
            Self::Read(read) => read.query.keys.len(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Write { deadline, .. } => *deadline,
            Self::Read(read) => read.deadline,
        }
    }

    /// When it is answered by an error, if it still waits.
    fn gives_up_at(&self) -> Option<Instant> {
        match self {
            Self::Write { deadline, .. } => *deadline,
            Self::Read(read) => read.gives_up_at(),
        }
    }
}

/// Requests that wait, first come first served (rules A7, B5).
///
/// Invariants: at most [`super::Limits::parked_max`] requests and [`PARKED_BYTES_MAX`] bytes; `bytes` is the sum
/// over the queue; requests of one connection never overtake each other.
#[derive(Debug, Default)]
pub(super) struct ParkingLot {
    queue: VecDeque<Parked>,
    bytes: usize,
}

impl ParkingLot {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn take_if(&mut self, leave: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let out = take_if(&mut self.queue, leave);
        self.bytes -= out.iter().map(Parked::bytes).sum::<usize>();
        out
    }

    fn take_first(&mut self) -> Option<Parked> {
        let parked = self.queue.pop_front()?;
        self.bytes -= parked.bytes();
        Some(parked)
    }

    /// When the next one gives up.
    fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().filter_map(Parked::gives_up_at).min()
    }
}

/// Who serves what needs a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leadership {
    Own,
    Other(NodeId),
    Unknown,
}

impl Node {
    /// The answer to what a node tells always, however it is.
    fn told_at_once(&self, request: &Request<'_>) -> Option<Reply<'static>> {
        match request {
            Request::Status => Some(Reply::Status(self.status())),
            Request::Leaders => Some(Reply::LeaderChanges(self.leaders.all())),
            _ => None,
        }
    }

    /// Takes a client's request.
    pub(super) fn admit(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        request: Request<'_>,
        effects: &mut Effects,
    ) {
        let caller = Caller {
            connection,
            request_id,
        };
        if let Some(told) = self.told_at_once(&request) {
            return encode(caller, &told, effects);
        }
        let welcome = self.clients.arrive(connection, effects);
        if !welcome {
            return self.refuse(caller, overloaded(), effects);
        }
        if self.takes_leave() {
            let error = self.farewell();
            return self.refuse(caller, error, effects);
        }
        match request {
            Request::Status | Request::Leaders => {}
            Request::WatchLeader => self.admit_watch(caller, effects),
            Request::Snapshot => self.admit_snapshot(caller, effects),
            Request::ChangeMembers { dry_run, change } => {
                self.admit_change(caller, dry_run, change, effects);
            }
            Request::Join {
                name,
                peer_addr,
                incarnation,
            } => self.admit_join(caller, (name, peer_addr, incarnation), effects),
            Request::ReadSnapshot { snapshot, offset } => {
                self.admit_piece(caller, snapshot, offset, effects);
            }
            Request::TransferLeader { deadline_ms, to } => {
                self.admit_transfer(caller, deadline_ms, to, effects);
            }
            Request::Write {
                deadline_ms, body, ..
            } => self.admit_write(caller, self.deadline_after(deadline_ms), body, effects),
            Request::Get {
                deadline_ms,
                freshness,
                key,
            } => {
                let query = self.query(Shape::Get, [key, &[], &[]]);
                self.admit_read(caller, deadline_ms, freshness, query, effects);
            }
            Request::Scan {
                deadline_ms,
                freshness,
                mode,
                range,
                reverse,
                after,
                limit,
                view,
            } => {
                let scan = Scan {
                    mode,
                    reverse,
                    limit,
                    view,
                    bounds: Bounds::of(range, after),
                };
                let keys = [Some(range.from), range.to, after];
                let query = self.query(Shape::Scan(scan), keys.map(Option::unwrap_or_default));
                // A view is as old as it is, whoever leads by now.
                let freshness = match view {
                    ViewChoice::Of(_) => Consistency::Stale.into(),
                    ViewChoice::Now | ViewChoice::Keep => freshness,
                };
                self.admit_read(caller, deadline_ms, freshness, query, effects);
            }
        }
    }

    fn admit_write(
        &mut self,
        caller: Caller,
        deadline: Option<Instant>,
        body: &[u8],
        effects: &mut Effects,
    ) {
        let bytes = ENTRY_HEADER_BYTES + body.len();
        if bytes > self.config.limits.entry_bytes_max {
            let error = Error::TooLarge {
                what: "entry".to_owned(),
                limit: self.config.limits.entry_bytes_max as u64,
                actual: bytes as u64,
            };
            return self.refuse(caller, error, effects);
        }
        let queued = self.clients.has_parked(caller.connection);
        match self.leadership() {
            Leadership::Other(_) => self.refuse_elsewhere(caller, effects),
            Leadership::Own if !queued && !self.is_overloaded() => {
                self.propose(caller, body, effects);
            }
            leadership => {
                let blocked = leadership == Leadership::Own && self.is_overloaded();
                let write = Parked::Write {
                    caller,
                    deadline,
                    body: body.into(),
                };
                self.park(write, blocked, effects);
            }
        }
    }

    /// Has every node take a snapshot at the same entry; answered when that is applied. However
    /// full the disks are: it is what makes the log before it needless.
    fn admit_snapshot(&mut self, caller: Caller, effects: &mut Effects) {
        if self.is_overloaded() {
            return self.refuse(caller, overloaded(), effects);
        }
        match self.propose_snapshot() {
            Ok(id) => self.proposals.push(id.index, caller),
            Err(reason) => self.refuse_proposal(caller, reason, effects),
        }
    }

    /// Whether the disks of a quorum have the room for this write (rules E5). Between the soft and
    /// the hard mark the room is for what makes more of it: deletes, snapshots.
    fn check_room(&self, body: &[u8]) -> Result<(), Error> {
        let members = self.raft.membership();
        match self.disks.room_of(self.config.id, members) {
            DiskState::Ok => Ok(()),
            DiskState::Soft if only_removes(body) => Ok(()),
            DiskState::Soft => Err(Error::DiskFull { hard: false }),
            DiskState::Hard => Err(Error::DiskFull { hard: true }),
        }
    }

    /// Appends a write to the log, in memory (thesis 3.5).
    fn propose(&mut self, caller: Caller, body: &[u8], effects: &mut Effects) {
        if let Err(error) = self.check_room(body) {
            return self.refuse(caller, error, effects);
        }
        match self.raft.propose(self.now.wall_ms, body) {
            Ok(id) => {
                self.proposals.push(id.index, caller);
                self.clients.wrote(caller.connection, id);
            }
            Err(reason) => self.refuse_proposal(caller, reason, effects),
        }
    }

    fn refuse_proposal(&mut self, caller: Caller, reason: CannotPropose, effects: &mut Effects) {
        match reason {
            CannotPropose::NotLeader(_) => self.refuse_elsewhere(caller, effects),
            CannotPropose::Transferring => self.refuse(caller, overloaded(), effects),
        }
    }

    pub(super) fn park(&mut self, parked: Parked, blocked: bool, effects: &mut Effects) {
        let (caller, bytes) = (parked.caller(), parked.bytes());
        if self.takes_leave() {
            let error = self.farewell();
            return self.refuse(caller, error, effects);
        }
        let lot = &mut self.parked;
        if lot.queue.len() >= self.config.limits.parked_max || lot.bytes + bytes > PARKED_BYTES_MAX
        {
            return self.refuse(caller, overloaded(), effects);
        }
        let gives_up_at = parked.gives_up_at();
        lot.bytes += bytes;
        lot.queue.push_back(parked);
        self.clients.park(caller.connection, blocked, effects);
        self.expires(gives_up_at);
    }

    /// Whether the first parked request can go on, or be refused.
    pub(super) fn may_unpark(&self) -> bool {
        let Some(first) = self.parked.queue.front() else {
            return false;
        };
        match self.leadership() {
            Leadership::Unknown => false,
            Leadership::Other(_) => true,
            Leadership::Own => matches!(first, Parked::Read(_)) || !self.is_overloaded(),
        }
    }

    /// Lets parked requests go on, as far as leadership, room and the turn allow.
    pub(super) fn unpark(&mut self, effects: &mut Effects) {
        for _ in 0..TURN_UNPARKED_MAX {
            if !self.may_unpark() {
                return;
            }
            let Some(parked) = self.parked.take_first() else {
                return;
            };
            self.clients.unpark(parked.caller().connection, effects);
            match (self.leadership(), parked) {
                (Leadership::Other(_), Parked::Write { caller, .. }) => {
                    self.refuse_elsewhere(caller, effects);
                }
                (_, Parked::Write { caller, body, .. }) => self.propose(caller, &body, effects),
                (Leadership::Other(_), Parked::Read(read))
                    if !read.freshness.is_served_anywhere() =>
                {
                    self.refuse_elsewhere(read.caller, effects);
                }
                (_, Parked::Read(read)) => self.ask(read, effects),
            }
        }
    }

    /// The connection is gone, and by the end of the turn what it had parked and what it wanted to
    /// read.
    pub(super) fn close_client(&mut self, connection: ConnectionId) {
        self.views.close(connection, &mut self.freeing);
        self.snapshots.transfers.forget(connection);
        self.clients.close(connection);
    }

    /// Drops what connections that are gone had asked for. All that waits is looked at, so it is done
    /// once for all of a turn.
    pub(super) fn forget_gone(&mut self) {
        let gone = self.clients.take_gone();
        if gone.is_empty() {
            return;
        }
        self.reads.forget(&gone);
        self.parked
            .take_if(|parked| gone.contains(&parked.caller().connection));
    }

    /// Answers every request whose deadline has passed and that was not appended.
    pub(super) fn expire(&mut self, effects: &mut Effects) {
        let now = self.now.monotonic;
        if self.expiry.is_none_or(|expiry| expiry > now) {
            return;
        }
        let error = match self.leadership() {
            Leadership::Unknown => Error::NoLeader,
            Leadership::Own | Leadership::Other(_) => Error::DeadlineExpired,
        };
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for parked in self.parked.take_if(|parked| over(parked.gives_up_at())) {
            let caller = parked.caller();
            self.clients.unpark(caller.connection, effects);
            let error = if over(parked.deadline()) {
                error.clone()
            } else {
                self.lagging()
            };
            self.refuse(caller, error, effects);
        }
        for read in self.reads.take_waiting(|read| over(read.gives_up_at())) {
            let error = if over(read.deadline) {
                Error::DeadlineExpired
            } else {
                self.lagging()
            };
            self.refuse_read(read, error, effects);
        }
        let deadlines = [self.parked.next_deadline(), self.reads.next_deadline()];
        let next = deadlines.into_iter().flatten().min();
        // Looking at all that waits takes time: not for every deadline by itself.
        self.expiry = next.map(|deadline| deadline.max(now + EXPIRY_PAUSE));
    }

    /// Refuses everything that is parked: the node is stopping.
    pub(super) fn refuse_parked(&mut self, effects: &mut Effects) {
        let error = self.farewell();
        for parked in self.parked.take_if(|_| true) {
            self.clients.unpark(parked.caller().connection, effects);
            self.refuse(parked.caller(), error.clone(), effects);
        }
    }

    /// Whether nothing is taken or parked any more. A leader that hands over before it stops still
    /// has an answer for everybody, a better one soon.
    fn takes_leave(&self) -> bool {
        self.stop_at.is_some() && self.resignation.is_none()
    }

    /// What a node that stops says.
    fn farewell(&self) -> Error {
        self.leader_or(Error::ShuttingDown)
    }

    /// Who leads, if that is another node, for whoever is sent there; else this.
    fn leader_or(&self, otherwise: Error) -> Error {
        match self.leadership() {
            Leadership::Other(leader) => Error::NotLeader {
                leader: self.hint(leader),
            },
            Leadership::Own | Leadership::Unknown => otherwise,
        }
    }

    /// Leadership is lost, and with it every read that waited for it (rules C1).
    pub(super) fn fail_reads(&mut self, effects: &mut Effects) {
        let waiting = self.reads.take_waiting(|_| true);
        self.refuse_reads(waiting, effects);
    }

    /// Refuses reads for want of a leader or of a state: another node has both.
    pub(super) fn refuse_reads(&mut self, reads: Vec<Read>, effects: &mut Effects) {
        let error = self.leader_or(Error::NoLeader);
        for read in reads {
            self.refuse_read(read, error.clone(), effects);
        }
    }

    /// Holds back, or lets go on, what a client reads: replies would pile up without bound.
    pub(super) fn clog_client(&mut self, connection: ConnectionId, clogged: bool) {
        self.clients.clog(connection, clogged);
        if !clogged {
            self.reads.release(connection);
        }
    }

    /// Serves the reads that may be, as many as a turn allows. Says whether more could be.
    pub(super) fn serve_reads(&mut self, effects: &mut Effects) -> bool {
        let mut keys = 0;
        let replies_end = effects.reply_bytes.len() + TURN_REPLY_BYTES_MAX;
        while keys < TURN_KEYS_MAX && effects.reply_bytes.len() < replies_end {
            let Some(read) = self.reads.next_ready() else {
                return false;
            };
            if self.clients.is_clogged(read.caller.connection) {
                self.reads.hold(read);
                continue;
            }
            if let Some(error) = self.state_in_doubt() {
                let leads = self.leadership() == Leadership::Own;
                let error = if leads { error } else { self.lagging() };
                keys += 1;
                self.refuse(read.caller, error, effects);
                self.reads.recycle(read.query.keys);
                continue;
            }
            keys += 1 + self.serve(&read, effects);
            self.reads.recycle(read.query.keys);
        }
        self.reads.has_ready()
    }

    /// Serves one read from what is applied. Says how many keys it walked over.
    fn serve(&mut self, read: &Read, effects: &mut Effects) -> u64 {
        let index = self.store.applied().index;
        let keys = read.query.keys.as_slice();
        match read.query.shape {
            Shape::Get => {
                let reply = match self.store.map().get(keys) {
                    Some(item) => Reply::Value { index, item },
                    None => Reply::Missing { index },
                };
                self.clients.answer(read.caller, &reply, effects);
                0
            }
            Shape::Scan(scan) => self.serve_page(read.caller, scan, keys, effects),
        }
    }

    pub(super) fn refuse(&mut self, caller: Caller, error: Error, effects: &mut Effects) {
        self.clients.answer(caller, &Reply::Error(error), effects);
    }

    /// Refuses what only a leader does: this node is none.
    pub(super) fn refuse_elsewhere(&mut self, caller: Caller, effects: &mut Effects) {
        let error = self.leader_or(Error::NoLeader);
        self.refuse(caller, error, effects);
    }

    pub(super) fn leadership(&self) -> Leadership {
        match self.raft.leader() {
            Some(leader) if leader == self.config.id => Leadership::Own,
            Some(leader) => Leadership::Other(leader),
            None => Leadership::Unknown,
        }
    }

    /// Whether more writes would make the log grow faster than it is committed, or faster than this
    /// node's own disk takes it: the others' disks may commit without it (rules A7). A leader that
    /// hands over, or has to, takes none (thesis 3.10).
    fn is_overloaded(&self) -> bool {
        self.raft.unsettled_bytes() >= self.config.limits.uncommitted_bytes_max
            || self.disks.is_busy()
            || self.raft.is_transferring()
            || self.condemned
    }

    fn query(&mut self, shape: Shape, parts: [&[u8]; 3]) -> Query {
        let mut keys = self.reads.buffer();
        parts.iter().for_each(|part| keys.extend_from_slice(part));
        Query { shape, keys }
    }

    pub(super) fn deadline_after(&self, deadline_ms: u32) -> Option<Instant> {
        let after = Duration::from_millis(u64::from(deadline_ms));
        (deadline_ms > 0).then(|| self.now.monotonic + after)
    }

    /// Something expires at `deadline`.
    pub(super) fn expires(&mut self, deadline: Option<Instant>) {
        self.expiry = [self.expiry, deadline].into_iter().flatten().min();
    }
}

/// Whether a write, which was checked when it came, can only take from the state.
fn only_removes(body: &[u8]) -> bool {
    Write::decode_body(body).is_ok_and(|write| write.command.only_removes())
}

pub(super) fn overloaded() -> Error {
    Error::Overloaded {
        retry_after_ms: RETRY_AFTER_MS,
    }
}
