//! Whatever the types can hold within the limits survives the wire.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::client::{
    Admitted, Consistency, Freshness, Install, Item, KeyRange, LeaderChange, Member, MemberChange,
    MembersChanged, NodeRole, Reply, Request, ScanMode, Status, ViewChoice,
};
use wire::command::{
    Command, Compare, Condition, Expect, Operation, OperationResult, Outcome, Relation, SessionId,
    Txn, Undone, Write,
};
use wire::entry::{Entry, EntryKind};
use wire::error::{Class, Error, Lag};
use wire::hello::{Hello, LeaderHint, PeerIdentity, Role, Welcome, negotiate};
use wire::leadership::{Cause, HandOver};
use wire::limits::COUNTER_MAX;
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, DiskState, Fetch, Fetched, Health,
    InstallSnapshot, Message, PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote,
    SnapshotOk, StaleTerm, Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

use crate::any::{Any, parse};
use crate::make::{body, compares, entry, forever, items, operations, results, write_request};

/// Small numbers, huge ones and all between.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, 0..=COUNTER_MAX, Just(COUNTER_MAX)]
}

fn term() -> impl Strategy<Value = Term> {
    counter().prop_map(Term)
}

fn index() -> impl Strategy<Value = Index> {
    counter().prop_map(Index)
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u64::MAX).prop_map(NodeId)
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    let some = (1..=COUNTER_MAX, 1..=COUNTER_MAX).prop_map(|(term, index)| EntryId {
        term: Term(term),
        index: Index(index),
    });
    prop_oneof![1 => Just(EntryId::default()), 4 => some]
}

fn key() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 1..40).prop_map(forever)
}

fn value() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..300).prop_map(forever)
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,16}"
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,200}"
}

fn formed() -> impl Strategy<Value = Vec<(NodeId, Incarnation)>> {
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
    fn hint()(node in node(), client_addr in name()) -> LeaderHint {
        LeaderHint { node, client_addr }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Client),
        (identity(), node()).prop_map(|(identity, to)| Role::Peer { identity, to }),
    ]
}

prop_compose! {
    fn hello()(
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
    fn welcome()(
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

fn digest() -> impl Strategy<Value = Option<Digest>> {
    option::of((index(), any::<u128>()).prop_map(|(index, sum)| Digest { index, sum }))
}

fn disk_state() -> impl Strategy<Value = DiskState> {
    prop_oneof![
        Just(DiskState::Ok),
        Just(DiskState::Soft),
        Just(DiskState::Hard)
    ]
}

fn disk() -> impl Strategy<Value = DiskReport> {
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
    fn append()(
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

fn snapshot() -> impl Strategy<Value = EntryId> {
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
fn message() -> BoxedStrategy<Message> {
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

fn expect() -> impl Strategy<Value = Expect<'static>> {
    prop_oneof![
        Just(Expect::Absent),
        any::<u64>().prop_map(|revision| Expect::Revision(Index(revision))),
        value().prop_map(Expect::Value),
    ]
}

fn command() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![4 => single(), 1 => txn().prop_map(Command::Txn)]
}

prop_compose! {
    fn txn()(
        list in vec(compare(), 0..10), then in vec(operation(), 0..10),
        or_else in vec(operation(), 0..10),
    ) -> Txn<'static> {
        Txn {
            compares: compares(&list),
            then: operations(&then),
            or_else: operations(&or_else),
        }
    }
}

prop_compose! {
    fn compare()(key in key(), condition in condition()) -> Compare<'static> {
        Compare { key, condition }
    }
}

fn condition() -> impl Strategy<Value = Condition<'static>> {
    let relation = || {
        prop_oneof![
            Just(Relation::Equal),
            Just(Relation::NotEqual),
            Just(Relation::Less),
            Just(Relation::Greater),
        ]
    };
    let number = || (relation(), any::<u64>());
    prop_oneof![
        Just(Condition::Exists),
        Just(Condition::Absent),
        (relation(), value()).prop_map(|(relation, value)| Condition::Value(relation, value)),
        number().prop_map(|(relation, number)| Condition::Revision(relation, number)),
        number().prop_map(|(relation, number)| Condition::CreateRevision(relation, number)),
        number().prop_map(|(relation, number)| Condition::Version(relation, number)),
    ]
}

fn operation() -> impl Strategy<Value = Operation<'static>> {
    prop_oneof![
        4 => single().prop_map(Operation::Change),
        1 => key().prop_map(|key| Operation::Get { key }),
    ]
}

/// Anything but a txn.
fn single() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![
        (key(), value()).prop_map(|(key, value)| Command::Put { key, value }),
        key().prop_map(|key| Command::Delete { key }),
        (key(), expect(), value()).prop_map(|(key, expect, value)| Command::CompareAndSwap {
            key,
            expect,
            value
        }),
        (key(), any::<i64>()).prop_map(|(key, delta)| Command::Increment { key, delta }),
        (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
        (value(), option::of(key()), option::of(any::<u64>()))
            .prop_map(|(from, to, expect)| Command::DeleteRange { from, to, expect }),
    ]
}

prop_compose! {
    fn write()(
        epoch in any::<u64>(), born in any::<u64>(), nonce in any::<u64>(),
        seq in 1..=COUNTER_MAX, below in counter(), command in command(),
    ) -> Write<'static> {
        let session = SessionId { epoch: Epoch(epoch), born: Index(born), nonce };
        Write { session, seq, floor: seq.saturating_sub(below).max(1), command }
    }
}

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

fn suffrage() -> impl Strategy<Value = Suffrage> {
    prop_oneof![
        Just(Suffrage::Learner),
        Just(Suffrage::Voter),
        Just(Suffrage::Incoming),
        Just(Suffrage::Demoted),
        Just(Suffrage::Leaving),
    ]
}

/// A name or an address that is one.
fn label() -> impl Strategy<Value = &'static str> {
    "[a-z][a-z0-9.:-]{0,20}".prop_map(|text| -> &'static str { text.leak() })
}

fn change() -> impl Strategy<Value = MemberChange<'static>> {
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
    fn record()(
        id in 1_u64..40, peer_addr in label(), incarnation in option::of(any::<u64>()),
        suffrage in suffrage(), wish in option::of((any::<u64>(), option::of(node()))),
    ) -> MemberRecord {
        let wish = wish.filter(|_| !suffrage.votes());
        MemberRecord {
            id: NodeId(id),
            name: if id % 3 == 0 { String::new() } else { format!("n{id}") },
            peer_addr: peer_addr.to_owned(),
            incarnation: incarnation.map(Incarnation),
            suffrage,
            wish: wish.map(|(until_wall_ms, replaces)| Wish { until_wall_ms, replaces }),
        }
    }
}

/// Any that can be: there is always a voter in both sets.
fn membership() -> impl Strategy<Value = Membership> {
    vec(record(), 1..=16).prop_map(|mut members| {
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        members[0].suffrage = Suffrage::Voter;
        members[0].wish = None;
        let newest = NodeId(members[members.len() - 1].id.0 + 2);
        Membership { newest, members }
    })
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

fn request() -> impl Strategy<Value = Request<'static>> {
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
    fn item()(
        key in key(), value in value(), revision in index(), create_revision in index(),
        version in any::<u64>(),
    ) -> Item<'static> {
        Item { key, value, revision, create_revision, version }
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let why = prop_oneof![
        Just(Undone::NotANumber),
        Just(Undone::Overflow),
        Just(Undone::TooLong),
        Just(Undone::TooManyKeys),
        Just(Undone::TooMuchToTell),
    ];
    prop_oneof![
        8 => outcome_of_one(),
        1 => Just(Outcome::Applied),
        1 => (any::<bool>(), option::of(vec(result(), 0..10))).prop_map(|(held, list)| {
            let results = list.map(|list| results(&list));
            Outcome::Txn { held, results }
        }),
        1 => (any::<bool>(), any::<u32>(), why)
            .prop_map(|(held, operation, why)| Outcome::Undone { held, operation, why }),
    ]
}

fn result() -> impl Strategy<Value = OperationResult<'static>> {
    prop_oneof![
        outcome_of_one().prop_map(OperationResult::Did),
        item().prop_map(OperationResult::Found),
        Just(OperationResult::Missing),
    ]
}

/// That of a command which may be part of a txn.
fn outcome_of_one() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Put),
        any::<u64>().prop_map(Outcome::Deleted),
        Just(Outcome::Swapped),
        option::of(index()).prop_map(Outcome::NotSwapped),
        any::<i64>().prop_map(Outcome::Incremented),
        Just(Outcome::NotANumber),
        Just(Outcome::Overflow),
        any::<u64>().prop_map(Outcome::Appended),
        Just(Outcome::TooLong),
        any::<u64>().prop_map(Outcome::NotDeleted),
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

prop_compose! {
    fn install()(
        received_bytes in any::<u64>(), total_bytes in any::<u64>(),
        left_ms in option::of(any::<u64>()),
    ) -> Install {
        Install { received_bytes, total_bytes, left_ms }
    }
}

prop_compose! {
    fn member()(
        node in node(), name in name(), peer_addr in name(), client_addr in name(),
        suffrage in suffrage(), connected in any::<bool>(), match_index in option::of(index()),
        install in option::of(install()),
    ) -> Member {
        Member { node, name, peer_addr, client_addr, suffrage, connected, match_index, install }
    }
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    vec(member(), 0..=16).prop_map(|mut members| {
        members.sort_by_key(|member| member.node);
        members.dedup_by_key(|member| member.node);
        members
    })
}

fn node_role() -> impl Strategy<Value = NodeRole> {
    prop_oneof![
        Just(NodeRole::Leader),
        Just(NodeRole::Candidate),
        Just(NodeRole::Follower)
    ]
}

prop_compose! {
    fn status()(
        (cluster, epoch, node, role, term, leader) in
            (any::<u128>(), any::<u64>(), node(), node_role(), term(), option::of(node())),
        (quorum_ok, last, durable, commit, applied) in
            (any::<bool>(), index(), index(), index(), index()),
        (snapshot, snapshot_bytes, snapshot_written_bytes, digest) in
            (entry_id(), any::<u64>(), option::of(any::<u64>()), any::<u128>()),
        (wal_bytes, keys, uptime_ms, disk) in
            (any::<u64>(), any::<u64>(), any::<u64>(), disk_state()),
        (version, state, error, members) in (text(), text(), text(), members()),
    ) -> Status {
        Status {
            cluster: ClusterId(cluster), epoch: Epoch(epoch), node, role, term, leader, quorum_ok,
            last, durable, commit, applied, snapshot, snapshot_bytes, snapshot_written_bytes,
            digest, wal_bytes, keys, uptime_ms, disk, version, state, error, members,
        }
    }
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![
        Just(Class::NotApplied),
        Just(Class::Unknown),
        Just(Class::Final)
    ]
}

fn error() -> impl Strategy<Value = Error> {
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

fn hand_over() -> impl Strategy<Value = HandOver> {
    prop_oneof![
        Just(HandOver::Asked),
        Just(HandOver::Stopping),
        Just(HandOver::DiskStalled),
        Just(HandOver::DiskFull),
        Just(HandOver::StateDiffers),
        Just(HandOver::Leaving),
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

fn reply() -> impl Strategy<Value = Reply<'static>> {
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

fn anything() -> impl Strategy<Value = Any<'static>> {
    prop_oneof![
        1 => hello().prop_map(Any::Hello),
        1 => welcome().prop_map(Any::Welcome),
        4 => message().prop_map(Any::Peer),
        4 => (1..=u64::MAX, request()).prop_map(|(id, request)| Any::Request(id, request)),
        4 => (1..=u64::MAX, reply()).prop_map(|(id, reply)| Any::Reply(id, reply)),
    ]
}

proptest! {
    /// The joint step has the voters of before and those of after, and what is left of it when the
    /// set of before ends is the target (thesis 4.3).
    #[test]
    fn a_change_takes_both_sets_of_voters_along(before in membership(), after in membership()) {
        let (before, mut after) = (before.settled(), after.settled());
        for member in &mut after.members {
            let known = before.get(member.id);
            member.name = known.map_or_else(|| format!("m{}", member.id), |m| m.name.clone());
        }
        let joint = before.toward(&after);
        prop_assume!(joint.members.len() <= 16);
        let voters = |m: &Membership, of: fn(Suffrage) -> bool| -> Vec<NodeId> {
            m.members.iter().filter(|m| of(m.suffrage)).map(|m| m.id).collect()
        };
        prop_assert_eq!(
            voters(&joint, Suffrage::votes_before),
            voters(&before, Suffrage::votes)
        );
        prop_assert_eq!(voters(&joint, Suffrage::votes_after), voters(&after, Suffrage::votes));
        prop_assert_eq!(&joint.settled(), &after);
        let same = voters(&before, Suffrage::votes) == voters(&after, Suffrage::votes);
        prop_assert_eq!(joint.is_joint(), !same);
        prop_assert!(joint.is_joint() || joint == after);
    }

    /// A quorum of a change is one of the voters of before and one of those of after, and the others
    /// are none (thesis 4.3).
    #[test]
    fn a_quorum_is_one_of_either_set(members in membership(), yes in any::<u16>()) {
        let has = |id: NodeId| {
            let place = members.members.iter().position(|member| member.id == id);
            place.is_some_and(|place| yes & 1 << place != 0)
        };
        let majority = |of: fn(Suffrage) -> bool| {
            let set = members.members.iter().filter(|m| of(m.suffrage));
            let (yes, no): (Vec<_>, Vec<_>) = set.partition(|m| has(m.id));
            yes.len() > no.len()
        };
        let either = majority(Suffrage::votes_before) && majority(Suffrage::votes_after);
        prop_assert_eq!(members.has_quorum(has), either);
        prop_assert!(!(either && members.has_quorum(|id| !has(id))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_itself(sent in anything()) {
        let bytes = sent.encode();
        let frame = parse(&bytes);
        prop_assert_eq!(frame.len, bytes.len());
        prop_assert_eq!(Any::decode(&frame), Ok(sent));
    }

    #[test]
    fn the_body_of_a_write_is_the_body_of_its_entry(write in write()) {
        let bytes = body(&write);
        prop_assert_eq!(Write::decode_body(&bytes), Ok(write));
        let sent = write_request(1, write);
        let framed = Any::Request(1, sent).encode();
        let Ok(Request::Write { body, .. }) = Request::decode(&parse(&framed)) else {
            panic!("not a write");
        };
        prop_assert_eq!(body, &bytes[..]);
    }

    #[test]
    fn items_iterate_as_they_were_encoded(list in vec(item(), 0..20)) {
        let encoded = items(&list);
        prop_assert_eq!(encoded.iter().collect::<Vec<_>>(), list);
    }

    #[test]
    fn entries_of_an_append_are_the_senders_bytes(append in append()) {
        let sent = append.entries.clone();
        let bytes = Any::Peer(Message::Append(append)).encode();
        let Ok(Message::Append(received)) = Message::decode(&parse(&bytes)) else {
            panic!("not an append");
        };
        prop_assert_eq!(received.entries.len(), sent.len());
        for (a, b) in received.entries.iter().zip(&sent) {
            prop_assert_eq!(a.bytes(), b.bytes());
        }
    }

    /// The highest version that both know, or a refusal that tells ours.
    #[test]
    fn negotiation_finds_the_highest_common_version(min in any::<u8>(), max in any::<u8>()) {
        let common = (min..=max).rev().find(|version| *version == 1);
        match negotiate(min, max) {
            Ok(version) => prop_assert_eq!(Some(version), common),
            Err(error) => {
                prop_assert_eq!(error, Error::UnsupportedVersion { min: 1, max: 1 });
                prop_assert_eq!(common, None);
            }
        }
    }
}
