//! `raftctl wait-ready`: waits until nodes serve.

use std::thread;
use std::time::{Duration, Instant};

use raftctl::client::{Cause, Error, Status, status_of};
use raftctl::failure::{Exit, Failure};
use serde_json::json;

use crate::cluster::{History, MEMBER_TIMEOUT, ask_each};
use crate::session::Session;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Wait until the node named with -e serves; with several, until all do.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl -e n1:7400 wait-ready
  raftctl -e n1:7400,n2:7400,n3:7400 -t 30s wait-ready --leader
  raftctl -e n4:7400 -t 5m wait-ready --caught-up && echo done")]
pub(crate) struct Args {
    /// Also until it follows a leader that has a quorum, or is it.
    #[arg(long)]
    leader: bool,
    /// Also until it has applied everything that was committed when this was asked.
    #[arg(long)]
    caught_up: bool,
}

/// What was last seen of a node.
enum Seen {
    Unreachable(String),
    /// It answers; what is missing, and how far it has come.
    NotYet(String, Far),
    Ready,
}

/// How far a node has come that is not ready. What comes first counts more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Far {
    /// What it has applied, up to what it is to.
    applied: u64,
    /// Of the snapshot that it is sent.
    received_bytes: u64,
    /// Before that comes: the leader's newest snapshot, and bytes of the one that it writes.
    taken: (u64, u64),
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let endpoints = session.endpoints.clone();
    let mut goals = vec![None; endpoints.len()];
    let mut best = vec![(0, Far::default()); endpoints.len()];
    let timeout = session.timeout;
    let mut quiet_since = Instant::now();
    loop {
        let asked_at = Instant::now();
        let seen = ask_each(endpoints.iter().zip(&mut goals), |(endpoint, goal)| {
            look(args, endpoint, goal, timeout)
        });
        if seen.iter().all(|seen| matches!(seen, Seen::Ready)) {
            if session.out.json() {
                session.out.object(&json!({"ready": true}))?;
            }
            session.out.note("ready")?;
            return Ok(Exit::Done);
        }
        if is_progress(&seen, &mut best) {
            quiet_since = asked_at;
        } else if quiet_since.elapsed() >= timeout {
            return give_up(&endpoints, &seen, session);
        }
        thread::sleep(PAUSE);
    }
}

impl Seen {
    /// How far the node is; what it has applied or received counts until it is ready.
    fn stage(&self) -> (u8, Far) {
        match self {
            Self::Unreachable(_) => (0, Far::default()),
            Self::NotYet(_, far) => (1, *far),
            Self::Ready => (2, Far::default()),
        }
    }
}

/// Whether a node is further than it ever was, which `best` keeps: so nodes that come and go do not
/// make anybody wait for ever.
fn is_progress(seen: &[Seen], best: &mut [(u8, Far)]) -> bool {
    let mut is_progress = false;
    for (stage, best) in seen.iter().map(Seen::stage).zip(best) {
        is_progress |= stage > *best;
        *best = stage.max(*best);
    }
    is_progress
}

fn look(args: &Args, endpoint: &str, goal: &mut Option<u64>, timeout: Duration) -> Seen {
    let status = match status_of(endpoint, MEMBER_TIMEOUT.min(timeout)) {
        Ok(status) => status,
        Err(cause) => return Seen::Unreachable(cause.text),
    };
    let applied = status.applied.0;
    let towards_goal = goal.map_or(applied, |goal| applied.min(goal));
    let not_yet = |what: &str| {
        let (received_bytes, taken) = transfer(&status, timeout).unwrap_or_default();
        let far = Far {
            applied: towards_goal,
            received_bytes,
            taken,
        };
        Seen::NotYet(what.into(), far)
    };
    if status.state != "serving" {
        return not_yet(&format!("it is {}", status.state));
    }
    if args.leader && !(status.quorum_ok && status.leader.is_some()) {
        return not_yet("it knows no leader with a quorum");
    }
    if args.caught_up {
        if goal.is_none() {
            *goal = committed(&status, timeout);
        }
        match *goal {
            None => {
                // What is not known to have an end is no progress.
                let what = "the leader does not tell what is committed";
                return Seen::NotYet(what.into(), Far::default());
            }
            Some(goal) if applied < goal => {
                return not_yet("it has not applied all that is committed");
            }
            Some(_) => {}
        }
    }
    Seen::Ready
}

/// What the leader that the node follows, or is, says of itself.
fn leader_of(status: &Status, timeout: Duration) -> Option<Status> {
    let leader = status.leader?;
    if leader == status.node {
        return Some(status.clone());
    }
    let member = status.members.iter().find(|member| member.node == leader)?;
    let timeout = MEMBER_TIMEOUT.min(timeout);
    let answer = History::of(status).ask(Some(leader), &member.client_addr, timeout);
    answer.ok()
}

/// The commit index of that leader.
fn committed(status: &Status, timeout: Duration) -> Option<u64> {
    let leader = leader_of(status, timeout).filter(|leader| leader.quorum_ok)?;
    Some(leader.commit.0)
}

/// How far the snapshot is that the node is sent, if it is: see [`Far`].
fn transfer(status: &Status, timeout: Duration) -> Option<(u64, (u64, u64))> {
    let leader = leader_of(status, timeout)?;
    let mut members = leader.members.iter();
    let install = members.find(|member| member.node == status.node)?.install?;
    let written = leader.snapshot_written_bytes.unwrap_or(0);
    Some(match install.received_bytes {
        0 => (0, (leader.snapshot.index.0, written)),
        received => (received, (0, 0)),
    })
}

/// Nothing changed for as long as one waits: no, or nobody there.
fn give_up(
    endpoints: &[String],
    seen: &[Seen],
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    let mut causes = Vec::new();
    let mut reasons = Vec::new();
    for (endpoint, seen) in endpoints.iter().zip(seen) {
        match seen {
            Seen::Ready => {}
            Seen::NotYet(what, _) => reasons.push(format!("{endpoint}: {what}")),
            Seen::Unreachable(text) => causes.push(Cause {
                endpoint: endpoint.clone(),
                text: text.clone(),
                timed_out: false,
            }),
        }
    }
    if !causes.is_empty() {
        let some_answer = causes.len() < endpoints.len();
        let mut failure = Failure::of("wait-ready", &Error::Unreachable { causes });
        if some_answer {
            failure.what = "wait-ready failed: not all endpoints answered".into();
        }
        return Err(failure);
    }
    if session.out.json() {
        session.out.object(&json!({"ready": false}))?;
    }
    session.out.flush()?;
    Err(
        Failure::new(Exit::No, "not-ready", "not ready, and nothing changes")
            .at(reasons.join("; ")),
    )
}
