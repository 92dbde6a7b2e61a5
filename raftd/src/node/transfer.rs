//! Snapshots between nodes (thesis 5.3): a leader sends the file of its newest one, piece by piece,
//! to a follower that lacks what the leader's log no longer holds; the follower stores the pieces,
//! and takes the state over once the file is whole and verified.
//!
//! The follower says after each piece how much it has, and the next one begins there: so a lost
//! piece, a broken link and a restart cost one question. Two pieces are on their way at a time, so that
//! one is read while the other is stored, beside the ordinary flow of entries to the others.

use std::collections::BTreeMap;

use bytes::Bytes;
use log::Level;
use raft::{Effect, Installed, Instant};
use wire::client::{Install, Reply};
use wire::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use wire::peer::{InstallSnapshot, SnapshotOk};
use wire::types::{EntryId, Index, NodeId};

use super::Node;
use super::admission::overloaded;
use super::client::Caller;
use super::io::{ConnectionId, Effects, Reader, SnapshotFile, SnapshotRequest};
use super::sending::{GIVE_UP, ON_THEIR_WAY_MAX, Sending};
use crate::store::Store;

/// Pieces received and not yet stored, at most. A leader sends [`ON_THEIR_WAY_MAX`] at a time; as many
/// may follow a change of leader.
const STORING_MAX: usize = 2 * ON_THEIR_WAY_MAX;

/// Clients that read a snapshot, at most: each is answered up to 1 MiB at a time.
const READERS_MAX: usize = 16;

/// A client that reads a snapshot.
#[derive(Clone, Copy, Debug)]
struct Reading {
    snapshot: EntryId,
    /// When it last asked.
    asked_at: Instant,
    /// What is being answered.
    request_id: Option<u64>,
}

impl Reading {
    fn is_busy(&self) -> bool {
        self.request_id.is_some()
    }
}

/// Invariants:
/// - only a leader sends;
/// - each client is answered one piece at a time, and there are [`READERS_MAX`] at most;
/// - `storing` counts the pieces given to the background thread and not answered, up to
///   [`STORING_MAX`].
#[derive(Debug, Default)]
pub(super) struct Transfers {
    sending: BTreeMap<NodeId, Sending>,
    reading: BTreeMap<ConnectionId, Reading>,
    storing: usize,
    /// The newest one that came while so many were being stored: it is the question of the leader
    /// that there is, if one waits for an answer.
    waiting: Option<InstallSnapshot>,
}

impl Transfers {
    /// The snapshots that are being sent to followers that take them.
    pub(super) fn sent(&self) -> impl Iterator<Item = EntryId> {
        let begun = |sending: &Sending| sending.began.map(|_| sending.file.id);
        self.sending.values().filter_map(begun)
    }

    /// The snapshots that clients read.
    pub(super) fn read(&self, now: Instant) -> impl Iterator<Item = EntryId> {
        let readers = self.reading.values();
        let awake = readers.filter(move |reading| now.since(reading.asked_at) < GIVE_UP);
        awake.map(|reading| reading.snapshot)
    }

    /// A client is gone. An answer that is under way for it still counts.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.reading
            .retain(|reader, reading| *reader != connection || reading.is_busy());
    }

    /// Those whose answers are under way; they are answered without.
    pub(super) fn take_busy(&mut self) -> Vec<Caller> {
        let reading = self.reading.iter_mut();
        let busy = reading.filter_map(|(connection, reading)| {
            Some(Caller {
                connection: *connection,
                request_id: reading.request_id.take()?,
            })
        });
        busy.collect()
    }

    /// An answer is there; whether its client `is_here`, too. Says whether it is still waited for.
    fn answered(&mut self, caller: Caller, is_here: bool) -> bool {
        let reading = self.reading.get_mut(&caller.connection);
        let awaited = reading.and_then(|reading| reading.request_id.take());
        if !is_here {
            self.forget(caller.connection);
        }
        is_here && awaited == Some(caller.request_id)
    }

    /// How far a follower has come with the snapshot that it is sent.
    pub(super) fn progress(&self, to: NodeId, now: Instant) -> Option<Install> {
        let sending = self.sending.get(&to)?;
        let (received, total) = (sending.received_bytes, sending.file.bytes);
        // From where this life of the transfer began: a resumed one has had some for nothing.
        let left_ms = sending.began.and_then(|(at, had)| {
            let gained = u128::from(received.saturating_sub(had));
            let took_ms = now.since(at).as_millis();
            (u128::from(total - received) * took_ms).checked_div(gained)
        });
        Some(Install {
            received_bytes: received,
            total_bytes: total,
            left_ms: left_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        })
    }

    /// Pieces received and not yet stored.
    pub(super) fn storing(&self) -> usize {
        self.storing
    }

    /// When a follower is to be asked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let awaited = self
            .sending
            .values()
            .filter(|sending| sending.reading.is_none());
        awaited.filter_map(Sending::ask_at).min()
    }

    /// A new link to this follower is open: what was sent on another one may never arrive.
    pub(super) fn renew_link(&mut self, to: NodeId) {
        if let Some(sending) = self.sending.get_mut(&to) {
            sending.renew_link();
        }
    }

    /// This node leads no more.
    pub(super) fn stop_sending(&mut self) {
        self.sending.clear();
    }
}

impl Node {
    /// Begins with the followers that need a snapshot, asks those again that do not answer, and
    /// ends with those that need none any more.
    pub(super) fn send_snapshots(&mut self, effects: &mut Effects) {
        let now = self.now.monotonic;
        let newest = self.snapshots.newest();
        let needy: Vec<NodeId> = self.raft.needs_snapshot().collect();
        let followers = self.raft.followers();
        let rebuilding: Vec<NodeId> = followers
            .filter_map(|follower| follower.health.rebuilding.then_some(follower.id))
            .collect();
        let sending = &mut self.snapshots.transfers.sending;
        sending.retain(|to, transfer| needy.contains(to) && !transfer.is_refused(now));
        let mut wanted = Index(0);
        let mut to_ask = Vec::new();
        for to in needy {
            let least = if rebuilding.contains(&to) {
                self.committed
            } else {
                Index(0)
            };
            let transfer = sending
                .entry(to)
                .or_insert_with(|| Sending::new(newest, least, now));
            // A piece of the other one that is still being read is not waited for.
            if transfer.began.is_none() && transfer.file.id != newest.id {
                *transfer = Sending::new(newest, transfer.least, now);
            }
            // This node's own disk is waited for as long as it takes.
            if transfer.file.id.index < transfer.least {
                wanted = wanted.max(transfer.least);
                transfer.moved_at = now;
            } else if transfer.reading.is_none() && transfer.is_to_ask(now) {
                to_ask.push((to, transfer.file.id));
            }
        }
        self.snapshots.want(wanted);
        for (to, id) in to_ask {
            let text = format!("sending a snapshot to={to} id={id}");
            self.journal
                .repeated(now, Level::Info, ("snapshot to", to.0), || text);
            self.send_piece(to, 0, Bytes::new(), effects);
        }
    }

    /// Sends a piece of what this follower is sent; an empty one asks how much it has.
    fn send_piece(&mut self, to: NodeId, offset: u64, bytes: Bytes, effects: &mut Effects) {
        let Some(transfer) = self.snapshots.transfers.sending.get_mut(&to) else {
            return;
        };
        transfer.send(self.now.monotonic, offset, bytes.len());
        let SnapshotFile { id, bytes: total } = transfer.file;
        let mut raft_effects = std::mem::take(&mut self.raft_effects);
        self.raft
            .chunk(to, id, total, offset, bytes, &mut raft_effects);
        self.absorb(raft_effects, effects);
    }

    /// A follower tells how much it has.
    pub(super) fn snapshot_answered(
        &mut self,
        from: NodeId,
        answer: &SnapshotOk,
        effects: &mut Effects,
    ) {
        let now = self.now.monotonic;
        let Some(transfer) = self.snapshots.transfers.sending.get_mut(&from) else {
            return;
        };
        // An answer to a transfer before this one must not begin it: a newer file may be waited for.
        if transfer.file.id != answer.snapshot || transfer.touched_at.is_none() {
            return;
        }
        let total = transfer.file.bytes;
        let received = answer.received_bytes.min(total);
        let had_all = transfer.received_bytes == total;
        if had_all && !transfer.is_asked() {
            // Only when it is asked can it say less: this answer was overtaken.
            return;
        }
        transfer.has_told(now, received);
        // What it had was damaged: perhaps before it was read here.
        if had_all && received == 0 {
            transfer.begin_anew(now);
            return self.snapshots.doubt(answer.snapshot);
        }
        self.read_piece(from, effects);
    }

    /// Reads the next piece for this follower, unless enough of them are on their way.
    fn read_piece(&mut self, to: NodeId, effects: &mut Effects) {
        let max_bytes = self.config.snapshots.piece_bytes;
        let Some(transfer) = self.snapshots.transfers.sending.get_mut(&to) else {
            return;
        };
        if transfer.is_to_read(max_bytes) {
            transfer.reading = Some(transfer.sent_bytes);
            transfer.touched_at = Some(self.now.monotonic);
            let read = SnapshotRequest::Read {
                reader: Reader::Follower(to),
                snapshot: transfer.file.id,
                offset: transfer.sent_bytes,
                max_bytes,
            };
            effects.snapshot(read);
        }
    }

    /// A piece was read from the file.
    pub(super) fn snapshot_read(
        &mut self,
        to: NodeId,
        snapshot: EntryId,
        offset: u64,
        bytes: Bytes,
        effects: &mut Effects,
    ) {
        let Some(transfer) = self.snapshots.transfers.sending.get_mut(&to) else {
            return;
        };
        if transfer.file.id != snapshot || transfer.reading != Some(offset) {
            return;
        }
        transfer.has_read(self.now.monotonic);
        if bytes.is_empty() {
            let text = format!("snapshot unreadable, cannot be sent to={to} id={snapshot}");
            let key = ("snapshot unreadable", to.0);
            self.journal
                .repeated(self.now.monotonic, Level::Error, key, || text);
            transfer.begin_anew(self.now.monotonic);
            self.snapshots.doubt(snapshot);
            return;
        }
        // Else the follower told meanwhile that it needs another one.
        if transfer.sent_bytes == offset {
            self.send_piece(to, offset, bytes, effects);
        }
        self.read_piece(to, effects);
    }

    /// A client asks for a piece of a snapshot.
    pub(super) fn admit_piece(
        &mut self,
        caller: Caller,
        snapshot: EntryId,
        offset: u64,
        effects: &mut Effects,
    ) {
        let now = self.now.monotonic;
        if !self.snapshots.has(snapshot, now) {
            let none = Reply::SnapshotPiece {
                total_bytes: 0,
                bytes: &[],
            };
            return self.clients.answer(caller, &none, effects);
        }
        let reading = &mut self.snapshots.transfers.reading;
        reading.retain(|_, reading| reading.is_busy() || now.since(reading.asked_at) < GIVE_UP);
        let known = reading.get(&caller.connection);
        if known.map_or(reading.len() >= READERS_MAX, Reading::is_busy) {
            return self.refuse(caller, overloaded(), effects);
        }
        let asked = Reading {
            snapshot,
            asked_at: now,
            request_id: Some(caller.request_id),
        };
        reading.insert(caller.connection, asked);
        let read = SnapshotRequest::Read {
            reader: Reader::Client(caller.connection, caller.request_id),
            snapshot,
            offset,
            max_bytes: SNAPSHOT_CHUNK_BYTES_MAX,
        };
        effects.snapshot(read);
    }

    /// A piece was read for a client.
    pub(super) fn answer_piece(
        &mut self,
        caller: Caller,
        total_bytes: u64,
        bytes: &[u8],
        effects: &mut Effects,
    ) {
        let is_here = self.clients.has(caller.connection);
        if self.snapshots.transfers.answered(caller, is_here) {
            let reply = Reply::SnapshotPiece { total_bytes, bytes };
            self.clients.answer(caller, &reply, effects);
        }
    }

    /// The leader sent a piece. What is not newer than the state is not wanted: it says so, and the
    /// leader goes on with entries.
    pub(super) fn chunk_received(&mut self, chunk: InstallSnapshot, effects: &mut Effects) {
        if self.store.has_applied(chunk.snapshot.index) {
            return self.answer_chunk(chunk.snapshot, chunk.total_bytes, effects);
        }
        let transfers = &mut self.snapshots.transfers;
        if transfers.storing >= STORING_MAX {
            transfers.waiting = Some(chunk);
            return;
        }
        transfers.storing += 1;
        let receive = SnapshotRequest::Receive {
            snapshot: chunk.snapshot,
            total_bytes: chunk.total_bytes,
            offset: chunk.offset,
            bytes: chunk.bytes,
        };
        effects.snapshot(receive);
    }

    /// The background thread stored a piece, or found how much is there. Behind the last piece that is
    /// nothing: the state has it, and the leader that asked meanwhile is told so.
    pub(super) fn chunk_stored(
        &mut self,
        snapshot: EntryId,
        (received_bytes, total_bytes): (u64, u64),
        effects: &mut Effects,
    ) {
        let storing = &mut self.snapshots.transfers.storing;
        assert!(*storing > 0, "a piece is answered once");
        *storing -= 1;
        let is_installed = self.store.has_applied(snapshot.index);
        let here = if is_installed {
            total_bytes
        } else {
            received_bytes
        };
        self.answer_chunk(snapshot, here, effects);
        if let Some(chunk) = self.snapshots.transfers.waiting.take() {
            self.chunk_received(chunk, effects);
        }
    }

    fn answer_chunk(&mut self, snapshot: EntryId, received_bytes: u64, effects: &mut Effects) {
        let mut raft_effects: Vec<Effect> = std::mem::take(&mut self.raft_effects);
        self.raft
            .answer_chunk(snapshot, received_bytes, &mut raft_effects);
        self.absorb(raft_effects, effects);
    }

    /// A snapshot is whole: the node goes on from its state, if that is newer than its own.
    pub(super) fn install(&mut self, file: SnapshotFile, store: Box<Store>, effects: &mut Effects) {
        let id = file.id;
        assert_eq!(store.applied(), id, "the state of another entry");
        let initial = self.config.initial_membership();
        let membership = store.membership().unwrap_or(&initial);
        let installed = self.raft.install(id, store.wall_ms(), membership);
        if installed == Installed::Stale {
            return effects.snapshot(SnapshotRequest::Free(store));
        }
        let text = format!("snapshot installed id={id} bytes={}", file.bytes);
        self.journal.line(Level::Info, text);
        // Whoever waits for an entry up to there will not learn what came of it from here.
        self.abandon_proposals_upto(id.index, effects);
        let old = std::mem::replace(&mut self.store, *store);
        effects.snapshot(SnapshotRequest::Free(Box::new(old)));
        self.committed = self.committed.max(id.index);
        self.loader.applied(id.index);
        self.reads.applied(id.index);
        let (now, data_bytes) = (self.now.monotonic, self.store.data_bytes());
        self.snapshots
            .received(file, now, data_bytes, &mut self.freeing);
        self.members_applied(id.index, effects);
    }
}
