//! One turn of a simulated node: its inputs, its effects, and what must be so after it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use raft::RoleName;
use raftd::node::io::{Effects, Input, StorageEvent, StorageRequest};
use wire::frame;
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{Index, NodeId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Cluster, Happening, Member};

impl Cluster {
    pub(super) fn turn(&mut self, id: NodeId, inputs: Vec<Input<'_>>) {
        self.turns += 1;
        let now = self.clocks();
        let mut effects = Effects::default();
        let member = self.members.get_mut(&id).unwrap();
        let node = member.node.as_mut().expect("the node is up");
        for input in inputs {
            node.step(now, input, &mut effects);
        }
        node.flush(now, &mut effects);
        member.stopped |= effects.stopped;
        member.spoiled &= !node.raft().is_rebuilding();
        let text = format!("{id} {now:?} {effects:?}");
        self.trace = xxh3_64_with_seed(text.as_bytes(), self.trace);
        self.carry_out(id, effects);
        self.check(id);
    }

    pub(super) fn carry_out(&mut self, id: NodeId, effects: Effects) {
        let (now, delay) = (self.now, self.options.disk_delay);
        let member = self.members.get_mut(&id).unwrap();
        let disk = &mut member.disk;
        if !effects.storage.is_empty() && disk.busy_until.is_none() && !disk.hangs {
            disk.busy_until = Some(now + delay);
        }
        disk.pending.extend(effects.storage);
        member
            .events
            .extend(effects.events.into_iter().map(|event| event.text));
        for (link, message) in effects.peers {
            let Some(ends) = self.links.get(&link).copied() else {
                continue;
            };
            let to = if ends.from == id { ends.to } else { ends.from };
            assert_eq!(
                message.is_answer(),
                ends.to == id,
                "answers go back on the dialled link"
            );
            self.members[&id].disk.check_revealed(to, &message);
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes);
            let frame = bytes.freeze();
            self.later(
                self.options.link_delay,
                Happening::Deliver { link, to, frame },
            );
        }
        for (connection, range) in effects.replies {
            let mut rest = &effects.reply_bytes[range];
            while !rest.is_empty() {
                let frame = frame::parse(rest, CLIENT_FRAME_BYTES_MAX)
                    .unwrap()
                    .expect("whole frames");
                if let Some(connection) = self.connections.get_mut(&connection) {
                    let bytes = Bytes::copy_from_slice(&rest[..frame.len]);
                    if frame.request_id == 0 {
                        connection.news.push(bytes);
                        rest = &rest[frame.len..];
                        continue;
                    }
                    let before = connection.replies.insert(frame.request_id, bytes);
                    assert!(
                        before.is_none(),
                        "request {} was answered twice",
                        frame.request_id
                    );
                }
                rest = &rest[frame.len..];
            }
        }
        for (link, _) in effects.close_links {
            self.break_link(link, Some(id));
            self.turn(
                id,
                vec![Input::LinkClosed {
                    link,
                    by_peer: false,
                }],
            );
        }
        for link in effects.renew_links {
            self.renew_link(id, link);
        }
        for (connection, readable) in effects.readable {
            if let Some(connection) = self.connections.get_mut(&connection) {
                assert_ne!(connection.readable, readable, "said only when it changes");
                connection.readable = readable;
            }
        }
    }

    /// The disk is done with what it had: everything queued by now, as one batch.
    pub(super) fn finish_storage(&mut self, id: NodeId) {
        let member = self.members.get_mut(&id).unwrap();
        let disk = &mut member.disk;
        disk.busy_until = None;
        let mut events = VecDeque::new();
        while let Some(request) = disk.pending.pop_front() {
            // One batch is reported once.
            if let (Some(StorageEvent::Durable { .. }), StorageRequest::Write(_)) =
                (events.back(), &request)
            {
                events.pop_back();
            }
            disk.finish(request, &mut events);
        }
        let inputs = events.into_iter().map(Input::Storage).collect();
        self.turn(id, inputs);
    }

    pub(super) fn check(&mut self, id: NodeId) {
        let Some(node) = &self.members[&id].node else {
            return;
        };
        let raft = node.raft();
        if raft.role() == RoleName::Leader {
            let known = self.leaders.entry(raft.term()).or_insert(id);
            assert_eq!(*known, id, "two leaders in term {}", raft.term());
        }
        let applied = node.store().applied().index;
        assert!(applied <= raft.commit() && raft.commit() <= raft.last().index);
        let from = self.checked.get(&id).copied().unwrap_or_default();
        for index in from.0 + 1..=raft.commit().0 {
            let Some(entry) = raft.entry(Index(index)) else {
                continue;
            };
            if let Some(before) = self.committed.get(&Index(index - 1)) {
                assert!(
                    before.wall_ms() <= entry.wall_ms(),
                    "the wall clock of entry {index} fell"
                );
            }
            if let Some(known) = self.committed.get(&Index(index)) {
                assert_eq!(known, entry, "committed entry {index} changed");
            } else {
                // A disk that was lost may have held it when that was acknowledged.
                let has_it = |member: &Member| member.wiped || member.disk.holds(entry);
                let holds = |id| self.members.get(&id).is_some_and(has_it);
                assert!(
                    raft.membership().has_quorum(holds),
                    "entry {index} is on too few disks"
                );
                self.committed.insert(Index(index), entry.clone());
            }
        }
        if applied > from && !self.members[&id].spoiled {
            let mut sum = 0;
            for item in node.store().map().iter() {
                let numbers = [item.revision.0, item.create_revision.0, item.version];
                sum = xxh3_64_with_seed(item.key, sum);
                sum = xxh3_64_with_seed(item.value, sum);
                sum = numbers
                    .iter()
                    .fold(sum, |sum, n| xxh3_64_with_seed(&n.to_le_bytes(), sum));
            }
            let sessions = node.store().sessions();
            let horizon = sessions.horizon().map_or(0, |horizon| horizon.0 + 1);
            for number in [sessions.len() as u64, sessions.kept() as u64, horizon] {
                sum = xxh3_64_with_seed(&number.to_le_bytes(), sum);
            }
            let known = self.states.entry(applied).or_insert(sum);
            assert_eq!(*known, sum, "node {id} has another state at {applied}");
            self.checked.insert(id, applied);
        }
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = format!("at {:?}\n", self.now);
        for (id, member) in &self.members {
            match &member.node {
                None => text += &format!("node {id} is down\n"),
                Some(node) => {
                    let status = node.status();
                    text += &format!(
                        "node {id} {} {:?} term={} leader={:?} last={} durable={} commit={} applied={}\n",
                        status.state,
                        status.role,
                        status.term,
                        status.leader,
                        status.last,
                        status.durable,
                        status.commit,
                        status.applied,
                    );
                }
            }
            for event in member.events.iter().rev().take(5) {
                text += &format!("    {event}\n");
            }
        }
        text
    }
}
