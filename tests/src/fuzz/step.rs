//! The Raft core in any state, told anything.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::{Config, Effect, Input, Installed, Instant, Raft, RoleName, Ticket};
use wire::leadership::HandOver;
use wire::membership::{Membership, Suffrage};
use wire::peer::{DiskReport, Message};
use wire::types::{EntryId, Index, NodeId, Term};

use super::disk::{self, Disk};
use super::message::{self, Asked};
use super::script::Script;

/// Snapshots that are remembered.
const OFFERED_MAX: usize = 4;
/// Events of one life; more only takes time.
const EVENTS_MAX: usize = 400;

/// A node of a cluster of one to seven, with a past, that is told anything in any order: messages
/// of members and strangers, with numbers near its own or absurd, answers to questions that
/// it asked and to others; its disk is late, its process dies.
///
/// The core asserts its invariants after every step. Checked here besides: writes leave no gap,
/// what is committed is never cut nor told twice, at most one vote is given in a term, and nothing
/// leaves before what it reveals is durable (rules A1, A2, A3). Its log is compacted behind
/// snapshots, and it installs any that a leader spoke of. Entries, its log or its state turn out to
/// be damaged (rules D4, D5); no faulty entry is acknowledged. Its members change, one change at a
/// time.
pub fn step(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut life = Life::draw(&mut script);
    for _ in 0..EVENTS_MAX {
        if script.is_over() {
            break;
        }
        life.event(&mut script);
    }
}

struct Life {
    raft: Raft,
    config: Config,
    ids: Vec<NodeId>,
    /// Who the members are until the log says other, and what snapshots of leaders say.
    membership: Membership,
    formed: bool,
    now: Instant,
    disk: Disk,
    /// What waits for the disk.
    held: Vec<(Ticket, NodeId, Message)>,
    asked: Asked,
    /// Who got a vote that left, over all lives.
    votes: BTreeMap<Term, NodeId>,
    told_commit: Index,
    applied: Index,
    /// The snapshots that leaders spoke of in this life, the newest last.
    offered: Vec<EntryId>,
    /// The newest snapshot that is published, marked or not.
    published: EntryId,
}

impl Life {
    fn draw(script: &mut Script<'_>) -> Self {
        let voters = script.pick(&[3, 3, 5, 1, 2, 4, 7]);
        let mut ids: Vec<NodeId> = (1..=voters).map(NodeId).collect();
        if script.rarely(4) {
            ids.push(NodeId(u64::MAX));
        }
        let config = Config {
            id: script.pick(&ids),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(40),
            window_bytes: script.pick(&[300, 1, 4096]),
            cache_bytes: script.pick(&[100, 0, 1 << 20]),
            life: 0,
            seed: u64::from(script.byte()),
        };
        let formed = !script.rarely(16);
        let mut disk = Disk::draw(script);
        disk.draw_snapshot(script);
        let now = Instant(script.near(1_000_000_000));
        let members: Vec<_> = ids.iter().map(|id| (*id, format!("a{id}"))).collect();
        let membership = Membership::initial(&members, &[]);
        let restored = disk.restored(script.below(16), formed, &membership);
        let before = disk.hard_state;
        let votes = before.vote.map(|vote| (before.term, vote));
        let published = disk.snapshot();
        Self {
            raft: Raft::new(config.clone(), restored, now),
            config,
            ids,
            membership,
            formed,
            now,
            disk,
            held: Vec::new(),
            asked: Asked::default(),
            votes: votes.into_iter().collect(),
            told_commit: Index(0),
            applied: published.index,
            offered: Vec::new(),
            published,
        }
    }

    fn event(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0..=4 => {
                let message = message::draw(script, &self.raft);
                let from = self.sender(script);
                self.receive(from, message);
            }
            5..=7 => {
                if let Some((from, message)) = self.asked.answer(script) {
                    self.receive(from, message);
                }
            }
            8 => {
                let at = self.raft.deadline().unwrap_or(self.now);
                self.now = self.now.max(at);
                self.turn(Some(Input::Tick));
            }
            9 => {
                let ms = [1, 10, 150, 400, 10_000][script.below(5)];
                self.now = self.now + Duration::from_millis(ms);
                self.turn(Some(Input::Tick));
            }
            10 => {
                let ticket = self.disk.sync(script.pick(&[usize::MAX, 1, 2]));
                self.raft.set_faulty(self.disk.first_faulty());
                self.turn(Some(Input::Durable(ticket)));
                self.release(ticket);
            }
            11 => {
                let led = self.raft.role() == RoleName::Leader && !self.raft.is_transferring();
                let body = vec![1; script.below(256)];
                let wall_ms = script.near(1000);
                assert_eq!(self.raft.propose(wall_ms, &body).is_ok(), led);
                self.turn(None);
            }
            12 => {
                let led = self.raft.leader().is_some();
                assert_eq!(self.raft.read().is_some(), led);
                self.turn(None);
            }
            13 => self.load(script),
            14 => match script.below(4) {
                0 => self.turn(Some(Input::LeaderLinkClosed)),
                1 => self.raft.set_disk(DiskReport::default(), true),
                2 => self.raft.set_disk(DiskReport::default(), false),
                _ => {
                    self.formed = true;
                    self.turn(Some(Input::Formed));
                }
            },
            15 => self.compact(script),
            16 => self.install(script),
            17 => self.harm(script),
            18 => {
                // It may be told off.
                let _ = self
                    .raft
                    .transfer(self.now, self.sender(script), HandOver::Asked);
                self.turn(None);
            }
            _ => match script.below(3) {
                0 => self.change_members(script),
                1 => {
                    let led = self.raft.role() == RoleName::Leader && !self.raft.is_transferring();
                    let wall_ms = script.near(1000);
                    assert_eq!(self.raft.propose_snapshot(wall_ms).is_ok(), led);
                    self.turn(None);
                }
                _ => self.crash(script),
            },
        }
    }

    /// Somebody is to join as a learner, to vote or not to vote any more, or to leave.
    fn change_members(&mut self, script: &mut Script<'_>) {
        let mut target = self.raft.membership().clone();
        let id = script.pick(&self.ids);
        let leaves = script.rarely(3);
        match target.members.binary_search_by_key(&id, |member| member.id) {
            Ok(place) if leaves => {
                target.members.remove(place);
            }
            Ok(place) => {
                let suffrage = &mut target.members[place].suffrage;
                *suffrage = match suffrage {
                    Suffrage::Voter => Suffrage::Learner,
                    _ => Suffrage::Voter,
                };
            }
            Err(place) => {
                target.newest = target.newest.max(id);
                target
                    .members
                    .insert(place, disk::member(id, Suffrage::Learner));
            }
        }
        let voters = target
            .members
            .iter()
            .filter(|member| member.suffrage.votes());
        if voters.count() == 0 || target.is_joint() {
            return;
        }
        let settled = !self.raft.is_changing();
        let changed = self
            .raft
            .change_membership(self.now, script.near(1000), &target);
        assert!(changed.is_err() || settled, "one change at a time");
        self.turn(None);
    }

    /// Something is less than whole, or is whole again.
    fn harm(&mut self, script: &mut Script<'_>) {
        match script.below(4) {
            0 => {
                let first = Index(self.disk.base().index.0 + 1 + script.below(8) as u64);
                self.disk.faulty = self.disk.entry(first).map(|_| first).into_iter().collect();
            }
            1 => {
                if let Some(entry) = self
                    .disk
                    .first_faulty()
                    .and_then(|index| self.disk.entry(index))
                {
                    self.raft.mended(entry);
                }
                self.disk.faulty.clear();
            }
            2 => {
                self.disk.rebuilding = true;
                self.raft.rebuild(self.now);
                self.applied = self.raft.base().index;
            }
            _ => self.raft.set_digest(message::digest(script)),
        }
        self.raft.set_faulty(self.disk.first_faulty());
        self.apply();
        self.turn(None);
    }

    /// What is committed is applied, as far as there are a state and whole entries.
    fn apply(&mut self) {
        let whole = self
            .disk
            .first_faulty()
            .map_or(Index(u64::MAX), Index::prev);
        let upto = self.raft.commit().min(whole);
        if upto > self.applied && !self.raft.is_rebuilding() {
            self.applied = upto;
            self.raft.applied(upto);
        }
    }

    /// A snapshot is taken of what is applied and durable, or a log begins behind one, on disk
    /// too or not yet; a leader sends a piece to who needs one.
    fn compact(&mut self, script: &mut Script<'_>) {
        let most = self.applied.min(self.raft.durable());
        if let Some(entry) = self.disk.entry(most)
            && most > self.raft.base().index
        {
            self.disk.mark(entry.id());
            self.published = self.disk.snapshot();
        }
        let back = script.below(4) as u64;
        let upto = Index(self.disk.snapshot().index.0.saturating_sub(back)).min(self.applied);
        let before = self.raft.base();
        self.raft.compact(upto);
        assert_eq!(self.raft.base().index, upto.max(before.index));
        if script.flag() {
            self.disk.compact(upto);
        }
        let mut effects = Vec::new();
        for to in self.raft.needs_snapshot().collect::<Vec<_>>() {
            let (snapshot, piece) = (self.published, vec![7; script.below(4)]);
            self.raft
                .chunk(to, snapshot, 9, 0, piece.into(), &mut effects);
        }
        self.carry_out(effects);
        self.turn(None);
    }

    /// One of the snapshots that were offered is there, whole.
    fn install(&mut self, script: &mut Script<'_>) {
        if self.offered.is_empty() {
            return;
        }
        let snapshot = script.pick(&self.offered);
        let was_rebuilding = self.raft.is_rebuilding();
        let before = (self.raft.base(), self.raft.last(), self.raft.commit());
        let wall_ms = snapshot.index.0;
        let installed = self.raft.install(snapshot, wall_ms, &self.membership);
        let after = (self.raft.base(), self.raft.last(), self.raft.commit());
        match installed {
            Installed::Stale => assert_eq!(before, after),
            Installed::Kept => {
                let commit = before.2.max(snapshot.index);
                assert_eq!((before.0, before.1, commit), after);
            }
            Installed::Reset => assert_eq!((snapshot, snapshot, snapshot.index), after),
        }
        if installed != Installed::Stale {
            assert!(
                was_rebuilding || snapshot.index > self.applied,
                "{snapshot} is none too new"
            );
            self.applied = snapshot.index;
            self.published = snapshot;
            self.disk.rebuilding = false;
            self.apply();
        }
        self.turn(None);
    }

    /// A member, the node itself, or a stranger.
    fn sender(&self, script: &mut Script<'_>) -> NodeId {
        match script.below(16) {
            0 => NodeId(script.near(9)),
            place => self.ids[place % self.ids.len()],
        }
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        self.turn(Some(Input::Receive { from, message }));
    }

    /// What the disk brings for a follower: what was asked for, nothing, or nonsense.
    fn load(&mut self, script: &mut Script<'_>) {
        let to = self.sender(script);
        let entries = match script.below(4) {
            0 => Vec::new(),
            1 => message::entries(script, self.raft.last()),
            _ => {
                let from = self.disk.base().index.0 + 1 + script.below(16) as u64;
                self.disk.load(Index(from), 1 + script.below(8))
            }
        };
        self.turn(Some(Input::Loaded { to, entries }));
    }

    fn crash(&mut self, script: &mut Script<'_>) {
        if script.rarely(4) {
            self.disk.lose();
        } else {
            self.disk.crash(script.below(8));
        }
        self.held.clear();
        self.told_commit = Index(0);
        self.published = self.disk.snapshot();
        self.applied = if self.disk.rebuilding {
            self.disk.base().index
        } else {
            self.published.index
        };
        self.offered.clear();
        let restored = self
            .disk
            .restored(script.below(16), self.formed, &self.membership);
        self.raft = Raft::new(self.config.clone(), restored, self.now);
    }

    fn turn(&mut self, input: Option<Input>) {
        let mut effects = Vec::new();
        if let Some(input) = input {
            self.raft.step(self.now, input, &mut effects);
        }
        self.raft.flush(self.now, &mut effects);
        self.carry_out(effects);
        if self.raft.durable() >= self.published.index {
            self.disk.mark(self.published);
        }
        let durable = self.disk.sync(0);
        self.release(durable);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(write) => self.disk.submit(write),
                Effect::Commit(index) => {
                    assert!(index > self.told_commit, "a commit is told once");
                    self.told_commit = index;
                    self.apply();
                }
                Effect::Send { to, after, message } => {
                    self.asked.note(to, &message);
                    self.check_acknowledgement(&message);
                    let after = after.unwrap_or_default();
                    assert!(after.0 <= self.disk.issued().0 + 1, "waits for no write");
                    self.held.push((after, to, message));
                }
                Effect::Load {
                    max_bytes, from, ..
                } => {
                    assert!(max_bytes > 0, "a load of nothing");
                    assert!(from > self.raft.base().index, "a load below the base");
                }
                Effect::Refuse { error, .. } => {
                    assert!(!error.to_string().is_empty());
                }
                Effect::Chunk(chunk) => {
                    if self.offered.len() == OFFERED_MAX {
                        self.offered.remove(0);
                    }
                    self.offered.push(chunk.snapshot);
                    let mut effects = Vec::new();
                    let received = chunk.offset + chunk.bytes.len() as u64;
                    self.raft
                        .answer_chunk(chunk.snapshot, received, &mut effects);
                    self.carry_out(effects);
                }
                Effect::SnapshotAnswer { from, .. } => {
                    let members = &self.raft.membership().members;
                    let is_member = members.iter().any(|member| member.id == from);
                    assert!(is_member, "a stranger needs one");
                }
                Effect::Digest { .. }
                | Effect::MembershipChanged(_)
                | Effect::RoundConfirmed { .. }
                | Effect::RoleChanged(_) => {}
            }
        }
    }

    /// What is acknowledged is on the disk. It may be gone when the message leaves: a leader that
    /// contradicts itself can have it replaced.
    fn check_acknowledgement(&self, message: &Message) {
        if let Message::AppendOk(m) = message
            && m.match_index > self.disk.base().index
        {
            let faulty = self.disk.first_faulty();
            assert!(
                faulty.is_none_or(|faulty| m.match_index < faulty),
                "a faulty entry is acknowledged"
            );
            let durable = self.disk.entry(m.match_index);
            let durable = durable.expect("what is acknowledged is on the disk");
            let entry = self.raft.entry(m.match_index);
            assert!(
                entry.is_none_or(|entry| entry == durable),
                "another entry is"
            );
        }
    }

    fn note_vote(&mut self, to: NodeId, message: &Message) {
        let (term, candidate) = match message {
            Message::RequestVote(m) => (m.term, self.config.id),
            Message::VoteAnswer(m) if m.granted => (m.term, to),
            _ => return,
        };
        let first = *self.votes.entry(term).or_insert(candidate);
        assert_eq!(first, candidate, "two votes in term {term}");
    }

    /// What waited for this leaves: what it reveals must be on the disk.
    fn release(&mut self, durable: Ticket) {
        let hard_state = self.disk.hard_state;
        let leaving = self.held.extract_if(.., |(after, _, _)| *after <= durable);
        for (_, to, message) in leaving.collect::<Vec<_>>() {
            self.note_vote(to, &message);
            match message {
                // They name a term that nobody has entered.
                Message::PreVote(m) => assert!(m.term.0 <= hard_state.term.0 + 1),
                Message::PreVoteAnswer(m) if m.granted => {}
                message => assert!(
                    message.term() <= Some(hard_state.term),
                    "an unwritten term leaves: {message:?}"
                ),
            }
        }
    }
}
