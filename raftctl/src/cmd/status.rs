//! `raftctl status`: the cluster, and every member.

use raftctl::failure::{Exit, Failure};

use crate::cluster::{Cluster, Row, kind, survey};
use crate::format::{self, Ability};
use crate::output::Out;
use crate::session::Session;

pub(crate) const ABILITY: Ability = format::rows(&FIELDS);

const FIELDS: [&str; 13] = [
    "id",
    "name",
    "kind",
    "role",
    "reachable",
    "term",
    "last_index",
    "commit_index",
    "applied_index",
    "lag",
    "peer_addr",
    "client_addr",
    "state",
];

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let cluster = survey(&mut session.client(), session.deadline())
        .map_err(|error| Failure::of("status", &error))?;
    let out = &mut session.out;
    if out.json() {
        out.object(&cluster)?;
    } else if out.for_person() {
        out.line(&summary(&cluster))?;
        people(&cluster, out)?;
        for member in &cluster.members {
            if let Some(error) = &member.error {
                out.line(&format!("{}: {error}", member.title()))?;
            }
        }
    } else {
        let rows: Vec<_> = cluster.members.iter().map(fields).collect();
        out.rows(&FIELDS, &rows)?;
    }
    Ok(Exit::Done)
}

/// One line on the cluster as a whole.
fn summary(cluster: &Cluster) -> String {
    let leader = cluster
        .members
        .iter()
        .find(|member| Some(member.id) == cluster.leader);
    let leader = leader.map_or("no leader".into(), |leader| {
        format!("leader {}", leader.title())
    });
    let quorum = if cluster.quorum_ok {
        "quorum ok"
    } else {
        "NO QUORUM"
    };
    let more = match cluster.failures_tolerated {
        1 => "1 more failure".into(),
        count => format!("{count} more failures"),
    };
    format!(
        "{leader}, term {}, {quorum}: {}, tolerates {more}",
        cluster.term,
        voters(cluster.voters)
    )
}

/// `1 voter`, `3 voters`.
pub(crate) fn voters(count: u64) -> String {
    match count {
        1 => "1 voter".into(),
        count => format!("{count} voters"),
    }
}

/// What it does, for a person; a learner that follows is called one.
fn role(member: &Row) -> &'static str {
    match member.role {
        Some("follower") if !member.suffrage.votes() => "learner",
        role => role.unwrap_or("unreachable"),
    }
}

fn people(cluster: &Cluster, out: &mut Out) -> Result<(), Failure> {
    let header = [
        "NAME", "ROLE", "STATE", "TERM", "APPLIED", "LAG", "KEYS", "WAL", "UP", "CLIENTS",
    ];
    let row = |member: &Row| {
        vec![
            member.title(),
            role(member).into(),
            state(member),
            number(member.term),
            number(member.applied_index),
            number(member.lag_entries),
            number(member.keys),
            member.wal_bytes.map_or("-".into(), size),
            member.uptime_ms.map_or("-".into(), age),
            member.client_addr.clone(),
        ]
    };
    let rows = cluster.members.iter().map(row).collect();
    out.table(&header, &[3, 4, 5, 6, 7, 8], rows)
}

/// What it is busy with; of a snapshot on its way, how much is there and how long it will take.
fn state(member: &Row) -> String {
    let own = member.state.clone().unwrap_or_default();
    match (member.install_bytes, member.install_total_bytes) {
        (Some(received), Some(total)) if total > 0 => {
            let left = member
                .install_left_ms
                .map_or(String::new(), |ms| format!(", {} left", age(ms)));
            format!("installing {}%{left}", received * 100 / total)
        }
        _ => own,
    }
}

/// For a pipe, as [`FIELDS`] names them: `-` is what is not known.
fn fields(member: &Row) -> Vec<String> {
    vec![
        member.id.to_string(),
        text(&member.name),
        kind(member.suffrage).into(),
        member.role.unwrap_or("-").into(),
        member.reachable.to_string(),
        number(member.term),
        number(member.last_index),
        number(member.commit_index),
        number(member.applied_index),
        number(member.lag_entries),
        text(&member.peer_addr),
        text(&member.client_addr),
        text(member.state.as_deref().unwrap_or_default()),
    ]
}

pub(crate) fn number(number: Option<u64>) -> String {
    number.map_or("-".into(), |number| number.to_string())
}

pub(crate) fn text(text: &str) -> String {
    if text.is_empty() {
        "-".into()
    } else {
        text.into()
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = bytes;
    let mut unit = 0;
    while rest >= 10 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds @ 7200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
