//! `raftctl is-healthy`: asks the cluster by a read that needs a quorum, or one node.

use raftctl::client::{Error, KeyRange, Scan, ScanMode, Status, status_of};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use crate::session::Session;

/// Ask whether the cluster serves: exit 0 or 1.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl is-healthy || page-me
  raftctl -e n1:7400 is-healthy --node
  raftctl is-healthy --json | jq -r .reason")]
pub(crate) struct Args {
    /// Ask exactly the node named with -e whether it serves and hears a quorum.
    #[arg(long)]
    node: bool,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let found = if args.node {
        let endpoint = session.node()?;
        let asked = status_of(endpoint, session.deadline().left());
        asked
            .map(|status| trouble(&status))
            .map_err(|cause| Error::Unreachable {
                causes: vec![cause],
            })
    } else {
        cluster(session)
    };
    let trouble = found.map_err(|error| Failure::of("is-healthy", &error))?;
    let healthy = trouble.is_none();
    if session.out.json() {
        session
            .out
            .object(&json!({"healthy": healthy, "reason": trouble}))?;
    }
    session
        .out
        .note(&trouble.unwrap_or_else(|| "healthy".into()))?;
    Ok(if healthy { Exit::Done } else { Exit::No })
}

/// What is wrong, if anything. A linearizable read goes through the leader and a quorum.
fn cluster(session: &Session<'_>) -> Result<Option<String>, Error> {
    let scan = Scan {
        limit: 1,
        ..Scan::new(ScanMode::Keys, KeyRange::default())
    };
    match session.client().scan(scan, session.deadline()) {
        Ok(_) => Ok(None),
        Err(Error::NotApplied { why, .. }) => Ok(Some(format!("no read succeeds: {why}"))),
        Err(error) => Err(error),
    }
}

fn trouble(status: &Status) -> Option<String> {
    if !status.error.is_empty() {
        Some(status.error.clone())
    } else if status.state != "serving" {
        Some(format!("it is {}", status.state))
    } else if !status.quorum_ok {
        Some("it hears no quorum".into())
    } else {
        None
    }
}
