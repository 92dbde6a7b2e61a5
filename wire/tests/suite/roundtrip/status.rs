//! Members, and what a node tells of itself.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wire::client::{Install, Member, NodeRole, Status};
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::types::{ClusterId, Epoch, Incarnation, NodeId};

use super::number::{entry_id, index, label, name, node, term, text};
use super::peer::disk_state;

pub(super) fn suffrage() -> impl Strategy<Value = Suffrage> {
    prop_oneof![
        Just(Suffrage::Learner),
        Just(Suffrage::Voter),
        Just(Suffrage::Incoming),
        Just(Suffrage::Demoted),
        Just(Suffrage::Leaving),
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
pub(super) fn membership() -> impl Strategy<Value = Membership> {
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
    fn install()(
        received_bytes in any::<u64>(), total_bytes in any::<u64>(),
        left_ms in option::of(any::<u64>()),
    ) -> Install {
        Install { received_bytes, total_bytes, left_ms }
    }
}

prop_compose! {
    pub(super) fn member()(
        node in node(), name in name(), peer_addr in name(), client_addr in name(),
        suffrage in suffrage(), connected in any::<bool>(), match_index in option::of(index()),
        install in option::of(install()),
    ) -> Member {
        Member { node, name, peer_addr, client_addr, suffrage, connected, match_index, install }
    }
}

pub(super) fn members() -> impl Strategy<Value = Vec<Member>> {
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
    pub(super) fn status()(
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
