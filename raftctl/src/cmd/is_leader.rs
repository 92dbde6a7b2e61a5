//! `raftctl is-leader`: asks exactly one node.

use raftctl::client::{Error, NodeRole, status_of};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use crate::session::Session;

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let endpoint = session.node()?;
    let status = status_of(endpoint, session.deadline().left()).map_err(|cause| {
        let causes = vec![cause];
        Failure::of("is-leader", &Error::Unreachable { causes })
    })?;
    // A leader that does not hear a quorum is about to step down, and may be replaced already.
    let leads = status.role == NodeRole::Leader && status.quorum_ok;
    let (node, leader) = (status.node.0, status.leader.map(|node| node.0));
    if session.out.json() {
        session
            .out
            .object(&json!({"is_leader": leads, "id": node, "leader": leader}))?;
    }
    session.out.note(&match leader {
        _ if leads => format!("node {node} leads"),
        Some(leader) if leader != node => format!("node {node} does not lead; node {leader} does"),
        _ => format!("node {node} does not lead"),
    })?;
    Ok(if leads { Exit::Done } else { Exit::No })
}
