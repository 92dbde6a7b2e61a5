//! From the node to the storage thread and the sockets.

use std::mem;

use bytes::BytesMut;
use wire::entry::Entry;

use super::Port;
use super::connection::Phase;
use super::event_loop::{Driver, Notice};
use crate::node::io::{ConnectionId, Effects, Input, StorageRequest};

/// A reply buffer that has grown beyond this is given back to the system after the turn.
const REPLY_BUFFER_BYTES_MAX: usize = 1 << 20;
/// Entries of one write that the loop may write itself; more are worth a thread's wake-up.
const SMALL_WRITE_ENTRIES: usize = 64;
/// Bytes of them.
const SMALL_WRITE_BYTES: usize = 64 << 10;

impl Driver {
    /// Carries out a turn's effects: storage first, then peers, so that both work while the
    /// replies are written.
    pub(super) fn carry_out(&mut self) {
        let mut effects = mem::take(&mut self.effects);
        self.submit(&mut effects);
        self.send_messages(&mut effects);
        self.write_dirty(Port::Peer);
        self.send_replies(&mut effects);
        for (link, error) in effects.close_links.drain(..) {
            self.refuse(link.0, &error, 0);
        }
        for link in effects.renew_links.drain(..) {
            self.renew(link);
        }
        if let Some(peers) = effects.peers_changed.take() {
            self.peers_changed(peers);
        }
        self.write_dirty(Port::Peer);
        self.write_dirty(Port::Client);
        for event in effects.events.drain(..) {
            log::log!(event.level, "{}", event.text);
        }
        self.stopped |= mem::take(&mut effects.stopped);
        debug_assert!(
            self.effects.readable.is_empty(),
            "nothing steps the node in here"
        );
        self.effects = effects;
        self.apply_pauses();
    }

    /// Hands the turn's disk work over. Who does it is told at once, unless it is this loop, which
    /// comes to it last; see [`Driver::work_for_storage`].
    fn submit(&mut self, effects: &mut Effects) {
        if effects.storage.is_empty() {
            return;
        }
        self.storage_waits = effects.storage.iter().all(is_small)
            && self.node.may_wait_for_disk()
            && self.ready_first.is_empty()
            && self.ready_clients.is_empty();
        for request in effects.storage.drain(..) {
            self.storage.submit(request);
        }
        if !self.storage_waits {
            self.storage.begin();
        }
    }

    /// The one case in which the loop waits for a disk: a follower with little to write and
    /// nothing else to do, while syncs are fast. It saves two wake-ups of a thread, which on an
    /// idle machine take as long as the sync itself.
    pub(super) fn work_for_storage(&mut self) {
        if !mem::take(&mut self.storage_waits) {
            return;
        }
        self.storage.work_here();
        self.now = self.clock.now();
        while let Some(event) = self.storage.next_event() {
            self.node
                .step(self.now, Input::Storage(event), &mut self.effects);
        }
        self.node.flush(self.now, &mut self.effects);
        self.carry_out();
        if mem::take(&mut self.storage_waits) {
            self.storage.begin();
        }
    }

    fn send_messages(&mut self, effects: &mut Effects) {
        for (link, message) in effects.peers.drain(..) {
            let id = link.0;
            match self.table.append(id, |out| message.encode(out)) {
                Some(waiting) if waiting > self.limits.link_output_bytes => {
                    self.close(id, false, "the peer reads too slowly");
                }
                Some(_) => self.mark_dirty(id),
                None => {}
            }
        }
    }

    fn send_replies(&mut self, effects: &mut Effects) {
        for (connection, range) in effects.replies.drain(..) {
            let id = connection.0;
            let bytes = &effects.reply_bytes[range];
            if self
                .table
                .append(id, |out| out.extend_from_slice(bytes))
                .is_none()
            {
                continue;
            }
            self.mark_dirty(id);
            if self.table.output_bytes > self.limits.output_bytes {
                self.write(id);
                self.shed_output();
            }
        }
        if effects.reply_bytes.capacity() > REPLY_BUFFER_BYTES_MAX {
            effects.reply_bytes = BytesMut::new();
        }
        effects.reply_bytes.clear();
    }

    /// Closes those that read least until what waits is within its bound again.
    fn shed_output(&mut self) {
        while self.table.output_bytes > self.limits.output_bytes
            && let Some(id) = self.table.heaviest_client(|open| open.output.len())
        {
            let waiting = self.table.output_bytes;
            log::warn!("slow reader closed waiting_bytes={waiting}");
            self.close(id, false, "too many bytes wait for it");
        }
    }

    /// Has a connection written at the end of the turn, once for all that it is sent.
    pub(super) fn mark_dirty(&mut self, id: u64) {
        if let Some(connection) = self.table.get(id)
            && !mem::replace(&mut connection.dirty, true)
        {
            self.dirty[connection.port as usize].push(id);
        }
    }

    /// Clients are written when all that the turn has for them is at hand: after a refusal nothing
    /// more can be sent.
    fn write_dirty(&mut self, port: Port) {
        let mut dirty = mem::take(&mut self.dirty[port as usize]);
        for id in dirty.drain(..) {
            self.write(id);
        }
        let more = &mut self.dirty[port as usize];
        debug_assert!(more.is_empty(), "writing makes nothing dirty");
        *more = dirty;
    }

    fn write(&mut self, id: u64) {
        if let Err(error) = self.table.send(id, self.now.monotonic) {
            self.close_failed(id, &error);
            return;
        }
        self.table.arm(id, &self.limits);
        self.finish_leaving(id);
        let Some(connection) = self
            .table
            .get(id)
            .filter(|open| open.phase == Phase::Client)
        else {
            return;
        };
        if let Some(clogged) = connection.judge_flow() {
            self.notices
                .push(Notice::ClientClogged(ConnectionId(id), clogged));
            // What it had to say meanwhile was left unread, and its frame's time runs again.
            self.enqueue(id);
        }
    }

    /// Stops and resumes reading as the node says (rules A7).
    pub(super) fn apply_pauses(&mut self) {
        if self.effects.readable.is_empty() {
            return;
        }
        let mut changes = mem::take(&mut self.effects.readable);
        for (connection, readable) in changes.drain(..) {
            if let Some(open) = self.table.get(connection.0) {
                debug_assert_eq!(open.port, Port::Client, "links are always read");
                open.pause(!readable);
                self.enqueue(connection.0);
            }
        }
        self.effects.readable = changes;
    }
}

/// Whether its disk work takes little more than a sync.
fn is_small(request: &StorageRequest) -> bool {
    match request {
        StorageRequest::Write(write) => {
            let bytes = |entry: &Entry| entry.bytes().len();
            write.entries.len() <= SMALL_WRITE_ENTRIES
                && write.entries.iter().map(bytes).sum::<usize>() <= SMALL_WRITE_BYTES
        }
        StorageRequest::Mark(_) | StorageRequest::Alone(_) => true,
        StorageRequest::Load { .. }
        | StorageRequest::Form(_)
        | StorageRequest::Mend(_)
        | StorageRequest::Compact { .. }
        | StorageRequest::Snapshot(_) => false,
    }
}
