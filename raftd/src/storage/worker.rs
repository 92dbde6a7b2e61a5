//! What is done on the disk for a node, round by round.

use std::collections::VecDeque;
use std::ops::Range;

use raft::Ticket;
use wire::entry::{Entry, Identity as EntryIdentity};
use wire::limits::FETCH_ENTRIES_MAX;
use wire::peer::DiskState;
use wire::types::{EntryId, Incarnation, Index, NodeId};

use super::reader::{Read, Unreadable};
use super::{Alarm, fatal_of, fatal_of_identity};
use crate::disk::Disk;
use crate::fatal::Fatal;
use crate::node::io::{LoadPurpose, StorageEvent, StorageRequest};
use crate::wal::identity::Identity;
use crate::wal::segment::Spare;
use crate::wal::{self, Inspected, Pending, Progress, Wal};

/// Places that may be damaged and that wait to be looked at, at most.
const SUSPECTS_MAX: usize = 1024;

/// A read that was asked for.
struct Load {
    purpose: LoadPurpose,
    from: Index,
    to: Index,
    max_bytes: usize,
}

fn nothing_loaded(purpose: LoadPurpose, from: Index) -> StorageEvent {
    StorageEvent::Loaded {
        purpose,
        from,
        entries: Vec::new(),
    }
}

/// Owns the log and does what the node asks of it. Deterministic: no thread, no clock.
///
/// Invariants:
/// - Writes become durable in the order in which they came, and are reported in it. Only while
///   entries have no room, hard states overtake them, and are reported by themselves.
/// - `garbage` are segments that the log has forgotten, up to its first one, until they are taken.
/// - After an error nothing more is done or reported: the process must end (rules D3).
pub struct Worker<D: Disk> {
    wal: Wal<D>,
    identity: Identity,
    pending: Pending,
    loads: VecDeque<Load>,
    /// Reads for the [`super::LogReader`].
    reads: Vec<Read>,
    /// Reads that found damage.
    unreadable: VecDeque<Unreadable>,
    forms: VecDeque<Vec<(NodeId, Incarnation)>>,
    /// The marker that was last reported; `None` if it is to be said again.
    marked: Option<EntryId>,
    /// What may go of the log, and how many bytes before it are to be kept.
    compact: (Index, u64),
    garbage: Range<u64>,
    mends: VecDeque<Vec<Entry>>,
    /// Nobody else could have what is damaged here.
    alone: bool,
    /// Where the log may be damaged.
    suspects: VecDeque<Index>,
    /// The faulty entries that were last reported; `None` if they are to be said again.
    faulty: Option<Vec<EntryIdentity>>,
    /// The highest index up to which rot was reported.
    rot: Index,
    durable: Ticket,
    /// The last write whose hard state was reported by itself.
    hard_state: Ticket,
    room: DiskState,
    room_changed: bool,
    /// Of reads that find damage, which are asked for again..
    unread: Alarm,
    /// ..and of what that is.
    found: Alarm,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// A batch was written and synced.
    pub wrote: bool,
    /// Something was done: another round may bring more.
    pub worked: bool,
}

impl<D: Disk> Worker<D> {
    /// For the log of this data directory, of a cluster as it began: see [`StorageRequest::Alone`].
    pub fn new(wal: Wal<D>, identity: Identity) -> Self {
        let first = wal.first_segment();
        Self {
            marked: Some(wal.snapshot()),
            alone: matches!(&identity.members[..], [(id, _)] if *id == identity.node),
            compact: (Index::default(), 0),
            garbage: first..first,
            wal,
            identity,
            pending: Pending::default(),
            loads: VecDeque::new(),
            reads: Vec::new(),
            unreadable: VecDeque::new(),
            forms: VecDeque::new(),
            mends: VecDeque::new(),
            suspects: VecDeque::new(),
            faulty: Some(Vec::new()),
            rot: Index::default(),
            durable: Ticket::default(),
            hard_state: Ticket::default(),
            room: DiskState::Ok,
            room_changed: false,
            unread: Alarm::default(),
            found: Alarm::default(),
        }
    }

    /// The log.
    #[must_use]
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }

    /// The last segment that was sealed, once: it is written no more.
    pub fn take_sealed(&mut self) -> Option<D::File> {
        self.wal.take_sealed()
    }

    /// Adds work for the rounds to come.
    pub fn push(&mut self, request: StorageRequest) {
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
            StorageRequest::Mark(snapshot) => {
                self.wal.mark(snapshot);
                self.marked = None;
            }
            StorageRequest::Mend(entries) => self.mends.push_back(entries),
            StorageRequest::Compact { upto, keep_bytes } => self.compact = (upto, keep_bytes),
            StorageRequest::Alone(alone) => self.alone = alone,
            StorageRequest::Snapshot(_) => unreachable!("that is the keeper's"),
        }
    }

    /// Something may be damaged where this entry stands: a round finds out. What is too much at once
    /// is found again in the next round of the scrubber.
    pub fn suspect(&mut self, index: Index) {
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.push_back(index);
        }
    }

    /// A spare is ready.
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn add_spare(&mut self, spare: Spare<D::File>) {
        self.wal.add_spare(spare);
    }

    /// The room on the disk, which the next round reports if it is another than before.
    pub fn set_room(&mut self, room: DiskState) {
        self.room_changed |= room != self.room;
        self.room = room;
    }

    /// Reads whose place the log has told, once, oldest first: a [`super::LogReader`] does them.
    pub fn take_reads(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.reads)
    }

    /// A read found damage: a round finds out what is wrong, and answers it.
    pub fn unreadable(&mut self, unreadable: Unreadable) {
        self.unreadable.push_back(unreadable);
    }

    /// Whether something waits that a round can do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let idle = self.pending.is_empty()
            && self.loads.is_empty()
            && self.unreadable.is_empty()
            && self.forms.is_empty()
            && self.mends.is_empty()
            && self.suspects.is_empty()
            && self.told_faulty()
            && self.marked.is_some();
        !idle
    }

    /// Segments that the log has forgotten, once: their files are to be removed, oldest first, see
    /// [`crate::wal::segment::remove`].
    pub fn take_garbage(&mut self) -> Range<u64> {
        let rest = self.garbage.end..self.garbage.end;
        std::mem::replace(&mut self.garbage, rest)
    }

    /// One round: at most one sync of the log.
    ///
    /// # Errors
    /// How the process must end.
    pub fn round(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<Round, Fatal> {
        if std::mem::take(&mut self.room_changed) {
            events.push_back(self.durable());
        }
        let wrote = self.write(events)?;
        self.report_marker(events);
        let located = self.locate(events);
        self.compact(events);
        let mended =
            self.mend()? | self.inspect_suspect(events)? | self.answer_unreadable(events)?;
        let formed = !wrote && self.form(events)?;
        self.report_faulty(events);
        Ok(Round {
            wrote,
            worked: wrote || located || mended || formed,
        })
    }

    /// One batch, one sync. False if nothing could be written.
    fn write(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<bool, Fatal> {
        match self
            .wal
            .write(&mut self.pending)
            .map_err(|e| fatal_of(&e))?
        {
            Progress::Idle => Ok(false),
            Progress::NoRoom => {
                self.report_hard_state(events);
                Ok(false)
            }
            Progress::Durable(ticket) => {
                if let Some(ticket) = ticket {
                    self.durable = ticket;
                    events.push_back(self.durable());
                }
                Ok(true)
            }
        }
    }

    /// Entries wait for room: what only waits for term and vote need not wait with them.
    fn report_hard_state(&mut self, events: &mut VecDeque<StorageEvent>) {
        let newest = self.pending.newest_of(self.wal.hard_state());
        if let Some(ticket) = newest.filter(|ticket| *ticket > self.hard_state) {
            self.hard_state = ticket;
            events.push_back(StorageEvent::HardStateDurable(ticket));
        }
    }

    /// Every write up to the newest durable one, and the room on the disk.
    fn durable(&self) -> StorageEvent {
        StorageEvent::Durable {
            ticket: self.durable,
            wal_bytes: self.wal.bytes(),
            disk: self.room,
        }
    }

    /// Says where the entries stand that are to be read. False if none are.
    fn locate(&mut self, events: &mut VecDeque<StorageEvent>) -> bool {
        let some = !self.loads.is_empty();
        for load in self.loads.drain(..) {
            let Load {
                purpose,
                from,
                to,
                max_bytes,
            } = load;
            match self.wal.passage(from, to) {
                Some(passage) => self.reads.push(Read {
                    purpose,
                    passage,
                    max_bytes,
                }),
                None => events.push_back(nothing_loaded(purpose, from)),
            }
        }
        some
    }

    /// Finds out what is damaged where something was to be read.
    fn answer_unreadable(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<bool, Fatal> {
        let Some(Unreadable { read, damage }) = self.unreadable.pop_front() else {
            return Ok(false);
        };
        let from = read.passage.first();
        // Else the log has forgotten it meanwhile, and its file may be gone.
        if from > self.wal.base().index {
            // Other members may have what this one cannot read.
            self.unread
                .raise(format!("entries cannot be read reason={damage}"));
            if read.purpose == LoadPurpose::Apply && self.alone {
                return Err(fatal_of(&damage.into()));
            }
            self.inspect(from, events)?;
        }
        events.push_back(nothing_loaded(read.purpose, from));
        Ok(true)
    }

    /// Writes the formed record, once no write is ahead of it or none can be done.
    fn form(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<bool, Fatal> {
        let Some(formed) = self.forms.pop_front() else {
            return Ok(false);
        };
        self.identity.formed = formed;
        self.identity
            .update(self.wal.disk())
            .map_err(|error| fatal_of_identity(&error))?;
        events.push_back(StorageEvent::Formed);
        Ok(true)
    }

    /// Finds out what is damaged where this entry stands.
    fn inspect(&mut self, index: Index, events: &mut VecDeque<StorageEvent>) -> Result<(), Fatal> {
        let found = match self.wal.inspect(index) {
            // Whoever needs it asks again, and the scrubber comes by again.
            Err(wal::Error::Disk(error)) if error.is_out_of_files() => {
                let what = "the log cannot be looked at";
                self.found
                    .raise(format!("{what} index={index} reason={error}"));
                return Ok(());
            }
            found => found.map_err(|error| fatal_of(&error))?,
        };
        let upto = match found {
            Inspected::Sound => return Ok(()),
            // Nobody has it but this member's own state: a snapshot of that makes up for it.
            Inspected::Faulty if self.alone => {
                self.wal.faulty().last().map(|faulty| faulty.id.index)
            }
            Inspected::Faulty => None,
            Inspected::Rotten(upto) => Some(upto),
        };
        self.found
            .raise(format!("the log is damaged index={index} found={found:?}"));
        if let Some(upto) = upto.filter(|upto| *upto > self.rot.max(self.wal.base().index)) {
            self.rot = upto;
            events.push_back(StorageEvent::Rot { upto });
        }
        Ok(())
    }

    fn inspect_suspect(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<bool, Fatal> {
        let Some(index) = self.suspects.pop_front() else {
            return Ok(false);
        };
        let first = self.wal.base().index.next();
        self.inspect(index.max(first), events)?;
        Ok(true)
    }

    /// Puts entries back that were faulty.
    fn mend(&mut self) -> Result<bool, Fatal> {
        let Some(entries) = self.mends.pop_front() else {
            return Ok(false);
        };
        match self.wal.mend(&entries) {
            // What is faulty still is fetched again, in its time.
            Err(wal::Error::Disk(error)) if error.is_out_of_files() => {
                self.found
                    .raise(format!("the log cannot be mended reason={error}"));
                return Ok(true);
            }
            mended => mended.map_err(|error| fatal_of(&error))?,
        }
        self.faulty = None;
        self.unread.clear();
        self.found.clear();
        Ok(true)
    }

    /// Whether the first faulty entries are those that were last reported. One that is alone reports
    /// none: nobody could help.
    fn told_faulty(&self) -> bool {
        let faulty = self.wal.faulty().take(FETCH_ENTRIES_MAX);
        let told = self.faulty.as_ref();
        self.alone || told.is_some_and(|told| faulty.eq(told.iter().copied()))
    }

    fn report_faulty(&mut self, events: &mut VecDeque<StorageEvent>) {
        if !self.told_faulty() {
            let faulty: Vec<EntryIdentity> = self.wal.faulty().take(FETCH_ENTRIES_MAX).collect();
            events.push_back(StorageEvent::Faulty(faulty.clone()));
            self.faulty = Some(faulty);
        }
    }

    fn compacted(&self) -> StorageEvent {
        StorageEvent::Compacted {
            base: self.wal.base(),
            wal_bytes: self.wal.bytes(),
        }
    }

    fn report_marker(&mut self, events: &mut VecDeque<StorageEvent>) {
        let marker = self.wal.snapshot();
        if self.wal.is_marked() && self.marked != Some(marker) {
            self.marked = Some(marker);
            events.push_back(StorageEvent::Marked(marker));
        }
    }

    /// Has the log forget what is needed no more and a marker covers.
    fn compact(&mut self, events: &mut VecDeque<StorageEvent>) {
        let (upto, keep_bytes) = self.compact;
        let upto = upto.min(self.wal.snapshot().index);
        let forgotten = self.wal.compact(upto, keep_bytes);
        self.garbage.end = forgotten.end;
        if self.wal.take_forgotten() || !forgotten.is_empty() {
            events.push_back(self.compacted());
        }
    }
}
