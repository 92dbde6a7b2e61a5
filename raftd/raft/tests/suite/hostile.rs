//! Whatever a peer says, in whatever state: a node never panics, and never breaks what it owes to
//! itself (debug builds check every invariant after every step).

use bytes::BytesMut;
use proptest::prelude::*;
use raft::{Effect, Input, Raft, RoleName, Ticket};
use wire::entry::{Entry, EntryKind};
use wire::peer::{
    Append, AppendConflict, AppendOk, DiskReport, Message, PreVote, PreVoteAnswer, RequestVote,
    StaleTerm, VoteAnswer,
};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, Options};

/// Numbers near the node's own, and absurd ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => 0_u64..8,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX >> 1),
        1 => Just((u64::MAX >> 1) + 1),
        1 => any::<u64>(),
    ]
}

fn id() -> impl Strategy<Value = EntryId> {
    prop_oneof![
        1 => Just(EntryId::default()),
        5 => (number(), number()).prop_map(|(term, index)| EntryId {
            term: Term(term),
            index: Index(index),
        }),
    ]
}

/// Entries that nearly follow `prev`: most have no gap and no falling term, some have.
fn entries(prev: EntryId) -> BoxedStrategy<Vec<Entry>> {
    let step = (prop::bool::weighted(0.97), 0_u64..3, 0_usize..200);
    prop::collection::vec(step, 0..5)
        .prop_map(move |steps| {
            let mut id = prev;
            let mut entries = Vec::new();
            for (follows, term_up, size) in steps {
                id.index = Index(id.index.0.wrapping_add(if follows { 1 } else { 3 }));
                id.term = Term(id.term.0.wrapping_add(term_up.saturating_sub(1)));
                let body = vec![7; size];
                let kind = if size == 0 {
                    EntryKind::Noop
                } else {
                    EntryKind::Command
                };
                entries.push(Entry::build(
                    &mut BytesMut::new(),
                    id,
                    size as u64,
                    kind,
                    &body,
                ));
            }
            entries
        })
        .boxed()
}

fn append() -> BoxedStrategy<Message> {
    (number(), id(), number(), number())
        .prop_flat_map(|head| (Just(head), entries(head.1)))
        .prop_map(|((term, prev, commit, round), entries)| {
            Message::Append(Append {
                term: Term(term),
                prev,
                commit: Index(commit),
                round,
                digest: None,
                entries,
            })
        })
        .boxed()
}

fn message() -> BoxedStrategy<Message> {
    let disk = DiskReport::default();
    prop_oneof![
        6 => append(),
        3 => (number(), number(), number(), number()).prop_map(move |(term, round, m, received)| {
            Message::AppendOk(AppendOk {
                term: Term(term),
                round,
                match_index: Index(m),
                received: Index(received),
                disk,
                digest: None,
            })
        }),
        3 => (number(), number(), id(), prop::option::of(id()), id()).prop_map(
            move |(term, round, prev, conflict, last)| Message::AppendConflict(AppendConflict {
                term: Term(term),
                round,
                prev,
                conflict,
                last,
                disk,
            })
        ),
        1 => number().prop_map(|term| Message::StaleTerm(StaleTerm { term: Term(term) })),
        1 => (number(), id()).prop_map(|(term, last)| Message::PreVote(PreVote {
            term: Term(term),
            last,
        })),
        2 => (number(), any::<bool>()).prop_map(|(term, granted)| {
            Message::PreVoteAnswer(PreVoteAnswer { term: Term(term), granted })
        }),
        2 => (number(), id(), any::<bool>()).prop_map(|(term, last, transfer)| {
            Message::RequestVote(RequestVote { term: Term(term), last, transfer })
        }),
        2 => (number(), any::<bool>()).prop_map(|(term, granted)| {
            Message::VoteAnswer(VoteAnswer { term: Term(term), granted })
        }),
    ]
    .boxed()
}

#[derive(Clone, Debug)]
enum Event {
    Said(u64, Message),
    Deadline,
    Late(u64),
    Durable,
    Propose(usize),
    Read,
    Closed,
    Stalled(bool),
    Loaded(u64, Vec<Entry>),
}

fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        12 => (0_u64..6, message()).prop_map(|(from, m)| Event::Said(from, m)),
        2 => Just(Event::Deadline),
        1 => (0_u64..400).prop_map(Event::Late),
        4 => Just(Event::Durable),
        2 => (0_usize..300).prop_map(Event::Propose),
        1 => Just(Event::Read),
        1 => Just(Event::Closed),
        1 => any::<bool>().prop_map(Event::Stalled),
        1 => (1_u64..4, id().prop_flat_map(entries)).prop_map(|(to, e)| Event::Loaded(to, e)),
    ]
    .boxed()
}

/// The disk of the one honest thing here: it completes what it was given, in order.
struct Driver {
    raft: Raft,
    now: raft::Instant,
    issued: Ticket,
    log: usize,
}

impl Driver {
    fn turn(&mut self, input: Option<Input>) {
        let mut effects = Vec::new();
        if let Some(input) = input {
            self.raft.step(self.now, input, &mut effects);
        }
        self.raft.flush(self.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    assert_eq!(write.ticket.0, self.issued.0 + 1, "tickets are dense");
                    self.issued = write.ticket;
                    if let Some(from) = write.truncate_from {
                        self.log = usize::try_from(from.0).expect("small") - 1;
                    }
                    for entry in &write.entries {
                        self.log += 1;
                        assert_eq!(entry.index().0, self.log as u64, "a gap on disk");
                    }
                }
                Effect::Commit(index) => self.raft.applied(index),
                Effect::Send { after, .. } => {
                    assert!(after.is_none_or(|ticket| ticket.0 <= self.issued.0 + 1));
                }
                _ => {}
            }
        }
    }

    fn feed(&mut self, event: Event) {
        match event {
            Event::Said(from, message) => {
                let from = NodeId(from);
                self.turn(Some(Input::Receive { from, message }));
            }
            Event::Deadline => {
                if let Some(at) = self.raft.deadline() {
                    self.now = self.now.max(at);
                }
                self.turn(Some(Input::Tick));
            }
            Event::Late(ms) => {
                self.now = self.now + std::time::Duration::from_millis(ms);
                self.turn(Some(Input::Tick));
            }
            Event::Durable => self.turn(Some(Input::Durable(self.issued))),
            Event::Propose(size) => {
                let led = self.raft.role() == RoleName::Leader;
                assert_eq!(self.raft.propose(5, &vec![1; size]).is_ok(), led);
                self.turn(None);
            }
            Event::Read => {
                let led = self.raft.role() == RoleName::Leader;
                assert_eq!(self.raft.read().is_ok(), led);
                self.turn(None);
            }
            Event::Closed => self.turn(Some(Input::LeaderLinkClosed)),
            Event::Stalled(on) => self.raft.set_disk(DiskReport::default(), on),
            Event::Loaded(to, entries) => {
                let to = NodeId(to);
                self.turn(Some(Input::Loaded { to, entries }));
            }
        }
    }
}

/// A node of three in some role, with a log of two terms.
fn driver(role: RoleName, seed: u64) -> Driver {
    let mut cluster = Cluster::new(Options {
        seed,
        window_bytes: 300,
        cache_bytes: 100,
        ..Options::default()
    });
    let own = NodeId(1);
    cluster.elect(own);
    cluster.propose(own, &[b"a", b"b"]);
    cluster.settle();
    let other = NodeId(2);
    cluster.elect(other);
    match role {
        RoleName::Follower => {}
        RoleName::PreCandidate | RoleName::Candidate | RoleName::Leader => {
            cluster.advance(std::time::Duration::from_secs(1));
            cluster.turn(own, vec![Input::Tick]);
        }
    }
    if matches!(role, RoleName::Candidate | RoleName::Leader) {
        let message = Message::PreVoteAnswer(PreVoteAnswer {
            term: cluster.raft(own).term().next(),
            granted: true,
        });
        cluster.turn(
            own,
            vec![Input::Receive {
                from: other,
                message,
            }],
        );
    }
    if role == RoleName::Leader {
        cluster.sync(own, usize::MAX);
        let message = Message::VoteAnswer(VoteAnswer {
            term: cluster.raft(own).term(),
            granted: true,
        });
        cluster.turn(
            own,
            vec![Input::Receive {
                from: other,
                message,
            }],
        );
    }
    let node = cluster.node(own);
    let raft = node.raft.take().expect("it is up");
    assert_eq!(raft.role(), role);
    let issued = node.issued();
    Driver {
        raft,
        now: cluster.now,
        issued,
        log: cluster.nodes[&own].log.len(),
    }
}

fn role() -> impl Strategy<Value = RoleName> {
    prop_oneof![
        Just(RoleName::Follower),
        Just(RoleName::PreCandidate),
        Just(RoleName::Candidate),
        Just(RoleName::Leader),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 800,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_message_in_any_state_panics(
        role in role(),
        seed in any::<u64>(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut driver = driver(role, seed);
        for event in events {
            driver.feed(event);
        }
    }
}
