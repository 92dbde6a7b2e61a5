//! What nodes say to each other, and how both sides of a link begin.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::entry::{Entry, EntryKind};
use wire::hello::{Hello, LeaderHint, PeerIdentity, Role, Welcome};
use wire::leadership::HandOver;
use wire::limits::COUNTER_MAX;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, DiskState, Fetch, Fetched, Health,
    InstallSnapshot, Message, PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote,
    SnapshotOk, StaleTerm, Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, NodeId, Term};

use super::number::{counter, entry_id, index, name, node, term};
use crate::make::entry;

pub(super) fn formed() -> impl Strategy<Value = Vec<(NodeId, Incarnation)>> {
    proptest::collection::btree_map(1..=u64::MAX, any::<u64>(), 0..=16).prop_map(|members| {
        members
            .into_iter()
            .map(|(node, incarnation)| (NodeId(node), Incarnation(incarnation)))
            .collect()
    })
}

prop_compose! {
    fn identity()(
        node in node(), incarnation in any::<u64>(), life in any::<u64>(), name in name(),
        client_addr in name(), virgin in any::<bool>(), formed in formed(),
    ) -> PeerIdentity {
        PeerIdentity {
            node, incarnation: Incarnation(incarnation), life, name, client_addr, virgin, formed,
        }
    }
}

prop_compose! {
    pub(super) fn hint()(node in node(), client_addr in name()) -> LeaderHint {
        LeaderHint { node, client_addr }
    }
}

pub(super) fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Client),
        (identity(), node()).prop_map(|(identity, to)| Role::Peer { identity, to }),
    ]
}

prop_compose! {
    pub(super) fn hello()(
        version_min in 1..=u8::MAX, more in any::<u8>(), features in any::<u64>(),
        cluster in option::of(any::<u128>()), epoch in option::of(any::<u64>()), role in role(),
    ) -> Hello {
        Hello {
            version_min,
            version_max: version_min.saturating_add(more),
            features,
            cluster: cluster.map(ClusterId),
            epoch: epoch.map(Epoch),
            group: 0,
            role,
        }
    }
}

prop_compose! {
    pub(super) fn welcome()(
        features in any::<u64>(), cluster in any::<u128>(), epoch in any::<u64>(),
        identity in identity(), term in term(), applied in index(), leader in option::of(hint()),
    ) -> Welcome {
        Welcome {
            version: 1,
            features,
            cluster: ClusterId(cluster),
            epoch: Epoch(epoch),
            identity,
            term,
            applied,
            leader,
        }
    }
}

pub(super) fn digest() -> impl Strategy<Value = Option<Digest>> {
    option::of((index(), any::<u128>()).prop_map(|(index, sum)| Digest { index, sum }))
}

pub(super) fn disk_state() -> impl Strategy<Value = DiskState> {
    prop_oneof![
        Just(DiskState::Ok),
        Just(DiskState::Soft),
        Just(DiskState::Hard)
    ]
}

pub(super) fn disk() -> impl Strategy<Value = DiskReport> {
    (disk_state(), any::<u32>()).prop_map(|(state, oldest_write_ms)| DiskReport {
        state,
        oldest_write_ms,
    })
}

fn health() -> impl Strategy<Value = Health> {
    any::<(bool, bool)>().prop_map(|(lost, rebuilding)| Health { lost, rebuilding })
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Unsaid),
        Just(Standing::Lost),
        index().prop_map(Standing::Whole),
    ]
}

prop_compose! {
    /// Entries that follow `prev` in terms that rise now and then.
    pub(super) fn append()(
        prev in (0..1_u64 << 40), commit in index(), round in counter(), standing in standing(),
        digest in digest(),
        bodies in vec((0..3_u64, vec(any::<u8>(), 0..100)), 0..20), above in 0..5_u64,
    ) -> Append {
        let prev = if prev == 0 { EntryId::default() } else { crate::make::id(7, prev) };
        let mut last = prev;
        let mut entries = Vec::new();
        for (rise, body) in bodies {
            last = EntryId { term: Term((last.term.0 + rise).max(1)), index: last.index.next() };
            let kind = match (body.is_empty(), rise) {
                (true, 0) => EntryKind::SnapshotAt,
                (true, _) => EntryKind::Noop,
                (false, _) => EntryKind::Command,
            };
            entries.push(entry(last, kind, &body));
        }
        Append {
            term: Term((last.term.0 + above).max(1)), prev, commit, round, standing, digest,
            entries,
        }
    }
}

prop_compose! {
    fn append_ok()(
        term in term(), round in counter(), match_index in index(), received in index(),
        disk in disk(), health in health(), digest in digest(),
    ) -> AppendOk {
        AppendOk { term, round, match_index, received, disk, health, digest }
    }
}

prop_compose! {
    fn append_conflict()(
        term in term(), round in counter(), prev in entry_id(),
        conflict in option::of(entry_id()), last in entry_id(), disk in disk(),
        health in health(),
    ) -> AppendConflict {
        AppendConflict { term, round, prev, conflict, last, disk, health }
    }
}

pub(super) fn snapshot() -> impl Strategy<Value = EntryId> {
    entry_id().prop_filter("a snapshot of something", |id| *id != EntryId::default())
}

prop_compose! {
    fn install_snapshot()(
        snapshot in snapshot(), above in 0..5_u64, round in counter(),
        offset in 0..COUNTER_MAX / 2, bytes in vec(any::<u8>(), 0..100), rest in 1..1000_u64,
    ) -> InstallSnapshot {
        InstallSnapshot {
            term: Term((snapshot.term.0 + above).min(COUNTER_MAX)), round, snapshot,
            total_bytes: offset + bytes.len() as u64 + rest, offset, bytes: bytes.into(),
        }
    }
}

prop_compose! {
    fn snapshot_ok()(
        term in term(), round in counter(), snapshot in snapshot(), received_bytes in counter(),
        disk in disk(), health in health(),
    ) -> SnapshotOk {
        SnapshotOk { term, round, snapshot, received_bytes, disk, health }
    }
}

prop_compose! {
    /// Entries of a log with gaps, in any order.
    fn fetched()(
        items in vec((entry_id(), vec(any::<u8>(), 1..100)), 0..20),
    ) -> Fetched {
        let named = items.into_iter().filter(|(id, _)| *id != EntryId::default());
        Fetched { entries: named.map(|(id, body)| entry(id, EntryKind::Command, &body)).collect() }
    }
}

/// Boxed: in a debug build a tree of all kinds by value does not fit the stack of a test.
pub(super) fn message() -> BoxedStrategy<Message> {
    let asking = || (1..=COUNTER_MAX).prop_map(Term);
    prop_oneof![
        append().prop_map(Message::Append),
        append_ok().prop_map(Message::AppendOk),
        append_conflict().prop_map(Message::AppendConflict),
        term().prop_map(|term| Message::StaleTerm(StaleTerm { term })),
        (asking(), entry_id()).prop_map(|(term, last)| Message::PreVote(PreVote { term, last })),
        (term(), any::<bool>())
            .prop_map(|(term, granted)| Message::PreVoteAnswer(PreVoteAnswer { term, granted })),
        (asking(), entry_id(), option::of(hand_over())).prop_map(|(term, last, transfer)| {
            Message::RequestVote(RequestVote {
                term,
                last,
                transfer,
            })
        }),
        (term(), any::<bool>())
            .prop_map(|(term, granted)| Message::VoteAnswer(VoteAnswer { term, granted })),
        install_snapshot().prop_map(Message::InstallSnapshot),
        snapshot_ok().prop_map(Message::SnapshotOk),
        (asking(), hand_over())
            .prop_map(|(term, why)| Message::TimeoutNow(TimeoutNow { term, why })),
        fetched().prop_map(|fetched| {
            let entries = fetched.entries.iter().map(Entry::identity).collect();
            Message::Fetch(Fetch { entries })
        }),
        fetched().prop_map(Message::Fetched),
        (asking(), 1..=COUNTER_MAX)
            .prop_map(|(term, question)| Message::ReadIndex(ReadIndex { term, question })),
        (term(), 1..=COUNTER_MAX, index()).prop_map(|(term, question, index)| {
            Message::ReadIndexAnswer(ReadIndexAnswer {
                term,
                question,
                index,
            })
        }),
    ]
    .boxed()
}

pub(super) fn hand_over() -> impl Strategy<Value = HandOver> {
    prop_oneof![
        Just(HandOver::Asked),
        Just(HandOver::Stopping),
        Just(HandOver::DiskStalled),
        Just(HandOver::DiskFull),
        Just(HandOver::StateDiffers),
        Just(HandOver::Leaving),
    ]
}
