//! What the disk does, reports or cannot do, and what a start finds on it.

use raft::Ticket;
use raftd::node::io::{Input, SnapshotEvent, SnapshotFile, SnapshotRequest, StorageEvent};
use raftd::node::{Node, Restored};
use raftd::store::{Builder, ImageHead, Store};
use wire::peer::DiskState;
use wire::types::{EntryId, Index};

use super::super::script::Script;
use super::{EPOCH, Life};

impl Life {
    pub(super) fn sync(&mut self, script: &mut Script<'_>) {
        let ticket = self.disk.sync(script.pick(&[usize::MAX, 1, 0]));
        if script.rarely(8) {
            self.room = script.pick(&[DiskState::Ok, DiskState::Soft, DiskState::Hard]);
        }
        self.durable(ticket);
    }

    fn durable(&mut self, ticket: Ticket) {
        let event = StorageEvent::Durable {
            ticket,
            wal_bytes: 1 << 20,
            disk: self.room,
        };
        self.turn(vec![Input::Storage(event)]);
    }

    /// Something on the disk is damaged, or told again.
    pub(super) fn rot(&mut self, script: &mut Script<'_>) {
        let event = match script.below(4) {
            0 => StorageEvent::Rot {
                upto: Index(script.near(self.disk.base().index.0)),
            },
            1 => StorageEvent::Snapshot(SnapshotEvent::Rotten(self.disk.snapshot())),
            _ => {
                self.disk.damage(script);
                StorageEvent::Faulty(self.disk.faulty())
            }
        };
        self.turn(vec![Input::Storage(event)]);
    }

    pub(super) fn load(&mut self, script: &mut Script<'_>) {
        if let Some((purpose, from)) = self.loads.pop_front() {
            let entries = self.disk.load(from, script.below(4));
            self.turn(vec![Input::Storage(StorageEvent::Loaded {
                purpose,
                from,
                entries,
            })]);
        }
    }

    /// What a keeper of snapshots would report, sooner or later.
    pub(super) fn keep(&mut self, request: SnapshotRequest) {
        let mut report = |event| self.background.push_back(StorageEvent::Snapshot(event));
        match request {
            SnapshotRequest::Take(view) => {
                let id = view.applied();
                match view.keys() % 4 {
                    3 => report(SnapshotEvent::NotTaken {
                        snapshot: id,
                        reason: "no space".to_owned(),
                    }),
                    _ => report(SnapshotEvent::Taken(SnapshotFile { id, bytes: 10_000 })),
                }
            }
            SnapshotRequest::Read {
                reader,
                snapshot,
                offset,
                max_bytes,
            } => report(SnapshotEvent::Read {
                reader,
                snapshot,
                offset,
                total_bytes: 10_000,
                bytes: vec![7; max_bytes.min(4_000)].into(),
            }),
            SnapshotRequest::Receive {
                snapshot,
                total_bytes,
                offset,
                bytes,
            } => {
                let received_bytes = (offset + bytes.len() as u64).min(total_bytes);
                report(SnapshotEvent::Received {
                    snapshot,
                    total_bytes,
                    received_bytes,
                });
                if received_bytes == total_bytes {
                    let file = SnapshotFile {
                        id: snapshot,
                        bytes: total_bytes,
                    };
                    let store = store_at(snapshot, self.config.limits.sessions_max);
                    report(SnapshotEvent::Whole(file, Box::new(store)));
                }
            }
            SnapshotRequest::Distrust { .. } => report(SnapshotEvent::Distrusted),
            SnapshotRequest::Expect(_)
            | SnapshotRequest::Keep { .. }
            | SnapshotRequest::Free(_) => {}
        }
    }

    /// What a start finds; without the `snapshot`, if that is damaged.
    fn restored(&self, tail: usize, formed: bool, snapshot: bool) -> Restored {
        let id = match snapshot {
            true => self.disk.snapshot(),
            false => EntryId::default(),
        };
        let base = self.disk.base();
        Restored {
            raft: raft::Restored {
                applied: id.index.max(base.index),
                rebuilding: base.index > id.index,
                ..self
                    .disk
                    .restored(tail, formed, &self.config.initial_membership())
            },
            store: store_at(id, self.config.limits.sessions_max),
            snapshot: SnapshotFile { id, bytes: 10_000 },
        }
    }

    pub(super) fn crash(&mut self, script: &mut Script<'_>) {
        self.disk.crash(script.below(8));
        if let Some(record) = self.forming.take().filter(|_| script.flag()) {
            self.config.formed = record;
        }
        self.loads.clear();
        self.background.clear();
        self.links.clear();
        self.connections.clear();
        self.waiting.clear();
        let snapshot = !script.rarely(4);
        let restored = self.restored(script.below(16), false, snapshot);
        self.node = Node::new(self.config.clone(), restored, self.now);
        self.turn(Vec::new());
    }
}

/// Some state as of an entry: its content matters to nobody here.
pub(super) fn store_at(applied: EntryId, sessions_max: usize) -> Store {
    if applied == EntryId::default() {
        return Store::new(EPOCH, sessions_max);
    }
    let head = ImageHead {
        applied,
        wall_ms: applied.index.0,
        epoch: EPOCH,
        horizon: None,
        keys: 0,
        sessions: 0,
        membership: None,
    };
    let store = Builder::new(head).finish(sessions_max);
    store.expect("there is a state without keys")
}
