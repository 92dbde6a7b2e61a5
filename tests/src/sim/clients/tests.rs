//! Clients against a server that the test plays.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use wire::client::{Reply, Request};
use wire::command::Outcome;
use wire::error::Error;
use wire::frame;
use wire::hello::{LeaderHint, PeerIdentity, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{EntryId, Incarnation, Index, NodeId, Term};

use super::*;
use crate::history::Operation;
use crate::sim::member::{CLUSTER, EPOCH, client_addr};
use crate::sim::plan::Mix;
use crate::sim::plan::Plan;

const MS: u64 = 1_000_000;

/// One client that puts, with this many requests in flight.
fn putting(in_flight: usize) -> Clients {
    let mut workload = Plan::draw(1).workload;
    workload.clients = 1;
    workload.in_flight = in_flight;
    workload.pause = Duration::from_millis(1);
    workload.mix = Mix {
        put: 1,
        delete: 0,
        cas: 0,
        increment: 0,
        get: 0,
        scan: 0,
        compound: 0,
    };
    workload.large_values = 0;
    workload.deadline = Duration::ZERO;
    workload.patience = Duration::from_secs(1);
    workload.abandoned = 0;
    workload.wrong = 0;
    workload.session_writes = 1_000;
    workload.quiet = Vec::new();
    let mut clients = Clients::new(workload, 3, Random::new(4));
    // No bad habits, but everything else.
    clients.common.calm_since = None;
    clients.clients[0].habits = habits::Habits::none();
    clients
}

/// The other end: what the clients did, and time.
struct Stage {
    clients: Clients,
    now: Instant,
    actions: Vec<ClientAction>,
}

/// A write as the server gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Got {
    connection: u64,
    id: u64,
    seq: u64,
    floor: u64,
}

impl Stage {
    fn new(in_flight: usize) -> Self {
        Self {
            clients: putting(in_flight),
            now: Instant::default(),
            actions: Vec::new(),
        }
    }

    /// Lets time pass, step by step; what the client did comes back.
    fn pass(&mut self, millis: u64) -> Vec<ClientAction> {
        let end = Instant(self.now.0 + millis * MS);
        while let Some(at) = self.clients.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.clients.tick(self.now, &mut self.actions);
        }
        self.now = end;
        std::mem::take(&mut self.actions)
    }

    /// Takes the client's next call and welcomes it. Whom it called, and on which connection.
    fn welcome(&mut self) -> (u64, Host) {
        let done = self.pass(500);
        let Some(ClientAction::Connect { connection, to }) = done.first() else {
            panic!("nobody called: {done:?}");
        };
        let (connection, to) = (*connection, *to);
        self.clients
            .connected(self.now, connection, &mut self.actions);
        let welcome = Welcome {
            version: 1,
            features: 0,
            cluster: CLUSTER,
            epoch: EPOCH,
            identity: PeerIdentity {
                node: NodeId(to as u64 + 1),
                incarnation: Incarnation(1),
                life: 1,
                name: String::new(),
                client_addr: String::new(),
                virgin: false,
                formed: Vec::new(),
            },
            term: Term(1),
            applied: Index(10),
            leader: None,
        };
        let mut out = BytesMut::new();
        welcome.encode(&mut out);
        self.actions.clear();
        self.receive(connection, out.freeze());
        (connection, to)
    }

    fn receive(&mut self, connection: u64, bytes: Bytes) {
        self.clients
            .received(self.now, connection, bytes, &mut self.actions);
    }

    fn reply(&mut self, got: Got, reply: &Reply<'_>) {
        let mut out = BytesMut::new();
        reply.encode(got.id, &mut out);
        self.receive(got.connection, out.freeze());
    }

    fn refuse(&mut self, got: Got, error: Error) {
        self.reply(got, &Reply::Error(error));
    }

    fn written(&mut self, got: Got, index: u64) {
        let reply = Reply::Written {
            term: Term(1),
            index: Index(index),
            outcome: Outcome::Put,
        };
        self.reply(got, &reply);
    }

    /// The writes that the client sends within this time.
    fn writes(&mut self, millis: u64) -> Vec<Got> {
        let mut got = Vec::new();
        for action in self.pass(millis) {
            let ClientAction::Send { connection, bytes } = action else {
                continue;
            };
            let frame = frame::parse(&bytes, CLIENT_FRAME_BYTES_MAX).unwrap();
            let frame = frame.expect("whole frames");
            if let Ok(Request::Write { write, .. }) = Request::decode(&frame) {
                got.push(Got {
                    connection,
                    id: frame.request_id,
                    seq: write.seq,
                    floor: write.floor,
                });
            }
        }
        got
    }

    fn answers(mut self) -> Vec<(u64, Answer)> {
        assert_eq!(self.clients.breach(), None);
        let records = self.clients.finish().history.records.into_iter();
        let named = records.map(|record| match record.operation {
            Operation::Write { seq, .. } => (seq, record.answer),
            Operation::Read { .. } => unreachable!("nothing is read"),
        });
        named.collect()
    }
}

fn not_leader(node: u64) -> Error {
    Error::NotLeader {
        leader: LeaderHint {
            node: NodeId(node),
            client_addr: client_addr(node as Host - 1).to_string(),
        },
    }
}

fn by(index: u64) -> Answer {
    Answer::Written {
        id: EntryId {
            term: Term(1),
            index: Index(index),
        },
        outcome: Outcome::Put,
    }
}

#[test]
fn one_at_a_time_raises_the_floor_with_every_answer() {
    let mut stage = Stage::new(1);
    stage.welcome();
    for seq in 1..=3 {
        let got = stage.writes(50);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].seq, got[0].floor), (seq, seq));
        if seq == 3 {
            stage.clients.stop_issuing();
        }
        stage.written(got[0], 10 + seq);
    }
    assert_eq!(stage.answers(), [(1, by(11)), (2, by(12)), (3, by(13))]);
}

#[test]
fn a_hint_is_followed_and_the_name_kept() {
    let mut stage = Stage::new(1);
    let (_, first) = stage.welcome();
    let got = stage.writes(50);
    let other = (first + 1) % 3;
    stage.refuse(got[0], not_leader(other as u64 + 1));
    let (_, to) = stage.welcome();
    assert_eq!(to, other);
    let again = stage.writes(50);
    assert_eq!((again[0].seq, again[0].floor), (1, 1));
    stage.clients.stop_issuing();
    stage.written(again[0], 11);
    assert_eq!(stage.answers(), [(1, by(11))]);
}

#[test]
fn a_lost_connection_leaves_a_write_unknown_until_the_retry() {
    for answered in [true, false] {
        let mut stage = Stage::new(1);
        let (connection, _) = stage.welcome();
        stage.writes(50);
        stage.clients.stop_issuing();
        stage
            .clients
            .closed(stage.now, connection, &mut stage.actions);
        stage.actions.clear();
        stage.welcome();
        let again = stage.writes(50);
        assert_eq!(again[0].seq, 1);
        if answered {
            stage.written(again[0], 11);
            assert_eq!(stage.clients.counts().retried_ok, 1);
            assert_eq!(stage.answers(), [(1, by(11))]);
        } else {
            stage.refuse(again[0], Error::Stale);
            assert_eq!(stage.answers(), [(1, Answer::Unknown)]);
        }
    }
}

#[test]
fn a_refusal_for_good_of_the_only_attempt_is_certain() {
    for error in [Error::SessionExpired, Error::Stale] {
        let mut stage = Stage::new(1);
        stage.welcome();
        let got = stage.writes(50);
        stage.clients.stop_issuing();
        stage.refuse(got[0], error);
        assert_eq!(stage.answers(), [(1, Answer::NotApplied)]);
    }
}

#[test]
fn behind_a_gap_the_client_goes_back() {
    let mut stage = Stage::new(3);
    stage.welcome();
    let got = stage.writes(50);
    assert_eq!(got.iter().map(|got| got.seq).collect::<Vec<_>>(), [1, 2, 3]);
    stage.clients.stop_issuing();
    stage.refuse(got[0], Error::DiskFull { hard: true });
    stage.refuse(got[1], Error::OutOfOrder { expected: 1 });
    stage.refuse(got[2], Error::OutOfOrder { expected: 1 });
    let again = stage.writes(500);
    assert_eq!(
        again.iter().map(|got| got.seq).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    for (place, got) in again.iter().enumerate() {
        stage.written(*got, 11 + place as u64);
    }
    assert_eq!(stage.answers(), [(1, by(11)), (2, by(12)), (3, by(13))]);
}

#[test]
fn an_expired_session_is_followed_by_another() {
    let mut stage = Stage::new(1);
    stage.welcome();
    let got = stage.writes(50);
    stage.refuse(got[0], Error::SessionExpired);
    let got = stage.writes(50);
    assert_eq!((got[0].seq, got[0].floor), (1, 1));
    assert_eq!(stage.clients.counts().sessions, 2);
}

#[test]
fn an_id_that_was_used_once_is_no_id_reused() {
    let mut stage = Stage::new(1);
    stage.welcome();
    let got = stage.writes(50);
    stage.refuse(got[0], Error::IdReused);
    assert!(stage.clients.breach().is_some());
}

#[test]
fn a_second_answer_is_a_breach() {
    let mut stage = Stage::new(1);
    stage.welcome();
    let got = stage.writes(50);
    stage.written(got[0], 11);
    stage.written(got[0], 11);
    assert!(stage.clients.breach().is_some());
}

#[test]
fn a_retry_that_is_applied_again_is_a_breach() {
    let mut stage = Stage::new(1);
    let (connection, _) = stage.welcome();
    let got = stage.writes(50);
    stage.clients.stop_issuing();
    stage.written(got[0], 11);
    let client = &mut stage.clients.clients[0];
    client.later.push((stage.now, habits::Later::Resend(1)));
    stage.clients.plan();
    let again = stage.writes(1);
    assert_eq!((again[0].connection, again[0].seq), (connection, 1));
    stage.written(again[0], 12);
    assert!(stage.clients.breach().is_some());
}
