//! Good conduct: what a member does as long as it lives, whatever befalls it. Most of it harms
//! nobody at once when it is broken, so neither the log nor a client would ever tell.
//!
//! Looked at after each turn, before its effects leave.

mod questions;
mod reign;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft::{Instant, RoleName};
use raftd::node::Node;
use raftd::node::io::Effects;
use wire::client::{Consistency, Request};
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::peer::Message;
use wire::types::{NodeId, Term};

use self::questions::Questions;
use self::reign::Reign;
use super::member::{Member, Settings};
use super::net::Host;

/// Turns for nothing, one behind the other.
const IDLE_TURNS_MAX: u32 = 1_000;
/// What waits for the keeper of a member's snapshots.
const SNAPSHOT_REQUESTS_MAX: usize = 32;
/// Between two hand-overs of a leader, at least.
const HAND_OVER_MIN: Duration = Duration::from_secs(10);

/// What was seen of all members.
///
/// Invariants looked after, besides those of a reign (`conduct/reign.rs`):
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
        if !matches!(reign, Some(known) if known.is(life, term)) {
            *reign = Some(Reign::new((life, term), now, node.raft().commit()));
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

    /// A follower that has nothing of a snapshot, after it was sent some, could not use it.
    fn refuses_snapshots(&mut self, who: NodeId, effects: &Effects) {
        let refused = |message: &Message| matches!(message, Message::SnapshotOk(answer) if answer.received_bytes == 0);
        if effects.peers.iter().any(|(_, message)| refused(message)) {
            let reigns = self.reigns.iter_mut().flatten();
            reigns.for_each(|reign| reign.snapshot_refused(who));
        }
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
