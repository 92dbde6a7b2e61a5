//! Good conduct: what a member does as long as it lives, whatever befalls it. Most of it harms
//! nobody at once when it is broken, so neither the log nor a client would ever tell.
//!
//! Looked at after each turn, before its effects leave.

mod questions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft::{Instant, RoleName};
use raftd::node::Node;
use raftd::node::io::{Effects, LinkId, SnapshotRequest, StorageRequest};
use wire::client::{Consistency, Request};
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::membership::{Membership, Suffrage};
use wire::peer::{Append, Message};
use wire::types::{EntryId, Index, NodeId, Term};

use self::questions::Questions;
use super::member::{Member, Settings};
use super::net::Host;
use super::quorum::is_quorum;

/// Turns for nothing, one behind the other.
const IDLE_TURNS_MAX: u32 = 1_000;
/// What waits for the keeper of a member's snapshots.
const SNAPSHOT_REQUESTS_MAX: usize = 32;
/// A snapshot is kept at least so long after a piece of it was sent.
const HELD_MIN: Duration = Duration::from_secs(25);

/// Between two hand-overs of a leader, at least.
const HAND_OVER_MIN: Duration = Duration::from_secs(10);

/// A quorum may fall apart with a change of members so long ago.
const STEP_MAX: Duration = Duration::from_secs(5);

/// What was seen of all members.
///
/// Invariants looked after, each within one reign of one leader:
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
/// - a snapshot that a follower is being sent, and the log behind it, are kept meanwhile;
///
/// and always:
/// - who votes, votes for a member; who is asked to, and may, does (`member/vote.rs`);
/// - who hands over, does not do so again within ten seconds (rules B4);
/// - nobody asks for a turn again and again that does nothing;
/// - members draw different election timeouts, also from one seed;
/// - no member is refused for what it says: all of them are honest.
#[derive(Debug)]
pub struct Conduct {
    reigns: Vec<Option<Reign>>,
    /// Of each member, the newest read round that it answered, and in which term.
    answered: BTreeMap<NodeId, (Term, u64)>,
    /// Linearizable reads by host, its name for the connection and request id, and since when the
    /// client has asked.
    asked: BTreeMap<(Host, u64, u64), Instant>,
    questions: Questions,
    /// Of each member of the beginning, how long its first election timeout was.
    first_timeouts: Vec<Option<Duration>>,
    /// Of each member, how many turns it has taken for nothing, one behind the other.
    idle_turns: Vec<u32>,
    /// Of each member, in which life and when by its own clock it last handed over.
    handed_over: Vec<Option<(u64, Instant)>>,
    /// All that are, or were, members.
    ids: BTreeSet<NodeId>,
}

/// A leader, in one life and term.
#[derive(Debug)]
struct Reign {
    life: u64,
    term: Term,
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
    /// Index and bytes of what is not acknowledged.
    in_flight: VecDeque<(Index, usize)>,
    bytes: usize,
    /// The snapshot that it was sent a piece of, and when it last was.
    snapshot: Option<(EntryId, Instant)>,
    /// The snapshot that it was sent, and could not use: it may be sent another at any time.
    refused: Option<EntryId>,
}

impl Follower {
    /// What is sent again counts once.
    fn sent(&mut self, append: &Append) {
        for entry in &append.entries {
            let (index, bytes) = (entry.index(), entry.bytes().len());
            while let Some((_, again)) = self.in_flight.back().filter(|(at, _)| *at >= index) {
                self.bytes -= again;
                self.in_flight.pop_back();
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

impl Conduct {
    /// Nobody has done anything, of so many members of the beginning, and so many others.
    #[must_use]
    pub fn new(members: usize, spares: usize) -> Self {
        let hosts = members + spares;
        Self {
            reigns: (0..hosts).map(|_| None).collect(),
            answered: BTreeMap::new(),
            asked: BTreeMap::new(),
            questions: Questions::default(),
            first_timeouts: vec![None; members],
            idle_turns: vec![0; hosts],
            handed_over: vec![None; hosts],
            ids: (1..=members as u64).map(NodeId).collect(),
        }
    }

    /// There is another member.
    pub fn admitted(&mut self, id: NodeId) {
        self.ids.insert(id);
    }

    /// Looks at a member after its turn; `now` is true time.
    ///
    /// # Errors
    /// What it did wrong.
    pub fn after_turn(
        &mut self,
        now: Instant,
        member: &Member,
        settings: &Settings,
    ) -> Result<(), String> {
        let (Some(node), Some(effects)) = (member.node(), member.effects()) else {
            return Ok(());
        };
        let (who, host) = (member.id, member.host());
        for (_, error) in &effects.close_links {
            if matches!(error, Error::Malformed { .. } | Error::Divergence { .. }) {
                return Err(format!("{who} refuses an honest member: {error}"));
            }
        }
        if let Some(refusal) = member.refused_vote() {
            return Err(format!("{who} {refusal}"));
        }
        let vote = node.raft().hard_state().vote;
        if vote.is_some_and(|vote| !self.ids.contains(&vote)) {
            return Err(format!("{who} votes for {vote:?}, which is no member"));
        }
        let local = member.monotonic(now);
        self.rests(who, member, local)?;
        self.draws_its_own(host, node, local)?;
        self.hands_over(who, member, local)?;
        self.answers(who, effects);
        self.questions.note(now, who, effects)?;
        self.refuses_snapshots(who, effects);
        let reign = &mut self.reigns[host];
        if node.raft().role() != RoleName::Leader {
            *reign = None;
            return Ok(());
        }
        let (life, term) = (member.lives(), node.raft().term());
        if !matches!(reign, Some(known) if (known.life, known.term) == (life, term)) {
            *reign = Some(Reign {
                life,
                term,
                since: now,
                commit: node.raft().commit(),
                rounds: Vec::new(),
                frozen_at: None,
                memberships: Vec::new(),
                deaf_since: None,
                followers: BTreeMap::new(),
            });
        }
        let Some(reign) = reign else {
            return Ok(());
        };
        reign.changes_well(now, who, node, &self.answered)?;
        reign.hands_over_well(who, node, (member, local), settings)?;
        reign.confirms_alone(who, node)?;
        reign.hears(who, node, (now, local), settings)?;
        reign.commits(who, node)?;
        reign.begins_rounds(now, who, effects, &self.answered)?;
        let served = served(host, effects, &mut self.asked);
        reign.serves(who, &served, &self.answered)?;
        reign.answers_followers(who, effects, &self.questions, &self.answered)?;
        reign.speaks(effects, member, local);
        reign.keeps(who, node, effects, local)?;
        reign.look(who, node, local, settings)
    }
}

impl Conduct {
    /// A turn that did nothing and asks for another one at once may hope for something. A thousand
    /// of them do not.
    fn rests(&mut self, who: NodeId, member: &Member, now: Instant) -> Result<(), String> {
        let (Some(node), Some(effects)) = (member.node(), member.effects()) else {
            return Ok(());
        };
        let idle = effects.storage.is_empty()
            && effects.peers.is_empty()
            && effects.replies.is_empty()
            && node.store().applied().index == node.raft().commit()
            && node.deadline().is_some_and(|at| at <= now);
        let turns = &mut self.idle_turns[member.host()];
        *turns = if idle { *turns + 1 } else { 0 };
        if *turns > IDLE_TURNS_MAX {
            return Err(format!("{who} takes turn after turn for nothing"));
        }
        if member.snapshot_requests() > SNAPSHOT_REQUESTS_MAX {
            let requests = member.snapshot_requests();
            return Err(format!(
                "{who} has {requests} requests about snapshots waiting"
            ));
        }
        Ok(())
    }

    /// The first timeout is seen in the turn that draws it, whenever that is. Two in a large
    /// cluster may be the same by chance, all of them never are.
    fn draws_its_own(&mut self, host: Host, node: &Node, now: Instant) -> Result<(), String> {
        let Some(first) = self.first_timeouts.get_mut(host) else {
            return Ok(());
        };
        if first.is_some() {
            return Ok(());
        }
        *first = node.raft().deadline().map(|at| at.since(now));
        let Some(drawn) = *first else {
            return Ok(());
        };
        let all = &self.first_timeouts;
        if all.len() > 1 && all.iter().all(|other| *other == Some(drawn)) {
            return Err(format!(
                "all members draw {drawn:?} as their first election timeout"
            ));
        }
        Ok(())
    }
}

impl Conduct {
    /// A leader hands over seldom, whatever is wrong with it.
    fn hands_over(&mut self, who: NodeId, member: &Member, now: Instant) -> Result<(), String> {
        let events = member.effects().into_iter().flat_map(|e| &e.events);
        // What others want has its own reasons.
        let by_itself = |text: &str| {
            ["stalled", "full", "differs"]
                .iter()
                .any(|w| text.ends_with(w))
        };
        let mut begun =
            events.filter(|event| event.text.starts_with("handing over") && by_itself(&event.text));
        let Some(event) = begun.next() else {
            return Ok(());
        };
        let last = &mut self.handed_over[member.host()];
        let before = last.replace((member.lives(), now));
        match before.filter(|(life, at)| *life == member.lives() && now.since(*at) < HAND_OVER_MIN)
        {
            Some((_, at)) => Err(format!(
                "{who} hands over again after {:?}: {}",
                now.since(at),
                event.text
            )),
            None => Ok(()),
        }
    }

    /// A client has sent this to a member, which calls the connection so.
    pub fn asked(&mut self, now: Instant, host: Host, connection: u64, bytes: &[u8]) {
        for frame in frames(bytes) {
            let Ok(Request::Get { freshness, .. } | Request::Scan { freshness, .. }) =
                Request::decode(&frame)
            else {
                continue;
            };
            if freshness.consistency == Consistency::Linearizable {
                self.asked.insert((host, connection, frame.request_id), now);
            }
        }
    }

    /// Takes note of the rounds that a follower answers; one that is lost counts for none (rules
    /// D4). Whether the answer arrives is another matter.
    fn answers(&mut self, who: NodeId, effects: &Effects) {
        let newest = self.answered.entry(who).or_default();
        for (_, message) in &effects.peers {
            let answer = match message {
                Message::AppendOk(m) => (m.health, (m.term, m.round)),
                Message::AppendConflict(m) => (m.health, (m.term, m.round)),
                Message::SnapshotOk(m) => (m.health, (m.term, m.round)),
                _ => continue,
            };
            let (health, round) = answer;
            if !health.lost {
                *newest = round.max(*newest);
            }
        }
    }
}

impl Conduct {
    /// A follower that has nothing of a snapshot, after it was sent some, could not use it.
    fn refuses_snapshots(&mut self, who: NodeId, effects: &Effects) {
        let refused = |message: &Message| matches!(message, Message::SnapshotOk(answer) if answer.received_bytes == 0);
        if effects.peers.iter().any(|(_, message)| refused(message)) {
            for reign in self.reigns.iter_mut().flatten() {
                if let Some(follower) = reign.followers.get_mut(&who)
                    && let Some((snapshot, _)) = follower.snapshot.take()
                {
                    follower.refused = Some(snapshot);
                }
            }
        }
    }
}

impl Reign {
    /// It hears a quorum. One that falls apart because a follower has lost entries, and counts no
    /// more, may be missed at the next look only.
    fn hears(
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

    fn begins_rounds(
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
    fn serves(
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
    fn round_since(&self, asked: Instant) -> u64 {
        let began_before = self.rounds.partition_point(|(_, began)| *began < asked);
        let round = self.rounds.get(began_before);
        round.map_or(u64::MAX, |(round, _)| *round)
    }

    /// Who hands over appends nothing, and asks only a follower that holds all (thesis 3.10).
    fn hands_over_well(
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
    fn has_quorum(
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
    fn changes_well(
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
    fn confirms_alone(&self, who: NodeId, node: &Node) -> Result<(), String> {
        let alone = is_quorum(node.raft().membership(), |id| id == who);
        let waiting = node.waiting().unconfirmed_reads;
        match alone && waiting > 0 {
            true => Err(format!(
                "{who} needs nobody, and {waiting} reads wait for others"
            )),
            false => Ok(()),
        }
    }

    fn commits(&mut self, who: NodeId, node: &Node) -> Result<(), String> {
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
    fn speaks(&mut self, effects: &Effects, member: &Member, now: Instant) {
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
                Message::InstallSnapshot(piece)
                    if !piece.bytes.is_empty() && follower.refused != Some(piece.snapshot) =>
                {
                    follower.snapshot = Some((piece.snapshot, now));
                }
                _ => {}
            }
        }
    }

    /// What a follower is being sent, and needs behind that, is not removed.
    fn keeps(
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
                    StorageRequest::Snapshot(SnapshotRequest::Keep(kept)) => {
                        !kept.contains(&snapshot)
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

    fn look(
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
            let lost = || {
                node.raft()
                    .followers()
                    .any(|f| f.id == *peer && f.health.lost)
            };
            if match_index < before && !lost() {
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

/// When the linearizable reads were asked that these effects answer.
fn served(
    host: Host,
    effects: &Effects,
    asked: &mut BTreeMap<(Host, u64, u64), Instant>,
) -> Vec<Instant> {
    let mut served = Vec::new();
    for (connection, range) in &effects.replies {
        for frame in frames(&effects.reply_bytes[range.clone()]) {
            let read = (host, connection.0, frame.request_id);
            if let Kind::Value | Kind::Missing | Kind::Page = frame.kind {
                served.extend(asked.remove(&read));
            }
        }
    }
    served
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let frame = frame::parse(bytes, usize::MAX).ok()??;
        bytes = &bytes[frame.len..];
        Some(frame)
    })
}
