//! A server for the generator's tests: the protocol and the sessions' rules, no cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use wire::client::{Item, Reply, Request};
use wire::command::{Command, Outcome, Write};
use wire::error::Error;
use wire::frame::{self, Kind};
use wire::hello::{Hello, LeaderHint, PeerIdentity, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId, Term};

/// What all connections share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The keys that are set.
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Entries so far.
    pub(super) index: u64,
    /// Writes that were applied.
    pub(super) applied: u64,
    /// By nonce: the last seq and the replies from there back.
    sessions: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// The term; raising it is a new leader.
    pub(super) term: u64,
    /// Requests until all connections are closed; 0 is never.
    pub(super) close_after: u64,
    /// Each request closes its connection, and is not done.
    pub(super) closes_all: bool,
    /// All requests are refused: there is no room on the disks.
    pub(super) is_full: bool,
    /// Requests until one is refused; 0 is never.
    pub(super) refuse_after: u64,
    /// Requests until all of it stands still for a time; 0 is never.
    pub(super) stall_after: u64,
    /// For how long it then does.
    pub(super) stall: Duration,
}

/// A listening fake. The threads end with the test's process.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
}

impl Fake {
    /// A leader, or, with the leader's address, a follower that knows it.
    pub(super) fn start(leader: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            term: 1,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &shared, leader));
            }
        });
        Self { address, state }
    }
}

fn welcome(state: &State, leader: Option<SocketAddr>) -> Welcome {
    let hint = leader.map(|address| LeaderHint {
        node: NodeId(2),
        client_addr: address.to_string(),
    });
    Welcome {
        version: 1,
        features: 0,
        cluster: ClusterId(1),
        epoch: Epoch(1),
        identity: PeerIdentity {
            node: NodeId(1),
            incarnation: Incarnation(1),
            life: 1,
            name: "n1".into(),
            client_addr: "127.0.0.1:1".into(),
            virgin: false,
            formed: Vec::new(),
        },
        term: Term(state.term),
        applied: Index(state.index),
        leader: hint,
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>, leader: Option<SocketAddr>) {
    let mut input = Vec::new();
    let mut buffer = [0; 64 * 1024];
    let mut greeted = false;
    loop {
        let Ok(read @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        input.extend_from_slice(&buffer[..read]);
        let mut out = BytesMut::new();
        while let Some(frame) = frame::parse(&input, CLIENT_FRAME_BYTES_MAX).unwrap() {
            let mut state = state.lock().unwrap();
            if frame.kind == Kind::Hello {
                Hello::decode(&frame).unwrap();
                assert!(!greeted, "one hello per connection");
                greeted = true;
                welcome(&state, leader).encode(&mut out);
            } else {
                assert!(leader.is_none(), "only the leader is asked");
                let request = Request::decode(&frame).unwrap();
                let Some(reply) = answer(&mut state, &request) else {
                    return;
                };
                reply.encode(frame.request_id, &mut out);
            }
            let used = frame.len;
            input.drain(..used);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// What those who have no room say.
pub(super) const DISK_FULL: Error = Error::DiskFull { hard: true };

/// Counts down; true once, when it gets to zero.
fn rings(count: &mut u64) -> bool {
    *count = count.saturating_sub(1);
    *count == 0
}

/// `None` closes the connection, after the write was applied.
fn answer(state: &mut State, request: &Request<'_>) -> Option<Reply<'static>> {
    if state.stall_after > 0 && rings(&mut state.stall_after) {
        thread::sleep(state.stall);
    }
    if state.closes_all {
        return None;
    }
    if state.is_full {
        return Some(Reply::Error(DISK_FULL));
    }
    let closes = state.close_after > 0 && rings(&mut state.close_after);
    if state.refuse_after > 0 && rings(&mut state.refuse_after) {
        return Some(Reply::Error(Error::Overloaded { retry_after_ms: 1 }));
    }
    let reply = match request {
        Request::Get { key, .. } if state.keys.contains(*key) => Reply::Value {
            index: Index(state.index),
            item: Item {
                key: b"k",
                value: b"",
                revision: Index(1),
                create_revision: Index(1),
                version: 1,
            },
        },
        Request::Get { .. } => Reply::Missing {
            index: Index(state.index),
        },
        Request::Write { write, .. } => apply(state, write),
        Request::Scan { .. }
        | Request::Status
        | Request::Snapshot
        | Request::ReadSnapshot { .. }
        | Request::ChangeMembers { .. }
        | Request::Join { .. }
        | Request::TransferLeader { .. }
        | Request::Leaders
        | Request::WatchLeader => {
            panic!("the generator does not ask this")
        }
    };
    (!closes).then_some(reply)
}

/// Rules C2.
fn apply(state: &mut State, write: &Write<'_>) -> Reply<'static> {
    state.index += 1;
    let index = state.index;
    let replies = state.sessions.entry(write.session.nonce).or_default();
    let last = replies.last_key_value().map_or(0, |(seq, _)| *seq);
    let kept = replies.get(&write.seq).copied();
    let index = match kept {
        Some(index) => index,
        None if write.seq == (last + 1).max(write.floor) => {
            replies.insert(write.seq, index);
            state.applied += 1;
            match write.command {
                Command::Put { key, .. } => state.keys.insert(key.to_vec()),
                Command::Delete { key } => state.keys.remove(key),
                _ => panic!("the generator does not send this"),
            };
            index
        }
        None => {
            return Reply::Error(Error::OutOfOrder { expected: last + 1 });
        }
    };
    Reply::Written {
        term: Term(state.term),
        index: Index(index),
        outcome: Outcome::Put,
    }
}
