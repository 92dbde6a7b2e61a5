//! What the node knows of the disks: unfinished writes and how long they take (rules B4), room
//! (rules E5).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use raft::{Instant, Ticket};
use wire::membership::Membership;
use wire::peer::{DiskReport, DiskState, Message};
use wire::types::NodeId;

/// A disk whose oldest write is unfinished for longer is stalled.
pub(super) const STALL: Duration = Duration::from_millis(500);
/// Unfinished writes at which no more client writes are admitted. Their bytes are bounded apart,
/// by `Limits::uncommitted_bytes_max`.
pub(super) const WRITES_MAX: usize = 4_096;

/// This node's disk and what the other members told of theirs.
///
/// Invariants: `unfinished` holds exactly the writes that were handed to storage and not yet
/// reported durable, by ascending ticket, each with the time when it was handed over.
#[derive(Debug, Default)]
pub(super) struct Disks {
    unfinished: VecDeque<(Ticket, Instant)>,
    own: DiskState,
    pub(super) wal_bytes: u64,
    others: BTreeMap<NodeId, DiskState>,
}

impl Disks {
    pub(super) fn new(wal_bytes: u64) -> Self {
        Self {
            wal_bytes,
            ..Self::default()
        }
    }

    /// A write is handed to storage.
    pub(super) fn started(&mut self, ticket: Ticket, now: Instant) {
        if let Some((last, _)) = self.unfinished.back() {
            assert!(*last < ticket, "tickets ascend");
        }
        self.unfinished.push_back((ticket, now));
    }

    /// Every write up to `ticket` is durable.
    pub(super) fn finished(&mut self, ticket: Ticket) {
        while self
            .unfinished
            .front()
            .is_some_and(|(first, _)| *first <= ticket)
        {
            self.unfinished.pop_front();
        }
    }

    /// The storage thread told how much room there is.
    pub(super) fn room(&mut self, state: DiskState, wal_bytes: u64) {
        self.own = state;
        self.wal_bytes = wal_bytes;
    }

    /// This node's room.
    pub(super) fn state(&self) -> DiskState {
        self.own
    }

    /// A peer's answer tells of its disk. One that is removed may still tell.
    pub(super) fn heard(&mut self, peer: NodeId, members: &Membership, message: &Message) {
        let report = match message {
            Message::AppendOk(answer) => answer.disk,
            Message::AppendConflict(answer) => answer.disk,
            Message::SnapshotOk(answer) => answer.disk,
            _ => return,
        };
        if members.get(peer).is_some() {
            self.others.insert(peer, report.state);
        }
    }

    /// Another membership is in force.
    pub(super) fn forget_removed(&mut self, members: &Membership) {
        self.others.retain(|id, _| members.get(*id).is_some());
    }

    /// A new leader learns the others' room from their answers.
    pub(super) fn forget_others(&mut self) {
        self.others.clear();
    }

    /// What this node tells of its disk, and whether it is stalled.
    pub(super) fn report(&self, now: Instant) -> (DiskReport, bool) {
        let age = match self.unfinished.front() {
            Some((_, started)) => now.since(*started),
            None => Duration::ZERO,
        };
        let report = DiskReport {
            state: self.own,
            oldest_write_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
        };
        (report, self.stalled_since(now).is_some())
    }

    /// The oldest unfinished write, unless writes wait for room and not for the disk: such a one is
    /// not slow, and takes votes (rules B4, E5).
    fn awaited_since(&self) -> Option<Instant> {
        let (_, started) = self.unfinished.front()?;
        (self.own != DiskState::Hard).then_some(*started)
    }

    /// If the disk is stalled: since when.
    pub(super) fn stalled_since(&self, now: Instant) -> Option<Instant> {
        self.awaited_since()
            .filter(|started| now.since(*started) > STALL)
    }

    /// When the disk counts as stalled if nothing is finished until then.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        let started = self.awaited_since()?;
        Some(started + STALL + Duration::from_nanos(1))
    }

    /// Writes that are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Whether storage has all that it should be given.
    pub(super) fn is_busy(&self) -> bool {
        self.unfinished.len() >= WRITES_MAX
    }

    /// The room that a quorum of the voters' disks has: what one more write may count on (rules E5).
    /// One that has not told counts as one with room.
    pub(super) fn room_of(&self, own: NodeId, members: &Membership) -> DiskState {
        // Each write asks, and mostly nobody is short of room.
        if !self.any_low() {
            return DiskState::Ok;
        }
        let state = |id: NodeId| match self.others.get(&id) {
            _ if id == own => self.own,
            told => told.copied().unwrap_or_default(),
        };
        let are_left = |limit: DiskState| members.has_quorum(|id| state(id) < limit);
        if !are_left(DiskState::Hard) {
            DiskState::Hard
        } else if !are_left(DiskState::Soft) {
            DiskState::Soft
        } else {
            DiskState::Ok
        }
    }

    /// Whether any disk is low, as far as it is known.
    pub(super) fn any_low(&self) -> bool {
        let mut states = self.others.values().chain([&self.own]);
        states.any(|state| *state >= DiskState::Soft)
    }
}

#[cfg(test)]
mod tests {
    use wire::peer::{AppendConflict, AppendOk, Health, SnapshotOk};
    use wire::types::{EntryId, Index, Term};

    use super::*;

    fn voters(ids: [u64; 3]) -> Membership {
        Membership::initial(&ids.map(|id| (NodeId(id), String::new())), &[])
    }

    #[test]
    fn the_disk_of_who_is_no_member_is_of_no_interest() {
        let full = Message::AppendOk(AppendOk {
            term: Term(1),
            round: 1,
            match_index: Index(1),
            received: Index(1),
            disk: DiskReport {
                state: DiskState::Hard,
                oldest_write_ms: 0,
            },
            health: Health::default(),
            digest: None,
        });
        let mut disks = Disks::new(0);
        disks.heard(NodeId(3), &voters([1, 2, 3]), &full);
        assert!(disks.any_low());
        disks.forget_removed(&voters([1, 2, 3]));
        assert!(disks.any_low());
        disks.forget_removed(&voters([1, 2, 4]));
        assert!(!disks.any_low());
        disks.heard(NodeId(3), &voters([1, 2, 4]), &full);
        assert!(!disks.any_low());
    }

    /// A follower that has not come to acknowledge anything may have no room either.
    #[test]
    fn each_answer_tells_of_the_disk() {
        let (term, round, health) = (Term(1), 1, Health::default());
        let disk = DiskReport {
            state: DiskState::Soft,
            oldest_write_ms: 0,
        };
        let conflict = AppendConflict {
            term,
            round,
            prev: EntryId::default(),
            conflict: None,
            last: EntryId::default(),
            disk,
            health,
        };
        let piece = SnapshotOk {
            term,
            round,
            snapshot: EntryId::default(),
            received_bytes: 0,
            disk,
            health,
        };
        for answer in [
            Message::AppendConflict(conflict),
            Message::SnapshotOk(piece),
        ] {
            let mut disks = Disks::new(0);
            disks.heard(NodeId(2), &voters([1, 2, 3]), &answer);
            assert!(disks.any_low(), "{answer:?}");
        }
    }

    #[test]
    fn so_many_writes_are_given_to_storage_and_no_more() {
        let mut disks = Disks::new(0);
        for ticket in 1..=WRITES_MAX as u64 {
            assert!(!disks.is_busy());
            disks.started(Ticket(ticket), Instant::default());
        }
        assert!(disks.is_busy());
        disks.finished(Ticket(1));
        assert!(!disks.is_busy());
    }

    /// Else a leader that hands over for want of room would say that its disk is slow, and look for who
    /// acknowledged something since.
    #[test]
    fn a_disk_that_waits_for_room_is_not_stalled() {
        let now = Instant::default() + STALL + Duration::from_nanos(1);
        let mut disks = Disks::new(0);
        disks.started(Ticket(1), Instant::default());
        assert!(disks.report(now).1);
        assert_eq!(disks.stalled_since(now), Some(Instant::default()));
        disks.room(DiskState::Hard, 0);
        assert!(!disks.report(now).1);
        assert_eq!(disks.stalled_since(now), None);
        assert_eq!(disks.stalls_at(), None, "it need not wake up for that");
    }

    /// From 1, 2, 3 to 1, 4, 5: either set must have room, whoever has it in the other.
    #[test]
    fn in_joint_consensus_either_set_of_voters_needs_room() {
        let members = voters([1, 2, 3]).toward(&voters([1, 4, 5]));
        for (full, expected) in [
            (&[][..], DiskState::Ok),
            (&[2, 4], DiskState::Ok),
            (&[2, 3], DiskState::Hard),
            (&[4, 5], DiskState::Hard),
        ] {
            let mut disks = Disks::new(0);
            let full = full.iter().map(|id| (NodeId(*id), DiskState::Hard));
            disks.others.extend(full);
            assert_eq!(disks.room_of(NodeId(1), &members), expected);
        }
    }
}
