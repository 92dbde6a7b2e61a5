//! Requests and replies.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::client::{
    Admitted, Consistency, Freshness, KeyRange, LeaderChange, MemberChange, MembersChanged, Reply,
    Request, ScanMode, ViewChoice,
};
use wire::error::{Class, Error, Lag};
use wire::leadership::Cause;
use wire::types::{ClusterId, Epoch, Incarnation};

use super::command::{item, outcome, write};
use super::number::{counter, entry_id, index, key, label, node, term, text, value};
use super::peer::{hand_over, hint};
use super::status::{membership, status};
use crate::make::{forever, items, write_request};

prop_compose! {
    fn freshness()(
        consistency in prop_oneof![
            Just(Consistency::Linearizable),
            Just(Consistency::LinearizableAnywhere),
            Just(Consistency::Stale),
            any::<u32>().prop_map(|max_lag_ms| Consistency::Bounded { max_lag_ms }),
        ],
        after in index(),
    ) -> Freshness {
        Freshness { consistency, after }
    }
}

fn mode() -> impl Strategy<Value = ScanMode> {
    prop_oneof![
        Just(ScanMode::Items),
        Just(ScanMode::Keys),
        Just(ScanMode::Count)
    ]
}

prop_compose! {
    fn scan()(
        deadline_ms in any::<u32>(), freshness in freshness(), mode in mode(),
        from in vec(any::<u8>(), 0..9), to in option::of(vec(any::<u8>(), 0..9)),
        reverse in any::<bool>(), after in option::of(key()), limit in any::<u32>(),
        view in view_choice(),
    ) -> Request<'static> {
        let range = KeyRange { from: forever(from), to: to.map(forever) };
        Request::Scan { deadline_ms, freshness, mode, range, reverse, after, limit, view }
    }
}

fn view_choice() -> impl Strategy<Value = ViewChoice> {
    prop_oneof![
        Just(ViewChoice::Now),
        Just(ViewChoice::Keep),
        any::<u64>().prop_map(ViewChoice::Of)
    ]
}

pub(super) fn change() -> impl Strategy<Value = MemberChange<'static>> {
    let wish = (option::of(any::<u64>()), option::of(node()));
    prop_oneof![
        (label(), label(), wish).prop_map(|(name, peer_addr, (promote_within_ms, replaces))| {
            MemberChange::Add {
                name,
                peer_addr,
                promote_within_ms,
                replaces,
            }
        }),
        node().prop_map(MemberChange::Remove),
        node().prop_map(MemberChange::Promote),
        node().prop_map(MemberChange::Demote),
        (node(), option::of(label()), option::of(label())).prop_map(|(id, name, peer_addr)| {
            MemberChange::Update {
                id,
                name,
                peer_addr,
            }
        }),
    ]
}

prop_compose! {
    fn admitted()(
        cluster in any::<u128>(), epoch in any::<u64>(), node in node(),
        members in vec((node(), label()), 0..=16), formed in vec((node(), any::<u64>()), 0..=16),
    ) -> Admitted {
        let mut members: Vec<_> =
            members.into_iter().map(|(id, addr)| (id, addr.to_owned())).collect();
        members.sort_by_key(|(id, _)| *id);
        members.dedup_by_key(|(id, _)| *id);
        let mut formed: Vec<_> =
            formed.into_iter().map(|(id, life)| (id, Incarnation(life))).collect();
        formed.sort_by_key(|(id, _)| *id);
        formed.dedup_by_key(|(id, _)| *id);
        Admitted { cluster: ClusterId(cluster), epoch: Epoch(epoch), node, members, formed }
    }
}

pub(super) fn request() -> impl Strategy<Value = Request<'static>> {
    prop_oneof![
        4 => (any::<u32>(), write()).prop_map(|(deadline, write)| write_request(deadline, write)),
        1 => (any::<u32>(), freshness(), key()).prop_map(|(deadline_ms, freshness, key)| {
            Request::Get { deadline_ms, freshness, key }
        }),
        2 => scan(),
        1 => Just(Request::Status),
        1 => Just(Request::Snapshot),
        1 => (entry_id(), any::<u64>())
            .prop_map(|(snapshot, offset)| Request::ReadSnapshot { snapshot, offset }),
        1 => (any::<bool>(), change()).prop_map(|(dry_run, change)| {
            Request::ChangeMembers { dry_run, change }
        }),
        1 => (label(), label(), any::<u64>()).prop_map(|(name, peer_addr, incarnation)| {
            Request::Join { name, peer_addr, incarnation: Incarnation(incarnation) }
        }),
        1 => Just(Request::Leaders),
        1 => Just(Request::WatchLeader),
        1 => (any::<u32>(), option::of(node()))
            .prop_map(|(deadline_ms, to)| Request::TransferLeader { deadline_ms, to }),
    ]
}

prop_compose! {
    fn page()(
        index in index(), more_after in option::of(key()), view in option::of(any::<u64>()),
        list in vec(item(), 0..20), counted in any::<u64>(),
    ) -> Reply<'static> {
        let count = if list.is_empty() { counted } else { list.len() as u64 };
        Reply::Page { index, count, more_after, view, items: items(&list) }
    }
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::NotApplied),
        Just(Class::Unknown),
        Just(Class::Final)
    ]
}

pub(super) fn error() -> impl Strategy<Value = Error> {
    prop_oneof![
        proptest::sample::select(crate::samples::errors()),
        hint().prop_map(|leader| Error::NotLeader { leader }),
        any::<u32>().prop_map(|retry_after_ms| Error::Overloaded { retry_after_ms }),
        any::<u64>().prop_map(|limit| Error::TooManyConnections { limit }),
        counter().prop_map(|expected| Error::OutOfOrder { expected }),
        (text(), any::<u64>(), any::<u64>()).prop_map(|(what, limit, actual)| Error::TooLarge {
            what,
            limit,
            actual
        }),
        (
            text(),
            any::<u64>(),
            option::of(any::<u64>()),
            option::of(hint())
        )
            .prop_map(
                |(reason, entries, behind_ms, better)| Error::Lagging(Box::new(Lag {
                    reason,
                    entries,
                    behind_ms,
                    better
                }))
            ),
        text().prop_map(|reason| Error::Malformed { reason }),
        any::<u8>().prop_map(|kind| Error::UnknownKind { kind }),
        any::<u16>().prop_map(|flags| Error::UnknownFlags { flags }),
        any::<(u8, u8)>().prop_map(|(min, max)| Error::UnsupportedVersion { min, max }),
        text().prop_map(|cluster| Error::WrongCluster { cluster }),
        text().prop_map(|reason| Error::WrongNode { reason }),
        text().prop_map(|reason| Error::WrongIncarnation { reason }),
        text().prop_map(|reason| Error::Divergence { reason }),
        (text(), text()).prop_map(|(reason, advice)| Error::Refused { reason, advice }),
        (27..=u16::MAX, class(), text()).prop_map(|(code, class, text)| Error::Unknown {
            code,
            class,
            text
        }),
    ]
}

prop_compose! {
    fn leader_change()(
        term in term(), leader in node(), wall_ms in any::<u64>(), without_ms in any::<u64>(),
        cause in prop_oneof![
            Just(Cause::Start),
            Just(Cause::LinkClosed),
            Just(Cause::Silence),
            Just(Cause::NoQuorum),
            Just(Cause::Elected),
            hand_over().prop_map(Cause::HandedOver),
        ],
    ) -> LeaderChange {
        LeaderChange { term, leader, wall_ms, without_ms, cause }
    }
}

pub(super) fn reply() -> impl Strategy<Value = Reply<'static>> {
    prop_oneof![
        (term(), index(), outcome()).prop_map(|(term, index, outcome)| Reply::Written {
            term,
            index,
            outcome
        }),
        (index(), item()).prop_map(|(index, item)| Reply::Value { index, item }),
        index().prop_map(|index| Reply::Missing { index }),
        page(),
        status().prop_map(Reply::Status),
        (any::<u64>(), value())
            .prop_map(|(total_bytes, bytes)| Reply::SnapshotPiece { total_bytes, bytes }),
        (index(), node(), membership(), membership()).prop_map(|(index, id, before, after)| {
            Reply::MembersChanged(MembersChanged {
                index,
                id,
                before,
                after,
            })
        }),
        admitted().prop_map(Reply::Admitted),
        vec(leader_change(), 0..9).prop_map(Reply::LeaderChanges),
        (term(), option::of(hint())).prop_map(|(term, leader)| Reply::Moved { term, leader }),
        (any::<bool>(), term(), node()).prop_map(|(done, term, leader)| Reply::LeaderTransferred {
            done,
            term,
            leader
        }),
        error().prop_map(Reply::Error),
    ]
}
