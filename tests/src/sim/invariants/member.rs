//! One member: what it may tell, and which of its numbers never fall.

use std::collections::BTreeMap;

use byteorder::{BigEndian, ByteOrder};
use raft::{HardState, Raft, RoleName};
use raftd::node::io::Effects;
use raftd::node::{Limits, Node};
use wire::frame::{HEADER_BYTES, Kind};
use wire::membership::Membership;
use wire::peer::Message;
use wire::types::{EntryId, Index, NodeId, Term};

use super::logs::Committed;
use super::snapshots::Files;
use crate::sim::audit::{Audit, Held};

/// Messages that wait for the disk, reads, and unfinished writes, at most.
const OUTBOX_MAX: usize = 4_096;
const READS_MAX: usize = 65_536;
/// Bytes of two reads of the log, which are on their way at most, each one entry over.
const LOADED_BYTES_MAX: usize = 2 * 4 * 1024 * 1024;
/// Pieces of snapshots that wait for the disk.
const PIECES_MAX: usize = 4;
/// A follower takes so many windows that its disk has not got.
const BACKLOG_WINDOWS: usize = 4;

/// What was seen of a member.
///
/// Invariants looked after:
/// - term, commit and applied index never fall in a life, the durable hard state never;
/// - applied <= commit <= last, durable <= last, and what the member believes durable is so;
/// - nothing that reveals a term, a vote or an entry is told before it is durable (rules A2, A3);
/// - what waits in memory is bounded.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) id: NodeId,
    pub(super) audit: Audit,
    /// What its durable log begins behind: the entries that are part of the snapshot there.
    pub(super) below: Vec<Held>,
    /// How many syncs its disk had when it was last looked at, and changes of names.
    pub(super) changes: Option<(u64, u64)>,
    /// What was seen of the snapshots and segments on its disk.
    pub(super) files: Files,
    /// The logs of disks that it had before.
    lost: Vec<Vec<Held>>,
    /// What was cut from the durable log, with the first index of each piece.
    pub(super) gone: Vec<(Index, Vec<Held>)>,
    /// Something on its disk was damaged once: not all that was ever on it is there.
    pub(super) damaged: bool,
    /// Something of it was damaged, and is not known to be whole again.
    pub(super) harmed: bool,
    /// Its state is not that of its log, by no fault of its own.
    pub(super) spoiled: bool,
    /// Up to here it was right when it was spoiled.
    pub(super) right_upto: Index,
    /// What it writes in this life cannot be seen any more: the file lost its name or its header
    /// page, and the next start will find that out.
    pub(super) blind: bool,
    /// Its log, as far as it was handed to the disk.
    pub(super) memory: Vec<Held>,
    /// Hard states that it handed over in all lives, oldest first.
    pub(super) handed_over: Vec<HardState>,
    /// The term that it leads.
    pub(super) leads: Option<Term>,
    /// What it counts for its followers.
    pub(super) matches: BTreeMap<NodeId, Index>,
    /// The newest term in which it acknowledged entries, up to where.
    acknowledged: (Term, Index),
    /// The highest index that it ever acknowledged.
    pub(super) acknowledged_upto: Index,
    /// What its lost log must hold again before it counts: committed entries up to here.
    pub(super) owes: Index,
    /// As of the turn before.
    condition: Condition,
    /// The membership that was in force then.
    pub(super) membership: Option<Membership>,
    term: Term,
    pub(super) commit: Index,
    pub(super) applied: Index,
}

impl Watched {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            audit: Audit::default(),
            below: Vec::new(),
            changes: None,
            files: Files::default(),
            lost: Vec::new(),
            gone: Vec::new(),
            damaged: false,
            harmed: false,
            spoiled: false,
            right_upto: Index(0),
            blind: false,
            memory: Vec::new(),
            handed_over: Vec::new(),
            leads: None,
            matches: BTreeMap::new(),
            acknowledged: (Term(0), Index(0)),
            acknowledged_upto: Index(0),
            owes: Index(0),
            condition: Condition::default(),
            membership: None,
            term: Term(0),
            commit: Index(0),
            applied: Index(0),
        }
    }

    pub(super) fn new_disk(&mut self) {
        self.lost.push(self.durable_log());
        self.audit = Audit::default();
        self.below = Vec::new();
        self.changes = None;
        self.files = Files::default();
        self.damaged = false;
        self.harmed = false;
        self.blind = false;
    }

    /// Whether its disk is not the one that it began with.
    pub(super) fn has_another_disk(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Something of it is damaged, or is not what it should be.
    pub(super) fn harm(&mut self) {
        self.damaged = true;
        self.harmed = true;
    }

    /// All that was damaged is whole again: from now on it is held to everything.
    pub(super) fn heal(&mut self) {
        self.harmed = false;
        self.blind = false;
        self.files = Files::default();
    }

    /// A life begins with what is durable, all of it.
    pub(super) fn start(&mut self, node: &Node) -> Result<(), String> {
        let raft = node.raft();
        let (found, durable) = (raft.hard_state(), self.audit.hard_state());
        let (last, durable_last) = (raft.last(), self.audit.last());
        if found != durable || last != durable_last {
            let id = self.id;
            return Err(format!(
                "{id} starts with {found:?} and a log up to {last}; \
                 durable are {durable:?} and {durable_last}"
            ));
        }
        self.begins_behind_its_snapshot(node)?;
        self.memory = self.durable_log();
        self.blind = false;
        self.leads = None;
        self.condition = Condition::of(raft);
        self.term = found.term;
        // What is known of the first ones is looked at like what is learnt later.
        self.commit = Index(0);
        self.applied = Index(0);
        Ok(())
    }

    /// The state is the snapshot's, and the log has all that is behind it.
    fn begins_behind_its_snapshot(&self, node: &Node) -> Result<(), String> {
        let (base, applied) = (node.raft().base(), node.store().applied());
        let marker = self.audit.snapshot();
        let own = self.on_disk(base.index).map(|held| held.term);
        // A damaged snapshot is not needed by a whole log, and else it is waited for.
        let without = self.harmed
            && applied == EntryId::default()
            && node.raft().is_rebuilding() == (base != EntryId::default());
        let fits = base.index >= self.audit.base().index
            && base.index <= marker.index
            && own.unwrap_or_default() == base.term
            && (applied == marker || without);
        if !fits {
            let id = self.id;
            return Err(format!(
                "{id} starts behind {base} with the state of {applied}; {marker} is marked"
            ));
        }
        Ok(())
    }

    /// The entries that its disk holds, or a snapshot there in their place.
    fn durable_log(&self) -> Vec<Held> {
        [self.below.as_slice(), self.audit.log()].concat()
    }

    /// A hard state goes to the disk.
    pub(super) fn hands_over(&mut self, state: HardState) {
        if self.handed_over.last() != Some(&state) {
            self.handed_over.push(state);
        }
    }

    /// The term that it last handed over.
    pub(super) fn term_handed_over(&self) -> Term {
        self.handed_over.last().map_or(Term(0), |state| state.term)
    }

    /// A snapshot takes the place of the log; what was behind it comes back.
    pub(super) fn reset(
        &mut self,
        snapshot: EntryId,
        below: Vec<Held>,
    ) -> Result<Vec<Held>, String> {
        let own = self.in_memory(snapshot.index).map(|held| held.term);
        if snapshot.index <= self.commit || own == Some(snapshot.term) {
            return Err(format!(
                "{} discards its log for {snapshot}, where it has {own:?}; it has committed {}",
                self.id, self.commit
            ));
        }
        let kept = self.memory.len().min(below.len());
        let cut = self.memory.split_off(kept);
        self.memory = below;
        Ok(cut)
    }

    /// Whether a leader of this term may count it for an entry: its disk holds that now, or it said
    /// so before the disk was damaged.
    pub(super) fn counts_for(&self, term: Term, index: Index, entry: Option<Held>) -> bool {
        let sound = !self.audit.hard_state().lost
            && self.condition.faulty.is_none_or(|first| index < first)
            && self.holds(index, entry);
        let (said_in, upto) = self.acknowledged;
        sound || (self.harmed && said_in == term && index <= upto)
    }

    /// The log is cut before `from`; what is gone comes back.
    pub(super) fn cut(&mut self, from: Index) -> Result<Vec<Held>, String> {
        let kept = from.prev().0 as usize;
        if from <= self.commit || kept > self.memory.len() {
            return Err(format!(
                "{} cuts its log from {from} on; it has committed {}",
                self.id, self.commit
            ));
        }
        Ok(self.memory.split_off(kept))
    }

    /// What is in its log at `index`, as far as that was handed to the disk.
    pub(super) fn in_memory(&self, index: Index) -> Option<Held> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.memory.get(place).copied()
    }

    /// What is on its disk at `index`, or part of the snapshot that its log begins behind.
    pub(super) fn on_disk(&self, index: Index) -> Option<Held> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        let below = self.below.get(place).copied();
        below.or_else(|| self.audit.at(index))
    }

    /// Whether its disk holds this entry, or one that it had before did.
    pub(super) fn holds(&self, index: Index, entry: Option<Held>) -> bool {
        let place = index.0 as usize - 1;
        let before = |log: &Vec<Held>| log.get(place).copied() == entry;
        let unseen = self.blind && self.in_memory(index) == entry;
        entry.is_some() && (self.on_disk(index) == entry || unseen || self.lost.iter().any(before))
    }

    /// Whether its disk holds or has held this entry.
    pub(super) fn held_ever(&self, index: Index, entry: Option<Held>) -> bool {
        let was_cut = |(first, cut): &(Index, Vec<Held>)| {
            let place = index.0.checked_sub(first.0);
            place.is_some_and(|place| cut.get(place as usize).copied() == entry)
        };
        self.holds(index, entry) || (entry.is_some() && self.gone.iter().any(was_cut))
    }

    /// Looks at the numbers after a turn.
    pub(super) fn progress(&mut self, node: &Node, limits: &Limits) -> Result<(), String> {
        let raft = node.raft();
        let (term, commit, last) = (raft.term(), raft.commit(), raft.last());
        let (applied, durable) = (node.store().applied().index, raft.durable());
        if raft.is_rebuilding() {
            self.applied = applied;
        }
        let falls = term < self.term || commit < self.commit || applied < self.applied;
        let ordered = applied <= commit && commit <= last.index && durable <= last.index;
        let id = self.id;
        if falls || !ordered {
            return Err(format!(
                "{id} has applied={applied} commit={commit} durable={durable} last={last} \
                 term={term} after applied={} commit={} term={}",
                self.applied, self.commit, self.term
            ));
        }
        if last.index.0 != self.memory.len() as u64 {
            let handed_over = self.memory.len();
            return Err(format!(
                "{id} ends a turn with a log up to {last}, of which it handed over {handed_over}"
            ));
        }
        self.blind |= self.harmed && self.audit.last().index < durable;
        if durable.0 > 0 && !self.blind && self.on_disk(durable) != self.in_memory(durable) {
            let (disk, own) = (self.on_disk(durable), self.in_memory(durable));
            return Err(format!(
                "{id} believes {own:?} at {durable} durable: its disk has {disk:?}"
            ));
        }
        self.term = term;
        self.is_bounded(node, limits)
    }

    fn is_bounded(&self, node: &Node, limits: &Limits) -> Result<(), String> {
        let waiting = node.waiting();
        let entry_bytes = limits.entry_bytes_max;
        let unsettled_max = limits.uncommitted_bytes_max
            + (BACKLOG_WINDOWS + 1) * limits.window_bytes.max(entry_bytes)
            + 2 * entry_bytes;
        let bounds = [
            ("parked requests", node.parked(), limits.parked_max),
            ("held messages", waiting.outbox, OUTBOX_MAX),
            ("reads", waiting.reads, READS_MAX),
            ("pieces of snapshots", waiting.pieces, PIECES_MAX),
            (
                "loaded bytes",
                waiting.loaded_bytes,
                LOADED_BYTES_MAX + 2 * entry_bytes,
            ),
            (
                "cached bytes",
                node.raft().settled_bytes(),
                limits.cache_bytes + entry_bytes,
            ),
            (
                "unsettled bytes",
                node.raft().unsettled_bytes(),
                unsettled_max,
            ),
        ];
        for (what, is, may) in bounds {
            if is > may {
                return Err(format!("{} has {is} {what}, which is over {may}", self.id));
            }
        }
        Ok(())
    }

    /// Whether this term may be durable where nobody can see it.
    pub(super) fn is_unseen(&self, term: Term) -> bool {
        self.blind || (self.harmed && self.audit.hard_state().term < term)
    }

    /// Judges a message that leaves for `to` now; in the `condition` that its node is in after the
    /// turn, it may be since the message was made.
    pub(super) fn tells(
        &self,
        message: &Message,
        to: Option<NodeId>,
        condition: Condition,
    ) -> Result<(), String> {
        self.is_modest(message, condition)?;
        let state = self.audit.hard_state();
        let Some(term) = message.term() else {
            return Ok(());
        };
        let (reveals, vote) = match message {
            Message::PreVote(_) => (Term(term.0 - 1), None),
            // The term is the one that was asked about.
            Message::PreVoteAnswer(answer) if answer.granted => (Term(0), None),
            Message::RequestVote(_) => (term, Some(self.id)),
            Message::VoteAnswer(answer) if answer.granted => (term, to),
            _ => (term, None),
        };
        if self.is_unseen(reveals) {
            return Ok(());
        }
        let id = self.id;
        if reveals > state.term {
            return Err(format!("{id} tells {message:?}, but {state:?} is durable"));
        }
        if vote.is_some() && (state.term != term || state.vote != vote) {
            return Err(format!(
                "{id} tells {message:?} to {to:?}, but {state:?} is durable"
            ));
        }
        if let Message::AppendOk(answer) = message
            && answer.match_index > self.audit.last().index
        {
            let last = self.audit.last();
            return Err(format!(
                "{id} tells {answer:?}, but its disk ends at {last}"
            ));
        }
        Ok(())
    }
}

/// In what a node is less than whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) lost: bool,
    /// The first faulty entry.
    pub(super) faulty: Option<Index>,
    pub(super) rebuilding: bool,
}

impl Condition {
    pub(super) fn of(raft: &Raft) -> Self {
        Self {
            lost: raft.hard_state().lost,
            faulty: raft.faulty(),
            rebuilding: raft.is_rebuilding(),
        }
    }

    /// What was so before a turn and is so after it: all the time, but for what was mended and
    /// damaged again.
    fn throughout(self, before: Self) -> Self {
        Self {
            lost: self.lost && before.lost,
            faulty: self
                .faulty
                .max(before.faulty)
                .filter(|_| self.faulty.is_some() && before.faulty.is_some()),
            rebuilding: self.rebuilding,
        }
    }
}

impl Watched {
    /// Who has lost entries does not vote, and who has faulty ones does not acknowledge them (rules
    /// D4).
    fn is_modest(&self, message: &Message, condition: Condition) -> Result<(), String> {
        let votes = match message {
            Message::PreVote(_) | Message::RequestVote(_) => true,
            Message::PreVoteAnswer(answer) => answer.granted,
            Message::VoteAnswer(answer) => answer.granted,
            _ => false,
        };
        let Condition { lost, faulty, .. } = condition.throughout(self.condition);
        let id = self.id;
        if votes && lost {
            return Err(format!("{id} has lost entries, and tells {message:?}"));
        }
        if let (Message::AppendOk(answer), Some(first)) = (message, faulty)
            && answer.match_index >= first
        {
            return Err(format!("{id} tells {answer:?}, but {first} is faulty"));
        }
        Ok(())
    }

    /// A message that was judged leaves.
    pub(super) fn told(&mut self, message: &Message) {
        if let Message::AppendOk(answer) = message
            && !answer.health.lost
        {
            let said = (answer.term, answer.match_index);
            self.acknowledged = self.acknowledged.max(said);
            self.acknowledged_upto = self.acknowledged_upto.max(answer.match_index);
        }
    }

    /// Its log was lost, and is no more.
    pub(super) fn has_regained(&mut self, committed: &Committed) -> Result<(), String> {
        let owed = std::mem::take(&mut self.owes);
        let (held, known) = (self.on_disk(owed), committed.held(owed));
        match held == known {
            true => Ok(()),
            false => Err(format!(
                "{} has lost entries no more, but has {held:?} at {owed}, where {known:?} is committed",
                self.id
            )),
        }
    }

    /// The membership by which a turn committed: a leader that ended the set of before did so
    /// afterwards.
    pub(super) fn deciding<'a>(&'a self, raft: &'a Raft) -> &'a Membership {
        let (before, after) = (self.membership.as_ref(), raft.membership());
        let settled = |before: &&Membership| {
            before.is_joint() && !after.is_joint() && raft.role() == RoleName::Leader
        };
        before.filter(settled).unwrap_or(after)
    }

    /// A turn ends with this membership in force.
    pub(super) fn note_membership(&mut self, membership: &Membership) {
        if self.membership.as_ref() != Some(membership) {
            self.membership = Some(membership.clone());
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.condition
    }

    /// What was mended in a turn was so before its end.
    pub(super) fn ease(&mut self, after: Condition) {
        self.condition = after.throughout(self.condition);
    }

    /// A turn ends.
    pub(super) fn remember(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// Whoever is less than whole does not begin to lead (rules D4, D5).
    pub(super) fn may_lead(&self, condition: Condition) -> Result<(), String> {
        let lacks = condition.throughout(self.condition);
        match lacks == Condition::default() {
            true => Ok(()),
            false => Err(format!("{} begins to lead with {lacks:?}", self.id)),
        }
    }
}

/// The entries that the turn's `Written` replies name.
pub(super) fn written_replies(effects: &Effects) -> impl Iterator<Item = EntryId> + '_ {
    let ranges = effects.replies.iter();
    ranges.flat_map(|(_, range)| {
        let mut rest = &effects.reply_bytes[range.clone()];
        std::iter::from_fn(move || {
            while rest.len() >= HEADER_BYTES {
                let length = 4 + BigEndian::read_u32(rest) as usize;
                let (frame, behind) = rest.split_at(length.min(rest.len()));
                rest = behind;
                if frame[5] == Kind::Written.code() {
                    let payload = &frame[HEADER_BYTES..];
                    return Some(EntryId {
                        term: Term(BigEndian::read_u64(payload)),
                        index: Index(BigEndian::read_u64(&payload[8..])),
                    });
                }
            }
            None
        })
    })
}
