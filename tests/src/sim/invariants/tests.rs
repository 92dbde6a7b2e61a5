//! Every invariant can fail: what was seen of a healthy cluster is contradicted, or what it says.

use std::time::Duration;

use bytes::BytesMut;
use raftd::disk::Disk;
use wire::client::Reply;
use wire::command::{Command, Outcome};
use wire::peer::{
    AppendOk, DiskReport, Health, Message, PreVote, RequestVote, StaleTerm, VoteAnswer,
};

use super::*;
use crate::sim::audit::Held;
use crate::sim::member::{Crash, EPOCH, Member};
use crate::sim::trace::Trace;
use crate::sim::world::{Did, World};

const MS: Duration = Duration::from_millis(1);

/// Three members that serve, and what was seen of them.
struct Stage {
    world: World,
    seen: Invariants,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self {
            world: World::fair(3, 5, Trace::default()),
            seen: Invariants::new(3, 0, EPOCH, Limits::default()),
        };
        stage.run(1_000).unwrap();
        stage
    }

    /// Lets time pass until something is wrong.
    fn run(&mut self, millis: u32) -> Result<(), String> {
        let end = self.world.now() + MS * millis;
        loop {
            match self.world.step(end) {
                Did::Rest => return Ok(()),
                Did::Thought(host) => {
                    self.look(host)?;
                    self.world.carry_out(host);
                }
                Did::Started(host, _) => {
                    let member = &self.world.members()[host];
                    let node = member.node().expect("it has started");
                    self.seen.started(host, node, member.disk())?;
                }
                _ => {}
            }
        }
    }

    fn look(&mut self, host: Host) -> Result<(), String> {
        let (world, seen) = (&self.world, &mut self.seen);
        let effects = world.members()[host].effects().expect("it is up");
        judge(world, seen, host, effects)
    }

    fn judge(&mut self, host: Host, effects: &Effects) -> Result<(), String> {
        judge(&self.world, &mut self.seen, host, effects)
    }

    fn leader(&self) -> Host {
        let mut members = self.seen.members.iter();
        let leader = members.position(|member| member.leads.is_some());
        leader.expect("somebody leads")
    }

    /// Forgets what a member's disk holds, and does not look again.
    fn forget_disk(&mut self, host: Host) {
        self.look_away(host);
        self.seen.members[host].audit = Audit::default();
    }

    /// Nothing more is read from the disks.
    fn forget_nothing(&mut self) {
        for host in 0..3 {
            self.look_away(host);
        }
    }

    fn look_away(&mut self, host: Host) {
        let disk = self.world.members()[host].disk();
        self.seen.members[host].changes = Some((disk.syncs(), disk.name_changes()));
    }

    fn node(&self, host: Host) -> &Node {
        self.world.members()[host].node().expect("it is up")
    }

    fn disks(&self) -> Vec<&SimDisk> {
        self.world.members().iter().map(Member::disk).collect()
    }
}

fn judge(
    world: &World,
    seen: &mut Invariants,
    host: Host,
    effects: &Effects,
) -> Result<(), String> {
    let members = world.members();
    let member = &members[host];
    let disks: Vec<_> = members.iter().map(Member::disk).collect();
    let turn = Turn {
        node: member.node().expect("it is up"),
        effects,
        disk: member.disk(),
        peer_of: &|link| member.peer_of(link),
    };
    seen.after_turn(host, turn, &disks)?;
    seen.matches(host, turn.node)
}

pub(super) fn bogus(term: u64, index: u64) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    Entry::build(&mut BytesMut::new(), id, u64::MAX, EntryKind::Noop, &[])
}

pub(super) fn says(outcome: Result<(), String>, words: &str) {
    let told = outcome.expect_err(words);
    assert!(told.contains(words), "{told}");
}

#[test]
fn a_healthy_cluster_breaks_nothing() {
    let mut stage = Stage::new();
    for host in [0, 1, 2] {
        stage.world.crash(host, Crash::PowerLoss);
        stage.world.start_later(host, 200 * MS);
        stage.run(2_000).unwrap();
    }
    assert!(stage.seen.committed().len() >= 2);
    let disks: Vec<SimDisk> = stage.disks().into_iter().cloned().collect();
    let disks: Vec<&SimDisk> = disks.iter().collect();
    stage.seen.finish(&disks, &BTreeMap::new()).unwrap();
}

#[test]
fn two_leaders_of_a_term() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    let term = stage.node(leader).raft().term();
    for later in 1..20 {
        let later = Term(term.0 + later);
        stage.seen.elections.leads(later, NodeId(9)).unwrap();
    }
    stage.world.crash(leader, Crash::Kill);
    says(stage.run(3_000), "both lead");
}

#[test]
fn a_leader_whose_vote_is_not_durable() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    stage.forget_disk(leader);
    stage.seen.members[leader].leads = None;
    let node = stage.world.members()[leader].node().expect("it is up");
    says(stage.seen.leads(leader, node, &[]), "is durable");
}

#[test]
fn a_leader_without_a_quorum_of_votes() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    stage.seen.elections = Elections::default();
    stage.seen.members[leader].leads = None;
    let node = stage.world.members()[leader].node().expect("it is up");
    says(stage.seen.leads(leader, node, &[]), "durable votes");
}

#[test]
fn a_leader_without_what_is_committed() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    let next = stage.seen.committed.last().next();
    let entry = bogus(stage.node(leader).raft().term().0, next.0);
    let term = entry.term();
    stage.seen.committed.push(entry, term).unwrap();
    stage.world.crash(leader, Crash::Kill);
    says(stage.run(3_000), "without the committed");
}

#[test]
fn another_entry_is_committed() {
    let mut stage = Stage::new();
    let follower = (stage.leader() + 1) % 3;
    let mut committed = Committed::default();
    committed.push(bogus(1, 1), Term(1)).unwrap();
    stage.seen.committed = committed;
    stage.world.crash(follower, Crash::Kill);
    stage.world.start_later(follower, MS);
    says(stage.run(1_000), "are committed at");
}

#[test]
fn a_commit_that_only_the_leader_holds() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    for host in (0..3).filter(|host| *host != leader) {
        stage.forget_disk(host);
    }
    let disks: Vec<SimDisk> = stage.disks().into_iter().cloned().collect();
    let disks: Vec<&SimDisk> = disks.iter().collect();
    let membership = stage.node(leader).raft().membership().clone();
    says(
        stage
            .seen
            .is_on_a_quorum(Index(1), Term(1), &membership, &disks),
        "on 1 of 3 disks",
    );
}

#[test]
fn a_follower_counted_for_what_it_has_not() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    stage.forget_disk((leader + 1) % 3);
    stage.seen.members[leader].matches.clear();
    let node = stage.world.members()[leader].node().expect("it is up");
    says(stage.seen.matches(leader, node), "counts");
}

/// A stale acknowledgement is no lie: what it spoke of was durable when it was given.
#[test]
fn what_was_cut_was_held() {
    let mut watched = Watched::new(NodeId(1));
    let entry = Held {
        term: Term(1),
        crc: 5,
    };
    watched.gone.push((Index(4), vec![entry]));
    assert!(watched.held_ever(Index(4), Some(entry)));
    assert!(!watched.holds(Index(4), Some(entry)));
    for index in [3, 5] {
        assert!(!watched.held_ever(Index(index), Some(entry)));
    }
    assert!(!watched.held_ever(Index(4), None));
}

/// A file that lost its name while it was written cannot be looked at any more; only damage
/// excuses that.
#[test]
fn a_disk_that_cannot_be_seen() {
    for damaged in [false, true] {
        let mut stage = Stage::new();
        stage.forget_disk(0);
        if damaged {
            stage.seen.damaged(0);
        }
        let outcome = stage.judge(0, &Effects::default());
        assert_eq!(outcome.is_ok(), damaged, "{outcome:?}");
    }
}

#[test]
fn a_start_without_what_was_durable() {
    let mut stage = Stage::new();
    let node = stage.world.members()[0].node().expect("it is up");
    let empty = SimDisk::new(1, 1 << 20);
    stage.seen.members[0].audit = Audit::default();
    says(stage.seen.started(0, node, &empty), "starts with");
}

#[test]
fn a_commit_hint_from_nowhere() {
    let mut stage = Stage::new();
    // The hint of the first leader's entry is durable with the second one's.
    for _ in 0..2 {
        let leader = stage.leader();
        stage.world.crash(leader, Crash::Kill);
        stage.world.start_later(leader, MS);
        stage.run(3_000).unwrap();
    }
    stage.seen.committed = Committed::default();
    let leader = stage.leader();
    stage.world.crash(leader, Crash::Kill);
    stage.world.start_later(leader, MS);
    says(stage.run(3_000), "says that 2 is committed");
}

#[test]
fn numbers_that_fall_and_logs_that_differ() {
    type Spoil = fn(&mut Watched);
    let spoils: [(Spoil, &str); 5] = [
        (|member| member.commit = Index(99), "has applied="),
        (|member| member.applied = Index(99), "has applied="),
        (
            |member| {
                member.memory.pop();
            },
            "of which it handed over",
        ),
        (
            |member| {
                let last = member.memory.last_mut().expect("there is an entry");
                last.crc ^= 1;
            },
            "durable: its disk has",
        ),
        (
            |member| {
                member.audit = Audit::default();
            },
            "durable: its disk has",
        ),
    ];
    for (spoil, words) in spoils {
        let mut stage = Stage::new();
        stage.forget_nothing();
        spoil(&mut stage.seen.members[0]);
        says(stage.judge(0, &Effects::default()), words);
    }
}

#[test]
fn memory_without_bound() {
    let stage = Stage::new();
    let limits = Limits {
        cache_bytes: 0,
        entry_bytes_max: 0,
        ..Limits::default()
    };
    let mut seen = stage.seen;
    let leader = stage.world.members()[0].node().expect("it is up");
    says(seen.members[0].progress(leader, &limits), "cached bytes");
}

#[test]
fn what_is_told_before_it_is_durable() {
    let stage = Stage::new();
    let leader = stage.leader();
    let term = stage.node(leader).raft().term();
    let member = &stage.seen.members[leader];
    let whole = Condition::default();
    let ok = |message: Message| member.tells(&message, Some(NodeId(9)), whole).is_ok();
    let later = term.next();
    let last = EntryId::default();
    assert!(ok(Message::StaleTerm(StaleTerm { term })));
    assert!(!ok(Message::StaleTerm(StaleTerm { term: later })));
    assert!(ok(Message::PreVote(PreVote { term: later, last })));
    let far = later.next();
    assert!(!ok(Message::PreVote(PreVote { term: far, last })));
    let request = |term| RequestVote {
        term,
        last,
        transfer: None,
    };
    assert!(ok(Message::RequestVote(request(term))));
    assert!(!ok(Message::RequestVote(request(later))));
    // It voted for itself.
    let granted = true;
    assert!(!ok(Message::VoteAnswer(VoteAnswer { term, granted })));
    let granted = false;
    assert!(ok(Message::VoteAnswer(VoteAnswer { term, granted })));
    assert!(ok(Message::AppendOk(answer(term, 1))));
    assert!(!ok(Message::AppendOk(answer(term, 2))));
}

/// Rules D4: as long as a log is lost or has faulty entries, before a turn and after it.
#[test]
fn what_is_told_by_who_is_less_than_whole() {
    let stage = Stage::new();
    let leader = stage.leader();
    let term = stage.node(leader).raft().term();
    let mut member = stage.seen.members.into_iter().nth(leader).unwrap();
    let whole = Condition::default();
    let lost = Condition {
        lost: true,
        ..whole
    };
    let faulty = |index| Condition {
        faulty: Some(Index(index)),
        ..whole
    };
    let vote = Message::RequestVote(RequestVote {
        term,
        last: EntryId::default(),
        transfer: None,
    });
    let ok = Message::AppendOk(answer(term, 1));
    for (before, after, message, words) in [
        (lost, lost, &vote, Some("has lost entries")),
        (whole, lost, &vote, None),
        (lost, whole, &vote, None),
        (lost, lost, &ok, None),
        (faulty(1), faulty(1), &ok, Some("is faulty")),
        (faulty(2), faulty(1), &ok, None),
        (faulty(1), faulty(2), &ok, None),
        (whole, faulty(1), &ok, None),
        (faulty(1), faulty(1), &vote, None),
    ] {
        member.remember(before);
        let told = member.tells(message, Some(NodeId(9)), after);
        match words {
            Some(words) => says(told, words),
            None => told.unwrap(),
        }
    }
    let rebuilding = Condition {
        rebuilding: true,
        ..whole
    };
    for condition in [lost, faulty(7), rebuilding] {
        member.remember(condition);
        says(member.may_lead(condition), "begins to lead");
        member.may_lead(whole).unwrap();
    }
}

/// Rules D4: what was acknowledged in this term and damaged since counts, all else does not.
#[test]
fn copies_that_are_damaged_do_not_count() {
    let entry = Held {
        term: Term(1),
        crc: 5,
    };
    let member = || {
        let mut watched = Watched::new(NodeId(1));
        watched.below = vec![entry];
        watched
    };
    let counts = |member: &Watched| member.counts_for(Term(2), Index(1), Some(entry));
    assert!(counts(&member()));
    let faulty = |mut member: Watched| {
        member.remember(Condition {
            faulty: Some(Index(1)),
            ..Condition::default()
        });
        member
    };
    assert!(!counts(&faulty(member())));
    for (term, harmed) in [(2, true), (2, false), (1, true)] {
        let mut told = member();
        told.told(&Message::AppendOk(answer(Term(term), 1)));
        if harmed {
            told.harm();
        }
        assert_eq!(counts(&faulty(told)), term == 2 && harmed);
    }
}

#[test]
fn a_log_that_is_lost_no_more_before_it_has_what_it_acknowledged() {
    let mut committed = Committed::default();
    committed.push(bogus(1, 1), Term(1)).unwrap();
    let mut member = Watched::new(NodeId(1));
    member.has_regained(&committed).unwrap();
    member.owes = Index(1);
    says(member.has_regained(&committed), "is committed");
    member.owes = Index(1);
    member.below = committed.upto(bogus(1, 1).id()).unwrap();
    member.has_regained(&committed).unwrap();
}

fn answer(term: Term, match_index: u64) -> AppendOk {
    AppendOk {
        term,
        round: 0,
        match_index: Index(match_index),
        received: Index(match_index),
        disk: DiskReport::default(),
        health: Health::default(),
        digest: None,
    }
}

#[test]
fn an_acknowledgement_of_another_entry_than_the_leaders() {
    let mut stage = Stage::new();
    let leader = stage.leader();
    let term = stage.node(leader).raft().term();
    let follower = (leader + 1) % 3;
    let message = Message::AppendOk(answer(term, 1));
    stage
        .seen
        .agrees_with_its_leader(follower, &message)
        .unwrap();
    stage.seen.members[leader].memory[0].crc ^= 1;
    let told = stage.seen.agrees_with_its_leader(follower, &message);
    says(told, "acknowledges");
}

#[test]
fn a_write_acknowledged_that_is_not_committed() {
    let mut stage = Stage::new();
    for (term, index) in [(1, 77), (99, 1)] {
        let mut effects = Effects::default();
        let reply = Reply::Written {
            term: Term(term),
            index: Index(index),
            outcome: Outcome::Put,
        };
        reply.encode(1, &mut effects.reply_bytes);
        let end = effects.reply_bytes.len();
        let connection = raftd::node::io::ConnectionId(1);
        effects.replies.push((connection, 0..end));
        stage.forget_nothing();
        says(stage.judge(0, &effects), "acknowledges");
    }
}

#[test]
fn a_disk_that_changes_by_itself() {
    let mut stage = Stage::new();
    let disks: Vec<SimDisk> = stage.disks().into_iter().cloned().collect();
    let disks: Vec<&SimDisk> = disks.iter().collect();
    disks[1].rot("wal/0000000000000001.wal", 4096 + 600, 1);
    says(stage.seen.finish(&disks, &BTreeMap::new()), "held");
    stage.seen.damaged(1);
    stage.seen.finish(&disks, &BTreeMap::new()).unwrap();
}

#[test]
fn a_refused_attempt_that_was_appended() {
    let session = SessionId {
        epoch: EPOCH,
        born: Index(0),
        nonce: 1,
    };
    let write = Write {
        session,
        seq: 1,
        floor: 1,
        command: Command::Delete { key: b"k" },
    };
    let mut body = BytesMut::new();
    write.encode_body(&mut body);
    let entry = |index| {
        let id = EntryId {
            term: Term(1),
            index: Index(index),
        };
        Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Command, &body)
    };
    let log = [entry(1), entry(2)];
    let possible = |count| BTreeMap::from([((session, 1), count)]);
    check_appended(&log, &possible(2)).unwrap();
    assert!(check_appended(&log, &possible(1)).is_err());
    assert!(check_appended(&log, &BTreeMap::new()).is_err());
}

/// What a snapshot says, where it is, and what goes when it is there.
#[test]
fn snapshots_and_segments_that_cannot_be() {
    let mut stage = Stage::new();
    let disks: Vec<SimDisk> = stage.disks().into_iter().cloned().collect();
    let look = |stage: &mut Stage, disk: &SimDisk| stage.seen.look(0, disk, true);
    look(&mut stage, &disks[0]).unwrap();

    let torn = disks[0].fork(1);
    torn.create_dir("snap").unwrap();
    torn.create("snap/0000000000000001-1.snap", 16_384).unwrap();
    torn.sync_dir("snap").unwrap();
    says(look(&mut stage, &torn), "snap/0000000000000001-1.snap of 1");

    let mut stage = Stage::new();
    look(&mut stage, &disks[0]).unwrap();
    let short = disks[0].fork(1);
    short.lose_name("wal/0000000000000001.wal");
    says(look(&mut stage, &short), "removes segment 1");
}
