//! `raftctl peers`: the members, one per line.

use raftctl::failure::{Exit, Failure};

use super::status::{number, text};
use crate::cluster::{kind, survey};
use crate::format::{self, Ability};
use crate::session::Session;

pub(crate) const ABILITY: Ability = format::rows(&FIELDS);

const FIELDS: [&str; 7] = [
    "id",
    "name",
    "kind",
    "role",
    "peer_addr",
    "client_addr",
    "lag",
];

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let cluster = survey(&mut session.client(), session.deadline())
        .map_err(|error| Failure::of("peers", &error))?;
    let out = &mut session.out;
    if out.json() {
        for member in &cluster.members {
            out.object(member)?;
        }
        return Ok(Exit::Done);
    }
    let row = |member: &crate::cluster::Row| {
        vec![
            member.id.to_string(),
            text(&member.name),
            kind(member.suffrage).into(),
            member.role.unwrap_or("-").into(),
            text(&member.peer_addr),
            text(&member.client_addr),
            number(member.lag_entries),
        ]
    };
    let rows: Vec<_> = cluster.members.iter().map(row).collect();
    if out.for_person() {
        let header = ["ID", "NAME", "KIND", "ROLE", "PEERS", "CLIENTS", "LAG"];
        out.table(&header, &[0, 6], rows)?;
    } else {
        out.rows(&FIELDS, &rows)?;
    }
    Ok(Exit::Done)
}
