//! `raftctl leaders`: who has led, and why somebody else came after.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use raftctl::client::{Deadline, LeaderChange, Member, leaders_of};
use raftctl::failure::{Exit, Failure};
use serde::Serialize;
use wire::leadership::Cause;
use wire::types::NodeId;

use super::status::text;
use crate::cluster::{History, MEMBER_TIMEOUT, ask_each, title};
use crate::format::{self, Ability};
use crate::session::Session;

pub(crate) const ABILITY: Ability = format::rows(&FIELDS);

const FIELDS: [&str; 6] = ["term", "leader", "name", "at", "reason", "without_ms"];

/// The end of the year 9999, as far as times are shown.
const LATEST_MS: u64 = 253_402_300_799_999;

/// A change of leaders, as told by who knows most about it.
#[derive(Debug, Serialize)]
struct Row {
    term: u64,
    leader: u64,
    name: String,
    at_ms: u64,
    reason: &'static str,
    without_ms: u64,
    told_by: u64,
}

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let mut client = session.client();
    let failed = |error| Failure::of("leaders", &error);
    let status = client.status(session.deadline()).map_err(failed)?;
    let own = client.leaders(session.deadline()).map_err(failed)?;
    let timeout = MEMBER_TIMEOUT.min(session.deadline().left());
    let others = status.members.iter().filter(|m| m.node != status.node);
    let mut told = ask(History::of(&status), others, Deadline::after(timeout));
    told.push((status.node, own));
    let rows: Vec<_> = merge(&told)
        .map(|(told_by, change)| Row {
            term: change.term.0,
            leader: change.leader.0,
            name: name(&status.members, change.leader),
            at_ms: change.wall_ms,
            reason: change.cause.name(),
            without_ms: change.without_ms,
            told_by: told_by.0,
        })
        .collect();
    let out = &mut session.out;
    out.page(session.signals);
    if out.json() {
        rows.iter().try_for_each(|row| out.object(row))?;
    } else if out.for_person() {
        let header = ["TERM", "LEADER", "AT", "REASON", "WITHOUT"];
        let rows = rows.iter().map(|row| {
            let title = title(&status.members, NodeId(row.leader));
            let without = format!("{} ms", row.without_ms);
            let term = row.term.to_string();
            vec![term, title, at(row.at_ms), row.reason.into(), without]
        });
        out.table(&header, &[0, 4], rows.collect())?;
    } else {
        let row = |row: &Row| {
            vec![
                row.term.to_string(),
                row.leader.to_string(),
                text(&row.name),
                at(row.at_ms),
                row.reason.into(),
                row.without_ms.to_string(),
            ]
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        out.rows(&FIELDS, &rows)?;
    }
    Ok(Exit::Done)
}

type Told = (NodeId, Vec<LeaderChange>);

/// What those members say that answer.
fn ask<'a>(
    history: History,
    members: impl Iterator<Item = &'a Member>,
    deadline: Deadline,
) -> Vec<Told> {
    let known = members.filter(|member| !member.client_addr.is_empty());
    let answers = ask_each(known, |member| {
        let addr = &member.client_addr;
        history.ask(Some(member.node), addr, deadline.left()).ok()?;
        let told = leaders_of(addr, deadline.left()).ok()?;
        Some((member.node, told))
    });
    answers.into_iter().flatten().collect()
}

/// Of each term, the word of who knows best why it began: of equals, that of its leader.
fn merge(told: &[Told]) -> impl Iterator<Item = (NodeId, LeaderChange)> {
    let mut best: BTreeMap<_, (NodeId, LeaderChange)> = BTreeMap::new();
    let all = told
        .iter()
        .flat_map(|(node, changes)| changes.iter().map(|change| (*node, *change)));
    for (node, change) in all {
        let weight = |node, change: LeaderChange| (rank(change.cause), node == change.leader);
        let known = best.entry(change.term).or_insert((node, change));
        if weight(node, change) > weight(known.0, known.1) {
            *known = (node, change);
        }
    }
    best.into_values()
}

/// How much somebody knows who tells this cause.
fn rank(cause: Cause) -> u8 {
    match cause {
        Cause::Start => 0,
        Cause::Elected => 1,
        Cause::Silence => 2,
        Cause::NoQuorum => 3,
        Cause::LinkClosed => 4,
        Cause::HandedOver(_) => 5,
    }
}

fn name(members: &[Member], id: NodeId) -> String {
    let member = members.iter().find(|member| member.node == id);
    member.map_or_else(String::new, |member| member.name.clone())
}

fn at(ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms.min(LATEST_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use wire::leadership::HandOver;
    use wire::types::Term;

    use super::*;

    fn change(term: u64, leader: u64, cause: Cause) -> LeaderChange {
        LeaderChange {
            term: Term(term),
            leader: NodeId(leader),
            wall_ms: 1,
            without_ms: 1,
            cause,
        }
    }

    #[test]
    fn of_each_term_the_one_tells_who_knows_most() {
        let stopping = Cause::HandedOver(HandOver::Stopping);
        let one = vec![
            change(1, 1, Cause::Start),
            change(2, 3, Cause::Elected),
            change(4, 1, Cause::LinkClosed),
        ];
        let three = vec![change(2, 3, stopping), change(4, 1, Cause::Elected)];
        let two = vec![change(4, 1, Cause::LinkClosed)];
        let told = [(NodeId(2), two), (NodeId(1), one), (NodeId(3), three)];
        let merged: Vec<_> = merge(&told)
            .map(|(by, change)| (by.0, change.term.0, change.cause))
            .collect();
        let expected = [
            (1, 1, Cause::Start),
            (3, 2, stopping),
            (1, 4, Cause::LinkClosed),
        ];
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_time_of_any_clock_can_be_shown() {
        assert_eq!(at(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert!(!at(u64::MAX).is_empty());
    }
}
