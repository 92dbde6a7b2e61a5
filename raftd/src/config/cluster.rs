//! A static cluster: its identity, and which of its members this node is.

use wire::types::{ClusterId, NodeId};
use xxhash_rust::xxh3::xxh3_128;

use super::Settings;
use crate::fatal::{ExitStatus, Fatal};

/// The cluster id: a hash of the canonical member list (ascending ids) and the token, so that
/// every member computes the same and a slip in one list shows as another cluster.
#[must_use]
pub fn cluster_id(members: &[(NodeId, String)], token: &str) -> ClusterId {
    debug_assert!(members.is_sorted(), "the list is canonical");
    let mut text = String::from("raftd cluster 1\n");
    for (id, addr) in members {
        text.push_str(&format!("{id}={addr}\n"));
    }
    text.push_str("token=");
    text.push_str(token);
    // Zero is "not told" on the wire; no hash is worth that ambiguity.
    ClusterId(xxh3_128(text.as_bytes()).max(1))
}

/// Which of `members` this node is: by id, by a name of the form `n<ID>`, or by its peer address.
///
/// # Errors
/// Nothing tells, or two of them disagree.
pub fn own_id(settings: &Settings, members: &[(NodeId, String)]) -> Result<NodeId, Fatal> {
    let refuse = |what: String| {
        let list: Vec<_> = members
            .iter()
            .map(|(id, addr)| format!("{id}={addr}"))
            .collect();
        Fatal::new(ExitStatus::Config, what)
            .at(format!("--initial-cluster {}", list.join(",")))
            .remedy("say which member this node is: --id N")
    };
    let listed = |id: NodeId| members.iter().find(|(member, _)| *member == id);
    let by_name = settings.name.as_deref().and_then(id_in_name);
    let by_name = by_name.and_then(listed).map(|(id, _)| *id);
    if let Some(id) = settings.id {
        let Some((_, addr)) = listed(id) else {
            return Err(refuse(format!("node {id} is not in the initial cluster")));
        };
        if let Some(named) = by_name.filter(|named| *named != id) {
            return Err(refuse(format!(
                "--id is {id}, but --name n{named} is that of node {named} of the initial cluster"
            )));
        }
        return match &settings.peer_advertise {
            Some(own) if own != addr => Err(refuse(format!(
                "--peer-advertise is {own}, but the initial cluster lists node {id} at {addr}"
            ))
            .remedy("leave out --peer-advertise, or give it as the list has it")),
            _ => Ok(id),
        };
    }
    if let Some(id) = by_name {
        return Ok(id);
    }
    let own = settings
        .peer_advertise
        .as_ref()
        .unwrap_or(&settings.peer_listen);
    match members.iter().find(|(_, addr)| addr == own) {
        Some((id, _)) => Ok(*id),
        None => Err(refuse(format!(
            "nothing tells which member of the initial cluster this node is: none is at {own}"
        ))),
    }
}

/// The 3 of `n3`.
fn id_in_name(name: &str) -> Option<NodeId> {
    let digits = name.strip_prefix('n')?;
    crate::value::node_id(digits).ok()
}
