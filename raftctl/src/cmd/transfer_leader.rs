//! `raftctl transfer-leader`: another member is to lead.

use raftctl::client::{Error, Status};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::types::NodeId;

use super::Session;

/// Have another member lead; without a name, the one that is fittest.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl transfer-leader
  raftctl transfer-leader n2 && echo moved")]
pub(crate) struct Args {
    /// Its name, or its id.
    name: Option<String>,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let doing = match &args.name {
        Some(name) => format!("transfer-leader {name}"),
        None => "transfer-leader".into(),
    };
    let failed = |error: Error| Failure::of(&doing, &error);
    let mut client = session.client();
    let status = client.status(session.deadline).map_err(failed)?;
    let to = match &args.name {
        Some(name) => Some(member(&status, name, &doing)?),
        None => None,
    };
    let transferred = client
        .transfer_leader(to, session.deadline)
        .map_err(failed)?;
    let leader = title(&status, transferred.leader);
    if session.out.json() {
        session.out.object(&json!({
            "done": transferred.done,
            "leader": transferred.leader.0,
            "name": leader,
            "term": transferred.term.0,
        }))?;
    }
    if transferred.done {
        session.out.note(&leader)?;
        return Ok(Exit::Done);
    }
    session.out.flush()?;
    let what = match &args.name {
        Some(name) => format!("{doing} failed: {name} did not take over in time, {leader} leads"),
        None => format!("{doing} failed: nobody took over in time, {leader} leads on"),
    };
    Err(Failure::new(Exit::No, "not-transferred", what)
        .remedy("nothing is lost: look at `raftctl status`, and run it again"))
}

/// The member of a name, or of an id.
fn member(status: &Status, name: &str, doing: &str) -> Result<NodeId, Failure> {
    let mut members = status.members.iter();
    let id = name.parse().ok().map(NodeId);
    let found = members.find(|member| member.name == name || Some(member.node) == id);
    found.map(|member| member.node).ok_or_else(|| {
        let what = format!("{doing} was refused: there is no such member");
        let known: Vec<_> = status
            .members
            .iter()
            .map(|member| title(status, member.node))
            .collect();
        Failure::new(Exit::Refused, "no-such-member", what)
            .remedy(format!("a member is one of {}", known.join(", ")))
    })
}

/// Its name; its id while it was never heard.
fn title(status: &Status, id: NodeId) -> String {
    let member = status.members.iter().find(|member| member.node == id);
    match member {
        Some(member) if !member.name.is_empty() => member.name.clone(),
        _ => format!("#{id}"),
    }
}
