//! What the storage thread does, round by round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raft::Ticket;
use wire::peer::DiskState;
use wire::types::{Incarnation, Index, NodeId};

use super::{LOAD_BYTES_MAX, Shared, fatal_of, fatal_of_identity};
use crate::clock::Clock;
use crate::disk::Latched;
use crate::disk::os::OsDisk;
use crate::fatal;
use crate::node::io::{LoadPurpose, StorageEvent, StorageRequest};
use crate::wal::identity::Identity;
use crate::wal::{Pending, Progress, Wal};

/// A batch written and synced in less time is one that a loop may wait for.
const FAST: Duration = Duration::from_millis(1);
/// So many fast ones in a row make the disk a fast one.
const FAST_BATCHES: u32 = 16;

/// A read that waits.
struct Load {
    purpose: LoadPurpose,
    from: Index,
    to: Index,
    max_bytes: usize,
}

/// The state of the storage thread, lent to whoever works.
///
/// Invariants:
/// - Writes become durable in the order in which they came, and are reported in it.
/// - A failed write or sync ends the process here (rules D3): nothing is reported after it.
pub(super) struct Worker {
    wal: Wal<Latched<OsDisk>>,
    identity: Identity,
    shared: Arc<Shared>,
    incoming: VecDeque<StorageRequest>,
    pending: Pending,
    loads: VecDeque<Load>,
    forms: VecDeque<Vec<(NodeId, Incarnation)>>,
    durable: Ticket,
    disk_state: DiskState,
    finish: bool,
    clock: Clock,
    /// How many batches in a row were written in less than [`FAST`].
    fast_batches: u32,
    /// There are events that the round's caller was not told of.
    reported: bool,
}

/// What a round brought.
pub(super) struct Round {
    /// There are new events: whoever waits for them must be told.
    pub(super) reported: bool,
    /// Something was done: another round may bring more.
    pub(super) worked: bool,
    /// The end was asked for, and nothing is left to do.
    pub(super) finished: bool,
}

impl Worker {
    pub(super) fn new(wal: Wal<Latched<OsDisk>>, identity: Identity, shared: &Arc<Shared>) -> Self {
        Self {
            wal,
            identity,
            shared: Arc::clone(shared),
            incoming: VecDeque::new(),
            pending: Pending::default(),
            loads: VecDeque::new(),
            forms: VecDeque::new(),
            durable: Ticket::default(),
            disk_state: DiskState::Ok,
            finish: false,
            clock: Clock::start(),
            fast_batches: 0,
            reported: false,
        }
    }

    /// Whether the disk was fast for a while.
    pub(super) fn is_fast(&self) -> bool {
        self.fast_batches >= FAST_BATCHES
    }

    /// One round: at most one sync and one load, so that neither starves the other.
    pub(super) fn round(&mut self) -> Round {
        self.take_inbox();
        let wrote = self.write();
        let read = self.load();
        let formed = self.form(wrote);
        let worked = wrote || read || formed;
        Round {
            reported: std::mem::take(&mut self.reported),
            worked,
            finished: self.finish && !worked,
        }
    }

    /// Whether something waits that a round took in and did not do.
    pub(super) fn has_work(&self) -> bool {
        !(self.pending.is_empty() && self.loads.is_empty() && self.forms.is_empty())
    }

    fn take_inbox(&mut self) {
        let mut inbox = self.shared.inbox();
        std::mem::swap(&mut inbox.requests, &mut self.incoming);
        for spare in inbox.spares.drain(..) {
            self.wal.add_spare(spare);
        }
        let disk_state = inbox.disk;
        self.finish = inbox.finish;
        drop(inbox);

        for request in self.incoming.drain(..) {
            match request {
                StorageRequest::Write(write) => self.pending.push(write),
                StorageRequest::Load {
                    purpose,
                    from,
                    to,
                    max_bytes,
                } => self.loads.push_back(Load {
                    purpose,
                    from,
                    to,
                    max_bytes,
                }),
                StorageRequest::Form(formed) => self.forms.push_back(formed),
            }
        }
        if disk_state != self.disk_state {
            self.disk_state = disk_state;
            self.report_durable();
        }
    }

    /// One batch, one sync. False if nothing could be written.
    fn write(&mut self) -> bool {
        let spares = self.wal.spares();
        let began = self.clock.monotonic();
        let progress = match self.wal.write(&mut self.pending) {
            Ok(progress) => progress,
            Err(error) => fatal::die(&fatal_of(&error)),
        };
        if self.wal.spares() < spares {
            let mut inbox = self.shared.inbox();
            // Some may have been handed over since this round began.
            inbox.spares_left = self.wal.spares() + inbox.spares.len();
            inbox.sealed.extend(self.wal.take_sealed());
            drop(inbox);
            self.shared.wake_spares_thread();
        }
        match progress {
            Progress::Idle | Progress::NoRoom => false,
            Progress::Durable(ticket) => {
                let fast = self.clock.monotonic().since(began) < FAST;
                self.fast_batches = if fast {
                    self.fast_batches.saturating_add(1)
                } else {
                    0
                };
                if let Some(ticket) = ticket {
                    self.durable = ticket;
                    self.report_durable();
                }
                true
            }
        }
    }

    /// Every write up to the newest durable one, and the room on the disk.
    fn report_durable(&mut self) {
        self.report(StorageEvent::Durable {
            ticket: self.durable,
            wal_bytes: self.wal.bytes(),
            disk: self.disk_state,
        });
    }

    fn report(&mut self, event: StorageEvent) {
        self.shared.events().push_back(event);
        self.reported = true;
    }

    fn load(&mut self) -> bool {
        let Some(load) = self.loads.pop_front() else {
            return false;
        };
        let max_bytes = load.max_bytes.min(LOAD_BYTES_MAX);
        let entries = match self.wal.load(load.from, load.to, max_bytes) {
            Ok(entries) => entries,
            Err(error) => match load.purpose {
                // Other members may have what this one cannot read.
                LoadPurpose::Replicate(_) => {
                    log::error!("entries cannot be read reason={error}");
                    Vec::new()
                }
                // The store cannot go on without it.
                LoadPurpose::Apply => fatal::die(&fatal_of(&error)),
            },
        };
        self.report(StorageEvent::Loaded {
            purpose: load.purpose,
            from: load.from,
            entries,
        });
        true
    }

    /// Writes the formed record, once no write is ahead of it or none can be done.
    fn form(&mut self, wrote: bool) -> bool {
        if wrote || self.forms.is_empty() {
            return false;
        }
        let formed = self.forms.pop_front().expect("just seen");
        self.identity.formed = formed;
        if let Err(error) = self.identity.update(self.wal.disk()) {
            fatal::die(&fatal_of_identity(&error));
        }
        self.report(StorageEvent::Formed);
        true
    }
}
