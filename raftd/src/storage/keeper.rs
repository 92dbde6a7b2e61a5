//! The snapshots of a data directory: written, sent, received and removed, step by step; and the
//! segments that they make needless.

use std::collections::VecDeque;
use std::ops::Range;

use wire::types::{ClusterId, EntryId, Epoch, NodeId};

use super::press::Threaded;
use super::{Alarm, fatal_of_disk};
use crate::disk::Disk;
use crate::fatal::Fatal;
use crate::node::io::{Reader, SnapshotEvent, SnapshotFile, SnapshotRequest, StorageEvent};
use crate::snapshot::{self, Error, Expected, Piece, Receiver, Step, Writer};
use crate::store::View;
use crate::wal::identity::Identity;
use crate::wal::segment;

/// Each time that so much more of a snapshot is written or read again, that is told.
const PROGRESS_BYTES: u64 = 1024 * 1024;
/// Bytes of a file that a byte more of keys and values is expected to bring, at most: records of tiny
/// keys take about as much again.
const FILE_PER_DATA_MAX: u64 = 2;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There is nothing to do.
    Idle,
    /// Something that others wait for was done: the next step should follow at once.
    Served,
    /// So many bytes of a snapshot were written, or read again: whoever sets the pace may rest
    /// before the next step.
    Wrote(u64),
}

/// Looks after the snapshots of a node. Deterministic: whoever calls [`Keeper::step`] sets the
/// pace. A failure on this disk is no failure of the log: a snapshot that cannot be written is
/// thrown away (rules D3).
///
/// Invariants:
/// - one snapshot is written at a time, and one received;
/// - requests are answered in their order, but what is written waits for what others wait for.
pub struct Keeper<D: Disk> {
    disk: D,
    cluster: ClusterId,
    epoch: Epoch,
    members: Vec<(NodeId, String)>,
    sessions_max: usize,
    hurries: bool,
    requests: VecDeque<SnapshotRequest>,
    /// Segments to be removed.
    garbage: Range<u64>,
    writer: Option<Writer<D::File>>,
    /// Bytes of keys and values that it writes.
    writing_data_bytes: u64,
    /// What the newest snapshot holds: bytes of keys and values..
    newest_data_bytes: u64,
    /// ..and of its file; 0 without one.
    newest_bytes: u64,
    /// Bytes of keys and values that the next one is expected to hold.
    next_data_bytes: u64,
    receiver: Option<Receiver<D::File>>,
    /// Of what others ask for again and again: reads, and pieces that are to be stored.
    alarm: Alarm,
}

impl<D: Disk> Keeper<D> {
    /// For the snapshots of this data directory, which may hold so many sessions.
    pub fn new(disk: D, identity: &Identity, sessions_max: usize) -> Self {
        Self {
            disk,
            cluster: identity.cluster,
            epoch: identity.epoch,
            members: identity.members.clone(),
            sessions_max,
            hurries: false,
            requests: VecDeque::new(),
            garbage: 0..0,
            writer: None,
            writing_data_bytes: 0,
            newest_data_bytes: 0,
            newest_bytes: 0,
            next_data_bytes: 0,
            receiver: None,
            alarm: Alarm::default(),
        }
    }

    /// From now on snapshots are written on two threads, where there are processors for them: for
    /// whoever sets no pace. With a pace, clients would only wait for two.
    pub fn hurry(&mut self) {
        self.hurries = true;
    }

    /// The newest snapshot has so many bytes of keys and values, in a file of so many.
    pub fn set_newest(&mut self, data_bytes: u64, bytes: u64) {
        self.newest_data_bytes = data_bytes;
        self.newest_bytes = bytes;
    }

    /// The room that the next snapshot is expected to take: not less than the newest one.
    #[must_use]
    pub fn next_bytes(&self) -> u64 {
        let expected = self.file_bytes(self.next_data_bytes);
        self.newest_bytes
            .max(expected.unwrap_or(self.next_data_bytes))
    }

    /// About what the file of so many bytes of keys and values takes, if the newest one tells. A small
    /// one is mostly header and sessions, of which more keys do not make more.
    fn file_bytes(&self, data_bytes: u64) -> Option<u64> {
        let at_its_ratio = |data_bytes: u64| {
            let product = u128::from(data_bytes) * u128::from(self.newest_bytes);
            let bytes = product.checked_div(u128::from(self.newest_data_bytes))?;
            Some(u64::try_from(bytes).unwrap_or(u64::MAX))
        };
        let growth = data_bytes.saturating_sub(self.newest_data_bytes);
        let most = growth.saturating_mul(FILE_PER_DATA_MAX);
        let known = at_its_ratio(data_bytes - growth)?;
        Some(known.saturating_add(at_its_ratio(growth)?.min(most)))
    }

    /// Adds work for the steps to come.
    pub fn push(&mut self, request: SnapshotRequest) {
        match request {
            // No work, and the newest is all that is of interest.
            SnapshotRequest::Expect(data_bytes) => self.next_data_bytes = data_bytes,
            request => self.requests.push_back(request),
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// The log has forgotten these segments, the next ones after those before.
    pub fn remove_segments(&mut self, ids: Range<u64>) {
        if self.garbage.is_empty() {
            self.garbage = ids;
        } else if !ids.is_empty() {
            assert_eq!(self.garbage.end, ids.start, "the log's front has no gap");
            self.garbage.end = ids.end;
        }
    }

    /// Whether something is to be done.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.writer.is_some() || self.is_awaited()
    }

    /// Whether the next step does something that others wait for: more of a snapshot may rest.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.requests.is_empty() || !self.garbage.is_empty()
    }

    /// Does the next thing: what others wait for, then one segment is removed, then a part of a
    /// snapshot is written.
    ///
    /// # Errors
    /// How the process must end: the log's directory is in doubt (rules D3).
    pub fn step(&mut self, events: &mut VecDeque<StorageEvent>) -> Result<Kept, Fatal> {
        let mut report = |event| events.push_back(StorageEvent::Snapshot(event));
        if let Some(request) = self.requests.pop_front() {
            self.serve(request, &mut report);
            return Ok(Kept::Served);
        }
        if !self.garbage.is_empty() {
            segment::remove(&self.disk, &mut self.garbage).map_err(|e| fatal_of_disk(&e))?;
            return Ok(Kept::Served);
        }
        Ok(self.write(&mut report))
    }

    /// Removes what is half-written. What is half-received stays, to go on with.
    pub fn finish(self) {
        if let Some(writer) = self.writer {
            writer.discard(&self.disk);
        }
    }

    fn serve(&mut self, request: SnapshotRequest, report: &mut impl FnMut(SnapshotEvent)) {
        match request {
            SnapshotRequest::Take(view) => {
                let snapshot = view.applied();
                if let Err(reason) = self.begin(*view) {
                    report(SnapshotEvent::NotTaken { snapshot, reason });
                }
            }
            SnapshotRequest::Expect(_) => unreachable!("it was taken when it came"),
            SnapshotRequest::Read {
                reader,
                snapshot,
                offset,
                max_bytes,
            } => {
                let read = snapshot::read_at(&self.disk, snapshot, offset, max_bytes);
                let piece = read.unwrap_or_else(|error| {
                    match (reader, &error) {
                        // It was thrown away while the client read it.
                        (Reader::Client(..), Error::Disk(cause)) if cause.is_not_found() => {}
                        _ => {
                            let what = "a snapshot cannot be read";
                            self.alarm
                                .raise(format!("{what} id={snapshot} reason={error}"));
                        }
                    }
                    if matches!(error, Error::Damaged(_)) {
                        report(SnapshotEvent::Rotten(snapshot));
                    }
                    Piece::default()
                });
                report(SnapshotEvent::Read {
                    reader,
                    snapshot,
                    offset,
                    total_bytes: piece.total_bytes,
                    bytes: piece.bytes,
                });
            }
            SnapshotRequest::Receive {
                snapshot,
                total_bytes,
                offset,
                bytes,
            } => self.receive(snapshot, total_bytes, offset, &bytes, report),
            SnapshotRequest::Keep { marked, also } => {
                self.receiver
                    .take_if(|receiver| receiver.id().index <= marked.index);
                if let Err(error) = snapshot::remove_older(&self.disk, marked, &also) {
                    log::error!("old snapshots cannot be removed reason={error}");
                }
            }
            SnapshotRequest::Distrust { after } => {
                let suspect = self.writer.take_if(|writer| writer.id().index > after);
                if let Some(writer) = suspect {
                    let snapshot = writer.id();
                    if let Some(view) = writer.discard(&self.disk) {
                        report(SnapshotEvent::Released(Box::new(view)));
                    }
                    let reason = "the state is not what a quorum holds".to_owned();
                    report(SnapshotEvent::NotTaken { snapshot, reason });
                }
                self.receiver
                    .take_if(|receiver| receiver.id().index > after);
                if let Err(error) = snapshot::remove_newer(&self.disk, after) {
                    log::error!("snapshots cannot be removed reason={error}");
                }
                report(SnapshotEvent::Distrusted);
            }
            SnapshotRequest::Free(store) => drop(store),
        }
    }

    /// Begins to write a snapshot, if there is room for about as much as the newest one tells: for
    /// one that cannot succeed, the log would have to wait for room meanwhile.
    fn begin(&mut self, view: View) -> Result<(), String> {
        assert!(self.writer.is_none(), "one snapshot is written at a time");
        let data_bytes = view.data_bytes();
        let available = self.disk.available_bytes().unwrap_or(u64::MAX);
        if let Some(expected) = self.file_bytes(data_bytes)
            && available < expected
        {
            return Err(format!(
                "the disk is full: about {expected} bytes are needed, {available} are there"
            ));
        }
        let writer = Writer::begin(&self.disk, view, self.cluster, &self.members);
        let writer = writer.map_err(|error| error.to_string())?;
        self.writer = Some(match self.hurries {
            true => writer.press_with(Box::new(Threaded::default())),
            false => writer,
        });
        self.writing_data_bytes = data_bytes;
        Ok(())
    }

    /// A step of what is being written.
    fn write(&mut self, report: &mut impl FnMut(SnapshotEvent)) -> Kept {
        let Some(writer) = &mut self.writer else {
            return Kept::Idle;
        };
        let (snapshot, before) = (writer.id(), writer.progress_bytes());
        let stepped = writer.step(&self.disk);
        if let Some(view) = writer.take_view() {
            report(SnapshotEvent::Released(Box::new(view)));
        }
        match stepped {
            Ok(Step::Writing { .. } | Step::Verifying { .. }) => {
                let done = writer.progress_bytes();
                // Whoever hears of it is woken for it.
                if done / PROGRESS_BYTES > before / PROGRESS_BYTES {
                    report(SnapshotEvent::Progress(done));
                }
                Kept::Wrote(done - before)
            }
            Ok(Step::Published(info)) => {
                self.writer = None;
                self.set_newest(self.writing_data_bytes, info.bytes);
                report(SnapshotEvent::Taken(SnapshotFile {
                    id: info.id,
                    bytes: info.bytes,
                }));
                Kept::Served
            }
            Err(error) => {
                self.writer = None;
                report(SnapshotEvent::NotTaken {
                    snapshot,
                    reason: error.to_string(),
                });
                Kept::Served
            }
        }
    }

    /// A piece came from the leader, or the question how much is there. Of another snapshot than
    /// before: that one is not sent any more.
    fn receive(
        &mut self,
        snapshot: EntryId,
        total_bytes: u64,
        offset: u64,
        bytes: &[u8],
        report: &mut impl FnMut(SnapshotEvent),
    ) {
        let mut receiver = match self.receiver.take() {
            Some(receiver)
                if (receiver.id(), receiver.total_bytes()) == (snapshot, total_bytes) =>
            {
                receiver
            }
            _ => match Receiver::open(&self.disk, snapshot, total_bytes) {
                Ok(receiver) => receiver,
                Err(error) => {
                    self.alarm.raise(format!(
                        "a snapshot cannot be received id={snapshot} reason={error}"
                    ));
                    return report(SnapshotEvent::Received {
                        snapshot,
                        total_bytes,
                        received_bytes: 0,
                    });
                }
            },
        };
        if !bytes.is_empty()
            && let Err(error) = receiver.write(&self.disk, offset, bytes)
        {
            // What is there is in doubt: it is looked at again when the next piece comes.
            self.alarm.raise(format!(
                "a piece of a snapshot cannot be stored id={snapshot} reason={error}"
            ));
            return report(SnapshotEvent::Received {
                snapshot,
                total_bytes,
                received_bytes: 0,
            });
        }
        report(SnapshotEvent::Received {
            snapshot,
            total_bytes,
            received_bytes: receiver.received_bytes(),
        });
        if !receiver.is_complete() {
            self.receiver = Some(receiver);
            return;
        }
        let expected = Expected {
            cluster: self.cluster,
            epoch: self.epoch,
            id: snapshot,
        };
        match receiver.finish(&self.disk, &expected, self.sessions_max) {
            Ok(loaded) => {
                let file = SnapshotFile {
                    id: snapshot,
                    bytes: total_bytes,
                };
                self.set_newest(loaded.store.data_bytes(), total_bytes);
                report(SnapshotEvent::Whole(file, Box::new(loaded.store)));
            }
            // Nothing is left of it: the leader hears 0 when it asks again, and begins anew.
            Err(error) => {
                self.alarm.raise(format!(
                    "a received snapshot is damaged id={snapshot} reason={error}"
                ));
            }
        }
    }
}
