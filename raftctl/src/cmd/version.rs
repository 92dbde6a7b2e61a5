//! `raftctl version`.

use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::hello::{VERSION_MAX, VERSION_MIN};

use crate::session::Session;

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if session.out.json() {
        session.out.object(&json!({
            "version": version,
            "protocol_min": VERSION_MIN,
            "protocol_max": VERSION_MAX,
        }))?;
    } else {
        session.out.line(&format!("raftctl {version}"))?;
    }
    Ok(Exit::Done)
}
