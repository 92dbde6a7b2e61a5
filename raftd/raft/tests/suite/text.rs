//! Effects and messages as lines of a trace.

use raft::{Effect, RoleName, Ticket, Write};
use wire::entry::Entry;
use wire::membership::{Membership, Suffrage};
use wire::peer::{Digest, Health, InstallSnapshot, Message, Standing};
use wire::types::{EntryId, Index, NodeId, Term};

pub(crate) fn kind(message: &Message) -> &'static str {
    match message {
        Message::Append(_) => "append",
        Message::AppendOk(_) => "append-ok",
        Message::AppendConflict(_) => "append-conflict",
        Message::StaleTerm(_) => "stale-term",
        Message::PreVote(_) => "pre-vote",
        Message::PreVoteAnswer(_) => "pre-vote-answer",
        Message::RequestVote(_) => "request-vote",
        Message::VoteAnswer(_) => "vote-answer",
        Message::InstallSnapshot(_) => "install-snapshot",
        Message::SnapshotOk(_) => "snapshot-ok",
        Message::TimeoutNow(_) => "timeout-now",
        Message::Fetch(_) => "fetch",
        Message::Fetched(_) => "fetched",
        Message::ReadIndex(_) => "read-index",
        Message::ReadIndexAnswer(_) => "read-index-answer",
    }
}

/// `1@1` or `1@1..4@2`, or `none`.
pub(crate) fn ids(ids: &[EntryId]) -> String {
    match ids {
        [] => "none".to_string(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}..{last}"),
    }
}

fn entries(entries: &[Entry]) -> String {
    ids(&entries.iter().map(Entry::id).collect::<Vec<_>>())
}

pub(crate) fn message(message: &Message) -> String {
    let term = message.term().map(|term| format!(" term={term}"));
    let head = kind(message).to_string() + &term.unwrap_or_default();
    let rest = match message {
        Message::Append(m) => format!(
            " prev={} commit={} round={} entries={}{}{}",
            m.prev,
            m.commit,
            m.round,
            entries(&m.entries),
            standing(m.standing),
            digest(m.digest)
        ),
        Message::AppendOk(m) => {
            format!(
                " round={} match={} received={}{}{}",
                m.round,
                m.match_index,
                m.received,
                health(m.health),
                digest(m.digest)
            )
        }
        Message::AppendConflict(m) => format!(
            " round={} prev={} conflict={} last={}{}",
            m.round,
            m.prev,
            m.conflict.map_or("none".to_string(), |id| id.to_string()),
            m.last,
            health(m.health)
        ),
        Message::StaleTerm(_) | Message::TimeoutNow(_) => String::new(),
        Message::ReadIndex(m) => format!(" question={}", m.question),
        Message::ReadIndexAnswer(m) => format!(" question={} index={}", m.question, m.index),
        Message::PreVote(m) => format!(" last={}", m.last),
        Message::RequestVote(m) if m.transfer.is_some() => format!(" last={} transfer", m.last),
        Message::RequestVote(m) => format!(" last={}", m.last),
        Message::PreVoteAnswer(m) => yes_or_no(m.granted),
        Message::VoteAnswer(m) => yes_or_no(m.granted),
        Message::InstallSnapshot(m) => format!(" round={} {}", m.round, chunk(m)),
        Message::SnapshotOk(m) => {
            let (round, snapshot, received) = (m.round, m.snapshot, m.received_bytes);
            let health = health(m.health);
            format!(" round={round} snapshot={snapshot} received={received}{health}")
        }
        Message::Fetch(m) => format!(" {} entries", m.entries.len()),
        Message::Fetched(m) => format!(" entries={}", entries(&m.entries)),
    };
    head + &rest
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Unsaid => String::new(),
        Standing::Lost => " lost".to_string(),
        Standing::Whole(upto) => format!(" whole={upto}"),
    }
}

fn health(health: Health) -> String {
    let lost = if health.lost { " lost" } else { "" };
    let rebuilding = if health.rebuilding { " rebuilding" } else { "" };
    format!("{lost}{rebuilding}")
}

fn digest(digest: Option<Digest>) -> String {
    digest.map_or(String::new(), |digest| {
        format!(" digest={:x}@{}", digest.sum, digest.index)
    })
}

fn chunk(chunk: &InstallSnapshot) -> String {
    let (snapshot, from, total) = (chunk.snapshot, chunk.offset, chunk.total_bytes);
    let upto = from + chunk.bytes.len() as u64;
    format!("snapshot={snapshot} bytes={from}..{upto} of {total}")
}

fn yes_or_no(granted: bool) -> String {
    if granted { " yes" } else { " no" }.to_string()
}

fn write(write: &Write) -> String {
    let vote = write
        .hard_state
        .vote
        .map_or("-".to_string(), |id| id.to_string());
    let mut line = format!(
        "writes #{} term={} vote={vote}",
        write.ticket.0, write.hard_state.term
    );
    if write.hard_state.lost {
        line += " lost";
    }
    if let Some(snapshot) = write.reset {
        line += &format!(" reset={snapshot}");
    }
    if let Some(from) = write.truncate_from {
        line += &format!(" cut={from}");
    }
    if !write.entries.is_empty() {
        line += &format!(" entries={}", entries(&write.entries));
    }
    line + &format!(" commit={}", write.commit)
}

/// `1 2 3+ 4- 5x 6l`: voters, incoming, demoted, leaving, learners.
pub(crate) fn membership(membership: &Membership) -> String {
    let members = membership.members.iter().map(|member| {
        let sign = match member.suffrage {
            Suffrage::Voter => "",
            Suffrage::Incoming => "+",
            Suffrage::Demoted => "-",
            Suffrage::Leaving => "x",
            Suffrage::Learner => "l",
        };
        format!("{}{sign}", member.id)
    });
    members.collect::<Vec<_>>().join(" ")
}

pub(crate) fn role(role: RoleName, term: Term, leader: Option<NodeId>) -> String {
    match (role, leader) {
        (RoleName::Leader, _) => format!("leads term {term}"),
        (RoleName::Follower, Some(leader)) => format!("follows n{leader} in term {term}"),
        (RoleName::Follower, None) => format!("waits in term {term}"),
        (RoleName::PreCandidate, _) => format!("asks around in term {term}"),
        (RoleName::Candidate, _) => format!("campaigns in term {term}"),
    }
}

pub(crate) fn effect(id: NodeId, effect: &Effect) -> String {
    match effect {
        Effect::Write(w) => format!("n{id} {}", write(w)),
        Effect::Send {
            to,
            after,
            message: m,
        } => {
            let wait = match after {
                Some(Ticket(ticket)) => format!(" after #{ticket}"),
                None => String::new(),
            };
            format!("n{id} -> n{to} {}{wait}", message(m))
        }
        Effect::Commit(index) => format!("n{id} commits up to {index}"),
        Effect::RoundConfirmed { round, index } => match index {
            Index(0) => format!("n{id} confirms round {round}"),
            index => format!("n{id} may read at {index}"),
        },
        Effect::Load { to, from, .. } => format!("n{id} loads from {from} for n{to}"),
        Effect::Chunk(m) => format!("n{id} stores {}", chunk(m)),
        Effect::SnapshotAnswer { from, answer } => format!(
            "n{id} hears that n{from} holds {} bytes of {}",
            answer.received_bytes, answer.snapshot
        ),
        Effect::Digest { from, digest } => {
            format!(
                "n{id} hears that n{from} has {:x} at {}",
                digest.sum, digest.index
            )
        }
        Effect::MembershipChanged(m) => format!("n{id} has members {}", membership(m)),
        Effect::RoleChanged(r) => format!("n{id} {}", role(r.role, r.term, r.leader)),
        Effect::Refuse { peer, error } => format!("n{id} refuses n{peer}: {error:?}"),
    }
}
