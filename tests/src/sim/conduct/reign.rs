//! What a leader owes its followers, within one reign.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use raft::Instant;
use raftd::node::Node;
use raftd::node::io::{Effects, LinkId, SnapshotRequest, StorageRequest};
use wire::membership::{Membership, Suffrage};
use wire::peer::{Append, Message};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::sim::member::{Member, Settings};
use crate::sim::quorum::is_quorum;

/// A snapshot is kept at least so long after a piece of it was sent.
const HELD_MIN: Duration = Duration::from_secs(25);
/// A quorum may fall apart with a change of members so long ago.
const STEP_MAX: Duration = Duration::from_secs(5);

/// A leader, in one life and term.
///
/// Invariants looked after:
/// - what it commits is of its own term (rules A5);
/// - match never falls (rules A5), but for a follower that has lost entries (rules D4);
/// - a read round begins when a quorum has answered the one before, and a read is answered when a
///   quorum has answered a round that began after it was asked, and so a follower's question, which
///   is the follower's answer (rules C1);
/// - it speaks to every peer that it has a link to, whatever its disk does (rules B4);
/// - it hears a quorum, or leads no more (rules B2);
/// - entry bytes that a follower has not acknowledged fit the window;
/// - while it hands over it appends nothing, and it asks only who holds all that it has; that ends
///   after an election timeout, whatever is read meanwhile;
/// - it gives votes to those only that have answered it, and only if a quorum of the voters has;
/// - no read waits for others where it is a quorum by itself;
/// - a snapshot that a follower is being sent, and the log behind it, are kept meanwhile.
#[derive(Debug)]
pub(super) struct Reign {
    life: u64,
    pub(super) term: Term,
    since: Instant,
    commit: Index,
    /// The read rounds that were told, and since when.
    rounds: Vec<(u64, Instant)>,
    /// Where its log ended when it was handing over, and since when it is, by its own clock.
    frozen_at: Option<(Index, Instant)>,
    /// The memberships that were in force, each until the next one was.
    memberships: Vec<(Instant, Membership)>,
    /// Since when it hears no quorum, by its own clock.
    deaf_since: Option<Instant>,
    followers: BTreeMap<NodeId, Follower>,
}

/// What a leader has said to one.
#[derive(Debug, Default)]
struct Follower {
    /// When it was last spoken to, or when a link to it opened; nothing while there is none.
    spoken: Option<Instant>,
    match_index: Index,
    /// What it acknowledged counts for nothing.
    lost: bool,
    /// Index and bytes of what is not acknowledged.
    in_flight: VecDeque<(Index, usize)>,
    bytes: usize,
    /// The snapshot that it was sent a piece of, and when it last was.
    snapshot: Option<(EntryId, Instant)>,
}

impl Follower {
    /// What is sent again counts once. What is passed over is covered by a snapshot, which the
    /// follower holds instead: what was under way before it was lost, or is covered, too.
    fn sent(&mut self, append: &Append) {
        for entry in &append.entries {
            let (index, bytes) = (entry.index(), entry.bytes().len());
            while let Some((_, again)) = self.in_flight.back().filter(|(at, _)| *at >= index) {
                self.bytes -= again;
                self.in_flight.pop_back();
            }
            if (self.in_flight.back()).is_some_and(|(at, _)| at.next() < index) {
                self.in_flight.clear();
                self.bytes = 0;
            }
            self.in_flight.push_back((index, bytes));
            self.bytes += bytes;
        }
    }

    fn acknowledged(&mut self, upto: Index) {
        while let Some((_, bytes)) = self.in_flight.front().filter(|(at, _)| *at <= upto) {
            self.bytes -= bytes;
            self.in_flight.pop_front();
        }
    }
}

impl Reign {
    /// It begins, in this life and term, with so much committed.
    pub(super) fn new((life, term): (u64, Term), now: Instant, commit: Index) -> Self {
        Self {
            life,
            term,
            since: now,
            commit,
            rounds: Vec::new(),
            frozen_at: None,
            memberships: Vec::new(),
            deaf_since: None,
            followers: BTreeMap::new(),
        }
    }

    /// Whether it is the one of that life and term.
    pub(super) fn is(&self, life: u64, term: Term) -> bool {
        (self.life, self.term) == (life, term)
    }

    /// A follower has nothing of the snapshot that it was sent some of: it may be sent another.
    pub(super) fn snapshot_refused(&mut self, who: NodeId) {
        if let Some(follower) = self.followers.get_mut(&who) {
            follower.snapshot = None;
        }
    }

    /// It hears a quorum. One that falls apart because a follower has lost entries, and counts no
    /// more, may be missed at the next look only.
    pub(super) fn hears(
        &mut self,
        who: NodeId,
        node: &Node,
        (now, local): (Instant, Instant),
        settings: &Settings,
    ) -> Result<(), String> {
        if node.raft().quorum_ok(local) {
            self.deaf_since = None;
            return Ok(());
        }
        let since = *self.deaf_since.get_or_insert(local);
        let lost = node.raft().followers().any(|f| f.health.lost);
        let changed = self.memberships.last();
        let changed = changed.is_some_and(|(at, _)| self.since < *at && *at + STEP_MAX > now);
        if (lost || changed) && local.since(since) <= settings.election_timeout * 2 {
            return Ok(());
        }
        let term = self.term;
        Err(format!("{who} leads term {term} on, but hears no quorum"))
    }

    pub(super) fn begins_rounds(
        &mut self,
        now: Instant,
        who: NodeId,
        effects: &Effects,
        answered: &BTreeMap<NodeId, (Term, u64)>,
    ) -> Result<(), String> {
        for (_, message) in &effects.peers {
            // Where a follower is sent a snapshot, and no other is linked, a piece of it is first.
            let (term, round) = match message {
                Message::Append(append) => (append.term, append.round),
                Message::InstallSnapshot(piece) => (piece.term, piece.round),
                _ => continue,
            };
            let newest = self.rounds.last().map_or(0, |(round, _)| *round);
            if term != self.term || round <= newest {
                continue;
            }
            self.rounds.push((round, now));
            let before = (self.term, round - 1);
            // Nobody answers the round before the first.
            if before.1 > 0 && !self.has_quorum(who, self.since, before, answered) {
                let others = answered.values().filter(|newest| **newest >= before);
                let others = others.count();
                return Err(format!(
                    "{who} begins round {round} of term {}, but {others} others have answered the last",
                    self.term
                ));
            }
        }
        Ok(())
    }

    /// The reads that the turn answers, each asked at that time. One from before the reign may have
    /// been confirmed in an earlier one, and have waited for its client to read.
    pub(super) fn serves(
        &self,
        who: NodeId,
        served: &[Instant],
        answered: &BTreeMap<NodeId, (Term, u64)>,
    ) -> Result<(), String> {
        for asked in served.iter().filter(|asked| **asked >= self.since) {
            let round = (self.term, self.round_since(*asked));
            if !self.has_quorum(who, *asked, round, answered) {
                let others = answered.values().filter(|newest| **newest >= round);
                let others = others.count();
                return Err(format!(
                    "{who} serves a read, but {others} others have answered a round since it was asked"
                ));
            }
        }
        Ok(())
    }

    /// The first round that began after that. One that was never told is one that only the leader
    /// itself could answer.
    pub(super) fn round_since(&self, asked: Instant) -> u64 {
        let began_before = self.rounds.partition_point(|(_, began)| *began < asked);
        let round = self.rounds.get(began_before);
        round.map_or(u64::MAX, |(round, _)| *round)
    }

    /// Who hands over appends nothing, and asks only a follower that holds all (thesis 3.10).
    pub(super) fn hands_over_well(
        &mut self,
        who: NodeId,
        node: &Node,
        (member, local): (&Member, Instant),
        settings: &Settings,
    ) -> Result<(), String> {
        let last = node.raft().last().index;
        let transferring = node.raft().is_transferring();
        // The last attempt may have ended in the turn that began this one.
        let mut events = member
            .effects()
            .into_iter()
            .flat_map(|effects| &effects.events);
        let begins = events.any(|event| event.text.starts_with("handing over"));
        let before = self.frozen_at.filter(|_| transferring && !begins);
        self.frozen_at = transferring.then_some(before.unwrap_or((last, local)));
        if let Some((before, since)) = before {
            if before < last {
                return Err(format!(
                    "{who} hands over, and appends from {before} to {last}"
                ));
            }
            let lasts = local.since(since);
            if lasts > settings.election_timeout * 2 {
                return Err(format!("{who} hands over for {lasts:?}"));
            }
        }
        let effects = member
            .effects()
            .into_iter()
            .flat_map(|effects| &effects.peers);
        for (link, message) in effects.filter(|_| transferring) {
            let to = member
                .peer_of(*link)
                .filter(|_| matches!(message, Message::TimeoutNow(_)));
            let held = to.and_then(|to| node.raft().match_index(to));
            if to.is_some() && held != Some(last) {
                return Err(format!(
                    "{who} hands over to {to:?}, which holds {held:?} of {last}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a quorum has answered a round, or a later one, in the membership of any moment since
    /// then; a leader asks itself nothing.
    pub(super) fn has_quorum(
        &self,
        who: NodeId,
        since: Instant,
        round: (Term, u64),
        answered: &BTreeMap<NodeId, (Term, u64)>,
    ) -> bool {
        let has = |id| id == who || answered.get(&id).is_some_and(|newest| *newest >= round);
        let ends = self.memberships.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([Instant(u64::MAX)]);
        let mut in_force = self.memberships.iter().zip(ends);
        in_force.any(|((_, membership), end)| end >= since && is_quorum(membership, has))
    }

    /// Whoever is given a vote has answered this leader, and a quorum of the voters has. None of it
    /// was this leader's choice as its reign began.
    pub(super) fn changes_well(
        &mut self,
        now: Instant,
        who: NodeId,
        node: &Node,
        answered: &BTreeMap<NodeId, (Term, u64)>,
    ) -> Result<(), String> {
        let next = node.raft().membership();
        let before = self.memberships.last().map(|(_, last)| last);
        if before == Some(next) {
            return Ok(());
        }
        let is_up = |id| {
            let newest = answered.get(&id);
            id == who || newest.is_some_and(|(term, _)| *term >= self.term)
        };
        let term = self.term;
        if before.is_some() && next.is_joint() {
            let members = next.members.iter();
            let mut incoming = members.filter(|m| m.suffrage == Suffrage::Incoming);
            if let Some(silent) = incoming.find(|member| !is_up(member.id)) {
                let id = silent.id;
                return Err(format!(
                    "{who} gives {id} a vote, which is silent in term {term}"
                ));
            }
            if !is_quorum(next, is_up) {
                return Err(format!(
                    "{who} changes the voters into {next:?}, of whom too many are silent in term {term}"
                ));
            }
        }
        self.memberships.push((now, next.clone()));
        Ok(())
    }

    /// Where nobody else is needed, no read waits for others, however that came about.
    pub(super) fn confirms_alone(&self, who: NodeId, node: &Node) -> Result<(), String> {
        let alone = is_quorum(node.raft().membership(), |id| id == who);
        let waiting = node.waiting().unconfirmed_reads;
        match alone && waiting > 0 {
            true => Err(format!(
                "{who} needs nobody, and {waiting} reads wait for others"
            )),
            false => Ok(()),
        }
    }

    pub(super) fn commits(&mut self, who: NodeId, node: &Node) -> Result<(), String> {
        let commit = node.raft().commit();
        if commit == self.commit {
            return Ok(());
        }
        self.commit = commit;
        let applied = node.store().applied();
        let newest = match node.raft().entry(commit) {
            Some(entry) => Some(entry.term()),
            None => (applied.index == commit).then_some(applied.term),
        };
        match newest {
            Some(term) if term != self.term => Err(format!(
                "{who} as leader of term {} commits up to {commit}, which is of term {term}",
                self.term
            )),
            _ => Ok(()),
        }
    }

    /// Takes note of what the turn says to whom.
    pub(super) fn speaks(&mut self, effects: &Effects, member: &Member, now: Instant) {
        let links: BTreeMap<LinkId, NodeId> = member.dialled_links().collect();
        for (peer, follower) in &mut self.followers {
            if !links.values().any(|linked| linked == peer) {
                follower.spoken = None;
            }
        }
        for peer in links.values() {
            let follower = self.followers.entry(*peer).or_default();
            follower.spoken.get_or_insert(now);
        }
        for (link, message) in &effects.peers {
            let follower = links
                .get(link)
                .and_then(|peer| self.followers.get_mut(peer));
            let Some(follower) = follower else {
                continue;
            };
            match message {
                Message::Append(append) => {
                    follower.spoken = Some(now);
                    follower.sent(append);
                }
                Message::InstallSnapshot(piece) if !piece.bytes.is_empty() => {
                    follower.snapshot = Some((piece.snapshot, now));
                }
                _ => {}
            }
        }
    }

    /// What a follower is being sent, and needs behind that, is not removed.
    pub(super) fn keeps(
        &mut self,
        who: NodeId,
        node: &Node,
        effects: &Effects,
        now: Instant,
    ) -> Result<(), String> {
        let needy: Vec<NodeId> = node.raft().needs_snapshot().collect();
        for (peer, follower) in &mut self.followers {
            let taken = |(_, sent): &(EntryId, Instant)| now.since(*sent) < HELD_MIN;
            follower.snapshot = follower
                .snapshot
                .filter(|sending| needy.contains(peer) && taken(sending));
            let Some((snapshot, _)) = follower.snapshot else {
                continue;
            };
            for request in &effects.storage {
                let lost = match request {
                    StorageRequest::Compact { upto, .. } => *upto > snapshot.index,
                    StorageRequest::Snapshot(SnapshotRequest::Keep { marked, also }) => {
                        snapshot.index < marked.index && !also.contains(&snapshot)
                    }
                    _ => false,
                };
                if lost {
                    return Err(format!(
                        "{who} is sending {snapshot} to {peer}, and does {request:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn look(
        &mut self,
        who: NodeId,
        node: &Node,
        now: Instant,
        settings: &Settings,
    ) -> Result<(), String> {
        let silence_max = settings.heartbeat * 2 + Duration::from_millis(1);
        let limits = &settings.limits;
        for (peer, follower) in &mut self.followers {
            let Some(match_index) = node.raft().match_index(*peer) else {
                // It is no member yet, or none any more: nothing is owed to it.
                *follower = Follower::default();
                continue;
            };
            let before = std::mem::replace(&mut follower.match_index, match_index);
            let mut others = node.raft().followers();
            let lost = others.any(|f| f.id == *peer && f.health.lost);
            // Who is whole again tells anew: what it acknowledged meanwhile may be faulty by then.
            let was_lost = std::mem::replace(&mut follower.lost, lost);
            if match_index < before && !lost && !was_lost {
                return Err(format!(
                    "{who} lowers match of {peer} from {before} to {match_index}"
                ));
            }
            follower.acknowledged(match_index);
            let bytes = follower.bytes;
            let largest = follower.in_flight.iter().map(|(_, bytes)| *bytes).max();
            if bytes > limits.window_bytes + largest.unwrap_or(0) {
                return Err(format!(
                    "{who} has {bytes} bytes under way to {peer}, over the window"
                ));
            }
            let silence = follower.spoken.map(|spoken| now.since(spoken));
            if let Some(silence) = silence.filter(|silence| *silence > silence_max) {
                return Err(format!(
                    "{who} leads and is silent to {peer} for {silence:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use wire::entry::{Entry, EntryKind};
    use wire::peer::Standing;

    use super::*;

    fn append(indexes: std::ops::RangeInclusive<u64>) -> Append {
        let term = Term(1);
        let id = |index| EntryId {
            term,
            index: Index(index),
        };
        let body = [7; 52];
        let entry = |index| {
            Entry::build(
                &mut BytesMut::new(),
                id(index),
                1,
                EntryKind::Command,
                &body,
            )
        };
        Append {
            term,
            prev: id(indexes.start() - 1),
            commit: Index(0),
            round: 0,
            digest: None,
            standing: Standing::Unsaid,
            entries: indexes.map(entry).collect(),
        }
    }

    /// 100 bytes each.
    #[test]
    fn what_is_under_way_counts_once_and_not_behind_a_snapshot() {
        let mut follower = Follower::default();
        follower.sent(&append(5..=8));
        assert_eq!(follower.bytes, 400);
        follower.sent(&append(7..=9));
        assert_eq!(follower.bytes, 500);
        follower.acknowledged(Index(6));
        assert_eq!(follower.bytes, 300);
        // It crashed, and goes on behind a snapshot of 20, which is not on its disk yet.
        follower.sent(&append(21..=22));
        assert_eq!(follower.bytes, 200);
    }
}
