//! What was handed to the disk, and what of it is known to be there.

use alloc::collections::VecDeque;

use wire::types::{EntryId, Index};

use crate::event::Ticket;

/// A write that has not completed.
#[derive(Clone, Copy, Debug)]
struct Pending {
    ticket: Ticket,
    /// The log is durable up to here once this write is: lowered by later truncations.
    upto: Index,
}

/// Follows writes from submission to durability (rules A1).
///
/// The ABA hazard that it prevents:
/// 1. a follower writes entries 5..=7 of term 2, ticket 9;
/// 2. the leader of term 3 replaces 5 by its own entry, ticket 10;
/// 3. ticket 9 completes. Were it to say "durable up to 7", or even "5", the follower would
///    acknowledge an entry of term 3 that is not on its disk; after a crash a committed entry is
///    gone.
///
/// Truncating therefore lowers what every older ticket will report; (term, index) pairs and
/// comparisons at completion time are not needed. So does a reset, which discards the log for a
/// snapshot.
///
/// Invariants:
/// - `durable <= submitted`; pending `upto`s never fall along the queue, lie between the two;
/// - tickets of pending writes ascend, above `completed`, up to `issued`;
/// - `truncate_from`, if any, is `submitted + 1`: what replaces the suffix is not submitted yet;
/// - `hard_states` is between `completed` and `issued`: a term and vote may be durable before the
///   entries that were submitted with them or before, never the other way round;
/// - `reset`, if any, ends at `submitted`, and is above all that older writes will report; then
///   `truncate_from` is none.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    issued: Ticket,
    completed: Ticket,
    /// Up to this write, terms and votes are durable.
    hard_states: Ticket,
    pending: VecDeque<Pending>,
    submitted: Index,
    durable: Index,
    truncate_from: Option<Index>,
    /// The snapshot that the next write replaces the log by.
    reset: Option<EntryId>,
    /// The write that makes the current term and vote durable; `issued + 1` if it is to come.
    hard_state: Ticket,
}

/// What the next write must say of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submission {
    pub(crate) ticket: Ticket,
    pub(crate) reset: Option<EntryId>,
    pub(crate) truncate_from: Option<Index>,
    /// First index of the new entries.
    pub(crate) first: Index,
}

impl Journal {
    /// Everything up to `last` is on disk.
    pub(crate) fn new(last: Index) -> Self {
        Self {
            issued: Ticket(0),
            completed: Ticket(0),
            hard_states: Ticket(0),
            pending: VecDeque::new(),
            submitted: last,
            durable: last,
            truncate_from: None,
            reset: None,
            hard_state: Ticket(0),
        }
    }

    /// The last durable index.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The ticket of the write that makes the current term and vote durable.
    pub(crate) fn hard_state_ticket(&self) -> Ticket {
        self.hard_state
    }

    /// What a message that reveals the term or the vote has to wait for.
    pub(crate) fn hard_state_wait(&self) -> Option<Ticket> {
        (self.hard_state > self.hard_states).then_some(self.hard_state)
    }

    /// Term or vote changed: the next write carries them.
    pub(crate) fn hard_state_changed(&mut self) {
        self.hard_state = Ticket(self.issued.0 + 1);
    }

    /// The entries from `from` on are gone from the log.
    pub(crate) fn truncate(&mut self, from: Index) {
        let kept = from.prev();
        if from <= self.submitted {
            self.truncate_from = Some(from);
            self.submitted = kept;
        }
        self.keep(kept);
        self.check();
    }

    /// The log is discarded for a snapshot, and goes on behind it. Up to `agreed`, which is below
    /// it, what is on disk says the same as the snapshot, until that replaces it.
    pub(crate) fn reset(&mut self, snapshot: EntryId, agreed: Index) {
        self.keep(agreed);
        self.truncate_from = None;
        self.reset = Some(snapshot);
        self.submitted = snapshot.index;
        self.check();
    }

    /// What is submitted so far is good for nothing after `kept`.
    fn keep(&mut self, kept: Index) {
        self.durable = self.durable.min(kept);
        for write in self.pending.iter_mut().rev() {
            if write.upto <= kept {
                break;
            }
            write.upto = kept;
        }
    }

    /// Issues the next ticket if there is something to write, for a log that ends at `last`.
    pub(crate) fn submit(&mut self, last: Index) -> Option<Submission> {
        assert!(
            self.submitted <= last,
            "the log lost {} .. {last}",
            self.submitted
        );
        let is_news = self.reset.is_some() || self.hard_state > self.issued;
        if self.submitted == last && !is_news {
            assert!(
                self.truncate_from.is_none(),
                "a truncation brings its replacement"
            );
            return None;
        }
        self.issued = Ticket(self.issued.0 + 1);
        self.pending.push_back(Pending {
            ticket: self.issued,
            upto: last,
        });
        let submission = Submission {
            ticket: self.issued,
            reset: self.reset.take(),
            truncate_from: self.truncate_from.take(),
            first: self.submitted.next(),
        };
        self.submitted = last;
        self.check();
        Some(submission)
    }

    /// Every write up to `ticket` is on disk.
    pub(crate) fn complete(&mut self, ticket: Ticket) {
        assert!(ticket <= self.issued, "{ticket:?} was never issued");
        while self
            .pending
            .front()
            .is_some_and(|write| write.ticket <= ticket)
        {
            let write = self.pending.pop_front().expect("the front was seen");
            self.durable = self.durable.max(write.upto);
        }
        self.completed = self.completed.max(ticket);
        self.hard_states = self.hard_states.max(ticket);
        self.check();
    }

    /// Every write's term and vote up to `ticket` are on disk; of entries that says nothing.
    pub(crate) fn complete_hard_state(&mut self, ticket: Ticket) {
        assert!(ticket <= self.issued, "{ticket:?} was never issued");
        self.hard_states = self.hard_states.max(ticket);
        self.check();
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self) {
        assert!(
            self.durable <= self.submitted,
            "durable {} was not submitted, {} was",
            self.durable,
            self.submitted
        );
        assert!(
            self.completed <= self.hard_states && self.hard_states <= self.issued,
            "a completion before its write"
        );
        if let Some(from) = self.truncate_from {
            assert!(from == self.submitted.next(), "a gap after a truncation");
            assert!(self.reset.is_none(), "a discarded log is truncated");
        }
        let reported = self
            .pending
            .back()
            .map_or(self.durable, |newest| newest.upto);
        assert!(reported <= self.submitted, "a write covers too much");
        if let Some(newest) = self.pending.back() {
            assert!(newest.ticket == self.issued, "a write was lost");
        }
        if let Some(snapshot) = self.reset {
            assert!(snapshot.index == self.submitted, "a gap after a snapshot");
            assert!(
                reported < snapshot.index,
                "an older write reports {snapshot}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::types::Term;

    fn submit(journal: &mut Journal, last: u64) -> Submission {
        journal.submit(Index(last)).expect("there is work")
    }

    /// The story in the type's documentation.
    #[test]
    fn completion_of_an_overwritten_entry_marks_nothing_durable() {
        let mut journal = Journal::new(Index(4));
        let old = submit(&mut journal, 7);
        journal.truncate(Index(5));
        let new = submit(&mut journal, 5);
        assert_eq!(new.truncate_from, Some(Index(5)));
        assert_eq!(new.first, Index(5));
        journal.complete(old.ticket);
        assert_eq!(journal.durable(), Index(4));
        journal.complete(new.ticket);
        assert_eq!(journal.durable(), Index(5));
    }

    #[test]
    fn entries_that_were_never_submitted_need_no_truncation_on_disk() {
        let mut journal = Journal::new(Index(4));
        journal.truncate(Index(6));
        let write = submit(&mut journal, 6);
        assert_eq!((write.truncate_from, write.first), (None, Index(5)));
    }

    #[test]
    fn two_truncations_before_a_write_become_the_lower_one() {
        let mut journal = Journal::new(Index(9));
        journal.truncate(Index(8));
        journal.truncate(Index(5));
        journal.truncate(Index(7));
        let write = submit(&mut journal, 6);
        assert_eq!(
            (write.truncate_from, write.first),
            (Some(Index(5)), Index(5))
        );
        assert_eq!(journal.durable(), Index(4));
    }

    /// Rules A1: what the old log's writes report is capped, and the snapshot's own write is not.
    #[test]
    fn completion_of_a_discarded_log_marks_no_snapshot_durable() {
        let mut journal = Journal::new(Index(4));
        let old = submit(&mut journal, 12);
        journal.truncate(Index(9));
        let snapshot = EntryId {
            term: Term(3),
            index: Index(10),
        };
        journal.reset(snapshot, Index(6));
        let new = submit(&mut journal, 10);
        assert_eq!((new.reset, new.truncate_from), (Some(snapshot), None));
        assert_eq!(new.first, Index(11));
        journal.complete(old.ticket);
        assert_eq!(journal.durable(), Index(6));
        journal.complete(new.ticket);
        assert_eq!(journal.durable(), Index(10));
    }

    #[test]
    fn two_snapshots_before_a_write_become_the_newer_one() {
        let mut journal = Journal::new(Index(4));
        for index in [7, 20] {
            let snapshot = EntryId {
                term: Term(1),
                index: Index(index),
            };
            journal.reset(snapshot, Index(4));
        }
        let write = submit(&mut journal, 21);
        let index = write.reset.map(|snapshot| snapshot.index);
        assert_eq!((index, write.first), (Some(Index(20)), Index(21)));
        assert!(journal.submit(Index(21)).is_none());
    }

    #[test]
    fn completions_may_come_in_one_and_stale_ones_are_ignored() {
        let mut journal = Journal::new(Index(0));
        submit(&mut journal, 1);
        let second = submit(&mut journal, 2);
        journal.complete(second.ticket);
        journal.complete(Ticket(1));
        assert_eq!(journal.durable(), Index(2));
    }

    /// Rules E5: on a full disk a vote is durable before entries that were submitted before it.
    #[test]
    fn a_hard_state_that_overtook_entries_marks_none_durable() {
        let mut journal = Journal::new(Index(4));
        let entries = submit(&mut journal, 7);
        journal.hard_state_changed();
        let vote = submit(&mut journal, 7);
        journal.complete_hard_state(vote.ticket);
        assert_eq!(journal.hard_state_wait(), None);
        assert_eq!(journal.durable(), Index(4));
        journal.complete(entries.ticket);
        assert_eq!(journal.durable(), Index(7));
        journal.hard_state_changed();
        assert_eq!(journal.hard_state_wait(), Some(Ticket(3)));
    }

    #[test]
    fn hard_state_waits_for_its_own_write_only() {
        let mut journal = Journal::new(Index(0));
        assert_eq!(journal.hard_state_wait(), None);
        journal.hard_state_changed();
        assert_eq!(journal.hard_state_wait(), Some(Ticket(1)));
        submit(&mut journal, 0);
        submit(&mut journal, 1);
        assert_eq!(journal.hard_state_wait(), Some(Ticket(1)));
        journal.complete(Ticket(1));
        assert_eq!(journal.hard_state_wait(), None);
        assert_eq!(journal.durable(), Index(0));
    }
}
