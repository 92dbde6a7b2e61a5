//! `raftctl transfer-leader`: another member is to lead.

use raftctl::client::Error;
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::members::{find, named};
use crate::cluster::title;
use crate::session::Session;

/// Have another member lead; without a name, the one that is fittest.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl transfer-leader
  raftctl transfer-leader n2 && echo moved
  raftctl transfer-leader --json | jq -r .name")]
pub(crate) struct Args {
    /// Its name, or its id.
    #[arg(value_parser = named())]
    name: Option<String>,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let doing = match &args.name {
        Some(name) => format!("transfer-leader {name}"),
        None => "transfer-leader".into(),
    };
    let failed = |error: Error| Failure::of(&doing, &error);
    let to = match &args.name {
        Some(name) => Some(find(&doing, name, session)?.id),
        None => None,
    };
    let mut client = session.client();
    let transferred = client
        .transfer_leader(to, session.deadline())
        .map_err(failed)?;
    // It is done, or not, whether or not anybody tells names now.
    let status = client.status(session.deadline());
    let members = status.map_or_else(|_| Vec::new(), |status| status.members);
    let leader = title(&members, transferred.leader);
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
