//! What the tests of the log share.

use std::collections::VecDeque;

use bytes::BytesMut;
use raft::{HardState, Ticket, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::{MemberRecord, Membership, Suffrage};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::node::io::StorageEvent;
use raftd::storage::{LogReader, ReadStep, Worker};
use raftd::wal::identity::Identity;

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId(0xc1),
        node: NodeId(1),
        incarnation: Incarnation(77),
        epoch: Epoch(5),
        formed: Vec::new(),
        members: (1..=3)
            .map(|n| (NodeId(n), format!("127.0.0.1:740{n}")))
            .collect(),
        next_epoch: None,
    }
}

pub(crate) fn entry(index: u64, term: u64, body: &[u8]) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = if body.is_empty() {
        EntryKind::Noop
    } else {
        EntryKind::Command
    };
    Entry::build(&mut BytesMut::new(), id, index * 10, kind, body)
}

/// Entries `from..from + count` of a term, each with a body that tells who it is.
pub(crate) fn entries(from: u64, count: u64, term: u64, body_bytes: usize) -> Vec<Entry> {
    let body = |index: u64| {
        let mut body = format!("{term}.{index}.").into_bytes();
        body.resize(body_bytes.max(body.len()), b'x');
        body
    };
    (from..from + count)
        .map(|index| entry(index, term, &body(index)))
        .collect()
}

/// An entry that says that node 1 is the only member.
pub(crate) fn alone_entry(index: u64, term: u64) -> Entry {
    let alone = Membership::initial(&identity().members[..1], &[]);
    told(index, term, &alone)
}

/// An entry that says who is a member: five, of whom one joins and one leaves where the index is odd.
pub(crate) fn membership_entry(index: u64, term: u64) -> Entry {
    let joint = index % 2 == 1;
    let member = |n: u64| MemberRecord {
        id: NodeId(n),
        name: format!("n{n}"),
        peer_addr: format!("127.0.0.1:740{n}"),
        incarnation: Some(Incarnation(n)),
        suffrage: match n {
            4 if joint => Suffrage::Incoming,
            5 if joint => Suffrage::Leaving,
            _ => Suffrage::Voter,
        },
        wish: None,
    };
    let membership = Membership {
        newest: NodeId(5 + index),
        members: (1..=5).map(member).collect(),
    };
    told(index, term, &membership)
}

fn told(index: u64, term: u64, membership: &Membership) -> Entry {
    let mut body = BytesMut::new();
    membership.encode(&mut body);
    let id = EntryId {
        term: Term(term),
        index: Index(index),
    };
    let kind = EntryKind::Membership;
    Entry::build(&mut BytesMut::new(), id, index * 10, kind, &body)
}

/// What these entries say of the members.
pub(crate) fn memberships_in(entries: &[Entry]) -> Vec<(EntryId, Membership)> {
    let told = |entry: &Entry| Some((entry.id(), entry.membership().unwrap()?));
    entries.iter().filter_map(told).collect()
}

pub(crate) fn write(ticket: u64, term: u64, entries: Vec<Entry>) -> Write {
    Write {
        ticket: Ticket(ticket),
        hard_state: HardState {
            term: Term(term),
            vote: Some(NodeId(1)),
            lost: false,
        },
        reset: None,
        truncate_from: None,
        entries,
        commit: Index(0),
    }
}

/// All that a worker says and does until it rests, and the reads that it hands out.
pub(crate) fn rest(worker: &mut Worker<Latched<SimDisk>>) -> Vec<StorageEvent> {
    let mut reader = LogReader::new(worker.wal().disk().inner().clone());
    let mut events = VecDeque::new();
    loop {
        while worker.has_work() && worker.round(&mut events).expect("no fault").worked {}
        for read in worker.take_reads() {
            reader.push(read);
        }
        match reader.step(false, &mut events).expect("no fault") {
            ReadStep::Idle => return events.into(),
            ReadStep::Read { .. } => {}
            ReadStep::Unreadable(unreadable) => worker.unreadable(unreadable),
            ReadStep::OutOfFiles => panic!("there are enough"),
        }
    }
}

/// Flips a bit of the first place in a file that holds this.
pub(crate) fn rot_text(disk: &SimDisk, name: &str, text: &[u8]) {
    disk.tamper(name, |bytes| {
        let mut windows = bytes.windows(text.len());
        let place = windows.position(|bytes| bytes == text);
        bytes[place.expect("it is there")] ^= 1;
    });
}
