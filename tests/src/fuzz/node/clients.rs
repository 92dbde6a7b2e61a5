//! What clients ask, on a few connections and in a few sessions.

use bytes::BytesMut;
use raftd::node::io::{ConnectionId, Input};
use wire::client::{Consistency, Freshness, KeyRange, MemberChange, Request, ScanMode, ViewChoice};
use wire::command::{Command, Expect, SessionId, Write};
use wire::frame::{self, Kind};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{Epoch, Incarnation, Index, NodeId};

use super::super::frames::seal;
use super::super::script::Script;
use super::{EPOCH, Life, SESSIONS};

/// Connections that are open at a time.
const CONNECTIONS: usize = 3;

impl Life {
    pub(super) fn connection(&mut self, script: &mut Script<'_>) -> ConnectionId {
        let place = script.below(CONNECTIONS);
        while self.connections.len() <= place {
            self.serial += 1;
            self.connections.push(ConnectionId(self.serial));
        }
        self.connections[place]
    }

    pub(super) fn request(&mut self, script: &mut Script<'_>) {
        let connection = self.connection(script);
        let request_id = script.near(1).max(1);
        let key = &b"abc"[..1 + script.below(3)];
        let deadline_ms = script.pick(&[0, 0, 1, 100, u32::MAX]);
        let consistency = script.pick(&[
            Consistency::Linearizable,
            Consistency::Stale,
            Consistency::LinearizableAnywhere,
            Consistency::Bounded { max_lag_ms: 100 },
        ]);
        let after = match script.rarely(8) {
            true => script.index(self.node.store().applied().index),
            false => Index(0),
        };
        let freshness = Freshness { consistency, after };
        let mut body = BytesMut::new();
        let choice = script.byte();
        let request = match choice % 8 {
            0..=3 => {
                let write = self.write(script, key);
                write.encode_body(&mut body);
                let Ok(write) = Write::decode_body(&body) else {
                    return;
                };
                Request::Write {
                    deadline_ms,
                    write,
                    body: &body,
                }
            }
            4 => Request::Get {
                deadline_ms,
                freshness,
                key,
            },
            5 => Request::Scan {
                deadline_ms,
                freshness,
                mode: script.pick(&[ScanMode::Items, ScanMode::Keys, ScanMode::Count]),
                range: KeyRange {
                    from: script.pick(&[b"", key]),
                    to: script.pick(&[None, Some(key), Some(b"\xff")]),
                },
                reverse: script.flag(),
                after: script.pick(&[None, Some(key), Some(b"\xff")]),
                limit: script.pick(&[1, 0, 2, u32::MAX]),
                view: script.pick(&[
                    ViewChoice::Now,
                    ViewChoice::Keep,
                    ViewChoice::Of(1),
                    ViewChoice::Of(2),
                ]),
            },
            6 if choice >= 128 => self.rare_request(script),
            6 => script.pick(&[
                Request::Status,
                Request::Leaders,
                Request::Snapshot,
                Request::TransferLeader {
                    deadline_ms,
                    to: None,
                },
                Request::TransferLeader {
                    deadline_ms,
                    to: Some(NodeId(self.config.id.0 % 3 + 1)),
                },
            ]),
            _ => {
                let payload = script.bytes(256);
                let kind = script.pick(&[Kind::Write, Kind::Get, Kind::Scan]);
                body = seal(kind, request_id, payload);
                let frame = frame::parse(&body, CLIENT_FRAME_BYTES_MAX).expect("it is sealed");
                let Ok(request) = Request::decode(&frame.expect("it is whole")) else {
                    return;
                };
                request
            }
        };
        self.waiting.entry(connection).or_default().push(request_id);
        let mut effects = std::mem::take(&mut self.effects);
        let input = Input::Client {
            connection,
            request_id,
            request,
        };
        self.node.step(self.now, input, &mut effects);
        self.effects = effects;
        // Several requests may share a turn.
        if !script.rarely(4) {
            self.turn(Vec::new());
        }
    }

    /// What operators ask, who watch, who would join, and who copy a snapshot.
    fn rare_request<'k>(&self, script: &mut Script<'_>) -> Request<'k> {
        let id = NodeId(script.near(2).max(1));
        let name = script.pick(&["n9", "n", "x", "9", "n9\n"]);
        let peer_addr = script.pick(&["peer-9:1", "peer-2:1", "a"]);
        let other = NodeId(script.near(1).max(1));
        let change = match script.below(9) {
            0 => return Request::WatchLeader,
            1 => {
                return Request::ReadSnapshot {
                    snapshot: script.id(self.disk.snapshot()),
                    offset: script.near(0),
                };
            }
            2 | 3 => {
                return Request::Join {
                    name,
                    peer_addr,
                    incarnation: Incarnation(id.0),
                };
            }
            4 => MemberChange::Add {
                name,
                peer_addr,
                promote_within_ms: script.pick(&[None, Some(100), Some(u64::MAX)]),
                replaces: script.pick(&[None, Some(other)]),
            },
            5 => MemberChange::Remove(id),
            6 => MemberChange::Promote(id),
            7 => MemberChange::Demote(id),
            _ => MemberChange::Update {
                id,
                name: script.pick(&[None, Some(name)]),
                peer_addr: script.pick(&[None, Some(peer_addr)]),
            },
        };
        Request::ChangeMembers {
            dry_run: script.rarely(4),
            change,
        }
    }

    fn write<'k>(&mut self, script: &mut Script<'k>, key: &'k [u8]) -> Write<'k> {
        let value = script.bytes(400);
        let command = match script.below(7) {
            0 | 1 => Command::Put { key, value },
            2 => Command::Delete { key },
            3 => Command::CompareAndSwap {
                key,
                expect: script.pick(&[
                    Expect::Absent,
                    Expect::Revision(Index(3)),
                    Expect::Value(b"1"),
                ]),
                value,
            },
            4 => Command::Increment {
                key,
                delta: script.near(1) as i64,
            },
            5 => Command::Append { key, value },
            _ => Command::DeleteRange {
                from: key,
                to: None,
                expect: None,
            },
        };
        let nonce = script.below(SESSIONS);
        self.seqs[nonce] += 1;
        let seq = script.mostly(self.seqs[nonce]);
        Write {
            session: SessionId {
                epoch: Epoch(script.mostly(EPOCH.0)),
                born: Index(script.mostly(0)),
                nonce: nonce as u64,
            },
            seq,
            floor: script.pick(&[1, seq, seq.saturating_sub(1)]),
            command,
        }
    }
}
